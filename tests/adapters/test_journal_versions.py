"""Journals of every former version: dumps of files that the program of that time wrote, opened by the one of today.

Six intervals of two meters; the platform had acknowledged the first three, which were purged. A new version gets a
dump of its own (`sqlite3 journal.db .dump`, and the `user_version`).
"""

import sqlite3
from pathlib import Path

import pytest

from agent.adapters.journal import Place, open_at, open_or_replace
from agent.adapters.journal.opening import schema_versions
from tests.service.bench import Bench

DUMPS = Path(__file__).parent / "journals"


def test_every_version_has_its_dump() -> None:
    assert [int(path.stem) for path in sorted(DUMPS.glob("*.sql"))] == list(schema_versions())


@pytest.mark.fault("F83")
@pytest.mark.parametrize("version", list(schema_versions()))
def test_a_journal_of_a_former_version_goes_on_where_it_stood(tmp_path: Path, version: int) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path, isolation_level=None) as raw:
        raw.executescript((DUMPS / f"{version:04d}.sql").read_text("utf-8"))
        ((before,),) = raw.execute("SELECT seq FROM state").fetchall()
    raw.close()
    open_or_replace(Place(path), 1).journal.close()
    bench = Bench(tmp_path)
    bench.clock.now_ms = max(head.cut_ms for head in bench.journal.heads().values())
    assert bench.journal._db.execute("PRAGMA user_version") == [(max(schema_versions()),)]
    assert bench.read({"reflow-1": 1_010, "wave-1": 2_020}).deltas == 2
    assert bench.journal.state().seq > before
    kept = bench.journal.queue(after_ordinal=0, limit=100)
    assert [each.head.seq for each in kept] == list(range(4, bench.journal.state().seq + 1))
    heads = bench.journal.heads()
    assert heads["reflow-1"].register_milliwh == 1_010 * 10_000 and heads["reflow-1"].epoch == 1
    assert len(bench.journal.readings("reflow-1", after=None)) >= 4
    bench.journal.close()
    open_at(Place(path), thoroughly=True).close()


@pytest.mark.fault("F53", "F83")
def test_a_chain_that_was_refused_before_rows_had_checksums_stays_refused(tmp_path: Path) -> None:
    for version in (1, 8):
        path = tmp_path / f"{version}.db"
        with sqlite3.connect(path, isolation_level=None) as raw:
            raw.executescript((DUMPS / f"{version:04d}.sql").read_text("utf-8"))
            raw.execute("INSERT INTO refused_chains VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAV')")
        raw.close()
        journal = open_or_replace(Place(path), 1).journal
        assert journal.refused_chains() == {"01ARZ3NDEKTSV4RRFFQ69G5FAV"}
        journal.check_rows("refused_chains")
        journal.close()


@pytest.mark.fault("F83")
def test_what_a_later_chain_tells_instead_stays_left_out_when_it_is_carried_over(tmp_path: Path) -> None:
    """And a position whose balance has just been told begins its next one anew."""
    path = tmp_path / "journal.db"
    with sqlite3.connect(path, isolation_level=None) as raw:
        raw.executescript((DUMPS / "0005.sql").read_text("utf-8"))
        raw.execute("UPDATE batches SET superseded = 1 WHERE ordinal = 5")
        raw.execute(
            "UPDATE heads SET run_n = NULL, run_milliwh = NULL, run_roll_milliwh = NULL, run_day = NULL"
        )
    raw.close()
    journal = open_or_replace(Place(path), 1).journal
    assert [each.ordinal for each in journal.queue(after_ordinal=0, limit=9)] == [4, 6]
    assert journal.backlog().batches == 2
    assert [head.run for head in journal.heads().values()] == [None, None]
    journal.close()
