//! The rules that match nothing in the whole inventory, and the removals that they might have forbidden.
//!
//! A protecting rule that matches nothing probably contains a mistake, such as `release-.*` for `release-*`, and its
//! author wrongly assumes protection. So everything that it might have protected is retained until a person has checked
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use regex::Regex;

use super::companion::companion_subject;
use super::rule_hint::{InventoryNames, find_hint};
use super::rule_syntax::{is_unanchored_search, regex_syntax_in};
use super::select::selects;
use crate::domain::{
    AllowUnmatched, ArtifactType, Coverage, CoverageBasis, Gap, GapTarget, Glob, Globs, Inventory, Keep, KeepRule,
    LastMatch, Policy, Registry, RegistryName, Repository, RuleEffect, RuleHistory, RuleId, RuleKey, Rules, TagName,
    TagSelector, TextKind, UnmatchedRule,
};

/// Finds the rules that match nothing in an inventory, see [`RuleMatchCounter::coverage`].
#[must_use]
pub fn rule_coverage(rules: &Rules, inventory: &Inventory, history: RuleHistory, basis: CoverageBasis) -> Coverage {
    let mut counter = RuleMatchCounter::new(rules);
    for registry in &inventory.registries {
        for repository in &registry.repositories {
            counter.add(registry, repository);
        }
    }
    counter.coverage(&inventory.registries, (history, basis), inventory)
}

/// The matches of policies' rules, counted repository by repository.
#[derive(Debug)]
pub struct RuleMatchCounter<'a> {
    /// By name of policy; the last rule of each is its selector as a whole.
    policies: Vec<(&'a Policy, Vec<CountedRule<'a>>)>,
    registries: BTreeMap<RegistryName, ReadRegistry>,
}

/// A rule with its matches by registry. A missing entry means none.
#[derive(Debug)]
struct CountedRule<'a> {
    rule: PolicyRule<'a>,
    matches: BTreeMap<RegistryName, RuleMatches>,
}

/// The facts about a registry's repositories that were read.
#[derive(Debug, Clone, Copy)]
struct ReadRegistry {
    has_all_lists: bool,
    has_tags: bool,
}

impl<'a> RuleMatchCounter<'a> {
    /// Creates a counter with nothing counted yet.
    #[must_use]
    pub fn new(rules: &'a Rules) -> Self {
        let mut policies: Vec<&Policy> = rules.policies.iter().collect();
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        let counted = |rule| CountedRule { rule, matches: BTreeMap::new() };
        let with_rules = |policy: &'a Policy| {
            (policy, rules_of(policy).into_iter().chain([PolicyRule::whole(policy)]).map(counted).collect())
        };
        Self { policies: policies.into_iter().map(with_rules).collect(), registries: BTreeMap::new() }
    }

    /// Counts the matches of the rules in a repository. The repositories in `registry` are not used.
    pub fn add(&mut self, registry: &Registry, repository: &Repository) {
        let read = self
            .registries
            .entry(registry.name.clone())
            .or_insert(ReadRegistry { has_all_lists: true, has_tags: false });
        let is_list = |gap: &Gap| matches!(gap.target, GapTarget::Catalogue | GapTarget::TagList);
        read.has_all_lists &= !repository.gaps.iter().any(is_list);
        read.has_tags = read.has_tags || repository.tags.iter().any(|tag| companion_subject(&tag.name).is_none());
        for CountedRule { rule, matches } in self.policies.iter_mut().flat_map(|(_, rules)| rules) {
            let known = matches.get(&registry.name).copied().unwrap_or(RuleMatches::Nothing);
            if known == RuleMatches::Some {
                continue;
            }
            let here = matches_in(&rule.test, &registry.name, repository);
            if here > known {
                matches.insert(registry.name.clone(), here);
            }
        }
    }

    /// Finds the rules that match nothing, once all repositories were counted.
    ///
    /// Each rule is checked by itself: a glob of tags matches if it fits any tag of any registry, whatever the rest of
    /// its policy. Signatures and the like do not count, because policies do not select them. A rule is not checked if
    /// a registry that its policy selects was not read in full, if these registries have no tag at all, or if only a
    /// part of the inventory was read. Then the last full plan decides, if it checked the rule.
    #[must_use]
    pub fn coverage(
        &self,
        registries: &[Registry],
        (history, basis): (RuleHistory, CoverageBasis),
        names: &dyn InventoryNames,
    ) -> Coverage {
        let mut found = Coverage { basis, history, ..Coverage::default() };
        if basis == CoverageBasis::NotChecked {
            return found;
        }
        for (policy, rules) in &self.policies {
            let scope = CoverageScope::new(policy, (registries, &self.registries), basis, names);
            let Some((whole, rules)) = rules.split_last() else { continue };
            let mut is_told = false;
            for counted in rules {
                let here = scope.check_rule(counted, registries, &mut found);
                is_told |= here && matches!(counted.rule.effect, RuleEffect::KeepsAll | RuleEffect::Selects);
            }
            // If one of its rules is reported already, that is the reason.
            if !is_told {
                scope.check_rule(whole, registries, &mut found);
            }
        }
        found.unmatched.sort_by(|a, b| a.rule.cmp(&b.rule));
        found.unmatched.dedup_by(|a, b| a.rule == b.rule);
        found
    }
}

