-- Channels that have stored messages.
CREATE TABLE channels (
    id INTEGER PRIMARY KEY,
    hub TEXT NOT NULL,
    channel TEXT NOT NULL,
    UNIQUE (hub, channel)
) STRICT;

-- A channel's messages stand in the order of (ts_ms, id): a new row always gets the greatest id.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    channel_id INTEGER NOT NULL REFERENCES channels (id),
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    ts_ms INTEGER NOT NULL,
    -- 0 JSON, 1 text, 2 binary, 3 to be detected.
    form INTEGER NOT NULL,
    event TEXT NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (channel_id, epoch, sequence)
) STRICT;

-- For pages; the id is part of every index.
CREATE INDEX messages_by_channel ON messages (channel_id, ts_ms);

-- For removing the oldest, whatever their channel.
CREATE INDEX messages_by_age ON messages (ts_ms);

-- A channel goes with its last message.
CREATE TRIGGER channels_end AFTER DELETE ON messages
WHEN NOT EXISTS (SELECT 1 FROM messages WHERE channel_id = old.channel_id)
BEGIN
    DELETE FROM channels WHERE id = old.channel_id;
END;
