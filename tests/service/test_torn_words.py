"""Registers of several words that were read while they counted, with the real journal."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.metering.memory import Order
from agent.metering.profile import WordType
from tests.metering.examples import meter, profile, register
from tests.service.bench import Bench, two_meters
from tests.service.gates import HOUR_MS, epochs, nameless, newest, read


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
