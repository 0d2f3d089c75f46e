//! The plan as JSON, `tagwarden.plan/1`: its shape is a promise to scripts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::humanize::{counted, format_count};
use super::index_reads::IndexReadsView;
use super::registry_info::RegistryInfoView;
use super::{
    AbilityView, AcceptedView, AttentionView, DeletionsView, DriftView, HoldView, IdleRepositoryView, LazyList,
    ReasonView, RegistryNoteView, StorageView, UnmatchedView,
};

/// The `schema` of a [`PlanDocument`].
pub const SCHEMA: &str = "tagwarden.plan/1";

/// A plan with its evidence and every verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDocument {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// `sha256:` over the rest of the document; see [`super::assign_plan_id()`].
    pub id: String,
    /// `sha256:` over its effects; equal to that of another plan with the same effects. Empty in plans of an older
    /// version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// Time at which the plan was made.
    pub created_at: Timestamp,
    /// End of the period in which it may be applied.
    pub expires_at: Timestamp,
    /// The mode of the settings: `dry-run`, `approved` or `enforce`.
    pub mode: String,
    /// The time of the evaluation.
    pub evaluated_at: Timestamp,
    /// True if that time was given by hand (`--at`): such a plan cannot be applied.
    pub hypothetical: bool,
    /// What the plan is narrowed to; `None` for a whole plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed: Option<NarrowingView>,
    /// The window, freeze or newer rules that held removals back when the plan was made; `None` if removals were free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
    /// The revision of the settings that decide.
    pub settings: String,
    /// The limits of the settings.
    pub limits: LimitsView,
    /// The items that need a person's attention, the most urgent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<AttentionView>,
    /// The registries read.
    pub registries: Vec<RegistryView>,
    /// The sources queried.
    pub sources: Vec<SourceView>,
    /// The policies applied.
    pub policies: Vec<PolicyView>,
    /// The rules of policies that match nothing, those with refusals first; empty in plans of an older version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<UnmatchedView>,
    /// The repositories that a policy selects by `idle`, or may select; empty without such a policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<IdleRepositoryView>,
    /// The tags to be removed.
    pub removals: LazyList<RemovalView>,
    /// The tags to be retained.
    pub kept: LazyList<KeptView>,
    /// Records whose tag has another digest now.
    pub drift: Vec<RecordDriftView>,
    /// Drift and orphans, warnings first: for a person to check, without effect on the removals.
    #[serde(default)]
    pub findings: Vec<DriftView>,
    /// The holds in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<HoldView>,
    /// The refusals of removals.
    pub refusals: Vec<RefusalView>,
    /// What a person accepted of what would stand against them, for this plan only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<AcceptedView>,
    /// The second step: untagged manifests that go, or stay.
    #[serde(default, skip_serializing_if = "DeletionsView::is_empty")]
    pub deletions: DeletionsView,
    /// The bytes that it would free, by registry and repository; empty without removals, and in plans of an older version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<StorageView>,
    /// The counts.
    pub summary: SummaryView,
    /// True if the run that shows it has removed what it could: a report then does not propose to apply it.
    #[serde(skip)]
    pub is_applied: bool,
    /// The file that the same command writes the plan to, as a word of a shell.
    #[serde(skip)]
    pub written_to: Option<String>,
}

/// The part of the whole plan that a narrowed plan shows. Everything was read and decided, and limits count all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NarrowingView {
    /// The registries; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<String>,
    /// Globs of repositories; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// The policies; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
}

/// The limits of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsView {
    /// Most removals in one run.
    pub untag: u32,
    /// Most removals per repository, in percent of its tags.
    pub percent: u32,
    /// Fewest tags that a repository is left with.
    pub leave: u32,
    /// Most manifests that one run may delete.
    #[serde(default)]
    pub delete: u32,
}

