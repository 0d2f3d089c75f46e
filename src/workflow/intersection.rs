//! The removals of a plan that still follow from current evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::part_removals::PartRemovals;
use super::{Decision, RunError};
use crate::apply::{JournalEvidence, RemovalTask};
use crate::domain::{
    Date, PolicyName, Reason, RegistryName, Removal, RemovalAbility, RepositoryName, Rules, SkipReason, TagName,
    TagPosition, Verdict,
};
use crate::registry::VANISHED;
use crate::report::{self, PlanDocument, ReasonView, RemovalView};

/// The evidence that is journaled with a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JournaledEvidence {
    /// The reasons in the approved plan, which a person has seen.
    Approved,
    /// The reasons of the decision right before the removal.
    Present,
}

/// The number of removals that each policy may still make in the run. A plan observes the limits of its policies; a tag
/// may have gained policies since.
pub(super) struct LimitCounts(Mutex<BTreeMap<PolicyName, u64>>);

impl LimitCounts {
    pub(super) fn new(rules: &Rules) -> Self {
        let limits = rules.policies.iter().filter_map(|policy| Some((policy.name.clone(), policy.limits.untag?)));
        Self(Mutex::new(limits.map(|(name, limit)| (name, u64::from(limit))).collect()))
    }

    /// The same with what an approved plan was allowed beyond these limits.
    pub(super) fn accepting(self, approved: &PlanDocument) -> Self {
        let mut left = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (policy, left) in &mut left {
            *left = (*left).max(approved.accepted_count("untag-limit", Some(policy.as_str())));
        }
        Self(Mutex::new(left))
    }

    /// The same without what earlier runs of the plan removed already.
    pub(super) fn after(self, plan: &PlanDocument, earlier: &BTreeMap<String, Uuid>) -> Self {
        let mut left = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let removed = plan.removals.iter().filter(|view| !earlier.is_empty() && earlier.contains_key(&view.name()));
        for view in removed {
            let policies: BTreeSet<&str> = view.policies().chain([view.policy.as_str()]).collect();
            for (policy, left) in &mut left {
                if policies.contains(policy.as_str()) {
                    *left = left.saturating_sub(1);
                }
            }
        }
        Self(Mutex::new(left))
    }

    /// Takes the removals that all their policies may still make; the others are skipped.
    fn admit(&self, tasks: Vec<RemovalTask>, skipped: &mut Vec<(RemovalTask, SkipReason)>) -> Vec<RemovalTask> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut admitted = Vec::with_capacity(tasks.len());
        for task in tasks {
            if let Some(policy) = task.removal.policies.iter().find(|policy| left.get(*policy) == Some(&0)) {
                let why = format!("policy {policy} has removed as many tags as it may in one run");
                skipped.push((task, SkipReason::Refused(why)));
                continue;
            }
            for policy in task.removal.policies.iter() {
                if let Some(left) = left.get_mut(policy) {
                    *left -= 1;
                }
            }
            admitted.push(task);
        }
        admitted
    }
}

/// The removals of a plan, split by current evidence.
#[derive(Default)]
pub(super) struct Intersection {
    /// Those that still follow.
    pub(super) tasks: Vec<RemovalTask>,
    /// Those that do not, each with the reason.
    pub(super) skipped: Vec<(RemovalTask, SkipReason)>,
    /// True if something is refused that the plan itself does not refuse: nobody could see that in it.
    pub(super) is_refused: bool,
}

