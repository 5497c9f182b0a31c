-- Accounts and jobs: what people asked for.

-- name_account --
-- The account of an identity, made when new, its label brought up to date.
INSERT INTO accounts (identity, name, source) VALUES (:identity, :name, :source)
ON CONFLICT (identity) DO UPDATE SET name = excluded.name, source = excluded.source
RETURNING number;

-- add_job --
-- A new job; one that is not queued waits to be started.
INSERT INTO jobs (id, account, strategy, queued, live, priority, requester, idempotency_key, attempts, created_at, updated_at)
VALUES (:id, :account, :strategy, :queued, :live, :priority, :requester, :idempotency_key, :attempts, :now, :now)
RETURNING number;

-- job --
-- One job by its number.
SELECT jobs.*, accounts.name AS account_name, accounts.source
FROM jobs JOIN accounts ON accounts.number = jobs.account
WHERE jobs.number = :number AND jobs.forgotten = 0;

-- job_of_key --
-- The job that an idempotency key made before.
SELECT jobs.*, accounts.name AS account_name, accounts.source
FROM jobs JOIN accounts ON accounts.number = jobs.account
WHERE jobs.account = :account AND jobs.idempotency_key = :idempotency_key;

-- jobs_of_prefix --
-- The jobs whose id starts so, with or without its 'job_', which alone is no start. '{' is the character after 'z', the last one
-- in an id.
SELECT jobs.*, accounts.name AS account_name, accounts.source
FROM jobs JOIN accounts ON accounts.number = jobs.account
WHERE jobs.forgotten = 0 AND (
    (:prefix > 'job_' AND jobs.id >= :prefix AND jobs.id < :prefix || '{')
    OR (:prefix <> '' AND jobs.id >= 'job_' || :prefix AND jobs.id < 'job_' || :prefix || '{')
)
ORDER BY jobs.id LIMIT :limit;

-- list_jobs --
-- Jobs, newest first.
SELECT jobs.*, accounts.name AS account_name, accounts.source
FROM jobs JOIN accounts ON accounts.number = jobs.account
WHERE jobs.forgotten = 0
    AND (:status IS NULL OR jobs.status = :status)
    AND (:account IS NULL OR jobs.account = :account)
    AND (:before IS NULL OR jobs.number < :before)
ORDER BY jobs.number DESC LIMIT :limit;

-- job_counts --
-- How many jobs there are of each status.
SELECT status, count(*) AS jobs FROM jobs WHERE forgotten = 0 GROUP BY status;

-- move_job --
-- A transition, guarded by where it starts.
UPDATE jobs SET
    status = :to,
    queued = :to = 'pending',
    phase = :phase,
    error = :error,
    updated_at = :now,
    started_at = coalesce(started_at, iif(:to = 'running', :now, NULL)),
    completed_at = iif(:to = 'completed', :now, completed_at),
    last_sync_at = iif(:to = 'completed', :now, last_sync_at)
WHERE number = :number AND status = :from;

-- set_compared --
-- The watching job was compared with the origin just now; one that somebody has stopped meanwhile keeps its reason.
UPDATE jobs SET last_sync_at = :now, updated_at = :now, error = iif(status = 'completed', :error, error) WHERE number = :number;

-- set_synced --
-- The job has all that is new just now.
UPDATE jobs SET last_sync_at = :now, updated_at = :now WHERE number = :number;

-- set_phase --
-- What a running job does now.
UPDATE jobs SET phase = :phase, error = :error, updated_at = :now WHERE number = :number AND status = 'running';

-- job_counters --
-- What a job wants, over all folders.
SELECT
    coalesce(sum(total), 0) AS total,
    coalesce(sum(downloaded), 0) AS downloaded,
    coalesce(sum(failed), 0) AS failed,
    coalesce(sum(skipped), 0) AS skipped,
    coalesce(sum(bytes), 0) AS bytes
FROM job_counters WHERE job = :job;

-- clear_purged --
-- Room for what goes with the next job.
DELETE FROM purged;

-- find_purged --
-- What the job wants, is stored, and no other job wants; a job that was deleted wants nothing.
INSERT INTO purged (item)
SELECT wants.item FROM wants
WHERE wants.job = :job AND wants.outcome IN ('completed', 'downloaded')
    AND NOT EXISTS (
        SELECT 1 FROM wants AS others CROSS JOIN jobs ON jobs.number = others.job
        WHERE others.item = wants.item AND others.job <> wants.job AND jobs.forgotten = 0
    );

-- clear_purged_paths --
-- Room for their paths.
DELETE FROM purged_paths;

-- put_purged_paths --
-- Where the files of these items are, those of conflicts included.
INSERT INTO purged_paths (path)
SELECT items.local_path FROM purged CROSS JOIN items ON items.number = purged.item
UNION ALL
SELECT conflicts.path FROM purged CROSS JOIN conflicts ON conflicts.item = purged.item;

-- purged_paths --
-- Those of them that no other stored item has.
SELECT path FROM purged_paths
EXCEPT
SELECT items.local_path FROM items CROSS JOIN purged_paths ON purged_paths.path = items.local_path
WHERE items.status = 'completed' AND items.number NOT IN (SELECT item FROM purged)
EXCEPT
SELECT conflicts.path FROM conflicts CROSS JOIN purged_paths ON purged_paths.path = conflicts.path
WHERE conflicts.item NOT IN (SELECT item FROM purged);

-- forget_conflicts --
-- Nor are other bytes of these items.
DELETE FROM conflicts WHERE item IN (SELECT item FROM purged);

-- purge_items --
-- These items are stored no more. What the origin still has can be asked for again; the rest is skipped with the reason. The plus
-- has rows looked up by their numbers, and not all of them gone through.
UPDATE OR ROLLBACK items SET
    status = iif(known.there, 'pending', 'skipped'),
    size = coalesce(json_extract(items.meta, '$.listed_size'), items.size),
    meta = json_remove(items.meta, '$.listed_size'),
    sha256 = NULL,
    local_path = NULL,
    downloaded_at = NULL,
    retry_count = 0,
    error_kind = iif(known.there, NULL, 'gone'),
    error_text = iif(known.there, NULL, :reason),
    error_since = iif(known.there, NULL, :now),
    removed_at = iif(known.there, NULL, coalesce(items.removed_at, :now)),
    updated_at = :now
FROM (
    SELECT
        stored.number,
        stored.removed_at IS NULL AND folders.gone_at IS NULL AND stored.epoch IS folders.epoch AS there
    FROM purged JOIN items AS stored ON stored.number = +purged.item JOIN folders ON folders.number = +stored.folder
) AS known
WHERE items.number = +known.number;

-- forget_wants --
-- The job wants nothing any more. Its counters go whole, in another statement: nothing is counted down.
DELETE FROM wants WHERE job = :job;

-- forget_some_wants --
-- The same for as many of them as are asked for. Those that lie together go together.
DELETE FROM wants WHERE job = :job AND item IN (
    SELECT item FROM wants INDEXED BY wants_by_outcome WHERE job = :job ORDER BY folder, outcome, item LIMIT :piece
);

-- forget_job_counters --
-- Nothing is counted for the job.
DELETE FROM job_counters WHERE job = :job;

-- forget_job --
-- The job is not there any more.
DELETE FROM jobs WHERE number = :job;

-- hide_job --
-- Nobody sees the job any more; what it wanted goes later. Its key may make another job.
UPDATE jobs SET forgotten = 1, idempotency_key = NULL WHERE number = :job;

-- forgotten_jobs --
-- Jobs that nobody sees, and whose wants are still to go.
SELECT number FROM jobs WHERE forgotten = 1;