/// One registry that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryView {
    /// Its name in the settings.
    pub name: String,
    /// Its dialect.
    pub kind: String,
    /// Its address.
    pub endpoint: String,
    /// The identity that read it.
    pub identity: String,
    /// The removal method: `untag` or `manifest`.
    pub removal: String,
    /// Why removal is impossible there, and the remedy; `None` if it is possible or was not checked.
    pub obstacle: Option<String>,
    /// The repositories in which removal is impossible although it is possible elsewhere, by name.
    pub obstacles: Vec<ObstacleView>,
    /// Removal support there; `None` if not checked, and in plans of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ability: Option<AbilityView>,
    /// Notes that block no plan and should be read before a run enforces it, such as missing rights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<RegistryNoteView>,
    /// The registry's own settings as the cloud reports them; `None` if not queried or not answered.
    #[serde(alias = "particulars")]
    pub info: Option<RegistryInfoView>,
    /// The exceptions that the settings accept for it by name, such as `untagged-retention`.
    pub accepted: Vec<String>,
    /// Seconds by which its clock is ahead of the local one; `None` if not reported.
    pub clock_ahead_seconds: Option<i64>,
    /// Why the time of the decision cannot be trusted there; nothing is removed or recorded there then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// Seconds for which an untag there can certainly be undone; `None` if unknown.
    pub undo_seconds: Option<u64>,
    /// The number of repositories read.
    pub repositories: u64,
    /// The number of tags read.
    pub tags: u64,
    /// The numbers of manifests read to decide, by cause; `None` if none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexes_read: Option<IndexReadsView>,
    /// The gaps.
    pub gaps: Vec<GapView>,
    /// Single invalid names in the lists: each is retained, and nothing else is in doubt.
    #[serde(default, alias = "odd_names", skip_serializing_if = "Vec::is_empty")]
    pub invalid_names: Vec<GapView>,
}

/// A repository in which removal is impossible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObstacleView {
    /// Its name.
    pub repository: String,
    /// The reason and the remedy.
    pub message: String,
}

/// A part that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapView {
    /// The repository; `None` for the registry as a whole.
    pub repository: Option<String>,
    /// The missing information.
    pub at: String,
    /// The label of the failure.
    pub kind: String,
    /// The failure, and what to do next.
    pub message: String,
    /// True if the message says what to do next. Plans of older versions do not tell, and have the same id all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_help: bool,
}

/// A queried source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// Its name in the settings.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// `answered` or `failed`.
    pub state: String,
    /// The number of its claims.
    pub claims: u64,
    /// The number of words in its texts that protect tags it does not claim; `None` in plans of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mentions: Option<u64>,
    /// The number of references that name a repository without identifying a tag; `None` in plans of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unresolved: Option<u64>,
    /// The number of tags that its claims and mentions protect right now.
    pub protects: u64,
    /// The tags that its unresolved references keep undecided; `None` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided: Option<UndecidedView>,
    /// The time of its evidence.
    pub as_of: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
    /// Remarks for people although it answered.
    pub notes: Vec<String>,
}

/// The tags that the unresolved references of one source keep undecided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndecidedView {
    /// The number of tags.
    pub tags: u64,
    /// The number of repositories with such tags.
    pub repositories: u64,
    /// The first of those references, as written in its text.
    pub text: String,
    /// The place of that reference.
    pub place: String,
}

/// One policy that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Its name.
    pub name: String,
    /// `dry-run` or `enforce`.
    pub mode: String,
    /// The contact for questions about it.
    pub owner: Option<String>,
    /// Its purpose.
    pub description: Option<String>,
    /// Its file.
    pub file: String,
    /// The content hash of that file.
    pub revision: String,
    /// The number of tags that it selects, without signatures and the like; `None` in plans of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<u64>,
    /// The number of tags that it expires and that are to be removed.
    pub expired: u64,
}

