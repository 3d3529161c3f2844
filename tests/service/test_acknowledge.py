"""What an acknowledgement may do: release what was sent, ask for it again, or lead to a new chain."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agent.metering.interval import DAY_MS
from agent.reporting.chain import ChainHead
from agent.service.acknowledge import Outcome
from agent.service.journal import Standing
from tests.service.bench import Bench

FOREIGN = ChainHead("01ARZ3NDEKTSV4RRFFQ69G5FAV", 9, "x" * 43)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    for count in range(6):
        made.read({"reflow-1": 1000 + count, "wave-1": 7 * count})
    return made


def heads_of(bench: Bench) -> list[ChainHead]:
    return [head for head, _ in bench.batches()]


def test_the_platforms_head_releases_what_it_covers_and_nothing_more(bench: Bench) -> None:
    sealed = heads_of(bench)
    assert bench.acknowledge(sealed[2], number=1) is Outcome.TAKEN
    assert heads_of(bench) == sealed[3:]
    assert bench.journal.batch(sealed[0]) is not None


@pytest.mark.fault("F74")
def test_an_older_acknowledgement_changes_nothing(bench: Bench) -> None:
    sealed = heads_of(bench)
    bench.acknowledge(sealed[3], number=5)
    assert bench.acknowledge(sealed[1], number=4) is Outcome.STALE
    assert bench.acknowledge(sealed[5], number=5) is Outcome.STALE
    assert heads_of(bench) == sealed[4:]


@pytest.mark.fault("F74", "F85")
@pytest.mark.parametrize("change", [{"hash": "y" * 43}, {"seq": 99}, {"chain": FOREIGN.chain}])
def test_a_head_that_is_not_ours_purges_nothing_and_makes_us_ask(
    bench: Bench, change: dict[str, object]
) -> None:
    sealed = heads_of(bench)
    wrong = replace(sealed[3], **change)  # type: ignore[arg-type]
    assert bench.acknowledge(wrong, number=1) is Outcome.ASKING
    assert bench.journal.state().standing is Standing.ASKING
    assert heads_of(bench) == sealed


def test_while_asking_it_goes_on_sealing_and_a_head_it_can_follow_ends_the_wait(bench: Bench) -> None:
    sealed = heads_of(bench)
    bench.acknowledge(FOREIGN, number=1)
    bench.read({"reflow-1": 1010})
    assert len(heads_of(bench)) == 7
    assert bench.acknowledge(sealed[0], number=2, heads={}, session="somebody else's") is Outcome.WAITING
    assert bench.acknowledge(sealed[0], number=3, heads={}, session="s") is Outcome.TAKEN
    assert bench.journal.state().standing is Standing.NORMAL


@pytest.mark.fault("F85")
def test_purge_waits_for_the_platforms_own_time_and_keeps_the_hash(bench: Bench) -> None:
    sealed = heads_of(bench)
    day = bench.clock.now_ms
    bench.acknowledge(sealed[2], number=1, stored_ms=day)
    bench.clock.now_ms += 400 * DAY_MS
    bench.acknowledge(sealed[3], number=2, stored_ms=day + 89 * DAY_MS)
    assert all(bench.journal.batch(head).jws for head in sealed)  # type: ignore[union-attr]
    bench.acknowledge(sealed[4], number=3, stored_ms=day + 91 * DAY_MS)
    texts = [bench.journal.batch(head).jws for head in sealed]  # type: ignore[union-attr]
    assert [text is None for text in texts] == [True, True, True, False, False, False]


def test_only_a_higher_generation_lowers_the_head_and_then_all_of_it_is_sent_again(bench: Bench) -> None:
    sealed = heads_of(bench)
    bench.acknowledge(sealed[5], number=1)
    assert heads_of(bench) == []
    for number, lower in enumerate((sealed[1], None), 2):
        assert bench.acknowledge(lower, number=number) is Outcome.BACKWARDS
        assert heads_of(bench) == []
        assert bench.journal.state().acked == sealed[5]
    assert bench.acknowledge(sealed[1], number=1, gen=1) is Outcome.TAKEN
    assert heads_of(bench) == sealed[2:]


def test_a_platform_that_holds_nothing_is_sent_everything(bench: Bench) -> None:
    sealed = heads_of(bench)
    bench.acknowledge(sealed[5], number=1)
    assert bench.acknowledge(None, number=1, gen=1) is Outcome.TAKEN
    assert heads_of(bench) == sealed


@pytest.mark.fault("F56")
def test_a_lost_journal_continues_the_platforms_registers_in_a_new_chain(
    bench: Bench, tmp_path: Path
) -> None:
    last = heads_of(bench)[-1]
    said = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    fresh = Bench(tmp_path, clock=bench.clock, dice=bench.dice, name="fresh.db")
    fresh.read({"reflow-1": 1100, "wave-1": 50})
    first_chain = fresh.journal.state().chain
    assert fresh.acknowledge(last, number=1) is Outcome.ASKING
    fresh.read({"reflow-1": 1150, "wave-1": 51})
    assert fresh.acknowledge(last, number=2, heads=said, session="s") is Outcome.RESTORED
    batches = fresh.batches()
    assert batches[0][1].prev_chain == last and batches[0][0].seq == 1
    assert batches[0][0].chain not in (first_chain, last.chain)
    assert {"descriptor", "restart"} <= {event.type for event in batches[0][1].events}
    assert fresh.deltas("reflow-1") == [(1100 - 1005) * 10_000, 50 * 10_000]
    assert [(d.epoch, d.n) for _, b in batches for d in b.deltas if d.meter == "reflow-1"] == [(1, 6), (1, 7)]
    fresh.read({"reflow-1": 1160, "wave-1": 51})
    assert fresh.deltas("reflow-1")[-1] == 100_000


@pytest.mark.fault("F56")
def test_a_lost_journal_without_a_serial_number_declares_the_hole(tmp_path: Path) -> None:
    from tests.service.bench import two_meters

    nameless = (replace(two_meters()[0], serial=None),)
    first = Bench(tmp_path, nameless)
    first.read({"reflow-1": 1000})
    first.read({"reflow-1": 1010})
    last, said = heads_of(first)[-1], {"reflow-1": first.meter_head("reflow-1")}
    fresh = Bench(tmp_path, nameless, clock=first.clock, dice=first.dice, name="fresh.db")
    fresh.read({"reflow-1": 1100})
    assert fresh.acknowledge(last, number=2, heads=said, session="s") is Outcome.RESTORED
    epoch = next(event for event in fresh.batches()[0][1].events if event.type == "epoch")
    assert (epoch.body["last"], epoch.body["first"], epoch.body["reason"]) == (
        10_100_000,
        11_000_000,
        "restore",
    )
    assert fresh.deltas("reflow-1") == []


@pytest.mark.fault("F55")
def test_an_old_copy_of_the_journal_tells_only_what_the_platform_has_not_seen(
    bench: Bench, tmp_path: Path
) -> None:
    bench.acknowledge(heads_of(bench)[-1], number=1)
    bench.journal.close()
    shutil.copy(tmp_path / "journal.db", tmp_path / "copy.db")
    bench.restart()
    for count in (1020, 1030, 1040):
        bench.read({"reflow-1": count, "wave-1": 60})
    last = heads_of(bench)[-1]
    said = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    old = Bench(tmp_path, clock=bench.clock, dice=bench.dice, name="copy.db")
    old.read({"reflow-1": 1055, "wave-1": 61})
    assert old.acknowledge(last, number=7) is Outcome.ASKING
    assert old.acknowledge(last, number=8, heads=said, session="s") is Outcome.RESTORED
    assert old.deltas("reflow-1") == [150_000]
    assert old.batches()[0][1].prev_chain == last


def test_a_refused_chain_is_remembered_and_never_followed(bench: Bench) -> None:
    sealed = heads_of(bench)
    said = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    assert bench.acknowledge(sealed[5], number=1, refused=(sealed[0].chain,)) is Outcome.ASKING
    bench.restart()
    assert bench.acknowledge(sealed[5], number=2, heads=said, session="s") is Outcome.RESTORED
    assert bench.journal.state().chain != sealed[0].chain
    bench.read({"reflow-1": 1006, "wave-1": 36})
    assert bench.deltas("reflow-1") == [10_000]


def test_while_confirming_nothing_is_sealed(bench: Bench) -> None:
    sealed = heads_of(bench)
    with bench.journal.transaction():
        bench.journal.save_state(replace(bench.journal.state(), standing=Standing.CONFIRMING))
    bench.read({"reflow-1": 2000})
    assert heads_of(bench) == sealed
    assert bench.acknowledge(sealed[2], number=1, heads={}, session="s") is Outcome.TAKEN
    bench.read({"reflow-1": 1030, "wave-1": 40})
    assert bench.deltas("reflow-1")[-1] == 250_000
