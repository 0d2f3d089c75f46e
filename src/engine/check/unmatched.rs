//! Rules that match nothing, seen from the removals: none that such a rule could have forbidden may be enforced.

use std::collections::{BTreeMap, BTreeSet};

use super::{PlanHead, RemovalPolicies, Violation, accompanies};
use crate::domain::{
    AllowUnmatched, Coverage, CoverageBasis, GapTarget, Globs, Keep, KeepRule, Policy, PolicyName, Refusal,
    RefusalReason, RefusalScope, Registry, RegistryName, Removal, Repository, RepositoryName, RuleId, RuleKey, Rules,
    TagSelector,
};

/// The label of the refusals that are checked here.
pub(super) const LABEL: &str = "protects-nothing";

/// The rules that protect tags if they match any, matched against one repository after another, and the enforced
/// removals.
#[derive(Debug)]
pub(super) struct RuleSightings<'a> {
    policies: Vec<(&'a Policy, Vec<SightedRule>)>,
    /// For each registry: true if all its lists were read, and true if it has a tag other than companions.
    registries: BTreeMap<RegistryName, (bool, bool)>,
    /// The policies of removals that would be enforced, by repository.
    enforced: BTreeSet<(RegistryName, RepositoryName, Vec<PolicyName>)>,
}

#[derive(Debug)]
struct SightedRule {
    rule: ProtectingRule,
    test: NameTest,
    was_seen: bool,
}

/// The test of a rule; `Always` if it cannot be tested.
#[derive(Debug)]
enum NameTest {
    Always,
    Registry,
    Repository(Globs),
    Tag(Globs),
    Pattern(regex::Regex),
}

impl<'a> RuleSightings<'a> {
    pub(super) fn new(rules: &'a Rules) -> Self {
        let sighted = |rule: ProtectingRule| SightedRule { test: rule.test(), rule, was_seen: false };
        let with_rules = |policy: &'a Policy| (policy, protecting_rules(policy).into_iter().map(sighted).collect());
        Self {
            policies: rules.policies.iter().map(with_rules).collect(),
            registries: BTreeMap::new(),
            enforced: BTreeSet::new(),
        }
    }

    /// Adds one repository. Every tag counts, signatures and the like included: a rule that only names those is
    /// ignored.
    pub(super) fn add(
        &mut self,
        (registry, repository): (&Registry, &Repository),
        removals: &[&Removal],
        owners: &RemovalPolicies<'_>,
    ) {
        let (has_lists, has_tags) = self.registries.entry(registry.name.clone()).or_insert((true, false));
        *has_lists &= !repository.gaps.iter().any(|gap| hides_names(&gap.target));
        *has_tags = *has_tags || repository.tags.iter().any(|tag| !accompanies(&tag.name));
        for one in self.policies.iter_mut().flat_map(|(_, rules)| rules).filter(|one| !one.was_seen) {
            one.was_seen = match &one.test {
                NameTest::Always => true,
                NameTest::Registry => false,
                NameTest::Repository(globs) => globs.matches(repository.name.as_str()),
                NameTest::Tag(globs) => repository.tags.iter().any(|tag| globs.matches(tag.name.as_str())),
                NameTest::Pattern(whole) => repository.tags.iter().any(|tag| whole.is_match(tag.name.as_str())),
            };
        }
        let mut seen = BTreeSet::new();
        for removal in removals.iter().filter(|removal| removal.enforce) {
            if seen.insert(owners.list_of(removal.position.tag)) {
                let owners = owners.get(removal.position).iter().map(|&owner| owner.clone()).collect();
                self.enforced.insert((registry.name.clone(), repository.name.clone(), owners));
            }
        }
    }

