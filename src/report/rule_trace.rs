//! One tag, rule by rule, with a forecast.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::humanize::counted;
use super::idle::describe_unknown_fact;
use super::notation::format_minute;
use super::{ReasonView, ShortfallView};
use crate::domain::{
    Claims, Date, Globs, Inventory, Keep, KeepRule, Policy, Reason, Repository, Rules, TagPosition, TagSelector,
};
use crate::engine::{self, Applicability, Forecast, RuleOutcome, RuleTrace, TagTrace, VersionReading};

/// The trace of the decision on one tag, with a forecast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagTraceView {
    /// The outcome of each policy, by policy name.
    pub policies: Vec<PolicyTraceView>,
    /// The forecast if nothing but time changes.
    pub forecast: ForecastView,
}

/// The outcome of one policy for one tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTraceView {
    /// The policy.
    pub policy: String,
    /// `dry-run` or `enforce`.
    pub mode: String,
    /// Its file.
    pub file: String,
    /// True if it selects the tag.
    pub selects: bool,
    /// The part of its selector that does not match: `registries`, `repositories`, `tags`, `pattern`,
    /// `types` or `idle`.
    pub mismatch: Option<String>,
    /// The group that the tag is counted in: the names of `group_by`, each with its value.
    pub group: BTreeMap<String, String>,
    /// The outcome of each rule, in order.
    pub rules: Vec<RuleTraceView>,
}

/// The outcome of one keep rule for one tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTraceView {
    /// The rule, as a policy file writes it.
    pub rule: String,
    /// True if it keeps the tag.
    pub keeps: bool,
    /// The reason or the margin, in words.
    pub text: String,
    /// The cutoff of the rule in this group.
    pub cutoff: Option<CutoffView>,
    /// The rule's reading of the tag, unless obvious: its version, or the read at which an undated tag already existed.
    #[serde(default)]
    pub reading: Option<String>,
}

/// The cutoff of a keep rule: older tags are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutoffView {
    /// The date of the last tag that it keeps, or the beginning of its window.
    pub at: Timestamp,
    /// The last tag that it keeps; `None` if the cutoff is a time.
    pub tag: Option<String>,
}

/// The future of a tag if nothing but time changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastView {
    /// `expired` already, `expires` at a time, `never` by time alone, or `unknown` if the computation would take too
    /// long.
    pub kind: String,
    /// The first second at which it has expired.
    pub at: Option<Timestamp>,
    /// The reasons for and against removal at that time.
    pub reasons: Vec<ReasonView>,
}

/// Returns the trace of the decision on the tag at that position.
#[must_use]
pub fn rule_trace(
    rules: &Rules,
    inventory: &Inventory,
    claims: &Claims,
    now: Timestamp,
    at: TagPosition,
) -> Option<TagTraceView> {
    let registry = inventory.registries.get(at.registry as usize)?;
    let repository = registry.repositories.get(at.repository as usize)?;
    let name = repository.tags.get(at.tag as usize)?.name.as_str();
    let weighing = engine::trace_rules(rules, registry, repository, now);
    let policies = weighing.iter().map(|weighing| policy_trace(weighing, repository, at.tag, name, now)).collect();
    let forecast = engine::forecast(rules, inventory, claims, now, &[at]).pop().unwrap_or(Forecast::Unknown);
    Some(TagTraceView { policies, forecast: ForecastView::from(&forecast) })
}

fn policy_trace(
    weighing: &RuleTrace<'_>,
    repository: &Repository,
    tag: u32,
    name: &str,
    now: Timestamp,
) -> PolicyTraceView {
    let found = weighing.tags.iter().find(|weighed| weighed.tag == tag);
    let unsure = weighing.unsure.iter().find(|(at, _)| *at == tag).map(|(_, fact)| *fact);
    let other = weighing.others.iter().find(|(at, _)| *at == tag).map(|(_, condition)| condition.label());
    let by_name = || match weighing.policy.select.tags {
        TagSelector::Pattern(_) => "pattern",
        TagSelector::All | TagSelector::Globs(_) => "tags",
        TagSelector::Untagged(_) => "untagged",
    };
    let mismatch = match (weighing.applicability, found) {
        (_, Some(_)) => None,
        (Applicability::Applies, None) if unsure.is_some() => None,
        (Applicability::Applies, None) => Some(other.unwrap_or_else(by_name)),
        (Applicability::OtherRepositories, None) => Some("repositories"),
        (Applicability::OtherRegistries, None) => Some("registries"),
    };
    let group = if found.is_some() { engine::group_of(weighing.policy, name) } else { Vec::new() };
    let traces = || found.map(|found| rule_traces(weighing, found, repository, &group, now)).unwrap_or_default();
    let rules = unsure.map_or_else(traces, |fact| {
        let text = format!("it may select it: {}", describe_unknown_fact(fact.label()));
        vec![RuleTraceView {
            rule: fact.condition().label().to_owned(),
            keeps: true,
            text,
            cutoff: None,
            reading: None,
        }]
    });
    PolicyTraceView {
        policy: weighing.policy.name.to_string(),
        mode: weighing.policy.mode.label().to_owned(),
        file: weighing.policy.file.to_string(),
        selects: found.is_some() || unsure.is_some(),
        mismatch: mismatch.map(str::to_owned),
        group: group.into_iter().collect(),
        rules,
    }
}

