"""Sealing: what is to be said becomes signed batches at the end of the chain, in the caller's transaction.

The only place that moves the own head. A batch is built, signed and kept in one go and never touched again; what was
sealed is what is sent, hashed and archived.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from agent.errors import JournalDamaged
from agent.metering.plant import Meter
from agent.reporting import chain as chains
from agent.reporting import envelope, strictjson, topics
from agent.reporting.batch import Batch, Delta, pack
from agent.reporting.batch import Clock as ClockMember
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Descriptor, MeterDescription, describe, in_parts
from agent.reporting.enrolment import Enrolment
from agent.reporting.event import Event, key_rotate_event
from agent.service.clocking import Look, look_at
from agent.service.closedepochs import told_since_ms
from agent.service.journal import Journal, KeptDescriptor, SealedBatch, State
from agent.service.ports import Clock, Entropy
from agent.service.signing import Signers, is_rotation_due, known_kids, use_key

MAPS_KEPT = 8
"""Descriptors that are kept in memory as they were read."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks to whom, below which topic root, and the version of this program."""

    org: str
    agent: str
    audience: str
    sw: str
    root: str = topics.ROOT

    @property
    def batch_topic(self) -> str:
        """Where batches go."""
        return topics.batch(self.org, self.agent, self.root)

    @property
    def descriptor_topic(self) -> str:
        """Where the retained descriptor lies."""
        return topics.descriptor(self.org, self.agent, self.root)

    @property
    def status_topic(self) -> str:
        """Where the retained status lies."""
        return topics.status(self.org, self.agent, self.root)

    @property
    def acknowledgement_topic(self) -> str:
        """Where the platform answers."""
        return topics.acknowledgement(self.org, self.agent, self.root)


@dataclass(frozen=True)
class Map:
    """The meter map in force: its kept form and its meaning."""

    kept: KeptDescriptor
    descriptor: Descriptor

    @cached_property
    def by_meter(self) -> dict[str, MeterDescription]:
        """What it says of each meter."""
        return self.descriptor.by_meter()

    @property
    def hash(self) -> str:
        """What batches quote as `cfg`."""
        return self.kept.hash


@lru_cache(maxsize=MAPS_KEPT)
def read_map(kept: KeptDescriptor) -> Map:
    """Read a descriptor that this journal keeps; its signature was made here and is not checked again.

    Every cut asks for the descriptor in force, and a large plant's is a tenth of a megabyte: the last few are kept.
    """
    payload = kept.jws.split(b".")[1]
    body = strictjson.loads(
        envelope.base64url_decode(payload.decode("ascii")), size_max=envelope.SIZE_MAX[envelope.DESCRIPTOR]
    )
    return Map(kept, Descriptor.from_payload(body))


