-- Ledgers with millions of items: a page of a job's items costs the same in however many folders they are, and a start need not
-- wait until the whole file was looked through.

-- Of each job, its wants by outcome over all folders.
CREATE INDEX wants_of_job ON wants (job, outcome, item);

-- Whether the file is still to be looked through, because work on it was not ended in order.
ALTER TABLE ledger ADD COLUMN doubtful INTEGER NOT NULL DEFAULT 0 CHECK (doubtful IN (0, 1));
