"""The folder of an activity: `steps.csv`, `materials.csv`, `fuels.csv`, `wastes.csv`, `factors.csv`, `production.csv`.

The columns are a fixed interface. Beside them there may be `transport_legs.csv`, for materials that travel in more than
one stretch, the files of `sharing` about products and equipment, and further columns. `config/activity/README.md`
describes all of them for people. A file that is not there says
nothing of its term; one with a header and no rows says that there was none. What no row says is missing, not zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from agent.carbon.activity import (
    Activity,
    Fuel,
    Leg,
    Material,
    Place,
    Production,
    Status,
    StepEnergy,
    Waste,
)
from agent.carbon.exact import plain
from agent.carbon.factors import Factor, Provenance
from agent.carbon.footprint import Footprint, evaluate
from agent.carbon.sharing import Sharing
from agent.carbon.template import FACTOR_DATA, Source, Template, sha256_of
from agent.carbon.uncertainty import MeterQuality, meter_variance
from agent.carbon.units import (
    UNITS,
    DimensionError,
    KgCO2e,
    Kilograms,
    Kilometres,
    KilowattHours,
    TonneKilometres,
    Unit,
)
from agent.errors import ConfigError, Fault
from agent.settings.suggest import did_you_mean
from simulators.footprint.sharing import COLUMNS as OF_SHARING
from simulators.footprint.sharing import Interval, SharingReader
from simulators.footprint.tables import Faults, Row, Table, read_table

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "steps.csv": ("id", "kwh"),
    "materials.csv": (
        "number",
        "id",
        "quantity",
        "unit",
        "kg_per_unit",
        "ef_kgco2e_per_kg",
        "distance_km",
        "transport_ef_kgco2e_per_kg_km",
        "ef_source",
    ),
    "fuels.csv": ("id", "quantity", "unit", "ncv_gj_per_unit", "carbon_tc_per_gj", "oxidation"),
    "wastes.csv": ("id", "quantity", "unit", "ef_kgco2e_per_unit"),
    "factors.csv": ("id", "value", "unit", "year", "region", "boundary", "source"),
    "production.csv": ("product_id", "started", "good"),
}
LEGS = ("transport_legs.csv", ("id", "distance_km", "ef", "ef_unit"))
TERM_OF = {
    "steps.csv": "electricity",
    "materials.csv": "materials",
    "fuels.csv": "fuel",
    "wastes.csv": "waste",
    "production.csv": "production",
}
"""What remains unsaid where a file is not there. Without `factors.csv` nothing is unsaid, but no kWh can be counted."""
OUTSIDE_PREFIX = "user-"
"""Ids of materials that a user adds to the paper's list, such as packaging; they have no number."""

_OPTIONAL = (LEGS, *OF_SHARING.items())
_METHODS = {status.value: status for status in (Status.MEASURED, Status.VIRTUAL, Status.ESTIMATED)}
_NOT_BURNT = ("piece", "km", "t*km", "kWh")
_NOT_THROWN_AWAY = ("km", "t*km", "kWh", "GJ")
_CARBON_USUAL = (Fraction(5, 1000), Fraction(5, 100))
_YEARS = range(1990, 2101)


@dataclass(slots=True)
class Folder:
    """The activity of a folder: what could be read of it, what is wrong, and the hashes of its files."""

    activity: Activity
    faults: list[Fault]
    hashes: dict[str, str] = field(default_factory=dict)
    kwh_variances: dict[str, Fraction] = field(default_factory=dict)
    sharing: Sharing = field(default_factory=Sharing)
    intervals: dict[str, list[Interval]] = field(default_factory=dict)

    def evaluate(self, template: Template) -> Footprint:
        """The footprint. Raises ConfigError with all faults: of the files, and of what they mean together."""
        try:
            footprint = evaluate(self.activity, template)
        except ConfigError as error:
            raise ConfigError(_in_order([*self.faults, *error.faults])) from None
        if self.faults:
            raise ConfigError(_in_order(self.faults))
        return footprint


def _in_order(faults: list[Fault]) -> list[Fault]:
    return sorted(faults, key=lambda fault: (fault.file, fault.line or 0))


