-- Version 4: what is known of a reading's time beside its label, so that no bound and no order rests on a clock that
-- somebody may have set. `up_ms` counts from the start of the machine, sleep included; `err_ms` is how wrong the label may
-- be. All NULL in what was read before; `up_ms` is NULL where the kernel would not say, `err_ms` where the clock did not know.
CREATE TABLE boots (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE               -- the kernel's random id of a start of the machine
) STRICT;

ALTER TABLE readings ADD COLUMN boot INTEGER REFERENCES boots (id);
ALTER TABLE readings ADD COLUMN up_ms INTEGER;
ALTER TABLE readings ADD COLUMN err_ms INTEGER;
ALTER TABLE heads ADD COLUMN boot INTEGER REFERENCES boots (id);
ALTER TABLE heads ADD COLUMN up_ms INTEGER;
ALTER TABLE heads ADD COLUMN err_ms INTEGER;
ALTER TABLE doubts ADD COLUMN boot INTEGER REFERENCES boots (id);
ALTER TABLE doubts ADD COLUMN up_ms INTEGER;
ALTER TABLE doubts ADD COLUMN err_ms INTEGER;

-- Stretches of batches that were sealed with the wall clock set in one way, and are still to be relabelled: a `clock`
-- event says by how much, once the time is known. Only those of the present start of the machine can be.
CREATE TABLE clock_stretches (
    id         INTEGER PRIMARY KEY,
    boot       INTEGER NOT NULL REFERENCES boots (id),
    chain      TEXT NOT NULL,
    seq_from   INTEGER NOT NULL CHECK (seq_from >= 1),
    seq_to     INTEGER CHECK (seq_to >= seq_from),       -- NULL while it goes on
    offset_ms  INTEGER NOT NULL,                         -- wall clock minus time since the start of the machine
    sync       TEXT NOT NULL CHECK (sync IN ('S', 'H', 'U'))
) STRICT;
