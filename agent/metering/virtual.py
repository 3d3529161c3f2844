"""The step map as arithmetic: which readings make up a step, which own load is used twice, and which by nobody.

A step may be fed by a meter, by exact shares of meters, and by *virtual meters*: sums and differences of meters with
exact coefficients. All of it is linear, so a map is written once as coefficients of the meters' readings, and energies
of any period are put in afterwards, in any order. Written instead in *own loads* (what a meter counted beyond its
children, `stepmap`), the same map shows by itself whether it counts a kWh twice: then an own load is used more than
once. That check needs no reading; it is made when the map is drawn.

What no meter of its own gives is always marked: a residual or another virtual meter, a fixed split of a shared meter,
or rated power x hours x load factor. An input that is missing makes a step incomplete, never zero; a residual that
comes out negative stays negative, because the sum is right only that way. Before this come the plant or a descriptor
and the energies of a period, after it the footprint and the balance.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from agent.metering.plant import Role, Share
from agent.metering.stepmap import NOT_A_LOAD, MappedMeter

Terms = dict[str, Fraction]
"""A linear form: coefficient by meter id; what is absent is zero."""


class Method(StrEnum):
    """How a step's energy is come by."""

    METER = "meter"
    VIRTUAL = "virtual meter"
    SPLIT = "fixed split"
    RATED = "rated power"


@dataclass(frozen=True, slots=True)
class MapMeter:
    """A meter as a map sees it; has what `stepmap.MappedMeter` asks for."""

    id: str
    role: Role
    parent: str | None
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """One meter of a sum, real or virtual, with its exact coefficient."""

    meter: str
    coefficient: Fraction


@dataclass(frozen=True, slots=True)
class VirtualMeter:
    """A sum of meters; its energy goes to `shares` like that of a real one. What is left over stays unassigned."""

    id: str
    terms: tuple[Term, ...]
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Energy of a step that no meter gives: rated power x hours x load factor.

    `taken_from` is the meter in whose own load it lies and from which it is therefore taken away, None where no meter
    counts it at all.
    """

    step: str
    rated_w: Fraction
    hours: Fraction
    load_factor: Fraction
    taken_from: str | None = None

    @property
    def energy_milliwh(self) -> Fraction:
        """The estimate, 0.001 Wh."""
        return self.rated_w * self.hours * self.load_factor * 1000


class MapError(ValueError):
    """A map that cannot be computed: an unknown meter, or meters that are made of one another."""


@dataclass(frozen=True, slots=True)
class StepMap:
    """Coefficients of the meters' readings by step; `unassigned` is what the loads counted and no step is given."""

    steps: Mapping[str, Terms]
    unassigned: Terms
    methods: Mapping[str, frozenset[Method]]


def step_map(meters: Sequence[MappedMeter], virtual: Sequence[VirtualMeter] = ()) -> StepMap:
    """Write a map as coefficients of readings.

    The sum over steps and unassigned is what the meters without a parent counted, generation added and export taken
    away, as in `agent.reporting.attribution`.

    Raises:
        MapError: a parent or a term names a meter in a circle, or a term names no meter.
    """
    own = own_load_terms(meters)
    expanded = expand(meters, virtual)
    steps: dict[str, Terms] = {}
    methods: dict[str, set[Method]] = {}

    def give(shares: Iterable[Share], terms: Terms, whole: Method) -> None:
        for share in shares:
            _add(steps.setdefault(share.step, {}), terms, share.part)
            method = whole if share.part == 1 else Method.SPLIT
            methods.setdefault(share.step, set()).add(method)

    for meter in meters:
        if meter.id in own:
            # A meter above others gives a difference of readings: a residual, although it hangs on the wall.
            give(meter.shares, own[meter.id], Method.METER if len(own[meter.id]) == 1 else Method.VIRTUAL)
    for made in virtual:
        give(made.shares, expanded[made.id], Method.VIRTUAL)
    unassigned: Terms = {}
    for terms in own.values():
        _add(unassigned, terms, Fraction(1))
    for terms in steps.values():
        _add(unassigned, terms, Fraction(-1))
    return StepMap(
        {step: _without_zeros(terms) for step, terms in steps.items()},
        _without_zeros(unassigned),
        {step: frozenset(found) for step, found in methods.items()},
    )


