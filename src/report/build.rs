//! From decisions to the document that people and scripts read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::attention::plan_attention;
use super::document::{
    GapView, KeptView, LimitsView, ObstacleView, PlanDocument, PolicyView, RecordDriftView, RefusalView, RefusedView,
    RegistryView, RemovalView, SCHEMA, SourceView, SummaryView,
};
use super::fingerprint::fingerprint;
use super::holder::HolderView;
use super::lazy_list::{LazyList, ViewSource};
use super::reason::ReasonView;
use super::registry_info::{RegistryInfoView, undo_seconds, verify_commands};
use super::source_counts::{SourceCounts, source_counts};
use super::storage::{accuracy_label, storage};
use super::{
    DeletionsView, DriftView, HoldView, UnmatchedView, ability, assign_plan_id, describe_clock_difference,
    describe_clock_doubt, describe_obstacle, describe_refusal, missing_rights,
};
use crate::domain::{
    Claims, Date, Drift, Gap, Hold, Inventory, Limits, Plan, Policy, PolicyName, Reason, Reclaim, ReclaimBytes,
    Refusal, RefusalScope, Registry, Removal, RemovalAbility, RemovalObstacle, Repository, RepositoryName, Rules,
    SourceOutcome, SourceState, Tag, TagVerdict, Verdict,
};
use crate::engine::{self, Verdicts};

/// Everything that a document is made from.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a> {
    /// The policies and what the settings add to them.
    pub rules: &'a Rules,
    /// The label of the settings' mode.
    pub mode: &'a str,
    /// The revision of the settings.
    pub settings: &'a str,
    /// What was read.
    pub inventory: &'a Arc<Inventory>,
    /// What was claimed.
    pub claims: &'a Claims,
    /// What was decided.
    pub verdicts: &'a Arc<Verdicts>,
    /// What follows from it.
    pub plan: &'a Arc<Plan>,
    /// What that would free.
    pub reclaim: &'a Arc<Reclaim>,
    /// What a person should look at.
    pub drift: &'a [DriftView],
    /// The time now.
    pub created_at: Timestamp,
    /// The time that was decided for.
    pub evaluated_at: Timestamp,
    /// Whether that time was given by hand.
    pub hypothetical: bool,
    /// How long the plan may be applied.
    pub valid_for: Duration,
}

/// Makes the document, sealed.
#[must_use]
pub fn document(basis: &Basis) -> PlanDocument {
    let Basis { rules, inventory, plan, .. } = basis;
    let facts = PlanFacts {
        inventory: Arc::clone(inventory),
        verdicts: Arc::clone(basis.verdicts),
        plan: Arc::clone(plan),
        reclaim: Arc::clone(basis.reclaim),
        evaluated_at: basis.evaluated_at,
    };
    let removals = LazyList::computed(Removals(facts.clone()));
    let kept = LazyList::computed(Kept::new(facts));
    let mut document = PlanDocument {
        schema: SCHEMA.to_owned(),
        id: String::new(),
        fingerprint: String::new(),
        created_at: basis.created_at,
        // A time beyond the calendar cannot be: the plan then never was valid.
        expires_at: basis.created_at.checked_add(basis.valid_for).unwrap_or(basis.created_at),
        mode: basis.mode.to_owned(),
        evaluated_at: basis.evaluated_at,
        hypothetical: basis.hypothetical,
        settings: basis.settings.to_owned(),
        limits: limits(rules),
        attention: Vec::new(),
        registries: inventory.registries.iter().map(|found| registry(found, rules.undo_window)).collect(),
        sources: sources(basis),
        policies: policies(rules, basis.verdicts),
        unmatched: UnmatchedView::all(&plan.coverage),
        drift: basis.verdicts.drift.iter().map(drift).collect(),
        findings: basis.drift.to_vec(),
        holds: holds(basis),
        refusals: plan.refusals.iter().map(refusal).collect(),
        deletions: DeletionsView::of(plan),
        storage: storage(basis.reclaim, &inventory.registries),
        summary: summary(basis),
        removals,
        kept,
    };
    document.attention = plan_attention(&document);
    document.fingerprint = fingerprint(&document);
    assign_plan_id(&mut document);
    document
}

/// The holds in force on the registries that were read.
fn holds(basis: &Basis) -> Vec<HoldView> {
    let registries = &basis.inventory.registries;
    let here = |hold: &Hold| registries.iter().any(|registry| *registry.endpoint == *hold.endpoint);
    let holds = basis.claims.holds.iter().filter(|hold| hold.is_in_force(basis.evaluated_at) && here(hold));
    holds.map(|hold| HoldView::from(&**hold)).collect()
}

