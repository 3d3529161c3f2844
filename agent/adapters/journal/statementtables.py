"""The journal's tables of what persons stated, and of where epochs ended: `agent.service.statements` and
`agent.service.closedepochs` on SQLite."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.adapters.journal.connection import Connection, Row
from agent.adapters.journal.rows import integer, text
from agent.adapters.journal.sums import COLUMNS, judge, sum_of
from agent.errors import JournalDamaged
from agent.reporting.chain import ChainHead
from agent.reporting.event import CLOSED_MAX, Event
from agent.service.closedepochs import ClosedEpoch
from agent.service.statements import Statement

_UNDATED = 0
"""In place of a time that no clock has known."""


class StatementTables:
    """A part of `SqliteJournal`, which gives it the connection and the rows of meters."""

    _db: Connection

    if TYPE_CHECKING:

        def _known_meter(self, name: str) -> int:
            """The row of a meter, 0 if it was never read."""

    def statements(self) -> list[Statement]:
        judge(self._db, "statements")
        rows = self._db.execute(
            "SELECT s.id, s.noted_ms, s.type, s.body, b.chain, b.seq FROM statements s"
            " LEFT JOIN batches b ON b.chain = s.chain AND b.seq = s.seq AND b.superseded = 0 ORDER BY s.id"
        )
        return [
            replace(
                statement_in(row[1:4]),
                id=integer(row[0]),
                told=None if row[4] is None else (text(row[4]), integer(row[5])),
            )
            for row in rows
        ]

    def add_statement(self, statement: Statement) -> int:
        values = (statement.noted_ms, statement.type, json.dumps(dict(statement.body), ensure_ascii=False))
        self._db.execute(
            "INSERT INTO statements (noted_ms, type, body, sum) VALUES (?, ?, ?, ?)",
            (*values, sum_of(values)),
        )
        return integer(self._db.execute("SELECT max(id) FROM statements")[0][0])

    def tell_statement(self, id: int, head: ChainHead) -> None:
        self._db.execute("UPDATE statements SET chain = ?, seq = ? WHERE id = ?", (head.chain, head.seq, id))

    def drop_statement(self, id: int) -> None:
        self._db.execute("DELETE FROM statements WHERE id = ?", (id,))

    def note_epoch(self, event: Event, since_ms: int | None) -> None:
        meter, ended = event.text("meter"), event.integer("epoch_from")
        body = {name: value for name, value in event.body.items() if name != "meter"}
        row = self._known_meter(meter)
        values = (
            row,
            event.integer("epoch_to"),
            _UNDATED if since_ms is None else since_ms,
            self.epoch_end(meter, ended) or 0,
            json.dumps(body, ensure_ascii=False),
        )
        self._db.execute(
            f"INSERT OR REPLACE INTO epoch_changes ({COLUMNS['epoch_changes']}, sum) VALUES (?, ?, ?, ?, ?, ?)",
            (*values, sum_of(values)),
        )
        self._db.execute(
            "DELETE FROM epoch_changes WHERE meter = ?1 AND epoch_to NOT IN"
            " (SELECT epoch_to FROM epoch_changes WHERE meter = ?1 ORDER BY epoch_to DESC LIMIT ?2)",
            (row, CLOSED_MAX),
        )

    def epochs_noted(self, meter: str) -> list[ClosedEpoch]:
        return [
            ClosedEpoch(_body(text(row[4])), integer(row[3]), None if row[2] == _UNDATED else integer(row[2]))
            for row in self._changes(meter)
        ]

    def forget_epochs(self, meter: str, *, after: int) -> None:
        self._db.execute(
            "DELETE FROM epoch_changes WHERE meter = ? AND epoch_to > ?", (self._known_meter(meter), after)
        )

    def date_epochs(self, meter: str, since_ms: int) -> None:
        for row in self._changes(meter):
            if row[2] == _UNDATED:
                self._db.execute(
                    "UPDATE epoch_changes SET at_ms = ?, sum = ? WHERE meter = ? AND epoch_to = ?",
                    (since_ms, sum_of((*row[:2], since_ms, *row[3:])), *row[:2]),
                )

    def _changes(self, meter: str) -> list[Row]:
        return judge(
            self._db, "epoch_changes", "WHERE meter = ? ORDER BY epoch_to", (self._known_meter(meter),)
        )

    def epoch_end(self, meter: str, epoch: int) -> int | None:
        rows = judge(
            self._db, "epoch_ends", "WHERE meter = ? AND epoch = ?", (self._known_meter(meter), epoch)
        )
        return integer(rows[0][2]) if rows else None


def statement_in(row: Row) -> Statement:
    """The columns of a statement that its checksum covers, as if nobody had told it yet. Raises JournalDamaged."""
    return Statement(integer(row[0]), text(row[1]), _body(text(row[2])))


def _body(value: str) -> dict[str, object]:
    try:
        body = json.loads(value)
    except ValueError as error:
        raise JournalDamaged(f"a statement in the journal cannot be read: {error}") from error
    if not isinstance(body, dict):
        raise JournalDamaged("a statement in the journal is no object")
    return body
