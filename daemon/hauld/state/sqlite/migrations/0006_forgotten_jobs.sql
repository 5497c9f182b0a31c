-- Large jobs that are deleted: nobody sees them from the first transaction on, and their wants go piece by piece.

-- Whether the job was deleted; its row goes with the last of its wants.
ALTER TABLE jobs ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1));

-- Whose wants are still to go.
CREATE INDEX jobs_forgotten ON jobs (number) WHERE forgotten = 1;

-- A job that is forgotten was counted as a change then, and not once more with its row.
DROP TRIGGER jobs_deleted_change;

CREATE TRIGGER jobs_deleted_change AFTER DELETE ON jobs WHEN old.forgotten = 0 BEGIN
    UPDATE ledger SET changes = changes + 1;
END;

CREATE TRIGGER jobs_forgotten_change AFTER UPDATE OF forgotten ON jobs WHEN old.forgotten <> new.forgotten BEGIN
    UPDATE ledger SET changes = changes + 1;
END;