class Sealer:
    """Signs batches and descriptors in the name of one agent."""

    def __init__(
        self, identity: Identity, signers: Signers, entropy: Entropy, clock: Clock, *, boot: str = "unknown"
    ) -> None:
        """`boot` identifies this start of the machine, for `clock` events."""
        self.identity = identity
        self.boot = boot
        self._signers = signers
        self._entropy = entropy
        self._clock = clock

    def clock_is_trusted(self) -> bool:
        """Whether times of readings may be believed without a flag."""
        return self._clock.quality().sync != "U"

    def look_at_clock(self) -> Look:
        """The clock as it is now."""
        return look_at(self._clock)

    def map_in_force(
        self, journal: Journal, meters: Iterable[Meter], serials: Mapping[str, str], *, rev_above: int = 0
    ) -> tuple[Map, list[Event]]:
        """The descriptor of the plant as it is now; a new revision where it says something else than the last one.

        Args:
            journal: inside a transaction.
            meters: the plant's meters.
            serials: the serial numbers that are known.
            rev_above: revision the platform knows; a new one is made where the own latest is not above it, because a
                journal that was lost or rolled back would otherwise use a revision twice.

        Returns:
            The map, and the events that carry it where it is new to the chain (else none).
        """
        now_ms = self._clock.wall_ms()
        latest = journal.latest_descriptor()
        described = tuple(describe(meter, serials.get(meter.id)) for meter in meters)
        rev = max(0 if latest is None else latest.rev, rev_above) + 1
        who = self.identity
        wanted = Descriptor(who.org, who.agent, rev, now_ms, who.sw, described)
        if latest is not None:
            present = read_map(latest)
            is_known = self._is_known(journal, latest)
            if is_known and latest.rev >= rev_above and present.descriptor.same_meaning(wanted):
                return present, []
        made = self._sealed_map(journal, wanted)
        return made, self.map_events(made.kept)

    def known_map(self, journal: Journal, hash: str, *, rev_above: int = 0) -> Map:
        """A map that this journal keeps, in words that the platform can verify, in the caller's transaction.

        A key that the platform never got to know may have signed it: one whose rotation was in a chain that the
        platform refused. What was read under it is told under a map that says the same and is signed by a key that
        is known; it is sealed here where there is none yet, with a revision above all others and `rev_above`.

        Raises JournalDamaged where the journal keeps no such map.
        """
        kept = journal.descriptor(hash)
        if kept is None:
            raise JournalDamaged(f"a reading names the descriptor {hash}, which is not in the journal")
        own = read_map(kept)
        if self._is_known(journal, kept):
            return own
        others = journal.descriptors()
        for other in (read_map(each) for each in others if self._is_known(journal, each)):
            if other.descriptor.same_meaning(own.descriptor):
                return other
        rev = max(rev_above, others[-1].rev) + 1
        now_ms, sw = self._clock.wall_ms(), self.identity.sw
        return self._sealed_map(journal, replace(own.descriptor, rev=rev, iat_ms=now_ms, sw=sw))

    def _is_known(self, journal: Journal, kept: KeptDescriptor) -> bool:
        return envelope.kid_of(kept.jws) in (known_kids(journal) or {self._kid(journal)})

    def _sealed_map(self, journal: Journal, wanted: Descriptor) -> Map:
        jws = envelope.seal(envelope.DESCRIPTOR, wanted.to_payload(), self._signers.in_force(journal))
        kept = KeptDescriptor(envelope.signing_input_hash(jws), wanted.rev, jws)
        journal.add_descriptor(kept)
        return Map(kept, wanted)

    def map_events(self, kept: KeptDescriptor) -> list[Event]:
        """The events that carry a descriptor inside the chain."""
        return in_parts(kept.jws, kept.rev, self._clock.wall_ms())

    def open_chain(self, journal: Journal) -> None:
        """Forget the own head: the next batch is number 1 of a new chain."""
        fresh = chains.new_chain(self._clock.wall_ms(), self._entropy.token(10))
        journal.save_state(replace(journal.state(), chain=fresh, seq=0, hash=None))

    def seal(
        self,
        journal: Journal,
        cfg: str,
        events: Sequence[Event],
        deltas: Sequence[Delta],
        *,
        prev_chain: ChainHead | None = None,
        last_reading: int | None = None,
    ) -> int:
        """Append as many batches as it takes to say this, in the order of taking effect; returns how many.

        `cfg` is the hash of the descriptor in force for every delta. `prev_chain` is what a new chain's first batch
        follows. `last_reading` is the number of the newest reading that is told, None for the newest there is.
        """
        portions = pack(events, deltas)
        for event in events:
            if event.type == "epoch":
                journal.note_epoch(event, told_since_ms(self.look_at_clock()))
        for some_events, some_deltas in portions:
            self._append(journal, cfg, some_events, some_deltas, prev_chain, last_reading)
        return len(portions)

    def _kid(self, journal: Journal) -> str:
        return self._signers.in_force(journal).kid

    def rotate_if_due(self, journal: Journal, cfg: str) -> bool:
        """Let the following key take over where the site file names one: whether it did.

        The last batch of the old key carries the event, and in the same transaction the new one is in force.
        """
        if not is_rotation_due(journal, self._signers):
            return False
        following = self._signers.following
        assert following is not None
        who, now_ms = self.identity, self._clock.wall_ms()
        enrolment = Enrolment(who.org, who.agent, following.public_jwk, now_ms, who.sw)
        proof = envelope.seal(envelope.ENROLMENT, enrolment.to_payload(), following)
        event = key_rotate_event(now_ms, jwk=following.public_jwk, proof=proof)
        self._append(journal, cfg, (event,), ())
        use_key(journal, following, journal.state().head)
        return True

    def go_on_with(self, journal: Journal, kid: str) -> None:
        """The platform knows this one of our keys: it signs what follows, in the caller's transaction."""
        signer = self._signers.by_kid(kid)
        if signer is not None:
            use_key(journal, signer)

    def _append(
        self,
        journal: Journal,
        cfg: str,
        events: tuple[Event, ...],
        deltas: tuple[Delta, ...],
        prev_chain: ChainHead | None = None,
        last_reading: int | None = None,
    ) -> None:
        if journal.state().chain is None:
            self.open_chain(journal)
        state = journal.state()
        assert state.chain is not None
        seq = state.seq + 1
        before = prev_chain if seq == 1 else None
        prev = state.hash if state.hash is not None else cfg
        who, now_ms, quality = self.identity, self._clock.wall_ms(), self._clock.quality()
        batch = Batch(
            org=who.org,
            agent=who.agent,
            aud=who.audience,
            chain=state.chain,
            seq=seq,
            prev=prev,
            prev_chain=before,
            iat_ms=now_ms,
            clock=ClockMember(quality.sync, quality.err_ms),
            sw=who.sw,
            cfg=cfg,
            deltas=deltas,
            events=events,
        )
        jws = envelope.seal(envelope.BATCH, batch.to_payload(), self._signers.in_force(journal))
        head = ChainHead(state.chain, seq, envelope.signing_input_hash(jws))
        energy = sum(delta.delta for delta in deltas)
        journal.append_batch(SealedBatch(head, prev, before, now_ms, energy, jws, last_reading))
        journal.save_state(_moved(state, head))


def _moved(state: State, head: ChainHead) -> State:
    return replace(state, chain=head.chain, seq=head.seq, hash=head.hash)