/// Splits a plan's removals into those that still follow from current evidence, and those that do not. `earlier` are the
/// tags that the plan removed before, by name: one that exists again was restored.
///
/// The plan exists only as a document, so its own refusals are taken from that. The current decision uses domain
/// values.
///
/// # Errors
/// Returns an error if the plan can no longer be read.
pub(super) fn intersect(
    planned: &PartRemovals<'_>,
    decision: &Decision,
    (earlier, journaled, limits): (&BTreeMap<String, Uuid>, JournaledEvidence, &LimitCounts),
) -> Result<Intersection, RunError> {
    let now: BTreeMap<_, &Removal> = decision.plan.removals.iter().map(|found| (place(found), found)).collect();
    let obstacle = |registry: &RegistryName| {
        let found = decision.inventory.registry(registry.as_str());
        let found = found.filter(|found| matches!(found.ability, RemovalAbility::Impossible(_)))?;
        Some(report::ability(found).map(|ability| ability.message).unwrap_or_default())
    };
    // The repository may have fewer tags than then, and the registry itself may have changed.
    let forbidden = |removal: &Removal| {
        let mut refusals = decision.plan.refusals.iter();
        refusals.find(|one| one.binding && !one.reason.is_count_limit() && one.scope.covers(removal))
    };
    let Intersection { mut tasks, mut skipped, mut is_refused } = Intersection::default();
    for planned_removal in planned.iter() {
        let (view, removal) = planned_removal?;
        let found = now.get(&place(removal)).copied();
        let skipped_task = || RemovalTask { removal: Arc::clone(removal), evidence: journal_evidence(&view) };
        let task = |now: &Removal| RemovalTask {
            removal: Arc::new(now.clone()),
            evidence: match journaled {
                JournaledEvidence::Approved => journal_evidence(&view),
                JournaledEvidence::Present => JournalEvidence::FromVerdict(Arc::clone(&decision.verdicts)),
            },
        };
        if let Some(skip) = planned_skip(planned.document(), &view) {
            skipped.push((skipped_task(), skip));
            continue;
        }
        let skip = if let Some(run) = earlier.get(&view.name()).filter(|_| found.is_some()) {
            SkipReason::Refused(format!(
                "run {run} removed it by this plan already, and it was put back since; make a new plan"
            ))
        } else if let Some(obstacle) = obstacle(&removal.registry) {
            SkipReason::Refused(obstacle)
        } else {
            match found {
                Some(now) if now.digest != removal.digest => SkipReason::Moved { to: now.digest.clone() },
                Some(now) if is_pushed_again(now, &view) => {
                    SkipReason::Kept("it was pushed again since the plan was made".to_owned())
                }
                Some(now) if now.enforce => {
                    let Some(refusal) = forbidden(now) else {
                        tasks.push(task(now));
                        continue;
                    };
                    SkipReason::Refused(report::describe_refusal(refusal))
                }
                Some(_) => SkipReason::DryRun,
                None => removal_skip_reason(removal, decision),
            }
        };
        is_refused |= matches!(skip, SkipReason::Refused(_));
        skipped.push((skipped_task(), skip));
    }
    let count = skipped.len();
    let mut tasks = limits.admit(tasks, &mut skipped);
    is_refused |= skipped.len() > count;
    // Last, because other skipped tags may depend on them.
    skip_dependents(decision, &mut tasks, &mut skipped);
    Ok(Intersection { tasks, skipped, is_refused })
}

/// Returns the reason for which the plan itself rules out one of its removals.
pub(super) fn planned_skip(plan: &PlanDocument, view: &RemovalView) -> Option<SkipReason> {
    if !view.enforce {
        return Some(SkipReason::DryRun);
    }
    plan.refusal_of(view).map(|refusal| SkipReason::Refused(refusal.message.clone()))
}

/// Returns true if the registry reports a later push of the tag than the plan: somebody needs it, even at the same
/// digest.
fn is_pushed_again(now: &Removal, view: &RemovalView) -> bool {
    match (now.date, view.dated_at) {
        (Date::Pushed(now), Some(then)) => now > then,
        _ => false,
    }
}

/// Skips tags whose dependencies would be removed by the current decision but are not among these removals, because
/// they are not in the plan, or another digest was approved.
fn skip_dependents(decision: &Decision, tasks: &mut Vec<RemovalTask>, skipped: &mut Vec<(RemovalTask, SkipReason)>) {
    for ((registry, repository), dependencies) in &decision.dependencies {
        let here = |removal: &Removal| removal.registry == *registry && removal.repository == *repository;
        let going: BTreeSet<&TagName> = tasks
            .iter()
            .map(|task| &*task.removal)
            .filter(|removal| here(removal))
            .map(|removal| &removal.tag)
            .collect();
        let all: Vec<&Removal> = decision.plan.removals.iter().filter(|removal| here(removal)).collect();
        let stays: Vec<bool> = all.iter().map(|removal| !going.contains(&removal.tag)).collect();
        let held = dependencies.held_by(&stays);
        let held: BTreeSet<TagName> =
            all.iter().zip(held).filter(|(_, held)| *held).map(|(removal, _)| removal.tag.clone()).collect();
        let (staying, others): (Vec<RemovalTask>, Vec<RemovalTask>) =
            std::mem::take(tasks).into_iter().partition(|task| here(&task.removal) && held.contains(&task.removal.tag));
        *tasks = others;
        let why = || SkipReason::Kept("an index or image that it belongs to stays".to_owned());
        skipped.extend(staying.into_iter().map(|task| (task, why())));
    }
}

