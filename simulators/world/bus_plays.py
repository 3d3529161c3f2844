"""What goes wrong on the lines and in the meters."""

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.metering.doubt import JITTER_STEPS
from simulators.meters.faults import Fault, Kind
from simulators.world.plays import Play
from simulators.world.truth import Device

if TYPE_CHECKING:
    from simulators.world.world import World


FAR_COUNTS = 50_000
LINES = ("a", "b")


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


async def noise(world: "World", chance: random.Random, for_s: int) -> None:
    """F31: bits flip."""
    pair = world.pairs[chance.choice(LINES)]
    pair.line.flip_every = chance.choice((10, 40, 200))
    await asyncio.sleep(for_s)
    pair.line.flip_every = 0


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
        device.back = JITTER_STEPS + 1 if minute == worst else chance.randrange(JITTER_STEPS + 1)
        await asyncio.sleep(60)
    device.back = 0
