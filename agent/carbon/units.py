"""Amounts whose unit is their type: a litre cannot be added to a kilogram, nor CO2 to CO2e.

The grid company's paper multiplies pieces and litres by factors per kilogram. Here that does not compute: pieces become
kilograms only by a mass per piece, litres only by a density, and a factor takes only the amounts it was made for.
Before this come texts such as "12.5" and "L", after it `factors` and `footprint`.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Self


class DimensionError(ValueError):
    """Two units that do not belong together; the message says which."""


@dataclass(frozen=True, slots=True)
class Amount:
    """An exact amount in the one unit of its type; only amounts of one type add up."""

    UNIT: ClassVar[str] = ""
    value: Fraction

    def __add__(self, other: Self) -> Self:
        if type(other) is not type(self):
            raise DimensionError(f"{self.UNIT} and {_unit_of(other)} cannot be added")
        return type(self)(self.value + other.value)

    def __sub__(self, other: Self) -> Self:
        return self + -other

    def __neg__(self) -> Self:
        return type(self)(-self.value)

    def times(self, number: Fraction | int) -> Self:
        """So many times this amount."""
        return type(self)(self.value * number)


def _unit_of(other: object) -> str:
    return other.UNIT if isinstance(other, Amount) else type(other).__name__


class Pieces(Amount):
    """Counted things."""

    UNIT: ClassVar[str] = "piece"
    __slots__ = ()


class Kilograms(Amount):
    """Mass."""

    UNIT: ClassVar[str] = "kg"
    __slots__ = ()

    def over(self, way: "Kilometres") -> "TonneKilometres":
        """This mass carried over a distance."""
        return TonneKilometres(self.value * way.value / 1000)


class Litres(Amount):
    """Volume of a liquid."""

    UNIT: ClassVar[str] = "L"
    __slots__ = ()


class NormCubicMetres(Amount):
    """Volume of a gas at 0 degrees Celsius and 101.325 kPa."""

    UNIT: ClassVar[str] = "Nm3"
    __slots__ = ()


class KilowattHours(Amount):
    """Electricity."""

    UNIT: ClassVar[str] = "kWh"
    __slots__ = ()

    @classmethod
    def of_milliwh(cls, energy_milliwh: int | Fraction) -> "KilowattHours":
        """Energy of the ledger, 0.001 Wh."""
        return cls(Fraction(energy_milliwh) / 1_000_000)


class Gigajoules(Amount):
    """Heat."""

    UNIT: ClassVar[str] = "GJ"
    __slots__ = ()


class Kilometres(Amount):
    """Distance."""

    UNIT: ClassVar[str] = "km"
    __slots__ = ()


class TonneKilometres(Amount):
    """Freight."""

    UNIT: ClassVar[str] = "t*km"
    __slots__ = ()


class KgCO2(Amount):
    """Carbon dioxide alone, from combustion or generation; says nothing of CH4, N2O and what lies upstream."""

    UNIT: ClassVar[str] = "kgCO2"
    __slots__ = ()


class KgCO2e(Amount):
    """All greenhouse gases as carbon dioxide equivalent."""

    UNIT: ClassVar[str] = "kgCO2e"
    __slots__ = ()


Emission = KgCO2 | KgCO2e


def mass_of(amount: Amount, kg_per_unit: Fraction | None) -> Kilograms:
    """The mass of pieces or litres by mass per piece or density; a mass is itself.

    Args:
        amount: pieces, litres or kilograms.
        kg_per_unit: kg per piece or per litre, > 0.

    Raises:
        DimensionError: a piece without a mass, a litre without a density, or something that has no mass.
    """
    if isinstance(amount, Kilograms):
        return amount if kg_per_unit is None else amount.times(kg_per_unit)
    if not isinstance(amount, Pieces | Litres):
        raise DimensionError(f"{amount.UNIT} has no mass")
    if kg_per_unit is None:
        missing = "a mass per piece" if isinstance(amount, Pieces) else "a density"
        raise DimensionError(f"a {amount.UNIT} meets a factor per kg without {missing}")
    return Kilograms(amount.value * kg_per_unit)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as it is written in a file: which amount it gives, and how many of that amount's unit it is."""

    amount: type[Amount]
    scale: Fraction

    def of(self, value: Fraction) -> Amount:
        """So many of this unit."""
        return self.amount(value * self.scale)


_SPELLINGS: tuple[tuple[type[Amount], Fraction, str], ...] = (
    (Pieces, Fraction(1), "piece pieces pc pcs pce ea 件 个 只 台 片"),
    (Kilograms, Fraction(1), "kg Kg KG 千克 公斤"),
    (Kilograms, Fraction(1, 1000), "g 克"),
    (Kilograms, Fraction(1000), "t tonne tonnes 吨"),
    (Litres, Fraction(1), "L l litre litres liter liters 升"),
    (Litres, Fraction(1, 1000), "mL ml 毫升"),
    (Litres, Fraction(1000), "m3 m^3 m³ 立方米"),
    (NormCubicMetres, Fraction(1), "Nm3 Nm^3 Nm³ 标准立方米 标立方米"),
    (KilowattHours, Fraction(1), "kWh kwh KWh KWH 度 千瓦时"),
    (KilowattHours, Fraction(1, 1000), "Wh"),
    (KilowattHours, Fraction(1000), "MWh 兆瓦时"),
    (Gigajoules, Fraction(1), "GJ 吉焦"),
    (Gigajoules, Fraction(1, 1000), "MJ 兆焦"),
    (Kilometres, Fraction(1), "km KM 公里 千米"),
    (Kilometres, Fraction(1, 1000), "m 米"),
    (TonneKilometres, Fraction(1), "t*km tkm 吨公里"),
    (TonneKilometres, Fraction(1, 1000), "kg*km kgkm 千克公里"),
)  # fmt: skip

UNITS: dict[str, Unit] = {
    name: Unit(amount, scale) for amount, scale, names in _SPELLINGS for name in names.split()
}
"""Every spelling of a unit that is understood. Case counts where it carries meaning: `MWh` is not `mWh`."""


_TEN_THOUSAND = ("10^4", "10⁴", "1e4", "1E4", "10000", "万")
"""Gas is bought by 10,000 cubic metres, and its calorific value is published so."""


def unit_of(text: str) -> Unit:
    """Read a unit, also ten thousand of one: `10^4 Nm3`.

    Raises:
        DimensionError: it is none of those known.
    """
    plain = "".join(text.split()).replace("·", "*").replace("×", "*").replace("⋅", "*")
    for prefix in _TEN_THOUSAND:
        rest = plain.removeprefix(prefix).removeprefix("*")
        if plain.startswith(prefix) and rest in UNITS:
            return Unit(UNITS[rest].amount, UNITS[rest].scale * 10_000)
    if plain not in UNITS:
        known = "piece, kg, g, t, L, mL, m3, Nm3, kWh, GJ, km, t*km, kg*km"
        raise DimensionError(f'"{text[:40]}" is no unit known here; known are {known}')
    return UNITS[plain]
