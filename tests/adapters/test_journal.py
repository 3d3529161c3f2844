"""The journal file: locked, durable, refusing what it does not know, and keeping what must be kept for ever."""

import base64
import random
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from agent.adapters.journal import Place, StdlibConnection, open_journal, open_or_replace
from agent.adapters.journal.connection import Row, Value
from agent.adapters.journal.opening import schema_versions
from agent.errors import ConfigError, JournalDamaged, JournalFull, JournalHeld, JournalUnusable
from agent.metering.interval import Moment
from agent.metering.ledger import Basis, Head, Point
from agent.metering.memory import Exchanged, Memory, Pending, Said
from agent.reporting.chain import ChainHead
from agent.reporting.envelope import signing_input_hash
from agent.service.journal import KeptDescriptor, Reading, SealedBatch

CHAIN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
BASIS = Basis(Fraction(10_000), None, "100")
DESCRIPTOR = b"header.descriptor.signature"


def text_of(seq: int, size: int = 200) -> bytes:
    """Something of the form of a sealed message, that does not deflate well."""
    noise = random.Random(seq).randbytes(size)
    return b"header.%s.signature" % base64.urlsafe_b64encode(noise).rstrip(b"=")


def hash_of(seq: int, size: int = 200) -> str:
    return signing_input_hash(text_of(seq, size))


def batch(seq: int, *, sealed_ms: int = 0, size: int = 200) -> SealedBatch:
    text = text_of(seq, size)
    return SealedBatch(
        ChainHead(CHAIN, seq, signing_input_hash(text)), hash_of(seq - 1, size), None, sealed_ms, 5, text
    )


