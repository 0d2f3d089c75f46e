//! The second step of a run: which manifests without a tag may be deleted now.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{App, Decision, Refused, RunError};
use crate::apply::DeletionTask;
use crate::domain::{
    Action, Claims, Deletion, Deletions, Dependent, Digest, Intent, Inventory, Manifest, Outcome, Policy, Registry,
    RegistryName, Repository, RepositoryName, Rules, SkipReason, TagName, UntaggedManifest,
};
use crate::engine::{self, Grace, GraceFacts, UntaggedManifests};
use crate::registry::{self, CollectScope, ExtraManifests, RegistryHead};
use crate::report::{self, DeletionView, PlanDocument, RetainReasonView};
use crate::state::{JournalEntry, LeaseToken, StateErrorKind, UntagRecord};

/// The journal's records of untagged manifests, before the registries are read.
#[derive(Debug, Clone, Default)]
pub(super) struct CleanupCandidates {
    /// Manifests whose grace period may be over.
    untagged: Vec<UntaggedManifest>,
    /// Other manifests in the same repositories from which tags were removed.
    other_untagged: BTreeSet<(RegistryName, RepositoryName, Digest)>,
    /// The findings so far: the number of pending manifests, and registries that do not list untagged ones.
    deletions: Deletions,
    /// The manifests to be read besides tagged ones.
    pub(super) extra_manifests: ExtraManifests,
}

impl CleanupCandidates {
    /// Returns the same for the decision.
    pub(super) fn untagged_manifests(&self) -> UntaggedManifests<'_> {
        UntaggedManifests { candidates: &self.untagged, others: Some(&self.other_untagged) }
    }

    /// The same for whoever explains one of them.
    pub(super) fn records(&self) -> (&[UntaggedManifest], &BTreeSet<(RegistryName, RepositoryName, Digest)>) {
        (&self.untagged, &self.other_untagged)
    }

    /// Those that are candidates.
    pub(super) fn candidates(&self) -> &[UntaggedManifest] {
        &self.untagged
    }

    /// Returns the known part of the deletions before the registries are read.
    pub(super) fn undecided(&self) -> Deletions {
        self.deletions.clone()
    }

    /// Decides on the candidates.
    pub(super) fn decide(&self, rules: &Rules, inventory: &Inventory, claims: &Claims, now: Timestamp) -> Deletions {
        let decided = engine::plan_deletions(rules, inventory, claims, &self.untagged, &self.other_untagged, now);
        let next_at = [self.deletions.next_eligible_at, decided.next_eligible_at].into_iter().flatten().min();
        Deletions {
            pending: self.deletions.pending + decided.pending,
            next_eligible_at: next_at,
            unlisted: self.deletions.unlisted.clone(),
            ..decided
        }
    }

    /// Returns the candidates in a repository that were deleted externally: they are not listed although the list is
    /// complete.
    pub(super) fn deleted_in(&self, registry: &Registry, repository: &Repository) -> Vec<UntaggedManifest> {
        if !registry.lists_untagged || !repository.gaps.is_empty() {
            return Vec::new();
        }
        let here =
            self.untagged.iter().filter(|one| one.registry == registry.name && one.repository == repository.name);
        let is_listed = |one: &&UntaggedManifest| {
            repository.manifests.contains_key(&one.digest) || repository.listed_manifest(&one.digest).is_some()
        };
        here.filter(|one| !is_listed(one)).cloned().collect()
    }

    /// Returns the candidates whose repository no longer exists: a registry may delete a repository with its last
    /// manifest.
    pub(super) fn deleted_with_repository(&self, head: &RegistryHead) -> Vec<UntaggedManifest> {
        let RegistryHead { registry, names } = head;
        if !registry.lists_untagged || !registry.gaps.is_empty() {
            return Vec::new();
        }
        let there = self.untagged.iter().filter(|one| one.registry == registry.name);
        there.filter(|one| names.binary_search(&one.repository).is_err()).cloned().collect()
    }

    /// Records the manifests to be read: each candidate, the images in it, and the manifest that it refers to or
    /// accompanies.
    fn add_extra_manifests(&mut self, untagged: &UntaggedManifest) {
        let place = (untagged.registry.clone(), untagged.repository.clone());
        let digests = self.extra_manifests.entry(place).or_default();
        digests.insert(untagged.digest.clone());
        digests.extend(untagged.tags.iter().filter_map(|tag| engine::companion_subject(&tag.name)));
        let manifest = untagged.manifest.iter();
        digests.extend(manifest.flat_map(|one| one.children.iter().chain(one.subject.as_deref())).cloned());
    }
}

