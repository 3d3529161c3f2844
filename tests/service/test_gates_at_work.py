"""Every gate between a reading and the ledger, with the real journal; and across a restart, which must not open one."""

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.metering.decode import encode
from agent.metering.memory import Order
from agent.metering.plant import Meter
from agent.metering.profile import WordType
from agent.metering.quality import RULES
from agent.reporting.batch import Delta
from agent.reporting.event import Event, refused_event
from agent.service.close import Closed
from agent.service.supervise import mark_started
from tests.metering.examples import meter, profile, register
from tests.service.bench import MINUTE_MS, Bench, two_meters

HOUR_MS = 60 * MINUTE_MS


@pytest.fixture(autouse=True)
def in_the_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is refused here, for whatever reason: the written rules name it."""
    said: list[str] = []

    def noted(at_ms: int, **body: Any) -> Event:
        said.append(body["reason"])
        return refused_event(at_ms, **body)

    monkeypatch.setattr("agent.service.refusals.refused_event", noted)
    yield
    known = {word for rule in RULES for word in re.findall(r"refused, (\w+)", rule.event)}
    assert {reason.split()[0].rstrip(":") for reason in said} <= known | {"energy_import"}


def nameless(**changes: object) -> Meter:
    """A meter that cannot say who it is, and of which the site file does not say it either."""
    return replace(two_meters()[0], serial=None, **changes)  # type: ignore[arg-type]


def events(bench: Bench, kind: str) -> list[Event]:
    return [event for _, batch in bench.batches() for event in batch.events if event.type == kind]


def epochs(bench: Bench) -> list[tuple[object, object, object]]:
    """Reason and both registers of each change of epoch."""
    return [
        (event.body["reason"], event.body["last"], event.body["first"]) for event in events(bench, "epoch")
    ]


def newest(bench: Bench, meter_id: str = "reflow-1") -> Delta:
    return [delta for _, batch in bench.batches() for delta in batch.deltas if delta.meter == meter_id][-1]


def restart(bench: Bench) -> None:
    """A new process: the journal is opened anew, and nothing else is left."""
    bench.restart()
    bench.wire(bench.meters)


def read(bench: Bench, count: int, *, times: int = 1, **sample: object) -> Closed:
    """One boundary later: read one meter, with more of a sample than its words."""
    cut = bench.cut_of({bench.meters[0].id: count}, times=times)
    samples = tuple(replace(each, **sample) for each in cut.samples)  # type: ignore[arg-type]
    return bench.closer.close(bench.journal, replace(cut, samples=samples))


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


@pytest.mark.fault("F20")
def test_backward_jitter_emits_nothing_until_the_register_is_back_and_opens_no_epoch(bench: Bench) -> None:
    read(bench, 500_000)
    for count in (499_999, 499_998, 499_999, 499_999, 499_999):
        assert read(bench, count).held["reflow-1"].startswith("jitter")
    read(bench, 500_001)
    assert bench.deltas("reflow-1") == [10_000] and epochs(bench) == []


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


# ---------------------------------------------------------------------------------------------------------- torn words


@pytest.mark.fault("F22")
def test_a_rise_of_about_one_turn_of_a_word_is_read_again_though_nobody_knows_the_power(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, (meter(register(), serial="1"),))
    read(bench, 65_530)
    torn = bench.cut_of({"reflow-1": 65_530 + 65_541})
    assert bench.closer.to_read_again(bench.journal, torn).meters == {"reflow-1"}
    assert bench.closer.close(bench.journal, torn).held["reflow-1"].startswith("rise")
    read(bench, 65_541)
    assert bench.deltas("reflow-1") == [110_000]


@pytest.mark.fault("F22")
def test_such_a_rise_that_stays_is_energy(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (meter(register(), serial="1"),))
    read(bench, 1000)
    read(bench, 1000 + 65_600, times=3)
    assert bench.deltas("reflow-1") == [656_000_000] and "rate" not in newest(bench).q


@pytest.mark.fault("F22")
@pytest.mark.parametrize(("type", "turn"), [(WordType.BCD32, 10_000), (WordType.U32, 65_536)])
def test_words_of_digits_turn_at_ten_thousand(tmp_path: Path, type: WordType, turn: int) -> None:
    bench = Bench(tmp_path, (meter(register(type), serial="1"),))
    read(bench, 1000)
    cut = bench.cut_of({"reflow-1": 1003 + turn})
    assert bench.closer.to_read_again(bench.journal, cut).meters == {"reflow-1"}
    cut = bench.cut_of({"reflow-1": 1003 + 30_000})
    assert bench.closer.to_read_again(bench.journal, cut).meters == frozenset()


@pytest.mark.fault("F23")
def test_what_can_be_no_register_is_not_asked_for_again(tmp_path: Path) -> None:
    """It is refused and said; two more readings of it would prove nothing."""
    bench = Bench(tmp_path, (meter(register(WordType.S32), serial="1", rated_w=40_000),))
    read(bench, 1000)
    cut = bench.cut_of({"reflow-1": 900_000})
    assert bench.closer.to_read_again(bench.journal, cut).meters == {"reflow-1"}
    below_zero = replace(cut, samples=(replace(cut.samples[0], words=(0xFFFF, 0xFFFE)),))
    assert bench.closer.to_read_again(bench.journal, below_zero).meters == frozenset()


@pytest.mark.fault("F18")
def test_an_exchange_that_was_ordered_waits_until_the_old_meter_is_gone(bench: Bench) -> None:
    """A person said it before it was done: the register of the meter that still hangs there begins no epoch."""
    read(bench, 1000, serial="100")
    with bench.journal.transaction():
        bench.journal.save_order(Order("reflow-1", "exchange", 1, "anna", first_kwh="0", confirmed=True))
    held = read(bench, 1001, serial="100").held["reflow-1"]
    assert held == "exchange: ordered, but the meter still shows the old serial number"
    assert "reflow-1" in bench.journal.orders()
    read(bench, 3, serial="300")
    read(bench, 4, serial="300")
    assert [reason for reason, *_ in epochs(bench)] == ["exchange"] and bench.journal.orders() == {}


@pytest.mark.parametrize(
    ("rated_w", "counts", "was_dark"),
    [(40_000, 0, True), (40_000, 4_000, True), (40_000, 4_002, False), (None, 1, False), (None, 0, True)],
)
def test_a_meter_that_was_dark_can_have_counted_an_hour_of_its_circuit_at_most(
    tmp_path: Path, rated_w: int | None, counts: int, was_dark: bool
) -> None:
    """40 kWh are 4,000 counts, and one may be due; what is more was counted while nobody could read it."""
    bench = Bench(tmp_path, (nameless(powered_by_circuit=True, rated_w=rated_w),))
    read(bench, 1000)
    read(bench, 1001)
    bench.clock.now_ms += 2 * HOUR_MS
    read(bench, 1001 + counts, times=3)
    assert bench.deltas("reflow-1") == [10_000, counts * 10_000]
    assert ("suspect" in newest(bench).q) is not was_dark


@pytest.mark.fault("F38")
@pytest.mark.parametrize("is_set", [False, True])
def test_a_clock_that_was_set_by_hours_is_no_long_silence(tmp_path: Path, is_set: bool) -> None:
    bench = Bench(tmp_path, (nameless(),))
    read(bench, 1000)
    read(bench, 1001)
    bench.clock.now_ms += 2 * HOUR_MS
    cut = bench.cut_of({"reflow-1": 1002}, times=3)
    steps = (2 * HOUR_MS,) if is_set else ()
    bench.closer.close(bench.journal, replace(cut, clock_steps_ms=steps))
    assert (bench.journal.memories()["reflow-1"].returned_ms is None) is is_set
    assert ("suspect" in newest(bench).q) is not is_set


def test_a_float_that_steps_by_more_than_a_watt_hour_says_so(tmp_path: Path) -> None:
    """Beyond 2**24 counts of 0.01 kWh a float32 knows only every second one."""
    bench = Bench(tmp_path, (meter(register(WordType.F32), serial="1", rated_w=4_000_000),))
    for count in (1_000, 1_002):
        read(bench, count)
    assert "quant" not in newest(bench).q
    bench = Bench(tmp_path, (meter(register(WordType.F32), serial="1", rated_w=4_000_000),), name="far.db")
    for count in (1 << 25, (1 << 25) + 4):
        read(bench, count)
    assert newest(bench).q == ("first", "quant") and newest(bench).delta == 40_000


def test_a_doubt_under_another_word_order_is_no_evidence(tmp_path: Path) -> None:
    """A person set right how the register is read: what waited was read in the wrong way, and says nothing."""
    bench = Bench(tmp_path, (nameless(),))
    read(bench, 100_000)
    read(bench, 10)
    read(bench, 12)
    assert len(bench.journal.doubts()["reflow-1"]) == 2
    other = replace(register(modulus_counts=10**6), low_word_first=True)
    bench.wire((nameless(profile=profile(other)),))
    read(bench, 14)
    assert epochs(bench) == [] and len(bench.journal.doubts()["reflow-1"]) == 1


@pytest.mark.fault("F18")
def test_a_serial_number_is_looked_for_among_all_meters(tmp_path: Path) -> None:
    """A third meter stands at the first one's place: whose it is, is said."""
    first, second = two_meters()
    third = replace(second, id="press-1", address=3, serial=None)
    bench = Bench(tmp_path, (replace(first, serial=None), second, third))
    shown = {"reflow-1": "1", "wave-1": "200", "press-1": "3"}
    bench.read({"reflow-1": 1_000, "wave-1": 2_000, "press-1": 3_000}, serials=shown)
    closed = bench.read(
        {"reflow-1": 3_001, "wave-1": 2_001, "press-1": 3_001}, serials=shown | {"reflow-1": "3"}
    )
    assert "press-1" in closed.held["reflow-1"] and "wave-1" not in closed.held


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


