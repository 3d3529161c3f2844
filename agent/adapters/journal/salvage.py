"""What can be saved out of a damaged journal: the points that whole batches tell of.

A batch proves itself: its hash is that of its text. Each of its deltas carries two registers with their times, and its
descriptor says on which basis, so the readings of a meter can be written down again from its batches without a single
value that was not checked. The batches themselves stay in the damaged file, which is kept: a chain whose end is
unknown must not be continued. The new journal asks the platform where it stands, and tells the salvaged points in a
new chain from there (wire format, section 6, "When the edge restores").

What a person said is kept on where no batch tells it: the number of an exchanged meter, orders, and statements that
wait for a boundary. Those that a batch told which the platform may not have are counted and not told again: they name
deltas by their numbers, which may be those of other deltas in the new chain. Only the person who stated them can tell.

Of what the platform has acknowledged only the turning points are kept on: the last and first register of every epoch,
from the readings, whose rows carry checksums. A platform that was put back to before one of them needs it. They carry
the mark that they were acknowledged once, because the batches that said so are gone.

Of the damaged file each row is asked for alone where a range of them cannot be read.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from agent.adapters.journal.batches import ACKNOWLEDGED
from agent.adapters.journal.connection import Connection, Row, Value
from agent.adapters.journal.cuts import AT_TIME, ROW, readings_in
from agent.adapters.journal.gatetables import number_in, order_in
from agent.adapters.journal.names import Names
from agent.adapters.journal.retoldtable import retelling_in
from agent.adapters.journal.rows import blob, integer, text, text_or_none
from agent.adapters.journal.sealed import batch_in, batch_of, descriptor_in, descriptor_of
from agent.adapters.journal.sqlite import SqliteJournal
from agent.adapters.journal.statementtables import statement_in
from agent.adapters.journal.sums import COLUMNS, sum_of
from agent.errors import JournalDamaged, JournalFailed
from agent.metering.interval import Moment
from agent.metering.later import ROLLED, SETTLED
from agent.metering.ledger import Basis, Head, Point, head_at
from agent.metering.memory import Memory
from agent.reporting.batch import CLOCK, UNKNOWN, Batch, Clock, Delta
from agent.reporting.descriptor import MeterDescription
from agent.reporting.event import Event
from agent.reporting.utc import ms_of_text
from agent.service.journal import KeptBatch, KeptDescriptor, Reading, Standing, State

T = TypeVar("T")

_RANGE = 256
_PAGE = 64
_TOLD = (
    "SELECT last_reading FROM batches WHERE superseded = 0"
    f" AND ordinal <= {ACKNOWLEDGED} ORDER BY ordinal DESC LIMIT 1"
)
"""The newest reading that the platform has acknowledged."""
_SUPERSEDED = "WHERE (chain, seq) IN (SELECT chain, seq FROM batches WHERE superseded = 1) ORDER BY id"
_MAYBE_TOLD = (
    "SELECT count(*) FROM statements WHERE (chain, seq) IN"
    f" (SELECT chain, seq FROM batches WHERE superseded = 0 AND ordinal > {ACKNOWLEDGED})"
)
_NUMBERS = f"SELECT id FROM cuts INDEXED BY cuts_by_time WHERE id > ? AND id <= ? ORDER BY id LIMIT {_PAGE}"
"""Which rows of readings there are, without a look at the rows."""
_FLAGS = frozenset({"comm", "clock", "quant", "rate", "coarse", "sub"})
"""Flags of a reading; the others are of the ledger, which gives them again."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Where batches lie: the first that waits, and those of a stretch of ordinals whose text is kept."""

    name: str
    oldest: str
    rows: str


_COLUMNS = (
    "ordinal, chain, seq, hash, prev, prev_chain, prev_seq, prev_hash, sealed_ms, NULL, superseded, jws"
)
"""Those of `sealed.batch_in`. When it was acknowledged stands elsewhere, and need not be readable."""


