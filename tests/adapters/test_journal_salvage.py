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
)
from agent.adapters.journal.connection import Row, Value
from agent.adapters.journal.cuts import ROW
from agent.adapters.journal.salvage import salvage
from agent.errors import JournalDamaged
from agent.metering.interval import DAY_MS
from agent.metering.later import SETTLED
from agent.metering.memory import Memory, Order
from agent.reporting.batch import Batch, Delta
from agent.reporting.chain import ChainHead
from agent.reporting.event import Event
from agent.service.journal import Standing
from agent.service.statements import Statement
from tests.adapters.damaged import TURNS, a_journal, a_journal_with_everything, open_here, spoil
from tests.service.bench import Bench


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
