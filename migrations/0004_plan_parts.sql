-- Plans in parts, so that nobody holds the plan of a large registry whole.
CREATE TABLE plan_parts (
    run   TEXT NOT NULL REFERENCES plans (run) ON DELETE CASCADE,
    part  INTEGER NOT NULL,
    bytes BLOB NOT NULL,                 -- in their order: JSON, zlib
    PRIMARY KEY (run, part)
) STRICT;

INSERT INTO plan_parts (run, part, bytes) SELECT run, 0, document FROM plans;
ALTER TABLE plans DROP COLUMN document;
