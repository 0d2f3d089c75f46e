//! Verification that lists are complete.
//!
//! Azure Resource Manager silently omits resources that the identity may not read: an identity without any role reads
//! an empty list. And the list of a service has been seen empty while its apps ran. So the permission is verified
//! first, and each list is compared with the resource manager's own index of resources.

use std::collections::BTreeSet;

use globset::GlobBuilder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde::de::IgnoredAny;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{AzureScope, Resource};
use crate::azure::Arm;
use crate::http_client::{RequestError, RequestErrorKind};
use crate::sources::SourceError;
use crate::sources::known_hosts::KnownHosts;

/// API versions of the resource manager itself.
const SUBSCRIPTIONS: &str = "2022-12-01";
const RESOURCES: &str = "2021-04-01";
const PERMISSIONS: &str = "2022-04-01";

/// Requests in flight at once: few compared with the limits for each identity
/// (<https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling>).
const MAX_CONCURRENT_REQUESTS: usize = 8;

/// A client of the resource manager with limited concurrency.
pub(super) struct ArmReader {
    arm: Arm,
    /// The names of the registries whose images count.
    pub(super) hosts: KnownHosts,
    permits: Semaphore,
}

/// A subscription, or a resource group in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResourceScope {
    /// Its path in the resource manager.
    path: String,
}

/// An entry of the resource manager's own index.
#[derive(Deserialize)]
struct WireEntry {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePermission {
    #[serde(default)]
    actions: Vec<String>,
    #[serde(default)]
    not_actions: Vec<String>,
}

impl ArmReader {
    pub(super) fn new(arm: Arm, hosts: KnownHosts) -> Self {
        Self { arm, hosts, permits: Semaphore::new(MAX_CONCURRENT_REQUESTS) }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, RequestError> {
        // The semaphore is never closed; if it were, that would be a failure like any other.
        self.permits.acquire().await.map_err(|_| {
            RequestError::new(RequestErrorKind::Connection, "Azure Resource Manager is not asked any more")
        })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, version: &str) -> Result<T, RequestError> {
        let _permit = self.permit().await?;
        self.arm.get(path, version).await
    }

    /// Lists the children of a resource, following all pages.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str, version: &str) -> Result<Vec<T>, RequestError> {
        let _permit = self.permit().await?;
        self.arm.list(path, version).await
    }

