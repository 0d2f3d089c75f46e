//! Manifests without a tag whose grace is over, as people and scripts read them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::build::refusal;
use super::holder::HolderView;
use super::humanize::{counted, format_bytes, format_count};
use super::notation::{format_minute, short_digest};
use super::reason::{describe_mention, describe_possible_claim, describe_unresolved};
use super::{HoldView, RefusalView};
use crate::domain::{Deletion, Deletions, DependentRole, Refusal, RetainReason};

/// The second step of a plan: what becomes of manifests that no tag references.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionsView {
    /// Manifests whose grace period is over, by registry, repository and digest.
    #[serde(alias = "due")]
    pub eligible: Vec<DeletionView>,
    /// The number of manifests still in their grace period.
    #[serde(alias = "waiting")]
    pub pending: u64,
    /// The earliest end of a grace period among them.
    #[serde(alias = "next_at")]
    pub next_eligible_at: Option<Timestamp>,
    /// Registries in which policies request deletions but untagged manifests are not listed: nothing is deleted there.
    pub unlisted: Vec<String>,
    /// The refusals of deletions.
    pub refusals: Vec<RefusalView>,
    /// How many manifests without a tag policies with `untagged` speak of and something keeps, by the label of the first
    /// reason. Not among them are those in `eligible`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<String, u64>,
    /// What policies with `untagged` would free with those that wait; nothing where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastOfDeletionsView>,
}

/// What deleting manifests would free, once their time is over and if nothing keeps them by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastOfDeletionsView {
    /// How many they are.
    pub manifests: u64,
    /// Bytes that only they need in their repositories: the most that is freed.
    pub bytes: u64,
    /// Whether these are `exact` or `estimated`.
    pub bytes_are: String,
    /// How many of them are of unknown size.
    pub unsized_manifests: u64,
}

/// An untagged manifest whose grace period is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionView {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// Its digest.
    pub digest: String,
    /// The tag that Tagwarden took from it last; empty where it took none.
    pub tag: String,
    /// When that was; where it took none, since when the manifest is found free.
    pub untagged_at: Timestamp,
    /// The first of an unbroken series of runs that found it free, where a policy with `untagged` has a say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_since: Option<Timestamp>,
    /// When its grace was over.
    #[serde(alias = "due_at")]
    pub eligible_at: Timestamp,
    /// The policies that request its deletion.
    pub policies: Vec<String>,
    /// True if all of them say `enforce`, and so do those of every manifest that it depends on.
    pub enforce: bool,
    /// True if no reason retains it.
    #[serde(alias = "goes")]
    pub deletable: bool,
    /// The manifests that are deleted with it.
    #[serde(alias = "along")]
    pub dependents: Vec<DependentView>,
    /// Bytes that only it and its dependents need; `None` if unknown.
    pub bytes: Option<u64>,
    /// Accuracy of these bytes: `exact` or `estimated`.
    pub bytes_are: String,
    /// Why an enforcing run does not delete it although it is deletable; `None` if nothing is refused.
    pub refused: Option<String>,
    /// The reasons why it is retained; empty if it is deletable.
    #[serde(alias = "stays")]
    pub retain_reasons: Vec<RetainReasonView>,
}

/// A manifest that is deleted together with another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependentView {
    /// `child`: an index lists it; `referrer`: it refers to a deleted manifest.
    pub role: String,
    /// Its digest.
    pub digest: String,
}

/// A reason to retain an untagged manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainReasonView {
    /// A label for scripts, such as `claimed`.
    pub kind: String,
    /// The same in words.
    pub message: String,
}

