"""Every gate between a reading and the ledger, with the real journal; and across a restart, which must not open one."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.metering.decode import encode
from agent.metering.memory import Order
from agent.metering.profile import WordType
from agent.service.supervise import mark_started
from tests.metering.examples import meter, profile, register
from tests.service.bench import MINUTE_MS, Bench
from tests.service.gates import HOUR_MS, epochs, events, nameless, newest, read, restart

# ----------------------------------------------------------------------------------------------------- never energy


def test_a_position_that_never_counted_turns_no_jump_into_energy(bench: Bench) -> None:
    """A meter that is read before it is ready shows zero, and then its life's total."""
    read(bench, 0)
    read(bench, 0)
    read(bench, 700_000, times=3)
    assert sum(bench.deltas("reflow-1")) == 0
    assert epochs(bench) == [("reset", 0, 7_000_000_000)]
    assert events(bench, "epoch")[0].body["bound"] == 7_000_000_000
    read(bench, 700_003)
    assert newest(bench).delta == 30_000 and "rate" not in newest(bench).q


def test_a_meter_whose_address_changed_books_no_jump(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (nameless(),))
    read(bench, 1000)
    read(bench, 1001)
    bench.wire((nameless(address=9),))
    read(bench, 600_000, times=3)
    assert bench.deltas("reflow-1") == [10_000]
    assert epochs(bench) == [("exchange", 10_010_000, 6_000_000_000)]


def test_a_meter_whose_line_changed_books_no_jump_after_a_restart_either(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (nameless(),))
    read(bench, 1000)
    bench.restart()
    bench.wire((nameless(line="hall-b"),))
    read(bench, 600_000, times=3)
    assert bench.deltas("reflow-1") == [] and epochs(bench)[0][0] == "exchange"


def test_a_meter_that_proves_who_it_is_may_move_and_jump(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (nameless(),))
    read(bench, 1000, serial="7")
    bench.wire((nameless(address=9),))
    read(bench, 600_000, times=3, serial="7")
    assert "rate" in newest(bench).q and epochs(bench) == []


def test_a_meter_that_moved_and_goes_on_is_the_same_but_has_to_be_confirmed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (nameless(),))
    read(bench, 1000)
    bench.wire((nameless(address=9),))
    read(bench, 1002)
    assert newest(bench).delta == 20_000 and "suspect" in newest(bench).q
    assert bench.journal.memories()["reflow-1"].returned_ms is not None


# -------------------------------------------------------------------------------------------------------- after silence


def after_silence(bench: Bench, count: int) -> None:
    bench.clock.now_ms += 2 * HOUR_MS
    read(bench, count)


def test_a_nameless_meter_after_an_hour_is_suspect_until_three_readings_confirm_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (nameless(),))
    read(bench, 1000)
    after_silence(bench, 1500)
    flags = [newest(bench).q]
    for turn in range(3):
        restart(bench)
        read(bench, 1501 + turn)
        flags.append(newest(bench).q)
    assert ["suspect" in each for each in flags] == [True, True, False, False]
    assert sum(bench.deltas("reflow-1")) == 503 * 10_000
    assert bench.journal.memories()["reflow-1"].returned_ms is not None


def test_a_person_confirms_it_and_the_chain_has_the_display(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (nameless(),))
    read(bench, 1000)
    after_silence(bench, 1500)
    order = Order("reflow-1", "same", bench.clock.now_ms, "Li Wei", first_kwh="15.0", confirmed=True)
    with bench.journal.transaction():
        bench.journal.save_order(order)
    restart(bench)
    read(bench, 1501)
    assert bench.journal.memories()["reflow-1"].returned_ms is None and bench.journal.orders() == {}
    witness = events(bench, "witness")[0].body
    assert (witness["display_kwh"], witness["by"]) == ("15.0", "Li Wei")
    read(bench, 1502)
    assert "suspect" not in newest(bench).q


@pytest.mark.parametrize("proof", ["serial", "short"])
def test_who_proves_itself_or_was_away_for_less_than_an_hour_is_not_suspect(
    tmp_path: Path, proof: str
) -> None:
    bench = Bench(tmp_path, (nameless(),))
    said = "7" if proof == "serial" else None
    read(bench, 1000, serial=said)
    bench.clock.now_ms += 58 * MINUTE_MS if proof == "short" else 3 * HOUR_MS
    read(bench, 1100, serial=said)
    assert "suspect" not in newest(bench).q
    assert bench.journal.memories()["reflow-1"].returned_ms is None


