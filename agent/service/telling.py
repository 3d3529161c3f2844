"""What the ledger's outcomes look like on the wire: deltas with their flags, epochs, gaps and balances.

Used by `close` for a reading of now and by `restore` for readings that are told again, so that both say the same of the
same registers. Comes after the ledger and before `seal`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.metering.interval import DAY_MS, misses_boundaries
from agent.metering.later import ROLLED, SETTLED
from agent.metering.ledger import Advanced, Head, Opened, Point
from agent.reporting.batch import Delta
from agent.reporting.descriptor import MeterDescription
from agent.reporting.event import Event, balance_event, continuation_event, epoch_event, gap_event

DARK = "dark"
"""Mark of a reading, never sent: its meter is fed by the circuit that it measures, and shows what it showed before."""


Closed = Callable[[str], Sequence[Mapping[str, object]]]
"""The epochs of a meter that ended lately, as a balance lists them."""


@dataclass(slots=True)
class Portion:
    """What is to be sealed under one descriptor; `pack` brings events and deltas into their order."""

    events: list[Event] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)


def tell(
    portion: Portion,
    outcome: Advanced | Opened,
    description: MeterDescription,
    flags: frozenset[str],
    *,
    interval_ms: int,
    bound: int | None,
    by: str = "agent",
    balance_ms: int = DAY_MS,
    closed: Closed | None = None,
) -> Head:
    """Put an outcome into words, and give the position to keep.

    Args:
        portion: where it is told.
        outcome: what the reading meant.
        description: the meter under the descriptor of the portion.
        flags: quality flags that are known of the reading.
        interval_ms: length of the interval.
        bound: the most energy that an epoch change can hide, 0.001 Wh; None where nobody knows it.
        by: who says that an epoch changes, `agent` or a person.
        balance_ms: how often the deltas are summed up: a day, or an hour where the platform cannot ask.
        closed: lists the epochs of a meter that ended lately, where the platform cannot ask; None where it can.
    """
    match outcome:
        case Opened(None, after, _):
            return after
        case Opened(before, after, reason):
            assert before is not None
            portion.events.extend(_balance_of(before, closed))
            portion.events.append(_epoch_opening(before, after, reason, bound, by))
            return after
        case Advanced(_, after):
            portion.deltas.append(_delta_of(outcome, description, flags, interval_ms))
            if not _was_dark(outcome, flags):
                portion.events.extend(_gap_of(outcome, interval_ms))
            if after.run is None or not _ends_run(outcome, after.run.day, balance_ms):
                return after
            portion.events.extend(_balance_of(after, closed))
            return replace(after, run=None)


def renamed_from(heads: Mapping[str, Head], present: Collection[str], point: Point) -> Head | None:
    """The position of a meter that has left the site, if a new id's first reading is of the same meter by its number.

    Args:
        heads: the positions of all meters ever read.
        present: the ids of the site now; one that is still there was not renamed.
        point: the first reading under the new id.
    """
    serial = point.basis.serial
    if serial is None:
        return None
    former = [head for id, head in heads.items() if id not in present and head.basis.serial == serial]
    return former[0] if len(former) == 1 else None


def continuation_of(former: Head, point: Point) -> Event:
    """That a known meter goes on under another id."""
    assert point.basis.serial is not None
    return continuation_event(
        point.at_ms, meter_from=former.meter, meter_to=point.meter, serial=point.basis.serial
    )


def _delta_of(
    advanced: Advanced, description: MeterDescription, flags: frozenset[str], interval_ms: int
) -> Delta:
    """The wire form of an advance under the meter's description at that time."""
    before, head = advanced.before, advanced.head
    q = set(flags) - {DARK, SETTLED, ROLLED}
    if before.suspect:
        q.add("suspect")
    if head.n == 1:
        q.add("first")
    if advanced.roll_milliwh is not None:
        q.add("roll")
    if misses_boundaries(before.cut_ms, head.cut_ms, interval_ms) and not _was_dark(advanced, flags):
        q.add("gap")
    return Delta(
        meter=head.meter,
        step=description.step,
        epoch=head.epoch,
        n=head.n,
        start_ms=before.at_ms,
        end_ms=head.at_ms,
        reg_start=before.register_milliwh,
        reg_end=head.register_milliwh,
        delta=advanced.delta_milliwh,
        roll=advanced.roll_milliwh,
        q=tuple(sorted(q)),
    )


def _ends_run(advanced: Advanced, day: int, balance_ms: int) -> bool:
    """Whether a run of deltas ends here: with the day in which it began, or where a shorter stretch of time does."""
    before, after = advanced.before.cut_ms, advanced.head.cut_ms
    return after // DAY_MS > day or (balance_ms < DAY_MS and after // balance_ms > before // balance_ms)


def _was_dark(advanced: Advanced, flags: frozenset[str]) -> bool:
    """Whether the meter was without power because its circuit was: that it counted nothing is known, and no gap."""
    return DARK in flags and not advanced.delta_milliwh


def _gap_of(advanced: Advanced, interval_ms: int) -> list[Event]:
    """The event that names the boundaries at which a meter could not be read, if there were any."""
    before, head = advanced.before, advanced.head
    if not misses_boundaries(before.cut_ms, head.cut_ms, interval_ms):
        return []
    reason = "no reading at one or more boundaries; energy exact, profile unknown"
    return [gap_event(head.at_ms, meter=head.meter, from_ms=before.at_ms, to_ms=head.at_ms, reason=reason)]


def _balance_of(head: Head, closed: Closed | None) -> list[Event]:
    """The sum of the deltas since the last balance, at the end of a day or of an epoch (rule V5)."""
    run = head.run
    if run is None:
        return []
    total = head.register_milliwh - run.register_milliwh + run.roll_milliwh
    return [
        balance_event(
            head.at_ms,
            meter=head.meter,
            epoch=head.epoch,
            n_first=run.n_first,
            n_last=head.n,
            reg_first=run.register_milliwh,
            reg_last=head.register_milliwh,
            sum_milliwh=total,
            roll=run.roll_milliwh,
            closed=None if closed is None else closed(head.meter),
        )
    ]


def _epoch_opening(before: Head, after: Head, reason: str, bound: int | None, by: str) -> Event:
    """The event of an epoch change, with the hole between its two registers declared."""
    return epoch_event(
        after.at_ms,
        meter=after.meter,
        epoch_from=before.epoch,
        epoch_to=after.epoch,
        last=before.register_milliwh,
        first=after.register_milliwh,
        serial_from=before.basis.serial,
        serial_to=after.basis.serial,
        reason=reason,
        unmetered_from_ms=before.at_ms,
        unmetered_to_ms=after.at_ms,
        bound=bound,
        by=by,
    )