def read_folder(folder: Path, template: Template, *, without: frozenset[str] = frozenset()) -> Folder:
    """Read the files of an activity; `without` names those that somebody else supplies.

    Raises:
        ConfigError: there is no such folder, or none of the files is in it.
    """
    if not folder.is_dir():
        raise ConfigError(
            [Fault(str(folder), None, "", "is no folder", "name the folder with the CSV files")]
        )
    faults = Faults()
    tables = {
        name: read_table(folder / name, columns, faults)
        for name, columns in (*COLUMNS.items(), *_OPTIONAL)
        if name not in without
    }
    if not any(tables.values()):
        names = ", ".join(COLUMNS)
        raise ConfigError(
            [Fault(str(folder), None, "", "holds none of the files of an activity", f"these are {names}")]
        )
    _name_strangers(folder, faults)
    reader = _Reader(folder, template, faults, tables)
    activity = reader.activity(without)
    hashes = {name: sha256_of(table.data) for name, table in tables.items() if table is not None}
    further = SharingReader(template, tables)
    shared = further.sharing()
    intervals = {} if "steps.csv" in without else further.intervals(activity.steps)
    return Folder(activity, faults.found, hashes, reader.kwh_variances, shared, intervals)


def _name_strangers(folder: Path, faults: Faults) -> None:
    """A misspelled file would be a missing one; it is at least named."""
    known = {*COLUMNS, *(name for name, _ in _OPTIONAL)}
    for path in sorted(folder.glob("*.csv")):
        if path.name not in known:
            question = did_you_mean(path.name, known)
            faults.notes.append(f"{path.name} was not read{f'; {question}' if question else ''}")


