-- The policies that runs went by, once for each revision of all their files together.
CREATE TABLE policy_sets (
    revision TEXT PRIMARY KEY,               -- as in `circumstances`
    policies TEXT NOT NULL                   -- JSON: [{"name", "mode", "file", "revision"}]
) STRICT, WITHOUT ROWID;

-- The text of each policy file, by its hash.
CREATE TABLE policy_texts (
    revision TEXT PRIMARY KEY,
    text     TEXT NOT NULL
) STRICT;

-- The tags of each repository at the last whole look, so that one which somebody else removed is missed.
CREATE TABLE rosters (
    endpoint   TEXT NOT NULL,
    repository TEXT NOT NULL,
    seen_at    TEXT NOT NULL,
    hash       TEXT NOT NULL,                -- of the lines
    lines      BLOB NOT NULL,                -- `tag digest`, the digest shortened; zlib
    PRIMARY KEY (endpoint, repository)
) STRICT;

-- Tags that were there at one look, were not at the next, and were not removed by Tagwarden in between.
CREATE TABLE departures (
    endpoint   TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag        TEXT NOT NULL,
    digest     TEXT NOT NULL,                -- shortened
    seen_at    TEXT NOT NULL,
    missed_at  TEXT NOT NULL,
    PRIMARY KEY (endpoint, repository, tag, missed_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX departures_by_time ON departures (missed_at);