def test_a_meter_that_goes_dark_with_its_circuit_has_a_confirmed_zero_and_no_gap(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (nameless(powered_by_circuit=True),))
    read(bench, 1000)
    read(bench, 1001)
    bench.clock.now_ms += 10 * HOUR_MS
    read(bench, 1001)
    assert (newest(bench).delta, newest(bench).q) == (0, ())
    assert events(bench, "gap") == []
    assert bench.journal.memories()["reflow-1"].returned_ms is None
    bench.clock.now_ms += 10 * HOUR_MS
    read(bench, 1011)
    assert newest(bench).q == ("gap",) and len(events(bench, "gap")) == 1


def test_without_that_key_the_same_silence_is_a_gap(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (nameless(),))
    read(bench, 1000)
    read(bench, 1001)
    bench.clock.now_ms += 10 * HOUR_MS
    read(bench, 1001)
    assert set(newest(bench).q) == {"gap", "suspect"}


# --------------------------------------------------------------------------------------------------------- rollover


@pytest.mark.fault("F15")
def test_several_turns_in_a_long_silence_are_no_rollover(bench: Bench) -> None:
    """40 kW need 250 h for one turn of 10 000 kWh: after a month nobody knows how many there were."""
    read(bench, 999_990)
    bench.clock.now_ms += 31 * 24 * HOUR_MS
    closed = read(bench, 5)
    assert "more than once" in closed.held["reflow-1"] and bench.deltas("reflow-1") == []


@pytest.mark.fault("F15", "F28")
def test_a_rise_that_may_hide_a_turn_is_a_new_epoch_whose_hole_says_so(bench: Bench) -> None:
    """Booked as it is it would be short of 10 000 kWh, and nobody would ever know."""
    read(bench, 999_000)
    bench.clock.now_ms += 31 * 24 * HOUR_MS
    for turn in range(2):
        assert "gone round as well" in read(bench, 999_500 + turn).held["reflow-1"]
    read(bench, 999_502)
    read(bench, 999_503)
    assert epochs(bench) == [("reset", 9_990_000_000, 9_995_000_000)]
    (hole,) = events(bench, "epoch")
    assert hole.integer("bound") > 10_000_000_000 and sum(bench.deltas("reflow-1")) == 30_000


@pytest.mark.fault("F16", "F19")
@pytest.mark.parametrize(
    ("silent_ms", "fell_to", "told"),
    [
        (9 * 24 * HOUR_MS, 3, [("reset", 10_000_000, 15_000_000)]),
        (9 * 24 * HOUR_MS, 1_001, []),
        (HOUR_MS - MINUTE_MS, 3, []),
    ],
    ids=["long", "had not fallen", "not long"],
)
def test_what_fell_before_a_long_silence_was_set_back_though_it_has_come_past_where_it_stood(
    tmp_path: Path, silent_ms: int, fell_to: int, told: list[object]
) -> None:
    """In a short one a rise says that the fall was a misread; in nine days it overtakes itself (world seed 472)."""
    bench = Bench(tmp_path, (nameless(),))
    read(bench, 1_000)
    read(bench, fell_to, times=3)
    bench.clock.now_ms += silent_ms
    bench.clock.up_ms += silent_ms
    assert "reflow-1" not in read(bench, 1_500, times=3).held
    assert epochs(bench) == told
    read(bench, 1_501)
    assert newest(bench).delta == 10_000


@pytest.mark.fault("F15", "F39")
@pytest.mark.parametrize(
    ("before", "told"), [(999_990, []), (500_000, [("reset", 5_000_000_000, 3_400_000_000)])]
)
def test_a_fall_in_an_unknown_time_is_a_rollover_where_the_clock_says_later_how_short_it_was(
    tmp_path: Path, before: int, told: list[object]
) -> None:
    """A gateway without a battery clock starts while a register goes round, learns the time, sleeps (seed 1298)."""
    bench = Bench(tmp_path, (nameless(),))
    bench.clock.boot = "one"
    read(bench, before)
    known_ms, bench.clock.boot, bench.clock.sync, bench.clock.now_ms = bench.clock.now_ms, "two", "U", 90_000
    assert "is unknown" in read(bench, 20).held["reflow-1"]
    bench.clock.sync, bench.clock.now_ms = "S", known_ms + 9 * 24 * HOUR_MS
    bench.clock.up_ms += 9 * 24 * HOUR_MS - 5 * MINUTE_MS
    assert "reflow-1" not in read(bench, 340_000, times=3).held
    assert epochs(bench) == told


