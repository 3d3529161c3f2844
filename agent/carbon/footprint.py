"""The footprint of a period: E = Em + Ep, with Em of materials and their transport and Ep = Eb + Edl + Ew.

    Em  = sum(q m EFc) + sum(q m L EFt)        materials: issued amount x mass x factor, and each leg of their transport
    Eb  = sum(q NCV c o 44/12)                 fuels
    Edl = sum(kWh EF)                          the electricity of each step
    Ew  = sum(q EF)                            wastes

Everything is an exact fraction of kg until it is written. Every source of the template has a row with a status; a
source without a figure adds nothing and is listed as missing, and then the report is not complete. Nothing is
computed while one entry is wrong: all faults are told at once. Before this comes `activity`, after it `report`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fractions import Fraction
from typing import TypeVar

from agent.carbon.activity import Activity, Fuel, Leg, Material, Place, Status, StepEnergy, Waste
from agent.carbon.factors import Factor, Provenance, as_co2e, combustion_factor
from agent.carbon.template import Source, Template
from agent.carbon.units import (
    Amount,
    DimensionError,
    KgCO2e,
    Kilograms,
    KilowattHours,
    mass_of,
    unit_of,
)
from agent.errors import ConfigError, Fault

ZERO = KgCO2e(Fraction(0))
PRIMARY_ACTIVITY = frozenset({Status.MEASURED, Status.VIRTUAL, Status.IMPORTED})
"""Primary data are measured, or calculated from what was measured (ISO 14067); an estimate is neither."""

E = TypeVar("E", StepEnergy, Material)


@dataclass(frozen=True, slots=True)
class Row:
    """One source of a report. `emission` None is missing; `transport` is the part of it that is transport.

    `primary` is the part of the emission of which activity and factor are primary data.
    """

    number: int | None
    id: str
    kind: str
    name_en: str
    name_zh: str
    status: Status
    amount: Amount | None = None
    emission: KgCO2e | None = None
    transport: KgCO2e | None = None
    factor: Factor | None = None
    note: str = ""
    covered: Fraction = Fraction(1)
    primary: KgCO2e = ZERO


@dataclass(frozen=True, slots=True)
class Footprint:
    """All rows and the sums. `rows` are the template's sources in their order, `extra` what lies outside its list."""

    template: Template
    rows: tuple[Row, ...]
    extra: tuple[Row, ...]
    materials: KgCO2e
    fuel: KgCO2e
    electricity: KgCO2e
    waste: KgCO2e
    good: int | None
    started: int | None
    product_id: str | None
    unsaid: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def production(self) -> KgCO2e:
        """Ep: fuel, electricity and waste."""
        return self.fuel + self.electricity + self.waste

    @property
    def total(self) -> KgCO2e:
        """E: everything that has a figure."""
        return self.materials + self.production

    @property
    def per_good_piece(self) -> KgCO2e | None:
        """The footprint of the declared unit; None without production, which is nothing to divide by."""
        return KgCO2e(self.total.value / self.good) if self.good else None

    @property
    def missing(self) -> tuple[str, ...]:
        """Sources of the template without a figure."""
        return tuple(row.id for row in self.rows if row.status is Status.MISSING)

    @property
    def is_complete(self) -> bool:
        """Whether every source has a figure, every transport too, and nothing was left unsaid."""
        return not (self.missing or self.unsaid or self.without_transport or self.partly_covered)

    @property
    def partly_covered(self) -> dict[str, Fraction]:
        """Steps whose energy is known for a part of the period only."""
        return {row.id: row.covered for row in self.rows if row.covered < 1}

    @property
    def without_transport(self) -> tuple[str, ...]:
        """Materials of which an amount, but no transport is known."""
        return tuple(
            row.id
            for row in (*self.rows, *self.extra)
            if row.kind in ("material", "outside") and _is_used(row) and row.transport is None
        )

    @property
    def primary_activity_share(self) -> Fraction | None:
        """The part of the emission whose activity was metered or imported, None without emission."""
        return self._share(
            row.emission.value for row in self._all if row.emission and row.status in PRIMARY_ACTIVITY
        )

    @property
    def primary_data_share(self) -> Fraction | None:
        """The part of the emission of which activity *and* factor are primary data, None without emission."""
        return self._share(row.primary.value for row in self._all)

    @property
    def _all(self) -> tuple[Row, ...]:
        return (*self.rows, *self.extra)

    def _share(self, values: Iterable[Fraction]) -> Fraction | None:
        total = self.total.value
        return sum(values, Fraction(0)) / total if total else None


