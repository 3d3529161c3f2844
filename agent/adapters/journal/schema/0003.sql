-- Version 3: what the gates remember of a meter across a restart, and what a person has to say of it.

CREATE TABLE gates (
    meter            INTEGER PRIMARY KEY REFERENCES meters (id),
    place            TEXT,                  -- line and address at which it was read last
    profile_hash     TEXT,                  -- the profile under which the fingerprint was read
    fingerprint      TEXT,                  -- "name=words in hex" separated by blanks; "-" where the meter has none
    returned_ms      INTEGER,               -- came back without a proof of who it is; NULL once a person has confirmed it
    proofs           INTEGER NOT NULL,      -- readings since then that confirm its rate
    serial           TEXT,                  -- serial number of an exchange that a person confirmed,
    instead_of       TEXT,                  -- and what the site file said at that time
    opened_ms        INTEGER,               -- the newest epoch change: when,
    opened_milliwh   INTEGER,               -- the register at which the epoch before it ended,
    opened_by        TEXT                   -- and who said so
) STRICT;

-- Readings that are not believed yet; they are settled or forgotten within a few boundaries.
CREATE TABLE doubts (
    id               INTEGER PRIMARY KEY,
    meter            INTEGER NOT NULL REFERENCES meters (id),
    at_ms            INTEGER NOT NULL,
    cut_ms           INTEGER NOT NULL,
    register_milliwh INTEGER NOT NULL CHECK (register_milliwh >= 0),
    words            BLOB NOT NULL,
    basis            INTEGER NOT NULL REFERENCES bases (id),
    flags            TEXT NOT NULL
) STRICT;
CREATE INDEX doubts_by_meter ON doubts (meter, id);

-- What a person has said of a meter and the next boundary will carry out: one at a time for each meter.
CREATE TABLE orders (
    meter            INTEGER PRIMARY KEY REFERENCES meters (id),
    kind             TEXT NOT NULL CHECK (kind IN ('exchange', 'same', 'witness')),
    noted_ms         INTEGER NOT NULL,
    by_whom          TEXT NOT NULL,
    last_kwh         TEXT,                  -- as the old meter's display showed it
    first_kwh        TEXT,                  -- as the new meter's display shows it
    serial           TEXT,                  -- of the new meter
    confirmed        INTEGER NOT NULL CHECK (confirmed IN (0, 1))
) STRICT;
