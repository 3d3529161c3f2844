"""The journal's promises over one SQLite connection: its tables, in explicit transactions.

How the file is opened, and what is done where it is not in order, is in `opening`.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from agent.adapters.journal.clocktables import ClockTables
from agent.adapters.journal.connection import Connection, Row
from agent.adapters.journal.gatetables import GateTables
from agent.adapters.journal.keytables import KeyTables
from agent.adapters.journal.room import Room, RoomTables
from agent.adapters.journal.rows import basis_of as _basis
from agent.adapters.journal.rows import blob as _bytes
from agent.adapters.journal.rows import integer as _int
from agent.adapters.journal.rows import join_words
from agent.adapters.journal.rows import moment_of as _moment
from agent.adapters.journal.rows import split_words as _words
from agent.adapters.journal.rows import text as _text
from agent.adapters.journal.rows import text_or_none as _text_or_none
from agent.adapters.journal.sealed import BATCH, batch_in, chain_head, descriptor_in
from agent.adapters.journal.statementtables import StatementTables
from agent.errors import JournalDamaged, JournalFull
from agent.metering.interval import DAY_MS
from agent.metering.ledger import Basis, Head, Point, Run
from agent.reporting.chain import ChainHead
from agent.service.journal import (
    Backlog,
    KeptAcknowledgement,
    KeptBatch,
    KeptDescriptor,
    Reading,
    SealedBatch,
    Standing,
    State,
)


class SqliteJournal(GateTables, KeyTables, ClockTables, StatementTables, RoomTables):
    """Implements `agent.service.journal.Journal`; the methods' promises are documented there."""

    def __init__(self, connection: Connection, room: Room | None = None) -> None:
        """`room` keeps the file within its budget; None where there is none."""
        self._db = connection
        self._room = room

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._roll_back()
            raise
        try:
            self._db.execute("COMMIT")
        except JournalFull:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        """SQLite may have rolled back by itself already, after which ROLLBACK has nothing to do."""
        try:
            self._db.execute("ROLLBACK")
        except JournalDamaged as error:
            if "no transaction is active" not in str(error):
                raise

    # -- where the journal stands

    def state(self) -> State:
        found = self._db.execute(
            "SELECT chain, seq, hash, standing, gen, ack_no, acked_chain, acked_seq, acked_hash, acked_at_ms,"
            " site_sha256, clean, owner FROM state"
        )
        if not found:
            raise JournalDamaged("the journal does not say where it stands")
        row = found[0]
        return State(
            chain=_text_or_none(row[0]),
            seq=_int(row[1]),
            hash=_text_or_none(row[2]),
            standing=_standing(row[3]),
            gen=_int(row[4]),
            ack_no=_int(row[5]),
            acked=chain_head(row[6:9]),
            acked_at_ms=_int(row[9]),
            site_sha256=_text_or_none(row[10]),
            clean=bool(row[11]),
            owner=_text_or_none(row[12]),
        )

    def save_state(self, state: State) -> None:
        acked = state.acked
        self._db.execute(
            "UPDATE state SET chain=?, seq=?, hash=?, standing=?, gen=?, ack_no=?, acked_chain=?, acked_seq=?,"
            " acked_hash=?, acked_at_ms=?, site_sha256=?, clean=?, owner=?",
            (
                state.chain,
                state.seq,
                state.hash,
                state.standing.value,
                state.gen,
                state.ack_no,
                acked.chain if acked else None,
                acked.seq if acked else None,
                acked.hash if acked else None,
                state.acked_at_ms,
                state.site_sha256,
                int(state.clean),
                state.owner,
            ),
        )

    # -- the ledger

    def heads(self) -> dict[str, Head]:
        rows = self._db.execute(
            "SELECT m.name, h.epoch, h.n, h.register_milliwh, h.at_ms, h.cut_ms, h.cfg, h.restored,"
            " b.per_count, b.modulus_milliwh, b.serial, h.run_n, h.run_milliwh, h.run_roll_milliwh, h.run_day,"
            " h.suspect, s.name, h.up_ms, h.err_ms"
            " FROM heads h JOIN meters m ON m.id = h.meter"
            " JOIN bases b ON b.id = h.basis LEFT JOIN boots s ON s.id = h.boot"
        )
        return {
            _text(row[0]): Head(
                meter=_text(row[0]),
                epoch=_int(row[1]),
                n=_int(row[2]),
                register_milliwh=_int(row[3]),
                at_ms=_int(row[4]),
                cut_ms=_int(row[5]),
                basis=_basis(row[8:11]),
                cfg=_text(row[6]),
                restored=bool(row[7]),
                run=_run(row[11:15]),
                suspect=bool(row[15]),
                when=_moment(row[16:19]),
            )
            for row in rows
        }

    def save_head(self, head: Head) -> None:
        run = head.run
        self._db.execute(
            "INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._meter(head.meter),
                head.epoch,
                head.n,
                head.register_milliwh,
                head.at_ms,
                head.cut_ms,
                self._basis_id(head.basis),
                head.cfg,
                int(head.restored),
                run.n_first if run else None,
                run.register_milliwh if run else None,
                run.roll_milliwh if run else None,
                run.day if run else None,
                int(head.suspect),
                *self._moment_columns(head.when),
            ),
        )

    def add_reading(self, reading: Reading) -> None:
        point = reading.point
        described = self._db.execute("SELECT id FROM descriptors WHERE hash = ?", (reading.cfg,))
        if not described:
            raise JournalDamaged(f"the descriptor {reading.cfg} of a reading is not in the journal")
        self._db.execute(
            "INSERT INTO readings (meter, at_ms, cut_ms, register_milliwh, words, basis, descriptor, flags, opens,"
            " boot, up_ms, err_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._meter(point.meter),
                point.at_ms,
                point.cut_ms,
                point.register_milliwh,
                join_words(reading.words),
                self._basis_id(point.basis),
                described[0][0],
                " ".join(sorted(point.flags)),
                point.opens,
                *self._moment_columns(point.when),
            ),
        )

    def readings(self, meter: str, *, after: Head | None) -> list[Reading]:
        row = self._known_meter(meter)
        if after is None:
            return self._readings(meter, "r.meter = ? ORDER BY r.id", (row,))
        same = self._db.execute(
            "SELECT min(id) FROM readings WHERE meter = ? AND at_ms = ? AND register_milliwh = ?",
            (row, after.at_ms, after.register_milliwh),
        )[0][0]
        if same is None:
            return []
        return self._readings(meter, "r.meter = ? AND r.id >= ? ORDER BY r.id", (row, _int(same)))

    def readings_unacknowledged(self, meter: str) -> tuple[Reading | None, list[Reading]]:
        row, last = self._known_meter(meter), self._last_acknowledged_reading()
        anchor = self._reading(meter, "r.meter = ? AND r.id <= ? ORDER BY r.id DESC", (row, last))
        return anchor, self._readings(meter, "r.meter = ? AND r.id > ? ORDER BY r.id", (row, last))

    def _last_acknowledged_reading(self) -> int:
        """The newest reading of which all that was ever sealed is acknowledged; 0 if there is none.

        Several batches may tell of the same readings; they share the number of the newest one.
        """
        stored = "superseded = 0 AND stored_ms IS NOT NULL"
        newest = self._db.execute(
            f"SELECT ordinal, last_reading FROM batches WHERE {stored} ORDER BY ordinal DESC LIMIT 1"
        )
        if not newest:
            return 0
        ordinal, last = _int(newest[0][0]), _int(newest[0][1])
        after = self._db.execute(
            "SELECT last_reading, stored_ms FROM batches WHERE ordinal > ? ORDER BY ordinal LIMIT 1",
            (ordinal,),
        )
        if not after or _int(after[0][0]) > last:
            return last
        before = self._db.execute(
            f"SELECT last_reading FROM batches WHERE {stored} AND ordinal < ? AND last_reading < ?"
            " ORDER BY ordinal DESC LIMIT 1",
            (ordinal, last),
        )
        return _int(before[0][0]) if before else 0

    def readings_around(self, meter: str, at_ms: int) -> tuple[Reading | None, Reading | None]:
        row = self._known_meter(meter)
        low, high = (
            0,
            _int(self._db.execute("SELECT coalesce(max(id), 0) FROM readings WHERE meter = ?", (row,))[0][0]),
        )
        while low < high:
            middle = (low + high + 1) // 2
            rows = self._db.execute(
                "SELECT id, at_ms FROM readings WHERE meter = ? AND id <= ? ORDER BY id DESC LIMIT 1",
                (row, middle),
            )
            if not rows or _int(rows[0][1]) < at_ms:
                low = middle
            else:
                high = _int(rows[0][0]) - 1
        before = self._reading(meter, "r.meter = ? AND r.id <= ? ORDER BY r.id DESC", (row, low))
        return before, self._reading(meter, "r.meter = ? AND r.id > ? ORDER BY r.id", (row, low))

    def _reading(self, meter: str, where: str, values: tuple[int, ...]) -> Reading | None:
        found = self._readings(meter, f"{where} LIMIT 1", values)
        return found[0] if found else None

    def _readings(self, meter: str, where: str, values: tuple[int, ...]) -> list[Reading]:
        rows = self._db.execute(
            "SELECT r.at_ms, r.cut_ms, r.register_milliwh, r.flags, r.opens, b.per_count, b.modulus_milliwh, b.serial,"
            " r.words, d.hash, s.name, r.up_ms, r.err_ms FROM readings r JOIN bases b ON b.id = r.basis"
            " JOIN descriptors d ON d.id = r.descriptor LEFT JOIN boots s ON s.id = r.boot"
            f" WHERE {where}",
            values,
        )
        return [Reading(_point(meter, row), _words(row[8]), _text(row[9])) for row in rows]

    def _known_meter(self, name: str) -> int:
        """The row of a meter, 0 if it was never read."""
        found = self._db.execute("SELECT id FROM meters WHERE name = ?", (name,))
        return _int(found[0][0]) if found else 0

    def _meter(self, name: str) -> int:
        found = self._db.execute("SELECT id FROM meters WHERE name = ?", (name,))
        if not found:
            found = self._db.execute("INSERT INTO meters (name) VALUES (?) RETURNING id", (name,))
        return _int(found[0][0])

    def _basis_id(self, basis: Basis) -> int:
        exact = basis.per_count_milliwh
        key = (f"{exact.numerator}/{exact.denominator}", basis.modulus_milliwh, basis.serial)
        found = self._db.execute(
            "SELECT id FROM bases WHERE per_count = ? AND modulus_milliwh IS ? AND serial IS ?", key
        )
        if not found:
            found = self._db.execute(
                "INSERT INTO bases (per_count, modulus_milliwh, serial) VALUES (?, ?, ?) RETURNING id", key
            )
        return _int(found[0][0])

    # -- descriptors

    def add_descriptor(self, descriptor: KeptDescriptor) -> None:
        self._db.execute(
            "INSERT INTO descriptors (hash, rev, jws) VALUES (?, ?, ?)",
            (descriptor.hash, descriptor.rev, descriptor.jws),
        )

    def descriptor(self, hash: str) -> KeptDescriptor | None:
        return descriptor_in(
            self._db.execute("SELECT hash, rev, jws FROM descriptors WHERE hash = ?", (hash,))
        )

    def latest_descriptor(self) -> KeptDescriptor | None:
        return descriptor_in(
            self._db.execute("SELECT hash, rev, jws FROM descriptors ORDER BY rev DESC LIMIT 1")
        )

    # -- batches

    def append_batch(self, batch: SealedBatch) -> None:
        before = batch.prev_chain
        self._db.execute(
            "INSERT INTO batches (chain, seq, hash, prev, prev_chain, prev_seq, prev_hash, sealed_ms, energy_milliwh,"
            " jws, last_reading) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(id), 0) FROM readings))",
            (
                batch.head.chain,
                batch.head.seq,
                batch.head.hash,
                batch.prev,
                before.chain if before else None,
                before.seq if before else None,
                before.hash if before else None,
                batch.sealed_ms,
                batch.energy_milliwh,
                zlib.compress(batch.jws, 6),
            ),
        )

    def batch(self, head: ChainHead) -> KeptBatch | None:
        rows = self._db.execute(
            f"{BATCH}, jws FROM batches WHERE chain = ? AND seq = ? AND hash = ?",
            (head.chain, head.seq, head.hash),
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
            f"{BATCH}, NULL FROM batches WHERE seq = 1 AND superseded = 0 AND ordinal > ? ORDER BY ordinal",
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
                f"{BATCH}, jws FROM batches WHERE seq = 1 AND prev_chain IS NULL AND superseded = 0"
                " ORDER BY ordinal DESC LIMIT 1"
            )
        else:
            rows = self._db.execute(
                f"{BATCH}, jws FROM batches WHERE superseded = 0 AND chain = ? AND seq = ? AND prev = ?",
                (head.chain, head.seq + 1, head.hash),
            ) or self._db.execute(
                f"{BATCH}, jws FROM batches WHERE superseded = 0 AND seq = 1 AND prev_chain = ? AND prev_seq = ?"
                " AND prev_hash = ? ORDER BY ordinal LIMIT 1",
                (head.chain, head.seq, head.hash),
            )
        return batch_in(rows[0]) if rows else None

    def queue(self, *, after_ordinal: int, limit: int) -> list[KeptBatch]:
        rows = self._db.execute(
            f"{BATCH}, jws FROM batches WHERE stored_ms IS NULL AND superseded = 0 AND ordinal > ?"
            " ORDER BY ordinal LIMIT ?",
            (after_ordinal, limit),
        )
        return [batch_in(row) for row in rows]

    def batches_of(self, chain: str, seq_from: int, seq_to: int, *, limit: int) -> list[KeptBatch]:
        rows = self._db.execute(
            f"{BATCH}, jws FROM batches WHERE chain = ? AND seq BETWEEN ? AND ? AND superseded = 0"
            " AND stored_ms IS NULL AND jws IS NOT NULL ORDER BY seq LIMIT ?",
            (chain, seq_from, seq_to, limit),
        )
        return [batch_in(row) for row in rows]

    def waiting_up_to(self, ordinal: int) -> int:
        rows = self._db.execute(
            "SELECT count(*) FROM batches WHERE stored_ms IS NULL AND superseded = 0 AND ordinal <= ?",
            (ordinal,),
        )
        return _int(rows[0][0])

    def mark_stored(self, up_to: ChainHead, stored_ms: int) -> None:
        self._db.execute(
            "UPDATE batches SET stored_ms = ? WHERE stored_ms IS NULL AND superseded = 0 AND ordinal <="
            " (SELECT ordinal FROM batches WHERE chain = ? AND seq = ? AND hash = ?)",
            (stored_ms, up_to.chain, up_to.seq, up_to.hash),
        )

    def forget_stored(self) -> None:
        self._db.execute("UPDATE batches SET stored_ms = NULL WHERE jws IS NOT NULL AND superseded = 0")

    def supersede_after(self, head: ChainHead | None) -> None:
        own = self.batch(head) if head is not None else None
        after = own.ordinal if own is not None else 0
        self._db.execute(
            "UPDATE batches SET superseded = 1 WHERE stored_ms IS NULL AND superseded = 0 AND ordinal > ?",
            (after,),
        )

    def backlog(self) -> Backlog:
        row = self._db.execute(
            "SELECT count(*), coalesce(sum(energy_milliwh), 0), min(sealed_ms) FROM batches"
            " WHERE stored_ms IS NULL AND superseded = 0"
        )[0]
        return Backlog(_int(row[0]), _int(row[1]), None if row[2] is None else _int(row[2]))

    def oldest(self) -> KeptBatch | None:
        rows = self._db.execute(
            f"{BATCH}, NULL FROM batches WHERE jws IS NOT NULL AND superseded = 0 ORDER BY ordinal LIMIT 1"
        )
        return batch_in(rows[0]) if rows else None

    # -- reading it all, for an export

    def ordinal_sealed_by(self, wall_ms: int) -> int:
        low, high = 0, self.last_ordinal()
        while low < high:
            middle = (low + high + 1) // 2
            rows = self._db.execute(
                "SELECT ordinal, sealed_ms FROM batches WHERE ordinal <= ? ORDER BY ordinal DESC LIMIT 1",
                (middle,),
            )
            if not rows or _int(rows[0][1]) <= wall_ms:
                low = middle
            else:
                high = _int(rows[0][0]) - 1
        return low

    def ordinal_of(self, head: ChainHead) -> int | None:
        rows = self._db.execute(
            "SELECT ordinal FROM batches WHERE chain = ? AND seq = ? AND hash = ?",
            (head.chain, head.seq, head.hash),
        )
        return _int(rows[0][0]) if rows else None

    def last_ordinal(self) -> int:
        return _int(self._db.execute("SELECT coalesce(max(ordinal), 0) FROM batches")[0][0])

    def batches_between(self, *, after_ordinal: int, up_to_ordinal: int, limit: int) -> list[KeptBatch]:
        rows = self._db.execute(
            f"{BATCH}, jws FROM batches WHERE ordinal > ? AND ordinal <= ? ORDER BY ordinal LIMIT ?",
            (after_ordinal, up_to_ordinal, limit),
        )
        return [batch_in(row) for row in rows]

    def acknowledgements(self, *, after_day: int, limit: int) -> list[KeptAcknowledgement]:
        rows = self._db.execute(
            "SELECT day, gen, ack_no, stored_ms, jws FROM acknowledgements WHERE day > ? ORDER BY day LIMIT ?",
            (after_day, limit),
        )
        return [
            KeptAcknowledgement(_int(row[0]), _int(row[1]), _int(row[2]), _int(row[3]), _bytes(row[4]))
            for row in rows
        ]

    # -- what the platform said

    def refuse_chain(self, chain: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO refused_chains VALUES (?)", (chain,))

    def refused_chains(self) -> frozenset[str]:
        return frozenset(_text(row[0]) for row in self._db.execute("SELECT chain FROM refused_chains"))

    def keep_acknowledgement(self, jws: bytes, gen: int, ack_no: int, stored_ms: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO acknowledgements VALUES (?, ?, ?, ?, ?)",
            (stored_ms // DAY_MS, gen, ack_no, stored_ms, jws),
        )


def _point(meter: str, row: Row) -> Point:
    return Point(
        meter=meter,
        at_ms=_int(row[0]),
        cut_ms=_int(row[1]),
        register_milliwh=_int(row[2]),
        basis=_basis(row[5:8]),
        flags=frozenset(_text(row[3]).split()),
        opens=_text_or_none(row[4]),
        when=_moment(row[10:13]),
    )


def _run(row: Row) -> Run | None:
    return None if row[0] is None else Run(_int(row[0]), _int(row[1]), _int(row[2]), _int(row[3]))


def _standing(value: object) -> Standing:
    try:
        return Standing(_text(value))
    except ValueError as error:
        raise JournalDamaged(f"the journal's standing is {value!r}") from error
