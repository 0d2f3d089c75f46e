-- Who may change a registry, by its endpoint: two names of one registry share it. It is taken by the transaction that writes
-- the first intent of a run for that registry, and each later intent proves it.
CREATE TABLE registry_leases (
    endpoint  TEXT PRIMARY KEY,              -- as in the journal
    epoch     INTEGER NOT NULL,              -- rises by one each time
    run_epoch INTEGER NOT NULL,              -- of the lease `run` of whoever took it
    holder    TEXT NOT NULL,
    taken_at  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Entries that a takeover closed although their request may still arrive: their tags are looked at again.
CREATE INDEX journal_superseded ON journal (id) WHERE skip = 'superseded';
