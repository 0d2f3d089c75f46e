//! The decision: evidence first, then one repository after another, then the results that depend on all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::ability::Purpose;
use super::decision::{DecideOptions, Decision, DecisionGrounds, EarlierEvidence, Facts, Tracking};
use super::evidence::Recording;
use super::evidence_age::GatherTime;
use super::untagged_history::SeriesRecording;
use super::walk::{Walk, WalkInput};
use super::{App, ClockCheck, RunError, audit, heartbeat};
use crate::domain::{
    Claims, ClockReading, CoverageBasis, Inventory, Registry, RegistryName, RepositoryName, SourceName,
};
use crate::engine::{self, PlacedDigests};
use crate::registry::{self, CollectScope, Progress, RegistryHead};
use crate::report::{self, PlanBasis};

impl App {
    /// Reads registries and sources and decides. `at` is the time to decide for, if not now.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written, or the plan fails its own check.
    pub async fn decide(
        &self,
        scope: &CollectScope,
        at: Option<Timestamp>,
        progress: &dyn Progress,
    ) -> Result<Decision, RunError> {
        let facts = if *scope == CollectScope::All { Facts::Released } else { Facts::Kept };
        self.decide_with(DecideOptions { scope: scope.clone(), at, facts, ..DecideOptions::default() }, progress).await
    }

    /// Reads and decides by these options.
    pub(super) async fn decide_with(
        &self,
        options: DecideOptions,
        progress: &dyn Progress,
    ) -> Result<Decision, RunError> {
        let DecideOptions {
            scope,
            at,
            policies,
            narrowing,
            acceptances,
            purpose,
            blocked_by,
            facts,
            earlier,
            tracking,
            find_unused_cache,
        } = options;
        let EarlierEvidence { gathered, mentioning, placed, budget } = earlier;
        let show = |change: &dyn Fn(&heartbeat::Heartbeat)| {
            if tracking == Tracking::Shown {
                change(&self.heartbeat);
            }
        };
        // Read once: everything is decided by this time, and nothing is compared with a later one.
        let start = self.read_clocks();
        let (now, whole) = (start.wall, scope == CollectScope::All);
        let evaluated_at = at.unwrap_or(now);
        let rules = policies.restrict(self.rules());
        let readers: Vec<_> = self.readers.values().cloned().collect();
        let candidates = self.cleanup_candidates(&scope, &rules, evaluated_at);
        let candidates = self.unless_lost(candidates).await?.unwrap_or_default();
        let early = self.early_records(evaluated_at).await?;
        let _beat = self.start_heartbeat(None);
        let names: Vec<String> = readers.iter().map(|reader| reader.settings().name.to_string()).collect();
        show(&|heartbeat| heartbeat.start_reading(names.iter().cloned()));
        let tee = heartbeat::ProgressTee { heartbeat: &self.heartbeat, progress };
        let progress = if tracking == Tracking::Shown { &tee } else { progress };

        let mut heads = Box::pin(registry::read_heads(&readers, &scope, progress)).await;
        let read = self.check_clock(start, None, registries_of(&mut heads)).await?;
        self.verify_catalogues(&mut heads, &scope, now).await?;
        narrowing.verify(&heads)?;
        for head in &mut heads {
            let refused = self.unless_lost(self.store.refused_tags(&head.registry.endpoint)).await?;
            head.registry.refused_tags = refused.unwrap_or_default();
        }
        let present = whole && at.is_none() && read.doubt.is_none() && read.differing.is_empty();
        let baselines = if present { Recording::Enabled } else { Recording::Disabled };
        let (mut claims, gathered) = if let Some(gathered) = gathered {
            gathered
        } else {
            show(&|heartbeat| heartbeat.start_gathering(self.settings.sources.len()));
            let asked = self.read_clocks();
            let claims = Box::pin(self.gather((now, evaluated_at), baselines, early.as_ref())).await?;
            (claims, GatherTime::between(asked, self.read_clocks()))
        };
        show(&|heartbeat| heartbeat.enter_phase(heartbeat::Phase::Reading));
        let look = Self::observation_context(&heads, &scope, &read);
        let times = (now, evaluated_at);
        let (rules, candidates) = (&rules, &candidates);
        let newest = self.unless_lost(self.store.newest_time()).await?.unwrap_or_default();
        let input = WalkInput {
            rules,
            candidates,
            look: &look,
            times,
            remember: if whole && at.is_none() { Recording::Enabled } else { Recording::Disabled },
            facts,
            start,
            newest,
            early: early.as_ref(),
            budget: &budget,
            whole,
            find_unused_cache,
            narrowing: &narrowing,
            acceptances: &acceptances,
            blocked_by: blocked_by.as_deref(),
        };
        let mut placed = placed.for_claims(&claims);
        loop {
            // Usually once; repeated only if later findings change earlier decisions.
            let repetition = {
                let texts = engine::claim_texts(&claims);
                let walk = Box::pin(self.walk(&input, &heads, (&claims, &texts), &mut placed, progress)).await?;
                let Some(repetition) = walk.repetition(&claims, &placed, &mentioning) else {
                    let clocks = (start, read);
                    show(&|heartbeat| heartbeat.enter_phase(heartbeat::Phase::Deciding));
                    let grounds = (gathered, mentioning, placed);
                    let conclude = self.conclude(walk, &input, (&heads, &claims), clocks, (at, purpose), grounds);
                    return Box::pin(conclude).await;
                };
                repetition
            };
            repetition.apply(&mut claims);
            show(&|heartbeat| heartbeat.restart_reading());
        }
    }

