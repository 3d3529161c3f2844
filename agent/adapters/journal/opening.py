"""Opening the journal, and what is done where it was not left in good order.

Where it cannot be opened at all because it is damaged, `replacing` puts a new one in its place.

Rules (design, section 8): exclusive locking before WAL, so that there is no shared memory file and a second process is
locked out; `synchronous=FULL`, because with less a power cut forgets batches that were already sent; numbered
migrations with `user_version`, each in one transaction.

After a stop that was not in good order the write-ahead log is the only place where something may stand that is not on
the disk: a row of a failed sync can still be read from the page cache. So the log is copied into a new file and synced
before SQLite reads it, and then all of it is brought into the database, synced too, before anything is published. The
log is never longer than a few megabytes, so this is done at every such start (decision 0017).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import cast

from agent.adapters.journal.carryover import carry_over
from agent.adapters.journal.connection import Connection, StdlibConnection
from agent.adapters.journal.files import Files, FolderFiles
from agent.adapters.journal.room import LOG_BYTES, MIGRATION_BYTES, Room, page_bytes
from agent.adapters.journal.soundness import check, check_all, shape_of, wording_of
from agent.adapters.journal.sqlite import SqliteJournal
from agent.adapters.journal.sums import add_sums
from agent.errors import ConfigError, Fault, JournalDamaged, JournalDoubtful, JournalFull, JournalUnusable

_PRAGMAS = (
    ("locking_mode", "EXCLUSIVE", "exclusive"),
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", None),
    ("foreign_keys", "ON", None),
    ("trusted_schema", "OFF", None),
    ("cell_size_check", "ON", None),
    # Debian's SQLite writes zeros over every page that is freed, a fifth of all bytes of a day.
    ("secure_delete", "OFF", 0),
    ("journal_size_limit", "1048576", 1048576),
)
_PAGE_BYTES = 1024
"""Of a new journal. Small pages, because a boundary changes little on each page it touches, and writes all of them: of
4096 bytes a day came to more than twice as much (decision 0021). One of a former version keeps the size it has."""
FOLDER = FolderFiles()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a journal lies, and how it is reached. `budget_bytes` is None where nothing limits it."""

    path: Path
    connect: Callable[[Path], Connection] = StdlibConnection
    files: Files = FOLDER
    budget_bytes: int | None = None

    @property
    def mark(self) -> Path:
        """The note that the last run left about what it found."""
        return self.path.with_name(self.path.name + ".suspect")

    @property
    def begun(self) -> Path:
        """A new journal that is not in its place yet."""
        return self.path.with_name(self.path.name + ".new")

    def room(self) -> Room | None:
        """Its share of the disk."""
        return None if self.budget_bytes is None else Room(self.budget_bytes, self.files, self.path)


def open_journal(path: Path, connect: Callable[[Path], Connection] = StdlibConnection) -> SqliteJournal:
    """Open the file of a journal without a budget, see `open_at`."""
    return open_at(Place(path, connect))


def open_at(place: Place, *, thoroughly: bool = False) -> SqliteJournal:
    """Open the file, make or migrate its tables, and check it where the last run did not end in good order.

    Args:
        place: the journal.
        thoroughly: read and judge all that is in it, whatever the last run said.

    Raises:
        ConfigError: written by a newer version of this program; nothing was touched.
        JournalHeld: another process has it open.
        JournalUnusable: its rights, its mount or its file system do not allow what it needs; nothing was touched.
        JournalFailed: the disk failed while it was opened.
        JournalDoubtful: a statement was refused, and the file is not to blame.
        JournalDamaged: not a journal, or it fails its check.
    """
    log = place.path.with_name(place.path.name + "-wal")
    left_a_log = place.files.exists(log)
    if left_a_log:
        _renew(place, log)
    connection = place.connect(place.path)
    try:
        # Before anything is read: a log that is entered otherwise keeps its shared memory file (F79, design section 8).
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        is_new = connection.execute("SELECT count(*) FROM sqlite_schema")[0][0] == 0
        if is_new:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        for name, value, answer in _PRAGMAS:
            rows = connection.execute(f"PRAGMA {name}={value}")
            if answer is not None and (not rows or rows[0][0] != answer):
                raise JournalUnusable(
                    f"{place.path}: the file system does not allow {name}={value} (answer: {rows})"
                )
        connection.execute(f"PRAGMA wal_autocheckpoint={LOG_BYTES // page_bytes(connection)}")
        _lock(connection)
        room = place.room()
        if room is not None:
            room.limit(connection, beyond_bytes=MIGRATION_BYTES)
        _migrate(connection, place.path, thoroughly=thoroughly)
        if room is not None:
            room.limit(connection)
        carry_over(connection)
        journal = SqliteJournal(connection, room)
        if left_a_log or is_new:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if thoroughly:
            check_all(connection, journal)
        elif not journal.state().clean:
            check(connection, journal)
    except BaseException:
        connection.close()
        raise
    return journal


@cache
def schema_versions() -> dict[int, str]:
    """The migrations by number: file `NNNN.sql` takes a journal of version NNNN - 1 to NNNN."""
    directory = resources.files(__package__) / "schema"
    found = {
        int(file.name[:4]): file.read_text("utf-8")
        for file in directory.iterdir()
        if file.name.endswith(".sql")
    }
    return dict(sorted(found.items()))


@cache
def _made_at(version: int) -> tuple[frozenset[str], frozenset[str]]:
    """Shape and wording of the tables, indices and triggers that the migrations up to a version make."""
    connection = StdlibConnection(Path(":memory:"))
    try:
        for number, script in schema_versions().items():
            if number <= version:
                connection.script(script)
        return shape_of(connection), wording_of(connection)
    finally:
        connection.close()


def _renew(place: Place, log: Path) -> None:
    try:
        place.files.renew(log, guarded_by=place.path)
    except JournalFull:
        room = place.room()
        if room is not None and room.release():
            place.files.renew(log, guarded_by=place.path)
        elif place.files.marked(place.mark) is not None:
            raise


def _lock(connection: Connection) -> None:
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("COMMIT")


def _migrate(connection: Connection, path: Path, *, thoroughly: bool) -> None:
    versions = schema_versions()
    newest = max(versions)
    present = cast(int, connection.execute("PRAGMA user_version")[0][0])
    if present > newest:
        reason = f"was written by a newer version (schema {present}, this program knows {newest})"
        remedy = "install that version again; nothing was changed"
        raise ConfigError([Fault(str(path), None, "journal", reason, remedy)])
    shape, wording = _made_at(present)
    if shape_of(connection) != shape or (thoroughly and wording_of(connection) != wording):
        raise JournalDamaged(f"{path}: its tables are not those of schema {present}, which it says it has")
    for version in (number for number in versions if number > present):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.script(versions[version])
            add_sums(connection, version)  # which no SQL can make
            connection.execute(f"PRAGMA user_version={version}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(JournalDoubtful):  # where there was no room, SQLite has rolled back by itself
                connection.execute("ROLLBACK")
            raise
