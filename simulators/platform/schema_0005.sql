-- Where nobody can ask an agent again (broker mode): batches that never came and were passed over, and chains that follow
-- nothing that is here and were joined by registers. The epochs of a joined chain count on from what was booked before:
-- `shift` is added to what the agent calls them.
CREATE TABLE skipped (
  agent_id    INTEGER NOT NULL REFERENCES agents,
  chain       TEXT NOT NULL,
  seq_from    INTEGER NOT NULL,
  seq_to      INTEGER NOT NULL CHECK (seq_to >= seq_from),
  after_batch INTEGER NOT NULL,               -- the newest row of `batches` when it was passed over
  at_ms       INTEGER NOT NULL,
  PRIMARY KEY (agent_id, chain, seq_from)
) STRICT;

CREATE TABLE joined_chains (
  agent_id INTEGER NOT NULL REFERENCES agents,
  chain    TEXT NOT NULL,
  at_ms    INTEGER NOT NULL,
  PRIMARY KEY (agent_id, chain)
) STRICT;

CREATE TABLE joined_meters (
  agent_id INTEGER NOT NULL REFERENCES agents,
  chain    TEXT NOT NULL,
  meter    TEXT NOT NULL,
  shift    INTEGER NOT NULL,
  PRIMARY KEY (agent_id, chain, meter)
) STRICT;
