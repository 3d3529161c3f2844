"""What stands in the journal and cannot be what was written there: it is never read as something else."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.journal import (
    JournalThread,
    Place,
    StdlibConnection,
    note_damage,
    open_journal,
    open_or_replace,
    opening,
    rows,
    sealed,
)
from agent.adapters.journal.connection import Row, Value
from agent.adapters.journal.files import FolderFiles
from agent.adapters.journal.sums import add_sums
from agent.errors import (
    JournalDamaged,
    JournalDoubtful,
    JournalFailed,
    JournalFull,
    JournalHeld,
    JournalUnusable,
    MeteringError,
)
from agent.metering.ledger import Point
from agent.reporting.chain import ChainHead
from agent.reporting.envelope import signing_input_hash
from agent.service.journal import KeptBatch, KeptDescriptor, KeyUse, Reading, Standing
from tests.adapters.test_journal import BASIS, CHAIN, batch, hash_of, text_of
from tests.service.bench import Bench

# ------------------------------------------------------------------------------------------------ the columns


@pytest.mark.parametrize(
    ("read", "value", "says"),
    [
        (rows.text, 5, "a text was expected"),
        (rows.text_or_none, b"x", "a text was expected"),
        (rows.integer, "5", "an integer was expected"),
        (rows.integer, None, "an integer was expected"),
        (rows.integer_or_none, 0.5, "an integer was expected"),
        (rows.blob, "text", "bytes were expected"),
        (rows.split_words, None, "bytes were expected"),
        (rows.basis_of, ("1/0", None, None), "energy per count is '1/0'"),
        (rows.basis_of, ("ten", None, None), "energy per count is 'ten'"),
        (rows.basis_of, ("1/1", "5", None), "an integer was expected"),
        (rows.moment_of, ("boot", "5", None), "an integer was expected"),
    ],
)
def test_a_value_of_another_type_than_was_written_is_damage(
    read: Callable[[object], object], value: object, says: str
) -> None:
    with pytest.raises(JournalDamaged, match=says):
        read(value)


def test_words_come_back_as_they_were_kept() -> None:
    assert rows.split_words(rows.join_words((0, 1, 0xFFFF))) == (0, 1, 0xFFFF)
    assert rows.moment_of((None, None, None)) is None


# ---------------------------------------------------------------------------------------- what SQLite answers


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (sqlite3.SQLITE_FULL, JournalFull),
        (sqlite3.SQLITE_BUSY, JournalHeld),
        (sqlite3.SQLITE_READONLY, JournalUnusable),
        (sqlite3.SQLITE_CANTOPEN, JournalUnusable),
        (sqlite3.SQLITE_IOERR_LOCK, JournalUnusable),
        (sqlite3.SQLITE_IOERR_FSYNC, JournalFailed),
        (sqlite3.SQLITE_IOERR_READ, JournalFailed),
        (sqlite3.SQLITE_CORRUPT, JournalDamaged),
        (sqlite3.SQLITE_NOTADB, JournalDamaged),
    ],
)
def test_each_error_of_the_database_has_its_meaning(
    tmp_path: Path, code: int, error: type[Exception]
) -> None:
    """Full changes nothing, unusable is no damage, failed is known only to a new process, the rest is damaged."""
    connection = StdlibConnection(tmp_path / "j.db")
    said = sqlite3.OperationalError("no")
    said.sqlite_errorcode = code
    meant = connection._meaning(said)
    assert type(meant) is error and str(tmp_path / "j.db") in str(meant)
    connection.close()


def test_a_mistake_of_ours_is_not_taken_for_damage(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    with journal.transaction():
        journal.append_batch(batch(1))
    with pytest.raises(ValueError, match="sealed before"), journal.transaction():
        journal.append_batch(batch(1))
    assert [each.head.seq for each in journal.queue(after_ordinal=0, limit=9)] == [1]
    journal.close()


def test_nor_is_what_a_table_refuses(tmp_path: Path) -> None:
    """The next start judges the whole file, and keeps it."""
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1_000, "wave-1": 2_000})
    with pytest.raises(JournalDoubtful, match="UNIQUE") as found, bench.journal.transaction():
        bench.journal.add_descriptor(KeptDescriptor("c" * 43, 77, b"one"))
        bench.journal.add_descriptor(KeptDescriptor("d" * 43, 77, b"another"))
    bench.journal.close()
    place = Place(tmp_path / "journal.db")
    note_damage(place, found.value)
    opened = open_or_replace(place, 0)
    assert opened.aside is None and len(opened.journal.descriptors()) == 1
    opened.journal.close()


def rot(path: Path, was: str, rotten: str) -> None:
    """Let what the tables say of themselves say something else."""
    with sqlite3.connect(path, isolation_level=None) as raw:
        raw.execute("PRAGMA writable_schema = 1")
        raw.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?)", (was, rotten))
        assert raw.execute("SELECT count(*) FROM sqlite_master WHERE instr(sql, ?)", (rotten,)).fetchone()[0]
    raw.close()


@pytest.mark.fault("F53")
def test_rot_that_no_start_comes_past_is_judged_by_the_first_one(tmp_path: Path) -> None:
    """SQLite could not translate a statement for the table, so that no run found damage (world seed 30126)."""
    place = Place(tmp_path / "journal.db")
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1_000, "wave-1": 2_000})
    with bench.journal.transaction():
        bench.journal.save_state(replace(bench.journal.state(), clean=False))
    bench.journal.close()
    rot(place.path, "CHECK (standing IN (", "CHECK (standing_IN (")
    with pytest.raises(JournalDoubtful, match="standing_IN"):
        open_journal(place.path)
    opened = open_or_replace(place, 7)
    assert opened.aside is not None and opened.salvaged is not None and opened.salvaged.batches > 0
    opened.journal.close()


@pytest.mark.fault("F53")
@pytest.mark.parametrize(
    ("was", "rotten", "says"),
    [
        ("'confirming'", "'conf?rming'", "CHECK"),
        ("REFERENCES batches (ordinal)", "REFERENCES batches (ordina1)", "foreign key"),
    ],
)
def test_rot_in_what_a_table_allows_is_damage(tmp_path: Path, was: str, rotten: str, says: str) -> None:
    """It is met by the first row that it forbids, and at each start again (world seeds 12011, 4464)."""
    place = Place(tmp_path / "journal.db")
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1_000, "wave-1": 2_000})
    bench.journal.close()
    note_damage(place, JournalDoubtful("something"))
    opened = open_or_replace(place, 7)
    assert opened.aside is None and opened.cleared == "something"
    opened.journal.close()
    rot(place.path, was, rotten)
    bench.journal = open_journal(place.path)
    with pytest.raises(JournalDoubtful, match=says) as found:
        bench.read({"reflow-1": 1_001, "wave-1": 2_001})
        with bench.journal.transaction():
            bench.journal.save_state(replace(bench.journal.state(), standing=Standing.CONFIRMING))
    bench.journal.close()
    note_damage(place, found.value)
    opened = open_or_replace(place, 7)
    assert opened.aside is not None and opened.salvaged is not None and opened.salvaged.batches > 0
    opened.journal.close()


def test_a_folder_that_is_not_there_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable):
        StdlibConnection(tmp_path / "none" / "j.db")


# ----------------------------------------------------------------------------------------------- transactions


class Stubborn(StdlibConnection):
    """Answers one statement with an error instead of doing it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.refuses: dict[str, Exception] = {}

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        if sql in self.refuses:
            raise self.refuses.pop(sql)
        return super().execute(sql, parameters)


