-- Tags that a registry refused to remove although it removes others: tried again less and less often.
CREATE TABLE refused_tags (
    endpoint   TEXT NOT NULL,            -- without a slash at its end
    repository TEXT NOT NULL,
    tag        TEXT NOT NULL,
    digest     TEXT NOT NULL,            -- that the tag named then
    times      INTEGER NOT NULL,         -- runs that met the refusal
    last_at    TEXT NOT NULL,
    message    TEXT NOT NULL,            -- the registry's words of the last time
    PRIMARY KEY (endpoint, repository, tag)
) STRICT, WITHOUT ROWID;