def _former(name: str) -> _Table:
    """The table of batches as it was up to version 5."""
    return _Table(
        name,
        f"SELECT coalesce(min(ordinal), (SELECT max(ordinal) + 1 FROM {name})) FROM {name}"
        " WHERE stored_ms IS NULL AND superseded = 0",
        f"SELECT {_COLUMNS} FROM {name} WHERE ordinal BETWEEN ? AND ? AND jws IS NOT NULL ORDER BY ordinal",
    )


_PRESENT = _Table(
    "texts",
    f"SELECT 1 + {ACKNOWLEDGED}",
    f"SELECT {_COLUMNS} FROM batches JOIN texts USING (ordinal) WHERE ordinal BETWEEN ? AND ? ORDER BY ordinal",
)
_FORMER, _OLD = _former("former_batches"), _former("batches")


@dataclass(slots=True)
class Salvaged:
    """How much was saved: batches read and not readable, points written down again.

    `in_doubt` is how many corrections had been sealed that no receipt is known for; they are not told again.
    """

    batches: int = 0
    lost: int = 0
    points: int = 0
    in_doubt: int = 0


def salvage(
    path: Path,
    connect: Callable[[Path], Connection],
    journal: SqliteJournal,
    *,
    ask_first: bool,
    has_lost_bytes: bool = False,
) -> Salvaged:
    """Fill a new journal with what the damaged one at `path` still proves.

    Args:
        path: the damaged file; it is read only.
        connect: opens it.
        journal: new and empty.
        ask_first: the platform can say where it stands, and is asked before anything is told.
        has_lost_bytes: the disk is known to have lost bytes of the file, so what it fails to read is lost.

    Raises:
        JournalFull: no room for the new journal.
        JournalFailed: it cannot be written; or the old one cannot be read at present, and may be later.
    """
    salvaged = Salvaged()
    try:
        old = connect(path)
    except JournalFailed:
        raise
    except JournalDamaged:
        return salvaged  # not even a database: nothing in it can be asked for
    source = _Source(old, has_lost_bytes)
    try:
        work = _Salvage(source, journal, salvaged)
        work.run(ask_first=ask_first)
    finally:
        _let_go(old)
    if source.failure is not None:
        raise JournalFailed(
            f"{path}: the disk failed while what it proves was read; it stays as it is: {source.failure}"
        ) from source.failure
    return salvaged


def _let_go(old: Connection) -> None:
    try:
        old.close()
    except JournalDamaged:
        return  # it is moved aside as it is


class _Source:
    """The damaged file. A row that the disk does not give at present is not lost, so after a failure no more is read;
    unless the disk is known to have lost bytes of this file: then those rows are lost, and the others are not."""

    def __init__(self, db: Connection, has_lost_bytes: bool) -> None:
        self._db = db
        self._has_lost_bytes = has_lost_bytes
        self.failure: JournalFailed | None = None

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """The rows. Raises JournalDamaged."""
        if self.failure is not None:
            raise self.failure
        try:
            return self._db.execute(sql, parameters)
        except JournalFailed as error:
            if not self._has_lost_bytes:
                self.failure = error
            raise


