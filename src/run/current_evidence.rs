//! The evidence of the present while a run removes.
//!
//! A run may remove for hours after its decision. Before a removal, evidence that has grown old is gathered anew and,
//! where it says something else, everything is decided again about the same inventory. Every gathering counts: what one
//! of them keeps is not removed in the run, whatever the others say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::approved::kept_for;
use super::clock::{Steady, reading};
use super::deletions::Considered;
use super::evidence::{Remember, gather};
use super::{Decision, Ended, House, RunOutcome};
use crate::apply::{Clock, CurrentEvidence};
use crate::config::Settings;
use crate::domain::{
    Claims, ClockReading, Deletion, Deletions, Digest, Inventory, Naming, Plan, Ranges, Reasons, RegistryName, Removal,
    RepositoryName, Rules, Skip, SourceAnswer, SourceName, SourceState, TagAt, Verdict,
};
use crate::engine;
use crate::report::{AttentionKind, AttentionView, ReasonView, StayView, source_failed};
use crate::store::Store;

/// The age up to which evidence is never gathered anew.
const LEAST_AGE: Duration = Duration::from_secs(20);
/// The age that no evidence has before a removal.
const MOST_AGE: Duration = Duration::from_mins(10);
/// Evidence counts so many times as long as it took to gather: a run spends at most a tenth of its time on that.
const TIMES: u32 = 10;

/// The grounds of a decision besides its facts, so that it can be made again by other evidence.
pub(super) struct Grounds {
    pub(super) rules: Rules,
    pub(super) considered: Considered,
    pub(super) evaluated_at: Timestamp,
    pub(super) gathered: Gathered,
}

/// The time at which evidence was gathered, and how long that took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gathered {
    begun: ClockReading,
    took: Duration,
}

impl Gathered {
    /// Evidence is as old as the beginning of its gathering: the first source may have answered then.
    pub(super) fn between(begun: ClockReading, ended: ClockReading) -> Self {
        Self { begun, took: passed(begun, ended) }
    }

    /// Returns true if it must be gathered anew before a removal.
    fn is_old(self, now: ClockReading) -> bool {
        passed(self.begun, now) > longest_age(self.took)
    }
}

/// Returns the age up to which evidence counts that took so long to gather. Where that alone takes ten minutes, there
/// must be some time left in which it counts.
fn longest_age(took: Duration) -> Duration {
    took.saturating_mul(TIMES).clamp(LEAST_AGE, MOST_AGE).max(took.saturating_add(LEAST_AGE))
}

/// Returns the time between two readings by the clock that counted more: the wall clock may have been set back.
fn passed(from: ClockReading, to: ClockReading) -> Duration {
    let wall = Duration::try_from(to.wall.duration_since(from.wall)).unwrap_or_default();
    to.steady.saturating_sub(from.steady).max(wall)
}

/// Evidence that is gathered anew while a run removes.
pub(super) struct FreshEvidence {
    settings: Settings,
    store: Store,
    clock: Clock,
    steady: Option<Steady>,
    decided: Arc<Decided>,
    /// Behind one lock, so that removals at the same time wait for one gathering.
    state: Mutex<State>,
    /// The sources that failed since the decision.
    lost: SyncMutex<Vec<AttentionView>>,
}

/// Everything that was decided about and by, but the claims.
struct Decided {
    rules: Rules,
    inventory: Arc<Inventory>,
    plan: Arc<Plan>,
    considered: Considered,
    evaluated_at: Timestamp,
    /// The claims of the decision.
    claims: Claims,
}

struct State {
    gathered: Gathered,
    /// The claims of the last gathering.
    said: Claims,
    /// The sources of which a failure is known.
    failed: BTreeSet<SourceName>,
    /// Set once it was told that nothing could be gathered.
    broken: bool,
    kept: Kept,
}

type ManifestName = (RegistryName, RepositoryName, Digest);

