"""The journal's room on the disk: its budget, what is held back for the worst day, and who uses how much of it.

The budget is a cap that SQLite itself keeps (`max_page_count`), less what the write-ahead log and the ballast take: a
write beyond it fails as on a full disk, and changes nothing. The ballast is a file of zeros beside the journal. When
the file system is full even a DELETE fails, because it needs room in the log; then the ballast goes first (measured on
a file system of 512 KB: reliability, section 0, finding 6).
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.adapters.journal.batches import ACKNOWLEDGED, totals
from agent.adapters.journal.connection import Connection
from agent.adapters.journal.files import Files
from agent.adapters.journal.rows import integer
from agent.adapters.journal.sealed import BATCH, batch_in
from agent.service.journal import Waiting
from agent.service.pressure import RESERVED_BYTES

PURGE_BATCHES = 64
"""So many go in one transaction: forgetting a day never makes the write-ahead log long."""
BALLAST_BYTES = 1_000_000
"""The rest of what is reserved is for the log: `LOG_BYTES` between two checkpoints, and once in a while more."""
MIGRATION_BYTES = 500_000
"""Of what is reserved a migration may use so much: one that found no room in a full journal would end every start."""
LOG_BYTES = 900_000
"""After so much the log is brought into the database: a page that every boundary touches goes there once an hour."""
ROW_BYTES = 225
"""A batch without its text: hashes, times and totals, and its entry in the index (measured, tests/service)."""
CUT_BYTES = 30
"""A boundary's readings beside their row: their entry in the index of times."""
_CELL_BYTES = 24
"""What a row needs beside its largest value."""
_SAMPLE = 64
_PAUSE_MS = 2_000
"""Batches of one interval are sealed within this."""
_OLDEST = (
    f"{BATCH}, NULL, b.last_reading FROM texts t CROSS JOIN batches b ON b.ordinal = t.ordinal"
    " WHERE b.superseded = 0 ORDER BY t.ordinal"
)
"""The batches whose text is kept, without it, and the newest reading that each tells."""


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
    def bytes_max(self) -> int:
        """The largest the database file may become."""
        return max(0, self.budget_bytes - RESERVED_BYTES)

    def limit(self, connection: Connection, *, beyond_bytes: int = 0) -> None:
        """Have SQLite keep the budget, or so much more; what is in use already stays."""
        pages = max(1, (self.bytes_max + beyond_bytes) // page_bytes(connection))
        connection.execute(f"PRAGMA max_page_count={pages}")

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

    if TYPE_CHECKING:

        def _purge_readings(self, up_to: int) -> None:
            """Drop readings whose batches are gone."""

    def waiting(self) -> Waiting:
        return _measure(self._db, self._room)

    def make_room(self) -> bool:
        return self._room is not None and self._room.release()

    def keep_room(self) -> None:
        if self._room is not None:
            self._room.restore()

    def oldest_stored_ms(self) -> int | None:
        rows = self._db.execute(f"{_OLDEST} LIMIT 1")
        return batch_in(rows[0][:12]).stored_ms if rows else None

    def purge(self, *, stored_before_ms: int) -> int:
        first = self.oldest_stored_ms()
        if first is None or first >= stored_before_ms:  # nearly always: retention goes by whole days
            return 0
        rows = self._db.execute(f"{_OLDEST} LIMIT {PURGE_BATCHES}")
        gone = 0
        for row in rows:
            kept = batch_in(row[:12])
            if kept.stored_ms is None or kept.stored_ms >= stored_before_ms:
                break
            gone, ordinal, reading = gone + 1, kept.ordinal, integer(row[12])
        self._db.execute("DELETE FROM texts WHERE ordinal <= ?", (ordinal,))
        self._purge_readings(reading)
        return gone


def page_bytes(connection: Connection) -> int:
    """The page size of an open journal; one of a former version keeps its own."""
    return integer(connection.execute("PRAGMA page_size")[0][0])


def _measure(connection: Connection, room: Room | None) -> Waiting:
    """How much of the file the unacknowledged batches and their readings take.

    Counted exactly, but for the length of what is packed: an evenly spread sample stands for all, because reading each
    row once a minute would wear a machine out after a month without a platform.
    """
    page = page_bytes(connection)
    pages, free = (
        integer(connection.execute(f"PRAGMA {name}")[0][0]) for name in ("page_count", "freelist_count")
    )
    used, budget = (pages - free) * page, None if room is None else room.bytes_max
    acknowledged, last = (
        integer(value)
        for value in connection.execute(
            f"SELECT {ACKNOWLEDGED}, (SELECT coalesce(max(ordinal), 0) FROM batches)"
        )[0]
    )
    count = totals(connection, last)[0] - totals(connection, acknowledged)[0]
    if count <= 0:
        return Waiting(0, 0, 0, used, budget)
    batches = count * _mean(
        [ROW_BYTES + taken(each, page) for each in _texts(connection, acknowledged, last)]
    )
    before, newest = (_last_reading(connection, ordinal) for ordinal in (acknowledged, last))
    a_reading = _reading_microbytes(connection, before, newest, page)
    return Waiting(
        batches + (newest - before) * a_reading // 1_000_000,
        _passed_ms(connection, acknowledged, last),
        _interval_bytes(connection, acknowledged, page, a_reading),
        used,
        budget,
    )


def taken(value: int, page: int) -> int:
    """What a row with a value of so many bytes takes of the file.

    What does not fit onto its page goes to pages of its own, and those are counted whole (SQLite file format, section
    1.6, for tables); of the rest as many fit onto a page as do, and what is left of the page is lost.
    """
    content = value + _CELL_BYTES
    inline, overflow = content, 0
    if content > page - 35:
        inline_min = (page - 12) * 32 // 255 - 23
        inline = inline_min + (content - inline_min) % (page - 4)
        inline = inline if inline <= page - 35 else inline_min
        overflow = -(-(content - inline) // (page - 4)) * page
    return overflow + page // ((page - 8) // (inline + 2))


def _mean(sizes: Sequence[int]) -> int:
    return sum(sizes) // len(sizes) if sizes else 0


def _spread(after: int, last: int) -> list[int]:
    """Some keys of a stretch, evenly spread."""
    return sorted({after + (last - after) * place // _SAMPLE for place in range(1, _SAMPLE + 1)})


def _texts(connection: Connection, after: int, last: int) -> list[int]:
    """The lengths of some texts that are spread evenly over the waiting ones."""
    found: list[int] = []
    for ordinal in _spread(after, last):
        rows = connection.execute(
            "SELECT length(jws) FROM texts WHERE ordinal >= ? AND ordinal <= ? ORDER BY ordinal LIMIT 1",
            (ordinal, last),
        )
        found.extend(integer(row[0]) for row in rows)
    return found


def _reading_microbytes(connection: Connection, after: int, last: int, page: int) -> int:
    """What a reading takes, in 0.000001 bytes: its share of its boundary's row, of some that are spread evenly.

    The boundary of an evenly chosen reading is chosen in proportion to its size; so the mean of the shares is exact.
    """
    shares: list[int] = []
    for number in _spread(after, last):
        rows = connection.execute(
            "SELECT id - coalesce((SELECT max(id) FROM cuts WHERE id < c.id), 0), length(data) FROM cuts c"
            " WHERE id >= ? AND id <= ? ORDER BY id LIMIT 1",
            (number, last),
        )
        shares.extend(
            (CUT_BYTES + taken(integer(size), page)) * 1_000_000 // integer(count) for count, size in rows
        )
    return _mean(shares)


def _last_reading(connection: Connection, ordinal: int) -> int:
    """The newest reading when the newest batch up to this one was sealed."""
    rows = connection.execute(
        "SELECT last_reading FROM batches WHERE ordinal <= ? ORDER BY ordinal DESC LIMIT 1", (ordinal,)
    )
    return integer(rows[0][0]) if rows else 0


def _passed_ms(connection: Connection, acknowledged: int, last: int) -> int:
    """How long the outage has lasted, by the times of sealing; steps of the clock count for little."""
    first = connection.execute(
        "SELECT told_ms FROM batches WHERE superseded = 0 AND ordinal > ? ORDER BY ordinal LIMIT 1",
        (acknowledged,),
    )
    return totals(connection, last)[2] - integer(first[0][0])


def _interval_bytes(connection: Connection, acknowledged: int, page: int, a_reading: int) -> int:
    """What an ordinary interval adds, by the newest that are waiting."""
    rows = connection.execute(
        "SELECT sealed_ms, length(jws), last_reading FROM batches b JOIN texts t ON t.ordinal = b.ordinal"
        " WHERE b.superseded = 0 AND b.ordinal > ? ORDER BY b.ordinal DESC LIMIT ?",
        (acknowledged, _SAMPLE),
    )
    sizes: list[int] = []
    newer: tuple[int, int] | None = None
    for row in rows:
        sealed_ms, text_bytes, last_reading = (integer(value) for value in row)
        if newer is None or abs(newer[0] - sealed_ms) > _PAUSE_MS:
            if newer is not None:
                sizes[-1] += max(0, newer[1] - last_reading) * a_reading // 1_000_000
            sizes.append(0)
            newer = (sealed_ms, last_reading)
        sizes[-1] += ROW_BYTES + taken(text_bytes, page)
    return int(statistics.median_high(sizes[:-1] or sizes or [0]))
