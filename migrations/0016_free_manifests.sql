-- Since when every run found a manifest free that no tag references: no index, referrer, claim, mention, lock or hold
-- either. A run that does not find it free deletes its row.
CREATE TABLE free_manifests (
    endpoint   TEXT NOT NULL,           -- of the registry, without a slash at the end
    repository TEXT NOT NULL,
    digest     TEXT NOT NULL,
    since      TEXT NOT NULL,           -- the first run of the unbroken series
    PRIMARY KEY (endpoint, repository, digest)
) STRICT, WITHOUT ROWID;
