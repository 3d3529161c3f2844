"""The signed set of an interval: deltas, each with both its registers, and events.

A delta is the difference of two quantised registers and carries both, so that anyone can check that a run of deltas
telescopes (wire format, sections 2 and 3). This module makes the payload, reads it back, and splits what an interval
has to say into portions that fit into a batch. Before it comes the ledger, after it `envelope` and the journal.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.reporting import strictjson
from agent.reporting.chain import ChainHead
from agent.reporting.envelope import BATCH, SIZE_MAX
from agent.reporting.event import Event
from agent.reporting.utc import text_of_ms
from agent.reporting.wire import VERSION, Members, WireError, checked_text

ENERGY_UNIT = "0.001Wh"

FLAGS = frozenset(
    {"gap", "late", "clock", "roll", "first", "coarse", "quant", "rate", "suspect", "comm", "sub"}
)
"""Quality flags of version 1.0. They never change energy; an unknown one is counted and shown as suspect."""

UNKNOWN = "U"
SYNC_STATES = ("S", "H", UNKNOWN)
"""Synchronised, holdover, unknown."""
CLOCK = "clock"
"""The flag of a delta whose times are no evidence."""

DELTAS_MAX = 64
"""Deltas per batch unless the broker asked for less."""

_HEADER_ROOM = 6 * 1024
PAYLOAD_BYTES_MAX = (SIZE_MAX[BATCH] - _HEADER_ROOM) * 3 // 4
"""Bytes of events and deltas in one batch: base64 makes four of three, 6 KiB stay for header, fields and signature."""

_RECORD_KINDS = ("production", "material_issue", "transport_leg", "fuel", "waste", "equipment_state")
_FLAGS_PER_DELTA_MAX = 32


@dataclass(frozen=True, slots=True)
class Clock:
    """How far the sealing clock could be trusted: `sync` S, H or U, `err_ms` the estimated error."""

    sync: str
    err_ms: int

    def to_payload(self) -> dict[str, object]:
        """As in the member `clock`."""
        return {"sync": self.sync, "err_ms": self.err_ms}

    @classmethod
    def from_payload(cls, value: object, path: str) -> "Clock":
        """Read `{sync, err_ms}`. Raises WireError."""
        members = Members(value, path)
        return cls(members.choice("sync", SYNC_STATES), members.integer("err_ms"))


@dataclass(frozen=True, slots=True)
class Delta:
    """Energy of one meter between two readings. Identity: (org, agent, meter, epoch, n).

    Never changed and never deleted; a mistake is answered by an `adjust` event. `n` and `epoch` count from 1 without a
    hole. `reg_start`, `reg_end`, `delta` and `roll` (the modulus, on a rollover only) are in 0.001 Wh with CT and PT
    applied. `start_ms` and `end_ms` are when the two registers were really read. `q` is sorted.
    """

    meter: str
    step: str | None
    epoch: int
    n: int
    start_ms: int
    end_ms: int
    reg_start: int
    reg_end: int
    delta: int
    roll: int | None
    q: tuple[str, ...]

    def to_payload(self) -> dict[str, object]:
        """As in the array `deltas`; `step` and `roll` only where there is one."""
        payload: dict[str, object] = {"meter": self.meter}
        if self.step is not None:
            payload["step"] = self.step
        payload |= {
            "epoch": self.epoch,
            "n": self.n,
            "start": text_of_ms(self.start_ms),
            "end": text_of_ms(self.end_ms),
            "reg_start": self.reg_start,
            "reg_end": self.reg_end,
            "delta": self.delta,
        }
        if self.roll is not None:
            payload["roll"] = self.roll
        payload["q"] = list(self.q)
        return payload

    @classmethod
    def from_payload(cls, value: object, path: str = "$") -> "Delta":
        """Read one delta. Whether its registers agree is for `broken_rules` to say. Raises WireError."""
        members = Members(value, path)
        return cls(
            meter=members.identifier("meter"),
            step=members.identifier("step") if members.has("step") else None,
            epoch=members.integer("epoch", 1),
            n=members.integer("n", 1),
            start_ms=members.time_ms("start"),
            end_ms=members.time_ms("end"),
            reg_start=members.integer("reg_start"),
            reg_end=members.integer("reg_end"),
            delta=members.integer("delta"),
            roll=members.integer("roll") if members.has("roll") else None,
            q=flags_from(members),
        )


def flags_from(members: Members) -> tuple[str, ...]:
    """Read the member `q`: quality flags, sorted. Raises WireError."""
    flags = tuple(checked_text(entry, path, 32) for entry, path in members.items("q", _FLAGS_PER_DELTA_MAX))
    if list(flags) != sorted(set(flags)):
        raise WireError(members.place("q"), "must be sorted, each flag once")
    return flags


def broken_rules(delta: Delta, modulus: int | None) -> list[str]:
    """Rule V1: what is wrong with a delta taken by itself, as sentences; empty if nothing is.

    Args:
        delta: as read from the wire.
        modulus: the meter's modulus in 0.001 Wh by its descriptor, None where nobody knows it.
    """
    broken = []
    roll = delta.roll or 0
    if delta.delta != delta.reg_end - delta.reg_start + roll:
        broken.append(
            f"delta {delta.delta} is not reg_end {delta.reg_end} - reg_start {delta.reg_start} + roll {roll}"
        )
    if roll not in (0, modulus):
        known = "no modulus is known" if modulus is None else f"the modulus is {modulus}"
        broken.append(f"roll is {roll}, but {known}")
    if delta.delta < 0:
        broken.append(f"delta {delta.delta} is negative")
    return broken


@dataclass(frozen=True, slots=True)
class Batch:
    """What is sealed at once. Fields as in the wire format, times as Unix ms; `prev_chain` only where seq is 1.

    `records` are imported from the factory's own systems and kept as they are (wire format, section 10).
    """

    org: str
    agent: str
    aud: str
    chain: str
    seq: int
    prev: str
    prev_chain: ChainHead | None
    iat_ms: int
    clock: Clock
    sw: str
    cfg: str
    deltas: tuple[Delta, ...]
    events: tuple[Event, ...]
    records: tuple[dict[str, object], ...] = ()

    def to_payload(self) -> dict[str, object]:
        """The payload to seal, members in the order of the wire format."""
        payload: dict[str, object] = {
            "v": VERSION,
            "org": self.org,
            "agent": self.agent,
            "aud": self.aud,
            "chain": self.chain,
            "seq": self.seq,
            "prev": self.prev,
        }
        if self.seq == 1:
            payload["prev_chain"] = self.prev_chain.to_payload() if self.prev_chain else None
        payload |= {
            "iat": text_of_ms(self.iat_ms),
            "clock": self.clock.to_payload(),
            "sw": self.sw,
            "cfg": self.cfg,
            "energy_unit": ENERGY_UNIT,
            "deltas": [delta.to_payload() for delta in self.deltas],
            "events": [event.to_payload() for event in self.events],
        }
        if self.records:
            payload["records"] = list(self.records)
        return payload

    @classmethod
    def from_payload(cls, payload: object) -> "Batch":
        """Read a payload of which the signature was verified. Raises WireError."""
        members = Members(payload)
        members.version()
        members.choice("energy_unit", (ENERGY_UNIT,))
        seq = members.integer("seq", 1)
        return cls(
            org=members.identifier("org"),
            agent=members.identifier("agent"),
            aud=members.text("aud"),
            chain=members.ulid("chain"),
            seq=seq,
            prev=members.hash("prev"),
            prev_chain=_prev_chain(members, seq),
            iat_ms=members.time_ms("iat"),
            clock=Clock.from_payload(members.value("clock"), members.place("clock")),
            sw=members.text("sw"),
            cfg=members.hash("cfg"),
            deltas=tuple(Delta.from_payload(entry, path) for entry, path in members.items("deltas")),
            events=tuple(Event.from_payload(entry, path) for entry, path in members.items("events")),
            records=_records(members),
        )

    def in_effect_order(self) -> Iterator[Event | Delta]:
        """Events and deltas in the order in which they take effect; see `effect_order`."""
        return effect_order(self.events, self.deltas)


def _prev_chain(members: Members, seq: int) -> ChainHead | None:
    if seq != 1:
        if members.has("prev_chain"):
            raise WireError(members.place("prev_chain"), "only the first batch of a chain has one")
        return None
    if members.is_null("prev_chain"):
        return None
    return ChainHead.from_payload(members.value("prev_chain"), members.place("prev_chain"))


def _records(members: Members) -> tuple[dict[str, object], ...]:
    if not members.has("records"):
        return ()
    return tuple(_record(entry, path) for entry, path in members.items("records"))


def _record(entry: object, path: str) -> dict[str, object]:
    record = Members(entry, path)
    record.choice("kind", _RECORD_KINDS)
    record.text("key")
    record.integer("rev", 1)
    for name in ("source", "at"):
        record.value(name)
    record.members("fields")
    return record.as_dict()


def effect_order(events: Sequence[Event], deltas: Sequence[Delta]) -> Iterator[Event | Delta]:
    """Merge events and deltas into the order in which they take effect.

    Events come in their order and before the deltas, with one exception: an `epoch` event closes an epoch and a
    `balance` event sums a run, so the deltas of that meter which they speak of come first. The deltas of one meter,
    given in the order of their epoch and n, keep that order.
    """
    queues: dict[object, deque[int]] = {}
    for index, delta in enumerate(deltas):
        queues.setdefault(delta.meter, deque()).append(index)
    said = bytearray(len(deltas))
    for event in events:
        queue = queues.get(event.body.get("meter"), deque())
        while queue and _speaks_of(event, deltas[queue[0]]):
            said[queue[0]] = 1
            yield deltas[queue.popleft()]
        yield event
    yield from (delta for index, delta in enumerate(deltas) if not said[index])


def _speaks_of(event: Event, delta: Delta) -> bool:
    """Whether an event about the delta's meter looks back on the delta."""
    if event.type == "epoch":
        return delta.epoch <= event.integer("epoch_from")
    if event.type == "balance":
        return (delta.epoch, delta.n) <= (event.integer("epoch"), event.integer("n_last"))
    return False