/// A rule of a policy that can be checked by itself.
#[derive(Debug)]
struct PolicyRule<'a> {
    key: RuleKey,
    effect: RuleEffect,
    written: &'a str,
    test: RuleTest<'a>,
}

/// The test of a rule.
#[derive(Debug)]
enum RuleTest<'a> {
    Registry(&'a RegistryName),
    Repository(Glob<'a>),
    Tag(Glob<'a>),
    Pattern(&'a Regex),
    Whole(&'a Policy),
}

impl<'a> PolicyRule<'a> {
    fn whole(policy: &'a Policy) -> Self {
        Self { key: RuleKey::Select, effect: RuleEffect::Selects, written: "", test: RuleTest::Whole(policy) }
    }

    fn id(&self, policy: &Policy) -> RuleId {
        let written = match self.key {
            RuleKey::Select => selector_text(policy).into(),
            _ => self.written.into(),
        };
        RuleId { policy: policy.name.clone(), key: self.key, written }
    }
}

/// Returns the whole selector of a policy as one text.
fn selector_text(policy: &Policy) -> String {
    let select = &policy.select;
    let names = select.registries.iter().flatten().map(RegistryName::as_str).collect::<Vec<_>>().join(", ");
    let globs = select.repositories.iter().flat_map(Globs::written).map(String::as_str);
    let repositories = globs.collect::<Vec<_>>().join(", ");
    let tags = match &select.tags {
        TagSelector::All => "all".to_owned(),
        TagSelector::Globs(globs) => globs.written().join(", "),
        TagSelector::Pattern(pattern) => pattern_text(pattern).to_owned(),
        TagSelector::Untagged(after) => format!("untagged after {}", after.written),
    };
    let idle = select.facts.idle.as_ref().map(|span| format!("; idle: {}", span.written)).unwrap_or_default();
    let types = select.facts.types.as_ref().map(|types| {
        let types: Vec<&str> = types.iter().map(ArtifactType::written).collect();
        format!("; types: {}", types.join(", "))
    });
    let types = types.unwrap_or_default();
    let mut texts = String::new();
    for kind in TextKind::ALL {
        let conditions = select.facts.texts(kind).iter();
        let conditions: Vec<String> =
            conditions.map(|one| format!("{}={}", one.key, one.written().join("|"))).collect();
        if !conditions.is_empty() {
            let _ = write!(texts, "; {}: {}", kind.label(), conditions.join(", "));
        }
    }
    format!("registries: {names}; repositories: {repositories}; tags: {tags}{types}{texts}{idle}")
}

/// Returns a pattern as written, without the anchors that were added.
pub(super) fn pattern_text(pattern: &Regex) -> &str {
    let whole = pattern.as_str();
    whole.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(whole)
}

/// Returns the rules of a policy that can be checked by themselves. Positive ones of a policy that may remove tags are
/// included only if they are written in another tool's dialect: `pr-*` may well match nothing today.
fn rules_of(policy: &Policy) -> Vec<PolicyRule<'_>> {
    let select = &policy.select;
    let keeps_all = matches!(policy.keep, Keep::All);
    let positive = if keeps_all { RuleEffect::KeepsAll } else { RuleEffect::Selects };
    let mut rules = Vec::new();
    let names = select.registries.iter().flatten().filter(|_| keeps_all);
    rules.extend(names.map(|name| PolicyRule {
        key: RuleKey::Registries,
        effect: positive,
        written: name.as_str(),
        test: RuleTest::Registry(name),
    }));
    let repositories = select.repositories.iter().flat_map(Globs::globs);
    let repositories = repositories.map(|glob| (RuleKey::Repositories, glob, RuleTest::Repository(glob)));
    let tags = match &select.tags {
        TagSelector::Globs(globs) => Some(globs),
        TagSelector::All | TagSelector::Pattern(_) | TagSelector::Untagged(_) => None,
    };
    let tags = tags.into_iter().flat_map(Globs::globs).map(|glob| (RuleKey::Tags, glob, RuleTest::Tag(glob)));
    let judged = |glob: &Glob<'_>| glob.excludes || keeps_all || regex_syntax_in(glob.written).is_some();
    rules.extend(repositories.chain(tags).filter(|(_, glob, _)| judged(glob)).map(|(key, glob, test)| PolicyRule {
        key,
        effect: if glob.excludes { RuleEffect::Excludes } else { positive },
        written: glob.written,
        test,
    }));
    if let TagSelector::Pattern(pattern) = &select.tags {
        let written = pattern_text(pattern);
        if keeps_all || is_unanchored_search(written) {
            rules.push(PolicyRule {
                key: RuleKey::Pattern,
                effect: positive,
                written,
                test: RuleTest::Pattern(pattern),
            });
        }
    }
    let matching = policy.keep.rules().iter().filter_map(|rule| match rule {
        KeepRule::Matching(globs) => Some(globs),
        _ => None,
    });
    let kept = matching.flat_map(Globs::globs).filter(|glob| !glob.excludes);
    rules.extend(kept.map(|glob| PolicyRule {
        key: RuleKey::Matching,
        effect: RuleEffect::Keeps,
        written: glob.written,
        test: RuleTest::Tag(glob),
    }));
    rules
}

/// The matches of a rule in one registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RuleMatches {
    Nothing,
    /// Only signatures and the like, which do not count.
    Companions,
    Some,
}

/// Returns the matches of a rule in one repository. A rule on the names of registries has none there.
fn matches_in(test: &RuleTest<'_>, registry: &RegistryName, repository: &Repository) -> RuleMatches {
    let by_tag = |fits: &dyn Fn(&TagName) -> bool| {
        let mut best = RuleMatches::Nothing;
        for tag in repository.tags.iter().filter(|tag| fits(&tag.name)) {
            if companion_subject(&tag.name).is_none() {
                return RuleMatches::Some;
            }
            best = RuleMatches::Companions;
        }
        best
    };
    match test {
        RuleTest::Repository(glob) if glob.matches(repository.name.as_str()) => RuleMatches::Some,
        RuleTest::Registry(_) | RuleTest::Repository(_) => RuleMatches::Nothing,
        RuleTest::Tag(glob) => by_tag(&|tag| glob.matches(tag.as_str())),
        RuleTest::Pattern(pattern) => by_tag(&|tag| pattern.is_match(tag.as_str())),
        RuleTest::Whole(policy) if policy.untagged_after().is_some() => {
            if policy.deletes_untagged_in(registry, &repository.name) {
                RuleMatches::Some
            } else {
                RuleMatches::Nothing
            }
        }
        RuleTest::Whole(policy) => by_tag(&|tag| selects(policy, registry, &repository.name, tag)),
    }
}

/// The scope in which the rules of a policy can be checked.
struct CoverageScope<'a> {
    policy: &'a Policy,
    can_judge: bool,
    /// True if the name of a registry can be checked: any registry with a tag is enough.
    can_judge_names: bool,
    names: &'a dyn InventoryNames,
}

impl<'a> CoverageScope<'a> {
    fn new(
        policy: &'a Policy,
        (registries, read): (&[Registry], &BTreeMap<RegistryName, ReadRegistry>),
        basis: CoverageBasis,
        names: &'a dyn InventoryNames,
    ) -> Self {
        let whole = basis == CoverageBasis::FullInventory;
        let has_tags = |registry: &Registry| read.get(&registry.name).is_some_and(|read| read.has_tags);
        let is_fully_read = |registry: &Registry| {
            let own = registry.gaps.iter().all(|gap| gap.target != GapTarget::Catalogue);
            own && read.get(&registry.name).is_none_or(|read| read.has_all_lists)
        };
        let selected = || registries.iter().filter(|registry| policy.covers(&registry.name));
        let judged = whole && selected().all(is_fully_read) && selected().any(has_tags);
        let names_judged = whole && registries.iter().any(has_tags);
        Self { policy, can_judge: judged, can_judge_names: names_judged, names }
    }

    /// Checks a rule, and returns true if it is reported for matching nothing.
    fn check_rule(&self, counted: &CountedRule<'_>, registries: &[Registry], found: &mut Coverage) -> bool {
        let (policy, rule) = (self.policy, &counted.rule);
        let id = rule.id(policy);
        let matches = |registry: &Registry| match rule.test {
            RuleTest::Registry(name) if registry.name == *name => RuleMatches::Some,
            _ => counted.matches.get(&registry.name).copied().unwrap_or(RuleMatches::Nothing),
        };
        let there = registries.iter().filter(|registry| matches(registry) == RuleMatches::Some);
        let there: BTreeSet<String> = there.map(|registry| registry.endpoint.clone()).collect();
        if !there.is_empty() {
            found.matched.insert(id, there);
            return false;
        }
        let whole_policy = rule.key == RuleKey::Select;
        let allowed = match &policy.allow_unmatched {
            AllowUnmatched::Rules(_) if whole_policy => false,
            allowed => allowed.allows(rule.written),
        };
        if allowed || registries.iter().any(|registry| matches(registry) == RuleMatches::Companions) {
            return false;
        }
        let judged = if rule.key == RuleKey::Registries { self.can_judge_names } else { self.can_judge };
        let since = if judged {
            let endpoints = registries.iter().map(|registry| registry.endpoint.as_str());
            found.history.matched_at(&id, endpoints).map_or(LastMatch::Never, LastMatch::At)
        } else {
            match found.history.unmatched.get(&id) {
                Some(at) => LastMatch::NeverAsOf(*at),
                None => return false,
            }
        };
        if rule.effect == RuleEffect::Selects && matches!(since, LastMatch::At(_)) {
            return false;
        }
        let hint =
            if whole_policy { None } else { find_hint((rule.key, rule.written), policy, registries, self.names) };
        let line = policy.lines.get(&(rule.key, rule.written.to_owned())).copied();
        let file = Arc::clone(&policy.file);
        found.unmatched.push(UnmatchedRule { rule: id, effect: rule.effect, file, line, last_match: since, hint });
        true
    }
}
