//! Differences between two versions of the policies, tag by tag: `tagwarden.diff/1`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::rule_trace::rule_text;
use super::{ReasonView, RefusalView, refusal_view};
use crate::domain::{
    Claims, Inventory, Keep, Plan, Policy, PolicyName, Removal, Rules, TagPosition, TagSelector, TagVerdict, Verdict,
};
use crate::engine::{self, Verdicts};

/// The decision by one set of policies.
#[derive(Debug)]
pub struct PolicyDecision<'a> {
    /// The policies with the settings.
    pub rules: &'a Rules,
    /// The verdicts by them.
    pub verdicts: Verdicts,
    /// The plan by them.
    pub plan: Plan,
}

/// The effects of an edit of policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffView {
    /// `tagwarden.diff/1`.
    pub schema: String,
    /// The time of the evaluation.
    pub evaluated_at: Timestamp,
    /// The revision that the old policies are from; `None` if they are files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<RevisionView>,
    /// Time at which the inventory was recorded; `None` if it was just read.
    pub recorded_at: Option<Timestamp>,
    /// True if a source failed or something could not be read, so that some tags are undecided on both sides.
    pub evidence_missing: bool,
    /// The counts.
    pub summary: DiffSummary,
    /// Every policy of either side, by name.
    pub policies: Vec<PolicyDiff>,
    /// Tags that expire under the new policies and did not under the old.
    pub newly_expired: Vec<TagDiff>,
    /// Tags that expired under the old policies and are retained under the new.
    pub no_longer_expired: Vec<TagDiff>,
    /// Tags that expire under both, and would really be removed only under the new: their policies now all say
    /// `enforce`.
    pub newly_enforced: Vec<TagDiff>,
    /// The refusals of removals under the old policies: limits, and rules that protect nothing.
    pub refusals_before: Vec<RefusalView>,
    /// The same under the new ones.
    pub refusals_after: Vec<RefusalView>,
}

/// The origin of the old policies in a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionView {
    /// The revision as it was named.
    pub revision: String,
    /// Its commit.
    pub commit: String,
    /// The file or folder, from the top of the repository.
    pub path: String,
}

/// The counts of a difference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffSummary {
    /// All tags.
    pub tags: u64,
    /// Tags that expire under the new policies and did not under the old.
    pub newly_expired: u64,
    /// Tags that expired under the old policies and are retained under the new.
    pub no_longer_expired: u64,
    /// All tags that expire under the old policies.
    pub expired_before: u64,
    /// All tags that expire under the new ones.
    pub expired_after: u64,
    /// Tags that the old policies would really remove.
    pub enforced_before: u64,
    /// Tags that the new ones would really remove.
    pub enforced_after: u64,
    /// Tags that both sides retain, with different verdicts.
    pub kept_with_other_verdict: u64,
}

/// One policy on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDiff {
    /// The policy.
    pub policy: String,
    /// `added`, `removed`, `changed` or `same`.
    pub change: String,
    /// Newly expired tags for which this policy comes first.
    pub newly_expired: u64,
    /// No longer expired tags for which this policy came first.
    pub no_longer_expired: u64,
}

/// One tag that the edit changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagDiff {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// Its digest, if it could be read.
    pub digest: Option<String>,
    /// The date by which it is decided.
    pub dated_at: Option<Timestamp>,
    /// Its age by that date.
    pub age_seconds: Option<i64>,
    /// The verdict by the old policies.
    pub before: String,
    /// The verdict by the new ones.
    pub after: String,
    /// The first policy that expires it: the new side's if it expires there, else the old one's.
    pub policy: Option<String>,
    /// True if the side that expires it would really remove it.
    pub enforced: bool,
    /// The reasons for the verdict by the old policies.
    pub reasons_before: Vec<ReasonView>,
    /// The reasons for the verdict by the new ones.
    pub reasons_after: Vec<ReasonView>,
}

