"""The journal's room on the disk: its budget, what is held back for the worst day, and who uses how much of it.

The budget is a cap that SQLite itself keeps (`max_page_count`), less what the write-ahead log and the ballast take: a
write beyond it fails as on a full disk, and changes nothing. The ballast is a file of zeros beside the journal. When
the file system is full even a DELETE fails, because it needs room in the log; then the ballast goes first (measured on
a file system of 512 KB: reliability, section 0, finding 6).
"""

import statistics
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.journal.connection import Connection
from agent.adapters.journal.files import Files
from agent.adapters.journal.rows import integer
from agent.service.journal import Waiting
from agent.service.pressure import RESERVED_BYTES

PAGE_BYTES = 4096
PURGE_BATCHES = 64
"""So many go in one transaction: forgetting a day never makes the write-ahead log long."""
BALLAST_BYTES = 1_000_000
"""The rest of what is reserved is for the log: 200 pages between two checkpoints, and once in a while more."""
READING_BYTES = 62
"""A boundary reading with its index: 45 to 50 bytes, and what the page leaves empty (measured, tests/adapters)."""
ROW_BYTES = 330
"""A batch without its text: hashes, times, and its entries in three indices."""
_USABLE = PAGE_BYTES - 4
_INLINE_MAX = PAGE_BYTES - 35
_INLINE_MIN = (PAGE_BYTES - 12) * 32 // 255 - 23
"""How much of a row stays on its page: SQLite file format, section 1.6, for tables."""
_SAMPLE = 64
_STEP_MS_MAX = 4 * 86_400_000
"""No interval counts for longer: a clock that was set by decades is not an outage of decades."""
_PAUSE_MS = 2_000
"""Batches of one interval are sealed within this."""


