"""The journal's port: what is kept, and the few things the stages do with it.

The journal is where the stages meet. A boundary reading, its deltas and the sealed batch are one transaction, so there
is no state in between: after a crash every stage simply finds the rows it has not dealt with yet. The position of
everything (chain, sequence, heads, acknowledgement) is read from the journal each time and never kept in memory past a
transaction, because a failed commit is unknown, not undone.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from agent.errors import JournalDamaged
from agent.metering.ledger import Head, Point
from agent.reporting.chain import ChainHead
from agent.service.clocking import ClockRecords
from agent.service.closedepochs import EpochRecords
from agent.service.gatekeeping import GateRecords
from agent.service.statements import StatementRecords

T = TypeVar("T")


class Standing(StrEnum):
    """Whether the agent may speak for its meters."""

    NORMAL = "normal"
    ASKING = "asking"
    """The platform's head cannot be followed: it is asked for its heads; sealing goes on, publishing does not."""
    CONFIRMING = "confirming"
    """The journal may be an old copy under a changed site file: nothing is sealed either until the heads came."""


@dataclass(frozen=True, slots=True)
class State:
    """The one row that says where this journal stands.

    `chain`, `seq` and `hash` are the own head, all None/0 before the first batch. `acked` is the platform's head by
    its newest acknowledgement, `acked_at_ms` that one's `stored_at`. `site_sha256` is the site file applied last,
    `owner` who speaks to whom ("org/agent to audience"); both None before the first start.
    """

    chain: str | None = None
    seq: int = 0
    hash: str | None = None
    standing: Standing = Standing.NORMAL
    gen: int = 0
    ack_no: int = 0
    acked: ChainHead | None = None
    acked_at_ms: int = 0
    site_sha256: str | None = None
    clean: bool = True
    owner: str | None = None

    @property
    def head(self) -> ChainHead | None:
        """The last batch that was sealed."""
        return None if self.chain is None or self.hash is None else ChainHead(self.chain, self.seq, self.hash)


@dataclass(frozen=True, slots=True)
class Reading:
    """A point of the ledger with what it was made of. Never changed, deleted only by retention.

    `words` are the raw words as they were read; with the profile that the descriptor `cfg` names they give the counts
    again.
    """

    point: Point
    words: tuple[int, ...]
    cfg: str


@dataclass(frozen=True, slots=True)
class Start:
    """The first of a meter's own readings that a restored chain tells; `opens` if it opens an epoch there."""

    at_ms: int
    cut_ms: int
    register_milliwh: int
    cfg: str
    opens: bool


@dataclass(frozen=True, slots=True)
class Retelling:
    """How far a restored chain has told what the own registers did.

    `told` is the number of the last reading that was looked at, `in_force` the hash of the descriptor that ends the
    tale, `carried` those that the chain has carried. A meter in `starts` is told from that reading on, not at all for
    None; one that is absent there from the first reading that comes.
    """

    told: int
    in_force: str
    carried: frozenset[str]
    starts: Mapping[str, Start | None]


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """One signed batch as it is sent, with what the journal has to find it by.

    `prev` and `prev_chain` are those of the payload; `energy_milliwh` is the sum of its deltas. `last_reading` is the
    number of the newest reading that it and those before it tell; the newest of all for None.
    """

    head: ChainHead
    prev: str
    prev_chain: ChainHead | None
    sealed_ms: int
    energy_milliwh: int
    jws: bytes
    last_reading: int | None = None


@dataclass(frozen=True, slots=True)
class KeptBatch:
    """A batch in the journal. `ordinal` orders all batches; `jws` is None once it was purged.

    `stored_ms` is the platform's `stored_at` that covered it, None while it is unacknowledged. `superseded` batches
    were sealed while the platform could not be followed; a later chain tells their energy, they are never sent.
    """

    ordinal: int
    head: ChainHead
    prev: str
    prev_chain: ChainHead | None
    sealed_ms: int
    stored_ms: int | None
    superseded: bool
    jws: bytes | None

    def sealed_text(self) -> bytes:
        """What was sealed, to be sent. Raises JournalDamaged where it is gone: what waits is never purged."""
        if self.jws is None:
            raise JournalDamaged(f"batch {self.head.chain}/{self.head.seq} in the journal has lost its text")
        return self.jws


