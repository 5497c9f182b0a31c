-- Conflicts: other bytes under the key of an item than it has.

-- put_twin --
-- Bytes that came in the same group after others for the item.
INSERT INTO candidates (item, sha256, size, path) SELECT number, ?, ?, ? FROM items WHERE number = ? AND epoch = ? AND key = ?;

-- find_candidates --
-- Bytes that came for what is stored already, and those that an item had before it was given up.
INSERT INTO candidates (item, sha256, size, path)
SELECT item, sha256, size, path FROM results WHERE verdict = 'settled' AND becomes = 'completed'
UNION ALL
SELECT given_up.item, given_up.sha256, given_up.size, given_up.path
FROM results CROSS JOIN given_up ON given_up.item = results.item
WHERE results.verdict = 'applied' AND results.becomes = 'completed' AND EXISTS (SELECT 1 FROM given_up);

-- any_candidate --
-- Whether there is anything to compare.
SELECT 1 FROM candidates LIMIT 1;

-- keep_conflicts --
-- Other bytes than the item has, and than were recorded with it before. Of a hash that came from a name the first half is known.
INSERT INTO conflicts (item, sha256, size, path, seen_at)
SELECT candidates.item, candidates.sha256, candidates.size, candidates.path, :now
FROM candidates CROSS JOIN items ON items.number = candidates.item
WHERE items.status = 'completed'
    AND substr(candidates.sha256, 1, length(items.sha256)) <> substr(items.sha256, 1, length(candidates.sha256))
    AND NOT EXISTS (
        SELECT 1 FROM conflicts
        WHERE conflicts.item = candidates.item
            AND substr(candidates.sha256, 1, length(conflicts.sha256)) = substr(conflicts.sha256, 1, length(candidates.sha256))
    )
ON CONFLICT (item, sha256) DO NOTHING
RETURNING item, sha256, path;

-- tell_conflict --
-- Other bytes came for an item.
INSERT INTO events (time, kind, job, folder, data)
SELECT
    :now, 'item.conflict', (SELECT id FROM jobs WHERE number = :job), folders.name,
    json_object('item', items.number, 'sha256', :sha256, 'path', :path)
FROM items JOIN folders ON folders.number = items.folder WHERE items.number = :item;

-- settle_conflicts --
-- What came again, and is what the item has now, is no conflict any more.
DELETE FROM conflicts
WHERE item IN (SELECT item FROM results WHERE verdict = 'applied' AND becomes = 'completed')
    AND EXISTS (
        SELECT 1 FROM items
        WHERE items.number = conflicts.item
            AND substr(conflicts.sha256, 1, length(items.sha256)) = substr(items.sha256, 1, length(conflicts.sha256))
    );

-- forget_given_up --
-- What has come again need not be remembered.
DELETE FROM given_up WHERE item IN (SELECT item FROM results WHERE verdict = 'applied' AND becomes = 'completed');

-- clear_candidates --
-- Room for the next ones.
DELETE FROM candidates;
