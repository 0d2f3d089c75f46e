-- Tables and columns by the names that everything else has. Nothing in their rows changes: entries of the journal keep the
-- labels that they were written with.

ALTER TABLE circumstances RENAME TO run_contexts;
ALTER TABLE run_contexts RENAME COLUMN due TO enforced_policies;
ALTER TABLE run_contexts RENAME COLUMN held_back TO blocked_by;
ALTER TABLE run_contexts RENAME COLUMN despite TO override_reason;

ALTER TABLE first_looks RENAME TO first_reads;
ALTER TABLE first_reads RENAME COLUMN first_look_at TO first_read_at;
ALTER TABLE looks RENAME TO observed_repositories;
ALTER TABLE observed_repositories RENAME COLUMN first_look_at TO first_read_at;
ALTER TABLE observations RENAME COLUMN look TO repository_id;
-- 0: it came when it was first seen; 1: it was there before; 2: it was there before the registry's first whole list.
ALTER TABLE observations RENAME COLUMN at_first_look TO presence;

ALTER TABLE destroyers RENAME TO destructive_untags;
ALTER TABLE experience RENAME COLUMN what TO effect;

ALTER TABLE rosters RENAME TO tag_lists;
ALTER TABLE departures RENAME TO missing_tags;
DROP INDEX departures_by_time;
CREATE INDEX missing_tags_by_time ON missing_tags (missed_at);

ALTER TABLE source_answers RENAME TO source_baselines;
ALTER TABLE source_baselines RENAME COLUMN answered_at TO queried_at;

ALTER TABLE catalogues RENAME COLUMN believed_at TO trusted_at;
ALTER TABLE catalogues RENAME COLUMN doubted TO suspect_names;
ALTER TABLE catalogues RENAME COLUMN doubted_since TO suspect_since;
ALTER TABLE catalogues RENAME COLUMN doubted_looks TO suspect_reads;

ALTER TABLE interruptions RENAME TO stop_requests;
ALTER TABLE stop_requests RENAME COLUMN asked_by TO requested_by;

ALTER TABLE restored_tags RENAME COLUMN settled TO complete;
ALTER TABLE restored_tags RENAME COLUMN left_at TO registry_time;

ALTER TABLE journal RENAME COLUMN settled_at TO resolved_at;
ALTER TABLE journal RENAME COLUMN proof TO evidence;
DROP INDEX journal_unsettled;
CREATE INDEX journal_pending ON journal (id) WHERE outcome IS NULL;

ALTER TABLE addresses RENAME TO registry_addresses;
ALTER TABLE schedules RENAME COLUMN handled_until TO processed_until;

-- Problems that receivers of notifications were told and that are not over, so that a restart does not tell them again.
CREATE TABLE notifications (
    receiver TEXT NOT NULL,                  -- the name in the settings
    problem  TEXT NOT NULL,                  -- kind of run, occasion, and what tells one problem from another
    sent_at  TEXT NOT NULL,                  -- the last time
    PRIMARY KEY (receiver, problem)
) STRICT, WITHOUT ROWID;
