//! Rules that match nothing, seen from the removals: none that such a rule could have forbidden may really be done.

use std::collections::BTreeSet;

use super::{RemovalPolicies, Violation, accompanies};
use crate::domain::{
    AllowUnmatched, CoverageBasis, GapTarget, Globs, Inventory, Keep, KeepRule, Plan, Policy, PolicyName, Refusal,
    RefusalReason, RefusalScope, RegistryName, RepositoryName, RuleId, RuleKey, Rules, TagSelector,
};

/// The label of the refusals that are looked at here.
pub(super) const LABEL: &str = "protects-nothing";

/// Looks whether whatever an unmatched rule could have protected is refused, and nothing else because of a rule.
pub(super) fn check_unmatched(
    rules: &Rules,
    inventory: &Inventory,
    plan: &Plan,
    owners: &RemovalPolicies<'_>,
    findings: &mut Vec<Violation>,
) {
    let facts = InventoryNames::of(inventory);
    let mut blind: BTreeSet<RuleId> = BTreeSet::new();
    for policy in &rules.policies {
        for rule in protecting_rules(policy).into_iter().filter(|rule| facts.never_matched(rule, policy, plan)) {
            let own = |refusal: &&Refusal| {
                matches!(&refusal.reason, RefusalReason::UnmatchedRule(why)
                    if (&why.rule.policy, why.rule.key, &*why.rule.written) == (&policy.name, rule.key, &*rule.written))
            };
            let against: Vec<&RefusalScope> =
                plan.refusals.iter().filter(own).filter(|one| one.binding).map(|one| &one.scope).collect();
            for removal in plan.removals.iter().filter(|removal| removal.enforce) {
                let owners = owners.get(removal.position);
                let covered = rule.covers(policy, &removal.registry, &removal.repository, owners.iter().copied());
                if covered && !against.iter().any(|scope| scope.covers(removal)) {
                    let why = format!("rule {} of policy {} might have forbidden it", rule.written, policy.name);
                    findings.push(Violation::WronglyEnforced { image: super::image(removal), why });
                }
            }
            let both = plan.deletions.refusals.iter().filter(own).filter(|one| one.binding).map(|one| &one.scope);
            let against: Vec<&RefusalScope> = both.chain(against).collect();
            for deletion in plan.deletions.deletable().filter(|deletion| deletion.enforce) {
                let covered = rule.covers(policy, &deletion.registry, &deletion.repository, deletion.policies.iter());
                if covered && !against.iter().any(|scope| scope.covers_deletion(deletion)) {
                    let why = format!("rule {} of policy {} might have forbidden it", rule.written, policy.name);
                    let image = format!("{}/{}@{}", deletion.registry, deletion.repository, deletion.digest);
                    findings.push(Violation::WronglyEnforced { image, why });
                }
            }
            blind.insert(RuleId { policy: policy.name.clone(), key: rule.key, written: rule.written.as_str().into() });
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

/// A rule that protects tags if it matches them.
struct ProtectingRule {
    key: RuleKey,
    written: String,
    /// Whether it keeps whatever it selects; else it has a say in its own policy alone.
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
    /// Whether something that goes in that place, by these policies, is what the rule might have protected.
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

/// The names in an inventory.
struct InventoryNames<'a> {
    inventory: &'a Inventory,
    registries: Vec<&'a str>,
    repositories: Vec<&'a str>,
}

impl<'a> InventoryNames<'a> {
    fn of(inventory: &'a Inventory) -> Self {
        let all = inventory.registries.iter().flat_map(|registry| &registry.repositories);
        Self {
            inventory,
            registries: inventory.registries.iter().map(|registry| registry.name.as_str()).collect(),
            repositories: all.map(|repository| repository.name.as_str()).collect(),
        }
    }

    /// Whether a rule matches nothing and never did, as far as that can be said.
    fn never_matched(&self, rule: &ProtectingRule, policy: &Policy, plan: &Plan) -> bool {
        let coverage = &plan.coverage;
        let allowed = match &policy.allow_unmatched {
            AllowUnmatched::All => true,
            AllowUnmatched::None => false,
            AllowUnmatched::Rules(rules) => rules.contains(&rule.written),
        };
        if coverage.basis == CoverageBasis::NotChecked || allowed || self.matches_any(rule) {
            return false;
        }
        let written = rule.written.as_str().into();
        let id = RuleId { policy: policy.name.clone(), key: rule.key, written };
        if coverage.basis == CoverageBasis::FullInventory && self.can_be_judged(rule, policy) {
            let there = coverage.history.matched.get(&id);
            let mut here = self.inventory.registries.iter().map(|registry| &registry.endpoint);
            return !here.any(|endpoint| there.is_some_and(|there| there.contains_key(endpoint)));
        }
        coverage.history.unmatched.contains_key(&id)
    }

    fn matches_any(&self, rule: &ProtectingRule) -> bool {
        let text = rule.written.strip_prefix('!').unwrap_or(&rule.written);
        let globs = || Globs::new(&[format!("{}{text}", if text.starts_with('!') { "\\" } else { "" })]).ok();
        match rule.key {
            RuleKey::Select => true,
            RuleKey::Registries => self.registries.contains(&text),
            RuleKey::Repositories => {
                globs().is_none_or(|globs| self.repositories.iter().any(|name| globs.matches(name)))
            }
            RuleKey::Tags | RuleKey::Matching => globs().is_none_or(|globs| self.any_tag(|tag| globs.matches(tag))),
            RuleKey::Pattern => {
                let whole = regex::Regex::new(&format!("^(?:{})$", rule.written));
                whole.is_ok_and(|whole| self.any_tag(|tag| whole.is_match(tag)))
            }
        }
    }

    /// Whether some tag fits, signatures and the like included: a rule that only names those says nothing.
    fn any_tag(&self, fits: impl Fn(&str) -> bool) -> bool {
        let repositories = self.inventory.registries.iter().flat_map(|registry| &registry.repositories);
        repositories.flat_map(|repository| &repository.tags).any(|tag| fits(tag.name.as_str()))
    }

    fn can_be_judged(&self, rule: &ProtectingRule, policy: &Policy) -> bool {
        let by_name = rule.key == RuleKey::Registries;
        let mut tags = false;
        for registry in &self.inventory.registries {
            let selected = policy.select.registries.as_ref().is_none_or(|names| names.contains(&registry.name));
            if !selected && !by_name {
                continue;
            }
            let gaps = registry.gaps.iter().chain(registry.repositories.iter().flat_map(|repository| &repository.gaps));
            if !by_name && gaps.into_iter().any(|gap| matches!(gap.target, GapTarget::Catalogue | GapTarget::TagList)) {
                return false;
            }
            let mut all = registry.repositories.iter().flat_map(|repository| &repository.tags);
            tags |= all.any(|tag| !accompanies(&tag.name));
        }
        tags
    }
}
