"""The journal's tables of keys that signed, and of questions that left on a stick; a part of `sqlite`."""

import json

from agent.adapters.journal.connection import Connection, Row, Value
from agent.errors import JournalDamaged
from agent.reporting.chain import ChainHead
from agent.service.journal import KeyUse

COURIER_SESSIONS = 32
"""So many questions by stick are remembered; sticks that are older have been overtaken."""


class KeyTables:
    """Keys and courier sessions; the methods' promises are those of `agent.service.journal.Journal`."""

    _db: Connection

    def key_uses(self) -> list[KeyUse]:
        rows = self._db.execute("SELECT kid, jwk, chain, seq, hash FROM key_uses ORDER BY id")
        return [_key_use(row) for row in rows]

    def signing_kid(self) -> str | None:
        rows = self._db.execute("SELECT kid FROM key_uses ORDER BY id DESC LIMIT 1")
        return str(rows[0][0]) if rows else None

    def add_key_use(self, use: KeyUse) -> None:
        since = use.since
        place: tuple[Value, ...] = (None,) * 3 if since is None else (since.chain, since.seq, since.hash)
        self._db.execute(
            "INSERT INTO key_uses (kid, jwk, chain, seq, hash) VALUES (?, ?, ?, ?, ?)",
            (use.kid, json.dumps(dict(use.jwk), sort_keys=True), *place),
        )

    def add_courier_session(self, session: str, at_ms: int) -> None:
        self._db.execute("INSERT INTO courier_sessions (session, at_ms) VALUES (?, ?)", (session, at_ms))
        self._db.execute(
            "DELETE FROM courier_sessions WHERE id <= (SELECT max(id) FROM courier_sessions) - ?",
            (COURIER_SESSIONS,),
        )

    def has_courier_session(self, session: str) -> bool:
        return bool(self._db.execute("SELECT 1 FROM courier_sessions WHERE session = ?", (session,)))


def _key_use(row: Row) -> KeyUse:
    kid, jwk, chain, seq, hash_ = row
    if not isinstance(kid, str) or not isinstance(jwk, str):
        raise JournalDamaged("the journal's table of keys holds something else")
    since = None
    if isinstance(chain, str) and isinstance(seq, int) and isinstance(hash_, str):
        since = ChainHead(chain, seq, hash_)
    try:
        return KeyUse(kid, json.loads(jwk), since)
    except ValueError as error:
        raise JournalDamaged(f"a public key in the journal cannot be read: {error}") from error
