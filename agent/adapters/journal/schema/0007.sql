-- Version 7: epoch changes as they were told, the newest of each meter. Where the platform cannot ask for a batch that a
-- broker lost, every balance lists those of the last 30 days (decision 0022).
CREATE TABLE epoch_changes (
    meter    INTEGER NOT NULL REFERENCES meters (id),
    epoch_to INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL,
    n_last   INTEGER NOT NULL,              -- number of the last delta of the epoch that ended; 0 where it is not known
    body     TEXT NOT NULL,                 -- the members of its event, as JSON
    PRIMARY KEY (meter, epoch_to)
) STRICT, WITHOUT ROWID;
