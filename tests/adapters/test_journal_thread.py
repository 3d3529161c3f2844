"""A slow disk slows nobody but the journal."""

import asyncio
import time
from pathlib import Path

import pytest

from agent.adapters.journal import JournalThread, open_journal
from agent.errors import JournalDamaged, JournalDoubtful, JournalFailed, JournalFull

SYNC_S = 0.6
BEAT_S = 0.01


@pytest.mark.fault("F50")
async def test_a_sync_that_takes_long_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    """The lines are read on the event loop; its beats go on while a commit waits for the disk."""
    storage = JournalThread(lambda: open_journal(tmp_path / "j.db"))
    await storage.open()
    slow = asyncio.create_task(storage.run(lambda _: time.sleep(SYNC_S)))
    gaps = []
    while not slow.done():
        before = time.monotonic()
        await asyncio.sleep(BEAT_S)
        gaps.append(time.monotonic() - before)
    await storage.close()
    assert len(gaps) > 10
    assert sorted(gaps)[len(gaps) // 2] < SYNC_S / 4


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
