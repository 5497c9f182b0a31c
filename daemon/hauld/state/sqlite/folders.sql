-- Folders and their listings: what the origin has. Statements that may change every item of a folder say OR ROLLBACK:
-- what breaks them ends the whole transaction, so that SQLite need not keep, in memory, every page they change.

-- put_folder --
-- A folder as it is listed now.
INSERT INTO folders (account, raw, path, name, kind, selectable)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (account, raw) DO UPDATE SET
    path = excluded.path,
    name = excluded.name,
    kind = excluded.kind,
    selectable = excluded.selectable,
    gone_at = NULL;

-- lose_folders --
-- Folders that are not listed any more; what is listed is given as hexadecimal names. Without a cursor, a folder that comes
-- back is listed whole.
UPDATE folders SET gone_at = :now, cursor = NULL
WHERE account = :account AND gone_at IS NULL AND lower(hex(raw)) NOT IN (SELECT value FROM json_each(:listed))
RETURNING number, name, epoch;

-- folders_of_account --
-- All folders of an account.
SELECT * FROM folders WHERE account = :account;

-- folder --
-- One folder by its number.
SELECT * FROM folders WHERE number = :folder;

-- set_directory --
-- Where the store keeps the folder.
UPDATE folders SET directory = :directory WHERE number = :folder;

-- set_folder_error --
-- Why this folder cannot be read.
UPDATE folders SET error = :error WHERE number = :folder;

-- open_epoch --
-- The folder's keys mean something new: no cursor leads there.
UPDATE folders SET epoch = :epoch, cursor = NULL, newest = 0 WHERE number = :folder;

-- skip_unstored --
-- What goes with an epoch, or with a folder, and was never stored will not come any more.
UPDATE OR ROLLBACK items SET
    status = 'skipped',
    error_kind = :kind,
    error_text = :reason,
    error_since = :now,
    next_retry_at = NULL,
    removed_at = coalesce(removed_at, :now),
    updated_at = :now
WHERE folder = :folder AND epoch = :epoch AND status IN ('pending', 'failed');

-- remove_rest --
-- What is left of an epoch is no longer at the origin.
UPDATE OR ROLLBACK items SET removed_at = :now, updated_at = :now WHERE folder = :folder AND epoch = :epoch AND removed_at IS NULL;

-- remove_others --
-- What was restored in other epochs than the first that is listed is no longer at the origin.
UPDATE OR ROLLBACK items SET removed_at = :now, updated_at = :now
WHERE folder = :folder AND epoch <> :epoch AND removed_at IS NULL;

-- forget_named --
-- A listing has named nothing so far.
DELETE FROM named WHERE folder = :folder;

-- open_listing --
-- A listing begins, in place of one that broke off.
INSERT OR REPLACE INTO listings (folder) VALUES (:folder);

-- close_listing --
-- A listing is done; how many new items it has shown. No row when none was begun.
DELETE FROM listings WHERE folder = :folder RETURNING new;

-- clear_page --
-- Room for the next page.
DELETE FROM page;

-- put_on_page --
-- One item of the page.
INSERT INTO page (key, ordinal, size, flags, date, skip) VALUES (?, ?, ?, ?, ?, ?);

-- add_items --
-- What is new on the page, to be downloaded or to be skipped with the reason.
INSERT INTO items (
    folder, epoch, key, ordinal, status, size, flags, date, error_kind, error_text, error_since, created_at, updated_at
)
SELECT
    :folder, :epoch, key, ordinal, iif(skip IS NULL, 'pending', 'skipped'), size, flags, date,
    iif(skip IS NULL, NULL, 'excluded'), skip, iif(skip IS NULL, NULL, :now), :now, :now
FROM page WHERE true ORDER BY rowid
ON CONFLICT (folder, epoch, key) DO NOTHING;

-- find_page --
-- The rows of what is on the page.
UPDATE page SET item = (SELECT number FROM items WHERE folder = :folder AND epoch = :epoch AND items.key = page.key);

-- refresh_items --
-- What is listed again is there, with its flags as they are now; the size of a stored item is that of its bytes. The age of what
-- was restored is known only now.
UPDATE items SET
    ordinal = page.ordinal,
    flags = page.flags,
    date = coalesce(page.date, items.date),
    size = iif(items.status = 'completed', items.size, coalesce(page.size, items.size)),
    removed_at = NULL,
    updated_at = :now
FROM page
WHERE items.number = page.item AND (
    items.removed_at IS NOT NULL
    OR items.ordinal <> page.ordinal
    OR items.flags <> page.flags
    OR items.date IS NOT coalesce(page.date, items.date)
    OR (items.status <> 'completed' AND items.size IS NOT coalesce(page.size, items.size))
);

-- revive_items --
-- What was skipped because the origin no longer had it, or was not known to have it, or had it under another key, or because it
-- was excluded, is wanted again now that it is listed.
UPDATE items SET
    status = 'pending', retry_count = 0, error_kind = NULL, error_text = NULL, error_since = NULL, updated_at = :now
FROM page
WHERE items.number = page.item AND page.skip IS NULL
    AND items.status = 'skipped' AND items.error_kind IN ('excluded', 'gone', 'epoch', 'lost', 'moved');

-- exclude_items --
-- What waited to be downloaded and is excluded now is skipped with the reason.
UPDATE items SET
    status = 'skipped', error_kind = 'excluded', error_text = page.skip, error_since = :now, next_retry_at = NULL,
    updated_at = :now
FROM page
WHERE items.number = page.item AND page.skip IS NOT NULL AND items.status = 'pending';

