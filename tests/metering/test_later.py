"""The readings of a restored chain: whatever the clock showed, none is told twice, and no epoch change is left out."""

from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.gates import Held
from agent.metering.interval import Moment
from agent.metering.later import SETTLED, since
from agent.metering.ledger import Advanced, Basis, Head, Opened, Point, advance

MODULUS = 10_000_000
BASIS = Basis(Fraction(10_000), MODULUS, "2206001234")
NOON_MS = 1_796_040_000_000
UNSET = Moment(None, None, None)


def point(register: int, at_ms: int, basis: Basis = BASIS, *, opens: str | None = None) -> Point:
    """A reading of a clock that shows 1970 if it is labelled so, else of one that knows the time."""
    when = UNSET if at_ms < NOON_MS // 2 else Moment("boot", at_ms, 0)
    return Point("m1", at_ms, at_ms, register, basis, opens=opens, when=when)


def position(register: int, at_ms: int = NOON_MS, basis: Basis = BASIS, *, epoch: int = 1) -> Head:
    when = UNSET if at_ms < NOON_MS // 2 else None
    return Head("m1", epoch, 7, register, at_ms, at_ms, basis, "c" * 43, restored=True, when=when)


def registers(points: list[Point]) -> list[int]:
    return [each.register_milliwh for each in points]


@pytest.mark.fault("F40", "F56")
def test_a_journal_that_was_lost_in_1970_tells_all_it_has() -> None:
    own = [point(500, 60_000, opens="first"), point(510, 120_000), point(520, 180_000)]
    assert registers(since(own, position(490))) == [500, 510, 520]


def settled(one: Point) -> Point:
    return replace(one, flags=frozenset({SETTLED}))


@pytest.mark.fault("F39", "F53", "F54")
def test_a_higher_register_of_long_before_a_reset_is_not_told_again() -> None:
    """All that a damaged journal could save is where an epoch began (seeds 6180, 6247 of the world: 90 and 26 MWh)."""
    saved = settled(point(25_733, NOON_MS, opens="first"))
    there = position(22, 60_000, epoch=2)
    assert since([saved], there) == []
    assert registers(since([saved, point(39, NOON_MS + 9), point(41, NOON_MS + 10)], there)) == [39, 41]
    other = replace(BASIS, serial="other")
    exchanged = point(7, 120_000, other, opens="exchange")
    assert since([saved, exchanged], there) == [], "nothing says that the exchange came after the position"


@pytest.mark.fault("F39", "F53")
def test_what_was_acknowledged_of_an_earlier_epoch_is_not_later_whatever_its_label_says() -> None:
    """A clock that was trusted had been set back by an hour: 82 MWh of before a reset were told again (seed 18692)."""
    former = replace(BASIS, per_count_milliwh=Fraction(1_000))
    began, fell = settled(point(82_008, NOON_MS, opens="first")), settled(point(82_014, NOON_MS + 9))
    reset = settled(point(30, NOON_MS + 19, opens="reset"))
    saved, set_back = [began, fell, reset], NOON_MS - 3_600_000
    assert since(saved, position(36, set_back, epoch=2)) == []
    assert since([replace(began, basis=former), fell, reset], position(36, set_back, epoch=3)) == []
    assert registers(since([*saved, point(37, set_back + 9)], position(36, set_back, epoch=2))) == [37]
    plain = replace(BASIS, modulus_milliwh=None)
    one = replace(reset, basis=plain)
    own = Head("m1", 2, 0, 30, one.at_ms, one.at_ms, plain, "c" * 43)
    assert since([one], position(36, set_back, plain, epoch=2), own=own) == []
    put_back = position(82_010, set_back)
    assert registers(since(saved, put_back)) == [82_014, 30], "a platform of before the reset is told of it"
    assert registers(since(saved, position(20, set_back, epoch=2))) == [30], "the label, and the register too"


@pytest.mark.fault("F39", "F53")
def test_a_reset_that_a_salvaged_journal_did_not_see_makes_no_reading_of_before_it_later() -> None:
    """It counts both of one epoch: 26 MWh were told again behind a position of 1970 (seed 6247)."""
    plain = replace(BASIS, modulus_milliwh=None)
    before = settled(point(26_720_000, NOON_MS, plain, opens="first"))
    since_then = [point(66_030, NOON_MS + 9, plain), point(66_700, NOON_MS + 19, plain)]
    own = Head("m1", 2, 3, 66_700, NOON_MS + 19, NOON_MS + 19, plain, "c" * 43)
    there = position(47_500, 60_000, plain, epoch=2)
    assert registers(since([before, *since_then], there, own=own)) == [66_030, 66_700]