impl DeletionsView {
    /// Creates the view of deletions, given the refusals of removals.
    pub(super) fn of(deletions: &Deletions, of_removals: &[Refusal]) -> Self {
        let Deletions { eligible, pending, next_eligible_at, unlisted, refusals, kept, forecast } = deletions;
        let view = |one: &Deletion| DeletionView::of(one, deletions.refusal_for(one, of_removals));
        Self {
            eligible: eligible.iter().map(view).collect(),
            pending: *pending,
            next_eligible_at: *next_eligible_at,
            unlisted: unlisted.iter().map(ToString::to_string).collect(),
            refusals: refusals.iter().map(refusal).collect(),
            kept: kept.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect(),
            forecast: (forecast.manifests > 0).then(|| ForecastOfDeletionsView {
                manifests: forecast.manifests,
                bytes: forecast.bytes,
                bytes_are: super::storage::accuracy_label(forecast.estimated),
                unsized_manifests: forecast.unsized_manifests,
            }),
        }
    }

    /// Returns true if there is nothing to report.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the manifests to be deleted.
    pub fn deletable(&self) -> impl Iterator<Item = &DeletionView> {
        self.eligible.iter().filter(|one| one.deletable)
    }

    /// Returns the manifests that are retained although their grace period is over.
    pub fn retained(&self) -> impl Iterator<Item = &DeletionView> {
        self.eligible.iter().filter(|one| !one.deletable)
    }

    /// Returns all manifests, those to be deleted first.
    pub fn sorted(&self) -> impl Iterator<Item = &DeletionView> {
        self.deletable().chain(self.retained())
    }

    /// Returns the number of manifests to be deleted, dependents included.
    #[must_use]
    pub fn manifest_count(&self) -> u64 {
        self.deletable().map(|one| 1 + one.dependents.len() as u64).sum()
    }

    /// Describes the deletions in sentences without full stops; empty if there is nothing to report.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        let going = self.deletable().count() as u64;
        if going > 0 {
            let along = self.manifest_count() - going;
            let with = if along > 0 {
                format!(", with {} more that depend on them", format_count(along))
            } else {
                String::new()
            };
            let known: u64 = self.deletable().filter_map(|one| one.bytes).sum();
            let about = if self.deletable().any(|one| one.bytes_are == "estimated") { "about " } else { "" };
            let unknown = self.deletable().filter(|one| one.bytes.is_none()).count() as u64;
            let unknown =
                if unknown > 0 { format!(", {} of unknown size", format_count(unknown)) } else { String::new() };
            said.push(format!(
                "{} would be deleted{with}: {about}{} freed{unknown}",
                counted(going, "untagged manifest"),
                format_bytes(known)
            ));
        }
        let irreversible = self.deletable().filter(|one| one.tag.is_empty()).count() as u64;
        if irreversible > 0 {
            said.push(format!(
                "{} had no tag that Tagwarden removed: `tagwarden restore` does not bring {} back",
                if irreversible == going {
                    "these".to_owned()
                } else {
                    format!("{} of these", format_count(irreversible))
                },
                if irreversible == 1 { "it" } else { "them" }
            ));
        }
        let staying = self.retained().count() as u64;
        if staying > 0 {
            said.push(format!("{} whose time is over: kept all the same", counted(staying, "untagged manifest")));
        }
        if self.pending > 0 {
            let next =
                self.next_eligible_at.map(|at| format!(", the first until {}", at.strftime("%Y-%m-%d %H:%M UTC")));
            let next = next.unwrap_or_default();
            said.push(format!(
                "{} for the end of the time that policies give{next}",
                if self.pending == 1 {
                    "1 untagged manifest waits".to_owned()
                } else {
                    format!("{} untagged manifests wait", format_count(self.pending))
                }
            ));
        }
        if let Some(forecast) = &self.forecast {
            let about = if forecast.bytes_are == "estimated" { "about " } else { "" };
            let unknown = match forecast.unsized_manifests {
                0 => String::new(),
                number => format!(", {} of unknown size", format_count(number)),
            };
            said.push(format!(
                "{} free and would be removed once the time is over: {about}{} at most{unknown}",
                if forecast.manifests == 1 {
                    "1 manifest without a tag is".to_owned()
                } else {
                    format!("{} manifests without a tag are", format_count(forecast.manifests))
                },
                format_bytes(forecast.bytes)
            ));
        }
        if !self.kept.is_empty() {
            let number: u64 = self.kept.values().sum();
            let kinds: Vec<String> =
                self.kept.iter().map(|(kind, count)| format!("{kind} {}", format_count(*count))).collect();
            said.push(format!("{} without a tag: kept ({})", counted(number, "manifest"), kinds.join(", ")));
        }
        if !self.unlisted.is_empty() {
            said.push(format!(
                "nothing is deleted in {}: what has no tag is not listed there, and any of it may be an index that holds \
                 another image",
                self.unlisted.join(", ")
            ));
        }
        said
    }
}

