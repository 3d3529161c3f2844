"""What a factory did in a period: electricity by step, materials issued, fuels burnt, wastes, pieces made.

Each entry knows the place it was read from, so that whatever is wrong with it is told with file and row. An amount that
is not known is None, never zero. Before this come the files of an import or the verified kWh of the platform, after it
`footprint`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from agent.carbon.factors import Factor
from agent.carbon.units import Amount, Kilometres, KilowattHours, Unit


class Status(StrEnum):
    """How a source's figure was come by. Only `MISSING` has no figure."""

    MEASURED = "measured"
    """By a meter of its own."""
    VIRTUAL = "virtual"
    """Sums and differences of meters."""
    ESTIMATED = "estimated"
    """A fixed split of a shared meter, or rated power and hours."""
    IMPORTED = "imported"
    """From the factory's own systems."""
    DECLARED_ZERO = "declared zero"
    """Somebody said that there was none."""
    MISSING = "missing"
    """Nobody said anything, which is never zero."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry was read; `line` is 1-based, None for what was not read from a file."""

    file: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class StepEnergy:
    """Electricity of one step.

    `kwh` None is not known; `note` says how it was come by where that needs words. `factor` is this step's own: the
    mean of an hourly series over its load, or of a mix of supplies; None where the activity's factor serves. `covered`
    is the part of the period for which the energy is known, 0 to 1.
    """

    place: Place
    id: str
    kwh: KilowattHours | None
    status: Status
    note: str = ""
    factor: Factor | None = None
    covered: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Leg:
    """One stretch of a material's transport; the factor is per t*km."""

    place: Place
    distance: Kilometres
    factor: Factor


@dataclass(frozen=True, slots=True)
class Material:
    """A material as issued, losses inside.

    `kg_per_unit` is the mass of one of the amount's units, None where a mass was issued. `factor` may be None only
    where the amount is None or zero. No `legs` means that nothing is known of its transport.
    """

    place: Place
    id: str
    amount: Amount | None
    kg_per_unit: Fraction | None
    factor: Factor | None
    legs: tuple[Leg, ...] = ()
    outside: bool = False
    """A row of the user, outside the catalogue's list."""


@dataclass(frozen=True, slots=True)
class Fuel:
    """A fuel burnt in the factory; the three constants hold for one `unit`."""

    place: Place
    id: str
    quantity: Fraction
    unit: Unit
    ncv_gj_per_unit: Fraction
    carbon_tc_per_gj: Fraction
    oxidation: Fraction
    primary: bool = False
    """Whether the constants are of this very fuel, as its supplier analysed it."""


@dataclass(frozen=True, slots=True)
class Waste:
    """Waste that left the factory."""

    place: Place
    id: str
    amount: Amount
    factor: Factor


@dataclass(frozen=True, slots=True)
class Production:
    """Pieces of one product: started and good; scrap is the difference, and its emission falls on the good ones."""

    place: Place
    product_id: str
    started: int
    good: int


@dataclass(frozen=True, slots=True)
class Activity:
    """All of a period. A term of which nothing at all was said is named in `unsaid`."""

    steps: tuple[StepEnergy, ...] = ()
    materials: tuple[Material, ...] = ()
    fuels: tuple[Fuel, ...] = ()
    wastes: tuple[Waste, ...] = ()
    production: Production | None = None
    electricity: Factor | None = None
    electricity_place: Place = field(default_factory=lambda: Place("factors"))
    unsaid: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
