-- Accounts and jobs: what people asked for.

-- name_account --
-- The account of an identity, made when new, its label brought up to date.
INSERT INTO accounts (identity, name, source) VALUES (:identity, :name, :source)
ON CONFLICT (identity) DO UPDATE SET name = excluded.name, source = excluded.source
RETURNING number;

-- add_job --
-- A new job; one that is not queued waits to be started.
INSERT INTO jobs (id, account, strategy, queued, live, priority, requester, idempotency_key, created_at, updated_at)
VALUES (:id, :account, :strategy, :queued, :live, :priority, :requester, :idempotency_key, :now, :now)
RETURNING number;

-- job --
-- One job by its number.
SELECT jobs.*, accounts.name AS account_name, accounts.source
FROM jobs JOIN accounts ON accounts.number = jobs.account
WHERE jobs.number = :number;

-- job_of_key --
-- The job that an idempotency key made before.
SELECT jobs.*, accounts.name AS account_name, accounts.source
FROM jobs JOIN accounts ON accounts.number = jobs.account
WHERE jobs.account = :account AND jobs.idempotency_key = :idempotency_key;

-- jobs_of_prefix --
-- The jobs whose id starts so, with or without its 'job_'. '{' is the character after 'z', the last one in an id.
SELECT jobs.*, accounts.name AS account_name, accounts.source
FROM jobs JOIN accounts ON accounts.number = jobs.account
WHERE (jobs.id >= :prefix AND jobs.id < :prefix || '{') OR (jobs.id >= 'job_' || :prefix AND jobs.id < 'job_' || :prefix || '{')
ORDER BY jobs.id LIMIT :limit;

-- list_jobs --
-- Jobs, newest first.
SELECT jobs.*, accounts.name AS account_name, accounts.source
FROM jobs JOIN accounts ON accounts.number = jobs.account
WHERE (:status IS NULL OR jobs.status = :status)
    AND (:account IS NULL OR jobs.account = :account)
    AND (:before IS NULL OR jobs.number < :before)
ORDER BY jobs.number DESC LIMIT :limit;

-- job_counts --
-- How many jobs there are of each status.
SELECT status, count(*) AS jobs FROM jobs GROUP BY status;

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

-- set_synced --
-- The job was compared with the origin just now.
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