@dataclass(frozen=True, slots=True)
class KeptDescriptor:
    """A signed meter map."""

    hash: str
    rev: int
    jws: bytes


@dataclass(frozen=True, slots=True)
class KeptAcknowledgement:
    """A receipt of the platform: the newest of its `day`, by `stored_at`, in whole days since 1970."""

    day: int
    gen: int
    ack_no: int
    stored_ms: int
    jws: bytes


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A signing key took over. `since` is the batch whose `key-rotate` event brought it, None where none did."""

    kid: str
    jwk: Mapping[str, str]
    since: ChainHead | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is unacknowledged, as bytes of the file, and the room there is.

    `bytes` is the part of the file that unacknowledged batches and their readings take, `for_ms` how long they were
    sealed for, `interval_bytes` what one interval adds (0 if nobody knows yet). `used_bytes` is all that the file
    holds, `budget_bytes` the most it may hold; None where there is no budget.
    """

    bytes: int
    for_ms: int
    interval_bytes: int
    used_bytes: int
    budget_bytes: int | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the platform has not acknowledged yet. `since_ms` is when the oldest was sealed."""

    batches: int
    energy_milliwh: int
    since_ms: int | None


class Journal(GateRecords, ClockRecords, StatementRecords, EpochRecords, Protocol):
    """The SQLite file, or something that keeps its promises. Not thread-safe: one owner.

    Any method may raise JournalFull (nothing was changed; the next interval spans this one) or JournalDamaged (the
    process has to end and read the file anew).
    """

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing; on disk when the block is left without an exception."""

    def state(self) -> State:
        """Where the journal stands."""

    def save_state(self, state: State) -> None:
        """Replace it."""

    def heads(self) -> dict[str, Head]:
        """The ledger's position of every meter ever read."""

    def save_head(self, head: Head) -> None:
        """Move one meter's position; only in a transaction."""

    def drop_head(self, meter: str) -> None:
        """Forget one meter's position: its next reading is the first of it. Only in a transaction."""

    def retelling(self) -> Retelling | None:
        """What a restored chain has still to tell; None where nothing is."""

    def save_retelling(self, retelling: Retelling | None) -> None:
        """Replace it."""

    def add_reading(self, reading: Reading) -> None:
        """Keep a reading; only in a transaction. One that opens an epoch stays for ever, and so does the one before."""

    def readings(self, meter: str, *, after: Head | None, limit: int | None = None) -> list[Reading]:
        """The meter's readings from a position on, oldest first; all of them for None, at most `limit`.

        They begin with the reading of just this time and register; none where there is no such reading.
        """

    def boundaries(self, *, after: int, limit: int) -> list[tuple[int, list[Reading]]]:
        """All meters' readings after a number, by boundary, each with the number of its last one; oldest first."""

    def boundary_before(self, meter: str, at_ms: int, register_milliwh: int) -> int:
        """The number of the last reading of the boundary before the one at which this reading was made; 0 if none."""

    def last_reading(self) -> int:
        """The number of the newest reading, 0 if there is none."""

    def readings_unacknowledged(self, meter: str) -> tuple[Reading | None, list[Reading]]:
        """The meter's last reading that is in a batch the platform has acknowledged, and those after it, oldest first.

        By the numbers of readings and batches, never by time. Where a platform was put back to before a batch that was
        purged here, that batch still counts as acknowledged.
        """

    def readings_around(self, meter: str, at_ms: int) -> tuple[Reading | None, Reading | None]:
        """The first reading at or after a time, and the one before it; None where there is none.

        Found by halving, like `ordinal_sealed_by` and with the same limits where the clock was set back. Between the
        two others may have been, which retention removed.
        """

    def add_descriptor(self, descriptor: KeptDescriptor) -> None:
        """Keep a descriptor, for ever."""

    def descriptor(self, hash: str) -> KeptDescriptor | None:
        """A descriptor by its hash."""

    def latest_descriptor(self) -> KeptDescriptor | None:
        """The one with the highest revision."""

    def descriptors(self) -> list[KeptDescriptor]:
        """All of them, the oldest revision first."""

    def append_batch(self, batch: SealedBatch) -> None:
        """Keep a sealed batch as the new end of the queue."""

    def batch(self, head: ChainHead) -> KeptBatch | None:
        """The batch at exactly this chain, sequence and hash."""

    def chains_after(self, head: ChainHead | None) -> frozenset[str] | None:
        """Whether the platform's head can be followed, and through which chains.

        The chains of all batches that follow `head`: from the one whose `prev` or `prev_chain` is `head` to the own
        head, superseded ones left out, each following the one before. Empty if `head` is the own head. None if
        that run of batches is not all kept.
        """

    def queue(self, *, after_ordinal: int, limit: int) -> list[KeptBatch]:
        """Unacknowledged batches in their order, oldest first, with their text."""

    def batches_of(self, chain: str, seq_from: int, seq_to: int, *, limit: int) -> list[KeptBatch]:
        """Unacknowledged batches of a part of a chain whose text is kept, oldest first, superseded ones left out."""

    def waiting_up_to(self, ordinal: int) -> int:
        """How many unacknowledged batches there are up to and including this one."""

    def mark_stored(self, up_to: ChainHead, stored_ms: int) -> None:
        """The platform's acknowledged head covers this batch and all before it."""

    def date_stored(self, before_ms: int, stored_ms: int) -> None:
        """What is dated before `before_ms`, when no clock was right, is dated `stored_ms` instead."""

    def forget_stored(self) -> None:
        """The platform was restored from an older backup: nothing counts as acknowledged."""

    def supersede_after(self, head: ChainHead | None) -> None:
        """A new chain begins behind `head`: unacknowledged batches after it are never sent again.

        Where `head` is not an own batch, all unacknowledged ones.
        """

    def refuse_chain(self, chain: str) -> None:
        """Remember, for ever, that the platform refused a chain."""

    def refused_chains(self) -> frozenset[str]:
        """All chains that were ever refused."""

    def keep_acknowledgement(self, jws: bytes, gen: int, ack_no: int, stored_ms: int) -> None:
        """Keep the receipt: the newest of each day, by its `stored_at`, is kept for ever."""

    def purge(self, *, stored_before_ms: int) -> int:
        """Drop the text of some batches acknowledged before a time, and readings that old; their hashes stay.

        The first and last point of every epoch stay too. Never many at once, so that a transaction stays short: to be
        repeated until it returns 0. Returns the number of batches purged.
        """

    def key_uses(self) -> list[KeyUse]:
        """The keys that signed, in the order in which they took over; the last one is in force."""

    def signing_kid(self) -> str | None:
        """The thumbprint of the key in force; None before the first start."""

    def add_key_use(self, use: KeyUse) -> None:
        """Another key takes over."""

    def add_courier_session(self, session: str, at_ms: int) -> None:
        """Remember a question that leaves on a stick; the oldest of many are forgotten."""

    def has_courier_session(self, session: str) -> bool:
        """Whether this question was asked by stick."""

    def oldest_stored_ms(self) -> int | None:
        """When the batch was acknowledged that `purge` would drop first; None if none is both kept and acknowledged."""

    def waiting(self) -> Waiting:
        """How much of the file what is unacknowledged takes, and for how long."""

    def make_room(self) -> bool:
        """The file system is full: give up what is held back for the first deletion. False if there is nothing left."""

    def keep_room(self) -> None:
        """Hold something back again, where there is room for it."""

    def backlog(self) -> Backlog:
        """What is still to be acknowledged."""

    def oldest(self) -> KeptBatch | None:
        """The oldest batch whose text is kept."""

    def ordinal_sealed_by(self, wall_ms: int) -> int:
        """The ordinal of the last batch sealed at or before a time; 0 if there is none.

        Found by halving, without reading all rows. Where the clock was set back it is one of the places at which
        the clock stood at that time: the order of batches is never that of their times.
        """

    def ordinal_of(self, head: ChainHead) -> int | None:
        """The ordinal of exactly this batch, purged or not; None if it is not in the journal."""

    def last_ordinal(self) -> int:
        """The ordinal of the newest batch, 0 if there is none."""

    def batches_between(self, *, after_ordinal: int, up_to_ordinal: int, limit: int) -> list[KeptBatch]:
        """All batches of a stretch in their order, at most `limit`: also purged and superseded ones."""

    def acknowledgements(self, *, after_day: int, limit: int) -> list[KeptAcknowledgement]:
        """The receipts of later days, at most `limit`, oldest first."""


class Storage(Protocol):
    """Runs work on the journal, one piece after the other, off the event loop."""

    async def run(self, work: Callable[[Journal], T]) -> T:
        """Do the work and give its result; its exceptions come through."""
