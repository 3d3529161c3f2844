"""Closing an interval: gates, ledger, deltas, batch, signature and one commit for all meters.

Comes after `poll`, which hands over what the sweep of a boundary read; `publish` finds the sealed batches in the
journal. Everything in here happens inside one transaction: either the readings, the positions and the batches are all
on disk, or none is, and then the next interval spans this one.

After a change of the site file a meter's first delta is closed under the descriptor its last register was read under,
and sealed in a batch of its own that names that descriptor: what was used before the change belongs to the old map.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.metering.doubt import rises_too_fast
from agent.metering.gates import Held
from agent.metering.interval import DAY_MS
from agent.metering.ledger import Advanced, Head, Opened, Point, advance
from agent.metering.plant import Meter
from agent.metering.standstill import Standstill
from agent.metering.suspicion import bound_of
from agent.service.clocking import Look, Said, Stretch, next_stretch, say
from agent.service.closedepochs import closed_epochs
from agent.service.deciding import Decider
from agent.service.decisions import Again, Beginning, Cut, Decision, Findings, Refusal, Sample, Sound
from agent.service.journal import Journal, Reading, Standing
from agent.service.refusals import Key, Refusals, Untold
from agent.service.seal import Map, Sealer, read_map
from agent.service.statements import next_to_tell
from agent.service.telling import Portion, continuation_of, renamed_from, tell

__all__ = ["Closed", "Closer", "Cut", "NotBooked", "Sample"]


@dataclass(frozen=True, slots=True)
class NotBooked:
    """A reading that was kept out of the ledger: its words, its register where it has one, and why.

    `kind` is `refused` (it cannot be a register), `held` (no metering explains the move) or `identity` (another meter
    answered).
    """

    kind: str
    reason: str
    words: tuple[int, ...]
    register_milliwh: int | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class Closed:
    """What became of a cut: batches sealed, deltas booked, whether the meter map is a new one, and why a meter's
    reading was not booked.

    `not_booked` says the same as `held` in more detail; `flags` are the quality flags of the deltas, by meter.
    """

    batches: int
    deltas: int
    map_changed: bool
    held: dict[str, str]
    not_booked: dict[str, NotBooked] = field(default_factory=dict)
    flags: dict[str, tuple[str, ...]] = field(default_factory=dict)


def may_seal(journal: Journal) -> bool:
    """Whether a cut may be booked now; else the next one that may be spans it.

    Not while the head has to be confirmed, and not while a restored chain still tells what was read before: positions
    stand where the tale is.
    """
    return journal.state().standing is not Standing.CONFIRMING and journal.retelling() is None


class Closer:
    """Turns cuts into sealed batches. Keeps in memory only refusals to be counted, and registers that stand still."""

    def __init__(
        self, meters: Sequence[Meter], sealer: Sealer, interval_ms: int, *, balance_ms: int = DAY_MS
    ) -> None:
        """`balance_ms` is how often the deltas of a meter are summed up."""
        self._balance_ms = balance_ms
        self._meters = {meter.id: meter for meter in meters}
        self._sealer = sealer
        self._interval_ms = interval_ms
        self._standstills: dict[str, Standstill] = {}
        self._untold: dict[Key, Untold] = {}

    def to_read_again(self, journal: Journal, cut: Cut) -> Again:
        """The meters of which one reading is not enough; none while the cut will not be booked anyway."""
        if not may_seal(journal):
            return Again()
        maps = _Maps(journal)
        return self._decider(journal, cut, maps).to_read_again()

    def close(self, journal: Journal, cut: Cut) -> Closed:
        """Book a cut and seal it, in one transaction.

        Raises JournalFull (nothing was changed) or JournalDamaged.
        """
        with journal.transaction():
            if not may_seal(journal):
                return Closed(0, 0, False, {})
            maps = _Maps(journal)
            found = self._decider(journal, cut, maps).decide()
            refusals = Refusals(self._untold, cut.cut_ms)
            closing = _Closing(
                journal,
                self._meters,
                self._sealer,
                self._interval_ms,
                cut,
                found,
                refusals,
                maps,
                balance_ms=self._balance_ms,
            )
            closed = closing.run()
        self._standstills, self._untold = found.standstills, refusals.untold
        return closed

    def _decider(self, journal: Journal, cut: Cut, maps: "_Maps") -> Decider:
        return Decider(
            journal,
            self._meters,
            cut,
            interval_ms=self._interval_ms,
            clock_is_trusted=self._sealer.clock_is_trusted(),
            profile_hash_of=maps.profile_hash_of,
            standstills=self._standstills,
        )


class _Maps:
    """The descriptors that the journal keeps, each read once."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._maps: dict[str, Map] = {}

    def add(self, map: Map) -> None:
        """One that was just made."""
        self._maps[map.hash] = map

    def of(self, cfg: str) -> Map | None:
        """A descriptor by its hash; None where the journal does not have it."""
        if cfg not in self._maps:
            kept = self._journal.descriptor(cfg)
            if kept is None:
                return None
            self._maps[cfg] = read_map(kept)
        return self._maps[cfg]

    def profile_hash_of(self, head: Head) -> str | None:
        """The profile that a position was read through; None where its descriptor is not known."""
        former = self.of(head.cfg)
        described = former.by_meter.get(head.meter) if former is not None else None
        return None if described is None else described.profile_hash


