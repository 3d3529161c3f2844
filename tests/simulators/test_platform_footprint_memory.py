"""What the evaluation remembers equals a full recompute, whatever comes late."""

import sqlite3
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from simulators.platform.evaluation import evaluate
from simulators.platform.quarters import QUARTER_MS, Quarters
from simulators.platform.store import SCHEMA_VERSION, SCHEMAS, Store
from tests.simulators.bench import Bench
from tests.simulators.chains import MINUTE_MS, ORG, Gateway
from tests.simulators.footprint_bench import (
    FROM_MS,
    GRID,
    KWH,
    asked,
    kwh_of,
    question,
    random_store,
    step_meter,
)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_remembered_equals_a_full_recompute(seed: int) -> None:
    bench, gateway, sealed = random_store(seed)
    remembered = Quarters()
    for count in (10, 11, 25, 40):
        bench.send(*sealed[:count])
        assert asked(bench, remembered).document == asked(bench).document
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([gateway.delta("a", KWH)]))
    assert asked(bench, remembered).document == asked(bench).document


def test_a_late_batch_reads_again_only_what_it_touches() -> None:
    bench, gateway, sealed = random_store(1)
    bench.send(*sealed)
    quarters = Quarters()
    first = quarters.refresh(bench.store)
    assert (first.read > 20, first.kept) == (True, 0)
    assert quarters.refresh(bench.store).read == 0
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([gateway.delta("a", KWH), gateway.delta("b", KWH)]))
    late = quarters.refresh(bench.store)
    assert late.read <= 2
    assert late.kept >= first.read - 2


def test_a_released_delta_that_replaces_a_bridge_is_noticed() -> None:
    gateway = Gateway(meters=(step_meter("a", "fct_test"),))
    options = {"quarantine": lambda delta: "look" if delta.n == 2 else None}
    bench = Bench((gateway,), options=options)
    for _ in range(4):
        gateway.now_ms += QUARTER_MS
        bench.send(gateway.say([gateway.delta("a", KWH)]))
    quarters = Quarters()
    before = asked(bench, quarters)
    bench.platform.release(ORG, "gw01", "a", 1, 2)
    assert quarters.refresh(bench.store).read > 0
    assert asked(bench, quarters).document == asked(bench).document
    assert kwh_of(asked(bench, quarters)) == kwh_of(before)


def test_neighbouring_periods_add_up_to_their_union() -> None:
    bench, _, sealed = random_store(2)
    bench.send(*sealed)
    whole = asked(bench, hours=48).footprint.electricity.value
    parts = Fraction(0)
    for hour in range(48):
        from_ms = FROM_MS + hour * 4 * QUARTER_MS
        said: Any = asked(bench, from_ms=from_ms, to_ms=from_ms + 4 * QUARTER_MS).document["electricity"]
        parts += Fraction(said["steps_kwh"]) * GRID
    assert parts == whole


def test_a_damaged_memory_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "x.quarters"
    path.write_bytes(b"this is no database, not at all" * 100)
    bench, _, sealed = random_store(3)
    bench.send(*sealed)
    quarters = Quarters(path)
    assert asked(bench, quarters).document == asked(bench).document
    quarters.close()


def test_a_memory_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    bench, _, sealed = random_store(3)
    bench.send(*sealed)
    quarters = Quarters(tmp_path / "no such folder" / "x.quarters")
    assert asked(bench, quarters).document == asked(bench).document


def of_the_first_version(path: Path, new: Path) -> None:
    """A store as the first release would have written it: its own tables, with the rows of a new one."""
    schema = resources.files("simulators.platform").joinpath(SCHEMAS[0]).read_text("utf-8")
    connection = sqlite3.connect(path)
    connection.executescript(f"{schema};PRAGMA user_version=1;ATTACH '{new}' AS new")
    tables = connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall()
    for (name,) in tables:
        columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f'PRAGMA main.table_info("{name}")'))
        connection.execute(f'DELETE FROM main."{name}"')
        connection.execute(f'INSERT INTO main."{name}" ({columns}) SELECT {columns} FROM new."{name}"')
    connection.commit()
    connection.close()


def test_a_store_of_the_first_version_is_brought_forward(tmp_path: Path) -> None:
    """As it was before stamps, with energy in it."""
    gateway = Gateway(meters=(step_meter("a", "fct_test"),))
    bench = Bench((gateway,), tmp_path / "new.db")
    bench.send(*(gateway.interval(KWH) for _ in range(3)))
    expected = asked(bench).document
    bench.store.close()
    path = tmp_path / "platform.db"
    of_the_first_version(path, tmp_path / "new.db")
    with pytest.raises(ConfigError, match=f"is of version 1, not {SCHEMA_VERSION}"):
        Store.read(path)
    store = Store.create(path)
    assert evaluate(store, Quarters(), question()).document == expected
    store.close()
