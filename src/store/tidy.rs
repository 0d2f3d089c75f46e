//! Forgetting what is no longer needed, so that the state does not grow for ever.

use std::collections::HashSet;

use jiff::Timestamp;

use super::policies::FORGET_POLICIES;
use super::{Store, StoreError, stored};
use crate::domain::{Digest, Inventory, Registry};

/// Since when what is recorded is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepSince {
    /// Runs that ended before, with all that they did: they can then no longer be undone from here.
    pub runs: Timestamp,
    /// The plans of runs that ended before.
    pub plans: Timestamp,
}

/// In order; `?1` is the time since when runs are kept. What is not settled yet is evidence, and stays.
const FORGET_RUNS: [&str; 4] = [
    "DELETE FROM journal WHERE run IN (SELECT id FROM runs WHERE coalesce(ended_at, started_at) < ?1)
     AND NOT EXISTS (SELECT 1 FROM journal AS other WHERE other.run = journal.run AND other.outcome IS NULL)",
    "DELETE FROM plans WHERE run IN (SELECT id FROM runs WHERE coalesce(ended_at, started_at) < ?1)
     AND NOT EXISTS (SELECT 1 FROM journal WHERE journal.run = plans.run)",
    "DELETE FROM runs WHERE coalesce(ended_at, started_at) < ?1
     AND NOT EXISTS (SELECT 1 FROM journal WHERE journal.run = runs.id)",
    "DELETE FROM holds WHERE coalesce(ended_at, until) < ?1",
];

const FORGET_PLANS: &str = "DELETE FROM plans WHERE run IN (SELECT id FROM runs WHERE ended_at < ?1)";

const FORGET_UNJOURNALED_MANIFESTS: &str =
    "DELETE FROM journaled_manifests WHERE digest NOT IN (SELECT digest FROM journal)";

/// So many rows are looked at or forgotten in one go: others write in between.
const BATCH: i64 = 5_000;

impl Store {
    /// Forgets old plans, and old runs with their journal and the manifests to undo them. A run with an entry that is not
    /// settled yet stays whole.
    ///
    /// # Errors
    /// When it could not be done; nothing is forgotten then.
    pub async fn prune(&self, since: KeepSince) -> Result<(), StoreError> {
        let doing = "forget old runs";
        let fault = |error: sqlx::Error| self.fault(doing, &error);
        let mut write = self.write_durably().await?;
        let plans = sqlx::query(FORGET_PLANS).bind(stored(since.plans)).execute(&mut *write.transaction).await;
        plans.map_err(fault)?;
        for statement in FORGET_RUNS {
            let done = sqlx::query(statement).bind(stored(since.runs)).execute(&mut *write.transaction).await;
            done.map_err(fault)?;
        }
        for statement in FORGET_POLICIES {
            sqlx::query(statement).execute(&mut *write.transaction).await.map_err(fault)?;
        }
        let departures = sqlx::query("DELETE FROM departures WHERE missed_at < ?1").bind(stored(since.runs));
        departures.execute(&mut *write.transaction).await.map_err(fault)?;
        sqlx::query(FORGET_UNJOURNALED_MANIFESTS).execute(&mut *write.transaction).await.map_err(fault)?;
        write.commit(doing).await
    }

    /// Forgets cached content that nothing in the registries uses any more, and when tags were first seen in
    /// repositories that have not been listed since `gone_since`. Where anything could not be read nothing is forgotten:
    /// it may be what was not read.
    ///
    /// # Errors
    /// When it could not be done.
    pub async fn tidy(&self, inventory: &Inventory, now: Timestamp, gone_since: Timestamp) -> Result<(), StoreError> {
        let whole = |registry: &Registry| {
            registry.gaps.is_empty() && registry.repositories.iter().all(|repository| repository.gaps.is_empty())
        };
        if !inventory.registries.iter().all(whole) {
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
        self.forget_looks(inventory, now, gone_since).await
    }

    async fn forget_cached(
        &self,
        select: &'static str,
        delete: &'static str,
        used: &HashSet<&Digest>,
    ) -> Result<(), StoreError> {
        let doing = "forget cached content";
        let fault = |error: sqlx::Error| self.fault(doing, &error);
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

    async fn forget_looks(
        &self,
        inventory: &Inventory,
        now: Timestamp,
        gone_since: Timestamp,
    ) -> Result<(), StoreError> {
        let doing = "forget repositories that are gone";
        let fault = |error: sqlx::Error| self.fault(doing, &error);
        let listed: Vec<[&str; 2]> = inventory
            .registries
            .iter()
            .flat_map(|registry| {
                registry.repositories.iter().map(|found| [registry.name.as_str(), found.name.as_str()])
            })
            .collect();
        let listed = serde_json::to_string(&listed).expect("lists of strings are JSON");
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "WITH listed (registry, repository) AS (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
             UPDATE looks SET missed_since = CASE WHEN (registry, repository) IN (SELECT * FROM listed) THEN NULL
                                                  ELSE coalesce(missed_since, ?2) END
             WHERE (missed_since IS NULL) <> ((registry, repository) IN (SELECT * FROM listed))",
        )
        .bind(listed)
        .bind(stored(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query("DELETE FROM looks WHERE missed_since < ?1")
            .bind(stored(gone_since))
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
