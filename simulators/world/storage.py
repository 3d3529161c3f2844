"""The journal on the simulated disk: the agent's own SQLite journal, over a connection that the world can crash.

`WorldConnection` says of each error what `agent.adapters.journal.connection` says of it; `InlineStorage` is the
storage port without a thread: the work is done at once, and then the commits' time passes.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import apsw

from agent.adapters.journal import SqliteJournal
from agent.adapters.journal.connection import STATEMENTS, Row, Value, statements_of
from agent.errors import JournalDamaged, JournalDoubtful, JournalFailed, JournalFull, JournalHeld
from agent.service.journal import Journal
from simulators.world.disk import Disk, DiskFile, DiskVfs

T = TypeVar("T")
JOURNAL = Path("/journal.db")


class WorldConnection:
    """`agent.adapters.journal.connection.Connection` over apsw and a simulated disk."""

    def __init__(self, vfs: DiskVfs, path: Path = JOURNAL) -> None:
        self._path = path
        try:
            self._connection = apsw.Connection(str(path), vfs=vfs.name, statementcachesize=STATEMENTS)
        except apsw.Error as error:
            raise self._meaning(error) from error

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Run one statement and give all its rows."""
        try:
            rows: list[Row] = self._connection.execute(sql, tuple(parameters)).fetchall()  # type: ignore[assignment]  # STRICT tables without REAL
            return rows
        except UnicodeDecodeError as error:  # Python's own sqlite3 calls it an operational error
            raise JournalDamaged(f"{self._path}: a text is none: {error}") from error
        except apsw.Error as error:
            raise self._meaning(error) from error

    def script(self, sql: str) -> None:
        """Run several statements inside the open transaction."""
        for statement in statements_of(sql):
            self.execute(statement)

    def close(self) -> None:
        """Let go of the file."""
        try:
            self._connection.close()
        except apsw.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: apsw.Error) -> Exception:
        match error:
            case apsw.FullError():
                return JournalFull(f"{self._path}: no room for a write ({error})")
            case apsw.BusyError() | apsw.LockedError():
                return JournalHeld(f"{self._path}: another process has the journal open")
            case apsw.MisuseError() | apsw.BindingsError():
                return error
            case apsw.IOError() | apsw.CantOpenError():
                return JournalFailed(f"{self._path}: {error}")
            case apsw.CorruptError() | apsw.NotADBError() | apsw.FormatError():
                return JournalDamaged(f"{self._path}: {error}")
        return JournalDoubtful(f"{self._path}: {error}")


class WorldFiles:
    """`agent.adapters.journal.files.Files` on a simulated disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def exists(self, path: Path) -> bool:
        """Whether there is such a file."""
        return str(path) in self._disk.files

    def is_readable(self, path: Path) -> bool:
        """A disk that answers gives every byte, though perhaps another one than was written."""
        self._answer()
        return self.exists(path)

    def move(self, path: Path, to: Path) -> None:
        """Rename a file."""
        self._answer()
        self._disk.rename(str(path), str(to))

    def remove(self, path: Path) -> None:
        """Delete a file if it is there."""
        self._answer()
        self._disk.files.pop(str(path), None)

    def renew(self, path: Path, *, guarded_by: Path) -> None:
        """Put a synced copy in its place; one disk has one process."""
        try:
            self._disk.renew(str(path))
        except apsw.FullError as error:
            raise JournalFull(f"{guarded_by}: {error}") from error
        except apsw.Error as error:
            raise JournalFailed(f"{guarded_by}: {error}") from error

    def reserve(self, path: Path, size: int) -> None:
        """Lay down a file if there is room."""
        if not self._disk.full:
            self._write(path, bytes(size))

    def mark(self, path: Path, text: str) -> None:
        """Write a note."""
        self._write(path, text.encode())

    def marked(self, path: Path) -> str | None:
        """The note, None if there is none."""
        found = self._disk.files.get(str(path))
        return None if found is None else bytes(found.seen).decode()

    def _write(self, path: Path, data: bytes) -> None:
        self._answer()
        self._disk.files.pop(str(path), None)
        file = self._disk.files.setdefault(str(path), DiskFile())
        file.write(0, data)

    def _answer(self) -> None:
        if not self._disk.answers:
            raise JournalFailed("the disk does not answer")


class InlineStorage:
    """`agent.service.journal.Storage`: one piece of work after the other, at once.

    `seen` is shown every result, so that the world can hold what the agent believes against what the platform gets.
    """

    def __init__(self, journal: SqliteJournal, disk: Disk, seen: Callable[[object], None]) -> None:
        self.journal = journal
        self._disk = disk
        self._seen = seen
        self.delay_s = 0.0
        """How slow the disk is at present."""
        self._failure: JournalDamaged | None = None

    async def run(self, work: Callable[[Journal], T]) -> T:
        """Do the work and give its result; its exceptions come through, damage and a failing disk for good."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self._disk.dead:
            raise JournalFailed("the machine has no power")
        if self._failure is not None:
            raise self._failure
        try:
            result = work(self.journal)
        except JournalDamaged as error:
            self._failure = error
            raise
        self._seen(result)
        return result
