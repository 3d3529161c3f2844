"""A journal is replaced on evidence only: what is none, what is, and that a sound one survives all of it."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.journal import (
    Connection,
    FolderFiles,
    Place,
    SqliteJournal,
    open_at,
    open_or_replace,
    opening,
)
from agent.adapters.journal.replacing import FAILURES_MAX, note_damage
from agent.errors import (
    ConfigError,
    JournalDamaged,
    JournalDoubtful,
    JournalFailed,
    JournalFull,
    JournalUnusable,
    MeteringError,
)
from tests.adapters.places import TURNS, a_place, batches_in, beside, broken
from tests.service.bench import Bench


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return a_place(tmp_path)


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