def test_what_was_committed_survives_the_death_of_the_process(tmp_path: Path) -> None:
    """A process that is killed right after its commit, without closing anything."""
    program = f"""
import os, signal, sys
from pathlib import Path
from agent.adapters.journal import open_journal
from tests.adapters.test_journal import batch
journal = open_journal(Path({str(tmp_path / "j.db")!r}))
for seq in range(1, 21):
    with journal.transaction():
        journal.append_batch(batch(seq))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    kept = open_journal(tmp_path / "j.db").queue(after_ordinal=0, limit=100)
    assert [each.head.seq for each in kept] == list(range(1, 21))


def moment_position(when: Moment | None) -> Head:
    return Head("m1", 1, 5, 700, 60_000, 60_000, BASIS, "cfg", restored=True, when=when)


@pytest.mark.fault("F40")
@pytest.mark.parametrize(
    "when",
    [
        None,
        Moment(None, None, None),
        Moment(None, None, 2000),
        Moment("boot-1", 5, None),
        Moment("boot-1", 5, 2000),
    ],
)
def test_what_is_known_of_a_time_is_the_same_after_a_restart(tmp_path: Path, when: Moment | None) -> None:
    """A label that deserves no trust is not believed because it has been in the journal (seeds 15 and 88)."""
    journal = open_journal(tmp_path / "j.db")
    with journal.transaction():
        journal.add_descriptor(KeptDescriptor("cfg", 1, DESCRIPTOR))
        journal.save_head(moment_position(when))
        journal.add_reading(Reading(Point("m1", 60_000, 60_000, 700, BASIS, when=when), (0, 700), "cfg"))
        journal.save_doubts("m1", [Pending(Point("m1", 60_000, 60_000, 700, BASIS, when=when), (0, 700))])
    journal.close()
    journal = open_journal(tmp_path / "j.db")
    assert journal.heads()["m1"].when == when
    assert journal.readings("m1", after=None)[0].point.when == when
    assert journal.doubts()["m1"][0].point.when == when


@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    "number", [None, Said("100"), Exchanged("200", "100"), Exchanged("200", None)], ids=str
)
def test_who_said_the_number_of_a_meter_is_the_same_after_a_restart(
    tmp_path: Path, number: Said | Exchanged | None
) -> None:
    memory = Memory(place="hall-a/1", returned_ms=5, proofs=1, number=number)
    with (journal := open_journal(tmp_path / "j.db")).transaction():
        journal.save_memory("m", memory)
    journal.close()
    journal = open_journal(tmp_path / "j.db")
    assert journal.memories() == {"m": memory}
    journal.close()


def test_the_rules_of_the_file_hold(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    answers = {
        name: journal._db.execute(f"PRAGMA {name}")[0][0]
        for name in ("locking_mode", "journal_mode", "synchronous", "foreign_keys", "auto_vacuum")
    }
    assert answers == {
        "locking_mode": "exclusive",
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "auto_vacuum": 2,
    }
    assert not (tmp_path / "j.db-shm").exists()
    tables = journal._db.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND strict = 0")
    assert {row[0] for row in tables} <= {"sqlite_schema", "sqlite_sequence"}


@pytest.mark.fault("F79")
def test_a_second_process_is_locked_out_at_once_and_told_why(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    with pytest.raises(JournalHeld, match="only one metering-agent"):
        open_journal(tmp_path / "j.db")
    with journal.transaction():
        journal.append_batch(batch(1))


@pytest.mark.fault("F83")
def test_a_journal_of_a_newer_version_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    open_journal(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="newer version"):
        open_or_replace(Place(path), 0)
    assert path.read_bytes() == before


def test_migrations_are_numbered_without_a_gap() -> None:
    assert list(schema_versions()) == list(range(1, len(schema_versions()) + 1))


@pytest.mark.fault("F54")
def test_a_file_that_is_no_journal_is_moved_aside_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(b"this is not a database, " * 500)
    with pytest.raises(JournalDamaged):
        open_journal(path)
    opened = open_or_replace(Place(path), 17)
    journal, aside = opened.journal, opened.aside
    assert (
        aside is not None
        and aside == tmp_path / "j.db.damaged-17"
        and aside.read_bytes().startswith(b"this is not")
    )
    assert journal.state().head is None


@pytest.mark.fault("F47")
def test_a_sound_file_that_cannot_be_written_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    """Somebody ran the agent as root once, or the card is mounted read-only: that is no damage."""

    class ReadOnly(StdlibConnection):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self._connection.close()
            self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)

    path = tmp_path / "j.db"
    open_journal(path).close()
    before = path.read_bytes()
    with pytest.raises(JournalUnusable, match="may write the file"):
        open_or_replace(Place(path, ReadOnly), 7)
    assert [file.name for file in tmp_path.iterdir() if "damaged" in file.name] == []
    assert path.read_bytes() == before
    open_or_replace(Place(path), 7).journal.close()


def test_a_folder_in_the_journals_place_is_said_and_left(tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable, match="unable to open"):
        open_or_replace(Place(tmp_path), 7)


@pytest.mark.fault("F53")
def test_damage_is_found_after_an_unclean_stop(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = open_journal(path)
    with journal.transaction():
        journal.save_state(replace(journal.state(), clean=False))
        for seq in range(1, 400):
            journal.append_batch(batch(seq, size=2000))
    journal.close()
    data = bytearray(path.read_bytes())
    for page in range(8, len(data) // 1024, 3):
        data[page * 1024 : page * 1024 + 64] = b"\x55" * 64
    path.write_bytes(data)
    with pytest.raises(JournalDamaged, match=r"check|malformed"):
        open_journal(path)


@pytest.mark.fault("F46")
def test_a_full_disk_changes_nothing_and_the_journal_stays_usable(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    pages = journal._db.execute("PRAGMA page_count")[0][0]
    journal._db.execute(f"PRAGMA max_page_count = {pages!r}")
    with pytest.raises(JournalFull), journal.transaction():
        for seq in range(1, 2000):
            journal.append_batch(batch(seq))
    assert journal.queue(after_ordinal=0, limit=5) == []
    journal._db.execute("PRAGMA max_page_count = 100000")
    with journal.transaction():
        journal.append_batch(batch(1))
    assert len(journal.queue(after_ordinal=0, limit=5)) == 1


def test_an_exception_in_a_transaction_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    with pytest.raises(ValueError, match="on purpose"), journal.transaction():
        journal.append_batch(batch(1))
        raise ValueError("on purpose")
    assert journal.queue(after_ordinal=0, limit=5) == []


def test_purge_keeps_the_turning_points_of_the_register_for_ever(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    cfg = signing_input_hash(DESCRIPTOR)
    opens = {3: "exchange"}
    with journal.transaction():
        journal.add_descriptor(KeptDescriptor(cfg, 1, DESCRIPTOR))
        for at in range(1, 8):
            mark = "first" if at == 1 else opens.get(at)
            journal.add_reading(Reading(Point("m1", at, at, at * 10, BASIS, opens=mark), (0, at), cfg))
            journal.append_batch(batch(at, sealed_ms=at))
        journal.mark_stored(batch(6).head, 1000)
        assert journal.purge(stored_before_ms=2000) == 6
    assert [reading.point.at_ms for reading in journal.readings("m1", after=None)] == [1, 2, 3, 6, 7]


def test_a_clock_that_was_wrong_makes_no_reading_go_before_its_batch(tmp_path: Path) -> None:
    """A batch sealed in 2099 by its clock is purged; what was read after it stays, whatever its clock said."""
    journal = open_journal(tmp_path / "j.db")
    cfg = signing_input_hash(DESCRIPTOR)
    times = [1, 2, 10**13, 10**13 + 1, 3, 4, 5]
    with journal.transaction():
        journal.add_descriptor(KeptDescriptor(cfg, 1, DESCRIPTOR))
        for seq, at in enumerate(times, 1):
            mark = "first" if seq == 1 else None
            journal.add_reading(Reading(Point("m1", at, at, seq * 10, BASIS, opens=mark), (0, seq), cfg))
            journal.append_batch(batch(seq, sealed_ms=at))
        journal.mark_stored(batch(4).head, 1000)
        assert journal.purge(stored_before_ms=2000) == 4
    assert [reading.point.at_ms for reading in journal.readings("m1", after=None)] == [1, 10**13 + 1, 3, 4, 5]


def test_what_is_acknowledged_is_found_by_numbers_also_where_batches_share_a_reading(tmp_path: Path) -> None:
    """Two batches tell of the same cut; while only one of them is acknowledged, none of its readings counts as such."""
    journal = open_journal(tmp_path / "j.db")
    cfg = "d" * 43

    def add(at: int, *seqs: int) -> None:
        journal.add_reading(Reading(Point("m1", at, at, at * 10, BASIS), (0, at), cfg))
        for seq in seqs:
            journal.append_batch(batch(seq, sealed_ms=at))

    def unacknowledged() -> tuple[int | None, list[int]]:
        anchor, rest = journal.readings_unacknowledged("m1")
        return None if anchor is None else anchor.point.at_ms, [each.point.at_ms for each in rest]

    with journal.transaction():
        journal.add_descriptor(KeptDescriptor(cfg, 1, b"jws"))
        add(50, 1)
        add(7, 2, 3)
        add(90, 4)
        assert unacknowledged() == (None, [50, 7, 90])
        journal.mark_stored(batch(1).head, 1000)
        assert unacknowledged() == (50, [7, 90])
        journal.mark_stored(batch(2).head, 1000)
        assert unacknowledged() == (50, [7, 90])
        journal.mark_stored(batch(3).head, 1000)
        assert unacknowledged() == (7, [90])
        journal.mark_stored(batch(4).head, 1000)
        assert unacknowledged() == (90, [])
    assert journal.readings_unacknowledged("nobody") == (None, [])


def test_an_acknowledgement_that_purges_nothing_reads_no_table(tmp_path: Path) -> None:
    """One comes every two seconds, and the tables grow for years."""
    asked: list[str] = []

    class Listening(StdlibConnection):
        def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
            asked.append(sql)
            return super().execute(sql, parameters)

    journal = open_journal(tmp_path / "j.db", Listening)
    asked.clear()
    assert journal.purge(stored_before_ms=2000) == 0
    (only,) = asked
    plan = [str(row[3]) for row in journal._db.execute(f"EXPLAIN QUERY PLAN {only}")]
    assert only.endswith("ORDER BY t.ordinal LIMIT 1"), "the first row of the texts that are kept"
    assert [step for step in plan if step.startswith("SCAN")] == ["SCAN t"]
    assert [step for step in plan if "TEMP B-TREE" in step or "AUTOMATIC" in step] == []


def test_positions_come_back_as_they_were(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    head = Head("m1", 2, 7, 2**53 - 1, 5, 4, Basis(Fraction(1, 3), 10**10, None), "c" * 43, restored=True)
    with journal.transaction():
        journal.save_head(head)
        journal.save_head(replace(head, n=8))
    assert journal.heads() == {"m1": replace(head, n=8)}
