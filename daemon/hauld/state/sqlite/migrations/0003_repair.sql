-- A ledger that repairs itself: it knows whether it was closed in order and whether it agrees with the store, and it remembers
-- bytes that are other than they were.

-- One row. open: work was begun and not ended in order; together with the log beside the file this tells whether the last
-- transactions are there. reconciled: what the store holds has its rows. changes counts what files cannot tell, so that a copy
-- is known to be up to date. A ledger that is new has its rows still to come from the store.
CREATE TABLE ledger (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    open INTEGER NOT NULL CHECK (open IN (0, 1)),
    reconciled INTEGER NOT NULL CHECK (reconciled IN (0, 1)),
    changes INTEGER NOT NULL,
    verified_at INTEGER
) STRICT;

INSERT INTO ledger (only, open, reconciled, changes) SELECT 1, 0, EXISTS (SELECT 1 FROM accounts), 0;

CREATE TRIGGER jobs_made_change AFTER INSERT ON jobs BEGIN
    UPDATE ledger SET changes = changes + 1;
END;

CREATE TRIGGER jobs_moved_change AFTER UPDATE OF status, queued ON jobs
WHEN old.status <> new.status OR old.queued <> new.queued BEGIN
    UPDATE ledger SET changes = changes + 1;
END;

CREATE TRIGGER jobs_deleted_change AFTER DELETE ON jobs BEGIN
    UPDATE ledger SET changes = changes + 1;
END;

-- How often the job asks for one item; null: as configured.
ALTER TABLE jobs ADD COLUMN attempts INTEGER CHECK (attempts >= 1);

-- Other bytes that came under an item's key; both are kept.
CREATE TABLE conflicts (
    item INTEGER NOT NULL REFERENCES items,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    path TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (item, sha256)
) STRICT, WITHOUT ROWID;

-- What items were that were given up, until their bytes have come again.
CREATE TABLE given_up (
    item INTEGER PRIMARY KEY REFERENCES items,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    path TEXT NOT NULL
) STRICT;

-- The stored items of a folder, by number.
CREATE INDEX items_stored ON items (folder) WHERE status = 'completed';
