"""What the agent says of itself: alive or not, where its chain stands, how much waits.

Retained on the broker and also the will, so that the platform learns of a death it was not told about; a will counts
only for the connection (`session`) that left it (wire format, section 2). Before this comes the uplink's connection,
after it the platform's list of gateways and, with `need_heads`, its answer to a restored journal.
"""

from dataclasses import dataclass

from agent.reporting.acknowledgement import SESSION_MAX, MeterHead, heads_from_payload, heads_to_payload
from agent.reporting.batch import Clock
from agent.reporting.utc import text_of_ms
from agent.reporting.wire import VERSION, Members

STATES = ("online", "offline")
MODES = ("platform", "broker")
"""Who acknowledges."""


@dataclass(frozen=True, slots=True)
class Oldest:
    """The oldest batch that the journal still keeps, and the hash it follows."""

    chain: str
    seq: int
    prev: str

    def to_payload(self) -> dict[str, object]:
        """As in the member `oldest`."""
        return {"chain": self.chain, "seq": self.seq, "prev": self.prev}


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is sealed and not yet acknowledged; `since_ms` is the sealing time of its oldest batch."""

    batches: int
    milliwh: int
    since_ms: int | None

    def to_payload(self) -> dict[str, object]:
        """As in the member `backlog`."""
        since = None if self.since_ms is None else text_of_ms(self.since_ms)
        return {"batches": self.batches, "milliwh": self.milliwh, "since": since}


@dataclass(frozen=True, slots=True)
class Status:
    """One statement. `head` is (seq, hash) of the current chain; what does not exist yet is None."""

    org: str
    agent: str
    at_ms: int
    state: str
    session: str
    sw: str
    kid: str
    cfg: str | None
    chain: str | None
    head: tuple[int, str] | None
    oldest: Oldest | None
    backlog: Backlog
    clock: Clock
    mode: str
    need_heads: bool
    heads: dict[str, MeterHead] | None = None

    def to_payload(self) -> dict[str, object]:
        """The payload to seal; `heads` only where they are given (broker mode)."""
        payload: dict[str, object] = {
            "v": VERSION,
            "org": self.org,
            "agent": self.agent,
            "at": text_of_ms(self.at_ms),
            "state": self.state,
            "session": self.session,
            "sw": self.sw,
            "kid": self.kid,
            "cfg": self.cfg,
            "chain": self.chain,
            "head": None if self.head is None else {"seq": self.head[0], "hash": self.head[1]},
            "oldest": None if self.oldest is None else self.oldest.to_payload(),
            "backlog": self.backlog.to_payload(),
            "clock": self.clock.to_payload(),
            "mode": self.mode,
            "need_heads": self.need_heads,
        }
        if self.heads is not None:
            payload["heads"] = heads_to_payload(self.heads)
        return payload

    @classmethod
    def from_payload(cls, payload: object) -> "Status":
        """Read a payload of which the signature was verified. Raises WireError."""
        members = Members(payload)
        members.version()
        return cls(
            org=members.identifier("org"),
            agent=members.identifier("agent"),
            at_ms=members.time_ms("at"),
            state=members.choice("state", STATES),
            session=members.text("session", SESSION_MAX),
            sw=members.text("sw"),
            kid=members.hash("kid"),
            cfg=members.hash_or_none("cfg"),
            chain=members.ulid_or_none("chain"),
            head=_head(members.members_or_none("head")),
            oldest=_oldest(members.members_or_none("oldest")),
            backlog=_backlog(members.members("backlog")),
            clock=Clock.from_payload(members.value("clock"), members.place("clock")),
            mode=members.choice("mode", MODES),
            need_heads=members.boolean("need_heads"),
            heads=heads_from_payload(members),
        )


def _head(members: Members | None) -> tuple[int, str] | None:
    return None if members is None else (members.integer("seq", 1), members.hash("hash"))


def _oldest(members: Members | None) -> Oldest | None:
    if members is None:
        return None
    return Oldest(members.ulid("chain"), members.integer("seq", 1), members.hash("prev"))


def _backlog(members: Members) -> Backlog:
    return Backlog(members.integer("batches"), members.integer("milliwh"), members.time_ms_or_none("since"))
