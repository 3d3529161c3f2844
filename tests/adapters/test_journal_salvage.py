"""What is salvaged from a damaged journal, and that the platform gets of it nothing twice and nothing that was not."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from agent.adapters.journal import (
    Place,
    StdlibConnection,
    note_damage,
    open_at,
    open_journal,
)
from agent.adapters.journal.connection import Row, Value
from agent.adapters.journal.cuts import ROW
from agent.adapters.journal.rows import NOTHING_KNOWN
from agent.adapters.journal.salvage import salvage
from agent.errors import (
    JournalDamaged,
    JournalDoubtful,
    JournalFailed,
    JournalHeld,
    JournalUnusable,
    MeteringError,
)
from agent.metering.interval import DAY_MS
from agent.metering.later import SETTLED
from agent.metering.memory import Exchanged, Memory, Order
from agent.reporting.batch import Batch, Delta
from agent.reporting.chain import ChainHead
from agent.reporting.event import Event
from agent.service.journal import Standing, State
from agent.service.statements import Statement
from tests.adapters.damaged import TURNS, a_journal, a_journal_with_everything, open_here, spoil
from tests.adapters.test_journal import CHAIN
from tests.service.bench import Bench, with_ratio


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


@pytest.mark.fault("F53", "F54")
def test_what_a_person_said_and_no_batch_has_told_yet_is_salvaged(tmp_path: Path) -> None:
    bench = a_journal_with_everything(tmp_path)
    journal, told = bench.journal, bench.journal.state().head
    assert told is not None
    with journal.transaction():
        journal.save_retelling(None)
    bench.read({"reflow-1": 2, "wave-1": 13})
    superseded = journal.state().head
    assert superseded is not None and superseded.seq > told.seq
    with journal.transaction():
        journal.supersede_after(told)
        journal.tell_statement(
            journal.add_statement(Statement(7, "manual", {"meter": "wave-1", "n": 7})), superseded
        )
        journal.save_order(Order("wave-1", "exchange", 2, "ben", first_kwh="3", confirmed=True))
        remembered = replace(journal.memories()["wave-1"], number=Exchanged("300", "200"))
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
    assert opened.journal.memories() == {"wave-1": Memory(number=Exchanged("300", "200"))}
    assert opened.journal.orders() == {"wave-1": orders["wave-1"]}, "what rotted is nobody's word"
    kept = [(each.noted_ms, each.told) for each in opened.journal.statements()]
    assert kept == [(5, None), (7, None)], "not what a batch told: its numbers may mean other deltas now"
    assert opened.salvaged is not None and opened.salvaged.in_doubt == 1, "but a person is told of it"
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


@pytest.mark.fault("F53", "F54")
def test_a_delta_that_begins_below_the_one_before_it_makes_no_reading_of_its_beginning(
    tmp_path: Path,
) -> None:
    """A position that was wrong when the journal broke, one number and three counts off (world seed 1794)."""
    bench = a_journal(tmp_path)
    with bench.journal.transaction():
        head = bench.journal.heads()["reflow-1"]
        wrong = replace(head, n=head.n + 1, register_milliwh=head.register_milliwh - 30_000)
        bench.journal.save_head(wrong)
    bench.read({"reflow-1": 1_050})
    bench.journal.close()
    spoil(
        tmp_path / "journal.db",
        "UPDATE texts SET jws = CAST(x'00' || substr(jws, 2) AS BLOB) WHERE ordinal = 20",
    )
    note_damage(Place(tmp_path / "journal.db"), JournalDamaged("a batch"))
    opened = open_here(tmp_path)
    assert opened.salvaged is not None
    registers = [each.point.register_milliwh for each in opened.journal.readings("reflow-1", after=None)]
    assert registers == [*((1_000 + turn) * 10_000 for turn in range(TURNS)), 1_050 * 10_000]
    assert opened.journal.heads()["reflow-1"].n == head.n + 2
    opened.journal.close()


@pytest.mark.fault("F40", "F54")
def test_what_a_batch_says_of_its_clock_is_salvaged_with_each_reading(tmp_path: Path) -> None:
    """How wrong the labels may be, and of a clock that did not know the time that nobody knows (world seed 15462)."""
    bench = Bench(tmp_path)
    for turn, sync in enumerate("SUS"):
        bench.clock.sync = sync
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 2_000})
    cut = bench.cut_of({"reflow-1": 1_003, "wave-1": 2_000})
    bench.closer.close(bench.journal, replace(cut, clock_steps_ms=(1000,)))
    bench.journal.close()
    spoil(tmp_path / "journal.db", "UPDATE state SET sum = 0")
    note_damage(Place(tmp_path / "journal.db"), JournalDamaged("a row"))
    journal = open_here(tmp_path).journal
    kept = [each.point.when for each in journal.readings("reflow-1", after=None)]
    assert [when and when.err_ms for when in kept] == [None, None, 10, None], (
        "the first began a delta of no time"
    )
    assert NOTHING_KNOWN in kept and journal.heads()["reflow-1"].when == kept[-1]
    journal.close()


@pytest.mark.parametrize("error", [JournalUnusable, JournalFailed, JournalHeld])
def test_a_file_that_cannot_be_opened_at_present_is_not_an_empty_one(
    tmp_path: Path, error: type[MeteringError]
) -> None:
    def refuse(path: Path) -> StdlibConnection:
        raise error("no")

    fresh = open_journal(tmp_path / "new.db")
    with pytest.raises(error):
        salvage(tmp_path / "old.db", refuse, fresh, ask_first=True)
    fresh.close()


def test_a_file_that_is_no_database_gives_nothing(tmp_path: Path) -> None:
    def refuse(path: Path) -> StdlibConnection:
        raise JournalDamaged("not a database")

    fresh = open_journal(tmp_path / "new.db")
    said = salvage(tmp_path / "old.db", refuse, fresh, ask_first=True)
    assert (said.batches, said.lost, said.points) == (0, 0, 0)
    fresh.close()


@pytest.mark.fault("F53", "F54")
@pytest.mark.parametrize(
    ("sql", "lost"),
    [
        ("UPDATE descriptors SET jws = CAST('rot' AS BLOB)", 3),
        ("DELETE FROM descriptors WHERE rev > 0", 3),
        ("DROP TABLE acknowledgements", 0),
        ("DROP TABLE refused_chains", 0),
        ("DROP TABLE state", 0),
    ],
)
def test_each_table_that_is_gone_costs_only_what_it_said(tmp_path: Path, sql: str, lost: int) -> None:
    """Without its descriptor a batch cannot be told; without the rest its points are told all the same."""
    bench = Bench(tmp_path)
    for turn in range(3):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 7 + turn})
    bench.journal.close()
    with sqlite3.connect(tmp_path / "journal.db", isolation_level=None) as raw:
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute(sql)
    raw.close()
    fresh = open_journal(tmp_path / "new.db")
    said = salvage(tmp_path / "journal.db", StdlibConnection, fresh, ask_first=False)
    assert (said.batches, said.lost) == (3 - lost, lost)
    assert len(fresh.heads()) == (0 if lost else 2)
    if not lost:
        assert fresh.heads()["reflow-1"].register_milliwh == 1_002 * 10_000
        assert [reading.point.register_milliwh for reading in fresh.readings("wave-1", after=None)] == [
            70_000,
            80_000,
            90_000,
        ]
    fresh.close()


@pytest.mark.fault("F54")
def test_a_journal_in_which_nothing_was_sealed_yet_is_salvaged_as_an_empty_one(tmp_path: Path) -> None:
    open_journal(tmp_path / "journal.db").close()
    fresh = open_journal(tmp_path / "new.db")
    said = salvage(tmp_path / "journal.db", StdlibConnection, fresh, ask_first=True)
    assert (said.batches, said.lost, said.points) == (0, 0, 0)
    assert fresh.state() == State(), "nobody has to be asked"
    fresh.close()


@pytest.mark.fault("F54")
def test_of_several_maps_each_batch_is_told_by_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1_000, "wave-1": 7})
    bench.read({"reflow-1": 1_001, "wave-1": 8})
    bench.wire(tuple(with_ratio(each, "2") for each in bench.meters))
    bench.read({"reflow-1": 1_002, "wave-1": 9})
    bench.read({"reflow-1": 1_003, "wave-1": 10})
    own = {meter: head.basis for meter, head in bench.journal.heads().items()}
    maps = {cfg for _, batch in bench.batches() for cfg in (batch.cfg,)}
    bench.journal.close()
    fresh = open_journal(tmp_path / "new.db")
    assert salvage(tmp_path / "journal.db", StdlibConnection, fresh, ask_first=True).lost == 0
    assert {meter: head.basis for meter, head in fresh.heads().items()} == own
    assert len(maps) == 2 and all(fresh.descriptor(cfg) is not None for cfg in maps)
    fresh.close()


@pytest.mark.fault("F54")
def test_a_turning_point_whose_map_cannot_be_read_is_not_told(tmp_path: Path) -> None:
    """Nobody could say in which unit it was counted."""
    bench = Bench(tmp_path)
    for count in (500_000, 500_010, 3, 4, 5, 30):
        bench.read({"reflow-1": count, "wave-1": 7})
    bench.acknowledge(bench.journal.state().head, number=1)
    bench.journal.close()
    with sqlite3.connect(tmp_path / "journal.db", isolation_level=None) as raw:
        raw.execute("UPDATE descriptors SET jws = CAST('rot' AS BLOB)")
    raw.close()
    fresh = open_journal(tmp_path / "new.db")
    said = salvage(tmp_path / "journal.db", StdlibConnection, fresh, ask_first=True)
    assert said.points == 0 and fresh.readings("reflow-1", after=None) == []
    fresh.close()


@pytest.mark.fault("F54", "F85")
def test_chains_that_were_refused_stay_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1_000, "wave-1": 7})
    bench.acknowledge(None, number=1, refused=(CHAIN,))
    bench.journal.close()
    fresh = open_journal(tmp_path / "new.db")
    salvage(tmp_path / "journal.db", StdlibConnection, fresh, ask_first=True)
    assert fresh.refused_chains() == {CHAIN} and fresh.state().ack_no == 1
    fresh.close()


@pytest.mark.fault("F53", "F54")
@pytest.mark.parametrize("table", ["acknowledgements", "refused_chains", "state", "orders", "descriptors"])
def test_a_row_whose_values_have_another_type_says_nothing_and_hinders_nothing(
    tmp_path: Path, table: str
) -> None:
    """As in a journal of before the checksums; a type is one bit in the row's header."""
    bench = Bench(tmp_path)
    for turn in range(3):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 7 + turn})
    bench.acknowledge(None, number=1, refused=(CHAIN,))
    with bench.journal.transaction():
        bench.journal.save_order(Order("wave-1", "exchange", 1, "anna"))
    bench.journal.close()

    class OtherTypes(StdlibConnection):
        def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
            if f"FROM {table}" not in sql:
                return super().execute(sql, parameters)
            if ", sum" in sql:
                raise JournalDoubtful("no such column: sum")
            return [tuple(0.5 for _ in row) for row in super().execute(sql, parameters)]  # type: ignore[misc]

    fresh = open_journal(tmp_path / "new.db")
    said = salvage(tmp_path / "journal.db", OtherTypes, fresh, ask_first=True)
    assert said.batches == (0 if table == "descriptors" else 3)
    assert bool(fresh.acknowledgements(after_day=0, limit=9)) is (table != "acknowledgements")
    assert bool(fresh.refused_chains()) is (table != "refused_chains")
    assert bool(fresh.orders()) is (table != "orders")
    fresh.close()