@pytest.mark.fault("F15", "F39", "F55")
def test_a_fall_that_was_a_reset_here_and_a_rollover_there_makes_nothing_later() -> None:
    """A clone knew how short the time was in which it fell, this gateway's clock did not (world seed 7513)."""
    before, there = point(9_990_630, NOON_MS, opens="first"), position(7_910, NOON_MS + 99)
    fell = [point(5_990, 60_000, opens="reset"), point(6_430, 120_000), point(7_910, 180_000)]
    own = Head("m1", 2, 2, 7_910, 180_000, 180_000, BASIS, "c" * 43, when=UNSET)
    assert since([before, *fell], there, is_anchored=True, own=own) == []
    for register, told in ((6_000, [6_430, 7_910]), (5_000, [5_990, 6_430, 7_910])):
        later = since([before, *fell], replace(there, register_milliwh=register), is_anchored=True, own=own)
        assert registers(later) == told and later[0].opens is None
    assert since([settled(before), settled(fell[0])], there) == [], "nor where only the labels say so"
    former = point(5_000, NOON_MS - 9, opens="first")
    saved = [settled(former), settled(replace(before, opens="reset")), settled(fell[0])]
    assert since(saved, replace(there, epoch=2)) == [], "nor behind an epoch that ended before"
    not_yet = since([before, *fell], position(9_995_000, NOON_MS + 99), is_anchored=True, own=own)
    assert registers(not_yet) == [5_990, 6_430, 7_910] and not_yet[0].opens == "reset", "it fell behind that"
    put_back = since([settled(before), settled(fell[0])], position(9_990_000, NOON_MS - 99))
    assert registers(put_back) == [9_990_630, 5_990] and put_back[1].opens == "reset"


@pytest.mark.fault("F40", "F53")
def test_what_a_journal_begun_anew_read_first_may_go_on_with_the_epoch_before() -> None:
    """It was taken for a later epoch, that began with a fall, and what had followed a rollover twice (seed 14121)."""
    before = settled(point(9_988_000, NOON_MS, opens="first"))
    anew = settled(point(17_000, 60_000, opens="first"))
    assert since([before, anew], position(20_000, NOON_MS + 9)) == []
    assert registers(since([before, anew], position(9_999_000, NOON_MS + 9))) == []
    reset = settled(point(17_000, 60_000, opens="reset"))
    assert registers(since([before, reset], position(9_999_000, NOON_MS + 9))) == [17_000], (
        "that is a later one"
    )
    other = settled(point(40_000, 120_000, replace(BASIS, per_count_milliwh=Fraction(20_000)), opens="ratio"))
    set_right = position(21_000, 180_000, epoch=3)
    assert since([before, anew, other], set_right) == [], "the ratio was wrong for a while (seed 6457)"


@pytest.mark.fault("F15", "F53")
def test_what_was_acknowledged_before_the_register_went_round_is_not_later_for_being_higher() -> None:
    """Nor where a clock was set back is what followed a turn: 6.8 MWh were told again (seed 3036)."""
    began = settled(point(9_988_000, NOON_MS, opens="first"))
    assert since([began], position(6_799_000, NOON_MS + 9)) == []
    assert registers(since([began], position(6_799_000, NOON_MS - 3_600_000))) == [9_988_000], (
        "the platform was put back, as far as anybody can see"
    )
    rolled = settled(point(5_000, NOON_MS))
    assert since([replace(rolled, opens="first")], position(6_000, NOON_MS - 3_600_000)) == []