impl DeletionView {
    fn of(deletion: &Deletion, refusal: Option<&Refusal>) -> Self {
        let refused = refusal.filter(|_| deletion.is_deletable());
        Self {
            registry: deletion.registry.to_string(),
            repository: deletion.repository.to_string(),
            digest: deletion.digest.to_string(),
            tag: deletion.tag.to_string(),
            untagged_at: deletion.untagged_at,
            free_since: deletion.free_since,
            eligible_at: deletion.eligible_at,
            policies: deletion.policies.iter().map(ToString::to_string).collect(),
            enforce: deletion.enforce,
            deletable: deletion.is_deletable(),
            dependents: deletion
                .dependents
                .iter()
                .map(|one| DependentView::of(one.role, one.digest.to_string()))
                .collect(),
            bytes: deletion.reclaim.map(|freed| freed.bytes),
            bytes_are: super::storage::accuracy_label(deletion.reclaim.is_some_and(|freed| freed.estimated)),
            refused: refused.map(super::describe_refusal),
            retain_reasons: deletion.retain_reasons.iter().map(RetainReasonView::from).collect(),
        }
    }

    /// Returns `registry/repository@digest`, with the digest shortened.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}@{}", self.registry, self.repository, short_digest(&self.digest))
    }

    /// The tag that it had and when it lost that, in words; or since when it is found free.
    #[must_use]
    pub fn describe_origin(&self) -> String {
        let since = format_minute(self.untagged_at);
        if self.tag.is_empty() {
            format!("left by others, found free since {since}")
        } else {
            format!("was {}, untagged {since}", self.tag)
        }
    }

    /// Whether an enforcing run deletes it.
    #[must_use]
    pub fn is_enforceable(&self) -> bool {
        self.deletable && self.enforce && self.refused.is_none()
    }

    /// Describes why it is retained; empty if it is deleted.
    #[must_use]
    pub fn reasons(&self) -> String {
        self.retain_reasons.iter().map(|reason| reason.message.as_str()).collect::<Vec<_>>().join("; ")
    }

    /// Describes the decision on it.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.refused {
            _ if !self.deletable => format!("stays: {}", self.reasons()),
            Some(why) => format!("refused: {why}"),
            None if !self.enforce => "only reported: a policy says `dry-run`".to_owned(),
            None => "goes".to_owned(),
        }
    }

    /// Describes the number of its dependents; empty if there are none.
    #[must_use]
    pub fn describe_dependents(&self) -> String {
        let of = |role: DependentRole| self.dependents.iter().filter(|one| one.role == role.label()).count() as u64;
        let words = [(of(DependentRole::Child), "image"), (of(DependentRole::Referrer), "referrer")];
        let words = words.into_iter().filter(|(number, _)| *number > 0).map(|(number, what)| counted(number, what));
        words.collect::<Vec<_>>().join(", ")
    }
}

impl DependentView {
    fn of(role: DependentRole, digest: String) -> Self {
        Self { role: role.label().to_owned(), digest }
    }
}

impl From<&RetainReason> for RetainReasonView {
    fn from(stay: &RetainReason) -> Self {
        Self { kind: stay.label().to_owned(), message: message(stay) }
    }
}

