"""The sealed batches in the journal, their texts, and what of them the platform has acknowledged."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from agent.adapters.journal.connection import Connection, Row
from agent.adapters.journal.rows import integer
from agent.adapters.journal.sealed import (
    BATCH,
    WITH_TEXT,
    WITHOUT_TEXT,
    batch_in,
    chain_head,
    deflated,
    placed_batch,
)
from agent.reporting.chain import ChainHead
from agent.service.journal import Backlog, KeptBatch, SealedBatch, State

STEP_MS_MAX = 4 * 86_400_000
"""No interval counts for longer: a clock that was set by decades is not an outage of decades."""
ACKNOWLEDGED = "(SELECT coalesce(max(up_to), 0) FROM stored)"
"""The ordinal up to which everything is acknowledged."""


class BatchTables:
    """A part of `SqliteJournal`; the methods' promises are those of `agent.service.journal.Journal`."""

    _db: Connection

    if TYPE_CHECKING:

        def state(self) -> State:
            """Where the journal stands."""

        def transaction(self) -> AbstractContextManager[None]:
            """All or nothing."""

        def _write_readings(self) -> None:
            """Put what was read in this transaction into the file."""

        def _last_reading(self) -> int:
            """The number of the newest reading, 0 if there is none."""

    def append_batch(self, batch: SealedBatch) -> None:
        self._write_readings()
        before, own = batch.prev_chain, batch.head
        if self._db.execute("SELECT 1 FROM batches WHERE seq = ? AND chain = ?", (own.seq, own.chain)):
            raise ValueError(f"batch {own.chain}/{own.seq} was sealed before")
        told, milliwh, passed_ms, sealed_ms = self._totals(self.last_ordinal())
        step_ms = min(max(0, batch.sealed_ms - sealed_ms), STEP_MS_MAX) if told else 0
        ((ordinal,),) = self._db.execute(
            "INSERT INTO batches (chain, seq, hash, prev, prev_chain, prev_seq, prev_hash, sealed_ms, last_reading,"
            " told, told_milliwh, told_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING ordinal",
            (
                own.chain,
                own.seq,
                own.hash,
                batch.prev,
                before.chain if before else None,
                before.seq if before else None,
                before.hash if before else None,
                batch.sealed_ms,
                self._last_reading() if batch.last_reading is None else batch.last_reading,
                told + 1,
                milliwh + batch.energy_milliwh,
                passed_ms + step_ms,
            ),
        )
        self._db.execute("INSERT INTO texts VALUES (?, ?)", (ordinal, deflated(batch.jws)))

    def _totals(self, ordinal: int) -> tuple[int, int, int, int]:
        """The running totals up to a batch, and when the last of those was sealed; zeros before the first."""
        return totals(self._db, ordinal)

    def _acknowledged(self) -> int:
        return integer(self._db.execute(f"SELECT {ACKNOWLEDGED}")[0][0])

    def batch(self, head: ChainHead) -> KeptBatch | None:
        rows = self._db.execute(
            f"{WITH_TEXT} WHERE b.chain = ? AND b.seq = ? AND b.hash = ?", (head.chain, head.seq, head.hash)
        )
        return batch_in(rows[0]) if rows else None

    def chains_after(self, head: ChainHead | None) -> frozenset[str] | None:
        own = self.state().head
        if head == own:
            return frozenset()
        first = self._successor(head)
        if first is None or first.jws is None:
            return None
        chains = {first.head.chain}
        starts = self._db.execute(
            f"{WITHOUT_TEXT} WHERE b.seq = 1 AND b.superseded = 0 AND b.ordinal > ? ORDER BY b.ordinal",
            (first.ordinal,),
        )
        for start in map(batch_in, starts):
            if start.prev_chain != self._before(start.ordinal):
                return None
            chains.add(start.head.chain)
        return frozenset(chains)

    def _before(self, ordinal: int) -> ChainHead | None:
        """The batch before this one, superseded ones left out."""
        rows = self._db.execute(
            "SELECT chain, seq, hash FROM batches WHERE ordinal < ? AND superseded = 0 ORDER BY ordinal DESC LIMIT 1",
            (ordinal,),
        )
        return chain_head(rows[0]) if rows else None

    def _successor(self, head: ChainHead | None) -> KeptBatch | None:
        """The batch that follows a head, within its chain or as the first of the next one."""
        if head is None:
            rows = self._db.execute(
                f"{WITH_TEXT} WHERE b.seq = 1 AND b.prev_chain IS NULL AND b.superseded = 0"
                " ORDER BY b.ordinal DESC LIMIT 1"
            )
        else:
            rows = self._db.execute(
                f"{WITH_TEXT} WHERE b.superseded = 0 AND b.chain = ? AND b.seq = ? AND b.prev = ?",
                (head.chain, head.seq + 1, head.hash),
            ) or self._db.execute(
                f"{WITH_TEXT} WHERE b.superseded = 0 AND b.seq = 1 AND b.prev_chain = ? AND b.prev_seq = ?"
                " AND b.prev_hash = ? ORDER BY b.ordinal LIMIT 1",
                (head.chain, head.seq, head.hash),
            )
        return batch_in(rows[0]) if rows else None

    def queue(self, *, after_ordinal: int, limit: int) -> list[KeptBatch]:
        rows = self._db.execute(
            f"{WITH_TEXT} WHERE b.superseded = 0 AND b.ordinal > max(?, {ACKNOWLEDGED}) ORDER BY b.ordinal LIMIT ?",
            (after_ordinal, limit),
        )
        return [batch_in(row) for row in rows]

    def batches_of(self, chain: str, seq_from: int, seq_to: int, *, limit: int) -> list[KeptBatch]:
        rows = self._db.execute(
            f"{WITH_TEXT} WHERE b.chain = ? AND b.seq BETWEEN ? AND ? AND b.superseded = 0"
            f" AND b.ordinal > {ACKNOWLEDGED} AND t.jws IS NOT NULL ORDER BY b.seq LIMIT ?",
            (chain, seq_from, seq_to, limit),
        )
        return [batch_in(row) for row in rows]

    def waiting_up_to(self, ordinal: int) -> int:
        return max(0, self._totals(ordinal)[0] - self._totals(self._acknowledged())[0])

    def mark_stored(self, up_to: ChainHead, stored_ms: int) -> None:
        ordinal = self.ordinal_of(up_to)
        if ordinal is not None and ordinal > self._acknowledged():
            self._db.execute("INSERT INTO stored VALUES (?, ?)", (ordinal, stored_ms))

    def date_stored(self, before_ms: int, stored_ms: int) -> None:
        newest = self._db.execute("SELECT stored_ms FROM stored ORDER BY up_to DESC LIMIT 1")
        if newest and integer(newest[0][0]) < before_ms:  # nearly never, and the table is long
            self._db.execute("UPDATE stored SET stored_ms = ? WHERE stored_ms < ?", (stored_ms, before_ms))

    def forget_stored(self) -> None:
        """What was purged stays acknowledged: there is nothing left to send of it."""
        kept = self._db.execute(
            "SELECT t.ordinal - 1, (SELECT stored_ms FROM stored WHERE up_to >= t.ordinal - 1 ORDER BY up_to LIMIT 1)"
            " FROM texts t CROSS JOIN batches b ON b.ordinal = t.ordinal WHERE b.superseded = 0"
            " ORDER BY t.ordinal LIMIT 1"
        )
        if not kept:
            return
        purged, stored_ms = kept[0]
        self._db.execute("DELETE FROM stored WHERE up_to > ?", (purged,))
        if purged and stored_ms is not None:
            self._db.execute("INSERT OR IGNORE INTO stored VALUES (?, ?)", (purged, stored_ms))

    def supersede_after(self, head: ChainHead | None) -> None:
        own = self.batch(head) if head is not None else None
        after = own.ordinal if own is not None else 0
        self._db.execute(
            "UPDATE batches SET superseded = 1 WHERE superseded = 0 AND ordinal > ?",
            (max(after, self._acknowledged()),),
        )

    def backlog(self) -> Backlog:
        acknowledged = self._acknowledged()
        count, energy, *_ = self._totals(self.last_ordinal())
        count_before, energy_before, *_ = self._totals(acknowledged)
        if count <= count_before:
            return Backlog(0, 0, None)
        ((since_ms,),) = self._db.execute(
            "SELECT sealed_ms FROM batches WHERE superseded = 0 AND ordinal > ? ORDER BY ordinal LIMIT 1",
            (acknowledged,),
        )
        return Backlog(count - count_before, energy - energy_before, integer(since_ms))

    def oldest(self) -> KeptBatch | None:
        rows = self._db.execute(
            f"{BATCH}, t.jws FROM texts t CROSS JOIN batches b ON b.ordinal = t.ordinal WHERE b.superseded = 0"
            " ORDER BY t.ordinal LIMIT 1"
        )
        return placed_batch(rows[0]) if rows else None

    # -- reading it all, for an export

    def ordinal_sealed_by(self, wall_ms: int) -> int:
        low, high = 0, self.last_ordinal()
        while low < high:
            middle = (low + high + 1) // 2
            rows = self._db.execute(
                "SELECT ordinal, sealed_ms FROM batches WHERE ordinal <= ? ORDER BY ordinal DESC LIMIT 1",
                (middle,),
            )
            if not rows or integer(rows[0][1]) <= wall_ms:
                low = middle
            else:
                high = integer(rows[0][0]) - 1
        return low

    def ordinal_of(self, head: ChainHead) -> int | None:
        rows = self._db.execute(
            "SELECT ordinal FROM batches WHERE chain = ? AND seq = ? AND hash = ?",
            (head.chain, head.seq, head.hash),
        )
        return integer(rows[0][0]) if rows else None

    def last_ordinal(self) -> int:
        return integer(self._db.execute("SELECT coalesce(max(ordinal), 0) FROM batches")[0][0])

    def batches_between(self, *, after_ordinal: int, up_to_ordinal: int, limit: int) -> list[KeptBatch]:
        rows = self._db.execute(
            f"{WITH_TEXT} WHERE b.ordinal > ? AND b.ordinal <= ? ORDER BY b.ordinal LIMIT ?",
            (after_ordinal, up_to_ordinal, limit),
        )
        return [batch_in(row) for row in rows]

    def _last_acknowledged_reading(self) -> int:
        """The newest reading of which all that was ever sealed is acknowledged; 0 if there is none.

        Several batches may tell of the same readings; they share the number of the newest one.
        """
        newest = self._newest_told(self._acknowledged())
        if newest is None:
            return 0
        ordinal, last = newest
        after = self._db.execute(
            "SELECT last_reading FROM batches WHERE ordinal > ? ORDER BY ordinal LIMIT 1", (ordinal,)
        )
        if not after or integer(after[0][0]) > last:
            return last
        before = self._db.execute(
            "SELECT last_reading FROM batches WHERE superseded = 0 AND ordinal < ? AND last_reading < ?"
            " ORDER BY ordinal DESC LIMIT 1",
            (ordinal, last),
        )
        return integer(before[0][0]) if before else 0

    def _newest_told(self, up_to: int) -> tuple[int, int] | None:
        """Ordinal and newest reading of the last batch up to an ordinal that was not superseded."""
        rows = self._db.execute(
            "SELECT ordinal, last_reading FROM batches WHERE superseded = 0 AND ordinal <= ?"
            " ORDER BY ordinal DESC LIMIT 1",
            (up_to,),
        )
        return (integer(rows[0][0]), integer(rows[0][1])) if rows else None


def totals(db: Connection, ordinal: int) -> tuple[int, int, int, int]:
    """The running totals up to a batch, and when the last of those was sealed; zeros before the first."""
    rows: list[Row] = db.execute(
        "SELECT told, told_milliwh, told_ms, sealed_ms FROM batches WHERE superseded = 0 AND ordinal <= ?"
        " ORDER BY ordinal DESC LIMIT 1",
        (ordinal,),
    )
    if not rows:
        return 0, 0, 0, 0
    told, milliwh, passed_ms, sealed_ms = map(integer, rows[0])
    return told, milliwh, passed_ms, sealed_ms
