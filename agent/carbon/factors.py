"""Emission factors: what one unit of an activity emits, with everything that says where the figure may be used.

A factor knows the amount it is for and the gas it counts, both as types, so that kWh never meet a factor per kilogram
and a factor of CO2 alone never passes for a carbon footprint. China publishes both for electricity; they differ by 9 %
and most programs mix them. Before this come factor sets (`template` locks them) or a row of a file, after it
`footprint`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from agent.carbon.exact import plain
from agent.carbon.units import (
    Amount,
    DimensionError,
    Emission,
    KgCO2,
    KgCO2e,
    Kilograms,
    Unit,
    unit_of,
)

CARBON_TO_CO2 = Fraction(44, 12)
"""Mass of carbon dioxide per mass of carbon, by the molar masses that accounting rules use."""

_GASES: dict[str, type[KgCO2] | type[KgCO2e]] = {
    "co2": KgCO2,
    "co2e": KgCO2e,
    "co2eq": KgCO2e,
    "co2-eq": KgCO2e,
}
_FACTOR_UNIT = re.compile(r"(?P<mass>kg|g|t)(?P<gas>co2(?:-?eq|e)?)/(?P<per>.+)", re.IGNORECASE)


class Gas(StrEnum):
    """Which gases a figure counts."""

    CO2 = "CO2"
    CO2E = "CO2e"


@dataclass(frozen=True, slots=True)
class Rate:
    """The unit of a factor: which gas, per which amount; `scale` makes one of it kg per the amount's own unit."""

    gas: type[KgCO2] | type[KgCO2e]
    per: type[Amount]
    scale: Fraction

    @property
    def text(self) -> str:
        """As it is written, `kgCO2e/kWh`."""
        per = self.per.UNIT
        return f"{self.gas.UNIT}/{f'({per})' if '*' in per else per}"


def rate_of(text: str) -> Rate:
    """Read the unit of a factor: `kgCO2e/kWh`, `tCO2/MWh`, `kgCO2e/(t*km)`.

    Raises:
        DimensionError: it is not of that form, or its parts are not known.
    """
    joined = "".join(text.split()).replace("₂", "2").replace("CO₂", "CO2")
    match = _FACTOR_UNIT.fullmatch(joined)
    if match is None:
        raise DimensionError(f'"{text[:40]}" is not a unit of a factor such as kgCO2e/kWh')
    gas = _GASES[match["gas"].lower()]
    per = match["per"]
    unit: Unit = unit_of(per[1:-1] if per.startswith("(") and per.endswith(")") else per)
    mass = unit_of(match["mass"].lower())
    assert mass.amount is Kilograms
    return Rate(gas, unit.amount, mass.scale / unit.scale)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a factor is from and what it speaks of; what is unknown is empty.

    `primary` says that it is of this very supplier, plant or contract, and no average of a country or a database. Only
    somebody who knows can say so; nothing that ships does.
    """

    boundary: str = ""
    region: str = ""
    year: int | None = None
    source: str = ""
    primary: bool = False


UNKNOWN = Provenance()


@dataclass(frozen=True, slots=True)
class Factor:
    """kg of a gas per unit of an amount, >= 0.

    `value` is in kg of `gas` per `per.UNIT`, whatever unit it was written in.
    """

    id: str
    value: Fraction
    gas: type[KgCO2] | type[KgCO2e]
    per: type[Amount]
    provenance: Provenance = UNKNOWN

    @classmethod
    def written(cls, id: str, value: Fraction, unit: str, provenance: Provenance) -> "Factor":
        """A factor as a file has it. Raises DimensionError for a unit that is none."""
        rate = rate_of(unit)
        return cls(id, value * rate.scale, rate.gas, rate.per, provenance)

    @property
    def unit(self) -> str:
        """The unit of `value`."""
        return Rate(self.gas, self.per, Fraction(1)).text

    def emission(self, amount: Amount) -> Emission:
        """What the amount emits.

        Raises:
            DimensionError: the factor is for another kind of amount.
        """
        if type(amount) is not self.per:
            raise DimensionError(f"{amount.UNIT} meets a factor in {self.unit} ({self.id})")
        return self.gas(amount.value * self.value)

    def to_payload(self) -> dict[str, object]:
        """As a report quotes it."""
        return {
            "id": self.id,
            "value": plain(self.value),
            "unit": self.unit,
            "gas": Gas.CO2.value if self.gas is KgCO2 else Gas.CO2E.value,
            "boundary": self.provenance.boundary,
            "region": self.provenance.region,
            "year": self.provenance.year,
            "source": self.provenance.source,
            "data": "primary" if self.provenance.primary else "secondary",
        }


def combustion_factor(
    id: str,
    per: Unit,
    *,
    ncv_gj_per_unit: Fraction,
    carbon_tc_per_gj: Fraction,
    oxidation: Fraction,
    provenance: Provenance = UNKNOWN,
) -> Factor:
    """The CO2 of burning a fuel: heat x carbon content x oxidised part x 44/12, in kg per unit.

    Args:
        id: the fuel.
        per: the unit in which the fuel is counted and for which `ncv_gj_per_unit` holds.
        ncv_gj_per_unit: net calorific value, GJ per that unit, >= 0.
        carbon_tc_per_gj: carbon content, t of carbon per GJ, >= 0 (diesel: 0.0202).
        oxidation: the part of the carbon that burns, 0 to 1.
        provenance: where the three are from.
    """
    per_unit_kg = ncv_gj_per_unit * carbon_tc_per_gj * 1000 * oxidation * CARBON_TO_CO2
    return Factor(id, per_unit_kg / per.scale, KgCO2, per.amount, provenance)


def as_co2e(emission: Emission, allowed: Mapping[str, str], term: str) -> KgCO2e:
    """An emission on its way into a sum of CO2e.

    Args:
        emission: CO2 or CO2e.
        allowed: terms of which the template lets CO2 alone stand for CO2e, with its reason.
        term: the term it belongs to.

    Raises:
        DimensionError: CO2 alone, and the template does not allow it by name.
    """
    if isinstance(emission, KgCO2e):
        return emission
    if term not in allowed:
        raise DimensionError(f"kgCO2 cannot be added to kgCO2e; the template does not allow it for {term}")
    return KgCO2e(emission.value)
