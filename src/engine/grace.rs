//! Whose turn it is to be deleted: how long an untagged manifest stays after it lost its last tag.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::companion::companion_subject;
use super::select::selects;
use crate::domain::{Policy, PolicyName, RemovedTag, Rules, UntaggedManifest};

/// How an untagged manifest stands in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// No policy that has a say wants it deleted.
    NotRequested,
    /// It stays until then whatever else is so.
    Until(Timestamp),
    /// It was over then.
    Over(Timestamp),
}

/// How an untagged manifest stands in time, by the longest grace of all policies that have a say. `changed_at` is when
/// the registry says that it changed last: what somebody pushed again or tagged meanwhile has its grace anew.
#[must_use]
pub fn grace_period(
    rules: &Rules,
    untagged: &UntaggedManifest,
    changed_at: Option<Timestamp>,
    now: Timestamp,
) -> Grace {
    let voices = governing_policies(rules, untagged);
    let graces = rules.policies.iter().filter(|policy| voices.contains(&policy.name));
    let longest = graces.filter_map(|policy| Some(policy.delete_manifest_after.as_ref()?.duration)).max();
    let Some(longest) = longest else { return Grace::NotRequested };
    let last = untagged.tags.iter().map(|tag| tag.at).chain(changed_at).max().unwrap_or(now);
    // What would end after the calendar does never ends.
    match last.checked_add(longest) {
        Ok(end) if end <= now => Grace::Over(end),
        Ok(end) => Grace::Until(end),
        Err(_) => Grace::Until(Timestamp::MAX),
    }
}

/// The policies that have a say: those that let a tag of it go, and those that select one of its tags now.
pub(super) fn governing_policies<'a>(rules: &'a Rules, untagged: &'a UntaggedManifest) -> BTreeSet<&'a PolicyName> {
    let then = untagged.tags.iter().flat_map(|tag| &tag.policies);
    let now = rules
        .policies
        .iter()
        .filter(|policy| untagged.tags.iter().any(|tag| selects_removed_tag(policy, untagged, tag)));
    then.chain(now.map(|policy| &policy.name)).collect()
}

/// Whether a policy selects a tag that was taken. Signatures and the like are no tags of their own, so no policy does.
pub(super) fn selects_removed_tag(policy: &Policy, untagged: &UntaggedManifest, tag: &RemovedTag) -> bool {
    companion_subject(&tag.name).is_none() && selects(policy, &untagged.registry, &untagged.repository, &tag.name)
}
