//! What keeps tags of a repository from being removed, asked before the first removal.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use serde_json::json;

use super::api::{EcrApi, Operation, in_repository};
use super::lifecycle::rule_on_tagged_images;
use super::wire::{WireCacheRule, WireCacheRules, WireLifecyclePolicy};
use crate::domain::{RemovalMethod, RemovalObstacle, RepositoryName};
use crate::registry::client::auth::TokenScope;
use crate::registry::{RegistryError, RegistryErrorKind};

impl EcrApi {
    /// Returns what speaks against removals, for each of the repositories in which something does. Nothing tells beforehand
    /// what an identity may delete.
    pub(super) async fn find_obstacles(
        &self,
        repositories: &[RepositoryName],
    ) -> BTreeMap<RepositoryName, RemovalObstacle> {
        if repositories.is_empty() {
            return BTreeMap::new();
        }
        let caches = match self.cache_rules().await {
            Ok(rules) => rules,
            Err(error) => {
                tracing::info!(error = error.chain(), "the pull-through caches of Amazon ECR are not known");
                Vec::new()
            }
        };
        let asked = repositories.iter().map(|name| {
            let named = self.settings.repositories.contains(name);
            let cache = caches.iter().find(|rule| is_cached(name, rule, named));
            async move { Some((name.clone(), self.obstacle(name, cache).await?)) }
        });
        let asked: Vec<_> = asked.collect();
        stream::iter(asked)
            .buffer_unordered(self.settings.concurrency.max(1))
            .filter_map(|found| async move { found })
            .collect()
            .await
    }

    async fn cache_rules(&self) -> Result<Vec<WireCacheRule>, RegistryError> {
        let operation = Operation::DescribePullThroughCacheRules;
        self.read_pages::<WireCacheRules>(operation, &TokenScope::Catalogue, &json!({}), 1000).await
    }

    async fn obstacle(&self, name: &RepositoryName, cache: Option<&WireCacheRule>) -> Option<RemovalObstacle> {
        if let Some(WireCacheRule { upstream_registry_url: upstream, .. }) = cache {
            let message = format!(
                "{name} is a pull-through cache of {upstream}: what is removed comes back with the next pull, and the \
                 registry behind it decides about its tags"
            );
            return Some(RemovalObstacle::Denied { message });
        }
        // What is deleted with its tags is not to be restored anyway.
        if self.settings.accepted.retention || self.settings.removal == RemovalMethod::DeleteManifest {
            return None;
        }
        let accept = "accept = [\"untagged-retention\"]";
        match self.lifecycle_policy(name).await {
            Ok(policy) => policy.as_deref().and_then(rule_on_tagged_images).map(|rule| RemovalObstacle::Denied {
                message: format!(
                    "{name} has a lifecycle policy that may delete an image before the removal of its tag is undone: \
                     {rule}. Leave such images to one of the two, or write {accept}"
                ),
            }),
            Err(error) => {
                let message = format!("{}; or write {accept}", error.chain());
                let denied = error.kind == RegistryErrorKind::Denied;
                Some(if denied {
                    RemovalObstacle::Denied { message }
                } else {
                    RemovalObstacle::CheckFailed { message }
                })
            }
        }
    }

    /// Reads the document of a repository's lifecycle policy; `None` if it has none.
    async fn lifecycle_policy(&self, name: &RepositoryName) -> Result<Option<String>, RegistryError> {
        let scope = TokenScope::List(name.clone());
        let read =
            self.read::<WireLifecyclePolicy>(Operation::GetLifecyclePolicy, &scope, in_repository(name, json!({})));
        match read.await {
            Ok(policy) => Ok(Some(policy.lifecycle_policy_text)),
            Err(error)
                if error.kind == RegistryErrorKind::NotFound && error.chain().contains("LifecyclePolicyNotFound") =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Returns true if a repository may be one that a pull through the cache made. A cache at the root may have made any; one
/// that the settings name is known to be none.
fn is_cached(name: &RepositoryName, rule: &WireCacheRule, is_named: bool) -> bool {
    let prefix = rule.ecr_repository_prefix.trim_end_matches('/');
    prefix == "ROOT" && !is_named || name.as_str().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_told_by_their_prefix() {
        let rule = |prefix: &str| WireCacheRule {
            ecr_repository_prefix: prefix.to_owned(),
            upstream_registry_url: "quay.io".to_owned(),
        };
        for (prefix, name, is_named, expected) in [
            ("quay", "quay/org/app", false, true),
            ("quay/", "quay/app", true, true),
            ("quay", "quayside/app", false, false),
            ("quay", "quay", false, false),
            ("ROOT", "shop/api", false, true),
            ("ROOT", "shop/api", true, false),
        ] {
            assert_eq!(is_cached(&name.parse().unwrap(), &rule(prefix), is_named), expected, "{prefix} {name}");
        }
    }
}
