//! Rule traces: the outcomes of policies for the tags of a repository, by which [`evaluate()`](super::evaluate())
//! decides.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::companion::companions;
use super::evaluate::candidates;
use super::graph::Graph;
use super::keep::{RuleOutcome, rule_outcomes};
use super::select::{Selection, SelectorFacts, VERSION_GROUP, applies_to, select};
use super::version::{self, VersionReading};
use crate::domain::{FactCondition, Policy, Registry, Repository, Rules, TagSelector, UnknownFact};

/// The trace of one policy in one repository.
#[derive(Debug, Clone)]
pub struct RuleTrace<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The applicability to the repository.
    pub applicability: Applicability,
    /// The tags that it selects, by position.
    pub tags: Vec<TagTrace>,
    /// The tags that it may select and therefore keeps, by position, each with the unknown fact.
    pub unsure: Vec<(u32, UnknownFact)>,
    /// The tags that it selects by their names alone, by position, each with the condition that it does not meet.
    pub others: Vec<(u32, FactCondition)>,
}

/// The applicability of a policy to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applicability {
    /// It applies; its tags are selected separately.
    Applies,
    /// It selects other registries.
    OtherRegistries,
    /// It selects other repositories.
    OtherRepositories,
}

/// The trace of one policy for one tag that it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagTrace {
    /// Its position in the repository.
    pub tag: u32,
    /// The outcome of each rule, in the rules' order.
    pub outcomes: Vec<RuleOutcome>,
}

/// Returns the trace of every policy in a repository at `now`, by name of policy.
#[must_use]
pub fn trace_rules<'a>(
    rules: &'a Rules,
    registry: &Registry,
    repository: &Repository,
    now: Timestamp,
) -> Vec<RuleTrace<'a>> {
    let companions = companions(repository);
    let graph = Graph::new(repository, &companions);
    let candidates = candidates(repository, &graph, &companions, now);
    let mut policies: Vec<&Policy> = rules.policies.iter().collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let facts = SelectorFacts::new(repository, now);
    let weighed = |policy: &Policy, timezone: &TimeZone| {
        let Selection { selected, unsure, others } = select(policy, &candidates, &facts);
        let rules = rule_outcomes(policy, &candidates, &selected, timezone, now);
        let tags = selected.iter().map(|one| one.candidate.tag).zip(rules);
        (tags.map(|(tag, rules)| TagTrace { tag, outcomes: rules }).collect(), unsure, others)
    };
    policies
        .into_iter()
        .map(|policy| {
            let selects = if applies_to(policy, registry, repository) {
                Applicability::Applies
            } else if policy.covers(&registry.name) {
                Applicability::OtherRepositories
            } else {
                Applicability::OtherRegistries
            };
            let speaks = selects == Applicability::Applies;
            let (tags, unsure, others) = if speaks { weighed(policy, &rules.timezone) } else { Default::default() };
            RuleTrace { policy, applicability: selects, tags, unsure, others }
        })
        .collect()
}

/// Returns the group of a tag that a policy selects: the names of `group_by`, each with the tag's value.
#[must_use]
pub fn group_of(policy: &Policy, tag: &str) -> Vec<(String, String)> {
    let TagSelector::Pattern(pattern) = &policy.select.tags else { return Vec::new() };
    let Some(captures) = pattern.captures(tag) else { return Vec::new() };
    let value = |name: &String| captures.name(name).map_or_else(String::new, |found| found.as_str().to_owned());
    policy.group_by.iter().map(|name| (name.clone(), value(name))).collect()
}

/// Returns a policy's reading of the version of a tag that it selects; `None` if the tag is not a version.
#[must_use]
pub fn version_of(policy: &Policy, tag: &str) -> Option<VersionReading> {
    match &policy.select.tags {
        TagSelector::Pattern(pattern) if pattern.capture_names().flatten().any(|name| name == VERSION_GROUP) => {
            version::read_version(pattern.captures(tag)?.name(VERSION_GROUP)?.as_str())
        }
        TagSelector::All | TagSelector::Globs(_) | TagSelector::Pattern(_) => version::read_version(tag),
        TagSelector::Untagged(_) => None,
    }
}
