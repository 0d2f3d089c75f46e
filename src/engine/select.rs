//! Selection of tags by policies, and their groups.

use std::cell::OnceCell;
use std::collections::HashMap;

use jiff::Timestamp;
use regex::Regex;

use super::graph::{Node, index};
use super::repository_use::{Idleness, RepositoryUse, repository_use};
use crate::domain::{
    ArtifactType, Date, FactCondition, KeepRule, Policy, PullTime, Registry, RegistryName, Repository, RepositoryName,
    TagName, TagSelector, TextCondition, TextKind, UnknownFact,
};

/// A tag that policies may select: not a signature or the like.
pub(super) struct Candidate<'a> {
    /// Its position in the repository.
    pub(super) tag: u32,
    /// Its name.
    pub(super) name: &'a TagName,
    /// The image that it names, if read.
    pub(super) image: Option<Node>,
    /// The date by which it is decided.
    pub(super) date: Date,
    /// The latest time at which a tag without a date can have been pushed, if known.
    pub(super) no_later_than: Option<Timestamp>,
    /// Its last pull, where pulls are recorded.
    pub(super) pulled: Option<PullTime>,
}

/// A tag that a policy selects.
pub(super) struct Selected<'a> {
    /// The tag.
    pub(super) candidate: &'a Candidate<'a>,
    /// Its group, as a number; equal numbers are equal groups.
    pub(super) group: u32,
    /// The text that its version is read from, if it has one.
    pub(super) version: Option<&'a str>,
}

/// The tags that a policy selects, and those that it may select.
pub(super) struct Selection<'a> {
    /// The tags that it selects, in order.
    pub(super) selected: Vec<Selected<'a>>,
    /// The tags whose names it selects, and of which a fact that it asks for is unknown, in order.
    pub(super) unsure: Vec<(u32, UnknownFact)>,
    /// The tags whose names it selects, with the condition that they do not meet, in order.
    pub(super) others: Vec<(u32, FactCondition)>,
}

/// The facts of one repository that selectors ask for, each looked up once.
pub(super) struct SelectorFacts<'a> {
    repository: &'a Repository,
    now: Timestamp,
    usage: OnceCell<RepositoryUse>,
}

/// The result of the conditions on facts for a tag whose name a policy selects.
enum FactMatch {
    Selected,
    Other(FactCondition),
    Unsure(UnknownFact),
}

impl<'a> SelectorFacts<'a> {
    pub(super) fn new(repository: &'a Repository, now: Timestamp) -> Self {
        Self { repository, now, usage: OnceCell::new() }
    }

    /// A condition that is certainly not met decides, whatever else is unknown.
    fn matches(&self, policy: &Policy, tag: u32) -> FactMatch {
        let mut unsure = None;
        if let Some(types) = &policy.select.facts.types {
            match self.has_type(types, tag) {
                Some(true) => {}
                Some(false) => return FactMatch::Other(FactCondition::Types),
                None => unsure = Some(UnknownFact::ArtifactType),
            }
        }
        for kind in TextKind::ALL {
            match self.has_texts(kind, policy.select.facts.texts(kind), tag) {
                Some(true) => {}
                Some(false) => return FactMatch::Other(kind.into()),
                None => unsure = unsure.or(Some(kind.into())),
            }
        }
        if let Some(idle) = &policy.select.facts.idle {
            let usage = self.usage.get_or_init(|| repository_use(self.repository, self.now));
            match usage.idleness(idle.duration, self.now) {
                Idleness::Idle => {}
                Idleness::Used => return FactMatch::Other(FactCondition::Idle),
                Idleness::Unknown(fact) => unsure = unsure.or(Some(fact)),
            }
        }
        unsure.map_or(FactMatch::Selected, FactMatch::Unsure)
    }

    /// Returns true if what a tag names has all of these annotations or labels, and `None` if one of them is unknown and
    /// none differs.
    fn has_texts(&self, kind: TextKind, conditions: &[TextCondition], tag: u32) -> Option<bool> {
        if conditions.is_empty() {
            return Some(true);
        }
        let digest = self.repository.tags.get(index(tag))?.digest.as_ref()?;
        let known = self.repository.known_texts(kind).get(digest)?;
        let meets = |condition: &TextCondition| {
            let value = known.get(&condition.key)?;
            Some(value.as_ref().is_some_and(|value| condition.matches(value)))
        };
        let met: Vec<Option<bool>> = conditions.iter().map(meets).collect();
        if met.contains(&Some(false)) { Some(false) } else { (!met.contains(&None)).then_some(true) }
    }

