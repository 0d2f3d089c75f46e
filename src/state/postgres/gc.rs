//! Forgetting what is no longer needed.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PostgresState;
use super::unit::Unit;
use crate::domain::Digest;
use crate::registry::RegistryHead;
use crate::state::gc::{BATCH, FORGET_OLD_RUNS, listed_repositories};
use crate::state::{
    CachedContent, Maintenance, ManifestCache as _, PruneCounts, RetentionCutoffs, StateError, format_time,
};

/// The runs that are older than `$1`, as in SQLite.
macro_rules! old_runs {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "(SELECT id FROM runs AS old WHERE CASE WHEN clock_confirmed
                THEN coalesce(ended_at, started_at) < $1
                ELSE EXISTS (SELECT 1 FROM runs AS later WHERE later.number > old.number AND later.clock_confirmed
                             AND later.started_at < $1)
              END",
            $after,
            ")"
        )
    };
}

const FORGET_JOURNAL: &str = old_runs!(
    "DELETE FROM journal WHERE run IN ",
    " AND NOT EXISTS (SELECT 1 FROM journal AS kept WHERE kept.run = old.id
                      AND (kept.outcome IS NULL OR kept.resolved_at >= $1))"
);

const FORGET_PLANS_OF_RUNS: &str = old_runs!(
    "DELETE FROM plans WHERE NOT EXISTS (SELECT 1 FROM journal WHERE journal.run = plans.run) AND run IN ",
    ""
);

const FORGET_RUNS: &str =
    old_runs!("DELETE FROM runs WHERE NOT EXISTS (SELECT 1 FROM journal WHERE journal.run = runs.id) AND id IN ", "");

/// A run that has not ended may still be at work.
const FORGET_PLANS: &str = old_runs!("DELETE FROM plans WHERE run IN ", " AND ended_at IS NOT NULL");

/// Superseded revisions of policies and settings; those that a run on record went by stay.
const FORGET_RULE_REVISIONS: &str =
    "DELETE FROM rule_revisions WHERE superseded_at IS NOT NULL AND seen_at < $1 AND NOT EXISTS (
     SELECT 1 FROM run_contexts WHERE run_contexts.revision = rule_revisions.revision)";

/// In order; what no run on record went by is forgotten.
const FORGET_POLICIES: [&str; 2] = [
    "DELETE FROM policy_sets WHERE NOT EXISTS (
         SELECT 1 FROM run_contexts WHERE run_contexts.revision = policy_sets.revision)",
    "DELETE FROM policy_texts WHERE revision NOT IN (
         SELECT policy ->> 'revision' FROM policy_sets, json_array_elements(policies::json) AS policy
         WHERE policy ->> 'revision' IS NOT NULL)",
];

#[async_trait]
impl Maintenance for PostgresState {
    async fn prune(&self, since: RetentionCutoffs) -> Result<PruneCounts, StateError> {
        let mut unit = self.write(FORGET_OLD_RUNS).await?;
        let plans = unit.forget(FORGET_PLANS, since.plans).await?;
        let entries = unit.forget(FORGET_JOURNAL, since.runs).await?;
        let of_runs = unit.forget(FORGET_PLANS_OF_RUNS, since.runs).await?;
        let runs = unit.forget(FORGET_RUNS, since.runs).await?;
        unit.forget("DELETE FROM holds WHERE coalesce(ended_at, until) < $1", since.runs).await?;
        unit.forget(FORGET_RULE_REVISIONS, since.runs).await?;
        for statement in FORGET_POLICIES {
            unit.execute(sqlx::query(statement)).await?;
        }
        unit.forget("DELETE FROM missing_tags WHERE missed_at < $1", since.runs).await?;
        let unnamed = "DELETE FROM journaled_manifests
                       WHERE NOT EXISTS (SELECT 1 FROM journal WHERE journal.digest = journaled_manifests.digest)";
        // Each was named by an entry when it was written, and finding the entries of digests means reading all.
        let manifests = if entries == 0 { 0 } else { unit.execute(sqlx::query(unnamed)).await? };
        unit.commit().await?;
        Ok(PruneCounts { runs, plans: plans + of_runs, entries, manifests })
    }

