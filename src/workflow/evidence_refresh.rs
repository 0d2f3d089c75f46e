//! Current evidence while a run removes.
//!
//! A run may remove for hours after its decision. Before a removal, old evidence is gathered again and, if it differs,
//! everything is decided again for the same inventory. Gatherings add up: what one of them retains is not removed in
//! the run, whatever the others show.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::clock::{MonotonicClock, read_clocks};
use super::decision::DecisionGrounds;
use super::evidence::{Recording, gather};
use super::evidence_age::GatherTime;
use super::intersection::skip_for_reasons;
use super::manifest_cleanup::{CleanupCandidates, skip_retained};
use super::{App, Decision};
use crate::apply::{Clock, CurrentEvidence};
use crate::config::Settings;
use crate::domain::{
    Claims, ClockReading, Deletion, Deletions, Digest, Inventory, Naming, Plan, RangeSelection, Reasons, RegistryName,
    Removal, RepositoryName, Rules, SkipReason, SourceName, SourceOutcome, SourceState, TagPosition, Verdict, chain,
};
use crate::engine;
use crate::report::{AttentionKind, AttentionView, source_failed};
use crate::sources::fail_empty_sources;
use crate::state::StateStore;

/// Evidence that is gathered again while a run removes.
pub(super) struct FreshEvidence {
    settings: Settings,
    store: StateStore,
    clock: Clock,
    monotonic_clock: Option<MonotonicClock>,
    decided: Arc<DecisionRecord>,
    /// One lock, so that simultaneous removals wait for one gathering.
    state: Mutex<RefreshState>,
    /// The sources that failed since the decision.
    failed_sources: SyncMutex<Vec<AttentionView>>,
}

/// The inputs of the decision, except for the claims.
struct DecisionRecord {
    rules: Rules,
    inventory: Arc<Inventory>,
    plan: Arc<Plan>,
    candidates: Arc<CleanupCandidates>,
    evaluated_at: Timestamp,
    /// The sources known to mention a tag.
    mentioning: BTreeSet<SourceName>,
    /// The claims of the decision.
    claims: Claims,
}

struct RefreshState {
    gathered: GatherTime,
    /// The claims of the last gathering.
    claims: Claims,
    /// The sources with a known failure.
    failed_sources: BTreeSet<SourceName>,
    /// True once a failed gathering was reported.
    failure_reported: bool,
    retained: RetainedItems,
}

type ManifestName = (RegistryName, RepositoryName, Digest);

/// Planned removals that later evidence retains.
#[derive(Default)]
struct RetainedItems {
    tags: BTreeMap<TagPosition, Reasons>,
    manifests: BTreeMap<ManifestName, SkipReason>,
}

impl App {
    /// Creates the evidence for the removals of a decision.
    pub(super) fn fresh_evidence(&self, decision: &Decision) -> Arc<FreshEvidence> {
        let DecisionGrounds { rules, candidates, evaluated_at, gathered, mentioning, .. } = decision.grounds.clone();
        let (inventory, plan) = (Arc::clone(&decision.inventory), Arc::clone(&decision.plan));
        let failed = decision.claims.sources.iter().filter(|source| source.has_failed());
        let state = RefreshState {
            gathered,
            claims: comparable_claims(decision.claims.clone()),
            failed_sources: failed.map(|source| source.name.clone()).collect(),
            failure_reported: false,
            retained: RetainedItems::default(),
        };
        Arc::new(FreshEvidence {
            settings: self.settings.clone(),
            store: self.store.clone(),
            clock: Arc::clone(&self.clock),
            monotonic_clock: self.monotonic_clock.clone(),
            decided: Arc::new(DecisionRecord {
                rules,
                inventory,
                plan,
                candidates,
                evaluated_at,
                mentioning,
                claims: decision.claims.clone(),
            }),
            state: Mutex::new(state),
            failed_sources: SyncMutex::default(),
        })
    }
}

#[async_trait]
impl CurrentEvidence for FreshEvidence {
    async fn check_removal(&self, removal: &Removal) -> Option<SkipReason> {
        let mut state = self.state.lock().await;
        if !state.retained.tags.contains_key(&removal.position)
            && let Err(skip) = self.refresh(&mut state).await
        {
            return Some(skip);
        }
        let reasons = state.retained.tags.get(&removal.position)?;
        Some(skip_for_reasons(reasons))
    }