    /// Returns true if a tag names an artifact of one of these types, and `None` if that is not known.
    fn has_type(&self, types: &[ArtifactType], tag: u32) -> Option<bool> {
        let digest = self.repository.tags.get(index(tag))?.digest.as_ref()?;
        let media_type = self.repository.manifests.get(digest).map_or("", |manifest| &*manifest.media_type);
        let own = self.repository.artifact_types.get(digest).map(|own| &**own);
        let mut found = types.iter().map(|one| one.matches(media_type, own));
        let unknown = found.clone().any(|one| one.is_none());
        if found.any(|one| one == Some(true)) { Some(true) } else { (!unknown).then_some(false) }
    }
}

/// The named group of a pattern with the version, unless the whole tag is one.
pub(super) const VERSION_GROUP: &str = "version";

/// Returns true if a policy applies to a repository.
pub(super) fn applies_to(policy: &Policy, registry: &Registry, repository: &Repository) -> bool {
    let globs = policy.select.repositories.as_ref();
    policy.covers(&registry.name) && globs.is_none_or(|globs| globs.matches(repository.name.as_str()))
}

/// Returns true if a policy selects a tag by its name, whatever it asks of facts.
pub(super) fn selects(policy: &Policy, registry: &RegistryName, repository: &RepositoryName, tag: &TagName) -> bool {
    let globs = policy.select.repositories.as_ref();
    policy.covers(registry)
        && globs.is_none_or(|globs| globs.matches(repository.as_str()))
        && match &policy.select.tags {
            TagSelector::All => true,
            TagSelector::Globs(globs) => globs.matches(tag.as_str()),
            TagSelector::Pattern(pattern) => pattern.is_match(tag.as_str()),
            TagSelector::Untagged(_) => false,
        }
}

/// Returns the candidates of one repository that a policy selects or may select. One of which a fact is unknown takes no
/// place from others, so it never counts among the selected.
pub(super) fn select<'a>(policy: &Policy, candidates: &'a [Candidate<'a>], facts: &SelectorFacts<'_>) -> Selection<'a> {
    let mut selection = Selection { selected: by_name(policy, candidates), unsure: Vec::new(), others: Vec::new() };
    if !policy.select.facts.is_empty() {
        let Selection { selected, unsure, others } = &mut selection;
        selected.retain(|one| match facts.matches(policy, one.candidate.tag) {
            FactMatch::Selected => true,
            FactMatch::Other(condition) => {
                others.push((one.candidate.tag, condition));
                false
            }
            FactMatch::Unsure(fact) => {
                unsure.push((one.candidate.tag, fact));
                false
            }
        });
    }
    selection
}

/// Returns the candidates whose names a policy selects, in order.
fn by_name<'a>(policy: &Policy, candidates: &'a [Candidate<'a>]) -> Vec<Selected<'a>> {
    let whole = |candidate: &'a Candidate<'a>| Selected { candidate, group: 0, version: Some(candidate.name.as_str()) };
    match &policy.select.tags {
        TagSelector::All => candidates.iter().map(whole).collect(),
        TagSelector::Globs(globs) => {
            candidates.iter().filter(|candidate| globs.matches(candidate.name.as_str())).map(whole).collect()
        }
        TagSelector::Pattern(pattern) if needs_groups(policy, pattern) => in_groups(policy, pattern, candidates),
        TagSelector::Pattern(pattern) => {
            candidates.iter().filter(|candidate| pattern.is_match(candidate.name.as_str())).map(whole).collect()
        }
        TagSelector::Untagged(_) => Vec::new(),
    }
}

/// Returns true if the pattern's groups are needed, which costs several times as much as a match.
fn needs_groups(policy: &Policy, pattern: &Regex) -> bool {
    let by_version = policy.keep.rules().iter().any(|rule| matches!(rule, KeepRule::NewestPer { .. }));
    !policy.group_by.is_empty() || (by_version && position(pattern, VERSION_GROUP).is_some())
}

fn in_groups<'a>(policy: &Policy, pattern: &Regex, candidates: &'a [Candidate<'a>]) -> Vec<Selected<'a>> {
    let keys: Vec<Option<usize>> = policy.group_by.iter().map(|name| position(pattern, name)).collect();
    let version_at = position(pattern, VERSION_GROUP);
    let mut locations = pattern.capture_locations();
    let mut groups: HashMap<Vec<&str>, u32> = HashMap::new();
    let mut key = Vec::with_capacity(keys.len());
    let mut selected = Vec::new();
    for candidate in candidates {
        let text = candidate.name.as_str();
        if pattern.captures_read(&mut locations, text).is_none() {
            continue;
        }
        let value = |at: usize| locations.get(at).and_then(|(start, end)| text.get(start..end));
        key.clear();
        key.extend(keys.iter().map(|at| at.and_then(value).unwrap_or("")));
        let group = groups.get(&key).copied().unwrap_or_else(|| {
            let next = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            groups.insert(key.clone(), next);
            next
        });
        let version = version_at.map_or(Some(text), value);
        selected.push(Selected { candidate, group, version });
    }
    selected
}

fn position(pattern: &Regex, name: &str) -> Option<usize> {
    pattern.capture_names().position(|found| found == Some(name))
}
