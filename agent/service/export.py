"""What an auditor takes away: the evidence of a period, line by line, in the order in which it is read.

The journal is walked page by page, each page a short piece of work, so that a running agent goes on sealing in between
and memory stays the same for an hour and for ten years. Nothing is made here: every line is a message as it was signed
and stored. A descriptor stands before the first batch that needs it, a receipt of the platform behind the batch that it
names. What was purged is given as its hash; what was superseded by a restored chain is left out and counted.

An export has to stand on its own: its beginning is moved back to the last batch that a receipt of the platform names,
so that the receipt proves what came before (a day at most, since one receipt of each day is kept).

Before this come the journal and a period; after it the control socket, which carries the lines, and the command
`export`, which writes the files.
"""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from agent.errors import JournalDamaged
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.chain import ChainHead
from agent.reporting.utc import MS_MAX
from agent.reporting.wire import WireError
from agent.service.journal import Journal, KeptBatch, Storage

PAGE = 100
"""Batches that are read at once: 7 ms for 100 of 26 deltas where this was written, so long a seal may have to wait."""
RECEIPTS_PAGE = 200


@dataclass(frozen=True, slots=True)
class Period:
    """Batches sealed after `from_ms` and not after `to_ms`, UTC Unix ms; None is without a limit."""

    from_ms: int | None = None
    to_ms: int | None = None

    def to_arguments(self) -> dict[str, object]:
        """As it goes over the control socket."""
        return {"from_ms": self.from_ms, "to_ms": self.to_ms}

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, object]) -> "Period":
        """Read it back. Raises ValueError for anything but times."""
        return cls(_time(arguments.get("from_ms")), _time(arguments.get("to_ms")))


