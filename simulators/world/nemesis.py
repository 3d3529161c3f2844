"""Everything that can go wrong, each kind a small play: begin, wait, put it right again.

A play gets the world, its own source of chance and how long it lasts. What cannot be put right (an exchanged meter, a
lost disk) is over when it has happened. Fault numbers are those of the catalogue in tests/FAULTS.md.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from agent.adapters.keys import Ed25519Signer
from agent.metering.plant import Meter, Share
from agent.reporting import envelope, topics
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.chain import ChainHead
from simulators.meters.faults import Fault, Kind
from simulators.world.disk import Cut, Keep, Trouble
from simulators.world.site import AGENT, ORG, STEPS, Site
from simulators.world.storage import JOURNAL
from simulators.world.truth import Device

if TYPE_CHECKING:
    from simulators.world.world import World

FAR_COUNTS = 50_000
Play = Callable[["World", random.Random, int], Awaitable[None]]


def with_serial(meter: Meter, serial: str) -> Meter:
    """The physical meter: it knows its own number."""
    return replace(meter, serial=serial)


# ------------------------------------------------------------------------------------------------------- the network


def _weather(name: str, value: object, calm: object) -> Play:
    async def play(world: "World", chance: random.Random, for_s: int) -> None:
        setattr(world.broker.weather, name, value)
        await asyncio.sleep(for_s)
        setattr(world.broker.weather, name, calm)

    return play


async def _broker_down(world: "World", chance: random.Random, for_s: int) -> None:
    """F59, F72: nobody answers."""
    world.broker.weather.down = True
    world.broker.disconnect_all("the broker went away")
    await asyncio.sleep(for_s)
    world.broker.weather.down = False


async def _half_open(world: "World", chance: random.Random, for_s: int) -> None:
    """F60: the cable is pulled; only the keep-alive notices."""
    world.broker.weather.half_open = True
    await asyncio.sleep(min(for_s, 45))
    world.broker.disconnect_all("no answer to a ping")
    await asyncio.sleep(max(0, for_s - 45))
    world.broker.weather.half_open = False


async def _broker_forgets(world: "World", chance: random.Random, for_s: int) -> None:
    """F63: restarted without its memory."""
    world.broker.forget()
    world.broker.disconnect_all("the broker was restarted")


async def _stale_retained(world: "World", chance: random.Random, for_s: int) -> None:
    """F74: a new subscriber gets an old acknowledgement."""
    world.broker.weather.stale_retained = True
    for _ in range(max(1, for_s // 60)):
        world.broker.disconnect_all("the connection was reset")
        await asyncio.sleep(60)
    world.broker.weather.stale_retained = False


# ------------------------------------------------------------------------------------------------------ the platform


async def _platform_down(world: "World", chance: random.Random, for_s: int) -> None:
    """It crashes; the broker keeps its queue."""
    if world.broker.platform is None:
        return
    world.office.go_away()
    await asyncio.sleep(for_s)
    world.office.come_back()


async def _platform_restored(world: "World", chance: random.Random, for_s: int) -> None:
    """An older backup is put back."""
    world.office.back_up()
    await asyncio.sleep(for_s)
    if world.broker.platform is None:
        return
    world.office.restore(chance.choice(world.office.backups))
    world.auditor.platform_restored()
    world.tell("the platform was restored from a backup")


# ------------------------------------------------------------------------------------------------------- an attacker


def _said_to_gateway(world: "World", acknowledgement: Acknowledgement, key: Ed25519Signer) -> None:
    jws = envelope.seal(envelope.ACKNOWLEDGEMENT, acknowledgement.to_payload(), key)
    world.broker.route_down(topics.acknowledgement(ORG, AGENT), jws)


def _claim(world: "World", chance: random.Random, ahead: int, hash_: str | None) -> Acknowledgement | None:
    journal = world.gateway.journal
    head = None if journal is None or world.gateway.disk.dead else journal.state().head
    if head is None:
        return None
    now_ms = world.time.wall_ms()
    wrong = hash_ or envelope.base64url(chance.randbytes(32))
    claimed = ChainHead(head.chain, head.seq + ahead, wrong)
    return Acknowledgement(ORG, AGENT, world.office.gen, now_ms, claimed, now_ms)


def _false_acknowledgement(ahead: int, *, by_platform: bool) -> Play:
    """F74, F84: signed by a stranger, or by a platform that is out of its mind: ahead of us, or of another past."""

    async def play(world: "World", chance: random.Random, for_s: int) -> None:
        said = _claim(world, chance, ahead, None)
        if said is not None:
            _said_to_gateway(world, said, world.platform_key if by_platform else world.stranger_key)

    return play


async def _forged_release(world: "World", chance: random.Random, for_s: int) -> None:
    """F85: a stranger acknowledges exactly our own head while nothing gets through: nothing may be released."""
    journal = world.gateway.journal
    if journal is None or world.gateway.disk.dead:
        return
    head = journal.state().head
    said = None if head is None else _claim(world, chance, 0, head.hash)
    if said is not None:
        _said_to_gateway(world, said, world.stranger_key)


async def _replayed(world: "World", chance: random.Random, for_s: int) -> None:
    """F74, F84: an old acknowledgement comes again, and one of our own batches comes back on the platform's topic."""
    if world.office.answers:
        old = chance.choice(world.office.answers)
        world.broker.route_down(old.topic, old.payload)


