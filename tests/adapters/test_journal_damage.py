"""A journal that was not left in good order: failed syncs, flipped bits, and what a damaged file still proves."""

import errno
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from agent.adapters.journal import (
    Opened,
    Place,
    SqliteJournal,
    StdlibConnection,
    note_damage,
    open_at,
    open_or_replace,
    opening,
)
from agent.adapters.journal.connection import Row, Value
from agent.adapters.journal.cuts import ROW
from agent.adapters.journal.salvage import salvage
from agent.adapters.journal.sums import COLUMNS, sum_of
from agent.errors import JournalDamaged, JournalFailed
from agent.metering.interval import DAY_MS
from agent.metering.later import SETTLED
from agent.metering.memory import Memory, Order
from agent.reporting.batch import Batch, Delta
from agent.reporting.chain import ChainHead
from agent.reporting.event import Event
from agent.service.clocking import Stretch
from agent.service.journal import KeyUse, Retelling, Standing
from agent.service.statements import Statement
from simulators.world.disk import Cut, Disk, DiskVfs, Keep, Trouble
from simulators.world.storage import JOURNAL, WorldConnection
from tests.service.bench import Bench
from tests.support.disks import place_on

TURNS = 30


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


def a_journal(folder: Path) -> Bench:
    """Thirty intervals of two meters, none of them acknowledged."""
    bench = Bench(folder)
    for turn in range(TURNS):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 2_000 + 2 * turn})
    return bench


def spoil(path: Path, sql: str, *values: object) -> None:
    """Change a stored value behind everybody's back."""
    with sqlite3.connect(path, isolation_level=None) as raw:
        raw.execute("UPDATE state SET clean = 0")
        (row,) = raw.execute(f"SELECT {COLUMNS['state']} FROM state").fetchall()
        raw.execute("UPDATE state SET sum = ?", (sum_of(row),))
        raw.execute(sql, values)
    raw.close()


def open_here(folder: Path) -> Opened:
    return open_or_replace(Place(folder / "journal.db"), 17)


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


@pytest.mark.fault("F53", "F54")
def test_what_was_salvaged_reaches_the_platform_without_a_count_lost_or_doubled(tmp_path: Path) -> None:
    bench = a_journal(tmp_path)
    sent = bench.batches()
    at = 10
    heads = _heads_at(bench, at)
    bench.journal.close()
    spoil(
        tmp_path / "journal.db",
        "UPDATE texts SET jws = CAST(x'00' || substr(jws, 2) AS BLOB) WHERE ordinal = 20",
    )
    note_damage(Place(tmp_path / "journal.db"), JournalDamaged("a batch"))
    bench.journal = open_here(tmp_path).journal
    assert bench.journal.state().standing is Standing.ASKING
    bench.read({"reflow-1": 1_050, "wave-1": 2_100})
    head = sent[at][0]
    bench.acknowledge(head, number=1, heads=heads, session="s")
    assert bench.journal.state().standing is Standing.NORMAL
    for meter, last in (("reflow-1", 1_050), ("wave-1", 2_100)):
        told = [d for _, batch in bench.batches() for d in batch.deltas if d.meter == meter]
        assert [each.epoch for each in told] == [1] * len(told)
        assert told[0].reg_start == heads[meter].register and told[-1].reg_end == last * 10_000
        assert all(a.reg_end == b.reg_start and b.n == a.n + 1 for a, b in pairwise(told))
        assert told[0].n == heads[meter].n + 1
        assert len(told) > 10, "the points in between were salvaged, not only the last one"


def _heads_at(bench: Bench, at: int) -> dict:  # type: ignore[type-arg]
    """What a platform says that has the batches up to and including this one."""
    last = {delta.meter: delta for _, batch in bench.batches()[: at + 1] for delta in batch.deltas}
    return {
        meter: bench.meter_head(meter, n=delta.n, register=delta.reg_end, end_ms=delta.end_ms)
        for meter, delta in last.items()
    }


