"""A gateway that tells the truth unless it is told to lie: builds validly signed chains for tests of a platform.

No journal, no gates, no time of its own. `copy.deepcopy` makes a clone of the disk; changing a field of a batch before
it is sealed makes every lie that needs the gateway's own key.
"""

from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.adapters.keys import Ed25519Signer
from agent.reporting import topics
from agent.reporting.batch import Batch, Clock, Delta
from agent.reporting.chain import ChainHead, new_chain
from agent.reporting.descriptor import Descriptor, MeterDescription, in_parts
from agent.reporting.envelope import (
    BATCH,
    DESCRIPTOR,
    ENROLMENT,
    STATUS,
    base64url,
    seal,
    signing_input_hash,
)
from agent.reporting.event import Event, epoch_event, key_rotate_event, restart_event
from agent.reporting.status import Backlog, Oldest, Status
from agent.reporting.utc import text_of_ms

START_MS = 1_760_000_000_000
MINUTE_MS = 60_000
AUDIENCE = "carbon.grid.example"
ORG = "zj-meterworks"
MODULUS = 1_000_000_000

# Clones count on from the same number: two copies of a disk never open the same chain.
_CHAIN_NUMBERS = count(1)


def signer(number: int) -> Ed25519Signer:
    """A key made from one number, the same in every run."""
    return Ed25519Signer(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


def described(meter: str, **changes: Any) -> MeterDescription:
    """A meter of 0.01 kWh per count that counts for the step of its own name."""
    made = MeterDescription(
        meter=meter,
        serial=f"SN-{meter}",
        profile="eastron-sdm630-v2",
        profile_hash="P" * 43,
        num=10_000,
        den=1,
        modulus=MODULUS,
        resolution=10_000,
        accuracy_class="1",
        ct_class=None,
        production_line=None,
        parent=None,
        rated_w=None,
        role="step",
        steps=((f"step_{meter}", 1, 1),),
    )
    return replace(made, **changes)


@dataclass(frozen=True, slots=True)
class Sealed:
    """One signed message and where it goes."""

    topic: str
    jws: bytes
    hash: str
    batch: Batch | None = None

    @property
    def head(self) -> ChainHead:
        """The batch, named."""
        assert self.batch is not None
        return ChainHead(self.batch.chain, self.batch.seq, self.hash)


@dataclass(slots=True)
class Counter:
    """Where a meter stands."""

    epoch: int = 1
    n: int = 0
    register: int = 500_000
    end_ms: int = START_MS


@dataclass
class Gateway:
    """An agent with an endless memory. `line` is everything it sealed, in order."""

    key: Ed25519Signer = field(default_factory=lambda: signer(1))
    meters: tuple[MeterDescription, ...] = (described("m1"), described("m2"))
    org: str = ORG
    agent: str = "gw01"
    now_ms: int = START_MS
    counters: dict[str, Counter] = field(default_factory=dict)
    line: list[Sealed] = field(default_factory=list)
    head: ChainHead | None = None
    chain: str = ""
    rev: int = 0
    descriptor: bytes = b""
    session: str = "session-1"
    mode: str = "platform"

    def __post_init__(self) -> None:
        for meter in self.meters:
            self.counters.setdefault(meter.meter, Counter())
        if not self.chain:
            self.open_chain_id()
        self.describe(*self.meters)

    def __deepcopy__(self, memo: dict[int, object]) -> "Gateway":
        counters = {meter: replace(counter) for meter, counter in self.counters.items()}
        return replace(self, counters=counters, line=list(self.line))

    @property
    def name(self) -> tuple[str, str]:
        """(org, agent)."""
        return self.org, self.agent

    @property
    def cfg(self) -> str:
        """Hash of the descriptor in force."""
        return signing_input_hash(self.descriptor)

    def describe(self, *meters: MeterDescription) -> list[Event]:
        """A new descriptor; returns the events that carry it."""
        if self.descriptor and meters == self.meters:
            return self.carried()
        self.meters, self.rev = meters, self.rev + 1
        payload = Descriptor(self.org, self.agent, self.rev, self.now_ms, "1.0.0", meters).to_payload()
        self.descriptor = seal(DESCRIPTOR, payload, self.key)
        return self.carried()

    def carried(self, part_bytes: int = 12_000) -> list[Event]:
        """The events that carry the descriptor in force."""
        return in_parts(self.descriptor, self.rev, self.now_ms, part_bytes)

    def open_chain_id(self) -> str:
        """A chain id that no other call has given."""
        self.chain = new_chain(self.now_ms, next(_CHAIN_NUMBERS).to_bytes(10, "big"))
        return self.chain

    # -------------------------------------------------------------------------------------------- metering

    def delta(self, meter: str, rise: int, *q: str) -> Delta:
        """Let a register rise, around its modulus if need be, and say so."""
        counter = self.counters[meter]
        description = next(each for each in self.meters if each.meter == meter)
        end, roll = counter.register + rise, None
        if description.modulus is not None and end >= description.modulus:
            end, roll = end - description.modulus, description.modulus
        made = Delta(
            meter,
            description.step,
            counter.epoch,
            counter.n + 1,
            counter.end_ms,
            self.now_ms,
            counter.register,
            end,
            rise,
            roll,
            tuple(sorted(q)),
        )
        counter.n, counter.register, counter.end_ms = made.n, end, self.now_ms
        return made

    def exchange(self, meter: str, first: int, reason: str = "exchange", last: int | None = None) -> Event:
        """Another meter takes the place: the epoch ends and the next one opens."""
        counter = self.counters[meter]
        event = epoch_event(
            self.now_ms,
            meter=meter,
            epoch_from=counter.epoch,
            epoch_to=counter.epoch + 1,
            last=counter.register if last is None else last,
            first=first,
            serial_from=f"SN-{meter}",
            serial_to=f"SN-{meter}-{counter.epoch + 1}",
            reason=reason,
            unmetered_from_ms=counter.end_ms,
            unmetered_to_ms=self.now_ms,
            bound=1_000,
            by="agent",
        )
        self.counters[meter] = Counter(counter.epoch + 1, 0, first, self.now_ms)
        return event

    # --------------------------------------------------------------------------------------------- sealing

    def next_batch(self, deltas: list[Delta], events: list[Event]) -> Batch:
        """The batch that follows the head, not sealed yet."""
        follows = self.head is not None and self.head.chain == self.chain
        return Batch(
            org=self.org,
            agent=self.agent,
            aud=AUDIENCE,
            chain=self.chain,
            seq=self.head.seq + 1 if follows and self.head else 1,
            prev=self.head.hash if follows and self.head else self.cfg,
            prev_chain=None if follows else self.head,
            iat_ms=self.now_ms,
            clock=Clock("S", 5),
            sw="1.0.0",
            cfg=self.cfg,
            deltas=tuple(deltas),
            events=tuple(events),
        )

    def seal(self, batch: Batch) -> Sealed:
        """Sign a batch and go on from it."""
        sealed = self.signed(batch)
        self.head = sealed.head
        self.line.append(sealed)
        return sealed

    def signed(self, batch: Batch) -> Sealed:
        """Sign a batch without going on from it."""
        jws = seal(BATCH, batch.to_payload(), self.key)
        return Sealed(topics.batch(self.org, self.agent), jws, signing_input_hash(jws), batch)

    def say(self, deltas: list[Delta], events: list[Event] | None = None) -> Sealed:
        """Seal deltas and events as the next batch; a first batch carries the descriptor too."""
        first = self.head is None or self.head.chain != self.chain
        return self.seal(self.next_batch(deltas, [*(self.carried() if first else []), *(events or [])]))

    def interval(
        self, rise: int = 1_000, meters: tuple[str, ...] | None = None, **events: list[Event]
    ) -> Sealed:
        """A minute passes, every meter rises, one batch is sealed."""
        self.now_ms += MINUTE_MS
        names = meters or tuple(meter.meter for meter in self.meters)
        return self.say([self.delta(name, rise) for name in names], events.get("events"))

    def intervals(self, count: int, rise: int = 1_000) -> list[Sealed]:
        """So many minutes."""
        return [self.interval(rise) for _ in range(count)]

    def unparsable(self) -> Sealed:
        """Seal a message whose signature is good and whose payload has a fraction, and go on from it."""
        batch = self.next_batch([], [])
        header = seal(BATCH, batch.to_payload(), self.key).split(b".")[0]
        signed = header + b"." + base64url(f'{{"v":"1.0","seq":{batch.seq}.5}}'.encode()).encode()
        jws = signed + b"." + base64url(self.key.sign(signed)).encode()
        sealed = Sealed(topics.batch(self.org, self.agent), jws, signing_input_hash(jws), batch)
        self.head = sealed.head
        self.line.append(sealed)
        return sealed

    def restore(
        self, head: ChainHead | None, deltas: list[Delta], events: list[Event] | None = None
    ) -> Sealed:
        """Open a new chain that follows a head and say what happened since."""
        self.head = head
        self.open_chain_id()
        return self.say(deltas, [restart_event(self.now_ms, reason="restore"), *(events or [])])

    def rotate(self, key: Ed25519Signer) -> Sealed:
        """Seal the event that ends this key, and go on with the next one."""
        payload = {
            "v": "1.0",
            "org": self.org,
            "agent": self.agent,
            "jwk": dict(key.public_key.jwk),
            "at": text_of_ms(self.now_ms),
            "sw": "1.0.0",
        }
        proof = seal(ENROLMENT, payload, key)
        sealed = self.say([], [key_rotate_event(self.now_ms, jwk=key.public_key.jwk, proof=proof)])
        self.key = key
        return sealed

    # ---------------------------------------------------------------------------------------------- status

    def status(
        self, *, need_heads: bool = False, state: str = "online", session: str | None = None
    ) -> Sealed:
        """What the agent says of itself."""
        oldest = self.line[0].batch if self.line else None
        payload = Status(
            org=self.org,
            agent=self.agent,
            at_ms=self.now_ms,
            state=state,
            session=session or self.session,
            sw="1.0.0",
            kid=self.key.kid,
            cfg=self.cfg,
            chain=self.chain,
            head=(self.head.seq, self.head.hash) if self.head and self.head.chain == self.chain else None,
            oldest=None if oldest is None else Oldest(oldest.chain, oldest.seq, oldest.prev),
            backlog=Backlog(len(self.line), 0, None),
            clock=Clock("S", 5),
            mode=self.mode,
            need_heads=need_heads,
        ).to_payload()
        jws = seal(STATUS, payload, self.key)
        return Sealed(topics.status(self.org, self.agent), jws, signing_input_hash(jws))

    def descriptor_message(self) -> Sealed:
        """The retained copy of the descriptor."""
        return Sealed(topics.descriptor(self.org, self.agent), self.descriptor, self.cfg)
