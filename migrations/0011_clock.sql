-- Tags are seen in a registry, whatever the settings call it: by its endpoint, which is the scheme, the host in lower case,
-- and the port where it is not the scheme's own. Rows of a name whose endpoint this state does not know have
-- `registry:` and the name instead, until that registry is read again.
ALTER TABLE observations RENAME TO old_observations;
ALTER TABLE looks RENAME TO old_looks;

-- The first look at a registry that read the list of its repositories whole. What is not here has had none.
CREATE TABLE first_looks (
    endpoint      TEXT PRIMARY KEY,
    first_look_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE looks (
    id            INTEGER PRIMARY KEY,
    endpoint      TEXT NOT NULL,
    repository    TEXT NOT NULL,
    first_look_at TEXT NOT NULL,
    pending       INTEGER NOT NULL DEFAULT 0, -- 1: listed at the registry's first look, and its tags could not be listed yet
    missed_since  TEXT,                       -- since when it is no longer listed; NULL: it was there at the last look
    UNIQUE (endpoint, repository)
) STRICT;

CREATE TABLE observations (
    look          INTEGER NOT NULL REFERENCES looks (id) ON DELETE CASCADE,
    tag           TEXT NOT NULL,
    digest        TEXT NOT NULL,
    first_seen    TEXT NOT NULL,
    at_first_look INTEGER NOT NULL,           -- 1: it was there before, nobody knows for how long;
                                              -- 2: it was there at a look before the registry's first whole one
    PRIMARY KEY (look, tag)
) STRICT, WITHOUT ROWID;

CREATE TABLE endpoints_of_looks (
    old      INTEGER PRIMARY KEY,
    endpoint TEXT NOT NULL
) STRICT;
INSERT INTO endpoints_of_looks (old, endpoint)
    SELECT old_looks.id, coalesce(rtrim(addresses.address, '/'), 'registry:' || old_looks.registry)
    FROM old_looks LEFT JOIN addresses ON addresses.registry = old_looks.registry;

INSERT INTO looks (id, endpoint, repository, first_look_at, missed_since)
    SELECT min(id), endpoint, repository, min(first_look_at),
           CASE WHEN count(missed_since) < count(*) THEN NULL ELSE max(missed_since) END
    FROM old_looks JOIN endpoints_of_looks ON old = id GROUP BY endpoint, repository;

-- Where two names meant one registry, the younger of two known sights counts: that errs on the side of keeping.
INSERT INTO observations (look, tag, digest, first_seen, at_first_look)
    SELECT look, tag, digest, first_seen, at_first_look FROM (
        SELECT looks.id AS look, tag, digest, first_seen, at_first_look,
               row_number() OVER (PARTITION BY looks.id, tag ORDER BY at_first_look, first_seen DESC, digest) AS place
        FROM old_observations
        JOIN old_looks ON old_looks.id = old_observations.look
        JOIN endpoints_of_looks ON old = old_looks.id
        JOIN looks ON looks.endpoint = endpoints_of_looks.endpoint AND looks.repository = old_looks.repository
    ) WHERE place = 1;

INSERT INTO first_looks (endpoint, first_look_at) SELECT endpoint, min(first_look_at) FROM looks GROUP BY endpoint;

DROP TABLE endpoints_of_looks;
DROP TABLE old_observations;
DROP TABLE old_looks;

-- Runs are in the order in which they were recorded, whatever their clock said.
ALTER TABLE runs ADD COLUMN number INTEGER;
UPDATE runs SET number = rowid;
CREATE UNIQUE INDEX runs_by_number ON runs (number);

-- 1: a registry's `Date` agreed with the clock of that run; those of before count as if it had.
ALTER TABLE runs ADD COLUMN clock_confirmed INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET clock_confirmed = 1;

-- One row: the newest time that a registry's `Date` agreed with, and who last said that the present time is right although
-- a later one was recorded.
CREATE TABLE clock (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    confirmed_at    TEXT,
    accepted_after  INTEGER NOT NULL DEFAULT 0, -- the times of runs up to that number say nothing
    accepted_at     TEXT,
    accepted_by     TEXT,
    accepted_reason TEXT
) STRICT;
INSERT INTO clock (id) VALUES (1);
