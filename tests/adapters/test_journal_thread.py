"""A slow disk slows nobody but the journal."""

import asyncio
import time
from pathlib import Path

import pytest

from agent.adapters.journal import JournalThread, open_journal

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
