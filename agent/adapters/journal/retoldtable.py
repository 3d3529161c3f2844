"""How far a restored chain has told what the own registers did: one row, there only while something is left to tell."""

import json

from agent.adapters.journal.connection import Connection
from agent.adapters.journal.rows import text
from agent.adapters.journal.sums import judge, sum_of
from agent.errors import JournalDamaged
from agent.service.journal import Retelling, Start


class RetoldTable:
    """A part of `SqliteJournal`; the methods' promises are those of `agent.service.journal.Journal`."""

    _db: Connection

    def retelling(self) -> Retelling | None:
        rows = judge(self._db, "retelling")
        return retelling_in(text(rows[0][1])) if rows else None

    def save_retelling(self, retelling: Retelling | None) -> None:
        if retelling is None:
            self._db.execute("DELETE FROM retelling")
            return
        values = (1, _text(retelling))
        self._db.execute(
            "INSERT OR REPLACE INTO retelling (id, body, sum) VALUES (?, ?, ?)", (*values, sum_of(values))
        )


def _text(retelling: Retelling) -> str:
    starts = {
        meter: start and [start.at_ms, start.cut_ms, start.register_milliwh, start.cfg, start.opens]
        for meter, start in retelling.starts.items()
    }
    return json.dumps([retelling.told, retelling.in_force, sorted(retelling.carried), starts])


def retelling_in(body: str) -> Retelling:
    """What a row says. Raises JournalDamaged."""
    try:
        told, in_force, carried, starts = json.loads(body)
        return Retelling(
            told,
            in_force,
            frozenset(carried),
            {meter: start and Start(*start) for meter, start in starts.items()},
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise JournalDamaged(f"what is left to tell cannot be read: {error}") from error
