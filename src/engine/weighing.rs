//! Rule by rule, what policies make of the tags of a repository: what [`evaluate()`](super::evaluate()) decides by, told in
//! full.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::companion::companions;
use super::evaluate::candidates;
use super::graph::Graph;
use super::keep::{Weighed, weigh_each};
use super::select::{VERSION, select, speaks_of};
use super::version::{self, VersionReading};
use crate::domain::{Policy, Registry, Repository, Rules, TagSelector};

/// What one policy makes of one repository.
#[derive(Debug, Clone)]
pub struct Weighing<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Whether it speaks of the repository.
    pub selects: Selects,
    /// The tags that it selects, by position.
    pub tags: Vec<TagWeighed>,
}

/// Whether a policy speaks of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selects {
    /// It does; which tags of it is another question.
    Repository,
    /// It speaks of other registries.
    OtherRegistries,
    /// It speaks of other repositories.
    OtherRepositories,
}

/// What a policy makes of one tag that it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagWeighed {
    /// Its position in the repository.
    pub tag: u32,
    /// What each rule says of it, in the rules' order.
    pub rules: Vec<Weighed>,
}

/// What every policy makes of a repository at `now`, by name of policy.
#[must_use]
pub fn weighing<'a>(
    rules: &'a Rules,
    registry: &Registry,
    repository: &Repository,
    now: Timestamp,
) -> Vec<Weighing<'a>> {
    let companions = companions(repository);
    let graph = Graph::new(repository, &companions);
    let candidates = candidates(repository, &graph, &companions, now);
    let mut policies: Vec<&Policy> = rules.policies.iter().collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let weighed = |policy: &Policy, timezone: &TimeZone| {
        let selected = select(policy, &candidates);
        let rules = weigh_each(policy, &selected, timezone, now);
        let tags = selected.iter().map(|one| one.candidate.tag).zip(rules);
        tags.map(|(tag, rules)| TagWeighed { tag, rules }).collect()
    };
    policies
        .into_iter()
        .map(|policy| {
            let selects = if speaks_of(policy, registry, repository) {
                Selects::Repository
            } else if policy.covers(&registry.name) {
                Selects::OtherRepositories
            } else {
                Selects::OtherRegistries
            };
            let speaks = selects == Selects::Repository;
            let tags = if speaks { weighed(policy, &rules.timezone) } else { Vec::new() };
            Weighing { policy, selects, tags }
        })
        .collect()
}

/// The group of a tag that a policy selects: the names of `group_by`, each with what the tag has there.
#[must_use]
pub fn group_of(policy: &Policy, tag: &str) -> Vec<(String, String)> {
    let TagSelector::Pattern(pattern) = &policy.select.tags else { return Vec::new() };
    let Some(captures) = pattern.captures(tag) else { return Vec::new() };
    let value = |name: &String| captures.name(name).map_or_else(String::new, |found| found.as_str().to_owned());
    policy.group_by.iter().map(|name| (name.clone(), value(name))).collect()
}

/// Tells how a policy reads the version of a tag that it selects; `None` if the tag is not a version.
#[must_use]
pub fn version_of(policy: &Policy, tag: &str) -> Option<VersionReading> {
    match &policy.select.tags {
        TagSelector::Pattern(pattern) if pattern.capture_names().flatten().any(|name| name == VERSION) => {
            version::reading(pattern.captures(tag)?.name(VERSION)?.as_str())
        }
        TagSelector::All | TagSelector::Globs(_) | TagSelector::Pattern(_) => version::reading(tag),
    }
}
