"""A new journal takes the place of a damaged one: the old file is always kept, and it can end anywhere on the way."""

import errno
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.journal import Connection, FolderFiles, Place, StdlibConnection, open_or_replace
from agent.adapters.journal.replacing import set_aside
from agent.errors import JournalDamaged, JournalFailed, JournalFull, JournalUnusable
from tests.adapters.places import TURNS, a_place, batches_in, beside, broken


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return a_place(tmp_path)


class Interrupted(FolderFiles):
    """The process ends at the n-th renaming, before or after it; or the disk refuses it."""

    def __init__(self, at: int, *, after: bool, number: int | None = None) -> None:
        self._left, self._after, self._number = at, after, number

    def move(self, path: Path, to: Path) -> None:
        self._left -= 1
        if self._left:
            super().move(path, to)
            return
        if self._after:
            super().move(path, to)
        if self._number is not None:
            raise JournalFailed(os.strerror(self._number))
        raise KeyboardInterrupt


def damaged_with_a_log(place: Place) -> int:
    """Spoil the database and leave a log beside it that would be replayed into any other; gives its size."""
    place.path.write_bytes(b"rot" * 5_000)
    log = place.path.with_name("journal.db-wal")
    other = sqlite3.connect(place.path.with_name("other.db"), isolation_level=None)
    other.executescript(
        "PRAGMA journal_mode=WAL; CREATE TABLE alien (id INTEGER); INSERT INTO alien VALUES (1)"
    )
    log.write_bytes(place.path.with_name("other.db-wal").read_bytes())
    other.close()
    return log.stat().st_size


@pytest.mark.fault("F51", "F54")
@pytest.mark.parametrize("number", [None, errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_change_of_places_may_end_anywhere(
    place: Place, at: int, *, after: bool, number: int | None
) -> None:
    size = damaged_with_a_log(place)

    def connect(path: Path) -> Connection:
        if path == place.path and path.stat().st_size == spoiled:
            raise JournalDamaged("file is not a database")  # before SQLite looks at the log
        return StdlibConnection(path)

    spoiled = place.path.stat().st_size
    place = replace(place, connect=connect)
    with pytest.raises((KeyboardInterrupt, JournalFailed)):
        open_or_replace(replace(place, files=Interrupted(at, after=after, number=number)), 7)
    opened = open_or_replace(place, 8)
    tables = opened.journal._db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'alien'")
    assert tables == [(0,)], "the log of the old journal was replayed into the new one"
    opened.journal.close()
    kept = [name for name in beside(place) if name.startswith(".damaged-")]
    assert beside(place) == kept
    assert sorted((place.path.parent / f"journal.db{name}").stat().st_size for name in kept) == sorted(
        (spoiled, size)
    ), "the old database and its log are both kept"


def test_a_log_without_its_database_is_put_aside_and_a_new_journal_begun(place: Place) -> None:
    damaged_with_a_log(place)
    place.path.unlink()
    opened = open_or_replace(place, 9)
    assert opened.journal._db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'alien'") == [(0,)]
    opened.journal.close()
    assert beside(place) == [".damaged-9-wal"]


def test_a_new_journal_that_never_came_into_its_place_is_dropped(place: Place) -> None:
    place.begun.write_bytes(b"half")
    assert batches_in(place) == TURNS
    assert beside(place) == []


@pytest.mark.fault("F54")
def test_a_file_that_was_put_aside_is_never_written_over(place: Place) -> None:
    """A clock that starts in 1970 at each start names two of them alike."""
    kept = []
    for turn in range(3):
        place.path.write_bytes(b"rot %d" % turn * 100)
        opened = open_or_replace(place, 7)
        assert opened.aside is not None
        kept.append((opened.aside, opened.aside.read_bytes()))
        opened.journal.close()
    assert [path.name for path, _ in kept] == [f"journal.db.damaged-7{end}" for end in ("", "-2", "-3")]
    assert [content[:5] for _, content in kept] == [b"rot 0", b"rot 1", b"rot 2"]
    assert all(path.read_bytes() == content for path, content in kept)


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, JournalFull), (errno.EROFS, JournalUnusable), (errno.EIO, JournalFailed)],
)
def test_a_renaming_that_fails_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def refuse(path: Path, to: Path) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "j.db").write_bytes(b"x")
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(error, match=r"cannot be renamed to j.db.aside"):
        set_aside(tmp_path / "j.db", "aside")
    assert (tmp_path / "j.db").exists()


@pytest.mark.fault("F46", "F54")
def test_where_there_is_no_room_for_a_new_journal_the_ballast_makes_it(place: Place) -> None:
    place = replace(place, budget_bytes=64_000_000)
    open_or_replace(place, 0).journal.close()
    ballast = place.path.with_name("journal.db.ballast")
    assert ballast.exists()
    place.path.write_bytes(b"rot" * 1000)

    def full(path: Path) -> Connection:
        no_room = path == place.begun and ballast.exists()
        return broken(lambda sql: JournalFull("no room") if no_room and sql.startswith("BEGIN") else None)(
            path
        )

    opened = open_or_replace(replace(place, connect=full), 7)
    assert opened.aside is not None
    opened.journal.close()
    place.path.write_bytes(b"rot" * 1000)
    ballast.unlink(missing_ok=True)
    always_full = broken(lambda sql: JournalFull("no room") if sql.startswith("BEGIN") else None)
    with pytest.raises(JournalFull):
        open_or_replace(replace(place, connect=always_full), 8)
    assert place.path.read_bytes() == b"rot" * 1000, "it stays where it is until a new one can be made"


@pytest.mark.fault("F54")
def test_where_not_even_a_place_for_a_journal_is_left_the_start_fails(tmp_path: Path) -> None:
    def connect(path: Path) -> Connection:
        raise JournalDamaged("no database can be made here")

    with pytest.raises(JournalDamaged, match="no database can be made"):
        open_or_replace(Place(tmp_path / "journal.db", connect), 7)
    assert beside(Place(tmp_path / "journal.db")) == []
