//! The plan as JSON, `tagwarden.plan/1`: its shape is a promise to scripts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::humanize::{counted, format_count};
use super::index_reads::IndexReadsView;
use super::registry_info::RegistryInfoView;
use super::{
    AbilityView, AcceptedView, AttentionView, DeletionsView, DriftView, HoldView, LazyList, ReasonView,
    RegistryNoteView, StorageView, UnmatchedView,
};

/// The `schema` of a [`PlanDocument`].
pub const SCHEMA: &str = "tagwarden.plan/1";

/// A plan with everything it rests on and every verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDocument {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// `sha256:` over the rest of the document; see [`super::assign_plan_id()`].
    pub id: String,
    /// `sha256:` over what it would do; the same as that of another plan where nothing of that has changed. Empty in plans
    /// of an older version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// When the plan was made.
    pub created_at: Timestamp,
    /// Until when it may be applied.
    pub expires_at: Timestamp,
    /// The mode of the settings: `dry-run`, `approved` or `enforce`.
    pub mode: String,
    /// The time for which it was evaluated.
    pub evaluated_at: Timestamp,
    /// Whether that time was given by hand (`--at`): such a plan cannot be applied.
    pub hypothetical: bool,
    /// What the plan is narrowed to; `None` for a whole plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed: Option<NarrowingView>,
    /// The revision of the settings that decide.
    pub settings: String,
    /// The limits of the settings.
    pub limits: LimitsView,
    /// What needs a person's attention, the most urgent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<AttentionView>,
    /// The registries read.
    pub registries: Vec<RegistryView>,
    /// The sources asked.
    pub sources: Vec<SourceView>,
    /// The policies applied.
    pub policies: Vec<PolicyView>,
    /// The rules of policies that match nothing, those that refuse first; empty in plans of an older version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<UnmatchedView>,
    /// The tags that go.
    pub removals: LazyList<RemovalView>,
    /// The tags that stay.
    pub kept: LazyList<KeptView>,
    /// Records whose tag is not at their digest.
    pub drift: Vec<RecordDriftView>,
    /// Drift and orphans, warnings first: to be looked at, with no consequence for the removals.
    #[serde(default)]
    pub findings: Vec<DriftView>,
    /// The holds in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<HoldView>,
    /// What stands against the removals.
    pub refusals: Vec<RefusalView>,
    /// What a person accepted of what would stand against them, for this plan only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<AcceptedView>,
    /// The second step: untagged manifests that go, or stay.
    #[serde(default, skip_serializing_if = "DeletionsView::is_empty")]
    pub deletions: DeletionsView,
    /// What it would free, by registry and repository, where something goes; nothing in plans of an older version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<StorageView>,
    /// The counts.
    pub summary: SummaryView,
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
    /// Most manifests that one run deletes.
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
    /// As whom it was read.
    pub identity: String,
    /// How tags are removed there: `untag` or `manifest`.
    pub removal: String,
    /// Why that is impossible there and what can be done; nothing where it is possible or was not asked.
    pub obstacle: Option<String>,
    /// The repositories in which it is impossible although it is possible elsewhere, by name.
    pub obstacles: Vec<ObstacleView>,
    /// Removal support there; `None` where nobody looked, and in plans of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ability: Option<AbilityView>,
    /// Notes that stop no plan and are to be read before a run enforces it, such as missing rights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<RegistryNoteView>,
    /// What the cloud says of the registry itself; nothing where it was not asked or did not answer.
    #[serde(alias = "particulars")]
    pub info: Option<RegistryInfoView>,
    /// What the settings accept of it by name, such as `untagged-retention`.
    pub accepted: Vec<String>,
    /// By how many seconds its clock is ahead of ours; nothing where it did not say.
    pub clock_ahead_seconds: Option<i64>,
    /// Why the time by which was decided cannot be trusted there, in words; then nothing is removed or recorded there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// For how many seconds an untag there can surely be undone; nothing where that is not known.
    pub undo_seconds: Option<u64>,
    /// How many repositories were read.
    pub repositories: u64,
    /// How many tags were read.
    pub tags: u64,
    /// How many indexes and artifacts were read to decide, and why; nothing where none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexes_read: Option<IndexReadsView>,
    /// What could not be read.
    pub gaps: Vec<GapView>,
    /// Single invalid names in what was read: each is kept, and nothing else is in doubt.
    #[serde(default, alias = "odd_names", skip_serializing_if = "Vec::is_empty")]
    pub invalid_names: Vec<GapView>,
}

/// A repository from which nothing can be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObstacleView {
    /// Its name.
    pub repository: String,
    /// Why, and what can be done.
    pub message: String,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapView {
    /// The repository, or nothing for the registry as a whole.
    pub repository: Option<String>,
    /// What is missing, in words.
    pub at: String,
    /// The label of the failure.
    pub kind: String,
    /// What happened, and what to do next.
    pub message: String,
}

/// One source that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// Its name in the settings.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// `answered` or `failed`.
    pub state: String,
    /// How many claims it made.
    pub claims: u64,
    /// The number of words in its texts that protect tags it does not claim; `None` in plans of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mentions: Option<u64>,
    /// The number of references that name a repository and leave the tag open; `None` in plans of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unresolved: Option<u64>,
    /// The number of tags that its claims and mentions protect right now.
    pub protects: u64,
    /// The tags that its unresolved references keep undecided; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided: Option<UndecidedView>,
    /// The time of its evidence.
    pub as_of: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
    /// What a person should know although it answered.
    pub notes: Vec<String>,
}

