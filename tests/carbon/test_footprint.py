"""E = Em + Ep against exact fractions, and every fault with its row, all at once."""

import random
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from agent.carbon.activity import Activity, Fuel, Material, Place, Production, Status, StepEnergy, Waste
from agent.carbon.exact import text_of
from agent.carbon.factors import Factor, Provenance
from agent.carbon.footprint import Footprint, evaluate
from agent.carbon.report import document, figures
from agent.carbon.uncertainty import uncertainty_of
from agent.carbon.units import (
    KgCO2e,
    Kilograms,
    KilowattHours,
    Litres,
    Pieces,
    TonneKilometres,
    unit_of,
)
from agent.errors import ConfigError, Fault
from tests.carbon.examples import GRID, GRID_CO2, TEMPLATE, activity, leg, material, step

CASES = 10_000


def faults_of(faulty: Activity) -> tuple[Fault, ...]:
    with pytest.raises(ConfigError) as raised:
        evaluate(faulty, TEMPLATE)
    return raised.value.faults


# --------------------------------------------------------------------------------------------------- random activities


def some(chance: random.Random, places: int = 6) -> Fraction:
    """A decimal as files have it: small, large, zero."""
    return Fraction(chance.randrange(0, 10 ** chance.randrange(1, 9)), 10 ** chance.randrange(0, places))


def random_activity(chance: random.Random) -> tuple[Activity, dict[str, Fraction]]:
    """An activity, and its terms by formulas that know no types: (3), (4) and (5) of the paper, term by term."""
    terms = dict.fromkeys(("materials", "fuel", "electricity", "waste"), Fraction(0))
    grid = some(chance)
    entries: list[StepEnergy | Material] = []
    for source in chance.sample(TEMPLATE.sources, chance.randrange(0, 7)):
        if source.kind == "electricity":
            kwh = some(chance)
            entries.append(step(source.id, str(kwh)))
            terms["electricity"] += kwh * grid
            continue
        quantity, mass, factor = some(chance), some(chance) + Fraction(1, 1000), some(chance)
        unit = unit_of(source.unit)
        legs = tuple(leg(str(some(chance)), str(some(chance))) for _ in range(chance.randrange(0, 4)))
        per_kg = Factor(source.id, factor, KgCO2e, Kilograms)
        mass_or_none = None if unit.amount is Kilograms else mass
        entries.append(
            material(
                source.id, str(quantity), source.unit, kg_per_unit=mass_or_none, factor=per_kg, legs=legs
            )
        )
        kilograms = quantity * (1 if mass_or_none is None else mass)
        terms["materials"] += kilograms * factor
        for each in legs:
            terms["materials"] += kilograms * each.distance.value * each.factor.value / 1000
    fuels = []
    for number in range(chance.randrange(0, 3)):
        q, ncv, carbon, oxidised = some(chance), some(chance), some(chance), some(chance)
        unit = unit_of(chance.choice(["t", "kg", "L", "Nm3", "10^4Nm3", "GJ"]))
        fuels.append(Fuel(Place("fuels.csv", number + 2), f"f{number}", q, unit, ncv, carbon, oxidised))
        terms["fuel"] += q * ncv * carbon * oxidised * Fraction(44, 12) * 1000
    wastes = []
    for number in range(chance.randrange(0, 3)):
        q, factor = some(chance), some(chance)
        unit = unit_of(chance.choice(["t", "kg", "g", "L", "piece"]))
        emitted = Factor(f"w{number}", factor / unit.scale, KgCO2e, unit.amount)
        wastes.append(Waste(Place("wastes.csv", number + 2), f"w{number}", unit.of(q), emitted))
        terms["waste"] += q * factor
    good = chance.randrange(0, 400)
    made = activity(
        *entries,
        fuels=tuple(fuels),
        wastes=tuple(wastes),
        production=Production(Place("production.csv", 2), "meter", good + chance.randrange(0, 9), good),
        electricity=replace(GRID, value=grid),
    )
    return made, terms


def test_ten_thousand_random_activities_equal_exact_fractions() -> None:
    chance = random.Random(58)
    for _ in range(CASES):
        made, terms = random_activity(chance)
        footprint = evaluate(made, TEMPLATE)
        total = sum(terms.values(), Fraction(0))
        assert (
            footprint.materials.value,
            footprint.fuel.value,
            footprint.electricity.value,
            footprint.waste.value,
            footprint.total.value,
        ) == (*terms.values(), total)
        production = made.production
        assert production is not None
        expected = text_of(total / production.good) if production.good else None
        assert figures(footprint)["per_good_piece_kgco2e"] == expected


