"""The footprint of a period from the platform's own books: verified kWh through the map in force, by locked factors.

Only booked energy counts, so every kWh of a report is signed, in a chain and acknowledged. The map is the descriptor
that was in force for each delta, or a corrected map for its validity. A report quotes the hashes of everything it was
made of and the head of every chain it had read; `up_to` reads no further than such heads, so that an old report can be
made again byte for byte after newer batches have come. No clock is asked.

Before this come `quarters` and `maps`, after it `agent.carbon.report`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise

from agent.carbon.activity import Activity, Place, Status, StepEnergy
from agent.carbon.allocation import Span, spread_utilities
from agent.carbon.electricity import Series, Supply, mean_factor
from agent.carbon.exact import text_of
from agent.carbon.factors import UNKNOWN, Factor
from agent.carbon.footprint import Footprint
from agent.carbon.preview import method_note, status_of
from agent.carbon.report import document, notes
from agent.carbon.sharing import parts_of_report
from agent.carbon.template import DocumentError, Locked, Template, factor_in_force
from agent.carbon.uncertainty import (
    MeterQuality,
    class_percent,
    meter_variance,
    sum_variance,
    uncertainty_of,
)
from agent.carbon.units import DimensionError, KgCO2e, KilowattHours
from agent.errors import ConfigError, Fault
from agent.metering.plant import Role
from agent.metering.virtual import Estimate, MapMeter, Method, StepMap, Term, VirtualMeter, step_map
from agent.reporting.attribution import map_meters
from agent.reporting.batch import Batch
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Descriptor, MeterDescription
from agent.reporting.envelope import BATCH, SIZE_MAX, base64url_decode
from agent.reporting.strictjson import loads
from agent.reporting.utc import text_of_ms
from simulators.footprint.activity import Folder
from simulators.footprint.sharing import outside_period
from simulators.platform.dossier import stored_descriptor
from simulators.platform.maps import Correction, RatedStep, drawn
from simulators.platform.quarters import QUARTER_MS, Part, Quarters
from simulators.platform.store import Store

DAY_MS = 86_400_000
STORE = Place("store")
MILLIWH_PER_KWH = 1_000_000
SIGMAS = 2
"""A negative residual beyond so many standard uncertainties is more than the meters' classes explain."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is to be of. The period is [from_ms, to_ms), UTC Unix ms, both on the grid of quarters."""

    org: str
    from_ms: int
    to_ms: int
    template: Template
    factors: Mapping[str, Factor]
    factor_set: Locked
    corrections: tuple[Correction, ...] = ()
    series: Series | None = None
    series_sha256: str | None = None
    folder: Folder | None = None
    up_to: Mapping[str, ChainHead] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A footprint, and the document that reports it."""

    footprint: Footprint
    document: dict[str, object]


def first_and_last_day(from_ms: int, to_ms: int) -> tuple[str, str]:
    """The UTC dates of a period's first and last moment."""
    days = (datetime.fromtimestamp(ms // 1000, UTC).date().isoformat() for ms in (from_ms, to_ms - 1))
    first, last = days
    return first, last


def evaluate(store: Store, quarters: Quarters, question: Question) -> Answer:
    """The footprint of a period.

    Args:
        store: the platform's; read in one snapshot.
        quarters: its memory; brought up to date here. A question with `up_to` needs an empty one.
        question: what is asked.

    Raises:
        ConfigError: the period is not on the grid, a document is not valid for it or does not fit, no factor is in
            force, or an entry of the folder is wrong.
    """
    _check_period(question)
    with store.snapshot():
        plant = _Plant(store, question)
        quarters.refresh(store, plant.limits)
        try:
            books = _Books(plant, quarters, question)
        except DocumentError as error:
            raise _fault("map", str(error)) from None
        messages = _messages(store, plant, question)
    activity = _activity(books, question)
    folder = question.folder or Folder(Activity(unsaid=_ALL_UNSAID), [])
    footprint = replace(folder, activity=_joined(folder.activity, activity)).evaluate(question.template)
    said = document(
        footprint,
        uncertainty=uncertainty_of(footprint, books.kwh_variances()),
        made_of=_made_of(plant, question, folder, messages),
    )
    said["period"] = {"from": text_of_ms(question.from_ms), "to": text_of_ms(question.to_ms)}
    said["electricity"] = books.to_payload()
    said["notes"] = [*notes(footprint), *outside_period(folder.sharing, question.from_ms, question.to_ms)]
    said |= parts_of_report(footprint, folder.sharing, books.spans(footprint))
    return Answer(footprint, said)


_ALL_UNSAID = frozenset({"materials", "fuel", "waste", "production"})


def _check_period(question: Question) -> None:
    if not question.from_ms < question.to_ms:
        raise _fault("--from", "the period ends before it begins", "--to is later than --from")
    if question.from_ms % QUARTER_MS or question.to_ms % QUARTER_MS:
        raise _fault("--from", "the period is not on the grid", "name quarters of an hour, such as 08:15Z")
    days = first_and_last_day(question.from_ms, question.to_ms)
    if not question.template.is_valid(*days):
        name = question.template.locked.name
        raise _fault(name, f"is not valid for {days[0]} to {days[1]}", "name the version that is")


# ------------------------------------------------------------------------------------------------------------- plant


@dataclass(slots=True)
class _Agent:
    """One gateway: its descriptors by row with their hashes, the newest one, and the head that was read."""

    agent_id: int
    name: str
    descriptors: dict[int, Descriptor]
    hashes: dict[int, str]
    newest: int | None
    head: ChainHead | None
    batch_id: int


class _Plant:
    """All gateways of an organisation, and the maps that hold for them."""

    def __init__(self, store: Store, question: Question) -> None:
        self._question = question
        sql = "SELECT agent_id, agent FROM agents WHERE org = ? ORDER BY agent"
        names = store.rows(sql, (question.org,))
        if not names:
            raise _fault("--org", f"the store knows no gateway of {question.org}", "see: platform totals")
        self.agents = [
            _agent(store, agent_id, name, None if question.up_to is None else question.up_to.get(name))
            if question.up_to is None or name in question.up_to
            else _Agent(agent_id, name, {}, {}, None, None, 0)
            for agent_id, name in names
        ]
        self._maps: dict[tuple[object, ...], tuple[StepMap, dict[str, MapMeter]]] = {}

    @property
    def limits(self) -> dict[int, int] | None:
        """The last batch of every gateway that counts, None where all do."""
        if self._question.up_to is None:
            return None
        return {agent.agent_id: agent.batch_id for agent in self.agents}

    def correction(self, agent: _Agent, at_ms: int) -> Correction | None:
        """The corrected map in force for a gateway at a time, None for its own descriptor."""
        name = f"{self._question.org}/{agent.name}"
        found = [each for each in self._question.corrections if each.holds(name, at_ms)]
        if len(found) > 1:
            names = " and ".join(each.locked.name for each in found)
            raise DocumentError(f"{names} hold for {name} at the same time")
        return found[0] if found else None

    def map_for(
        self, agent: _Agent, descriptor_id: int, at_ms: int
    ) -> tuple[StepMap, dict[str, MapMeter]] | None:
        """The map by which rows of a gateway under a descriptor count; None where the descriptor has not come."""
        if descriptor_id not in agent.descriptors:
            return None
        chosen = tuple(
            (other, descriptor_id if other is agent else other.newest, self.correction(other, at_ms))
            for other in self.agents
        )
        key = tuple((other.agent_id, number, id(correction)) for other, number, correction in chosen)
        if key not in self._maps:
            self._maps[key] = _combined(chosen)
        return self._maps[key]

    def descriptions(self) -> Iterator[tuple[str, MeterDescription]]:
        """Every meter of every descriptor, oldest first, with its qualified id."""
        for agent in self.agents:
            for number in sorted(agent.descriptors):
                for meter in agent.descriptors[number].meters:
                    yield f"{agent.name}/{meter.meter}", meter


def _agent(store: Store, agent_id: int, name: str, up_to: ChainHead | None) -> _Agent:
    """A gateway as it stood at a batch, or as it stands now."""
    if up_to is None:
        sql = "SELECT head_chain, head_seq, head_hash FROM agents WHERE agent_id = ?"
        head = ChainHead(*row) if (row := store.one(sql, (agent_id,)))[0] is not None else None
    else:
        head = up_to
    batch_id, newest = (0, None) if head is None else _batch(store, agent_id, name, head)
    rows = store.rows(
        "SELECT descriptor_id, hash, jws FROM descriptors WHERE agent_id = ? AND jws IS NOT NULL AND descriptor_id <= ?"
        " ORDER BY descriptor_id",
        (agent_id, newest or 0),
    )
    return _Agent(
        agent_id,
        name,
        {number: stored_descriptor(jws) for number, _, jws in rows},
        {number: hash_ for number, hash_, _ in rows},
        max((number for number, _, _ in rows), default=None),
        head,
        batch_id,
    )


def _batch(store: Store, agent_id: int, name: str, head: ChainHead) -> tuple[int, int]:
    """The row of a batch, and of the descriptor that was in force for it."""
    sql = "SELECT batch_id, hash, jws FROM batches WHERE agent_id = ? AND chain = ? AND seq = ?"
    row = store.first(sql, (agent_id, head.chain, head.seq))
    if row is None or row[1] != head.hash:
        raise _fault(
            name, f"the store does not hold batch {head.chain}/{head.seq}", "use the store of the report"
        )
    payload = base64url_decode(row[2].decode("ascii").split(".")[1])
    cfg = Batch.from_payload(loads(payload, size_max=SIZE_MAX[BATCH])).cfg
    sql = "SELECT descriptor_id FROM descriptors WHERE agent_id = ? AND hash = ?"
    return row[0], store.one(sql, (agent_id, cfg))[0]


def _combined(
    chosen: Sequence[tuple[_Agent, int | None, Correction | None]],
) -> tuple[StepMap, dict[str, MapMeter]]:
    """One map of all gateways: meters are called `gateway/meter`, so that a parent may be at another gateway."""
    meters: list[MapMeter] = []
    virtual: list[VirtualMeter] = []
    for agent, number, correction in chosen:
        own = () if number is None else map_meters(agent.descriptors[number])
        if correction is not None:
            drawn(own, correction)  # refuses one that counts twice by itself, with its own ids
            own = own if correction.meters is None else correction.meters
            virtual += [_qualified_virtual(agent.name, made) for made in correction.virtual]
        meters += [_qualified(agent.name, meter) for meter in own]
    return step_map(meters, virtual), {meter.id: meter for meter in meters}


def _qualified(agent: str, meter: MapMeter) -> MapMeter:
    return replace(meter, id=f"{agent}/{meter.id}", parent=_at(agent, meter.parent))


def _qualified_virtual(agent: str, made: VirtualMeter) -> VirtualMeter:
    terms = tuple(Term(_at(agent, term.meter) or "", term.coefficient) for term in made.terms)
    return replace(made, id=f"{agent}/{made.id}", terms=terms)


def _at(agent: str, meter: str | None) -> str | None:
    return meter if meter is None or "/" in meter else f"{agent}/{meter}"


# ------------------------------------------------------------------------------------------------------------- books


@dataclass(frozen=True, slots=True)
class _Slice:
    """A stretch of time of one gateway in which one map and one factor hold."""

    agent: _Agent
    at_ms: int
    parts: Sequence[Part]


@dataclass(slots=True)
class _StepSum:
    """What a step is made of: energy by factor value, by meter, and how it was come by; 0.001 Wh.

    `by_time` has it by (from, to, factor value), and is kept only for steps with work orders or states.
    """

    by_value: dict[Fraction, Fraction] = field(default_factory=dict)
    by_meter: dict[str, Fraction] = field(default_factory=dict)
    by_time: dict[tuple[int, int, Fraction], Fraction] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)
    methods: set[Method] = field(default_factory=set)

    @property
    def energy(self) -> Fraction:
        """All of it."""
        return sum(self.by_value.values(), Fraction(0))

    def add(self, value: Fraction, energy: Fraction) -> None:
        """Energy that counts by a factor of this value."""
        self.by_value[value] = self.by_value.get(value, Fraction(0)) + energy

    def add_time(self, when: tuple[int, int, Fraction], energy: Fraction) -> None:
        """When energy was used, and by which factor it counts."""
        self.by_time[when] = self.by_time.get(when, Fraction(0)) + energy


class _Books:
    """A period's energies by step, exactly, with everything a report says of them."""

    def __init__(self, plant: _Plant, quarters: Quarters, question: Question) -> None:
        self._plant = plant
        self._question = question
        self._used_factors: dict[str, Factor] = {}
        self.steps: dict[str, _StepSum] = {}
        self.meters: dict[str, int] = {}
        self.covered_ms: dict[str, int] = {}
        self.roles: dict[str, MapMeter] = {}
        self.unassigned = Fraction(0)
        self.unassigned_needs: set[str] = set()
        self.undescribed_milliwh = 0
        self._timed = frozenset() if question.folder is None else question.folder.sharing.timed_steps
        for agent in plant.agents:
            slices = list(self._slices(agent, quarters))
            for each in slices:
                self._take(each)
            if not any(each.parts for each in slices):
                self._expect(agent)
            self._estimate(agent)

    # -- time

    def _slices(self, agent: _Agent, quarters: Quarters) -> Iterator[_Slice]:
        question = self._question
        if question.series is not None or self._timed:
            parts = quarters.by_quarter(agent.agent_id, question.from_ms, question.to_ms)
            yield from (_Slice(agent, at_ms, found) for at_ms, found in parts.items())
            return
        for from_ms, to_ms in self._stretches():
            yield _Slice(agent, from_ms, quarters.energies(agent.agent_id, from_ms, to_ms))

    def _stretches(self) -> list[tuple[int, int]]:
        """The period, cut where a corrected map begins or ends and where a year does."""
        question = self._question
        borders = {question.from_ms, question.to_ms}
        for each in question.corrections:
            borders |= {each.from_ms, each.to_ms or question.to_ms}
        borders |= {_year_begins(year) for year in range(_year(question.from_ms), _year(question.to_ms) + 1)}
        inside = sorted(ms for ms in borders if question.from_ms <= ms <= question.to_ms)
        return list(pairwise(inside))

    def factor_at(self, at_ms: int) -> Factor:
        """The factor in force at a time: the series' value, or the family's of that year."""
        question = self._question
        if question.series is not None:
            try:
                value = question.series.at(at_ms)
            except LookupError:
                reason = f"has no value for {text_of_ms(at_ms)}"
                raise _fault(question.series.id, reason, "a factor is never stretched") from None
            return Factor(question.series.id, value, KgCO2e, KilowattHours, question.series.provenance)
        family, year = question.template.electricity_family, _year(at_ms)
        factor = factor_in_force(question.factors.values(), family, year)
        if factor is None:
            reason = f"has no factor {family}... for {year} or before"
            raise _fault(question.factor_set.name, reason, "name a factor set that has")
        return factor

    # -- energy

    def _take(self, each: _Slice) -> None:
        if not each.parts:
            return
        factor = self.factor_at(each.at_ms)
        for part in each.parts:
            id = f"{each.agent.name}/{part.meter}"
            found = self._plant.map_for(each.agent, part.descriptor_id, each.at_ms)
            if found is None or id not in found[1]:
                self.undescribed_milliwh += part.energy_milliwh
                continue
            self._used_factors[factor.id] = factor
            self.meters[id] = self.meters.get(id, 0) + part.energy_milliwh
            self.covered_ms[id] = self.covered_ms.get(id, 0) + part.covered_ms
            self._need(each.agent, *found)
            self._give(id, Fraction(part.energy_milliwh), found[0], (each.at_ms, factor.value))

    def _give(self, meter: str, energy: Fraction, map_: StepMap, when: tuple[int, Fraction]) -> None:
        at_ms, value = when
        for step, terms in map_.steps.items():
            if meter in terms:
                given = energy * terms[meter]
                total = self.steps[step]
                total.add(value, given)
                if step in self._timed:
                    total.add_time((at_ms, at_ms + QUARTER_MS, value), given)
                total.by_meter[meter] = total.by_meter.get(meter, Fraction(0)) + given
        self.unassigned += energy * map_.unassigned.get(meter, Fraction(0))

    def _need(self, agent: _Agent, map_: StepMap, meters: Mapping[str, MapMeter]) -> None:
        """Remember which readings of this gateway the map asks for."""
        mine = f"{agent.name}/"
        for step, terms in map_.steps.items():
            total = self.steps.setdefault(step, _StepSum())
            total.needed |= {id for id in terms if id.startswith(mine)}
            total.methods |= map_.methods[step]
        self.unassigned_needs |= {id for id in map_.unassigned if id.startswith(mine)}
        self.roles |= {id: meter for id, meter in meters.items() if id.startswith(mine)}

    def _expect(self, agent: _Agent) -> None:
        """A gateway that said nothing of the period: what its last map asks for is missing."""
        if agent.newest is not None:
            found = self._plant.map_for(agent, agent.newest, self._question.from_ms)
            assert found is not None
            self._need(agent, *found)

    def _estimate(self, agent: _Agent) -> None:
        """Rated power of steps without a meter, where a corrected map says so."""
        for from_ms, to_ms in self._stretches():
            correction = self._plant.correction(agent, from_ms)
            for rated in correction.rated if correction is not None else ():
                for at_ms, until_ms in self._factor_stretches(from_ms, to_ms):
                    self._rate(agent, rated, at_ms, until_ms)

    def _factor_stretches(self, from_ms: int, to_ms: int) -> list[tuple[int, int]]:
        if self._question.series is None:
            return [(from_ms, to_ms)]
        return list(pairwise(range(from_ms, to_ms + 1, QUARTER_MS)))

    def _rate(self, agent: _Agent, rated: RatedStep, from_ms: int, to_ms: int) -> None:
        factor = self.factor_at(from_ms)
        self._used_factors[factor.id] = factor
        hours = rated.hours_per_day * (to_ms - from_ms) / DAY_MS
        energy = Estimate(
            rated.step, rated.rated_w, hours, rated.load_factor, rated.taken_from
        ).energy_milliwh
        total = self.steps.setdefault(rated.step, _StepSum())
        total.methods.add(Method.RATED)
        total.add(factor.value, energy)
        if rated.step in self._timed:
            total.add_time((from_ms, to_ms, factor.value), energy)
        if rated.taken_from is not None:
            self.unassigned -= energy
            self.unassigned_needs.add(f"{agent.name}/{rated.taken_from}")

    # -- answers

    def lacking(self, step: str) -> list[str]:
        """The readings a step needs and the period does not have."""
        return sorted(id for id in self.steps[step].needed if id not in self.meters)

    def covered(self, step: str) -> Fraction:
        """The part of the period for which all readings of a step are known."""
        length_ms = self._question.to_ms - self._question.from_ms
        parts = [Fraction(self.covered_ms.get(id, 0), length_ms) for id in self.steps[step].needed]
        return min([*parts, Fraction(1)])

    def kwh_variances(self) -> dict[str, Fraction]:
        """Variance of a step's kWh, kWh^2, for the steps of which every meter's class is known."""
        qualities = {
            id: MeterQuality(
                class_percent(meter.accuracy_class), class_percent(meter.ct_class), meter.resolution
            )
            for id, meter in self._plant.descriptions()
        }
        found = {}
        for step, total in self.steps.items():
            variances = [
                None if id not in qualities else meter_variance(energy, qualities[id])
                for id, energy in total.by_meter.items()
            ]
            known = [(Fraction(1), variance) for variance in variances if variance is not None]
            if len(known) == len(variances) and Method.RATED not in total.methods and known:
                found[step] = sum_variance(known) / MILLIWH_PER_KWH**2
        return found

    def spans(self, footprint: Footprint) -> dict[str, list[Span]]:
        """When the timed steps used what; utilities that a key gave them are taken to be even over the period.

        They add up to the rows of the footprint. Where it has one factor for all, that one counts, else each its own.
        """
        made: dict[str, list[Span]] = {}
        whole = (self._question.from_ms, self._question.to_ms)
        for row in footprint.rows:
            total = self.steps.get(row.id)
            if row.id not in self._timed or total is None or row.amount is None or row.factor is None:
                continue
            own = len(total.by_value) > 1
            spans = [
                _span(start_ms, end_ms, energy, value if own else row.factor.value)
                for (start_ms, end_ms, value), energy in sorted(total.by_time.items())
            ]
            extra = row.amount.value * MILLIWH_PER_KWH - total.energy
            made[row.id] = [*spans, _span(*whole, extra, row.factor.value)] if extra else spans
        return made

    @property
    def supply(self) -> Supply:
        """What came in, was made and was sent out, by the meters of these roles."""
        sums = dict.fromkeys((Role.INCOMER, Role.GENERATION, Role.EXPORT), 0)
        for id, energy in self.meters.items():
            meter = self.roles[id]
            nested = meter.role is Role.INCOMER and meter.parent in self.roles
            if meter.role in sums and not nested:
                sums[meter.role] += energy
        imported, made, sent = (KilowattHours.of_milliwh(energy) for energy in sums.values())
        return Supply(imported, made, sent)

    @property
    def unassigned_known(self) -> Fraction | None:
        """What no step was given, None where a reading for it is missing."""
        return self.unassigned if self.unassigned_needs <= self.meters.keys() else None

    def factors(self) -> list[Factor]:
        """The factors that were used; one, unless years or a series differ."""
        return list(self._used_factors.values())

    def to_payload(self) -> dict[str, object]:
        """The balance of a report, in kWh."""
        supply, unassigned = self.supply, self.unassigned_known
        steps = sum((total.energy for total in self.steps.values()), Fraction(0))
        return {
            "by_meter_kwh": {id: _kwh(Fraction(energy)) for id, energy in sorted(self.meters.items())},
            "steps_kwh": _kwh(steps),
            "unassigned_kwh": None if unassigned is None else _kwh(unassigned),
            "undescribed_kwh": _kwh(Fraction(self.undescribed_milliwh)),
            "imported_kwh": text_of(supply.imported.value),
            "generated_kwh": text_of(supply.generated.value),
            "exported_kwh": text_of(supply.exported.value),
            "net_purchased_kwh": text_of(supply.net_purchased.value),
        }


def _span(start_ms: int, end_ms: int, energy: Fraction, value: Fraction) -> Span:
    kwh = energy / MILLIWH_PER_KWH
    return Span(start_ms, end_ms, kwh, kwh * value)


def _kwh(energy: Fraction) -> str:
    return text_of(energy / MILLIWH_PER_KWH)


def _year(at_ms: int) -> int:
    return datetime.fromtimestamp(at_ms // 1000, UTC).year


def _year_begins(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000


# ---------------------------------------------------------------------------------------------------------- activity


def _activity(books: _Books, question: Question) -> Activity:
    """The electricity of the period as an activity: one entry for every step that a map knows."""
    electricity = _flat_factor(books, question)
    spread, note = _with_utilities(books, question.template)
    variances = books.kwh_variances()
    entries = []
    for step, total in books.steps.items():
        if lacking := books.lacking(step):
            said = f"incomplete: nothing came of {', '.join(lacking)}"
            entries.append(StepEnergy(STORE, step, None, Status.MISSING, said))
            continue
        extra = spread.get(step, Fraction(0))
        entries.append(_entry(step, total, extra, note, books, electricity, variances.get(step)))
    return Activity(steps=tuple(entries), electricity=electricity, electricity_place=Place("factors"))


def _entry(
    step: str,
    total: _StepSum,
    extra: Fraction,
    extra_note: str,
    books: _Books,
    electricity: Factor | None,
    variance: Fraction | None,
) -> StepEnergy:
    energy = total.energy + extra
    notes = [note] if (note := method_note(frozenset(total.methods))) else []
    notes += [extra_note.format(_kwh(extra))] if extra else []
    if total.energy < 0:
        kwh = total.energy / MILLIWH_PER_KWH
        beyond = variance is not None and kwh**2 > SIGMAS**2 * variance
        notes.append("negative, and kept so" + ("; more than the meters' classes explain" if beyond else ""))
    factor = None if electricity is not None else _mean(step, total)
    status = Status.ESTIMATED if extra else status_of(frozenset(total.methods))
    amount = KilowattHours.of_milliwh(energy)
    return StepEnergy(STORE, step, amount, status, "; ".join(notes), factor, books.covered(step))


def _mean(step: str, total: _StepSum) -> Factor | None:
    """The factor that reproduces what each stretch of time emits by its own."""
    parts = [(KilowattHours.of_milliwh(energy), value) for value, energy in total.by_value.items()]
    try:
        return mean_factor(f"{step} mean", parts, UNKNOWN) or Factor(
            "none", Fraction(0), KgCO2e, KilowattHours
        )
    except DimensionError as error:
        raise _fault(step, str(error)) from None


def _flat_factor(books: _Books, question: Question) -> Factor | None:
    """The one factor of all steps; None where time makes them differ."""
    template, used = question.template, books.factors()
    if template.supply == "net" and books.supply.generated.value:
        if len(used) != 1 or question.series is not None:
            raise _fault(
                template.locked.name, "counts own generation, which needs one factor for the whole period"
            )
        own = question.factors.get(template.generation_factor)
        if own is None:
            raise _fault(question.factor_set.name, f"has no factor {template.generation_factor}")
        try:
            return books.supply.mixed(used[0], own)
        except DimensionError as error:
            raise _fault("electricity", str(error)) from None
    if question.series is not None or len(used) > 1:
        return None
    return used[0] if used else books.factor_at(question.from_ms)


def _with_utilities(books: _Books, template: Template) -> tuple[dict[str, Fraction], str]:
    """What each step is given of the unassigned, by the template's key; nothing where there is none."""
    unassigned = books.unassigned_known
    if template.utilities_key is None or not unassigned:
        return {}, ""
    if len(books.factors()) > 1:
        raise _fault(template.locked.name, "spreads utilities, which needs one factor for the whole period")
    zeros = dict.fromkeys(books.steps, Fraction(0))
    try:
        spread, _ = spread_utilities(zeros, unassigned, template.utilities_key)
    except ValueError as error:
        raise _fault(template.locked.name, str(error)) from None
    return spread, "with {} kWh of utilities by the template's key"


def _joined(folder: Activity, electricity: Activity) -> Activity:
    """The materials, fuels and wastes of a folder with the verified electricity."""
    return replace(
        folder,
        steps=electricity.steps,
        electricity=electricity.electricity,
        electricity_place=electricity.electricity_place,
        unsaid=folder.unsaid - {"electricity"},
    )


# ---------------------------------------------------------------------------------------------------- what it was of


def _messages(store: Store, plant: _Plant, question: Question) -> dict[str, object]:
    """For each gateway the head that was read, and the batches whose energy lies in the period."""
    said: dict[str, object] = {}
    for agent in plant.agents:
        ranges = store.rows(
            "SELECT b.chain, min(b.seq), max(b.seq), count(DISTINCT b.batch_id)"
            " FROM booked k JOIN batches b USING (batch_id)"
            " WHERE k.agent_id = ? AND k.start_ms < ? AND k.end_ms > ? AND k.batch_id <= ?"
            " GROUP BY b.chain ORDER BY min(b.batch_id)",
            (agent.agent_id, question.to_ms, question.from_ms, agent.batch_id),
        )
        if agent.head is not None:
            said[agent.name] = {
                "head": agent.head.to_payload(),
                "booked": [
                    {"chain": chain, "seq_first": first, "seq_last": last, "batches": count}
                    for chain, first, last, count in ranges
                ],
            }
    return said


def _made_of(
    plant: _Plant, question: Question, folder: Folder, messages: Mapping[str, object]
) -> dict[str, object]:
    names = {f"{question.org}/{agent.name}" for agent in plant.agents}
    return {
        "org": question.org,
        "factors": question.factor_set.quoted(),
        "series": None
        if question.series is None
        else {"id": question.series.id, "sha256": question.series_sha256},
        "maps": {
            agent.name: {"rev": agent.descriptors[agent.newest].rev, "hash": agent.hashes[agent.newest]}
            for agent in plant.agents
            if agent.newest is not None
        },
        "corrected_maps": [each.locked.quoted() for each in question.corrections if each.agent in names],
        "messages": dict(messages),
        "files": dict(sorted(folder.hashes.items())),
    }


def _fault(key: str, reason: str, remedy: str = "") -> ConfigError:
    return ConfigError([Fault("report", None, key, reason, remedy)])
