"""Whether a journal may be trusted at a start: one that is an old copy under a changed site file may not."""

from pathlib import Path

import pytest

from agent.service.journal import Standing
from agent.service.supervise import mark_started, mark_stopped
from tests.service.bench import Bench

OWNER = "org/gw01 to carbon.example"


def start(bench: Bench, site: str, applied: str | None, *, answers: bool = True) -> Standing:
    return mark_started(bench.journal, site, owner=OWNER, applied_sha256=applied, platform_answers=answers)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A journal in use under site file `a`."""
    made = Bench(tmp_path)
    assert start(made, "a", None) is Standing.NORMAL
    made.read({"reflow-1": 1000})
    return made


def test_the_same_site_file_needs_no_confirmation_however_the_last_run_ended(bench: Bench) -> None:
    assert start(bench, "a", "a") is Standing.NORMAL
    assert start(bench, "a", None) is Standing.NORMAL


def test_a_changed_site_file_after_a_clean_stop_needs_none(bench: Bench) -> None:
    mark_stopped(bench.journal)
    assert start(bench, "b", "a") is Standing.NORMAL


def test_a_changed_site_file_after_a_crash_has_the_head_confirmed(bench: Bench) -> None:
    assert start(bench, "b", "a") is Standing.CONFIRMING


@pytest.mark.parametrize("site", ["b", "c"])
def test_a_clean_journal_that_is_older_than_the_site_file_applied_last_has_its_head_confirmed(
    bench: Bench, site: str
) -> None:
    """It was stopped well and copied under `a`; since then `b` was in force, whatever the site file is now."""
    mark_stopped(bench.journal)
    assert start(bench, site, "b") is Standing.CONFIRMING


def test_it_goes_on_waiting_after_another_crash(bench: Bench) -> None:
    start(bench, "b", "a")
    bench.restart()
    assert start(bench, "b", "b") is Standing.CONFIRMING


def test_where_no_platform_answers_nobody_is_waited_for(bench: Bench) -> None:
    assert start(bench, "b", "a", answers=False) is Standing.NORMAL


def test_a_journal_that_has_sealed_nothing_has_nothing_to_confirm(tmp_path: Path) -> None:
    fresh = Bench(tmp_path)
    start(fresh, "a", None)
    assert start(fresh, "b", "c") is Standing.NORMAL