    /// Checks that everything an unmatched rule could have protected is refused, and nothing else because of a rule.
    pub(super) fn check(&self, registries: &[Registry], plan: &PlanHead<'_>, findings: &mut Vec<Violation>) {
        let mut blind: BTreeSet<RuleId> = BTreeSet::new();
        for (policy, rules) in &self.policies {
            for SightedRule { rule, .. } in
                rules.iter().filter(|one| self.never_matched(one, policy, registries, plan.coverage))
            {
                let own = |refusal: &&Refusal| {
                    matches!(&refusal.reason, RefusalReason::UnmatchedRule(why)
                        if (&why.rule.policy, why.rule.key, &*why.rule.written) == (&policy.name, rule.key, &*rule.written))
                };
                let accepted = || plan.accepted.iter().map(|one| &one.refusal);
                let standing = plan.refusals.iter().chain(accepted());
                let against: Vec<&RefusalScope> =
                    standing.filter(own).filter(|one| one.binding).map(|one| &one.scope).collect();
                for (registry, repository, owners) in &self.enforced {
                    let covered = rule.covers(policy, registry, repository, owners.iter());
                    if covered && !against.iter().any(|scope| covers(scope, registry, repository, owners)) {
                        let why = format!("rule {} of policy {} might have forbidden it", rule.written, policy.name);
                        findings.push(Violation::WronglyEnforced { image: format!("{registry}/{repository}"), why });
                    }
                }
                let both = plan.deletions.refusals.iter().filter(own).filter(|one| one.binding).map(|one| &one.scope);
                let against: Vec<&RefusalScope> = both.chain(against).collect();
                for deletion in plan.deletions.deletable().filter(|deletion| deletion.enforce) {
                    let covered =
                        rule.covers(policy, &deletion.registry, &deletion.repository, deletion.policies.iter());
                    if covered && !against.iter().any(|scope| scope.covers_deletion(deletion)) {
                        let why = format!("rule {} of policy {} might have forbidden it", rule.written, policy.name);
                        let image = format!("{}/{}@{}", deletion.registry, deletion.repository, deletion.digest);
                        findings.push(Violation::WronglyEnforced { image, why });
                    }
                }
                blind.insert(RuleId {
                    policy: policy.name.clone(),
                    key: rule.key,
                    written: rule.written.as_str().into(),
                });
            }
        }
        for refusal in plan.refusals.iter().chain(&plan.deletions.refusals) {
            if let RefusalReason::UnmatchedRule(why) = &refusal.reason
                && !blind.contains(&why.rule)
            {
                findings.push(Violation::UnfoundedRefusal { scope: refusal.scope.clone(), limit: LABEL });
            }
        }
    }

    /// Returns true if a rule matches nothing and never did, as far as known.
    fn never_matched(&self, one: &SightedRule, policy: &Policy, registries: &[Registry], coverage: &Coverage) -> bool {
        let rule = &one.rule;
        let allowed = match &policy.allow_unmatched {
            AllowUnmatched::All => true,
            AllowUnmatched::None => false,
            AllowUnmatched::Rules(rules) => rules.contains(&rule.written),
        };
        let named = || {
            let text = rule.written.strip_prefix('!').unwrap_or(&rule.written);
            matches!(one.test, NameTest::Registry) && registries.iter().any(|registry| registry.name.as_str() == text)
        };
        if coverage.basis == CoverageBasis::NotChecked || allowed || one.was_seen || named() {
            return false;
        }
        let written = rule.written.as_str().into();
        let id = RuleId { policy: policy.name.clone(), key: rule.key, written };
        if coverage.basis == CoverageBasis::FullInventory && self.can_be_judged(rule, policy, registries) {
            let there = coverage.history.matched.get(&id);
            let mut here = registries.iter().map(|registry| &registry.endpoint);
            return !here.any(|endpoint| there.is_some_and(|there| there.contains_key(endpoint)));
        }
        coverage.history.unmatched.contains_key(&id)
    }

    fn can_be_judged(&self, rule: &ProtectingRule, policy: &Policy, registries: &[Registry]) -> bool {
        let by_name = rule.key == RuleKey::Registries;
        let mut tags = false;
        for registry in registries {
            let selected = policy.select.registries.as_ref().is_none_or(|names| names.contains(&registry.name));
            if !selected && !by_name {
                continue;
            }
            let (has_lists, has_tags) = self.registries.get(&registry.name).copied().unwrap_or((true, false));
            let own = registry.gaps.iter().all(|gap| !hides_names(&gap.target));
            if !(by_name || own && has_lists) {
                return false;
            }
            tags |= has_tags;
        }
        tags
    }
}