def _is_used(row: Row) -> bool:
    return row.status not in (Status.MISSING, Status.DECLARED_ZERO)


@dataclass(slots=True)
class _Work:
    """An evaluation under way: what is wrong so far, and what is worth saying."""

    template: Template
    faults: list[Fault] = field(default_factory=list)
    electricity: Factor | None = None
    """The factor that serves the steps, once it is found fit; None while it is missing or refused."""

    def fault(self, place: Place, key: str, reason: str, remedy: str = "") -> None:
        self.faults.append(Fault(place.file, place.line, key, reason, remedy))

    def attempt(self, place: Place, key: str, act: Callable[[], KgCO2e]) -> KgCO2e:
        """What an entry emits; a fault of its units is remembered with its row."""
        try:
            return act()
        except DimensionError as error:
            self.fault(place, key, str(error))
            return ZERO


def evaluate(activity: Activity, template: Template) -> Footprint:
    """The footprint of an activity by a template.

    Raises:
        ConfigError: with every fault of the activity and its row: an unknown source, one that is there twice, units
            that do not close, CO2 where CO2e is added, a factor that is missing.
    """
    work = _Work(template)
    work.electricity = _electricity(activity, work)
    steps = _by_id(activity.steps, template.steps, "step", work)
    materials = _by_id(activity.materials, template.materials, "material", work)
    _once(activity.fuels, "fuel", work)
    _once(activity.wastes, "waste", work)
    rows = [
        _step_row(source, steps.get(source.id), work)
        if source.kind == "electricity"
        else _material_row(source, materials.get(source.id), work)
        for source in template.sources
    ]
    extra = [_outside_row(entry, work) for entry in activity.materials if entry.outside]
    extra += [_fuel_row(fuel, work) for fuel in activity.fuels]
    extra += [_waste_row(waste, work) for waste in activity.wastes]
    if work.faults:
        raise ConfigError(work.faults)
    production = activity.production
    return Footprint(
        template=template,
        rows=tuple(rows),
        extra=tuple(extra),
        materials=_sum(rows, extra, "material", "outside"),
        fuel=_sum(rows, extra, "fuel"),
        electricity=_sum(rows, extra, "electricity"),
        waste=_sum(rows, extra, "waste"),
        good=None if production is None else production.good,
        started=None if production is None else production.started,
        product_id=None if production is None else production.product_id,
        unsaid=tuple(sorted(activity.unsaid)),
        notes=activity.notes,
    )


def _sum(rows: Sequence[Row], extra: Sequence[Row], *kinds: str) -> KgCO2e:
    total = ZERO
    for row in (*rows, *extra):
        if row.kind in kinds and row.emission is not None:
            total += row.emission
    return total


def _by_id(entries: Iterable[E], sources: Sequence[Source], what: str, work: _Work) -> dict[str, E]:
    """The entries by their source; one of an unknown source, or of one that was there before, is a fault."""
    known = {source.id for source in sources}
    others = {source.id: source.kind for source in work.template.sources}
    found: dict[str, E] = {}
    for entry in entries:
        if isinstance(entry, Material) and entry.outside:
            continue
        if entry.id not in known:
            kind = others.get(entry.id)
            reason = (
                f'there is no {what} "{entry.id}"' if kind is None else f'"{entry.id}" is a source of {kind}'
            )
            work.fault(entry.place, "id", reason, nearest_of(entry.id, known))
        elif entry.id in found:
            first = found[entry.id].place.line
            place = "" if first is None else f" (line {first})"
            work.fault(entry.place, "id", f'"{entry.id}" is there a second time{place}', _ONCE[what])
        else:
            found[entry.id] = entry
    return found


