"""The platform's signed, cumulative answer: the only thing that makes rows at the edge purgeable.

It can release or re-request what was really sent and nothing else (promise I12). Ordered by (`gen`, `ack_no`); `heads`
is what a restored edge needs to go on without losing or doubling a kWh (wire format, sections 2 and 6). Before this
comes the platform's commit, after it the edge's acknowledge stage.
"""

from dataclasses import dataclass

from agent.reporting.batch import flags_from
from agent.reporting.chain import ChainHead
from agent.reporting.utc import text_of_ms
from agent.reporting.wire import (
    ID,
    ULID,
    VERSION,
    Members,
    WireError,
    checked_integer,
    checked_match,
    checked_text,
)

NEED_MAX = 32
"""Most ranges in `need`."""

SESSION_MAX = 64
"""Longest session id, in characters."""


@dataclass(frozen=True, slots=True)
class MeterHead:
    """Where one meter stands: epoch, n (0 before the first delta), register and its time, and what gave it meaning.

    `register` and `modulus` are in 0.001 Wh; `num/den` is the ratio from one raw count to 0.001 Wh. An epoch continues
    only where ratio, modulus and serial number are equal; None never equals.

    `q` are the quality flags of the delta that ends there; `clock` says that its time is no evidence. Of an opening it
    is `clock` where the batch that told it was sealed without the time. None where the platform does not say: the
    member is an addition of ours to version 1 (decision 0016).
    """

    epoch: int
    n: int
    register: int
    end_ms: int
    num: int
    den: int
    modulus: int | None
    serial: str | None
    q: tuple[str, ...] | None = None

    def to_payload(self) -> dict[str, object]:
        """As in the member `heads`; `q` only where it is known."""
        payload: dict[str, object] = {
            "epoch": self.epoch,
            "n": self.n,
            "register": self.register,
            "end": text_of_ms(self.end_ms),
            "num": self.num,
            "den": self.den,
            "modulus": self.modulus,
            "serial": self.serial,
        }
        if self.q is not None:
            payload["q"] = list(self.q)
        return payload

    @classmethod
    def from_payload(cls, value: object, path: str = "$") -> "MeterHead":
        """Read one head. Raises WireError."""
        members = Members(value, path)
        return cls(
            epoch=members.integer("epoch", 1),
            n=members.integer("n"),
            register=members.integer("register"),
            end_ms=members.time_ms("end"),
            num=members.integer("num", 1),
            den=members.integer("den", 1),
            modulus=members.integer_or_none("modulus", 1),
            serial=members.text_or_none("serial"),
            q=flags_from(members) if members.has("q") else None,
        )


def heads_to_payload(heads: dict[str, MeterHead]) -> dict[str, object]:
    """The member `heads`, also of a status."""
    return {meter: head.to_payload() for meter, head in heads.items()}


def heads_from_payload(members: Members, name: str = "heads") -> dict[str, MeterHead] | None:
    """Read `heads`, None where it is absent or null. Raises WireError."""
    if not members.has(name) or members.is_null(name):
        return None
    return {meter: MeterHead.from_payload(value, path) for meter, value, path in members.by_id(name)}


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What the platform holds of one agent.

    `head` is the last batch taken, None while it holds nothing; everything up to it is stored, committed and checked.
    `need` asks for ranges of `seq` again, `held` names deltas in quarantine, `refused` chains that will never be
    booked, `accepts` the schema versions. `session` echoes the status that asked; then, or when a chain was refused,
    `heads` and the revision `rev` of the last descriptor are given.
    """

    org: str
    agent: str
    gen: int
    ack_no: int
    head: ChainHead | None
    stored_at_ms: int
    need: tuple[tuple[int, int], ...] = ()
    held: tuple[tuple[str, int, int], ...] = ()
    refused: tuple[str, ...] = ()
    accepts: tuple[str, ...] = (VERSION,)
    session: str | None = None
    heads: dict[str, MeterHead] | None = None
    rev: int | None = None

    @property
    def order(self) -> tuple[int, int]:
        """What orders acknowledgements: the platform's generation, then its number."""
        return self.gen, self.ack_no

    def to_payload(self) -> dict[str, object]:
        """The payload to seal; `heads` and `rev` only where they are given, `rev` also as null beside `heads`."""
        payload: dict[str, object] = {
            "v": VERSION,
            "org": self.org,
            "agent": self.agent,
            "gen": self.gen,
            "ack_no": self.ack_no,
            "chain": self.head.chain if self.head else None,
            "acked_seq": self.head.seq if self.head else None,
            "acked_hash": self.head.hash if self.head else None,
            "stored_at": text_of_ms(self.stored_at_ms),
            "need": [list(span) for span in self.need],
            "held": [list(entry) for entry in self.held],
            "refused": list(self.refused),
            "accepts": list(self.accepts),
            "session": self.session,
        }
        if self.heads is not None:
            payload["heads"] = heads_to_payload(self.heads)
        if self.heads is not None or self.rev is not None:
            payload["rev"] = self.rev
        return payload

    @classmethod
    def from_payload(cls, payload: object) -> "Acknowledgement":
        """Read a payload of which the signature was verified. Raises WireError."""
        members = Members(payload)
        members.version()
        return cls(
            org=members.identifier("org"),
            agent=members.identifier("agent"),
            gen=members.integer("gen"),
            ack_no=members.integer("ack_no"),
            head=_head(members),
            stored_at_ms=members.time_ms("stored_at"),
            need=tuple(_span(entry, path) for entry, path in members.items("need", NEED_MAX)),
            held=tuple(_held(entry, path) for entry, path in members.items("held")),
            refused=tuple(
                checked_match(entry, path, ULID, "a ULID of 26 characters")
                for entry, path in members.items("refused")
            ),
            accepts=tuple(checked_text(entry, path, 8) for entry, path in members.items("accepts")),
            session=members.text_or_none("session", SESSION_MAX) if members.has("session") else None,
            heads=heads_from_payload(members),
            rev=members.integer_or_none("rev", 1) if members.has("rev") else None,
        )


def _head(members: Members) -> ChainHead | None:
    """The acknowledged batch: all three members, or all three null."""
    nulls = [members.is_null(name) for name in ("chain", "acked_seq", "acked_hash")]
    if all(nulls):
        return None
    return ChainHead(members.ulid("chain"), members.integer("acked_seq", 1), members.hash("acked_hash"))


def _entries(value: object, path: str, count: int) -> list[object]:
    if not isinstance(value, list | tuple) or len(value) != count:
        raise WireError(path, f"must be an array of {count}")
    return list(value)


def _span(value: object, path: str) -> tuple[int, int]:
    first, last = (checked_integer(entry, path, 1) for entry in _entries(value, path, 2))
    if first > last:
        raise WireError(path, f"{first} is after {last}")
    return first, last


def _held(value: object, path: str) -> tuple[str, int, int]:
    meter, epoch, n = _entries(value, path, 3)
    return (
        checked_match(meter, path, ID, "an id"),
        checked_integer(epoch, path, 1),
        checked_integer(n, path, 1),
    )