@dataclass(frozen=True, slots=True)
class Room:
    """Keeps one journal within `budget_bytes`, log and ballast included."""

    budget_bytes: int
    files: Files
    path: Path

    @property
    def ballast(self) -> Path:
        """What can be given up."""
        return self.path.with_name(self.path.name + ".ballast")

    @property
    def pages_max(self) -> int:
        """The largest the database file may become."""
        return max(1, (self.budget_bytes - RESERVED_BYTES) // PAGE_BYTES)

    def limit(self, connection: Connection) -> None:
        """Have SQLite keep the budget."""
        connection.execute(f"PRAGMA max_page_count={self.pages_max}")

    def restore(self) -> None:
        """Hold the ballast back again, if the file system has room for it and more."""
        if not self.files.exists(self.ballast):
            self.files.reserve(self.ballast, BALLAST_BYTES)

    def release(self) -> bool:
        """Give the ballast up; False if it was already."""
        if not self.files.exists(self.ballast):
            return False
        self.files.remove(self.ballast)
        return True


class RoomTables:
    """A part of `SqliteJournal`: what the file forgets, and how much of it is in use."""

    _db: Connection
    _room: Room | None

    def waiting(self) -> Waiting:
        return _measure(self._db, self._room)

    def make_room(self) -> bool:
        return self._room is not None and self._room.release()

    def keep_room(self) -> None:
        if self._room is not None:
            self._room.restore()

    def oldest_stored_ms(self) -> int | None:
        rows = self._db.execute(
            "SELECT stored_ms FROM batches WHERE jws IS NOT NULL AND stored_ms IS NOT NULL"
            " ORDER BY stored_ms LIMIT 1"
        )
        return integer(rows[0][0]) if rows else None

    def purge(self, *, stored_before_ms: int) -> int:
        purged = self._db.execute(
            "UPDATE batches SET jws = NULL WHERE ordinal IN (SELECT ordinal FROM batches INDEXED BY batches_kept"
            f" WHERE jws IS NOT NULL AND stored_ms < ? ORDER BY stored_ms, ordinal LIMIT {PURGE_BATCHES})"
            " RETURNING ordinal, last_reading",
            (stored_before_ms,),
        )
        if not purged:  # nearly always: retention goes by whole days
            return 0
        self._db.execute(
            "UPDATE batches SET jws = NULL WHERE jws IS NOT NULL AND stored_ms IS NULL AND superseded = 1"
            " AND ordinal < ?",
            (max(integer(row[0]) for row in purged),),
        )
        self._purge_readings(max(integer(row[1]) for row in purged))
        return len(purged)

    def _purge_readings(self, up_to: int) -> None:
        """Drop readings whose batches are gone, by their numbers and never by time, which somebody can set.

        The first and last reading of every epoch stay, and the one at which the oldest delta that is kept begins.
        """
        self._db.execute(
            "DELETE FROM readings AS r WHERE r.id <= ?1 AND r.opens IS NULL AND EXISTS ("
            "SELECT 1 FROM readings AS later WHERE later.meter = r.meter AND later.opens IS NULL AND later.id <= ?1"
            " AND later.id = (SELECT min(id) FROM readings WHERE meter = r.meter AND id > r.id))",
            (up_to,),
        )


def _measure(connection: Connection, room: Room | None) -> Waiting:
    """How much of the file the unacknowledged batches and their readings take.

    Counted exactly, but for the length of the texts: those of an evenly spread sample stand for all, because reading
    each row once a minute would wear a machine out after a month without a platform.
    """
    pages, free = (
        integer(connection.execute(f"PRAGMA {name}")[0][0]) for name in ("page_count", "freelist_count")
    )
    used, budget = (pages - free) * PAGE_BYTES, None if room is None else room.pages_max * PAGE_BYTES
    count, first, last = (
        integer(value)
        for value in connection.execute(
            "SELECT count(*), coalesce(min(ordinal), 0), coalesce(max(ordinal), 0) FROM batches"
            " WHERE stored_ms IS NULL AND superseded = 0"
        )[0]
    )
    if not count:
        return Waiting(0, 0, 0, used, budget)
    sample = _sizes(connection, first, last)
    readings = _last_reading(connection, last) - _last_reading(connection, first - 1)
    rows = count * sum(sample) // len(sample)
    return Waiting(
        rows + readings * READING_BYTES, _for_ms(connection), _interval_bytes(connection), used, budget
    )


def row_bytes(text_bytes: int) -> int:
    """What a batch with a stored text of this length takes, overflow pages counted whole."""
    content = ROW_BYTES + text_bytes
    if content <= _INLINE_MAX:
        return content
    inline = _INLINE_MIN + (content - _INLINE_MIN) % _USABLE
    inline = inline if inline <= _INLINE_MAX else _INLINE_MIN
    return inline + -(-(content - inline) // _USABLE) * PAGE_BYTES


def _sizes(connection: Connection, first: int, last: int) -> list[int]:
    """What batches take, of some that are spread evenly over the waiting ones."""
    wanted = {first + (last - first) * place // _SAMPLE for place in range(_SAMPLE + 1)}
    found = connection.execute(
        f"SELECT length(jws) FROM batches WHERE ordinal IN ({', '.join(map(str, sorted(wanted)))})"
        " AND stored_ms IS NULL AND superseded = 0 AND jws IS NOT NULL"
    )
    return [row_bytes(integer(row[0])) for row in found] or [row_bytes(0)]


def _last_reading(connection: Connection, ordinal: int) -> int:
    """The newest reading when the newest batch up to this one was sealed."""
    rows = connection.execute(
        "SELECT last_reading FROM batches WHERE ordinal <= ? ORDER BY ordinal DESC LIMIT 1", (ordinal,)
    )
    return integer(rows[0][0]) if rows else 0


def _for_ms(connection: Connection) -> int:
    """How long the outage has lasted, by the times of sealing; steps of the clock count for little."""
    rows = connection.execute(
        "SELECT coalesce(sum(max(0, min(step, ?))), 0) FROM (SELECT sealed_ms - lag(sealed_ms) OVER (ORDER BY ordinal)"
        " AS step FROM batches WHERE stored_ms IS NULL AND superseded = 0)",
        (_STEP_MS_MAX,),
    )
    return integer(rows[0][0])


def _interval_bytes(connection: Connection) -> int:
    """What an ordinary interval adds, by the newest that are waiting."""
    rows = connection.execute(
        "SELECT sealed_ms, length(jws), last_reading FROM batches WHERE stored_ms IS NULL AND superseded = 0"
        " ORDER BY ordinal DESC LIMIT ?",
        (_SAMPLE,),
    )
    sizes: list[int] = []
    newer: tuple[int, int] | None = None
    for row in rows:
        sealed_ms, text_bytes, last_reading = (integer(value) for value in row)
        if newer is None or abs(newer[0] - sealed_ms) > _PAUSE_MS:
            if newer is not None:
                sizes[-1] += max(0, newer[1] - last_reading) * READING_BYTES
            sizes.append(0)
            newer = (sealed_ms, last_reading)
        sizes[-1] += row_bytes(text_bytes)
    return int(statistics.median_high(sizes[:-1] or sizes))
