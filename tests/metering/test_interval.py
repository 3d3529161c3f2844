"""How long it was between two readings: measured within a boot, by good labels across one, else unknown."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.interval import DAY_MS, HOUR_MS, Moment, elapsed_ms, has_trusted_label


@dataclass(frozen=True)
class Label:
    at_ms: int
    when: Moment | None = None


@pytest.mark.fault("F38", "F39", "F42", "F44")
@given(st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 10**12), st.integers(0, 10**12))
def test_within_a_boot_no_label_counts(one: int, other: int, up: int, later: int) -> None:
    before = Label(one, Moment("boot", up, None))
    after = Label(other, Moment("boot", up + later, 10))
    assert elapsed_ms(before, after) == later


def test_across_a_boot_good_labels_count_with_their_errors() -> None:
    before = Label(1_000, Moment("one", 900, 10))
    assert elapsed_ms(before, Label(61_000, Moment("two", 5, 300))) == 60_310
    assert elapsed_ms(before, Label(999, Moment("two", 5, 300))) is None


@pytest.mark.fault("F40")
def test_across_a_boot_without_the_time_nobody_knows() -> None:
    before = Label(1_000, Moment("one", 900, 10))
    assert elapsed_ms(before, Label(61_000, Moment("two", 5, None))) is None
    assert elapsed_ms(Label(1_000, Moment("one", 900, None)), Label(61_000, Moment("two", 5, 10))) is None
    assert elapsed_ms(before, Label(61_000, Moment(None, None, None))) is None
    assert not has_trusted_label(Label(0, Moment(None, None, None)))


def test_a_day_has_twenty_four_hours() -> None:
    assert (DAY_MS, HOUR_MS) == (24 * 60 * 60 * 1000, 60 * 60 * 1000)


def test_what_was_kept_before_moments_were_goes_by_its_labels() -> None:
    assert elapsed_ms(Label(1_000), Label(61_000)) == 60_000
    assert elapsed_ms(Label(1_000), Label(1_000)) == 0
    assert elapsed_ms(Label(1_000), Label(999)) is None


def test_an_old_copy_of_the_same_boot_that_lies_ahead_is_no_length() -> None:
    assert elapsed_ms(Label(5, Moment("boot", 100, None)), Label(6, Moment("boot", 99, None))) is None
