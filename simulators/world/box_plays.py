"""What goes wrong in the gateway itself: its clock, its process, its power and its disk."""

import asyncio
import random
from typing import TYPE_CHECKING

from agent.metering.interval import DAY_MS
from agent.metering.memory import SILENT_MS
from simulators.world.disk import Cut, Keep, Trouble
from simulators.world.plays import has_settled, misread_falls
from simulators.world.storage import JOURNAL

if TYPE_CHECKING:
    from simulators.world.world import World


async def clock_step(world: "World", chance: random.Random, for_s: int) -> None:
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


async def no_clock(world: "World", chance: random.Random, for_s: int) -> None:
    """F40: power goes, and the gateway boots in 1970; a time service comes later."""
    clock = world.gateway.clock
    clock.unset()
    await world.gateway.cut_power(Cut(Keep.NONE))
    await asyncio.sleep(for_s)
    clock.set_right()


async def unsynchronised(world: "World", chance: random.Random, for_s: int) -> None:
    """F41: no time service for a while, and a drift of 200 ppm."""
    clock = world.gateway.clock
    clock.drift_ppm = chance.choice((-200, 200))
    await asyncio.sleep(for_s)
    clock.drift_ppm = 0


async def suspended(world: "World", chance: random.Random, for_s: int) -> None:
    """F44: the machine sleeps, for minutes or more than a week, while the factory and the platform go on."""
    world.broker.disconnect_all("the machine slept")
    slept_ms = chance.choice((90_000, 3_600_000, 9 * 86_400_000))
    if slept_ms > DAY_MS and not has_settled(world, doubts_count=True):
        slept_ms = 3_600_000
    if slept_ms >= SILENT_MS:
        for id_ in misread_falls(world):
            world.places[id_].breaks += 1
    world.time.slept_ms += slept_ms
    world.tell(f"the machine slept for {slept_ms} ms")


async def killed(world: "World", chance: random.Random, for_s: int) -> None:
    """F75."""
    await world.gateway.kill(pause_s=chance.choice((1, 5, 300)))


async def restart_storm(world: "World", chance: random.Random, for_s: int) -> None:
    """F78."""
    for _ in range(6):
        await world.gateway.kill(pause_s=2)
        await asyncio.sleep(chance.randrange(3, 20))


async def stopped(world: "World", chance: random.Random, for_s: int) -> None:
    """Stopped and started again in good order."""
    await world.gateway.stop()


def any_cut(chance: random.Random) -> Cut:
    return Cut(chance.choice((Keep.NONE, Keep.ALL, Keep.SOME, Keep.TORN)), seed=chance.randrange(1 << 30))


async def power_cut(world: "World", chance: random.Random, for_s: int) -> None:
    """F51: between two moments."""
    await world.gateway.cut_power(any_cut(chance))


async def power_cut_in_write(world: "World", chance: random.Random, for_s: int) -> None:
    """F51, F52: at one of the next writes or syncs."""
    disk = world.gateway.disk
    world.gateway.restart_s = 30
    disk.troubles[disk.operations + chance.randrange(60)] = any_cut(chance)


async def disk_full(world: "World", chance: random.Random, for_s: int) -> None:
    """F46."""
    disk = world.gateway.disk
    disk.full = True
    await asyncio.sleep(for_s)
    disk.full = False


async def write_error(world: "World", chance: random.Random, for_s: int) -> None:
    """F48: one write fails with EIO."""
    disk = world.gateway.disk
    at = disk.operations + chance.randrange(60)
    disk.troubles |= dict.fromkeys(range(at, at + 2), Trouble.EIO)


async def sync_error(world: "World", chance: random.Random, for_s: int) -> None:
    """F49: one sync fails; what it should have made durable is only in the cache from then on."""
    disk = world.gateway.disk
    at = disk.operations + chance.randrange(60)
    disk.troubles |= dict.fromkeys(range(at, at + 3), Trouble.SYNC)


async def disk_gone(world: "World", chance: random.Random, for_s: int) -> None:
    """F47, F48: nothing can be read or written for a while."""
    disk = world.gateway.disk
    disk.broken = True
    await asyncio.sleep(for_s)
    disk.broken = False


async def slow_disk(world: "World", chance: random.Random, for_s: int) -> None:
    """F50: every piece of work on the journal takes seconds."""
    set_delay(world, chance.choice((0.5, 3.0)))
    await asyncio.sleep(for_s)
    set_delay(world, 0.0)


def set_delay(world: "World", seconds: float) -> None:
    world.gateway.delay_s = seconds
    if world.gateway.storage is not None:
        world.gateway.storage.delay_s = seconds


async def bit_rot(world: "World", chance: random.Random, for_s: int) -> None:
    """F53, F54: bytes of the file change while the agent is down."""
    file = world.gateway.disk.files.get(str(JOURNAL))
    if file is None or not file.durable:
        return
    await world.gateway.kill(pause_s=10)
    at = chance.randrange(len(file.durable))
    for image in (file.durable, file.seen):
        if at < len(image):
            image[at] ^= chance.randrange(1, 256)
    world.auditor.has_rotted = True


async def disk_lost(world: "World", chance: random.Random, for_s: int) -> None:
    """F56: a new card, empty."""
    await world.gateway.kill(pause_s=chance.choice((5, 600)))
    world.gateway.disk.replace({})
    world.gateway.applied = None
    world.auditor.has_lost_a_journal = True


async def log_deleted(world: "World", chance: random.Random, for_s: int) -> None:
    """F55: somebody tidies up and deletes the write-ahead log."""
    await world.gateway.kill(pause_s=10)
    world.gateway.disk.files.pop(f"{JOURNAL}-wal", None)


async def old_image(world: "World", chance: random.Random, for_s: int) -> None:
    """F55: an older copy of the journal is put back."""
    image, refused = world.gateway.disk.image(), world.auditor.refused.copy()
    await asyncio.sleep(for_s)
    await world.gateway.kill(pause_s=10)
    world.gateway.disk.replace(image)
    world.auditor.has_lost_a_journal = True
    world.auditor.refused = (
        refused  # what was refused since is in no journal, and perhaps in no message that came
    )