@dataclass(frozen=True, slots=True)
class _Clock:
    """The clock before anything of a cut is sealed: what the journal kept of it, what is said, and the own head."""

    look: Look
    kept: tuple[Stretch, ...]
    said: Said
    chain: str | None
    seq: int


class _Closing:
    """One cut on its way through the ledger: every meter is decided about, then the map is known, then it is booked."""

    def __init__(
        self,
        journal: Journal,
        meters: Mapping[str, Meter],
        sealer: Sealer,
        interval_ms: int,
        cut: Cut,
        found: Findings,
        refusals: Refusals,
        maps: _Maps,
        *,
        balance_ms: int,
    ) -> None:
        self._balance_ms = balance_ms
        self._refusals = refusals
        self._journal = journal
        self._meters = meters
        self._sealer = sealer
        self._interval_ms = interval_ms
        self._cut = cut
        self._found = found
        self._heads = journal.heads()
        self._maps = maps
        self._map, self._map_events = sealer.map_in_force(journal, meters.values(), self._known_serials())
        maps.add(self._map)
        self._portions: defaultdict[str, Portion] = defaultdict(Portion)
        self._not_booked: dict[str, NotBooked] = {}

    def run(self) -> Closed:
        map_changed = bool(self._map_events)
        current = self._portions[self._map.hash]
        if self._journal.state().chain is None:
            self._map_events = self._sealer.map_events(self._map.kept)
        clock = self._look_at_clock()
        current.events.extend([*self._map_events, *clock.said.events, *self._found.events])
        for meter, decision in self._found.decisions.items():
            self._carry_out(meter, decision)
        for meter, remark in self._found.remarks.items():
            self._tell_refused(meter, remark, self._cut.cut_ms)
        self._keep_what_gates_remember()
        current.events.extend(self._refusals.due(all_of_them=self._cut.is_last))
        former = [cfg for cfg in self._portions if cfg != self._map.hash]
        batches = sum(self._seal(cfg) for cfg in [*former, self._map.hash])
        batches += self._tell_statements()
        batches += self._sealer.rotate_if_due(self._journal, self._map.hash)
        self._keep_clock(clock)
        deltas = sum(len(portion.deltas) for portion in self._portions.values())
        held = {meter: reading.reason for meter, reading in self._not_booked.items()}
        flags = {delta.meter: delta.q for portion in self._portions.values() for delta in portion.deltas}
        return Closed(batches, deltas, map_changed, held, self._not_booked, flags)

    def _look_at_clock(self) -> "_Clock":
        """What is to be said of the clock; where it was set, sealed batches may be relabelled."""
        state, look, kept = (
            self._journal.state(),
            self._sealer.look_at_clock(),
            self._journal.clock_stretches(),
        )
        steps = len(self._cut.clock_steps_ms)
        said = say(kept, look, state.chain, state.seq, steps, self._sealer.boot)
        return _Clock(look, kept, said, state.chain, state.seq)

    def _keep_clock(self, clock: "_Clock") -> None:
        stretches, chain = clock.said.keep, self._journal.state().chain
        if clock.said.begins and chain is not None:
            stretches += (next_stretch(clock.look, clock.chain, chain, clock.seq),)
        if stretches != clock.kept:
            self._journal.save_clock_stretches(stretches)

    def _seal(self, cfg: str) -> int:
        portion = self._portions[cfg]
        return self._sealer.seal(self._journal, cfg, portion.events, portion.deltas)

    def _tell_statements(self) -> int:
        """What persons stated of sealed energy, each in a batch of its own behind the deltas that it names."""
        told = 0
        for statement in next_to_tell(self._journal):
            told += self._sealer.seal(self._journal, self._map.hash, [statement.event], [])
            head = self._journal.state().head
            assert head is not None
            self._journal.tell_statement(statement.id, head)
        return told

    def _keep_what_gates_remember(self) -> None:
        for meter, memory in self._found.memories.items():
            self._journal.save_memory(meter, memory)
        for meter, readings in self._found.doubts.items():
            self._journal.save_doubts(meter, readings)
        for order in self._found.done:
            self._journal.drop_order(order.meter)

    def _known_serials(self) -> dict[str, str]:
        """What is known of each meter's serial number, once this cut is booked."""
        known = {id: head.basis.serial for id, head in self._heads.items() if head.basis.serial is not None}
        for id, decision in self._found.decisions.items():
            said = None
            match decision:
                case Sound():
                    said = decision.point.basis.serial
                case Beginning(readings):
                    said = readings[-1].point.basis.serial
            if said is not None:
                known[id] = said
        given = {meter.id: meter.serial for meter in self._meters.values() if meter.serial is not None}
        return given | known

    # -- booking

    def _carry_out(self, meter: str, decision: Decision) -> None:
        match decision:
            case Refusal():
                self._refuse(decision)
            case Sound():
                self._book(decision)
            case Beginning(readings, reason, by, bound):
                first = replace(readings[0], point=replace(readings[0].point, opens=reason))
                self._advance(self._heads[meter], first.point, first, self._map, by=by, declared=bound)
                for reading in readings[1:]:
                    self._advance(self._heads[meter], reading.point, reading, self._map)

    def _book(self, reading: Sound) -> None:
        point = reading.point
        head = self._heads.get(point.meter)
        if head is None:
            self._continue_under_new_id(reading)
        elif head.cfg != self._map.hash and not head.restored:
            self._close_under_former_map(head, reading)
            head = self._heads[point.meter]
            if point.basis.continues(head.basis) and head.at_ms == point.at_ms:
                self._keep_head(replace(head, cfg=self._map.hash, basis=point.basis))
                return
        self._advance(head, point, reading, self._map)

    def _continue_under_new_id(self, reading: Sound) -> None:
        """A known serial number under a new id: its closing read under the old one, then the meter goes on here.

        The old id's last delta is booked where this reading surely goes on from it; a hole would hide it else.
        """
        former_head = renamed_from(self._heads, self._meters, reading.point)
        if former_head is None:
            return
        self._portions[self._map.hash].events.append(continuation_of(former_head, reading.point))
        former, meter = self._maps.of(former_head.cfg), self._meters[reading.point.meter]
        if former is None or former_head.restored or former_head.meter not in former.by_meter:
            return
        if self._maps.profile_hash_of(former_head) != meter.profile.hash:
            return
        bound = bound_of(meter, reading.counts)
        closing = replace(reading.on(former_head.basis), meter=former_head.meter, basis=former_head.basis)
        if rises_too_fast(former_head, closing, bound):
            return
        most = bound(former_head, closing)
        outcome = advance(former_head, closing, cfg=former.hash, rise_max_milliwh=most)
        if isinstance(outcome, Advanced):
            self._carry_on(outcome, closing, reading, former, most)

    def _close_under_former_map(self, head: Head, reading: Sound) -> None:
        """The closing read: this reading, taken as the descriptor of the last one would have it.

        Not where it is another meter by its serial number, or read through another profile on another scale: then the
        register is another one, and the epoch that opens declares the hole.
        """
        former = self._maps.of(head.cfg)
        if former is None or head.meter not in former.by_meter:
            return
        is_read_otherwise = self._maps.profile_hash_of(head) != self._meters[head.meter].profile.hash
        if is_read_otherwise and not reading.point.basis.continues(head.basis):
            return
        if head.basis.serial is not None and reading.point.basis.serial != head.basis.serial:
            return
        closing = replace(reading.on(head.basis), basis=head.basis)
        self._advance(head, closing, reading, former)

    def _advance(
        self,
        head: Head | None,
        point: Point,
        reading: Sound,
        under: Map,
        *,
        by: str = "agent",
        declared: int | None = None,
    ) -> None:
        """`by` says that an epoch opens here; `declared` is the most the hole before it can hide, if known."""
        bound = None
        if head is not None:
            bound = bound_of(self._meters[point.meter], reading.counts)(head, point)
        outcome = advance(head, point, cfg=under.hash, rise_max_milliwh=bound)
        if isinstance(outcome, Held):
            self._refuse(Refusal(reading.sample, "held", outcome.reason, point.register_milliwh))
            return
        if isinstance(outcome, Opened):
            point = replace(point, opens=outcome.reason)
        self._carry_on(outcome, point, reading, under, bound if declared is None else declared, by=by)

    def _carry_on(
        self,
        outcome: Advanced | Opened,
        point: Point,
        reading: Sound,
        under: Map,
        bound: int | None,
        *,
        by: str = "agent",
    ) -> None:
        after = tell(
            self._portions[under.hash],
            outcome,
            under.by_meter[point.meter],
            point.flags,
            interval_ms=max(self._interval_ms, self._cut.coarse_ms),
            bound=bound,
            by=by,
            balance_ms=self._balance_ms,
            closed=self._closed if self._balance_ms < DAY_MS else None,
        )
        self._keep_head(after)
        self._journal.add_reading(Reading(point, reading.sample.words, under.hash))

    def _closed(self, meter: str) -> list[Mapping[str, object]]:
        """The epochs of a meter that ended lately: a platform that cannot ask may have lost the batch that said so."""
        return closed_epochs(self._journal, meter, self._sealer.look_at_clock())

    def _keep_head(self, head: Head) -> None:
        self._journal.save_head(head)
        self._heads[head.meter] = head

    def _refuse(self, refusal: Refusal) -> None:
        """Report what is not booked, and remember that the delta to come spans it."""
        sample = refusal.sample
        self._tell_refused(sample.meter, refusal.reason, sample.at_ms)
        self._not_booked[sample.meter] = NotBooked(
            refusal.kind, refusal.reason, sample.words, refusal.register_milliwh, sample.at_ms
        )
        head = self._heads.get(sample.meter)
        if head is not None and not head.suspect:
            self._keep_head(replace(head, suspect=True))

    def _tell_refused(self, meter: str, reason: str, at_ms: int) -> None:
        event = self._refusals.add(meter, self._meters[meter].profile.energy.name, reason, at_ms)
        if event is not None:
            self._portions[self._map.hash].events.append(event)