@pytest.mark.fault("F39", "F55")
def test_an_old_copy_of_before_a_reset_of_which_nothing_was_acknowledged_yet_tells_nothing_again() -> None:
    """The log was deleted and with it all but the first minutes; the clock had been set since (world seed 1649)."""
    copy = [point(1_734_005, NOON_MS, opens="first"), point(1_734_007, NOON_MS + 9)]
    unlabelled = position(1176, 60_000, epoch=2)
    assert since(copy, unlabelled) == []
    assert registers(since(copy, replace(unlabelled, epoch=1))) == [1_734_005, 1_734_007], (
        "one run of the register"
    )
    assert registers(since(copy, position(1176, NOON_MS - 9, epoch=2))) == [1_734_005, 1_734_007], (
        "by the labels"
    )
    reset = point(1170, NOON_MS + 19, opens="reset")
    assert registers(since([*copy, reset, point(1180, NOON_MS + 29)], unlabelled)) == [1180]


@pytest.mark.fault("F39", "F55")
def test_what_precedes_a_reading_of_an_earlier_epoch_proves_it_no_later() -> None:
    """The clock knew the time at first, and lost it before the reset that the log took along (world seed 12933)."""
    copy = [point(1_734_005, NOON_MS - 9, opens="first"), point(1_734_007, 60_000), point(1_734_009, 120_000)]
    assert since(copy, position(1176, NOON_MS, epoch=2)) == []
    assert since([copy[0], *map(settled, copy[1:])], position(1176, NOON_MS, epoch=2)) == []


@pytest.mark.fault("F39", "F55")
def test_a_journal_that_began_at_a_position_counts_its_epochs_back_from_where_its_ledger_stood() -> None:
    """None of its readings says `first` (world seed 12933): the ledger of the copy is in the epoch before the reset."""
    copy = [point(1_734_007, 60_000), point(1_734_009, 120_000)]
    there = position(1176, NOON_MS, epoch=4)
    stood = position(1_734_009, 120_000, epoch=3)
    assert since(copy, there, own=stood) == []
    assert registers(since(copy, there, own=replace(stood, epoch=4))) == [1_734_007, 1_734_009]
    reset = [point(1170, 180_000, opens="reset"), point(1180, 240_000)]
    assert registers(since([*copy, *reset], there, own=position(1180, 240_000, epoch=4))) == [1180]
    elsewhere = replace(stood, register_milliwh=1_734_008)
    assert registers(since(copy, there, own=elsewhere)) == [1_734_007, 1_734_009], "it tells nothing of them"


@pytest.mark.fault("F27", "F40", "F55")
def test_what_follows_a_run_of_an_earlier_epoch_does_not_follow_the_position() -> None:
    """A ratio was changed in 1970 and changed back; the platform stands in the epoch after both (seed 12438)."""
    other = replace(BASIS, per_count_milliwh=2 * BASIS.per_count_milliwh)
    copy = [point(100, NOON_MS, opens="first"), point(110, 60_000), point(220, 60_000, other, opens="ratio")]
    assert since(copy, position(120, NOON_MS + 9, epoch=3)) == []
    told = since(copy, position(105, NOON_MS + 9, epoch=1))
    assert registers(told) == [110, 220], "in the run that it lies in"


@pytest.mark.fault("F16", "F39", "F54")
def test_a_position_among_the_registers_of_an_earlier_epoch_may_lie_behind_a_reset() -> None:
    """What was salvaged of an epoch reaches from one reset to the next, and so over all after it (world seed 7294)."""
    own = [
        settled(point(900, NOON_MS, opens="first")),
        settled(point(990, NOON_MS + 1)),
        settled(point(5, NOON_MS + 2, opens="reset")),
        settled(point(3304, NOON_MS + 3)),
    ]
    assert since(own, position(9, 60_000, epoch=3)) == []
    assert registers(since(own, position(9, 60_000, epoch=2))) == [3304]


@pytest.mark.fault("F19", "F56")
@pytest.mark.parametrize("is_anchored", [False, True])
def test_a_position_does_not_lie_among_the_registers_of_a_later_epoch(is_anchored: bool) -> None:
    """A platform was put back to before an exchange; in nine days the new meter overtook the old one (seed 15442)."""
    own = [point(33_380, NOON_MS + 9), point(3_352_930, NOON_MS + 99), point(3_354_100, NOON_MS + 109)]
    stood = position(3_354_100, NOON_MS + 109, epoch=2)
    there = position(2_967_200, NOON_MS)
    assert since(own, there, own=stood, is_anchored=is_anchored) == own
    told = since(own, there, own=replace(stood, epoch=1), is_anchored=is_anchored)
    assert registers(told) == [3_352_930, 3_354_100], "in one epoch a register says more than a label"


