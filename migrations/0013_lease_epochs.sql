-- How often each lease was taken, and by whom last: whoever has an older epoch lost it since. The lock itself is a file.
CREATE TABLE leases (
    name     TEXT PRIMARY KEY,               -- run
    epoch    INTEGER NOT NULL,               -- rises by one each time
    holder   TEXT NOT NULL,
    taken_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The epoch of the lease under which an entry was written; nothing in entries of older versions.
ALTER TABLE journal ADD COLUMN epoch INTEGER;
