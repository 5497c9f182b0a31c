-- Numbered facts.

-- tell --
-- One event; its number is given by the commit's order, because there is one writer.
INSERT INTO events (time, kind, job, folder, data) VALUES (:now, :kind, :job, :folder, :data);

-- stream --
-- The id of the stream.
SELECT id FROM stream;

-- events_after --
-- Events above a number, in order.
SELECT * FROM events WHERE number > :after ORDER BY number LIMIT :limit;

-- events_of_job_after --
-- Those of one job.
SELECT * FROM events WHERE job = :job AND number > :after ORDER BY number LIMIT :limit;

-- event_span --
-- The numbers of the oldest event that is kept, or of the next one where none is, and of the newest there ever was.
SELECT coalesce((SELECT min(number) FROM events), newest + 1) AS oldest, newest
FROM (SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0) AS newest);

-- prune_events --
-- Forget the old ones, from the oldest up to the first that is not old: what is kept has no gaps, even when the clock was once
-- set back.
DELETE FROM events
WHERE number <= min(
    (SELECT seq FROM sqlite_sequence WHERE name = 'events') - :keep,
    coalesce((SELECT number - 1 FROM events WHERE time >= :before ORDER BY number LIMIT 1), (SELECT max(number) FROM events))
);