fn limits(rules: &Rules) -> LimitsView {
    let Limits { untag, percent, leave, delete } = rules.limits;
    LimitsView { untag, percent, leave, delete }
}

/// The policy by which a reason lets a tag go.
fn not_keeping_policy(reason: &Reason) -> Option<&PolicyName> {
    match reason {
        Reason::NotKept { policy, .. } | Reason::CompanionOfExpired { policy, .. } => Some(policy),
        _ => None,
    }
}

/// The policy that gives a reason because it selects the tag.
fn selecting_policy(reason: &Reason) -> Option<&PolicyName> {
    match reason {
        Reason::KeptAll { policy }
        | Reason::KeptNewest { policy, .. }
        | Reason::KeptWithin { policy, .. }
        | Reason::KeptBucket { policy, .. }
        | Reason::KeptVersion { policy, .. }
        | Reason::KeptMatching { policy, .. }
        | Reason::Undated { policy, .. }
        | Reason::NotAVersion { policy }
        | Reason::NotKept { policy, .. } => Some(policy),
        Reason::NotSelected
        | Reason::Held(_)
        | Reason::Claimed(_)
        | Reason::Mentioned(_)
        | Reason::Locked { .. }
        | Reason::ChildOfKept { .. }
        | Reason::CompanionOfKept { .. }
        | Reason::CompanionOfUnknown { .. }
        | Reason::SubjectOfKept { .. }
        | Reason::SharesManifest { .. }
        | Reason::SourceFailed { .. }
        | Reason::Gap { .. }
        | Reason::MaybeClaimed(_)
        | Reason::UnresolvedReference(_)
        | Reason::CompanionOfExpired { .. } => None,
    }
}

/// What the views of tags are made from.
#[derive(Clone)]
struct PlanFacts {
    inventory: Arc<Inventory>,
    verdicts: Arc<Verdicts>,
    plan: Arc<Plan>,
    reclaim: Arc<Reclaim>,
    evaluated_at: Timestamp,
}

/// The tags that go.
struct Removals(PlanFacts);

impl ViewSource<RemovalView> for Removals {
    fn count(&self) -> usize {
        self.0.plan.removals.len()
    }

    fn make(&self, position: usize) -> Option<RemovalView> {
        let removal = self.0.plan.removals.get(position)?;
        let bytes = self.0.reclaim.removals.get(position).copied().flatten();
        Some(removal_view(&self.0, removal, bytes))
    }
}

/// The tags that stay.
struct Kept {
    facts: PlanFacts,
    /// Where their verdicts are.
    positions: Vec<u32>,
}

impl Kept {
    fn new(facts: PlanFacts) -> Self {
        let stays = |found: &TagVerdict| found.verdict != Verdict::Expired && tag_of(&facts, found).is_some();
        let positions = (0..).zip(&facts.verdicts.tags).filter(|(_, found)| stays(found)).map(|(at, _)| at).collect();
        Self { facts, positions }
    }
}

impl ViewSource<KeptView> for Kept {
    fn count(&self) -> usize {
        self.positions.len()
    }

    fn make(&self, position: usize) -> Option<KeptView> {
        let verdict = self.facts.verdicts.tags.get(*self.positions.get(position)? as usize)?;
        kept_view(&self.facts, verdict)
    }
}

fn registry(registry: &Registry, undo_window: Duration) -> RegistryView {
    let ability = ability(registry);
    let own = registry.gaps.iter().map(|found| (None, found));
    let inner = registry
        .repositories
        .iter()
        .flat_map(|repository| repository.gaps.iter().map(|found| (Some(repository.name.to_string()), found)));
    let (odd_names, gaps): (Vec<_>, Vec<_>) = own.chain(inner).partition(|(_, found)| found.is_note());
    let views =
        |found: Vec<(Option<String>, &Gap)>| found.into_iter().map(|(place, found)| gap_view(place, found)).collect();
    RegistryView {
        name: registry.name.to_string(),
        kind: registry.kind.to_owned(),
        endpoint: registry.endpoint.clone(),
        identity: registry.identity.clone(),
        removal: registry.removal.label().to_owned(),
        obstacle: match &registry.ability {
            RemovalAbility::Impossible(_) => ability.as_ref().map(|ability| ability.message.clone()),
            RemovalAbility::Able | RemovalAbility::Unknown | RemovalAbility::NotChecked => None,
        },
        obstacles: registry.obstacles.iter().map(obstacle_view).collect(),
        ability,
        notes: missing_rights(registry),
        particulars: registry.info.as_ref().map(RegistryInfoView::from),
        accepted: registry.accepts_retention.then(|| "untagged-retention".to_owned()).into_iter().collect(),
        clock_ahead_seconds: registry.clock_ahead.map(ahead_seconds),
        clock: clock(registry),
        undo_seconds: undo_seconds(registry, undo_window),
        repositories: registry.repositories.len() as u64,
        tags: registry.repositories.iter().map(|repository| repository.tags.len() as u64).sum(),
        gaps: views(gaps),
        odd_names: views(odd_names),
    }
}

