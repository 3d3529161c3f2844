"""What goes wrong on the lines and in the meters."""

import asyncio
import random
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from agent.metering.doubt import JITTER_STEPS
from simulators.meters.faults import Fault, Kind
from simulators.world.plays import Play, has_settled
from simulators.world.site import FED_BY_CIRCUIT
from simulators.world.truth import TREMBLES_MAX, Device

if TYPE_CHECKING:
    from simulators.world.world import World


FAR_COUNTS = 50_000
LINES = ("a", "b")
LATE_MS = (150, 700)
SLOW_MS, LEARNT_S = 110, 400
"""How long a slow meter thinks, and until the agent waits so long for it."""
SWAPPED = ("m1", "m2")
"""One that says who it is, and one that cannot."""


def some_device(world: "World", chance: random.Random) -> Device:
    return world.devices[chance.choice(sorted(world.devices))]


def far_from_rollover(world: "World", chance: random.Random) -> Device:
    """Not the first meter: close to its modulus a zero that is wrong cannot be told from one that is right."""
    return world.devices[chance.choice(sorted(world.devices.keys() - {"m1"}))]


def sick(kind: Kind, *, delay_ms: int = 0, code: int = 6) -> Play:
    """F1 to F14: a device answers wrongly for a while."""

    async def play(world: "World", chance: random.Random, for_s: int) -> None:
        device = some_device(world, chance)
        if device.faults:
            return  # two at once could make a sound frame out of wrong parts
        fault = Fault(kind, delay_ms=delay_ms, code=code)
        device.faults.append(fault)
        await asyncio.sleep(for_s)
        device.faults[:] = [each for each in device.faults if each is not fault]

    return play


