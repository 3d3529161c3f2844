"""Intervals: stretches (start, end] of equal length, named by their end, aligned to the UTC day.

Boundaries only say *when to read*. Energy never depends on them: a delta carries the real times of its two readings.

How long it was between two readings is a question of its own. The labels of a wall clock do not answer it where
somebody has set that clock; the time since the machine was started does, for as long as it runs (decision 0016).
"""

from dataclasses import dataclass
from typing import Protocol

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
EARLIEST_MS = 1_735_689_600_000
"""2025: this agent did nothing before. An earlier time was told by a clock that knew none."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known of a time beside its label.

    `boot` names a start of the machine and `up_ms` is the time since then, in ms, sleep included; both None where the
    kernel would not say. `err_ms` is how wrong the label may be, None where the clock did not know the time.
    """

    boot: str | None
    up_ms: int | None
    err_ms: int | None


class Timed(Protocol):
    """Something that happened at a time: `at_ms` is its label, `when` what is known beside it (None: the label is)."""

    @property
    def at_ms(self) -> int:
        """Label of the wall clock, UTC Unix ms."""

    @property
    def when(self) -> Moment | None:
        """What is known beside the label."""


def has_trusted_label(one: Timed) -> bool:
    """Whether the clock knew the time when it labelled this."""
    return one.when is None or one.when.err_ms is not None


def elapsed_ms(before: Timed, after: Timed) -> int | None:
    """The longest that it can have been between two times, ms, >= 0; None where nobody knows.

    Within one start of the machine that is measured. Across a restart it is the difference of the labels, with their
    errors, if the clock knew the time at both and the difference is one of a clock that goes forward.
    """
    measured = _measured_ms(before.when, after.when)
    if measured is not None:
        return measured
    if not (has_trusted_label(before) and has_trusted_label(after)) or after.at_ms < before.at_ms:
        return None
    errors = [when.err_ms or 0 for when in (before.when, after.when) if when is not None]
    return after.at_ms - before.at_ms + sum(errors)


def label_by(one: Timed, later: Timed) -> tuple[int, int] | None:
    """The label that a later clock of the same start gives to a time, and how wrong it may be, ms; None if it cannot.

    A machine that was started without a clock learns the time, and with it when its first readings were made.
    """
    since_ms = _measured_ms(one.when, later.when)
    if since_ms is None or later.when is None or later.when.err_ms is None:
        return None
    return later.at_ms - since_ms, later.when.err_ms


def _measured_ms(before: Moment | None, after: Moment | None) -> int | None:
    """The time between two moments of one start of the machine; None for any other two."""
    if before is None or after is None or before.boot is None or before.boot != after.boot:
        return None
    if before.up_ms is None or after.up_ms is None or after.up_ms < before.up_ms:
        return None
    return after.up_ms - before.up_ms


def next_boundary(at_ms: int, length_ms: int) -> int:
    """The first boundary strictly after a UTC Unix time; `length_ms` divides a day."""
    return (at_ms // length_ms + 1) * length_ms


def misses_boundaries(from_ms: int, to_ms: int, length_ms: int) -> bool:
    """Say whether a delta between two cuts spans a boundary at which its meter was not read.

    Args:
        from_ms: the boundary, or the moment of a start or stop, for which the first register was read.
        to_ms: the same of the second register.
        length_ms: length of the interval.
    """
    return next_boundary(from_ms, length_ms) < to_ms
