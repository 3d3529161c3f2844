"""Where a batch stands: its chain, its number there and the hash of the one before.

Order comes from these counters and never from time, because clocks step and counters do not (wire format, sections 1
and 5). Before this comes the sealer, after it `verify` and the platform, which ask the same `link`.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from agent.reporting.wire import Members

if TYPE_CHECKING:
    from agent.reporting.batch import Batch

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class ChainHead:
    """One batch, named: `seq` >= 1 in its chain, `hash` of its signing input."""

    chain: str
    seq: int
    hash: str

    def to_payload(self) -> dict[str, object]:
        """As in `prev_chain`."""
        return {"chain": self.chain, "seq": self.seq, "hash": self.hash}

    @classmethod
    def from_payload(cls, value: object, path: str) -> "ChainHead":
        """Read `{chain, seq, hash}`. Raises WireError."""
        members = Members(value, path)
        return cls(members.ulid("chain"), members.integer("seq", 1), members.hash("hash"))


class Link(Enum):
    """How a validly signed batch stands to the head of what is known."""

    FOLLOWS = "follows"
    """It is the next batch, or the first of the chain that succeeds this one."""
    DUPLICATE = "duplicate"
    """It is known, byte for byte as far as the hash goes: ignore it, acknowledge again."""
    FORK = "fork"
    """Another batch has its place, or it names another predecessor than the one it follows: alarm."""
    GAP = "gap"
    """It cannot be placed: what stands between it and the head is not there."""


def link(head: ChainHead | None, batch: "Batch", hash: str, stored: str | None = None) -> Link:
    """Say how a batch stands to the head.

    Args:
        head: the last batch taken, None while nothing is known of the agent.
        batch: a batch whose signature was verified.
        hash: of its signing input.
        stored: hash of the batch known under the same chain and seq, None if there is none or it was forgotten.
            The head's own hash need not be given.
    """
    if head is not None and batch.chain == head.chain:
        return _link_within(head, batch, hash, stored)
    if stored is not None:
        return Link.DUPLICATE if stored == hash else Link.FORK
    return Link.FOLLOWS if batch.seq == 1 and batch.prev_chain == head else Link.GAP


def _link_within(head: ChainHead, batch: "Batch", hash: str, stored: str | None) -> Link:
    if batch.seq == head.seq + 1:
        return Link.FOLLOWS if batch.prev == head.hash else Link.FORK
    if batch.seq == head.seq:
        stored = head.hash
    if batch.seq > head.seq or stored is None:
        return Link.GAP
    return Link.DUPLICATE if stored == hash else Link.FORK


def new_chain(wall_ms: int, random: bytes) -> str:
    """Make the ULID of a new chain.

    Args:
        wall_ms: UTC Unix time in ms; only for people who sort chains by eye, a wrong clock does no harm.
        random: 10 unpredictable bytes, so that two copies of one disk cannot open the same chain.

    Raises:
        ValueError: not 10 bytes, or a time outside 48 bits.
    """
    if len(random) != 10 or not 0 <= wall_ms < 1 << 48:
        raise ValueError("a chain id needs 10 random bytes and a time of 48 bits")
    number = wall_ms << 80 | int.from_bytes(random, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
