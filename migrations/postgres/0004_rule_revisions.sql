-- The revisions of policies and settings that daemons with this state came with. Of each part one is in force; the others
-- were superseded, or came when a newer one was known.
CREATE TABLE rule_revisions (
    part            TEXT COLLATE "C" NOT NULL, -- policies or settings
    revision        TEXT COLLATE "C" NOT NULL, -- a hash
    git_commit      TEXT,                    -- of the checkout that it was read from; nothing: none, or not known
    committed_at    TEXT COLLATE "C",
    first_seen_at   TEXT COLLATE "C" NOT NULL,
    first_seen_by   TEXT NOT NULL,
    seen_at         TEXT COLLATE "C" NOT NULL, -- when a daemon last said that it goes by it
    seen_by         TEXT NOT NULL,
    superseded_at   TEXT COLLATE "C",        -- nothing: it is in force
    accepted_by     TEXT,                    -- who said that it is to count although a newer one was known
    accepted_reason TEXT,
    PRIMARY KEY (part, revision)
);
CREATE UNIQUE INDEX rule_revisions_in_force ON rule_revisions (part) WHERE superseded_at IS NULL;
