//! The decision: registries and sources are read, everything is decided for one time, and the result is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::ability::Purpose;
use super::evidence::Recording;
use super::evidence_refresh::{GatherTime, ReevaluationInput};
use super::{App, ClockCheck, PolicyFilter, RunError, audit, drift, heartbeat};
use crate::domain::{Claims, CoverageBasis, Inventory, Plan, RegistryName, RepositoryName, UntaggedManifest};
use crate::engine::{self, Verdicts};
use crate::registry::{self, CollectScope, Progress};
use crate::report::{self, Basis, PlanDocument};

/// What was read and decided for one time.
#[derive(Debug)]
pub struct Decision {
    /// What the registries hold.
    pub inventory: Arc<Inventory>,
    /// What the sources say.
    pub claims: Claims,
    /// The verdict on every tag.
    pub verdicts: Arc<Verdicts>,
    /// What follows.
    pub plan: Arc<Plan>,
    /// Manifests that Tagwarden untagged and somebody else deleted since.
    pub externally_deleted: Vec<UntaggedManifest>,
    /// Whether the time can be trusted by which it was decided.
    pub clock: ClockCheck,
    /// All of it as people and scripts read it.
    pub document: PlanDocument,
}

impl App {
    /// Reads registries and sources and decides. `at` is another time than now to decide for.
    ///
    /// # Errors
    /// When the state could not be written, or our own check finds fault with the plan.
    pub async fn decide(
        &self,
        scope: &CollectScope,
        at: Option<Timestamp>,
        progress: &dyn Progress,
    ) -> Result<Decision, RunError> {
        Ok(self.decide_filtered(scope, at, (&PolicyFilter::All, Purpose::Report), progress).await?.0)
    }

    /// The same where only some policies may remove, or where removals follow, with the grounds to decide again.
    pub(super) async fn decide_filtered(
        &self,
        scope: &CollectScope,
        at: Option<Timestamp>,
        (due, purpose): (&PolicyFilter, Purpose),
        progress: &dyn Progress,
    ) -> Result<(Decision, ReevaluationInput), RunError> {
        // Once: everything is decided by this time, and nothing is compared with a later one.
        let start = self.read_clocks();
        let now = start.wall;
        let evaluated_at = at.unwrap_or(now);
        let rules = due.restrict(self.rules());
        let readers: Vec<_> = self.readers.values().cloned().collect();
        let considered = self.cleanup_candidates(scope, &rules, evaluated_at).await?;
        let _beat = self.start_heartbeat(None);
        self.heartbeat.start_reading(readers.iter().map(|reader| reader.settings().name.to_string()));
        let progress = heartbeat::ProgressTee { heartbeat: &self.heartbeat, progress };
        let mut inventory =
            registry::collect(&readers, scope, &considered.extra_manifests, &self.store, &progress).await;
        let read = self.check_clock(start, None, &mut inventory).await?;
        self.verify_catalogues(&mut inventory, scope, now).await?;
        self.record_observations(&mut inventory, scope, &read).await?;
        for registry in &mut inventory.registries {
            registry.refused_tags = self.store.refused_tags(&registry.endpoint).await?;
        }
        let whole = *scope == CollectScope::All && at.is_none() && read.doubt.is_none() && read.differing.is_empty();
        let remember = if whole { Recording::Enabled } else { Recording::Disabled };
        self.heartbeat.start_gathering(self.settings.sources.len());
        self.record_tags(&inventory, now, remember).await;
        let asked = self.read_clocks();
        let claims = self.gather((&inventory, considered.untagged()), (now, evaluated_at), remember).await?;
        let gathered = GatherTime::between(asked, self.read_clocks());
        self.heartbeat.enter_phase(heartbeat::Phase::Deciding);
        let verdicts = self.evaluate(&rules, &mut inventory, &claims, evaluated_at).await;
        let mut deletions = considered.decide(&rules, &inventory, &claims, evaluated_at);
        self.determine_abilities(&mut inventory, &verdicts, &deletions, purpose).await?;
        // Sources and abilities took their time, in which the clock may have been set.
        let clock = self.check_clock(start, read.doubt, &mut inventory).await?;
        Self::log_clock(&clock, &inventory);
        deletions.refusals = engine::refuse_deletions(&rules, &inventory, &deletions);
        let plan = Plan { deletions, ..engine::plan(&rules, &inventory, &verdicts, evaluated_at) };
        let basis =
            if *scope == CollectScope::All { CoverageBasis::FullInventory } else { CoverageBasis::LastFullPlan };
        let coverage = engine::rule_coverage(&rules, &inventory, self.store.rule_history().await?, basis);
        if remember == Recording::Enabled {
            self.store.record_rules(&coverage, now).await?;
        }
        let plan = engine::refuse_unmatched(&rules, &inventory, &verdicts, plan, coverage);
        let mut findings = engine::check(&rules, &inventory, &claims, &verdicts, &plan, evaluated_at);
        findings.extend(considered.check(&rules, &inventory, &claims, &plan.deletions, evaluated_at));
        if !findings.is_empty() {
            return Err(RunError::Check(findings));
        }
        let reclaim = Arc::new(engine::reclaim(&inventory, &claims, &verdicts, &plan));
        let (inventory, verdicts, plan) = (Arc::new(inventory), Arc::new(verdicts), Arc::new(plan));
        let whole = *scope == CollectScope::All;
        let findings = drift::find_drift(&self.readers, &inventory, &claims, &verdicts, whole).await;
        let document = report::document(&Basis {
            // As they are written: a policy that is not due is none that only tries.
            rules: &self.rules(),
            mode: self.settings.mode.label(),
            settings: &self.settings.revision,
            inventory: &inventory,
            claims: &claims,
            verdicts: &verdicts,
            plan: &plan,
            reclaim: &reclaim,
            drift: &findings,
            created_at: now,
            evaluated_at,
            hypothetical: at.is_some(),
            valid_for: self.settings.plan_ttl,
        });
        audit::log_warnings(&document);
        let collected =
            if *scope == CollectScope::All { considered.externally_deleted(&inventory) } else { Vec::new() };
        let decision = Decision { inventory, claims, verdicts, plan, externally_deleted: collected, clock, document };
        Ok((decision, ReevaluationInput { rules, candidates: considered, evaluated_at, gathered }))
    }

    /// Decides about one repository, to explain a tag of it.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn decide_repository(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        at: Option<Timestamp>,
    ) -> Result<Decision, RunError> {
        let only = BTreeMap::from([(registry.clone(), BTreeSet::from([repository.clone()]))]);
        self.decide(&CollectScope::Repositories(only), at, &()).await
    }
}
