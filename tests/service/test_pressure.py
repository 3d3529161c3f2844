"""The rule of disk pressure: what it says, what it never does, and an outage that it has to survive."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.journal import Place, open_or_replace
from agent.errors import JournalFull
from agent.metering.interval import DAY_MS
from agent.service.journal import State, Waiting
from agent.service.pressure import forecast, interval_under_pressure, lengthened, relieve, tend
from tests.adapters.test_journal import batch
from tests.service import outage

MINUTE_MS = 60_000
MB = 1_000_000


def acked_at(state: State, stored_ms: int) -> State:
    return replace(state, acked_at_ms=stored_ms)


def waiting(bytes_: int, *, for_ms: int = DAY_MS, budget: int | None = 20 * MB) -> Waiting:
    return Waiting(bytes_, for_ms, 20_000, bytes_, budget)


@pytest.mark.fault("F46", "F59")
def test_the_set_length_holds_until_half_of_the_budget_is_unacknowledged() -> None:
    assert interval_under_pressure(MINUTE_MS, waiting(10 * MB - 1)) == MINUTE_MS
    assert interval_under_pressure(MINUTE_MS, waiting(10 * MB)) > MINUTE_MS
    assert interval_under_pressure(MINUTE_MS, waiting(10**12, budget=None)) == MINUTE_MS


def test_the_space_left_lasts_three_times_as_long_as_the_outage_and_no_shorter_doubling_would_do() -> None:
    for used in (10 * MB, 15 * MB, 19 * MB):
        for days in (1, 7, 90):
            length = interval_under_pressure(MINUTE_MS, waiting(used, for_ms=days * DAY_MS))
            left = 20 * MB - used
            assert length % MINUTE_MS == 0 and (length // MINUTE_MS).bit_count() == 1
            assert left * length >= 3 * days * DAY_MS * 20_000
            assert length == MINUTE_MS or left * (length // 2) < 3 * days * DAY_MS * 20_000


def test_a_full_budget_still_gives_an_interval() -> None:
    assert interval_under_pressure(MINUTE_MS, waiting(25 * MB)) > DAY_MS


@pytest.mark.fault("F59")
def test_the_forecast_is_what_the_rule_comes_to() -> None:
    lengths = [
        forecast(MINUTE_MS, budget_bytes=20 * MB, interval_bytes=20_000, outage_ms=days * DAY_MS) // MINUTE_MS
        for days in (0, 1, 30, 365)
    ]
    assert lengths[0] == 1 and lengths[1] in (4, 8, 16)
    assert lengths == sorted(lengths)
    assert lengths[2] <= 2 * 1440 and lengths[3] <= 64 * 1440
    plenty = forecast(MINUTE_MS, budget_bytes=1024 * MB, interval_bytes=6_000, outage_ms=30 * DAY_MS)
    assert plenty == MINUTE_MS
    assert lengthened(MINUTE_MS, left_bytes=1, interval_bytes=1, age_ms=0) == MINUTE_MS


@pytest.mark.fault("F46", "F59")
def test_half_a_day_without_a_platform_stays_within_a_small_budget_and_loses_nothing(tmp_path: Path) -> None:
    """`python -m tests.service.outage` does it for thirty days and a hundred meters."""
    said = outage.run(tmp_path, days=0.5, meters=8, budget_bytes=int(4.2 * MB))
    assert said.wrong == ()
    assert said.bytes_max <= 4.2 * MB
    assert 1 < said.length_max_min <= 60
    assert said.length_after_min == 1
    assert said.flagged > 0 and said.ordinary > 0


def test_what_is_counted_as_unacknowledged_is_what_the_file_grows_by(tmp_path: Path) -> None:
    """Within a tenth: the rule is only as good as this figure."""
    bench = outage.bench_of(tmp_path, meters=26, budget_bytes=64 * MB)
    before = bench.journal.waiting().used_bytes
    for turn in range(300):
        bench.read({each.id: 1_000 + turn for each in bench.meters})
    said = bench.journal.waiting()
    grown = said.used_bytes - before
    assert 0.9 * grown <= said.bytes <= 1.1 * grown
    assert 0.9 * grown <= 300 * said.interval_bytes <= 1.15 * grown
    assert said.for_ms == 299 * MINUTE_MS


@pytest.mark.fault("F46")
def test_a_full_disk_gives_up_the_ballast_and_what_is_older_than_seven_days_first(tmp_path: Path) -> None:
    place = Place(tmp_path / "j.db", budget_bytes=64 * MB)
    journal = open_or_replace(place, 0).journal
    ballast = tmp_path / "j.db.ballast"
    assert ballast.stat().st_size >= MB
    with journal.transaction():
        for seq in range(1, 5):
            journal.append_batch(batch(seq))
        journal.mark_stored(batch(2).head, 10 * DAY_MS)
        journal.mark_stored(batch(4).head, 20 * DAY_MS)
        journal.save_state(acked_at(journal.state(), 20 * DAY_MS))
    assert relieve(journal)
    assert not ballast.exists()
    assert [
        each.jws is None for each in journal.batches_between(after_ordinal=0, up_to_ordinal=9, limit=9)
    ] == [
        True,
        True,
        False,
        False,
    ]
    assert not relieve(journal), "nothing is left to give up"
    tend(journal)
    assert ballast.exists()


@pytest.mark.fault("F46")
def test_the_file_never_grows_beyond_its_budget(tmp_path: Path) -> None:
    place = Place(tmp_path / "j.db", budget_bytes=4 * MB)
    journal = open_or_replace(place, 0).journal
    seq = 0
    with pytest.raises(JournalFull):
        while True:
            seq += 1
            with journal.transaction():
                journal.append_batch(batch(seq, size=20_000))
    assert outage.size_of(place) <= 4 * MB
    assert len(journal.queue(after_ordinal=0, limit=1_000)) == seq - 1
