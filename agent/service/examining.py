"""The doctor at work on a line: many reads of every meter, and other settings for those that do not answer.

It only reads. Before it comes the command `doctor`, after it the pure diagnosis (`agent.protocol.doctor`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from agent.errors import FrameDamaged, LineDown, MeterBusy, MeteringError, MeterRefused, MeterSilent
from agent.metering import plant
from agent.metering.plan import Block, BusCost, plan_for
from agent.metering.plant import Meter, SerialSettings, Transport
from agent.metering.reads import reshape
from agent.protocol.doctor import Tally, alternatives
from agent.protocol.pace import Pace
from agent.service.ports import Line
from agent.service.requests import block_request
from agent.service.scanning import Overhearing

FRAMES = 1_000
"""Reads of each meter."""
GIVE_UP_AFTER = 50
"""A meter that never said anything in so many reads is believed to be silent."""
SEARCH_METERS = 3
"""Other settings are tried for so many silent meters of a line; the rest most likely has the same trouble."""
TRIES = 2
REPLY_MS = 500
REPLY_MS_MIN = 60
TURNAROUND_NS = 10_000_000


@runtime_checkable
class Hears(Overhearing, Protocol):
    """A line that also hears other masters, itself, and whoever never stops."""

    def foreign(self) -> int:
        """How many requests of somebody else were heard since this was last called."""

    def echoes(self) -> int:
        """How many of our own requests came back since this was last called."""

    def floods(self) -> int:
        """How many reads were given up since this was last called because the line was never silent."""


Tell = Callable[[str, int, int], None]
"""Told the meter, how many reads are done, and of how many."""


@dataclass(slots=True)
class _Count:
    """The tally of one meter, growing."""

    meter: Meter
    settings: SerialSettings
    blocks: tuple[Block, ...]
    """The energy register, alone and with a neighbour by turns: so a second answer never fits the next question."""
    pace: Pace = field(default_factory=lambda: Pace(REPLY_MS_MIN * 1_000_000, REPLY_MS * 1_000_000))
    outcome: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("answered", "silent", "damaged"), 0)
    )
    own: int = 0
    others: int = 0
    garbage: int = 0
    garbage_bytes: int = 0
    foreign: int = 0
    answers_at: SerialSettings | None = None

    def tally(self) -> Tally:
        return Tally(
            self.meter.id,
            self.meter.address,
            self.settings,
            **self.outcome,
            own_strays=self.own,
            other_strays=self.others,
            with_garbage=self.garbage,
            garbage_bytes=self.garbage_bytes,
            foreign=self.foreign,
            answers_at=self.answers_at,
        )


async def examine(
    port: Line, line: plant.Line, meters: Sequence[Meter], *, frames: int = FRAMES, tell: Tell | None = None
) -> tuple[Tally, ...]:
    """Read every meter of an open line so many times. Raises LineDown."""
    counts = [_Count(meter, meter.serial_settings or line.serial, _shapes(line, meter)) for meter in meters]
    searched = 0
    for count in counts:
        for done in range(frames):
            if done == GIVE_UP_AFTER and count.outcome["silent"] == done:
                break
            await _read(port, count, count.blocks[done % len(count.blocks)])
            if tell is not None:
                tell(count.meter.id, done + 1, frames)
        silent = not count.outcome["answered"] and count.outcome["silent"] > count.outcome["damaged"]
        if silent and line.transport is Transport.RS485 and searched < SEARCH_METERS:
            searched += 1
            count.answers_at = await _search(port, count)
    return tuple(count.tally() for count in counts)


async def _read(port: Line, count: _Count, block: Block) -> None:
    """One read, and all that was heard meanwhile."""
    error = await _ask(port, count, block, count.settings)
    kind = "answered"
    if isinstance(error, MeterSilent):
        kind = "silent"
    elif isinstance(error, FrameDamaged):
        kind = "damaged"
    count.outcome[kind] += 1
    if not isinstance(port, Hears):
        return
    for stray in port.strays():
        own = stray == count.meter.address
        count.own, count.others = count.own + own, count.others + (not own)
    count.foreign += port.foreign()
    garbage = port.garbage()
    count.garbage += garbage > 0
    count.garbage_bytes += garbage


async def _ask(port: Line, count: _Count, block: Block, settings: SerialSettings) -> MeteringError | None:
    """None for an answer; refusals are answers. LineDown comes through."""
    try:
        reply = await port.read(
            block_request(count.meter, block),
            timeout_ms=-(-count.pace.timeout_ns // 1_000_000),
            quiet_ms=count.meter.profile.quiet_ms,
            settings=settings,
        )
    except LineDown:
        raise
    except (MeterRefused, MeterBusy):
        return None
    except MeteringError as error:
        count.pace.missed()
        return error
    count.pace.answered(reply.received_ns - reply.sent_ns)
    return None


async def _search(port: Line, count: _Count) -> SerialSettings | None:
    """At which other settings a silent meter answers."""
    default = count.meter.profile.serial_defaults
    likely = [SerialSettings(default.baud, default.parity, default.stop_bits)]
    for settings in alternatives(count.settings, likely):
        for _ in range(TRIES):
            if await _ask(port, count, count.blocks[0], settings) is None:
                return settings
    return None


def _shapes(line: plant.Line, meter: Meter) -> tuple[Block, ...]:
    cost = BusCost.serial(meter.serial_settings or line.serial, TURNAROUND_NS, meter.profile.quiet_ms)
    energy = plan_for(meter.profile, meter.profile.energy.parts, cost)[0]
    longer = reshape(energy, meter.profile)
    return (energy,) if longer is None else (energy, longer)
