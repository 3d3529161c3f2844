"""Looking through all of an open journal, a piece at a time, so that nobody waits for long.

SQLite's whole check is one call that takes as long as the file is to read: half a minute for a gigabyte on a card. Here
the small tables are given to it one by one, and of the large ones some rows are read with everything that belongs to
them: pages that cannot be read, sums and hashes that do not fit, an index that does not lead to its row.
"""

from agent.adapters.journal.rows import integer, text
from agent.adapters.journal.soundness import check_batch
from agent.adapters.journal.sqlite import SqliteJournal
from agent.errors import JournalDamaged
from agent.service.inspecting import Place

_BATCHES = 64
_LARGE = ("batches", "cuts", "texts")
_TABLES, _READINGS, _SEALED = range(3)


def inspect(journal: SqliteJournal, at: Place) -> Place | None:
    """Judge the piece that begins at a place; gives the next place, None when all was judged. Raises JournalDamaged."""
    match at.part:
        case 0:
            return _table(journal, at.after)
        case 1:
            after = journal.check_some_readings(at.after)
            return Place(_SEALED, 0) if after is None else Place(_READINGS, after)
    return _batches(journal, at.after)


def _table(journal: SqliteJournal, number: int) -> Place:
    marks = ", ".join("?" * len(_LARGE))
    names = [
        text(row[0])
        for row in journal.ask(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'"
            f" AND name NOT IN ({marks}) ORDER BY name",
            _LARGE,
        )
    ]
    if number >= len(names):
        return Place(_READINGS, 0)
    answer = [row[0] for row in journal.ask(f"PRAGMA integrity_check({names[number]})")]
    if answer != ["ok"]:
        raise JournalDamaged(f"table {names[number]} fails its check: {'; '.join(map(str, answer))}")
    journal.check_rows(names[number])
    return Place(_TABLES, number + 1)


def _batches(journal: SqliteJournal, after: int) -> Place | None:
    end = journal.last_ordinal()
    before = None
    if after:
        (before,) = journal.batches_between(after_ordinal=after - 1, up_to_ordinal=after, limit=1)
    kept = journal.batches_between(after_ordinal=after, up_to_ordinal=end, limit=_BATCHES)
    for each in kept:
        check_batch(each, before)
        if journal.ordinal_of(each.head) != each.ordinal:
            raise JournalDamaged(f"batch {each.head.chain}/{each.head.seq} is not found by its number")
        before = each
    return Place(_SEALED, integer(kept[-1].ordinal)) if kept else None
