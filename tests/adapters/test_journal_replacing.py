"""A journal is replaced on evidence only, the old file is always kept, and a change of places can end anywhere."""

import errno
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.journal import (
    Connection,
    FolderFiles,
    Place,
    SqliteJournal,
    StdlibConnection,
    open_at,
    open_or_replace,
    opening,
)
from agent.adapters.journal.connection import Row, Value
from agent.adapters.journal.replacing import FAILURES_MAX, note_damage, set_aside
from agent.errors import (
    ConfigError,
    JournalDamaged,
    JournalDoubtful,
    JournalFailed,
    JournalFull,
    JournalUnusable,
    MeteringError,
)
from tests.service.bench import Bench

TURNS = 4


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A sound journal of a few intervals, left in no good order."""
    bench = Bench(tmp_path)
    for turn in range(TURNS):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 2_000 + turn})
    with bench.journal.transaction():
        bench.journal.save_state(replace(bench.journal.state(), clean=False))
    bench.journal.close()
    return Place(tmp_path / "journal.db")


def batches_in(place: Place) -> int:
    """How many batches wait in the journal that a start finds."""
    opened = open_or_replace(place, 0)
    assert opened.aside is None
    try:
        return opened.journal.backlog().batches
    finally:
        opened.journal.close()


def beside(place: Place) -> list[str]:
    """What lies beside the journal."""
    return sorted(
        path.name.removeprefix("journal.db")
        for path in place.path.parent.glob("journal.db?*")
        if path.exists()
    )


def broken(raises: Callable[[str], Exception | None]) -> Callable[[Path], Connection]:
    """A connection on which some statements fail."""

    class Broken(StdlibConnection):
        def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
            error = raises(sql)
            if error is not None:
                raise error
            return super().execute(sql, parameters)

    return Broken


# ------------------------------------------------------------------------------------------- what is no evidence


@pytest.mark.fault("F46", "F48", "F58")
@pytest.mark.parametrize(
    "error",
    [
        JournalFailed("a write failed"),
        JournalFull("no room"),
        JournalUnusable("read-only"),
        JournalDoubtful("no such column: colour"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_sound_journal_survives_any_number_of_starts_that_fail(place: Place, error: MeteringError) -> None:
    failing = replace(place, connect=broken(lambda sql: error if "synchronous" in sql else None))
    for _ in range(3 * FAILURES_MAX):
        with pytest.raises(type(error)):
            open_or_replace(failing, 0)
    assert batches_in(place) == TURNS
    assert beside(place) == []


@pytest.mark.fault("F83")
def test_a_migration_that_is_wrong_costs_no_journal(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = opening.schema_versions()
    bad = {max(versions) + 1: "INSERT INTO nowhere VALUES (1);\n"}
    with monkeypatch.context() as patch:
        patch.setattr(opening, "schema_versions", lambda: versions | bad)
        for _ in range(FAILURES_MAX + 1):
            with pytest.raises(JournalDoubtful, match="nowhere"):
                open_or_replace(place, 0)
    assert batches_in(place) == TURNS


@pytest.mark.fault("F46", "F83")
def test_a_migration_without_room_says_so_and_costs_no_journal(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = opening.schema_versions()
    large = "CREATE TABLE more (id INTEGER PRIMARY KEY, b BLOB);\nINSERT INTO more VALUES (1, zeroblob(90000000));\n"
    with monkeypatch.context() as patch:
        patch.setattr(opening, "schema_versions", lambda: versions | {max(versions) + 1: large})
        with pytest.raises(JournalFull):
            open_or_replace(replace(place, budget_bytes=64_000_000), 0)
    assert batches_in(place) == TURNS


@pytest.mark.fault("F53")
def test_what_the_last_run_took_for_damage_is_judged_and_a_sound_journal_kept(place: Place) -> None:
    note_damage(place, JournalDamaged("a batch seemed to be another one"))
    for _ in range(2):
        opened = open_or_replace(place, 0)
        opened.journal.close()
    assert (opened.aside, opened.cleared) == (None, None)
    note_damage(place, JournalDoubtful("no such column: colour"))
    opened = open_or_replace(place, 0)
    assert (opened.aside, opened.cleared) == (None, "no such column: colour")
    assert opened.journal.backlog().batches == TURNS
    opened.journal.close()
    assert beside(place) == []


def test_a_note_that_cannot_be_read_is_an_empty_one(place: Place) -> None:
    place.mark.write_bytes(b"damaged\xff\xfe")
    assert batches_in(place) == TURNS
    place.mark.mkdir()
    assert FolderFiles().marked(place.mark) == ""


# ---------------------------------------------------------------------------------------------- what is evidence


class LostBytes(FolderFiles):
    """A disk that has lost bytes of the journal; `healed` once it gives them again."""

    def __init__(self) -> None:
        self.healed_after: int | None = None
        self.asked = 0

    def is_readable(self, path: Path) -> bool:
        self.asked += 1
        return self.healed_after is not None and self.asked > self.healed_after


def with_lost_bytes(place: Place, files: FolderFiles) -> Place:
    """Its table of positions cannot be read."""

    def raises(sql: str) -> Exception | None:
        is_of_the_old = "FROM positions" in sql or "quick_check" in sql
        return JournalFailed("disk I/O error") if is_of_the_old and not started_anew else None

    started_anew: list[bool] = []

    def connect(path: Path) -> Connection:
        if path == place.begun:
            started_anew.append(True)
        return broken(raises)(path)

    return replace(place, connect=connect, files=files)


@pytest.mark.fault("F48", "F54")
def test_a_journal_of_which_the_disk_has_lost_bytes_is_salvaged_after_three_starts(place: Place) -> None:
    sick = with_lost_bytes(place, LostBytes())
    for _ in range(FAILURES_MAX - 1):
        with pytest.raises(JournalFailed):
            open_or_replace(sick, 7)
    opened = open_or_replace(sick, 7)
    assert opened.aside is not None and opened.aside.name == "journal.db.damaged-7"
    assert opened.salvaged is not None and opened.salvaged.batches == TURNS
    opened.journal.close()
    assert beside(place) == [".damaged-7"]


@pytest.mark.fault("F48")
def test_one_that_can_be_read_again_meanwhile_is_kept(place: Place) -> None:
    files = LostBytes()
    files.healed_after = 1
    sick = with_lost_bytes(place, files)
    for _ in range(FAILURES_MAX):
        with pytest.raises(JournalFailed):
            open_or_replace(sick, 7)
    assert files.asked == 2
    assert batches_in(place) == TURNS
    assert beside(place) == []


@pytest.mark.fault("F48", "F53")
def test_damage_that_was_noted_and_cannot_even_be_read_does_not_end_in_a_loop(place: Place) -> None:
    note_damage(place, JournalDamaged("a batch"))
    sick = with_lost_bytes(place, LostBytes())
    for _ in range(FAILURES_MAX - 1):
        with pytest.raises(JournalFailed):
            open_or_replace(sick, 7)
        assert place.mark.read_text("utf-8").endswith("damaged: a batch")
    opened = open_or_replace(sick, 7)
    assert opened.aside is not None
    opened.journal.close()
    assert beside(place) == [".damaged-7"]


def that_fails_to_read(place: Place, files: FolderFiles) -> Place:
    """Its newest hash has rotted, and the disk does not give its texts at present."""
    with sqlite3.connect(place.path, isolation_level=None) as raw:
        raw.execute("UPDATE batches SET hash = substr(hash, 2) || 'A' WHERE ordinal = 4")
    raw.close()

    def connect(path: Path) -> Connection:
        def raises(sql: str) -> Exception | None:
            is_of_the_old = path == place.path and "JOIN texts USING" in sql and "LIMIT 0" not in sql
            return JournalFailed("disk I/O error") if is_of_the_old else None

        return broken(raises)(path)

    return replace(place, connect=connect, files=files)


@pytest.mark.fault("F48", "F54")
def test_what_a_disk_does_not_give_at_present_is_not_lost_and_the_damaged_journal_stays(place: Place) -> None:
    sick = that_fails_to_read(place, FolderFiles())
    for _ in range(FAILURES_MAX + 1):
        with pytest.raises(
            JournalFailed, match=r"journal\.db: the disk failed while what it proves was read"
        ):
            open_or_replace(sick, 7)
        assert batches_on(place) == TURNS, "it lies where it lay"
    well = open_or_replace(place, 8)
    assert well.salvaged is not None and (well.salvaged.batches, well.salvaged.lost) == (TURNS - 1, 1)
    assert well.aside is not None and well.aside.name == "journal.db.damaged-8"
    well.journal.close()
    assert beside(place) == [".damaged-8"]


@pytest.mark.fault("F48", "F54")
def test_what_a_disk_has_lost_for_good_does_not_keep_the_rest_from_being_salvaged(place: Place) -> None:
    sick = that_fails_to_read(place, LostBytes())
    for _ in range(FAILURES_MAX - 1):
        with pytest.raises(JournalFailed):
            open_or_replace(sick, 7)
    opened = open_or_replace(sick, 7)
    assert opened.salvaged is not None and opened.salvaged.lost == TURNS
    opened.journal.close()
    assert beside(place) == [".damaged-7"]


def batches_on(place: Place) -> int:
    with sqlite3.connect(place.path) as raw:
        ((count,),) = raw.execute("SELECT count(*) FROM batches")
    raw.close()
    return int(count)


@pytest.mark.fault("F54")
@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA user_version = 2",
        "DROP TABLE gates",
        "DROP INDEX batches_by_seq",
        "ALTER TABLE stored RENAME COLUMN up_to TO until",
    ],
)
def test_tables_that_are_not_those_of_its_version_are_damage(place: Place, sql: str) -> None:
    with sqlite3.connect(place.path, isolation_level=None) as raw:
        raw.execute(sql)
    raw.close()
    opened = open_or_replace(place, 7)
    assert opened.aside is not None and opened.salvaged is not None
    assert opened.salvaged.batches == TURNS
    opened.journal.close()
    assert beside(place) == [".damaged-7"]


def test_a_journal_of_a_newer_program_is_left_as_it_is(place: Place) -> None:
    with sqlite3.connect(place.path, isolation_level=None) as raw:
        raw.execute("PRAGMA user_version = 77")
    raw.close()
    content = place.path.read_bytes()
    with pytest.raises(ConfigError, match="newer version"):
        open_or_replace(place, 7)
    assert place.path.read_bytes() == content and beside(place) == []


ROT = {
    "a descriptor": "UPDATE descriptors SET jws = CAST(x'41' || substr(jws, 2) AS BLOB)",
    "a place in the chain": "UPDATE batches SET prev = substr(prev, 2) || 'A' WHERE ordinal = 2",
    "a time": "UPDATE batches SET sealed_ms = sealed_ms + 1024 WHERE ordinal = 1",
    "a chain before it": "UPDATE batches SET prev_chain = chain, prev_seq = 1, prev_hash = hash WHERE ordinal = 1",
    "a hash of long ago": "DELETE FROM texts WHERE ordinal = 1;"
    " UPDATE batches SET hash = substr(hash, 2) || 'A' WHERE ordinal = 1",
    "a text that nobody has acknowledged": "DELETE FROM texts WHERE ordinal = 1",
    "a running total": "UPDATE batches SET told = told + 1 WHERE ordinal = 2",
    "a rule of a table": "PRAGMA ignore_check_constraints = ON; UPDATE batches SET seq = 0 WHERE ordinal = 1",
    "a text of no batch": "INSERT INTO texts VALUES (99, x'00')",
    "the newest readings": "DELETE FROM cuts WHERE id = (SELECT max(id) FROM cuts)",
}


@pytest.mark.fault("F53")
@pytest.mark.parametrize("what", ROT)
def test_rot_that_was_noted_while_the_agent_ran_is_found_again_wherever_it_lies(
    place: Place, what: str
) -> None:
    with sqlite3.connect(place.path, isolation_level=None) as raw:
        raw.executescript(ROT[what])
    raw.close()
    note_damage(place, JournalDamaged(what))
    opened = open_or_replace(place, 7)
    assert opened.aside is not None
    opened.journal.close()


@pytest.mark.fault("F53", "F54")
def test_a_position_that_ends_another_delta_than_the_newest_is_damage(tmp_path: Path) -> None:
    """As a write that came to nothing would leave it: position and reading agree, and the batch tells another story."""
    bench = Bench(tmp_path)
    for turn in range(TURNS):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 2_000 + turn})
    journal = bench.journal
    ((_, newest),) = journal.boundaries(after=journal.last_reading() - 1, limit=1)
    with journal.transaction():
        for reading in newest:
            later = replace(reading.point, register_milliwh=reading.point.register_milliwh + 10)
            journal.add_reading(replace(reading, point=later))
            head = journal.heads()[later.meter]
            journal.save_head(replace(head, register_milliwh=later.register_milliwh))
        journal.save_state(replace(journal.state(), clean=False))
    journal.close()
    with pytest.raises(JournalDamaged, match="does not end its newest delta"):
        open_at(Place(tmp_path / "journal.db"))


def test_a_purged_journal_passes_the_thorough_check(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for turn in range(TURNS):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 2_000 + turn})
    bench.acknowledge(bench.journal.state().head, number=1)
    with bench.journal.transaction():
        assert bench.journal.purge(stored_before_ms=1 << 60)
    bench.journal.close()
    note_damage(Place(tmp_path / "journal.db"), JournalDamaged("a batch"))
    opened = open_or_replace(Place(tmp_path / "journal.db"), 7)
    assert opened.aside is None and opened.cleared == "a batch"
    opened.journal.close()


@pytest.mark.fault("F54")
def test_where_not_even_a_place_for_a_journal_is_left_the_start_fails(tmp_path: Path) -> None:
    def connect(path: Path) -> Connection:
        raise JournalDamaged("no database can be made here")

    with pytest.raises(JournalDamaged, match="no database can be made"):
        open_or_replace(Place(tmp_path / "journal.db", connect), 7)
    assert beside(Place(tmp_path / "journal.db")) == []


@pytest.mark.fault("F46")
def test_a_journal_that_cannot_keep_its_ballast_is_let_go_of(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next try of this process would find it held by itself."""

    def no_more(_: SqliteJournal) -> None:
        raise JournalFailed("the ballast cannot be laid down")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteJournal, "keep_room", no_more)
        with pytest.raises(JournalFailed, match="ballast"):
            open_or_replace(place, 7)
    assert batches_in(place) == TURNS


# ---------------------------------------------------------------------------------------------- changing places


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


@pytest.mark.fault("F48")
def test_a_file_is_readable_where_the_disk_gives_every_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, files = tmp_path / "j.db", FolderFiles()
    path.write_bytes(bytes(200_000))
    assert files.is_readable(path)
    with pytest.raises(JournalUnusable):
        files.is_readable(tmp_path / "none")

    def bad_sector(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(Path, "open", bad_sector)
    assert not files.is_readable(path)


def test_what_cannot_even_be_looked_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "not yours")

    monkeypatch.setattr(Path, "exists", forbidden)
    with pytest.raises(JournalUnusable, match="cannot be looked for"):
        open_or_replace(Place(tmp_path / "j.db"), 0)