def _time(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MS_MAX:
        raise ValueError("a time is whole milliseconds since 1970")
    return value


@dataclass(frozen=True, slots=True)
class Opening:
    """Where the journal stood when the export began.

    `own` and `acknowledged` are the newest batch and the newest that the platform acknowledged. `after` is the batch
    that precedes the first one given, None where nothing does. `proved` says whether a receipt in the export names
    `after`, or nothing had to be proved. `rewound` counts the batches before the period that were added for that.
    """

    own: ChainHead | None
    acknowledged: ChainHead | None
    after: ChainHead | None
    proved: bool
    rewound: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """One signed message, exactly as it was stored."""

    jws: bytes


@dataclass(frozen=True, slots=True)
class Purged:
    """A batch of which only the hash is left, because the platform has it and its retention time is over."""

    head: ChainHead
    stored_ms: int | None


@dataclass(frozen=True, slots=True)
class Closing:
    """The export is complete. `superseded` batches were sealed, never sent, and are told by a later chain."""

    batches: int
    purged: int
    superseded: int


@dataclass(frozen=True, slots=True)
class KeysUsed:
    """The public keys (JWK) that ever signed for this journal, oldest first: an auditor of old evidence needs old keys.

    They are what the journal says and prove nothing by themselves.
    """

    jwks: tuple[Mapping[str, str], ...]


Item = Opening | Evidence | Purged | KeysUsed | Closing


@dataclass(slots=True)
class _Plan:
    """Which batches, and behind which of them a receipt stands: ordinals."""

    first: int
    last: int
    receipts: dict[int, int]
    """Day of the receipt by the ordinal of the batch that it names; 0 for the batch before the first."""
    opening: Opening


@dataclass(slots=True)
class Pager:
    """Gives the export in pages; each call is one short piece of work on the journal."""

    period: Period
    page_size: int = PAGE
    _plan: _Plan | None = None
    _ordinal: int = 0
    _told: set[str] = field(default_factory=set)
    _batches: int = 0
    _purged: int = 0
    _superseded: int = 0
    _done: bool = False

    def page(self, journal: Journal) -> list[Item]:
        """The next items; an empty list once the closing was given.

        Raises JournalDamaged where a batch cannot be read.
        """
        if self._done:
            return []
        if self._plan is None:
            self._plan = _plan(journal, self.period)
            self._ordinal = self._plan.first - 1
            return [self._plan.opening, *self._receipt(journal, self._plan, 0)]
        rows = journal.batches_between(
            after_ordinal=self._ordinal, up_to_ordinal=self._plan.last, limit=self.page_size
        )
        if not rows:
            self._done = True
            keys = {use.kid: use.jwk for use in journal.key_uses()}
            return [KeysUsed(tuple(keys.values())), Closing(self._batches, self._purged, self._superseded)]
        self._ordinal = rows[-1].ordinal
        return [item for row in rows for item in self._items(journal, self._plan, row)]

    def _items(self, journal: Journal, plan: _Plan, row: KeptBatch) -> list[Item]:
        if row.superseded:
            self._superseded += 1
            return []
        receipt = self._receipt(journal, plan, row.ordinal)
        if row.jws is None:
            self._purged += 1
            return [Purged(row.head, row.stored_ms), *receipt]
        self._batches += 1
        return [*self._descriptors(journal, row, row.jws), Evidence(row.jws), *receipt]

    def _descriptors(self, journal: Journal, row: KeptBatch, jws: bytes) -> list[Item]:
        """The descriptor in force, and the one to which the first batch of a chain is tied, where not given yet."""
        needed = [row.prev] if row.head.seq == 1 else []
        cfg = payload_of(jws).get("cfg")
        needed += [cfg] if isinstance(cfg, str) else []
        items: list[Item] = []
        for hash_ in needed:
            if hash_ not in self._told:
                self._told.add(hash_)
                kept = journal.descriptor(hash_)
                items += [Evidence(kept.jws)] if kept is not None else []
        return items

    @staticmethod
    def _receipt(journal: Journal, plan: _Plan, ordinal: int) -> list[Item]:
        day = plan.receipts.get(ordinal)
        if day is None:
            return []
        return [Evidence(kept.jws) for kept in journal.acknowledgements(after_day=day - 1, limit=1)]


def payload_of(jws: bytes) -> dict[str, object]:
    """The payload of a message of our own journal, verified when it came or was made. Raises JournalDamaged."""
    try:
        text = jws.split(b".")[1]
        payload = json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
        return dict(payload)
    except (IndexError, TypeError, ValueError) as error:
        raise JournalDamaged(f"a stored message cannot be read: {error}") from error


def _plan(journal: Journal, period: Period) -> _Plan:
    state = journal.state()
    wanted = 1 + (journal.ordinal_sealed_by(period.from_ms) if period.from_ms is not None else 0)
    last = journal.last_ordinal() if period.to_ms is None else journal.ordinal_sealed_by(period.to_ms)
    if wanted > last:
        return _Plan(wanted, last, {}, Opening(state.head, state.acked, None, True, 0))
    receipts = _receipts(journal)
    by_ordinal = _by_ordinal(journal, receipts)
    first = 1 + max((ordinal for ordinal in by_ordinal if ordinal < wanted), default=wanted - 1)
    after = _before(journal, first, last)
    named = {ordinal: day for ordinal, day in by_ordinal.items() if first <= ordinal <= last}
    if after is not None and after in receipts and journal.ordinal_of(after) not in named:
        named[0] = receipts[after]
    proved = after is None or after in receipts
    return _Plan(first, last, named, Opening(state.head, state.acked, after, proved, wanted - first))


def _receipts(journal: Journal) -> dict[ChainHead | None, int]:
    """The batches that receipts name, with the day of the newest receipt that does."""
    found: dict[ChainHead | None, int] = {}
    day = -1
    while rows := journal.acknowledgements(after_day=day, limit=RECEIPTS_PAGE):
        day = rows[-1].day
        for row in rows:
            found[_named(row.jws)] = row.day
    found.pop(None, None)
    return found


def _named(receipt: bytes) -> ChainHead | None:
    """The batch that a receipt names; None where the platform held nothing."""
    try:
        return Acknowledgement.from_payload(payload_of(receipt)).head
    except WireError as error:
        raise JournalDamaged(f"a stored receipt cannot be read: {error}") from error


def _by_ordinal(journal: Journal, receipts: Mapping[ChainHead | None, int]) -> dict[int, int]:
    found = ((journal.ordinal_of(head), day) for head, day in receipts.items() if head is not None)
    return {ordinal: day for ordinal, day in found if ordinal is not None}


def _before(journal: Journal, first: int, last: int) -> ChainHead | None:
    """The batch that precedes the first one which is given with its text; None where nothing precedes it."""
    oldest = journal.oldest()
    ordinal = max(first, oldest.ordinal if oldest is not None else first) - 1
    while rows := journal.batches_between(after_ordinal=ordinal, up_to_ordinal=last, limit=1):
        row = rows[0]
        if not row.superseded:
            follows = ChainHead(row.head.chain, row.head.seq - 1, row.prev)
            return row.prev_chain if row.head.seq == 1 else follows
        ordinal = row.ordinal
    return None


# ------------------------------------------------------------------------------------- over the control socket


async def lines_of(storage: Storage, period: Period) -> AsyncIterator[bytes]:
    """The export as lines, a page at a time, for the control socket; ends with an error where that is how it ends."""
    pager = Pager(period)
    try:
        while items := await storage.run(pager.page):
            for item in items:
                yield to_line(item)
    except JournalDamaged as error:
        yield json.dumps({"error": str(error)}).encode()


def to_line(item: Item) -> bytes:
    """One item as a line: a message as it is, everything else as a JSON object."""
    match item:
        case Evidence(jws):
            return jws
        case Purged(head, stored_ms):
            body: dict[str, object] = {"purged": {**head.to_payload(), "stored_ms": stored_ms}}
        case Opening(own, acknowledged, after, proved, rewound):
            body = {
                "opening": {
                    "own": _payload(own),
                    "acknowledged": _payload(acknowledged),
                    "after": _payload(after),
                    "proved": proved,
                    "rewound": rewound,
                }
            }
        case KeysUsed(jwks):
            body = {"keys": [dict(jwk) for jwk in jwks]}
        case Closing(batches, purged, superseded):
            body = {"closing": {"batches": batches, "purged": purged, "superseded": superseded}}
    return json.dumps(body).encode()


def from_line(line: bytes) -> Item:
    """Read a line back.

    Raises:
        ValueError: it is none of ours; an agent that answers with an error says so in this text.
    """
    if not line.startswith(b"{"):
        return Evidence(line)
    body = json.loads(line)
    match body:
        case {"purged": {"stored_ms": stored_ms} as head}:
            return Purged(ChainHead.from_payload(head, "purged"), _time(stored_ms))
        case {
            "opening": {
                "own": own,
                "acknowledged": acked,
                "after": after,
                "proved": proved,
                "rewound": rewound,
            }
        }:
            return Opening(_head(own), _head(acked), _head(after), proved is True, _count(rewound))
        case {"keys": [*jwks]}:
            return KeysUsed(tuple(_jwk(jwk) for jwk in jwks))
        case {"closing": {"batches": batches, "purged": purged, "superseded": superseded}}:
            return Closing(_count(batches), _count(purged), _count(superseded))
        case {"error": str(reason)}:
            raise ValueError(reason)
    raise ValueError(f"not a line of an export: {line[:80]!r}")


def _payload(head: ChainHead | None) -> dict[str, object] | None:
    return None if head is None else head.to_payload()


def _head(value: object) -> ChainHead | None:
    return None if value is None else ChainHead.from_payload(value, "head")


def _jwk(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(member, str) for member in value.values()):
        raise ValueError("a public key of the journal is no JWK")
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a number of things")
    return value