def test_a_sum_is_rounded_from_its_exact_value_and_not_from_rounded_terms() -> None:
    third = Factor("third", Fraction(1, 3 * 10**12), KgCO2e, KilowattHours)
    made = activity(step("smt_placement", "1"), step("wave_soldering", "1"), electricity=third)
    rows = [row for row in evaluate(made, TEMPLATE).rows if row.emission]
    assert [text_of(row.emission.value) for row in rows if row.emission] == ["0.000000000000"] * 2
    assert figures(evaluate(made, TEMPLATE))["e_total_kgco2e"] == "0.000000000001"


# ------------------------------------------------------------------------------------------------------------ statuses


def test_the_statuses_of_a_report() -> None:
    made = activity(
        step("smt_placement", "3"),
        step("reflow_soldering", "0", status=Status.DECLARED_ZERO),
        step("wave_soldering", "2", status=Status.VIRTUAL),
        step("packaging", "1", status=Status.ESTIMATED),
        replace(step("fct_test", "0"), kwh=None),
        material("flux", "1", "L"),
        material("battery", "0", "piece"),
        material("lcd_display", "0", "piece", amount=None),
    )
    footprint = evaluate(made, TEMPLATE)
    statuses = {row.id: row.status.value for row in footprint.rows if row.status is not Status.MISSING}
    assert statuses == {
        "smt_placement": "measured",
        "reflow_soldering": "declared zero",
        "wave_soldering": "virtual",
        "packaging": "estimated",
        "flux": "imported",
        "battery": "declared zero",
    }
    assert {"fct_test", "lcd_display"} < set(footprint.missing)
    assert all((row.emission is None) == (row.status is Status.MISSING) for row in footprint.rows)


def everything(**changes: Any) -> Activity:
    """An activity that speaks of all 58 sources."""
    entries = [
        step(source.id, "1") if source.kind == "electricity" else material(source.id, "2", source.unit)
        for source in TEMPLATE.sources
    ]
    return activity(*entries, **changes)


def test_a_report_is_complete_only_when_every_source_was_spoken_of() -> None:
    assert evaluate(everything(), TEMPLATE).is_complete
    whole = everything()
    for number in range(len(whole.steps)):
        less = replace(whole, steps=whole.steps[:number] + whole.steps[number + 1 :])
        assert not evaluate(less, TEMPLATE).is_complete
    for number in range(len(whole.materials)):
        less = replace(whole, materials=whole.materials[:number] + whole.materials[number + 1 :])
        assert evaluate(less, TEMPLATE).missing == (whole.materials[number].id,)
    assert not evaluate(replace(whole, unsaid=frozenset({"fuel"})), TEMPLATE).is_complete


def test_an_unknown_transport_is_missing_and_said() -> None:
    whole = everything()
    untold = replace(whole, materials=(replace(whole.materials[0], legs=()), *whole.materials[1:]))
    footprint = evaluate(untold, TEMPLATE)
    assert footprint.without_transport == (whole.materials[0].id,)
    assert not footprint.is_complete
    assert any("transport of 1 material" in note for note in document(footprint)["notes"])  # type: ignore[attr-defined]


def test_energy_that_covers_a_part_of_the_period_is_no_complete_report() -> None:
    whole = everything()
    partly = replace(whole, steps=(replace(whole.steps[0], covered=Fraction(1, 2)), *whole.steps[1:]))
    footprint = evaluate(partly, TEMPLATE)
    assert not footprint.is_complete
    assert footprint.partly_covered == {whole.steps[0].id: Fraction(1, 2)}


def test_no_good_piece_divides_nothing() -> None:
    footprint = evaluate(
        activity(step("smt_placement", "3"), production=Production(Place("p", 2), "m", 7, 0)), TEMPLATE
    )
    assert footprint.per_good_piece is None
    assert footprint.total.value > 0
    assert "no good piece was made" in " ".join(document(footprint)["notes"])  # type: ignore[arg-type]