@pytest.mark.fault("F46")
def test_a_commit_without_room_leaves_everything_as_it_was_and_the_journal_usable(tmp_path: Path) -> None:
    made: list[Stubborn] = []

    def connect(path: Path) -> Stubborn:
        made.append(Stubborn(path))
        return made[-1]

    journal = open_journal(tmp_path / "j.db", connect)
    made[0].refuses["COMMIT"] = JournalFull("no room")
    with pytest.raises(JournalFull), journal.transaction():
        journal.append_batch(batch(1))
    assert journal.queue(after_ordinal=0, limit=9) == []
    with journal.transaction():
        journal.append_batch(batch(1))
    assert len(journal.queue(after_ordinal=0, limit=9)) == 1
    made[0].refuses["ROLLBACK"] = JournalDamaged("a page is gone")
    with pytest.raises(JournalDamaged, match="a page is gone"), journal.transaction():
        raise ValueError("what was tried")
    journal.close()


def test_what_went_wrong_is_said_also_where_sqlite_rolled_back_by_itself(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    with pytest.raises(ValueError, match="what was tried"), journal.transaction():
        journal.append_batch(batch(1))
        journal._db.execute("ROLLBACK")
        raise ValueError("what was tried")
    assert journal.queue(after_ordinal=0, limit=9) == []
    journal.close()


async def test_a_thread_without_a_journal_does_no_work(tmp_path: Path) -> None:
    storage = JournalThread(lambda: open_journal(tmp_path / "j.db"))
    with pytest.raises(RuntimeError, match="not open"):
        await storage.run(lambda journal: journal.state())
    await storage.close()


# -------------------------------------------------------------------------------------- rows that say nothing


def test_a_journal_that_does_not_say_where_it_stands_is_damaged(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    journal._db.execute("PRAGMA ignore_check_constraints=ON")
    journal._db.execute("UPDATE state SET standing = 'lying'")
    with pytest.raises(JournalDamaged, match="a row of state"):
        journal.state()
    add_sums(journal._db, 8)
    with pytest.raises(JournalDamaged, match="standing is 'lying'"):
        journal.state()
    journal._db.execute("DELETE FROM state")
    with pytest.raises(JournalDamaged, match="does not say where it stands"):
        journal.state()
    journal.close()


def test_a_reading_needs_the_descriptor_it_was_read_under(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    with pytest.raises(JournalDamaged, match="descriptor ccc"), journal.transaction():
        journal.add_reading(Reading(Point("m1", 1, 1, 5, BASIS), (0, 5), "ccc"))
    assert journal.readings("m1", after=None) == []
    journal.close()


def test_a_key_that_cannot_be_read_is_no_other_key(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    use = KeyUse("kid", {"kty": "OKP"}, ChainHead(CHAIN, 3, hash_of(3)))
    with journal.transaction():
        journal.add_key_use(use)
    assert journal.key_uses() == [use]
    journal._db.execute("UPDATE key_uses SET jwk = '{\"kty\"'")
    add_sums(journal._db, 8)
    with pytest.raises(JournalDamaged, match="public key"):
        journal.key_uses()
    journal.close()


def kept(jws: bytes, **changes: object) -> KeptBatch:
    plain = KeptBatch(
        1, ChainHead(CHAIN, 1, signing_input_hash(text_of(1))), hash_of(0), None, 0, None, False, jws
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_stored_message_is_what_its_hash_says_or_damage(tmp_path: Path) -> None:
    nothing = b"header.e30.signature"  # an empty object
    for jws in (b"no parts", b"header.***.signature", b"header.WzE", nothing):
        with pytest.raises(JournalDamaged, match=r"a stored (message|batch) cannot be read"):
            sealed.batch_of(kept(jws))
        with pytest.raises(JournalDamaged, match=r"a stored (message|descriptor) cannot be read"):
            sealed.descriptor_of(KeptDescriptor("h", 1, jws))
    with pytest.raises(JournalDamaged, match="descriptor 3 in the journal is not what its hash says"):
        sealed.descriptor_in([(hash_of(1), 3, text_of(2))])
    with pytest.raises(JournalDamaged, match="descriptor 4"):
        sealed.descriptor_in([(hash_of(1), 4, b"no message")])
    assert sealed.descriptor_in([]) is None


@pytest.mark.fault("F53")
def test_a_batch_that_does_not_inflate_is_damage(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    with journal.transaction():
        journal.append_batch(batch(1))
    journal._db.execute("UPDATE texts SET jws = CAST('not deflated' AS BLOB)")
    with pytest.raises(JournalDamaged, match="cannot be inflated"):
        journal.queue(after_ordinal=0, limit=9)
    journal.close()


def test_chains_are_followed_only_where_each_begins_behind_the_one_before(tmp_path: Path) -> None:
    second, third = "01ARZ3NDEKTSV4RRFFQ69G5FBV", "01ARZ3NDEKTSV4RRFFQ69G5FCV"
    journal = open_journal(tmp_path / "j.db")
    first = [batch(seq) for seq in (1, 2)]
    then = replace(batch(3), head=ChainHead(second, 1, hash_of(3)), prev_chain=first[-1].head)
    last = replace(batch(4), head=ChainHead(third, 1, hash_of(4)), prev_chain=then.head)
    with journal.transaction():
        for each in (*first, then, last):
            journal.append_batch(each)
        journal.save_state(replace(journal.state(), chain=third, seq=1, hash=last.head.hash))
    assert journal.chains_after(last.head) == frozenset()
    assert journal.chains_after(first[0].head) == frozenset({CHAIN, second, third})
    assert journal.chains_after(first[1].head) == frozenset({second, third})
    assert journal.chains_after(ChainHead(CHAIN, 1, hash_of(9))) is None
    journal._db.execute("UPDATE batches SET prev_hash = ? WHERE chain = ?", (hash_of(9), third))
    assert journal.chains_after(first[0].head) is None
    journal.close()


# ------------------------------------------------------------------------------------------------ the opening


def test_a_file_system_that_cannot_do_what_the_rules_need_is_said_and_the_file_left(tmp_path: Path) -> None:
    class NoLog(StdlibConnection):
        def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
            return (
                [("delete",)] if sql.startswith("PRAGMA journal_mode") else super().execute(sql, parameters)
            )

    open_journal(tmp_path / "j.db").close()
    with pytest.raises(JournalUnusable, match="does not allow journal_mode=WAL"):
        open_or_replace(Place(tmp_path / "j.db", NoLog), 1)
    assert [path.name for path in tmp_path.iterdir() if "damaged" in path.name] == []


@pytest.mark.fault("F83")
def test_a_migration_that_fails_leaves_the_journal_at_its_former_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path / "j.db")
    with journal.transaction():
        journal.append_batch(batch(1))
    journal.close()
    versions = opening.schema_versions()
    bad = {max(versions) + 1: "CREATE TABLE more (id INTEGER) STRICT;\nINSERT INTO nowhere VALUES (1);\n"}
    with monkeypatch.context() as patch:
        patch.setattr(opening, "schema_versions", lambda: versions | bad)
        with pytest.raises(MeteringError):
            open_journal(tmp_path / "j.db")
    journal = open_journal(tmp_path / "j.db")
    assert journal._db.execute("PRAGMA user_version") == [(max(versions),)]
    assert journal._db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'more'") == [(0,)]
    assert len(journal.queue(after_ordinal=0, limit=9)) == 1
    journal.close()


def test_a_new_journal_whose_place_was_not_taken_yet_is_taken_at_the_next_start(tmp_path: Path) -> None:
    """The last run ended between the two renamings."""
    journal = open_journal(tmp_path / "j.db")
    with journal.transaction():
        journal.append_batch(batch(1))
    journal.close()
    place = Place(tmp_path / "j.db")
    place.path.rename(place.begun)
    opened = open_or_replace(place, 1)
    assert len(opened.journal.queue(after_ordinal=0, limit=9)) == 1 and not place.begun.exists()
    opened.journal.close()


def test_a_disk_that_fails_is_no_damage_to_be_noted(tmp_path: Path) -> None:
    place = Place(tmp_path / "j.db")
    note_damage(place, JournalFailed("a sync failed"))
    assert not place.mark.exists()
    note_damage(place, JournalDamaged("a page"))
    assert place.mark.read_text("utf-8") == "damaged: a page"
    note_damage(Place(tmp_path / "none" / "j.db"), JournalDamaged("a page"))  # the next run finds the same


@pytest.mark.fault("F46")
def test_a_log_that_finds_no_room_to_be_renewed_takes_the_ballasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path / "j.db", budget_bytes=64_000_000)
    journal = open_or_replace(place, 0).journal
    with journal.transaction():
        journal.append_batch(batch(1))
    ballast, renewed = tmp_path / "j.db.ballast", []
    assert ballast.exists()
    image = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    journal.close()
    for name, content in image.items():
        (tmp_path / name).write_bytes(content)

    def renew(files: FolderFiles, path: Path, *, guarded_by: Path) -> None:
        renewed.append(ballast.exists())
        if ballast.exists():
            raise JournalFull("no room beside the journal")

    monkeypatch.setattr(FolderFiles, "renew", renew)
    journal = open_or_replace(place, 0).journal
    assert renewed == [True, False]
    assert len(journal.queue(after_ordinal=0, limit=9)) == 1
    journal.close()


@pytest.mark.fault("F46", "F49")
@pytest.mark.parametrize("has_failed", [False, True])
def test_without_room_a_log_is_read_as_it_is_but_never_after_a_failure_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_failed: bool
) -> None:
    """What a failed sync left in it may not be on the disk; a start that could not find that out has to wait."""
    place = Place(tmp_path / "j.db")
    journal = open_or_replace(place, 0).journal
    with journal.transaction():
        journal.append_batch(batch(1))
    image = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    journal.close()
    for name, content in image.items():
        (tmp_path / name).write_bytes(content)

    def renew(files: FolderFiles, path: Path, *, guarded_by: Path) -> None:
        raise JournalFull("no room beside the journal")

    monkeypatch.setattr(FolderFiles, "renew", renew)
    if has_failed:
        place.files.mark(place.mark, "failed ")
        with pytest.raises(JournalFull, match="no room beside"):
            open_or_replace(place, 0)
        return
    journal = open_or_replace(place, 0).journal
    assert len(journal.queue(after_ordinal=0, limit=9)) == 1
    journal.close()
