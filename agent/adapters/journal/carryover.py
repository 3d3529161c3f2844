"""From the tables of version 5 into those of version 6, in small transactions: a power cut costs the piece it cut.

The budget holds throughout: dropping the indices of the former tables frees more pages than a piece needs, and every
piece frees its own. Until the last piece is over nothing else is done with the journal; a start that finds former
tables goes on where the last one stopped.
"""

from collections.abc import Callable
from contextlib import suppress

from agent.adapters.journal.batches import STEP_MS_MAX, totals
from agent.adapters.journal.connection import Connection, Row
from agent.adapters.journal.cuts import READINGS_MAX, Kept, add_cut
from agent.adapters.journal.names import Names
from agent.adapters.journal.positions import write_positions
from agent.adapters.journal.rows import (
    blob,
    integer,
    integer_or_none,
    moment_of,
    text,
    text_or_none,
)
from agent.errors import JournalDoubtful
from agent.metering.ledger import Head, Run

_PIECE_READINGS = 8_192
_PIECE_BATCHES = 256


def carry_over(connection: Connection) -> None:
    """Empty the former tables into the new ones and drop them. Raises JournalDamaged or JournalFull."""
    for table, piece in (
        ("former_heads", _heads),
        ("former_readings", _readings),
        ("former_batches", _batches),
    ):
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)):
            while _in_transaction(connection, piece):
                pass


def _in_transaction(connection: Connection, piece: Callable[[Connection], bool]) -> bool:
    connection.execute("BEGIN IMMEDIATE")
    try:
        goes_on = piece(connection)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(JournalDoubtful):  # where there was no room, SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise
    return goes_on


def _heads(connection: Connection) -> bool:
    """All positions at once; they are few."""
    names = Names(connection)
    rows = connection.execute(
        "SELECT meter, epoch, n, register_milliwh, at_ms, cut_ms, basis, cfg, restored, run_n, run_milliwh,"
        " run_roll_milliwh, run_day, suspect, boot, up_ms, err_ms FROM former_heads ORDER BY meter"
    )
    heads = [_head(row, names) for row in rows]
    moments = [(integer_or_none(row[14]), integer_or_none(row[15]), integer_or_none(row[16])) for row in rows]
    write_positions(connection, {head.meter: head for head in heads}, moments, names)
    connection.execute("DROP TABLE former_heads")
    return False


def _head(row: Row, names: Names) -> Head:
    run = None
    if row[9] is not None:
        run = Run(integer(row[9]), integer(row[10]), integer(row[11]), integer(row[12]))
    return Head(
        meter=names.meter(integer(row[0])),
        epoch=integer(row[1]),
        n=integer(row[2]),
        register_milliwh=integer(row[3]),
        at_ms=integer(row[4]),
        cut_ms=integer(row[5]),
        basis=names.basis(integer(row[6])),
        cfg=text(row[7]),
        restored=bool(row[8]),
        run=run,
        suspect=bool(row[13]),
        when=moment_of((None if row[14] is None else names.boot(integer(row[14])), *row[15:17])),
    )


def _readings(connection: Connection) -> bool:
    """The oldest readings that are left: a row for each boundary, never across the end of a batch."""
    names = Names(connection)
    rows = connection.execute(
        "SELECT id, meter, at_ms, cut_ms, register_milliwh, words, basis, descriptor, flags, opens, boot, up_ms, err_ms"
        f" FROM former_readings ORDER BY id LIMIT {_PIECE_READINGS}"
    )
    if not rows:
        connection.execute("DROP TABLE former_readings")
        return False
    ends = {
        integer(row[0])
        for row in connection.execute(
            "SELECT last_reading FROM former_batches WHERE last_reading BETWEEN ? AND ?",
            (rows[0][0], rows[-1][0]),
        )
    }
    cut: list[Kept] = []
    last = 0
    for row in rows:
        kept = _kept(row)
        if cut and (last in ends or kept.cut_ms != cut[-1].cut_ms or len(cut) >= READINGS_MAX):
            add_cut(connection, last, cut, names)
            cut = []
        cut.append(kept)
        last = integer(row[0])
    add_cut(connection, last, cut, names)
    connection.execute("DELETE FROM former_readings WHERE id <= ?", (last,))
    return True


def _kept(row: Row) -> Kept:
    return Kept(
        integer(row[1]),
        integer(row[2]),
        integer(row[3]),
        integer(row[4]),
        blob(row[5]),
        integer(row[6]),
        integer(row[7]),
        text(row[8]),
        text_or_none(row[9]),
        integer_or_none(row[10]),
        integer_or_none(row[11]),
        integer_or_none(row[12]),
    )


def _batches(connection: Connection) -> bool:
    """The oldest batches that are left, with their texts as they are and what is known of their acknowledgement."""
    rows = connection.execute(
        "SELECT ordinal, sealed_ms, energy_milliwh, superseded, stored_ms FROM former_batches"
        f" ORDER BY ordinal LIMIT {_PIECE_BATCHES}"
    )
    if not rows:
        connection.execute("DROP TABLE former_batches")
        return False
    told, milliwh, passed_ms, before_ms = totals(connection, integer(rows[0][0]))
    for ordinal, sealed_ms, energy, superseded, stored_ms in rows:
        if not superseded:
            step_ms = min(max(0, integer(sealed_ms) - before_ms), STEP_MS_MAX) if told else 0
            told, milliwh, passed_ms = told + 1, milliwh + integer(energy), passed_ms + step_ms
            before_ms = integer(sealed_ms)
        connection.execute(
            "INSERT INTO batches SELECT ordinal, chain, seq, hash, prev, prev_chain, prev_seq, prev_hash, sealed_ms,"
            " last_reading, superseded, ?, ?, ? FROM former_batches WHERE ordinal = ?",
            (told, milliwh, passed_ms, ordinal),
        )
        if stored_ms is not None and not superseded:
            connection.execute("INSERT INTO stored VALUES (?, ?)", (ordinal, stored_ms))
    last = rows[-1][0]
    connection.execute(
        "INSERT INTO texts SELECT ordinal, jws FROM former_batches WHERE ordinal <= ? AND jws IS NOT NULL",
        (last,),
    )
    connection.execute("DELETE FROM former_batches WHERE ordinal <= ?", (last,))
    return True
