//! Conversion of decisions into the document that people and scripts read.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::accepted::{AcceptedView, ExtentView};
use super::attention::plan_attention;
use super::document::{
    GapView, KeptView, LimitsView, ObstacleView, PlanDocument, PolicyView, RecordDriftView, RefusalView, RegistryView,
    RemovalView, SCHEMA, SourceView, SummaryView,
};
use super::fingerprint::fingerprint;
use super::holder::HolderView;
use super::humanize::{describe_refusal_in, describe_refusal_of, refusal_place};
use super::index_reads::index_reads;
use super::lazy_list::{LazyList, ViewSource};
use super::registry_info::{RegistryInfoView, undo_seconds};
use super::repository_views::{is_kept, kept_view, removal_view};
use super::source_counts::SourceCounts;
use super::storage::{accuracy_label, storage};
use super::tally::{PlanTally, RegistryTally, VerdictCounts};
use super::{
    DeletionsView, DriftView, HoldView, UnmatchedView, ability, assign_plan_id, describe_clock_difference,
    describe_clock_doubt, describe_obstacle, missing_rights,
};
use crate::domain::{
    AcceptedBound, AcceptedRefusal, Claims, Coverage, Deletions, Drift, Gap, Hold, Inventory, Limits, Plan, Policy,
    Reclaim, ReclaimSum, Refusal, RefusalScope, Registry, RegistryReclaim, RemovalAbility, RemovalObstacle, Repository,
    RepositoryName, Rules, SourceOutcome, SourceState, TagVerdict,
};
use crate::engine::{self, Verdicts};

/// The inputs of a document if the whole inventory is in memory.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a> {
    /// The policies and what the settings add to them.
    pub rules: &'a Rules,
    /// The label of the settings' mode.
    pub mode: &'a str,
    /// The revision of the settings.
    pub settings: &'a str,
    /// The inventory that was read.
    pub inventory: &'a Arc<Inventory>,
    /// The claims.
    pub claims: &'a Claims,
    /// The verdicts.
    pub verdicts: &'a Arc<Verdicts>,
    /// The plan that follows from them.
    pub plan: &'a Arc<Plan>,
    /// The bytes that the plan would free.
    pub reclaim: &'a Arc<Reclaim>,
    /// Drift to be checked by a person.
    pub drift: &'a [DriftView],
    /// The time now.
    pub created_at: Timestamp,
    /// The time that was decided for.
    pub evaluated_at: Timestamp,
    /// True if that time was given by hand.
    pub hypothetical: bool,
    /// The period for which the plan may be applied.
    pub valid_for: Duration,
}

/// The inputs of a plan's head.
#[derive(Debug, Clone, Copy)]
pub struct PlanBasis<'a> {
    /// The policies and what the settings add to them.
    pub rules: &'a Rules,
    /// The label of the settings' mode.
    pub mode: &'a str,
    /// The revision of the settings.
    pub settings: &'a str,
    /// The registries, by name. Their repositories are not used.
    pub registries: &'a [Registry],
    /// The claims.
    pub claims: &'a Claims,
    /// The refusals of removals.
    pub refusals: &'a [Refusal],
    /// The decisions on untagged manifests.
    pub deletions: &'a Deletions,
    /// The rules that match nothing.
    pub coverage: &'a Coverage,
    /// The records whose tag is not at their digest, in the order of [`Verdicts::sort_drift`].
    pub drift: &'a [Drift],
    /// Drift to be checked by a person.
    pub findings: &'a [DriftView],
    /// The bytes that the removals would free, for each registry with removals, by name.
    pub reclaim: &'a [RegistryReclaim],
    /// The time now.
    pub created_at: Timestamp,
    /// The time that was decided for.
    pub evaluated_at: Timestamp,
    /// True if that time was given by hand.
    pub hypothetical: bool,
    /// The period for which the plan may be applied.
    pub valid_for: Duration,
}

