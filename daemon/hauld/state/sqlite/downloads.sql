-- Downloads: what is still to be fetched, and what became of it. CROSS JOIN fixes the order of the loops: SQLite cannot know
-- that few of a job's wants are pending, waiting or failed.

-- pending --
-- Items of a folder that the job wants and that are due, newest first.
SELECT items.number, items.key, items.ordinal, items.size, items.flags, items.date, items.retry_count
FROM folders
CROSS JOIN items ON items.folder = folders.number AND items.epoch = folders.epoch
CROSS JOIN wants ON wants.item = items.number AND wants.job = :job
WHERE folders.number = :folder AND items.status = 'pending'
    AND (:below IS NULL OR items.ordinal < :below)
    AND (items.next_retry_at IS NULL OR items.next_retry_at <= :now)
ORDER BY items.ordinal DESC LIMIT :limit;

-- still_pending --
-- Those of some items that are pending.
SELECT number FROM items WHERE number IN (SELECT value FROM json_each(:items)) AND status = 'pending';

-- next_retry --
-- When the earliest item that the job wants becomes due.
SELECT items.next_retry_at
FROM items CROSS JOIN wants ON wants.item = items.number AND wants.job = :job
WHERE items.next_retry_at > :now AND items.status = 'pending'
ORDER BY items.next_retry_at LIMIT 1;

-- clear_results --
-- Room for the next group.
DELETE FROM results;

-- put_stored --
-- An item whose bytes are durable.
INSERT INTO results (item, becomes, epoch, key, size, sha256, path, flags, size_differs)
VALUES (?, 'completed', ?, ?, ?, ?, ?, ?, ?);

-- put_setback --
-- An item that was not stored this time.
INSERT INTO results (item, becomes, error_kind, error_text, attempt) VALUES (?, ?, ?, ?, ?);

-- judge_results --
-- Refused is what is unknown, was filed under another key, or belongs to an epoch that has passed. Settled is what was stored
-- before, and a setback of what no longer waits.
UPDATE results SET
    verdict = CASE
        WHEN results.epoch <> items.epoch OR results.key <> items.key THEN 'refused'
        WHEN items.status = 'completed' THEN 'settled'
        WHEN items.epoch IS NOT folders.epoch THEN 'refused'
        WHEN results.becomes <> 'completed' AND items.status <> 'pending' THEN 'settled'
        ELSE 'applied'
    END,
    folder = items.folder,
    was = items.status
FROM items CROSS JOIN folders ON folders.number = items.folder
WHERE items.number = +results.item;

-- refused_results --
-- The numbers of what was refused.
SELECT item FROM results WHERE verdict = 'refused' ORDER BY item;

-- find_placed --
-- What the store reports as durable, where the ledger does not know it as stored yet, and not as another item's by now.
INSERT INTO results (item, becomes, size, sha256, path, folder, verdict)
SELECT items.number, 'completed', ?1, ?2, ?3, items.folder, 'applied'
FROM accounts
JOIN folders ON folders.account = accounts.number AND folders.raw = ?4
JOIN items ON items.folder = folders.number AND items.epoch = ?5 AND items.key = ?6
WHERE accounts.identity = ?7 AND items.status <> 'completed'
    AND NOT (
        items.error_kind IS 'moved' AND EXISTS (
            SELECT 1 FROM items AS heir INDEXED BY items_mapped
            WHERE heir.folder = items.folder AND heir.local_path = ?3
                AND heir.status = 'completed' AND heir.mapped_at IS NOT NULL
        )
    );

-- complete_items --
-- The items are stored. Where the origin had named another size, it is kept beside the true one.
UPDATE items SET
    status = 'completed',
    size = results.size,
    sha256 = results.sha256,
    local_path = results.path,
    flags = coalesce(results.flags, items.flags),
    meta = iif(results.size_differs, json_set(items.meta, '$.listed_size', items.size), items.meta),
    error_kind = NULL,
    error_text = NULL,
    error_since = NULL,
    next_retry_at = NULL,
    downloaded_at = :now,
    mapped_at = NULL,
    updated_at = :now
FROM results
WHERE items.number = results.item AND results.verdict = 'applied' AND results.becomes = 'completed';

-- find_placed_candidates --
-- What the store reports as durable beside what the item has.
INSERT INTO candidates (item, size, sha256, path)
SELECT items.number, ?1, ?2, ?3
FROM accounts
JOIN folders ON folders.account = accounts.number AND folders.raw = ?4
JOIN items ON items.folder = folders.number AND items.epoch = ?5 AND items.key = ?6
WHERE accounts.identity = ?7 AND items.status = 'completed' AND items.local_path <> ?3;

-- count_by_hand --
-- What the triggers do for each row is done by the statements below for the whole group, or not any more.
UPDATE counting SET by_hand = :by_hand;

-- count_stored --
-- The items of the group are counted as stored.
UPDATE folder_counters SET
    downloaded = folder_counters.downloaded + stored.items,
    failed = folder_counters.failed - stored.failed,
    skipped = folder_counters.skipped - stored.skipped,
    bytes = folder_counters.bytes + stored.bytes
