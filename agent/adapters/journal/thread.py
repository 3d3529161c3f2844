"""The journal's own thread, so that a slow disk never slows the bus."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agent.adapters.journal.sqlite import SqliteJournal
from agent.errors import JournalDamaged

T = TypeVar("T")


class Opening:
    """An opening as it is seen from the event loop: whether it moves, and how it is broken off.

    The connection asks `goes_on` in the journal's thread, at each statement and during long ones.
    """

    def __init__(self) -> None:
        self.steps = 0
        """How often it was asked: an opening that moves asks again and again."""
        self._is_to_end = False

    def goes_on(self) -> bool:
        """Whether it is to go on."""
        self.steps += 1
        return not self._is_to_end

    def end(self) -> None:
        """It is to end, at the next step, with OpeningEnded."""
        self._is_to_end = True


class JournalThread:
    """Runs pieces of work on the journal, one after the other, in a thread of its own."""

    def __init__(self, open_it: Callable[[], SqliteJournal]) -> None:
        """`open_it` is called in the thread; its errors come out of `open`."""
        self._open_it = open_it
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._journal: SqliteJournal | None = None
        self._failure: JournalDamaged | None = None

    async def open(self) -> None:
        """Open the file. Raises JournalDamaged, JournalHeld, OpeningEnded or ConfigError."""
        self._journal = await asyncio.get_running_loop().run_in_executor(self._thread, self._open_it)

    async def run(self, work: Callable[[SqliteJournal], T]) -> T:
        """Do the work in the thread; work that was begun is always finished, also when the caller is cancelled.

        Once a piece of work has met damage every later one fails with the same, whoever asks: so the process ends and
        the next start judges the file, also where the first to hear of it was a question on the control socket that
        nobody waited for. After a failure of the disk what this process reads may be in the page cache only, and gone
        with the power.
        """
        journal = self._journal
        if journal is None:
            raise RuntimeError("the journal is not open")
        doing = asyncio.get_running_loop().run_in_executor(self._thread, self._do, work, journal)
        doing.add_done_callback(_heard)
        return await asyncio.shield(doing)

    def _do(self, work: Callable[[SqliteJournal], T], journal: SqliteJournal) -> T:
        """In the thread: the work, and what it failed with."""
        if self._failure is not None:
            raise self._failure
        try:
            return work(journal)
        except JournalDamaged as error:
            self._failure = error
            raise

    async def close(self) -> None:
        """Finish what was begun and let go of the file."""
        journal, self._journal = self._journal, None
        if journal is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, journal.close)
        self._thread.shutdown(wait=True)


def _heard(done: "asyncio.Future[T]") -> None:
    """A failure that nobody waits for any more is remembered here, and no news for the event loop."""
    if not done.cancelled():
        done.exception()
