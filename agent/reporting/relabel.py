"""What `clock` events say of the times in sealed batches: by how much each was wrong.

A gateway without the time seals on a provisional clock and says later, in the same chain, by how much that was wrong.
Nothing sealed is ever changed for it: whoever shows a time shows the told one, and beside it what it should have been.
Several events may speak of one batch, where a clock was set more than once; their offsets add up. Comes after the
batches were verified; used by `trace` and for whoever reads evidence. Source: wire format, section 2, event `clock`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.reporting.batch import Batch
from agent.reporting.utc import MS_MAX


@dataclass(frozen=True, slots=True)
class Relabelling:
    """One `clock` event with a known offset: `offset_ms` is to be added to the times of a stretch of its chain.

    `err_ms` is how wrong the corrected time may still be, `said_in` the batch that carries the event.
    """

    chain: str
    seq_from: int
    seq_to: int
    offset_ms: int
    err_ms: int
    said_in: int

    def speaks_of(self, chain: str, seq: int) -> bool:
        """Whether the times in a batch are meant."""
        return self.chain == chain and self.seq_from <= seq <= self.seq_to


@dataclass(frozen=True, slots=True)
class Corrected:
    """What a told time should have been, UTC Unix ms; how wrong that may be, and in which batch it was said last."""

    at_ms: int
    err_ms: int
    said_in: int


def relabellings(batch: Batch) -> tuple[Relabelling, ...]:
    """What the `clock` events of a batch relabel; those that do not know by how much relabel nothing."""
    found = []
    for event in batch.events:
        offset_ms = event.body.get("offset_ms")
        if event.type == "clock" and isinstance(offset_ms, int):
            span = event.integer("seq_from"), event.integer("seq_to")
            found.append(Relabelling(batch.chain, *span, offset_ms, event.integer("err_ms"), batch.seq))
    return tuple(found)


def corrected(told_ms: int, chain: str, seq: int, known: Iterable[Relabelling]) -> Corrected | None:
    """What a time that batch (`chain`, `seq`) tells should have been; None where no `clock` event speaks of it.

    An offset is a signed number of any size; one that leads out of the years 1970 to 9999 corrects nothing, and the
    others do.

    Args:
        told_ms: the time as it was sealed, UTC Unix ms: the end of a delta, the moment of an event.
        chain: the batch's chain.
        seq: its number there.
        known: what the `clock` events of the evidence say, in the order of the chain.
    """
    right = None
    for each in known:
        at_ms = each.offset_ms + (told_ms if right is None else right.at_ms)
        if each.speaks_of(chain, seq) and 0 <= at_ms <= MS_MAX:
            right = Corrected(at_ms, each.err_ms, each.said_in)
    return right