/// Planned removals that later evidence keeps.
#[derive(Default)]
struct Kept {
    tags: BTreeMap<TagAt, Reasons>,
    manifests: BTreeMap<ManifestName, Skip>,
}

impl House {
    /// The evidence for the removals that follow from a decision.
    pub(super) fn fresh_evidence(&self, decision: &Decision, grounds: Grounds) -> Arc<FreshEvidence> {
        let Grounds { rules, considered, evaluated_at, gathered } = grounds;
        let (inventory, plan) = (Arc::clone(&decision.inventory), Arc::clone(&decision.plan));
        let failed = decision.claims.sources.iter().filter(|source| source.failed());
        let state = State {
            gathered,
            said: said(decision.claims.clone()),
            failed: failed.map(|source| source.name.clone()).collect(),
            broken: false,
            kept: Kept::default(),
        };
        Arc::new(FreshEvidence {
            settings: self.settings.clone(),
            store: self.store.clone(),
            clock: Arc::clone(&self.clock),
            steady: self.steady.clone(),
            decided: Arc::new(Decided {
                rules,
                inventory,
                plan,
                considered,
                evaluated_at,
                claims: decision.claims.clone(),
            }),
            state: Mutex::new(state),
            lost: SyncMutex::default(),
        })
    }
}

#[async_trait]
impl CurrentEvidence for FreshEvidence {
    async fn removal(&self, removal: &Removal) -> Option<Skip> {
        let mut state = self.state.lock().await;
        if !state.kept.tags.contains_key(&removal.at)
            && let Err(skip) = self.freshen(&mut state).await
        {
            return Some(skip);
        }
        let reasons = state.kept.tags.get(&removal.at)?;
        Some(kept_for(&reasons.iter().map(ReasonView::from).collect::<Vec<_>>()))
    }

    async fn deletion(&self, deletion: &Deletion) -> Option<Skip> {
        let mut state = self.state.lock().await;
        let name = name(deletion);
        if !state.kept.manifests.contains_key(&name)
            && let Err(skip) = self.freshen(&mut state).await
        {
            return Some(skip);
        }
        state.kept.manifests.get(&name).cloned()
    }
}

impl FreshEvidence {
    fn reading(&self) -> ClockReading {
        reading(&self.clock, self.steady.as_ref())
    }

    /// Gathers evidence that is old anew, and keeps what it keeps.
    ///
    /// # Errors
    /// With the skip of what was to be removed next, where it could not be gathered or decided by. Whoever comes next
    /// tries again.
    async fn freshen(&self, state: &mut State) -> Result<(), Skip> {
        let begun = self.reading();
        if !state.gathered.is_old(begun) {
            return Ok(());
        }
        let decided = Arc::clone(&self.decided);
        let about = (&*decided.inventory, decided.considered.untagged());
        // As of now: a file that was written a moment ago may not be whole yet.
        let times = (begun.wall, begun.wall);
        let claims = match gather((&self.settings, &self.store), about, times, Remember::No).await {
            Ok(claims) => claims,
            Err(error) => {
                let why = format!("the evidence could not be gathered again: {error}");
                if !std::mem::replace(&mut state.broken, true) {
                    self.lose(AttentionView::new(AttentionKind::SourceFailed, "sources", &why, None));
                }
                return Err(Skip::Kept(why));
            }
        };
        self.note_failures(state, &claims);
        let claims = said(claims);
        if claims != state.said {
            let (again, by) = (Arc::clone(&decided), claims.clone());
            let kept = tokio::task::spawn_blocking(move || again.kept_by(&by)).await;
            let panicked = |_| Skip::Stopped("deciding again broke off with a panic; the log has the place".to_owned());
            let kept = kept.map_err(panicked)?;
            tracing::info!(
                tags = kept.tags.len(),
                untagged_manifests = kept.manifests.len(),
                "evidence has changed since the decision: what it keeps is not removed"
            );
            state.kept.add(kept);
            state.said = claims;
        }
        state.gathered = Gathered::between(begun, self.reading());
        Ok(())
    }