# --------------------------------------------------------------------------------------------------- two meters swapped


@pytest.mark.fault("F35")
def test_two_meters_exchanged_on_the_bus_are_told_by_their_serial_numbers_and_nothing_is_booked(
    tmp_path: Path,
) -> None:
    reflow, wave = (replace(each, serial=None) for each in two_meters())
    bench = Bench(tmp_path, (reflow, wave))
    own = {"reflow-1": "100", "wave-1": "200"}
    bench.read({"reflow-1": 1000, "wave-1": 500_000}, serials=own)
    bench.read({"reflow-1": 1001, "wave-1": 500_001}, serials=own)
    for turn in range(5):
        closed = bench.read(
            {"reflow-1": 500_002 + turn, "wave-1": 1002 + turn},
            serials={"reflow-1": "200", "wave-1": "100"},
        )
        assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
    bench.read({"reflow-1": 1010, "wave-1": 500_010}, serials=own)
    assert bench.deltas("reflow-1") == bench.deltas("wave-1") == [10_000, 90_000]
    assert epochs(bench) == []


@pytest.mark.fault("F19")
@pytest.mark.parametrize("rated_w", [40_000, None])
def test_two_nameless_meters_exchanged_on_the_bus_are_told_by_their_registers(
    tmp_path: Path, rated_w: int | None
) -> None:
    pair = tuple(replace(each, serial=None, rated_w=rated_w) for each in two_meters())
    bench = Bench(tmp_path, (pair[0], pair[1]))
    bench.read({"reflow-1": 1000, "wave-1": 500_000})
    for turn in range(5):
        counts = {"reflow-1": 500_001 + turn, "wave-1": 1001 + turn}
        closed = bench.read(counts, times=3)
        assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
        restart(bench)
    bench.read({"reflow-1": 1010, "wave-1": 500_010})
    assert bench.deltas("reflow-1") == bench.deltas("wave-1") == [100_000]
    assert epochs(bench) == []


