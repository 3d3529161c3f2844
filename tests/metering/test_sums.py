"""The booked counter may be a sum: exact, whichever part moves, rolls over or has no value."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.decode import NoValue, decode, encode, resolution, split
from agent.metering.gates import Held, Rise, admit, compare, compare_parts
from agent.metering.profile import Sum, WordType
from tests.metering.examples import meter, profile, register

PER_COUNT = Fraction(10_000)
"""0.001 Wh in 0.01 kWh."""


def total(*moduli: int | None, type: WordType = WordType.U32) -> Sum:
    parts = tuple(
        register(type, name=f"t{place}", address=4 * place, modulus_counts=modulus)
        for place, modulus in enumerate(moduli, 1)
    )
    return Sum("energy_import", parts)


def words(counter: Sum, *counts: int) -> tuple[int, ...]:
    return tuple(
        word for part, count in zip(counter.parts, counts, strict=True) for word in encode(part, count)
    )


def test_the_sum_is_exact_and_its_words_are_those_of_its_parts() -> None:
    counter = total(None, None)
    both = words(counter, 70_000, 123_456)
    assert both == (0x0001, 0x1170, 0x0001, 0xE240)
    assert decode(counter, both) == 193_456
    assert [(part.name, own) for part, own in split(counter, both)] == [
        ("t1", (0x0001, 0x1170)),
        ("t2", (0x0001, 0xE240)),
    ]


def test_floats_add_up_without_rounding() -> None:
    counter = total(None, None, type=WordType.F64)
    value = decode(
        counter, encode(counter.parts[0], Fraction(1, 3)) + encode(counter.parts[1], Fraction(1, 7))
    )
    parts = [
        decode(part, encode(part, share))
        for part, share in zip(counter.parts, (Fraction(1, 3), Fraction(1, 7)), strict=True)
    ]
    assert value == sum(part for part in parts if isinstance(part, int | Fraction))
    assert resolution(counter, 10**12) == Fraction(1, 2**13)


@given(
    st.lists(st.integers(0, 10**7), min_size=2, max_size=3),
    st.lists(st.integers(0, 900), min_size=3, max_size=3),
    st.sampled_from([(1_000, 10_000, 100_000), (6_000, 10_000, 4_000), (5_000, 5_000, 5_000)]),
)
def test_whatever_rolls_over_the_sum_runs_on_modulo_its_modulus(
    counted: list[int], rises: list[int], moduli: tuple[int, ...]
) -> None:
    """The parts show what they counted modulo their own modulus; the rise of the sum is the rise of all of them."""
    counter = total(*moduli[: len(counted)])
    modulus = counter.modulus_counts
    assert modulus is not None
    after = [count + rise for count, rise in zip(counted, rises, strict=False)]
    shown = [
        decode(counter, words(counter, *(count % own for count, own in zip(counts, moduli, strict=False))))
        for counts in (counted, after)
    ]
    assert isinstance(shown[0], int)
    assert isinstance(shown[1], int)
    assert 0 <= shown[0] < modulus
    assert (shown[1] - shown[0]) % modulus == sum(rises[: len(counted)]) % modulus


def test_the_gates_see_a_plain_counter() -> None:
    """Tariff 2 rolls over from 10^6 to 0 while tariff 1 stands at 700: that is a rollover of the sum."""
    counter = total(10**6, 10**6)
    before, after = decode(counter, words(counter, 700, 999_990)), decode(counter, words(counter, 700, 15))
    assert (before, after) == (690, 715)
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert compare(before, after, modulus_milliwh=10**6, rise_max_milliwh=100) == Rise(25, None)


@pytest.mark.parametrize(
    ("moduli", "modulus"),
    [((10**6, 10**8), 10**6), ((6_000, 4_000), 2_000), ((10**6, None), None), ((None, None), None)],
)
def test_its_modulus_is_what_every_rollover_is_a_multiple_of(
    moduli: tuple[int | None, ...], modulus: int | None
) -> None:
    assert total(*moduli).modulus_counts == modulus


def test_a_part_without_a_value_takes_the_sum_with_it() -> None:
    counter = total(10**6, None)
    assert isinstance(decode(counter, words(counter, 10**6, 1)), NoValue)
    marked = Sum("energy_import", (register(), register(name="t2", invalid=frozenset({0xFFFFFFFF}))))
    assert decode(marked, (0, 1, 0xFFFF, 0xFFFF)) == NoValue("t2: invalid mark 0xFFFFFFFF")
    signed = total(None, None, type=WordType.S32)
    assert isinstance(decode(signed, (0xFFFF, 0xFFFF, 0, 5)), NoValue)
    with pytest.raises(ValueError, match="has 4 words, got 2"):
        decode(counter, (0, 1))


def test_it_is_admitted_like_a_register() -> None:
    counter = total(10**6, 10**6)
    one = meter(profile=profile(sums={"energy_import": counter}))
    assert one.modulus_milliwh == 10**10
    assert admit(one, decode(counter, words(counter, 3, 4))) == 70_000
    assert encode(counter, 12) == words(counter, 12, 0)


def test_a_part_that_fell_is_not_hidden_by_the_others() -> None:
    counter = total(None, 10**6)
    before, after = words(counter, 500, 999_990), words(counter, 0, 600)
    sums = [decode(counter, each) for each in (before, after)]
    assert sums == [1_000_490, 600]
    held = compare_parts(counter, before, after, per_count_milliwh=PER_COUNT, rise_max_milliwh=10**9)
    assert held == Held("fall: register fell, its modulus is unknown (t1)")
    risen = words(counter, 501, 600)
    assert compare_parts(counter, before, risen, per_count_milliwh=PER_COUNT, rise_max_milliwh=10**8) is None
    hidden = words(counter, 0, 999_999)
    assert isinstance(
        compare_parts(counter, before, hidden, per_count_milliwh=PER_COUNT, rise_max_milliwh=10**9), Held
    )


def test_a_part_without_a_value_hides_no_fall_of_another() -> None:
    """Its own reading is refused elsewhere; the parts behind it are judged all the same."""
    marked = register(name="t1", invalid=frozenset({0xFFFFFFFF}))
    counter = Sum("energy_import", (marked, register(name="t2", address=4)))
    before, after = words(counter, 5, 900), (0xFFFF, 0xFFFF, 0, 800)
    assert isinstance(decode(marked, after[:2]), NoValue)
    held = compare_parts(counter, before, after, per_count_milliwh=PER_COUNT, rise_max_milliwh=10**9)
    assert held == Held("fall: register fell, its modulus is unknown (t2)")
    held = compare_parts(counter, after, before, per_count_milliwh=PER_COUNT, rise_max_milliwh=10**9)
    assert held is None, "the second rose, of the first nothing is known"


def test_a_part_is_judged_in_energy_by_its_own_modulus() -> None:
    counter = total(1_000, 10**6)
    before, after = words(counter, 990, 5), words(counter, 15, 5)
    rise_milliwh = 25 * 10_000
    assert (
        compare_parts(counter, before, after, per_count_milliwh=PER_COUNT, rise_max_milliwh=rise_milliwh)
        is None
    )
    held = compare_parts(
        counter, before, after, per_count_milliwh=PER_COUNT, rise_max_milliwh=rise_milliwh - 1
    )
    assert held == Held("fall: register fell, the rise across its modulus is not possible (t1)")
