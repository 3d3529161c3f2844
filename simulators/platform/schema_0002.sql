-- What the evaluation needs: booked energy by the time it began, and a stamp that changes whenever booked rows of a
-- quarter of an hour change. A stamp is random, so that a store restored from a backup never looks like the one it
-- was: an evaluation that remembers what it read compares stamps, and reads again only what differs.

CREATE INDEX booked_by_start ON booked (agent_id, start_ms);

CREATE TABLE booked_stamps (
  agent_id  INTEGER NOT NULL,
  quarter   INTEGER NOT NULL,              -- start_ms / 900000
  stamp     INTEGER NOT NULL,
  PRIMARY KEY (agent_id, quarter)
) STRICT, WITHOUT ROWID;

INSERT INTO booked_stamps SELECT agent_id, start_ms / 900000, random() FROM booked GROUP BY 1, 2;

CREATE TRIGGER booked_inserted AFTER INSERT ON booked BEGIN
  INSERT INTO booked_stamps VALUES (NEW.agent_id, NEW.start_ms / 900000, random())
    ON CONFLICT DO UPDATE SET stamp = excluded.stamp;
END;

CREATE TRIGGER booked_deleted AFTER DELETE ON booked BEGIN
  INSERT INTO booked_stamps VALUES (OLD.agent_id, OLD.start_ms / 900000, random())
    ON CONFLICT DO UPDATE SET stamp = excluded.stamp;
END;

CREATE TRIGGER booked_updated AFTER UPDATE ON booked BEGIN
  INSERT INTO booked_stamps VALUES (OLD.agent_id, OLD.start_ms / 900000, random())
    ON CONFLICT DO UPDATE SET stamp = excluded.stamp;
  INSERT INTO booked_stamps VALUES (NEW.agent_id, NEW.start_ms / 900000, random())
    ON CONFLICT DO UPDATE SET stamp = excluded.stamp;
END;
