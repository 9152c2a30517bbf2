-- What tenants set through the administration interface, and the hubs that were made for clients.
CREATE TABLE settings (
    hub TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('api', 'dynamic')),
    -- Tells a resource from an earlier one of the same name.
    uid TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation > 0),
    -- JSON.
    resource TEXT NOT NULL,
    PRIMARY KEY (hub, kind, name)
) STRICT, WITHOUT ROWID;

-- Rises with each change, whoever makes it, so that one number tells whether there is anything new to read.
CREATE TABLE settings_revision (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO settings_revision (id, revision) VALUES (1, 0);

CREATE TRIGGER settings_added AFTER INSERT ON settings BEGIN
    UPDATE settings_revision SET revision = revision + 1;
END;
CREATE TRIGGER settings_changed AFTER UPDATE ON settings BEGIN
    UPDATE settings_revision SET revision = revision + 1;
END;
CREATE TRIGGER settings_removed AFTER DELETE ON settings BEGIN
    UPDATE settings_revision SET revision = revision + 1;
END;