/// Creates the document of a whole inventory, with its fingerprint and its id.
#[must_use]
pub fn document(basis: &Basis) -> PlanDocument {
    let Basis { rules, inventory, claims, verdicts, plan, reclaim, evaluated_at, .. } = *basis;
    let facts = PlanFacts {
        inventory: Arc::clone(inventory),
        verdicts: Arc::clone(verdicts),
        plan: Arc::clone(plan),
        reclaim: Arc::clone(reclaim),
        evaluated_at,
    };
    let mut tally = PlanTally::new(claims, rules, evaluated_at);
    tally.add_inventory(inventory, verdicts);
    let head = PlanBasis {
        rules,
        mode: basis.mode,
        settings: basis.settings,
        registries: &inventory.registries,
        claims,
        refusals: &plan.refusals,
        deletions: &plan.deletions,
        coverage: &plan.coverage,
        drift: &verdicts.drift,
        findings: basis.drift,
        reclaim: &reclaim.registries,
        created_at: basis.created_at,
        evaluated_at,
        hypothetical: basis.hypothetical,
        valid_for: basis.valid_for,
    };
    let removals = LazyList::computed(Removals(facts.clone()));
    let kept = LazyList::computed(Kept::new(facts));
    let mut document = document_from(&head, &tally, removals, kept);
    document.fingerprint = fingerprint(&document);
    assign_plan_id(&mut document);
    document
}

/// Creates a document from the sums over the repositories and the views of their tags. Its fingerprint and its id are
/// empty: see [`fingerprint()`] and [`assign_plan_id()`].
///
/// `tally` must have the same sources and policies as `basis`. The views are ordered by registry, repository and tag.
#[must_use]
pub fn document_from(
    basis: &PlanBasis,
    tally: &PlanTally,
    removals: LazyList<RemovalView>,
    kept: LazyList<KeptView>,
) -> PlanDocument {
    let PlanBasis { rules, registries, .. } = *basis;
    let registry_views =
        registries.iter().map(|found| registry(found, &tally.registry(&found.name), rules.undo_window)).collect();
    let mut document = PlanDocument {
        schema: SCHEMA.to_owned(),
        id: String::new(),
        fingerprint: String::new(),
        created_at: basis.created_at,
        // A time beyond the calendar is impossible: such a plan was never valid.
        expires_at: basis.created_at.checked_add(basis.valid_for).unwrap_or(basis.created_at),
        mode: basis.mode.to_owned(),
        evaluated_at: basis.evaluated_at,
        hypothetical: basis.hypothetical,
        narrowed: None,
        blocked_by: None,
        settings: basis.settings.to_owned(),
        limits: limits(rules),
        attention: Vec::new(),
        registries: registry_views,
        sources: sources(basis.claims, tally),
        policies: policies(rules, tally),
        unmatched: UnmatchedView::all(basis.coverage),
        idle: tally.idle_repositories(),
        drift: basis.drift.iter().map(drift).collect(),
        findings: basis.findings.to_vec(),
        holds: holds(basis),
        refusals: basis.refusals.iter().map(|one| refusal_in(one, &rules.policies)).collect(),
        accepted: Vec::new(),
        deletions: DeletionsView::of(basis.deletions, basis.refusals),
        storage: storage(basis.reclaim, registries),
        summary: summary(tally.verdicts(), basis.reclaim),
        removals,
        kept,
        is_applied: false,
        written_to: None,
    };
    document.attention = plan_attention(&document);
    document
}

/// Returns the holds in force on the registries that were read.
fn holds(basis: &PlanBasis) -> Vec<HoldView> {
    let here = |hold: &Hold| basis.registries.iter().any(|registry| *registry.endpoint == *hold.endpoint);
    let holds = basis.claims.holds.iter().filter(|hold| hold.is_in_force(basis.evaluated_at) && here(hold));
    holds.map(|hold| HoldView::from(&**hold)).collect()
}

