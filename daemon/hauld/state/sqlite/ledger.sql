-- The ledger itself: its one row, and the stream of its events.

-- ledger --
-- What the ledger knows of itself.
SELECT ledger.*, stream.id AS stream FROM ledger, stream;

-- open_ledger --
-- Work begins. It is written even where it says so already, so that from now on there is a log beside the file.
UPDATE ledger SET open = 1, reconciled = iif(:lost, 0, reconciled), doubtful = :doubtful;

-- trust_ledger --
-- The whole file was looked through, and is sound.
UPDATE ledger SET doubtful = 0;

-- look_through --
-- What is wrong with the file, the first of it.
PRAGMA quick_check(1);

-- close_ledger --
-- Work has ended in order.
UPDATE ledger SET open = 0;

-- renew_stream --
-- The numbers of events begin to mean something else.
UPDATE stream SET id = lower(hex(randomblob(8)));

-- set_reconciled --
-- What the store holds has its rows.
UPDATE ledger SET reconciled = 1;

-- set_verified --
-- All that is stored was verified.
UPDATE ledger SET verified_at = :now;

-- checkpoint --
-- Bring the log into the file as far as no reader needs it; how many pages of the log are whole.
PRAGMA wal_checkpoint(PASSIVE);

-- write_copy --
-- The whole ledger as it is at this moment, in another file.
VACUUM INTO :path;
