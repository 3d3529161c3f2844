"""The cut between poll and close: what it must not forget when the commit does not come."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from agent.errors import JournalFull
from agent.service.boundary import Boundary
from agent.service.journal import Journal, Standing
from tests.service.bench import MINUTE_MS, Bench

T = TypeVar("T")


class Storage:
    """The bench's journal; full or slow when told so."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.full = False
        self.hangs = False

    async def run(self, work: Callable[[Journal], T]) -> T:
        if self.full:
            raise JournalFull("no room")
        if self.hangs:
            await asyncio.Event().wait()
        return work(self.journal)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.read({"reflow-1": 1000})
    return made


@pytest.fixture
def storage(bench: Bench) -> Storage:
    return Storage(bench.journal)


@pytest.fixture
def boundary(bench: Bench, storage: Storage) -> Boundary:
    return Boundary([], bench.closer, storage, bench.clock, MINUTE_MS, sealed=lambda _: None)


def clock_events(bench: Bench) -> int:
    return sum(event.type == "clock" for _, batch in bench.batches() for event in batch.events)


@pytest.mark.fault("F38")
async def test_a_step_of_the_clock_is_said_once_however_often_the_journal_was_full(
    bench: Bench, storage: Storage, boundary: Boundary
) -> None:
    boundary.clock_stepped(5000)
    storage.full = True
    for _ in range(3):
        await boundary.cut(bench.clock.now_ms)
    assert clock_events(bench) == 0
    storage.full = False
    for _ in range(3):
        await boundary.cut(bench.clock.now_ms)
    assert clock_events(bench) == 1


async def test_a_step_of_the_clock_is_said_by_the_last_cut_if_a_stop_cancels_the_one_before(
    bench: Bench, storage: Storage, boundary: Boundary
) -> None:
    boundary.clock_stepped(5000)
    storage.hangs = True
    cut = asyncio.create_task(boundary.cut(bench.clock.now_ms))
    await asyncio.sleep(0)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    storage.hangs = False
    await boundary.cut(bench.clock.now_ms, is_last=True)
    assert clock_events(bench) == 1


async def test_a_step_of_the_clock_waits_until_the_platform_has_confirmed_the_journal(
    bench: Bench, boundary: Boundary
) -> None:
    with bench.journal.transaction():
        bench.journal.save_state(replace(bench.journal.state(), standing=Standing.CONFIRMING))
    boundary.clock_stepped(5000)
    await boundary.cut(bench.clock.now_ms)
    with bench.journal.transaction():
        bench.journal.save_state(replace(bench.journal.state(), standing=Standing.NORMAL))
    await boundary.cut(bench.clock.now_ms)
    assert clock_events(bench) == 1
