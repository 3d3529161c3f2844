-- The journal, version 1. Energies are integers of 0.001 Wh, times UTC Unix milliseconds, hashes 43 base64url characters.
-- Nothing in here is ever updated but the one row of `state`, the positions in `heads`, and the delivery marks of `batches`.

CREATE TABLE state (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    chain       TEXT,                       -- own head: the batch sealed last
    seq         INTEGER NOT NULL,
    hash        TEXT,
    standing    TEXT NOT NULL CHECK (standing IN ('normal', 'asking', 'confirming')),
    gen         INTEGER NOT NULL,           -- (gen, ack_no) of the newest acknowledgement taken
    ack_no      INTEGER NOT NULL,
    acked_chain TEXT,                       -- the platform's head as it said there
    acked_seq   INTEGER,
    acked_hash  TEXT,
    acked_at_ms INTEGER NOT NULL,
    site_sha256 TEXT,
    clean       INTEGER NOT NULL CHECK (clean IN (0, 1)),
    owner       TEXT                        -- "org/agent to audience"; another owner has another journal
) STRICT;

CREATE TABLE meters (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- What makes registers comparable; a reading points to its row, so that a change never touches old readings.
CREATE TABLE bases (
    id               INTEGER PRIMARY KEY,
    per_count        TEXT NOT NULL,         -- exact energy of one raw count in 0.001 Wh, "numerator/denominator"
    modulus_milliwh  INTEGER,
    serial           TEXT
) STRICT;
CREATE UNIQUE INDEX bases_once ON bases (per_count, coalesce(modulus_milliwh, -1), coalesce(serial, char(0)));

CREATE TABLE descriptors (
    id   INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    rev  INTEGER NOT NULL UNIQUE,
    jws  BLOB NOT NULL
) STRICT;

CREATE TABLE heads (
    meter            INTEGER PRIMARY KEY REFERENCES meters (id),
    epoch            INTEGER NOT NULL CHECK (epoch >= 1),
    n                INTEGER NOT NULL CHECK (n >= 0),
    register_milliwh INTEGER NOT NULL CHECK (register_milliwh >= 0),
    at_ms            INTEGER NOT NULL,
    cut_ms           INTEGER NOT NULL,
    basis            INTEGER NOT NULL REFERENCES bases (id),
    cfg              TEXT NOT NULL,
    restored         INTEGER NOT NULL CHECK (restored IN (0, 1)),
    run_n            INTEGER,               -- what the next balance will sum up: its first delta,
    run_milliwh      INTEGER,               -- the register where that began,
    run_roll_milliwh INTEGER,               -- the rollovers since,
    run_day          INTEGER,               -- and the day in which it began
    suspect          INTEGER NOT NULL CHECK (suspect IN (0, 1))   -- a reading after this one was refused
) STRICT;

CREATE TABLE readings (
    id               INTEGER PRIMARY KEY,
    meter            INTEGER NOT NULL REFERENCES meters (id),
    at_ms            INTEGER NOT NULL,
    cut_ms           INTEGER NOT NULL,
    register_milliwh INTEGER NOT NULL CHECK (register_milliwh >= 0),
    words            BLOB NOT NULL,         -- as read, two bytes a word, high byte first
    basis            INTEGER NOT NULL REFERENCES bases (id),
    descriptor       INTEGER NOT NULL REFERENCES descriptors (id),
    flags            TEXT NOT NULL,         -- sorted, separated by blanks
    opens            TEXT                   -- why an epoch opened here
) STRICT;
CREATE INDEX readings_by_meter ON readings (meter, id);

CREATE TABLE batches (
    ordinal        INTEGER PRIMARY KEY,
    chain          TEXT NOT NULL,
    seq            INTEGER NOT NULL CHECK (seq >= 1),
    hash           TEXT NOT NULL UNIQUE,
    prev           TEXT NOT NULL,
    prev_chain     TEXT,                    -- for seq 1: the batch that precedes this chain
    prev_seq       INTEGER,
    prev_hash      TEXT,
    sealed_ms      INTEGER NOT NULL,
    energy_milliwh INTEGER NOT NULL,
    last_reading   INTEGER NOT NULL,        -- the newest reading when it was sealed: what may go when it goes
    stored_ms      INTEGER,                 -- the platform's stored_at that covered it
    superseded     INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1)),
    jws            BLOB,                    -- deflated; NULL once purged, the hash stays
    UNIQUE (chain, seq)
) STRICT;
-- Covers the sums of the backlog, which are asked for every minute: without them each question reads every waiting batch.
CREATE INDEX batches_waiting ON batches (ordinal, energy_milliwh, sealed_ms) WHERE stored_ms IS NULL AND superseded = 0;
CREATE INDEX batches_kept ON batches (stored_ms) WHERE jws IS NOT NULL;
CREATE INDEX batches_starting ON batches (ordinal) WHERE seq = 1;

CREATE TABLE refused_chains (
    chain TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- The factory's receipts: the newest acknowledgement of each day, for ever.
CREATE TABLE acknowledgements (
    day       INTEGER PRIMARY KEY,          -- stored_at, whole days since 1970
    gen       INTEGER NOT NULL,
    ack_no    INTEGER NOT NULL,
    stored_ms INTEGER NOT NULL,
    jws       BLOB NOT NULL
) STRICT;

INSERT INTO state VALUES (1, NULL, 0, NULL, 'normal', 0, 0, NULL, NULL, NULL, 0, NULL, 1, NULL);