impl App {
    /// Returns the manifests whose grace period may be over, in the registries and repositories to be read. Queries
    /// nothing if no policy requests deletions.
    pub(super) async fn cleanup_candidates(
        &self,
        scope: &CollectScope,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<CleanupCandidates, RunError> {
        let mut candidates = CleanupCandidates::default();
        let deletes = |name: &RegistryName| {
            let asks = |policy: &&Policy| policy.delete_manifest_after.is_some() || policy.untagged_after().is_some();
            rules.policies.iter().filter(asks).any(|policy| policy.covers(name))
        };
        for (name, reader) in &self.readers {
            // Always, so that a change is noticed when it happens and not at a later query.
            let address = reader.settings().endpoint.as_str();
            let since = self.store.registry_address_since(name, address, self.now()).await?;
            if !deletes(name) {
                continue;
            }
            let within = match scope {
                CollectScope::All => None,
                CollectScope::Repositories(only) => match only.get(name) {
                    Some(repositories) => Some(repositories),
                    None => continue,
                },
            };
            if !reader.lists_untagged() {
                candidates.deletions.unlisted.push(name.clone());
                continue;
            }
            let (mut due, mut early, mut others, mut waits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            let mut visit = |told: UntagRecord| {
                let (UntagRecord::Untagged { untagged: UntaggedManifest { repository, digest, .. }, .. }
                | UntagRecord::Excluded { repository, digest }) = &told;
                if within.is_some_and(|repositories| !repositories.contains(repository)) {
                    return;
                }
                let other = (name.clone(), repository.clone(), digest.clone());
                let UntagRecord::Untagged { untagged, entries } = told else { return others.push(other) };
                // Removals at another address belong to another registry.
                if since.is_some_and(|since| untagged.tags.iter().any(|tag| tag.at < since)) {
                    return others.push(other);
                }
                match engine::grace_period(rules, &GraceFacts::of_record(&untagged), now) {
                    Grace::Over(_) => due.push((untagged, entries)),
                    // Whether it is found free is asked from the first day on.
                    _ if rules.delete_untagged_in(name, &untagged.repository) => early.push(untagged),
                    Grace::NotRequested => others.push(other),
                    Grace::Until(until) => {
                        others.push(other);
                        waits.push(until);
                    }
                }
            };
            self.store.visit_untagged(name, &mut visit).await?;
            for until in waits {
                candidates.deletions.add_pending(until);
            }
            let touched: BTreeSet<RepositoryName> = due.iter().map(|(one, _)| one.repository.clone()).collect();
            let is_judged = |repository: &RepositoryName| {
                touched.contains(repository) || rules.delete_untagged_in(name, repository)
            };
            candidates.other_untagged.extend(others.into_iter().filter(|(_, repository, _)| is_judged(repository)));
            // Which policies expire each of their tags matters once their time may be over, and not before.
            candidates.untagged.extend(early);
            for (mut untagged, entries) in due {
                for (tag, id) in untagged.tags.iter_mut().zip(entries) {
                    let entry = self.store.journal_entry(id).await?;
                    if !tag.restored {
                        tag.policies = report::journaled_policies(&entry.intent);
                    }
                    if untagged.manifest.is_none() {
                        untagged.manifest = self.journaled_manifest(&entry).await?;
                    }
                }
                candidates.add_extra_manifests(&untagged);
                candidates.untagged.push(untagged);
            }
        }
        Ok(candidates)
    }

    /// Journals external deletions, so that they are not looked up over and over.
    pub(super) async fn journal_externally_deleted(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        collected: &[UntaggedManifest],
    ) -> Result<(), RunError> {
        let gone = Outcome::Skipped(SkipReason::Missing);
        let intents: Vec<Intent> = collected
            .iter()
            .filter_map(|one| {
                let last = one.tags.iter().max_by_key(|tag| tag.at)?;
                Some(Intent {
                    action: Action::DeleteUntagged,
                    registry: one.registry.clone(),
                    repository: one.repository.clone(),
                    tag: last.name.clone(),
                    digest: one.digest.clone(),
                    media_type: "".into(),
                    policy: last.policies.first().map(ToString::to_string),
                    evidence: "[]".to_owned(),
                    endpoint: self.address(&one.registry),
                    date: None,
                })
            })
            .collect();
        let notes: Vec<(&Intent, &Outcome)> = intents.iter().map(|intent| (intent, &gone)).collect();
        if !notes.is_empty() {
            self.store.record_all_not_attempted(lease, run, &notes, self.now()).await?;
        }
        Ok(())
    }

    /// Returns the time until which an untagged manifest is certainly retained; `None` if no policy requests its
    /// deletion.
    pub(super) async fn retained_until(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, RunError> {
        if !self.readers.get(registry).is_some_and(|reader| reader.lists_untagged()) {
            return Ok(None);
        }
        let (rules, mut until) = (self.rules(), None);
        let mut visit = |told: UntagRecord| {
            if let UntagRecord::Untagged { untagged, .. } = told
                && untagged.repository == *repository
                && untagged.digest == *digest
            {
                until = match engine::grace_period(&rules, &GraceFacts::of_record(&untagged), now) {
                    Grace::NotRequested => None,
                    Grace::Until(at) | Grace::Over(at) => Some(at),
                };
            }
        };
        self.store.visit_untagged(registry, &mut visit).await?;
        Ok(until)
    }

    /// Parses the content of a manifest from the journal; `None` if it is damaged.
    async fn journaled_manifest(&self, entry: &JournalEntry) -> Result<Option<Manifest>, RunError> {
        match self.store.manifest_of(entry).await {
            Ok(raw) => Ok(registry::parse_manifest(&raw).ok().map(|parsed| parsed.manifest)),
            Err(error) if matches!(error.kind, StateErrorKind::Missing | StateErrorKind::Corrupt) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn deletion_task(deletion: &Deletion, proof: &DeletionView) -> DeletionTask {
    DeletionTask {
        deletion: Arc::new(deletion.clone()),
        evidence: serde_json::to_string(proof).unwrap_or_default().into(),
    }
}

/// Returns the place of a deletion in a plan.
///
/// # Errors
/// Returns [`RunError::Refused`] if it is not a valid repository name.
pub(super) fn deletion_place(view: &DeletionView) -> Result<(RegistryName, RepositoryName), RunError> {
    let place = view.registry.parse().ok().zip(view.repository.parse().ok());
    place.ok_or_else(|| RunError::from(Refused::InvalidManifest { name: view.name() }))
}

/// Splits an approved plan's deletions into those that still follow from current evidence, and those that do not, with
/// the reason.
///
/// The approved plan exists only as a document, so its own refusals are taken from that. The current decision uses
/// domain values.
pub(super) fn intersect(
    approved: &[&DeletionView],
    decision: &Decision,
) -> (Vec<DeletionTask>, Vec<(DeletionTask, SkipReason)>) {
    let plan = &decision.plan;
    let now: HashMap<(&str, &str, String), &Deletion> = plan
        .deletions
        .eligible
        .iter()
        .map(|one| ((one.registry.as_str(), one.repository.as_str(), one.digest.to_string()), one))
        .collect();
    let (mut tasks, mut skipped) = (Vec::new(), Vec::new());
    for &view in approved {
        let name = (view.registry.as_str(), view.repository.as_str(), view.digest.clone());
        let Some(deletion) = now.get(&name).copied() else {
            skipped.extend(
                deletion_from_view(view)
                    .map(|deletion| (deletion_task(&deletion, view), deletion_skip_reason(&deletion, decision))),
            );
            continue;
        };
        let is_approved = |dependent: &Dependent| {
            let digest = dependent.digest.to_string();
            view.dependents.iter().any(|one| one.role == dependent.role.label() && one.digest == digest)
        };
        let more = deletion.dependents.iter().find(|dependent| !is_approved(dependent));
        let skip = if !view.enforce || !deletion.enforce {
            SkipReason::DryRun
        } else if let Some(why) = &view.refused {
            SkipReason::Refused(why.clone())
        } else if !deletion.is_deletable() {
            skip_retained(deletion)
        } else if let Some(refusal) = plan.refusal_for_deletion(deletion) {
            SkipReason::Refused(report::describe_refusal(refusal))
        } else if let Some(more) = more {
            SkipReason::Kept(format!("{} would go along, which the plan does not say", more.digest))
        } else {
            tasks.push(deletion_task(deletion, view));
            continue;
        };
        skipped.push((deletion_task(deletion, view), skip));
    }
    (tasks, skipped)
}

/// Returns the skip of a retained manifest, with its reasons.
pub(super) fn skip_retained(deletion: &Deletion) -> SkipReason {
    let reasons = deletion.retain_reasons.iter().map(|reason| RetainReasonView::from(reason).message);
    SkipReason::Kept(reasons.collect::<Vec<_>>().join("; "))
}

/// Returns the reason for which the plan itself rules out one of its deletions.
pub(super) fn planned_skip(view: &DeletionView) -> Option<SkipReason> {
    if !view.enforce {
        return Some(SkipReason::DryRun);
    }
    view.refused.clone().map(SkipReason::Refused)
}

/// Returns why a manifest that was approved for deletion is no longer a candidate.
fn deletion_skip_reason(deletion: &Deletion, decision: &Decision) -> SkipReason {
    let registry = decision.inventory.registry(deletion.registry.as_str());
    let Some(found) = registry.and_then(|registry| registry.repository(deletion.repository.as_str())) else {
        return SkipReason::Missing;
    };
    if let Some(tag) = found.tags.iter().find(|tag| tag.digest.as_ref() == Some(&deletion.digest)) {
        return SkipReason::Kept(format!("tag {} names it", tag.name));
    }
    match found.gaps.iter().find(|gap| gap.blocks_repository()) {
        Some(gap) => SkipReason::Kept(format!("{} could not be read: {}", gap.target, gap.message)),
        None if found.untagged_history.is_some() && found.manifests.contains_key(&deletion.digest) => {
            SkipReason::Kept("it is not free any more, or was touched since, so its time is not over".to_owned())
        }
        None if found.untagged.contains_key(&deletion.digest) => {
            SkipReason::Kept("it was touched since, so its time is not over any more".to_owned())
        }
        None => SkipReason::Kept("it is gone, was put back meanwhile, or no policy has it deleted any more".to_owned()),
    }
}

/// Returns the task for a deletion in an approved plan, to record that it was not done; `None` if its name is invalid.
pub(super) fn task_from_view(view: &DeletionView) -> Option<DeletionTask> {
    deletion_from_view(view).map(|deletion| deletion_task(&deletion, view))
}

/// Converts a deletion in an approved plan.
fn deletion_from_view(view: &DeletionView) -> Option<Deletion> {
    Some(Deletion {
        registry: view.registry.parse().ok()?,
        repository: view.repository.parse().ok()?,
        digest: view.digest.parse().ok()?,
        tag: TagName::from_record(&view.tag).ok()?,
        untagged_at: view.untagged_at,
        free_since: view.free_since,
        eligible_at: view.eligible_at,
        policies: view.policies.iter().filter_map(|name| name.parse().ok()).collect(),
        enforce: view.enforce,
        dependents: Vec::new(),
        reclaim: None,
        retain_reasons: Vec::new(),
    })
}

/// Checks that a plan requests no more deletions than the settings allow in one run. A plan made by Tagwarden never
/// does.
///
/// # Errors
/// Returns [`RunError::Refused`] if it does; nothing may be removed then.
pub(super) fn enforce_limit(approved: &PlanDocument, rules: &Rules) -> Result<(), RunError> {
    let enforced = approved.deletions.deletable().filter(|view| view.enforce && view.refused.is_none());
    let found: usize = enforced.map(|view| 1 + view.dependents.len()).sum();
    let allowed = rules.limits.delete;
    let accepted = approved.accepted_count("delete-limit", None);
    if found as u64 <= u64::from(allowed).max(accepted) {
        return Ok(());
    }
    Err(Refused::OverDeletionLimit { found, allowed }.into())
}
