-- Tags that a person, or a restore, protects until a time.
CREATE TABLE holds (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint   TEXT NOT NULL,            -- of the registry; its name in the settings may change
    registry   TEXT NOT NULL,            -- that name when it was held
    repository TEXT NOT NULL,
    tag        TEXT NOT NULL,
    digest     TEXT NOT NULL,            -- the tag's when it was held; empty: there was none
    origin     TEXT NOT NULL,            -- person or restore
    reason     TEXT NOT NULL,
    held_by    TEXT NOT NULL,
    since      TEXT NOT NULL,
    until      TEXT NOT NULL,
    entry      INTEGER,                  -- the journal entry of the restore that set it
    ended_at   TEXT,                     -- nothing: until its time, unless a person ends it
    ended_by   TEXT
) STRICT;
CREATE UNIQUE INDEX holds_in_force ON holds (endpoint, repository, tag, digest, origin) WHERE ended_at IS NULL;
CREATE INDEX holds_by_digest ON holds (endpoint, repository, digest) WHERE ended_at IS NULL;

-- What restored tags count by: the time that they had when they were removed.
CREATE TABLE restored_tags (
    endpoint    TEXT NOT NULL,
    repository  TEXT NOT NULL,
    tag         TEXT NOT NULL,
    digest      TEXT NOT NULL,
    dated_at    TEXT,                    -- nothing: it is not known
    dated_by    TEXT,                    -- pushed, created or first-seen
    entry       INTEGER NOT NULL,        -- the journal entry of the restore
    restored_at TEXT NOT NULL,
    settled     INTEGER NOT NULL,        -- 0: the tag is about to be put
    left_at     TEXT,                    -- the registry's own time of the tag once it was put; nothing: it tells none
    PRIMARY KEY (endpoint, repository, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX restored_tags_by_entry ON restored_tags (entry);

-- Whoever asks a running enforcement to stop before its next removal, and waits for that.
CREATE TABLE interruptions (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    asked_by TEXT NOT NULL,              -- command and person
    until    TEXT NOT NULL               -- how long it waits
) STRICT;

-- Where the registry was, and by which time the tag was judged; nothing in entries of older versions.
ALTER TABLE journal ADD COLUMN endpoint TEXT;
ALTER TABLE journal ADD COLUMN dated_at TEXT;
ALTER TABLE journal ADD COLUMN dated_by TEXT;     -- pushed, created, first-seen or unknown
