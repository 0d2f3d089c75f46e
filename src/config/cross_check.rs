//! Checks of settings and policies against each other.

use super::Settings;
use crate::domain::{KeepRule, Policy, PolicyMode, RuleKey};
use crate::policy::{Diagnostic, Lint, PolicySet, Severity, fields};
use crate::registry::{RegistrySettings, Support};

/// Returns the conflicts between settings and policies: unconfigured registries in policies, and delays of deletions
/// that do not fit the settings.
#[must_use]
pub fn cross_check(settings: &Settings, policies: &PolicySet) -> Vec<Diagnostic> {
    let mut problems = unknown_registries(settings, policies);
    problems.extend(invalid_delete_delays(settings, policies));
    problems.extend(invalid_untagged_periods(settings, policies));
    problems
}

/// Returns problems for policies that would delete a manifest while its untag must be undoable, or after its record was
/// pruned.
fn invalid_delete_delays(settings: &Settings, policies: &PolicySet) -> Vec<Diagnostic> {
    let unfit = |policy: &Policy| {
        let after = policy.delete_manifest_after.as_ref()?;
        let (time, file) = (after.duration.unsigned_abs(), settings.file.display());
        let (message, help) = if time < settings.undo_window {
            let window = humantime::format_duration(settings.undo_window);
            (
                format!("`after {}` is sooner than the `undo_window` of {window} ends", after.written),
                format!("wait at least that long, or shorten `undo_window` in {file}"),
            )
        } else if time >= settings.records.keep {
            let keep = humantime::format_duration(settings.records.keep);
            (
                format!("`after {}` never comes: what was untagged is forgotten after {keep}", after.written),
                format!("wait less long, or keep records longer: `records.keep` in {file}"),
            )
        } else {
            return None;
        };
        Some(policies.places.get(&policy.name)?.then.as_ref()?.with_message_and_help(message, help))
    };
    policies.policies.iter().filter_map(unfit).collect()
}

/// The policies that would delete a manifest without a tag while the untag that left it is still to be undoable.
fn invalid_untagged_periods(settings: &Settings, policies: &PolicySet) -> Vec<Diagnostic> {
    let unfit = |policy: &Policy| {
        let after = policy.untagged_after()?;
        if after.duration.unsigned_abs() >= settings.undo_window {
            return None;
        }
        let window = humantime::format_duration(settings.undo_window);
        let message = format!("`after {}` is sooner than the `undo_window` of {window} ends", after.written);
        let help = format!("wait at least that long, or shorten `undo_window` in {}", settings.file.display());
        Some(policies.places.get(&policy.name)?.untagged.as_ref()?.with_message_and_help(message, help))
    };
    policies.policies.iter().filter_map(unfit).collect()
}

fn unknown_registries(settings: &Settings, policies: &PolicySet) -> Vec<Diagnostic> {
    let known: Vec<&str> = settings.registries.iter().map(|registry| registry.name.as_str()).collect();
    let unknown = policies.registries.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    unknown
        .map(|(name, place)| {
            let (message, help) = fields::unknown_word("registry", name.as_str(), "", &known);
            let mut problem = place.clone();
            problem.message = format!("{message}; {}", place.message);
            problem.help = Some(format!("{help}, from {}", settings.file.display()));
            problem
        })
        .collect()
}

/// Returns lints of valid but implausible combinations: globs of repositories that begin with a registry's name, and
/// policies with deletions that never happen.
#[must_use]
pub fn lint(settings: &Settings, policies: &PolicySet) -> Vec<Lint> {
    let mut found = registries_in_repositories(settings, policies);
    found.extend(ineffective_deletions(settings, policies));
    found.extend(untagged_without_window(settings, policies));
    found.extend(pulls_without_record(settings, policies));
    found.extend(unreadable_labels(settings, policies));
    found
}

fn registries_in_repositories(settings: &Settings, policies: &PolicySet) -> Vec<Lint> {
    let mut found = Vec::new();
    for policy in &policies.policies {
        let written = policies.places.get(&policy.name).into_iter().flat_map(|places| &places.rule_texts);
        for ((_, glob), place) in written.filter(|((key, _), _)| *key == RuleKey::Repositories) {
            let first = glob.strip_prefix('!').unwrap_or(glob).split_once('/').map(|(first, _)| first);
            let named = settings.registries.iter().find(|registry| first == Some(registry.name.as_str()));
            if named.is_none() || policy.allow_unmatched.allows(glob) {
                continue;
            }
            let message = format!("`{glob}` begins with the name of a registry, and repositories stand without it");
            let help = "leave it out; `registries` says which registries are meant";
            found.push(Lint {
                severity: Severity::Warning,
                kind: "host-in-repository",
                policy: policy.name.to_string(),
                diagnostic: place.with_message_and_help(message, help),
            });
        }
    }
    found
}

