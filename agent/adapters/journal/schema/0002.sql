-- The keys that signed: one row for each time that a key took over, the newest is in force. `chain`, `seq` and `hash` name
-- the batch whose `key-rotate` event brought it; NULL where a person put it there, or the platform knew no other.
CREATE TABLE key_uses (
    id    INTEGER PRIMARY KEY,
    kid   TEXT NOT NULL,
    jwk   TEXT NOT NULL,                    -- the public key, so that what it signed can be verified for ever
    chain TEXT,
    seq   INTEGER,
    hash  TEXT,
    CHECK ((chain IS NULL) = (seq IS NULL) AND (seq IS NULL) = (hash IS NULL))
) STRICT;

-- Questions that were carried away on a stick: an answer counts only for one that was asked.
CREATE TABLE courier_sessions (
    id      INTEGER PRIMARY KEY,
    session TEXT NOT NULL UNIQUE,
    at_ms   INTEGER NOT NULL
) STRICT;
