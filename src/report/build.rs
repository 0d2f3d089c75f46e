//! From decisions to the document that people and scripts read.

use std::time::Duration;

use jiff::Timestamp;

use super::document::{
    DriftView, GapView, KeptView, LimitsView, PlanDocument, PolicyView, RefusalView, RegistryView, RemovalView, SCHEMA,
    SourceView, SummaryView,
};
use super::reason::{HolderView, ReasonView};
use super::{obstacle, refusal_message, seal};
use crate::domain::{
    Claims, Date, Drift, Gap, Inventory, Plan, Policy, Reclaim, Refusal, Registry, RemovalAbility, Rules, Scope,
    SourceAnswer, SourceState, TagAt, TagVerdict, Verdict,
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
    pub inventory: &'a Inventory,
    /// What was claimed.
    pub claims: &'a Claims,
    /// What was decided.
    pub verdicts: &'a Verdicts,
    /// What follows from it.
    pub plan: &'a Plan,
    /// What that would free.
    pub reclaim: &'a Reclaim,
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
    let removals = removals(basis);
    let kept = kept(basis);
    let mut document = PlanDocument {
        schema: SCHEMA.to_owned(),
        id: String::new(),
        created_at: basis.created_at,
        // A time beyond the calendar cannot be: the plan then never was valid.
        expires_at: basis.created_at.checked_add(basis.valid_for).unwrap_or(basis.created_at),
        mode: basis.mode.to_owned(),
        evaluated_at: basis.evaluated_at,
        hypothetical: basis.hypothetical,
        settings: basis.settings.to_owned(),
        limits: LimitsView { untag: rules.limits.untag, percent: rules.limits.percent, leave: rules.limits.leave },
        registries: inventory.registries.iter().map(registry).collect(),
        sources: basis.claims.sources.iter().map(source).collect(),
        policies: policies(rules, &removals),
        drift: basis.verdicts.drift.iter().map(drift).collect(),
        refusals: plan.refusals.iter().map(refusal).collect(),
        summary: summary(basis),
        removals,
        kept,
    };
    seal(&mut document);
    document
}

fn registry(registry: &Registry) -> RegistryView {
    let own = registry.gaps.iter().map(|found| gap(None, found));
    let inner = registry
        .repositories
        .iter()
        .flat_map(|repository| repository.gaps.iter().map(|found| gap(Some(repository.name.to_string()), found)));
    RegistryView {
        name: registry.name.to_string(),
        kind: registry.kind.to_owned(),
        endpoint: registry.endpoint.clone(),
        identity: registry.identity.clone(),
        removal: registry.removal.label().to_owned(),
        obstacle: match &registry.ability {
            RemovalAbility::Impossible(why) => Some(obstacle(why)),
            RemovalAbility::Able | RemovalAbility::NotAsked => None,
        },
        repositories: registry.repositories.len() as u64,
        tags: registry.repositories.iter().map(|repository| repository.tags.len() as u64).sum(),
        gaps: own.chain(inner).collect(),
    }
}

fn gap(repository: Option<String>, gap: &Gap) -> GapView {
    GapView { repository, at: gap.at.to_string(), kind: gap.kind.to_owned(), message: gap.message.to_string() }
}

fn source(answer: &SourceAnswer) -> SourceView {
    let view = SourceView {
        name: answer.name.to_string(),
        kind: answer.kind.to_owned(),
        state: "answered".to_owned(),
        claims: answer.claims().len() as u64,
        as_of: None,
        error: None,
        notes: Vec::new(),
    };
    match &answer.state {
        SourceState::Answered { as_of, notes, .. } => SourceView { as_of: *as_of, notes: notes.clone(), ..view },
        SourceState::Failed { message, .. } => {
            SourceView { state: "failed".to_owned(), error: Some(message.to_string()), ..view }
        }
    }
}