def test_primary_activity_is_metered_calculated_of_meters_or_imported() -> None:
    made = activity(
        step("smt_placement", "2"),
        step("wave_soldering", "1", status=Status.VIRTUAL),
        step("packaging", "1", status=Status.ESTIMATED),
    )
    footprint = evaluate(made, TEMPLATE)
    assert (footprint.primary_activity_share, footprint.primary_data_share) == (Fraction(3, 4), Fraction(0))
    assert evaluate(activity(), TEMPLATE).primary_data_share is None


def test_primary_data_need_a_primary_factor_too() -> None:
    """Of 100 kgCO2e are primary: 10 of an own tariff, 15 + 10 of solder, 5 of a fuel, 10 of a waste."""
    own = Provenance(primary=True)
    supplier = Factor("supplier", Fraction(2), KgCO2e, Kilograms, own)
    truck = replace(leg("1000", "1"), factor=replace(leg("1000", "1").factor, provenance=own))
    far = leg("2000", "1")
    tariff = Factor("tariff", Fraction(1), KgCO2e, KilowattHours, own)
    burnt = Fuel(
        Place("f"), "own", Fraction(3), unit_of("kg"), Fraction(5), Fraction(1, 11_000), Fraction(1), True
    )
    made = activity(
        step("smt_placement", "10", factor=tariff),
        step("packaging", "15", status=Status.ESTIMATED, factor=tariff),
        material("solder_bar", "5", "kg", kg_per_unit=None, factor=supplier, legs=(truck,)),
        material("solder_wire", "5", "kg", kg_per_unit=None, factor=supplier, legs=(truck, far)),
        material("flux", "5", "L", legs=()),
        fuels=(burnt, replace(burnt, id="average", primary=False)),
        wastes=(
            Waste(Place("w"), "own", Kilograms(Fraction(5)), supplier),
            Waste(Place("w"), "other", Kilograms(Fraction(5)), Factor("x", Fraction(2), KgCO2e, Kilograms)),
        ),
    )
    footprint = evaluate(made, TEMPLATE)
    assert footprint.total.value == 100
    assert footprint.primary_data_share == Fraction(50, 100)
    assert footprint.primary_activity_share == Fraction(85, 100)


def test_a_material_of_the_user_is_counted_and_outside_the_list() -> None:
    footprint = evaluate(
        activity(material("user-carton", "10", "kg", kg_per_unit=None, outside=True)), TEMPLATE
    )
    (row,) = footprint.extra
    assert (row.kind, row.number, row.note) == ("outside", None, "outside the paper's list")
    assert footprint.materials.value == Fraction(10) * 2 + Fraction("0.2")
    assert len(footprint.rows) == 58


def test_a_factor_may_be_given_per_piece() -> None:
    per_piece = Factor("lcd", Fraction(3), KgCO2e, Pieces)
    made = material("lcd_display", "4", "piece", kg_per_unit=None, factor=per_piece, legs=())
    assert evaluate(activity(made), TEMPLATE).materials.value == 12


# -------------------------------------------------------------------------------------------------------------- faults


def fuel(**changes: Any) -> Fuel:
    one = Fraction(1)
    made = Fuel(Place("fuels.csv", 2), "diesel", one, unit_of("t"), one, one, one)
    return replace(made, **changes)