@pytest.mark.fault("F54")
def test_pages_that_cannot_be_read_cost_only_what_stood_on_them(tmp_path: Path) -> None:
    bench = a_journal(tmp_path)
    bench.journal.close()
    spoil(tmp_path / "journal.db", "VACUUM")
    path = tmp_path / "journal.db"
    data = bytearray(path.read_bytes())
    with sqlite3.connect(path) as raw:
        pages = (
            [
                row[0]
                for row in raw.execute("SELECT pageno FROM dbstat WHERE name = 'texts' AND pagetype = 'leaf'")
            ]
            if _has_dbstat(raw)
            else []
        )
    raw.close()
    if not pages:
        pytest.skip("this SQLite is built without dbstat")
    victim = pages[len(pages) // 2]
    size = int.from_bytes(data[16:18], "big")  # SQLite file format, section 1.3
    data[(victim - 1) * size : victim * size] = b"\xa5" * size
    path.write_bytes(data)
    opened = open_here(tmp_path)
    assert opened.aside is not None and opened.salvaged is not None
    assert 0 < opened.salvaged.batches < TURNS and opened.salvaged.lost > 0


def _has_dbstat(raw: sqlite3.Connection) -> bool:
    return ("ENABLE_DBSTAT_VTAB",) in raw.execute("PRAGMA compile_options").fetchall()


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
    "a key": ("UPDATE key_uses SET kid = 'x' || substr(kid, 2)", "key_uses"),
    "a stretch of the clock": ("UPDATE clock_stretches SET offset_ms = offset_ms + 65536", "clock_stretches"),
    "a ratio": ("UPDATE bases SET per_count = '10080/1'", "bases"),
    "a meter's name": ("UPDATE meters SET name = 'reflow-3' WHERE name = 'reflow-1'", "meters"),
    "a refused chain": ("UPDATE refused_chains SET chain = 'Z' || substr(chain, 2)", "refused_chains"),
    "what is left to tell": ("UPDATE retelling SET body = replace(body, '1', '3')", "retelling"),
}


