"""Factors that change with time, supplies kept apart, and shares that add up to the whole."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.carbon.allocation import (
    IDLE,
    Part,
    Processed,
    Span,
    Use,
    Window,
    allocate,
    largest_remainder,
    shares_by_key,
    shares_by_pieces,
    split_by_windows,
    spread_utilities,
    total,
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


def use(amount: Fraction | int, *spans: tuple[int, int, Fraction | int]) -> Use:
    """kWh that emit half of themselves in kg."""
    return Use(Fraction(amount), Fraction(amount) / 2, tuple(span(*each) for each in spans))


def span(start_ms: int, end_ms: int, amount: Fraction | int) -> Span:
    return Span(start_ms, end_ms, Fraction(amount), Fraction(amount) / 2)


def part(amount: Fraction | int) -> Part:
    return Part(Fraction(amount), Fraction(amount) / 2)


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
    made = allocate({"smt_placement": use(50), "packaging": use(7), "fct_test": use(3)}, processed)
    assert made.total_of("a") == part(27)
    assert made.total_of("b") == part(30)
    assert made.idle == {"fct_test": part(3)}


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
    made = allocate({step: use(amount) for step, amount in steps.items()}, processed)
    given_away = total({product: made.total_of(product) for product in made.products})
    assert total({"given": given_away, "idle": made.idle_total}) == part(sum(steps.values(), Fraction(0)))
    if not any(entry.pieces for entry in processed):
        assert not made.products


@pytest.mark.parametrize("wrong", [Processed("a", "s", -1), Processed("a", "s", 1, Fraction(0))])
def test_a_driver_that_is_none_is_refused(wrong: Processed) -> None:
    with pytest.raises(ValueError, match="pieces are >= 0 and weights > 0"):
        allocate({"s": use(1)}, [wrong])


def test_work_orders_divide_an_interval_by_time_and_leave_the_rest_idle() -> None:
    windows = [Window("b", "s", 40, 100), Window("a", "s", 0, 30)]
    assert split_by_windows([span(0, 50, 100)], windows) == {"a": part(60), "b": part(20), IDLE: part(20)}


random_spans = st.lists(
    st.tuples(st.integers(0, 500), st.integers(1, 300), st.fractions(-9, 999, max_denominator=99)),
    max_size=12,
).map(lambda found: [span(start, start + length, energy) for start, length, energy in found])


@st.composite
def random_windows(draw: st.DrawFn, step: str = "s") -> list[Window]:
    """Orders one after the other, some touching, in any order."""
    made, at_ms = [], 0
    for pause, length, product in draw(
        st.lists(st.tuples(st.integers(0, 90), st.integers(1, 90), products), max_size=8)
    ):
        made.append(Window(product, step, at_ms + pause, at_ms + pause + length))
        at_ms += pause + length
    return draw(st.permutations(made))


def minute_by_minute(spans: list[Span], windows: list[Window]) -> dict[str, Fraction]:
    """A second way: every unit of time by itself."""
    found: dict[str, Fraction] = {}
    for each in spans:
        for at_ms in range(each.start_ms, each.end_ms):
            name = next((w.name for w in windows if w.start_ms <= at_ms < w.end_ms), IDLE)
            piece = each.kwh / (each.end_ms - each.start_ms)
            found[name] = found.get(name, Fraction(0)) + piece
    return found


@given(random_spans, random_windows())
def test_windows_give_away_exactly_what_was_used(spans: list[Span], windows: list[Window]) -> None:
    made = split_by_windows(spans, windows)
    assert {name: found.kwh for name, found in made.items() if found.kwh} == {
        name: energy for name, energy in minute_by_minute(spans, windows).items() if energy
    }
    assert total(made) == part(sum((each.kwh for each in spans), Fraction(0)))


@given(
    random_spans,
    random_windows(),
    st.lists(st.builds(Processed, products, st.just("t"), st.integers(0, 9)), max_size=5),
    st.booleans(),
)
def test_orders_and_pieces_together_give_the_sum_of_the_steps(
    spans: list[Span], orders: list[Window], processed: list[Processed], spread: bool
) -> None:
    used = sum((each.kwh for each in spans), Fraction(0))
    steps = {"s": Use(used, used / 2, tuple(spans)), "t": use(7), "u": use(5)}
    made = allocate(steps, processed, orders, spread=spread)
    given_away = total({product: made.total_of(product) for product in made.products})
    assert total({"given": given_away, "idle": made.idle_total}) == part(used + 12)
    assert spread or not made.outside


@pytest.mark.parametrize(
    "windows", [[Window("a", "s", 5, 5)], [Window("a", "s", 0, 10), Window("b", "s", 9, 20)]]
)
def test_orders_that_overlap_or_run_backwards_are_refused(windows: list[Window]) -> None:
    with pytest.raises(ValueError, match=r"overlap|ends before"):
        split_by_windows([], windows)


def test_what_was_used_outside_the_orders_is_spread_by_what_was_used_within_or_stays_idle() -> None:
    """Of 100 kWh a's order has 30, b's 10; 60 between them are 45 and 15 more, or idle."""
    steps = {"s": use(100, (0, 10, 30), (10, 20, 60), (20, 30, 10))}
    orders = [Window("a", "s", 0, 10), Window("b", "s", 20, 30)]
    spread = allocate(steps, [], orders)
    assert (spread.total_of("a"), spread.outside_of("a")) == (part(75), part(45))
    assert (spread.total_of("b"), spread.idle_total) == (part(25), part(0))
    kept = allocate(steps, [], orders, spread=False)
    assert (kept.total_of("a"), kept.total_of("b"), kept.idle_total) == (part(30), part(10), part(60))


def test_orders_in_which_nothing_was_used_are_no_key_for_the_rest() -> None:
    steps = {"s": use(5, (0, 10, 0), (10, 20, 5)), "n": use(1, (0, 10, -1), (10, 20, 2))}
    made = allocate(steps, [], [Window("a", "s", 0, 10), Window("a", "n", 0, 10)])
    assert made.idle == {"s": part(5), "n": part(2)}


def test_orders_of_a_step_of_which_nobody_knows_when_are_refused() -> None:
    with pytest.raises(ValueError, match="nobody knows when"):
        allocate({"s": use(5)}, [], [Window("a", "s", 0, 10)])


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


def test_largest_remainders_by_hand() -> None:
    thirds = dict.fromkeys("abc", Fraction(100, 3))
    assert largest_remainder(thirds) == {"a": 34, "b": 33, "c": 33}
    assert largest_remainder({"a": Fraction(-5, 2), "b": Fraction(-15, 2)}) == {"a": -2, "b": -8}
    assert largest_remainder({"a": Fraction(7, 10), "b": Fraction(7, 10), "c": Fraction(7, 10)}) == {
        "a": 1,
        "b": 1,
        "c": 0,
    }
    assert largest_remainder({}) == {}


@given(st.dictionaries(products, st.fractions(-(10**9), 10**9, max_denominator=10**4), max_size=9))
def test_rounded_parts_add_up_to_the_rounded_sum_and_are_never_off_by_one(parts: dict[str, Fraction]) -> None:
    whole = largest_remainder(parts)
    assert sum(whole.values()) == round(sum(parts.values(), Fraction(0)))
    assert all(abs(whole[name] - exact) < 1 for name, exact in parts.items())
