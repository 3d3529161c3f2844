"""The times that a file tells, and beside them what `clock` events say they should have been.

A stretch of batches sealed without the time is kept as its first and last told time, nothing of each batch, so that
memory grows with the settings of a clock and never with the file. Whoever shows a period shows the told one, as it was
signed, and the corrected one beside it. Comes after the batches were placed; its result is a part of the report.
"""

from dataclasses import dataclass

from agent.reporting.batch import CLOCK, UNKNOWN, Batch
from agent.reporting.relabel import Relabelling, corrected, relabellings

JUMP_MS = 3_600_000
"""Told times of neighbouring batches that lie further apart, or go back, belong to two settings of a clock."""

Span = tuple[int, int]
"""First and last time, UTC Unix ms."""


@dataclass(frozen=True, slots=True)
class Relabelled:
    """A stretch of batches whose times were wrong: as told, as they should have been, and how wrong that may be."""

    chain: str
    seq_from: int
    seq_to: int
    told_ms: Span
    right_ms: Span
    err_ms: int


@dataclass(slots=True)
class _Stretch:
    chain: str
    seq_from: int
    seq_to: int
    told_ms: Span

    def takes(self, chain: str, seq: int, told_ms: Span) -> bool:
        follows = (chain, seq) == (self.chain, self.seq_to + 1)
        return follows and 0 <= told_ms[1] - self.told_ms[1] <= JUMP_MS


class ToldTimes:
    """Takes batches in the order of their chain."""

    def __init__(self) -> None:
        self._sound: Span | None = None
        self._stretches: list[_Stretch] = []
        self._known: list[Relabelling] = []

    def take(self, batch: Batch) -> None:
        """A batch was placed."""
        self._known += relabellings(batch)
        if not batch.deltas:
            return
        times = [time for delta in batch.deltas for time in (delta.start_ms, delta.end_ms)]
        told = min(times), max(times)
        if batch.clock.sync != UNKNOWN and not any(CLOCK in delta.q for delta in batch.deltas):
            self._sound = _wider(self._sound, told)
            return
        ends = max(delta.end_ms for delta in batch.deltas)
        mine = min(delta.end_ms for delta in batch.deltas), ends
        last = self._stretches[-1] if self._stretches else None
        if last is not None and last.takes(batch.chain, batch.seq, mine):
            last.seq_to, last.told_ms = batch.seq, _wider(last.told_ms, mine)
        else:
            self._stretches.append(_Stretch(batch.chain, batch.seq, batch.seq, mine))

    def relabelled(self) -> tuple[Relabelled, ...]:
        """The stretches of which the right time is known, in the order of the chain."""
        found = []
        for each in self._stretches:
            right = [corrected(told, each.chain, each.seq_to, self._known) for told in each.told_ms]
            if right[0] is not None and right[1] is not None:
                span = right[0].at_ms, right[1].at_ms
                found.append(
                    Relabelled(each.chain, each.seq_from, each.seq_to, each.told_ms, span, right[1].err_ms)
                )
        return tuple(found)

    def right_period(self) -> Span | None:
        """From when to when, with the corrected times where they are known; None where nothing was corrected."""
        found = self.relabelled()
        if not found:
            return None
        known = {(each.chain, each.seq_from) for each in found}
        period = self._sound
        for each in found:
            period = _wider(period, each.right_ms)
        for stretch in self._stretches:
            if (stretch.chain, stretch.seq_from) not in known:
                period = _wider(period, stretch.told_ms)
        return period


def _wider(span: Span | None, other: Span) -> Span:
    return other if span is None else (min(span[0], other[0]), max(span[1], other[1]))