@pytest.mark.fault("F15")
@pytest.mark.parametrize("before", [999_000, 500_000])
def test_a_fall_from_far_below_the_modulus_is_no_rollover(bench: Bench, before: int) -> None:
    read(bench, before)
    assert "not near its modulus" in read(bench, 3).held["reflow-1"]


# ----------------------------------------------------------------------------------------------- glitches, and jitter


@pytest.mark.fault("F17")
@pytest.mark.parametrize("glitch", [0, 7, 499_000])
@pytest.mark.parametrize("times", [1, 2])
def test_a_glitch_down_and_back_books_the_energy_once(bench: Bench, glitch: int, times: int) -> None:
    read(bench, 500_000)
    for _ in range(times):
        read(bench, glitch)
        restart(bench)
    read(bench, 500_009)
    assert bench.deltas("reflow-1") == [90_000] and epochs(bench) == []
    assert "suspect" in newest(bench).q and events(bench, "refused")


@pytest.mark.fault("F17", "F31")
@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_glitch_up_and_back_books_the_energy_once(bench: Bench, times: int) -> None:
    """However often: at each boundary it is read again at once, and is gone."""
    read(bench, 500_000)
    for turn in range(times):
        cut = bench.cut_of({"reflow-1": 900_000})
        assert bench.closer.to_read_again(bench.journal, cut).meters == {"reflow-1"}
        sound = encode(bench.meters[0].profile.energy, 500_001 + turn)
        again = [replace(cut.samples[0], words=sound, at_ms=cut.cut_ms + 80 * n) for n in (1, 2)]
        bench.closer.close(bench.journal, replace(cut, samples=(*cut.samples, *again)))
    assert sum(bench.deltas("reflow-1")) == times * 10_000
    assert not any("rate" in d.q for _, b in bench.batches() for d in b.deltas)


@pytest.mark.fault("F17", "F16")
@pytest.mark.parametrize("answers", [(0, 0, 500_007), (0, 0), (0,), (0, 0, 0)])
def test_a_zero_is_read_again_at_once_and_begins_an_epoch_only_if_it_stays(
    bench: Bench, answers: tuple[int, ...]
) -> None:
    """A misread zero, and a person sets the register back before the next boundary: seed 647 of the world."""
    read(bench, 500_000)
    cut = bench.cut_of({"reflow-1": 0})
    assert bench.closer.to_read_again(bench.journal, cut).meters == {"reflow-1"}
    words = [encode(bench.meters[0].profile.energy, each) for each in answers]
    samples = tuple(replace(cut.samples[0], words=each, at_ms=cut.cut_ms + n) for n, each in enumerate(words))
    bench.closer.close(bench.journal, replace(cut, samples=samples, asked_again=frozenset({"reflow-1"})))
    bench.clock.now_ms += HOUR_MS // 60
    for count in (100, 101, 102):
        read(bench, count)
    first = 0 if answers == (0, 0, 0) else 1_000_000
    assert [opening for _, _, opening in epochs(bench)] == [first]


@pytest.mark.fault("F20")
def test_backward_jitter_emits_nothing_until_the_register_is_back_and_opens_no_epoch(bench: Bench) -> None:
    read(bench, 500_000)
    for count in (499_999, 499_998, 499_999, 499_999, 499_999):
        assert read(bench, count).held["reflow-1"].startswith("jitter")
    read(bench, 500_001)
    assert bench.deltas("reflow-1") == [10_000] and epochs(bench) == []


