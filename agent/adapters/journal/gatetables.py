"""The tables in which the gates keep their memory: implements `agent.service.gatekeeping.GateRecords`."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.adapters.journal.connection import Connection, Row
from agent.adapters.journal.rows import (
    basis_of,
    integer,
    integer_or_none,
    join_words,
    moment_of,
    split_words,
    text,
    text_or_none,
)
from agent.adapters.journal.sums import COLUMNS, judge, sum_of
from agent.metering.interval import Moment
from agent.metering.ledger import Basis, Point
from agent.metering.memory import Exchanged, Fingerprint, Memory, Order, Pending, Said

_ABSENT = "-"


class GateTables:
    """A part of `SqliteJournal`, which gives it the connection and the rows of meters and bases."""

    _db: Connection

    if TYPE_CHECKING:

        def _meter(self, name: str) -> int:
            """The row of a meter, made where it is new."""

        def _known_meter(self, name: str) -> int:
            """The row of a meter, 0 if it was never read."""

        def _basis_id(self, basis: Basis) -> int:
            """The row of a basis, made where it is new."""

        def _moment_columns(self, when: Moment | None) -> tuple[int | None, int | None, int | None]:
            """The columns `boot`, `up_ms` and `err_ms`."""

    def memories(self) -> dict[str, Memory]:
        judge(self._db, "gates")
        rows = self._db.execute(
            "SELECT m.name, g.place, g.profile_hash, g.fingerprint, g.returned_ms, g.proofs, g.serial, g.instead_of,"
            " g.opened_ms, g.opened_milliwh, g.opened_by FROM gates g JOIN meters m ON m.id = g.meter"
        )
        return {
            text(row[0]): Memory(
                place=text_or_none(row[1]),
                profile_hash=text_or_none(row[2]),
                fingerprint=None if row[3] is None else _fingerprint(text(row[3])),
                returned_ms=integer_or_none(row[4]),
                proofs=integer(row[5]),
                number=number_in(row[6:8]),
                opened_ms=integer_or_none(row[8]),
                opened_milliwh=integer_or_none(row[9]),
                opened_by=text_or_none(row[10]),
            )
            for row in rows
        }

    def save_memory(self, meter: str, memory: Memory) -> None:
        values = (
            self._meter(meter),
            memory.place,
            memory.profile_hash,
            None if memory.fingerprint is None else _fingerprint_text(memory.fingerprint),
            memory.returned_ms,
            memory.proofs,
            *_number_columns(memory.number),
            memory.opened_ms,
            memory.opened_milliwh,
            memory.opened_by,
        )
        self._db.execute(
            f"INSERT OR REPLACE INTO gates ({COLUMNS['gates']}, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, sum_of(values)),
        )

    def doubts(self) -> dict[str, tuple[Pending, ...]]:
        judge(self._db, "doubts")
        found: defaultdict[str, list[Pending]] = defaultdict(list)
        for row in self._db.execute(
            "SELECT m.name, d.at_ms, d.cut_ms, d.register_milliwh, d.words, d.flags, b.per_count, b.modulus_milliwh,"
            " b.serial, s.name, d.up_ms, d.err_ms FROM doubts d JOIN meters m ON m.id = d.meter"
            " JOIN bases b ON b.id = d.basis LEFT JOIN boots s ON s.id = d.boot ORDER BY d.id"
        ):
            meter = text(row[0])
            point = Point(
                meter,
                integer(row[1]),
                integer(row[2]),
                integer(row[3]),
                basis_of(row[6:9]),
                frozenset(text(row[5]).split()),
                when=moment_of(row[9:12]),
            )
            found[meter].append(Pending(point, split_words(row[4])))
        return {meter: tuple(readings) for meter, readings in found.items()}

    def save_doubts(self, meter: str, readings: Sequence[Pending]) -> None:
        row = self._meter(meter)
        self._db.execute("DELETE FROM doubts WHERE meter = ?", (row,))
        for reading in readings:
            point = reading.point
            values = (
                row,
                point.at_ms,
                point.cut_ms,
                point.register_milliwh,
                join_words(reading.words),
                self._basis_id(point.basis),
                " ".join(sorted(point.flags)),
                *self._moment_columns(point.when),
            )
            self._db.execute(
                f"INSERT INTO doubts ({COLUMNS['doubts']}, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, sum_of(values)),
            )

    def orders(self) -> dict[str, Order]:
        judge(self._db, "orders")
        rows = self._db.execute(
            "SELECT m.name, o.kind, o.noted_ms, o.by_whom, o.last_kwh, o.first_kwh, o.serial, o.confirmed"
            " FROM orders o JOIN meters m ON m.id = o.meter"
        )
        return {order.meter: order for order in map(order_in, rows)}

    def save_order(self, order: Order) -> None:
        values = (
            self._meter(order.meter),
            order.kind,
            order.noted_ms,
            order.by,
            order.last_kwh,
            order.first_kwh,
            order.serial,
            int(order.confirmed),
        )
        self._db.execute(
            f"INSERT OR REPLACE INTO orders ({COLUMNS['orders']}, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, sum_of(values)),
        )

    def drop_order(self, meter: str) -> None:
        self._db.execute("DELETE FROM orders WHERE meter = ?", (self._known_meter(meter),))


def order_in(row: Row) -> Order:
    """The columns of `orders`, with the meter's name in the place of its row. Raises JournalDamaged."""
    return Order(
        meter=text(row[0]),
        kind=text(row[1]),
        noted_ms=integer(row[2]),
        by=text(row[3]),
        last_kwh=text_or_none(row[4]),
        first_kwh=text_or_none(row[5]),
        serial=text_or_none(row[6]),
        confirmed=bool(row[7]),
    )


def number_in(row: Row) -> Said | Exchanged | None:
    """The columns `serial` and `instead_of` of `gates`: equal where the meter itself has said its number.

    Those of an exchange that a person confirmed never are: it would be the number of the site file anyway. So two
    columns hold two things, each of which rules the other out. Raises JournalDamaged.
    """
    serial, instead_of = text_or_none(row[0]), text_or_none(row[1])
    if serial is None:
        return None
    return Said(serial) if serial == instead_of else Exchanged(serial, instead_of)


def _number_columns(number: Said | Exchanged | None) -> tuple[str | None, str | None]:
    """`number_in`, the other way round."""
    match number:
        case Said(serial):
            return serial, serial
        case Exchanged(serial, instead_of):
            return serial, instead_of
        case None:
            return None, None


def _fingerprint_text(fingerprint: Fingerprint) -> str:
    return " ".join(
        f"{name}={_ABSENT if words is None else ''.join(f'{word:04x}' for word in words)}"
        for name, words in fingerprint
    )


def _fingerprint(value: str) -> Fingerprint:
    found: list[tuple[str, tuple[int, ...] | None]] = []
    for item in value.split():
        name, _, digits = item.partition("=")
        found.append((name, None if digits == _ABSENT else split_words(bytes.fromhex(digits))))
    return tuple(found)
