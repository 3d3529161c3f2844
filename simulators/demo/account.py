"""The simulator's own account of the demo's day: what was used and made, and what that emits, by schoolbook arithmetic.

It is the referee of the platform's footprint and shares no code with it: registers as the meters themselves show them,
the small files in `day`, one multiplication after the other. All figures of the files are invented; the factor of
electricity is the shipped one. Comes before the comparison in `footprint`.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from agent.resources import config_path

DAY = Path(__file__).with_name("day")
GRID_FACTOR = "cn_grid_footprint_2024"


@dataclass(frozen=True, slots=True)
class Account:
    """kgCO2e by term, exactly; `good` pieces were made."""

    materials: Fraction
    fuel: Fraction
    electricity: Fraction
    waste: Fraction
    good: int

    @property
    def total(self) -> Fraction:
        """Everything."""
        return self.materials + self.fuel + self.electricity + self.waste


def own_account(risen_milliwh: Iterable[int]) -> Account:
    """Add everything up, from what every meter's register rose by, in 0.001 Wh."""
    kwh = Fraction(sum(risen_milliwh), 1_000_000)
    (production,) = _rows("production.csv")
    return Account(
        materials=sum(map(_material, _rows("materials.csv")), Fraction(0)),
        fuel=sum(map(_fuel, _rows("fuels.csv")), Fraction(0)),
        electricity=kwh * _grid_factor(),
        waste=sum(
            (Fraction(row["quantity"]) * Fraction(row["ef_kgco2e_per_unit"]) for row in _rows("wastes.csv")),
            Fraction(0),
        ),
        good=int(production["good"]),
    )


def _material(row: Mapping[str, str]) -> Fraction:
    mass_kg = Fraction(row["quantity"]) * Fraction(row["kg_per_unit"] or 1)
    way = Fraction(row["distance_km"]) * Fraction(row["transport_ef_kgco2e_per_kg_km"])
    return mass_kg * (Fraction(row["ef_kgco2e_per_kg"]) + way)


def _fuel(row: Mapping[str, str]) -> Fraction:
    heat_gj = Fraction(row["quantity"]) * Fraction(row["ncv_gj_per_unit"])
    burnt_kgc = heat_gj * Fraction(row["carbon_tc_per_gj"]) * Fraction(row["oxidation"]) * 1000
    return burnt_kgc * 44 / 12


def _grid_factor() -> Fraction:
    shipped = json.loads(config_path("factors", "cn-electricity-footprint.1.json").read_text("utf-8"))
    return next(Fraction(each["value"]) for each in shipped["factors"] if each["id"] == GRID_FACTOR)


def _rows(name: str) -> list[dict[str, str]]:
    with (DAY / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
