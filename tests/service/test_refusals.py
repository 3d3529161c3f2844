"""A meter that is sick for months fills no journal: one event an hour and reason, and every refusal is counted."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import JournalFull
from agent.reporting.event import Event
from agent.service.refusals import TELL_MS
from tests.service.bench import MINUTE_MS, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.read({"reflow-1": 500_000, "wave-1": 7})
    return made


def refusals(bench: Bench) -> list[Event]:
    return [event for _, batch in bench.batches() for event in batch.events if event.type == "refused"]


def counts(bench: Bench) -> list[int]:
    return [event.integer("count") for event in refusals(bench)]


def falls(bench: Bench, times: int) -> None:
    """So many falls that do not agree with one another, so that none of them is evidence."""
    for turn in range(times):
        bench.read({"reflow-1": 400_000 - 100 * turn})


def test_the_first_refusal_is_told_at_once_and_the_rest_of_the_hour_in_one(bench: Bench) -> None:
    falls(bench, 60)
    assert counts(bench) == [1]
    falls(bench, 1)
    assert counts(bench) == [1, 60]
    falls(bench, 120)
    assert counts(bench) == [1, 60, 60, 60]


def test_each_meter_and_each_reason_has_its_own_first_event(bench: Bench) -> None:
    for _ in range(3):
        bench.read({"reflow-1": 400_000, "wave-1": 3}, serials={"wave-1": "999"})
        bench.read({"reflow-1": 999_000})
    found = Counter((event.text("meter"), event.text("reason").split()[0]) for event in refusals(bench))
    assert found == {("reflow-1", "fall:"): 1, ("reflow-1", "rise:"): 1, ("wave-1", "serial"): 1}


def test_reasons_that_differ_in_figures_only_are_one(bench: Bench) -> None:
    for number in range(20):
        bench.read({"reflow-1": 500_000}, serials={"reflow-1": f"9{number}"})
    assert counts(bench) == [1]


def test_what_was_refused_until_the_meter_recovered_is_told_when_the_hour_is_over(bench: Bench) -> None:
    falls(bench, 10)
    for minute in range(60):
        bench.read({"reflow-1": 500_000 + minute})
    assert counts(bench) == [1, 9]
    for minute in range(120):
        bench.read({"reflow-1": 500_060 + minute})
    assert counts(bench) == [1, 9]
    falls(bench, 1)
    assert counts(bench) == [1, 9, 1]


def test_a_stop_tells_what_is_left(bench: Bench) -> None:
    falls(bench, 5)
    bench.closer.close(bench.journal, replace(bench.cut_of({"reflow-1": 500_001}), is_last=True))
    assert counts(bench) == [1, 4]


def test_a_clock_that_was_set_back_holds_no_count_for_long(bench: Bench) -> None:
    bench.clock.boot = "one"
    bench.read({"reflow-1": 500_001})
    falls(bench, 3)
    bench.clock.now_ms -= 30 * TELL_MS
    falls(bench, 1)
    assert counts(bench) == [1, 3]


def test_a_cut_that_could_not_be_written_is_forgotten_with_its_count(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise JournalFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "append_batch", full)
        with pytest.raises(JournalFull):
            falls(bench, 1)
    falls(bench, 1)
    assert counts(bench) == [1]


def test_a_day_of_a_sick_meter_costs_two_dozen_events(bench: Bench) -> None:
    falls(bench, 24 * 60)
    bench.clock.now_ms += TELL_MS
    bench.read({"reflow-1": 500_001})
    assert len(refusals(bench)) <= 25
    assert sum(counts(bench)) == 24 * 60
    assert bench.clock.now_ms % MINUTE_MS == 0
