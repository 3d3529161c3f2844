"""A restored chain says of every point what would have been said if nothing had happened."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from agent.metering.interval import DAY_MS
from agent.metering.plant import Share
from agent.reporting.acknowledgement import MeterHead
from agent.reporting.batch import Batch, Delta
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Assembly, Descriptor
from agent.reporting.envelope import DESCRIPTOR, open_sealed
from agent.service.acknowledge import Outcome
from tests.service.bench import MINUTE_MS, Bench, two_meters, with_ratio
from tests.service.gates import epochs, read

REFUSED = ChainHead("01ARZ3NDEKTSV4RRFFQ69G5FAV", 9, "x" * 43)


def opened(path: Path) -> tuple[Bench, dict[str, MeterHead]]:
    """A bench whose two meters were read twice, and what a platform that has all of that says of them."""
    bench = Bench(path)
    bench.read({"reflow-1": 1000, "wave-1": 500})
    bench.read({"reflow-1": 1010, "wave-1": 505})
    return bench, {meter.id: bench.meter_head(meter.id) for meter in bench.meters}


def restore(bench: Bench, said: dict[str, MeterHead], number: int = 100) -> list[Batch]:
    """The platform's head is one that cannot be followed; gives the batches of the new chain."""
    assert bench.acknowledge(REFUSED, number=number) is Outcome.ASKING
    assert bench.acknowledge(REFUSED, number=number + 1, heads=said, session="s") is Outcome.RESTORED
    return [batch for _, batch in bench.batches()]


def maps_of(bench: Bench, batches: list[Batch]) -> dict[str, Descriptor]:
    """The descriptors that the chain carries, each by its hash, and checks that each comes before it is used."""
    assembly, found = Assembly(), {}
    for batch in batches:
        for event in batch.events:
            if event.type == "descriptor" and (jws := assembly.add(event)) is not None:
                kept = open_sealed(jws, DESCRIPTOR, bench.keys)
                found[kept.hash] = Descriptor.from_payload(kept.payload)
        assert batch.cfg in found
    assert batches[0].prev == batches[0].cfg
    return found


def deltas_of(batches: list[Batch], meter: str) -> list[tuple[Delta, str]]:
    return [(delta, batch.cfg) for batch in batches for delta in batch.deltas if delta.meter == meter]


def test_a_meter_that_has_left_the_site_is_told_under_the_descriptor_that_knew_it(tmp_path: Path) -> None:
    bench, said = opened(tmp_path)
    bench.read({"reflow-1": 1020, "wave-1": 550})
    bench.wire(bench.meters[:1])
    bench.read({"reflow-1": 1030})
    batches = restore(bench, said)
    maps = maps_of(bench, batches)
    assert [delta.delta for delta, _ in deltas_of(batches, "wave-1")] == [45 * 10_000]
    assert [delta.delta for delta, _ in deltas_of(batches, "reflow-1")] == [100_000, 100_000]
    for delta, cfg in (*deltas_of(batches, "wave-1"), *deltas_of(batches, "reflow-1")):
        assert delta.meter in maps[cfg].by_meter()
    revs = [maps[batch.cfg].rev for batch in batches]
    assert revs == sorted(revs) and len(maps) == 2


@pytest.mark.fault("F81")
def test_energy_that_was_used_before_a_change_of_step_stays_with_the_old_step(tmp_path: Path) -> None:
    bench, said = opened(tmp_path)
    reflow, wave = bench.meters
    bench.read({"reflow-1": 1020, "wave-1": 510})
    bench.wire((replace(reflow, shares=(Share("another_step", Fraction(1)),)), wave))
    bench.read({"reflow-1": 1050, "wave-1": 515})
    bench.read({"reflow-1": 1055, "wave-1": 520})
    batches = restore(bench, said)
    maps = maps_of(bench, batches)
    told = deltas_of(batches, "reflow-1")
    assert [(delta.step, delta.delta) for delta, _ in told] == [
        (reflow.step, 100_000),
        (reflow.step, 300_000),
        ("another_step", 50_000),
    ]
    assert all(delta.step == maps[cfg].by_meter()["reflow-1"].step for delta, cfg in told)


