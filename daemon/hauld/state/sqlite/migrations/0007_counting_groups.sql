-- A group of items is counted at once and not row by row: meanwhile the triggers that follow and count rest.

-- Whether a transaction does itself what the triggers below would do. In between, it never does.
CREATE TABLE counting (by_hand INTEGER NOT NULL CHECK (by_hand IN (0, 1))) STRICT;

INSERT INTO counting VALUES (0);

DROP TRIGGER wants_follow;

DROP TRIGGER wants_recounted;

DROP TRIGGER items_recounted;

-- A want follows the status of its item; only the claim 'downloaded' is made by hand, after it.
CREATE TRIGGER wants_follow AFTER UPDATE OF status ON items
WHEN old.status <> new.status AND (SELECT by_hand FROM counting) = 0 BEGIN
    UPDATE wants SET outcome = new.status WHERE item = new.number;
END;

CREATE TRIGGER wants_recounted AFTER UPDATE OF outcome ON wants
WHEN old.outcome <> new.outcome AND (SELECT by_hand FROM counting) = 0 BEGIN
    UPDATE job_counters SET
        downloaded = downloaded + (new.outcome = 'downloaded') - (old.outcome = 'downloaded'),
        failed = failed + (new.outcome = 'failed') - (old.outcome = 'failed'),
        skipped = skipped + (new.outcome IN ('skipped', 'completed')) - (old.outcome IN ('skipped', 'completed')),
        bytes = bytes
            + iif('downloaded' IN (new.outcome, old.outcome), (SELECT size FROM items WHERE number = new.item), 0)
            * ((new.outcome = 'downloaded') - (old.outcome = 'downloaded'))
    WHERE job = new.job AND folder = new.folder;
END;

CREATE TRIGGER items_recounted AFTER UPDATE OF status ON items
WHEN old.status <> new.status AND (SELECT by_hand FROM counting) = 0 BEGIN
    UPDATE folder_counters SET
        downloaded = downloaded + (new.status = 'completed') - (old.status = 'completed'),
        failed = failed + (new.status = 'failed') - (old.status = 'failed'),
        skipped = skipped + (new.status = 'skipped') - (old.status = 'skipped'),
        bytes = bytes + iif(new.status = 'completed', new.size, 0) - iif(old.status = 'completed', old.size, 0)
    WHERE folder = new.folder;
END;
