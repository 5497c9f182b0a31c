-- Numbered facts.

-- tell --
-- One event; its number is given by the commit's order, because there is one writer.
INSERT INTO events (time, kind, job, folder, data) VALUES (:now, :kind, :job, :folder, :data);

-- events_after --
-- Events above a number, in order.
SELECT * FROM events WHERE number > :after ORDER BY number LIMIT :limit;

-- last_event --
-- The number of the newest event there ever was.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0) AS number;