/// Returns the name of a removal's tag.
fn place(removal: &Removal) -> (&RegistryName, &RepositoryName, &TagName) {
    (&removal.registry, &removal.repository, &removal.tag)
}

/// Returns the reason for which an approved removal no longer follows.
fn removal_skip_reason(removal: &Removal, decision: &Decision) -> SkipReason {
    let mut registries = (0..).zip(&decision.inventory.registries);
    let found = registries.find(|(_, found)| found.name == removal.registry).and_then(|(registry, found)| {
        let mut repositories = (0..).zip(&found.repositories);
        let (repository, found) = repositories.find(|(_, found)| found.name == removal.repository)?;
        Some((TagPosition { registry, repository, tag: 0 }, found))
    });
    let Some((position, repository)) = found else { return SkipReason::Missing };
    let mut tags = (0..).zip(&repository.tags);
    let kept = tags.find(|(_, found)| found.name == removal.tag).and_then(|(tag, found)| {
        let verdict = decision.verdicts.at(TagPosition { tag, ..position })?;
        (verdict.verdict != Verdict::Expired).then_some((found, verdict))
    });
    let Some((tag, verdict)) = kept else {
        // A single odd name says less than any other gap.
        let gap = repository.gaps.iter().min_by_key(|gap| gap.is_note());
        return gap.map_or(SkipReason::Missing, |gap| {
            SkipReason::Kept(format!("{} could not be read: {}", gap.target, gap.message))
        });
    };
    let vanished = |reason: &Reason| matches!(reason, Reason::Gap { kind, .. } if *kind == VANISHED);
    match &tag.digest {
        Some(to) if *to != removal.digest => SkipReason::Moved { to: to.clone() },
        None if verdict.reasons.iter().any(vanished) => SkipReason::Missing,
        _ => skip_for_reasons(&verdict.reasons),
    }
}

/// Returns the skip of a tag that is retained for these reasons.
pub(super) fn skip_for_reasons(reasons: &[Reason]) -> SkipReason {
    let against = reasons.iter().filter(|reason| !matches!(reason, Reason::NotKept { .. }));
    SkipReason::Kept(against.map(|reason| ReasonView::from(reason).sentence()).collect::<Vec<_>>().join("; "))
}

