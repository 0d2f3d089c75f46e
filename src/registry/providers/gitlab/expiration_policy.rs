//! A cleanup policy of a project, in words.

use serde::Deserialize;
use serde_json::Value;

use crate::http_client::one_line;
use crate::registry::client::wire::lenient;

/// A rule by which GitLab removes tags of a project (`container_expiration_policy`).
#[derive(Debug, Deserialize)]
pub(super) struct WirePolicy {
    #[serde(default)]
    enabled: Value,
    #[serde(default, deserialize_with = "lenient")]
    cadence: Option<String>,
    #[serde(default)]
    keep_n: Value,
    #[serde(default, deserialize_with = "lenient")]
    older_than: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    name_regex: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    name_regex_delete: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    name_regex_keep: Option<String>,
}

/// The sentence on a policy that is not known.
pub(super) fn unknown(what: &str, why: &str) -> String {
    format!("whether a cleanup policy of {what} removes tags by itself is not known: {why}")
}

impl WirePolicy {
    /// Describes what the policy removes, without a full stop; `None` if it is off.
    pub(super) fn describe(&self, project: &str) -> Option<String> {
        match &self.enabled {
            Value::Bool(false) | Value::Null => return None,
            Value::Bool(true) => {}
            other => {
                let shown = one_line(&other.to_string());
                let why = format!("its policy is not understood (`enabled` is {shown})");
                return Some(unknown(&format!("project {project}"), &why));
            }
        }
        let shown = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(one_line);
        let mut words = format!("the cleanup policy of project {project} removes tags");
        let matching = shown(&self.name_regex_delete).or_else(|| shown(&self.name_regex));
        words.push_str(&matching.map_or_else(String::new, |pattern| format!(" that match `{pattern}`")));
        words.push_str(&shown(&self.older_than).map_or_else(String::new, |age| format!(" and are older than {age}")));
        words.push_str(&shown(&self.cadence).map_or_else(String::new, |cadence| format!(", every {cadence}")));
        let kept = self.keep_n.as_u64().map(|count| format!(", but the {count} newest of each repository"));
        words.push_str(&kept.unwrap_or_default());
        words.push_str(
            &shown(&self.name_regex_keep).map_or_else(String::new, |keep| format!(", but those that match `{keep}`")),
        );
        words.push_str(", but `latest` and protected ones");
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_are_told_as_they_are() {
        // The examples of gitlabhq, doc/api/projects.md and doc/user/packages/container_registry.
        for (policy, expected) in [
            (
                json!({ "cadence": "1month", "enabled": true, "keep_n": 1, "older_than": "14d", "name_regex": "",
                        "name_regex_delete": ".*", "name_regex_keep": ".*-main" }),
                Some(
                    "the cleanup policy of project shop/backend removes tags that match `.*` and are older than 14d, every \
                     1month, but the 1 newest of each repository, but those that match `.*-main`, but `latest` and \
                     protected ones",
                ),
            ),
            (
                json!({ "cadence": "7d", "enabled": true, "keep_n": null, "older_than": null, "name_regex": "dev-.*" }),
                Some(
                    "the cleanup policy of project shop/backend removes tags that match `dev-.*`, every 7d, but `latest` \
                     and protected ones",
                ),
            ),
            (json!({ "cadence": "1d", "enabled": false, "keep_n": 10, "older_than": "90d", "name_regex": ".*" }), None),
            (
                json!({ "enabled": "true" }),
                Some(
                    "whether a cleanup policy of project shop/backend removes tags by itself is not known: its policy is not \
                     understood (`enabled` is \"true\")",
                ),
            ),
        ] {
            let parsed: WirePolicy = serde_json::from_value(policy.clone()).unwrap();
            assert_eq!(parsed.describe("shop/backend").as_deref(), expected, "{policy}");
        }
    }
}