    /// Tells of each source that fails now and did not before, once in a run.
    fn note_failures(&self, state: &mut State, claims: &Claims) {
        for source in &claims.sources {
            if let SourceState::Failed { message, .. } = &source.state
                && state.failed.insert(source.name.clone())
            {
                let words = format!("source {} failed while the run removed: {message}", source.name);
                self.lose(source_failed(source.name.as_str(), &words));
            }
        }
    }

    fn lose(&self, found: AttentionView) {
        tracing::warn!(kind = found.kind, about = found.about, "{}", found.sentence());
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(found);
    }
}

/// A run that removed by that evidence, with the sources that failed meanwhile: what they could have protected stayed.
pub(super) fn note_lost(mut ended: Ended, evidence: Option<&FreshEvidence>) -> Ended {
    let lost = evidence.map(|evidence| evidence.lost.lock().unwrap_or_else(PoisonError::into_inner).clone());
    ended.lost_evidence = lost.unwrap_or_default();
    if ended.outcome == RunOutcome::Done && !ended.lost_evidence.is_empty() {
        ended.outcome = RunOutcome::EvidenceMissing;
    }
    ended
}

/// Claims without what decides nothing: the age of evidence, notes for people, and the words of failures.
fn said(mut claims: Claims) -> Claims {
    for source in &mut claims.sources {
        match &mut source.state {
            SourceState::Answered { as_of, notes, .. } => {
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

fn name(deletion: &Deletion) -> ManifestName {
    (deletion.registry.clone(), deletion.repository.clone(), deletion.digest.clone())
}

impl Decided {
    /// Returns the part of the plan that these claims keep.
    fn kept_by(&self, claims: &Claims) -> Kept {
        let claims = &widened(claims.clone(), &self.claims);
        let verdicts = engine::evaluate(&self.rules, &self.inventory, claims, self.evaluated_at);
        let tags = self.plan.removals.iter().filter_map(|removal| {
            let found = verdicts.at(removal.at);
            let expired = found.is_some_and(|found| found.verdict == Verdict::Expired);
            (!expired).then(|| (removal.at, found.map(|found| found.reasons.clone()).unwrap_or_default()))
        });
        let tags = tags.collect();
        let mut going = self.plan.deletions.going().peekable();
        if going.peek().is_none() {
            return Kept { tags, ..Kept::default() };
        }
        let now = self.considered.decide(&self.rules, &self.inventory, claims, self.evaluated_at);
        let manifests = going.filter_map(|deletion| Some((name(deletion), against(deletion, &now)?))).collect();
        Kept { tags, manifests }
    }
}

/// Returns the claims with every version of each range that the decision did not know: the run may have removed the highest
/// one already, and then the next one is meant.
fn widened(mut claims: Claims, decided: &Claims) -> Claims {
    let all = decided.sources.iter().flat_map(SourceAnswer::claims);
    let known: BTreeSet<(String, String)> =
        all.filter_map(|claim| Some((claim.image.to_string(), claim.range()?.0.to_string()))).collect();
    for source in &mut claims.sources {
        let SourceState::Answered { claims, .. } = &mut source.state else { continue };
        for claim in claims {
            let image = claim.image.to_string();
            if let Naming::Range(range, ranges) = &mut claim.naming
                && !known.contains(&(image, range.to_string()))
            {
                *ranges = Ranges::All;
            }
        }
    }
    claims
}

fn place_of(deletion: &Deletion) -> (&RegistryName, &RepositoryName, &Digest) {
    (&deletion.registry, &deletion.repository, &deletion.digest)
}

/// Returns why an untagged manifest that was to be deleted stays by a later decision, or `None` if it does not.
fn against(deletion: &Deletion, now: &Deletions) -> Option<Skip> {
    let Ok(at) = now.due.binary_search_by(|one| place_of(one).cmp(&place_of(deletion))) else {
        return Some(Skip::Kept("it is not to be deleted by the evidence of now".to_owned()));
    };
    let found = &now.due[at];
    if !found.goes() {
        let why = found.stays.iter().map(|stay| StayView::from(stay).message).collect::<Vec<_>>();
        return Some(Skip::Kept(why.join("; ")));
    }
    if !found.enforce {
        return Some(Skip::DryRun);
    }
    let stays = deletion.along.iter().find(|along| !found.along.contains(along))?;
    Some(Skip::Kept(format!("{}, which was to go along, stays", stays.digest)))
}

impl Kept {
    /// Adds those that another gathering keeps.
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

    fn reading(wall: i64, steady: u64) -> ClockReading {
        ClockReading { wall: Timestamp::from_second(1_000_000 + wall).unwrap(), steady: Duration::from_secs(steady) }
    }

    #[test]
    fn evidence_counts_ten_times_as_long_as_it_took_and_never_for_longer_than_ten_minutes() {
        for (took, longest) in [(0, 20), (1, 21), (2, 22), (3, 30), (59, 590), (60, 600), (300, 600), (580, 600)] {
            assert_eq!(longest_age(Duration::from_secs(took)), Duration::from_secs(longest), "{took}");
        }
        // There must be some time in which it counts.
        assert_eq!(longest_age(Duration::from_mins(15)), Duration::from_secs(920));
        assert_eq!(longest_age(Duration::MAX), Duration::MAX);
    }

    /// Each case: begin and end of the gathering, the clocks now, and true if evidence is gathered anew.
    #[test]
    fn evidence_is_as_old_as_the_clock_says_that_counted_more() {
        for (begun, ended, now, old) in [
            (reading(0, 5), reading(0, 5), reading(0, 5), false),
            (reading(0, 5), reading(0, 5), reading(20, 25), false),
            (reading(0, 5), reading(0, 5), reading(21, 26), true),
            // The machine slept, and only one of its clocks counted that.
            (reading(0, 5), reading(0, 5), reading(3600, 5), true),
            (reading(0, 5), reading(0, 5), reading(0, 3605), true),
            // The wall clock was set back.
            (reading(0, 5), reading(0, 5), reading(-3600, 26), true),
            (reading(0, 5), reading(0, 5), reading(-3600, 25), false),
            // It counts from the beginning of the gathering.
            (reading(0, 5), reading(30, 35), reading(300, 305), false),
            (reading(0, 5), reading(30, 35), reading(301, 306), true),
            (reading(0, 5), reading(200, 205), reading(600, 605), false),
            (reading(0, 5), reading(200, 205), reading(601, 606), true),
        ] {
            assert_eq!(Gathered::between(begun, ended).is_old(now), old, "{begun:?} {ended:?} {now:?}");
        }
    }

    /// The claims of one source, each an image and a range.
    fn ranges(claimed: &[(&str, &str)]) -> Claims {
        let holder = Arc::new(crate::domain::Holder::File { path: "apps.yaml".into(), line: 1 });
        let claims = claimed.iter().map(|(image, range)| crate::domain::Claim {
            naming: Naming::Range(Arc::new(range.parse().unwrap()), Ranges::Highest),
            ..crate::domain::Claim::new(crate::domain::ImageReference::as_written(image).unwrap(), Arc::clone(&holder))
        });
        let state = SourceState::Answered {
            claims: claims.collect(),
            unresolved: Vec::new(),
            mentions: Vec::new(),
            as_of: None,
            notes: Vec::new(),
        };
        let source = SourceAnswer { name: "apps".parse().unwrap(), kind: "image-references", registries: None, state };
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
        let found = widened(now, &decided);
        let all: Vec<Ranges> = found.sources[0].claims().iter().filter_map(|claim| Some(claim.range()?.1)).collect();
        assert_eq!(all, [Ranges::Highest, Ranges::All, Ranges::All]);
    }
}