def a_journal_with_everything(folder: Path) -> Bench:
    """A row at least in each table that carries checksums."""
    bench = Bench(folder)
    bench.clock.boot = "boot-1"
    for count in (500_000, 3, 5, 9):
        bench.read({"reflow-1": count, "wave-1": count})
    bench.acknowledge(bench.journal.state().head, number=7)
    bench.read({"reflow-1": 2, "wave-1": 12})
    journal = bench.journal
    with journal.transaction():
        journal.save_order(Order("reflow-1", "exchange", 1, "anna", "12.5", "0", "77", confirmed=False))
        journal.add_statement(Statement(5, "manual", {"meter": "wave-1", "n": 5}))
        journal.save_clock_stretches((Stretch("boot-1", "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, None, 5, "U"),))
        journal.add_key_use(KeyUse("kid", {"kty": "OKP"}, None))
        journal.save_retelling(Retelling(1, "cfg", frozenset(), {}))
        journal.refuse_chain("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    for table in COLUMNS:
        assert journal._db.execute(f"SELECT 1 FROM {table}"), f"nothing in {table}"
    return bench


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


@pytest.mark.fault("F53", "F54")
def test_what_a_person_said_and_no_batch_has_told_yet_is_salvaged(tmp_path: Path) -> None:
    bench = a_journal_with_everything(tmp_path)
    journal, told = bench.journal, bench.journal.state().head
    assert told is not None
    with journal.transaction():
        journal.save_order(Order("wave-1", "exchange", 2, "ben", first_kwh="3", confirmed=True))
        remembered = replace(journal.memories()["wave-1"], serial="300", instead_of="200")
        journal.save_memory("wave-1", remembered)
        journal.tell_statement(
            journal.add_statement(Statement(6, "manual", {"meter": "wave-1", "n": 6})), told
        )
    orders = journal.orders()
    journal.close()
    with sqlite3.connect(tmp_path / "journal.db", isolation_level=None) as raw:
        raw.execute("UPDATE orders SET by_whom = 'eve' WHERE by_whom = 'anna'")
        raw.execute("UPDATE gates SET opened_milliwh = 1024 WHERE serial IS NULL")
    raw.close()
    note_damage(Place(tmp_path / "journal.db"), JournalDamaged("something it read"))
    opened = open_here(tmp_path)
    assert opened.aside is not None
    assert opened.journal.memories() == {"wave-1": Memory(serial="300", instead_of="200")}
    assert opened.journal.orders() == {"wave-1": orders["wave-1"]}, "what rotted is nobody's word"
    kept = [(each.noted_ms, each.told) for each in opened.journal.statements()]
    assert kept == [(5, None)], "what a batch told is told, or told again with it"
    opened.journal.close()


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


@pytest.mark.fault("F53", "F54", "F75")
def test_a_platform_put_back_to_before_an_epoch_learns_of_it_from_a_salvaged_journal(tmp_path: Path) -> None:
    """The batches that told of the reset are acknowledged and purged; its two registers are kept for ever."""
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 500_000, "wave-1": 7})
    bench.read({"reflow-1": 500_010, "wave-1": 7})
    said = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    for count in (500_020, 3, 4, 5, 30):
        bench.read({"reflow-1": count, "wave-1": 7})
    assert bench.journal.heads()["reflow-1"].epoch == 2
    head = bench.journal.state().head
    bench.acknowledge(head, number=1)
    with bench.journal.transaction():
        while bench.journal.purge(stored_before_ms=bench.clock.now_ms + DAY_MS):
            pass
    bench.read({"reflow-1": 40, "wave-1": 8})
    note_damage(Place(tmp_path / "journal.db"), JournalDamaged("a row"))
    bench.journal._db.execute("UPDATE key_uses SET kid = 'rot'")
    bench.journal._db.execute("UPDATE acknowledgements SET gen = 9")
    bench.journal.close()
    opened = open_here(tmp_path)
    assert opened.aside is not None
    bench.journal = opened.journal
    bench.clock.now_ms += 60_000
    unknown = ChainHead("01ARZ3NDEKTSV4RRFFQ69G5FAV", 9, "x" * 43)
    bench.acknowledge(unknown, number=50, gen=1, heads=said, session="s")
    told = [(kind, what) for _, batch in bench.batches() for kind, what in _said_of(batch, "reflow-1")]
    assert told[0] == ("delta", (500_010 * 10_000, 500_020 * 10_000)), "up to where the epoch ended"
    assert told[1][0] == "epoch" and told[1][1][0] == 500_020 * 10_000
    assert told[-1][1][1] == 40 * 10_000
    booked = sum(what[1] - what[0] for kind, what in told if kind == "delta")
    assert booked == (10 + 40 - told[1][1][1] // 10_000) * 10_000
    kept = bench.journal.readings("reflow-1", after=None)
    assert [SETTLED in each.point.flags for each in kept] == [True] * (len(kept) - 2) + [False] * 2
    assert not any(SETTLED in delta.q for _, batch in bench.batches() for delta in batch.deltas)


def _said_of(batch: Batch, meter: str) -> list[tuple[str, tuple[int, int]]]:
    """Deltas and epoch changes of a meter in the order in which they take effect."""
    found = []
    for each in batch.in_effect_order():
        if isinstance(each, Delta) and each.meter == meter:
            found.append(("delta", (each.reg_start, each.reg_end)))
        elif isinstance(each, Event) and each.type == "epoch" and each.body["meter"] == meter:
            found.append(("epoch", (each.integer("last"), each.integer("first"))))
    return found


@pytest.mark.fault("F53", "F54")
def test_readings_that_cannot_be_read_cost_no_turning_point_beside_them(tmp_path: Path) -> None:
    """A page of the old file is torn: a range over it cannot be read, nor the row on it."""
    bench = Bench(tmp_path)
    for count in (500_000, 500_010, 500_020, 3, 4, 5, 30):
        bench.read({"reflow-1": count, "wave-1": 7})
    bench.acknowledge(bench.journal.state().head, number=1)
    ((torn,),) = bench.journal._db.execute("SELECT min(id) FROM cuts")
    bench.journal.close()

    class Torn(StdlibConnection):
        def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
            if sql.startswith(ROW) and ("<=" in sql or parameters == (torn,)):
                raise JournalDamaged("database disk image is malformed")
            return super().execute(sql, parameters)

    fresh = open_at(Place(tmp_path / "new.db"))
    salvage(tmp_path / "journal.db", Torn, fresh, ask_first=True)
    kept = [reading.point for reading in fresh.readings("reflow-1", after=None)]
    assert [(point.register_milliwh, point.opens is not None) for point in kept][:1] == [
        (500_020 * 10_000, False)
    ]
    assert kept[1].opens is not None and kept[1].register_milliwh < 500_020 * 10_000
    fresh.close()
