-- The platform's memory. All energy is in 0.001 Wh, all times are UTC Unix milliseconds.

CREATE TABLE platform (
  id        INTEGER PRIMARY KEY CHECK (id = 1),
  audience  TEXT NOT NULL,
  gen       INTEGER NOT NULL CHECK (gen >= 0)
) STRICT;

CREATE TABLE agents (
  agent_id    INTEGER PRIMARY KEY,
  org         TEXT NOT NULL,
  agent       TEXT NOT NULL,
  head_chain  TEXT,
  head_seq    INTEGER,
  head_hash   TEXT,
  head_descriptor INTEGER REFERENCES descriptors,
  ack_no      INTEGER NOT NULL DEFAULT 0,
  UNIQUE (org, agent),
  CHECK ((head_chain IS NULL) = (head_seq IS NULL) AND (head_seq IS NULL) = (head_hash IS NULL))
) STRICT;

-- A key is valid until the batch (ended_chain, ended_seq) that rotated it, and for nothing after that in any chain.
-- One that the operator does not name any more is withdrawn, unless it has ended: then it is needed for old batches.
CREATE TABLE keys (
  agent_id    INTEGER NOT NULL REFERENCES agents,
  kid         TEXT NOT NULL,
  jwk         TEXT NOT NULL,
  origin      TEXT NOT NULL CHECK (origin IN ('operator', 'rotation')),
  withdrawn   INTEGER NOT NULL DEFAULT 0,
  ended_chain TEXT,
  ended_seq   INTEGER,
  PRIMARY KEY (agent_id, kid),
  CHECK ((ended_chain IS NULL) = (ended_seq IS NULL))
) STRICT;

CREATE TABLE chains (
  agent_id  INTEGER NOT NULL REFERENCES agents,
  chain     TEXT NOT NULL,
  state     TEXT NOT NULL CHECK (state IN ('open', 'closed', 'refused')),
  reason    TEXT NOT NULL,
  at_ms     INTEGER NOT NULL,
  PRIMARY KEY (agent_id, chain)
) STRICT;

-- One agent has one chain that grows.
CREATE UNIQUE INDEX chains_one_open ON chains (agent_id) WHERE state = 'open';

-- What was booked, byte for byte as it came: the archive an auditor is given.
CREATE TABLE batches (
  batch_id    INTEGER PRIMARY KEY,
  agent_id    INTEGER NOT NULL REFERENCES agents,
  chain       TEXT NOT NULL,
  seq         INTEGER NOT NULL CHECK (seq >= 1),
  hash        TEXT NOT NULL,
  jws         BLOB NOT NULL,
  received_ms INTEGER NOT NULL,
  UNIQUE (agent_id, chain, seq)
) STRICT;

-- What waits for its predecessor, in the order of arrival.
CREATE TABLE staged (
  arrival     INTEGER PRIMARY KEY AUTOINCREMENT,
  agent_id    INTEGER NOT NULL REFERENCES agents,
  chain       TEXT NOT NULL,
  seq         INTEGER NOT NULL CHECK (seq >= 1),
  hash        TEXT NOT NULL,
  prev        TEXT NOT NULL,
  jws         BLOB NOT NULL,
  received_ms INTEGER NOT NULL,
  UNIQUE (agent_id, chain, seq, hash)
) STRICT;

-- Validly signed and never booked: of a closed or refused chain, the loser of a fork, unparsable.
CREATE TABLE evidence (
  evidence_id INTEGER PRIMARY KEY,
  agent_id    INTEGER NOT NULL REFERENCES agents,
  reason      TEXT NOT NULL,
  hash        TEXT NOT NULL,
  chain       TEXT,
  seq         INTEGER,
  jws         BLOB NOT NULL,
  received_ms INTEGER NOT NULL,
  UNIQUE (agent_id, hash, reason)
) STRICT;

-- A row is made when a hash is first spoken of; the text comes with its events and is kept for ever.
CREATE TABLE descriptors (
  descriptor_id INTEGER PRIMARY KEY,
  agent_id      INTEGER NOT NULL REFERENCES agents,
  hash          TEXT NOT NULL,
  rev           INTEGER,
  jws           BLOB,
  UNIQUE (agent_id, hash)
) STRICT;