@pytest.mark.fault("F16", "F39", "F55")
def test_a_register_that_fell_after_the_position_is_not_earlier_because_it_is_lower() -> None:
    """An old copy saw a reset before the platform answered, and nobody knew when the position was (seed 8315)."""
    own = [point(900, NOON_MS), point(56, 60_000, opens="reset"), point(79, 120_000)]
    there, stood = position(905, 30_000), position(79, 120_000, epoch=2)
    told = since(own, there, own=stood, is_anchored=True)
    assert registers(told) == [56, 79] and told[0].opens == "reset"
    assert since(own, replace(there, epoch=2), own=stood, is_anchored=True) == [], (
        "it may lie behind the reset"
    )
    assert since(own, there, is_anchored=True) == [], "nobody knows the epoch of the copy"
    ran_on = [own[0], point(901, 60_000, opens="fingerprint"), point(904, 120_000)]
    stood = position(904, 120_000, epoch=2)
    assert since(ran_on, there, own=stood, is_anchored=True) == [], "the register tells where it did not fall"


@pytest.mark.fault("F53", "F54")
def test_saved_turning_points_are_told_to_a_platform_that_was_put_back_to_before_them() -> None:
    """By the labels of clocks that knew the time; without them by the two registers between which it lies."""
    own = [
        settled(point(400, NOON_MS, opens="first")),
        settled(point(900, NOON_MS + 5)),
        settled(point(3, NOON_MS + 6, opens="reset")),
        point(70, NOON_MS + 9),
    ]
    told = since(own, position(450, NOON_MS + 2))
    assert registers(told) == [900, 3, 70] and told[1].opens == "reset"
    assert registers(since(own[:2], position(450, 60_000))) == [900]


@pytest.mark.fault("F40", "F55")
def test_an_old_copy_in_1970_tells_only_what_shows_more_than_the_platform_has() -> None:
    own = [point(400, NOON_MS - 9), point(410, NOON_MS - 8), point(455, 60_000), point(460, 120_000)]
    assert registers(since(own, position(450), is_anchored=True)) == [455, 460]


def test_labels_of_a_position_from_1970_make_no_reading_later_that_was_before_it() -> None:
    """All own readings are from a good clock, and so after 1970; two of them the platform has."""
    own = [point(400, NOON_MS), point(410, NOON_MS + 1), point(455, NOON_MS + 2)]
    assert registers(since(own, position(450, 60_000), is_anchored=True)) == [455]
    assert registers(since(own, position(450, 60_000))) == [455]


def test_a_copy_from_before_everything_says_nothing() -> None:
    own = [point(400, 60_000), point(410, 120_000)]
    assert since(own, position(450), is_anchored=True) == []
    assert since(own, position(450)) == []


@pytest.mark.fault("F15")
def test_a_register_that_went_round_is_unwrapped() -> None:
    own = [point(MODULUS - 10, NOON_MS), point(8, 60_000), point(12, 120_000)]
    assert registers(since(own, position(5), is_anchored=True)) == [8, 12]
    assert registers(since(own, position(MODULUS - 3), is_anchored=True)) == [8, 12]
    assert registers(since(own, position(5))) == [8, 12]


def test_a_reading_before_a_turn_is_not_nearly_a_turn_after_it() -> None:
    assert since([point(MODULUS - 10, 60_000)], position(5)) == []