@pytest.mark.fault("F19")
def test_meters_whose_numbers_are_known_and_cannot_be_read_are_told_by_their_registers_too(
    tmp_path: Path,
) -> None:
    """The site file names both numbers, and nobody said that they hang elsewhere now."""
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1000, "wave-1": 500_000})
    closed = bench.read({"reflow-1": 500_001, "wave-1": 1001}, times=3)
    assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
    bench.read({"reflow-1": 1010, "wave-1": 500_010})
    assert bench.deltas("reflow-1") == bench.deltas("wave-1") == [100_000]


@pytest.mark.fault("F19", "F35")
def test_a_serial_number_that_was_read_before_the_exchange_proves_nothing_for_a_register_that_fell(
    tmp_path: Path,
) -> None:
    """World seed 4003: one meter's number was ten minutes old, the other has none to give, and the rise was booked."""
    reflow, wave = (replace(each, serial=None) for each in two_meters())
    bench = Bench(tmp_path, (reflow, wave))
    bench.read({"reflow-1": 500_000, "wave-1": 1000}, serials={"reflow-1": "100"})
    closed = bench.read({"reflow-1": 1001, "wave-1": 500_001}, serials={"reflow-1": "100"}, times=3)
    assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
    assert bench.deltas("wave-1") == []


