-- Entries are written in the order of their tags, and digests have none: an index of all digests rewrote a page for each
-- entry. Only deletions of manifests are looked up by digest; `prune` reads the digests from the other index.
DROP INDEX journal_by_digest;
DROP INDEX journal_by_tag;
CREATE INDEX journal_by_tag ON journal (registry, repository, tag, digest);
CREATE INDEX journal_deletions ON journal (digest) WHERE action = 'delete-untagged';
CREATE INDEX journal_manifest_removals ON journal (digest) WHERE action = 'delete-manifest';
