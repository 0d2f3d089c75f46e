//! Cleanup policies of repositories: rules by which Artifact Registry itself deletes images.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::wire::WireRepository;
use crate::http_client::one_line;
use crate::registry::client::wire::lenient;

const DAY: u64 = 24 * 60 * 60;

/// `CleanupPolicy`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePolicy {
    #[serde(default)]
    action: String,
    #[serde(default)]
    condition: Option<WireCondition>,
    /// Only of policies that keep.
    #[serde(default)]
    most_recent_versions: Option<Value>,
}

/// `CleanupPolicyCondition`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireCondition {
    /// `TAGGED`, `UNTAGGED` or `ANY`, which is the default.
    #[serde(default)]
    tag_state: String,
    #[serde(default)]
    tag_prefixes: Vec<String>,
    #[serde(default)]
    version_name_prefixes: Vec<String>,
    #[serde(default)]
    package_name_prefixes: Vec<String>,
    /// Such as `2592000s`; of the age of an image, not of when it lost its tag.
    #[serde(default, deserialize_with = "lenient")]
    older_than: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    newer_than: Option<String>,
}

impl WireCondition {
    fn covers_untagged(&self) -> bool {
        self.tag_state != "TAGGED" && self.tag_prefixes.is_empty()
    }

    fn covers_package(&self, package: &str) -> bool {
        let prefixes = &self.package_name_prefixes;
        prefixes.is_empty() || prefixes.iter().any(|prefix| package.starts_with(prefix.as_str()))
    }

    /// Returns true if it holds for all untagged images of a package, whatever their age.
    fn covers_all_untagged(&self, package: &str) -> bool {
        let limited = self.older_than.is_some() || self.newer_than.is_some() || !self.version_name_prefixes.is_empty();
        !limited && self.covers_untagged() && self.covers_package(package)
    }

    fn describe(&self) -> String {
        let mut words = match self.tag_state.as_str() {
            "TAGGED" => "tagged images".to_owned(),
            "UNTAGGED" => "untagged images".to_owned(),
            _ if self.tag_prefixes.is_empty() => "tagged and untagged images".to_owned(),
            _ => "images".to_owned(),
        };
        for (prefixes, what) in [
            (&self.tag_prefixes, "with tags that begin with"),
            (&self.package_name_prefixes, "with names that begin with"),
            (&self.version_name_prefixes, "with digests that begin with"),
        ] {
            if !prefixes.is_empty() {
                let shown: Vec<String> = prefixes.iter().map(|prefix| format!("`{}`", one_line(prefix))).collect();
                words.extend([" ", what, " ", &shown.join(", ")]);
            }
        }
        for (age, what) in [(&self.older_than, "after their push"), (&self.newer_than, "at most after it")] {
            if let Some(age) = age {
                words.extend([", ", &period(age), " ", what]);
            }
        }
        words
    }
}

/// A duration of Google's, such as `2592000s`, in words.
fn period(text: &str) -> String {
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<u64>().ok());
    match seconds {
        Some(DAY) => "1 day".to_owned(),
        Some(seconds) if seconds >= DAY && seconds % DAY == 0 => format!("{} days", seconds / DAY),
        Some(1) => "1 second".to_owned(),
        Some(seconds) => format!("{seconds} seconds"),
        None => one_line(text),
    }
}

/// The cleanup policies of a repository that are carried out, by their ids. One that is not understood may delete anything.
#[derive(Debug, Default)]
pub(super) struct CleanupPolicies(BTreeMap<String, Option<WirePolicy>>);

impl CleanupPolicies {
    /// Returns those of a repository; none where they only run dry.
    pub(super) fn of(repository: &WireRepository) -> Self {
        let policies = match &repository.cleanup_policies {
            _ if repository.cleanup_policy_dry_run => return Self::default(),
            None | Some(Value::Null) => return Self::default(),
            Some(Value::Object(policies)) => policies,
            Some(_) => return Self([("?".to_owned(), None)].into()),
        };
        let parse = |policy: &Value| {
            let policy: Option<WirePolicy> = serde_json::from_value(policy.clone()).ok();
            policy.filter(|policy| matches!(policy.action.as_str(), "DELETE" | "KEEP"))
        };
        Self(policies.iter().map(|(id, policy)| (one_line(id), parse(policy))).collect())
    }

    /// Returns the first policy that may delete an image of a package once it has no tag, in words. A policy goes by the age
    /// of the image, so it may do that right after the last tag is gone. Policies that keep stand above those that delete.
    pub(super) fn deletion_of_untagged(&self, package: &str) -> Option<String> {
        let keeps = self.0.values().flatten().any(|policy| {
            policy.action == "KEEP"
                && policy.most_recent_versions.is_none()
                && policy.condition.as_ref().is_some_and(|condition| condition.covers_all_untagged(package))
        });
        if keeps {
            return None;
        }
        self.0.iter().find_map(|(id, policy)| match policy {
            None => Some(format!("its cleanup policy `{id}` is not understood, so it may delete untagged images")),
            Some(policy) if policy.action == "DELETE" => {
                let all = WireCondition::default();
                let condition = policy.condition.as_ref().unwrap_or(&all);
                let covers = condition.covers_untagged() && condition.covers_package(package);
                covers.then(|| format!("its cleanup policy `{id}` deletes {}", condition.describe()))
            }
            Some(_) => None,
        })
    }

