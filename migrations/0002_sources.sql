-- How much each source claimed when it last answered, so that one which suddenly says much less is not believed.
CREATE TABLE source_answers (
    source         TEXT PRIMARY KEY,
    claims         INTEGER NOT NULL,        -- at its last answer that was believed
    answered_at    TEXT NOT NULL,
    suspect_claims INTEGER,                 -- of an answer since that was not; nothing: there was none
    suspect_at     TEXT,
    accepted_by    TEXT,                    -- who said that such an answer was right, the last time
    accepted_at    TEXT
) STRICT, WITHOUT ROWID;
