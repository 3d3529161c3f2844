"""Only energy that a circuit can have used is ever booked, and every fall has one of two answers."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.decode import NoValue
from agent.metering.gates import (
    Held,
    RefusedReading,
    Rise,
    admit,
    compare,
    power_max_w,
    rise_max,
    step_milliwh,
)
from agent.metering.profile import WordType
from agent.metering.quantity import EXACT_MAX
from tests.metering.examples import meter, profile, register

MODULUS = 10**12  # 999 999.99 kWh


@given(before=st.integers(0, MODULUS), rise=st.integers(0, MODULUS))
def test_a_rise_is_booked_whole(before: int, rise: int) -> None:
    assert compare(before, before + rise, modulus_milliwh=None, rise_max_milliwh=None) == Rise(rise, None)


@pytest.mark.fault("F15")
@given(
    before=st.integers(1, MODULUS - 1),
    fall=st.integers(1, MODULUS),
    modulus=st.one_of(st.none(), st.just(MODULUS)),
    bound=st.one_of(st.none(), st.integers(0, 2 * MODULUS)),
)
def test_a_fall_is_a_possible_rollover_or_held(
    before: int, fall: int, modulus: int | None, bound: int | None
) -> None:
    after = max(0, before - fall)
    outcome = compare(before, after, modulus_milliwh=modulus, rise_max_milliwh=bound)
    if modulus is None or bound is None or bound >= modulus or after + modulus - before > bound:
        assert isinstance(outcome, Held)
    else:
        assert outcome == Rise(after - before + modulus, modulus)


@pytest.mark.fault("F20")
@given(
    st.integers(1, MODULUS - 1),
    st.integers(1, 10**6),
    st.integers(0, MODULUS - 1),
)
def test_a_step_backwards_is_never_a_turn_forwards(before: int, back: int, bound: int) -> None:
    """Unless the circuit could have used nearly the whole modulus, which the bound then says."""
    outcome = compare(before, max(0, before - back), modulus_milliwh=MODULUS, rise_max_milliwh=bound)
    if bound < MODULUS - 10**6:
        assert isinstance(outcome, Held)


@pytest.mark.fault("F15")
def test_the_limits_of_a_rollover_are_met_exactly() -> None:
    assert compare(MODULUS - 60, 40, modulus_milliwh=MODULUS, rise_max_milliwh=100) == Rise(100, MODULUS)
    for before, after in ((MODULUS - 60, 41), (MODULUS - 61, 40), (MODULUS - 101, 0)):
        assert isinstance(compare(before, after, modulus_milliwh=MODULUS, rise_max_milliwh=100), Held)


@pytest.mark.fault("F15", "F28")
@pytest.mark.parametrize(
    ("rise", "bound", "is_booked"),
    [(0, 2000, True), (1, 1000, True), (1, 1001, False), (148, 1147, True), (148, 1148, False)],
)
def test_a_rise_is_not_booked_where_a_whole_turn_may_lie_beside_it(
    rise: int, bound: int, is_booked: bool
) -> None:
    """After four weeks of silence 10.148 MWh of a register of 10 MWh were booked as 0.148 (world seed 11272)."""
    outcome = compare(3, 3 + rise, modulus_milliwh=1000, rise_max_milliwh=bound)
    turns = Held("turns: register rose, it may have gone round as well")
    assert outcome == (Rise(rise, None) if is_booked else turns)


@pytest.mark.parametrize(
    ("before", "after", "modulus", "bound", "reason"),
    [
        (9, 8, None, None, "its modulus is unknown"),
        (9, 8, None, 1, "its modulus is unknown"),
        (9, 8, 1000, None, "how much its circuit can have used is unknown"),
        (999, 0, 1000, 1000, "it may have gone round more than once"),
        (900, 0, 1000, 99, "it was not near its modulus"),
        (900, 1, 1000, 100, "the rise across its modulus is not possible"),
    ],
)
def test_a_fall_says_which_knowledge_is_missing(
    before: int, after: int, modulus: int | None, bound: int | None, reason: str
) -> None:
    """A person acts on it: states the modulus, states the rated power, or goes and looks at the meter."""
    outcome = compare(before, after, modulus_milliwh=modulus, rise_max_milliwh=bound)
    assert outcome == Held(f"fall: register fell, {reason}")


def test_a_register_that_reaches_its_modulus_exactly_starts_at_zero() -> None:
    assert compare(990, 0, modulus_milliwh=1000, rise_max_milliwh=10) == Rise(10, 1000)
    assert compare(999, 0, modulus_milliwh=1000, rise_max_milliwh=999) == Rise(1, 1000)


@given(st.lists(st.integers(0, 900), min_size=1, max_size=40))
def test_a_run_of_deltas_telescopes_over_any_number_of_rollovers(rises: list[int]) -> None:
    total, before, booked, rolls = 0, 0, 0, 0
    for rise in rises:
        total += rise
        after = total % 1000
        outcome = compare(before, after, modulus_milliwh=1000, rise_max_milliwh=900)
        assert isinstance(outcome, Rise)
        booked += outcome.delta_milliwh
        rolls += outcome.roll_milliwh or 0
        before = after
    assert booked == total == before + rolls


@pytest.mark.fault("F21")
@given(
    power_w=st.integers(0, 10**7),
    step=st.fractions(0, 10**9),
    silent_ms=st.integers(0, 10**10),
)
def test_the_bound_is_power_times_time_and_one_step_rounded_up(
    power_w: int, step: Fraction, silent_ms: int
) -> None:
    bound = rise_max(power_w, step, silent_ms)
    assert bound is not None
    exact = Fraction(power_w * silent_ms, 3600) + step
    assert exact <= bound < exact + 1


def test_one_kilowatt_for_one_hour_is_one_kilowatt_hour() -> None:
    assert rise_max(1000, 0, 3_600_000) == 1_000_000


def test_an_unknown_power_gives_no_bound() -> None:
    assert rise_max(None, 0, 1000) is None
    with pytest.raises(ValueError, match="-1 ms"):
        rise_max(1000, 0, -1)


def test_the_power_is_the_sites_or_what_the_model_can_measure_behind_its_transformers() -> None:
    assert power_max_w(meter()) is None
    behind = meter(profile=profile(power_max_w=1_500), ct_ratio=Fraction(30), pt_ratio=Fraction(3, 2))
    assert power_max_w(behind) == 67_500
    assert power_max_w(meter(rated_w=40_000, profile=profile(power_max_w=1_500))) == 40_000


def test_a_step_is_one_count_behind_the_transformers() -> None:
    assert step_milliwh(meter(register(secondary=True), ct_ratio=Fraction(30)), 5) == 300_000
    single = register(WordType.F32, per_count=Fraction(1))
    assert step_milliwh(meter(single), Fraction(131_072)) == 15_625


@given(st.integers(0, 2**32 - 1))
def test_a_sound_count_becomes_energy(counts: int) -> None:
    assert admit(meter(), counts) == counts * 10_000


@pytest.mark.fault("F23")
@pytest.mark.parametrize(
    ("decoded", "reason"),
    [
        (NoValue("energy_import: not a number"), "not a number"),
        ("12", "text"),
        (-1, "negative"),
        (Fraction(-1, 3), "negative"),
        (10**8, "not below its modulus"),
    ],
)
def test_what_cannot_be_a_register_is_refused(decoded: int | Fraction | str | NoValue, reason: str) -> None:
    outcome = admit(meter(register(modulus_counts=10**8)), decoded)
    assert isinstance(outcome, RefusedReading)
    assert reason in outcome.reason


def test_a_refusal_names_the_register_and_the_whole_count() -> None:
    """Whole, because a float32 of garbage may have forty decimals."""
    bounded = meter(register(modulus_counts=1000))
    said: dict[Fraction | str, str] = {
        Fraction(-1, 3): "energy_import: negative count -1",
        Fraction(2001, 2): "energy_import: 1000 is not below its modulus 1000",
        "12": "energy_import: text where a count belongs",
    }
    for decoded, reason in said.items():
        assert admit(bounded, decoded) == RefusedReading(reason)
    assert admit(bounded, 999) == 9_990_000 and admit(bounded, 0) == 0
    beyond = admit(meter(), EXACT_MAX)
    assert beyond == RefusedReading(
        f"energy_import: {EXACT_MAX} counts are more than any meter can have counted"
    )


def test_a_register_that_no_message_can_carry_is_refused() -> None:
    single = meter(register(WordType.F32, per_count=Fraction(1)))
    assert isinstance(admit(single, Fraction(2**127)), RefusedReading)
    exact = meter(register(WordType.U64, unit="Wh", per_count=Fraction(1, 1000)))
    assert admit(exact, EXACT_MAX) == EXACT_MAX
    assert isinstance(admit(exact, EXACT_MAX + 1), RefusedReading)