def pack(
    events: Sequence[Event],
    deltas: Sequence[Delta],
    *,
    deltas_max: int = DELTAS_MAX,
    bytes_max: int = PAYLOAD_BYTES_MAX,
) -> list[tuple[tuple[Event, ...], tuple[Delta, ...]]]:
    """Split what one interval has to say into portions, each small enough for one batch.

    The portions follow `effect_order`, so that no event that closes an epoch arrives a batch before the deltas it
    closes.

    Args:
        events: in the order in which they happened.
        deltas: the deltas of one meter in the order of their n.
        deltas_max: most deltas in one portion, >= 1.
        bytes_max: most bytes of JSON in one portion.

    Returns:
        portions in order; empty if there is nothing to say.

    Raises:
        ValueError: one event alone is larger than `bytes_max`; events cannot be cut.
    """
    portions: list[tuple[tuple[Event, ...], tuple[Delta, ...]]] = []
    portion = _Portion()
    for item in effect_order(events, deltas):
        size = len(strictjson.dumps(item.to_payload())) + 1
        if size > bytes_max:
            raise ValueError(f"one item of {size} bytes does not fit into a batch of {bytes_max}")
        if not portion.has_room(item, size, deltas_max, bytes_max):
            portions.append(portion.content())
            portion = _Portion()
        portion.add(item, size)
    return [*portions, portion.content()] if portion.bytes else portions


class _Portion:
    """A batch's content while it fills."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.deltas: list[Delta] = []
        self.bytes = 0

    def has_room(self, item: Event | Delta, size: int, deltas_max: int, bytes_max: int) -> bool:
        full = isinstance(item, Delta) and len(self.deltas) >= deltas_max
        return not full and self.bytes + size <= bytes_max

    def add(self, item: Event | Delta, size: int) -> None:
        if isinstance(item, Delta):
            self.deltas.append(item)
        else:
            self.events.append(item)
        self.bytes += size

    def content(self) -> tuple[tuple[Event, ...], tuple[Delta, ...]]:
        return tuple(self.events), tuple(self.deltas)
