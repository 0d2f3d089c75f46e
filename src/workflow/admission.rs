//! An approved plan, read back: whether it may be applied, and what of it still holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Decision, RunError, RunOutcome};
use crate::apply::{JournalEvidence, RemovalTask};
use crate::config::{Mode, Settings};
use crate::domain::{Date, Removal, RemovalMethod, Rules, SkipReason, TagPosition, UndatedCause};
use crate::policy::PolicySet;
use crate::registry::{CollectScope, VANISHED};
use crate::report::{PlanDocument, ReasonView, RemovalView};
use crate::state::RunRecord;

/// Whether a plan may be applied here and now at all.
///
/// # Errors
/// [`RunError::Refused`], with the reason and what to do next.
pub(super) fn admit(
    plan: &PlanDocument,
    settings: &Settings,
    policies: &PolicySet,
    now: Timestamp,
) -> Result<(), RunError> {
    let refused = |why: String| Err(RunError::Refused(why));
    if settings.mode == Mode::DryRun {
        return refused(format!(
            "{} says `mode = \"dry-run\"`, in which nothing is ever removed; set `approved` or `enforce`",
            settings.file.display()
        ));
    }
    if plan.mode == Mode::DryRun.label() {
        return refused(
            "the plan was made in mode `dry-run`, in which nothing is removed: it is a report; make a new one"
                .to_owned(),
        );
    }
    if plan.hypothetical {
        return refused(format!("the plan was made for {} by `--at`, to look at only", plan.evaluated_at));
    }
    if now >= plan.expires_at {
        return refused(format!("the plan expired at {}; make a new one", plan.expires_at));
    }
    if plan.created_at > now {
        return refused(format!(
            "the plan was made at {}, which is in the future; is the clock right?",
            plan.created_at
        ));
    }
    for registry in &plan.registries {
        let known = settings.registries.iter().find(|known| known.name.as_str() == registry.name);
        let same = known.is_some_and(|known| {
            known.kind.label() == registry.kind && known.endpoint.as_str().trim_end_matches('/') == registry.endpoint
        });
        if !same {
            return refused(format!(
                "the plan is for registry {} at {}, which is not in the settings",
                registry.name, registry.endpoint
            ));
        }
    }
    if plan.settings != settings.revision {
        return refused(format!(
            "registries, sources, limits or time zone in {} have changed since the plan was made; make a new one",
            settings.file.display()
        ));
    }
    let then: BTreeSet<(&str, &str, &str, &str)> =
        plan.policies.iter().map(|policy| (&*policy.name, &*policy.file, &*policy.revision, &*policy.mode)).collect();
    let now: BTreeSet<(&str, &str, &str, &str)> = policies
        .policies
        .iter()
        .map(|policy| (policy.name.as_str(), &*policy.file, &*policy.revision, policy.mode.label()))
        .collect();
    if let Some((name, file, _, _)) = then.symmetric_difference(&now).next() {
        return refused(format!("policy {name} in {file} has changed since the plan was made; make a new one"));
    }
    Ok(())
}

/// Whether plans may be applied at this time.
///
/// # Errors
/// [`RunError::Refused`] outside the window and in a freeze, unless a person gave a reason.
pub(super) fn check_schedule(settings: &Settings, despite: Option<&str>, now: Timestamp) -> Result<(), RunError> {
    match settings.schedule.blocked_by(now) {
        Some(block) if despite.is_none() => Err(RunError::Refused(format!(
            "removals are held back, {block}; wait, or give a reason to apply it all the same with \
             `--despite-freeze REASON`"
        ))),
        _ => Ok(()),
    }
}

/// Whether a plan that a run applied or began to may be applied again: only what a run left undone against its will.
///
/// # Errors
/// [`RunError::Refused`] where that run did all that it was to do.
pub(super) fn check_reapplication(plan: &str, record: &RunRecord) -> Result<(), RunError> {
    let Some(end) = record.end.as_ref().filter(|end| end.outcome == RunOutcome::Done.label()) else { return Ok(()) };
    Err(RunError::Refused(format!(
        "plan {plan} was applied already, by run {} on {}; what it skipped stays, and what was put back since stays; make a \
         new one",
        record.run.id,
        end.ended_at.strftime("%Y-%m-%d %H:%M UTC")
    )))
}

