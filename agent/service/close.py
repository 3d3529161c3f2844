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
from agent.metering.gates import Held, RefusedReading, admit, power_max_w, rise_max, step_milliwh
from agent.metering.interval import DAY_MS, misses_boundaries
from agent.metering.ledger import Advanced, Basis, Head, Opened, Point, advance
from agent.metering.plant import Meter
from agent.metering.profile import WordType
from agent.metering.quantity import to_milliwh
from agent.reporting.batch import Delta
from agent.reporting.descriptor import MeterDescription
from agent.reporting.event import Event, balance_event, epoch_event, gap_event, refused_event
from agent.service.journal import Journal, Reading, Standing
from agent.service.seal import Map, Sealer, read_map

_COARSE_MILLIWH = 1000
"""A float register that steps by more than 1 Wh is flagged `quant` (wire format, section 3, rule 3)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sweep read of one meter's energy register.

    `serial` is the number the meter gave on this connection, None where it cannot be read. `retried` says that the
    first try failed.
    """

    meter: str
    words: tuple[int, ...]
    at_ms: int
    serial: str | None
    retried: bool


@dataclass(frozen=True, slots=True)
class Cut:
    """All that was read for one boundary, or for a start or stop, and how the wall clock was set since the last."""

    cut_ms: int
    samples: tuple[Sample, ...]
    clock_steps_ms: tuple[int, ...] = ()


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


@dataclass(slots=True)
class _Portion:
    """What is to be sealed under one descriptor."""

    events: list[Event] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)


class Closer:
    """Turns cuts into sealed batches."""

    def __init__(self, meters: Sequence[Meter], sealer: Sealer, interval_ms: int) -> None:
        self._meters = {meter.id: meter for meter in meters}
        self._sealer = sealer
        self._interval_ms = interval_ms

    def close(self, journal: Journal, cut: Cut) -> Closed:
        """Book a cut and seal it, in one transaction.

        Raises JournalFull (nothing was changed) or JournalDamaged.
        """
        with journal.transaction():
            if journal.state().standing is Standing.CONFIRMING:
                return Closed(0, 0, False, {})
            return _Closing(journal, self._meters, self._sealer, self._interval_ms, cut).run()


class _Closing:
    """One cut on its way through the ledger."""

    def __init__(
        self, journal: Journal, meters: Mapping[str, Meter], sealer: Sealer, interval_ms: int, cut: Cut
    ) -> None:
        self._journal = journal
        self._meters = meters
        self._sealer = sealer
        self._interval_ms = interval_ms
        self._cut = cut
        self._heads = journal.heads()
        self._serials = self._known_serials()
        self._map, self._map_events = sealer.map_in_force(journal, meters.values(), self._serials)
        self._maps = {self._map.hash: self._map}
        self._portions: defaultdict[str, _Portion] = defaultdict(_Portion)
        self._not_booked: dict[str, NotBooked] = {}

    def run(self) -> Closed:
        map_changed = bool(self._map_events)
        current = self._portions[self._map.hash]
        if self._journal.state().chain is None:
            self._map_events = self._sealer.map_events(self._map.kept)
        current.events.extend([*self._map_events, *self._clock_events()])
        for sample in self._cut.samples:
            self._book(sample)
        former = [cfg for cfg in self._portions if cfg != self._map.hash]
        batches = sum(self._seal(cfg) for cfg in [*former, self._map.hash])
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

    def _known_serials(self) -> dict[str, str]:
        """What each meter said now, else what the site file says, else what was known before."""
        known = {id: head.basis.serial for id, head in self._heads.items() if head.basis.serial is not None}
        known |= {sample.meter: sample.serial for sample in self._cut.samples if sample.serial is not None}
        known |= {meter.id: meter.serial for meter in self._meters.values() if meter.serial is not None}
        return known

    def _book(self, sample: Sample) -> None:
        meter = self._meters[sample.meter]
        if meter.serial is not None and sample.serial not in (None, meter.serial):
            self._refuse(sample, f"serial number {sample.serial} instead of {meter.serial}", "identity")
            return
        value = decode(meter.profile.energy, sample.words)
        admitted = admit(meter, value)
        if isinstance(admitted, RefusedReading):
            self._refuse(sample, admitted.reason, "refused")
            return
        assert not isinstance(value, str | NoValue)
        flags = self._flags_of(meter, value, sample)
        basis = Basis(meter.per_count_milliwh, meter.modulus_milliwh, self._serials.get(meter.id))
        point = Point(meter.id, sample.at_ms, self._cut.cut_ms, admitted, basis, flags)
        head = self._heads.get(meter.id)
        if head is not None and head.cfg != self._map.hash and not head.restored:
            self._close_under_former_map(head, point, sample, value)
            head = self._heads[meter.id]
            if meter.id in self._not_booked:
                return
            if point.basis.continues(head.basis) and head.at_ms == point.at_ms:
                self._keep_head(replace(head, cfg=self._map.hash, basis=basis))
                return
        self._advance(head, point, sample, value, self._map)

    def _close_under_former_map(
        self, head: Head, point: Point, sample: Sample, counts: int | Fraction
    ) -> None:
        """The closing read: this reading, taken as the descriptor of the last one would have it.

        Not where it is another meter by its serial number, or read through another profile: then the register is
        another one, and the epoch that opens declares the hole.
        """
        former = self._former_map(head.cfg)
        described = former.descriptor.by_meter().get(head.meter) if former is not None else None
        if (
            former is None
            or described is None
            or described.profile_hash != self._meters[head.meter].profile.hash
        ):
            return
        if head.basis.serial is not None and point.basis.serial != head.basis.serial:
            return
        register = to_milliwh(counts, head.basis.per_count_milliwh)
        closing = replace(point, register_milliwh=register, basis=head.basis)
        self._advance(head, closing, sample, counts, former)

    def _former_map(self, cfg: str) -> Map | None:
        if cfg not in self._maps:
            kept = self._journal.descriptor(cfg)
            if kept is None:
                return None
            self._maps[cfg] = read_map(kept)
        return self._maps[cfg]

    def _advance(
        self, head: Head | None, point: Point, sample: Sample, counts: int | Fraction, under: Map
    ) -> None:
        bound = _bound(self._meters[point.meter], counts, head, point)
        outcome = advance(head, point, cfg=under.hash, rise_max_milliwh=bound)
        portion = self._portions[under.hash]
        match outcome:
            case Held(reason):
                self._refuse(sample, reason, "held", point.register_milliwh)
                return
            case Opened(before, after, reason):
                point = replace(point, opens=reason)
                if before is not None:
                    portion.events.extend(balance_of(before))
                    portion.events.append(epoch_opening(before, after, reason, bound))
            case Advanced(_, after):
                description = under.descriptor.by_meter()[point.meter]
                portion.deltas.append(delta_of(outcome, description, point.flags, self._interval_ms))
                portion.events.extend(gap_of(outcome, self._interval_ms))
                if after.run is not None and after.cut_ms // DAY_MS > after.run.day:
                    portion.events.extend(balance_of(after))
                    after = replace(after, run=None)
        self._keep_head(after)
        self._journal.add_reading(Reading(point, sample.words, under.hash))

    def _keep_head(self, head: Head) -> None:
        self._journal.save_head(head)
        self._heads[head.meter] = head

    def _refuse(self, sample: Sample, reason: str, kind: str, register_milliwh: int | None = None) -> None:
        register = self._meters[sample.meter].profile.energy.name
        event = refused_event(sample.at_ms, meter=sample.meter, register=register, reason=reason, count=1)
        self._portions[self._map.hash].events.append(event)
        self._not_booked[sample.meter] = NotBooked(kind, reason, sample.words, register_milliwh, sample.at_ms)

    def _flags_of(self, meter: Meter, counts: int | Fraction, sample: Sample) -> frozenset[str]:
        flags = set()
        if sample.retried:
            flags.add("comm")
        if self._cut.clock_steps_ms or not self._sealer.clock_is_trusted():
            flags.add("clock")
        register = meter.profile.energy
        is_float = register.type in (WordType.F32, WordType.F64)
        if is_float and resolution(register, counts) * meter.per_count_milliwh > _COARSE_MILLIWH:
            flags.add("quant")
        return frozenset(flags)