fn policies(rules: &Rules, removals: &[RemovalView]) -> Vec<PolicyView> {
    let mut policies: Vec<&Policy> = rules.policies.iter().collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let expired = |name: &str| removals.iter().filter(|removal| removal.policies().any(|by| by == name)).count();
    policies
        .into_iter()
        .map(|policy| PolicyView {
            name: policy.name.to_string(),
            mode: policy.mode.label().to_owned(),
            owner: policy.owner.clone(),
            description: policy.description.clone(),
            file: policy.file.to_string(),
            revision: policy.revision.to_string(),
            expired: expired(policy.name.as_str()) as u64,
        })
        .collect()
}

fn removals(basis: &Basis) -> Vec<RemovalView> {
    let verdict_at = |at: TagAt| basis.verdicts.tags.binary_search_by_key(&at, |verdict| verdict.at).ok();
    let reclaimed = basis.reclaim.removals.iter().copied().chain(std::iter::repeat(None));
    basis
        .plan
        .removals
        .iter()
        .zip(reclaimed)
        .map(|(removal, reclaimable_bytes)| {
            let reasons = verdict_at(removal.at).map(|found| reasons(&basis.verdicts.tags[found])).unwrap_or_default();
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
                age_seconds: dated_at.map(|time| basis.evaluated_at.duration_since(time).as_secs()),
                reclaimable_bytes,
                reasons,
            }
        })
        .collect()
}

fn kept(basis: &Basis) -> Vec<KeptView> {
    basis.verdicts.tags.iter().filter_map(|verdict| kept_tag(basis, verdict)).collect()
}

fn kept_tag(basis: &Basis, verdict: &TagVerdict) -> Option<KeptView> {
    if verdict.verdict == Verdict::Expired {
        return None;
    }
    let registry = basis.inventory.registries.get(verdict.at.registry as usize)?;
    let repository = registry.repositories.get(verdict.at.repository as usize)?;
    let tag = repository.tags.get(verdict.at.tag as usize)?;
    let date = engine::date(repository, tag, basis.evaluated_at);
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

fn drift(drift: &Drift) -> DriftView {
    DriftView {
        source: drift.source.to_string(),
        holder: HolderView::from(&*drift.holder).words(),
        registry: drift.registry.to_string(),
        repository: drift.repository.to_string(),
        tag: drift.reference.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
        recorded: drift.reference.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
        actual: drift.actual.as_ref().map(ToString::to_string),
    }
}

fn refusal(refusal: &Refusal) -> RefusalView {
    let (policy, registry, repository) = match &refusal.scope {
        Scope::Run => (None, None, None),
        Scope::Registry(registry) => (None, Some(registry), None),
        Scope::Policy(policy) => (Some(policy), None, None),
        Scope::PolicyInRepository(policy, registry, repository) => (Some(policy), Some(registry), Some(repository)),
        Scope::Repository(registry, repository) => (None, Some(registry), Some(repository)),
    };
    RefusalView {
        kind: refusal.why.label().to_owned(),
        policy: policy.map(ToString::to_string),
        registry: registry.map(ToString::to_string),
        repository: repository.map(ToString::to_string),
        binding: refusal.binding,
        message: refusal_message(refusal),
    }
}

fn summary(basis: &Basis) -> SummaryView {
    let count = |wanted: Verdict| basis.verdicts.tags.iter().filter(|tag| tag.verdict == wanted).count() as u64;
    SummaryView {
        tags: basis.verdicts.tags.len() as u64,
        expired: count(Verdict::Expired),
        retained: count(Verdict::Retained),
        protected: count(Verdict::Protected),
        undecided: count(Verdict::Undecided),
        out_of_scope: count(Verdict::OutOfScope),
        reclaimable_bytes: basis.reclaim.reclaimable_bytes,
        shared_bytes: basis.reclaim.shared_bytes,
        unknown_bytes_removals: basis.reclaim.removals.iter().filter(|bytes| bytes.is_none()).count() as u64,
    }
}
