"""The checksum of a row, for the tables whose values SQLite alone would believe.

SQLite's check sees the shape of its pages, not what stands in them, and a number that judges energy has no second copy
that would contradict it: where the gates saw an epoch end, what a person stated, how new an acknowledgement has to be.
So each row carries the CRC-32 of its values, and whoever reads it judges it first (fault F53). Against rot, not against
a person who writes to the file: those are held by signatures.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache

from agent.adapters.journal.connection import Asked, Connection, Row, Value
from agent.errors import JournalDamaged

COLUMNS = {
    "state": (
        "chain, seq, hash, standing, gen, ack_no, acked_chain, acked_seq, acked_hash, acked_at_ms, site_sha256,"
        " clean, owner"
    ),
    "meters": "id, name",
    "boots": "id, name",
    "bases": "id, per_count, modulus_milliwh, serial",
    "gates": (
        "meter, place, profile_hash, fingerprint, returned_ms, proofs, serial, instead_of, opened_ms,"
        " opened_milliwh, opened_by"
    ),
    "doubts": "meter, at_ms, cut_ms, register_milliwh, words, basis, flags, boot, up_ms, err_ms",
    "orders": "meter, kind, noted_ms, by_whom, last_kwh, first_kwh, serial, confirmed",
    "epoch_ends": "meter, epoch, n",
    "epoch_changes": "meter, epoch_to, at_ms, n_last, body",
    "statements": "noted_ms, type, body",
    "key_uses": "kid, jwk, chain, seq, hash",
    "clock_stretches": "boot, chain, seq_from, seq_to, offset_ms, sync",
    "retelling": "id, body",
    "acknowledgements": "day, gen, ack_no, stored_ms, jws",
    "refused_chains": "chain",
}
"""What a row's checksum covers, in this order. A statement's batch is left out: it is found by, not stated."""

_ROWS_KNOWN = 64
"""Rows of which the checksum was worked out last: most of what is read is read again and again."""
_SINCE_9 = frozenset({"refused_chains"})
"""The others have had theirs since version 8."""
_KEYS = {"epoch_ends": "meter, epoch", "epoch_changes": "meter, epoch_to", "refused_chains": "chain"}
"""Of the tables without row numbers."""


def sum_of(values: Sequence[Value]) -> int:
    """CRC-32 of a row's values in the order of `COLUMNS`: any change of up to 32 neighbouring bits is noticed."""
    return zlib.crc32(repr(tuple(values)).encode())


def judge(db: Asked, table: str, where: str = "", parameters: Sequence[Value] = ()) -> list[Row]:
    """The rows of a table with the columns of `COLUMNS`, each what was written. Raises JournalDamaged.

    `where` begins after the table's name.
    """
    rows = db.execute(f"SELECT {COLUMNS[table]}, sum FROM {table} {where}", parameters)
    for row in rows:
        if not _is_as_written(row):
            raise JournalDamaged(f"a row of {table} in the journal is not what was written")
    return [row[:-1] for row in rows]


@lru_cache(maxsize=_ROWS_KNOWN)
def _is_as_written(row: Row) -> bool:
    """Whether the last value is the checksum of the others."""
    return sum_of(row[:-1]) == row[-1]


def add_sums(db: Connection, version: int) -> None:
    """Give every row its checksum that a journal coming from an older version gets with this one."""
    tables = {8: COLUMNS.keys() - _SINCE_9, 9: _SINCE_9}.get(version, frozenset())
    for table in sorted(tables):
        columns = COLUMNS[table]
        key = _KEYS.get(table, "rowid")
        names = key.split(", ")
        where = " AND ".join(f"{name} = ?" for name in names)
        for row in db.execute(f"SELECT {columns}, {key} FROM {table}"):
            values, keys = row[: -len(names)], row[-len(names) :]
            db.execute(f"UPDATE {table} SET sum = ? WHERE {where}", (sum_of(values), *keys))