-- want_page --
-- The jobs that are still there want everything on the page that lies within the dates; what has no date lies within no bound.
INSERT INTO wants (item, job, folder, outcome)
SELECT items.number, jobs.number, items.folder, items.status
FROM json_each(:jobs) AS given
CROSS JOIN jobs ON jobs.number = given.value AND jobs.forgotten = 0
CROSS JOIN page
CROSS JOIN items ON items.number = page.item
WHERE (:since IS NULL OR items.date >= :since) AND (:before IS NULL OR items.date < :before)
ON CONFLICT (item, job) DO NOTHING;

-- set_newest --
-- Nothing that was listed so far is newer than what is on the page, or than what was.
UPDATE folders SET newest = max(newest, coalesce((SELECT max(ordinal) FROM page), 0)) WHERE number = :folder;

-- name_page --
-- What is on the page has been named.
INSERT INTO named (folder, item) SELECT :folder, item FROM page WHERE true ON CONFLICT DO NOTHING;

-- count_page --
-- New items count for the listing they are part of.
UPDATE listings SET new = new + :new WHERE folder = :folder;

-- remove_unnamed --
-- What a whole listing did not name is gone; what was never stored will not come any more.
UPDATE OR ROLLBACK items SET
    removed_at = :now,
    updated_at = :now,
    next_retry_at = NULL,
    error_kind = iif(status IN ('pending', 'failed'), 'gone', error_kind),
    error_text = iif(status IN ('pending', 'failed'), :reason, error_text),
    error_since = iif(status IN ('pending', 'failed'), :now, error_since),
    status = iif(status IN ('pending', 'failed'), 'skipped', status)
WHERE folder = :folder AND epoch = :epoch AND removed_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM named WHERE named.folder = :folder AND named.item = items.number);

-- finish_listing --
-- The whole-folder listing stands here.
UPDATE folders SET cursor = :cursor, last_sync_at = :now WHERE number = :folder;

-- set_unchanged --
-- The folders stand where they stood.
UPDATE folders SET last_sync_at = :now WHERE number IN (SELECT value FROM json_each(:folders));

-- wants_not_all --
-- The folder's epoch, unless the counters say that the job wants everything there already: that is how it mostly is when nothing
-- has changed.
SELECT folders.epoch
FROM folders
JOIN folder_counters AS known ON known.folder = folders.number
LEFT JOIN job_counters AS wanted ON wanted.job = :job AND wanted.folder = folders.number
WHERE folders.number = :folder AND folders.epoch IS NOT NULL AND coalesce(wanted.total, 0) < known.total;

-- not_wanted --
-- What the ledger has of the epoch within the dates, the origin still has, and the job does not want yet: numbers in order, so that
-- rows that are written together lie together.
SELECT json_group_array(number) AS numbers FROM (
    SELECT items.number FROM items
    WHERE items.folder = :folder AND items.epoch = :epoch AND items.removed_at IS NULL
        AND (:since IS NULL OR items.date >= :since) AND (:before IS NULL OR items.date < :before)
        AND NOT EXISTS (SELECT 1 FROM wants WHERE wants.item = items.number AND wants.job = :job)
    ORDER BY items.number
);

-- want_items --
-- The job wants these of the folder, as far as they are in its epoch and the origin still has them.
INSERT INTO wants (item, job, folder, outcome)
SELECT items.number, :job, items.folder, items.status
FROM json_each(:numbers) AS given
CROSS JOIN folders ON folders.number = :folder
CROSS JOIN items ON items.number = given.value AND items.folder = folders.number AND items.epoch = folders.epoch
WHERE items.removed_at IS NULL
ON CONFLICT (item, job) DO NOTHING;

-- want_keys --
-- The job wants the items of these keys.
INSERT INTO wants (item, job, folder, outcome)
SELECT items.number, :job, items.folder, items.status
FROM json_each(:keys) AS keys
CROSS JOIN items ON items.folder = :folder AND items.epoch = :epoch AND items.key = keys.value
WHERE true
ON CONFLICT (item, job) DO NOTHING;

-- preview_known --
-- What want_known would find. Nobody has checked the sizes that the origin lists: a sum() of them may overflow.
SELECT
    count(*) FILTER (WHERE items.status = 'pending') AS items,
    CAST(min(total(items.size) FILTER (WHERE items.status = 'pending'), 9223372036854775807) AS INTEGER) AS bytes,
    count(*) FILTER (WHERE items.status = 'completed') AS stored
FROM folders CROSS JOIN items ON items.folder = folders.number AND items.epoch = folders.epoch
WHERE folders.number = :folder AND items.removed_at IS NULL
    AND (:since IS NULL OR items.date >= :since) AND (:before IS NULL OR items.date < :before);

-- preview_keys --
-- What want_keys would find, within the dates; a key that is given twice is one item.
SELECT
    count(*) FILTER (WHERE items.status = 'pending') AS items,
    CAST(min(total(items.size) FILTER (WHERE items.status = 'pending'), 9223372036854775807) AS INTEGER) AS bytes,
    count(*) FILTER (WHERE items.status = 'completed') AS stored
FROM folders
CROSS JOIN (SELECT DISTINCT value AS key FROM json_each(:keys)) AS keys
CROSS JOIN items ON items.folder = folders.number AND items.epoch = folders.epoch AND items.key = keys.key
WHERE folders.number = :folder
    AND (:since IS NULL OR items.date >= :since) AND (:before IS NULL OR items.date < :before);
