-- Version 6: a boundary touches a handful of pages, however many meters it read (decision 0021). What version 5 kept in
-- `readings`, `heads` and `batches` is carried over in small pieces when the journal is opened (carryover.py); the former
-- tables are gone when that is done. `crc` is CRC-32 over the row: SQLite's own check sees the shape of its pages only.

-- All readings of a boundary, packed. `id` is the number of its last reading; numbers are given once and never again.
CREATE TABLE cuts (
    id      INTEGER PRIMARY KEY,
    at_from INTEGER NOT NULL,               -- the earliest and the latest label among them
    at_to   INTEGER NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0 CHECK (settled IN (0, 1)),    -- purged down to what is kept for ever
    crc     INTEGER NOT NULL,
    data    BLOB NOT NULL
) STRICT;
CREATE INDEX cuts_by_time ON cuts (at_to, at_from);

-- Where every meter stands, packed into one row.
CREATE TABLE positions (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    crc  INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;

DROP TRIGGER heads_end_epoch;
ALTER TABLE heads RENAME TO former_heads;
DROP INDEX readings_by_meter;
ALTER TABLE readings RENAME TO former_readings;
DROP INDEX batches_waiting;
DROP INDEX batches_kept;
DROP INDEX batches_starting;
ALTER TABLE batches RENAME TO former_batches;

-- Never updated but for `superseded`. The running totals are of all batches up to this one that are not superseded, so that
-- nobody has to add up what waits: how many, their energy, and the time that passed between them.
CREATE TABLE batches (
    ordinal       INTEGER PRIMARY KEY,
    chain         TEXT NOT NULL,
    seq           INTEGER NOT NULL CHECK (seq >= 1),
    hash          TEXT NOT NULL,
    prev          TEXT NOT NULL,
    prev_chain    TEXT,                     -- for seq 1: the batch that precedes this chain
    prev_seq      INTEGER,
    prev_hash     TEXT,
    sealed_ms     INTEGER NOT NULL,
    last_reading  INTEGER NOT NULL,         -- the newest reading when it was sealed: what may go when it goes
    superseded    INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1)),
    told          INTEGER NOT NULL,
    told_milliwh  INTEGER NOT NULL,
    told_ms       INTEGER NOT NULL
) STRICT;
CREATE INDEX batches_by_seq ON batches (seq);    -- the chains of a journal are few, and their names are long
CREATE INDEX batches_starting ON batches (ordinal) WHERE seq = 1;

-- The batches as they are sent, until retention removes them; the hash stays in `batches`.
CREATE TABLE texts (
    ordinal INTEGER PRIMARY KEY REFERENCES batches (ordinal),
    jws     BLOB NOT NULL                   -- deflated, see sealed.py
) STRICT;

-- What the platform acknowledged: every batch up to an ordinal, but for superseded ones, was stored by then at the latest.
CREATE TABLE stored (
    up_to     INTEGER PRIMARY KEY,          -- ordinal
    stored_ms INTEGER NOT NULL              -- the platform's stored_at
) STRICT;
