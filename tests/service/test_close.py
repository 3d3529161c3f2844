"""Closing an interval: everything or nothing, and what was used before a change belongs to the old map."""

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from agent.errors import JournalFull
from agent.metering.interval import DAY_MS
from agent.metering.plant import Meter, Share
from tests.service.bench import MINUTE_MS, Bench, two_meters, with_ratio


def test_the_first_reading_books_nothing_and_the_second_the_difference(bench: Bench) -> None:
    bench.read({"reflow-1": 1000, "wave-1": 5})
    assert bench.deltas("reflow-1") == []
    bench.read({"reflow-1": 1003, "wave-1": 5})
    assert bench.deltas("reflow-1") == [30_000_000 // 1000]
    assert bench.deltas("wave-1") == [0]


def test_one_interval_is_one_batch_in_an_unbroken_chain_that_begins_with_the_descriptor(bench: Bench) -> None:
    for count in range(5):
        bench.read({"reflow-1": 1000 + count, "wave-1": 7})
    batches = bench.batches()
    assert [head.seq for head, _ in batches] == [1, 2, 3, 4, 5]
    assert {head.chain for head, _ in batches} == {batches[0][0].chain}
    assert batches[0][1].events[0].type == "descriptor"
    assert batches[0][1].prev == batches[0][1].cfg and batches[0][1].prev_chain is None
    for (before, _), (_, after) in itertools.pairwise(batches):
        assert after.prev == before.hash


def test_a_missed_boundary_makes_a_spanning_delta_that_says_so(bench: Bench) -> None:
    bench.read({"reflow-1": 1000, "wave-1": 7})
    bench.read({"wave-1": 7})
    bench.read({"reflow-1": 1010, "wave-1": 7})
    last = bench.batches()[-1][1]
    flags = {delta.meter: delta.q for delta in last.deltas}
    assert flags == {"reflow-1": ("first", "gap"), "wave-1": ()}
    assert [event.type for event in last.events] == ["gap"]


@pytest.mark.fault("F16")
def test_a_fall_is_reported_and_never_booked(bench: Bench) -> None:
    bench.read({"reflow-1": 1000, "wave-1": 7})
    closed = bench.read({"reflow-1": 3, "wave-1": 7})
    assert "reflow-1" in closed.held
    last = bench.batches()[-1][1]
    assert [event.type for event in last.events] == ["refused"]
    bench.read({"reflow-1": 1002, "wave-1": 7})
    assert bench.deltas("reflow-1") == [20_000]


@pytest.mark.fault("F15")
def test_a_rollover_near_a_known_modulus_is_booked_with_its_roll(bench: Bench) -> None:
    bench.read({"reflow-1": 999_999})
    bench.read({"reflow-1": 2})
    delta = bench.batches()[-1][1].deltas[0]
    assert (delta.delta, delta.roll) == (30_000, 10**10)
    assert "roll" in delta.q


@pytest.mark.fault("F18")
def test_a_meter_with_another_serial_number_than_the_site_file_says_is_not_booked(bench: Bench) -> None:
    bench.read({"reflow-1": 1000})
    closed = bench.read({"reflow-1": 1001}, serials={"reflow-1": "999"})
    assert "999" in closed.held["reflow-1"]
    assert bench.deltas("reflow-1") == []


@pytest.mark.fault("F40")
def test_an_untrusted_clock_is_said_on_every_delta(bench: Bench) -> None:
    bench.read({"reflow-1": 1000})
    bench.clock.sync = "U"
    bench.read({"reflow-1": 1001})
    batch = bench.batches()[-1][1]
    assert batch.clock.sync == "U" and "clock" in batch.deltas[0].q


@pytest.mark.fault("F81")
def test_a_change_of_ratio_closes_under_the_old_descriptor_and_opens_an_epoch(tmp_path: Path) -> None:
    reflow, wave = two_meters()
    bench = Bench(tmp_path, (with_ratio(reflow, "10"), wave))
    bench.read({"reflow-1": 100, "wave-1": 7})
    old_cfg = bench.batches()[-1][1].cfg
    bench.wire((with_ratio(reflow, "20"), wave))
    bench.read({"reflow-1": 103, "wave-1": 7})
    closing, opening = (batch for _, batch in bench.batches()[-2:])
    assert closing.cfg == old_cfg and [d.delta for d in closing.deltas if d.meter == "reflow-1"] == [300_000]
    assert opening.cfg != old_cfg and opening.deltas == ()
    epoch = next(event for event in opening.events if event.type == "epoch")
    assert (epoch.body["reason"], epoch.body["last"], epoch.body["first"]) == (
        "ratio",
        10_300_000,
        20_600_000,
    )
    bench.read({"reflow-1": 104, "wave-1": 7})
    last = next(d for d in bench.batches()[-1][1].deltas if d.meter == "reflow-1")
    assert (last.delta, last.epoch, last.n) == (200_000, 2, 1)


@pytest.mark.fault("F81")
def test_a_change_of_step_cuts_there_and_opens_no_epoch(tmp_path: Path) -> None:
    reflow, wave = two_meters()
    bench = Bench(tmp_path, (reflow, wave))
    bench.read({"reflow-1": 100, "wave-1": 7})
    moved = replace(reflow, shares=(Share("another_step", Fraction(1)),))
    bench.wire((moved, wave))
    bench.read({"reflow-1": 110, "wave-1": 7})
    bench.read({"reflow-1": 115, "wave-1": 7})
    deltas = [d for _, batch in bench.batches() for d in batch.deltas if d.meter == "reflow-1"]
    assert [(d.step, d.delta, d.epoch, d.n) for d in deltas] == [
        (reflow.step, 100_000, 1, 1),
        ("another_step", 50_000, 1, 2),
    ]


@pytest.mark.fault("F46")
def test_a_write_that_fails_changes_nothing_and_the_next_interval_spans_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.read({"reflow-1": 1000, "wave-1": 7})
    before = bench.journal.state()

    def full(*_: object) -> None:
        raise JournalFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "append_batch", full)
        with pytest.raises(JournalFull):
            bench.read({"reflow-1": 1004, "wave-1": 7})
    assert bench.journal.state() == before
    bench.read({"reflow-1": 1009, "wave-1": 8})
    assert bench.deltas("reflow-1") == [90_000]