/// The removals of an approved plan, in its order.
///
/// # Errors
/// [`RunError::Refused`] where one names what can be no image.
pub(super) fn approved_removals(plan: &PlanDocument) -> Result<Vec<Arc<Removal>>, RunError> {
    let refused = |view: &RemovalView| RunError::Refused(format!("the plan names {}, which is no image", view.name()));
    plan.removals.iter().map(|view| removal(&view).map(Arc::new).ok_or_else(|| refused(&view))).collect()
}

fn removal(view: &RemovalView) -> Option<Removal> {
    Some(Removal {
        // It stands in no inventory of this run.
        position: TagPosition { registry: u32::MAX, repository: u32::MAX, tag: u32::MAX },
        registry: view.registry.parse().ok()?,
        repository: view.repository.parse().ok()?,
        tag: view.tag.parse().ok()?,
        digest: view.digest.parse().ok()?,
        policy: view.policy.parse().ok()?,
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

/// The repositories that a plan removes from: only those are read again.
pub(super) fn scope(removals: &[Arc<Removal>]) -> CollectScope {
    let mut only = BTreeMap::new();
    for removal in removals {
        let repositories: &mut BTreeSet<_> = only.entry(removal.registry.clone()).or_default();
        repositories.insert(removal.repository.clone());
    }
    CollectScope::Repositories(only)
}

/// The refusals of now that hold for a plan approved before. Those of numbers in all were looked at with the plan.
const REGISTRY_REFUSALS: [&str; 7] = [
    "leave-limit",
    "percent-limit",
    "removal-impossible",
    "untagged-retention",
    "registry-settings-unread",
    "clock",
    "protects-nothing",
];

/// What of an approved plan still follows from the evidence of now, and what does not, with the reason. `earlier` is what
/// the plan removed before, by name: what is there again was put back.
pub(super) fn intersect(
    approved: &PlanDocument,
    removals: &[Arc<Removal>],
    decision: &Decision,
    earlier: &BTreeMap<String, Uuid>,
) -> (Vec<RemovalTask>, Vec<(RemovalTask, SkipReason)>) {
    let now: BTreeMap<String, usize> =
        decision.document.removals.iter().enumerate().map(|(index, view)| (view.name(), index)).collect();
    let impossible = |registry: &str| {
        decision.document.registries.iter().find(|view| view.name == registry).and_then(|view| view.obstacle.clone())
    };
    // Fewer tags than then may be left, or a greater share of them; and the registry itself may not be what it was.
    let forbidden = |index: usize| {
        let view = decision.document.removals.get(index)?;
        let mut refusals = decision.document.refusals.iter();
        refusals.find(|refusal| REGISTRY_REFUSALS.contains(&&*refusal.kind) && refusal.binding && refusal.covers(&view))
    };
    let (mut orders, mut skipped) = (Vec::new(), Vec::new());
    for (view, removal) in approved.removals.iter().zip(removals) {
        let index = now.get(&view.name()).copied();
        let found = index.and_then(|index| decision.plan.removals.get(index));
        let order =
            |removal: &Arc<Removal>| RemovalTask { removal: Arc::clone(removal), evidence: journal_evidence(&view) };
        let skip = if !view.enforce {
            SkipReason::DryRun
        } else if let Some(refusal) = approved.refusal_of(&view) {
            SkipReason::Refused(refusal.message.clone())
        } else if let Some(run) = earlier.get(&view.name()).filter(|_| found.is_some()) {
            SkipReason::Refused(format!(
                "run {run} removed it by this plan already, and it was put back since; make a new plan"
            ))
        } else if let Some(obstacle) = impossible(&view.registry) {
            SkipReason::Refused(obstacle)
        } else {
            match found {
                Some(now) if now.digest != removal.digest => SkipReason::Moved { to: now.digest.clone() },
                Some(now) if now.enforce => {
                    let Some(refusal) = index.and_then(forbidden) else {
                        orders.push(order(now));
                        continue;
                    };
                    SkipReason::Refused(refusal.message.clone())
                }
                Some(_) => SkipReason::DryRun,
                None => removal_skip_reason(&view, decision),
            }
        };
        skipped.push((order(removal), skip));
    }
    (orders, skipped)
}

/// Makes sure that no more is removed than the settings and each policy allow in one run. A plan that was made here never
/// asks for more, because what a limit refuses is skipped: this is for one that somebody made otherwise.
///
/// # Errors
/// [`RunError::Refused`], and then nothing may be removed.
pub(super) fn enforce_limits(orders: &[RemovalTask], decision: &Decision, rules: &Rules) -> Result<(), RunError> {
    let views: BTreeMap<String, usize> =
        decision.document.removals.iter().enumerate().map(|(index, view)| (view.name(), index)).collect();
    let mut by_policy: BTreeMap<String, usize> = BTreeMap::new();
    for order in orders {
        let view =
            views.get(&super::removal_name(&order.removal)).and_then(|index| decision.document.removals.get(*index));
        for policy in view.iter().flat_map(|view| view.policies()) {
            *by_policy.entry(policy.to_owned()).or_default() += 1;
        }
    }
    let of_policies = rules.policies.iter().filter_map(|policy| {
        Some((format!("policy {}", policy.name), policy.limits.untag?, *by_policy.get(policy.name.as_str())?))
    });
    let whole = std::iter::once(("one run".to_owned(), rules.limits.untag, orders.len()));
    for (whose, allowed, found) in whole.chain(of_policies) {
        if found > usize::try_from(allowed).unwrap_or(usize::MAX) {
            return Err(RunError::Refused(format!(
                "the plan asks for {found} removals, and the limit of {whose} is {allowed}; no plan made here does that; \
                 make a new one"
            )));
        }
    }
    Ok(())
}

/// Why a removal that was approved is no longer decided.
fn removal_skip_reason(view: &RemovalView, decision: &Decision) -> SkipReason {
    let kept = decision
        .document
        .kept
        .iter()
        .find(|kept| kept.registry == view.registry && kept.repository == view.repository && kept.tag == view.tag);
    let Some(kept) = kept else {
        let gap = decision.document.registries.iter().find(|registry| registry.name == view.registry);
        let gap = gap.and_then(|registry| {
            let mut found = registry.gaps.iter().chain(&registry.odd_names);
            found.find(|gap| gap.repository.as_deref() == Some(&view.repository))
        });
        return gap.map_or(SkipReason::Missing, |gap| {
            SkipReason::Kept(format!("{} could not be read: {}", gap.at, gap.message))
        });
    };
    match (&kept.digest, kept.digest.as_ref().and_then(|digest| digest.parse().ok())) {
        (Some(digest), Some(to)) if *digest != view.digest => SkipReason::Moved { to },
        (None, _)
            if kept
                .reasons
                .iter()
                .any(|reason| matches!(reason, ReasonView::Gap { failure, .. } if failure == VANISHED)) =>
        {
            SkipReason::Missing
        }
        _ => skip_for_reasons(&kept.reasons),
    }
}

/// The skip of a tag that stays for these reasons.
pub(super) fn skip_for_reasons(reasons: &[ReasonView]) -> SkipReason {
    let against = reasons.iter().filter(|reason| !matches!(reason, ReasonView::LetGo { .. }));
    SkipReason::Kept(against.map(ReasonView::sentence).collect::<Vec<_>>().join("; "))
}

fn journal_evidence(view: &RemovalView) -> JournalEvidence {
    JournalEvidence::Json(serde_json::to_string(&view.reasons).unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::domain::{
        Claims, Digest, Gap, GapTarget, Inventory, Limits, Manifest, ManifestDetail, Registry, RegistryInfo,
        RemovalObstacle, Repository, RetentionDays, Rules, Tag,
    };
    use crate::report::{self, Basis};
    use crate::workflow::ClockCheck;
    use crate::{engine, policy};

    /// What is decided about a registry with one old tag, after `change`.
    fn decided(change: impl FnOnce(&mut Registry)) -> Decision {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let policy = "policies:\n  - { name: old, select: { tags: ['*'] }, keep: none, mode: enforce }\n";
        let rules = Rules {
            policies: policy::parse("old.yaml", policy).unwrap(),
            limits: Limits { untag: 10, percent: 100, leave: 0, ..Limits::default() },
            timezone: TimeZone::UTC,
            undo_window: Duration::from_hours(24),
        };
        let mut repository = Repository::empty("app".parse().unwrap());
        let digest = Digest::of(b"image");
        let manifest = Manifest {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            size: 1,
            config: None,
            blobs: [].into(),
            children: Vec::new(),
            subject: None,
            created_at: None,
            lock: None,
            detail: ManifestDetail::Full,
        };
        repository.manifests.insert(digest.clone(), manifest);
        let name = "v1".parse().unwrap();
        repository.tags.push(Tag { name, digest: Some(digest), pushed_at: None, first_seen: None, lock: None });
        let mut registry =
            Registry { repositories: vec![repository], ..Registry::empty("contoso".parse().unwrap(), "acr") };
        change(&mut registry);
        let (inventory, claims) = (Inventory { registries: vec![registry] }, Claims::default());
        let inventory = Arc::new(inventory);
        let verdicts = Arc::new(engine::evaluate(&rules, &inventory, &claims, now));
        let plan = Arc::new(engine::plan(&rules, &inventory, &verdicts, now));
        let reclaim = Arc::new(engine::reclaim(&inventory, &claims, &verdicts, &plan));
        let document = report::document(&Basis {
            rules: &rules,
            mode: "approved",
            settings: "sha256:0",
            inventory: &inventory,
            claims: &claims,
            verdicts: &verdicts,
            plan: &plan,
            reclaim: &reclaim,
            drift: &[],
            created_at: now,
            evaluated_at: now,
            hypothetical: false,
            valid_for: Duration::from_hours(24),
        });
        Decision {
            inventory,
            claims,
            verdicts,
            plan,
            externally_deleted: Vec::new(),
            clock: ClockCheck::default(),
            document,
        }
    }

    fn retention(registry: &mut Registry, days: u32) {
        registry.info = Some(RegistryInfo {
            subscription: "s".into(),
            resource_group: "g".into(),
            resource: "contoso".into(),
            tier: None,
            untagged_retention: RetentionDays::Days(days),
            soft_delete: RetentionDays::Off,
            permissions: None,
            replicas: Vec::new(),
            stored_bytes: None,
        });
    }

    fn unread(registry: &mut Registry) {
        registry.gaps.push(Gap { target: GapTarget::RegistryInfo, kind: "http-403", message: "".into() });
    }

    fn denied(registry: &mut Registry) {
        let why = RemovalObstacle::Denied { message: "may not delete".into() };
        registry.obstacles.insert("app".parse().unwrap(), why);
    }

    /// Nothing that a registry has become since the plan was approved is passed over.
    #[test]
    fn a_registry_that_is_not_what_it_was_keeps_what_was_approved() {
        let approved = decided(|_| ()).document;
        let removals = approved_removals(&approved).unwrap();
        let skipped = |change: fn(&mut Registry)| {
            let (orders, skipped) = intersect(&approved, &removals, &decided(change), &BTreeMap::new());
            assert_eq!(orders.len() + skipped.len(), 1);
            skipped.into_iter().map(|(_, skip)| skip.to_string()).next().unwrap_or_default()
        };
        assert_eq!(skipped(|_| ()), "");
        assert_eq!(skipped(|registry| retention(registry, 1)), "");
        for (told, words) in [
            (skipped(|registry| retention(registry, 0)), "deletes untagged manifests by itself at once"),
            (skipped(|registry| registry.clock_ahead = Some(jiff::SignedDuration::from_secs(121))), "its clock is"),
            (skipped(unread), "could not be read"),
            (skipped(denied), "may not delete"),
        ] {
            assert!(told.starts_with("refused: ") && told.contains(words), "{told}");
        }
    }
}