def test_a_damaged_file_that_cannot_even_be_closed_was_salvaged_all_the_same(tmp_path: Path) -> None:
    class Sticky(StdlibConnection):
        def close(self) -> None:
            super().close()
            raise JournalDamaged("database disk image is malformed")

    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1_000, "wave-1": 7})
    bench.journal.close()
    fresh = open_journal(tmp_path / "new.db")
    assert salvage(tmp_path / "journal.db", Sticky, fresh, ask_first=True).batches == 1
    fresh.close()


@pytest.mark.fault("F54")
def test_an_epoch_that_was_opened_is_salvaged_with_its_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for count in (500_000, 3, 5, 9):
        bench.read({"reflow-1": count})
    head = bench.journal.heads()["reflow-1"]
    bench.journal.close()
    fresh = open_journal(tmp_path / "new.db")
    salvage(tmp_path / "journal.db", StdlibConnection, fresh, ask_first=True)
    points = [reading.point for reading in fresh.readings("reflow-1", after=None)]
    assert [(point.register_milliwh, point.opens) for point in points][-3:] == [
        (30_000, "reset"),
        (50_000, None),
        (90_000, None),
    ]
    found = fresh.heads()["reflow-1"]
    assert (found.epoch, found.n, found.register_milliwh) == (head.epoch, head.n, head.register_milliwh)
    fresh.close()