class _Salvage:
    """One damaged file on its way into a new one."""

    def __init__(self, old: _Source, journal: SqliteJournal, salvaged: Salvaged) -> None:
        self._old = old
        self._journal = journal
        self._salvaged = salvaged
        self._heads: dict[str, Head] = {}
        self._maps: dict[str, dict[str, MeterDescription] | None] = {}
        self._told = 0

    def run(self, *, ask_first: bool) -> None:
        self._ask("PRAGMA locking_mode=EXCLUSIVE")
        with self._journal.transaction():
            self._keep_what_the_platform_said()
            self._keep_what_a_person_said()
        self._told = self._number(_TOLD) or 0
        self._keep_turning_points(0, self._told, marks=frozenset({SETTLED}))
        for portion in self._portions():
            with self._journal.transaction():
                for kept in portion:
                    self._write_down(batch_of(kept))
        left_to_tell = self._left_to_tell()
        if left_to_tell is not None:
            self._keep_turning_points(left_to_tell, self._number("SELECT max(id) FROM cuts") or 0)
        with self._journal.transaction():
            for head in self._heads.values():
                self._journal.save_head(head)
            if ask_first and self._salvaged.points:
                self._journal.save_state(replace(self._journal.state(), standing=Standing.ASKING))

    # -- reading what is damaged

    def _ask(self, sql: str, parameters: tuple[int, ...] = ()) -> list[Row] | None:
        """The rows, None where they cannot be read."""
        try:
            return self._old.execute(sql, parameters)
        except JournalDamaged:
            return None

    def _portions(self) -> Iterator[list[KeptBatch]]:
        """The whole batches that the platform had not acknowledged, oldest first, not many at a time.

        Of a journal of a former version that was being carried over, those that were are older than the rest.
        """
        for table in (_PRESENT, _FORMER, _OLD):
            if self._ask(f"{table.rows} LIMIT 0", (0, 0)) is None:
                continue  # a journal of another version
            newest = self._number(f"SELECT max(ordinal) FROM {table.name}")
            if newest is None:
                continue
            oldest = self._number(table.oldest) or 1
            for first in range(oldest, newest + 1, _RANGE):
                portion = [
                    kept
                    for row in self._rows(table, first, min(first + _RANGE - 1, newest))
                    for kept in self._whole(row)
                    if not kept.superseded  # a later chain tells the same, and the order has to be that of nature
                ]
                self._salvaged.batches += len(portion)
                if portion:
                    yield portion

    def _number(self, sql: str) -> int | None:
        found = self._ask(sql)
        value = found[0][0] if found else None
        return value if isinstance(value, int) else None

    def _rows(self, table: "_Table", first: int, last: int) -> list[Row]:
        """Rows of a stretch of ordinals: halved where it cannot be read, down to the single row that is lost."""
        found = self._ask(table.rows, (first, last))
        if found is not None:
            return found
        if first == last:
            self._salvaged.lost += 1
            return []
        middle = (first + last) // 2
        return self._rows(table, first, middle) + self._rows(table, middle + 1, last)

    def _whole(self, row: Row) -> list[KeptBatch]:
        """The batch, if it is what its hash says and tells of meters that its descriptor knows."""
        try:
            kept = batch_in(row)
            batch = batch_of(kept)
        except JournalDamaged:
            self._salvaged.lost += 1
            return []
        described = self._described(batch.cfg)
        if described is None or any(delta.meter not in described for delta in batch.deltas):
            self._salvaged.lost += 1
            return []
        return [kept]

    def _described(self, cfg: str) -> dict[str, MeterDescription] | None:
        """A descriptor's meters, kept in the new journal as well; None where it cannot be read."""
        if cfg not in self._maps:
            self._maps[cfg] = None
            rows = self._ask("SELECT hash, rev, jws FROM descriptors") or []
            for kept, described in self._said_by(rows, _map_in):
                if kept.hash == cfg:
                    self._maps[cfg] = described
                    self._journal.add_descriptor(kept)
        return self._maps[cfg]

    def _keep_what_the_platform_said(self) -> None:
        """Receipts, refused chains, whose journal it was, and how new an acknowledgement has to be."""
        journal, gen, ack_no = self._journal, 0, 0
        site: str | None = None
        owner: str | None = None
        for jws, order, stored_ms in self._said_by(self._sound("acknowledgements"), _receipt_in):
            journal.keep_acknowledgement(jws, *order, stored_ms)
            gen, ack_no = max((gen, ack_no), order)
        for chain in self._said_by(self._sound("refused_chains"), _chain_in):
            journal.refuse_chain(chain)
        for order, *rest in self._said_by(self._sound("state"), _standing_in):
            gen, ack_no = max((gen, ack_no), order)
            site, owner = rest
        journal.save_state(State(gen=gen, ack_no=ack_no, owner=owner, site_sha256=site))

    def _keep_what_a_person_said(self) -> None:
        """Which meter hangs there, orders for the next boundary, and statements that wait for one."""
        names = Names(self._old)
        exchanged = self._sound("gates", "WHERE serial IS NOT NULL")
        for meter, memory in self._said_by(
            exchanged, lambda row: (names.meter(integer(row[0])), _number_in(row))
        ):
            self._journal.save_memory(meter, memory)
        for order in self._said_by(
            self._sound("orders"), lambda row: order_in((names.meter(integer(row[0])), *row[1:]))
        ):
            self._journal.save_order(order)
        waiting = self._sound("statements", "WHERE chain IS NULL ORDER BY id")
        for statement in self._said_by(waiting + self._sound("statements", _SUPERSEDED), statement_in):
            self._journal.add_statement(statement)
        self._salvaged.in_doubt = self._number(_MAYBE_TOLD) or 0

    def _said_by(self, rows: Sequence[Row], read: Callable[[Row], T]) -> list[T]:
        """What each row says, as far as it can be read."""
        found = []
        for row in rows:
            with suppress(JournalDamaged):
                found.append(read(row))
        return found

    def _sound(self, table: str, where: str = "") -> list[Row]:
        """The rows of a table that are what was written; all of them in a version that kept no checksums."""
        columns = COLUMNS[table]
        rows = self._ask(f"SELECT {columns}, sum FROM {table} {where}")
        if rows is None:
            return self._ask(f"SELECT {columns} FROM {table} {where}") or []
        return [row[:-1] for row in rows if sum_of(row[:-1]) == row[-1]]

    def _left_to_tell(self) -> int | None:
        """Up to where a restored chain had told when the journal broke; None where it was not at it."""
        for row in self._sound("retelling"):
            with suppress(JournalDamaged):
                return retelling_in(text(row[1])).told
        return None

    def _keep_turning_points(self, after: int, up_to: int, *, marks: frozenset[str] = frozenset()) -> None:
        """The last and first register of every epoch among readings that no batch tells any more, or tells yet.

        A platform that was restored from a backup may stand before such a point. Without it the register would seem to
        have run on, and what it counted before its reset would be lost without a word. `marks` are put on each.
        """
        names = Names(self._old)
        before: dict[str, Reading] = {}
        for rows in self._pages_of_readings(after, up_to):
            with self._journal.transaction():
                for row in rows:
                    for found in self._readings(row, names):
                        reading = replace(found, point=replace(found.point, flags=found.point.flags | marks))
                        self._keep_if_it_turns(before.pop(reading.point.meter, None), reading)
                        before[reading.point.meter] = reading

    def _pages_of_readings(self, after: int, up_to: int) -> Iterator[list[Row]]:
        """Rows of readings, oldest first; one by one, by the numbers in the index, where a page cannot be read."""
        while True:
            rows = self._ask(f"{ROW} WHERE id > ? AND id <= ? ORDER BY id LIMIT {_PAGE}", (after, up_to))
            if rows is None:
                ids = [row[0] for row in self._ask(_NUMBERS, (after, up_to)) or []]
                rows = [row for id in ids for row in self._ask(f"{ROW} WHERE id = ?", (integer(id),)) or []]
            else:
                ids = [row[0] for row in rows]
            if not ids:
                return
            yield rows
            after = integer(ids[-1])

    def _readings(self, row: Row, names: Names) -> list[Reading]:
        try:
            return readings_in(row, names)
        except JournalDamaged:
            return []

    def _keep_if_it_turns(self, before: Reading | None, reading: Reading) -> None:
        if reading.point.opens is None:
            return
        is_kept = before is None or before.point.opens is not None
        for each in (reading,) if is_kept else (before, reading):
            if each is not None and self._described(each.cfg) is not None:
                self._journal.add_reading(each)
                self._salvaged.points += 1

    # -- writing it down again

    def _write_down(self, batch: Batch) -> None:
        described = self._described(batch.cfg)
        assert described is not None
        for said in batch.in_effect_order():
            match said:
                case Delta():
                    when = _when(batch.clock, said.q)
                    self._advance(said, described[said.meter], batch.cfg, when)
                case Event(type="epoch"):
                    self._open(said, described, batch.cfg, _when(batch.clock))

    def _open(self, event: Event, described: dict[str, MeterDescription], cfg: str, when: Moment) -> None:
        """A new epoch: its first register and why it opened."""
        meter = text(event.body["meter"])
        if meter not in described:
            return
        basis = _basis_of(described[meter])
        at_ms, register = ms_of_text(event.text("unmetered_to")), event.integer("first")
        if not self._journal.readings(meter, after=None, limit=1):
            self._keep_what_was_before(event, basis, cfg, when)
        point = Point(meter, at_ms, at_ms, register, basis, opens=event.text("reason"), when=when)
        self._add(point, cfg, epoch=event.integer("epoch_to"), n=0)

    def _keep_what_was_before(self, event: Event, basis: Basis, cfg: str, when: Moment) -> None:
        """The register from which a reset fell, where nothing else of the meter is known from before it.

        Alone it shows that a position of that epoch, of which nobody knows the time, lies before the reset. It was read
        on the same basis, or the event would give another reason. Where nobody knew how long the hole was, its label is
        no time that a clock knew.
        """
        at_ms, register = ms_of_text(event.text("unmetered_from")), event.integer("last")
        is_time = event.body["bound"] is not None and at_ms <= ms_of_text(event.text("unmetered_to"))
        if event.text("reason") != "reset" or not is_time:
            return
        found = self._ask(AT_TIME, (at_ms,))
        is_settled = not found or integer(found[0][0]) <= self._told
        flags = frozenset({SETTLED}) if is_settled else frozenset()
        point = Point(event.text("meter"), at_ms, at_ms, register, basis, flags, when=when)
        self._add(point, cfg, epoch=event.integer("epoch_from"), n=0)

    def _advance(self, delta: Delta, description: MeterDescription, cfg: str, when: Moment) -> None:
        basis, head = _basis_of(description), self._heads.get(delta.meter)
        is_next = head is not None and (head.epoch, head.n + 1) == (delta.epoch, delta.n)
        if not is_next and not _goes_back(head, delta):  # what led up to it is lost
            opens = "first" if delta.n == 1 and head is None else None
            start = Point(delta.meter, delta.start_ms, delta.start_ms, delta.reg_start, basis, opens=opens)
            self._add(replace(start, when=when), cfg, epoch=delta.epoch, n=delta.n - 1)
        flags = frozenset(delta.q) & _FLAGS | ({ROLLED} if delta.roll else set())
        end = Point(delta.meter, delta.end_ms, delta.end_ms, delta.reg_end, basis, flags, when=when)
        self._add(end, cfg, epoch=delta.epoch, n=delta.n)

    def _add(self, point: Point, cfg: str, *, epoch: int, n: int) -> None:
        self._journal.add_reading(Reading(point, (), cfg))
        self._salvaged.points += 1
        self._heads[point.meter] = head_at(point, epoch=epoch, n=n, cfg=cfg)