FROM (
    SELECT folder, count(*) AS items, sum(was = 'failed') AS failed, sum(was = 'skipped') AS skipped, sum(size) AS bytes
    FROM results WHERE verdict = 'applied' AND becomes = 'completed' GROUP BY folder
) AS stored
WHERE folder_counters.folder = stored.folder;

-- count_claims --
-- So are the wants, as downloaded by the job that fetched them, before they change.
UPDATE job_counters SET
    downloaded = job_counters.downloaded + claimed.downloaded,
    failed = job_counters.failed - claimed.failed,
    skipped = job_counters.skipped + claimed.others - claimed.skipped,
    bytes = job_counters.bytes + claimed.bytes
FROM (
    SELECT
        wants.job,
        wants.folder,
        sum(wants.job IS :job) AS downloaded,
        sum(wants.job IS NOT :job) AS others,
        sum(wants.outcome = 'failed') AS failed,
        sum(wants.outcome IN ('skipped', 'completed')) AS skipped,
        sum(iif(wants.job IS :job, results.size, 0)) AS bytes
    FROM results CROSS JOIN wants ON wants.item = results.item
    WHERE results.verdict = 'applied' AND results.becomes = 'completed'
    GROUP BY wants.job, wants.folder
) AS claimed
WHERE job_counters.job = claimed.job AND job_counters.folder = claimed.folder;

-- claim_for_job --
-- The job that fetched them has downloaded them; for others that want them they are there.
UPDATE wants SET outcome = iif(job IS :job, 'downloaded', 'completed')
WHERE item IN (SELECT item FROM results WHERE verdict = 'applied' AND becomes = 'completed');

-- claim_for_all --
-- Nobody knows any more which job fetched them: all that want them have downloaded them.
UPDATE wants SET outcome = 'downloaded'
WHERE item IN (SELECT item FROM results WHERE verdict = 'applied' AND becomes = 'completed');

-- set_back_items --
-- The items were not stored this time; the same trouble as before keeps its beginning, but failing is new.
UPDATE items SET
    status = results.becomes,
    retry_count = items.retry_count + results.attempt,
    error_since = iif(results.becomes = 'pending' AND items.error_kind IS results.error_kind, items.error_since, :now),
    error_kind = results.error_kind,
    error_text = results.error_text,
    next_retry_at = NULL,
    updated_at = :now
FROM results
WHERE items.number = results.item AND results.verdict = 'applied' AND results.becomes <> 'completed';

-- tell_stored --
-- One event for each folder of the group; the numbers of its first items are named.
INSERT INTO events (time, kind, job, folder, data)
SELECT
    :now, 'item.stored', (SELECT id FROM jobs WHERE number = :job), folders.name,
    json_object(
        'count', count(*),
        'bytes', sum(stored.size),
        'items', json_group_array(stored.item) FILTER (WHERE stored.place <= :named)
    )
FROM (
    SELECT item, size, folder, row_number() OVER (PARTITION BY folder ORDER BY item) AS place
    FROM results WHERE verdict = 'applied' AND becomes = 'completed'
) AS stored
JOIN folders ON folders.number = stored.folder
GROUP BY folders.number ORDER BY folders.number;

-- tell_failed --
-- One event for each folder in which items have failed for good, with the kinds of trouble.
INSERT INTO events (time, kind, job, folder, data)
SELECT
    :now, 'item.failed', (SELECT id FROM jobs WHERE number = :job), folders.name,
    json_object(
        'count', count(*),
        'kinds', json_group_array(DISTINCT failed.error_kind),
        'items', json_group_array(failed.item) FILTER (WHERE failed.place <= :named)
    )
FROM (
    SELECT
        results.item, results.error_kind, items.folder,
        row_number() OVER (PARTITION BY items.folder ORDER BY results.item) AS place
    FROM results JOIN items ON items.number = results.item
    WHERE results.verdict = 'applied' AND results.becomes = 'failed'
) AS failed
JOIN folders ON folders.number = failed.folder
GROUP BY folders.number ORDER BY folders.number;

-- not_failed --
-- The first of these items that the job does not want, where status is null, or that has not failed.
SELECT given.value AS item, items.status, coalesce((SELECT id FROM jobs WHERE number = :job), 'number ' || :job) AS job
FROM json_each(:items) AS given
LEFT JOIN wants ON wants.item = given.value AND wants.job = :job
LEFT JOIN items ON items.number = wants.item
WHERE wants.outcome IS NOT 'failed'
ORDER BY given.key LIMIT 1;

-- retry_failed --
-- What the job wants and has failed is asked for again, with fresh attempts.
UPDATE items SET
    status = 'pending', retry_count = 0, error_kind = NULL, error_text = NULL, error_since = NULL, updated_at = :now
WHERE (:before IS NULL OR error_since < :before)
    AND (:items IS NULL OR number IN (SELECT value FROM json_each(:items)))
    AND number IN (
        SELECT wants.item
        FROM job_counters CROSS JOIN wants
            ON wants.job = job_counters.job AND wants.folder = job_counters.folder AND wants.outcome = 'failed'
        WHERE job_counters.job = :job AND job_counters.failed > 0
    );