    /// Assembles the results that depend on all repositories: abilities, limits, rules that match nothing, bytes, the
    /// report.
    async fn conclude(
        &self,
        walk: Walk<'_>,
        input: &WalkInput<'_>,
        (heads, claims): (&[RegistryHead], &Claims),
        (start, read): (ClockReading, ClockCheck),
        (at, purpose): (Option<Timestamp>, Purpose),
        (gathered, mentioning, placed): (GatherTime, BTreeSet<SourceName>, PlacedDigests),
    ) -> Result<Decision, RunError> {
        let WalkInput { rules, candidates, times: (now, evaluated_at), remember, whole, .. } = *input;
        let (mut heads, mut claims) = (heads.to_vec(), claims.clone());
        walk.complete_heads(&mut heads);
        walk.complete_notes(&mut claims);
        self.determine_abilities(&mut heads, &walk.touched, purpose).await?;
        // Sources and abilities took time, in which the clock may have been set.
        let clock = self.check_clock(start, read.doubt, registries_of(&mut heads)).await?;
        self.log_clock(&clock, &heads);
        let registries: Vec<Registry> = heads.iter().map(|head| head.registry.clone()).collect();
        let basis = if whole { CoverageBasis::FullInventory } else { CoverageBasis::LastFullPlan };
        let recorded = self.unless_lost(self.store.rule_history()).await?;
        let history = recorded.or_else(|| Some(input.early?.rules.clone())).unwrap_or_default();
        let decided = walk.conclude((rules, &heads, &registries), candidates, (history, basis))?;
        let is_trusted = clock.doubt.is_none() && clock.differing.is_empty() && !self.has_lost_state();
        if remember == Recording::Enabled && is_trusted {
            // A match that is not on record makes a later run refuse more, never less.
            if let Err(error) = self.store.record_rules(&decided.plan.coverage, now).await {
                tracing::error!(kind = error.kind.label(), "cannot record which rules matched: {}", error.chain());
            }
        }
        if !decided.violations.is_empty() {
            return Err(RunError::Check(decided.violations));
        }
        let recording = match (remember, at, purpose) {
            (Recording::Enabled, _, _) => SeriesRecording::Everything,
            (Recording::Disabled, None, Purpose::Enforce) => SeriesRecording::Ends,
            (Recording::Disabled, _, _) => SeriesRecording::Nothing,
        };
        self.record_free_manifests(&heads, decided.free_manifests, recording, now).await?;
        let basis = PlanBasis {
            // As written: a policy outside its schedule is not a dry-run policy.
            rules: &self.rules(),
            mode: self.settings.mode.label(),
            settings: &self.settings.revision,
            registries: &registries,
            claims: &claims,
            refusals: &decided.plan.refusals,
            deletions: &decided.plan.deletions,
            coverage: &decided.plan.coverage,
            drift: &decided.drift,
            findings: &decided.findings,
            reclaim: &decided.reclaim,
            created_at: now,
            evaluated_at,
            hypothetical: at.is_some(),
            valid_for: self.settings.plan_ttl,
        };
        let (removals, kept) = (decided.spool.removals(), decided.spool.kept());
        let mut document = report::document_from(&basis, &decided.tally, removals, kept);
        document.narrowed = input.narrowing.view();
        document.blocked_by = input.blocked_by.map(str::to_owned);
        let accepted = decided.plan.accepted.iter();
        document.accepted = accepted.map(|one| report::accepted_view(one, &self.by, &self.policies.policies)).collect();
        decided.spool.seal(&mut document);
        audit::log_warnings(&document);
        let has_gaps = decided.has_gaps || !registries.iter().all(Registry::is_complete);
        let with_facts = registries.into_iter().zip(decided.repositories);
        let registries = with_facts.map(|(registry, repositories)| Registry { repositories, ..registry }).collect();
        let mentioning = decided.mentioning.union(&mentioning).cloned().collect();
        Ok(Decision {
            inventory: Arc::new(Inventory { registries }),
            heads,
            verdicts: Arc::new(decided.verdicts),
            plan: Arc::new(decided.plan),
            externally_deleted: decided.externally_deleted,
            clock,
            dependencies: decided.dependencies,
            has_gaps,
            unused_cache: decided.unused_cache.filter(|_| whole && !has_gaps),
            document,
            spool: Some(decided.spool),
            grounds: DecisionGrounds {
                rules: rules.clone(),
                candidates: Arc::new(candidates.clone()),
                evaluated_at,
                gathered,
                mentioning,
                placed,
                budget: input.budget.clone(),
            },
            claims,
        })
    }

    /// Decides one repository, to explain a tag of it.
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

fn registries_of(heads: &mut [RegistryHead]) -> Vec<&mut Registry> {
    heads.iter_mut().map(|head| &mut head.registry).collect()
}
