-- Jobs that people drive: followers of events know which stream they follow and find a job's own, and what was stored can be
-- given up.

-- One row: the id of the event stream. Numbers of another ledger's events mean nothing here.
CREATE TABLE stream (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL
) STRICT;

INSERT INTO stream (only, id) VALUES (1, lower(hex(randomblob(8))));

-- The events of one job, in order.
CREATE INDEX events_of_job ON events (job) WHERE job IS NOT NULL;

-- A stored item's size stands as long as it is stored. One that is given up has the size that the origin says again.
DROP TRIGGER items_stored_size_stands;

CREATE TRIGGER items_stored_size_stands BEFORE UPDATE OF size ON items
WHEN old.status = 'completed' AND new.status = 'completed' AND new.size IS NOT old.size BEGIN
    SELECT raise(ABORT, 'the size of a stored item does not change');
END;