    async fn check_deletion(&self, deletion: &Deletion) -> Option<SkipReason> {
        let mut state = self.state.lock().await;
        let name = manifest_name(deletion);
        if !state.retained.manifests.contains_key(&name)
            && let Err(skip) = self.refresh(&mut state).await
        {
            return Some(skip);
        }
        state.retained.manifests.get(&name).cloned()
    }
}

impl FreshEvidence {
    /// Returns the sources that failed since the decision: everything that they could have protected was retained.
    pub(super) fn failed_sources(&self) -> Vec<AttentionView> {
        self.failed_sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read_clocks(&self) -> ClockReading {
        read_clocks(&self.clock, self.monotonic_clock.as_ref())
    }

    /// Gathers old evidence again, and adds the removals that it retains.
    ///
    /// # Errors
    /// Returns the skip for the next removal if the evidence cannot be gathered or decided by. The next removal
    /// retries.
    async fn refresh(&self, state: &mut RefreshState) -> Result<(), SkipReason> {
        let begun = self.read_clocks();
        if !state.gathered.is_stale(begun) {
            return Ok(());
        }
        let decided = Arc::clone(&self.decided);
        // As of now: a file that was just written may be incomplete.
        let times = (begun.wall, begun.wall);
        let claims = match gather((&self.settings, &self.store), times, Recording::Disabled).await {
            Ok(mut claims) => {
                fail_empty_sources(&mut claims, &decided.mentioning);
                claims
            }
            Err(error) => {
                let why = format!("the evidence could not be gathered again: {}", chain(&error));
                if !std::mem::replace(&mut state.failure_reported, true) {
                    self.add_failed_source(AttentionView::new(AttentionKind::SourceFailed, "sources", &why, None));
                }
                return Err(SkipReason::Kept(why));
            }
        };
        self.report_failures(state, &claims);
        let claims = comparable_claims(claims);
        if claims != state.claims {
            let (again, by) = (Arc::clone(&decided), claims.clone());
            let kept = tokio::task::spawn_blocking(move || again.retained_by(&by)).await;
            let panicked =
                |_| SkipReason::Stopped("deciding again broke off with a panic; the log has the place".to_owned());
            let kept = kept.map_err(panicked)?;
            tracing::info!(
                tags = kept.tags.len(),
                untagged_manifests = kept.manifests.len(),
                "evidence has changed since the decision: what it keeps is not removed"
            );
            state.retained.add(kept);
            state.claims = claims;
        }
        state.gathered = GatherTime::between(begun, self.read_clocks());
        Ok(())
    }

    /// Reports each source that fails now and did not before, once in a run.
    fn report_failures(&self, state: &mut RefreshState, claims: &Claims) {
        for source in &claims.sources {
            if let SourceState::Failed { message, .. } = &source.state
                && state.failed_sources.insert(source.name.clone())
            {
                let words = format!("source {} failed while the run removed: {message}", source.name);
                self.add_failed_source(source_failed(source.name.as_str(), &words));
            }
        }
    }

    fn add_failed_source(&self, found: AttentionView) {
        tracing::warn!(kind = found.kind, about = found.about, "{}", found.sentence());
        self.failed_sources.lock().unwrap_or_else(PoisonError::into_inner).push(found);
    }
}

/// Strips everything that decides nothing from claims: the age of evidence, notes for people, and texts of failures.
fn comparable_claims(mut claims: Claims) -> Claims {
    for source in &mut claims.sources {
        match &mut source.state {
            SourceState::Complete { as_of, notes, .. } => {
                *as_of = None;
                notes.clear();
            }
            SourceState::Failed { kind, message } => {
                *kind = "";
                *message = "".into();
            }
        }
    }
    claims
}

fn manifest_name(deletion: &Deletion) -> ManifestName {
    (deletion.registry.clone(), deletion.repository.clone(), deletion.digest.clone())
}

impl DecisionRecord {
    /// Returns the planned removals that these claims retain.
    fn retained_by(&self, claims: &Claims) -> RetainedItems {
        let claims = &with_unknown_versions(claims.clone(), &self.claims);
        let verdicts = engine::evaluate(&self.rules, &self.inventory, claims, self.evaluated_at);
        let tags = self.plan.removals.iter().filter_map(|removal| {
            let found = verdicts.at(removal.position);
            let expired = found.is_some_and(|found| found.verdict == Verdict::Expired);
            (!expired).then(|| (removal.position, found.map(|found| found.reasons.clone()).unwrap_or_default()))
        });
        let tags = tags.collect();
        let mut going = self.plan.deletions.deletable().peekable();
        if going.peek().is_none() {
            return RetainedItems { tags, ..RetainedItems::default() };
        }
        let now = self.candidates.decide(&self.rules, &self.inventory, claims, self.evaluated_at);
        let manifests =
            going.filter_map(|deletion| Some((manifest_name(deletion), retain_reason(deletion, &now)?))).collect();
        RetainedItems { tags, manifests }
    }
}

/// Returns the claims with every version of each range that is new since the decision: the run may have removed the
/// highest version already, which would shift the range to the next one.
fn with_unknown_versions(mut claims: Claims, decided: &Claims) -> Claims {
    let all = decided.sources.iter().flat_map(SourceOutcome::claims);
    let known: BTreeSet<(String, String)> =
        all.filter_map(|claim| Some((claim.image.to_string(), claim.range()?.0.to_string()))).collect();
    for source in &mut claims.sources {
        let SourceState::Complete { claims, .. } = &mut source.state else { continue };
        for claim in claims {
            let image = claim.image.to_string();
            if let Naming::Range(range, ranges) = &mut claim.naming
                && !known.contains(&(image, range.to_string()))
            {
                *ranges = RangeSelection::All;
            }
        }
    }
    claims
}

fn manifest_key(deletion: &Deletion) -> (&RegistryName, &RepositoryName, &Digest) {
    (&deletion.registry, &deletion.repository, &deletion.digest)
}

/// Returns why a later decision retains an untagged manifest that was to be deleted, or `None` if it does not.
fn retain_reason(deletion: &Deletion, now: &Deletions) -> Option<SkipReason> {
    let Ok(at) = now.eligible.binary_search_by(|one| manifest_key(one).cmp(&manifest_key(deletion))) else {
        return Some(SkipReason::Kept("it is not to be deleted by the evidence of now".to_owned()));
    };
    let found = &now.eligible[at];
    if !found.is_deletable() {
        return Some(skip_retained(found));
    }
    if !found.enforce {
        return Some(SkipReason::DryRun);
    }
    let stays = deletion.dependents.iter().find(|along| !found.dependents.contains(along))?;
    Some(SkipReason::Kept(format!("{}, which was to go along, stays", stays.digest)))
}

impl RetainedItems {
    /// Adds the items that another gathering retains.
    fn add(&mut self, other: Self) {
        for (at, reasons) in other.tags {
            self.tags.entry(at).or_insert(reasons);
        }
        for (name, skip) in other.manifests {
            self.manifests.entry(name).or_insert(skip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The claims of one source, each an image and a range.
    fn ranges(claimed: &[(&str, &str)]) -> Claims {
        let holder = Arc::new(crate::domain::Holder::File { path: "apps.yaml".into(), line: 1 });
        let claims = claimed.iter().map(|(image, range)| crate::domain::Claim {
            naming: Naming::Range(Arc::new(range.parse().unwrap()), RangeSelection::Highest),
            ..crate::domain::Claim::new(
                crate::domain::ImageReference::parse_verbatim(image).unwrap(),
                Arc::clone(&holder),
            )
        });
        let state = SourceState::Complete {
            claims: claims.collect(),
            unresolved: Vec::new(),
            mentions: Vec::new(),
            as_of: None,
            notes: Vec::new(),
        };
        let source = SourceOutcome { name: "apps".parse().unwrap(), kind: "image-references", registries: None, state };
        Claims { sources: vec![source], ..Claims::default() }
    }

    #[test]
    fn a_range_that_is_new_may_mean_any_version_in_it() {
        let decided = ranges(&[("contoso.azurecr.io/api", "~1.2")]);
        let now = ranges(&[
            ("contoso.azurecr.io/api", "~1.2"),
            ("contoso.azurecr.io/api", "~1.3"),
            ("contoso.azurecr.io/web", "~1.2"),
        ]);
        let found = with_unknown_versions(now, &decided);
        let all: Vec<RangeSelection> =
            found.sources[0].claims().iter().filter_map(|claim| Some(claim.range()?.1)).collect();
        assert_eq!(all, [RangeSelection::Highest, RangeSelection::All, RangeSelection::All]);
    }
}