/// By how many seconds a clock is ahead. Less than ten is how long answers take, and says nothing.
fn ahead_seconds(ahead: SignedDuration) -> i64 {
    let seconds = ahead.as_secs();
    if seconds.abs() < 10 { 0 } else { seconds }
}

/// What is wrong with the time, for a registry that was read.
fn clock(registry: &Registry) -> Option<String> {
    let differs = registry.clock_ahead.filter(|ahead| engine::exceeds_clock_skew(*ahead));
    let doubt = registry.clock_issue.filter(|_| !registry.repositories.is_empty());
    doubt.as_ref().map(describe_clock_doubt).or_else(|| differs.map(|ahead| describe_clock_difference(ahead.as_secs())))
}

fn obstacle_view((repository, why): (&RepositoryName, &RemovalObstacle)) -> ObstacleView {
    ObstacleView { repository: repository.to_string(), message: describe_obstacle(why) }
}

fn gap_view(repository: Option<String>, gap: &Gap) -> GapView {
    GapView { repository, at: gap.target.to_string(), kind: gap.kind.to_owned(), message: gap.message.to_string() }
}

fn sources(basis: &Basis) -> Vec<SourceView> {
    let mut counts = source_counts(basis.inventory, basis.claims, basis.verdicts);
    let of = |answer: &SourceOutcome| source(answer, counts.remove(&answer.name).unwrap_or_default());
    basis.claims.sources.iter().map(of).collect()
}

fn source(answer: &SourceOutcome, counts: SourceCounts) -> SourceView {
    let view = SourceView {
        name: answer.name.to_string(),
        kind: answer.kind.to_owned(),
        state: "answered".to_owned(),
        claims: answer.claims().len() as u64,
        mentions: Some(counts.mentions),
        unresolved: Some(counts.unresolved),
        protects: counts.protects,
        undecided: counts.undecided,
        as_of: None,
        error: None,
        notes: Vec::new(),
    };
    match &answer.state {
        SourceState::Complete { as_of, notes, .. } => SourceView { as_of: *as_of, notes: notes.clone(), ..view },
        SourceState::Failed { message, .. } => {
            SourceView { state: "failed".to_owned(), error: Some(message.to_string()), ..view }
        }
    }
}

fn policies(rules: &Rules, verdicts: &Verdicts) -> Vec<PolicyView> {
    let mut policies: Vec<&Policy> = rules.policies.iter().collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let mut selected: BTreeMap<&PolicyName, u64> = BTreeMap::new();
    for found in &verdicts.tags {
        let mut by: Vec<&PolicyName> = found.reasons.iter().filter_map(selecting_policy).collect();
        by.sort();
        by.dedup();
        for policy in by {
            *selected.entry(policy).or_default() += 1;
        }
    }
    let mut expired: BTreeMap<&PolicyName, u64> = BTreeMap::new();
    for found in verdicts.tags.iter().filter(|found| found.verdict == Verdict::Expired) {
        let mut by: Vec<&PolicyName> = found.reasons.iter().filter_map(not_keeping_policy).collect();
        by.sort();
        by.dedup();
        for policy in by {
            *expired.entry(policy).or_default() += 1;
        }
    }
    policies
        .into_iter()
        .map(|policy| PolicyView {
            name: policy.name.to_string(),
            mode: policy.mode.label().to_owned(),
            owner: policy.owner.clone(),
            description: policy.description.clone(),
            file: policy.file.to_string(),
            revision: policy.revision.to_string(),
            selected: Some(selected.get(&policy.name).copied().unwrap_or_default()),
            expired: expired.get(&policy.name).copied().unwrap_or_default(),
        })
        .collect()
}

