//! How long a manifest without a tag stays, and which policies have a say in that.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::companion::companion_subject;
use super::select::selects;
use crate::domain::{Policy, PolicyName, RegistryName, RemovedTag, RepositoryName, Rules, UntaggedManifest};

/// The state of a manifest's waiting period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// No policy that applies requests its deletion.
    NotRequested,
    /// Retained until this time.
    Until(Timestamp),
    /// It was over then.
    Over(Timestamp),
}

/// What the waiting period of a manifest depends on, besides the rules.
#[derive(Debug, Clone, Copy)]
pub struct GraceFacts<'a> {
    /// The registry.
    pub registry: &'a RegistryName,
    /// The repository.
    pub repository: &'a RepositoryName,
    /// The tags that Tagwarden took from it; none where somebody else left it.
    pub tags: &'a [RemovedTag],
    /// The time at which the registry says that it changed last: what somebody pushed again or tagged meanwhile waits anew.
    pub changed_at: Option<Timestamp>,
    /// The first of an unbroken series of runs that found it free; it counts where a policy with `untagged` has a say. `None`
    /// where that is not known yet.
    pub free_since: Option<Timestamp>,
}

impl<'a> GraceFacts<'a> {
    /// What the journal alone tells. The waiting period is at least as long as by this.
    #[must_use]
    pub fn of_record(untagged: &'a UntaggedManifest) -> Self {
        let UntaggedManifest { registry, repository, tags, .. } = untagged;
        Self { registry, repository, tags, changed_at: None, free_since: None }
    }
}

/// The waiting period of a manifest without a tag, by the longest of all policies that have a say. Where a policy with
/// `untagged` is among them, it is never shorter than the time for which an untag is to be undoable. A policy that let a tag
/// go and says nothing of manifests keeps them from those with `untagged`.
#[must_use]
pub fn grace_period(rules: &Rules, facts: &GraceFacts<'_>, now: Timestamp) -> Grace {
    let voices = governing_policies(rules, facts.registry, facts.repository, facts.tags);
    let voices = || rules.policies.iter().filter(|policy| voices.contains(&policy.name));
    let of_tags = voices().filter_map(|policy| Some(policy.delete_manifest_after.as_ref()?.duration)).max();
    let of_manifests = voices().filter_map(|policy| Some(policy.untagged_after()?.duration)).max();
    if of_tags.is_none() && voices().any(|policy| policy.untagged_after().is_none()) {
        return Grace::NotRequested;
    }
    let undo_window = SignedDuration::try_from(rules.undo_window).unwrap_or(SignedDuration::MAX);
    let Some(longest) = of_tags.max(of_manifests.map(|after| after.max(undo_window))) else {
        return Grace::NotRequested;
    };
    let free_since = facts.free_since.filter(|_| of_manifests.is_some());
    let removed = facts.tags.iter().map(|tag| tag.at);
    let last = removed.chain(facts.changed_at).chain(free_since).max().unwrap_or(now);
    // What would end after the calendar does never ends.
    match last.checked_add(longest) {
        Ok(end) if end <= now => Grace::Over(end),
        Ok(end) => Grace::Until(end),
        Err(_) => Grace::Until(Timestamp::MAX),
    }
}

/// The policies that have a say: those that expire a tag of a manifest, those that select one of these tags now, and those
/// that have manifests without a tag deleted in its repository.
pub(super) fn governing_policies<'a>(
    rules: &'a Rules,
    registry: &RegistryName,
    repository: &RepositoryName,
    tags: &'a [RemovedTag],
) -> BTreeSet<&'a PolicyName> {
    let then = tags.iter().flat_map(|tag| &tag.policies);
    let now = rules.policies.iter().filter(|policy| {
        policy.deletes_untagged_in(registry, repository)
            || tags.iter().any(|tag| selects_removed_tag(policy, registry, repository, tag))
    });
    then.chain(now.map(|policy| &policy.name)).collect()
}

/// Whether a policy selects a tag that was taken. Signatures and the like are no tags of their own, so no policy does.
pub(super) fn selects_removed_tag(
    policy: &Policy,
    registry: &RegistryName,
    repository: &RepositoryName,
    tag: &RemovedTag,
) -> bool {
    companion_subject(&tag.name).is_none() && selects(policy, registry, repository, &tag.name)
}
