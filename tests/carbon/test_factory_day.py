"""One factory day, small enough for a pocket calculator. Every line below can be checked by hand.

A factory makes 12 meters on a day, 10 of them good. It

- places components with 8 kWh (SMT placement), solders with 30 kWh (reflow) and burns in with 12.5 kWh,
- issues 12 printed circuit boards of 0.02 kg, 12 cases of 0.4 kg, and 0.5 L of flux at 0.8 kg/L,
- burns 2 kg of diesel in a fork-lift truck, and sends away 3 kg of solder dross.

Materials, Em = q m EFc + q m L EFt                                                             kgCO2e
    boards   12 x 0.02 kg = 0.24 kg;  0.24 x 20                                    =  4.8
             0.24 kg over 500 km: 0.24 x 500 x 0.0002 per kg km                    =  0.024       4.824
    cases    12 x 0.4 kg = 4.8 kg;  4.8 x 4                                        = 19.2
             4.8 kg over 100 km by road and 1000 km by ship:
             4.8 x 100 x 0.0002 + 4.8 x 1000 x 0.00001  =  0.096 + 0.048           =  0.144      19.344
    flux     0.5 L x 0.8 kg/L = 0.4 kg;  0.4 x 3                                   =  1.2
             from next door: 0 km                                                  =  0           1.2
                                                                                              Em 25.368
Production, Ep = Eb + Edl + Ew
    diesel   2 kg x 0.04 GJ/kg x 0.02 tC/GJ = 0.0016 tC;  x 0.99 oxidised
             = 0.001584 tC;  x 44/12 = 0.005808 tCO2                                          Eb  5.808
    steps    8 + 30 + 12.5 = 50.5 kWh;  x 0.5777:  4.6216 + 17.331 + 7.22125                 Edl 29.17385
    dross    3 kg x 1.5                                                                       Ew  4.5
                                                                                              Ep 39.48185
Together     25.368 + 39.48185                                                                 E 64.84985
Per good meter (the two scrapped ones fall on the ten): 64.84985 / 10                             6.484985
"""

from fractions import Fraction

from agent.carbon.activity import Fuel, Place, Production, Status, Waste
from agent.carbon.factors import Factor
from agent.carbon.footprint import evaluate
from agent.carbon.report import figures
from agent.carbon.units import KgCO2e, Kilograms, unit_of
from tests.carbon.examples import TEMPLATE, activity, leg, material, step

DAY = activity(
    step("smt_placement", "8"),
    step("reflow_soldering", "30"),
    step("pcba_burn_in", "12.5"),
    material(
        "printed_circuit_board",
        "12",
        "piece",
        kg_per_unit=Fraction("0.02"),
        factor=Factor("board", Fraction(20), KgCO2e, Kilograms),
        legs=(leg("500", "0.2"),),
    ),
    material(
        "meter_case",
        "12",
        "piece",
        kg_per_unit=Fraction("0.4"),
        factor=Factor("case", Fraction(4), KgCO2e, Kilograms),
        legs=(leg("100", "0.2"), leg("1000", "0.01")),
    ),
    material(
        "flux",
        "0.5",
        "L",
        kg_per_unit=Fraction("0.8"),
        factor=Factor("flux", Fraction(3), KgCO2e, Kilograms),
        legs=(leg("0"),),
    ),
    fuels=(
        Fuel(
            Place("fuels.csv", 2), "diesel", Fraction(2), unit_of("kg"),
            Fraction("0.04"), Fraction("0.02"), Fraction("0.99"),
        ),
    ),
    wastes=(
        Waste(
            Place("wastes.csv", 2), "dross", Kilograms(Fraction(3)),
            Factor("dross", Fraction("1.5"), KgCO2e, Kilograms),
        ),
    ),
    production=Production(Place("production.csv", 2), "meter", 12, 10),
)  # fmt: skip


def test_the_day_equals_the_calculator() -> None:
    assert figures(evaluate(DAY, TEMPLATE)) == {
        "e_total_kgco2e": "64.849850000000",
        "e_materials_kgco2e": "25.368000000000",
        "e_production_kgco2e": "39.481850000000",
        "e_fuel_kgco2e": "5.808000000000",
        "e_electricity_kgco2e": "29.173850000000",
        "e_waste_kgco2e": "4.500000000000",
        "per_good_piece_kgco2e": "6.484985000000",
    }


def test_every_line_of_the_day_equals_the_calculator() -> None:
    footprint = evaluate(DAY, TEMPLATE)
    lines = {row.id: row.emission.value for row in (*footprint.rows, *footprint.extra) if row.emission}
    assert lines == {
        "printed_circuit_board": Fraction("4.824"),
        "meter_case": Fraction("19.344"),
        "flux": Fraction("1.2"),
        "smt_placement": Fraction("4.6216"),
        "reflow_soldering": Fraction("17.331"),
        "pcba_burn_in": Fraction("7.22125"),
        "diesel": Fraction("5.808"),
        "dross": Fraction("4.5"),
    }


def test_what_nobody_spoke_of_is_missing_and_not_zero() -> None:
    footprint = evaluate(DAY, TEMPLATE)
    assert len(footprint.rows) == 58
    assert len(footprint.missing) == 58 - 6
    assert not footprint.is_complete
    rows = {row.id: row for row in footprint.rows}
    assert (rows["wave_soldering"].status, rows["wave_soldering"].emission) == (Status.MISSING, None)