    /// Lists all resources of a type in a place. Resources that are in the index but not in the service's list are
    /// requested by name.
    pub(super) async fn list_all<P: DeserializeOwned>(
        &self,
        place: &ResourceScope,
        kind: &str,
        version: &str,
    ) -> Result<Vec<Resource<P>>, RequestError> {
        // The index first: a resource created meanwhile is in the list, and a deleted one is not found by name.
        let index = {
            let _permit = self.permit().await?;
            let filter = format!("resourceType eq '{kind}'");
            let index: Vec<WireEntry> =
                self.arm.list_filtered(&format!("{}/resources", place.path), RESOURCES, &filter).await?;
            index
        };
        let listed = {
            let _permit = self.permit().await?;
            self.arm.list_if_known::<Resource<P>>(&format!("{}/providers/{kind}", place.path), version).await?
        };
        let known: Vec<WireEntry> = index.into_iter().filter(|entry| entry.kind.eq_ignore_ascii_case(kind)).collect();
        let mut all = match listed {
            Some(listed) => listed,
            None if known.is_empty() => return Ok(Vec::new()),
            None => return Err(contradiction(place, kind, known.len())),
        };
        let there: BTreeSet<String> = all.iter().map(|resource| resource.id.to_lowercase()).collect();
        for missing in known.iter().filter(|entry| !there.contains(&entry.id.to_lowercase())) {
            match self.get(&missing.id, version).await {
                Ok(resource) => all.push(resource),
                Err(error) if error.kind == RequestErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

/// Returns the error for a type that is unknown there although the index has resources of it.
fn contradiction(place: &ResourceScope, kind: &str, count: usize) -> RequestError {
    let message = format!(
        "Azure's index has {count} resources of type {kind} in {}, and asked for them it does not know the type; run again, \
         and if that stays, tell whoever looks after Tagwarden",
        place.path
    );
    RequestError::new(RequestErrorKind::Malformed, message)
}

/// Returns the places to read. A missing subscription or resource group of the settings is an error.
pub(super) async fn resource_scopes(asking: &ArmReader, scope: &AzureScope) -> Result<Vec<ResourceScope>, SourceError> {
    let mut places = Vec::new();
    if scope.resource_groups.is_empty() {
        for subscription in &scope.subscriptions {
            let path = format!("/subscriptions/{subscription}");
            asking.get::<IgnoredAny>(&path, SUBSCRIPTIONS).await?;
            places.push(ResourceScope { path });
        }
        return Ok(places);
    }
    let mut used = BTreeSet::new();
    for group in &scope.resource_groups {
        for subscription in &scope.subscriptions {
            let path = format!("/subscriptions/{subscription}/resourceGroups/{group}");
            match asking.get::<IgnoredAny>(&path, RESOURCES).await {
                Ok(_) => {
                    places.push(ResourceScope { path });
                    used.extend([group, subscription]);
                }
                Err(error) if error.kind == RequestErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let missing = |what: String| SourceError::new("missing", what);
    if let Some(group) = scope.resource_groups.iter().find(|group| !used.contains(group)) {
        let message = format!("resource group `{group}` is in none of the subscriptions; correct `resource_groups`");
        return Err(missing(message));
    }
    if let Some(id) = scope.subscriptions.iter().find(|id| !used.contains(id)) {
        let message = format!("subscription {id} has none of the resource groups; correct `subscriptions`");
        return Err(missing(message));
    }
    Ok(places)
}

/// Verifies that the identity may read all resources of these types in a place, and not only some of them.
pub(super) async fn verify_readable(
    asking: &ArmReader,
    place: &ResourceScope,
    types: &[&str],
) -> Result<(), SourceError> {
    let path = format!("{}/providers/Microsoft.Authorization/permissions", place.path);
    let permissions: Vec<WirePermission> = asking.list(&path, PERMISSIONS).await?;
    let lacking: Vec<String> = types
        .iter()
        .map(|kind| format!("{kind}/read"))
        .filter(|action| !permissions.iter().any(|permission| permission.grants(action)))
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} may not do {} on all of {}, so lists would leave out what it cannot see; give it the role `Reader` there, \
         and wait some minutes",
        asking.arm.identity(),
        lacking.join(", "),
        place.path
    );
    Err(SourceError::new("denied", message))
}

impl WirePermission {
    /// Returns true if one role grants an action: one of its patterns matches, and no exception
    /// (<https://learn.microsoft.com/azure/role-based-access-control/role-definitions>).
    fn grants(&self, action: &str) -> bool {
        let matches = |pattern: &String| {
            GlobBuilder::new(pattern).case_insensitive(true).build().map(|glob| glob.compile_matcher().is_match(action))
        };
        // An invalid pattern grants nothing, and excepts everything.
        self.actions.iter().any(|pattern| matches(pattern).unwrap_or(false))
            && !self.not_actions.iter().any(|pattern| matches(pattern).unwrap_or(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_grants_what_it_names_and_does_not_except() {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        for (actions, not_actions, granted) in [
            (&["*/read"][..], &[][..], true),
            (&["*"], &["Microsoft.Authorization/*/write"], true),
            (&["microsoft.app/CONTAINERAPPS/read"], &[], true),
            (&["Microsoft.App/*"], &[], true),
            (&["Microsoft.App/*/write", "Microsoft.App/jobs/read"], &[], false),
            (&["Microsoft.App/containerApps/revisions/read"], &[], false),
            (&["*/read"], &["Microsoft.App/containerApps/*"], false),
            (&["*/read"], &["[a"], false),
            (&["[a"], &[], false),
            (&[], &[], false),
        ] {
            let role = WirePermission { actions: owned(actions), not_actions: owned(not_actions) };
            assert_eq!(role.grants("Microsoft.App/containerApps/read"), granted, "{actions:?} {not_actions:?}");
        }
    }
}