_ONCE = {
    "step": "add the kWh up: one row a step",
    "material": "add the amounts up; further legs of transport have a file of their own",
}


def nearest_of(given: str, known: Iterable[str]) -> str:
    """A question such as `did you mean "flux"?`, empty where nothing known is close."""
    close = get_close_matches(given[:64], sorted(known), n=1)
    return f'did you mean "{close[0]}"?' if close else ""


def _once(entries: Sequence[Fuel] | Sequence[Waste], what: str, work: _Work) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            work.fault(entry.place, "id", f'{what} "{entry.id}" is there a second time', "add the amounts up")
        seen.add(entry.id)


# ------------------------------------------------------------------------------------------------------------- rows


def _step_row(source: Source, entry: StepEnergy | None, work: _Work) -> Row:
    row = _row(source, Status.MISSING)
    if entry is None or entry.kwh is None or entry.status is Status.MISSING:
        return row if entry is None else replace(row, note=entry.note)
    row = replace(row, status=entry.status, amount=entry.kwh, note=entry.note, covered=entry.covered)
    factor = entry.factor or work.electricity
    if factor is None:
        # Nothing to emit where nothing was used; otherwise the missing factor has been told once, for all steps.
        return replace(row, emission=ZERO)
    kwh, known = entry.kwh, factor
    emission = work.attempt(entry.place, factor.id, lambda: _co2e(known, kwh, work, "electricity"))
    primary = emission if entry.status in PRIMARY_ACTIVITY and factor.provenance.primary else ZERO
    return replace(row, emission=emission, factor=factor, primary=primary)


def _electricity(activity: Activity, work: _Work) -> Factor | None:
    """The factor that serves the steps; what is wrong with it is told once, with its own row."""
    factor, id = activity.electricity, work.template.electricity
    if factor is None:
        needing = [
            step.id for step in activity.steps if step.kwh is not None and step.kwh.value and not step.factor
        ]
        if needing:
            count = "1 step has" if len(needing) == 1 else f"{len(needing)} steps have"
            reason = f'there is no factor "{id}", and {count} kWh'
            work.fault(activity.electricity_place, "id", reason, "give it, in kgCO2e/kWh")
        return None
    try:
        _co2e(factor, KilowattHours(Fraction(1)), work, "electricity")
    except DimensionError as error:
        work.fault(
            activity.electricity_place, "unit", str(error), "give a carbon footprint factor, in kgCO2e/kWh"
        )
        return None
    return factor


def _material_row(source: Source, entry: Material | None, work: _Work) -> Row:
    row = _row(source, Status.MISSING)
    if entry is None or entry.amount is None:
        return row
    expected = unit_of(source.unit).amount
    if not isinstance(entry.amount, expected | Kilograms):
        reason = f"{source.id} is counted in {expected.UNIT}, not in {entry.amount.UNIT}"
        work.fault(entry.place, "unit", reason, f"give it in {expected.UNIT}, or as a mass in kg")
        return row
    return _issued(row, entry, work)


def _outside_row(entry: Material, work: _Work) -> Row:
    """A material of the user that is not on the list: packaging, labels."""
    row = Row(None, entry.id, "outside", entry.id, entry.id, Status.MISSING, note="outside the paper's list")
    return row if entry.amount is None else _issued(row, entry, work)