fn message(stay: &RetainReason) -> String {
    match stay {
        RetainReason::NotListed => {
            "the registry does not list what has no tag, and any of it may be an index that holds it".into()
        }
        RetainReason::SourceFailed(source) => format!("source {source} failed, and could have claimed it"),
        RetainReason::Gap(at) => format!("{at} could not be read"),
        RetainReason::Held(hold) => format!("tag {} is {}", hold.tag, HoldView::from(&**hold).describe()),
        RetainReason::Claimed { source, reference, holder } => {
            format!("{source} claims {reference}: {}", HolderView::from(&**holder).describe())
        }
        RetainReason::MaybeClaimed(claimed) => {
            let (source, digest) = (claimed.source.as_str(), claimed.digest.to_string());
            describe_possible_claim(
                source,
                &digest,
                claimed.uncertainty.label(),
                Some(&HolderView::from(&*claimed.holder)),
            )
        }
        RetainReason::UnresolvedReference(unresolved) => {
            describe_unresolved(unresolved.source.as_str(), &unresolved.text, &HolderView::from(&*unresolved.holder))
        }
        RetainReason::Mentioned(mentioned) => {
            describe_mention(mentioned.source.as_str(), &mentioned.text, &HolderView::from(&*mentioned.holder))
        }
        RetainReason::Locked { on, lock } => {
            let what = match on {
                crate::domain::LockTarget::Repository => "its repository",
                crate::domain::LockTarget::Manifest => "it, or an image in it,",
                crate::domain::LockTarget::Tag => "a tag of it",
            };
            format!("{what} has a {} lock", lock.label())
        }
        RetainReason::ListedByRetained(index) => {
            format!("index {}, which stays, lists it", short_digest(&index.to_string()))
        }
        RetainReason::ReferredToByRetained(referrer) => {
            format!("{}, which stays, refers to it", short_digest(&referrer.to_string()))
        }
        RetainReason::HasCompanionTag(tag) => format!("tag {tag} is a signature or the like of it"),
        RetainReason::RefersToRetained(subject) => {
            format!("it is a signature or the like of {}, which stays", short_digest(&subject.to_string()))
        }
        RetainReason::Restored(tag) => format!("tag {tag} was put back since, and somebody else removed it"),
        RetainReason::Unrecorded(tag) => format!("the record of the removal of {tag} is not understood"),
        RetainReason::PolicyMissing(policy) => format!("policy {policy}, which expired a tag of it, is gone"),
        RetainReason::NotSelected(policy, tag) => {
            format!("policy {policy}, which let {tag} go, does not select it any more")
        }
        RetainReason::DeletionNotRequested(policy) => {
            format!("policy {policy} selects a tag that it had, and has no `then`")
        }
        RetainReason::IndexContents => {
            "it is an index or may be one, and the registry would delete the images in it together with it".into()
        }
        RetainReason::Cyclic => {
            "it and what it depends on depend on each other, so that none can be removed first".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_version_before_are_read() {
        let old = r#"{
            "due": [{
                "registry": "r", "repository": "a", "digest": "sha256:0", "tag": "t", "untagged_at": "2026-11-01T00:00:00Z",
                "due_at": "2026-11-08T00:00:00Z", "policies": ["p"], "enforce": true, "goes": false,
                "along": [{ "role": "child", "digest": "sha256:1" }], "bytes": null, "bytes_are": "exact", "refused": null,
                "stays": [{ "kind": "contained", "message": "index i, which stays, lists it" }]
            }],
            "waiting": 3, "next_at": "2026-11-09T00:00:00Z", "unlisted": [], "refusals": []
        }"#;
        let view: DeletionsView = serde_json::from_str(old).unwrap();
        assert_eq!((view.pending, view.next_eligible_at), (3, "2026-11-09T00:00:00Z".parse().ok()));
        let one = &view.eligible[0];
        assert_eq!((one.deletable, one.dependents.len(), one.retain_reasons.len()), (false, 1, 1));
        assert_eq!(one.eligible_at, "2026-11-08T00:00:00Z".parse::<Timestamp>().unwrap());
        let written = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<DeletionsView>(&written).unwrap(), view);
        assert!(!written.contains("\"goes\"") && !written.contains("\"due\""), "{written}");
    }
}
