//! The rules that match nothing in the whole inventory, and the removals that they might have forbidden.
//!
//! A protecting rule that matches nothing probably contains a slip, such as `release-.*` for `release-*`, and then its
//! author believes to be protected what is not. So what it might have protected stays until a person has looked.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::Regex;

use super::companion::companion_subject;
use super::rule_hint::find_hint;
use super::rule_syntax::{is_unanchored_search, regex_syntax_in};
use super::select::selects;
use crate::domain::{
    AllowUnmatched, Coverage, CoverageBasis, GapTarget, Glob, Globs, Inventory, Keep, KeepRule, LastMatch, Policy,
    Registry, RegistryName, RepositoryName, RuleEffect, RuleHistory, RuleId, RuleKey, Rules, TagName, TagSelector,
    UnmatchedRule,
};

/// Finds the rules that match nothing.
///
/// Each rule is judged by itself: a glob of tags matches if any tag of any registry fits it, whatever else its policy
/// says. Signatures and the like count neither way, because policies do not speak of them. A rule is not judged where a
/// registry that its policy selects was not read whole, or where these registries hold no tag at all; nor where only a
/// part of the inventory was read. Then the last whole plan decides, if it judged the rule.
#[must_use]
pub fn rule_coverage(rules: &Rules, inventory: &Inventory, history: RuleHistory, basis: CoverageBasis) -> Coverage {
    let mut found = Coverage { basis, history, ..Coverage::default() };
    if basis == CoverageBasis::NotChecked {
        return found;
    }
    let mut policies: Vec<&Policy> = rules.policies.iter().collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    for policy in policies {
        let ground = CoverageScope::new(policy, inventory, basis);
        let mut named = false;
        for rule in rules_of(policy) {
            let here = ground.check_rule(&rule, inventory, &mut found);
            named |= here && matches!(rule.effect, RuleEffect::KeepsAll | RuleEffect::Selects);
        }
        // Where a rule of it is named already, that is the reason.
        if !named {
            ground.check_rule(&PolicyRule::whole(policy), inventory, &mut found);
        }
    }
    found.unmatched.sort_by(|a, b| a.rule.cmp(&b.rule));
    found.unmatched.dedup_by(|a, b| a.rule == b.rule);
    found
}

/// A rule of a policy that can be judged by itself.
struct PolicyRule<'a> {
    key: RuleKey,
    effect: RuleEffect,
    written: &'a str,
    test: RuleTest<'a>,
}

/// What a rule is held against.
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

/// The whole selector of a policy as one text.
fn selector_text(policy: &Policy) -> String {
    let select = &policy.select;
    let names = select.registries.iter().flatten().map(RegistryName::as_str).collect::<Vec<_>>().join(", ");
    let globs = select.repositories.iter().flat_map(Globs::written).map(String::as_str);
    let repositories = globs.collect::<Vec<_>>().join(", ");
    let tags = match &select.tags {
        TagSelector::All => "all".to_owned(),
        TagSelector::Globs(globs) => globs.written().join(", "),
        TagSelector::Pattern(pattern) => pattern_text(pattern).to_owned(),
    };
    format!("registries: {names}; repositories: {repositories}; tags: {tags}")
}

/// A pattern as it was written, without the anchors that were put around it.
pub(super) fn pattern_text(pattern: &Regex) -> &str {
    let whole = pattern.as_str();
    whole.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(whole)
}

/// The rules of a policy that can be judged by themselves. Positive ones of a policy that lets tags go are among them
/// only where they are written in another tool's dialect: `pr-*` may well match nothing today.
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
        TagSelector::All | TagSelector::Pattern(_) => None,
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RuleMatches {
    Nothing,
    /// Only signatures and the like, which count neither way.
    Companions,
    Some,
}