DIMENSION_FAULTS: list[tuple[Activity, str, int, str]] = [
    (activity(material("flux", "1", "L", 7, kg_per_unit=None)), "materials.csv", 7, "without a density"),
    (activity(material("battery", "1", "piece", 8, kg_per_unit=None)), "materials.csv", 8, "without a mass"),
    (activity(material("battery", "1", "kWh", 9)), "materials.csv", 9, "is counted in piece, not in kWh"),
    (activity(material("battery", "1", "L", 9)), "materials.csv", 9, "is counted in piece, not in L"),
    (activity(material("flux", "1", "piece", 9)), "materials.csv", 9, "is counted in L, not in piece"),
    (activity(material("flux", "1", "L", 5, factor=None)), "materials.csv", 5, "has a quantity and no factor"),
    (activity(material("flux", "1", "L", 5, factor=GRID)), "materials.csv", 5, "kg meets a factor in kgCO2e/kWh"),
    (
        activity(material("flux", "1", "L", 5, legs=(replace(leg(line=5), factor=GRID),))),
        "materials.csv",
        5,
        "t*km meets a factor in kgCO2e/kWh",
    ),
    (activity(step("fct_test", "1"), electricity=GRID_CO2), "factors.csv", 2, "kgCO2 cannot be added to kgCO2e"),
    (activity(step("fct_test", "1"), electricity=None), "factors.csv", 2, 'there is no factor "grid_electricity"'),
    (
        activity(step("fct_test", "1"), electricity=Factor("x", Fraction(1), KgCO2e, Kilograms)),
        "factors.csv",
        2,
        "kWh meets a factor in kgCO2e/kg",
    ),
    (activity(step("fct_test", "1", 4, factor=GRID_CO2)), "steps.csv", 4, "kgCO2 cannot be added"),
    (
        activity(wastes=(Waste(Place("wastes.csv", 3), "w", Litres(Fraction(1)), GRID),)),
        "wastes.csv",
        3,
        "L meets a factor in kgCO2e/kWh",
    ),
    (activity(step("smt", "1", 6)), "steps.csv", 6, 'there is no step "smt"'),
    (activity(step("flux", "1", 6)), "steps.csv", 6, "is a source of material"),
    (activity(material("fct_test", "1", "kg", 6)), "materials.csv", 6, "is a source of electricity"),
    (activity(step("fct_test", "1", 3), step("fct_test", "1", 9)), "steps.csv", 9, "a second time (line 3)"),
    (activity(material("flux", "1", "L", 3), material("flux", "1", "L", 4)), "materials.csv", 4, "a second time"),
    (activity(fuels=(fuel(), fuel(place=Place("fuels.csv", 3)))), "fuels.csv", 3, "a second time"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("faulty", "file", "line", "reason"), DIMENSION_FAULTS, ids=[each[3][:30] for each in DIMENSION_FAULTS]
)
def test_every_fault_is_refused_with_its_row(faulty: Activity, file: str, line: int, reason: str) -> None:
    (fault,) = faults_of(faulty)
    assert (fault.file, fault.line) == (file, line)
    assert reason in fault.reason


def test_all_faults_are_told_at_once() -> None:
    faulty = activity(
        step("smt_placment", "1", 2),
        step("flux", "1", 3),
        material("flux", "1", "L", 4, kg_per_unit=None),
        material("battery", "1", "kWh", 5),
        electricity=GRID_CO2,
    )
    found = faults_of(faulty)
    assert len(found) == 5
    assert 'did you mean "smt_placement"?' in [fault.remedy for fault in found]


def test_one_missing_factor_is_one_fault_for_all_steps() -> None:
    (fault,) = faults_of(replace(everything(), electricity=None))
    assert "26 steps have kWh" in fault.reason


def test_kwh_of_zero_need_no_factor() -> None:
    made = activity(step("fct_test", "0", status=Status.DECLARED_ZERO), electricity=None)
    assert evaluate(made, TEMPLATE).total.value == 0


# --------------------------------------------------------------------------------------------------------- uncertainty


def uncertain(*entries: StepEnergy | Material, **variances: Fraction) -> tuple[Footprint, Any]:
    footprint = evaluate(activity(*entries), TEMPLATE)
    return footprint, uncertainty_of(footprint, variances)


def test_independent_steps_add_as_squares_and_their_common_factor_linearly() -> None:
    """Two steps of 10 kWh, each with a standard uncertainty of 0.3 and 0.4 kWh; the factor's is 5 %."""
    _, result = uncertain(
        step("fct_test", "10"), step("packaging", "10"), fct_test=Fraction("0.09"), packaging=Fraction("0.16")
    )
    activity_part = Fraction("0.5") * Fraction("0.5777")
    factor_part = Fraction(20) * Fraction("0.5777") * Fraction(5, 100)
    assert abs(result.standard**2 - (activity_part**2 + factor_part**2)) < Fraction(1, 10**15)
    assert [each.id for each in result.contributions] == ["packaging", "fct_test"]


def test_the_meter_to_buy_next_is_that_of_the_least_certain_step() -> None:
    _, result = uncertain(
        step("fct_test", "1000"),
        step("packaging", "10", status=Status.ESTIMATED),
        step("calibration", "200", status=Status.ESTIMATED),
        step("wave_soldering", "100", status=Status.VIRTUAL),
    )
    assert result.meter_next[:3] == ("calibration", "wave_soldering", "packaging")
    assert "barcode_marking" in result.meter_next[3:]
    assert "fct_test" not in result.meter_next


def test_freight_factors_take_tonne_kilometres_only() -> None:
    assert leg().factor.per is TonneKilometres
