//! Quay's own cleanup: the period for which a namespace keeps removed tags, and its auto-prune policies.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use super::reader::QuayReader;
use super::wire::{self, Right, WirePolicies, WirePolicy};
use super::{namespace_of, repository_path};
use crate::domain::{RegistryInfo, RepositoryName, RetentionDays};
use crate::http_client::one_line;
use crate::registry::RegistryError;

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// Most repositories of a namespace that are asked for its time machine.
const MAX_ASKED: usize = 3;

impl QuayReader {
    /// The namespaces whose repositories are read.
    fn namespaces(&self) -> BTreeSet<&str> {
        let settings = &self.http.settings;
        if settings.repositories.is_empty() {
            settings.namespaces.iter().map(String::as_str).collect()
        } else {
            settings.repositories.iter().map(namespace_of).collect()
        }
    }

    /// The time machine and the auto-prune policies of all namespaces. The shortest time machine counts for all.
    ///
    /// # Errors
    /// When a namespace has repositories and does not tell its time machine.
    pub(super) async fn read_cleanup_rules(&self) -> Result<RegistryInfo, RegistryError> {
        let (mut shortest, mut rules) = (None::<RetentionDays>, Vec::new());
        for namespace in self.namespaces() {
            let (days, words) = self.time_machine(namespace).await?;
            if let Some(days) = days {
                shortest = Some(shortest.map_or(days, |known| shorter(known, days)));
            }
            rules.extend(words.map(Arc::from));
            rules.extend(self.prune_rules(namespace).await.into_iter().map(Arc::from));
        }
        Ok(RegistryInfo {
            untagged_retention: shortest.unwrap_or(RetentionDays::Unknown),
            cleanup_rules: rules,
            ..RegistryInfo::that_keeps_untagged()
        })
    }

    /// For how many whole days a namespace keeps removed tags, which any of its repositories tells; `None` if it has none.
    /// Where none of the first few tells it, that is not known, and the second part says so.
    async fn time_machine(&self, namespace: &str) -> Result<(Option<RetentionDays>, Option<String>), RegistryError> {
        let named = self.http.settings.repositories.iter().filter(|name| namespace_of(name) == namespace);
        let mut repositories: Vec<RepositoryName> = named.take(MAX_ASKED).cloned().collect();
        if repositories.is_empty() {
            repositories = self.first_repositories(namespace, MAX_ASKED).await?;
        }
        let mut silent = None;
        for repository in &repositories {
            match self.fetch_repository(repository).await? {
                Some(found) => {
                    let days = found.tag_expiration_s.map_or(RetentionDays::Unknown, whole_days);
                    return Ok((Some(days), None));
                }
                // It may have been deleted since it was listed, and another one tells the same.
                None => silent = silent.or(Some(repository)),
            }
        }
        let Some(silent) = silent else { return Ok((None, None)) };
        let words = format!(
            "the time machine of namespace {namespace} is not known: Quay says that {silent} does not exist, or that the \
             access token may not see it"
        );
        Ok((Some(RetentionDays::Unknown), Some(words)))
    }

    /// Describes the auto-prune policies of a namespace, one sentence each, without full stops.
    async fn prune_rules(&self, namespace: &str) -> Vec<String> {
        let path = format!("organization/{namespace}/autoprunepolicy/");
        let read = async {
            let response = self.get(None, &path, &[]).await?;
            match response.status {
                StatusCode::OK => response.parse_json::<WirePolicies>().map(|found| found.policies),
                _ => Err(wire::refusal(&response, Right::Organization)),
            }
        };
        match read.await {
            Ok(policies) => policies.iter().map(|policy| describe(namespace, policy)).collect(),
            Err(error) => vec![format!(
                "whether auto-prune removes tags of namespace {namespace} by itself is not known: {}",
                error.chain()
            )],
        }
    }