def _issued(row: Row, entry: Material, work: _Work) -> Row:
    """What a material that was issued emits: itself and its transport."""
    assert entry.amount is not None
    if not entry.amount.value:
        return replace(row, status=Status.DECLARED_ZERO, amount=entry.amount, emission=ZERO, transport=ZERO)
    if entry.factor is None:
        remedy = "give one with its source; leave the quantity empty to report the source as missing"
        work.fault(entry.place, "ef_kgco2e_per_kg", f"{entry.id} has a quantity and no factor", remedy)
        return row
    factor = entry.factor
    before = len(work.faults)
    itself = work.attempt(entry.place, "kg_per_unit", lambda: _itself(entry, factor, work))
    # A mass that is not known is told once, and not for each leg again.
    transport = _transport(entry, work) if len(work.faults) == before else None
    return replace(
        row,
        status=Status.IMPORTED,
        amount=entry.amount,
        emission=itself if transport is None else itself + transport,
        transport=transport,
        factor=factor,
        primary=_primary(entry, factor, itself, transport),
        note=row.note or ("" if entry.legs else "its transport is missing"),
    )


def _primary(entry: Material, factor: Factor, itself: KgCO2e, transport: KgCO2e | None) -> KgCO2e:
    """Material and transport have factors of their own; a transport is primary if those of all its legs are."""
    part = itself if factor.provenance.primary else ZERO
    is_known = transport is not None and all(leg.factor.provenance.primary for leg in entry.legs)
    return part + transport if transport is not None and is_known else part


def _itself(entry: Material, factor: Factor, work: _Work) -> KgCO2e:
    """By mass; or by piece or litre where that is what the factor is for."""
    assert entry.amount is not None
    if factor.per is type(entry.amount) and factor.per is not Kilograms:
        return _co2e(factor, entry.amount, work, "materials")
    return _co2e(factor, mass_of(entry.amount, entry.kg_per_unit), work, "materials")


def _transport(entry: Material, work: _Work) -> KgCO2e | None:
    """All legs together; None where none is known."""
    if not entry.legs:
        return None
    total = ZERO
    for leg in entry.legs:
        total += work.attempt(leg.place, "distance_km", _carried(entry, leg, work))
    return total


def _carried(entry: Material, leg: Leg, work: _Work) -> Callable[[], KgCO2e]:
    def emission() -> KgCO2e:
        assert entry.amount is not None
        freight = mass_of(entry.amount, entry.kg_per_unit).over(leg.distance)
        return _co2e(leg.factor, freight, work, "transport")

    return emission


def _fuel_row(fuel: Fuel, work: _Work) -> Row:
    factor = combustion_factor(
        fuel.id,
        fuel.unit,
        ncv_gj_per_unit=fuel.ncv_gj_per_unit,
        carbon_tc_per_gj=fuel.carbon_tc_per_gj,
        oxidation=fuel.oxidation,
        provenance=Provenance(primary=fuel.primary),
    )
    amount = fuel.unit.of(fuel.quantity)
    emission = work.attempt(fuel.place, "id", lambda: _co2e(factor, amount, work, "fuel"))
    status = Status.IMPORTED if fuel.quantity else Status.DECLARED_ZERO
    note = "CO2 of combustion; CH4, N2O and what lies upstream are not in it"
    row = Row(None, fuel.id, "fuel", fuel.id, fuel.id, status, amount, emission, None, factor, note)
    return replace(row, primary=emission if fuel.primary else ZERO)


def _waste_row(waste: Waste, work: _Work) -> Row:
    emission = work.attempt(
        waste.place, "ef_kgco2e_per_unit", lambda: _co2e(waste.factor, waste.amount, work, "waste")
    )
    status = Status.IMPORTED if waste.amount.value else Status.DECLARED_ZERO
    row = Row(None, waste.id, "waste", waste.id, waste.id, status, waste.amount, emission, None, waste.factor)
    return replace(row, primary=emission if waste.factor.provenance.primary else ZERO)


def _co2e(factor: Factor, amount: Amount, work: _Work, term: str) -> KgCO2e:
    return as_co2e(factor.emission(amount), work.template.co2_allowed, term)


def _row(source: Source, status: Status) -> Row:
    return Row(source.number, source.id, source.kind, source.name_en, source.name_zh, status)
