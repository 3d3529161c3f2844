"""A slow disk slows nobody but the journal."""

import asyncio
import os
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from agent.adapters.journal import (
    JournalThread,
    Opening,
    Place,
    StdlibConnection,
    note_damage,
    open_journal,
    open_or_replace,
)
from agent.errors import JournalDamaged, JournalDoubtful, JournalFailed, JournalFull, OpeningEnded
from tests.service.bench import Bench
from tests.support.eventually import eventually

PATIENCE_S = 30
BEAT_S = 0.01


@pytest.mark.fault("F50")
async def test_a_sync_that_takes_long_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    """The lines are read on the event loop; its beats go on while a commit waits for the disk."""
    storage = JournalThread(lambda: open_journal(tmp_path / "j.db"))
    await storage.open()
    synced = threading.Event()
    slow = asyncio.create_task(storage.run(lambda _: synced.wait(PATIENCE_S)))
    for _ in range(20):
        await asyncio.sleep(BEAT_S)
        assert not slow.done(), "the beats went on only after the sync"
    synced.set()
    assert await slow
    await storage.close()


@pytest.mark.fault("F48", "F49")
async def test_once_the_disk_has_failed_nothing_more_is_read_or_written(tmp_path: Path) -> None:
    """Also where nobody waits for the piece of work that failed: what is read may not be on the disk (seed 2413)."""

    def fail(_: object) -> None:
        raise JournalFailed("a sync failed")

    storage = JournalThread(lambda: open_journal(tmp_path / "j.db"))
    await storage.open()
    assert await storage.run(lambda journal: journal.last_ordinal()) == 0
    hasty = asyncio.create_task(storage.run(fail))
    await asyncio.sleep(0)
    hasty.cancel()
    with pytest.raises(JournalFailed, match="a sync failed"):
        await storage.run(lambda journal: journal.last_ordinal())
    await storage.close()


@pytest.mark.fault("F53", "F54")
@pytest.mark.parametrize("error", [JournalDamaged, JournalDoubtful])
async def test_damage_that_only_a_question_met_ends_the_work_too(
    tmp_path: Path, error: type[JournalDamaged]
) -> None:
    """Else it would be forgotten until the weekly look, and the next start would judge nothing."""

    def rotten(_: object) -> None:
        raise error("a stored message cannot be read")

    storage = JournalThread(lambda: open_journal(tmp_path / "j.db"))
    await storage.open()
    with pytest.raises(error):
        await storage.run(rotten)
    with pytest.raises(error, match="a stored message cannot be read"):
        await storage.run(lambda journal: journal.last_ordinal())
    await storage.close()


async def test_what_fails_for_another_reason_hinders_nothing_else(tmp_path: Path) -> None:
    def no_room(_: object) -> None:
        raise JournalFull("no room for a write")

    storage = JournalThread(lambda: open_journal(tmp_path / "j.db"))
    await storage.open()
    with pytest.raises(JournalFull):
        await storage.run(no_room)
    assert await storage.run(lambda journal: journal.last_ordinal()) == 0
    await storage.close()


@dataclass
class Steps(Opening):
    """Ends the opening at a step."""

    at: int

    def __post_init__(self) -> None:
        super().__init__()

    def goes_on(self) -> bool:
        if self.steps == self.at:
            self.end()
        return super().goes_on()


def a_journal_that_is_said_to_be_damaged(folder: Path, *, rightly: bool) -> None:
    bench = Bench(folder)
    for turn in range(3):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 7})
    if rightly:
        bench.journal.ask("DELETE FROM texts WHERE ordinal = 2")
    bench.journal.close()
    note_damage(Place(folder / "journal.db"), JournalDamaged("a batch"))


@pytest.mark.fault("F54", "F75")
@pytest.mark.parametrize("rightly", [False, True])
async def test_an_opening_may_be_broken_off_at_any_step(tmp_path: Path, rightly: bool) -> None:
    """While it judges and while it replaces; the next one begins it anew, and finds what this one would have."""

    async def opened(folder: Path, at: int) -> tuple[Steps, int, list[str]]:
        steps = Steps(at)
        place = Place(folder / "journal.db", partial(StdlibConnection, goes_on=steps.goes_on))
        storage = JournalThread(lambda: open_or_replace(place, 7).journal)
        try:
            await storage.open()
            kept = await storage.run(lambda journal: len(journal.readings("wave-1", after=None)))
        finally:
            await storage.close()
        return steps, kept, sorted(name for name in os.listdir(folder) if ".damaged" in name)

    whole = tmp_path / "whole"
    whole.mkdir()
    a_journal_that_is_said_to_be_damaged(whole, rightly=rightly)
    steps, kept, aside = await opened(whole, -1)
    assert (kept, aside) == ((2, ["journal.db.damaged-7"]) if rightly else (3, []))
    for at in range(0, steps.steps - 1, steps.steps // 12):
        folder = tmp_path / str(at)
        folder.mkdir()
        a_journal_that_is_said_to_be_damaged(folder, rightly=rightly)
        try:
            await opened(folder, at)
        except OpeningEnded:
            assert (await opened(folder, -1))[1:] == (kept, aside)


@pytest.mark.fault("F54")
async def test_one_long_statement_is_broken_off_too(tmp_path: Path) -> None:
    opening = Opening()
    connection = StdlibConnection(tmp_path / "j.db", opening.goes_on)
    endless = "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t"
    asking = asyncio.create_task(asyncio.to_thread(connection.execute, endless))
    await eventually(lambda: opening.steps >= 5, 60)
    opening.end()
    with pytest.raises(OpeningEnded, match=r"j\.db: its opening was broken off"):
        await asking
    connection.close()
