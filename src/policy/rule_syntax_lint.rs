//! Rules in another tool's dialect. Such a rule matches less than its author thinks, often nothing.

use super::lint_result::{Lint, Severity};
use super::load::PolicySet;
use crate::domain::{Keep, Policy, RuleKey};
use crate::engine::{begins_with_host, is_unanchored_search, regex_syntax_in};

/// Finds mistakes in the rules of all policies, by their text alone.
pub(super) fn lint_rule_syntax(set: &PolicySet, found: &mut Vec<Lint>) {
    for policy in &set.policies {
        let Some(places) = set.places.get(&policy.name) else { continue };
        for ((key, written), place) in &places.rule_texts {
            if policy.allow_unmatched.allows(written) {
                continue;
            }
            if let Some((severity, kind, message, help)) = find_mistake(policy, *key, written) {
                let diagnostic = place.with_message_and_help(message, help);
                found.push(Lint { severity, kind, policy: policy.name.to_string(), diagnostic });
            }
        }
    }
}

fn find_mistake(policy: &Policy, key: RuleKey, written: &str) -> Option<(Severity, &'static str, String, String)> {
    let warning = |kind, message, help: &str| Some((Severity::Warning, kind, message, help.to_owned()));
    let (sign, glob) = written.strip_prefix('!').map_or(("", written), |rest| ("!", rest));
    match key {
        RuleKey::Pattern if is_unanchored_search(written) => warning(
            "pattern-names-one-tag",
            format!("`{written}` matches one tag alone: a pattern must match the whole tag"),
            "write `.*` for what may come before or after it",
        ),
        RuleKey::Select | RuleKey::Registries | RuleKey::Pattern => None,
        RuleKey::Repositories if begins_with_host(written) => warning(
            "host-in-repository",
            format!("`{written}` seems to begin with a host, and repositories stand without theirs"),
            "leave the host out; `registries` says which registries are meant",
        ),
        RuleKey::Repositories | RuleKey::Tags | RuleKey::Matching => {
            if let Some(found) = regex_syntax_in(written) {
                let help = if key == RuleKey::Tags {
                    "write `*` for any characters, or a regular expression as `pattern`"
                } else {
                    "write `*` for any characters"
                };
                let message = format!("`{written}` is a glob, and `{found}` belongs to regular expressions");
                return warning("another-dialect", message, help);
            }
            let protects = !sign.is_empty() || matches!(policy.keep, Keep::All);
            let plain = key == RuleKey::Repositories && !glob.contains(['*', '?', '[', '{']);
            (plain && protects).then(|| {
                let message = format!("`{written}` names the repository `{glob}` alone, and none below it");
                let help = format!("to mean those below it, write `{sign}{glob}/**`");
                (Severity::Note, "one-repository", message, help)
            })
        }
    }
}
