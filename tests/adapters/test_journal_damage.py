"""A journal that was not left in good order: failed syncs, flipped bits, rot in what judges energy."""

import errno
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.journal import (
    Place,
    SqliteJournal,
    note_damage,
    open_at,
    open_or_replace,
    opening,
)
from agent.errors import JournalDamaged, JournalFailed
from agent.metering.interval import DAY_MS
from agent.service.journal import Standing
from simulators.world.disk import Cut, Disk, DiskVfs, Keep, Trouble
from simulators.world.storage import JOURNAL, WorldConnection
from tests.adapters.damaged import TURNS, a_journal, a_journal_with_everything, open_here, spoil
from tests.service.bench import Bench
from tests.support.disks import place_on


def put(journal: SqliteJournal, number: int) -> None:
    with journal.transaction():
        journal.save_state(replace(journal.state(), seq=number, clean=False))


def after_a_failed_sync() -> Disk:
    """Number 1 is on the disk; the sync of number 2 failed, and its process has ended."""
    disk = Disk()
    journal = open_or_replace(place_on(disk), 0).journal
    put(journal, 1)
    disk.troubles = dict.fromkeys(range(disk.operations, disk.operations + 40), Trouble.SYNC)
    with pytest.raises(JournalFailed):
        put(journal, 2)
    disk.troubles.clear()
    disk.end_process()
    return disk


@pytest.mark.fault("F49")
def test_what_a_failed_sync_left_in_the_page_cache_is_on_the_disk_before_anybody_sees_it() -> None:
    disk = after_a_failed_sync()
    seen = open_or_replace(place_on(disk), 0).journal.state().seq
    disk.cut_power(Cut(Keep.NONE))
    disk.restart()
    assert open_or_replace(place_on(disk), 0).journal.state().seq == seen == 2


@pytest.mark.fault("F49")
def test_without_that_it_would_be_lost_after_it_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: this is what every start did before."""
    disk = after_a_failed_sync()
    monkeypatch.setattr(opening, "_renew", lambda *_: None)
    reader = WorldConnection(DiskVfs(disk))
    reader.execute("PRAGMA locking_mode=EXCLUSIVE")
    seen = reader.execute("SELECT seq FROM state")
    disk.cut_power(Cut(Keep.NONE))
    disk.restart()
    assert (seen, open_or_replace(place_on(disk), 0).journal.state().seq) == ([(2,)], 1)


@pytest.mark.fault("F49", "F51", "F52")
@pytest.mark.parametrize("keep", list(Keep))
def test_a_power_cut_at_any_operation_of_such_a_start_loses_nothing_that_was_durable(keep: Keep) -> None:
    clean_start = after_a_failed_sync()
    before = clean_start.operations
    open_or_replace(place_on(clean_start), 0)
    for number in range(clean_start.operations - before):
        disk = after_a_failed_sync()
        disk.troubles[disk.operations + number] = Cut(keep, seed=number)
        with pytest.raises(JournalFailed):
            open_or_replace(place_on(disk), 0)
        disk.restart()
        assert open_or_replace(place_on(disk), 0).journal.state().seq in (1, 2)


@pytest.mark.fault("F79")
def test_the_log_of_a_journal_in_use_is_left_alone(tmp_path: Path) -> None:
    """Another process, because a lock does not keep its own process out."""
    place = Place(tmp_path / "j.db")
    journal = open_or_replace(place, 0).journal
    put(journal, 1)
    log = tmp_path / "j.db-wal"
    before = log.stat().st_ino
    program = f"""