fn matches(test: &RuleTest<'_>, registry: &Registry) -> RuleMatches {
    let by_tag = |fits: &dyn Fn(&RepositoryName, &TagName) -> bool| {
        let mut best = RuleMatches::Nothing;
        for repository in &registry.repositories {
            for tag in repository.tags.iter().filter(|tag| fits(&repository.name, &tag.name)) {
                if companion_subject(&tag.name).is_none() {
                    return RuleMatches::Some;
                }
                best = RuleMatches::Companions;
            }
        }
        best
    };
    let any = |found: bool| if found { RuleMatches::Some } else { RuleMatches::Nothing };
    match test {
        RuleTest::Registry(name) => any(registry.name == **name),
        RuleTest::Repository(glob) => any(registry.repositories.iter().any(|one| glob.matches(one.name.as_str()))),
        RuleTest::Tag(glob) => by_tag(&|_, tag| glob.matches(tag.as_str())),
        RuleTest::Pattern(pattern) => by_tag(&|_, tag| pattern.is_match(tag.as_str())),
        RuleTest::Whole(policy) => by_tag(&|repository, tag| selects(policy, &registry.name, repository, tag)),
    }
}

/// Whether the rules of a policy can be judged by an inventory.
struct CoverageScope<'a> {
    policy: &'a Policy,
    can_judge: bool,
    /// Whether a registry's name can be: any registry with a tag will do.
    can_judge_names: bool,
}

impl<'a> CoverageScope<'a> {
    fn new(policy: &'a Policy, inventory: &Inventory, basis: CoverageBasis) -> Self {
        let whole = basis == CoverageBasis::FullInventory;
        let selected = || inventory.registries.iter().filter(|registry| policy.covers(&registry.name));
        let judged = whole && selected().all(is_fully_read) && selected().any(has_tags);
        let names_judged = whole && inventory.registries.iter().any(has_tags);
        Self { policy, can_judge: judged, can_judge_names: names_judged }
    }

    /// Judges a rule, and gives whether it is named for matching nothing.
    fn check_rule(&self, rule: &PolicyRule<'_>, inventory: &Inventory, found: &mut Coverage) -> bool {
        let policy = self.policy;
        let id = rule.id(policy);
        let all: Vec<RuleMatches> = inventory.registries.iter().map(|registry| matches(&rule.test, registry)).collect();
        let there = inventory.registries.iter().zip(&all).filter(|(_, found)| **found == RuleMatches::Some);
        let there: BTreeSet<String> = there.map(|(registry, _)| registry.endpoint.clone()).collect();
        if !there.is_empty() {
            found.matched.insert(id, there);
            return false;
        }
        let whole_policy = rule.key == RuleKey::Select;
        let allowed = match &policy.allow_unmatched {
            AllowUnmatched::Rules(_) if whole_policy => false,
            allowed => allowed.allows(rule.written),
        };
        if allowed || all.contains(&RuleMatches::Companions) {
            return false;
        }
        let judged = if rule.key == RuleKey::Registries { self.can_judge_names } else { self.can_judge };
        let since = if judged {
            let endpoints = inventory.registries.iter().map(|registry| registry.endpoint.as_str());
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
        let hint = if whole_policy { None } else { find_hint(rule.key, rule.written, policy, inventory) };
        let line = policy.lines.get(&(rule.key, rule.written.to_owned())).copied();
        let file = Arc::clone(&policy.file);
        found.unmatched.push(UnmatchedRule { rule: id, effect: rule.effect, file, line, last_match: since, hint });
        true
    }
}

fn is_fully_read(registry: &Registry) -> bool {
    let own = registry.gaps.iter().all(|gap| gap.target != GapTarget::Catalogue);
    let mut lists = registry.repositories.iter().flat_map(|repository| &repository.gaps);
    own && lists.all(|gap| !matches!(gap.target, GapTarget::Catalogue | GapTarget::TagList))
}

fn has_tags(registry: &Registry) -> bool {
    let mut tags = registry.repositories.iter().flat_map(|repository| &repository.tags);
    tags.any(|tag| companion_subject(&tag.name).is_none())
}
