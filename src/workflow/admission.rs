//! Admission of an approved plan: the checks before it is applied.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Refused, RunError, RunOutcome};
use crate::config::{Mode, Settings};
use crate::domain::{
    Date, PolicyName, RegistryName, Removal, RemovalMethod, RepositoryName, Rules, TagPosition, UndatedCause,
    decode_text,
};
use crate::policy::PolicySet;
use crate::report::{self, PlanDocument, PlanReadError, RemovalView};
use crate::state::RunRecord;

/// Reads an approved plan from the content of its file.
///
/// # Errors
/// Returns [`Refused::InvalidPlan`] if it is not a plan as Tagwarden made it.
pub(super) fn read_plan(content: &[u8]) -> Result<PlanDocument, Refused> {
    let text = decode_text(content.to_vec()).map_err(PlanReadError::from);
    text.and_then(|text| report::read_plan(&text)).map_err(Refused::InvalidPlan)
}

/// Checks that a plan may be applied here and now.
///
/// # Errors
/// Returns [`RunError::Refused`] if it may not, with the reason and what to do next.
pub(super) fn admit(
    plan: &PlanDocument,
    settings: &Settings,
    policies: &PolicySet,
    now: Timestamp,
) -> Result<(), RunError> {
    let refused = |why: Refused| Err(RunError::Refused(why));
    if settings.mode == Mode::DryRun {
        return refused(Refused::ModeIsDryRun { file: settings.file.clone() });
    }
    if plan.mode == Mode::DryRun.label() {
        return refused(Refused::PlanOfDryRun);
    }
    if plan.hypothetical {
        return refused(Refused::Hypothetical { at: plan.evaluated_at });
    }
    if now >= plan.expires_at {
        return refused(Refused::Expired { at: plan.expires_at });
    }
    if plan.created_at > now {
        return refused(Refused::FromFuture { at: plan.created_at });
    }
    for registry in &plan.registries {
        let known = settings.registries.iter().find(|known| known.name.as_str() == registry.name);
        let same = known.is_some_and(|known| {
            known.provider.name() == registry.kind && known.endpoint.as_str().trim_end_matches('/') == registry.endpoint
        });
        if !same {
            let (registry, endpoint) = (registry.name.clone(), registry.endpoint.clone());
            return refused(Refused::OtherRegistry { registry, endpoint });
        }
    }
    if plan.settings != settings.revision {
        return refused(Refused::SettingsChanged { file: settings.file.clone() });
    }
    let then: BTreeSet<(&str, &str, &str, &str)> =
        plan.policies.iter().map(|policy| (&*policy.name, &*policy.file, &*policy.revision, &*policy.mode)).collect();
    let now: BTreeSet<(&str, &str, &str, &str)> = policies
        .policies
        .iter()
        .map(|policy| (policy.name.as_str(), &*policy.file, &*policy.revision, policy.mode.label()))
        .collect();
    if let Some(&(name, file, _, _)) = then.symmetric_difference(&now).next() {
        return refused(Refused::PolicyChanged { policy: name.to_owned(), file: file.to_owned() });
    }
    Ok(())
}

/// Checks that plans may be applied at this time.
///
/// # Errors
/// Returns [`RunError::Refused`] outside the window and in a freeze, unless a person gave a reason.
pub(super) fn check_schedule(
    settings: &Settings,
    override_reason: Option<&str>,
    now: Timestamp,
) -> Result<(), RunError> {
    match settings.schedule.blocked_by(now) {
        Some(block) if override_reason.is_none() => Err(Refused::Blocked(block).into()),
        _ => Ok(()),
    }
}

/// Checks that a plan may be applied a second time: only to do what an earlier run had to leave undone.
///
/// # Errors
/// Returns [`RunError::Refused`] if that run completed the plan.
pub(super) fn check_reapplication(plan: &str, record: &RunRecord) -> Result<(), RunError> {
    let Some(end) = record.end.as_ref().filter(|end| end.outcome == RunOutcome::Done.label()) else { return Ok(()) };
    Err(Refused::AppliedAlready { plan: plan.to_owned(), run: record.run.id, ended_at: end.ended_at }.into())
}