@pytest.mark.fault("F17", "F22")
def test_one_wrong_answer_at_each_of_three_boundaries_is_no_reset(bench: Bench) -> None:
    """A bit of the register was read wrong just then: seed 587 of `broker-only` booked its way back as a jump."""
    read(bench, 500_000)
    for right in range(500_001, 500_005):
        answers = (right ^ 1 << 18, right, right)
        cut = bench.cut_of({"reflow-1": answers[0]}, times=3)
        assert bench.closer.to_read_again(bench.journal, cut).meters == {"reflow-1"}
        words = [encode(bench.meters[0].profile.energy, each) for each in answers]
        samples = tuple(replace(sample, words=each) for sample, each in zip(cut.samples, words, strict=True))
        bench.closer.close(bench.journal, replace(cut, samples=samples, asked_again=frozenset({"reflow-1"})))
    assert epochs(bench) == [] and bench.deltas("reflow-1") == [10_000] * 4


def test_a_register_that_falls_to_zero_is_no_jitter_however_low_it_was(bench: Bench) -> None:
    read(bench, 2)
    assert read(bench, 0).held["reflow-1"].startswith("fall")


@pytest.mark.fault("F16")
def test_zeros_alone_are_no_reset_and_what_is_used_from_zero_on_is_booked(bench: Bench) -> None:
    """A glitch may last longer than three boundaries; a register that was really reset moves when something is used."""
    read(bench, 500_000)
    for _ in range(5):
        read(bench, 0)
        restart(bench)
    assert epochs(bench) == []
    read(bench, 7)
    assert epochs(bench) == [("reset", 5_000_000_000, 0)]
    assert sum(bench.deltas("reflow-1")) == 70_000


# --------------------------------------------------------------------------------------------- across a restart


@pytest.mark.fault("F16")
def test_three_boundaries_of_a_reset_count_also_where_the_agent_is_restarted_between_them(
    bench: Bench,
) -> None:
    read(bench, 500_000)
    for count in (3, 5, 9):
        restart(bench)
        read(bench, count)
    assert epochs(bench) == [("reset", 5_000_000_000, 30_000)]
    assert bench.deltas("reflow-1") == [20_000, 40_000] and bench.journal.doubts() == {}


def test_a_restart_makes_one_reading_no_evidence(bench: Bench) -> None:
    read(bench, 500_000)
    restart(bench)
    assert "reflow-1" in read(bench, 3).held
    restart(bench)
    assert "reflow-1" in read(bench, 900_000).held
    assert bench.deltas("reflow-1") == [] and epochs(bench) == []


def test_readings_in_doubt_are_forgotten_where_the_site_file_gives_them_another_meaning(bench: Bench) -> None:
    read(bench, 500_000)
    read(bench, 3)
    read(bench, 4)
    other = replace(bench.meters[0], profile=profile(register(per_count=Fraction(1, 10))))
    bench.wire((other, bench.meters[1]))
    assert bench.journal.doubts()
    read(bench, 5)
    assert not any(reason == "reset" for reason, _, _ in epochs(bench))


@pytest.mark.parametrize(("site", "settles"), [("the same", True), ("another", False)])
def test_readings_in_doubt_belong_to_the_site_file_under_which_they_were_read(
    bench: Bench, site: str, settles: bool
) -> None:
    """The steps of another map must not be given what the old one's used (seed 369 of the simulated world)."""
    mark_started(bench.journal, "the same", owner="x", applied_sha256=None, platform_answers=False)
    for count in (500_000, 3, 5):
        read(bench, count)
    restart(bench)
    mark_started(bench.journal, site, owner="x", applied_sha256=None, platform_answers=False)
    read(bench, 9)
    assert bool(epochs(bench)) is settles


# ------------------------------------------------------------------------------------------------------ fingerprint


def with_fingerprint(ratio: int) -> dict[str, Any]:
    return {"fingerprint": (("ct_ratio", (ratio,)), ("mode", None))}


@pytest.mark.parametrize("after_restart", [False, True])
def test_a_ratio_changed_at_the_meter_opens_an_epoch_after_three_readings(
    bench: Bench, after_restart: bool
) -> None:
    read(bench, 1000, **with_fingerprint(30))
    read(bench, 1001, **with_fingerprint(30))
    for turn in range(3):
        if after_restart:
            restart(bench)
        closed = read(bench, 1002 + turn, **with_fingerprint(60))
        assert ("reflow-1" in closed.held) is (turn < 2)
    assert [reason for reason, _, _ in epochs(bench)] == ["fingerprint"]
    assert "001E" in events(bench, "refused")[0].text("reason")
    read(bench, 1005, **with_fingerprint(60))
    assert newest(bench).epoch == 2 and newest(bench).delta == 10_000


