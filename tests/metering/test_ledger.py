"""The ledger: deltas telescope, falls are never energy, and a restored position is continued only on proof."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.gates import Held
from agent.metering.interval import DAY_MS, Moment
from agent.metering.later import since
from agent.metering.ledger import Advanced, Basis, Head, Opened, Point, Run, advance

BASIS = Basis(Fraction(10_000), 10_000_000, "2206001234")
CFG = "c" * 43


def point(register: int, at: int, basis: Basis = BASIS, opens: str | None = None) -> Point:
    return Point("m1", at, at, register, basis, opens=opens)


def head(register: int, at: int = 0, *, epoch: int = 1, n: int = 0, basis: Basis = BASIS) -> Head:
    return Head("m1", epoch, n, register, at, at, basis, CFG)


def run(
    points: list[Point], start: Head | None, rise_max: int | None = 5_000_000
) -> tuple[Head | None, list[object]]:
    outcomes: list[object] = []
    for each in points:
        outcome = advance(start, each, cfg=CFG, rise_max_milliwh=rise_max)
        outcomes.append(outcome)
        if not isinstance(outcome, Held):
            start = outcome.head
    return start, outcomes


@pytest.mark.fault("F15")
@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=60), st.integers(0, 9_999_999))
def test_any_run_of_deltas_telescopes_over_rollovers(rises: list[int], opening: int) -> None:
    total, points = opening, []
    for index, rise in enumerate(rises, start=1):
        total += rise
        points.append(point(total % 10_000_000, index))
    end, outcomes = run(points, head(opening))
    deltas = [outcome for outcome in outcomes if isinstance(outcome, Advanced)]
    assert len(deltas) == len(rises)
    assert sum(delta.delta_milliwh for delta in deltas) == sum(rises)
    assert end is not None and end.n == len(rises)
    rolled = sum(delta.roll_milliwh or 0 for delta in deltas)
    assert end.register_milliwh - opening + rolled == sum(rises)


@pytest.mark.fault("F20")
@given(st.integers(1, 9_999_999), st.data())
def test_a_fall_without_a_known_modulus_is_held_and_moves_nothing(before: int, data: st.DataObject) -> None:
    after = data.draw(st.integers(0, before - 1))
    basis = replace(BASIS, modulus_milliwh=None)
    start = head(before, basis=basis)
    outcome = advance(start, point(after, 1, basis), cfg=CFG, rise_max_milliwh=5_000_000)
    assert isinstance(outcome, Held)


@pytest.mark.fault("F17")
def test_a_glitch_to_zero_and_back_books_the_energy_once() -> None:
    end, outcomes = run([point(0, 1), point(5_300_000, 2)], head(5_000_000), rise_max=400_000)
    assert isinstance(outcomes[0], Held)
    assert isinstance(outcomes[1], Advanced) and outcomes[1].delta_milliwh == 300_000
    assert end is not None and end.n == 1


def test_the_first_reading_opens_epoch_one_without_energy() -> None:
    outcome = advance(None, point(7, 1), cfg=CFG, rise_max_milliwh=None)
    assert isinstance(outcome, Opened)
    assert (outcome.head.epoch, outcome.head.n, outcome.before) == (1, 0, None)


def test_another_ratio_opens_an_epoch() -> None:
    other = replace(BASIS, per_count_milliwh=Fraction(20_000))
    outcome = advance(head(5, n=3), point(10, 1, other), cfg=CFG, rise_max_milliwh=None)
    assert isinstance(outcome, Opened) and outcome.reason == "ratio"
    assert (outcome.head.epoch, outcome.head.n) == (2, 0)


@pytest.mark.fault("F18")
def test_another_serial_number_opens_an_epoch_and_a_learned_one_does_not() -> None:
    exchanged = advance(head(5), point(10, 1, replace(BASIS, serial="other")), cfg=CFG, rise_max_milliwh=None)
    assert isinstance(exchanged, Opened) and exchanged.reason == "exchange"
    learned = advance(
        head(5, basis=replace(BASIS, serial=None)), point(10, 1), cfg=CFG, rise_max_milliwh=None
    )
    assert isinstance(learned, Advanced) and learned.head.basis.serial == BASIS.serial


def test_a_serial_number_once_known_is_not_forgotten_when_it_cannot_be_read() -> None:
    outcome = advance(head(5), point(10, 1, replace(BASIS, serial=None)), cfg=CFG, rise_max_milliwh=None)
    assert isinstance(outcome, Advanced) and outcome.head.basis.serial == BASIS.serial


def test_a_restored_position_continues_only_with_the_same_known_serial_number() -> None:
    proven = advance(replace(head(5), restored=True), point(10, 1), cfg=CFG, rise_max_milliwh=None)
    assert isinstance(proven, Advanced) and not proven.head.restored
    unknown = replace(BASIS, serial=None)
    guessed = advance(
        replace(head(5, basis=unknown), restored=True), point(10, 1, unknown), cfg=CFG, rise_max_milliwh=None
    )
    assert isinstance(guessed, Opened) and guessed.reason == "restore"


def test_a_fall_behind_a_restored_position_opens_an_epoch_instead_of_waiting_for_ever() -> None:
    outcome = advance(replace(head(50), restored=True), point(10, 1), cfg=CFG, rise_max_milliwh=1)
    assert isinstance(outcome, Opened) and outcome.reason == "restore"


def test_since_leaves_out_what_the_platform_has_and_what_was_read_under_a_stale_ratio() -> None:
    stale = replace(BASIS, per_count_milliwh=Fraction(1))
    kept = [point(1, 10), point(2, 20), point(900, 30, stale), point(3, 40), point(4, 50)]
    told = since(kept, replace(head(2, 20), restored=True))
    assert [each.register_milliwh for each in told] == [3, 4]


def test_since_drops_the_mark_of_an_epoch_that_the_platform_saw_open() -> None:
    kept = [point(3, 40, opens="ratio"), point(4, 50)]
    told = since(kept, replace(head(2, 20), restored=True))
    assert [each.opens for each in told] == [None, None]


def test_since_keeps_the_mark_of_a_reset() -> None:
    kept = [point(3, 40, opens="reset"), point(4, 50)]
    told = since(kept, replace(head(9, 20), restored=True))
    assert [each.opens for each in told] == ["reset", None]
    outcome = advance(replace(head(9, 20), restored=True), told[0], cfg=CFG, rise_max_milliwh=None)
    assert isinstance(outcome, Opened) and outcome.reason == "restore"


def test_a_position_says_when_and_under_which_descriptor_its_register_was_read() -> None:
    when = Moment("boot", 5, 10)
    read = replace(point(9, 61), cut_ms=60, when=when)
    first = advance(None, read, cfg=CFG, rise_max_milliwh=None)
    assert isinstance(first, Opened) and first.reason == "first"
    assert first.head == Head("m1", 1, 0, 9, 61, 60, BASIS, CFG, when=when)
    later = replace(point(12, 121), cut_ms=120)
    on = advance(first.head, later, cfg="d" * 43, rise_max_milliwh=None)
    assert isinstance(on, Advanced) and on.before == first.head
    assert on.head == Head("m1", 1, 1, 12, 121, 120, BASIS, "d" * 43, run=Run(1, 9, 0, 0))


def test_the_run_of_a_day_begins_at_the_first_of_its_deltas_and_sums_its_rollovers() -> None:
    start = replace(head(9_900_000, 3 * DAY_MS, epoch=2, n=6), cut_ms=3 * DAY_MS - 1)
    end, outcomes = run([point(100_000, 3 * DAY_MS + 1), point(200_000, 4 * DAY_MS)], start)
    (rolled, plain) = outcomes
    assert isinstance(rolled, Advanced) and rolled.roll_milliwh == 10_000_000
    assert isinstance(plain, Advanced) and plain.roll_milliwh is None
    assert end is not None and end.run == Run(7, 9_900_000, 10_000_000, 2)
    assert (end.epoch, end.n) == (2, 8)


def test_a_second_rollover_of_a_run_is_added_to_the_first() -> None:
    end, _ = run([point(1, 1), point(9_999_999, 2), point(2, 3)], head(9_999_990), rise_max=9_999_998)
    assert end is not None and end.run == Run(1, 9_999_990, 20_000_000, 0)


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        ({}, {"modulus_milliwh": 99}, "ratio"),
        ({"serial": None}, {"per_count_milliwh": Fraction(1)}, "ratio"),
        ({}, {"per_count_milliwh": Fraction(1), "serial": None}, "ratio"),
        ({}, {"per_count_milliwh": Fraction(1), "serial": "other"}, "exchange"),
        ({}, {"serial": "other"}, "exchange"),
    ],
)
def test_a_break_is_an_exchange_only_where_two_serial_numbers_are_known(
    before: dict[str, object], now: dict[str, object], reason: str
) -> None:
    earlier, later = (replace(BASIS, **changes) for changes in (before, now))  # type: ignore[arg-type]
    assert not later.continues(earlier)
    outcome = advance(head(5, basis=earlier), point(10, 1, later), cfg=CFG, rise_max_milliwh=None)
    assert isinstance(outcome, Opened)
    assert (outcome.reason, outcome.head.basis, outcome.head.epoch) == (reason, later, 2)


def test_an_epoch_that_was_opened_here_before_is_opened_again_with_its_reason() -> None:
    outcome = advance(head(5, epoch=3, n=4), point(10, 1, opens="reset"), cfg=CFG, rise_max_milliwh=None)
    assert isinstance(outcome, Opened)
    assert (outcome.reason, outcome.head.epoch, outcome.head.n) == ("reset", 4, 0)


def test_only_the_same_known_serial_number_on_the_same_scale_is_a_proof() -> None:
    assert BASIS.proves(BASIS)
    for other in (
        replace(BASIS, serial="other"),
        replace(BASIS, serial=None),
        replace(BASIS, modulus_milliwh=None),
        replace(BASIS, per_count_milliwh=Fraction(1)),
    ):
        assert not BASIS.proves(other) and not other.proves(BASIS)
    nameless = replace(BASIS, serial=None)
    assert not nameless.proves(nameless) and nameless.continues(nameless)


def test_a_restored_position_that_is_continued_is_restored_no_more_whatever_it_opens() -> None:
    start = replace(head(50, epoch=4, n=9), restored=True)
    fallen = advance(start, point(10, 1), cfg=CFG, rise_max_milliwh=1)
    assert isinstance(fallen, Opened) and not fallen.head.restored
    assert (fallen.head.epoch, fallen.head.n, fallen.before) == (5, 0, start)
    marked = advance(start, point(60, 1, opens="ratio"), cfg=CFG, rise_max_milliwh=None)
    assert isinstance(marked, Opened) and marked.reason == "restore"
