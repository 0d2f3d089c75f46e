//! The second step of a run: which manifests, untagged before, may be deleted now.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Decision, House, RunError};
use crate::apply::DeleteOrder;
use crate::domain::{
    Action, Claims, Deletion, Deletions, Digest, Intent, Inventory, Manifest, Outcome, PolicyName, RegistryName,
    RepositoryName, Rules, Skip, Untagged,
};
use crate::engine::{self, Finding, Grace};
use crate::registry::{self, LookFor, Scope};
use crate::report::{DeletionView, PlanDocument, ReasonView};
use crate::store::{JournalEntry, StoreErrorKind, Told};

/// What the journal says of untagged manifests, before the registries are read.
#[derive(Default)]
pub(super) struct Considered {
    /// Those whose grace may be over.
    untagged: Vec<Untagged>,
    /// The others that tags were taken from, in the same repositories.
    others: BTreeSet<(RegistryName, RepositoryName, Digest)>,
    /// What is found already: how many wait, and where nothing is listed.
    found: Deletions,
    /// What is to be read beside what has tags.
    pub(super) look_for: LookFor,
}

impl Considered {
    /// Those whose grace may be over.
    pub(super) fn untagged(&self) -> &[Untagged] {
        &self.untagged
    }

    /// What becomes of them.
    pub(super) fn decide(&self, rules: &Rules, inventory: &Inventory, claims: &Claims, now: Timestamp) -> Deletions {
        let decided = engine::deletions(rules, inventory, claims, &self.untagged, &self.others, now);
        let next_at = [self.found.next_at, decided.next_at].into_iter().flatten().min();
        Deletions {
            waiting: self.found.waiting + decided.waiting,
            next_at,
            unlisted: self.found.unlisted.clone(),
            ..decided
        }
    }

    /// The same, looked at once more.
    pub(super) fn check(
        &self,
        rules: &Rules,
        inventory: &Inventory,
        claims: &Claims,
        deletions: &Deletions,
        now: Timestamp,
    ) -> Vec<Finding> {
        engine::check_deletions(rules, inventory, claims, &self.untagged, &self.others, deletions, now)
    }

    /// Those that somebody else deleted: they are not listed where everything is. Of an inventory of everything; a registry
    /// may delete a repository with its last manifest.
    pub(super) fn collected(&self, inventory: &Inventory) -> Vec<Untagged> {
        let gone = |one: &&Untagged| {
            let registry = inventory.registry(one.registry.as_str()).filter(|registry| registry.lists_untagged);
            registry.is_some_and(|registry| match registry.repository(one.repository.as_str()) {
                Some(found) => found.gaps.is_empty() && !found.manifests.contains_key(&one.digest),
                None => registry.gaps.is_empty(),
            })
        };
        self.untagged.iter().filter(gone).cloned().collect()
    }

    /// Keeps in mind what is to be read: each manifest, the images in it, and what it refers to or accompanies.
    fn look_for(&mut self, untagged: &Untagged) {
        let place = (untagged.registry.clone(), untagged.repository.clone());
        let digests = self.look_for.entry(place).or_default();
        digests.insert(untagged.digest.clone());
        digests.extend(untagged.tags.iter().filter_map(|tag| engine::companion_subject(&tag.name)));
        let manifest = untagged.manifest.iter();
        digests.extend(manifest.flat_map(|one| one.children.iter().chain(one.subject.as_deref())).cloned());
    }
}