/// Checks that everything in an approved plan has a valid name.
///
/// # Errors
/// Returns [`RunError::Refused`] if a name cannot be that of an image.
pub(super) fn check_names(plan: &PlanDocument) -> Result<(), RunError> {
    match plan.removals.iter().find(|view| removal(view).is_none()) {
        Some(view) => Err(Refused::InvalidImage { name: view.name() }.into()),
        None => Ok(()),
    }
}

/// Returns true if a plan may really make a removal: all its policies enforce, and no refusal covers it.
pub(super) fn is_enforced(plan: &PlanDocument, view: &RemovalView) -> bool {
    view.enforce && plan.refusal_of(view).is_none()
}

/// Returns the number of removals and deletions that a plan may really make.
pub(super) fn count_enforced(plan: &PlanDocument) -> u64 {
    let deletions = plan.deletions.deletable().filter(|view| view.enforce && view.refused.is_none());
    let removals = plan.removals.groups().filter(|(view, _)| is_enforced(plan, view));
    removals.map(|(_, count)| count).sum::<u64>() + deletions.count() as u64
}

/// Returns the removal that a view names; `None` if the name cannot be that of an image.
pub(super) fn removal(view: &RemovalView) -> Option<Removal> {
    removal_after(None, view)
}

/// The same for a view that follows another one, with whose removal it shares the texts of equal names: there may be a
/// hundred thousand of one repository.
pub(super) fn removal_after(previous: Option<&Removal>, view: &RemovalView) -> Option<Removal> {
    let policy = shared_name(&view.policy, previous.map(|removal| &removal.policy))?;
    let mut policies: Vec<PolicyName> = view.policies().filter_map(|name| shared_name(name, Some(&policy))).collect();
    policies.push(policy.clone());
    policies.sort();
    policies.dedup();
    let policies = match previous {
        Some(previous) if *previous.policies == *policies => Arc::clone(&previous.policies),
        _ => policies.into(),
    };
    Some(Removal {
        // It is not in the inventory of this run.
        position: TagPosition { registry: u32::MAX, repository: u32::MAX, tag: u32::MAX },
        registry: shared_name(&view.registry, previous.map(|removal| &removal.registry))?,
        repository: shared_name(&view.repository, previous.map(|removal| &removal.repository))?,
        tag: view.tag.parse().ok()?,
        digest: view.digest.parse().ok()?,
        policy,
        policies,
        method: [RemovalMethod::Untag, RemovalMethod::DeleteManifest]
            .into_iter()
            .find(|method| method.label() == view.method)?,
        enforce: view.enforce,
        date: view.dated_at.map_or(Date::Unknown(UndatedCause::Missing), Date::Created),
        companion_of: match &view.companion_of {
            Some(digest) => Some(Box::new(digest.parse().ok()?)),
            None => None,
        },
    })
}

/// Returns the name of that text, which is `known` if they are equal; `None` if it is invalid.
fn shared_name<N: FromStr + Borrow<str> + Clone>(text: &str, known: Option<&N>) -> Option<N> {
    match known.filter(|known| (**known).borrow() == text) {
        Some(known) => Some(known.clone()),
        None => text.parse().ok(),
    }
}

/// Returns the number of tags of each repository in a plan.
pub(super) fn tag_counts(plan: &PlanDocument) -> BTreeMap<(RegistryName, RepositoryName), u64> {
    let mut by_name: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut add = |registry: &str, repository: &str, count: u64| {
        *by_name.entry((registry.to_owned(), repository.to_owned())).or_default() += count;
    };
    plan.removals.groups().for_each(|(view, count)| add(&view.registry, &view.repository, count));
    plan.kept.groups().for_each(|(view, count)| add(&view.registry, &view.repository, count));
    let parsed = |(registry, repository): (String, String)| registry.parse().ok().zip(repository.parse().ok());
    by_name.into_iter().filter_map(|(place, count)| Some((parsed(place)?, count))).collect()
}