pub(super) fn journal_evidence(view: &RemovalView) -> JournalEvidence {
    JournalEvidence::Json(serde_json::to_string(&view.reasons).unwrap_or_default().into())
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::domain::{
        Claims, ClockReading, Digest, Gap, GapTarget, Inventory, Limits, Lock, Manifest, ManifestDetail, Registry,
        RegistryInfo, RemovalMethod, RemovalObstacle, Repository, RetentionDays, Rules, Tag,
    };
    use crate::report::Basis;
    use crate::workflow::ClockCheck;
    use crate::workflow::admission::removal;
    use crate::workflow::decision::DecisionGrounds;
    use crate::workflow::evidence_age::GatherTime;
    use crate::{engine, policy};

    /// Returns the decision on a registry with one old tag, after `change`.
    pub(in crate::workflow) fn decided(change: impl FnOnce(&mut Registry)) -> Decision {
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
            heads: Vec::new(),
            externally_deleted: Vec::new(),
            clock: ClockCheck::default(),
            dependencies: BTreeMap::new(),
            has_gaps: false,
            unused_cache: None,
            document,
            spool: None,
            grounds: DecisionGrounds {
                rules,
                candidates: Arc::default(),
                evaluated_at: now,
                gathered: GatherTime::between(ClockReading::default(), ClockReading::default()),
                mentioning: BTreeSet::new(),
                placed: engine::PlacedDigests::default(),
                budget: crate::workflow::needed_manifests::ReadBudget::default(),
            },
        }
    }

    fn intersect_all(
        approved: &PlanDocument,
        decision: &Decision,
    ) -> (Vec<RemovalTask>, Vec<(RemovalTask, SkipReason)>) {
        intersect_within(approved, decision, &LimitCounts::new(&decision.grounds.rules))
    }

    fn intersect_within(
        approved: &PlanDocument,
        decision: &Decision,
        limits: &LimitCounts,
    ) -> (Vec<RemovalTask>, Vec<(RemovalTask, SkipReason)>) {
        let mut planned = PartRemovals::of(approved);
        for (position, view) in approved.removals.iter().enumerate() {
            planned.push(position, &view).unwrap();
        }
        let found = intersect(&planned, decision, (&BTreeMap::new(), JournaledEvidence::Approved, limits)).unwrap();
        let refused = found.skipped.iter().filter(|(_, skip)| matches!(skip, SkipReason::Refused(_)));
        assert_eq!(found.is_refused, refused.count() > 0, "the plan itself refuses nothing");
        (found.tasks, found.skipped)
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
            cleanup_rules: Vec::new(),
        });
    }

    fn unread(registry: &mut Registry) {
        registry.gaps.push(Gap {
            target: GapTarget::RegistryInfo,
            kind: "http-403",
            has_help: false,
            message: "".into(),
        });
    }

    fn impossible(registry: &mut Registry) {
        registry.ability = RemovalAbility::Impossible(RemovalObstacle::Setting);
    }

    fn denied(registry: &mut Registry) {
        let why = RemovalObstacle::Denied { message: "may not delete".into() };
        registry.obstacles.insert("app".parse().unwrap(), why);
    }

    /// Every change of the registry since the approval is noticed.
    #[test]
    fn a_registry_that_is_not_what_it_was_keeps_what_was_approved() {
        let approved = decided(|_| ()).document;
        let skipped = |change: fn(&mut Registry)| {
            let (tasks, skipped) = intersect_all(&approved, &decided(change));
            assert_eq!(tasks.len() + skipped.len(), 1);
            skipped.into_iter().map(|(_, skip)| skip.to_string()).next().unwrap_or_default()
        };
        assert_eq!(skipped(|_| ()), "");
        assert_eq!(skipped(|registry| retention(registry, 1)), "");
        for (told, words) in [
            (skipped(|registry| retention(registry, 0)), "deletes untagged manifests by itself at once"),
            (skipped(|registry| registry.clock_ahead = Some(jiff::SignedDuration::from_secs(121))), "its clock is"),
            (skipped(unread), "could not be read"),
            (skipped(denied), "may not delete"),
            (skipped(impossible), "can_untag"),
        ] {
            assert!(told.starts_with("refused: ") && told.contains(words), "{told}");
        }
    }

    /// A new push of the same digest shows that somebody needs it, even if no rule uses the time.
    #[test]
    fn a_tag_that_was_pushed_again_since_the_plan_stays() {
        let pushed = |day: i8| {
            decided(move |registry| {
                let time = jiff::civil::date(2026, 11, day).at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap();
                registry.repositories[0].tags[0].pushed_at = Some(time.timestamp().into());
            })
        };
        let plan = pushed(10).document;
        for (day, stays) in [(10, false), (9, false), (11, true)] {
            let (tasks, skipped) = intersect_all(&plan, &pushed(day));
            assert_eq!((tasks.is_empty(), skipped.len()), (stays, usize::from(stays)), "{day}");
            let again = |skip: &SkipReason| matches!(skip, SkipReason::Kept(why) if why.contains("pushed again"));
            assert!(skipped.iter().all(|(_, skip)| again(skip)), "{skipped:?}");
        }
    }

    /// The inventory and the verdicts explain a tag that is no longer expired.
    #[test]
    fn a_tag_that_does_not_go_any_more_is_skipped_with_its_reason() {
        let approved = decided(|_| ()).document;
        let removals = [Arc::new(removal(&approved.removals.get(0).unwrap()).unwrap())];
        let skipped = |change: fn(&mut Registry)| {
            let (_, skipped) = intersect_all(&approved, &decided(change));
            skipped.into_iter().map(|(_, skip)| skip).next()
        };
        let vanish = |registry: &mut Registry, kind: &'static str| {
            let target = GapTarget::VanishedTag("v1".parse().unwrap());
            registry.repositories[0].tags[0].digest = None;
            registry.repositories[0].gaps.push(Gap { target, kind, has_help: false, message: "".into() });
        };
        assert_eq!(skipped(|registry| registry.repositories.clear()), Some(SkipReason::Missing));
        assert_eq!(skipped(|registry| registry.repositories[0].tags.clear()), Some(SkipReason::Missing));
        let vanished = decided(|registry| vanish(registry, VANISHED));
        assert_eq!(removal_skip_reason(&removals[0], &vanished), SkipReason::Missing);
        let damaged = decided(|registry| vanish(registry, "no-manifest"));
        assert!(matches!(removal_skip_reason(&removals[0], &damaged), SkipReason::Kept(_)));
        let unlisted = |registry: &mut Registry| {
            registry.repositories[0].tags.clear();
            let invalid = GapTarget::InvalidName("..".into());
            for (target, kind, message) in [(invalid, "invalid-name", "odd"), (GapTarget::TagList, "http-500", "down")]
            {
                registry.repositories[0].gaps.push(Gap { target, kind, has_help: false, message: message.into() });
            }
        };
        let kept = SkipReason::Kept("the list of tags could not be read: down".into());
        assert_eq!(removal_skip_reason(&removals[0], &decided(unlisted)), kept);
        let locked = skipped(|registry| registry.repositories[0].lock = Some(Lock::Delete)).unwrap();
        assert_eq!(locked, SkipReason::Kept("the registry has locked the repository (delete)".into()));
    }

    /// A tag may have gained policies since the plan, and each of them counts it.
    #[test]
    fn no_policy_removes_more_than_it_may_over_all_parts() {
        let limits = [("a", 2), ("b", 1)].map(|(name, limit)| (name.parse().unwrap(), limit));
        let limits = LimitCounts(Mutex::new(BTreeMap::from(limits)));
        let view = decided(|_| ()).document.removals.get(0).unwrap().into_owned();
        let task = |policies: &[&str]| {
            let policies: Vec<PolicyName> = policies.iter().map(|name| name.parse().unwrap()).collect();
            let removal = Removal { policies: policies.into(), ..removal(&view).unwrap() };
            RemovalTask { removal: Arc::new(removal), evidence: JournalEvidence::Json("[]".into()) }
        };
        // By part: the policies of each removal, and the number of removals.
        for (part, expected) in
            [(&[&["a", "b"][..], &["b"]][..], 1), (&[&["a"], &["c"]], 2), (&[&["a", "c"], &["a"], &["c"]], 1)]
        {
            let mut skipped = Vec::new();
            let admitted = limits.admit(part.iter().map(|policies| task(policies)).collect(), &mut skipped);
            assert_eq!((admitted.len(), skipped.len()), (expected, part.len() - expected), "{part:?}");
            assert!(skipped.iter().all(|(_, skip)| matches!(skip, SkipReason::Refused(_))), "{skipped:?}");
        }
    }

    /// An image is retained with the index that a limit retains.
    #[test]
    fn what_a_limit_keeps_holds_what_hangs_on_it() {
        let mut decision = decided(|registry| {
            registry.removal = RemovalMethod::DeleteManifest;
            let repository = &mut registry.repositories[0];
            let child = repository.tags[0].digest.clone().unwrap();
            let digest = Digest::of(b"index");
            let index = Manifest { children: vec![child.clone()], ..repository.manifests[&child].clone() };
            repository.manifests.insert(digest.clone(), index);
            let all = Tag { name: "z-all".parse().unwrap(), digest: Some(digest), ..repository.tags[0].clone() };
            repository.tags.push(all);
        });
        let registry = &decision.inventory.registries[0];
        let rules = decision.grounds.rules.clone();
        let planned = engine::RemovalPlanner::new(&rules, decision.grounds.evaluated_at).plan_repository(
            registry,
            &registry.repositories[0],
            &decision.verdicts.tags,
        );
        assert_eq!(planned.removals.len(), 2);
        decision.dependencies =
            BTreeMap::from([(("contoso".parse().unwrap(), "app".parse().unwrap()), planned.dependencies)]);
        let approved = decision.document.clone();
        for (limit, going) in [(2, 2), (1, 0)] {
            let limits = LimitCounts(Mutex::new(BTreeMap::from([("old".parse().unwrap(), limit)])));
            let (tasks, skipped) = intersect_within(&approved, &decision, &limits);
            assert_eq!((tasks.len(), skipped.len()), (going, 2 - going), "{limit}: {skipped:?}");
        }
    }
}