    async fn cached_content(&self) -> Result<CachedContent, StateError> {
        self.flush_cache().await;
        let manifests = "SELECT digest FROM manifests WHERE digest > $1 ORDER BY digest LIMIT $2";
        let configs = "SELECT digest FROM configs WHERE digest > $1 ORDER BY digest LIMIT $2";
        Ok(CachedContent {
            manifests: self.cached_digests(manifests).await?,
            configs: self.cached_digests(configs).await?,
        })
    }

    async fn collect_garbage(
        &self,
        unused: &CachedContent,
        listed: &[RegistryHead],
        now: Timestamp,
        gone_since: Timestamp,
    ) -> Result<(), StateError> {
        self.forget_cached("DELETE FROM manifests WHERE digest = ANY($1)", &unused.manifests).await?;
        self.forget_cached("DELETE FROM configs WHERE digest = ANY($1)", &unused.configs).await?;
        self.forget_unlisted(listed, now, gone_since).await
    }
}

impl Unit<'_> {
    /// Runs one statement for what is older than `before`, and returns how many rows went.
    async fn forget(&mut self, statement: &'static str, before: Timestamp) -> Result<u64, StateError> {
        self.execute(sqlx::query(statement).bind(format_time(before))).await
    }
}

impl PostgresState {
    async fn cached_digests(&self, select: &'static str) -> Result<BTreeSet<Digest>, StateError> {
        let mut found = BTreeSet::new();
        let mut after = String::new();
        loop {
            let query = sqlx::query_as(select).bind(&after).bind(BATCH);
            let digests: Vec<(String,)> = self.rows("read what is cached", query).await?;
            let Some((last,)) = digests.last() else { return Ok(found) };
            after.clone_from(last);
            found.extend(digests.iter().filter_map(|(text,)| text.parse().ok()));
        }
    }

    async fn forget_cached(&self, delete: &'static str, unused: &BTreeSet<Digest>) -> Result<(), StateError> {
        let unused: Vec<String> = unused.iter().map(ToString::to_string).collect();
        for some in unused.chunks(usize::try_from(BATCH).unwrap_or(usize::MAX)) {
            self.execute_relaxed("forget cached content", sqlx::query(delete).bind(some)).await?;
        }
        Ok(())
    }

    async fn forget_unlisted(
        &self,
        listed: &[RegistryHead],
        now: Timestamp,
        gone_since: Timestamp,
    ) -> Result<(), StateError> {
        let (endpoints, repositories): (Vec<String>, Vec<String>) =
            listed_repositories(listed).into_iter().map(|[endpoint, repository]| (endpoint, repository)).unzip();
        let mut unit = self.write_relaxed("forget repositories that are gone").await?;
        let statement = sqlx::query(
            "WITH listed AS (SELECT * FROM unnest($1::text[], $2::text[]) AS pairs (endpoint, repository)),
                  seen AS (SELECT id, EXISTS (SELECT 1 FROM listed WHERE listed.endpoint = observed.endpoint
                                              AND listed.repository = observed.repository) AS is_listed
                           FROM observed_repositories AS observed)
             UPDATE observed_repositories
             SET missed_since = CASE WHEN is_listed THEN NULL ELSE coalesce(missed_since, $3) END
             FROM seen WHERE seen.id = observed_repositories.id AND (missed_since IS NULL) <> is_listed",
        );
        unit.execute(statement.bind(endpoints).bind(repositories).bind(format_time(now))).await?;
        let statement = sqlx::query("DELETE FROM observed_repositories WHERE missed_since < $1");
        unit.execute(statement.bind(format_time(gone_since))).await?;
        unit.commit().await
    }
}
