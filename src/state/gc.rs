//! Pruning of old data, so that the state does not grow forever.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;

use super::policies::FORGET_POLICIES;
use super::{Maintenance, ManifestCache as _, SqliteState, StateError, WriteTransaction, format_time};
use crate::domain::{Digest, Repository};
use crate::registry::RegistryHead;

/// The cutoffs before which records are pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionCutoffs {
    /// Runs that ended before are pruned with all of their records: they can then no longer be undone.
    pub runs: Timestamp,
    /// Plans of runs that ended before are pruned.
    pub plans: Timestamp,
}

/// Superseded revisions of policies and settings; those that a run on record went by stay.
const FORGET_RULE_REVISIONS: &str =
    "DELETE FROM rule_revisions WHERE superseded_at IS NOT NULL AND seen_at < ?1 AND NOT EXISTS (
     SELECT 1 FROM run_contexts WHERE run_contexts.revision = rule_revisions.revision)";

const FORGET_HOLDS: &str = "DELETE FROM holds WHERE coalesce(ended_at, until) < ?1";

/// The numbers of pruned records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneCounts {
    /// Runs.
    pub runs: u64,
    /// Plans, including those of pruned runs.
    pub plans: u64,
    /// Journal entries.
    pub entries: u64,
    /// Manifests that no journal entry names anymore.
    pub manifests: u64,
}

/// The runs that are older than `?1`. The time of a run with an unconfirmed clock is unknown, but it was before the
/// next run with a confirmed one. Unresolved entries are evidence, and actions done or resolved since can be restored.
macro_rules! old_runs {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "(SELECT id FROM runs AS old WHERE CASE clock_confirmed
                WHEN 1 THEN coalesce(ended_at, started_at) < ?1
                ELSE EXISTS (SELECT 1 FROM runs AS later WHERE later.number > old.number AND later.clock_confirmed = 1
                             AND later.started_at < ?1)
              END",
            $after,
            ")"
        )
    };
}

const FORGET_JOURNAL: &str = old_runs!(
    "DELETE FROM journal WHERE run IN ",
    " AND NOT EXISTS (SELECT 1 FROM journal AS kept WHERE kept.run = old.id
                      AND (kept.outcome IS NULL OR kept.resolved_at >= ?1))"
);

const FORGET_PLANS_OF_RUNS: &str = old_runs!(
    "DELETE FROM plans WHERE NOT EXISTS (SELECT 1 FROM journal WHERE journal.run = plans.run) AND run IN ",
    ""
);

const FORGET_RUNS: &str =
    old_runs!("DELETE FROM runs WHERE NOT EXISTS (SELECT 1 FROM journal WHERE journal.run = runs.id) AND id IN ", "");

/// A run without an end may still be running.
const FORGET_PLANS: &str = old_runs!("DELETE FROM plans WHERE run IN ", " AND ended_at IS NOT NULL");

const FORGET_UNJOURNALED_MANIFESTS: &str =
    "DELETE FROM journaled_manifests WHERE digest NOT IN (SELECT digest FROM journal)";

/// The name of the write, as failures of it say.
pub(super) const FORGET_OLD_RUNS: &str = "forget old runs";

/// So many rows are looked at or forgotten in one go: others write in between.
pub(super) const BATCH: i64 = 5_000;

#[async_trait]
impl Maintenance for SqliteState {
    async fn prune(&self, since: RetentionCutoffs) -> Result<PruneCounts, StateError> {
        let mut write = self.write_durably().await?;
        let plans = self.forget(&mut write, FORGET_PLANS, since.plans).await?;
        let entries = self.forget(&mut write, FORGET_JOURNAL, since.runs).await?;
        let of_runs = self.forget(&mut write, FORGET_PLANS_OF_RUNS, since.runs).await?;
        let runs = self.forget(&mut write, FORGET_RUNS, since.runs).await?;
        self.forget(&mut write, FORGET_HOLDS, since.runs).await?;
        self.forget(&mut write, FORGET_RULE_REVISIONS, since.runs).await?;
        for statement in FORGET_POLICIES {
            sqlx::query(statement)
                .execute(&mut *write.transaction)
                .await
                .map_err(|error| self.sqlx_error(FORGET_OLD_RUNS, error))?;
        }
        self.forget(&mut write, "DELETE FROM missing_tags WHERE missed_at < ?1", since.runs).await?;
        // Each was named by an entry when it was written, and finding the entries of digests means reading all.
        let manifests = if entries == 0 {
            0
        } else {
            let unnamed = sqlx::query(FORGET_UNJOURNALED_MANIFESTS).execute(&mut *write.transaction).await;
            unnamed.map_err(|error| self.sqlx_error(FORGET_OLD_RUNS, error))?.rows_affected()
        };
        write.commit(FORGET_OLD_RUNS).await?;
        Ok(PruneCounts { runs, plans: plans + of_runs, entries, manifests })
    }

