"""All of the journal is judged while the agent runs: piece by piece, whatever was written long ago, and said."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from agent.adapters.journal import SqliteJournal, inspect
from agent.errors import JournalDamaged
from agent.reporting.chain import ChainHead
from agent.service.inspecting import AGAIN_S, FIRST_S, Inspector, Place
from agent.service.journal import Journal
from tests.service.bench import Bench, HandClock

T = TypeVar("T")
TURNS = 150


@dataclass
class Storage:
    """The journal's thread without a thread; counts what it was asked for."""

    journal: SqliteJournal
    pieces: int = 0

    async def run(self, work: Callable[[Journal], T]) -> T:
        self.pieces += 1
        return work(self.journal)


@dataclass(slots=True)
class EndOfTime(Exception):
    """The test has seen enough."""


@dataclass(slots=True)
class ShortLife(HandClock):
    """Ends the life of who sleeps beyond a time."""

    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if sum(self.slept) > 2 * AGAIN_S:
            raise EndOfTime
        self.now_ms += int(seconds * 1000)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A day's beginning; most of it acknowledged, the oldest purged."""
    bench = Bench(tmp_path)
    for turn in range(TURNS):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 2_000 + 2 * turn})
        if turn == TURNS - 20:
            bench.acknowledge(bench.journal.state().head, number=1)
    with bench.journal.transaction():
        assert bench.journal.purge(stored_before_ms=1 << 60)
    return bench


def inspector_of(bench: Bench, clock: ShortLife) -> tuple[Inspector, Storage]:
    storage = Storage(bench.journal)
    return Inspector(storage, inspect, clock), storage


async def test_a_sound_journal_is_read_some_hours_after_the_start_and_again_each_week_and_that_is_said(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = ShortLife()
    inspector, storage = inspector_of(bench, clock)
    with pytest.raises(EndOfTime):
        await inspector.run()
    assert clock.slept[0] == FIRST_S and clock.slept.count(AGAIN_S) == 2
    assert storage.pieces > 2 * 10, "in pieces, twice"
    said = [record for record in caplog.records if record.getMessage().endswith("is sound")]
    assert len(said) == 2
    assert inspector.sound_ms == clock.now_ms, "the second time, and then it slept"


@pytest.mark.fault("F53")
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE cuts SET data = CAST(substr(data, 1, 30) || x'7b' || substr(data, 32) AS BLOB)"
        " WHERE id = (SELECT id FROM cuts ORDER BY id LIMIT 1 OFFSET 70)",
        "UPDATE texts SET jws = CAST(substr(jws, 1, 90) || x'7b' || substr(jws, 92) AS BLOB) WHERE ordinal = 140",
        "UPDATE batches SET prev = substr(prev, 2) || 'A' WHERE ordinal = 20",
        "UPDATE batches SET hash = substr(hash, 2) || 'A' WHERE ordinal = 65",
        "UPDATE state SET clean = 7",
        "UPDATE gates SET opened_milliwh = coalesce(opened_milliwh, 0) + 4096",
        "UPDATE acknowledgements SET stored_ms = stored_ms + 1",
        "UPDATE descriptors SET jws = CAST(substr(jws, 1, 90) || x'7b' || substr(jws, 92) AS BLOB)",
    ],
)
async def test_what_rotted_long_ago_ends_the_agent(bench: Bench, sql: str) -> None:
    """Its next start moves the journal aside and salvages it."""
    inspector, _ = inspector_of(bench, ShortLife())
    bench.journal.ask("PRAGMA ignore_check_constraints = ON")
    bench.journal.ask(sql)
    bench.journal.ask("PRAGMA ignore_check_constraints = OFF")
    with pytest.raises(JournalDamaged):
        await inspector.whole()
    assert inspector.sound_ms is None


@pytest.mark.fault("F53")
async def test_a_batch_that_its_number_does_not_lead_to_ends_the_agent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a torn page of an index would have it: the platform would name it, and it would seem to be unknown."""
    found = SqliteJournal.ordinal_of

    def torn(journal: SqliteJournal, head: ChainHead) -> int | None:
        return None if head.seq == 65 else found(journal, head)

    monkeypatch.setattr(SqliteJournal, "ordinal_of", torn)
    inspector, _ = inspector_of(bench, ShortLife())
    with pytest.raises(JournalDamaged, match="/65 is not found by its number"):
        await inspector.whole()


async def test_a_piece_is_small(bench: Bench) -> None:
    place: Place | None = Place()
    parts = []
    while place is not None:
        parts.append(place.part)
        place = inspect(bench.journal, place)
    assert parts == sorted(parts) and set(parts) == {0, 1, 2}
    assert parts.count(2) >= TURNS // 64
