//! What the journal tells of manifests that tags were taken from.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;

use super::journal::JournalId;
use super::{SqliteState, StateError, UntaggedManifests};
use crate::domain::{
    Action, Digest, RegistryName, RemovalMethod, RemovedTag, RepositoryName, SkipReason, TagName, UntaggedManifest,
};

/// What the journal tells of a manifest that Tagwarden took tags from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UntagRecord {
    /// It is there by the journal's word, without its tags.
    Untagged {
        /// The manifest, each of its tags with the first of its policies only.
        untagged: UntaggedManifest,
        /// The entries of its tags, in the same order; they have all of their policies.
        entries: Vec<JournalId>,
    },
    /// Something about it is not settled, or all of its tags were put back: it is no business of anybody's deletion.
    Excluded {
        /// The repository.
        repository: RepositoryName,
        /// Its digest.
        digest: Digest,
    },
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    repository: String,
    tag: String,
    digest: String,
    action: String,
    outcome: Option<String>,
    skip: Option<String>,
    policy: Option<String>,
    resolved_at: Option<String>,
    /// Whether it is a deletion that was not done while that of something it hangs on was.
    parted: bool,
}

/// The entries of one digest in one repository.
#[derive(Default)]
struct DigestEntries {
    repository: String,
    digest: String,
    /// The last that was done to each tag at this digest since it was deleted, if it ever was.
    tags: BTreeMap<String, Row>,
    /// The last deletion since then that left it behind, when what it hung on went.
    failed_deletion: Option<Row>,
    /// Whether something was begun of which nobody knows yet what came of it.
    has_pending: bool,
}

/// In this order only one digest is held at a time. What was begun to be deleted with another manifest is looked up
/// among the deletions under that one's tag in the same run.
const SELECT_ENTRIES: &str = "
    SELECT id, repository, tag, digest, action, outcome, skip, policy, resolved_at,
           CASE WHEN action = 'delete-untagged' AND outcome <> 'done' THEN EXISTS (
               SELECT 1 FROM journal AS other
               WHERE other.registry = journal.registry AND other.repository = journal.repository
                 AND journal.tag <> '' AND other.tag = journal.tag AND other.run = journal.run AND other.digest <> journal.digest
                 AND other.action = 'delete-untagged' AND (other.outcome = 'done' OR other.skip IN ('missing', 'gone'))
           ) ELSE 0 END AS parted
    FROM journal
    WHERE registry = ?1 AND (outcome = 'done' OR outcome IS NULL OR action = 'delete-untagged')
    ORDER BY repository, digest, id";

#[async_trait]
impl UntaggedManifests for SqliteState {
    async fn visit_untagged(
        &self,
        registry: &RegistryName,
        visit: &mut (dyn FnMut(UntagRecord) + Send),
    ) -> Result<(), StateError> {
        let mut rows = sqlx::query_as::<_, Row>(SELECT_ENTRIES).bind(registry.as_str()).fetch(&self.0.readers);
        let fault = |error: sqlx::Error| self.sqlx_error("read what was untagged", error);
        let mut lines = DigestEntries::default();
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            if row.repository != lines.repository || row.digest != lines.digest {
                let next = DigestEntries {
                    repository: row.repository.clone(),
                    digest: row.digest.clone(),
                    ..DigestEntries::default()
                };
                self.untag_record(registry, &std::mem::replace(&mut lines, next))?.into_iter().for_each(&mut *visit);
            }
            lines.add(row);
        }
        self.untag_record(registry, &lines)?.into_iter().for_each(visit);
        Ok(())
    }
}

impl SqliteState {
    /// What the entries of a digest say of it; nothing where it is not there without tags by our doing.
    fn untag_record(&self, registry: &RegistryName, lines: &DigestEntries) -> Result<Option<UntagRecord>, StateError> {
        let taken: Vec<&Row> =
            if lines.tags.is_empty() { lines.failed_deletion.iter().collect() } else { lines.tags.values().collect() };
        let destroyed = taken.iter().any(|row| row.action == Action::Remove(RemovalMethod::DeleteManifest).label());
        if !lines.has_pending && (taken.is_empty() || destroyed) {
            return Ok(None);
        }
        let (repository, digest) = (self.read(&lines.repository)?, self.read(&lines.digest)?);
        let entries = taken.iter().map(|row| JournalId(row.id)).collect();
        let tags = taken.iter().map(|row| self.removed_tag(row)).collect::<Result<Vec<RemovedTag>, _>>()?;
        Ok(Some(if lines.has_pending || tags.iter().all(|tag| tag.restored) {
            UntagRecord::Excluded { repository, digest }
        } else {
            let registry = registry.clone();
            UntagRecord::Untagged {
                untagged: UntaggedManifest { registry, repository, digest, tags, manifest: None },
                entries,
            }
        }))
    }

    fn removed_tag(&self, row: &Row) -> Result<RemovedTag, StateError> {
        let policy = row.policy.as_deref().map(|name| self.read(name)).transpose()?;
        Ok(RemovedTag {
            name: self.read::<TagName>(&row.tag)?,
            at: self.read::<Timestamp>(row.resolved_at.as_deref().unwrap_or_default())?,
            policies: policy.into_iter().collect(),
            restored: row.action == Action::Restore.label(),
        })
    }
}

impl DigestEntries {
    /// One more entry, later than the others.
    fn add(&mut self, row: Row) {
        if row.outcome.is_none() {
            self.has_pending = true;
        } else if row.action == Action::DeleteUntagged.label() {
            if row.is_deleted() {
                self.tags.clear();
                self.failed_deletion = None;
            } else if row.parted && row.is_failed_deletion() {
                self.failed_deletion = Some(row);
            }
        } else if row.action == Action::RestoreManifest.label() {
            // Wanted again, and by no tag's word.
            self.failed_deletion = None;
        } else {
            self.tags.insert(row.tag.clone(), row);
        }
    }
}

impl Row {
    /// Whether a deletion is done, by us or by somebody else.
    fn is_deleted(&self) -> bool {
        self.outcome.as_deref() == Some("done") || self.current_skip() == Some(SkipReason::Missing.label())
    }

    /// Whether a deletion was begun and did not come about, for no reason of the manifest's own.
    fn is_failed_deletion(&self) -> bool {
        let skips = ["recovered", "interrupted", "stopped", "blocked"];
        self.outcome.as_deref() == Some("failed") || self.current_skip().is_some_and(|skip| skips.contains(&skip))
    }

    /// The label of the skip, in the spelling of this version.
    fn current_skip(&self) -> Option<&str> {
        self.skip.as_deref().map(SkipReason::current_label)
    }
}
