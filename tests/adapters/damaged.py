"""Journals that the tests of damage spoil, and how they are spoilt and opened again."""

import sqlite3
from pathlib import Path

from agent.adapters.journal import (
    Opened,
    Place,
    open_or_replace,
)
from agent.adapters.journal.sums import COLUMNS, sum_of
from agent.metering.memory import Order
from agent.service.clocking import Stretch
from agent.service.journal import KeyUse, Retelling
from agent.service.statements import Statement
from tests.service.bench import Bench

TURNS = 30


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
        journal.add_statement(Statement(5, "manual", {"meter": "wave-1", "epoch": 1, "n": 50}))
        journal.save_clock_stretches((Stretch("boot-1", "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, None, 5, "U"),))
        journal.add_key_use(KeyUse("kid", {"kty": "OKP"}, None))
        journal.save_retelling(Retelling(1, "cfg", frozenset(), {}))
        journal.refuse_chain("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    for table in COLUMNS:
        assert journal._db.execute(f"SELECT 1 FROM {table}"), f"nothing in {table}"
    return bench
