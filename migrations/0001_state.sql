-- Times are RFC 3339 in UTC with nine digits of a second, so that they sort as text.

-- Content that never changes, by its digest. May be emptied at any time.
CREATE TABLE manifests (
    digest     TEXT PRIMARY KEY,
    media_type TEXT NOT NULL,
    bytes      BLOB NOT NULL
) STRICT;

CREATE TABLE configs (
    digest     TEXT PRIMARY KEY,
    created_at TEXT                      -- nothing: the configuration does not say
) STRICT, WITHOUT ROWID;

-- When each tag was first seen at its digest, for registries that do not say.
CREATE TABLE looks (
    id            INTEGER PRIMARY KEY,
    registry      TEXT NOT NULL,
    repository    TEXT NOT NULL,
    first_look_at TEXT NOT NULL,
    UNIQUE (registry, repository)
) STRICT;

CREATE TABLE observations (
    look          INTEGER NOT NULL REFERENCES looks (id) ON DELETE CASCADE,
    tag           TEXT NOT NULL,
    digest        TEXT NOT NULL,
    first_seen    TEXT NOT NULL,
    at_first_look INTEGER NOT NULL,      -- 1: it was there before, nobody knows for how long
    PRIMARY KEY (look, tag)
) STRICT, WITHOUT ROWID;

-- The audit record.
CREATE TABLE runs (
    id          TEXT PRIMARY KEY,        -- UUIDv7, so in the order of their beginning
    kind        TEXT NOT NULL,
    mode        TEXT NOT NULL,
    started_at  TEXT NOT NULL,
    started_by  TEXT NOT NULL,
    version     TEXT NOT NULL,
    approved_by TEXT,
    ticket      TEXT,
    ended_at    TEXT,                    -- nothing: it runs, or was killed
    outcome     TEXT,
    exit_code   INTEGER,
    summary     TEXT,
    error       TEXT
) STRICT;

CREATE TABLE plans (
    run      TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    plan_id  TEXT NOT NULL,
    document BLOB NOT NULL               -- JSON, zlib
) STRICT;
CREATE INDEX plans_by_id ON plans (plan_id);

-- What was about to be done to a tag, and what came of it.
CREATE TABLE journal (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    run         TEXT NOT NULL REFERENCES runs (id),
    action      TEXT NOT NULL,
    registry    TEXT NOT NULL,
    repository  TEXT NOT NULL,
    tag         TEXT NOT NULL,
    digest      TEXT NOT NULL,
    media_type  TEXT NOT NULL,
    policy      TEXT,
    proof       TEXT NOT NULL,
    intended_at TEXT NOT NULL,
    outcome     TEXT,                    -- nothing: not settled yet
    skip        TEXT,
    detail      TEXT,
    settled_at  TEXT
) STRICT;
CREATE INDEX journal_by_run ON journal (run);
CREATE INDEX journal_by_digest ON journal (digest);
CREATE INDEX journal_by_tag ON journal (registry, repository, tag);
CREATE INDEX journal_unsettled ON journal (id) WHERE outcome IS NULL;

-- The exact manifests behind journaled tags: what `restore` puts back. Kept as long as the journal names them.
CREATE TABLE journaled_manifests (
    digest TEXT PRIMARY KEY,
    bytes  BLOB NOT NULL
) STRICT;

-- Registries in which an untag destroyed a manifest.
CREATE TABLE destroyers (
    registry TEXT PRIMARY KEY,
    since    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