fn hides_names(target: &GapTarget) -> bool {
    matches!(target, GapTarget::Catalogue | GapTarget::TagList)
}

/// Returns true if a refusal covers removals of a repository by these policies.
fn covers(scope: &RefusalScope, registry: &RegistryName, repository: &RepositoryName, owners: &[PolicyName]) -> bool {
    match scope {
        RefusalScope::Run => true,
        RefusalScope::Registry(name) => name == registry,
        RefusalScope::Repository(name, path) => (name, path) == (registry, repository),
        RefusalScope::Policy(policy) => owners.contains(policy),
        RefusalScope::PolicyInRepository(policy, name, path) => {
            (name, path) == (registry, repository) && owners.contains(policy)
        }
    }
}

/// A rule that protects tags if it matches them.
#[derive(Debug)]
struct ProtectingRule {
    key: RuleKey,
    written: String,
    /// True if it keeps everything that it selects; otherwise it affects only its own policy.
    keeps_all: bool,
}

fn protecting_rules(policy: &Policy) -> Vec<ProtectingRule> {
    let keeps_all = matches!(policy.keep, Keep::All);
    let mut found = Vec::new();
    let mut add =
        |key, written: &str, keeps_all| found.push(ProtectingRule { key, written: written.to_owned(), keeps_all });
    let select = &policy.select;
    for name in select.registries.iter().flatten().filter(|_| keeps_all) {
        add(RuleKey::Registries, name.as_str(), true);
    }
    let tags = if let TagSelector::Globs(globs) = &select.tags { Some(globs) } else { None };
    for (key, globs) in [(RuleKey::Repositories, select.repositories.as_ref()), (RuleKey::Tags, tags)] {
        for written in globs.iter().flat_map(|globs| globs.written()) {
            match (written.starts_with('!'), keeps_all) {
                (true, _) => add(key, written, false),
                (false, true) => add(key, written, true),
                (false, false) => {}
            }
        }
    }
    if let (TagSelector::Pattern(pattern), true) = (&select.tags, keeps_all) {
        let whole = pattern.as_str();
        let bare = whole.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$"));
        add(RuleKey::Pattern, bare.unwrap_or(whole), true);
    }
    for rule in policy.keep.rules() {
        if let KeepRule::Matching(globs) = rule {
            globs
                .written()
                .iter()
                .filter(|one| !one.starts_with('!'))
                .for_each(|one| add(RuleKey::Matching, one, false));
        }
    }
    found
}

impl ProtectingRule {
    fn test(&self) -> NameTest {
        let text = self.written.strip_prefix('!').unwrap_or(&self.written);
        let globs = || Globs::new(&[format!("{}{text}", if text.starts_with('!') { "\\" } else { "" })]).ok();
        match self.key {
            RuleKey::Select => NameTest::Always,
            RuleKey::Registries => NameTest::Registry,
            RuleKey::Repositories => globs().map_or(NameTest::Always, NameTest::Repository),
            RuleKey::Tags | RuleKey::Matching => globs().map_or(NameTest::Always, NameTest::Tag),
            RuleKey::Pattern => {
                regex::Regex::new(&format!("^(?:{})$", self.written)).map_or(NameTest::Always, NameTest::Pattern)
            }
        }
    }

    /// Returns true if the rule might have protected something that these policies expire there.
    fn covers<'a>(
        &self,
        policy: &Policy,
        registry: &RegistryName,
        repository: &RepositoryName,
        mut owners: impl Iterator<Item = &'a PolicyName>,
    ) -> bool {
        if !self.keeps_all {
            return owners.any(|owner| *owner == policy.name);
        }
        let select = &policy.select;
        let here = select.registries.as_ref().is_none_or(|names| names.contains(registry));
        let there = select.repositories.as_ref().is_none_or(|globs| globs.matches(repository.as_str()));
        (here || self.key == RuleKey::Registries) && (there || self.key == RuleKey::Repositories)
    }
}
