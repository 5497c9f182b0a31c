-- Remapping: what is stored under keys of another epoch and listed under new ones.

-- alike_pending --
-- Items that wait, newest first, where something is stored that was filed in another epoch and is as large and as old. Whether
-- anything is stored that is no longer at the origin is looked up once. The plus leaves the size to the index.
SELECT items.*
FROM folders
CROSS JOIN items INDEXED BY items_pending ON items.folder = folders.number AND items.epoch = folders.epoch
WHERE folders.number = :folder AND items.status = 'pending' AND items.ordinal < coalesce(:below, 9223372036854775807)
    AND EXISTS (
        SELECT 1 FROM items INDEXED BY items_left
        WHERE items.folder = :folder AND items.status = 'completed' AND items.removed_at IS NOT NULL
    )
    AND EXISTS (
        SELECT 1 FROM items AS stored INDEXED BY items_left
        WHERE stored.folder = items.folder AND stored.status = 'completed' AND stored.removed_at IS NOT NULL
            AND stored.date = items.date AND coalesce(json_extract(stored.meta, '$.listed_size'), stored.size) = +items.size
            AND stored.epoch <> items.epoch
    )
ORDER BY items.ordinal DESC LIMIT :limit;

-- alike_stored --
-- What is stored of other epochs with these dates and sizes, a few of each.
SELECT * FROM (
    SELECT
        items.number, items.key, items.epoch, items.size, items.sha256, items.local_path, 0 AS there,
        items.date, looks.size AS listed_size,
        row_number() OVER (PARTITION BY looks.date, looks.size ORDER BY items.number) AS place
    FROM (
        SELECT DISTINCT json_extract(value, '$[0]') AS date, json_extract(value, '$[1]') AS size FROM json_each(:looks)
    ) AS looks
    CROSS JOIN folders ON folders.number = :folder
    CROSS JOIN items INDEXED BY items_left ON items.folder = folders.number AND items.status = 'completed'
        AND items.removed_at IS NOT NULL AND items.date = looks.date
        AND coalesce(json_extract(items.meta, '$.listed_size'), items.size) = looks.size
        AND items.epoch IS NOT folders.epoch
)
WHERE place <= :limit ORDER BY number;

-- clear_pairs --
-- Room for the next ones.
DELETE FROM pairs;

-- put_pair --
-- What waits, and what it is.
INSERT INTO pairs (item, stored) VALUES (?, ?);

-- check_pairs --
-- What does not wait in the folder's epoch, or is not stored in another one, is left alone.
DELETE FROM pairs WHERE NOT EXISTS (
    SELECT 1
    FROM folders
    JOIN items ON items.folder = folders.number AND items.epoch = folders.epoch
    JOIN items AS stored ON stored.folder = folders.number AND stored.epoch <> folders.epoch
    WHERE folders.number = :folder AND items.number = pairs.item AND items.status = 'pending'
        AND stored.number = pairs.stored AND stored.status = 'completed'
);

-- find_results --
-- These items are about to be stored, as far as conflicts are concerned.
INSERT INTO results (item, becomes, size, sha256, path, verdict)
SELECT pairs.item, 'completed', stored.size, stored.sha256, stored.local_path, 'applied'
FROM pairs CROSS JOIN items AS stored ON stored.number = pairs.stored;

-- map_items --
-- They have the bytes, in the file where they are. Where the origin names another size, it is kept beside the true one. The plus,
-- here and below, has the items looked up by their numbers, and not all of them gone through.
UPDATE items SET
    status = 'completed',
    size = stored.size,
    sha256 = stored.sha256,
    local_path = stored.local_path,
    meta = iif(items.size IS stored.size, items.meta, json_set(items.meta, '$.listed_size', items.size)),
    retry_count = 0,
    error_kind = NULL,
    error_text = NULL,
    error_since = NULL,
    next_retry_at = NULL,
    downloaded_at = stored.downloaded_at,
    mapped_at = :now,
    updated_at = :now
FROM pairs CROSS JOIN items AS stored ON stored.number = pairs.stored
WHERE items.number = +pairs.item;

-- move_conflicts --
-- Other bytes that came under the old key are other ones than the new key's, too.
UPDATE OR REPLACE conflicts SET item = pairs.item FROM pairs WHERE conflicts.item = +pairs.stored;

-- leave_items --
-- The old keys have nothing any more.
UPDATE items SET
    status = 'skipped',
    sha256 = NULL,
    local_path = NULL,
    downloaded_at = NULL,
    mapped_at = NULL,
    error_kind = 'moved',
    error_text = 'The origin gave it a new key; its file belongs to item ' || pairs.item || ' now.',
    error_since = :now,
    removed_at = coalesce(items.removed_at, :now),
    updated_at = :now
FROM pairs WHERE items.number = +pairs.stored;

-- list_left_sizes --
-- They have the size that the origin said again. Not before they are stored no more: counters are counted down by the true one.
UPDATE items SET size = json_extract(meta, '$.listed_size'), meta = json_remove(meta, '$.listed_size')
WHERE number IN (SELECT stored FROM pairs) AND json_extract(meta, '$.listed_size') IS NOT NULL;

-- tell_mapped --
-- How many of the folder's items were there under other keys, and the first of them.
INSERT INTO events (time, kind, folder, data)
SELECT
    :now, 'folder.mapped', folders.name,
    json_object(
        'count', count(*),
        'items', json_group_array(mapped.item) FILTER (WHERE mapped.place <= :named)
    )
FROM (SELECT item, row_number() OVER (ORDER BY item) AS place FROM pairs) AS mapped
CROSS JOIN folders ON folders.number = :folder
GROUP BY folders.number;
