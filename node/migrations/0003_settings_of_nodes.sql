-- Nodes without a common database take settings over from each other: of two that differ the later stamp counts.

-- Milliseconds of the writer's clock, at least one more than any stamp it knew; and the number of the writing node, which
-- decides between equal ones.
ALTER TABLE settings ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0;
ALTER TABLE settings ADD COLUMN stamped_by INTEGER NOT NULL DEFAULT 0;
-- The revision of this database in which the row came to be as it is.
ALTER TABLE settings ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;

-- What was removed, so that nobody brings it back.
CREATE TABLE settings_removals (
    hub TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    stamp INTEGER NOT NULL,
    stamped_by INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (hub, kind, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX settings_by_change ON settings (changed);
CREATE INDEX settings_removals_by_change ON settings_removals (changed);

CREATE TRIGGER settings_removals_added AFTER INSERT ON settings_removals BEGIN
    UPDATE settings_revision SET revision = revision + 1;
END;
CREATE TRIGGER settings_removals_changed AFTER UPDATE ON settings_removals BEGIN
    UPDATE settings_revision SET revision = revision + 1;
END;
