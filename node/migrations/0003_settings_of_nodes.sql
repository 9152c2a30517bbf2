-- Nodes without a common database tell each other what they hold: the later write of an identity wins everywhere.
--
-- When a row was written: Unix milliseconds, or more if something greater had been seen; then the node that wrote it.
-- Rows from before lose against everything that is written by hand from now on.
ALTER TABLE settings ADD COLUMN stamp INTEGER NOT NULL DEFAULT 1;
ALTER TABLE settings ADD COLUMN node INTEGER NOT NULL DEFAULT 0;
-- The revision at which this database last changed it: others read what changed since they last did.
ALTER TABLE settings ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX settings_by_change ON settings (changed);

-- What is gone, so that nobody gives it back. That of a hub covers everything of the hub that was written before, and
-- stays when there is a new hub of the same name.
CREATE TABLE settings_removed (
    hub TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    stamp INTEGER NOT NULL,
    node INTEGER NOT NULL,
    changed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hub, kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX settings_removed_by_change ON settings_removed (changed);
CREATE INDEX settings_removed_by_age ON settings_removed (stamp);

-- The greatest stamp that was seen.
ALTER TABLE settings_revision ADD COLUMN clock INTEGER NOT NULL DEFAULT 0;

DROP TRIGGER settings_added;
DROP TRIGGER settings_changed;
CREATE TRIGGER settings_added AFTER INSERT ON settings BEGIN
    UPDATE settings_revision SET revision = revision + 1;
    UPDATE settings SET changed = (SELECT revision FROM settings_revision)
    WHERE hub = new.hub AND kind = new.kind AND name = new.name;
END;
CREATE TRIGGER settings_changed
AFTER UPDATE OF hub, kind, name, source, uid, generation, resource, stamp, node ON settings BEGIN
    UPDATE settings_revision SET revision = revision + 1;
    UPDATE settings SET changed = (SELECT revision FROM settings_revision)
    WHERE hub = new.hub AND kind = new.kind AND name = new.name;
END;
CREATE TRIGGER settings_removed_added AFTER INSERT ON settings_removed BEGIN
    UPDATE settings_revision SET revision = revision + 1;
    UPDATE settings_removed SET changed = (SELECT revision FROM settings_revision)
    WHERE hub = new.hub AND kind = new.kind AND name = new.name;
END;
CREATE TRIGGER settings_removed_changed AFTER UPDATE OF stamp, node ON settings_removed BEGIN
    UPDATE settings_revision SET revision = revision + 1;
    UPDATE settings_removed SET changed = (SELECT revision FROM settings_revision)
    WHERE hub = new.hub AND kind = new.kind AND name = new.name;
END;

UPDATE settings SET stamp = 1;
