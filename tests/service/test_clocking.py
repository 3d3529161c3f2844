"""Sealing waits for no clock; once the time is known, what was sealed on a provisional one is relabelled."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.reporting.event import Event
from agent.service.close import Cut
from tests.service.bench import MINUTE_MS, NOON_MS, Bench, HandClock

SINCE_1970_MS = 60_000
OFFSET_MS = NOON_MS - SINCE_1970_MS


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A gateway that has just booted without a clock."""
    return Bench(tmp_path, clock=HandClock(SINCE_1970_MS, sync="U", boot="one"))


def clock_events(bench: Bench) -> list[Event]:
    return [event for _, batch in bench.batches() for event in batch.events if event.type == "clock"]


def relabels(bench: Bench) -> list[tuple[object, ...]]:
    names = ("boot", "seq_from", "seq_to", "offset_ms", "state_from", "state_to")
    return [tuple(event.body[name] for name in names) for event in clock_events(bench)]


def read(bench: Bench, count: int, *, steps: tuple[int, ...] = ()) -> None:
    cut = bench.cut_of({"reflow-1": count, "wave-1": count})
    bench.closer.close(bench.journal, replace(cut, clock_steps_ms=steps))


def set_clock(bench: Bench, step_ms: int, sync: str) -> None:
    bench.clock.now_ms += step_ms
    bench.clock.sync = sync


@pytest.mark.fault("F40")
def test_batches_of_1970_are_relabelled_once_the_time_is_known(bench: Bench) -> None:
    for count in (1000, 1001, 1002):
        read(bench, count)
    set_clock(bench, OFFSET_MS, "S")
    read(bench, 1003, steps=(OFFSET_MS,))
    read(bench, 1004)
    assert relabels(bench) == [("one", 1, 3, OFFSET_MS, "U", "S")]
    (event,) = clock_events(bench)
    assert event.at_ms == NOON_MS + 4 * MINUTE_MS
    # Its error: what the clock says of itself, and 200 ppm of the four minutes since the machine was started.
    assert event.integer("err_ms") == 10 + 4 * MINUTE_MS * 200 // 1_000_000
    sync = [batch.clock.sync for _, batch in bench.batches()]
    assert sync == ["U", "U", "U", "S", "S"]
    assert bench.deltas("reflow-1") == [10_000] * 4


def test_a_restart_of_the_process_forgets_nothing(bench: Bench) -> None:
    read(bench, 1000)
    read(bench, 1001)
    bench.restart()
    bench.wire(bench.meters)
    set_clock(bench, OFFSET_MS, "S")
    read(bench, 1002)
    assert relabels(bench) == [("one", 1, 2, OFFSET_MS, "U", "S")]


def test_after_a_restart_of_the_machine_nobody_can_tell_any_more(bench: Bench) -> None:
    read(bench, 1000)
    bench.clock.boot, bench.clock.up_ms = "two", 0
    set_clock(bench, OFFSET_MS, "S")
    read(bench, 1001)
    assert relabels(bench) == []


@pytest.mark.fault("F38", "F39")
def test_a_provisional_clock_that_somebody_set_twice_is_relabelled_in_parts(bench: Bench) -> None:
    read(bench, 1000)
    read(bench, 1001)
    set_clock(bench, 86_400_000, "U")
    read(bench, 1002, steps=(86_400_000,))
    set_clock(bench, OFFSET_MS - 86_400_000, "S")
    read(bench, 1003, steps=(OFFSET_MS - 86_400_000,))
    assert relabels(bench) == [
        ("one", 2, 2, None, "U", "U"),
        ("one", 1, 2, OFFSET_MS, "U", "S"),
        ("one", 3, 3, OFFSET_MS - 86_400_000, "U", "S"),
    ]


def test_a_provisional_clock_that_was_right_is_confirmed(bench: Bench) -> None:
    bench.clock.now_ms = NOON_MS
    read(bench, 1000)
    bench.clock.sync = "S"
    read(bench, 1001)
    read(bench, 1002)
    assert relabels(bench) == [("one", 1, 1, 0, "U", "S")]


@pytest.mark.fault("F38", "F39")
@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000])
def test_a_good_clock_that_was_set_is_declared_and_relabels_nothing(bench: Bench, step_ms: int) -> None:
    set_clock(bench, OFFSET_MS, "S")
    read(bench, 1000)
    set_clock(bench, step_ms, "U")
    read(bench, 1001)
    set_clock(bench, -step_ms, "S")
    read(bench, 1002)
    assert relabels(bench) == [("one", 1, 1, None, "U", "U"), ("one", 2, 2, -step_ms, "U", "S")]


