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
from fractions import Fraction

from agent.metering.decode import NoValue, decode, resolution
from agent.metering.doubt import Bound, Doubt, add, is_confirmed, rises_too_fast, same_meter
from agent.metering.gates import (
    Held,
    RefusedReading,
    admit,
    compare,
    compare_parts,
    power_max_w,
    rise_max,
    step_milliwh,
)
from agent.metering.ledger import Basis, Head, Opened, Point, advance
from agent.metering.plant import Meter
from agent.metering.profile import Sum
from agent.metering.quantity import to_milliwh
from agent.reporting.event import Event
from agent.service.journal import Journal, Reading, Standing
from agent.service.refusals import Key, Refusals, Untold
from agent.service.seal import Map, Sealer, read_map
from agent.service.telling import Portion, tell

_COARSE_MILLIWH = 1000
"""A float register that steps by more than 1 Wh is flagged `quant` (wire format, section 3, rule 3)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sweep read of one meter's energy register.

    `serial` is the number the meter gave on this connection, None where it cannot be read. `retried` says that the
    first try failed. `fingerprint` are the words of the registers that change what the energy register means, as they
    were read since the last event of the line; None for one that the meter does not have.
    """

    meter: str
    words: tuple[int, ...]
    at_ms: int
    serial: str | None
    retried: bool
    fingerprint: tuple[tuple[str, tuple[int, ...] | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Cut:
    """All that was read for one boundary, or for a start or stop, and how the wall clock was set since the last.

    `is_last` says that the agent stops after it.
    """

    cut_ms: int
    samples: tuple[Sample, ...]
    clock_steps_ms: tuple[int, ...] = ()
    is_last: bool = False


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


@dataclass(frozen=True, slots=True)
class _Reading:
    """One sample that can be a register: its exact counts, and the point it is on the basis of the present site."""

    sample: Sample
    counts: int | Fraction
    point: Point

    def on(self, basis: Basis) -> Point:
        """The same reading as registers of another basis would have it."""
        register = to_milliwh(self.counts, basis.per_count_milliwh)
        kept = replace(basis, serial=self.point.basis.serial)
        return replace(self.point, register_milliwh=register, basis=kept)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A sample that is not booked, and why."""

    sample: Sample
    kind: str
    reason: str
    register_milliwh: int | None = None


@dataclass(frozen=True, slots=True)
class _Beginning:
    """Readings that are evidence of a new epoch, oldest first."""

    readings: tuple[_Reading, ...]
    reason: str


_Decision = _Reading | _Refusal | _Beginning


class Closer:
    """Turns cuts into sealed batches. Keeps in memory only what it is in doubt about, and refusals to be counted."""

    def __init__(self, meters: Sequence[Meter], sealer: Sealer, interval_ms: int) -> None:
        self._meters = {meter.id: meter for meter in meters}
        self._sealer = sealer
        self._interval_ms = interval_ms
        self._doubts: dict[str, tuple[_Reading, ...]] = {}
        self._untold: dict[Key, Untold] = {}

    def to_read_again(self, journal: Journal, cut: Cut) -> frozenset[str]:
        """The meters whose register rose faster than it can: they are to be read again at once, READS - 1 times."""
        heads = journal.heads()
        found = set()
        for sample in cut.samples:
            meter, head = self._meters[sample.meter], heads.get(sample.meter)
            reading = _reading(meter, sample, head, cut.cut_ms, frozenset())
            if isinstance(reading, _Refusal) or head is None or not _may_go_on(head, reading):
                continue
            if rises_too_fast(head, reading.on(head.basis), _bound_of(meter, reading.counts)):
                found.add(meter.id)
        return frozenset(found)

    def close(self, journal: Journal, cut: Cut) -> Closed:
        """Book a cut and seal it, in one transaction.

        Raises JournalFull (nothing was changed) or JournalDamaged.
        """
        with journal.transaction():
            if journal.state().standing is Standing.CONFIRMING:
                return Closed(0, 0, False, {})
            refusals = Refusals(self._untold, cut.cut_ms)
            closing = _Closing(
                journal, self._meters, self._sealer, self._interval_ms, cut, self._doubts, refusals
            )
            closed = closing.run()
        self._doubts, self._untold = closing.doubts, refusals.untold
        return closed


class _Closing:
    """One cut on its way through the ledger: every meter is decided about, then the map is known, then it is booked."""

    def __init__(
        self,
        journal: Journal,
        meters: Mapping[str, Meter],
        sealer: Sealer,
        interval_ms: int,
        cut: Cut,
        doubts: Mapping[str, tuple[_Reading, ...]],
        refusals: Refusals,
    ) -> None:
        self.doubts = dict(doubts)
        self._refusals = refusals
        self._journal = journal
        self._meters = meters
        self._sealer = sealer
        self._interval_ms = interval_ms
        self._cut = cut
        self._heads = journal.heads()
        self._maps: dict[str, Map] = {}
        self._decisions = self._decide()
        self._map, self._map_events = sealer.map_in_force(journal, meters.values(), self._known_serials())
        self._maps[self._map.hash] = self._map
        self._portions: defaultdict[str, Portion] = defaultdict(Portion)
        self._not_booked: dict[str, NotBooked] = {}

    def run(self) -> Closed:
        map_changed = bool(self._map_events)
        current = self._portions[self._map.hash]
        if self._journal.state().chain is None:
            self._map_events = self._sealer.map_events(self._map.kept)
        current.events.extend([*self._map_events, *self._clock_events()])
        for meter, decision in self._decisions.items():
            self._carry_out(meter, decision)
        current.events.extend(self._refusals.due(all_of_them=self._cut.is_last))
        former = [cfg for cfg in self._portions if cfg != self._map.hash]
        batches = sum(self._seal(cfg) for cfg in [*former, self._map.hash])
        batches += self._sealer.rotate_if_due(self._journal, self._map.hash)
        deltas = sum(len(portion.deltas) for portion in self._portions.values())
        held = {meter: reading.reason for meter, reading in self._not_booked.items()}
        flags = {delta.meter: delta.q for portion in self._portions.values() for delta in portion.deltas}
        return Closed(batches, deltas, map_changed, held, self._not_booked, flags)

    def _clock_events(self) -> list[Event]:
        """Steps of the wall clock are declared; what they mean for batches already sealed is not known here."""
        last_seq = max(1, self._journal.state().seq)
        return [self._sealer.clock_stepped(self._cut.cut_ms, last_seq) for _ in self._cut.clock_steps_ms]

    def _seal(self, cfg: str) -> int:
        portion = self._portions[cfg]
        return self._sealer.seal(self._journal, cfg, portion.events, portion.deltas)

    # -- deciding

    def _decide(self) -> dict[str, _Decision]:
        by_meter: defaultdict[str, list[Sample]] = defaultdict(list)
        for sample in self._cut.samples:
            by_meter[sample.meter].append(sample)
        return {id: self._decide_on(self._meters[id], samples) for id, samples in by_meter.items()}

    def _decide_on(self, meter: Meter, samples: Sequence[Sample]) -> _Decision:
        """What becomes of a meter's sample, or of several that were read one right after the other."""
        head = self._heads.get(meter.id)
        readings = [_reading(meter, each, head, self._cut.cut_ms, self._flags_of(each)) for each in samples]
        latest = readings[-1]
        if isinstance(latest, _Refusal) or head is None or not _may_go_on(head, latest):
            return latest
        is_read_otherwise = self._is_read_otherwise(meter, head)
        if is_read_otherwise and not latest.point.basis.continues(head.basis):
            return latest
        bound = _bound_of(meter, latest.counts)
        point = latest.on(head.basis)
        if not same_meter(head.basis, point.basis):
            return self._doubt(latest, bound, "exchange", "another serial number")
        move = compare(
            head.register_milliwh,
            point.register_milliwh,
            modulus_milliwh=head.basis.modulus_milliwh,
            rise_max_milliwh=bound(head.at_ms, point.at_ms),
        )
        if not isinstance(move, Held):
            move = self._fallen_part(meter, head, latest, bound) or move
        if isinstance(move, Held):
            return self._doubt(latest, bound, "reset", move.reason)
        self.doubts.pop(meter.id, None)
        if not rises_too_fast(head, point, bound):
            return latest
        reads = [each.on(head.basis) for each in readings if isinstance(each, _Reading)]
        if is_confirmed(reads, bound):
            if is_read_otherwise:  # it is another register that says so: nothing of the jump is energy
                return _Beginning((latest,), "fingerprint")
            return replace(latest, point=replace(latest.point, flags=latest.point.flags | {"rate"}))
        reason = "rise: register rose by more than the circuit can have used"
        return _Refusal(latest.sample, "held", reason, point.register_milliwh)

    def _fallen_part(self, meter: Meter, head: Head, reading: _Reading, bound: Bound) -> Held | None:
        """Whether a part of a sum fell while the others hid it; None where the words of the head are not kept."""
        total = meter.profile.energy
        if not isinstance(total, Sum):
            return None
        kept = next(iter(self._journal.readings(meter.id, after=head)), None)
        if kept is None or kept.point.at_ms != head.at_ms or len(kept.words) != total.words:
            return None
        return compare_parts(
            total,
            kept.words,
            reading.sample.words,
            per_count_milliwh=head.basis.per_count_milliwh,
            rise_max_milliwh=bound(head.at_ms, reading.point.at_ms),
        )

    def _doubt(self, reading: _Reading, bound: Bound, what: str, reason: str) -> _Decision:
        """A reading that does not go on from the ledger: wait for more, or begin a new epoch if there are enough."""
        meter = reading.point.meter
        before = self.doubts.get(meter, ())
        doubt = add(Doubt(tuple(each.point for each in before)) if before else None, reading.point, bound)
        readings = (*before, reading)[-len(doubt.points) :]
        if doubt.is_settled:
            self.doubts.pop(meter, None)
            return _Beginning(readings, what)
        self.doubts[meter] = readings
        return _Refusal(reading.sample, "held", reason, reading.point.register_milliwh)

    def _is_read_otherwise(self, meter: Meter, head: Head) -> bool:
        """Whether the position was read through another profile, or another edition of it.

        Its register may be another one. Where it goes on from the position as that circuit can, it is taken for the
        same; a jump is then no energy but a new epoch.
        """
        former = self._former_map(head.cfg)
        described = former.by_meter.get(meter.id) if former is not None else None
        return described is None or described.profile_hash != meter.profile.hash

    def _known_serials(self) -> dict[str, str]:
        """What is known of each meter's serial number, once this cut is booked."""
        known = {id: head.basis.serial for id, head in self._heads.items() if head.basis.serial is not None}
        for id, decision in self._decisions.items():
            match decision:
                case _Reading():
                    said = decision.point.basis.serial
                case _Beginning(readings, _):
                    said = readings[-1].point.basis.serial
                case _Refusal():
                    said = None
            if said is not None:
                known[id] = said
        given = {meter.id: meter.serial for meter in self._meters.values() if meter.serial is not None}
        return given | known

    def _flags_of(self, sample: Sample) -> frozenset[str]:
        flags = set()
        if sample.retried:
            flags.add("comm")
        if self._cut.clock_steps_ms or not self._sealer.clock_is_trusted():
            flags.add("clock")
        return frozenset(flags)

    # -- booking

    def _carry_out(self, meter: str, decision: _Decision) -> None:
        match decision:
            case _Refusal():
                self._refuse(decision)
            case _Reading():
                self._book(decision)
            case _Beginning(readings, reason):
                first = replace(readings[0], point=replace(readings[0].point, opens=reason))
                for reading in (first, *readings[1:]):
                    self._advance(self._heads[meter], reading.point, reading, self._map)

    def _book(self, reading: _Reading) -> None:
        point = reading.point
        head = self._heads.get(point.meter)
        if head is not None and head.cfg != self._map.hash and not head.restored:
            self._close_under_former_map(head, reading)
            head = self._heads[point.meter]
            if point.basis.continues(head.basis) and head.at_ms == point.at_ms:
                self._keep_head(replace(head, cfg=self._map.hash, basis=point.basis))
                return
        self._advance(head, point, reading, self._map)

    def _close_under_former_map(self, head: Head, reading: _Reading) -> None:
        """The closing read: this reading, taken as the descriptor of the last one would have it.

        Not where it is another meter by its serial number, or read through another profile on another scale: then the
        register is another one, and the epoch that opens declares the hole.
        """
        former = self._former_map(head.cfg)
        if former is None or head.meter not in former.by_meter:
            return
        is_same_scale = reading.point.basis.continues(head.basis)
        if not is_same_scale and self._is_read_otherwise(self._meters[head.meter], head):
            return
        if head.basis.serial is not None and reading.point.basis.serial != head.basis.serial:
            return
        closing = replace(reading.on(head.basis), basis=head.basis)
        self._advance(head, closing, reading, former)

    def _former_map(self, cfg: str) -> Map | None:
        if cfg not in self._maps:
            kept = self._journal.descriptor(cfg)
            if kept is None:
                return None
            self._maps[cfg] = read_map(kept)
        return self._maps[cfg]

    def _advance(self, head: Head | None, point: Point, reading: _Reading, under: Map) -> None:
        bound = None
        if head is not None:
            bound = _bound_of(self._meters[point.meter], reading.counts)(head.at_ms, point.at_ms)
        outcome = advance(head, point, cfg=under.hash, rise_max_milliwh=bound)
        if isinstance(outcome, Held):
            self._refuse(_Refusal(reading.sample, "held", outcome.reason, point.register_milliwh))
            return
        if isinstance(outcome, Opened):
            point = replace(point, opens=outcome.reason)
        after = tell(
            self._portions[under.hash],
            outcome,
            under.by_meter[point.meter],
            point.flags,
            interval_ms=self._interval_ms,
            bound=bound,
        )
        self._keep_head(after)
        self._journal.add_reading(Reading(point, reading.sample.words, under.hash))

    def _keep_head(self, head: Head) -> None:
        self._journal.save_head(head)
        self._heads[head.meter] = head

    def _refuse(self, refusal: _Refusal) -> None:
        """Report what is not booked, and remember that the delta to come spans it."""
        sample = refusal.sample
        register = self._meters[sample.meter].profile.energy.name
        event = self._refusals.add(sample.meter, register, refusal.reason, sample.at_ms)
        if event is not None:
            self._portions[self._map.hash].events.append(event)
        self._not_booked[sample.meter] = NotBooked(
            refusal.kind, refusal.reason, sample.words, refusal.register_milliwh, sample.at_ms
        )
        head = self._heads.get(sample.meter)
        if head is not None and not head.suspect:
            self._keep_head(replace(head, suspect=True))


def _reading(
    meter: Meter, sample: Sample, head: Head | None, cut_ms: int, flags: frozenset[str]
) -> _Reading | _Refusal:
    """Take a sample through the first gate: whose register it is, and whether it can be one."""
    if meter.serial is not None and sample.serial not in (None, meter.serial):
        return _Refusal(sample, "identity", f"serial number {sample.serial} instead of {meter.serial}")
    value = decode(meter.profile.energy, sample.words)
    admitted = admit(meter, value)
    if isinstance(admitted, RefusedReading):
        return _Refusal(sample, "refused", admitted.reason)
    assert not isinstance(value, str | NoValue)
    serial = sample.serial or meter.serial or (head.basis.serial if head is not None else None)
    basis = Basis(meter.per_count_milliwh, meter.modulus_milliwh, serial)
    if _is_coarse(meter, value):
        flags |= {"quant"}
    if not meter.is_proved:
        flags |= {"suspect"}
    return _Reading(sample, value, Point(meter.id, sample.at_ms, cut_ms, admitted, basis, flags))


def _may_go_on(head: Head, reading: _Reading) -> bool:
    """Whether the reading can belong to the position's epoch; from the platform's word only a proven basis does."""
    return not head.restored or reading.point.basis.proves(head.basis)


def _is_coarse(meter: Meter, counts: int | Fraction) -> bool:
    """Whether the register is a float that steps by more than 1 Wh where it stands."""
    register = meter.profile.energy
    return register.is_float and resolution(register, counts) * meter.per_count_milliwh > _COARSE_MILLIWH


def _bound_of(meter: Meter, counts: int | Fraction) -> Bound:
    """Most energy the meter's circuit can have used between two times, None where nobody knows its power."""
    power_w, step = power_max_w(meter), step_milliwh(meter, counts)
    return lambda from_ms, to_ms: rise_max(power_w, step, max(0, to_ms - from_ms))
