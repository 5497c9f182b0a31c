-- Items whose keys have changed: one that waited under its new key has taken the file over from the one with the old key.

-- When it did; the file has the name that the old key gave it.
ALTER TABLE items ADD COLUMN mapped_at INTEGER;

-- Who has a file that is named after another item.
CREATE INDEX items_mapped ON items (folder, local_path) WHERE status = 'completed' AND mapped_at IS NOT NULL;

-- What is stored and no longer at the origin, at least not under its key, by what the origin said of it.
CREATE INDEX items_left ON items (folder, date, coalesce(json_extract(meta, '$.listed_size'), size))
WHERE status = 'completed' AND removed_at IS NOT NULL;
