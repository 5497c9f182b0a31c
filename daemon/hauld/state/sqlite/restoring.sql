-- Restoring: rows for what the store holds. The found files are in a table of the writer's own (scratch.sql).

-- make_account --
-- The account of an identity, where it is missing.
INSERT INTO accounts (identity, name, source) VALUES (:identity, :name, :source) ON CONFLICT (identity) DO NOTHING;

-- make_folder --
-- The folder, where it is missing; one that is known keeps what the origin says of it.
INSERT INTO folders (account, raw, path, name, kind, selectable, directory)
SELECT number, :raw, :path, :name, :kind, :selectable, :directory FROM accounts WHERE identity = :identity
ON CONFLICT (account, raw) DO UPDATE SET directory = coalesce(directory, excluded.directory)
RETURNING number, epoch;

-- clear_found --
-- Room for the files of the next folder.
DELETE FROM found;

-- put_found --
-- One file.
INSERT INTO found (epoch, key, size, sha256, path, flags, date) VALUES (?, ?, ?, ?, ?, ?, ?);

-- add_found --
-- What the ledger does not know. What is of another epoch than the folder is no longer at the origin.
INSERT INTO items (
    folder, epoch, key, ordinal, status, size, sha256, local_path, flags, date, created_at, updated_at, downloaded_at, removed_at
)
SELECT
    :folder, epoch, key, 0, 'completed', size, sha256, path, flags, date, :now, :now, :now,
    iif(:epoch IS NULL OR epoch = :epoch, NULL, :now)
FROM found WHERE true ORDER BY rowid
ON CONFLICT (folder, epoch, key) DO NOTHING;

-- find_known --
-- What the ledger knows and does not have as stored. What has moved stays so while the file is another item's.
INSERT INTO results (item, becomes, size, sha256, path, size_differs, verdict)
SELECT
    items.number, 'completed', found.size, found.sha256, found.path,
    items.size IS NOT NULL AND items.size <> found.size, 'applied'
FROM found CROSS JOIN items ON items.folder = :folder AND items.epoch = found.epoch AND items.key = found.key
WHERE items.status <> 'completed'
    AND NOT (
        items.error_kind IS 'moved' AND EXISTS (
            SELECT 1 FROM items AS heir INDEXED BY items_mapped
            WHERE heir.folder = items.folder AND heir.local_path = found.path
                AND heir.status = 'completed' AND heir.mapped_at IS NOT NULL
        )
    )
ORDER BY found.rowid;

-- find_others --
-- Files under the key of an item that is stored in another one.
INSERT INTO candidates (item, sha256, size, path)
SELECT items.number, found.sha256, found.size, found.path
FROM found CROSS JOIN items ON items.folder = :folder AND items.epoch = found.epoch AND items.key = found.key
WHERE items.status = 'completed' AND items.local_path <> found.path ORDER BY found.rowid;

-- list_whole --
-- The next listing is a whole one: it tells what names do not, and which of these items are still there.
UPDATE folders SET cursor = NULL WHERE number = :folder;