/// Checks that a plan requests no more removals than the settings and each policy allow in one run. A plan made by
/// Tagwarden never does, because refused removals are skipped; this guards against plans from elsewhere.
///
/// # Errors
/// Returns [`RunError::Refused`] if it does; nothing may be removed then.
pub(super) fn enforce_limits(approved: &PlanDocument, rules: &Rules) -> Result<(), RunError> {
    let (mut all, mut by_policy) = (0_u64, BTreeMap::<String, u64>::new());
    for (view, count) in approved.removals.groups().filter(|(view, _)| is_enforced(approved, view)) {
        all += count;
        let policies: BTreeSet<&str> = view.policies().chain([view.policy.as_str()]).collect();
        for policy in policies {
            *by_policy.entry(policy.to_owned()).or_default() += count;
        }
    }
    let of_policies = rules
        .policies
        .iter()
        .filter_map(|policy| Some((Some(&policy.name), policy.limits.untag?, *by_policy.get(policy.name.as_str())?)));
    let whole = std::iter::once((None, rules.limits.untag, all));
    for (policy, allowed, found) in whole.chain(of_policies) {
        let accepted = approved.accepted_count("untag-limit", policy.map(PolicyName::as_str));
        if found > u64::from(allowed).max(accepted) {
            return Err(Refused::OverLimit { found, policy: policy.cloned(), allowed }.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::super::intersection::tests::decided;
    use super::*;
    use crate::domain::{Limits, chain};
    use crate::policy;
    use crate::report::ReasonView;

    /// Every policy of a removal counts it, not only the first.
    #[test]
    fn no_policy_removes_more_than_it_may() {
        let yaml = "policies:\n  - { name: a, select: { tags: ['*'] }, keep: none, mode: enforce }\n  \
                    - { name: b, select: { tags: ['*'] }, keep: none, mode: enforce, limits: { untag: 1 } }\n";
        let rules = Rules {
            policies: policy::parse("old.yaml", yaml).unwrap(),
            limits: Limits { untag: 2, ..Limits::default() },
            timezone: TimeZone::UTC,
            undo_window: Duration::from_hours(24),
        };
        let approved = decided(|_| ()).document;
        let plan = |count: usize, names: &[&str]| {
            let mut plan = approved.clone();
            let first = plan.removals.get(0).unwrap().into_owned();
            let reason = serde_json::to_string(&first.reasons[0]).unwrap();
            let of = |name: &&str| serde_json::from_str(&reason.replace("\"old\"", &format!("\"{name}\""))).unwrap();
            let reasons: Vec<ReasonView> = names.iter().map(of).collect();
            let view = RemovalView { reasons, policy: names[0].to_owned(), ..first };
            plan.removals = (0..count).map(|_| view.clone()).collect();
            plan
        };
        for (count, names, limit) in [
            (1, &["a", "b"][..], None),
            (2, &["a"], None),
            (2, &["a", "b"], Some("the limit of policy b is 1")),
            (3, &["a"], Some("the limit of one run is 2")),
        ] {
            let found = enforce_limits(&plan(count, names), &rules).map_err(|error| chain(&error));
            assert_eq!(found.is_err(), limit.is_some(), "{found:?}");
            assert!(limit.is_none_or(|words| found.unwrap_err().contains(words)), "{count} by {names:?}");
        }
    }

    /// A hundred thousand removals of one repository have its name once.
    #[test]
    fn removals_share_the_names_that_are_equal() {
        let view = decided(|_| ()).document.removals.get(0).unwrap().into_owned();
        let first = removal(&view).unwrap();
        let next = |change: fn(&mut RemovalView)| {
            let mut view = RemovalView { tag: "v2".to_owned(), ..view.clone() };
            change(&mut view);
            let found = removal_after(Some(&first), &view).unwrap();
            assert_eq!(found, removal(&view).unwrap());
            let is_same = |a: &str, b: &str| std::ptr::eq(a, b);
            let (repository, policy) = (found.repository.as_str(), found.policy.as_str());
            (
                is_same(repository, first.repository.as_str()),
                is_same(policy, first.policy.as_str()),
                Arc::ptr_eq(&found.policies, &first.policies),
            )
        };
        assert_eq!(next(|_| ()), (true, true, true));
        assert_eq!(next(|view| "apps".clone_into(&mut view.repository)), (false, true, true));
        assert_eq!(next(|view| "newer".clone_into(&mut view.policy)), (true, false, false));
    }
}
