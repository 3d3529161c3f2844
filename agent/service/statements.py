"""What persons state of energy that is sealed already, and the part of the journal's port that keeps it.

A wrong CT ratio is found in month 3; a display is read; somebody explains a delta. None of that changes what was
sealed: each is an event of its own, signed, with a name on it, and readers show it apart from the energy (wire format,
section 2). What is stated waits in the journal until the next boundary seals it (`agent.service.close`). Where the
batch that told it was superseded (a journal that was put back) it is told again, as far as the deltas it names exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.metering.ledger import Head
from agent.reporting.adjustment import overlap
from agent.reporting.chain import ChainHead
from agent.reporting.event import Event


@dataclass(frozen=True, slots=True)
class Statement:
    """One event that a person states: its type and members, when it was said, and which batch (chain, seq) tells it.

    `id` is 0 before it is kept; `told` is None while it waits for a boundary.
    """

    noted_ms: int
    type: str
    body: Mapping[str, object]
    id: int = 0
    told: tuple[str, int] | None = None

    @property
    def event(self) -> Event:
        """As it stands in the chain."""
        return Event(self.type, self.noted_ms, self.body)

    def as_json(self) -> dict[str, object]:
        """For the command line: its members, its id, and the batch that tells it."""
        told = None if self.told is None else {"chain": self.told[0], "seq": self.told[1]}
        return {"id": self.id, "told": told, **self.event.to_payload()}

    def speaks_of(self, meter: str, epoch: int, n: int) -> bool:
        """Whether it names this delta."""
        body = self.body
        if self.type == "witness" or (body["meter"], body.get("epoch")) != (meter, epoch):
            return False
        first, last = ("n_from", "n_to") if self.type == "adjust" else ("n", "n")
        return self.event.integer(first) <= n <= self.event.integer(last)


class StatementRecords(Protocol):
    """What was stated. Any method may raise JournalFull or JournalDamaged."""

    def statements(self) -> list[Statement]:
        """All that was ever stated, in order; `told` is None also where the batch was superseded."""

    def add_statement(self, statement: Statement) -> int:
        """Keep it; returns its id."""

    def tell_statement(self, id: int, head: ChainHead) -> None:
        """This batch tells it."""

    def drop_statement(self, id: int) -> None:
        """It is taken back, before any batch told it."""

    def epoch_end(self, meter: str, epoch: int) -> int | None:
        """How many deltas an epoch had that has ended; None where that is not known."""


class HeadsAndStatements(StatementRecords, Protocol):
    """What has to be known to judge a statement."""

    def heads(self) -> dict[str, Head]:
        """The position of every meter ever read."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a statement is not taken: a stable code and the values of its sentence."""

    code: str
    values: Mapping[str, str]

    def as_json(self) -> dict[str, object]:
        """For the command line, which has the sentences."""
        return {"code": self.code, "values": dict(self.values)}


def objections_to(journal: HeadsAndStatements, statement: Statement) -> list[Objection]:
    """What speaks against telling a statement now: deltas that are not sealed, or an adjustment of the same deltas."""
    event = statement.event
    meter = event.text("meter")
    head = journal.heads().get(meter)
    if head is None:
        return [Objection("never-read", {"meter": meter})]
    if statement.type == "witness":
        return []
    last_wanted = event.integer("n_to" if statement.type == "adjust" else "n")
    epoch = event.integer("epoch")
    if epoch > head.epoch:
        return [Objection("no-epoch", {"meter": meter, "epoch": str(epoch), "last": str(head.epoch)})]
    last = head.n if epoch == head.epoch else journal.epoch_end(meter, epoch)
    if last is not None and last_wanted > last:
        values = {"meter": meter, "epoch": str(epoch), "n": str(last_wanted), "last": str(last)}
        return [Objection("not-sealed", values)]
    if statement.type == "adjust":
        return _overlaps(journal, statement)
    return []


def _overlaps(journal: HeadsAndStatements, statement: Statement) -> list[Objection]:
    for other in journal.statements():
        if other.type == "adjust" and other.id != statement.id and overlap(other.event, statement.event):
            n = f"{other.event.integer('n_from')}..{other.event.integer('n_to')}"
            return [Objection("overlaps", {"id": str(other.id), "n": n, "by": other.event.text("by")})]
    return []


def next_to_tell(journal: HeadsAndStatements) -> list[Statement]:
    """The statements that the coming batches can tell; others wait (their deltas are gone with a lost journal)."""
    return [each for each in journal.statements() if each.told is None and not objections_to(journal, each)]