# ------------------------------------------------------------------------------------------------- the bus and meters


def _some_device(world: "World", chance: random.Random) -> Device:
    return world.devices[chance.choice(sorted(world.devices))]


def _far_from_rollover(world: "World", chance: random.Random) -> Device:
    """Not the first meter: close to its modulus a zero that is wrong cannot be told from one that is right."""
    return world.devices[chance.choice(sorted(world.devices.keys() - {"m1"}))]


def _sick(kind: Kind, *, delay_ms: int = 0, code: int = 6) -> Play:
    """F1 to F14: a device answers wrongly for a while."""

    async def play(world: "World", chance: random.Random, for_s: int) -> None:
        device = _some_device(world, chance)
        if device.faults:
            return  # two at once could make a sound frame out of wrong parts
        fault = Fault(kind, delay_ms=delay_ms, code=code)
        device.faults.append(fault)
        await asyncio.sleep(for_s)
        device.faults[:] = [each for each in device.faults if each is not fault]

    return play


async def _noise(world: "World", chance: random.Random, for_s: int) -> None:
    """F31: bits flip."""
    pair = world.pairs[chance.choice(sorted(world.pairs))]
    pair.line.flip_every = chance.choice((10, 40, 200))
    await asyncio.sleep(for_s)
    pair.line.flip_every = 0


async def _unplugged(world: "World", chance: random.Random, for_s: int) -> None:
    """F33: the adapter is gone."""
    pair = world.pairs[chance.choice(sorted(world.pairs))]
    pair.unplugged = "the adapter was unplugged"
    await asyncio.sleep(for_s)
    pair.unplugged = None


def _shows(wrong: Callable[[int], int], answers: int) -> Play:
    """F17, F20 to F22: the register shows something else for a few answers."""

    async def play(world: "World", chance: random.Random, for_s: int) -> None:
        device = _far_from_rollover(world, chance)
        if device.raw() < FAR_COUNTS:
            return  # hardly counted: a zero could be true
        device.wrong, device.wrong_for = wrong, answers
        await asyncio.sleep(for_s)
        device.wrong, device.wrong_for = None, 0

    return play