def own_load_terms(meters: Sequence[MappedMeter]) -> dict[str, Terms]:
    """Every load's own load as a sum of readings: itself less its children; generation below it adds to it.

    Raises:
        MapError: two meters have one id, or a meter is its own ancestor.
    """
    by_id = _by_id(meters)
    _refuse_circles(by_id)
    own: dict[str, Terms] = {
        meter.id: {meter.id: Fraction(1)} for meter in meters if meter.role not in NOT_A_LOAD
    }
    for meter in meters:
        if meter.parent in own:
            sign = 1 if meter.role is Role.GENERATION else -1
            _add(own[meter.parent], {meter.id: Fraction(1)}, Fraction(sign))
    return own


def expand(meters: Sequence[MappedMeter], virtual: Sequence[VirtualMeter]) -> dict[str, Terms]:
    """Virtual meters as sums of readings, also those that are made of other virtual meters. Raises MapError."""
    real = {meter.id for meter in meters}
    by_id = {made.id: made for made in virtual}
    if len(by_id) != len(virtual) or real & by_id.keys():
        raise MapError("two meters, real or virtual, have one id")
    done: dict[str, Terms] = {}

    def terms_of(id: str, above: tuple[str, ...]) -> Terms:
        if id in real:
            return {id: Fraction(1)}
        if id not in by_id:
            raise MapError(f"{above[-1] if above else 'a virtual meter'} names {id}, which is no meter")
        if id in above:
            raise MapError(f"{' > '.join((*above, id))}: a virtual meter is made of itself")
        if id not in done:
            total: Terms = {}
            for term in by_id[id].terms:
                _add(total, terms_of(term.meter, (*above, id)), term.coefficient)
            done[id] = total
        return done[id]

    return {made.id: terms_of(made.id, ()) for made in virtual}


# ------------------------------------------------------------------------------------------------------ static check