@pytest.mark.fault("F15", "F19")
def test_two_nameless_meters_exchanged_while_one_passes_its_modulus_are_told_by_their_registers(
    tmp_path: Path,
) -> None:
    """World seed 4029: the other register had just begun again at zero, and was taken for a reset."""
    pair = tuple(replace(each, serial=None) for each in two_meters())
    bench = Bench(tmp_path, (pair[0], pair[1]))
    bench.read({"reflow-1": 999_999, "wave-1": 500_000})
    for turn in range(4):
        closed = bench.read({"reflow-1": 500_001 + turn, "wave-1": 1 + turn}, times=3)
        assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
    bench.read({"reflow-1": 6, "wave-1": 500_010})
    assert bench.deltas("reflow-1") == [70_000] and bench.deltas("wave-1") == [100_000]
    assert epochs(bench) == []


# -------------------------------------------------------------------------- ... and the other one of them is not read


def a_pair(tmp_path: Path, counts: int, other_counts: int, **changes: object) -> Bench:
    """One that cannot say who it is, and one that can; both have been read twice."""
    tmp_path.mkdir(exist_ok=True)
    one, other = two_meters()
    bench = Bench(
        tmp_path,
        (replace(one, serial=None, **changes), replace(other, serial=None, **changes)),  # type: ignore[arg-type]
    )
    for turn in range(2):
        cut = {"reflow-1": counts + turn, "wave-1": other_counts + turn}
        bench.read(cut, serials={"wave-1": "200"})
    return bench


@pytest.mark.fault("F19")
@pytest.mark.parametrize("read_of_the_other", [{}, {"wave-1": 1_900_000}])
def test_a_jump_to_where_another_meter_was_seen_last_waits_until_that_one_is_read(
    tmp_path: Path, read_of_the_other: dict[str, int]
) -> None:
    """World seed 6105: the other one of the pair gave no sound answer, and its register was booked."""
    bench = a_pair(tmp_path, 4_000, 998_000)
    for turn in range(4):
        closed = bench.read({"reflow-1": 998_010 + turn} | read_of_the_other, times=3)
        assert "wave-1" in closed.held["reflow-1"] and closed.not_booked["reflow-1"].kind == "identity"
        restart(bench)
    bench.read({"reflow-1": 4_009, "wave-1": 998_020})
    assert bench.deltas("reflow-1") == [10_000, 80_000] and bench.deltas("wave-1") == [10_000, 190_000]
    assert epochs(bench) == []


@pytest.mark.fault("F19")
def test_a_fall_to_where_another_meter_was_seen_last_opens_no_epoch_until_that_one_is_read(
    tmp_path: Path,
) -> None:
    """World seed 6213: three boundaries made a reset of it."""
    bench = a_pair(tmp_path, 900_000, 4_000)
    for turn in range(5):
        closed = bench.read({"reflow-1": 4_002 + turn})
        assert "wave-1" in closed.held["reflow-1"]
    bench.read({"reflow-1": 900_010, "wave-1": 4_010})
    assert bench.deltas("reflow-1") == [10_000, 90_000] and bench.deltas("wave-1") == [10_000, 90_000]
    assert epochs(bench) == []


@pytest.mark.fault("F15", "F19")
def test_where_nobody_knows_how_long_it_was_the_other_register_may_have_gone_round(tmp_path: Path) -> None:
    """World seed 6248: nine days after a start without a clock."""
    bench = a_pair(tmp_path, 740_000, 998_000)
    bench.clock.sync = "U"
    for turn in range(5):
        bench.clock.boot, bench.clock.up_ms = "another", MINUTE_MS * turn
        closed = bench.read({"reflow-1": 329_000 + turn, "wave-1": 770_000 + turn}, times=3)
        assert "wave-1" in closed.held["reflow-1"]
    assert epochs(bench) == [] and bench.deltas("reflow-1") == [10_000]