def test_a_setting_that_was_misread_once_opens_nothing(bench: Bench) -> None:
    read(bench, 1000, **with_fingerprint(30))
    read(bench, 1001, **with_fingerprint(31))
    read(bench, 1002, **with_fingerprint(30))
    assert epochs(bench) == [] and bench.deltas("reflow-1") == [20_000]


def test_a_setting_that_the_meter_refuses_to_show_is_not_a_changed_one(bench: Bench) -> None:
    read(bench, 1000, **with_fingerprint(30))
    read(bench, 1001, fingerprint=(("ct_ratio", None), ("mode", None)))
    assert bench.deltas("reflow-1") == [10_000]
    assert "reflow-1" in read(bench, 1002, **with_fingerprint(60)).held


# ----------------------------------------------------------------------------------------------------------- stuck


@pytest.mark.fault("F25")
def test_a_register_that_stands_while_power_flows_is_named_and_nothing_is_invented(bench: Bench) -> None:
    for _ in range(6):
        read(bench, 1000, power_w=Fraction(3000))
    assert sum(bench.deltas("reflow-1")) == 0 and "suspect" in newest(bench).q
    assert events(bench, "refused")[0].text("reason").startswith("stuck")
    read(bench, 1001, power_w=Fraction(3000))
    assert "suspect" not in newest(bench).q


@pytest.mark.fault("F25")
@pytest.mark.parametrize("power_w", [Fraction(0), Fraction(-9000), Fraction(5), None])
def test_a_register_that_stands_without_power_is_well(bench: Bench, power_w: Fraction | None) -> None:
    for _ in range(10):
        read(bench, 1000, power_w=power_w)
    assert newest(bench).q == () and events(bench, "refused") == []


# --------------------------------------------------------------------------------------------------- everything refused


@pytest.mark.fault("F23")
@pytest.mark.parametrize(
    ("type", "words"),
    [
        (WordType.F32, (0x7FC0, 0x0000)),
        (WordType.F32, (0x7F80, 0x0000)),
        (WordType.F32, (0xFF80, 0x0000)),
        (WordType.F32, (0xC2C8, 0x0000)),
        (WordType.U32, (0xFFFF, 0xFFFF)),
        (WordType.S32, (0x8000, 0x0000)),
        (WordType.BCD32, (0x12AB, 0x0000)),
    ],
)
def test_what_is_no_number_of_a_counter_is_refused_with_an_event(
    tmp_path: Path, type: WordType, words: tuple[int, int]
) -> None:
    invalid = frozenset({0xFFFFFFFF, 0x80000000}) if type in (WordType.U32, WordType.S32) else frozenset()
    bench = Bench(tmp_path, (meter(register(type, invalid=invalid), serial="1", rated_w=40_000),))
    read(bench, 1000)
    closed = read(bench, 1001, words=words)
    assert closed.not_booked["reflow-1"].kind == "refused"
    assert len(events(bench, "refused")) == 1
    read(bench, 1002)
    assert bench.deltas("reflow-1") == [20_000] and "suspect" in newest(bench).q


def test_a_cut_that_cannot_be_written_leaves_the_gates_as_they_were(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.errors import JournalFull

    read(bench, 500_000)
    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "append_batch", _full)
        with pytest.raises(JournalFull):
            read(bench, 3)
    assert bench.journal.doubts() == {}
    for count in (5, 6):
        read(bench, count)
    assert epochs(bench) == []


def _full(*_: object) -> None:
    from agent.errors import JournalFull

    raise JournalFull("no room")


def test_nothing_is_written_of_a_meter_about_which_nothing_changes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(bench, 1000)

    def no_write(*_: object) -> None:
        raise AssertionError("the flash is worn for nothing")

    monkeypatch.setattr(bench.journal, "save_memory", no_write)
    monkeypatch.setattr(bench.journal, "save_doubts", no_write)
    read(bench, 1001)
    assert bench.deltas("reflow-1") == [10_000]
