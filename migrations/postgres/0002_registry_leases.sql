-- Who may change a registry, by its endpoint: two names of one registry share it. It is taken by the transaction that writes
-- the first intent of a run for that registry, and each later intent proves it. It is renewed together with `run`.
CREATE TABLE registry_leases (
    endpoint   TEXT COLLATE "C" PRIMARY KEY, -- as in the journal
    epoch      BIGINT NOT NULL,              -- rises by one each time
    run_epoch  BIGINT NOT NULL,              -- of the lease `run` of whoever took it
    holder     TEXT NOT NULL,
    taken_at   TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL DEFAULT '-infinity'
);

-- Entries that a takeover closed although their request may still arrive: their tags are looked at again.
CREATE INDEX journal_superseded ON journal (id) WHERE skip = 'superseded';
