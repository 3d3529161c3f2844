"""What the world knows of its devices."""

import pytest

from simulators.meters.faults import Fault, Kind
from simulators.world.time import Time, run_in_world
from simulators.world.truth import LEFT_ALONE_NS
from simulators.world.world import World

READ_SERIAL, READ_ENERGY = b"\x04\x00\x64\x00\x02", b"\x04\x00\x00\x00\x02"


@pytest.mark.fault("F10")
def test_a_refused_register_may_be_left_alone_although_another_one_is_answered() -> None:
    """The agent then knows of no reason to ask for it sooner (seed 21)."""

    async def live() -> tuple[int, int, Time]:
        world = World(0, ())
        device = world.devices["m3"]
        device.faults.append(Fault(Kind.EXCEPTION, code=2))
        device.answer(READ_ENERGY)
        refused_ns = device.asked_ns
        device.faults.clear()
        device.answer(READ_SERIAL)
        return refused_ns, device.asked_ns, world.time

    refused_ns, then_ns, time = run_in_world(live())
    assert refused_ns == then_ns == time.ns + LEFT_ALONE_NS
