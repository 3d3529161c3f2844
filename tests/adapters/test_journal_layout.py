"""How readings and positions lie in the journal: packed, found again, checked, purged, carried over from version 5."""

import gc
import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.journal import (
    Place,
    SqliteJournal,
    StdlibConnection,
    carryover,
    open_at,
    open_journal,
    open_or_replace,
)
from agent.adapters.journal.connection import Row, Value, statements_of
from agent.adapters.journal.cuts import AT_TIME
from agent.adapters.journal.names import Names
from agent.adapters.journal.packing import Packer, Unpacker
from agent.errors import JournalDamaged, JournalFailed, JournalFull
from agent.metering.interval import Moment
from agent.metering.ledger import Basis, Head, Point, Run
from agent.service.journal import KeptDescriptor, Reading
from simulators.world.disk import Cut, Disk, DiskVfs, Keep
from simulators.world.storage import WorldConnection
from tests.adapters.test_journal import BASIS, batch
from tests.bench import flash
from tests.service.bench import MINUTE_MS, NOON_MS, Bench
from tests.support.disks import place_on

CFG = "d" * 43
whole_numbers = st.integers(min_value=-(2**130), max_value=2**130)


# ------------------------------------------------------------------------------------------------------- packing


@given(st.lists(st.lists(whole_numbers, min_size=3, max_size=3), max_size=9), st.text() | st.none())
def test_what_is_packed_comes_back(columns: list[list[int]], name: str | None) -> None:
    packer = Packer()
    packer.text(name)
    for column in columns:
        packer.column(column)
    given_ = Unpacker(packer.bytes())
    assert given_.text() == name
    for column in columns:
        found = given_.column(3)
        assert [found[row] for row in range(3)] == column
    given_.end()


@given(st.lists(st.integers(0, 700), max_size=40), st.integers(-5, 800))
def test_the_places_of_a_value_are_all_of_its_places(values: list[int], wanted: int) -> None:
    packer = Packer()
    packer.column(values)
    column = Unpacker(packer.bytes()).column(len(values))
    assert column.places(wanted, len(values)) == [row for row, value in enumerate(values) if value == wanted]


@pytest.mark.parametrize("cut", range(12))
def test_what_is_cut_short_or_of_another_version_is_damage(cut: int) -> None:
    packer = Packer()
    packer.text("reflow")
    packer.column([1, 300, 70_000])
    data = packer.bytes()
    given_ = Unpacker(data[:cut]) if cut else None
    with pytest.raises(JournalDamaged):
        if given_ is None:
            Unpacker(b"\x07" + data[1:])
        else:
            given_.text()
            given_.column(3)
    longer = Unpacker(data + b"\x00")
    longer.text()
    longer.column(3)
    with pytest.raises(JournalDamaged, match="longer"):
        longer.end()


# ------------------------------------------------------------------------------------------------------ readings


def journal_at(path: Path) -> SqliteJournal:
    journal = open_journal(path)
    if journal.descriptor(CFG) is None and journal.latest_descriptor() is None:
        with journal.transaction():
            journal.add_descriptor(KeptDescriptor(CFG, 1, b"a.b.c"))
    return journal


def any_reading(chance: random.Random, meter: str, cut_ms: int) -> Reading:
    """Anything that a reading may be, also what a meter rarely is."""
    per_count = chance.choice([Fraction(10_000), Fraction(1), Fraction(1000, 3)])
    counts = chance.randrange(2 ** chance.choice([8, 32, 60]))
    register = counts * 10_000 if chance.random() < 0.5 else chance.randrange(2**53)
    words = chance.choice([(), (counts >> 16 & 0xFFFF, counts & 0xFFFF), tuple(range(12))])
    when = chance.choice(
        [
            None,
            Moment(None, None, 5),
            Moment("boot-a", 77, None),
            Moment("boot-b", 10**12, 0),
            Moment(None, 3, 4),
        ]
    )
    point = Point(
        meter,
        cut_ms + chance.randrange(-5, 9_000),
        cut_ms,
        register,
        Basis(per_count, chance.choice([None, 10**10]), chance.choice([None, "7", "百"])),
        frozenset(chance.sample(["comm", "clock", "quant"], chance.randrange(3))),
        opens=chance.choice([None, None, None, "reset"]),
        when=when,
    )
    return Reading(point, words, CFG)


