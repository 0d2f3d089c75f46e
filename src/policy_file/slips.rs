//! Rules that are written as another tool wants them. What such a rule matches is less than its author thinks, often nothing.

use super::load::PolicySet;
use super::remarks::{Remark, Severity};
use crate::domain::{Keep, Policy, RuleKey};
use crate::engine::{begins_with_host, expression_sign, names_one_text};

/// Finds slips in the rules of all policies, by what stands in them alone.
pub(super) fn slips(set: &PolicySet, found: &mut Vec<Remark>) {
    for policy in &set.policies {
        let Some(places) = set.places.get(&policy.name) else { continue };
        for ((key, written), place) in &places.written {
            if policy.allow_unmatched.allows(written) {
                continue;
            }
            if let Some((severity, kind, message, help)) = slip(policy, *key, written) {
                let diagnostic = place.saying(message, help);
                found.push(Remark { severity, kind, policy: policy.name.to_string(), diagnostic });
            }
        }
    }
}

fn slip(policy: &Policy, key: RuleKey, written: &str) -> Option<(Severity, &'static str, String, String)> {
    let warning = |kind, message, help: &str| Some((Severity::Warning, kind, message, help.to_owned()));
    let (sign, glob) = written.strip_prefix('!').map_or(("", written), |rest| ("!", rest));
    match key {
        RuleKey::Pattern if names_one_text(written) => warning(
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
            if let Some(found) = expression_sign(written) {
                let help = if key == RuleKey::Tags {
                    "write `*` for any characters, or a regular expression as `pattern`"
                } else {
                    "write `*` for any characters"
                };
                let message =
                    format!("`{written}` is a glob, in which `{found}` does not mean what it means elsewhere");
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
