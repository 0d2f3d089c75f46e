-- The repositories that each registry listed when its list was last believed, by its address, so that one which suddenly
-- lists much less is not believed.
CREATE TABLE catalogues (
    endpoint    TEXT PRIMARY KEY,
    names       TEXT NOT NULL,           -- JSON, sorted
    believed_at TEXT NOT NULL,
    doubted     TEXT,                    -- JSON, sorted: what it has listed since; nothing: the last list was believed
    doubted_since TEXT,
    doubted_looks INTEGER,               -- how often in a row
    accepted_by TEXT,                    -- who said that such a list was right, the last time
    accepted_at TEXT
) STRICT, WITHOUT ROWID;
