//! Repositories that were idle for as long as a policy says, as views and in words.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::humanize::{counted_repositories, format_count};
use super::notation::format_minute;
use super::{PlanDocument, ReasonView};
use crate::domain::{PolicyName, Reason, RegistryName, RepositoryName, TagVerdict, UnknownFact, Verdict};
use crate::engine::{IdleRepository, RepositoryUse};

/// A repository that a policy selects by `idle`, or may select for all that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleRepositoryView {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The policy.
    pub policy: String,
    /// The time for which nothing may have been pushed or pulled, as the policy writes it.
    pub idle: String,
    /// The unknown fact for which the tags are retained by this policy: `last-push`, `last-pull` or
    /// `use-before-removals`; `None` if the repository was certainly idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// The latest push of a tag, as far as it is known.
    pub last_push: Option<Timestamp>,
    /// The latest pull, as far as it is known.
    pub last_pull: Option<Timestamp>,
    /// True if the pulls of all its tags are known. Without a `last_pull`, it was never pulled then.
    pub pulls_known: bool,
    /// The number of its tags.
    pub tags: u64,
    /// The number of its tags that a source claims or mentions, or that a hold covers.
    pub in_use: u64,
    /// The number of its tags that this policy, with all others that select them, lets go.
    pub expired: u64,
}

/// The same for a tally.
#[derive(Debug)]
pub(super) struct IdleTally {
    policy: PolicyName,
    idle: String,
    unknown: Option<UnknownFact>,
    usage: RepositoryUse,
    tags: u64,
    in_use: u64,
    expired: u64,
}

impl IdleTally {
    pub(super) fn new(found: IdleRepository, verdicts: &[TagVerdict]) -> Self {
        let protects = |reason: &Reason| matches!(reason, Reason::Claimed(_) | Reason::Mentioned(_) | Reason::Held(_));
        let by_policy = |reason: &Reason| matches!(reason, Reason::NotKept { policy, .. } if *policy == found.policy);
        let count = |test: &dyn Fn(&TagVerdict) -> bool| verdicts.iter().filter(|one| test(one)).count() as u64;
        let in_use = count(&|one| one.reasons.iter().any(protects));
        let expired = count(&|one| one.verdict == Verdict::Expired && one.reasons.iter().any(by_policy));
        let IdleRepository { policy, idle, unknown, usage } = found;
        Self { policy, idle, unknown, usage, tags: verdicts.len() as u64, in_use, expired }
    }

    pub(super) fn view(&self, registry: &RegistryName, repository: &RepositoryName) -> IdleRepositoryView {
        IdleRepositoryView {
            registry: registry.to_string(),
            repository: repository.to_string(),
            policy: self.policy.to_string(),
            idle: self.idle.clone(),
            unknown: self.unknown.map(|fact| fact.label().to_owned()),
            last_push: self.usage.pushed,
            last_pull: self.usage.pulled,
            pulls_known: self.usage.knows_pulls,
            tags: self.tags,
            in_use: self.in_use,
            expired: self.expired,
        }
    }
}

/// The headings of [`cells`].
pub(super) const HEADINGS: [&str; 7] = ["repository", "last push", "last pull", "tags", "in use", "expired", "policy"];

/// Returns the cells of a row.
pub(super) fn cells(found: &IdleRepositoryView) -> [String; 7] {
    let minute = |at: Option<Timestamp>, none: &str| at.map_or_else(|| none.to_owned(), format_minute);
    let pulled = match (found.last_pull, found.pulls_known) {
        (Some(at), true) => format_minute(at),
        (Some(at), false) => format!("{}, or later", format_minute(at)),
        (None, true) => "never".to_owned(),
        (None, false) => "not known".to_owned(),
    };
    let stays = if found.unknown.is_some() { ", keeps" } else { "" };
    [
        format!("{}/{}", found.registry, found.repository),
        minute(found.last_push, "not known"),
        pulled,
        format_count(found.tags),
        format_count(found.in_use),
        format_count(found.expired),
        format!("{} ({}{stays})", found.policy, found.idle),
    ]
}

/// Describes, before the table, how many repositories are in it, and why the tags of some stay.
pub(super) fn describe_idle(document: &PlanDocument) -> Vec<String> {
    let (open, idle): (Vec<_>, Vec<_>) = document.idle.iter().partition(|found| found.unknown.is_some());
    let mut sentences = Vec::new();
    if !idle.is_empty() {
        let number = counted_repositories(idle.len() as u64);
        sentences.push(format!("nothing was pushed to or pulled from {number} for as long as a policy says"));
    }
    for fact in [UnknownFact::LastPull, UnknownFact::LastPush, UnknownFact::UseBeforeRemovals] {
        let alike = open.iter().filter(|found| found.unknown.as_deref() == Some(fact.label())).count();
        if alike > 0 {
            sentences.push(format!(
                "tags stay in {}, which may be idle: {}",
                counted_repositories(alike as u64),
                describe_unknown_fact(fact.label())
            ));
        }
    }
    sentences
}

/// Describes an unknown fact of a selector by its label.
pub(super) fn describe_unknown_fact(fact: &str) -> &'static str {
    match fact {
        "last-push" => "the time of the last push is not known",
        "last-pull" => "the registry may not record pulls",
        "use-before-removals" => "Tagwarden removed tags there, and their pulls and pushes are not known any more",
        "artifact-type" => "the type of its artifact is not known",
        "annotation" => "its annotations were not read, or the images of an index differ",
        "label" => "its labels were not read, or the images of an index differ",
        _ => "a fact is not known",
    }
}

/// Describes a reason of an unknown fact.
pub(super) fn describe_selection(policy: &str, fact: &str) -> String {
    let what = match fact {
        "artifact-type" => "some types of artifacts",
        "annotation" => "images with some annotations",
        "label" => "images with some labels",
        _ => "idle repositories",
    };
    format!("policy {policy} speaks of {what}, and {}, so it stays", describe_unknown_fact(fact))
}

/// Returns the condition under which an unknown fact no longer keeps a tag.
pub(super) fn selection_condition(reason: &ReasonView) -> Option<String> {
    let ReasonView::SelectionUnknown { policy, fact } = reason else { return None };
    Some(match fact.as_str() {
        "last-push" => format!("every tag of its repository has a time that can be trusted (policy {policy})"),
        "artifact-type" => {
            format!("the registry tells the type of its artifact, or it can be read (policy {policy})")
        }
        "annotation" | "label" => {
            format!("its {fact}s are read, and the images of an index agree (policy {policy})")
        }
        "last-pull" => format!("its registry records when it was pulled last; or policy {policy} has no `idle`"),
        _ => format!("that time has passed since the last removal in its repository (policy {policy})"),
    })
}
