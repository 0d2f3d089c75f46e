//! Forgetting what is no longer needed, so that the state does not grow for ever.

use std::collections::HashSet;

use jiff::Timestamp;

use super::policies::FORGET_POLICIES;
use super::{StateError, StateStore, WriteTransaction, format_time};
use crate::domain::{Digest, Inventory};

/// Since when what is recorded is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionCutoffs {
    /// Runs that ended before, with all that they did: they can then no longer be undone from here.
    pub runs: Timestamp,
    /// The plans of runs that ended before.
    pub plans: Timestamp,
}

const FORGET_HOLDS: &str = "DELETE FROM holds WHERE coalesce(ended_at, until) < ?1";

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneCounts {
    /// Runs.
    pub runs: u64,
    /// Plans, those of forgotten runs included.
    pub plans: u64,
    /// Journal entries.
    pub entries: u64,
    /// Manifests that nothing in the journal names any more.
    pub manifests: u64,
}

/// The runs that are older than `?1`. Nobody knows the time of a run whose clock was not confirmed, but it was before the
/// next one whose clock was. What is not settled yet is evidence, and what was done or settled since can be restored.
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
                      AND (kept.outcome IS NULL OR kept.settled_at >= ?1))"
);

const FORGET_PLANS_OF_RUNS: &str = old_runs!(
    "DELETE FROM plans WHERE NOT EXISTS (SELECT 1 FROM journal WHERE journal.run = plans.run) AND run IN ",
    ""
);

const FORGET_RUNS: &str =
    old_runs!("DELETE FROM runs WHERE NOT EXISTS (SELECT 1 FROM journal WHERE journal.run = runs.id) AND id IN ", "");

/// A run that has not ended may still be at work.
const FORGET_PLANS: &str = old_runs!("DELETE FROM plans WHERE run IN ", " AND ended_at IS NOT NULL");

const FORGET_UNJOURNALED_MANIFESTS: &str =
    "DELETE FROM journaled_manifests WHERE digest NOT IN (SELECT digest FROM journal)";

/// So many rows are looked at or forgotten in one go: others write in between.
const BATCH: i64 = 5_000;

impl StateStore {
    /// Forgets old plans, and old runs with their journal and the manifests to undo them. A run with an entry that is not
    /// settled yet, or was settled since, stays whole. Only for a time that can be trusted: what is forgotten cannot be
    /// restored any more.
    ///
    /// # Errors
    /// When it could not be done; nothing is forgotten then.
    pub async fn prune(&self, since: RetentionCutoffs) -> Result<PruneCounts, StateError> {
        let doing = "forget old runs";
        let mut write = self.write_durably().await?;
        let forget = async |write: &mut WriteTransaction<'_>, statement: &'static str, before: Timestamp| {
            let done = sqlx::query(statement).bind(format_time(before)).execute(&mut *write.transaction).await;
            done.map(|done| done.rows_affected()).map_err(|error| self.sqlx_error(doing, &error))
        };
        let plans = forget(&mut write, FORGET_PLANS, since.plans).await?;
        let entries = forget(&mut write, FORGET_JOURNAL, since.runs).await?;
        let of_runs = forget(&mut write, FORGET_PLANS_OF_RUNS, since.runs).await?;
        let runs = forget(&mut write, FORGET_RUNS, since.runs).await?;
        forget(&mut write, FORGET_HOLDS, since.runs).await?;
        for statement in FORGET_POLICIES {
            sqlx::query(statement)
                .execute(&mut *write.transaction)
                .await
                .map_err(|error| self.sqlx_error(doing, &error))?;
        }
        forget(&mut write, "DELETE FROM departures WHERE missed_at < ?1", since.runs).await?;
        let unnamed = sqlx::query(FORGET_UNJOURNALED_MANIFESTS).execute(&mut *write.transaction).await;
        let manifests = unnamed.map_err(|error| self.sqlx_error(doing, &error))?.rows_affected();
        write.commit(doing).await?;
        Ok(PruneCounts { runs, plans: plans + of_runs, entries, manifests })
    }