-- Where each meter stands: as judged (held deltas included; these are the heads) and as booked.
-- booked_position is the booked register with the rollovers of the epoch added, so that it never falls.
CREATE TABLE meters (
  agent_id        INTEGER NOT NULL REFERENCES agents,
  meter           TEXT NOT NULL,
  epoch           INTEGER NOT NULL CHECK (epoch >= 1),
  n               INTEGER NOT NULL CHECK (n >= 0),
  register        INTEGER NOT NULL,
  end_ms          INTEGER NOT NULL,
  num             INTEGER NOT NULL,
  den             INTEGER NOT NULL,
  modulus         INTEGER,
  serial          TEXT,
  booked_n        INTEGER NOT NULL CHECK (booked_n <= n),
  booked_register INTEGER NOT NULL,
  booked_end_ms   INTEGER NOT NULL,
  booked_position INTEGER NOT NULL,
  PRIMARY KEY (agent_id, meter)
) STRICT;

CREATE TABLE epochs (
  agent_id   INTEGER NOT NULL REFERENCES agents,
  meter      TEXT NOT NULL,
  epoch      INTEGER NOT NULL,
  opening    INTEGER NOT NULL,
  opening_ms INTEGER NOT NULL,
  PRIMARY KEY (agent_id, meter, epoch)
) STRICT;

-- Booked energy: deltas, and bridges over the numbers n_first..n_last that no good delta covers.
CREATE TABLE booked (
  booked_id     INTEGER PRIMARY KEY,
  agent_id      INTEGER NOT NULL REFERENCES agents,
  meter         TEXT NOT NULL,
  epoch         INTEGER NOT NULL,
  n_first       INTEGER NOT NULL,
  n_last        INTEGER NOT NULL,
  kind          TEXT NOT NULL CHECK (kind IN ('delta', 'bridge')),
  position      INTEGER NOT NULL,
  reg_start     INTEGER NOT NULL,
  reg_end       INTEGER NOT NULL,
  roll          INTEGER NOT NULL CHECK (roll >= 0),
  energy        INTEGER NOT NULL CHECK (energy >= 0),
  start_ms      INTEGER NOT NULL,
  end_ms        INTEGER NOT NULL,
  q             TEXT NOT NULL,
  descriptor_id INTEGER NOT NULL REFERENCES descriptors,
  batch_id      INTEGER NOT NULL REFERENCES batches,
  CHECK (energy = reg_end - reg_start + roll),
  CHECK (kind = 'bridge' OR n_first = n_last)
) STRICT;

-- Promise I2: the identity of a delta is booked once.
CREATE UNIQUE INDEX booked_once ON booked (agent_id, meter, epoch, n_first) WHERE kind = 'delta';
CREATE INDEX booked_bridges ON booked (agent_id, meter, epoch, n_first) WHERE kind = 'bridge';

CREATE TABLE held (
  agent_id  INTEGER NOT NULL REFERENCES agents,
  meter     TEXT NOT NULL,
  epoch     INTEGER NOT NULL,
  n         INTEGER NOT NULL,
  state     TEXT NOT NULL CHECK (state IN ('held', 'released', 'evidence')),
  reason    TEXT NOT NULL,
  delta     TEXT NOT NULL,
  descriptor_id INTEGER NOT NULL REFERENCES descriptors,
  batch_id  INTEGER NOT NULL REFERENCES batches,
  PRIMARY KEY (agent_id, meter, epoch, n)
) STRICT;

CREATE TABLE events (
  event_id  INTEGER PRIMARY KEY,
  agent_id  INTEGER NOT NULL REFERENCES agents,
  batch_id  INTEGER NOT NULL REFERENCES batches,
  type      TEXT NOT NULL,
  at_ms     INTEGER NOT NULL,
  meter     TEXT,
  body      TEXT NOT NULL
) STRICT;

CREATE INDEX events_by_type ON events (agent_id, type, event_id);

CREATE TABLE records (
  agent_id  INTEGER NOT NULL REFERENCES agents,
  kind      TEXT NOT NULL,
  key       TEXT NOT NULL,
  rev       INTEGER NOT NULL,
  body      TEXT NOT NULL,
  batch_id  INTEGER NOT NULL REFERENCES batches,
  PRIMARY KEY (agent_id, kind, key, rev)
) STRICT;

CREATE TABLE statuses (
  agent_id    INTEGER PRIMARY KEY REFERENCES agents,
  session     TEXT NOT NULL,
  state       TEXT NOT NULL,
  received_ms INTEGER NOT NULL,
  body        TEXT NOT NULL
) STRICT;

-- What an operator has to look at; repeats of one finding are counted, not listed.
CREATE TABLE alarms (
  alarm_id  INTEGER PRIMARY KEY,
  org       TEXT NOT NULL,
  agent     TEXT NOT NULL,
  kind      TEXT NOT NULL,
  subject   TEXT NOT NULL,
  text      TEXT NOT NULL,
  first_ms  INTEGER NOT NULL,
  last_ms   INTEGER NOT NULL,
  count     INTEGER NOT NULL DEFAULT 1,
  UNIQUE (org, agent, kind, subject)
) STRICT;