def _when(clock: Clock, q: Sequence[str] = ()) -> Moment:
    """What a batch says of the labels in it: how wrong they may be, unless the clock did not know the time."""
    is_known = clock.sync != UNKNOWN and CLOCK not in q
    return Moment(None, None, clock.err_ms if is_known else None)


def _goes_back(head: Head | None, delta: Delta) -> bool:
    """Whether a delta begins below where its epoch stood: no register that was read; its end goes on from there."""
    return head is not None and head.epoch == delta.epoch and delta.reg_start < head.register_milliwh


def _map_in(row: Row) -> tuple[KeptDescriptor, dict[str, MeterDescription]]:
    """A descriptor, and the meters by their ids. Raises JournalDamaged, like all that follow."""
    kept = descriptor_in([row])
    assert kept is not None
    return kept, descriptor_of(kept).by_meter()


def _receipt_in(row: Row) -> tuple[bytes, tuple[int, int], int]:
    """A receipt, what orders it, and its `stored_at`."""
    return blob(row[4]), (integer(row[1]), integer(row[2])), integer(row[3])


def _chain_in(row: Row) -> str:
    return text(row[0])


def _standing_in(row: Row) -> tuple[tuple[int, int], str | None, str | None]:
    """How new an acknowledgement has to be, the site file, and whose journal it is."""
    return (integer(row[4]), integer(row[5])), text_or_none(row[10]), text_or_none(row[12])


def _number_in(row: Row) -> Memory:
    """What is known of a meter's serial number beyond the site file; nothing else of a memory is salvaged."""
    return Memory(number=number_in(row[6:8]))


def _basis_of(description: MeterDescription) -> Basis:
    return Basis(Fraction(description.num, description.den), description.modulus, description.serial)