async def late_once(world: "World", chance: random.Random, for_s: int) -> None:
    """F5, F6: after an event of the line one answer comes when the meter has been asked something else already.

    The meter thinks long, so that there is room on the wire for an answer to the question before. Were all its answers
    late by the same time, each would only ever meet its own question, asked once more.
    """
    device = some_device(world, chance)
    usual_ms, device.turnaround_ms = device.turnaround_ms, SLOW_MS
    await asyncio.sleep(LEARNT_S)
    for _ in range(1 + for_s // 400):
        await loose_plug(world, device.meter.line)
        if not device.faults:
            device.faults.append(Fault(Kind.LATE, delay_ms=chance.randrange(*LATE_MS), times=1))
        await asyncio.sleep(150)
    device.turnaround_ms = usual_ms


async def loose_plug(world: "World", line: str) -> None:
    """An event of the line: it is away for a boundary, so that nobody can miss it."""
    pair = world.pairs[line]
    if pair.unplugged is not None:
        return
    pair.unplugged = "a plug was loose"
    await asyncio.sleep(world.interval_ms / 1000 + 10)
    pair.unplugged = None
    pair.plugged_ns = world.time.ns


async def addresses_swapped(world: "World", chance: random.Random, for_s: int) -> None:
    """F19, F30: somebody who changed the settings of two meters gave each the other's address, and sees it later."""
    one, other = (world.devices[id_] for id_ in SWAPPED)
    journal = world.gateway.journal
    if one.unit != one.meter.address or one.faults or other.faults or journal is None:
        return
    if not journal.heads().keys() >= set(SWAPPED) or not has_settled(world):
        return
    one.unit, other.unit = other.unit, one.unit
    _share_patience(one, other)
    world.rewire()
    world.tell(f"{' and '.join(SWAPPED)} have one another's address")
    await asyncio.sleep(max(300, for_s))
    _put_back(world)


def look_at_addresses(world: "World", known: Collection[str]) -> None:
    """Somebody who starts a gateway without a past looks at the line first.

    A meter that cannot say who it is, is to a journal that never saw it whoever its address says.
    """
    if not set(SWAPPED) <= set(known):
        _put_back(world)


def _put_back(world: "World") -> None:
    devices = [world.devices[id_] for id_ in SWAPPED]  # also the one that came in the place of another
    if any(device.unit != device.meter.address for device in devices):
        for device in devices:
            device.unit = int(device.meter.address)
        _share_patience(*devices)
        world.rewire()


def _share_patience(one: Device, other: Device) -> None:
    """Who refused its registers is left alone for a while, and so is who has its address since."""
    one.asked_ns = other.asked_ns = max(one.asked_ns, other.asked_ns)


async def noise(world: "World", chance: random.Random, for_s: int) -> None:
    """F31: bits flip."""
    pair = world.pairs[chance.choice(LINES)]
    pair.line.flip_every = chance.choice((10, 40, 200))
    await asyncio.sleep(for_s)
    pair.line.flip_every = 0
    pair.plugged_ns = world.time.ns


async def unplugged(world: "World", chance: random.Random, for_s: int) -> None:
    """F33: the adapter is gone."""
    pair = world.pairs[chance.choice(LINES)]
    pair.unplugged = "the adapter was unplugged"
    await asyncio.sleep(for_s)
    pair.unplugged = None
    pair.plugged_ns = world.time.ns


def shows(wrong: Callable[[int], int], answers: int) -> Play:
    """F17, F20 to F22: the register shows something else for a few answers."""

    async def play(world: "World", chance: random.Random, for_s: int) -> None:
        device = far_from_rollover(world, chance)
        if device.raw() < FAR_COUNTS:
            return  # hardly counted: a zero could be true
        device.wrong, device.wrong_for = wrong, answers
        await asyncio.sleep(for_s)
        device.wrong, device.wrong_for = None, 0

    return play


async def wrong_after_start(world: "World", chance: random.Random, for_s: int) -> None:
    """F17, F75: the very first answers after a start are wrong, when nothing is remembered but the journal."""
    device = far_from_rollover(world, chance)
    if device.raw() < FAR_COUNTS:
        return
    await world.gateway.kill(pause_s=5)
    device.wrong, device.wrong_for = chance.choice((lambda raw: 0, lambda raw: raw ^ 1 << 20)), 1
    await asyncio.sleep(max(60, for_s))
    device.wrong, device.wrong_for = None, 0


async def wrong_first(world: "World", chance: random.Random, for_s: int) -> None:
    """F17, F22, F56: the first register that a new journal sees is wrong."""
    device = far_from_rollover(world, chance)
    if device.raw() < FAR_COUNTS:
        return
    await world.gateway.kill(pause_s=5)
    world.gateway.disk.replace({})
    world.gateway.applied = None
    before, device.is_known = device.is_known, lambda: True
    device.wrong, device.wrong_for = (lambda raw: raw // 2), 1
    await asyncio.sleep(max(60, for_s))
    device.wrong, device.wrong_for, device.is_known = None, 0, before


async def runs_back(world: "World", chance: random.Random, for_s: int) -> None:
    """F20: the register jitters by a count or two; for one minute by three, which is more than a jitter."""
    device = some_device(world, chance)
    minutes = max(1, for_s // 60)
    worst = chance.randrange(minutes)
    for minute in range(minutes):
        device.back = TREMBLES_MAX if minute == worst else chance.randrange(JITTER_STEPS + 1)
        await asyncio.sleep(60)
    device.back = 0


async def dark(world: "World", chance: random.Random, for_s: int) -> None:
    """The circuit of a meter that it feeds is switched off: nothing is used, and nobody answers."""
    device = world.devices[FED_BY_CIRCUIT]
    if device.faults:
        return
    silence = Fault(Kind.SILENT)
    device.faults.append(silence)
    device.place.load.switch_off(world.time.wall_ms())
    await asyncio.sleep(for_s)
    device.place.load.switch_on(world.time.wall_ms())
    device.faults[:] = [each for each in device.faults if each is not silence]
