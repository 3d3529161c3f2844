-- The registry of keys: approved ones beside those named at the start, revoked ones beside those that were rotated, and the
-- enrolments that wait for a person. A revoked key has ended like a rotated one, by an operator's word.
CREATE TABLE keys_with_approval (
  agent_id    INTEGER NOT NULL REFERENCES agents,
  kid         TEXT NOT NULL,
  jwk         TEXT NOT NULL,
  origin      TEXT NOT NULL CHECK (origin IN ('operator', 'approved', 'rotation')),
  withdrawn   INTEGER NOT NULL DEFAULT 0,
  revoked     INTEGER NOT NULL DEFAULT 0,
  ended_chain TEXT,
  ended_seq   INTEGER,
  PRIMARY KEY (agent_id, kid),
  CHECK ((ended_chain IS NULL) = (ended_seq IS NULL)),
  CHECK (NOT revoked OR ended_chain IS NOT NULL)
) STRICT;

INSERT INTO keys_with_approval SELECT agent_id, kid, jwk, origin, withdrawn, 0, ended_chain, ended_seq FROM keys;
DROP TABLE keys;
ALTER TABLE keys_with_approval RENAME TO keys;

CREATE TABLE enrolments (
  org      TEXT NOT NULL,
  agent    TEXT NOT NULL,
  kid      TEXT NOT NULL,
  jwk      TEXT NOT NULL,
  sw       TEXT NOT NULL,
  first_ms INTEGER NOT NULL,
  last_ms  INTEGER NOT NULL,
  PRIMARY KEY (org, agent, kid)
) STRICT;
