-- Plans by repository, each part compressed for itself, so that a page reads only what it shows.
ALTER TABLE plans ADD COLUMN head BLOB;        -- JSON without its two long lists, compressed; nothing: still in `plan_parts`
ALTER TABLE plans ADD COLUMN whole INTEGER NOT NULL DEFAULT 0; -- 1: made of everything, as of its own time

-- Written before the plan itself, which makes them visible.
CREATE TABLE plan_chunks (
    run                    TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    ordinal                INTEGER NOT NULL,
    registry               TEXT NOT NULL,
    repository             TEXT NOT NULL,
    expired                INTEGER NOT NULL,
    retained               INTEGER NOT NULL,
    protected              INTEGER NOT NULL,
    undecided              INTEGER NOT NULL,
    out_of_scope           INTEGER NOT NULL,
    reclaimable_bytes      INTEGER NOT NULL,
    shared_bytes           INTEGER NOT NULL,
    unknown_bytes_removals INTEGER NOT NULL,
    hash                   TEXT NOT NULL,     -- of both lists
    removals               BLOB NOT NULL,     -- JSON, compressed; empty: none
    PRIMARY KEY (run, ordinal)
) STRICT;
CREATE TRIGGER plan_chunks_of_forgotten_plans AFTER DELETE ON plans BEGIN
    DELETE FROM plan_chunks WHERE run = old.run;
END;

-- The tags that stay, of the last plan only. Plans share the lists that do not change between them.
CREATE TABLE plan_kept (
    run     TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    list    TEXT NOT NULL REFERENCES kept_lists (hash),
    PRIMARY KEY (run, ordinal),
    FOREIGN KEY (run, ordinal) REFERENCES plan_chunks (run, ordinal) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX plan_kept_by_list ON plan_kept (list);

CREATE TABLE kept_lists (
    hash  TEXT PRIMARY KEY,                   -- of the bytes
    bytes BLOB NOT NULL                       -- JSON, compressed
) STRICT;