fn ineffective_deletions(settings: &Settings, policies: &PolicySet) -> Vec<Lint> {
    let in_vain = |policy: &Policy| {
        let key = if policy.untagged_after().is_some() { "untagged" } else { "then" };
        policy.delete_manifest_after.as_ref().or(policy.untagged_after())?;
        let covered: Vec<_> = settings.registries.iter().filter(|registry| policy.covers(&registry.name)).collect();
        let lists = |registry: &&RegistrySettings| registry.provider.capabilities().lists_untagged.is_certain();
        if covered.is_empty() || covered.iter().any(lists) {
            return None;
        }
        let names: Vec<&str> = covered.iter().map(|registry| registry.name.as_str()).collect();
        let message = format!(
            "`{key}` has no effect: what has no tag is not listed in {}, so nothing is ever deleted there",
            names.join(", ")
        );
        let help = "leave it out, and let the registry collect what has no tag";
        let places = policies.places.get(&policy.name)?;
        let diagnostic = places.then.as_ref().or(places.untagged.as_ref())?.with_message_and_help(message, help);
        let policy = policy.name.to_string();
        let kind = if key == "then" { "then-without-effect" } else { "untagged-without-effect" };
        Some(Lint { severity: Severity::Warning, kind, policy, diagnostic })
    };
    policies.policies.iter().filter_map(in_vain).collect()
}

/// Selectors by labels where no registry lets configurations be read: they keep what they may select.
fn unreadable_labels(settings: &Settings, policies: &PolicySet) -> Vec<Lint> {
    let mut found = Vec::new();
    for policy in policies.policies.iter().filter(|policy| !policy.select.facts.labels.is_empty()) {
        let covered: Vec<_> = settings.registries.iter().filter(|registry| policy.covers(&registry.name)).collect();
        let Some(places) = policies.places.get(&policy.name) else { continue };
        if covered.is_empty() || covered.iter().any(|registry| registry.provider.reads_configurations()) {
            continue;
        }
        let names: Vec<&str> = covered.iter().map(|registry| registry.name.as_str()).collect();
        let message = format!(
            "`labels` selects nothing, and keeps what it may select: the configurations in {} cannot be read",
            names.join(", ")
        );
        let help = "select by `annotations`, or by names";
        found.push(Lint {
            severity: Severity::Warning,
            kind: "labels-not-readable",
            policy: policy.name.to_string(),
            diagnostic: places.name.with_message_and_help(message, help),
        });
    }
    found
}

/// Rules by pulls where no registry records them: they keep everything.
fn pulls_without_record(settings: &Settings, policies: &PolicySet) -> Vec<Lint> {
    let mut found = Vec::new();
    for policy in &policies.policies {
        let covered: Vec<_> = settings.registries.iter().filter(|registry| policy.covers(&registry.name)).collect();
        if covered.is_empty() || covered.iter().any(|registry| registry.records_pulls()) {
            continue;
        }
        let names: Vec<&str> = covered.iter().map(|registry| registry.name.as_str()).collect();
        let can_tell = covered.iter().any(|registry| registry.provider.capabilities().pull_times == Support::Unknown);
        if policy.select.facts.idle.is_some()
            && let Some(places) = policies.places.get(&policy.name)
        {
            let message = format!(
                "`idle` selects nothing for certain, and keeps what it may select: {} may not record pulls",
                names.join(", ")
            );
            let help = if can_tell {
                "if the registry records every pull, write `accept = [\"pull-times\"]` in its settings"
            } else {
                "plans list such repositories all the same; to remove by the push alone, select them by name, with `within`"
            };
            found.push(Lint {
                severity: Severity::Warning,
                kind: "pulls-not-recorded",
                policy: policy.name.to_string(),
                diagnostic: places.name.with_message_and_help(message, help),
            });
        }
        let by_pulls = policy.keep.rules().iter().enumerate();
        for (at, _) in by_pulls.filter(|(_, rule)| matches!(rule, KeepRule::PulledWithin(_))) {
            let Some(place) = policies.places.get(&policy.name).and_then(|places| places.rules.get(at)) else {
                continue;
            };
            let message = format!(
                "`pulled_within` keeps everything: {} may not record pulls, and what may have been pulled stays",
                names.join(", ")
            );
            let help = if can_tell {
                "if the registry records every pull, write `accept = [\"pull-times\"]` in its settings"
            } else if covered.iter().all(|registry| registry.provider.name() == "acr") {
                "leave it out here; a source of the kind `acr-pulls` keeps what was pulled"
            } else {
                "leave it out here; `within` goes by the push"
            };
            found.push(Lint {
                severity: Severity::Warning,
                kind: "pulls-not-recorded",
                policy: policy.name.to_string(),
                diagnostic: place.with_message_and_help(message, help),
            });
        }
    }
    found
}

/// A push that reuses a manifest which is just being deleted is broken by that: clients ask whether the registry has it and
/// send it not again. So deletions of manifests that nobody untagged here belong into a time in which little is pushed.
fn untagged_without_window(settings: &Settings, policies: &PolicySet) -> Vec<Lint> {
    if settings.schedule.window.is_some() {
        return Vec::new();
    }
    let enforcing = policies.policies.iter().filter(|policy| policy.mode == PolicyMode::Enforce);
    let found = enforcing.filter_map(|policy| {
        policy.untagged_after()?;
        let message = "manifests without a tag may be deleted while images are pushed that reuse them";
        let help = format!("set a time in which little is pushed: `schedule.window` in {}", settings.file.display());
        let diagnostic = policies.places.get(&policy.name)?.untagged.as_ref()?.with_message_and_help(message, help);
        let policy = policy.name.to_string();
        Some(Lint { severity: Severity::Warning, kind: "untagged-without-window", policy, diagnostic })
    });
    found.collect()
}
