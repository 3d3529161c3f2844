"""What makes one reading too few: how odd a rise has to be, how long a silence, and who proves what."""

from dataclasses import replace
from fractions import Fraction

import pytest

from agent.metering.interval import Moment
from agent.metering.ledger import Basis, Head, Point
from agent.metering.memory import SILENT_MS
from agent.metering.plant import Meter
from agent.metering.profile import WordType
from agent.metering.suspicion import (
    bound_of,
    cannot_be_compared,
    is_coarse,
    is_proved,
    may_go_on,
    rises_oddly,
)
from tests.metering.examples import meter, register

BASIS = Basis(Fraction(10_000), None, "100")
RATED = meter(rated_w=36_000)
"""36 kW are 10 Wh a second: one step of its register."""
UNRATED = meter()


def head(register_milliwh: int, at_ms: int = 0, when: Moment | None = None, **changes: object) -> Head:
    plain = Head("reflow-1", 1, 1, register_milliwh, at_ms, at_ms, BASIS, "c" * 43, when=when)
    return replace(plain, **changes)  # type: ignore[arg-type]


def point(register_milliwh: int, at_ms: int = 0, when: Moment | None = None) -> Point:
    return Point("reflow-1", at_ms, at_ms, register_milliwh, BASIS, when=when)


def is_odd(before: Head, after: Point, *, of: Meter = RATED) -> bool:
    counts = after.register_milliwh // 10_000
    return rises_oddly(of, before, after, bound_of(of, counts), counts)


@pytest.mark.parametrize(
    ("rise", "odd"),
    [(-10_000, False), (0, False), (600_000, False), (610_000, False), (610_001, True), (620_000, True)],
)
def test_a_rise_is_odd_beyond_power_and_time_and_one_step(rise: int, odd: bool) -> None:
    assert is_odd(head(1_000_000), point(1_000_000 + rise, 60_000)) is odd


def test_where_nobody_knows_the_power_only_a_turn_of_a_word_is_odd() -> None:
    assert not is_odd(head(0), point(300_000_000, 60_000), of=UNRATED)
    assert is_odd(head(0), point(655_360_000, 60_000), of=UNRATED)


@pytest.mark.fault("F17", "F40")
@pytest.mark.parametrize(("rise", "odd"), [(0, False), (10_000, True)])
def test_a_rise_of_which_nobody_knows_how_long_it_took_is_odd_and_standing_still_is_not(
    rise: int, odd: bool
) -> None:
    before, after = Moment("one", 5, 10), Moment("two", 5, None)
    assert is_odd(head(0, 0, before), point(rise, 60_000, after)) is odd
    assert not is_odd(head(0, 0, before), point(rise, 60_000, Moment("one", 60_005, None)))
    assert not is_odd(head(0), point(rise, 60_000)), "what was kept before moments were goes by its labels"


@pytest.mark.parametrize(("silent_ms", "cannot"), [(SILENT_MS, False), (SILENT_MS + 1, True)])
def test_after_an_hour_no_position_tells_a_wrong_reading(silent_ms: int, cannot: bool) -> None:
    assert cannot_be_compared(head(0), point(0, silent_ms)) is cannot
    assert SILENT_MS == 3_600_000


def test_no_position_or_the_platforms_tells_none_either() -> None:
    assert cannot_be_compared(None, point(0))
    assert cannot_be_compared(head(0, restored=True), point(0))
    unknown = point(0, 60_000, Moment("two", 5, None))
    assert not cannot_be_compared(head(0, 0, Moment("one", 5, None)), unknown), (
        "a rise alone is asked for again"
    )


def test_from_the_platforms_word_only_a_proven_basis_goes_on() -> None:
    nameless = replace(BASIS, serial=None)
    assert may_go_on(head(0), nameless)
    assert may_go_on(head(0, restored=True), BASIS)
    assert not may_go_on(head(0, restored=True), nameless)
    assert not may_go_on(head(0, restored=True, basis=nameless), nameless)


def test_a_meter_proves_itself_by_the_number_it_gives() -> None:
    assert is_proved(head(0), "100")
    assert not is_proved(head(0), "200") and not is_proved(head(0), None)
    assert not is_proved(head(0, basis=replace(BASIS, serial=None)), None)


@pytest.mark.parametrize(
    ("counts", "coarse"), [(2**23, False), (2**24, False), (2**25, True), (Fraction(2**20), False)]
)
def test_a_float_is_coarse_where_it_steps_by_more_than_a_watt_hour(
    counts: int | Fraction, coarse: bool
) -> None:
    """A count is 0.5 Wh here: at 2**23 a float32 steps by one of them, at 2**25 by four."""
    single = meter(register(WordType.F32, per_count=Fraction(1, 2_000)))
    assert is_coarse(single, counts) is coarse
    assert not is_coarse(meter(register(per_count=Fraction(1, 2_000))), int(counts))