def _bound(meter: Meter, counts: int | Fraction, head: Head | None, point: Point) -> int | None:
    """Most energy the circuit can have used since the head, None if nobody knows its power."""
    if head is None:
        return None
    silent_ms = max(0, point.at_ms - head.at_ms)
    return rise_max(power_max_w(meter), step_milliwh(meter, counts), silent_ms)


def delta_of(
    advanced: Advanced, description: MeterDescription, flags: frozenset[str], interval_ms: int
) -> Delta:
    """The wire form of an advance under the meter's description at that time."""
    before, head = advanced.before, advanced.head
    q = set(flags)
    if head.n == 1:
        q.add("first")
    if advanced.roll_milliwh is not None:
        q.add("roll")
    if misses_boundaries(before.cut_ms, head.cut_ms, interval_ms):
        q.add("gap")
    return Delta(
        meter=head.meter,
        step=description.step,
        epoch=head.epoch,
        n=head.n,
        start_ms=before.at_ms,
        end_ms=head.at_ms,
        reg_start=before.register_milliwh,
        reg_end=head.register_milliwh,
        delta=advanced.delta_milliwh,
        roll=advanced.roll_milliwh,
        q=tuple(sorted(q)),
    )


def gap_of(advanced: Advanced, interval_ms: int) -> list[Event]:
    """The event that names the boundaries at which a meter could not be read, if there were any."""
    before, head = advanced.before, advanced.head
    if not misses_boundaries(before.cut_ms, head.cut_ms, interval_ms):
        return []
    reason = "no reading at one or more boundaries; energy exact, profile unknown"
    return [gap_event(head.at_ms, meter=head.meter, from_ms=before.at_ms, to_ms=head.at_ms, reason=reason)]


def balance_of(head: Head) -> list[Event]:
    """The sum of the deltas since the last balance, at the end of a day or of an epoch (rule V5)."""
    run = head.run
    if run is None:
        return []
    total = head.register_milliwh - run.register_milliwh + run.roll_milliwh
    return [
        balance_event(
            head.at_ms,
            meter=head.meter,
            epoch=head.epoch,
            n_first=run.n_first,
            n_last=head.n,
            reg_first=run.register_milliwh,
            reg_last=head.register_milliwh,
            sum_milliwh=total,
            roll=run.roll_milliwh,
        )
    ]


def epoch_opening(before: Head, after: Head, reason: str, bound: int | None) -> Event:
    """The event of an epoch change, with the hole between its two registers declared."""
    return epoch_event(
        after.at_ms,
        meter=after.meter,
        epoch_from=before.epoch,
        epoch_to=after.epoch,
        last=before.register_milliwh,
        first=after.register_milliwh,
        serial_from=before.basis.serial,
        serial_to=after.basis.serial,
        reason=reason,
        unmetered_from_ms=before.at_ms,
        unmetered_to_ms=after.at_ms,
        bound=bound,
        by="agent",
    )