fn limits(rules: &Rules) -> LimitsView {
    let Limits { untag, percent, leave, delete } = rules.limits;
    LimitsView { untag, percent, leave, delete }
}

/// The inputs for the views of tags.
#[derive(Clone)]
struct PlanFacts {
    inventory: Arc<Inventory>,
    verdicts: Arc<Verdicts>,
    plan: Arc<Plan>,
    reclaim: Arc<Reclaim>,
    evaluated_at: Timestamp,
}

impl PlanFacts {
    /// Returns the repository of a verdict's tag.
    fn place(&self, verdict: &TagVerdict) -> Option<(&Registry, &Repository)> {
        let registry = self.inventory.registries.get(verdict.position.registry as usize)?;
        Some((registry, registry.repositories.get(verdict.position.repository as usize)?))
    }

    fn has_tag(&self, verdict: &TagVerdict) -> bool {
        self.place(verdict).is_some_and(|(_, repository)| repository.tags.len() > verdict.position.tag as usize)
    }
}

/// The tags to be removed.
struct Removals(PlanFacts);

impl ViewSource<RemovalView> for Removals {
    fn count(&self) -> usize {
        self.0.plan.removals.len()
    }

    fn make(&self, position: usize) -> Option<RemovalView> {
        let PlanFacts { inventory, verdicts, plan, reclaim, evaluated_at } = &self.0;
        let removal = plan.removals.get(position)?;
        let registry = inventory.registries.get(removal.position.registry as usize)?;
        let view = removal_view(registry, removal, verdicts.at(removal.position), *evaluated_at);
        let bytes = reclaim.removals.get(position).copied().flatten();
        Some(RemovalView {
            reclaimable_bytes: bytes.map(|bytes| bytes.exclusive),
            shared_bytes: bytes.map(|bytes| bytes.shared),
            ..view
        })
    }
}

/// The tags to be retained.
struct Kept {
    facts: PlanFacts,
    /// The positions of their verdicts.
    positions: Vec<u32>,
}

impl Kept {
    fn new(facts: PlanFacts) -> Self {
        let stays = |found: &TagVerdict| is_kept(found) && facts.has_tag(found);
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
        let (registry, repository) = self.facts.place(verdict)?;
        kept_view(registry, repository, verdict, self.facts.evaluated_at)
    }
}

fn registry(registry: &Registry, read: &RegistryTally<'_>, undo_window: Duration) -> RegistryView {
    let ability = ability(registry);
    let own = registry.gaps.iter().map(|found| (None, found));
    let inner = read.gaps.iter().map(|&(repository, found)| (Some(repository.to_string()), found));
    let (invalid_names, gaps): (Vec<_>, Vec<_>) = own.chain(inner).partition(|(_, found)| found.is_note());
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
        info: registry.info.as_ref().map(RegistryInfoView::from),
        accepted: [(registry.accepts_same_content, "same-content"), (registry.accepts_retention, "untagged-retention")]
            .into_iter()
            .filter(|(accepted, _)| *accepted)
            .map(|(_, name)| name.to_owned())
            .collect(),
        clock_ahead_seconds: registry.clock_ahead.map(ahead_seconds),
        clock: clock(registry, read.repositories),
        undo_seconds: undo_seconds(registry, undo_window),
        repositories: read.repositories,
        tags: read.tags,
        indexes_read: index_reads(&registry.index_reads),
        gaps: views(gaps),
        invalid_names: views(invalid_names),
    }
}

/// Returns by how many seconds a clock is ahead; 0 below ten seconds, which is within the duration of requests.
fn ahead_seconds(ahead: SignedDuration) -> i64 {
    let seconds = ahead.as_secs();
    if seconds.abs() < 10 { 0 } else { seconds }
}

/// Describes the doubt about the time of a registry with that many read repositories.
fn clock(registry: &Registry, repositories: u64) -> Option<String> {
    let differs = registry.clock_ahead.filter(|ahead| engine::exceeds_clock_skew(*ahead));
    let doubt = registry.clock_issue.filter(|_| repositories > 0);
    doubt.as_ref().map(describe_clock_doubt).or_else(|| differs.map(|ahead| describe_clock_difference(ahead.as_secs())))
}

