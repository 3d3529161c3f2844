-- Version 5: what persons state of energy that is sealed already (adjust, witness, manual). Kept for ever: an adjustment must
-- not overlap an earlier one. `chain` and `seq` name the batch that tells it; where that batch was superseded it is told again.
CREATE TABLE statements (
    id       INTEGER PRIMARY KEY,
    noted_ms INTEGER NOT NULL,
    type     TEXT NOT NULL CHECK (type IN ('adjust', 'witness', 'manual')),
    body     TEXT NOT NULL,                 -- the members of its event, as JSON
    chain    TEXT,
    seq      INTEGER,
    CHECK ((chain IS NULL) = (seq IS NULL))
) STRICT;

-- How many deltas an epoch had that has ended; the current one is in `heads`. Epochs that ended before version 5 are absent.
CREATE TABLE epoch_ends (
    meter INTEGER NOT NULL REFERENCES meters (id),
    epoch INTEGER NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (meter, epoch)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER heads_end_epoch BEFORE INSERT ON heads
WHEN EXISTS (SELECT 1 FROM heads WHERE meter = NEW.meter AND epoch < NEW.epoch)
BEGIN
    INSERT OR REPLACE INTO epoch_ends (meter, epoch, n) SELECT meter, epoch, n FROM heads WHERE meter = NEW.meter;
END;
