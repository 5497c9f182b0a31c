-- The ledger: accounts with their folders and items, jobs and what they want, and the numbered events that tell of it.
-- Times are Unix milliseconds.

-- 'haul' in ASCII: so that nobody takes another program's file for ours.
PRAGMA application_id = 1751217516;

-- What was done to this file, one row a migration. Rows are written in the transaction of what they record.
CREATE TABLE schema (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
    number INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    source TEXT NOT NULL
) STRICT;

CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE CHECK (length(id) = 16 AND id GLOB 'job_*' AND substr(id, 5) NOT GLOB '*[^a-z0-9]*'),
    account INTEGER NOT NULL REFERENCES accounts,
    strategy TEXT NOT NULL CHECK (json_valid(strategy)),
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    queued INTEGER NOT NULL CHECK (queued = 0 OR (queued = 1 AND status = 'pending')),
    phase TEXT
        CHECK (phase IS NULL OR (status = 'running' AND phase IN ('connecting', 'listing', 'downloading', 'waiting'))),
    live INTEGER NOT NULL CHECK (live IN (0, 1)),
    priority INTEGER NOT NULL CHECK (priority IN (1, 2, 3)),
    requester TEXT,
    idempotency_key TEXT,
    error TEXT CHECK (error IS NULL OR json_valid(error)),
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    updated_at INTEGER NOT NULL,
    completed_at INTEGER,
    last_sync_at INTEGER,
    UNIQUE (account, idempotency_key)
) STRICT;

-- raw is the name in the origin's own bytes and the only key; path is its decoded components, name these joined by '/'.
CREATE TABLE folders (
    number INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts,
    raw BLOB NOT NULL,
    path TEXT NOT NULL CHECK (json_valid(path)),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    selectable INTEGER NOT NULL CHECK (selectable IN (0, 1)),
    epoch TEXT,
    cursor BLOB,
    directory TEXT,
    gone_at INTEGER,
    last_sync_at INTEGER,
    error TEXT CHECK (error IS NULL OR json_valid(error)),
    UNIQUE (account, raw),
    CHECK (cursor IS NULL OR epoch IS NOT NULL)
) STRICT;

CREATE TABLE items (
    number INTEGER PRIMARY KEY,
    folder INTEGER NOT NULL REFERENCES folders,
    epoch TEXT NOT NULL,
    key TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'completed', 'failed', 'skipped')),
    size INTEGER CHECK (size >= 0),
    item_type TEXT NOT NULL DEFAULT 'message',
    mime_type TEXT NOT NULL DEFAULT 'message/rfc822',
    meta TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(meta)),
    flags TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(flags)),
    date INTEGER,
    sha256 TEXT,
    local_path TEXT,
    error_kind TEXT,
    error_text TEXT,
    error_since INTEGER,
    retry_count INTEGER NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
    next_retry_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    downloaded_at INTEGER,
    removed_at INTEGER,
    UNIQUE (folder, epoch, key),
    CHECK (
        status <> 'completed'
        OR (size IS NOT NULL AND sha256 IS NOT NULL AND local_path IS NOT NULL AND downloaded_at IS NOT NULL)
    ),
    CHECK (status NOT IN ('failed', 'skipped') OR (error_kind IS NOT NULL AND error_since IS NOT NULL))
) STRICT;

-- What is still to be fetched of a folder, newest first.
CREATE INDEX items_pending ON items (folder, epoch, ordinal DESC) WHERE status = 'pending';

-- When something that waits for its time becomes due.
CREATE INDEX items_waiting ON items (next_retry_at) WHERE next_retry_at IS NOT NULL;

