"""A unit is a type: what does not close does not compute, and nothing is rounded on the way."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.carbon.exact import decimal_of, plain, square_root, text_of
from agent.carbon.factors import Factor, Provenance, as_co2e, combustion_factor, rate_of
from agent.carbon.units import (
    Amount,
    DimensionError,
    KgCO2,
    KgCO2e,
    Kilograms,
    Kilometres,
    KilowattHours,
    Litres,
    NormCubicMetres,
    Pieces,
    TonneKilometres,
    mass_of,
    unit_of,
)

ONE = Fraction(1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5777", "5777/10000"),
        ("-3", "-3"),
        ("1.2E-05", "3/250000"),
        (".5", "1/2"),
        ("7.", "7"),
        (" 4 ", "4"),
    ],
)
def test_decimals_are_read_exactly(text: str, value: str) -> None:
    assert decimal_of(text) == Fraction(value)


@pytest.mark.parametrize(
    "text",
    ["", "1,5", "1 000", "1_000", "NaN", "inf", "５", "12%", "1/2", "0x10", "1e999", "-", "1.2.3", "九"],
)
def test_what_is_no_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"decimal number|comma"):
        decimal_of(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(1, 3), "0.333333333333"),
        (Fraction(2, 3), "0.666666666667"),
        (Fraction(-1, 2), "-0.500000000000"),
        (Fraction(1, 2 * 10**12), "0.000000000000"),
        (Fraction(3, 2 * 10**12), "0.000000000002"),
        (Fraction(-1, 10**13), "0.000000000000"),
        (Fraction(10**20), "100000000000000000000.000000000000"),
    ],
)
def test_output_has_twelve_decimals_half_to_even(value: Fraction, text: str) -> None:
    assert text_of(value) == text


@given(st.fractions())
def test_the_exact_text_of_a_number_is_the_number(value: Fraction) -> None:
    assert Fraction(plain(value)) == value


@given(st.fractions(min_value=0, max_value=10**12))
def test_a_root_is_right_to_its_last_decimal(value: Fraction) -> None:
    root = square_root(value)
    assert root**2 <= value < (root + Fraction(1, 10**18)) ** 2


def test_amounts_of_one_type_add_up_and_others_do_not() -> None:
    assert Pieces(ONE) + Pieces(ONE) == Pieces(Fraction(2))
    assert Kilograms(Fraction(3)) - Kilograms(ONE) == Kilograms(Fraction(2))
    kinds: list[type[Amount]] = [Pieces, Kilograms, Litres, KilowattHours, KgCO2, KgCO2e, Kilometres]
    for one in kinds:
        for other in kinds:
            if one is not other:
                with pytest.raises(DimensionError, match="cannot be added"):
                    one(ONE) + other(ONE)
                assert one(ONE) != other(ONE)


def test_pieces_and_litres_get_a_mass_only_from_a_mass_or_a_density() -> None:
    assert mass_of(Pieces(Fraction(4)), Fraction(1, 4)) == Kilograms(ONE)
    assert mass_of(Litres(Fraction(2)), Fraction("0.8")) == Kilograms(Fraction("1.6"))
    assert mass_of(Kilograms(ONE), None) == Kilograms(ONE)
    with pytest.raises(DimensionError, match="a piece meets a factor per kg without a mass per piece"):
        mass_of(Pieces(ONE), None)
    with pytest.raises(DimensionError, match="without a density"):
        mass_of(Litres(ONE), None)
    with pytest.raises(DimensionError, match="kWh has no mass"):
        mass_of(KilowattHours(ONE), ONE)


def test_freight_is_mass_over_distance() -> None:
    assert Kilograms(Fraction(500)).over(Kilometres(Fraction(4))) == TonneKilometres(Fraction(2))


@pytest.mark.parametrize(
    ("text", "kind", "of_one"),
    [
        ("件", Pieces, "1"),
        ("度", KilowattHours, "1"),
        ("MWh", KilowattHours, "1000"),
        ("t", Kilograms, "1000"),
        ("升", Litres, "1"),
        ("10^4 Nm3", NormCubicMetres, "10000"),
        ("万Nm³", NormCubicMetres, "10000"),
        ("1e4 m3", Litres, "10000000"),
        ("万度", KilowattHours, "10000"),
        ("kg·km", TonneKilometres, "1/1000"),
        ("t × km", TonneKilometres, "1"),
    ],
)
def test_units_are_read_as_people_write_them(text: str, kind: type[Amount], of_one: str) -> None:
    assert unit_of(text).of(ONE) == kind(Fraction(of_one))


@pytest.mark.parametrize("text", ["", "mWh", "10^4", "ton", "kgs", "kW", "CO2", "pieces per hour"])
def test_a_unit_that_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(DimensionError, match="no unit known"):
        unit_of(text)


@pytest.mark.parametrize(
    ("text", "gas", "per", "scale"),
    [
        ("kgCO2e/kWh", KgCO2e, KilowattHours, "1"),
        ("kgCO₂e/kWh", KgCO2e, KilowattHours, "1"),
        ("tCO2/MWh", KgCO2, KilowattHours, "1"),
        ("gCO2eq/kWh", KgCO2e, KilowattHours, "1/1000"),
        ("kgCO2e/(t*km)", KgCO2e, TonneKilometres, "1"),
        ("kgCO2e/(kg·km)", KgCO2e, TonneKilometres, "1000"),
        ("kg CO2e / 件", KgCO2e, Pieces, "1"),
        ("kgCO2/10^4Nm3", KgCO2, NormCubicMetres, "1/10000"),
    ],
)
def test_units_of_factors(text: str, gas: type[Amount], per: type[Amount], scale: str) -> None:
    rate = rate_of(text)
    assert (rate.gas, rate.per, rate.scale) == (gas, per, Fraction(scale))


@pytest.mark.parametrize(
    "text", ["", "kgCO2e", "kWh/kgCO2e", "kgCH4/kWh", "kgCO2e/", "kgCO2e/kW", "CO2e/kWh"]
)
def test_a_unit_of_a_factor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DimensionError):
        rate_of(text)


def test_a_factor_takes_only_what_it_is_for() -> None:
    grid = Factor.written("grid", Fraction("577.7"), "kgCO2e/MWh", Provenance())
    assert grid.emission(KilowattHours(Fraction(10))) == KgCO2e(Fraction("5.777"))
    with pytest.raises(DimensionError, match="kg meets a factor in kgCO2e/kWh"):
        grid.emission(Kilograms(ONE))


@pytest.mark.parametrize(
    ("unit", "ncv", "carbon", "oxidation", "kg_per_unit_co2"),
    [
        ("t", "42.652", "0.0202", "0.98", "3095.9096373333"),
        ("t", "43.070", "0.0189", "0.98", "2925.0559800000"),
        ("10^4Nm3", "389.31", "0.0153", "0.99", "21621.8880900000"),
    ],
)
def test_fuels_by_heat_carbon_and_oxidation(
    unit: str, ncv: str, carbon: str, oxidation: str, kg_per_unit_co2: str
) -> None:
    """The products that the accounting guides print: 3.0959, 2.9251 kg/kg and 2.1622 kg/Nm3."""
    counted = unit_of(unit)
    factor = combustion_factor(
        "fuel",
        counted,
        ncv_gj_per_unit=Fraction(ncv),
        carbon_tc_per_gj=Fraction(carbon),
        oxidation=Fraction(oxidation),
    )
    emission = factor.emission(counted.of(ONE))
    assert isinstance(emission, KgCO2)
    assert text_of(emission.value, 10) == kg_per_unit_co2


def test_co2_counts_as_co2e_only_where_the_template_names_the_term() -> None:
    assert as_co2e(KgCO2(ONE), {"fuel": "why"}, "fuel") == KgCO2e(ONE)
    with pytest.raises(DimensionError, match="does not allow it for electricity"):
        as_co2e(KgCO2(ONE), {"fuel": "why"}, "electricity")
