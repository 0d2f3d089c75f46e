//! Lints by the last recorded plan: policies that select nothing, and policies that have no effect.

use std::collections::{BTreeMap, BTreeSet};

use super::RunError;
use crate::config::Settings;
use crate::domain::{Policy, RegistryName, RuleKey, TagSelector};
use crate::policy::{Lint, PolicySet, Severity};
use crate::report::{self, PlanDocument, PlanLoadError, ReasonView, UnmatchedView};
use crate::state::StateStore;

/// Returns the lints by the last plan in the state; empty if there is no state, or no plan in it. Works offline.
///
/// # Errors
/// Returns an error if there is a state and it cannot be read.
pub async fn lint_with_last_plan(settings: &Settings, policies: &PolicySet) -> Result<Vec<Lint>, RunError> {
    if settings.state.is_missing() {
        return Ok(Vec::new());
    }
    let store = StateStore::open_to_read(&settings.state).await?;
    let last = last_plan(&store).await;
    store.close().await;
    Ok(last?.map(|document| lint_with_plan(policies, &document)).unwrap_or_default())
}

/// Returns the last full plan, which is stored with its retained tags.
async fn last_plan(store: &StateStore) -> Result<Option<PlanDocument>, RunError> {
    let Some(run) = store.last_whole_plan().await? else { return Ok(None) };
    match report::load_plan(store, run).await {
        Ok(document) => Ok(document),
        Err(PlanLoadError::State(error)) => Err(error.into()),
        // A plan of another version may have another format and yields no lints.
        Err(PlanLoadError::Unreadable { .. }) => Ok(None),
    }
}

/// Returns the lints by a full plan.
#[must_use]
pub fn lint_with_plan(set: &PolicySet, document: &PlanDocument) -> Vec<Lint> {
    let seen = PlanObservations::of(document);
    let mut remarks: Vec<Lint> = set.policies.iter().filter_map(|policy| seen.lint_policy(policy, set)).collect();
    remarks.extend(document.unmatched.iter().filter_map(|rule| lint_unmatched_rule(set, rule, &seen.when)));
    remarks.sort_by(|a, b| (&a.diagnostic.file, a.diagnostic.line).cmp(&(&b.diagnostic.file, b.diagnostic.line)));
    remarks
}

/// Returns the lint for a rule that matched nothing in a plan, if it is still written that way.
fn lint_unmatched_rule(set: &PolicySet, rule: &UnmatchedView, when: &str) -> Option<Lint> {
    let key = RuleKey::from_label(&rule.key).filter(|_| rule.state != "matched-before")?;
    let policy = set.policies.iter().find(|policy| policy.name.as_str() == rule.policy)?;
    let place = set.places.get(&policy.name)?.rule_texts.get(&(key, rule.rule.clone()))?;
    if policy.allow_unmatched.allows(&rule.rule) {
        return None;
    }
    let message = format!("`{}` matched nothing (plan of {when})", rule.rule);
    let help = if rule.refuses() {
        "an enforcing run refuses what it might have protected: correct it, or name it in `allow_unmatched`"
    } else {
        "correct it, or remove it"
    };
    let diagnostic = place.with_message_and_help(message, help);
    Some(Lint { severity: Severity::Warning, kind: "matches-nothing", policy: rule.policy.clone(), diagnostic })
}

/// The tags in a plan and the effects of policies on them.
struct PlanObservations {
    when: String,
    /// The repositories with their tags, by registry.
    registries: BTreeMap<RegistryName, BTreeMap<String, Vec<String>>>,
    /// By policy: the number of tags that it would remove and other policies kept, and the policies that kept all of
    /// these.
    overruled: BTreeMap<String, (u64, BTreeSet<String>)>,
    /// The policies, with their revisions, that decided on some tag.
    effective: BTreeSet<String>,
    revisions: BTreeMap<String, String>,
}

impl PlanObservations {
    fn of(document: &PlanDocument) -> Self {
        let mut seen = Self {
            when: document.evaluated_at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            registries: document
                .registries
                .iter()
                .filter_map(|registry| Some((registry.name.parse().ok()?, BTreeMap::new())))
                .collect(),
            overruled: BTreeMap::new(),
            effective: BTreeSet::new(),
            revisions: document.policies.iter().map(|one| (one.name.clone(), one.revision.clone())).collect(),
        };
        for gone in document.removals.iter() {
            seen.effective.extend(gone.policies().map(str::to_owned));
            seen.add(&gone.registry, &gone.repository, &gone.tag);
        }
        for kept in document.kept.iter() {
            seen.add(&kept.registry, &kept.repository, &kept.tag);
            seen.add_overruled(&kept.reasons);
        }
        seen
    }