@pytest.mark.fault("F16", "F40")
def test_where_nobody_knows_how_long_it_was_a_meter_that_is_only_silent_explains_no_fall(
    tmp_path: Path,
) -> None:
    bench = a_pair(tmp_path, 740_000, 998_000)
    bench.clock.sync = "U"
    for turn in range(3):
        bench.clock.boot, bench.clock.up_ms = "another", MINUTE_MS * turn
        closed = bench.read({"reflow-1": 3 + turn})
        assert turn == 2 or closed.held["reflow-1"].startswith("fall")
    assert len(epochs(bench)) == 1


@pytest.mark.fault("F16")
@pytest.mark.parametrize("counts", [3, 300_000])
def test_a_reset_is_one_where_the_other_meter_is_read_or_cannot_show_that_register(
    tmp_path: Path, counts: int
) -> None:
    bench = a_pair(tmp_path, 900_000, 4_000)
    for turn in range(3):
        bench.read({"reflow-1": counts + turn})
    assert len(epochs(bench)) == 1
    bench = a_pair(tmp_path / "second", 900_000, 4_000)
    for turn in range(3):
        bench.read({"reflow-1": 4_002 + turn, "wave-1": 4_002 + turn}, serials={"wave-1": "200"})
    assert len(epochs(bench)) == 1


@pytest.mark.fault("F19")
def test_a_meter_that_was_away_long_before_explains_a_jump_and_no_fall(tmp_path: Path) -> None:
    """Energy is never guessed; and a reset need not wait for a meter that has left for good."""
    bench = a_pair(tmp_path, 900_000, 4_000)
    bench.clock.now_ms += HOUR_MS
    bench.read({"reflow-1": 900_002}, times=3)
    for turn in range(3):
        bench.read({"reflow-1": 4_010 + turn})
    assert len(epochs(bench)) == 1
    bench = a_pair(tmp_path / "second", 4_000, 990_000)
    bench.clock.now_ms += HOUR_MS
    bench.read({"reflow-1": 4_002}, times=3)
    assert "wave-1" in bench.read({"reflow-1": 990_010}, times=3).held["reflow-1"]


@pytest.mark.fault("F19")
def test_whoever_says_who_it_is_or_for_whom_a_person_speaks_waits_for_no_other(tmp_path: Path) -> None:
    bench = a_pair(tmp_path, 4_000, 998_000)
    cut = bench.cut_of({"reflow-1": 998_010}, times=3)
    proved = tuple(replace(each, serial="100") for each in cut.samples)
    with bench.journal.transaction():
        head = bench.journal.heads()["reflow-1"]
        bench.journal.save_head(replace(head, basis=replace(head.basis, serial="100")))
    bench.closer.close(bench.journal, replace(cut, samples=proved))
    assert "rate" in newest(bench).q

    bench = a_pair(tmp_path / "second", 4_000, 998_000)
    order = Order("reflow-1", "same", bench.clock.now_ms, "Li Na", confirmed=True)
    with bench.journal.transaction():
        bench.journal.save_order(order)
    bench.read({"reflow-1": 998_010}, times=3)
    assert "rate" in newest(bench).q


@pytest.mark.fault("F40")
def test_a_rise_in_a_time_that_nobody_knows_is_the_own_one_unless_another_register_is_very_much_nearer(
    tmp_path: Path,
) -> None:
    bench = a_pair(tmp_path, 4_000, 998_000)
    bench.clock.boot = "another"
    assert "wave-1" in bench.read({"reflow-1": 998_010}, times=3).held["reflow-1"]
    bench.clock.boot = "yet another"
    bench.read({"reflow-1": 5_000}, times=3)
    assert bench.deltas("reflow-1") == [10_000, 9_990_000]


@pytest.mark.fault("F18")
def test_a_serial_number_that_differs_from_the_site_files_is_refused_and_said(bench: Bench) -> None:
    read(bench, 1000, serial="100")
    assert read(bench, 1001, serial="999").not_booked["reflow-1"].kind == "identity"
    assert events(bench, "refused") and bench.deltas("reflow-1") == []


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