fn rule_traces(
    weighing: &RuleTrace<'_>,
    found: &TagTrace,
    repository: &Repository,
    group: &[(String, String)],
    now: Timestamp,
) -> Vec<RuleTraceView> {
    let name = |tag: &TagTrace| repository.tags.get(tag.tag as usize).map(|tag| tag.name.as_str());
    let of_group = |tag: &&TagTrace| name(tag).is_some_and(|name| engine::group_of(weighing.policy, name) == group);
    let peers: Vec<&TagTrace> = weighing.tags.iter().filter(of_group).collect();
    let said = found.outcomes.iter().enumerate().map(|(at, said)| {
        let (keeps, text) = match said {
            RuleOutcome::Keeps(reason) => (true, describe_keep_reason(reason)),
            RuleOutcome::FallsShort(miss) => (false, ShortfallView::from(miss).describe()),
        };
        let rule = weighing.policy.keep.rules().get(at);
        let cutoff = rule.and_then(|rule| cutoff(rule, at, &peers, repository, now));
        let reading = rule.and_then(|rule| describe_reading(rule, weighing.policy, repository, found.tag, now));
        RuleTraceView { rule: rule.map_or_else(|| "all".to_owned(), rule_text), keeps, text, cutoff, reading }
    });
    let said: Vec<RuleTraceView> = said.collect();
    match weighing.policy.keep {
        Keep::None => {
            let text = "keeps none".to_owned();
            vec![RuleTraceView { rule: "none".to_owned(), keeps: false, text, cutoff: None, reading: None }]
        }
        Keep::All | Keep::Rules(_) => said,
    }
}

/// Returns the cutoff of a time-based rule among the tags of a group.
pub(super) fn cutoff(
    rule: &KeepRule,
    position: usize,
    peers: &[&TagTrace],
    repository: &Repository,
    now: Timestamp,
) -> Option<CutoffView> {
    match rule {
        KeepRule::Within(span) | KeepRule::PulledWithin(span) => {
            Some(CutoffView { at: now.checked_sub(span.duration).ok()?, tag: None })
        }
        KeepRule::Newest(_) | KeepRule::Bucketed { .. } => {
            let kept = peers.iter().filter(|peer| {
                matches!(
                    peer.outcomes.get(position),
                    Some(RuleOutcome::Keeps(Reason::KeptNewest { .. } | Reason::KeptBucket { .. }))
                )
            });
            let dated = kept.filter_map(|peer| {
                let tag = repository.tags.get(peer.tag as usize)?;
                Some((engine::tag_date(repository, tag, now).timestamp()?, &tag.name))
            });
            let (at, tag) = dated.min()?;
            Some(CutoffView { at, tag: Some(tag.to_string()) })
        }
        KeepRule::NewestPer { .. } | KeepRule::Matching(_) | KeepRule::ImageWith { .. } | KeepRule::AtMost(_) => None,
    }
}

/// Describes how a rule reads a tag: its version, or that it has no date and existed at the first read.
fn describe_reading(
    rule: &KeepRule,
    policy: &Policy,
    repository: &Repository,
    tag: u32,
    now: Timestamp,
) -> Option<String> {
    let tag = repository.tags.get(tag as usize)?;
    match rule {
        KeepRule::NewestPer { .. } => {
            engine::version_of(policy, tag.name.as_str()).map(|found| describe_version(&found))
        }
        KeepRule::Newest(_) | KeepRule::Within(_) | KeepRule::Bucketed { .. } | KeepRule::PulledWithin(_) => {
            let look = engine::no_later_than(repository, tag, now)?;
            let changed = tag.digest.as_ref().and_then(|digest| repository.latest_pushes.get(digest));
            Some(match changed.filter(|at| at.timestamp() == look) {
                Some(_) => format!("without a date, but its image changed last on {}", format_minute(look)),
                None => format!("without a date, but there at the first look on {}", format_minute(look)),
            })
        }
        KeepRule::Matching(_) | KeepRule::ImageWith { .. } | KeepRule::AtMost(_) => None,
    }
}

/// Describes the reading of a version.
fn describe_version(reading: &VersionReading) -> String {
    let VersionReading { numbers, pre_release, commits, suffix, metadata } = reading;
    let mut words = match (pre_release, *commits) {
        (None, 0) => format!("read as version {numbers}"),
        (None, _) => format!("read as {} after {numbers}", counted(*commits, "commit")),
        (Some(pre), 0) => format!("read as pre-release `{pre}` of {numbers}"),
        (Some(pre), _) => format!("read as {} after pre-release `{pre}` of {numbers}", counted(*commits, "commit")),
    };
    if let Some(suffix) = suffix {
        words.extend([", suffix `", suffix, "` shares its place"]);
    }
    if let Some(metadata) = metadata {
        words.extend([", `", metadata, "` does not count"]);
    }
    words
}

