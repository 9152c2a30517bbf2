-- What administrators keep for channels. It is told to other nodes as settings are, and belongs to hubs of any source.
CREATE TABLE channel_metadata (
    hub TEXT NOT NULL,
    channel TEXT NOT NULL,
    -- When it was written or removed, and by which node, as with settings.
    stamp INTEGER NOT NULL,
    node INTEGER NOT NULL,
    -- 48 bits of a hash of the row; 0: it was removed.
    digest INTEGER NOT NULL,
    -- The revision of channel_metadata_state at which this database last changed it.
    changed INTEGER NOT NULL DEFAULT 0,
    -- JSON; NULL: it was removed. The last column, because what is beside it is read without it.
    value TEXT,
    PRIMARY KEY (hub, channel)
) STRICT;
CREATE INDEX channel_metadata_by_change ON channel_metadata (changed);
CREATE INDEX channel_metadata_held ON channel_metadata (hub) WHERE value IS NOT NULL;
CREATE INDEX channel_metadata_removed ON channel_metadata (stamp) WHERE value IS NULL;

-- What can be said of all rows together without reading them.
CREATE TABLE channel_metadata_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Rises with each change, whoever makes it.
    revision INTEGER NOT NULL,
    -- How many channels have metadata.
    held INTEGER NOT NULL,
    -- The sum of the rows' digests, in 48 bits: databases that hold the same have the same.
    digest INTEGER NOT NULL
) STRICT;
INSERT INTO channel_metadata_state (id, revision, held, digest) VALUES (1, 0, 0, 0);

CREATE TRIGGER channel_metadata_added AFTER INSERT ON channel_metadata BEGIN
    UPDATE channel_metadata_state
    SET revision = revision + 1, held = held + (new.value IS NOT NULL), digest = (digest + new.digest) & 0xffffffffffff;
    UPDATE channel_metadata SET changed = (SELECT revision FROM channel_metadata_state)
    WHERE hub = new.hub AND channel = new.channel;
END;
CREATE TRIGGER channel_metadata_changed AFTER UPDATE OF stamp, node, digest, value ON channel_metadata BEGIN
    UPDATE channel_metadata_state
    SET revision = revision + 1,
        held = held + (new.value IS NOT NULL) - (old.value IS NOT NULL),
        digest = (digest + new.digest - old.digest) & 0xffffffffffff;
    UPDATE channel_metadata SET changed = (SELECT revision FROM channel_metadata_state)
    WHERE hub = new.hub AND channel = new.channel;
END;
CREATE TRIGGER channel_metadata_gone AFTER DELETE ON channel_metadata BEGIN
    UPDATE channel_metadata_state
    SET held = held - (old.value IS NOT NULL), digest = (digest - old.digest) & 0xffffffffffff;
END;
