"""The energies of a period by step, exactly: booked deltas through the maps, with the factor of their time.

Before this come `quarters` and `plant`, after it `evaluation`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise

from agent.carbon.allocation import Span
from agent.carbon.electricity import Supply
from agent.carbon.exact import plain, text_of
from agent.carbon.factors import Factor
from agent.carbon.footprint import Footprint
from agent.carbon.template import factor_in_force
from agent.carbon.uncertainty import MeterQuality, class_percent, meter_variance, sum_variance
from agent.carbon.units import KgCO2e, KilowattHours
from agent.metering.plant import Role
from agent.metering.virtual import Estimate, MapMeter, Method, StepMap
from agent.reporting.utc import text_of_ms
from simulators.platform.maps import RatedStep
from simulators.platform.plant import Agent, Plant
from simulators.platform.quarters import QUARTER_MS, Part, Quarters
from simulators.platform.question import Question, fault

DAY_MS = 86_400_000
MILLIWH_PER_KWH = 1_000_000


@dataclass(frozen=True, slots=True)
class _Slice:
    """A stretch of time of one gateway in which one map and one factor hold."""

    agent: Agent
    at_ms: int
    parts: Sequence[Part]


@dataclass(slots=True)
class StepSum:
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


class Books:
    """A period's energies by step, exactly, with everything a report says of them."""

    def __init__(self, plant: Plant, quarters: Quarters, question: Question) -> None:
        self._plant = plant
        self._question = question
        self._used_factors: dict[str, Factor] = {}
        self.steps: dict[str, StepSum] = {}
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

    def _slices(self, agent: Agent, quarters: Quarters) -> Iterator[_Slice]:
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
                raise fault(question.series.id, reason, "a factor is never stretched") from None
            return Factor(question.series.id, value, KgCO2e, KilowattHours, question.series.provenance)
        family, year = question.template.electricity_family, _year(at_ms)
        factor = factor_in_force(question.factors.values(), family, year)
        if factor is None:
            reason = f"has no factor {family}... for {year} or before"
            raise fault(question.factor_set.name, reason, "name a factor set that has")
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

    def _need(self, agent: Agent, map_: StepMap, meters: Mapping[str, MapMeter]) -> None:
        """Remember which readings of this gateway the map asks for."""
        mine = f"{agent.name}/"
        for step, terms in map_.steps.items():
            total = self.steps.setdefault(step, StepSum())
            total.needed |= {id for id in terms if id.startswith(mine)}
            total.methods |= map_.methods[step]
        self.unassigned_needs |= {id for id in map_.unassigned if id.startswith(mine)}
        self.roles |= {id: meter for id, meter in meters.items() if id.startswith(mine)}

    def _expect(self, agent: Agent) -> None:
        """A gateway that said nothing of the period: what its last map asks for is missing."""
        if agent.newest is not None:
            found = self._plant.map_for(agent, agent.newest, self._question.from_ms)
            assert found is not None
            self._need(agent, *found)

    def _estimate(self, agent: Agent) -> None:
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

    def _rate(self, agent: Agent, rated: RatedStep, from_ms: int, to_ms: int) -> None:
        factor = self.factor_at(from_ms)
        self._used_factors[factor.id] = factor
        hours = rated.hours_per_day * (to_ms - from_ms) / DAY_MS
        energy = Estimate(
            rated.step, rated.rated_w, hours, rated.load_factor, rated.taken_from
        ).energy_milliwh
        total = self.steps.setdefault(rated.step, StepSum())
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
            "by_meter_kwh": {id: kwh_text(Fraction(energy)) for id, energy in sorted(self.meters.items())},
            "steps_kwh": kwh_text(steps),
            "unassigned_kwh": None if unassigned is None else kwh_text(unassigned),
            "used_by_nobody": {id: plain(part) for id, part in sorted(self._plant.unused.items())},
            "undescribed_kwh": kwh_text(Fraction(self.undescribed_milliwh)),
            "imported_kwh": text_of(supply.imported.value),
            "generated_kwh": text_of(supply.generated.value),
            "exported_kwh": text_of(supply.exported.value),
            "net_purchased_kwh": text_of(supply.net_purchased.value),
        }


def _span(start_ms: int, end_ms: int, energy: Fraction, value: Fraction) -> Span:
    kwh = energy / MILLIWH_PER_KWH
    return Span(start_ms, end_ms, kwh, kwh * value)


def kwh_text(energy: Fraction) -> str:
    """0.001 Wh as kWh."""
    return text_of(energy / MILLIWH_PER_KWH)


def _year(at_ms: int) -> int:
    return datetime.fromtimestamp(at_ms // 1000, UTC).year


def _year_begins(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000