/// A tag to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalView {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest that it must still name then.
    pub digest: String,
    /// The first by name of the policies that expire it.
    pub policy: String,
    /// True if every policy that expires it says `enforce`.
    pub enforce: bool,
    /// The removal method: `untag` or `manifest`.
    pub method: String,
    /// For a signature or the like, the image that it is removed with.
    pub companion_of: Option<String>,
    /// The time of the last push, if the registry reports it.
    pub pushed_at: Option<Timestamp>,
    /// The date by which it was decided.
    pub dated_at: Option<Timestamp>,
    /// The origin of that date: `pushed`, `created`, `first-seen`, `original` (of a restored tag, from before it was
    /// removed) or `unknown`.
    pub dated_by: String,
    /// Its age by that date.
    pub age_seconds: Option<i64>,
    /// The exclusive bytes: those needed only by images that this plan removes, each counted for the first removal that
    /// needs it. `None` if unknown.
    pub reclaimable_bytes: Option<u64>,
    /// Bytes of its image that remain because a retained manifest needs them too, counted in the same way. `None` if
    /// unknown, and in plans of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_bytes: Option<u64>,
    /// The registry's refusals to remove this tag in earlier runs, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by_registry: Option<RefusedView>,
    /// Commands for a POSIX shell that show its tag and manifest; they only read.
    pub verify: Vec<String>,
    /// All reasons for and against removal.
    pub reasons: Vec<ReasonView>,
}

/// The refusals that the removal of one tag met in earlier runs, although the registry removes others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// The number of runs that met it.
    pub times: u32,
    /// Time of the last refusal.
    pub last_at: Timestamp,
    /// Time of the next attempt by an enforcing run; until then the tag is skipped.
    pub next_try: Timestamp,
    /// The registry's message at the last refusal.
    pub message: String,
    /// The same in words.
    pub text: String,
}

/// A retained tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptView {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// Its digest, if it could be read.
    pub digest: Option<String>,
    /// `retained`, `protected`, `undecided` or `out-of-scope`.
    pub verdict: String,
    /// The date by which it was decided.
    pub dated_at: Option<Timestamp>,
    /// The origin of that date: `pushed`, `created`, `first-seen`, `original` (of a restored tag, from before it was
    /// removed) or `unknown`.
    pub dated_by: String,
    /// All reasons for and against removal.
    pub reasons: Vec<ReasonView>,
}

/// A record whose tag has another digest now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordDriftView {
    /// The source that recorded it.
    pub source: String,
    /// The holder of the claim.
    pub holder: String,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest that was recorded.
    pub recorded: String,
    /// The tag's current digest; `None` if the tag does not exist or was not read.
    pub actual: Option<String>,
}

/// Why an enforcing run would not carry out what the plan lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalView {
    /// `untag-limit`, `percent-limit`, `leave-limit`, `removal-impossible`, `untagged-retention`,
    /// `registry-settings-unread`, `clock` or `protects-nothing`.
    pub kind: String,
    /// The policy it covers, if it is a policy's.
    pub policy: Option<String>,
    /// The registry it covers, if it is a registry's or a repository's.
    pub registry: Option<String>,
    /// The repository it covers, if it is a repository's.
    pub repository: Option<String>,
    /// True if the removals that would be enforced violate it by themselves.
    pub binding: bool,
    /// The violated limit or condition, and what to do next.
    pub message: String,
}

/// The counts of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryView {
    /// All tags.
    pub tags: u64,
    /// Expired tags.
    pub expired: u64,
    /// Tags kept by a keep rule.
    pub retained: u64,
    /// Tags protected by a claim, a lock, an index or a referrer.
    pub protected: u64,
    /// Tags with missing information.
    pub undecided: u64,
    /// Tags that no policy selects.
    pub out_of_scope: u64,
    /// The exclusive bytes: those needed only by images that this plan removes. They are free once the registry
    /// collects them.
    pub reclaimable_bytes: u64,
    /// Bytes of removed images that remain because a retained manifest needs them too.
    pub shared_bytes: u64,
    /// Removals whose bytes cannot be known.
    pub unknown_bytes_removals: u64,
    /// Accuracy of all these bytes: `exact`, or `estimated` if some are a registry's own sizes of whole images, with
    /// shared layers counted more than once.
    pub bytes: String,
}

