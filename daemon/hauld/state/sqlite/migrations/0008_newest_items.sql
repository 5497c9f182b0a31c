-- Where new items of a folder begin, without a look at all that are known.

-- The highest ordinal that was listed in the folder's epoch; 0 where none was.
ALTER TABLE folders ADD COLUMN newest INTEGER NOT NULL DEFAULT 0;

UPDATE folders SET newest = coalesce(
    (SELECT max(items.ordinal) FROM items WHERE items.folder = folders.number AND items.epoch = folders.epoch), 0
);
