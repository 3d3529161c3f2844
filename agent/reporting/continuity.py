"""Whether the batches of a file are one unbroken line: every seq, every link, every successor chain.

A streaming reader of the chain rules (wire format, sections 5 and 6). It remembers the hashes of the last few thousand
batches and nothing of those before, so a file of any length is read in constant memory. A file may begin in mid-chain
(the edge purges what was acknowledged long ago); then a verified acknowledgement of the batch before proves that
nothing was cut off, or a person declares the file an excerpt. Before this comes the signature, after it the books.
"""

from collections import OrderedDict
from dataclasses import dataclass

from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.batch import Batch
from agent.reporting.chain import ChainHead, Link, link
from agent.reporting.verdict import ChainSpan, Findings, stretch

WINDOW = 4_096
"""Batches whose hash is remembered, to tell a repeat from a fork; also the most acknowledgements kept waiting."""


@dataclass(slots=True)
class _Span:
    """A stretch of one chain while it grows."""

    chain: str
    first: int
    last: ChainHead


class Continuity:
    """Places batches one after the other and says what is missing, repeated or forked."""

    def __init__(self, findings: Findings, *, excerpt: bool = False, window: int = WINDOW) -> None:
        self._findings = findings
        self._excerpt = excerpt
        self._window = window
        self._head: ChainHead | None = None
        self._start: ChainHead | None = None
        self._anchored = False
        self._spans: list[_Span] = []
        self._recent: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._promised: OrderedDict[tuple[str, int], tuple[str, int]] = OrderedDict()
        self._newest: tuple[tuple[int, int], ChainHead, int] | None = None
        self.duplicates = 0

    @property
    def begins_in_the_middle(self) -> bool:
        """Whether something precedes the file's first batch."""
        return self._start is not None

    @property
    def acknowledged(self) -> ChainHead | None:
        """The batch named by the newest verified acknowledgement."""
        return None if self._newest is None else self._newest[1]

    def spans(self) -> tuple[ChainSpan, ...]:
        """The stretches of chains, in the order of the file."""
        return tuple(ChainSpan(span.chain, span.first, span.last.seq, span.last.hash) for span in self._spans)

    def is_known(self, batch: Batch, hash: str) -> bool:
        """Whether this very batch was placed before; counts it as a duplicate if so."""
        known = self._recent.get((batch.chain, batch.seq)) == hash
        self.duplicates += known
        return known

    def place(self, line: int, batch: Batch, hash: str) -> bool:
        """Place a batch that is not known yet.

        Returns:
            whether its content counts. A batch whose place is taken, or that stands behind later ones, is named and
            left out; one after a hole is named and counts, so that the rest of the file is still checked.
        """
        fault = self._fault(batch, hash)
        if fault is not None:
            self._findings.add(line, _place(batch), fault)
        if self._is_late(batch):
            return False
        self._take(line, batch, hash)
        return True

    def _fault(self, batch: Batch, hash: str) -> str | None:
        """What is wrong with its place, None if nothing is."""
        if self._head is None:
            self._begin(batch)
            return None
        stored = self._recent.get((batch.chain, batch.seq))
        match link(self._head, batch, hash, stored):
            case Link.FOLLOWS:
                return None
            case Link.FORK if stored is not None:
                return "fork: another batch has this place, both validly signed; not counted"
            case Link.FORK:
                return f"fork: its prev is not the hash of seq {self._head.seq}, which it follows"
            case _:
                return self._hole(self._head, batch)

    def _hole(self, head: ChainHead, batch: Batch) -> str:
        if self._is_late(batch):
            return "stands behind later batches, or its chain was closed; not counted"
        if batch.chain == head.chain:
            return f"seq {stretch(head.seq + 1, batch.seq - 1)} missing"
        if batch.seq > 1:
            return f"seq {stretch(1, batch.seq - 1)} of a new chain missing"
        return f"its prev_chain is not the last batch of the chain before, {head.chain} seq {head.seq}"

    def _begin(self, batch: Batch) -> None:
        """The file's first batch: what stands before it, if anything."""
        if batch.seq > 1:
            self._start = ChainHead(batch.chain, batch.seq - 1, batch.prev)
        else:
            self._start = batch.prev_chain

    def _is_late(self, batch: Batch) -> bool:
        """Whether the chain has gone on beyond it."""
        return any(
            span.chain == batch.chain and (batch.seq <= span.last.seq or span is not self._spans[-1])
            for span in self._spans
        )

    def _take(self, line: int, batch: Batch, hash: str) -> None:
        head = ChainHead(batch.chain, batch.seq, hash)
        self._head = head
        if self._spans and self._spans[-1].chain == batch.chain:
            self._spans[-1].last = head
        else:
            self._spans.append(_Span(batch.chain, batch.seq, head))
        self._recent[batch.chain, batch.seq] = hash
        if len(self._recent) > self._window:
            self._recent.popitem(last=False)
        promised = self._promised.pop((batch.chain, batch.seq), None)
        if promised is not None and promised[0] != hash:
            self._findings.add(
                line, _place(batch), f"the acknowledgement of line {promised[1]} names another hash"
            )

    def acknowledge(self, line: int, acknowledgement: Acknowledgement) -> None:
        """Compare a verified acknowledgement with the batches, those already read or those still to come."""
        head = acknowledgement.head
        if head is None:
            return
        if self._newest is None or acknowledgement.order > self._newest[0]:
            self._newest = (acknowledgement.order, head, line)
        stored = self._recent.get((head.chain, head.seq))
        if stored is not None and stored != head.hash:
            place = f"acknowledgement of chain {head.chain}, seq {head.seq}"
            self._findings.add(line, place, "names another hash than the batch in the file")
        if head == self._start:
            self._anchored = True
        elif stored is None and not self._was_passed(head):
            self._promise(line, head)

    def _was_passed(self, head: ChainHead) -> bool:
        """Whether the file stands already beyond the batch, so that its hash was forgotten or lies before the file."""
        return any(span.chain == head.chain and head.seq <= span.last.seq for span in self._spans)

    def _promise(self, line: int, head: ChainHead) -> None:
        if len(self._promised) >= self._window:
            self._promised.popitem(last=False)
            self._findings.add(
                line,
                "acknowledgements",
                f"more than {self._window} stand before their batches; sort the file",
            )
        self._promised[head.chain, head.seq] = (head.hash, line)

    def finish(self, findings: Findings) -> None:
        """What only the end of the file shows: no batch at all, a cut beginning, a cut end."""
        if self._head is None:
            findings.add(0, "file", "holds no batch that could be placed")
            return
        if self._start is not None and not self._is_anchored(self._start) and not self._excerpt:
            findings.add(
                0,
                f"chain {self._spans[0].chain}, seq {self._spans[0].first}",
                f"the file begins here, but {self._start.chain} seq {self._start.seq} precedes it and no verified"
                " acknowledgement proves its hash",
            )
        self._find_cut_end(findings)

    def _is_anchored(self, start: ChainHead) -> bool:
        """Whether an acknowledgement, read before or after the first batch, names the batch before it."""
        promised = self._promised.get((start.chain, start.seq))
        return self._anchored or (promised is not None and promised[0] == start.hash)

    def _find_cut_end(self, findings: Findings) -> None:
        last = {span.chain: span.last.seq for span in self._spans}
        newest = None if self._newest is None else (self._newest[1].chain, self._newest[1].seq)
        for (chain, seq), (hash_, line) in self._promised.items():
            cut = seq > last[chain] if chain in last else (chain, seq) == newest
            if cut and ChainHead(chain, seq, hash_) != self._start:
                findings.add(
                    line,
                    f"chain {chain}, seq {seq}",
                    "was acknowledged by the platform and is not in the file",
                )


def _place(batch: Batch) -> str:
    return f"chain {batch.chain}, seq {batch.seq}"
