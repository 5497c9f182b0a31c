-- Looking: what the ledger says, changing nothing.

-- account_totals --
-- What is known of an account: folders the origin still has, their last comparison, that of the inbox, and of what is stored how
-- many items and bytes.
SELECT
    count(*) FILTER (WHERE folders.gone_at IS NULL) AS folders,
    max(folders.last_sync_at) AS last_sync_at,
    max(folders.last_sync_at) FILTER (WHERE folders.kind = 'inbox' AND folders.gone_at IS NULL) AS inbox_sync_at,
    coalesce(sum(folder_counters.downloaded), 0) AS items,
    coalesce(sum(folder_counters.bytes), 0) AS bytes
FROM folders LEFT JOIN folder_counters ON folder_counters.folder = folders.number
WHERE folders.account = :account;

-- progress_of_job --
-- The folders of the job's account with what the job wants in them; those that are gone, or hold no items by their nature, only
-- where it wants something.
SELECT folders.*, jobs.strategy, counted.total, counted.downloaded, counted.failed, counted.skipped, counted.bytes
FROM jobs
JOIN folders ON folders.account = jobs.account
LEFT JOIN job_counters AS counted ON counted.job = jobs.number AND counted.folder = folders.number
WHERE jobs.number = :job AND ((folders.gone_at IS NULL AND folders.selectable) OR counted.total > 0);

-- progress_of_account --
-- The folders of an account with what is known in them; in the same manner.
SELECT folders.*, counted.total, counted.downloaded, counted.failed, counted.skipped, counted.bytes
FROM folders LEFT JOIN folder_counters AS counted ON counted.folder = folders.number
WHERE folders.account = :account AND ((folders.gone_at IS NULL AND folders.selectable) OR counted.total > 0);

-- items_of_job --
-- Items that a job wants, by number. Each outcome, or each of one folder, gives its first few from an index, so that a page costs
-- the same however many items there are. They go through JSON because only a function can look at the row beside it.
SELECT
    items.*,
    folders.name AS folder_name,
    (
        SELECT json_group_array(json_object('sha256', sha256, 'size', size, 'path', path, 'seen_at', seen_at))
        FROM (SELECT * FROM conflicts WHERE item = items.number ORDER BY seen_at, sha256)
    ) AS conflicts
FROM items CROSS JOIN folders ON folders.number = items.folder
WHERE items.number IN (
    SELECT first_few.value
    FROM json_each(:outcomes) AS outcomes
    CROSS JOIN json_each((
        SELECT json_group_array(item) FROM (
            SELECT item FROM wants INDEXED BY wants_of_job
            WHERE job = :job AND outcome = outcomes.value AND item > :after
            ORDER BY item LIMIT :limit
        )
    )) AS first_few
    WHERE :folder IS NULL
    UNION ALL
    SELECT first_few.value
    FROM job_counters
    CROSS JOIN folders AS chosen ON chosen.number = job_counters.folder
    CROSS JOIN json_each(:outcomes) AS outcomes
    CROSS JOIN json_each((
        SELECT json_group_array(item) FROM (
            SELECT item FROM wants INDEXED BY wants_by_outcome
            WHERE job = :job AND folder = chosen.number AND outcome = outcomes.value AND item > :after
            ORDER BY item LIMIT :limit
        )
    )) AS first_few
    WHERE job_counters.job = :job AND chosen.name = :folder
)
ORDER BY items.number LIMIT :limit;
