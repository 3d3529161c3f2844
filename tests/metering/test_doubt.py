"""Readings that wait: which of them are evidence of one another."""

from fractions import Fraction

import pytest

from agent.metering.doubt import Doubt, add, goes_on_from, is_jitter, may_be_torn
from agent.metering.interval import Moment, Timed, elapsed_ms
from agent.metering.ledger import Basis, Head, Point
from agent.metering.profile import Sum, WordType
from agent.metering.standstill import BOUNDARIES, STEPS, Standstill, watched
from tests.metering.examples import register

BASIS = Basis(Fraction(10_000), None, None)
MILLIWH_PER_MS = 10
INTERVAL_MS = 120_000


def point(register: int, up_ms: int, boot: str, err_ms: int | None) -> Point:
    return Point("m1", up_ms, up_ms, register, BASIS, when=Moment(boot, up_ms, err_ms))


def bound(before: Timed, after: Timed) -> int | None:
    silent_ms = elapsed_ms(before, after)
    return None if silent_ms is None else silent_ms * MILLIWH_PER_MS


def doubt_of(*points: Point) -> Doubt:
    doubt = None
    for each in points:
        doubt = add(doubt, each, bound, INTERVAL_MS)
    assert doubt is not None
    return doubt


@pytest.mark.fault("F17", "F40")
def test_a_misread_before_a_start_without_a_clock_is_no_evidence_of_what_is_read_after_it() -> None:
    """A zero, power gone, 1970, and another meter: the zero would open its epoch (seed 2050 of the world)."""
    misread = point(0, 60_000, "one", 10)
    after = [point(1000, 70_000 + step * 120_000, "two", None) for step in range(3)]
    assert doubt_of(misread, *after[:2]).points == tuple(after[:2])
    assert not doubt_of(misread, *after[:2]).is_settled
    assert doubt_of(misread, *after).is_settled


def test_readings_of_one_start_of_the_machine_are_evidence_without_a_clock() -> None:
    readings = [point(1000 + step, step * 120_000, "two", None) for step in range(3)]
    assert doubt_of(*readings).points == tuple(readings)
    assert doubt_of(*readings).is_settled


@pytest.mark.fault("F20", "F78")
def test_many_readings_of_one_interval_are_one_piece_of_evidence() -> None:
    """An agent that is restarted six times within a minute has not seen six boundaries (seed 2057 of the world)."""
    hurried = [point(1000 + step, 60_000 + step * 9_000, "one", 10) for step in range(6)]
    assert doubt_of(*hurried).points == (hurried[0],)
    later = [point(1010 + step, 120_000 * (1 + step), "one", 10) for step in range(2)]
    assert doubt_of(*hurried, *later).points == (hurried[0], *later)
    assert doubt_of(*hurried, point(900, 115_000, "one", 10)).points[0].register_milliwh == 900


# ---------------------------------------------------------------------------------------- the edges of the rules


@pytest.mark.fault("F17", "F20")
@pytest.mark.parametrize(
    ("fall", "after", "is_one"),
    [(10, 100, True), (20, 100, True), (21, 100, False), (0, 100, False), (20, 0, False), (20, 1, True)],
)
def test_a_fall_by_two_steps_at_most_and_not_to_zero_is_jitter(fall: int, after: int, is_one: bool) -> None:
    assert is_jitter(fall, after, 10) is is_one


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    ("type", "rise", "may_be"),
    [
        (WordType.U32, 65_536, True),
        (WordType.U32, 65_536 - 4_095, True),
        (WordType.U32, 65_536 + 4_095, True),
        (WordType.U32, 65_536 - 4_096, False),
        (WordType.U32, 65_536 + 4_096, False),
        (WordType.U32, 2 * 65_536, False),
        (WordType.U16, 65_536, False),
        (WordType.U64, 65_536**2, True),
        (WordType.U64, 65_536**3, True),
        (WordType.U64, 65_536**4, False),
        (WordType.BCD32, 10_000, True),
        (WordType.BCD32, 65_536, False),
    ],
)
def test_a_turn_of_a_word_within_a_sixteenth_may_be_torn(type: WordType, rise: int, may_be: bool) -> None:
    assert may_be_torn(register(type), rise, 1) is may_be
    assert may_be_torn(register(type), 10 * rise, 10) is may_be
    both = Sum("energy_import", (register(WordType.U16, name="t0"), register(type, name="t1", address=2)))
    assert may_be_torn(both, rise, 1) is may_be


def position(register_milliwh: int, modulus: int | None = None) -> Head:
    basis = Basis(Fraction(10_000), modulus, None)
    return Head("m2", 1, 1, register_milliwh, 0, 0, basis, "c" * 43)


@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    ("shown", "most", "goes_on"),
    [
        (5_000, 0, True),
        (5_100, 100, True),
        (5_101, 100, False),
        (4_999, 100, False),
        (50, 5_050, True),
        (51, 5_050, False),
        (5_000, None, True),
        (9_999, None, True),
        (4_999, None, False),
        (50, None, False),
    ],
)
def test_a_reading_is_another_meters_where_it_goes_on_from_there(
    shown: int, most: int | None, goes_on: bool
) -> None:
    """What that circuit can have used decides, also beyond its modulus; where nobody knows, any rise can be."""
    at = point(shown, 1, "one", 10)
    said = goes_on_from(position(5_000, 10_000), shown, at, lambda before, after: most)
    assert said is goes_on


@pytest.mark.fault("F25")
def test_a_register_is_stuck_once_more_than_three_steps_were_due_at_three_boundaries() -> None:
    assert (BOUNDARIES, STEPS) == (3, 3)
    minute_ms, power_w = 60_000, Fraction(600)  # 10 Wh a minute
    now: Standstill | None = None
    for turn in range(5):
        now = watched(now, 7, turn * minute_ms, power_w)
        assert (now.boundaries, now.due_milliwh) == (turn, Fraction(turn * 10_000))
        assert now.is_stuck(9_999) is (turn >= 3)
        assert now.is_stuck(10_000) is (turn >= 4), "just three steps may still come"
    assert now is not None
    for moved in (
        watched(now, 8, 5 * minute_ms, power_w),
        watched(now, 7, 5 * minute_ms, None),
        watched(now, 7, 5 * minute_ms, Fraction(0)),
        watched(now, 7, 5 * minute_ms, Fraction(-600)),
        watched(now, 7, 4 * minute_ms, power_w),
        watched(now, 7, minute_ms, power_w),
    ):
        assert (moved.boundaries, moved.due_milliwh) == (0, Fraction(0))
    unknown = Standstill(7, 0, None)
    assert watched(unknown, 7, minute_ms, power_w).boundaries == 0
    less = watched(Standstill(7, 0, power_w), 7, minute_ms, Fraction(60))
    assert less.due_milliwh == 1_000, "the lesser of both powers is sure"