/// Describes why a rule keeps, without the policy, which the heading names.
fn describe_keep_reason(reason: &Reason) -> String {
    let view = ReasonView::from(reason);
    let sentence = view.sentence();
    let policy = view.policy().map(|policy| format!("policy {policy} ")).unwrap_or_default();
    let rest = sentence.strip_prefix(&policy).unwrap_or(&sentence);
    rest.strip_prefix("keeps ").unwrap_or(rest).to_owned()
}

/// Formats a rule as a policy file writes it.
pub(super) fn rule_text(rule: &KeepRule) -> String {
    match rule {
        KeepRule::Newest(count) => format!("newest: {count}"),
        KeepRule::PulledWithin(span) => format!("pulled_within: {}", span.written),
        KeepRule::AtMost(count) => format!("at_most: {count}"),
        KeepRule::Within(span) => format!("within: {}", span.written),
        KeepRule::Bucketed { period, count } => format!("{}: {count}", period.rule_name()),
        KeepRule::NewestPer { version, count } => {
            format!("newest_per: {{ version: {}, count: {count} }}", version.label())
        }
        KeepRule::Matching(globs) => format!("matching: {}", glob_list(globs)),
        KeepRule::ImageWith { tags, within } => {
            let tags = tags.iter().map(|globs| format!("tags: {}", glob_list(globs)));
            let within = within.iter().map(|span| format!("within: {}", span.written));
            format!("image_with: {{ {} }}", tags.chain(within).collect::<Vec<_>>().join(", "))
        }
    }
}

fn glob_list(globs: &Globs) -> String {
    let globs: Vec<String> = globs.written().iter().map(|glob| format!("\"{glob}\"")).collect();
    format!("[{}]", globs.join(", "))
}

impl From<&Forecast> for ForecastView {
    fn from(forecast: &Forecast) -> Self {
        let (kind, at, reasons) = match forecast {
            Forecast::Expired => ("expired", None, Vec::new()),
            Forecast::At { at, reasons } => ("expires", Some(*at), reasons.iter().map(ReasonView::from).collect()),
            Forecast::Never => ("never", None, Vec::new()),
            Forecast::Unknown => ("unknown", None, Vec::new()),
        };
        Self { kind: kind.to_owned(), at, reasons }
    }
}

impl ForecastView {
    /// Describes the forecast in sentences; empty if the tag has expired already.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        match (self.kind.as_str(), self.at) {
            ("expires", Some(at)) => {
                let mut sentences = vec![format!(
                    "it expires on {}, unless something is pushed, released, claimed or locked before",
                    format_minute(at)
                )];
                sentences.extend(self.reasons.iter().map(|reason| format!("then {}", reason.sentence())));
                sentences
            }
            ("never", _) => vec!["time alone never makes it go".to_owned()],
            ("unknown", _) => vec!["it would take too long to find out".to_owned()],
            _ => Vec::new(),
        }
    }
}

impl PolicyTraceView {
    /// Describes its effect on the tag, on one line.
    pub(super) fn headline(&self) -> String {
        match &self.mismatch {
            Some(mismatch) => format!("{} does not select it, by its `{mismatch}`", self.policy),
            None if self.group.is_empty() => format!("{} ({}) selects it", self.policy, self.mode),
            None => format!("{} ({}) selects it, in the group {}", self.policy, self.mode, group_text(&self.group)),
        }
    }
}

impl RuleTraceView {
    /// Describes its outcome, on one line.
    pub(super) fn line(&self) -> String {
        let sign = if self.keeps { "keeps it" } else { "does not keep it" };
        let cutoff = match &self.cutoff {
            Some(CutoffView { at, tag: Some(tag) }) => format!("; cuts after {tag} of {}", format_minute(*at)),
            Some(CutoffView { at, tag: None }) => format!("; cuts at {}", format_minute(*at)),
            None => String::new(),
        };
        let reading = self.reading.as_ref().map(|reading| format!("; {reading}")).unwrap_or_default();
        format!("{}  {sign}: {}{cutoff}{reading}", self.rule, self.text)
    }
}

/// Formats a group: `branch=main, arch=arm`.
pub(super) fn group_text(group: &BTreeMap<String, String>) -> String {
    group.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

/// Returns the date by which a tag is decided, for views.
pub(super) fn date_of(repository: &Repository, tag: u32, now: Timestamp) -> Date {
    let tag = repository.tags.get(tag as usize);
    tag.map_or(Date::Unknown(crate::domain::UndatedCause::Missing), |tag| engine::tag_date(repository, tag, now))
}
