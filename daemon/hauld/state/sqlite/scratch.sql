-- Tables of the writer's own connection, gone when it closes. Those of one transaction are emptied before they are used.

-- Folders that are being listed, and how many new items that has shown so far.
CREATE TEMP TABLE listings (
    folder INTEGER PRIMARY KEY,
    new INTEGER NOT NULL DEFAULT 0
);

-- What the pages of these listings have named.
CREATE TEMP TABLE named (
    folder INTEGER NOT NULL,
    item INTEGER NOT NULL,
    PRIMARY KEY (folder, item)
) WITHOUT ROWID;

-- One page of a listing, in the source's order; item is found once the rows are there.
CREATE TEMP TABLE page (
    key TEXT NOT NULL UNIQUE ON CONFLICT REPLACE,
    ordinal INTEGER NOT NULL,
    size INTEGER,
    flags TEXT NOT NULL,
    date INTEGER,
    skip TEXT,
    item INTEGER
);

-- What became of the items of one group. verdict is 'applied', 'settled' (nothing is left to do) or 'refused'; was is what the
-- item was before.
CREATE TEMP TABLE results (
    item INTEGER PRIMARY KEY ON CONFLICT IGNORE,
    becomes TEXT NOT NULL,
    epoch TEXT,
    key TEXT,
    size INTEGER,
    sha256 TEXT,
    path TEXT,
    flags TEXT,
    size_differs INTEGER,
    error_kind TEXT,
    error_text TEXT,
    attempt INTEGER,
    folder INTEGER,
    was TEXT,
    verdict TEXT NOT NULL DEFAULT 'refused'
);

-- Stored items that go with the last job that wanted them.
CREATE TEMP TABLE purged (
    item INTEGER PRIMARY KEY
);

-- Their paths, those of conflicts included.
CREATE TEMP TABLE purged_paths (
    path TEXT PRIMARY KEY ON CONFLICT IGNORE
) WITHOUT ROWID;

-- Bytes that came under the key of an item, besides those it has: a conflict where they are other ones.
CREATE TEMP TABLE candidates (
    item INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    path TEXT NOT NULL
);

-- Files of one folder that a store found.
CREATE TEMP TABLE found (
    epoch TEXT NOT NULL,
    key TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    path TEXT NOT NULL,
    flags TEXT NOT NULL,
    date INTEGER
);

-- Items that wait, and the stored ones of another epoch that they are.
CREATE TEMP TABLE pairs (
    item INTEGER PRIMARY KEY ON CONFLICT IGNORE,
    stored INTEGER NOT NULL UNIQUE ON CONFLICT IGNORE
);