def _salvaged_after_a_reset(
    folder: Path, acknowledged: int = 0, *lost: str, sync: str = "S", back_ms: int = 0
) -> Bench:
    """A register of 500,020 counts was reset; the batches up to there are lost, and so is what the statements say.

    The machine started again in between, or its clock was set back by so many milliseconds.
    """
    bench = Bench(folder)
    bench.clock.sync = sync
    for turn, count in enumerate((500_000, 500_010, 500_020, 3, 4, 5, 30)):
        bench.clock.boot = "before" if turn < 3 or back_ms else "after"
        bench.clock.now_ms -= back_ms if turn == 3 else 0
        bench.read({"reflow-1": count, "wave-1": 7 + turn}, times=3)
        if turn == acknowledged - 1:
            bench.acknowledge(bench.journal.state().head, number=1)
    bench.journal.close()
    for sql in ("UPDATE texts SET jws = CAST('rot' AS BLOB) WHERE ordinal <= 3", *lost):
        spoil(folder / "journal.db", sql)
    note_damage(Place(folder / "journal.db"), JournalDamaged("a batch"))
    bench.journal = open_here(folder).journal
    return bench


def _kept(bench: Bench) -> list[tuple[int, bool, bool]]:
    """Counts of what was salvaged, whether an epoch begins there, whether it was acknowledged once."""
    points = [each.point for each in bench.journal.readings("reflow-1", after=None)]
    return [(p.register_milliwh // 10_000, p.opens is not None, SETTLED in p.flags) for p in points]


@pytest.mark.fault("F16", "F40", "F53", "F54")
def test_a_position_of_no_known_time_lies_before_a_reset_that_fell_from_a_higher_register(
    tmp_path: Path,
) -> None:
    """Of a run since a reset nothing else said that it was later, and a second epoch was opened (world seed 11156)."""
    bench = _salvaged_after_a_reset(tmp_path)
    assert _kept(bench)[0] == (500_020, False, False)
    there = bench.meter_head("reflow-1", n=1, epoch=1, register=500_010 * 10_000, end_ms=300_138)
    unknown = ChainHead("01ARZ3NDEKTSV4RRFFQ69G5FAV", 9, "x" * 43)
    bench.acknowledge(unknown, number=50, heads={"reflow-1": there}, session="s")
    bench.read({"reflow-1": 40, "wave-1": 20})
    told = [(kind, what) for _, batch in bench.batches() for kind, what in _said_of(batch, "reflow-1")]
    told = [(kind, (first // 10_000, last // 10_000)) for kind, (first, last) in told]
    assert told[:2] == [("delta", (500_010, 500_020)), ("epoch", (500_020, 3))]
    assert [kind for kind, _ in told].count("epoch") == 1 and told[-1] == ("delta", (30, 40))
    assert sum(last - first for kind, (first, last) in told if kind == "delta") == 10 + 37
    bench.journal.close()


@pytest.mark.fault("F53", "F54")
@pytest.mark.parametrize(
    ("acknowledged", "lost"),
    [(3, "DELETE FROM cuts WHERE id = (SELECT min(id) FROM cuts)"), (0, "DELETE FROM cuts")],
    ids=["it was acknowledged", "nobody knows"],
)
def test_a_register_from_before_a_reset_is_marked_unless_it_was_surely_not_acknowledged(
    tmp_path: Path, acknowledged: int, lost: str
) -> None:
    bench = _salvaged_after_a_reset(tmp_path, acknowledged, lost)
    assert _kept(bench)[:2] == [(500_020, False, True), (3, True, False)]
    bench.journal.close()


@pytest.mark.fault("F53", "F54")
def test_where_more_is_known_from_before_a_reset_the_register_it_fell_from_is_not_written_down_again(
    tmp_path: Path,
) -> None:
    """Between the two may lie an epoch of which nothing is left."""
    assert _kept(_salvaged_after_a_reset(tmp_path, 1))[:2] == [(500_000, True, True), (3, True, False)]


@pytest.mark.fault("F40", "F54")
def test_nor_where_nobody_knew_when_it_was_read_or_on_which_basis(tmp_path: Path) -> None:
    """Such a label orders nothing, and no batch that is left tells the former ratio."""
    for folder in ("unset", "set back", "ratio"):
        (tmp_path / folder).mkdir()
    assert _kept(_salvaged_after_a_reset(tmp_path / "unset", sync="U"))[0] == (3, True, False)
    assert _kept(_salvaged_after_a_reset(tmp_path / "set back", back_ms=DAY_MS))[0] == (3, True, False)
    bench = Bench(tmp_path / "ratio")
    bench.read({"reflow-1": 1_000})
    bench.wire(tuple(with_ratio(each, "2") for each in bench.meters))
    bench.read({"reflow-1": 1_001})
    bench.journal.close()
    spoil(bench.path / "journal.db", "UPDATE texts SET jws = CAST('rot' AS BLOB) WHERE ordinal < 3")
    fresh = open_journal(bench.path / "new.db")
    salvage(bench.path / "journal.db", StdlibConnection, fresh, ask_first=True)
    assert [each.point.opens for each in fresh.readings("reflow-1", after=None)] == ["ratio"]
    fresh.close()


@pytest.mark.fault("F15", "F53")
def test_a_rollover_that_the_gates_had_found_is_one_in_what_was_salvaged_too(tmp_path: Path) -> None:
    """The clock did not know the time by then: nobody could say any more how long it had been (world seed 553)."""
    bench = Bench(tmp_path)
    bench.clock.boot = "boot-1"
    for turn in range(3):
        bench.read({"reflow-1": 999_970 + 7 * turn, "wave-1": 2_000 + turn})
    there, heads = bench.journal.state().head, _heads_at(bench, 9)
    assert heads["reflow-1"].register == 9_999_840_000
    bench.acknowledge(there, number=1)
    bench.clock.sync = "U"
    for turn in range(2):
        bench.read({"reflow-1": 5 + turn, "wave-1": 2_010 + turn})
    bench.journal.close()
    spoil(tmp_path / "journal.db", "UPDATE state SET sum = 0")
    note_damage(Place(tmp_path / "journal.db"), JournalDamaged("a position"))
    opened = open_here(tmp_path)
    assert opened.aside is not None
    bench.journal = opened.journal
    bench.acknowledge(there, number=2, heads=heads, session="s")
    told = [batch for _, batch in bench.batches()]
    deltas = [each for batch in told for each in batch.deltas if each.meter == "reflow-1"]
    assert [(each.delta, each.roll) for each in deltas] == [(210_000, 10_000_000_000), (10_000, None)]
    assert not [event for batch in told for event in batch.events if event.type == "epoch"]
    assert all("rolled" not in each.q for each in deltas)