    /// A repository by itself; `None` if there is none that the token may see.
    pub(super) async fn fetch_repository(
        &self,
        repository: &RepositoryName,
    ) -> Result<Option<wire::WireRepository>, RegistryError> {
        let response = self.get(Some(repository), &repository_path(repository), &[("includeTags", "false")]).await?;
        match response.status {
            StatusCode::OK => {}
            _ if wire::is_absence(&response) => return Ok(None),
            _ => return Err(wire::refusal(&response, Right::Read)),
        }
        let found: wire::WireRepository = response.parse_json()?;
        if format!("{}/{}", found.namespace, found.name) != repository.as_str() {
            return Err(response.malformed("it is about another repository"));
        }
        Ok(Some(found))
    }
}

/// Seconds in whole days, rounded down: what is promised to be undoable must be.
fn whole_days(seconds: u64) -> RetentionDays {
    RetentionDays::Days(u32::try_from(seconds / DAY_SECONDS).unwrap_or(u32::MAX))
}

/// An unknown period counts as the shortest.
fn shorter(a: RetentionDays, b: RetentionDays) -> RetentionDays {
    match (a, b) {
        (RetentionDays::Days(a), RetentionDays::Days(b)) => RetentionDays::Days(a.min(b)),
        _ => RetentionDays::Unknown,
    }
}

fn describe(namespace: &str, policy: &WirePolicy) -> String {
    let value = match &policy.value {
        Value::String(text) => one_line(text),
        other => one_line(&other.to_string()),
    };
    let mut words = match policy.method.as_deref() {
        Some("number_of_tags") => {
            format!("auto-prune of namespace {namespace} removes all but the {value} newest tags of each repository")
        }
        Some("creation_date") => format!("auto-prune of namespace {namespace} removes tags {value} after their push"),
        method => format!(
            "auto-prune of namespace {namespace} has a policy that is not understood (method {})",
            one_line(method.unwrap_or("missing"))
        ),
    };
    if let Some(pattern) = &policy.tag_pattern {
        let what = if policy.tag_pattern_matches == Some(false) { "do not match" } else { "match" };
        words.extend([", of those that ", what, " `", &one_line(pattern), "`"]);
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_machine_counts_in_whole_days_and_the_shortest_counts() {
        let (days, unknown) = (RetentionDays::Days, RetentionDays::Unknown);
        for (seconds, expected) in
            [(0, 0), (3600, 0), (DAY_SECONDS - 1, 0), (14 * DAY_SECONDS, 14), (u64::MAX, u32::MAX)]
        {
            assert_eq!(whole_days(seconds), days(expected), "{seconds}");
        }
        for (a, b, expected) in
            [(days(14), days(2), days(2)), (days(14), unknown, unknown), (unknown, days(0), unknown)]
        {
            assert_eq!(shorter(a, b), expected);
        }
    }

    #[test]
    fn auto_prune_policies_are_told_as_they_are() {
        for (policy, expected) in [
            (json!({"method": "number_of_tags", "value": 10}), "removes all but the 10 newest tags of each repository"),
            (json!({"method": "creation_date", "value": "30d"}), "removes tags 30d after their push"),
            (
                json!({"method": "creation_date", "value": "7d", "tagPattern": "^pr-", "tagPatternMatches": true}),
                "removes tags 7d after their push, of those that match `^pr-`",
            ),
            (
                json!({"method": "creation_date", "value": "7d", "tagPattern": "^v", "tagPatternMatches": false}),
                "removes tags 7d after their push, of those that do not match `^v`",
            ),
            (json!({"method": "by_moon"}), "has a policy that is not understood (method by_moon)"),
            (json!({}), "has a policy that is not understood (method missing)"),
        ] {
            let parsed: WirePolicy = serde_json::from_value(policy.clone()).unwrap();
            assert_eq!(describe("contoso", &parsed), format!("auto-prune of namespace contoso {expected}"), "{policy}");
        }
    }
}
