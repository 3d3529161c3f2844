"""Energy is an exact integer of 0.001 Wh, and what a person writes or reads of it is exact too."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.quantity import EXACT_MAX, MILLIWH_PER_UNIT, format_kwh, ratio, to_milliwh


def test_the_units_of_a_manual() -> None:
    assert MILLIWH_PER_UNIT == {"Wh": 10**3, "kWh": 10**6, "MWh": 10**9}
    assert EXACT_MAX == 9_007_199_254_740_991


@pytest.mark.parametrize(
    ("text", "value"),
    [("150/5", Fraction(30)), ("30", Fraction(30)), (" 0.01 ", Fraction(1, 100)), ("1 / 3", Fraction(1, 3))],
)
def test_a_ratio_is_what_it_says(text: str, value: Fraction) -> None:
    assert ratio(text) == value


@pytest.mark.parametrize("text", ["0", "-30", "150/-5", "0/5", "0.0"])
def test_a_ratio_that_would_turn_energy_into_nothing_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be greater than zero"):
        ratio(text)


@pytest.mark.parametrize("text", ["", "150/", "/5", "150/0", "1/2/3", "many", "1e", "nan"])
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a ratio such as 150/5"):
        ratio(text)


@pytest.mark.parametrize(
    ("counts", "per_count", "milliwh"),
    [(1, "1/2", 0), (3, "1/2", 2), (5, "1/2", 2), (7, "1/2", 4), (3, "2/3", 2), (Fraction(1, 2), "3", 2)],
)
def test_a_register_is_rounded_once_half_to_even(
    counts: int | Fraction, per_count: str, milliwh: int
) -> None:
    assert to_milliwh(counts, Fraction(per_count)) == milliwh


@pytest.mark.parametrize(
    ("milliwh", "text"),
    [(0, "0.000000"), (1, "0.000001"), (1_234_567, "1.234567"), (-1, "-0.000001"), (-2_000_001, "-2.000001")],
)
def test_kwh_for_people(milliwh: int, text: str) -> None:
    assert format_kwh(milliwh) == text


@given(st.integers(-EXACT_MAX, EXACT_MAX))
def test_what_is_written_for_people_is_the_whole_truth(milliwh: int) -> None:
    assert Fraction(format_kwh(milliwh)) * 1_000_000 == milliwh
