"""The journal's own thread, so that a slow disk never slows the bus."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agent.adapters.journal.sqlite import SqliteJournal

T = TypeVar("T")


class JournalThread:
    """Runs pieces of work on the journal, one after the other, in a thread of its own."""

    def __init__(self, open_it: Callable[[], SqliteJournal]) -> None:
        """`open_it` is called in the thread; its errors come out of `open`."""
        self._open_it = open_it
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._journal: SqliteJournal | None = None

    async def open(self) -> None:
        """Open the file. Raises JournalDamaged, JournalHeld or ConfigError."""
        self._journal = await asyncio.get_running_loop().run_in_executor(self._thread, self._open_it)

    async def run(self, work: Callable[[SqliteJournal], T]) -> T:
        """Do the work in the thread; work that was begun is always finished, also when the caller is cancelled."""
        journal = self._journal
        if journal is None:
            raise RuntimeError("the journal is not open")
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work, journal))

    async def close(self) -> None:
        """Finish what was begun and let go of the file."""
        journal, self._journal = self._journal, None
        if journal is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, journal.close)
        self._thread.shutdown(wait=True)