fn removal_view(facts: &PlanFacts, removal: &Removal, bytes: Option<ReclaimBytes>) -> RemovalView {
    let reasons = facts.verdicts.at(removal.position).map(reasons).unwrap_or_default();
    let dated_at = removal.date.timestamp();
    RemovalView {
        registry: removal.registry.to_string(),
        repository: removal.repository.to_string(),
        tag: removal.tag.to_string(),
        digest: removal.digest.to_string(),
        policy: removal.policy.to_string(),
        enforce: removal.enforce,
        method: removal.method.label().to_owned(),
        companion_of: removal.companion_of.as_ref().map(ToString::to_string),
        pushed_at: match removal.date {
            Date::Pushed(time) => Some(time),
            _ => None,
        },
        dated_at,
        dated_by: removal.date.label().to_owned(),
        age_seconds: dated_at.map(|time| facts.evaluated_at.duration_since(time).as_secs()),
        reclaimable_bytes: bytes.map(|bytes| bytes.exclusive),
        shared_bytes: bytes.map(|bytes| bytes.shared),
        refused_by_registry: refused_view(&facts.inventory, removal),
        verify: verify_by_hand(&facts.inventory, removal),
        reasons,
    }
}

fn refused_view(inventory: &Inventory, removal: &Removal) -> Option<RefusedView> {
    let registry = inventory.registries.get(removal.position.registry as usize)?;
    let refused = registry.refused_tag(&removal.repository, &removal.tag, &removal.digest)?;
    Some(RefusedView {
        times: refused.refusal_count,
        last_at: refused.last_at,
        next_try: refused.next_retry_at(),
        message: refused.message.clone(),
        text: refused.describe(),
    })
}

fn verify_by_hand(inventory: &Inventory, removal: &Removal) -> Vec<String> {
    let registry = inventory.registries.get(removal.position.registry as usize);
    registry.map(|registry| verify_commands(registry, removal)).unwrap_or_default()
}

/// The tag that a verdict is about.
fn tag_of<'a>(facts: &'a PlanFacts, verdict: &TagVerdict) -> Option<(&'a Registry, &'a Repository, &'a Tag)> {
    let registry = facts.inventory.registries.get(verdict.position.registry as usize)?;
    let repository = registry.repositories.get(verdict.position.repository as usize)?;
    Some((registry, repository, repository.tags.get(verdict.position.tag as usize)?))
}

fn kept_view(facts: &PlanFacts, verdict: &TagVerdict) -> Option<KeptView> {
    let (registry, repository, tag) = tag_of(facts, verdict)?;
    let date = engine::tag_date(repository, tag, facts.evaluated_at);
    Some(KeptView {
        registry: registry.name.to_string(),
        repository: repository.name.to_string(),
        tag: tag.name.to_string(),
        digest: tag.digest.as_ref().map(ToString::to_string),
        verdict: verdict.verdict.label().to_owned(),
        dated_at: date.timestamp(),
        dated_by: date.label().to_owned(),
        reasons: reasons(verdict),
    })
}

fn reasons(verdict: &TagVerdict) -> Vec<ReasonView> {
    verdict.reasons.iter().map(ReasonView::from).collect()
}

fn drift(drift: &Drift) -> RecordDriftView {
    RecordDriftView {
        source: drift.source.to_string(),
        holder: HolderView::from(&*drift.holder).describe(),
        registry: drift.registry.to_string(),
        repository: drift.repository.to_string(),
        tag: drift.reference.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
        recorded: drift.reference.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
        actual: drift.actual.as_ref().map(ToString::to_string),
    }
}

pub(super) fn refusal(refusal: &Refusal) -> RefusalView {
    let (policy, registry, repository) = match &refusal.scope {
        RefusalScope::Run => (None, None, None),
        RefusalScope::Registry(registry) => (None, Some(registry), None),
        RefusalScope::Policy(policy) => (Some(policy), None, None),
        RefusalScope::PolicyInRepository(policy, registry, repository) => {
            (Some(policy), Some(registry), Some(repository))
        }
        RefusalScope::Repository(registry, repository) => (None, Some(registry), Some(repository)),
    };
    RefusalView {
        kind: refusal.reason.label().to_owned(),
        policy: policy.map(ToString::to_string),
        registry: registry.map(ToString::to_string),
        repository: repository.map(ToString::to_string),
        binding: refusal.binding,
        message: describe_refusal(refusal),
    }
}

fn summary(basis: &Basis) -> SummaryView {
    let count = |wanted: Verdict| basis.verdicts.tags.iter().filter(|tag| tag.verdict == wanted).count() as u64;
    let sum = basis.reclaim.sum();
    SummaryView {
        tags: basis.verdicts.tags.len() as u64,
        expired: count(Verdict::Expired),
        retained: count(Verdict::Retained),
        protected: count(Verdict::Protected),
        undecided: count(Verdict::Undecided),
        out_of_scope: count(Verdict::OutOfScope),
        reclaimable_bytes: sum.bytes.exclusive,
        shared_bytes: sum.bytes.shared,
        unknown_bytes_removals: sum.unknown,
        bytes: accuracy_label(basis.reclaim.is_estimated()),
    }
}
