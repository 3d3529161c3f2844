"""A gateway that seals what it is told: the shortest honest way from registers to a chain, for tests of the verifier.

It is a model, not the agent: it has no gates, no journal and no time of its own.
"""

from dataclasses import dataclass, field, replace

from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.batch import Batch, Clock, Delta
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Descriptor, MeterDescription, in_parts
from agent.reporting.event import Event, epoch_event
from tests.reporting.keys import Key

START_MS = 1_760_000_000_000
MINUTE_MS = 60_000
CHAIN = "01JCHA1N0000000000000000A1"
SECOND_CHAIN = "01JCHA1N0000000000000000A2"
PLATFORM = "carbon.grid.example"


def meter_description(meter: str, **changes: object) -> MeterDescription:
    """A meter of 0.01 kWh per count that counts for the step of its own name."""
    description = MeterDescription(
        meter=meter,
        serial="2206001234",
        profile="eastron-sdm630-v2",
        profile_hash="P" * 43,
        num=10_000,
        den=1,
        modulus=1_000_000_000,
        resolution=10_000,
        accuracy_class="1",
        ct_class=None,
        production_line=None,
        parent=None,
        rated_w=None,
        role="step",
        steps=((f"step_{meter}", 1, 1),),
    )
    return replace(description, **changes)  # type: ignore[arg-type]


@dataclass
class Register:
    """Where a meter stands."""

    epoch: int = 1
    n: int = 0
    value: int = 500_000
    end_ms: int = START_MS


@dataclass
class Gateway:
    """Seals batches with one key; `jws` are the lines of its export."""

    key: Key
    meters: tuple[MeterDescription, ...] = (meter_description("m1"), meter_description("m2"))
    org: str = "zj-meterworks"
    agent: str = "gw01"
    chain: str = CHAIN
    now_ms: int = START_MS
    head: ChainHead | None = None
    jws: list[bytes] = field(default_factory=list, repr=False)
    registers: dict[str, Register] = field(default_factory=dict)
    rev: int = 0
    cfg: str = ""
    descriptor: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        self.describe(*self.meters)

    def describe(self, *meters: MeterDescription) -> list[Event]:
        """A new descriptor; returns the events that carry it."""
        self.meters = meters
        self.rev += 1
        descriptor = Descriptor(self.org, self.agent, self.rev, self.now_ms, "1.0.0", meters)
        self.descriptor = envelope.seal(envelope.DESCRIPTOR, descriptor.to_payload(), self.key)
        self.cfg = envelope.signing_input_hash(self.descriptor)
        return self.carried()

    def carried(self, part_bytes: int = 12_000) -> list[Event]:
        """The events that carry the descriptor in force."""
        return in_parts(self.descriptor, self.rev, self.now_ms, part_bytes)

    def delta(self, meter: str, rise: int, *q: str) -> Delta:
        """Let a register rise, around its modulus if need be, and say so."""
        register = self.registers.setdefault(meter, Register())
        modulus = next((known.modulus for known in self.meters if known.meter == meter), None)
        end, roll = register.value + rise, None
        if modulus is not None and end >= modulus:
            end, roll = end - modulus, modulus
        step = next((known.step for known in self.meters if known.meter == meter), None)
        delta = Delta(
            meter,
            step,
            register.epoch,
            register.n + 1,
            register.end_ms,
            self.now_ms,
            register.value,
            end,
            rise,
            roll,
            tuple(sorted(q)),
        )
        register.n, register.value, register.end_ms = delta.n, end, self.now_ms
        return delta

    def exchange(self, meter: str, first: int, bound: int | None = 1_000) -> Event:
        """Another meter takes the place: the epoch ends."""
        register = self.registers.setdefault(meter, Register())
        event = epoch_event(
            self.now_ms,
            meter=meter,
            epoch_from=register.epoch,
            epoch_to=register.epoch + 1,
            last=register.value,
            first=first,
            serial_from="2206001234",
            serial_to="2206009999",
            reason="exchange",
            unmetered_from_ms=register.end_ms,
            unmetered_to_ms=self.now_ms,
            bound=bound,
            by="agent",
        )
        self.registers[meter] = Register(register.epoch + 1, 0, first, self.now_ms)
        return event

    def batch(self, deltas: list[Delta], events: list[Event] | None = None) -> Batch:
        """The next batch of the chain, not sealed yet."""
        follows = self.head is not None and self.head.chain == self.chain
        seq = self.head.seq + 1 if follows and self.head else 1
        prev = self.head.hash if follows and self.head else self.cfg
        return Batch(
            self.org,
            self.agent,
            PLATFORM,
            self.chain,
            seq,
            prev,
            None if follows else self.head,
            self.now_ms,
            Clock("S", 5),
            "1.0.0",
            self.cfg,
            tuple(deltas),
            tuple(events or ()),
        )

    def seal(self, batch: Batch) -> bytes:
        """Seal a batch and make it the head."""
        jws = envelope.seal(envelope.BATCH, batch.to_payload(), self.key)
        self.head = ChainHead(batch.chain, batch.seq, envelope.signing_input_hash(jws))
        self.jws.append(jws)
        return jws

    def minute(self, rises: dict[str, int], events: list[Event] | None = None) -> bytes:
        """One interval; the first batch of a chain carries the descriptor."""
        self.now_ms += MINUTE_MS
        carried = self.carried() if self.head is None or self.head.chain != self.chain else []
        deltas = [self.delta(meter, rise) for meter, rise in rises.items()]
        return self.seal(self.batch(deltas, [*carried, *(events or [])]))

    def acknowledgement(self, platform: Key, head: ChainHead | None, ack_no: int = 1) -> bytes:
        """What the platform answers."""
        message = Acknowledgement(self.org, self.agent, 1, ack_no, head, self.now_ms)
        return envelope.seal(envelope.ACKNOWLEDGEMENT, message.to_payload(), platform)


def resealed(batches: list[Batch], key: Key) -> list[bytes]:
    """Seal batches anew, each linked to the one before it: what somebody who stole the key could write."""
    lines: list[bytes] = []
    head: ChainHead | None = None
    for batch in batches:
        linked = batch
        if head is not None and batch.seq > 1:
            linked = replace(batch, prev=head.hash)
        elif head is not None:
            linked = replace(batch, prev_chain=head)
        lines.append(envelope.seal(envelope.BATCH, linked.to_payload(), key))
        head = ChainHead(batch.chain, batch.seq, envelope.signing_input_hash(lines[-1]))
    return lines
