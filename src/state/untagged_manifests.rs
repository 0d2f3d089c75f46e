//! The journal's records of manifests from which tags were removed.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;

use super::journal::JournalId;
use super::row_reader::RowReader;
use super::{SqliteState, StateError, UntaggedManifests};
use crate::domain::{
    Action, Digest, RegistryName, RemovalMethod, RemovedTag, RepositoryName, SkipReason, TagName, UntaggedManifest,
};

/// The journal's record of a manifest from which Tagwarden removed tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UntagRecord {
    /// It exists according to the journal, without its tags.
    Untagged {
        /// The manifest, each of its tags with the first of its policies only.
        untagged: UntaggedManifest,
        /// The entries of its tags, in the same order; these have all of their policies.
        entries: Vec<JournalId>,
    },
    /// An entry of it is unresolved, or all of its tags were restored: it is not eligible for deletion.
    Excluded {
        /// The repository.
        repository: RepositoryName,
        /// Its digest.
        digest: Digest,
    },
}

/// An entry as far as it tells of a manifest.
#[derive(sqlx::FromRow)]
pub(super) struct UntagRow {
    id: i64,
    repository: String,
    tag: String,
    digest: String,
    action: String,
    outcome: Option<String>,
    skip: Option<String>,
    policy: Option<String>,
    resolved_at: Option<String>,
    /// True if its deletion was not carried out although that of a manifest it depends on was.
    parted: bool,
}

/// The entries of one digest in one repository.
#[derive(Default)]
struct DigestEntries {
    repository: String,
    digest: String,
    /// The last that was done to each tag at this digest since it was deleted, if it ever was.
    tags: BTreeMap<String, UntagRow>,
    /// The last deletion since then that left it behind, when what it hung on went.
    failed_deletion: Option<UntagRow>,
    /// Whether something was begun of which nobody knows yet what came of it.
    has_pending: bool,
}

/// In this order only one digest is in memory at a time. A deletion that was begun with another manifest is looked up
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
        let mut rows = sqlx::query_as::<_, UntagRow>(SELECT_ENTRIES).bind(registry.as_str()).fetch(&self.0.readers);
        let fault = |error: sqlx::Error| self.sqlx_error("read what was untagged", error);
        let mut reading = UntagReading::new(self, registry, visit);
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            reading.add(row)?;
        }
        reading.finish()
    }
}

/// The way from rows, in the order of repositories, digests and numbers, to what they tell of manifests.
pub(super) struct UntagReading<'a, R> {
    reader: &'a R,
    registry: &'a RegistryName,
    visit: &'a mut (dyn FnMut(UntagRecord) + Send),
    lines: DigestEntries,
}

impl<'a, R: RowReader> UntagReading<'a, R> {
    pub(super) fn new(
        reader: &'a R,
        registry: &'a RegistryName,
        visit: &'a mut (dyn FnMut(UntagRecord) + Send),
    ) -> Self {
        Self { reader, registry, visit, lines: DigestEntries::default() }
    }

    /// Reads the next row.
    pub(super) fn add(&mut self, row: UntagRow) -> Result<(), StateError> {
        if row.repository != self.lines.repository || row.digest != self.lines.digest {
            let (repository, digest) = (row.repository.clone(), row.digest.clone());
            let next = DigestEntries { repository, digest, ..DigestEntries::default() };
            let lines = std::mem::replace(&mut self.lines, next);
            untag_record(self.reader, self.registry, &lines)?.into_iter().for_each(&mut *self.visit);
        }
        self.lines.add(row);
        Ok(())
    }

    /// Ends with the last row.
    pub(super) fn finish(self) -> Result<(), StateError> {
        untag_record(self.reader, self.registry, &self.lines)?.into_iter().for_each(self.visit);
        Ok(())
    }
}

/// What the entries of a digest say of it; nothing where it is not there without tags by our doing.
fn untag_record(
    reader: &impl RowReader,
    registry: &RegistryName,
    lines: &DigestEntries,
) -> Result<Option<UntagRecord>, StateError> {
    let taken: Vec<&UntagRow> =
        if lines.tags.is_empty() { lines.failed_deletion.iter().collect() } else { lines.tags.values().collect() };
    let destroyed = taken.iter().any(|row| row.action == Action::Remove(RemovalMethod::DeleteManifest).label());
    if !lines.has_pending && (taken.is_empty() || destroyed) {
        return Ok(None);
    }
    let (repository, digest) = (reader.read(&lines.repository)?, reader.read(&lines.digest)?);
    let entries = taken.iter().map(|row| JournalId(row.id)).collect();
    let tags = taken.iter().map(|row| removed_tag(reader, row)).collect::<Result<Vec<RemovedTag>, _>>()?;
    Ok(Some(if lines.has_pending || tags.iter().all(|tag| tag.restored) {
        UntagRecord::Excluded { repository, digest }
    } else {
        let registry = registry.clone();
        let untagged = UntaggedManifest { registry, repository, digest, tags, manifest: None };
        UntagRecord::Untagged { untagged, entries }
    }))
}

fn removed_tag(reader: &impl RowReader, row: &UntagRow) -> Result<RemovedTag, StateError> {
    let policy = reader.read_optional(row.policy.as_deref())?;
    Ok(RemovedTag {
        name: reader.read::<TagName>(&row.tag)?,
        at: reader.read::<Timestamp>(row.resolved_at.as_deref().unwrap_or_default())?,
        policies: policy.into_iter().collect(),
        restored: row.action == Action::Restore.label(),
    })
}

impl DigestEntries {
    /// One more entry, later than the others.
    fn add(&mut self, row: UntagRow) {
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
            // It is needed again, although no tag shows that.
            self.failed_deletion = None;
        } else {
            self.tags.insert(row.tag.clone(), row);
        }
    }
}

impl UntagRow {
    /// Whether a deletion is done, by us or by somebody else.
    fn is_deleted(&self) -> bool {
        self.outcome.as_deref() == Some("done") || self.current_skip() == Some(SkipReason::Missing.label())
    }

    /// Returns true if a deletion was begun and failed for no reason of the manifest's own.
    fn is_failed_deletion(&self) -> bool {
        let skips = ["recovered", "superseded", "interrupted", "stopped", "blocked"];
        self.outcome.as_deref() == Some("failed") || self.current_skip().is_some_and(|skip| skips.contains(&skip))
    }

    /// Returns the label of the skip, in this version's spelling.
    fn current_skip(&self) -> Option<&str> {
        self.skip.as_deref().map(SkipReason::current_label)
    }
}