from pathlib import Path
from agent.adapters.journal import Place, open_or_replace
open_or_replace(Place(Path({str(place.path)!r})), 0)
"""
    second = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "JournalHeld" in second.stderr
    assert log.stat().st_ino == before
    put(journal, 2)
    journal.close()
    assert open_or_replace(place, 0).journal.state().seq == 2


# ------------------------------------------------------------------------------------------------------------ bit rot


ROTTEN = {
    "a batch": "UPDATE texts SET jws = CAST(substr(jws, 1, 120) || x'00' || substr(jws, 122) AS BLOB)",
    "a head": "UPDATE positions SET data = CAST(substr(data, 1, 60) || x'00' || substr(data, 62) AS BLOB)",
    "all heads gone": "DELETE FROM positions",
    "a reading": "UPDATE cuts SET data = CAST(substr(data, 1, 12) || x'f0' || substr(data, 14) AS BLOB) WHERE id > 58",
    "its time": "UPDATE cuts SET at_to = at_to + 64 WHERE id > 58",
    "a ratio": "UPDATE bases SET per_count = '10p00/1'",
    "a descriptor": "UPDATE descriptors SET jws = CAST(x'41' || substr(jws, 2) AS BLOB)",
    "the own head": "UPDATE state SET seq = seq - 1",
    "its hash": "UPDATE state SET hash = substr(hash, 1, 20) ||"
    " CASE substr(hash, 21, 1) WHEN 'x' THEN 'y' ELSE 'x' END || substr(hash, 22)",
    "a basis gone": "DELETE FROM bases WHERE id = 2",
}


@pytest.mark.fault("F53")
@pytest.mark.parametrize("what", ROTTEN)
def test_a_flipped_bit_is_found_at_the_next_start_and_the_journal_replaced(tmp_path: Path, what: str) -> None:
    a_journal(tmp_path).journal.close()
    spoil(tmp_path / "journal.db", "PRAGMA foreign_keys=OFF")
    with sqlite3.connect(tmp_path / "journal.db", isolation_level=None) as raw:
        raw.execute(ROTTEN[what])
    raw.close()
    with pytest.raises(JournalDamaged):
        open_at(Place(tmp_path / "journal.db"))
    opened = open_here(tmp_path)
    assert opened.aside == tmp_path / "journal.db.damaged-17" and opened.aside.exists()
    opened.journal.close()
    again = open_here(tmp_path)
    assert again.aside is None


@pytest.mark.fault("F53")
def test_a_batch_that_rotted_while_the_agent_ran_is_refused_and_the_next_start_replaces_the_journal(
    tmp_path: Path,
) -> None:
    a_journal(tmp_path).journal.close()
    spoil(
        tmp_path / "journal.db",
        "UPDATE texts SET jws = CAST(x'00' || substr(jws, 2) AS BLOB) WHERE ordinal = 5",
    )
    place = Place(tmp_path / "journal.db")
    journal = open_at(place)  # older than what a start looks into
    with pytest.raises(JournalDamaged) as found:
        journal.queue(after_ordinal=0, limit=8)
    note_damage(place, found.value)
    journal.close()
    opened = open_here(tmp_path)
    assert opened.aside is not None and opened.salvaged is not None
    assert (opened.salvaged.batches, opened.salvaged.lost) == (TURNS - 1, 1)
    assert not place.mark.exists()


@pytest.mark.fault("F53")
def test_what_a_status_says_of_the_oldest_batch_is_judged_by_its_text(tmp_path: Path) -> None:
    """World seed 6171: no platform took a status that named a chain which is none, and it was asked for ever."""
    a_journal(tmp_path).journal.close()
    spoil(
        tmp_path / "journal.db",
        "UPDATE batches SET chain = 'A' || substr(chain, 2, 24) || '!' WHERE ordinal = 1",
    )
    place = Place(tmp_path / "journal.db")
    journal = open_at(place)
    with pytest.raises(JournalDamaged, match="where it belongs") as found:
        journal.oldest()
    note_damage(place, found.value)
    journal.close()
    opened = open_here(tmp_path)
    assert opened.aside is not None
    oldest = opened.journal.oldest()
    assert oldest is None, "batches stay in the damaged file"


@pytest.mark.fault("F48")
def test_a_disk_that_fails_for_a_moment_costs_no_journal() -> None:
    disk = Disk()
    journal = open_or_replace(place_on(disk), 0).journal
    put(journal, 5)
    disk.end_process()
    for _ in range(2):
        disk.troubles = dict.fromkeys(range(disk.operations, disk.operations + 3), Trouble.EIO)
        with pytest.raises(JournalFailed):
            open_or_replace(place_on(disk), 0)
        disk.troubles.clear()
        disk.end_process()
    opened = open_or_replace(place_on(disk), 0)
    assert (opened.aside, opened.journal.state().seq) == (None, 5)
    assert not disk.files.get(f"{JOURNAL}.suspect")


@pytest.mark.fault("F46")
def test_where_there_is_no_room_for_the_ballast_the_journal_opens_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(number: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("agent.adapters.journal.files.os.fsync", no_room)
    place = Place(tmp_path / "j.db", budget_bytes=64_000_000)
    put(open_or_replace(place, 0).journal, 1)
    assert not (tmp_path / "j.db.ballast").exists()


# -------------------------------------------------------------------------------------- numbers that judge energy

GUARDED = {
    "a receipt": (
        "UPDATE acknowledgements SET jws = CAST(x'00' || substr(jws, 2) AS BLOB)",
        "acknowledgements",
    ),
    "a receipt's number": ("UPDATE acknowledgements SET ack_no = ack_no - 1", "acknowledgements"),
    "how new the platform's word is": ("UPDATE state SET gen = gen + 4", "state"),
    "what is acknowledged": ("UPDATE state SET acked_seq = acked_seq + 8", "state"),
    "where an epoch began": ("UPDATE gates SET opened_milliwh = opened_milliwh + 1024", "gates"),
    "a doubt": ("UPDATE doubts SET register_milliwh = register_milliwh + 4096", "doubts"),
    "an order": ("UPDATE orders SET last_kwh = '9999'", "orders"),
    "where an epoch ended": ("UPDATE epoch_ends SET n = n + 1", "epoch_ends"),
    "an epoch's change": ("UPDATE epoch_changes SET n_last = n_last + 2", "epoch_changes"),
    "a statement": ("UPDATE statements SET body = replace(body, '5', '7')", "statements"),
    "a key": ("UPDATE key_uses SET kid = substr(kid, 2) || 'A'", "key_uses"),
    "a stretch of the clock": ("UPDATE clock_stretches SET offset_ms = offset_ms + 65536", "clock_stretches"),
    "a ratio": ("UPDATE bases SET per_count = '10080/1'", "bases"),
    "a meter's name": ("UPDATE meters SET name = 'reflow-3' WHERE name = 'reflow-1'", "meters"),
    "a refused chain": ("UPDATE refused_chains SET chain = 'Z' || substr(chain, 2)", "refused_chains"),
    "what is left to tell": ("UPDATE retelling SET body = replace(body, '1', '3')", "retelling"),
}


@pytest.mark.fault("F53")
@pytest.mark.parametrize("what", GUARDED)
def test_rot_in_a_number_that_judges_energy_is_noticed_and_the_journal_replaced(
    tmp_path: Path, what: str
) -> None:
    a_journal_with_everything(tmp_path).journal.close()
    sql, table = GUARDED[what]
    with sqlite3.connect(tmp_path / "journal.db", isolation_level=None) as raw:
        raw.execute(sql)
        assert raw.execute("SELECT changes()").fetchall() != [(0,)]
    raw.close()
    place = Place(tmp_path / "journal.db")
    note_damage(place, JournalDamaged("something it read"))
    with pytest.raises(JournalDamaged, match=f"a row of {table}"):
        open_at(place, thoroughly=True)
    opened = open_here(tmp_path)
    assert opened.aside is not None
    assert opened.journal.state().owner is None
    opened.journal.close()


@pytest.mark.fault("F53")
def test_a_sound_journal_with_everything_in_it_passes_the_thorough_check(tmp_path: Path) -> None:
    a_journal_with_everything(tmp_path).journal.close()
    open_at(Place(tmp_path / "journal.db"), thoroughly=True).close()


@pytest.mark.fault("F53")
def test_a_rotten_receipt_is_never_given_out_nor_kept_on_and_the_platform_is_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for turn in range(3):
        bench.read({"reflow-1": 1_000 + turn})
        bench.acknowledge(
            bench.journal.state().head, number=turn + 1, stored_ms=bench.clock.now_ms + turn * DAY_MS
        )
    bench.read({"reflow-1": 1_004})
    journal = bench.journal
    journal._db.execute("UPDATE acknowledgements SET jws = CAST('receipt 9' AS BLOB) WHERE ack_no = 2")
    with pytest.raises(JournalDamaged, match="a row of acknowledgements") as found:
        journal.acknowledgements(after_day=0, limit=9)
    note_damage(Place(tmp_path / "journal.db"), found.value)
    journal.close()
    opened = open_here(tmp_path)
    receipts = opened.journal.acknowledgements(after_day=0, limit=9)
    assert [receipt.jws for receipt in receipts] == [b"receipt 1", b"receipt 3"]
    state = opened.journal.state()
    assert (state.standing, state.ack_no) == (Standing.ASKING, 3)
    opened.journal.close()
