"""What the world knows of its devices."""

from fractions import Fraction

import pytest

from simulators.meters.faults import Fault, Kind
from simulators.world.time import Time, run_in_world
from simulators.world.truth import LEFT_ALONE_NS, Load, Place, Shown
from simulators.world.world import World

READ_SERIAL, READ_ENERGY = b"\x04\x00\x64\x00\x02", b"\x04\x00\x00\x00\x02"


@pytest.mark.fault("F10")
def test_a_refused_register_may_be_left_alone_although_another_one_is_answered() -> None:
    """The agent then knows of no reason to ask for it sooner (seed 21)."""

    async def live() -> tuple[int, int, Time]:
        world = World(0, (), interval_s=120)
        device = world.devices["m3"]
        device.faults.append(Fault(Kind.EXCEPTION, code=2))
        device.answer(READ_ENERGY)
        refused_ns = device.asked_ns
        device.faults.clear()
        device.answer(READ_SERIAL)
        return refused_ns, device.asked_ns, world.time

    refused_ns, then_ns, time = run_in_world(live())
    assert refused_ns == then_ns == time.ns + LEFT_ALONE_NS


def test_a_load_that_was_off_goes_on_as_it_would_have() -> None:
    load, never_off = (Load("a circuit", 40_000, 0) for _ in range(2))
    off_ms, on_ms, then_ms = 20 * 60_000, 50 * 60_000, 90 * 60_000
    before = load.energy_milliwh(off_ms)
    load.switch_off(off_ms)
    assert load.energy_milliwh(on_ms) == before == never_off.energy_milliwh(off_ms)
    load.switch_on(on_ms)
    used = load.energy_milliwh(then_ms) - before
    assert used == never_off.energy_milliwh(then_ms) - never_off.energy_milliwh(on_ms) > 0


def test_a_register_that_is_claimed_stands_at_the_energy_that_belongs_to_it() -> None:
    """So a journal that was salvaged behind the lie books no count too many or too few from there (seed 17271)."""
    place = Place("m1", Load("a circuit", 40_000, 0), Fraction(1000))
    place.note(500, 120, 7, 1)
    place.claim(500, 3)
    assert place.shown[497] == [Shown(117, 7, 7, {1})] and place.shown[500] == [Shown(120, 7, 7, {1})]
