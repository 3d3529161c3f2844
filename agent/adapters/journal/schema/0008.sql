-- Version 8: what stands in these rows is checked where it is read (sums.py): a flipped bit inside a value passes SQLite's own
-- check. Readings and positions have had theirs since version 6, batches and descriptors since the first.
ALTER TABLE state ADD COLUMN sum INTEGER;
ALTER TABLE meters ADD COLUMN sum INTEGER;
ALTER TABLE boots ADD COLUMN sum INTEGER;
ALTER TABLE bases ADD COLUMN sum INTEGER;
ALTER TABLE gates ADD COLUMN sum INTEGER;
ALTER TABLE doubts ADD COLUMN sum INTEGER;
ALTER TABLE orders ADD COLUMN sum INTEGER;
ALTER TABLE epoch_ends ADD COLUMN sum INTEGER;
ALTER TABLE epoch_changes ADD COLUMN sum INTEGER;
ALTER TABLE statements ADD COLUMN sum INTEGER;
ALTER TABLE key_uses ADD COLUMN sum INTEGER;
ALTER TABLE clock_stretches ADD COLUMN sum INTEGER;
ALTER TABLE acknowledgements ADD COLUMN sum INTEGER;

-- What a restored chain has still to tell (agent.service.restore), as JSON: a platform that was emptied is told in pieces.
CREATE TABLE retelling (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    body TEXT NOT NULL,
    sum  INTEGER NOT NULL
) STRICT;