@pytest.mark.fault("F44")
def test_sleep_is_no_step_of_the_clock(bench: Bench) -> None:
    set_clock(bench, OFFSET_MS, "S")
    read(bench, 1000)
    bench.clock.now_ms += 3_600_000
    bench.clock.up_ms += 3_600_000
    read(bench, 1001)
    assert clock_events(bench) == []


@pytest.mark.fault("F42")
def test_a_leap_second_that_is_repeated_changes_no_energy_and_no_order(bench: Bench) -> None:
    set_clock(bench, OFFSET_MS, "S")
    read(bench, 1000)
    set_clock(bench, -1_000, "S")
    read(bench, 1001, steps=(-1_000,))
    read(bench, 1002)
    assert relabels(bench) == [("one", 1, 1, None, "S", "S")]
    assert bench.deltas("reflow-1") == [10_000, 10_000]
    ends = [delta.n for _, batch in bench.batches() for delta in batch.deltas if delta.meter == "reflow-1"]
    assert ends == [1, 2]


@pytest.mark.fault("F45")
@pytest.mark.parametrize("wall_ms", [2**31 * 1000, 2**32 * 1000, 253_402_300_000_000 - 10 * MINUTE_MS])
def test_the_far_future_is_sealed_like_any_other_time(bench: Bench, wall_ms: int) -> None:
    """2038, 2106 and the last minutes of the year 9999."""
    bench.clock.now_ms = wall_ms - MINUTE_MS
    for count in (1000, 1001, 1002):
        read(bench, count)
    set_clock(bench, NOON_MS - bench.clock.now_ms, "S")
    read(bench, 1003)
    assert bench.deltas("reflow-1") == [10_000] * 3
    assert relabels(bench)[-1][:3] == ("one", 1, 3)


def test_nothing_is_written_while_nothing_changes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    read(bench, 1000)
    read(bench, 1001)
    written: list[object] = []
    monkeypatch.setattr(bench.journal, "save_clock_stretches", written.append)
    for count in (1002, 1003):
        read(bench, count)
    assert written == []


@pytest.mark.fault("F39")
def test_a_hole_is_bounded_by_how_long_it_was_and_not_by_what_the_clock_showed(bench: Bench) -> None:
    """Set back by an hour while a meter was exchanged: the hole was three minutes long all the same."""
    set_clock(bench, OFFSET_MS, "S")
    read(bench, 1000)
    bench.clock.now_ms -= 3_600_000
    for turn in range(3):
        bench.read({"reflow-1": 10 + turn})
    (epoch,) = [event for _, batch in bench.batches() for event in batch.events if event.type == "epoch"]
    # 40 kW for a minute, and one count.
    assert epoch.body["bound"] == -(-40_000 * MINUTE_MS // 3600) + 10_000


@pytest.mark.fault("F40")
def test_a_hole_across_a_boot_without_a_clock_has_no_bound(bench: Bench) -> None:
    set_clock(bench, OFFSET_MS, "S")
    read(bench, 1000)
    bench.clock.boot, bench.clock.up_ms, bench.clock.sync = "two", 0, "U"
    for turn in range(3):
        bench.read({"reflow-1": 10 + turn})
    (epoch,) = [event for _, batch in bench.batches() for event in batch.events if event.type == "epoch"]
    assert epoch.body["bound"] is None


def test_a_cut_of_nothing_keeps_no_stretch(bench: Bench) -> None:
    bench.closer.close(bench.journal, Cut(bench.clock.now_ms, ()))
    assert len(bench.journal.clock_stretches()) <= 1


@pytest.mark.fault("F21", "F40")
def test_a_rise_in_a_time_that_nobody_knows_is_seen_three_times_before_it_is_booked(bench: Bench) -> None:
    """Found by the simulated world: a jump read right after a boot without a clock had no bound to be refused by."""
    set_clock(bench, OFFSET_MS, "S")
    read(bench, 1000)
    read(bench, 1001)
    bench.clock.boot, bench.clock.up_ms, bench.clock.sync = "two", 0, "U"
    assert bench.closer.to_read_again(bench.journal, bench.cut_of({"reflow-1": 900_000})).meters == {
        "reflow-1"
    }
    closed = bench.read({"reflow-1": 900_000})
    assert "nobody knows" in closed.held["reflow-1"]
    bench.read({"reflow-1": 1010}, times=3)
    assert bench.deltas("reflow-1") == [10_000, 90_000]
