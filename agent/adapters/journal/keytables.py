"""The journal's tables of keys that signed, and of questions that left on a stick; a part of `sqlite`."""

import json
from functools import lru_cache

from agent.adapters.journal.connection import Connection, Row, Value
from agent.adapters.journal.rows import text
from agent.adapters.journal.sealed import chain_head
from agent.adapters.journal.sums import judge, sum_of
from agent.errors import JournalDamaged
from agent.service.journal import KeyUse

COURIER_SESSIONS = 32
"""So many questions by stick are remembered; sticks that are older have been overtaken."""


class KeyTables:
    """Keys and courier sessions; the methods' promises are those of `agent.service.journal.Journal`."""

    _db: Connection

    def key_uses(self) -> list[KeyUse]:
        rows = judge(self._db, "key_uses", "ORDER BY id")
        return [_key_use(row) for row in rows]

    def signing_kid(self) -> str | None:
        rows = judge(self._db, "key_uses", "ORDER BY id DESC LIMIT 1")
        return text(rows[0][0]) if rows else None

    def add_key_use(self, use: KeyUse) -> None:
        since = use.since
        place: tuple[Value, ...] = (None,) * 3 if since is None else (since.chain, since.seq, since.hash)
        values = (use.kid, json.dumps(dict(use.jwk), sort_keys=True), *place)
        self._db.execute(
            "INSERT INTO key_uses (kid, jwk, chain, seq, hash, sum) VALUES (?, ?, ?, ?, ?, ?)",
            (*values, sum_of(values)),
        )

    def add_courier_session(self, session: str, at_ms: int) -> None:
        self._db.execute("INSERT INTO courier_sessions (session, at_ms) VALUES (?, ?)", (session, at_ms))
        self._db.execute(
            "DELETE FROM courier_sessions WHERE id <= (SELECT max(id) FROM courier_sessions) - ?",
            (COURIER_SESSIONS,),
        )

    def has_courier_session(self, session: str) -> bool:
        return bool(self._db.execute("SELECT 1 FROM courier_sessions WHERE session = ?", (session,)))


@lru_cache(maxsize=8)
def _key_use(row: Row) -> KeyUse:
    try:
        return KeyUse(text(row[0]), json.loads(text(row[1])), chain_head(row[2:]))
    except ValueError as error:
        raise JournalDamaged(f"a public key in the journal cannot be read: {error}") from error