def test_the_journal_says_after_a_restart_what_it_said_before(bench: Bench) -> None:
    bench.read({"reflow-1": 1000, "wave-1": 7})
    bench.read({"reflow-1": 1001, "wave-1": 7})
    state, heads, batches = bench.journal.state(), bench.journal.heads(), bench.batches()
    bench.restart()
    assert (bench.journal.state(), bench.journal.heads(), bench.batches()) == (state, heads, batches)


def test_a_balance_at_the_end_of_the_day_sums_the_days_deltas(bench: Bench) -> None:
    midnight = (bench.clock.now_ms // DAY_MS + 1) * DAY_MS
    bench.clock.now_ms = midnight - 4 * MINUTE_MS
    for count in (1000, 1002, 1005, 1009, 1014):
        bench.read({"reflow-1": count})
    balances = [event for _, batch in bench.batches() for event in batch.events if event.type == "balance"]
    assert [
        (event.integer("n_first"), event.integer("n_last"), event.integer("sum")) for event in balances
    ] == [(1, 3, 90_000)]
    assert balances[0].at_ms // DAY_MS == midnight // DAY_MS


@pytest.mark.fault("F16", "F19")
def test_three_readings_of_a_fall_open_an_epoch_at_the_first_of_them(bench: Bench) -> None:
    bench.read({"reflow-1": 500_000})
    for count in (3, 5, 9):
        closed = bench.read({"reflow-1": count})
    assert closed.held == {}
    last = bench.batches()[-1][1]
    epoch = next(event for event in last.events if event.type == "epoch")
    assert (epoch.body["reason"], epoch.body["last"], epoch.body["first"]) == ("reset", 5_000_000_000, 30_000)
    assert [(d.epoch, d.n, d.delta) for d in last.deltas] == [(2, 1, 20_000), (2, 2, 40_000)]
    bench.read({"reflow-1": 10})
    assert bench.deltas("reflow-1")[-1] == 10_000


@pytest.mark.fault("F17")
def test_one_zero_and_two_zeros_are_not_trusted_and_the_spanning_delta_says_so(bench: Bench) -> None:
    bench.read({"reflow-1": 500_000})
    bench.read({"reflow-1": 0})
    bench.read({"reflow-1": 0})
    bench.read({"reflow-1": 500_004})
    assert bench.deltas("reflow-1") == [40_000]
    assert "suspect" in bench.batches()[-1][1].deltas[-1].q
    bench.read({"reflow-1": 500_005})
    assert "suspect" not in bench.batches()[-1][1].deltas[-1].q


@pytest.mark.fault("F16")
def test_falls_that_do_not_agree_with_one_another_are_no_evidence(bench: Bench) -> None:
    bench.read({"reflow-1": 500_000})
    for count in (300_000, 7, 200_000, 90_000, 4):
        bench.read({"reflow-1": count})
    assert bench.deltas("reflow-1") == []
    assert all(event.type != "epoch" for _, batch in bench.batches() for event in batch.events)


@pytest.mark.fault("F21")
def test_a_rise_beyond_the_rated_power_waits_for_three_readings_on_the_spot(bench: Bench) -> None:
    bench.read({"reflow-1": 1000})
    closed = bench.read({"reflow-1": 900_000})
    assert closed.held["reflow-1"].startswith("rise")
    assert bench.deltas("reflow-1") == []
    bench.read({"reflow-1": 900_001}, times=3)
    delta = bench.batches()[-1][1].deltas[-1]
    assert delta.delta == (900_001 - 1000) * 10_000
    assert set(delta.q) >= {"rate", "suspect"}


@pytest.mark.fault("F21")
def test_only_a_rise_that_is_too_fast_is_asked_for_again(bench: Bench) -> None:
    bench.read({"reflow-1": 1000, "wave-1": 1000})
    cut = bench.cut_of({"reflow-1": 900_000, "wave-1": 1001})
    assert bench.closer.to_read_again(bench.journal, cut).meters == {"reflow-1"}


@pytest.mark.fault("F18")
def test_another_serial_number_waits_for_three_readings_and_keeps_the_old_descriptor_until_then(
    tmp_path: Path,
) -> None:
    nameless = (replace(two_meters()[0], serial=None),)
    bench = Bench(tmp_path, nameless)
    bench.read({"reflow-1": 500_000}, serials={"reflow-1": "old"})
    cfg = bench.batches()[-1][1].cfg
    for count in (10, 12):
        bench.read({"reflow-1": count}, serials={"reflow-1": "new"})
        assert bench.batches()[-1][1].cfg == cfg
    bench.read({"reflow-1": 15}, serials={"reflow-1": "new"})
    epoch = next(event for _, b in bench.batches() for event in b.events if event.type == "epoch")
    assert (epoch.body["reason"], epoch.body["serial_from"], epoch.body["serial_to"]) == (
        "exchange",
        "old",
        "new",
    )
    assert bench.batches()[-1][1].cfg != cfg
    assert bench.deltas("reflow-1") == [20_000, 30_000]


def with_profile(each: Meter, mark: str) -> Meter:
    """The same meter read through another edition of its profile."""
    return replace(each, profile=replace(each.profile, hash=mark * 43))


def test_another_edition_of_the_profile_closes_under_the_old_descriptor_and_goes_on(bench: Bench) -> None:
    reflow, wave = bench.meters
    bench.read({"reflow-1": 1000})
    old = bench.batches()[-1][1].cfg
    bench.wire((with_profile(reflow, "P"), wave))
    bench.read({"reflow-1": 1004})
    bench.read({"reflow-1": 1009})
    told = [(batch.cfg == old, d.epoch, d.delta) for _, batch in bench.batches() for d in batch.deltas]
    assert told == [(True, 1, 40_000), (False, 1, 50_000)]


@pytest.mark.fault("F19")
def test_a_jump_seen_through_another_profile_is_another_register_and_no_energy(bench: Bench) -> None:
    reflow, wave = bench.meters
    bench.read({"reflow-1": 1000})
    bench.wire((with_profile(reflow, "P"), wave))
    bench.read({"reflow-1": 700_000}, times=3)
    bench.read({"reflow-1": 700_004})
    assert bench.deltas("reflow-1") == [40_000]
    (epoch,) = (event for _, batch in bench.batches() for event in batch.events if event.type == "epoch")
    assert (epoch.body["reason"], epoch.body["last"], epoch.body["first"]) == (
        "fingerprint",
        10_000_000,
        7_000_000_000,
    )


def test_a_fall_seen_through_another_profile_is_settled_by_three_readings(bench: Bench) -> None:
    reflow, wave = bench.meters
    bench.read({"reflow-1": 500_000})
    bench.wire((with_profile(reflow, "P"), wave))
    for count in (3, 5, 9, 11):
        bench.read({"reflow-1": count})
    assert bench.deltas("reflow-1") == [20_000, 40_000, 20_000]


def test_two_meters_that_change_names_are_exchanges_and_nothing_of_the_difference_is_booked(
    bench: Bench,
) -> None:
    """Both serial numbers are in the site file, so each name tells that another meter is behind it now."""
    reflow, wave = bench.meters
    bench.read({"reflow-1": 1000, "wave-1": 500_000})
    bench.wire((replace(wave, id="reflow-1"), replace(reflow, id="wave-1")))
    for turn in range(4):
        bench.read({"reflow-1": 500_001 + turn, "wave-1": 1001 + turn})
    reasons = [e.body["reason"] for _, batch in bench.batches() for e in batch.events if e.type == "epoch"]
    assert reasons == ["exchange", "exchange"]
    assert bench.deltas("reflow-1") == bench.deltas("wave-1") == [10_000] * 3


def test_a_meter_that_comes_back_to_the_site_closes_under_the_descriptor_that_knew_it(bench: Bench) -> None:
    reflow, wave = bench.meters
    bench.read({"reflow-1": 1000, "wave-1": 7})
    old = bench.batches()[-1][1].cfg
    bench.wire((reflow,))
    bench.read({"reflow-1": 1001})
    bench.wire((replace(reflow, shares=(Share("another_step", Fraction(1)),)), wave))
    bench.read({"reflow-1": 1002, "wave-1": 30})
    told = [(batch.cfg, d.delta) for _, batch in bench.batches() for d in batch.deltas if d.meter == "wave-1"]
    assert told == [(old, 230_000)]


def test_what_was_held_is_forgotten_once_the_meter_is_fine_again(bench: Bench) -> None:
    bench.read({"reflow-1": 1000})
    assert bench.read({"reflow-1": 3}).held.keys() == {"reflow-1"}
    assert bench.read({"reflow-1": 1001}).held == {}
    assert bench.read({"reflow-1": 3}).held.keys() == {"reflow-1"}


@pytest.mark.fault("F39")
def test_a_clock_that_was_set_back_holds_no_reading(bench: Bench) -> None:
    bench.read({"reflow-1": 1000})
    bench.clock.now_ms -= 3 * DAY_MS
    for count in (1001, 1002):
        assert bench.read({"reflow-1": count}).held == {}
    assert bench.deltas("reflow-1") == [10_000, 10_000]