    /// Returns true if some policy may delete images that lost their last tag.
    pub(super) fn may_delete_untagged(&self) -> bool {
        let deletes = |policy: &Option<WirePolicy>| match policy {
            None => true,
            Some(policy) => {
                policy.action == "DELETE" && policy.condition.as_ref().is_none_or(WireCondition::covers_untagged)
            }
        };
        let kept = self.0.values().flatten().any(|policy| {
            policy.action == "KEEP"
                && policy.most_recent_versions.is_none()
                && policy.condition.as_ref().is_some_and(|condition| {
                    condition.package_name_prefixes.is_empty() && condition.covers_all_untagged("")
                })
        });
        !kept && self.0.values().any(deletes)
    }

    /// Returns one sentence for each policy that deletes.
    pub(super) fn describe(&self, repository: &str) -> Vec<String> {
        let describe = |(id, policy): (&String, &Option<WirePolicy>)| match policy {
            None => Some(format!("cleanup policy `{id}` of {repository} is not understood")),
            Some(policy) if policy.action == "DELETE" => {
                let all = WireCondition::default();
                let images = policy.condition.as_ref().unwrap_or(&all).describe();
                Some(format!("cleanup policy `{id}` of {repository} deletes {images}"))
            }
            Some(_) => None,
        };
        self.0.iter().filter_map(describe).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policies(policies: &Value, dry_run: bool) -> CleanupPolicies {
        let repository = json!({ "name": "r", "cleanupPolicies": policies, "cleanupPolicyDryRun": dry_run });
        CleanupPolicies::of(&serde_json::from_value(repository).unwrap())
    }

    #[test]
    fn policies_that_may_delete_untagged_images_are_named() {
        let delete = |condition: Value| json!({ "id": "sweep", "action": "DELETE", "condition": condition });
        let of_all = "its cleanup policy `sweep` deletes tagged and untagged images, 30 days after their push";
        for (rules, expected) in [
            (json!({}), None),
            (
                json!({ "sweep": delete(json!({ "tagState": "UNTAGGED", "olderThan": "86400s" })) }),
                Some("its cleanup policy `sweep` deletes untagged images, 1 day after their push"),
            ),
            (json!({ "sweep": delete(json!({ "tagState": "ANY", "olderThan": "2592000s" })) }), Some(of_all)),
            (json!({ "sweep": delete(json!({ "olderThan": "2592000s" })) }), Some(of_all)),
            (json!({ "sweep": delete(json!({ "tagState": "TAGGED", "olderThan": "2592000s" })) }), None),
            (json!({ "sweep": delete(json!({ "tagPrefixes": ["pr-"] })) }), None),
            (
                json!({ "sweep": delete(json!({ "tagState": "UNTAGGED", "packageNamePrefixes": ["ap"] })) }),
                Some("its cleanup policy `sweep` deletes untagged images with names that begin with `ap`"),
            ),
            (json!({ "sweep": delete(json!({ "packageNamePrefixes": ["web"] })) }), None),
            (
                json!({ "sweep": delete(json!({ "tagState": "UNTAGGED" })),
                        "all": { "action": "KEEP", "condition": { "tagState": "ANY" } } }),
                None,
            ),
            (
                json!({ "sweep": delete(json!({ "tagState": "UNTAGGED" })),
                        "new": { "action": "KEEP", "condition": { "newerThan": "86400s" } },
                        "some": { "action": "KEEP", "mostRecentVersions": { "keepCount": 5 } } }),
                Some("its cleanup policy `sweep` deletes untagged images"),
            ),
            (
                json!({ "later": { "action": "ARCHIVE" } }),
                Some("its cleanup policy `later` is not understood, so it may delete untagged images"),
            ),
            (
                json!({ "sweep": delete(json!({ "tagState": "ANY" })) }),
                Some("its cleanup policy `sweep` deletes tagged and untagged images"),
            ),
            (
                json!({ "sweep": delete(json!({ "tagState": "UNTAGGED", "olderThan": "1s" })) }),
                Some("its cleanup policy `sweep` deletes untagged images, 1 second after their push"),
            ),
            (json!([]), Some("its cleanup policy `?` is not understood, so it may delete untagged images")),
        ] {
            let found = policies(&rules, false);
            assert_eq!(found.deletion_of_untagged("api").as_deref(), expected, "{rules}");
            if expected.is_some() {
                assert!(found.may_delete_untagged(), "{rules}");
            }
            assert_eq!(policies(&rules, true).deletion_of_untagged("api"), None, "a dry run deletes nothing");
        }
    }
}