@pytest.mark.fault("F15", "F40")
def test_over_several_turns_the_position_is_the_last_place_that_it_can_be() -> None:
    """What was told too little the next reading spans; what was told too much would be booked twice."""
    own = [point(100, 60_000), point(50, 120_000), point(20, 180_000), point(60, 240_000)]
    assert registers(since(own, position(40))) == [60]
    assert since(own[:2], position(50)) == [], "the end of the run is such a place too"
    assert registers(since([point(4_000_000, 60_000)], position(2_000_000))) == [4_000_000]
    assert registers(since([point(5 + MODULUS // 2, 60_000)], position(5))) == [5 + MODULUS // 2]
    assert since([point(6 + MODULUS // 2, 60_000)], position(5)) == []


@pytest.mark.fault("F15", "F55")
def test_a_position_below_what_the_platform_has_acknowledged_went_round_since() -> None:
    own = [point(4_000_000, NOON_MS), point(4_000_010, 60_000)]
    assert since(own, position(2_000_000), is_anchored=True) == []


@pytest.mark.fault("F38")
def test_between_two_registers_of_a_run_no_label_says_more() -> None:
    """The clock ran ahead when the position was labelled."""
    own = [point(400, NOON_MS), point(460, NOON_MS + 1)]
    assert registers(since(own, position(450, NOON_MS + 5))) == [460]


@pytest.mark.fault("F18")
def test_a_meter_exchanged_in_1970_is_told_with_its_change() -> None:
    other = replace(BASIS, serial="other")
    own = [
        point(400, NOON_MS),
        point(7, 60_000, other, opens="exchange"),
        point(9, 120_000, other),
    ]
    told = since(own, position(450), is_anchored=True)
    assert registers(told) == [7, 9] and told[0].opens == "exchange"
    assert registers(since(own, position(8, basis=other, epoch=2), is_anchored=True)) == [9]


@pytest.mark.fault("F18", "F55")
def test_an_old_copy_from_before_an_exchange_says_nothing_of_the_former_meter_whatever_the_labels_say() -> (
    None
):
    """The clock was set back after the exchange, so that the position seems to be the earlier one (seed 403)."""
    other = replace(BASIS, serial="other")
    own = [point(400, NOON_MS), point(410, NOON_MS + 1), point(420, NOON_MS + 2)]
    there = position(7, NOON_MS - 9, other, epoch=2)
    assert since(own, there, is_anchored=True) == []
    later = [*own, point(9, NOON_MS - 8, other, opens="exchange"), point(12, NOON_MS - 7, other)]
    assert registers(since(later, there, is_anchored=True)) == [9, 12]


def test_a_reset_after_the_position_is_told_where_a_good_clock_says_that_it_came_later() -> None:
    own = [point(3, NOON_MS + 1, opens="first"), point(4, NOON_MS + 2)]
    assert registers(since(own, position(450))) == [3, 4]
    assert since([replace(each, when=UNSET, at_ms=each.at_ms - NOON_MS) for each in own], position(450)) == []


def test_labels_that_are_nearer_than_they_may_be_wrong_say_nothing() -> None:
    """A clone read the meter a second later, and its label was earlier: one clock drifted (world seed 15462)."""
    clock = Moment("boot", NOON_MS, 2000)

    def own(after_ms: int, register: int = 56) -> list[Point]:
        return [
            replace(point(40, NOON_MS - 60_000), when=clock),
            replace(point(register, NOON_MS + after_ms), when=clock),
        ]

    assert since(own(119), position(60)) == []
    assert registers(since(own(119, 64), position(60))) == [64], "registers do"
    assert since(own(3999), position(60)) == [], "the position may be as wrong"
    assert registers(since(own(4000), position(60))) == [56]
    known = replace(position(60), when=Moment(None, None, 0))
    assert registers(since(own(2000), known)) == [56] and since(own(1999), known) == []


def test_an_equal_register_is_later_only_by_a_good_clock() -> None:
    own = [point(440, NOON_MS - 5), point(450, NOON_MS + 5), point(460, NOON_MS + 6)]
    assert registers(since(own, position(450))) == [450, 460]
    own = [point(440, 50_000), point(450, 60_000), point(460, 70_000)]
    assert registers(since(own, position(450))) == [460]


@dataclass(frozen=True)
class _Told:
    energy: int
    positions: list[int]


def _told_of(own: list[Point], theirs: Head, totals: dict[int, int]) -> _Told:
    """Run what is told through the ledger; `totals` is what nature counted until each own reading."""
    energy, head, seen = 0, theirs, []
    for each in since(own, theirs, is_anchored=True):
        outcome = advance(head, each, cfg="c" * 43, rise_max_milliwh=MODULUS // 4)
        assert not isinstance(outcome, Held | Opened)
        assert isinstance(outcome, Advanced)
        energy, head = energy + outcome.delta_milliwh, outcome.head
        seen.append(totals[id(each)])
    return _Told(energy, seen)


@pytest.mark.fault("F38", "F39", "F40", "F55")
@given(
    st.integers(0, MODULUS - 1),
    st.lists(st.integers(0, MODULUS // 20), min_size=3, max_size=12),
    st.data(),
)
def test_an_old_copy_under_any_clock_books_each_count_once(
    opening: int, rises: list[int], data: st.DataObject
) -> None:
    """Nature counts; the copy knows the beginning, another life of the journal the middle, the copy the end."""
    totals = [opening]
    for rise in rises:
        totals.append(totals[-1] + rise)
    copied = data.draw(st.integers(1, len(totals) - 2))
    reached = data.draw(st.integers(copied, len(totals) - 1))
    known = [*totals[:copied], *totals[reached:]]
    own = [
        Point(
            "m1",
            data.draw(st.integers(0, 2 * NOON_MS)),
            0,
            total % MODULUS,
            BASIS,
            when=UNSET if number else Moment(None, None, 10),
        )
        for number, total in enumerate(known)
    ]
    theirs_total = data.draw(st.integers(totals[copied - 1], totals[reached]))
    theirs = position(theirs_total % MODULUS, data.draw(st.integers(0, 2 * NOON_MS)))
    told = _told_of(own, theirs, {id(each): total for each, total in zip(own, known, strict=True)})
    later = [total for total in known if total > theirs_total]
    assert told.energy == (later[-1] - theirs_total if later else 0)
    assert [total for total in told.positions if total != theirs_total] == later


@pytest.mark.fault("F39", "F55")
def test_readings_under_a_former_ratio_are_left_out_where_only_the_next_one_agrees() -> None:
    """A copy from before a new ratio, and a position that was labelled by a clock three days slow."""
    new = replace(BASIS, per_count_milliwh=Fraction(5_000))
    own = [point(400, NOON_MS, opens="first"), point(410, NOON_MS + 1)]
    slow = position(206, NOON_MS - 3 * 86_400_000, new, epoch=2)
    assert since(own, slow, present=new) == []
    assert registers(since(own, slow, present=BASIS)) == [400, 410]


@pytest.mark.fault("F18", "F55")
def test_an_epoch_that_was_opened_behind_an_older_position_goes_on_from_a_newer_one() -> None:
    """A copy whose position was the platform's from before an exchange, read once since (seed 2074)."""
    own = [point(508, NOON_MS + 9, opens="restore"), point(510, NOON_MS + 12)]
    told = since(own, position(504, NOON_MS + 3, epoch=2))
    assert registers(told) == [508, 510] and told[0].opens is None
    assert since(own, position(504, NOON_MS + 3, replace(BASIS, serial="other")))[0].opens == "restore"
    assert since([replace(own[0], opens="reset")], position(504, NOON_MS + 3))[0].opens == "reset"


@pytest.mark.fault("F16", "F55")
def test_a_reset_that_a_copy_sees_once_more_opens_no_second_epoch() -> None:
    """The platform knows of it; the copy is from before it (seed 2449 of the world)."""
    own = [point(900, NOON_MS), point(56, NOON_MS + 14, opens="reset"), point(79, NOON_MS + 20)]
    told = since(own, position(53, NOON_MS + 10, epoch=2), is_anchored=True)
    assert registers(told) == [56, 79] and told[0].opens is None
    # A position that the former run can have come to is in front of the reset.
    told = since(own, position(905, NOON_MS + 10), is_anchored=True)
    assert registers(told) == [56, 79] and told[0].opens == "reset"
    # One that is an own reading is, too.
    told = since(own, replace(position(900, NOON_MS), when=own[0].when), is_anchored=True)
    assert registers(told) == [56, 79] and told[0].opens == "reset"


@pytest.mark.fault("F15", "F16", "F55")
@pytest.mark.parametrize(
    ("fall", "opens"),
    [(MODULUS // 2 - 1, None), (MODULUS // 2, "reset"), (9_000_000, "reset")],
)
def test_a_fall_that_a_turn_explains_is_no_reset_that_the_platform_knows_of(
    fall: int, opens: str | None
) -> None:
    own = [point(900 + fall, NOON_MS), point(956, NOON_MS + 14, opens="reset"), point(979, NOON_MS + 20)]
    told = since(own, position(900, NOON_MS + 10, epoch=2), is_anchored=True)
    assert registers(told) == [956, 979] and told[0].opens == opens