def test_a_change_of_ratio_is_told_with_the_ratio_of_each_side(tmp_path: Path) -> None:
    reflow, wave = two_meters()
    bench = Bench(tmp_path, (with_ratio(reflow, "10"), wave))
    bench.read({"reflow-1": 100})
    said = {"reflow-1": bench.meter_head("reflow-1")}
    bench.read({"reflow-1": 103})
    bench.wire((with_ratio(reflow, "20"), wave))
    bench.read({"reflow-1": 107})
    bench.read({"reflow-1": 108})
    batches = restore(bench, said)
    maps = maps_of(bench, batches)
    told = deltas_of(batches, "reflow-1")
    assert [(delta.epoch, delta.n, delta.delta) for delta, _ in told] == [
        (1, 1, 300_000),
        (1, 2, 400_000),
        (2, 1, 200_000),
    ]
    ratios = [maps[cfg].by_meter()["reflow-1"] for _, cfg in told]
    per_count = [Fraction(each.num, each.den) for each in ratios]
    assert per_count == [100_000, 100_000, 200_000]


@pytest.mark.fault("F39")
def test_points_are_told_in_the_order_in_which_they_were_read_also_after_the_clock_was_set_back(
    tmp_path: Path,
) -> None:
    bench, said = opened(tmp_path)
    bench.clock.now_ms -= 60 * MINUTE_MS
    for count in (1011, 1013, 1016):
        bench.read({"reflow-1": count})
    told = deltas_of(restore(bench, said), "reflow-1")
    assert [delta.delta for delta, _ in told] == [10_000, 20_000, 30_000]