/// The tags that the unresolved references of one source keep undecided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndecidedView {
    /// The number of tags.
    pub tags: u64,
    /// The number of repositories with such tags.
    pub repositories: u64,
    /// The first of those references, as its text has it.
    pub text: String,
    /// The place where that one stands, in words.
    pub place: String,
}

/// One policy that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Its name.
    pub name: String,
    /// `dry-run` or `enforce`.
    pub mode: String,
    /// Whom to ask about it.
    pub owner: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The file it stands in.
    pub file: String,
    /// That file's content hash.
    pub revision: String,
    /// How many tags it selects, signatures and the like not counted; nothing in plans of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<u64>,
    /// How many tags it lets go that do go.
    pub expired: u64,
}

/// One tag that goes.
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
    /// The first by name of the policies that let it go.
    pub policy: String,
    /// Whether every policy that lets it go says `enforce`.
    pub enforce: bool,
    /// How it is removed: `untag` or `manifest`.
    pub method: String,
    /// For a signature or the like, the image that it goes with.
    pub companion_of: Option<String>,
    /// The registry's word on its last push, where it gives one.
    pub pushed_at: Option<Timestamp>,
    /// The time by which it was judged.
    pub dated_at: Option<Timestamp>,
    /// What that time is: `pushed`, `created`, `first-seen`, `original` (of a restored tag, from before it was removed) or
    /// `unknown`.
    pub dated_by: String,
    /// Its age by that time.
    pub age_seconds: Option<i64>,
    /// The exclusive bytes: those that only images use that go with this plan, each counted for the first removal that
    /// needs it; nothing where that cannot be known.
    pub reclaimable_bytes: Option<u64>,
    /// Bytes of its image that stay, because something kept uses them too, counted in the same way; nothing where that
    /// cannot be known, and in plans of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_bytes: Option<u64>,
    /// That the registry refused to remove this one tag in earlier runs, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by_registry: Option<RefusedView>,
    /// Commands for a POSIX shell that show its tag and manifest by hand; they only read.
    pub verify: Vec<String>,
    /// Everything found for and against it.
    pub reasons: Vec<ReasonView>,
}

/// The refusals that the removal of one tag met in earlier runs, although the registry removes others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// How many runs met it.
    pub times: u32,
    /// The last time.
    pub last_at: Timestamp,
    /// From when on an enforcing run tries again; until then it skips the tag.
    pub next_try: Timestamp,
    /// The registry's words of the last time.
    pub message: String,
    /// All of it in words.
    pub text: String,
}

/// One tag that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptView {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest that it names, where that could be read.
    pub digest: Option<String>,
    /// `retained`, `protected`, `undecided` or `out-of-scope`.
    pub verdict: String,
    /// The time by which it was judged.
    pub dated_at: Option<Timestamp>,
    /// What that time is: `pushed`, `created`, `first-seen`, `original` (of a restored tag, from before it was removed) or
    /// `unknown`.
    pub dated_by: String,
    /// Everything found for and against it.
    pub reasons: Vec<ReasonView>,
}

/// A record whose tag is not at its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordDriftView {
    /// The source that recorded it.
    pub source: String,
    /// Who holds the claim, in words.
    pub holder: String,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest that was recorded.
    pub recorded: String,
    /// What the tag names now; nothing where it is gone or unread.
    pub actual: Option<String>,
}

/// Why an enforcing run would not do what the plan lists.
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
    /// Whether the removals that would be enforced go over it by themselves.
    pub binding: bool,
    /// What it is, and what to do next.
    pub message: String,
}

/// The counts of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryView {
    /// All tags.
    pub tags: u64,
    /// Those that go.
    pub expired: u64,
    /// Those that a keep rule keeps.
    pub retained: u64,
    /// Those that a claim, a lock, an index or a referrer holds.
    pub protected: u64,
    /// Those about which something is missing.
    pub undecided: u64,
    /// Those that no policy selects.
    pub out_of_scope: u64,
    /// The exclusive bytes: those that only images use that go with this plan. They are free once the registry collects
    /// them.
    pub reclaimable_bytes: u64,
    /// Bytes of images of removed tags that stay, because something kept uses them too.
    pub shared_bytes: u64,
    /// Removals whose bytes cannot be known.
    pub unknown_bytes_removals: u64,
    /// Whether all these bytes are `exact` or some of them `estimated`: by a registry's own sizes of whole images, with
    /// what they share counted more than once.
    pub bytes: String,
}

impl PlanDocument {
    /// Whether a refusal stops this removal from being enforced.
    #[must_use]
    pub fn refusal_of(&self, removal: &RemovalView) -> Option<&RefusalView> {
        self.refusals.iter().find(|refusal| refusal.binding && refusal.covers(removal))
    }

    /// Whether some source failed or something could not be read, so that the plan rests on incomplete evidence.
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
    /// Returns what it says in numbers: `12 claims, 3 mentions, 1 unresolved`.
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
    /// Whether its bytes are estimated.
    #[must_use]
    pub fn is_estimated(&self) -> bool {
        self.bytes == "estimated"
    }
}

impl RemovalView {
    /// The policies that let it go.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        self.reasons.iter().filter_map(|reason| match reason {
            ReasonView::NotKept { policy, .. } | ReasonView::CompanionOfExpired { policy, .. } => Some(policy.as_str()),
            _ => None,
        })
    }

    /// `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl KeptView {
    /// `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl RefusalView {
    /// Whether a removal falls under it.
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
