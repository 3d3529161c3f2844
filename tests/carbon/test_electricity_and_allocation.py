"""Factors that change with time, supplies kept apart, and shares that add up to the whole."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.carbon.allocation import (
    IDLE,
    Processed,
    Window,
    allocate,
    largest_remainder,
    shares_by_key,
    shares_by_pieces,
    split_by_windows,
    spread_utilities,
    standby,
)
from agent.carbon.electricity import Series, Supply, mean_factor
from agent.carbon.factors import UNKNOWN, Factor
from agent.carbon.units import DimensionError, KgCO2e, KilowattHours
from tests.carbon.examples import GRID, GRID_CO2

HOUR_MS = 3_600_000
amounts = st.fractions(min_value=0, max_value=10**6, max_denominator=1000)
products = st.sampled_from([f"p{number}" for number in range(10)])


def kwh(text: str) -> KilowattHours:
    return KilowattHours(Fraction(text))


# --------------------------------------------------------------------------------------------------------------- time


def test_a_series_holds_from_its_start_and_is_never_stretched() -> None:
    series = Series.of("s", [(0, Fraction(1)), (HOUR_MS, Fraction(2))], UNKNOWN)
    assert [series.at(ms) for ms in (0, HOUR_MS - 1, HOUR_MS, 2 * HOUR_MS - 1)] == [1, 1, 2, 2]
    for outside in (-1, 2 * HOUR_MS):
        with pytest.raises(LookupError):
            series.at(outside)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0, Fraction(1))],
        [(HOUR_MS, Fraction(1)), (0, Fraction(1))],
        [(0, Fraction(1)), (HOUR_MS, Fraction(1)), (3 * HOUR_MS, Fraction(1))],
        [(0, Fraction(1)), (HOUR_MS, Fraction(-1))],
    ],
)
def test_a_series_with_a_hole_is_refused(points: list[tuple[int, Fraction]]) -> None:
    with pytest.raises(ValueError, match="s: "):
        Series.of("s", points, UNKNOWN)


@given(st.lists(st.tuples(amounts, amounts), min_size=1, max_size=24))
def test_a_mean_factor_gives_what_the_hours_give_one_by_one(parts: list[tuple[Fraction, Fraction]]) -> None:
    hours = [(KilowattHours(energy), value) for energy, value in parts]
    made = mean_factor("mean", hours, UNKNOWN)
    total = sum((energy for energy, _ in parts), Fraction(0))
    emitted = sum((energy * value for energy, value in parts), Fraction(0))
    if made is None:
        assert total == emitted == 0
    else:
        assert made.emission(KilowattHours(total)) == KgCO2e(emitted)


def test_energies_that_cancel_while_their_emission_does_not_have_no_mean() -> None:
    with pytest.raises(DimensionError, match="cancel"):
        mean_factor("mean", [(kwh("1"), Fraction(2)), (kwh("-1"), Fraction(1))], UNKNOWN)


# ------------------------------------------------------------------------------------------------------------- supply


def test_import_generation_and_export_stay_three_figures() -> None:
    supply = Supply(kwh("100"), kwh("40"), kwh("15"))
    assert (supply.net_purchased, supply.consumed, supply.self_used) == (kwh("85"), kwh("125"), kwh("25"))


def test_a_mix_counts_import_by_the_grid_and_own_generation_by_its_own() -> None:
    pv = Factor("pv", Fraction("0.052"), KgCO2e, KilowattHours)
    supply = Supply(kwh("100"), kwh("40"), kwh("15"))
    mixed = supply.mixed(GRID, pv)
    assert mixed is not None
    assert mixed.emission(supply.consumed) == KgCO2e(100 * Fraction("0.5777") + 25 * Fraction("0.052"))
    assert Supply(kwh("0"), kwh("0"), kwh("0")).mixed(GRID, pv) is None


def test_a_mix_of_co2_and_co2e_is_refused() -> None:
    with pytest.raises(DimensionError, match="not in kgCO2e/kWh"):
        Supply(kwh("1"), kwh("1"), kwh("0")).mixed(GRID, GRID_CO2)


def test_more_export_than_generation_cannot_be_mixed() -> None:
    with pytest.raises(DimensionError, match="more was sent out"):
        Supply(kwh("1"), kwh("1"), kwh("2")).mixed(GRID, GRID)


# ---------------------------------------------------------------------------------------------------------- allocation


def test_a_step_falls_on_products_by_pieces_and_weights() -> None:
    """Product a: 100 boards of 40 placements; product b: 50 boards of 120: 4000 to 6000."""
    processed = [
        Processed("a", "smt_placement", 100, Fraction(40)),
        Processed("b", "smt_placement", 50, Fraction(120)),
        Processed("a", "packaging", 10),
    ]
    assert shares_by_pieces(processed, "smt_placement") == {"a": Fraction(2, 5), "b": Fraction(3, 5)}
    made = allocate(
        {"smt_placement": Fraction(50), "packaging": Fraction(7), "fct_test": Fraction(3)}, processed
    )
    assert made.total_of("a") == 27
    assert made.total_of("b") == 30
    assert made.idle == {"fct_test": 3}


@given(
    st.dictionaries(st.sampled_from(["s1", "s2", "s3", "s4"]), amounts),
    st.lists(
        st.builds(
            Processed,
            products,
            st.sampled_from(["s1", "s2", "s3"]),
            st.integers(0, 500),
            st.fractions(min_value=Fraction(1, 9), max_value=99),
        ),
        max_size=20,
    ),
)
def test_the_sum_of_products_is_the_sum_of_steps(
    steps: dict[str, Fraction], processed: list[Processed]
) -> None:
    """Zero to ten products, steps that nothing passed, days without any production."""
    made = allocate(steps, processed)
    given_away = sum((made.total_of(product) for product in made.products), Fraction(0))
    assert given_away + made.idle_total == sum(steps.values(), Fraction(0))
    if not any(entry.pieces for entry in processed):
        assert not made.products


@pytest.mark.parametrize("wrong", [Processed("a", "s", -1), Processed("a", "s", 1, Fraction(0))])
def test_a_driver_that_is_none_is_refused(wrong: Processed) -> None:
    with pytest.raises(ValueError, match="pieces are >= 0 and weights > 0"):
        allocate({"s": Fraction(1)}, [wrong])


def test_work_orders_divide_an_interval_by_time_and_leave_the_rest_idle() -> None:
    windows = [Window("a", "s", 0, 30), Window("b", "s", 40, 100), Window("c", "other", 0, 100)]
    assert split_by_windows([(0, 50, Fraction(100))], windows, "s") == {"a": 60, "b": 20, IDLE: 20}


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 300), amounts), max_size=12),
    st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90), products), max_size=8),
)
def test_windows_give_away_exactly_what_was_used(
    spans: list[tuple[int, int, Fraction]], orders: list[tuple[int, int, str]]
) -> None:
    windows, at_ms = [], 0
    for pause, length, product in orders:
        windows.append(Window(product, "s", at_ms + pause, at_ms + pause + length))
        at_ms += pause + length
    energies = [(start, start + length, energy) for start, length, energy in spans]
    made = split_by_windows(energies, windows, "s")
    assert sum(made.values(), Fraction(0)) == sum((energy for *_, energy in energies), Fraction(0))


@pytest.mark.parametrize(
    "windows", [[Window("a", "s", 5, 5)], [Window("a", "s", 0, 10), Window("b", "s", 9, 20)]]
)
def test_orders_that_overlap_or_run_backwards_are_refused(windows: list[Window]) -> None:
    with pytest.raises(ValueError, match=r"overlap|ends before"):
        split_by_windows([], windows, "s")


def test_utilities_stay_unassigned_unless_a_key_spreads_them() -> None:
    steps = {"a": Fraction(10), "b": Fraction(20)}
    six = Fraction(6)
    assert spread_utilities(steps, six, None) == (steps, six)
    spread, left = spread_utilities(steps, Fraction(6), {"a": Fraction(1), "b": Fraction(2)})
    assert spread == {"a": 12, "b": 24}
    assert left == 0
    assert spread_utilities(steps, six, {}) == (steps, six)
    with pytest.raises(ValueError, match="names c"):
        spread_utilities(steps, Fraction(6), {"c": Fraction(1)})
    with pytest.raises(ValueError, match="negative"):
        shares_by_key({"a": Fraction(-1)})


def test_standby_is_shown_and_changes_no_sum() -> None:
    states = [
        ("producing", Fraction(9)),
        ("standby", Fraction(2)),
        ("producing", Fraction(1)),
        ("off", Fraction(0)),
    ]
    assert standby(states) == {"producing": 10, "standby": 2, "off": 0}


def test_largest_remainders_by_hand() -> None:
    assert largest_remainder(100, {"a": Fraction(1, 3), "b": Fraction(1, 3), "c": Fraction(1, 3)}) == {
        "a": 34,
        "b": 33,
        "c": 33,
    }
    assert largest_remainder(-10, {"a": Fraction(1, 4), "b": Fraction(3, 4)}) == {"a": -3, "b": -7}
    with pytest.raises(ValueError, match="one whole"):
        largest_remainder(1, {"a": Fraction(1, 2)})


@given(st.integers(-(10**15), 10**15), st.dictionaries(products, st.integers(0, 1000), min_size=1))
def test_rounded_shares_add_up_and_are_never_off_by_one(total: int, weights: dict[str, int]) -> None:
    shares = shares_by_key({name: Fraction(weight) for name, weight in weights.items()})
    parts = largest_remainder(total, shares)
    assert sum(parts.values()) == total
    assert all(abs(parts[name] - total * share) < 1 for name, share in shares.items())