    /// Forgets cached content that nothing in the registries uses any more, and when tags were first seen in
    /// repositories that have not been listed since `gone_since`. Where anything could not be read nothing is forgotten:
    /// it may be what was not read.
    ///
    /// # Errors
    /// When it could not be done.
    pub async fn collect_garbage(
        &self,
        inventory: &Inventory,
        now: Timestamp,
        gone_since: Timestamp,
    ) -> Result<(), StateError> {
        if inventory.has_gaps() {
            return Ok(());
        }
        self.flush_cache().await;
        let manifests = || {
            let repositories = inventory.registries.iter().flat_map(|registry| &registry.repositories);
            repositories.flat_map(|repository| &repository.manifests)
        };
        let used: HashSet<&Digest> = manifests().map(|(digest, _)| digest).collect();
        self.forget_cached(SELECT_MANIFESTS, DELETE_MANIFESTS, &used).await?;
        let used: HashSet<&Digest> = manifests().filter_map(|(_, manifest)| manifest.config.as_deref()).collect();
        self.forget_cached(SELECT_CONFIGS, DELETE_CONFIGS, &used).await?;
        self.forget_unlisted(inventory, now, gone_since).await
    }

    async fn forget_cached(
        &self,
        select: &'static str,
        delete: &'static str,
        used: &HashSet<&Digest>,
    ) -> Result<(), StateError> {
        let doing = "forget cached content";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, &error);
        let mut after = String::new();
        loop {
            let digests: Vec<String> =
                sqlx::query_scalar(select).bind(&after).bind(BATCH).fetch_all(&self.0.readers).await.map_err(fault)?;
            let Some(last) = digests.last() else { return Ok(()) };
            after.clone_from(last);
            let unused = |text: &String| text.parse::<Digest>().map_or(true, |digest| !used.contains(&digest));
            let unused: Vec<&String> = digests.iter().filter(|text| unused(text)).collect();
            if unused.is_empty() {
                continue;
            }
            let unused = serde_json::to_string(&unused).expect("lists of strings are JSON");
            let mut write = self.write_relaxed().await?;
            sqlx::query(delete).bind(unused).execute(&mut *write.transaction).await.map_err(fault)?;
            write.commit(doing).await?;
        }
    }

    async fn forget_unlisted(
        &self,
        inventory: &Inventory,
        now: Timestamp,
        gone_since: Timestamp,
    ) -> Result<(), StateError> {
        let doing = "forget repositories that are gone";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, &error);
        let listed: Vec<[String; 2]> = inventory
            .registries
            .iter()
            .flat_map(|registry| {
                let endpoint = super::observations::key(registry);
                registry.repositories.iter().map(move |found| [endpoint.clone(), found.name.to_string()])
            })
            .collect();
        let listed = serde_json::to_string(&listed).expect("lists of strings are JSON");
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "WITH listed (endpoint, repository) AS (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
             UPDATE looks SET missed_since = CASE WHEN (endpoint, repository) IN (SELECT * FROM listed) THEN NULL
                                                  ELSE coalesce(missed_since, ?2) END
             WHERE (missed_since IS NULL) <> ((endpoint, repository) IN (SELECT * FROM listed))",
        )
        .bind(listed)
        .bind(format_time(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query("DELETE FROM looks WHERE missed_since < ?1")
            .bind(format_time(gone_since))
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        write.commit(doing).await
    }
}

const SELECT_MANIFESTS: &str = "SELECT digest FROM manifests WHERE digest > ?1 ORDER BY digest LIMIT ?2";
const DELETE_MANIFESTS: &str = "DELETE FROM manifests WHERE digest IN (SELECT value FROM json_each(?1))";
const SELECT_CONFIGS: &str = "SELECT digest FROM configs WHERE digest > ?1 ORDER BY digest LIMIT ?2";
const DELETE_CONFIGS: &str = "DELETE FROM configs WHERE digest IN (SELECT value FROM json_each(?1))";
