-- The history of a tag is in the chunks of its repository that have removals, in all plans.
CREATE INDEX plan_chunks_removals ON plan_chunks (registry, repository, run, ordinal) WHERE expired > 0;
