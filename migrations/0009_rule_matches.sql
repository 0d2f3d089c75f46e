-- When each rule of a policy last matched something, by the address of the registry where it did. An edited rule is another one.
CREATE TABLE rule_matches (
    policy     TEXT NOT NULL,
    key        TEXT NOT NULL,                -- tags, repositories, ...; `select` for the whole selector
    rule       TEXT NOT NULL,                -- as written
    endpoint   TEXT NOT NULL,
    matched_at TEXT NOT NULL,
    PRIMARY KEY (policy, key, rule, endpoint)
) STRICT, WITHOUT ROWID;

-- The rules that never matched, as the last plan of everything found that could judge them.
CREATE TABLE unmatched_rules (
    policy    TEXT NOT NULL,
    key       TEXT NOT NULL,
    rule      TEXT NOT NULL,
    judged_at TEXT NOT NULL,
    PRIMARY KEY (policy, key, rule)
) STRICT, WITHOUT ROWID;
