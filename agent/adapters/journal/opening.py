"""Opening the journal, and what is done where it is not in order.

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
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import cast

from agent.adapters.journal.connection import Connection, StdlibConnection
from agent.adapters.journal.files import Files, FolderFiles
from agent.adapters.journal.room import Room
from agent.adapters.journal.salvage import Salvaged, salvage
from agent.adapters.journal.soundness import check
from agent.adapters.journal.sqlite import SqliteJournal
from agent.errors import ConfigError, Fault, JournalDamaged, JournalFailed, JournalFull, JournalUnusable

_PRAGMAS = (
    ("locking_mode", "EXCLUSIVE", "exclusive"),
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", None),
    ("foreign_keys", "ON", None),
    ("trusted_schema", "OFF", None),
    ("cell_size_check", "ON", None),
    ("wal_autocheckpoint", "200", 200),
    ("journal_size_limit", "1048576", 1048576),
)
FOLDER = FolderFiles()
_PARTS = ("-wal", "-shm", "")
_FAILURES_MAX = 3
"""So many starts in a row that fail to read it, and the file itself is taken for what is wrong."""


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


@dataclass(frozen=True, slots=True)
class Opened:
    """An open journal. `aside` is where a damaged one was moved to, None if it was sound; `salvaged` what was in it."""

    journal: SqliteJournal
    aside: Path | None = None
    salvaged: Salvaged | None = None


def open_journal(path: Path, connect: Callable[[Path], Connection] = StdlibConnection) -> SqliteJournal:
    """Open the file of a journal without a budget, see `open_at`."""
    return open_at(Place(path, connect))


def open_at(place: Place) -> SqliteJournal:
    """Open the file, make or migrate its tables, and check it where the last run did not end in good order.

    Raises:
        ConfigError: written by a newer version of this program; nothing was touched.
        JournalHeld: another process has it open.
        JournalUnusable: its rights, its mount or its file system do not allow what it needs; nothing was touched.
        JournalFailed: the disk failed while it was opened.
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
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        for name, value, answer in _PRAGMAS:
            rows = connection.execute(f"PRAGMA {name}={value}")
            if answer is not None and (not rows or rows[0][0] != answer):
                raise JournalUnusable(
                    f"{place.path}: the file system does not allow {name}={value} (answer: {rows})"
                )
        _lock(connection)
        room = place.room()
        if room is not None:
            room.limit(connection)
        _migrate(connection, place.path)
        journal = SqliteJournal(connection, room)
        if left_a_log or is_new:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if not journal.state().clean:
            check(connection, journal)
    except BaseException:
        connection.close()
        raise
    return journal


def open_or_replace(place: Place, wall_ms: int, *, platform_answers: bool = True) -> Opened:
    """Open the journal; one that is damaged is moved aside, never deleted, and a new one takes its place.

    The new one holds what could be salvaged: the points that whole batches tell of. The registers are in the meters
    and the platform knows where it stands, so a new journal costs resolution of what was not yet acknowledged, and no
    energy.

    Args:
        place: the journal.
        wall_ms: names the damaged file.
        platform_answers: whether there is a platform that can say where to go on; then it is asked before anything
            that was salvaged is told.

    Raises what `open_at` raises, but JournalDamaged only where a new journal can be made neither.
    """
    if not place.files.exists(place.path) and place.files.exists(place.begun):
        place.files.move(place.begun, place.path)  # the last run ended between the two renamings
    note = place.files.marked(place.mark)
    try:
        if note is not None and note.startswith("damaged"):
            raise JournalDamaged(note)
        opened = Opened(open_at(place))
    except JournalFailed:
        failures = 1 + (note or "").count("failed")
        place.files.mark(place.mark, "failed " * failures)
        if failures < _FAILURES_MAX or not place.files.exists(place.path):
            raise
        opened = _replace(place, wall_ms, platform_answers)
    except JournalDamaged:
        if not place.files.exists(place.path):
            raise
        opened = _replace(place, wall_ms, platform_answers)
    if note is not None or opened.aside is not None:
        place.files.remove(place.mark)
    try:
        opened.journal.keep_room()
    except BaseException:
        opened.journal.close()
        raise
    return opened


def note_damage(place: Place, error: JournalDamaged) -> None:
    """Leave word for the next start that stored data turned out to be damaged while the agent ran.

    Not where the disk failed: then only the next start can tell. A mark that cannot be written is no new trouble: the
    next run finds the same.
    """
    if isinstance(error, JournalFailed):
        return
    with suppress(JournalFailed):
        place.files.mark(place.mark, f"damaged: {error}")


def set_aside(path: Path, why: str, files: Files | None = None) -> Path:
    """Rename a closed journal, with its write-ahead log, to `NAME.WHY`; gives the new path."""
    files = files or FOLDER
    aside = path.with_name(f"{path.name}.{why}")
    for suffix in _PARTS:
        part = path.with_name(path.name + suffix)
        if files.exists(part):
            files.move(part, aside.with_name(aside.name + suffix))
    return aside


def schema_versions() -> dict[int, str]:
    """The migrations by number: file `NNNN.sql` takes a journal of version NNNN - 1 to NNNN."""
    directory = resources.files(__package__) / "schema"
    found = {
        int(file.name[:4]): file.read_text("utf-8")
        for file in directory.iterdir()
        if file.name.endswith(".sql")
    }
    return dict(sorted(found.items()))


def _replace(place: Place, wall_ms: int, platform_answers: bool) -> Opened:
    """Build a new journal beside the damaged one, and change their places when it is whole and on the disk."""
    for suffix in _PARTS:
        place.files.remove(place.begun.with_name(place.begun.name + suffix))
    fresh = open_at(replace(place, path=place.begun))
    try:
        salvaged = salvage(place.path, place.connect, fresh, ask_first=platform_answers)
    finally:
        fresh.close()
    aside = set_aside(place.path, f"damaged-{wall_ms}", place.files)
    place.files.move(place.begun, place.path)
    return Opened(open_at(place), aside, salvaged)


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


def _migrate(connection: Connection, path: Path) -> None:
    versions = schema_versions()
    newest = max(versions)
    present = cast(int, connection.execute("PRAGMA user_version")[0][0])
    if present > newest:
        reason = f"was written by a newer version (schema {present}, this program knows {newest})"
        remedy = "install that version again; nothing was changed"
        raise ConfigError([Fault(str(path), None, "journal", reason, remedy)])
    for version in range(present + 1, newest + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.script(versions[version])
            connection.execute(f"PRAGMA user_version={version}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