@dataclass(frozen=True, slots=True)
class MapFault:
    """An own load that a map uses wrongly; `meter` is whose."""

    meter: str
    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a map does with every own load: faults, and the part of each that no step uses (normal for an incomer)."""

    faults: tuple[MapFault, ...]
    unused: Mapping[str, Fraction]


def check(meters: Sequence[MappedMeter], virtual: Sequence[VirtualMeter] = ()) -> Usage:
    """Say without any reading whether a map counts a kWh twice, or negatively, and what it leaves to nobody.

    Over all steps each own load must be used with a total of 0 to 1, and never negatively within one step.

    Raises:
        MapError: as `step_map`.
    """
    readings = _readings_in_own_loads(meters)
    loads = [meter for meter in meters if meter.role not in NOT_A_LOAD]
    steps: dict[str, Terms] = {}
    for meter in loads:
        for share in meter.shares:
            _add(steps.setdefault(share.step, {}), {meter.id: Fraction(1)}, share.part)
    for made, terms in zip(virtual, expand(meters, virtual).values(), strict=True):
        in_own: Terms = {}
        for id, coefficient in terms.items():
            _add(in_own, readings[id], coefficient)
        for share in made.shares:
            _add(steps.setdefault(share.step, {}), in_own, share.part)
    faults, unused = [], {}
    for meter in loads:
        used = {step: terms[meter.id] for step, terms in steps.items() if terms.get(meter.id)}
        total = sum(used.values(), Fraction(0))
        faults += _misused(meter.id, used, total)
        if total < 1:
            unused[meter.id] = 1 - total
    return Usage(tuple(faults), unused)


def _misused(meter: str, used: Mapping[str, Fraction], total: Fraction) -> list[MapFault]:
    negative = [step for step, part in used.items() if part < 0]
    found = [MapFault(meter, f"counts negatively in {step}") for step in sorted(negative)]
    if total > 1:
        steps = ", ".join(f"{step} {part}" for step, part in sorted(used.items()))
        found.append(MapFault(meter, f"is used {total} times: {steps}"))
    elif total < 0:
        found.append(MapFault(meter, f"is used {total} times, which is less than not at all"))
    return found


def _readings_in_own_loads(meters: Sequence[MappedMeter]) -> dict[str, Terms]:
    """Every reading as a sum of own loads: a meter counts its own and all that lies below it."""
    by_id = _by_id(meters)
    _refuse_circles(by_id)
    below: dict[str, list[MappedMeter]] = {}
    for meter in meters:
        if meter.parent in by_id:
            below.setdefault(meter.parent, []).append(meter)
    done: dict[str, Terms] = {}

    def reading(meter: MappedMeter) -> Terms:
        if meter.id not in done:
            total: Terms = {meter.id: Fraction(1)}
            if meter.role not in NOT_A_LOAD:
                for child in below.get(meter.id, []):
                    _add(total, reading(child), Fraction(-1 if child.role is Role.GENERATION else 1))
            done[meter.id] = total
        return done[meter.id]

    return {meter.id: reading(meter) for meter in meters}


def _by_id(meters: Sequence[MappedMeter]) -> dict[str, MappedMeter]:
    by_id = {meter.id: meter for meter in meters}
    if len(by_id) != len(meters):
        raise MapError("two meters have one id")
    return by_id


def _refuse_circles(by_id: Mapping[str, MappedMeter]) -> None:
    for start in by_id.values():
        seen, meter = {start.id}, start
        while meter.parent is not None and meter.parent in by_id:
            meter = by_id[meter.parent]
            if meter.id in seen:
                raise MapError(f"{start.id} is among its own parents")
            seen.add(meter.id)


# ---------------------------------------------------------------------------------------------------- with readings


@dataclass(frozen=True, slots=True)
class Balance:
    """Energies by step and unassigned, 0.001 Wh; None is incomplete: an input is missing.

    `lacking` names the missing inputs by step. Where nothing is missing, steps and unassigned add up to what the
    meters without a parent counted, exactly.
    """

    steps: Mapping[str, Fraction | None]
    unassigned: Fraction | None
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def balance(
    map_: StepMap, energy_milliwh: Mapping[str, int | Fraction], estimates: Sequence[Estimate] = ()
) -> Balance:
    """Put the energies of a period into a map.

    Args:
        map_: as drawn.
        energy_milliwh: by meter; a meter that is absent is missing.
        estimates: for steps without a meter; what lies in a metered own load is taken from unassigned, which may
            become negative and then stays so.
    """
    steps: dict[str, Fraction | None] = {}
    lacking: dict[str, tuple[str, ...]] = {}
    for step, terms in map_.steps.items():
        missing = tuple(sorted(id for id in terms if id not in energy_milliwh))
        if missing:
            lacking[step] = missing
        steps[step] = None if missing else _value(terms, energy_milliwh)
    complete = all(id in energy_milliwh for id in map_.unassigned)
    unassigned = _value(map_.unassigned, energy_milliwh) if complete else None
    for estimate in estimates:
        before = steps.get(estimate.step, Fraction(0))
        steps[estimate.step] = None if before is None else before + estimate.energy_milliwh
        if estimate.taken_from is not None and unassigned is not None:
            unassigned -= estimate.energy_milliwh
    return Balance(steps, unassigned, lacking)


def _value(terms: Terms, energy_milliwh: Mapping[str, int | Fraction]) -> Fraction:
    return sum((part * energy_milliwh[id] for id, part in terms.items()), Fraction(0))


def _add(total: Terms, terms: Mapping[str, Fraction], times: Fraction) -> None:
    for id, coefficient in terms.items():
        total[id] = total.get(id, Fraction(0)) + coefficient * times


def _without_zeros(terms: Terms) -> Terms:
    return {id: coefficient for id, coefficient in terms.items() if coefficient}