/// Compares the decisions of the old and the new policies, tag by tag.
#[must_use]
pub fn diff(
    inventory: &Inventory,
    claims: &Claims,
    before: &PolicyDecision<'_>,
    after: &PolicyDecision<'_>,
    now: Timestamp,
    recorded_at: Option<Timestamp>,
) -> DiffView {
    let (old, new) = (removals(&before.plan), removals(&after.plan));
    let mut view = DiffView {
        schema: "tagwarden.diff/1".to_owned(),
        evaluated_at: now,
        against: None,
        recorded_at,
        evidence_missing: inventory.has_gaps() || claims.sources.iter().any(crate::domain::SourceOutcome::has_failed),
        summary: DiffSummary {
            tags: before.verdicts.tags.len() as u64,
            expired_before: old.len() as u64,
            expired_after: new.len() as u64,
            enforced_before: old.values().filter(|removal| removal.enforce).count() as u64,
            enforced_after: new.values().filter(|removal| removal.enforce).count() as u64,
            ..DiffSummary::default()
        },
        policies: Vec::new(),
        newly_expired: Vec::new(),
        no_longer_expired: Vec::new(),
        newly_enforced: Vec::new(),
        refusals_before: limits(&before.plan),
        refusals_after: limits(&after.plan),
    };
    for (was, is) in before.verdicts.tags.iter().zip(&after.verdicts.tags) {
        let (left, right) = (old.get(&was.position), new.get(&is.position));
        let by = right.or(left).copied();
        let tag = |by| tag_difference(inventory, now, was, is, by);
        match (left, right) {
            (None, Some(_)) => view.newly_expired.extend(tag(by)),
            (Some(_), None) => view.no_longer_expired.extend(tag(by)),
            (Some(left), Some(right)) if right.enforce && !left.enforce => view.newly_enforced.extend(tag(by)),
            (None, None) if was.verdict != is.verdict => view.summary.kept_with_other_verdict += 1,
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    view.summary.newly_expired = view.newly_expired.len() as u64;
    view.summary.no_longer_expired = view.no_longer_expired.len() as u64;
    view.policies = policies(before.rules, after.rules, &view);
    view
}

fn removals(plan: &Plan) -> BTreeMap<TagPosition, &Removal> {
    plan.removals.iter().map(|removal| (removal.position, removal)).collect()
}

/// Returns the refusals by limits and by rules that protect nothing. Refusals by the registries themselves do not
/// depend on an edit of policies.
fn limits(plan: &Plan) -> Vec<RefusalView> {
    plan.refusals
        .iter()
        .map(refusal_view)
        .filter(|refusal| refusal.kind.ends_with("-limit") || refusal.kind == "protects-nothing")
        .collect()
}

fn tag_difference(
    inventory: &Inventory,
    now: Timestamp,
    was: &TagVerdict,
    is: &TagVerdict,
    by: Option<&Removal>,
) -> Option<TagDiff> {
    let registry = inventory.registries.get(was.position.registry as usize)?;
    let repository = registry.repositories.get(was.position.repository as usize)?;
    let tag = repository.tags.get(was.position.tag as usize)?;
    let dated_at = engine::tag_date(repository, tag, now).timestamp();
    let deciding = |found: &TagVerdict| {
        let reasons = found.reasons.iter().filter(|reason| reason.implied_verdict() == found.verdict);
        reasons.map(ReasonView::from).collect()
    };
    Some(TagDiff {
        registry: registry.name.to_string(),
        repository: repository.name.to_string(),
        tag: tag.name.to_string(),
        digest: tag.digest.as_ref().map(ToString::to_string),
        dated_at,
        age_seconds: dated_at.map(|time| now.duration_since(time).as_secs()),
        before: was.verdict.label().to_owned(),
        after: is.verdict.label().to_owned(),
        policy: by.map(|removal| removal.policy.to_string()),
        enforced: by.is_some_and(|removal| removal.enforce),
        reasons_before: deciding(was),
        reasons_after: deciding(is),
    })
}

fn policies(old: &Rules, new: &Rules, view: &DiffView) -> Vec<PolicyDiff> {
    let by_name = |rules: &Rules| -> BTreeMap<PolicyName, String> {
        rules.policies.iter().map(|policy| (policy.name.clone(), comparable_text(policy))).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let names: BTreeSet<&PolicyName> = old.keys().chain(new.keys()).collect();
    let count = |tags: &[TagDiff], name: &PolicyName| {
        tags.iter().filter(|tag| tag.policy.as_deref() == Some(name.as_str())).count() as u64
    };
    names
        .into_iter()
        .map(|name| PolicyDiff {
            policy: name.to_string(),
            change: match (old.get(name), new.get(name)) {
                (None, _) => "added",
                (_, None) => "removed",
                (old, new) if old == new => "same",
                _ => "changed",
            }
            .to_owned(),
            newly_expired: count(&view.newly_expired, name),
            no_longer_expired: count(&view.no_longer_expired, name),
        })
        .collect()
}

/// Returns all deciding parts of a policy in one text: equal texts decide alike.
fn comparable_text(policy: &Policy) -> String {
    let select = &policy.select;
    let tags = match &select.tags {
        TagSelector::All => "all".to_owned(),
        TagSelector::Globs(globs) => format!("{:?}", globs.written()),
        TagSelector::Pattern(pattern) => pattern.as_str().to_owned(),
        TagSelector::Untagged(after) => format!("untagged {:?}", after.duration),
    };
    let keep = match &policy.keep {
        Keep::All => "all".to_owned(),
        Keep::None => "none".to_owned(),
        Keep::Rules(rules) => format!("{:?}", rules.iter().map(rule_text).collect::<Vec<_>>()),
    };
    let repositories = select.repositories.as_ref().map(crate::domain::Globs::written);
    let (groups, mode, limits) = (&policy.group_by, policy.mode, policy.limits);
    format!("{:?} {repositories:?} {tags} {groups:?} {keep} {mode:?} {limits:?}", select.registries)
}

impl DiffView {
    /// Returns a headline such as `312 newly expired, 4 no longer expired`.
    #[must_use]
    pub fn headline(&self) -> String {
        let DiffSummary { newly_expired, no_longer_expired, .. } = self.summary;
        match (newly_expired, no_longer_expired) {
            (0, 0) if self.newly_enforced.is_empty() => "the same tags expire as before".to_owned(),
            _ => format!(
                "{} newly expired, {} no longer expired",
                super::format_count(newly_expired),
                super::format_count(no_longer_expired)
            ),
        }
    }

    /// Returns true if the edit changes which tags expire, or which of them would really be removed.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !(self.newly_expired.is_empty() && self.no_longer_expired.is_empty() && self.newly_enforced.is_empty())
    }
}

impl TagDiff {
    /// Returns `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }

    /// Describes why it expires now, or why it is retained now.
    #[must_use]
    pub fn reason(&self) -> String {
        self.reasons_after.iter().map(ReasonView::sentence).collect::<Vec<_>>().join("; ")
    }

    /// Returns true if it expires under the new policies.
    #[must_use]
    pub fn is_newly_expired(&self) -> bool {
        self.after == Verdict::Expired.label()
    }
}