class _Reader:
    """Makes typed entries of rows.

    A row with a fault makes one without an amount, if it has an id at all, so that an unknown id, or one that is there
    twice, is told together with whatever else is wrong. Nothing is computed of it.
    """

    def __init__(
        self, folder: Path, template: Template, faults: Faults, tables: Mapping[str, Table | None]
    ) -> None:
        self._folder = folder
        self._template = template
        self._faults = faults
        self._tables = tables
        self.kwh_variances: dict[str, Fraction] = {}

    def activity(self, without: frozenset[str]) -> Activity:
        """Everything that could be read."""
        electricity, place = self._electricity()
        legs = self._legs()
        unsaid = {
            term for name, term in TERM_OF.items() if name not in without and self._tables.get(name) is None
        }
        production = self._production()
        if production is None and "production.csv" not in without:
            unsaid.add("production")
        made = [self._material(row, legs) for row in self._rows("materials.csv")]
        return Activity(
            steps=tuple(filter(None, map(self._step, self._rows("steps.csv")))),
            materials=tuple(material for material in made if material is not None),
            fuels=tuple(filter(None, map(self._fuel, self._rows("fuels.csv")))),
            wastes=tuple(filter(None, map(self._waste, self._rows("wastes.csv")))),
            production=production,
            electricity=electricity,
            electricity_place=place,
            unsaid=frozenset(unsaid),
            notes=tuple(self._faults.notes),
        )

    def _rows(self, name: str) -> tuple[Row, ...]:
        table = self._tables.get(name)
        return () if table is None else table.rows

    # -- steps

    def _step(self, row: Row) -> StepEnergy | None:
        id, kwh = row.needed("id"), row.number("kwh")
        method = row.text("method")
        if method and method not in _METHODS:
            row.refuse("method", f'there is no method "{method}"', f"known are {', '.join(_METHODS)}")
        if kwh is None or not row.ok:
            return StepEnergy(row.place, id, None, Status.MISSING, "its row has no kWh") if id else None
        self._quality(row, id, kwh)
        status = _METHODS.get(method, Status.MEASURED if kwh else Status.DECLARED_ZERO)
        return StepEnergy(row.place, id, KilowattHours(kwh), status)

    def _quality(self, row: Row, id: str, kwh: Fraction) -> None:
        quality = MeterQuality(row.number("accuracy_class"), row.number("ct_class"), None)
        variance = meter_variance(kwh, quality)
        if variance is not None:
            self.kwh_variances[id] = variance

    def _electricity(self) -> tuple[Factor | None, Place]:
        """The factor that serves the steps; every row is checked, also those that serve nothing here."""
        wanted = self._template.electricity
        place, found = Place(str(self._folder / "factors.csv")), None
        seen: dict[str, int | None] = {}
        refused = False
        for row in self._rows("factors.csv"):
            id = row.needed("id")
            if id in seen:
                row.refuse("id", f'"{id}" is there a second time (line {seen[id]})', "keep one of them")
            seen.setdefault(id, row.place.line)
            factor = self._factor(row, id)
            if id == wanted:
                place, found, refused = row.place, factor or found, refused or factor is None
        # A faulty row is told as it is; "there is no factor" would be told of something that is there.
        stand_in = Factor(wanted, Fraction(0), KgCO2e, KilowattHours)
        return (found or stand_in if refused or self._is_unreadable("factors.csv") else found), place

    def _is_unreadable(self, name: str) -> bool:
        """Whether a file is there and its faults are the reason why it has no rows."""
        return any(fault.file == str(self._folder / name) for fault in self._faults.found)

    def _factor(self, row: Row, id: str) -> Factor | None:
        value, unit = row.needed_number("value"), row.needed("unit")
        year = row.number("year")
        if year is not None and year not in _YEARS:
            row.refuse("year", f"{row.text('year')} is not a year", "write it with four digits")
        primary = _is_primary(row)
        if not row.ok:
            return None
        provenance = Provenance(
            row.text("boundary"),
            row.text("region"),
            None if year is None else int(year),
            row.text("source"),
            primary,
        )
        try:
            return Factor.written(id, value, unit, provenance)
        except DimensionError as error:
            row.refuse("unit", str(error))
            return None

    # -- materials

    def _material(self, row: Row, legs: Mapping[str, list[Leg]]) -> Material | None:
        id = row.needed("id")
        outside = self._number(row, id)
        if row.ok and not row.text("quantity") and not row.text("unit"):
            return Material(row.place, id, None, None, None, (), outside)
        quantity = row.number("quantity")
        unit = row.unit("unit")
        per_unit = self._kg_per_unit(row, id, unit)
        value = row.number("ef_kgco2e_per_kg")
        leg = self._leg(row)
        primary = _is_primary(row)
        if not row.ok or unit is None:
            return Material(row.place, id, None, None, None, (), outside) if id else None
        factor = None
        if value is not None:
            factor = Factor(
                id, value, KgCO2e, Kilograms, Provenance(source=row.text("ef_source"), primary=primary)
            )
            if not row.text("ef_source"):
                self._faults.notes.append(f"{id}: its factor has no source")
        amount = None if quantity is None else unit.of(quantity)
        own = () if leg is None else (leg,)
        return Material(row.place, id, amount, per_unit, factor, (*own, *legs.get(id, [])), outside)

    def _number(self, row: Row, id: str) -> bool:
        """Check the number against the id; True for a row of the user's own, outside the list."""
        source = _by_id(self._template, id)
        text = row.text("number")
        if id.startswith(OUTSIDE_PREFIX):
            if text:
                row.refuse("number", f"{id} is outside the list and has no number", "leave it empty")
            return True
        number = row.number("number")
        if source is not None and number is not None and number != source.number:
            row.refuse(
                "number", f'"{id}" is number {source.number}, not {text}', "correct the number or the id"
            )
        return False

    def _kg_per_unit(self, row: Row, id: str, unit: Unit | None) -> Fraction | None:
        """The mass of one piece or litre; of a mass unit it has nothing to add but what the unit says itself."""
        value = row.number("kg_per_unit")
        if value is None or unit is None:
            return None
        if value == 0:
            row.refuse("kg_per_unit", "is zero; whatever is issued has a mass", "weigh it")
            return None
        if unit.amount is not Kilograms:
            return value / unit.scale
        if value == unit.scale:
            return None
        if unit.scale != 1:
            reason = f"{row.text('unit')} is {plain(unit.scale)} kg, not {row.text('kg_per_unit')}"
            row.refuse("kg_per_unit", reason, "leave it empty")
            return None
        self._faults.notes.append(
            f"{id}: of each kg issued {row.text('kg_per_unit')} kg are counted, as its row says"
        )
        return value

    def _leg(self, row: Row) -> Leg | None:
        """The one leg of transport that the row itself has; both figures or neither."""
        distance, value = row.number("distance_km"), row.number("transport_ef_kgco2e_per_kg_km")
        given = [bool(row.text(name)) for name in ("distance_km", "transport_ef_kgco2e_per_kg_km")]
        if given == [True, False] and distance != 0:
            row.refuse("transport_ef_kgco2e_per_kg_km", "is empty beside a distance", "give both or neither")
        if given == [False, True] and value != 0:
            row.refuse("distance_km", "is empty beside a factor of transport", "give both or neither")
        if given == [False, False] or not row.ok:
            return None
        return _freight(row, distance or Fraction(0), (value or Fraction(0)) * 1000)

    def _legs(self) -> dict[str, list[Leg]]:
        """Further legs, by material; the unit of each factor is written beside it."""
        legs: dict[str, list[Leg]] = {}
        for row in self._rows(LEGS[0]):
            id, distance, unit = row.needed("id"), row.needed_number("distance_km"), row.needed("ef_unit")
            value, primary = row.needed_number("ef"), _is_primary(row)
            if id not in {material.text("id") for material in self._rows("materials.csv")}:
                row.refuse("id", f'"{id}" is not in materials.csv', "a leg belongs to a material")
            if not row.ok:
                continue
            try:
                factor = Factor.written(id, value, unit, Provenance(primary=primary))
            except DimensionError as error:
                row.refuse("ef_unit", str(error))
                continue
            legs.setdefault(id, []).append(Leg(row.place, Kilometres(distance), factor))
        return legs

    # -- fuels, wastes, production

    def _fuel(self, row: Row) -> Fuel | None:
        id, quantity, unit = row.needed("id"), row.needed_number("quantity"), row.unit("unit")
        ncv, carbon = row.needed_number("ncv_gj_per_unit"), row.needed_number("carbon_tc_per_gj")
        oxidation, primary = row.needed_number("oxidation"), _is_primary(row)
        if oxidation > 1:
            row.refuse("oxidation", f"{row.text('oxidation')} is more than 1", "write 98 % as 0.98")
        if unit is not None and unit.amount.UNIT in _NOT_BURNT:
            row.refuse("unit", f"a fuel is not counted in {row.text('unit')}", "use kg, t, L, Nm3 or GJ")
        if not row.ok or unit is None:
            nothing = Fraction(0)
            return Fuel(row.place, id, nothing, UNITS["kg"], nothing, nothing, nothing) if id else None
        if carbon and not _CARBON_USUAL[0] <= carbon <= _CARBON_USUAL[1]:
            self._faults.notes.append(
                f"{id}: {row.text('carbon_tc_per_gj')} t of carbon per GJ is unusual; was it kg?"
            )
        return Fuel(row.place, id, quantity, unit, ncv, carbon, oxidation, primary)

    def _waste(self, row: Row) -> Waste | None:
        id, quantity, unit = row.needed("id"), row.needed_number("quantity"), row.unit("unit")
        value, primary = row.needed_number("ef_kgco2e_per_unit"), _is_primary(row)
        if unit is not None and unit.amount.UNIT in _NOT_THROWN_AWAY:
            row.refuse("unit", f"waste is not counted in {row.text('unit')}", "use kg, t, L or piece")
        if not row.ok or unit is None:
            none = Factor(id, Fraction(0), KgCO2e, Kilograms)
            return Waste(row.place, id, Kilograms(Fraction(0)), none) if id else None
        factor = Factor(id, value / unit.scale, KgCO2e, unit.amount, Provenance(primary=primary))
        return Waste(row.place, id, unit.of(quantity), factor)

    def _production(self) -> Production | None:
        rows = self._rows("production.csv")
        for row in rows[1:]:
            row.refuse("product_id", "is a second product", "one folder is for one product")
        if not rows:
            return None
        row = rows[0]
        product, started, good = row.needed("product_id"), row.whole("started"), row.whole("good")
        if row.ok and good > started:
            row.refuse("good", f"{good} are good, but only {started} were started", "correct one of them")
        return Production(row.place, product, started, good) if row.ok else None


def _is_primary(row: Row) -> bool:
    """The optional column `factor_data`: whether the row's factor is the supplier's own, or an average."""
    said = row.text("factor_data")
    if said and said not in FACTOR_DATA:
        row.refuse(
            "factor_data", f'"{said}" is neither primary nor secondary', "leave it empty for secondary"
        )
    return said == "primary"


def _freight(row: Row, distance: Fraction, per_tonne_km: Fraction) -> Leg:
    factor = Factor(f"{row.text('id')} transport", per_tonne_km, KgCO2e, TonneKilometres)
    return Leg(row.place, Kilometres(distance), factor)


def _by_id(template: Template, id: str) -> Source | None:
    return next((source for source in template.sources if source.id == id), None)
