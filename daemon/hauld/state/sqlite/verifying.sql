-- Verifying: what is stored, and what turned out not to be.

-- stored_of_folder --
-- Stored items of a folder, by number, a page at a time.
SELECT
    items.number, items.key, items.epoch, items.size, items.sha256, items.local_path,
    items.removed_at IS NULL AND folders.gone_at IS NULL AND items.epoch IS folders.epoch AS there
FROM folders CROSS JOIN items INDEXED BY items_stored ON items.folder = folders.number
WHERE folders.number = :folder AND items.status = 'completed' AND items.number > :after
ORDER BY items.number LIMIT :limit;

-- paths_of_folder --
-- Where the stored bytes of a folder are, those of conflicts included.
SELECT local_path AS path FROM items INDEXED BY items_stored WHERE folder = :folder AND status = 'completed'
UNION ALL
SELECT conflicts.path FROM conflicts CROSS JOIN items ON items.number = conflicts.item WHERE items.folder = :folder;

-- nobodys --
-- Which of these paths nothing that is stored has.
WITH asked AS MATERIALIZED (SELECT value AS path FROM json_each(:paths))
SELECT path FROM asked
EXCEPT
SELECT local_path FROM items WHERE status = 'completed' AND local_path IN (SELECT path FROM asked)
EXCEPT
SELECT path FROM conflicts WHERE path IN (SELECT path FROM asked);

-- confirm --
-- The whole hash of an item of which the first half was known.
UPDATE items SET sha256 = ?2
WHERE number = ?1 AND status = 'completed' AND length(sha256) < length(?2) AND substr(?2, 1, length(sha256)) = sha256;

-- put_lost --
-- One item to give up.
INSERT INTO results (item, becomes, error_kind, error_text) VALUES (?, ?, ?, ?);

-- judge_lost --
-- Only what is stored can be given up. Nothing becomes pending that the origin has no more.
UPDATE results SET
    verdict = iif(known.status = 'completed', 'applied', 'settled'),
    becomes = iif(known.there, 'pending', 'skipped'),
    error_kind = iif(known.there, results.error_kind, 'lost')
FROM (
    SELECT
        items.number, items.status,
        items.removed_at IS NULL AND folders.gone_at IS NULL AND items.epoch IS folders.epoch AS there
    FROM results AS given CROSS JOIN items ON items.number = given.item CROSS JOIN folders ON folders.number = items.folder
) AS known
WHERE results.item = known.number;

-- remember_lost --
-- What they were.
INSERT OR REPLACE INTO given_up (item, sha256, size, path)
SELECT items.number, items.sha256, items.size, items.local_path
FROM results CROSS JOIN items ON items.number = results.item WHERE results.verdict = 'applied';

-- lose_items --
-- These items are stored no more.
UPDATE items SET
    status = results.becomes,
    sha256 = NULL,
    local_path = NULL,
    downloaded_at = NULL,
    retry_count = 0,
    next_retry_at = NULL,
    error_kind = results.error_kind,
    error_text = results.error_text,
    error_since = :now,
    removed_at = iif(results.becomes = 'pending', NULL, coalesce(items.removed_at, :now)),
    updated_at = :now
FROM results WHERE items.number = results.item AND results.verdict = 'applied';

-- list_lost_sizes --
-- They have the size that the origin says again. Not before they are stored no more: counters are counted down by the true one.
UPDATE items SET size = json_extract(meta, '$.listed_size'), meta = json_remove(meta, '$.listed_size')
WHERE number IN (SELECT item FROM results WHERE verdict = 'applied') AND json_extract(meta, '$.listed_size') IS NOT NULL;

-- tell_lost --
-- One event for each folder that lost items, with the kinds of trouble.
INSERT INTO events (time, kind, folder, data)
SELECT
    :now, 'item.lost', folders.name,
    json_object(
        'count', count(*),
        'kinds', json_group_array(DISTINCT lost.error_kind),
        'items', json_group_array(lost.item) FILTER (WHERE lost.place <= :named)
    )
FROM (
    SELECT
        results.item, results.error_kind, items.folder,
        row_number() OVER (PARTITION BY items.folder ORDER BY results.item) AS place
    FROM results JOIN items ON items.number = results.item
    WHERE results.verdict = 'applied'
) AS lost
JOIN folders ON folders.number = lost.folder
GROUP BY folders.number ORDER BY folders.number;
