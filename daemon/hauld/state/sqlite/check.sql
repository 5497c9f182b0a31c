-- What the ledger must agree on with itself. Each statement gives one sentence for each thing that is wrong.

-- wants_agree_with_items --
-- A want's folder is its item's, and its outcome the item's status, or 'downloaded' where that is completed.
SELECT
    'Job ' || jobs.id || ' has item ' || wants.item || ' as ' || wants.outcome || ' in folder ' || wants.folder
    || ', but it is ' || items.status || ' in folder ' || items.folder || '.'
FROM wants JOIN items ON items.number = wants.item JOIN jobs ON jobs.number = wants.job
WHERE items.folder <> wants.folder
    OR items.status <> iif(wants.outcome = 'downloaded', 'completed', wants.outcome);

-- job_counters_agree_with_wants --
-- The counters of jobs are what counting their wants would give. What a deleted job wanted is not counted.
WITH counted AS (
    SELECT
        wants.job,
        wants.folder,
        count(*) AS total,
        sum(wants.outcome = 'downloaded') AS downloaded,
        sum(wants.outcome = 'failed') AS failed,
        sum(wants.outcome IN ('skipped', 'completed')) AS skipped,
        sum(iif(wants.outcome = 'downloaded', items.size, 0)) AS bytes
    FROM wants JOIN items ON items.number = wants.item JOIN jobs ON jobs.number = wants.job
    WHERE jobs.forgotten = 0
    GROUP BY wants.job, wants.folder
)
SELECT 'The counters of job ' || job || ' in folder ' || folder || ' are not what counting its wants gives.'
FROM (SELECT * FROM counted EXCEPT SELECT * FROM job_counters)
UNION
SELECT 'The counters of job ' || job || ' in folder ' || folder || ' are not what counting its wants gives.'
FROM (SELECT * FROM job_counters EXCEPT SELECT * FROM counted);

-- folder_counters_agree_with_items --
-- The counters of folders are what counting their items would give.
WITH counted AS (
    SELECT
        folder,
        count(*) AS total,
        sum(status = 'completed') AS downloaded,
        sum(status = 'failed') AS failed,
        sum(status = 'skipped') AS skipped,
        sum(iif(status = 'completed', size, 0)) AS bytes
    FROM items GROUP BY folder
)
SELECT 'The counters of folder ' || folder || ' are not what counting its items gives.'
FROM (SELECT * FROM counted EXCEPT SELECT * FROM folder_counters)
UNION
SELECT 'The counters of folder ' || folder || ' are not what counting its items gives.'
FROM (SELECT * FROM folder_counters EXCEPT SELECT * FROM counted);

-- epochs_are_closed --
-- Nothing waits in an epoch that has passed.
SELECT 'Item ' || items.number || ' is ' || items.status || ' though its epoch ' || items.epoch || ' has passed.'
FROM items JOIN folders ON folders.number = items.folder
WHERE items.epoch IS NOT folders.epoch AND items.status IN ('pending', 'failed');

-- rows_have_their_parents --
-- No row points at one that is not there.
SELECT 'A row of ' || "table" || ' points at a row of ' || parent || ' that is not there.' FROM pragma_foreign_key_check;

-- pages_are_sound --
-- The file itself.
SELECT 'The database itself: ' || quick_check FROM pragma_quick_check WHERE quick_check <> 'ok';

-- the_ledger_knows_itself --
-- There is one row each for the ledger and its stream.
SELECT 'The ledger does not know whether it was closed in order.' WHERE NOT EXISTS (SELECT 1 FROM ledger)
UNION ALL
SELECT 'The stream of events has no id.' WHERE NOT EXISTS (SELECT 1 FROM stream);

-- conflicts_are_of_other_bytes --
-- A conflict is about other bytes than those that the item has.
SELECT 'Item ' || items.number || ' has its own bytes as a conflict.'
FROM conflicts JOIN items ON items.number = conflicts.item
WHERE items.status = 'completed'
    AND substr(conflicts.sha256, 1, length(items.sha256)) = substr(items.sha256, 1, length(conflicts.sha256));

-- what_is_stored_is_not_given_up --
-- What is stored was not given up, or has come again.
SELECT 'Item ' || items.number || ' is stored, though it was given up.'
FROM given_up JOIN items ON items.number = given_up.item WHERE items.status = 'completed';
