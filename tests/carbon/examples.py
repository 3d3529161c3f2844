"""The shipped template, and activities to test with; every test changes only what it is about."""

from fractions import Fraction
from typing import Any

from agent.carbon.activity import Activity, Leg, Material, Place, Production, Status, StepEnergy
from agent.carbon.factors import Factor
from agent.carbon.template import Template
from agent.carbon.units import (
    KgCO2,
    KgCO2e,
    Kilograms,
    Kilometres,
    KilowattHours,
    TonneKilometres,
    unit_of,
)
from agent.settings.locked import open_template

TEMPLATE: Template = open_template()
GRID = Factor("grid_electricity", Fraction("0.5777"), KgCO2e, KilowattHours)
GRID_CO2 = Factor("grid_electricity", Fraction("0.5306"), KgCO2, KilowattHours)


def step(id: str, kwh: str, line: int = 2, **changes: Any) -> StepEnergy:
    """A measured step."""
    made = {"place": Place("steps.csv", line), "id": id, "status": Status.MEASURED}
    return StepEnergy(**{**made, "kwh": KilowattHours(Fraction(kwh)), **changes})


def material(id: str, quantity: str, unit: str, line: int = 2, **changes: Any) -> Material:
    """A material with a factor of 2 kgCO2e/kg, half a kilogram a unit, and 100 km by a truck of 0.2 kgCO2e/(t*km)."""
    made = {
        "place": Place("materials.csv", line),
        "id": id,
        "amount": unit_of(unit).of(Fraction(quantity)),
        "kg_per_unit": Fraction(1, 2),
        "factor": Factor(id, Fraction(2), KgCO2e, Kilograms),
        "legs": (leg(line=line),),
    }
    return Material(**{**made, **changes})


def leg(km: str = "100", per_tonne_km: str = "0.2", line: int = 2) -> Leg:
    """A stretch of road."""
    factor = Factor("truck", Fraction(per_tonne_km), KgCO2e, TonneKilometres)
    return Leg(Place("materials.csv", line), Kilometres(Fraction(km)), factor)


def activity(*entries: StepEnergy | Material, **changes: Any) -> Activity:
    """These steps and materials, the grid's factor, ten good pieces of twelve."""
    made: dict[str, Any] = {
        "steps": tuple(entry for entry in entries if isinstance(entry, StepEnergy)),
        "materials": tuple(entry for entry in entries if isinstance(entry, Material)),
        "production": Production(Place("production.csv", 2), "meter", 12, 10),
        "electricity": GRID,
        "electricity_place": Place("factors.csv", 2),
    }
    return Activity(**{**made, **changes})
