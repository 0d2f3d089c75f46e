-- Up to which time each schedule was looked after, so that what a restart or a sleep left out is made up for once.
CREATE TABLE schedules (
    schedule      TEXT PRIMARY KEY,          -- cron expression and time zone
    handled_until TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What a run went by besides its settings.
CREATE TABLE circumstances (
    run        TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    revision   TEXT,                         -- of all policy files
    git_commit TEXT,                         -- of their folder, where it is a checkout
    due        TEXT,                         -- the policies that could remove, by name; nothing: all
    held_back  TEXT,                         -- why nothing was removed although settings and policies enforce
    despite    TEXT                          -- why a person had it removed in spite of that
) STRICT;

-- Since when a repository is no longer listed; nothing: it was there at the last look.
ALTER TABLE looks ADD COLUMN missed_since TEXT;