    fn add(&mut self, registry: &str, repository: &str, tag: &str) {
        let Some((_, repositories)) = self.registries.iter_mut().find(|(name, _)| name.as_str() == registry) else {
            return;
        };
        match repositories.get_mut(repository) {
            Some(tags) => tags.push(tag.to_owned()),
            None => drop(repositories.insert(repository.to_owned(), vec![tag.to_owned()])),
        }
    }

    /// Notes which policies kept tags that others would remove. Tags protected by anything but a policy do not count.
    fn add_overruled(&mut self, reasons: &[ReasonView]) {
        let is_not_kept = |reason: &&ReasonView| matches!(reason, ReasonView::NotKept { .. });
        let keepers: BTreeSet<String> = reasons
            .iter()
            .filter(|reason| !is_not_kept(reason))
            .filter_map(|one| Some(one.policy()?.to_owned()))
            .collect();
        for policy in reasons.iter().filter(is_not_kept).filter_map(ReasonView::policy) {
            if keepers.is_empty() {
                self.effective.insert(policy.to_owned());
                continue;
            }
            let (count, by) = self.overruled.entry(policy.to_owned()).or_insert_with(|| (0, keepers.clone()));
            *count += 1;
            by.retain(|keeper| keepers.contains(keeper));
        }
    }

    fn lint_policy(&self, policy: &Policy, set: &PolicySet) -> Option<Lint> {
        let place = &set.places.get(&policy.name)?.name;
        let name = policy.name.as_str();
        let warning =
            |kind, diagnostic| Some(Lint { severity: Severity::Warning, kind, policy: name.to_owned(), diagnostic });
        if let Some((what, help)) = self.unmatched_selector(policy) {
            let message = format!("policy `{name}` selects nothing: {what} (plan of {})", self.when);
            return warning("selects-nothing", place.with_message_and_help(message, help));
        }
        let same = self.revisions.get(name).is_some_and(|revision| **revision == *policy.revision);
        let (count, by) = self.overruled.get(name).filter(|_| same && !self.effective.contains(name))?;
        let keeper = by.first()?;
        let message = format!(
            "policy `{name}` has no effect: policy `{keeper}` kept each of the {count} tags that it let go (plan of {})",
            self.when
        );
        warning(
            "shadowed",
            place.with_message_and_help(message, "a keep anywhere wins: narrow the other policy, or remove this one"),
        )
    }

    /// Returns the part of a selector that matched nothing, and the remedy.
    fn unmatched_selector(&self, policy: &Policy) -> Option<(String, String)> {
        if self.registries.values().all(BTreeMap::is_empty) {
            return None;
        }
        let mut covered = self.registries.iter().filter(|(registry, _)| policy.covers(registry)).peekable();
        if covered.peek().is_none() {
            return Some(("no registry is one that it names".to_owned(), "correct `registries`".to_owned()));
        }
        let globs = policy.select.repositories.as_ref();
        let named = covered.flat_map(|(_, repositories)| repositories);
        let mut named = named.filter(|(name, _)| globs.is_none_or(|globs| globs.matches(name))).peekable();
        if named.peek().is_none() {
            let all = || self.registries.values().flat_map(BTreeMap::keys);
            let some: Vec<&str> = all().take(3).map(String::as_str).collect();
            let what = format!("none of {} repositories is one that it names", all().count());
            return Some((what, format!("correct `repositories`; there are, for example, {}", some.join(", "))));
        }
        if policy.untagged_after().is_some() {
            return None;
        }
        let selects = |tag: &str| match &policy.select.tags {
            TagSelector::All => true,
            TagSelector::Globs(globs) => globs.matches(tag),
            TagSelector::Pattern(pattern) => pattern.is_match(tag),
            TagSelector::Untagged(_) => false,
        };
        let tags = named.flat_map(|(_, tags)| tags);
        let (mut count, mut some) = (0_usize, Vec::new());
        for tag in tags {
            if selects(tag) {
                return None;
            }
            count += 1;
            if some.len() < 3 {
                some.push(tag.as_str());
            }
        }
        let key = if matches!(policy.select.tags, TagSelector::Pattern(_)) { "pattern" } else { "tags" };
        let what = format!("none of the {count} tags of its repositories fits its `{key}`");
        Some((what, format!("correct `{key}`; there are, for example, {}", some.join(", "))))
    }
}