def test_readings_of_every_kind_come_back_as_they_were_in_their_order(tmp_path: Path) -> None:
    chance = random.Random(6)
    journal = journal_at(tmp_path / "j.db")
    kept: list[Reading] = []
    for turn in range(40):
        with journal.transaction():
            for number in range(chance.randrange(1, 30)):
                kept.append(any_reading(chance, f"m{number % 11}", turn * MINUTE_MS))
                journal.add_reading(kept[-1])
    journal.close()
    journal = open_journal(tmp_path / "j.db")
    for meter in {reading.point.meter for reading in kept}:
        assert journal.readings(meter, after=None) == [each for each in kept if each.point.meter == meter]
    assert journal.readings("nobody", after=None) == []


def test_readings_are_found_from_a_position_on_and_around_a_time(tmp_path: Path) -> None:
    """Against a walk over all of them; one meter is silent for a while, one is read twice at each boundary."""
    journal = journal_at(tmp_path / "j.db")
    kept: list[Reading] = []
    for turn in range(200):
        with journal.transaction():
            for meter in ("a", "b", "b", *(["c"] if not 40 <= turn < 160 else [])):
                at_ms = turn * MINUTE_MS + 10 * len(kept) % 997
                kept.append(Reading(Point(meter, at_ms, turn * MINUTE_MS, len(kept) * 10, BASIS), (), CFG))
                journal.add_reading(kept[-1])
    for meter in "abc":
        own = [each for each in kept if each.point.meter == meter]
        for place in (0, 1, len(own) // 2, len(own) - 1):
            point = own[place].point
            head = Head(meter, 1, 1, point.register_milliwh, point.at_ms, point.cut_ms, BASIS, CFG)
            assert journal.readings(meter, after=head) == own[place:]
            assert journal.readings(meter, after=replace(head, register_milliwh=3)) == []
            before, after = journal.readings_around(meter, point.at_ms)
            at = min(i for i, each in enumerate(own) if each.point.at_ms >= point.at_ms)
            assert (before, after) == (own[at - 1] if at else None, own[at])
        assert journal.readings_around(meter, 10**12) == (own[-1], None)
    assert journal.readings_around("nobody", 5) == (None, None)


@pytest.mark.fault("F53")
def test_a_flipped_bit_in_an_old_reading_is_noticed_wherever_it_lies(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for turn in range(20):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 2_000 + turn})
    journal, db = bench.journal, bench.journal._db
    ((id, sound),) = db.execute("SELECT id, data FROM cuts ORDER BY id LIMIT 1")
    assert isinstance(sound, bytes) and isinstance(id, int)
    for bit in range(8 * len(sound)):
        rotten = bytearray(sound)
        rotten[bit // 8] ^= 1 << bit % 8
        db.execute("UPDATE cuts SET data = ? WHERE id = ?", (bytes(rotten), id))
        with pytest.raises(JournalDamaged):
            journal.readings("reflow-1", after=None)
        with pytest.raises(JournalDamaged):
            journal.check_readings()
    db.execute("UPDATE cuts SET data = ? WHERE id = ?", (sound, id))
    journal.check_readings()


def test_a_meter_of_a_month_ago_is_found_with_few_questions(tmp_path: Path) -> None:
    asked: list[str] = []

    class Listening(StdlibConnection):
        def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
            asked.append(sql)
            return super().execute(sql, parameters)

    journal = open_journal(tmp_path / "j.db", Listening)
    with journal.transaction():
        journal.add_descriptor(KeptDescriptor(CFG, 1, b"a.b.c"))
        for turn in range(5_000):
            journal.add_reading(Reading(Point("m1", turn, turn, turn, BASIS), (), CFG))
            journal._write_readings()
    asked.clear()
    before, after = journal.readings_around("m1", 1_234)
    assert (before and before.point.at_ms, after and after.point.at_ms) == (1_233, 1_234)
    assert len(asked) < 30
    plan = journal._db.execute(f"EXPLAIN QUERY PLAN {AT_TIME}", (5,))
    assert "SEARCH cuts USING COVERING INDEX cuts_by_time (at_to>?)" in [str(row[3]) for row in plan]


# ----------------------------------------------------------------------------------------------------- retention


def test_a_purge_frees_room_and_leaves_the_turning_points_of_a_hundred_meters(tmp_path: Path) -> None:
    journal = journal_at(tmp_path / "j.db")
    for turn in range(1, 301):
        with journal.transaction():
            for number in range(100):
                opens = "first" if turn == 1 else "reset" if (turn, number) == (150, 7) else None
                at_ms = turn * MINUTE_MS + 36 * number
                point = Point(f"m{number}", at_ms, turn * MINUTE_MS, turn * 10_000, BASIS, opens=opens)
                journal.add_reading(Reading(point, (0, turn), CFG))
            journal.append_batch(batch(turn, sealed_ms=turn * MINUTE_MS))
    with journal.transaction():
        journal.mark_stored(batch(256).head, 1_000)
    before = journal.waiting().used_bytes
    while journal.purge(stored_before_ms=2_000):
        pass
    assert journal.waiting().used_bytes < 0.45 * before, "hashes stay, and 44 of 300 intervals"
    turns = [each.point.cut_ms // MINUTE_MS for each in journal.readings("m7", after=None)]
    assert turns == [1, 149, 150, *range(256, 301)]
    turns = [each.point.cut_ms // MINUTE_MS for each in journal.readings("m8", after=None)]
    assert turns == [1, *range(256, 301)]
    with journal.transaction():
        journal.mark_stored(batch(300).head, 1_500)
    while journal.purge(stored_before_ms=2_000):
        pass
    turns = [each.point.cut_ms // MINUTE_MS for each in journal.readings("m7", after=None)]
    assert turns == [1, 149, 150, 300]
    journal.check_readings()


def test_a_day_of_a_hundred_meters_is_written_with_fifty_megabytes(tmp_path: Path) -> None:
    """`make bench ARGS=flash` for longer; half an hour here, with acknowledgements and a purge."""
    gc.collect()  # journals of other tests write when they go, and the kernel counts for all of the process
    said = flash.measure(tmp_path, minutes=33)
    assert said.purged > 0
    assert said.all <= flash.MB_A_DAY_MAX


# ------------------------------------------------------------------------------------------------------ carry over

DUMP = Path(__file__).parent / "journals" / "0005.sql"


def disk_with_version_5() -> Disk:
    """The dump of a journal of version 5 on the simulated disk, durable."""
    disk = Disk()
    connection = WorldConnection(DiskVfs(disk))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.script(DUMP.read_text("utf-8"))
    connection.close()
    return disk


def content(journal: SqliteJournal) -> list[object]:
    """All that was carried over, as the journal gives it."""
    readings = [journal.readings(meter, after=None) for meter in ("reflow-1", "wave-1")]
    batches = journal.batches_between(after_ordinal=0, up_to_ordinal=99, limit=99)
    return [journal.heads(), readings, batches, journal.backlog(), journal.waiting().for_ms, journal.state()]


@pytest.mark.fault("F51", "F52", "F83")
@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_a_power_cut_at_any_moment_of_the_carrying_over_costs_nothing(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second operation; each with one of three ways to lose what was not synced."""
    monkeypatch.setattr(carryover, "_PIECE_READINGS", 3)
    monkeypatch.setattr(carryover, "_PIECE_BATCHES", 2)
    disk = disk_with_version_5()
    before = disk.operations
    journal = open_at(place_on(disk))
    wanted = content(journal)
    assert len(wanted[1][0]) == 5 and len(wanted[2]) == 6  # type: ignore[index,arg-type]
    operations = disk.operations - before
    journal.close()
    interrupted_in_the_middle = 0
    for number in range(first, operations, 8):
        disk = disk_with_version_5()
        keep = (Keep.NONE, Keep.SOME, Keep.ALL)[number // 8 % 3]
        disk.troubles[disk.operations + number] = Cut(keep, seed=number)
        with pytest.raises(JournalFailed):
            open_at(place_on(disk))
        disk.restart()
        raw = WorldConnection(DiskVfs(disk))
        raw.execute("PRAGMA locking_mode=EXCLUSIVE")
        tables = raw.execute(
            "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'former%' AND type = 'table'"
        )
        interrupted_in_the_middle += tables not in ([(0,)], [(3,)])
        raw.close()
        journal = open_or_replace(place_on(disk), 0).journal
        assert content(journal) == wanted
        journal.close()
    assert interrupted_in_the_middle > 0


def test_a_journal_of_a_former_version_keeps_its_page_size_and_its_budget(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    raw = StdlibConnection(path)
    raw.execute("PRAGMA page_size=4096")
    raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
    raw.script(DUMP.read_text("utf-8"))
    raw.close()
    place = Place(path, budget_bytes=64_000_000)
    journal = open_or_replace(place, 0).journal
    assert journal._db.execute("PRAGMA page_size") == [(4096,)]
    assert journal._db.execute("PRAGMA max_page_count") == [((64_000_000 - 3_000_000) // 4096,)]
    assert journal._db.execute("PRAGMA wal_autocheckpoint") == [(900_000 // 4096,)]
    journal.close()
    fresh = open_or_replace(Place(tmp_path / "new.db", budget_bytes=64_000_000), 0).journal
    assert fresh._db.execute("PRAGMA page_size") == [(1024,)]
    assert fresh._db.execute("PRAGMA max_page_count") == [((64_000_000 - 3_000_000) // 1024,)]
    fresh.close()


def old_journal(path: Path, version: int) -> int:
    """The dump of a former version in a file without a free page; gives its size."""
    raw = StdlibConnection(path)
    raw.execute("PRAGMA synchronous=OFF")
    raw.script((DUMP.parent / f"{version:04d}.sql").read_text("utf-8"))
    raw.execute("VACUUM")
    raw.close()
    return path.stat().st_size


@pytest.mark.fault("F46", "F83")
@pytest.mark.parametrize("version", range(1, 8))
def test_a_former_journal_that_fills_its_budget_is_carried_over_all_the_same(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "journal.db"
    size = old_journal(path, version)
    journal = open_or_replace(Place(path, budget_bytes=3_000_000 + size), 0).journal
    assert journal.heads()["reflow-1"].n and journal.readings("reflow-1", after=None)
    journal.close()


@pytest.mark.fault("F46", "F83")
@pytest.mark.parametrize("version", range(1, 8))
def test_a_former_journal_on_a_full_disk_is_carried_over_in_the_room_of_the_ballast(
    tmp_path: Path, version: int
) -> None:
    """Else the start would fail for ever: nothing makes room before the journal is open."""
    path = tmp_path / "journal.db"
    old_journal(path, version)
    place = Place(path, budget_bytes=64_000_000)
    room = place.room()
    assert room is not None
    room.restore()
    ballast, refused = room.ballast, []

    class FullDisk(StdlibConnection):
        def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
            if sql == "COMMIT" and ballast.exists() and self.execute("PRAGMA user_version") != [(version,)]:
                refused.append(sql)
                raise JournalFull("no room")
            return super().execute(sql, parameters)

    journal = open_or_replace(replace(place, connect=FullDisk), 0).journal
    assert refused and journal.heads()["reflow-1"].n
    journal.close()


# ------------------------------------------------------------------------------------------------------ positions


def test_positions_of_every_kind_come_back_and_an_epoch_that_ends_is_noted(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    plain = Head("a", 1, 0, 5, NOON_MS, NOON_MS, BASIS, "c" * 43)
    heads = [
        plain,
        replace(plain, meter="b", n=2**40, run=Run(7, 3, 10**10, 20_414), suspect=True),
        replace(plain, meter="c", restored=True, cfg="e" * 43, when=Moment("boot", 17, 3)),
        replace(plain, meter="d", at_ms=-5, run=Run(0, 9, 0, 0), when=Moment(None, None, None)),
        replace(plain, meter="e", basis=Basis(Fraction(7, 3), 10**12, "x"), when=Moment("boot", None, 0)),
    ]
    with journal.transaction():
        for head in heads:
            journal.save_head(head)
        assert journal.heads() == {head.meter: head for head in heads}
    with journal.transaction():
        journal.save_head(replace(heads[1], epoch=2, n=0))
    with pytest.raises(RuntimeError, match="on purpose"), journal.transaction():
        journal.save_head(replace(plain, n=77))
        raise RuntimeError("on purpose")
    journal.close()
    journal = open_journal(tmp_path / "j.db")
    assert journal.heads() == {head.meter: head for head in heads} | {"b": replace(heads[1], epoch=2, n=0)}
    assert journal.epoch_end("b", 1) == 2**40 and journal.epoch_end("a", 1) is None


def test_names_that_were_added_through_another_door_are_found(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    names = Names(journal._db)
    with pytest.raises(JournalDamaged, match="1 of boots"):
        names.boot(1)
    with journal.transaction():
        journal._boot_id("boot-a")
    assert names.boot(1) == "boot-a"
    assert statements_of("SELECT 1;\nSELECT 2;\n") == ["SELECT 1;", "SELECT 2;"]
