"""What the agent says of its clock: that it was set, and what the times of sealed batches should have been.

Sealing never waits for a clock. Without a trusted time batches are sealed on a provisional one (`sync` U, deltas
flagged `clock`); once the time is known, `clock` events relabel them. How far each of them was off is known exactly:
the wall clock minus the time since the machine was started changes only when somebody sets the wall clock. So the
journal keeps, for each stretch of batches between two settings, what that difference was. It survives a restart of the
process; after one of the machine nobody can tell any more, and the batches keep the U that they were sealed with.

A step between clocks that both claim to know the time, or of a clock that does not, is declared with an unknown offset:
that it was set is a fact, which of the two was right is not. Used by `close`; source: design, section 9, wire format,
section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agent.metering.interval import Moment
from agent.reporting.event import Event, clock_event
from agent.service.ports import Clock, ClockQuality

STEP_MIN_MS = 500
"""A smaller change of the wall clock is the work of a time service, not of a person."""
DRIFT_PPM = 200
"""By so much a clock without a time service may go wrong, and the time since the start of the machine with it."""
UNKNOWN = "U"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Batches of one chain, sealed in one start of the machine with the wall clock set in one way.

    `seq_to` is None while it goes on; `offset_ms` is the wall clock minus the time since the start of the machine.
    """

    boot: str
    chain: str
    seq_from: int
    seq_to: int | None
    offset_ms: int
    sync: str


class ClockRecords(Protocol):
    """What the journal keeps of the clock."""

    def clock_stretches(self) -> tuple[Stretch, ...]:
        """The stretches that may still be relabelled, oldest first; the last one goes on."""

    def save_clock_stretches(self, stretches: Sequence[Stretch]) -> None:
        """Replace them."""


@dataclass(frozen=True, slots=True)
class Look:
    """The clock at the time of a cut; `boot` and `up_ms` are None where the kernel does not name its starts."""

    wall_ms: int
    boot: str | None
    up_ms: int
    quality: ClockQuality

    @property
    def offset_ms(self) -> int:
        """The wall clock minus the time since the start of the machine."""
        return self.wall_ms - self.up_ms


@dataclass(frozen=True, slots=True)
class Said:
    """What is to be sealed of the clock, and the stretches to keep; none goes on where `begins` is set."""

    events: tuple[Event, ...]
    keep: tuple[Stretch, ...]
    begins: bool


def look_at(clock: Clock) -> Look:
    """Read the clock."""
    uptime, wall_ms = clock.uptime(), clock.wall_ms()
    return Look(
        wall_ms, None if uptime is None else uptime.boot, 0 if uptime is None else uptime.ms, clock.quality()
    )


def asleep_ms(clock: Clock) -> int:
    """How long the machine has slept since it was started, ms, plus a constant; only differences mean anything.

    Where the kernel names no start, a clock that somebody set forward looks the same: nothing tells it from a sleep.
    """
    uptime = clock.uptime()
    counted_ms = clock.wall_ms() if uptime is None else uptime.ms
    return counted_ms - clock.monotonic_ns() // 1_000_000


def moment_of(clock: Clock, ago_ms: int = 0) -> Moment:
    """What is known of the time of something that happened just now, or so long ago, beside its label."""
    uptime, quality = clock.uptime(), clock.quality()
    err_ms = None if quality.sync == UNKNOWN else quality.err_ms
    if uptime is None:
        return Moment(None, None, err_ms)
    return Moment(uptime.boot, uptime.ms - ago_ms, err_ms)


def say(
    stretches: Sequence[Stretch], look: Look, chain: str | None, last_seq: int, steps: int, boot: str
) -> Said:
    """What to say before the next batch is sealed.

    Args:
        stretches: what the journal keeps.
        look: the clock now.
        chain: the own chain, None before its first batch.
        last_seq: its last batch.
        steps: how often the clock was seen being set since the last cut.
        boot: name of the start of the machine for events, where the kernel gives none.
    """
    mine = [each for each in stretches if (each.boot, each.chain) == (look.boot, chain)]
    if look.boot is None:
        return Said(_declared(look, last_seq, steps, boot), (), begins=False)
    if not mine:
        return Said(_declared(look, last_seq, steps, look.boot), (), begins=True)
    present = mine[-1]
    is_known, was_known = look.quality.sync != UNKNOWN, present.sync != UNKNOWN
    is_stepped = abs(look.offset_ms - present.offset_ms) > STEP_MIN_MS
    if not is_stepped and is_known == was_known:
        return Said(_declared(look, last_seq, steps, look.boot), tuple(mine), begins=False)
    ended = [*mine[:-1], replace(present, seq_to=last_seq)]
    provisional = tuple(each for each in ended if each.sync == UNKNOWN and last_seq >= each.seq_from)
    if is_known:
        relabels = tuple(_relabel(each, look) for each in provisional)
        events = relabels or _declared(look, last_seq, max(steps, int(is_stepped)), look.boot)
        return Said(events, (), begins=True)
    return Said(_declared(look, last_seq, max(steps, int(is_stepped)), look.boot), provisional, begins=True)


def next_stretch(look: Look, before: str | None, chain: str, last_seq: int) -> Stretch:
    """The stretch that begins with the batches just sealed.

    Args:
        look: the clock when they were sealed.
        before: the chain before that, and `last_seq` its last batch.
        chain: the chain they are in.
        last_seq: the last batch that was sealed before them.
    """
    assert look.boot is not None
    seq_from = last_seq + 1 if before == chain else 1
    return Stretch(look.boot, chain, seq_from, None, look.offset_ms, look.quality.sync)


def _relabel(stretch: Stretch, look: Look) -> Event:
    assert stretch.seq_to is not None
    drift_ms = -(-look.up_ms * DRIFT_PPM // 1_000_000)
    return clock_event(
        look.wall_ms,
        boot=stretch.boot,
        seq_from=stretch.seq_from,
        seq_to=stretch.seq_to,
        offset_ms=look.offset_ms - stretch.offset_ms,
        err_ms=look.quality.err_ms + drift_ms,
        state_from=stretch.sync,
        state_to=look.quality.sync,
    )


def _declared(look: Look, last_seq: int, steps: int, boot: str) -> tuple[Event, ...]:
    """That the clock was set after the last batch, once for each time."""
    place = max(1, last_seq)
    event = clock_event(
        look.wall_ms,
        boot=boot,
        seq_from=place,
        seq_to=place,
        offset_ms=None,
        err_ms=look.quality.err_ms,
        state_from=look.quality.sync,
        state_to=look.quality.sync,
    )
    return (event,) * steps
