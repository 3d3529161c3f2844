"""The platform's SQLite file: opened by one writer, read by anybody.

WAL with `synchronous=FULL`: an acknowledgement leaves only after its commit is on the disk. One process writes, through
one connection. Questions (`totals`, `gaps`, `report`) may be asked while it runs, through connections that are opened
read-only; the WAL-reset flaw of SQLite before 3.51.3 needs two connections that write or checkpoint, and a read-only
one does neither. (The agent's journal is stricter, because a gateway is harder to visit than a server.)
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Self

from agent.errors import ConfigError

SCHEMAS = ("schema.sql", "schema_0002.sql", "schema_0003.sql", "schema_0004.sql", "schema_0005.sql")
"""Each raises the version by one; a store of an earlier version is brought forward by whoever opens it for writing."""
SCHEMA_VERSION = len(SCHEMAS)

Row = tuple[Any, ...]


class Store:
    """A connection to the platform's file; see `Store.create` and `Store.read`."""

    def __init__(self, connection: sqlite3.Connection, lock: int | None = None) -> None:
        self._connection = connection
        self._lock = lock

    @classmethod
    def create(cls, path: Path | str) -> Self:
        """Open for writing, and make the file if it is not there; `":memory:"` for a world that leaves no trace.

        Raises:
            ConfigError: not a platform's file, written by a newer version, or in use by another writer.
        """
        lock = None if str(path) == ":memory:" else _locked(Path(path))
        try:
            connection = sqlite3.connect(str(path), isolation_level=None, timeout=5, check_same_thread=False)
            store = cls(connection, lock)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-32768"):
                connection.execute(f"PRAGMA {pragma}")
            store._migrate(path)
        except sqlite3.Error as error:
            raise ConfigError.of(
                path, f"cannot be opened: {error}", "name a file that a platform has written"
            ) from error
        return store

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Open for questions only, also while the platform runs.

        Raises:
            ConfigError: there is no such file, or it is not a platform's.
        """
        try:
            connection = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True, timeout=5)
            connection.execute("PRAGMA query_only=ON")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise ConfigError.of(
                path, f"cannot be read: {error}", "name the file given to `platform serve`"
            ) from error
        if version != SCHEMA_VERSION:
            raise ConfigError.of(
                path, f"is of version {version}, not {SCHEMA_VERSION}", "use the matching release"
            )
        return cls(connection)

    @classmethod
    def of_image(cls, image: bytes) -> Self:
        """A store in memory, as it was when its image was taken."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.deserialize(image)
        connection.execute("PRAGMA foreign_keys=ON")
        return cls(connection)

    def image(self) -> bytes:
        """A copy of everything, for a backup."""
        return self._connection.serialize()

    def _migrate(self, path: Path | str) -> None:
        version = self.one("PRAGMA user_version")[0]
        if version > SCHEMA_VERSION:
            raise ConfigError.of(
                path, f"is of version {version}, not {SCHEMA_VERSION}", "use the matching release"
            )
        for number, name in enumerate(SCHEMAS[version:], version + 1):
            schema = resources.files("simulators.platform").joinpath(name).read_text("utf-8")
            self._connection.executescript(f"BEGIN;{schema};PRAGMA user_version={number};COMMIT;")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All questions of the block see the store as it is now, also while a platform writes."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; what it holds is on the disk when the block has ended."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of a transaction that can fail alone."""
        self._connection.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK TO part")
            self._connection.execute("RELEASE part")
            raise
        self._connection.execute("RELEASE part")

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of a query."""
        return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, values: Sequence[object] = ()) -> Row:
        """The only row of a query that always has one."""
        row: Row = self._connection.execute(sql, values).fetchone()
        return row

    def first(self, sql: str, values: Sequence[object] = ()) -> Row | None:
        """The first row, None if there is none."""
        row: Row | None = self._connection.execute(sql, values).fetchone()
        return row

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Execute one statement; returns the id of the row it inserted, if it inserted one."""
        return self._connection.execute(sql, values).lastrowid or 0

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute one statement for every row."""
        self._connection.executemany(sql, rows)

    def close(self) -> None:
        """Close the file and let another writer in."""
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(path: Path) -> int:
    """Become the file's only writer, until the descriptor is closed or the process ends."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError.of(
            path, f"cannot be written: {error.strerror}", "choose a folder this user may write"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise ConfigError.of(
            path, "is in use by another platform", "stop it first, or name another store"
        ) from None
    return lock
