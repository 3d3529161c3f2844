"""The one SQLite connection, behind a port of four methods, so that a simulated disk can crash it.

SQLite's errors end here, sorted by what to do: no room for a write means that nothing was changed and polling goes on;
anything else that comes from the disk ends the process, because after a failed sync only a new process knows what the
file really holds (a failed commit is unknown, not undone).
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from agent.errors import (
    JournalDamaged,
    JournalDoubtful,
    JournalFailed,
    JournalFull,
    JournalHeld,
    JournalUnusable,
    OpeningEnded,
)

Value = int | str | bytes | None
Row = tuple[Value, ...]

_FULL = {sqlite3.SQLITE_FULL}
_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNUSABLE = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM}
"""A sound file behind wrong rights or a read-only mount, or no memory; it must not be replaced by a new one."""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
STATEMENTS = 320
"""More than the journal has: a statement that has to be translated again takes longer than most take to run."""
_NO_TEXT = "Could not decode to UTF-8"
"""What Python says, without a code of SQLite, where the bytes of a text are none."""


_STRETCH = 100_000
"""Steps of SQLite's machine, some milliseconds: so often a long statement asks whether it is to go on."""


class Asked(Protocol):
    """Whatever answers one statement at a time."""

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Run one statement and give all its rows. Raises JournalFull or JournalDamaged."""


class Connection(Asked, Protocol):
    """What the journal needs of a database."""

    def script(self, sql: str) -> None:
        """Run several statements inside the open transaction."""

    def close(self) -> None:
        """Let go of the file."""


class StdlibConnection:
    """The connection over Python's own sqlite3, without its implicit transactions.

    `goes_on` is asked before each statement and during long ones; where it says no they end with OpeningEnded. What is
    rolled back is rolled back all the same.
    """

    def __init__(self, path: Path, goes_on: Callable[[], bool] | None = None) -> None:
        self._path = path
        self._goes_on = goes_on
        try:
            self._connection = sqlite3.connect(
                path,
                isolation_level=None,
                check_same_thread=False,
                timeout=0.2,
                cached_statements=STATEMENTS,
            )
        except sqlite3.Error as error:
            raise self._meaning(error) from error
        if goes_on is not None:
            self._connection.set_progress_handler(lambda: not goes_on(), _STRETCH)

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        if self._goes_on is not None and not self._goes_on() and sql != "ROLLBACK":
            raise self._ended()
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._meaning(error) from error

    def script(self, sql: str) -> None:
        for statement in statements_of(sql):
            self.execute(statement)

    def close(self) -> None:
        try:
            self._connection.close()
        except sqlite3.Error as error:
            raise self._meaning(error) from error

    def _ended(self) -> OpeningEnded:
        return OpeningEnded(f"{self._path}: its opening was broken off")

    def _meaning(self, error: sqlite3.Error) -> Exception:
        exact = getattr(error, "sqlite_errorcode", 0)
        code = exact & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            return self._ended()
        if code in _FULL:
            return JournalFull(f"{self._path}: no room for a write ({error}); free space on this file system")
        if code in _HELD:
            return JournalHeld(
                f"{self._path}: another process has the journal open; only one metering-agent may run on it"
                " (look for it with: systemctl status metering-agent, or pgrep -af metering-agent)"
            )
        if (
            code in _UNUSABLE or exact == sqlite3.SQLITE_IOERR_LOCK
        ):  # a file without write permission has no lock
            return JournalUnusable(
                f"{self._path}: {error}; see that this user may write the file and its folder, and that the file system"
                " is not mounted read-only"
            )
        if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            return error
        if code == sqlite3.SQLITE_IOERR:
            return JournalFailed(f"{self._path}: {error}")
        if code in _DAMAGED or str(error).startswith(_NO_TEXT):
            return JournalDamaged(f"{self._path}: {error}")
        return JournalDoubtful(f"{self._path}: {error}")


def statements_of(script: str) -> list[str]:
    """Split a schema file into its statements; knows comments and triggers through SQLite itself."""
    found, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current.strip())
            current = ""
    return found