fn obstacle_view((repository, why): (&RepositoryName, &RemovalObstacle)) -> ObstacleView {
    ObstacleView { repository: repository.to_string(), message: describe_obstacle(why) }
}

fn gap_view(repository: Option<String>, gap: &Gap) -> GapView {
    GapView {
        repository,
        at: gap.target.to_string(),
        kind: gap.kind.to_owned(),
        message: gap.message.to_string(),
        has_help: gap.has_help,
    }
}

fn sources(claims: &Claims, tally: &PlanTally) -> Vec<SourceView> {
    let mut counts = tally.sources();
    let of = |answer: &SourceOutcome| source(answer, counts.remove(&answer.name).unwrap_or_default());
    claims.sources.iter().map(of).collect()
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
            // One line for each problem; reports have one line for all.
            SourceView { state: "failed".to_owned(), error: Some(message.replace('\n', "; ")), ..view }
        }
    }
}

fn policies(rules: &Rules, tally: &PlanTally) -> Vec<PolicyView> {
    let mut policies: Vec<&Policy> = rules.policies.iter().collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let counts = tally.policies();
    let view = |policy: &Policy| {
        let counts = counts.get(&policy.name).copied().unwrap_or_default();
        PolicyView {
            name: policy.name.to_string(),
            mode: policy.mode.label().to_owned(),
            owner: policy.owner.clone(),
            description: policy.description.clone(),
            file: policy.file.to_string(),
            revision: policy.revision.to_string(),
            selected: Some(counts.selected),
            expired: counts.expired,
        }
    };
    policies.into_iter().map(view).collect()
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
    refusal_in(refusal, &[])
}

/// The view of a refusal that names the files of these policies.
fn refusal_in(refusal: &Refusal, policies: &[Policy]) -> RefusalView {
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
        message: describe_refusal_in(refusal, policies),
    }
}

/// The view of a refusal that was accepted in a plan made by `by`.
#[must_use]
pub fn accepted_view(accepted: &AcceptedRefusal, by: &str, policies: &[Policy]) -> AcceptedView {
    let RefusalView { kind, policy, registry, repository, .. } = refusal(&accepted.refusal);
    let none = ExtentView::default();
    let extent = match AcceptedBound::of(&accepted.refusal.reason) {
        Some(AcceptedBound::Count(found)) => ExtentView { found: Some(found), ..none },
        Some(AcceptedBound::Share { found, tags }) => ExtentView { found: Some(found), tags: Some(tags), ..none },
        Some(AcceptedBound::Left(left)) => ExtentView { left: Some(left), ..none },
        Some(AcceptedBound::Rule(rule)) => ExtentView { rule: Some(rule), ..none },
        None => none,
    };
    let what = describe_refusal_of(&accepted.refusal, policies).0;
    let message = format!("{}: {what}", refusal_place(&accepted.refusal.scope));
    let (reason, by) = (accepted.reason.clone(), by.to_owned());
    AcceptedView { kind, policy, registry, repository, message, reason, by, extent }
}

fn summary(verdicts: VerdictCounts, reclaim: &[RegistryReclaim]) -> SummaryView {
    let sum = reclaim.iter().map(RegistryReclaim::sum).fold(ReclaimSum::default(), ReclaimSum::plus);
    SummaryView {
        tags: verdicts.total(),
        expired: verdicts.expired,
        retained: verdicts.retained,
        protected: verdicts.protected,
        undecided: verdicts.undecided,
        out_of_scope: verdicts.out_of_scope,
        reclaimable_bytes: sum.bytes.exclusive,
        shared_bytes: sum.bytes.shared,
        unknown_bytes_removals: sum.unknown,
        bytes: accuracy_label(reclaim.iter().any(|registry| registry.estimated)),
    }
}
