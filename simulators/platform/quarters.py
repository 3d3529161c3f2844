"""Booked energy on the grid of quarters of an hour, kept up to date by reading only what changed.

A delta has the times at which its registers were really read; a report has a period. Where a delta spans a border of
the grid its energy is divided in proportion to time, in whole 0.001 Wh of the running total, so that the parts add up
to the delta exactly and neighbouring periods add up to their union. The division is a label: a wrong clock can move
energy between quarters and never change it.

What was read is remembered in a file of its own beside the store, by the quarter in which a row begins. The store
stamps every quarter that changes (`schema_0002.sql`); `refresh` compares stamps, so that a late batch, or a bridge that
is replaced, costs its own quarters. The file can be deleted at any time: it is made again with the same content.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulators.platform.store import Store

QUARTER_MS = 900_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS stamps (
  agent_id INTEGER NOT NULL, quarter INTEGER NOT NULL, stamp INTEGER NOT NULL,
  PRIMARY KEY (agent_id, quarter)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
  agent_id INTEGER NOT NULL, origin INTEGER NOT NULL, quarter INTEGER NOT NULL,
  descriptor_id INTEGER NOT NULL, meter TEXT NOT NULL, energy INTEGER NOT NULL, covered_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS parts_by_origin ON parts (agent_id, origin);
CREATE INDEX IF NOT EXISTS parts_by_quarter ON parts (agent_id, quarter);
"""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """How many quarters were read again, and how many were as remembered."""

    read: int
    kept: int


@dataclass(frozen=True, slots=True)
class Part:
    """Energy of one meter, under one descriptor, 0.001 Wh, and for how much time it is known, ms."""

    descriptor_id: int
    meter: str
    energy_milliwh: int
    covered_ms: int


def split_by_quarter(start_ms: int, end_ms: int, energy: int) -> list[tuple[int, int, int]]:
    """Divide an energy among the quarters that it spans: (quarter, energy, covered ms), exact in sum.

    A span without length, or one whose clock ran backwards, belongs to the quarter of its end. A boundary belongs to
    the quarter that it ends: intervals are named by their end.
    """
    if end_ms <= start_ms:
        return [((end_ms - 1) // QUARTER_MS, energy, 0)]
    first, last = start_ms // QUARTER_MS, (end_ms - 1) // QUARTER_MS
    parts, given, at_ms = [], 0, start_ms
    for quarter in range(first, last + 1):
        until_ms = min(end_ms, (quarter + 1) * QUARTER_MS)
        total = energy * (until_ms - start_ms) // (end_ms - start_ms)
        parts.append((quarter, total - given, until_ms - at_ms))
        given, at_ms = total, until_ms
    return parts


class Quarters:
    """What was read of a store; see the module."""

    def __init__(self, path: Path | str = ":memory:") -> None:
        """Open, or make, the memory of a store. Anything that is no such file is replaced: nothing in it is unique."""
        self._db = _open(path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def refresh(self, store: Store, up_to_batch: Mapping[int, int] | None = None) -> Refreshed:
        """Bring the memory up to date with a store.

        Args:
            store: as it is now; the caller may hold a snapshot of it.
            up_to_batch: by agent, the last batch whose rows count, to make an old report again; only for a memory
                that holds nothing else, since stamps know of no such limit.
        """
        now = {(agent, quarter): stamp for agent, quarter, stamp in store.rows("SELECT * FROM booked_stamps")}
        then = {(agent, quarter): stamp for agent, quarter, stamp in self._db.execute("SELECT * FROM stamps")}
        changed = sorted(key for key, stamp in now.items() if then.get(key) != stamp)
        gone = [key for key in then if key not in now]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for key in (*changed, *gone):
                self._db.execute("DELETE FROM parts WHERE agent_id = ? AND origin = ?", key)
                self._db.execute("DELETE FROM stamps WHERE agent_id = ? AND quarter = ?", key)
            for agent_id, first, last in _runs(changed):
                limit = None if up_to_batch is None else up_to_batch.get(agent_id, 0)
                self._read(store, agent_id, first, last, limit)
            rows = [(*key, now[key]) for key in changed]
            self._db.executemany("INSERT INTO stamps VALUES (?, ?, ?)", rows)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return Refreshed(len(changed), len(now) - len(changed))

    def _read(self, store: Store, agent_id: int, first: int, last: int, limit: int | None) -> None:
        """Read the rows that begin in a run of quarters."""
        sums: dict[tuple[int, int, int, str], list[int]] = {}
        for start_ms, end_ms, energy, descriptor_id, meter in store.rows(
            "SELECT start_ms, end_ms, energy, descriptor_id, meter FROM booked"
            " WHERE agent_id = ? AND start_ms >= ? AND start_ms < ? AND batch_id <= ?",
            (agent_id, first * QUARTER_MS, (last + 1) * QUARTER_MS, 2**62 if limit is None else limit),
        ):
            for quarter, part, covered_ms in split_by_quarter(start_ms, end_ms, energy):
                key = (start_ms // QUARTER_MS, quarter, descriptor_id, meter)
                total = sums.setdefault(key, [0, 0])
                total[0] += part
                total[1] += covered_ms
        rows = [(agent_id, *key, *total) for key, total in sums.items()]
        self._db.executemany("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def energies(self, agent_id: int, from_ms: int, to_ms: int) -> list[Part]:
        """Energy by descriptor and meter in a period, both ends on the grid."""
        sql = (
            "SELECT descriptor_id, meter, sum(energy), sum(covered_ms) FROM parts WHERE agent_id = ?"
            " AND quarter >= ? AND quarter < ? GROUP BY 1, 2 ORDER BY 1, 2"
        )
        period = (agent_id, from_ms // QUARTER_MS, to_ms // QUARTER_MS)
        return [Part(*row) for row in self._db.execute(sql, period)]

    def by_quarter(self, agent_id: int, from_ms: int, to_ms: int) -> dict[int, list[Part]]:
        """The same, apart for each quarter, by its start in UTC Unix ms."""
        sql = (
            "SELECT quarter, descriptor_id, meter, sum(energy), sum(covered_ms) FROM parts WHERE agent_id = ?"
            " AND quarter >= ? AND quarter < ? GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        period = (agent_id, from_ms // QUARTER_MS, to_ms // QUARTER_MS)
        found: dict[int, list[Part]] = {}
        for quarter, *rest in self._db.execute(sql, period):
            found.setdefault(quarter * QUARTER_MS, []).append(Part(*rest))
        return found


def _open(path: Path | str) -> sqlite3.Connection:
    try:
        return _made(path)
    except sqlite3.OperationalError:
        # No place to write to: everything is read again next time.
        return _made(":memory:")
    except sqlite3.DatabaseError:
        Path(path).unlink()
        return _made(path)


def _made(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(str(path), isolation_level=None, timeout=60)
    try:
        connection.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _runs(keys: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int, int]]:
    """Sorted (agent, quarter) as runs (agent, first, last), so that a first reading is one query and not thousands."""
    run: tuple[int, int, int] | None = None
    for agent_id, quarter in keys:
        if run is not None and run[0] == agent_id and run[2] + 1 == quarter:
            run = (agent_id, run[1], quarter)
            continue
        if run is not None:
            yield run
        run = (agent_id, quarter, quarter)
    if run is not None:
        yield run