impl PlanDocument {
    /// Returns the refusal that blocks this removal from being enforced.
    #[must_use]
    pub fn refusal_of(&self, removal: &RemovalView) -> Option<&RefusalView> {
        self.refusals.iter().find(|refusal| refusal.binding && refusal.covers(removal))
    }

    /// Returns true if a source failed or something could not be read, so that the plan rests on incomplete evidence.
    #[must_use]
    pub fn evidence_missing(&self) -> bool {
        self.sources.iter().any(|source| source.state == "failed")
            || self.registries.iter().any(|registry| !registry.gaps.is_empty())
    }
}

impl PlanDocument {
    /// The number of removals or deletions that were accepted for the run, or for a policy, beyond its limit; zero where
    /// none were.
    #[must_use]
    pub fn accepted_count(&self, kind: &str, policy: Option<&str>) -> u64 {
        let own = |one: &&AcceptedView| {
            one.kind == kind && one.policy.as_deref() == policy && one.registry.is_none() && one.repository.is_none()
        };
        self.accepted.iter().filter(own).filter_map(|one| one.extent.found).map(u64::from).max().unwrap_or_default()
    }
}

impl NarrowingView {
    /// Returns it in words: `registry contoso, repositories shop/**`.
    #[must_use]
    pub fn describe(&self) -> String {
        let parts = [("registry", &self.registries), ("repositories", &self.repositories), ("policy", &self.policies)];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty());
        parts.map(|(what, names)| format!("{what} {}", names.join(" "))).collect::<Vec<_>>().join(", ")
    }
}

impl SourceView {
    /// Describes its numbers: `12 claims, 3 mentions, 1 unresolved`.
    #[must_use]
    pub fn describe_counts(&self) -> String {
        let mentions = self.mentions.filter(|number| *number > 0).map(|number| counted(number, "mention"));
        let unresolved =
            self.unresolved.filter(|number| *number > 0).map(|number| format_count(number) + " unresolved");
        let parts = [Some(counted(self.claims, "claim")), mentions, unresolved];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl SummaryView {
    /// Returns true if its bytes are estimated.
    #[must_use]
    pub fn is_estimated(&self) -> bool {
        self.bytes == "estimated"
    }
}

impl RemovalView {
    /// Returns the policies that expire it.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        self.reasons.iter().filter_map(|reason| match reason {
            ReasonView::NotKept { policy, .. } | ReasonView::CompanionOfExpired { policy, .. } => Some(policy.as_str()),
            _ => None,
        })
    }

    /// Returns `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl KeptView {
    /// Returns `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl RefusalView {
    /// Returns true if it covers a removal.
    #[must_use]
    pub fn covers(&self, removal: &RemovalView) -> bool {
        self.policy.as_ref().is_none_or(|policy| removal.policies().any(|name| name == policy))
            && self.registry.as_ref().is_none_or(|registry| *registry == removal.registry)
            && self.repository.as_ref().is_none_or(|repository| *repository == removal.repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_version_before_are_read() {
        let old = r#"{
            "name": "contoso", "kind": "acr", "endpoint": "https://contoso.azurecr.io", "identity": "user ada",
            "removal": "untag", "obstacle": null, "obstacles": [], "accepted": [], "clock_ahead_seconds": null,
            "undo_seconds": null, "repositories": 1, "tags": 2, "gaps": [],
            "particulars": {
                "subscription": "s", "resource_group": "g", "resource": "contoso", "sku": "premium", "permissions": null,
                "untagged_retention": { "state": "off", "days": null }, "soft_delete": { "state": "off", "days": null },
                "replicas": [], "stored_bytes": 7
            },
            "odd_names": [{ "repository": "app", "at": "the tag list", "kind": "invalid-name", "message": "m" }]
        }"#;
        let view: RegistryView = serde_json::from_str(old).unwrap();
        assert_eq!(view.info.as_ref().and_then(|info| info.tier.as_deref()), Some("premium"));
        assert_eq!(view.invalid_names.len(), 1);
    }
}
