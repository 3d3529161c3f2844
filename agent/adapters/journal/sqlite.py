"""The journal's promises over one SQLite connection: its tables, in explicit transactions.

How the file is opened, and what is done where it is not in order, is in `opening`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from agent.adapters.journal.batches import BatchTables
from agent.adapters.journal.clocktables import ClockTables
from agent.adapters.journal.connection import Connection, Row, Value
from agent.adapters.journal.cuts import CutTables, Unwritten
from agent.adapters.journal.gatetables import GateTables
from agent.adapters.journal.keytables import KeyTables
from agent.adapters.journal.names import Names
from agent.adapters.journal.positions import PositionTables, ReadPositions
from agent.adapters.journal.retoldtable import RetoldTable
from agent.adapters.journal.room import Room, RoomTables
from agent.adapters.journal.rows import blob as _bytes
from agent.adapters.journal.rows import integer as _int
from agent.adapters.journal.rows import text as _text
from agent.adapters.journal.rows import text_or_none as _text_or_none
from agent.adapters.journal.sealed import chain_head, descriptor_in
from agent.adapters.journal.statementtables import StatementTables
from agent.adapters.journal.sums import COLUMNS, judge, sum_of
from agent.errors import JournalDamaged, JournalFull
from agent.metering.interval import DAY_MS
from agent.metering.ledger import Basis
from agent.service.journal import KeptAcknowledgement, KeptDescriptor, Standing, State


class SqliteJournal(
    BatchTables,
    CutTables,
    PositionTables,
    RetoldTable,
    GateTables,
    KeyTables,
    ClockTables,
    StatementTables,
    RoomTables,
):
    """Implements `agent.service.journal.Journal`; the methods' promises are documented there."""

    def __init__(self, connection: Connection, room: Room | None = None) -> None:
        """`room` keeps the file within its budget; None where there is none."""
        self._db = connection
        self._room = room
        self._unwritten: Unwritten | None = None
        self._known: Names | None = None
        self._read: ReadPositions | None = None

    def ask(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """The rows of a question to the open file, for whoever judges it."""
        return self._db.execute(sql, parameters)

    def check_rows(self, table: str) -> None:
        """Judge the rows of a table that carry a checksum or a hash. Raises JournalDamaged."""
        if table in COLUMNS:
            judge(self._db, table)
        elif table == "descriptors":
            for row in self._db.execute("SELECT hash, rev, jws FROM descriptors"):
                descriptor_in([row])

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        self._unwritten = Unwritten(self._names(), [])
        try:
            yield
            self._write_readings()
            self._write_heads()
        except BaseException:
            self._unwritten = self._known = None
            self._roll_back()
            raise
        names, self._unwritten, self._known = self._unwritten.names, None, None
        try:
            self._db.execute("COMMIT")
        except JournalFull:
            self._roll_back()
            raise
        self._known = names

    def _roll_back(self) -> None:
        """SQLite may have rolled back by itself already, after which ROLLBACK has nothing to do."""
        try:
            self._db.execute("ROLLBACK")
        except JournalDamaged as error:
            if "no transaction is active" not in str(error):
                raise

    def _names(self) -> Names:
        """What rows point to: those tables only ever grow, and what was committed of them stays true."""
        if self._unwritten is not None:
            return self._unwritten.names
        if self._known is None:
            self._known = Names(self._db)
        return self._known

    # -- where the journal stands

    def state(self) -> State:
        found = judge(self._db, "state")
        if not found:
            raise JournalDamaged("the journal does not say where it stands")
        return _state(found[0])

    def save_state(self, state: State) -> None:
        acked = state.acked
        values = (
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
        )
        self._db.execute(
            f"UPDATE state SET ({COLUMNS['state']}, sum) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, sum_of(values)),
        )

    # -- what rows point to

    def _known_meter(self, name: str) -> int:
        """The row of a meter, 0 if it was never read."""
        return self._names().known_meter(name)

    def _meter(self, name: str) -> int:
        return self._names().meter_id(name)

    def _basis_id(self, basis: Basis) -> int:
        return self._names().basis_id(basis)

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

    def descriptors(self) -> list[KeptDescriptor]:
        rows = self._db.execute("SELECT hash, rev, jws FROM descriptors ORDER BY rev")
        return [kept for row in rows if (kept := descriptor_in([row])) is not None]

    # -- what the platform said

    def acknowledgements(self, *, after_day: int, limit: int) -> list[KeptAcknowledgement]:
        rows = judge(self._db, "acknowledgements", "WHERE day > ? ORDER BY day LIMIT ?", (after_day, limit))
        return [
            KeptAcknowledgement(_int(row[0]), _int(row[1]), _int(row[2]), _int(row[3]), _bytes(row[4]))
            for row in rows
        ]

    def refuse_chain(self, chain: str) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO refused_chains (chain, sum) VALUES (?, ?)", (chain, sum_of((chain,)))
        )

    def refused_chains(self) -> frozenset[str]:
        return frozenset(_text(row[0]) for row in judge(self._db, "refused_chains"))

    def keep_acknowledgement(self, jws: bytes, gen: int, ack_no: int, stored_ms: int) -> None:
        values = (stored_ms // DAY_MS, gen, ack_no, stored_ms, jws)
        self._db.execute(
            f"INSERT OR REPLACE INTO acknowledgements ({COLUMNS['acknowledgements']}, sum) VALUES (?, ?, ?, ?, ?, ?)",
            (*values, sum_of(values)),
        )


@lru_cache(maxsize=2)
def _state(row: Row) -> State:
    """Read at every turn of every stage, and seldom another one."""
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


def _standing(value: object) -> Standing:
    try:
        return Standing(_text(value))
    except ValueError as error:
        raise JournalDamaged(f"the journal's standing is {value!r}") from error
