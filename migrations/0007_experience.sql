-- What removals showed of a registry, by its endpoint: under another name it is the same registry, at another address it
-- is another one.
CREATE TABLE experience (
    endpoint TEXT NOT NULL,              -- scheme, host and port, without a slash at the end
    method   TEXT NOT NULL,              -- untag, manifest
    what     TEXT NOT NULL,              -- survives, destroyed, unsupported, accepted
    since    TEXT NOT NULL,              -- the first time
    last_at  TEXT NOT NULL,              -- the last time
    PRIMARY KEY (endpoint, method, what)
) STRICT, WITHOUT ROWID;

-- A mark that was made while its registry was at the address that is known. The others stay, and are read by name:
-- nobody knows where they were made.
INSERT INTO experience (endpoint, method, what, since, last_at)
SELECT rtrim(addresses.address, '/'), 'untag', 'destroyed', min(destroyers.since), max(destroyers.since)
FROM destroyers JOIN addresses ON addresses.registry = destroyers.registry
WHERE addresses.since IS NULL OR addresses.since <= destroyers.since
GROUP BY rtrim(addresses.address, '/');

DELETE FROM destroyers WHERE registry IN (
    SELECT destroyers.registry
    FROM destroyers JOIN addresses ON addresses.registry = destroyers.registry
    WHERE addresses.since IS NULL OR addresses.since <= destroyers.since
);