def test_a_balance_closes_every_day_of_a_restored_chain(tmp_path: Path) -> None:
    bench, said = opened(tmp_path)
    count = 1010
    midnight = (bench.clock.now_ms // DAY_MS + 1) * DAY_MS
    for day in range(3):
        bench.clock.now_ms = midnight + day * DAY_MS - 2 * MINUTE_MS
        for _ in range(3):
            count += 5
            bench.read({"reflow-1": count})
    batches = restore(bench, said)
    balances = [event for batch in batches for event in batch.events if event.type == "balance"]
    days = [(event.integer("n_first"), event.integer("n_last"), event.integer("sum")) for event in balances]
    assert days == [(2, 3, 100_000), (4, 6, 150_000), (7, 9, 150_000)]
    told = [delta for delta, _ in deltas_of(batches, "reflow-1")]
    for event, (first, last, total) in zip(balances, days, strict=True):
        run = [delta for delta in told if first <= delta.n <= last]
        assert sum(delta.delta for delta in run) == total
        assert (event.integer("reg_first"), event.integer("reg_last")) == (run[0].reg_start, run[-1].reg_end)


def test_a_fall_right_after_a_restore_is_held_like_any_other(tmp_path: Path) -> None:
    """One zero of a meter that boots must not become an opening register from which all it ever counted is booked."""
    _, said = opened(tmp_path)
    fresh = Bench(tmp_path, name="fresh.db")
    restore(fresh, said)
    closed = fresh.read({"reflow-1": 0})
    assert "fall" in closed.held["reflow-1"]
    fresh.read({"reflow-1": 1011}, times=3)
    assert fresh.deltas("reflow-1") == [10_000]


def test_a_jump_right_after_a_restore_is_read_again_like_any_other(tmp_path: Path) -> None:
    bench, said = opened(tmp_path)
    fresh = Bench(tmp_path, clock=bench.clock, name="fresh.db")
    restore(fresh, said)
    cut = fresh.cut_of({"reflow-1": 900_000})
    assert fresh.closer.to_read_again(fresh.journal, cut).meters == {"reflow-1"}
    fresh.closer.close(fresh.journal, cut)
    assert fresh.deltas("reflow-1") == []


@pytest.mark.fault("F20", "F56")
def test_a_register_that_trembles_below_the_position_while_a_new_journal_waits_opens_no_epoch(
    tmp_path: Path,
) -> None:
    """The new journal does not know the position yet and believes what it reads (scenario clone, seed 311)."""
    bench, said = opened(tmp_path)
    fresh = Bench(tmp_path, clock=bench.clock, name="fresh.db")
    there = said["reflow-1"].register // 10_000
    fresh.read({"reflow-1": there - 1}, serials={"reflow-1": "100"}, times=3)
    restore(fresh, said)
    fresh.read({"reflow-1": there + 5}, serials={"reflow-1": "100"})
    assert sum(fresh.deltas("reflow-1")) == 50_000
    assert not [event for _, batch in fresh.batches() for event in batch.events if event.type == "epoch"]


@pytest.mark.parametrize("serial", ["100", None])
def test_three_readings_of_a_fall_after_a_restore_open_an_epoch(tmp_path: Path, serial: str | None) -> None:
    _, said = opened(tmp_path)
    fresh = Bench(tmp_path, name="fresh.db")
    restore(fresh, {id: replace(head, serial=serial) for id, head in said.items()})
    for count in (3, 5, 9):
        fresh.read({"reflow-1": count})
    epochs = [event for _, batch in fresh.batches() for event in batch.events if event.type == "epoch"]
    assert [event.body["reason"] for event in epochs] == ["restore"]
    assert sum(fresh.deltas("reflow-1")) == 60_000


@pytest.mark.fault("F39", "F55")
@pytest.mark.parametrize(("flags", "is_bounded"), [((), True), (("clock",), False), (None, True)])
def test_a_position_that_was_labelled_by_a_clock_without_the_time_bounds_no_hole(
    tmp_path: Path, flags: tuple[str, ...] | None, is_bounded: bool
) -> None:
    """Its clock was ten minutes fast and then lost with its journal; the meter was exchanged (seed 2090)."""
    bench, said = opened(tmp_path)
    fresh = Bench(tmp_path, clock=bench.clock, name="fresh.db")
    there = replace(said["reflow-1"], q=flags, end_ms=bench.clock.now_ms - 1000)
    restore(fresh, {**said, "reflow-1": replace(there, serial="another")}, number=fresh.clock.now_ms)
    fresh.clock.now_ms += 1000
    for _ in range(3):
        fresh.read({"reflow-1": 7})
    holes = [
        event.body["bound"]
        for _, batch in fresh.batches()
        for event in batch.events
        if event.type == "epoch" and event.body["meter"] == "reflow-1"
    ]
    assert len(holes) == 1
    assert (holes[0] is not None) == is_bounded


@pytest.mark.fault("F16", "F55")
def test_a_doubt_of_an_old_copy_opens_no_epoch_before_the_position(tmp_path: Path) -> None:
    """The copy had two readings in doubt; what they showed the platform has booked since (seed 2074)."""
    bench, said = opened(tmp_path)
    for count in (3, 5):
        bench.read({"reflow-1": count})
    assert bench.journal.doubts()["reflow-1"]
    there = replace(said["reflow-1"], epoch=2, n=4, register=90_000)
    restore(bench, {**said, "reflow-1": there}, number=bench.clock.now_ms)
    assert not bench.journal.doubts().get("reflow-1")
    bench.read({"reflow-1": 11})
    assert bench.deltas("reflow-1")[-1] == 20_000


@pytest.mark.fault("F27", "F55")
@pytest.mark.parametrize(("epoch", "is_held"), [(1, True), (2, False)])
def test_a_setting_that_an_old_copy_remembers_of_an_earlier_epoch_is_no_other_one(
    tmp_path: Path, epoch: int, is_held: bool
) -> None:
    """A write-ahead log was deleted, and with it that a ratio had been set right (world seed 15983)."""
    bench, said = opened(tmp_path)
    read(bench, 1011, fingerprint=(("ct_ratio", (100,)),))
    bench.clock.now_ms += MINUTE_MS
    there = replace(said["reflow-1"], epoch=epoch, n=9, register=10_170_000, end_ms=bench.clock.now_ms)
    restore(bench, {**said, "reflow-1": there}, number=bench.clock.now_ms)
    for count in (1020, 1021, 1022):
        closed = read(bench, count, fingerprint=(("ct_ratio", (40,)),))
        assert ("reflow-1" in closed.held) is (is_held and count < 1022)
    assert [reason for reason, _, _ in epochs(bench)] == ["restore"] * is_held
    assert "reflow-1" in read(bench, 1023, fingerprint=(("ct_ratio", (100,)),)).held


@pytest.mark.fault("F55", "F56")
@pytest.mark.parametrize(("last", "is_epoch"), [(1030, False), (1015, True)])
def test_an_epoch_that_was_opened_behind_an_old_word_is_none_behind_a_newer_one(
    tmp_path: Path, last: int, is_epoch: bool
) -> None:
    """A person brought one word, and then another; in between a register may have been set back."""
    bench, said = opened(tmp_path)
    bench.read({"reflow-1": 1020, "wave-1": 510})
    with bench.journal.transaction():
        head = bench.journal.heads()["reflow-1"]
        stranger = replace(head.basis, serial=None)
        bench.journal.save_head(replace(head, basis=stranger, restored=True))
    for turn in range(3):
        bench.read({"reflow-1": last + turn, "wave-1": 515 + turn})
    assert bench.journal.heads()["reflow-1"].epoch == 2
    batches = restore(bench, said)
    told = [event for batch in batches for event in batch.events if event.type == "epoch"]
    assert bool(told) is is_epoch
    if not is_epoch:
        assert sum(delta.delta for delta, _ in deltas_of(batches, "reflow-1")) == (last + 2 - 1010) * 10_000


@pytest.mark.fault("F56", "F65")
@pytest.mark.parametrize("epoch", [1, 4])
def test_balances_list_no_epoch_of_a_chain_that_was_given_up(tmp_path: Path, epoch: int) -> None:
    """The position is the register after the fall, by another journal: it never saw one, or counted others before."""
    bench, _ = opened(tmp_path)
    for count in (3, 4, 5):
        bench.read({"reflow-1": count, "wave-1": 510})
    assert bench.journal.heads()["reflow-1"].epoch == 2
    assert [each.body["epoch_to"] for each in bench.journal.epochs_noted("reflow-1")] == [2]
    said = {meter.id: replace(bench.meter_head(meter.id), epoch=epoch, n=9) for meter in bench.meters}
    restore(bench, said)
    assert bench.journal.epochs_noted("reflow-1") == []
    for count in (6, 1, 2, 3):
        bench.read({"reflow-1": count, "wave-1": 520})
    (noted,) = bench.journal.epochs_noted("reflow-1")
    assert (noted.body["epoch_from"], noted.body["epoch_to"], noted.body["last"]) == (
        epoch,
        epoch + 1,
        60_000,
    )


@pytest.mark.fault("F15", "F56")
def test_a_fall_behind_an_old_word_is_no_rollover_behind_a_newer_one(tmp_path: Path) -> None:
    """Three boundaries agreed on an epoch when nobody could say that it was the same meter; so it stays one."""
    bench = Bench(tmp_path)
    for count in (999_970, 999_980):
        bench.read({"reflow-1": count, "wave-1": 500})
    said = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    bench.read({"reflow-1": 999_990, "wave-1": 510})
    with bench.journal.transaction():
        head = bench.journal.heads()["reflow-1"]
        bench.journal.save_head(replace(head, basis=replace(head.basis, serial=None), restored=True))
    for count in (5, 6, 7):
        bench.read({"reflow-1": count, "wave-1": 515})
    assert bench.journal.heads()["reflow-1"].epoch == 2
    told = [event for batch in restore(bench, said) for event in batch.events if event.type == "epoch"]
    assert [event.body["first"] for event in told] == [50_000]


@pytest.mark.fault("F56", "F65")
@pytest.mark.parametrize(("epoch", "listed"), [(1, []), (2, [2])])
def test_balances_go_on_listing_what_is_told_up_to_the_platforms_word(
    tmp_path: Path, epoch: int, listed: list[int]
) -> None:
    """The head is one of ours: epochs up to the platform's are those that it knows, or has lost."""
    bench, _ = opened(tmp_path)
    for count in (3, 4, 5):
        bench.read({"reflow-1": count, "wave-1": 510})
    head, now_ms = bench.journal.state().head, bench.clock.now_ms
    said = {meter.id: replace(bench.meter_head(meter.id), epoch=epoch, n=9) for meter in bench.meters}
    with bench.journal.transaction():
        bench.restorer.open_chain(bench.journal, head, said, "a test", now_ms, now_ms)
    assert [each.body["epoch_to"] for each in bench.journal.epochs_noted("reflow-1")] == listed