-- What jobs want. outcome is the item's status, or 'downloaded' where this job fetched it. folder repeats the item's, so that
-- a job's items are found, and counted, by folder and outcome.
CREATE TABLE wants (
    item INTEGER NOT NULL REFERENCES items,
    job INTEGER NOT NULL REFERENCES jobs,
    folder INTEGER NOT NULL REFERENCES folders,
    outcome TEXT NOT NULL CHECK (outcome IN ('pending', 'completed', 'failed', 'skipped', 'downloaded')),
    PRIMARY KEY (item, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX wants_by_outcome ON wants (job, folder, outcome, item);

-- Of each job and folder, its wants by outcome: skipped are those that were stored by others, too.
CREATE TABLE job_counters (
    job INTEGER NOT NULL REFERENCES jobs,
    folder INTEGER NOT NULL REFERENCES folders,
    total INTEGER NOT NULL DEFAULT 0,
    downloaded INTEGER NOT NULL DEFAULT 0 CHECK (downloaded >= 0),
    failed INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    skipped INTEGER NOT NULL DEFAULT 0 CHECK (skipped >= 0),
    bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    PRIMARY KEY (job, folder),
    CHECK (total >= downloaded + failed + skipped)
) STRICT, WITHOUT ROWID;

-- Of each folder, its items by status: downloaded are those that are stored.
CREATE TABLE folder_counters (
    folder INTEGER PRIMARY KEY REFERENCES folders,
    total INTEGER NOT NULL DEFAULT 0,
    downloaded INTEGER NOT NULL DEFAULT 0 CHECK (downloaded >= 0),
    failed INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    skipped INTEGER NOT NULL DEFAULT 0 CHECK (skipped >= 0),
    bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    CHECK (total >= downloaded + failed + skipped)
) STRICT;

-- job is the job's id and folder the display name, as they were then: an event outlives what it tells of.
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    job TEXT,
    folder TEXT,
    data TEXT NOT NULL CHECK (json_valid(data))
) STRICT;

-- A want follows the status of its item; only the claim 'downloaded' is made by hand, after it.
CREATE TRIGGER wants_follow AFTER UPDATE OF status ON items WHEN old.status <> new.status BEGIN
    UPDATE wants SET outcome = new.status WHERE item = new.number;
END;

-- Counters follow the rows they count, whichever statement writes them.
CREATE TRIGGER wants_counted AFTER INSERT ON wants BEGIN
    INSERT INTO job_counters (job, folder, total, downloaded, failed, skipped, bytes)
    VALUES (
        new.job,
        new.folder,
        1,
        new.outcome = 'downloaded',
        new.outcome = 'failed',
        new.outcome IN ('skipped', 'completed'),
        iif(new.outcome = 'downloaded', (SELECT size FROM items WHERE number = new.item), 0)
    )
    ON CONFLICT DO UPDATE SET
        total = total + 1,
        downloaded = downloaded + excluded.downloaded,
        failed = failed + excluded.failed,
        skipped = skipped + excluded.skipped,
        bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER wants_recounted AFTER UPDATE OF outcome ON wants WHEN old.outcome <> new.outcome BEGIN
    UPDATE job_counters SET
        downloaded = downloaded + (new.outcome = 'downloaded') - (old.outcome = 'downloaded'),
        failed = failed + (new.outcome = 'failed') - (old.outcome = 'failed'),
        skipped = skipped + (new.outcome IN ('skipped', 'completed')) - (old.outcome IN ('skipped', 'completed')),
        bytes = bytes
            + iif('downloaded' IN (new.outcome, old.outcome), (SELECT size FROM items WHERE number = new.item), 0)
            * ((new.outcome = 'downloaded') - (old.outcome = 'downloaded'))
    WHERE job = new.job AND folder = new.folder;
END;

CREATE TRIGGER items_counted AFTER INSERT ON items BEGIN
    INSERT INTO folder_counters (folder, total, downloaded, failed, skipped, bytes)
    VALUES (
        new.folder,
        1,
        new.status = 'completed',
        new.status = 'failed',
        new.status = 'skipped',
        iif(new.status = 'completed', new.size, 0)
    )
    ON CONFLICT DO UPDATE SET
        total = total + 1,
        downloaded = downloaded + excluded.downloaded,
        failed = failed + excluded.failed,
        skipped = skipped + excluded.skipped,
        bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER items_recounted AFTER UPDATE OF status ON items WHEN old.status <> new.status BEGIN
    UPDATE folder_counters SET
        downloaded = downloaded + (new.status = 'completed') - (old.status = 'completed'),
        failed = failed + (new.status = 'failed') - (old.status = 'failed'),
        skipped = skipped + (new.status = 'skipped') - (old.status = 'skipped'),
        bytes = bytes + iif(new.status = 'completed', new.size, 0) - iif(old.status = 'completed', old.size, 0)
    WHERE folder = new.folder;
END;

-- The counters above hold because a stored item's size stands.
CREATE TRIGGER items_stored_size_stands BEFORE UPDATE OF size ON items
WHEN old.status = 'completed' AND new.size IS NOT old.size BEGIN
    SELECT raise(ABORT, 'the size of a stored item does not change');
END;