    async fn cached_content(&self) -> Result<CachedContent, StateError> {
        self.flush_cache().await;
        Ok(CachedContent {
            manifests: self.cached_digests(SELECT_MANIFESTS).await?,
            configs: self.cached_digests(SELECT_CONFIGS).await?,
        })
    }

    async fn collect_garbage(
        &self,
        unused: &CachedContent,
        listed: &[RegistryHead],
        now: Timestamp,
        gone_since: Timestamp,
    ) -> Result<(), StateError> {
        self.forget_cached(DELETE_MANIFESTS, &unused.manifests).await?;
        self.forget_cached(DELETE_CONFIGS, &unused.configs).await?;
        self.forget_unlisted(listed, now, gone_since).await
    }
}

/// Digests of cached content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CachedContent {
    pub(super) manifests: BTreeSet<Digest>,
    pub(super) configs: BTreeSet<Digest>,
}

impl CachedContent {
    /// Removes the content that a repository uses.
    pub fn remove_used(&mut self, repository: &Repository) {
        if self.manifests.is_empty() && self.configs.is_empty() {
            return;
        }
        for (digest, manifest) in &repository.manifests {
            self.manifests.remove(digest);
            if let Some(config) = manifest.config.as_deref() {
                self.configs.remove(config);
            }
        }
        for row in &repository.listed {
            self.manifests.remove(&row.digest);
        }
    }
}

impl SqliteState {
    /// Runs one statement for records older than `before`, as a part of a write, and returns the number of deleted
    /// rows.
    async fn forget(
        &self,
        write: &mut WriteTransaction<'_>,
        statement: &'static str,
        before: Timestamp,
    ) -> Result<u64, StateError> {
        let done = sqlx::query(statement).bind(format_time(before)).execute(&mut *write.transaction).await;
        done.map(|done| done.rows_affected()).map_err(|error| self.sqlx_error(FORGET_OLD_RUNS, error))
    }

    async fn cached_digests(&self, select: &'static str) -> Result<BTreeSet<Digest>, StateError> {
        let mut found = BTreeSet::new();
        let mut after = String::new();
        loop {
            let digests: Vec<String> = sqlx::query_scalar(select)
                .bind(&after)
                .bind(BATCH)
                .fetch_all(&self.0.readers)
                .await
                .map_err(|error| self.sqlx_error("read what is cached", error))?;
            let Some(last) = digests.last() else { return Ok(found) };
            after.clone_from(last);
            found.extend(digests.iter().filter_map(|text| text.parse().ok()));
        }
    }

    async fn forget_cached(&self, delete: &'static str, unused: &BTreeSet<Digest>) -> Result<(), StateError> {
        let doing = "forget cached content";
        let unused: Vec<String> = unused.iter().map(ToString::to_string).collect();
        for some in unused.chunks(usize::try_from(BATCH).unwrap_or(usize::MAX)) {
            let some = serde_json::to_string(some).expect("lists of strings are JSON");
            let mut write = self.write_relaxed().await?;
            sqlx::query(delete)
                .bind(some)
                .execute(&mut *write.transaction)
                .await
                .map_err(|error| self.sqlx_error(doing, error))?;
            write.commit(doing).await?;
        }
        Ok(())
    }

    async fn forget_unlisted(
        &self,
        listed: &[RegistryHead],
        now: Timestamp,
        gone_since: Timestamp,
    ) -> Result<(), StateError> {
        let doing = "forget repositories that are gone";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let listed = serde_json::to_string(&listed_repositories(listed)).expect("lists of strings are JSON");
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "WITH listed (endpoint, repository) AS (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
             UPDATE observed_repositories SET missed_since = CASE WHEN (endpoint, repository) IN (SELECT * FROM listed) THEN NULL
                                                  ELSE coalesce(missed_since, ?2) END
             WHERE (missed_since IS NULL) <> ((endpoint, repository) IN (SELECT * FROM listed))",
        )
        .bind(listed)
        .bind(format_time(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query("DELETE FROM observed_repositories WHERE missed_since < ?1")
            .bind(format_time(gone_since))
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        write.commit(doing).await
    }
}

/// The repositories that registries listed, each with the key of its registry.
pub(super) fn listed_repositories(listed: &[RegistryHead]) -> Vec<[String; 2]> {
    let pairs = |head: &RegistryHead| {
        let endpoint = super::observations::key(&head.registry);
        head.names.iter().map(|name| [endpoint.clone(), name.to_string()]).collect::<Vec<_>>()
    };
    listed.iter().flat_map(pairs).collect()
}

const SELECT_MANIFESTS: &str = "SELECT digest FROM manifests WHERE digest > ?1 ORDER BY digest LIMIT ?2";
const DELETE_MANIFESTS: &str = "DELETE FROM manifests WHERE digest IN (SELECT value FROM json_each(?1))";
const SELECT_CONFIGS: &str = "SELECT digest FROM configs WHERE digest > ?1 ORDER BY digest LIMIT ?2";
const DELETE_CONFIGS: &str = "DELETE FROM configs WHERE digest IN (SELECT value FROM json_each(?1))";