impl House {
    /// The manifests whose grace may be over, in the registries and repositories that are to be read. Nothing is asked
    /// where no policy has anything deleted.
    pub(super) async fn considered(
        &self,
        scope: &Scope,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Considered, RunError> {
        let mut considered = Considered::default();
        let deletes = |name: &RegistryName| {
            let mut policies = rules.policies.iter().filter(|policy| policy.delete_manifest_after.is_some());
            policies.any(|policy| policy.covers(name))
        };
        for (name, reader) in &self.readers {
            // Always, so that a change is noticed when it comes and not when somebody first asks.
            let address = reader.settings().endpoint.as_str();
            let since = self.store.at_address_since(name, address, self.now()).await?;
            if !deletes(name) {
                continue;
            }
            let within = match scope {
                Scope::All => None,
                Scope::Only(only) => match only.get(name) {
                    Some(repositories) => Some(repositories),
                    None => continue,
                },
            };
            if !reader.lists_untagged() {
                considered.found.unlisted.push(name.clone());
                continue;
            }
            let (mut due, mut others, mut waits) = (Vec::new(), Vec::new(), Vec::new());
            let mut visit = |told: Told| {
                let (Told::Untagged { untagged: Untagged { repository, digest, .. }, .. }
                | Told::Held { repository, digest }) = &told;
                if within.is_some_and(|repositories| !repositories.contains(repository)) {
                    return;
                }
                let other = (name.clone(), repository.clone(), digest.clone());
                let Told::Untagged { untagged, entries } = told else { return others.push(other) };
                // At another address it was another registry's.
                if since.is_some_and(|since| untagged.tags.iter().any(|tag| tag.at < since)) {
                    return others.push(other);
                }
                match engine::grace(rules, &untagged, None, now) {
                    Grace::Over(_) => due.push((untagged, entries)),
                    Grace::NotAsked => others.push(other),
                    Grace::Until(until) => {
                        others.push(other);
                        waits.push(until);
                    }
                }
            };
            self.store.untagged(name, &mut visit).await?;
            for until in waits {
                considered.found.wait(until);
            }
            let touched: BTreeSet<RepositoryName> = due.iter().map(|(one, _)| one.repository.clone()).collect();
            considered.others.extend(others.into_iter().filter(|(_, repository, _)| touched.contains(repository)));
            for (mut untagged, entries) in due {
                for (tag, id) in untagged.tags.iter_mut().zip(entries) {
                    let entry = self.store.entry_of(id).await?;
                    if !tag.put_back {
                        tag.policies = policies(&entry);
                    }
                    if untagged.manifest.is_none() {
                        untagged.manifest = self.journaled(&entry).await?;
                    }
                }
                considered.look_for(&untagged);
                considered.untagged.push(untagged);
            }
        }
        Ok(considered)
    }

    /// Journals what somebody else deleted, so that it is not looked for again and again.
    pub(super) async fn note_collected(&self, run: Uuid, collected: &[Untagged]) -> Result<(), RunError> {
        let gone = Outcome::Skipped(Skip::Gone);
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
                    proof: "[]".to_owned(),
                    endpoint: self.address(&one.registry),
                    date: None,
                })
            })
            .collect();
        let notes: Vec<(&Intent, &Outcome)> = intents.iter().map(|intent| (intent, &gone)).collect();
        if !notes.is_empty() {
            self.store.note_all(run, &notes, self.now()).await?;
        }
        Ok(())
    }

    /// Until when an untagged manifest surely stays; nothing where no policy has it deleted.
    pub(super) async fn grace(
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
        let mut visit = |told: Told| {
            if let Told::Untagged { untagged, .. } = told
                && untagged.repository == *repository
                && untagged.digest == *digest
            {
                until = match engine::grace(&rules, &untagged, None, now) {
                    Grace::NotAsked => None,
                    Grace::Until(at) | Grace::Over(at) => Some(at),
                };
            }
        };
        self.store.untagged(registry, &mut visit).await?;
        Ok(until)
    }

    /// What the bytes say that the journal keeps of a manifest; nothing where they are damaged.
    async fn journaled(&self, entry: &JournalEntry) -> Result<Option<Manifest>, RunError> {
        match self.store.manifest_of(entry).await {
            Ok(raw) => Ok(registry::parse(&raw).ok().map(|parsed| parsed.manifest)),
            Err(error) if matches!(error.kind, StoreErrorKind::Missing | StoreErrorKind::Corrupt) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The policies by which something was done, as its record says; none where that is not understood.
fn policies(entry: &JournalEntry) -> Vec<PolicyName> {
    let proof = &entry.intent.proof;
    let named: Vec<String> = if entry.intent.action == Action::DeleteUntagged {
        serde_json::from_str::<DeletionView>(proof).map(|view| view.policies).unwrap_or_default()
    } else {
        let reasons: Vec<ReasonView> = serde_json::from_str(proof).unwrap_or_default();
        let policy = |reason| match reason {
            ReasonView::LetGo { policy, .. } | ReasonView::CompanionOfExpired { policy, .. } => Some(policy),
            _ => None,
        };
        reasons.into_iter().filter_map(policy).collect()
    };
    let mut policies: Vec<PolicyName> = named.iter().filter_map(|name| name.parse().ok()).collect();
    // One that cannot be read could be one that keeps.
    if policies.len() < named.len() {
        policies.clear();
    }
    policies.sort();
    policies.dedup();
    policies
}

/// The deletions that may really be done: all their policies enforce, and no refusal covers them.
pub(super) fn enforceable(decision: &Decision) -> Vec<DeleteOrder> {
    let views = decision.document.deletions.due.iter();
    let fit = decision.plan.deletions.due.iter().zip(views).filter(|(_, view)| view.would_be_done());
    fit.map(|(deletion, view)| order(deletion, view)).collect()
}

fn order(deletion: &Deletion, proof: &DeletionView) -> DeleteOrder {
    DeleteOrder { deletion: Arc::new(deletion.clone()), proof: serde_json::to_string(proof).unwrap_or_default().into() }
}

/// The repositories that an approved plan deletes from.
///
/// # Errors
/// [`RunError::Refused`] where one is no name of a repository.
pub(super) fn scope(approved: &PlanDocument, scope: &mut Scope) -> Result<(), RunError> {
    let Scope::Only(only) = scope else { return Ok(()) };
    for view in approved.deletions.going() {
        let place = view.registry.parse().ok().zip(view.repository.parse().ok());
        let refused = || RunError::Refused(format!("the plan names {}, which is no manifest", view.name()));
        let (registry, repository) = place.ok_or_else(refused)?;
        only.entry(registry).or_default().insert(repository);
    }
    Ok(())
}

/// What of an approved plan's deletions still follows from the evidence of now, and what does not, with the reason.
pub(super) fn shrink(approved: &PlanDocument, decision: &Decision) -> (Vec<DeleteOrder>, Vec<(DeleteOrder, Skip)>) {
    let key = |view: &DeletionView| (view.registry.clone(), view.repository.clone(), view.digest.clone());
    let views = decision.document.deletions.due.iter();
    let now: HashMap<_, _> =
        views.zip(&decision.plan.deletions.due).map(|(view, found)| (key(view), (view, found))).collect();
    let (mut orders, mut skipped) = (Vec::new(), Vec::new());
    for view in approved.deletions.going() {
        let Some((now, deletion)) = now.get(&key(view)).copied() else {
            skipped.extend(recalled(view).map(|deletion| (order(&deletion, view), why_not(&deletion, decision))));
            continue;
        };
        let more = now.along.iter().find(|along| !view.along.contains(along));
        let skip = if !view.enforce || !now.enforce {
            Skip::DryRun
        } else if let Some(why) = view.refused.as_ref().or(now.refused.as_ref()) {
            Skip::Refused(why.clone())
        } else if !now.goes {
            Skip::Kept(now.reasons())
        } else if let Some(more) = more {
            Skip::Kept(format!("{} would go along, which the plan does not say", more.digest))
        } else {
            orders.push(order(deletion, view));
            continue;
        };
        skipped.push((order(deletion, view), skip));
    }
    (orders, skipped)
}

/// Why a manifest that was approved to be deleted is no longer one to be decided about.
fn why_not(deletion: &Deletion, decision: &Decision) -> Skip {
    let registry = decision.inventory.registry(deletion.registry.as_str());
    let Some(found) = registry.and_then(|registry| registry.repository(deletion.repository.as_str())) else {
        return Skip::Gone;
    };
    if let Some(tag) = found.tags.iter().find(|tag| tag.digest.as_ref() == Some(&deletion.digest)) {
        return Skip::Kept(format!("tag {} names it", tag.name));
    }
    match found.gaps.iter().find(|gap| gap.blocks_repository()) {
        Some(gap) => Skip::Kept(format!("{} could not be read: {}", gap.at, gap.message)),
        None if found.untagged.contains_key(&deletion.digest) => {
            Skip::Kept("it was touched since, so its time is not over any more".to_owned())
        }
        None => Skip::Kept("it is gone, was put back meanwhile, or no policy has it deleted any more".to_owned()),
    }
}

/// A deletion as an approved plan has it, for the record of what was not done.
fn recalled(view: &DeletionView) -> Option<Deletion> {
    Some(Deletion {
        registry: view.registry.parse().ok()?,
        repository: view.repository.parse().ok()?,
        digest: view.digest.parse().ok()?,
        tag: view.tag.parse().ok()?,
        untagged_at: view.untagged_at,
        due_at: view.due_at,
        policies: view.policies.iter().filter_map(|name| name.parse().ok()).collect(),
        enforce: view.enforce,
        along: Vec::new(),
        freed: None,
        stays: Vec::new(),
    })
}

/// Makes sure that no more is deleted than the settings allow in one run. A plan that was made here never asks for more.
///
/// # Errors
/// [`RunError::Refused`], and then nothing may be removed.
pub(super) fn hold_to_limit(orders: &[DeleteOrder], rules: &Rules) -> Result<(), RunError> {
    let found: usize = orders.iter().map(|order| 1 + order.deletion.along.len()).sum();
    let allowed = rules.limits.delete;
    if found <= usize::try_from(allowed).unwrap_or(usize::MAX) {
        return Ok(());
    }
    Err(RunError::Refused(format!(
        "the plan asks for {found} manifests to be deleted, and the limit of one run is {allowed}; no plan made here does \
         that; make a new one"
    )))
}
