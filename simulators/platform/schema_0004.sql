-- Adjustments that could be placed: which deltas, in the words of their event. Booked rows never change for them; `totals` shows
-- raw, adjusted and estimated energy apart.
CREATE TABLE adjustments (
  adjustment_id INTEGER PRIMARY KEY,
  agent_id      INTEGER NOT NULL REFERENCES agents,
  meter         TEXT NOT NULL,
  epoch         INTEGER NOT NULL,
  n_from        INTEGER NOT NULL,
  n_to          INTEGER NOT NULL,
  at_ms         INTEGER NOT NULL,
  body          TEXT NOT NULL,
  batch_id      INTEGER NOT NULL REFERENCES batches
) STRICT;
CREATE INDEX adjustments_of_meter ON adjustments (agent_id, meter, epoch);