async def _runs_back(world: "World", chance: random.Random, for_s: int) -> None:
    """F20: the register jitters by a few counts."""
    device = _some_device(world, chance)
    for _ in range(max(1, for_s // 60)):
        device.back = chance.randrange(4)
        await asyncio.sleep(60)
    device.back = 0


# --------------------------------------------------------------------------------------------------------------- time


async def _clock_step(world: "World", chance: random.Random, for_s: int) -> None:
    """F38, F39: somebody sets the clock, and sets it right again."""
    step_ms = chance.choice((-1, 1)) * chance.choice((700, 45_000, 600_000, 3_600_000, 86_400_000 * 3))
    clock = world.gateway.clock
    if clock.sync == "U":
        return  # nobody sets a clock that shows 1970 a little
    clock.error_ms = step_ms
    world.tell(f"the clock is set by {step_ms} ms")
    await asyncio.sleep(for_s)
    if clock.sync != "U":
        clock.error_ms = 0


async def _no_clock(world: "World", chance: random.Random, for_s: int) -> None:
    """F40: power goes, and the gateway boots in 1970; a time service comes later."""
    clock = world.gateway.clock
    clock.unset()
    await world.gateway.cut_power(Cut(Keep.NONE))
    await asyncio.sleep(for_s)
    clock.set_right()


async def _unsynchronised(world: "World", chance: random.Random, for_s: int) -> None:
    """F41: no time service for a while, and a drift of 200 ppm."""
    clock = world.gateway.clock
    clock.drift_ppm = chance.choice((-200, 200))
    await asyncio.sleep(for_s)
    clock.drift_ppm = 0


async def _suspended(world: "World", chance: random.Random, for_s: int) -> None:
    """F44: the machine sleeps, for minutes or more than a week, while the factory and the platform go on."""
    world.broker.disconnect_all("the machine slept")
    slept_ms = chance.choice((90_000, 3_600_000, 9 * 86_400_000))
    world.time.slept_ms += slept_ms
    world.tell(f"the machine slept for {slept_ms} ms")


# ---------------------------------------------------------------------------------------------------- process and disk


async def _killed(world: "World", chance: random.Random, for_s: int) -> None:
    """F75."""
    await world.gateway.kill(pause_s=chance.choice((1, 5, 300)))


async def _restart_storm(world: "World", chance: random.Random, for_s: int) -> None:
    """F78."""
    for _ in range(6):
        await world.gateway.kill(pause_s=2)
        await asyncio.sleep(chance.randrange(3, 20))


async def _stopped(world: "World", chance: random.Random, for_s: int) -> None:
    """Stopped and started again in good order."""
    await world.gateway.stop()


def _cut(chance: random.Random) -> Cut:
    return Cut(chance.choice((Keep.NONE, Keep.ALL, Keep.SOME, Keep.TORN)), seed=chance.randrange(1 << 30))


async def _power_cut(world: "World", chance: random.Random, for_s: int) -> None:
    """F51: between two moments."""
    await world.gateway.cut_power(_cut(chance))


async def _power_cut_in_write(world: "World", chance: random.Random, for_s: int) -> None:
    """F51, F52: at one of the next writes or syncs."""
    disk = world.gateway.disk
    world.gateway.restart_s = 30
    disk.troubles[disk.operations + chance.randrange(60)] = _cut(chance)


async def _disk_full(world: "World", chance: random.Random, for_s: int) -> None:
    """F46."""
    disk = world.gateway.disk
    disk.full = True
    await asyncio.sleep(for_s)
    disk.full = False


async def _write_error(world: "World", chance: random.Random, for_s: int) -> None:
    """F48: one write fails with EIO."""
    disk = world.gateway.disk
    at = disk.operations + chance.randrange(60)
    disk.troubles |= dict.fromkeys(range(at, at + 2), Trouble.EIO)


async def _sync_error(world: "World", chance: random.Random, for_s: int) -> None:
    """F49: one sync fails; what it should have made durable is only in the cache from then on."""
    disk = world.gateway.disk
    at = disk.operations + chance.randrange(60)
    disk.troubles |= dict.fromkeys(range(at, at + 3), Trouble.SYNC)


async def _disk_gone(world: "World", chance: random.Random, for_s: int) -> None:
    """F47, F48: nothing can be read or written for a while."""
    disk = world.gateway.disk
    disk.broken = True
    await asyncio.sleep(for_s)
    disk.broken = False


async def _slow_disk(world: "World", chance: random.Random, for_s: int) -> None:
    """F50: every piece of work on the journal takes seconds."""
    _set_delay(world, chance.choice((0.5, 3.0)))
    await asyncio.sleep(for_s)
    _set_delay(world, 0.0)


def _set_delay(world: "World", seconds: float) -> None:
    world.gateway.delay_s = seconds
    if world.gateway.storage is not None:
        world.gateway.storage.delay_s = seconds


async def _bit_rot(world: "World", chance: random.Random, for_s: int) -> None:
    """F53, F54: bytes of the file change while the agent is down."""
    file = world.gateway.disk.files.get(str(JOURNAL))
    if file is None or not file.durable:
        return
    await world.gateway.kill(pause_s=10)
    at = chance.randrange(len(file.durable))
    for image in (file.durable, file.seen):
        if at < len(image):
            image[at] ^= chance.randrange(1, 256)


async def _disk_lost(world: "World", chance: random.Random, for_s: int) -> None:
    """F56: a new card, empty."""
    await world.gateway.kill(pause_s=chance.choice((5, 600)))
    world.gateway.disk.replace({})
    world.gateway.applied = None


async def _log_deleted(world: "World", chance: random.Random, for_s: int) -> None:
    """F55: somebody tidies up and deletes the write-ahead log."""
    await world.gateway.kill(pause_s=10)
    world.gateway.disk.files.pop(f"{JOURNAL}-wal", None)


async def _old_image(world: "World", chance: random.Random, for_s: int) -> None:
    """F55: an older copy of the journal is put back."""
    image = world.gateway.disk.image()
    await asyncio.sleep(for_s)
    await world.gateway.kill(pause_s=10)
    world.gateway.disk.replace(image)


# ----------------------------------------------------------------------------------------------------- an operator


async def _exchanged(world: "World", chance: random.Random, for_s: int) -> None:
    """F18, F19: another meter in the same place."""
    id_ = chance.choice(sorted(world.devices))
    old = world.devices[id_]
    silence = Fault(Kind.SILENT)
    old.faults.append(silence)  # nobody exchanges a meter in less time, nor while it answers
    await asyncio.sleep(300)
    old.faults.remove(silence)
    if world.devices[id_] is not old:
        return
    has_number = old.meter.profile.identity is not None
    opening = chance.randrange(10**6) if has_number else chance.randrange(1000, 5000)
    serial = str(chance.randrange(10**6, 10**7))
    new = world.devices[id_] = old.replaced(serial, opening)
    new.faults = old.faults
    world.rewire()
    world.tell(f"{id_} was exchanged; the new one begins at {opening}")


async def _reset(world: "World", chance: random.Random, for_s: int) -> None:
    """F16: somebody sets a register back; not to zero, where a misread of the same moment would look like it."""
    device = _far_from_rollover(world, chance)
    if device.raw() >= FAR_COUNTS:
        device.reset(chance.randrange(1000, 5000))


async def _change_site(world: "World", site: Site, chance: random.Random) -> None:
    """F81: another site file, applied by a restart: in good order, or by the plug."""
    world.site = world.gateway.site = world.new_site(site)
    if chance.random() < 0.7:
        await world.gateway.stop()
    else:
        await world.gateway.cut_power(_cut(chance))


async def _other_step(world: "World", chance: random.Random, for_s: int) -> None:
    """F81: a meter counts for another step from now on."""
    meter = world.site.meter(chance.choice(sorted(world.devices)))
    step = chance.choice([each for each in STEPS if each != meter.step])
    await _change_site(world, world.site.changed(replace(meter, shares=(Share(step, Fraction(1)),))), chance)


async def _other_ratio(world: "World", chance: random.Random, for_s: int) -> None:
    """F27: the current transformers of a meter are entered anew."""
    meter = world.site.meter("m3")
    ratio = Fraction(chance.choice([each for each in (20, 40, 60, 80) if each != meter.ct_ratio]))
    world.places["m3"].breaks += 1
    await _change_site(world, world.site.changed(replace(meter, ct_ratio=ratio)), chance)


async def _cloned(world: "World", chance: random.Random, for_s: int) -> None:
    """F85: a copy of the disk runs in a second box beside the first, for a while."""
    clone = world.new_gateway(f"clone {chance.randrange(1000)}", world.new_pairs("clone"))
    clone.site, clone.applied = world.gateway.site, world.gateway.applied
    clone.disk.replace(world.gateway.disk.image())
    clone.switch_on()
    await asyncio.sleep(max(300, for_s))
    await clone.switch_off()


KINDS: dict[str, Play] = {
    "ack-ahead": _false_acknowledgement(7, by_platform=True),
    "ack-forged": _forged_release,
    "ack-lost": _weather("ack_lose", 600, 0),
    "ack-of-stranger": _false_acknowledgement(3, by_platform=False),
    "ack-replayed": _replayed,
    "ack-wrong-hash": _false_acknowledgement(-1, by_platform=True),
    "bit-rot": _bit_rot,
    "broker-amnesia": _broker_forgets,
    "broker-down": _broker_down,
    "clock-step": _clock_step,
    "clock-unset": _no_clock,
    "clone": _cloned,
    "crash": _killed,
    "crash-storm": _restart_storm,
    "denied": _weather("refuse", 0x87, None),
    "disk-full": _disk_full,
    "disk-gone": _disk_gone,
    "disk-lost": _disk_lost,
    "disk-slow": _slow_disk,
    "double": _weather("double", 300, 0),
    "drift": _unsynchronised,
    "eio": _write_error,
    "exchange": _exchanged,
    "fsync": _sync_error,
    "half-open": _half_open,
    "late": _weather("late", 300, 0),
    "lost": _weather("lose", 300, 0),
    "meter-bad-checksum": _sick(Kind.BAD_CHECKSUM),
    "meter-busy": _sick(Kind.EXCEPTION, code=6),
    "meter-doubles": _sick(Kind.DUPLICATE),
    "meter-failed": _sick(Kind.EXCEPTION, code=4),
    "meter-function": _sick(Kind.WRONG_FUNCTION),
    "meter-half": _sick(Kind.HALF),
    "meter-late": _sick(Kind.LATE, delay_ms=700),
    "meter-long": _sick(Kind.LONG),
    "meter-noise-after": _sick(Kind.NOISE_AFTER),
    "meter-noise-before": _sick(Kind.NOISE_BEFORE),
    "meter-other-unit": _sick(Kind.WRONG_UNIT),
    "meter-refuses": _sick(Kind.EXCEPTION, code=2),
    "meter-short": _sick(Kind.SHORT),
    "meter-silent": _sick(Kind.SILENT),
    "no-subscriber": _weather("refuse", 0x10, None),
    "noise": _noise,
    "old-image": _old_image,
    "platform-down": _platform_down,
    "platform-restored": _platform_restored,
    "power-cut": _power_cut,
    "power-cut-in-write": _power_cut_in_write,
    "puback-lost": _weather("lose_puback", 300, 0),
    "ratio": _other_ratio,
    "register-back": _runs_back,
    "register-jump": _shows(lambda raw: raw ^ 1 << 20, 1),
    "register-zero": _shows(lambda raw: 0, 1),
    "register-zero-twice": _shows(lambda raw: 0, 2),
    "reset": _reset,
    "stale-retained": _stale_retained,
    "step": _other_step,
    "stop": _stopped,
    "suspend": _suspended,
    "unplugged": _unplugged,
    "wal-deleted": _log_deleted,
}
"""Every kind of fault, by the name under which a plan has it."""

OPEN = {
    "clock-unset": "a journal restored or lost while the clock shows 1970: own points are ordered by wall time, so that"
    " the restored chain tells them in the wrong order (seed 2), and holes are declared too small (seed 20)",
    "bit-rot": "a rotten byte in a value passes quick_check; the agent then ends at every start",
    "clock-step": "the bound of a hole is worked out from wall times (seed 31)",
    "fsync": "after a failed sync the next process publishes rows that are only in the page cache (seed 9)",
}
"""Kinds that break a promise today; they are drawn only when asked for until the agent is mended."""

SETTLED = frozenset(KINDS) - frozenset(OPEN)
