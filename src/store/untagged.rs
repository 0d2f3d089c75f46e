//! What the journal tells of manifests that tags were taken from.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt as _;
use jiff::Timestamp;

use super::journal::JournalId;
use super::{Store, StoreError};
use crate::domain::{Action, Digest, RegistryName, RemovalMethod, RepositoryName, Skip, TagName, TakenTag, Untagged};

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
    settled_at: Option<String>,
}

/// What the journal says of one digest in one repository.
#[derive(Default)]
struct Told {
    /// The last that was done to each tag at this digest.
    tags: BTreeMap<String, Row>,
    /// The last word on its deletion.
    deletion: Option<Row>,
    /// Whether something was begun of which nobody knows yet what came of it.
    open: bool,
}

impl Store {
    /// Goes through the manifests of a registry that Tagwarden took tags from and did not delete, repository by
    /// repository: to `visit` each with the journal's entries for its tags, in the same order. Each tag has the first of
    /// its policies only; the entry has all of them.
    ///
    /// One of which something is not settled yet is left out, and so is one of which every tag was put back.
    ///
    /// # Errors
    /// When the journal could not be read.
    pub async fn untagged(
        &self,
        registry: &RegistryName,
        visit: &mut (dyn FnMut(Untagged, Vec<JournalId>) + Send),
    ) -> Result<(), StoreError> {
        // In the order of an index, so that only one repository is held at a time.
        let query = "SELECT id, repository, tag, digest, action, outcome, skip, policy, settled_at FROM journal
                     WHERE registry = ?1 AND (outcome = 'done' OR outcome IS NULL OR action = 'delete-untagged')
                     ORDER BY repository, tag, id";
        let mut rows = sqlx::query_as::<_, Row>(query).bind(registry.as_str()).fetch(&self.0.readers);
        let fault = |error: sqlx::Error| self.fault("read what was untagged", &error);
        let (mut repository, mut told) = (String::new(), HashMap::<String, Told>::new());
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            if row.repository != repository {
                self.tell(registry, &repository, std::mem::take(&mut told), visit)?;
                repository.clone_from(&row.repository);
            }
            let of_digest = told.entry(row.digest.clone()).or_default();
            if row.outcome.is_none() {
                of_digest.open = true;
            } else if row.action == Action::DeleteUntagged.label() {
                let later = of_digest.deletion.as_ref().is_none_or(|known| known.id < row.id);
                of_digest.deletion = of_digest.deletion.take().filter(|_| !later).or(Some(row));
            } else {
                of_digest.tags.insert(row.tag.clone(), row);
            }
        }
        self.tell(registry, &repository, told, visit)
    }

    fn tell(
        &self,
        registry: &RegistryName,
        repository: &str,
        told: HashMap<String, Told>,
        visit: &mut (dyn FnMut(Untagged, Vec<JournalId>) + Send),
    ) -> Result<(), StoreError> {
        if told.is_empty() {
            return Ok(());
        }
        let repository: RepositoryName = self.read(repository)?;
        let told: BTreeMap<String, Told> = told.into_iter().filter(|(_, told)| !told.open).collect();
        for (digest, told) in told {
            let (mut tags, mut ids) = (Vec::new(), Vec::new());
            for row in told.taken() {
                tags.push(self.taken(&row)?);
                ids.push(JournalId(row.id));
            }
            if tags.iter().any(|tag| !tag.put_back) {
                let digest: Digest = self.read(&digest)?;
                let (registry, repository) = (registry.clone(), repository.clone());
                visit(Untagged { registry, repository, digest, tags, manifest: None }, ids);
            }
        }
        Ok(())
    }

    fn taken(&self, row: &Row) -> Result<TakenTag, StoreError> {
        let policy = row.policy.as_deref().map(|name| self.read(name)).transpose()?;
        Ok(TakenTag {
            name: self.read::<TagName>(&row.tag)?,
            at: self.read::<Timestamp>(row.settled_at.as_deref().unwrap_or_default())?,
            policies: policy.into_iter().collect(),
            put_back: row.action == Action::Restore.label(),
        })
    }
}

impl Told {
    /// The entries of its tags since it was deleted, if it ever was; none where it is not there by our doing. What was
    /// begun to be deleted with another one and is still there stands under that one's tag.
    fn taken(self) -> Vec<Row> {
        let deleted = self.deletion.as_ref().filter(|row| row.is_finished()).map_or(0, |row| row.id);
        let mut since: Vec<Row> = self.tags.into_values().filter(|row| row.id > deleted).collect();
        if since.iter().any(|row| row.action == Action::Remove(RemovalMethod::DeleteManifest).label()) {
            return Vec::new();
        }
        if since.is_empty() {
            since.extend(self.deletion.filter(Row::is_left_over));
        }
        since
    }
}

impl Row {
    /// Whether a deletion is done, by us or by somebody else.
    fn is_finished(&self) -> bool {
        self.outcome.as_deref() == Some("done") || self.skip.as_deref() == Some(Skip::Gone.label())
    }

    /// Whether a deletion was begun and did not come about, for no reason of the manifest's own.
    fn is_left_over(&self) -> bool {
        let skips = ["settled", "interrupted", "stopped", "held-back"];
        self.outcome.as_deref() == Some("failed") || self.skip.as_deref().is_some_and(|skip| skips.contains(&skip))
    }
}
