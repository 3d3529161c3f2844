"""Readings that are not believed at once, and what it takes until they are.

A rise above what the circuit can have used is read again on the spot; three readings that run on from one another book
it, flagged `rate`. A fall that is no rollover, and another serial number, wait for three readings at three boundaries
that run on from one another; then the old epoch ends and a new one begins at the first of them. A reading that goes on
from the ledger's position ends every doubt: what lay between was a misread, its energy is in the spanning delta.

Comes after `gates`, which says what one reading means, and before the ledger. Doubts live in memory: a restart begins
them anew, which costs two boundaries and never energy (design, section 7).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agent.metering.ledger import Basis, Head, Point

READS = 3
"""So many consistent readings are evidence."""

Bound = Callable[[int, int], int | None]
"""Most energy a circuit can have used between two times (UTC Unix ms), in 0.001 Wh; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Readings that run on from one another but not from the ledger's position, oldest first; at most READS."""

    points: tuple[Point, ...]

    @property
    def is_settled(self) -> bool:
        """Whether they are evidence of a new epoch."""
        return len(self.points) >= READS


def runs_on(before: Point, after: Point, bound: Bound) -> bool:
    """Whether one reading can follow another of the same meter: it did not fall, nor rise more than it can."""
    if not same_meter(before.basis, after.basis) or after.register_milliwh < before.register_milliwh:
        return False
    return not _exceeds(after.register_milliwh - before.register_milliwh, before.at_ms, after.at_ms, bound)


def _exceeds(rise_milliwh: int, from_ms: int, to_ms: int, bound: Bound) -> bool:
    """Whether a rise is more than can be; a clock that was set back says nothing of how long it really took."""
    most = bound(from_ms, to_ms)
    return to_ms >= from_ms and most is not None and rise_milliwh > most


def same_meter(one: Basis, other: Basis) -> bool:
    """Whether nothing says that these are two meters: equal serial numbers, or one of them unknown."""
    return one.serial is None or other.serial is None or one.serial == other.serial


def rises_too_fast(head: Head, point: Point, bound: Bound) -> bool:
    """Whether the register rose by more than the circuit can have used since the ledger's position."""
    return _exceeds(point.register_milliwh - head.register_milliwh, head.at_ms, point.at_ms, bound)


def is_confirmed(reads: Sequence[Point], bound: Bound) -> bool:
    """Whether readings made one right after the other are evidence: enough of them, each running on from the last."""
    return len(reads) >= READS and all(runs_on(before, after, bound) for before, after in pairwise(reads))


def add(doubt: Doubt | None, point: Point, bound: Bound) -> Doubt:
    """The doubt with one more reading; it begins anew where the reading does not run on from the last."""
    if doubt is not None and runs_on(doubt.points[-1], point, bound):
        return Doubt((*doubt.points, point)[-READS:])
    return Doubt((point,))
