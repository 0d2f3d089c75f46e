//! A container registry as a resource of Azure Resource Manager.

use std::sync::Arc;

use serde::Deserialize;

use crate::azure::{Arm, Credential};
use crate::domain::{PermissionMode, RegistryInfo, RetentionDays, ServiceTier};
use crate::http_client::{RequestError, RequestErrorKind};

/// The stable version that knows the retention policy and the mode of role assignments.
const API_VERSION: &str = "2025-11-01";
/// Soft delete is told by preview versions only.
const PREVIEW_API_VERSION: &str = "2025-05-01-preview";

/// A container registry as a resource of Azure, and as whom to ask about it.
#[derive(Debug, Clone)]
pub struct RegistryResource {
    /// The subscription's id.
    pub subscription: String,
    /// The resource group.
    pub resource_group: String,
    /// Who asks.
    pub credential: Credential,
}

#[derive(Deserialize)]
struct WireRegistry {
    name: String,
    #[serde(default)]
    location: Option<String>,
    #[serde(default)]
    sku: Option<WireSku>,
    #[serde(default)]
    properties: Option<WireProperties>,
}

#[derive(Deserialize)]
struct WireSku {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProperties {
    #[serde(default)]
    login_server: Option<String>,
    #[serde(default)]
    role_assignment_mode: Option<String>,
    #[serde(default)]
    policies: Option<WirePolicies>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePolicies {
    #[serde(default)]
    retention_policy: Option<WirePolicy>,
    #[serde(default)]
    soft_delete_policy: Option<WirePolicy>,
}

#[derive(Deserialize)]
struct WirePolicy {
    #[serde(default)]
    status: Option<String>,
    #[serde(default, alias = "retentionDays")]
    days: Option<i64>,
}

#[derive(Deserialize)]
struct WireReplication {
    #[serde(default)]
    location: Option<String>,
}

#[derive(Deserialize)]
struct WireUsages {
    value: Vec<WireUsage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUsage {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    current_value: Option<i64>,
}

/// What the resource manager says of the registry that answers at one of `hosts` (with a port or without). What it does
/// not say is told as unread or as nothing, and never as off.
///
/// # Errors
/// When there is no such registry in the resource group, or the identity may not see it or its replicas.
pub async fn registry_info(
    arm: &Arm,
    resource: &RegistryResource,
    hosts: &[String],
) -> Result<RegistryInfo, RequestError> {
    let registry = find_registry(arm, resource, hosts).await?;
    let path = format!("{}/{}", registries_path(resource), registry.name);
    let replications: Vec<WireReplication> = arm.list(&format!("{path}/replications"), API_VERSION).await?;
    let soft_delete = match arm.get::<WireRegistry>(&path, PREVIEW_API_VERSION).await {
        Ok(preview) => preview.policies().soft_delete_policy.as_ref().map_or(RetentionDays::Unknown, after_days),
        // It would only soften what an untag leads to, so going without is safe.
        Err(error) => {
            tracing::warn!(registry = registry.name, error = %error.chain(), "whether soft delete is on is not known");
            RetentionDays::Unknown
        }
    };
    let stored_bytes = match stored_bytes(arm, &path).await {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            tracing::warn!(registry = registry.name, error = %error.chain(), "how much the registry stores is not known");
            None
        }
    };
    let sku = registry.sku();
    let home = registry.location.as_deref().map(normalize_region);
    let regions = replications.iter().filter_map(|replication| replication.location.as_deref().map(normalize_region));
    let mut replicas: Vec<Arc<str>> = regions.filter(|it| Some(it) != home.as_ref()).map(Arc::from).collect();
    replicas.sort();
    replicas.dedup();
    Ok(RegistryInfo {
        subscription: resource.subscription.as_str().into(),
        resource_group: resource.resource_group.as_str().into(),
        resource: registry.name.as_str().into(),
        tier: sku,
        untagged_retention: untagged_retention(registry.policies().retention_policy.as_ref(), sku),
        soft_delete,
        permissions: registry.properties.as_ref().and_then(|it| permission_mode(it.role_assignment_mode.as_deref()?)),
        replicas,
        stored_bytes,
        cleanup_rules: Vec::new(),
    })
}

/// The bytes that the registry named `name` as a resource stores in its home region, by its own account, which lags
/// behind.
///
/// # Errors
/// When the identity may not see it, or the answer does not say.
pub async fn storage_usage(arm: &Arm, resource: &RegistryResource, name: &str) -> Result<u64, RequestError> {
    stored_bytes(arm, &format!("{}/{name}", registries_path(resource))).await
}

/// The path of all registries of a resource group.
fn registries_path(resource: &RegistryResource) -> String {
    format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerRegistry/registries",
        resource.subscription, resource.resource_group
    )
}

/// The registry by its login server, which may be called otherwise than the resource.
async fn find_registry(arm: &Arm, resource: &RegistryResource, hosts: &[String]) -> Result<WireRegistry, RequestError> {
    let registries = match arm.list::<WireRegistry>(&registries_path(resource), API_VERSION).await {
        Err(error) if error.kind == RequestErrorKind::Denied => {
            find_by_name(arm, resource, hosts).await.ok_or(error)?
        }
        listed => listed?,
    };
    let servers: Vec<String> =
        registries.iter().map(|registry| registry.login_server().unwrap_or_default().to_owned()).collect();
    let is_meant = |registry: &WireRegistry| {
        registry.login_server().is_some_and(|server| hosts.iter().any(|host| is_same_host(server, host)))
    };
    registries.into_iter().find(is_meant).ok_or_else(|| {
        let there = if servers.is_empty() { "none that is to be seen".into() } else { servers.join(", ") };
        RequestError::new(
            RequestErrorKind::NotFound,
            format!(
                "no registry in resource group {} of subscription {} answers at {}; there: {there}; check the \
                 registry's `endpoint` and `resource_group`, and that {} has the role `Reader` on it",
                resource.resource_group,
                resource.subscription,
                hosts.join(" or "),
                arm.identity()
            ),
        )
    })
}

/// The registry by the name that its hosts begin with, for an identity that may see it alone and not its resource group.
/// A name is of letters and digits; with a domain name label, a hyphen and a hash stand behind it.
async fn find_by_name(arm: &Arm, resource: &RegistryResource, hosts: &[String]) -> Option<Vec<WireRegistry>> {
    let mut names: Vec<&str> = hosts.iter().filter_map(|host| host.split(['.', '-', ':']).next()).collect();
    names.dedup();
    let mut seen = Vec::new();
    for name in names {
        seen.extend(arm.get(&format!("{}/{name}", registries_path(resource)), API_VERSION).await.ok());
    }
    (!seen.is_empty()).then_some(seen)
}

fn is_same_host(server: &str, host: &str) -> bool {
    let plain = |host: &str| host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
    !server.is_empty() && plain(server) == plain(host)
}

async fn stored_bytes(arm: &Arm, path: &str) -> Result<u64, RequestError> {
    let usages: WireUsages = arm.get(&format!("{path}/listUsages"), API_VERSION).await?;
    let size = usages.value.iter().find(|usage| usage.name.as_deref() == Some("Size"));
    size.and_then(|usage| u64::try_from(usage.current_value?).ok()).ok_or_else(|| {
        RequestError::new(RequestErrorKind::Malformed, format!("GET {path}/listUsages answered without a size"))
    })
}

/// Whether the registry deletes untagged manifests. Only the premium tier can; there, a missing setting proves nothing.
fn untagged_retention(policy: Option<&WirePolicy>, sku: Option<ServiceTier>) -> RetentionDays {
    match (policy, sku) {
        (Some(policy), _) => after_days(policy),
        (None, Some(ServiceTier::Basic | ServiceTier::Standard)) => RetentionDays::Off,
        (None, Some(ServiceTier::Premium) | None) => RetentionDays::Unknown,
    }
}

fn after_days(policy: &WirePolicy) -> RetentionDays {
    let days = policy.days.and_then(|days| u32::try_from(days).ok());
    match (policy.status.as_deref().map(str::to_ascii_lowercase).as_deref(), days) {
        (Some("disabled"), _) => RetentionDays::Off,
        (Some("enabled"), Some(days)) => RetentionDays::Days(days),
        _ => RetentionDays::Unknown,
    }
}

/// The answers of the resource manager; the command line writes `rbac` and `rbac-abac` for them.
fn permission_mode(mode: &str) -> Option<PermissionMode> {
    match mode.to_ascii_lowercase().as_str() {
        "legacyregistrypermissions" => Some(PermissionMode::Registry),
        "abacrepositorypermissions" => Some(PermissionMode::Repositories),
        _ => None,
    }
}

/// A region in one spelling: `West Europe` is `westeurope`.
fn normalize_region(text: &str) -> String {
    text.to_ascii_lowercase().replace(' ', "")
}

impl WireRegistry {
    fn login_server(&self) -> Option<&str> {
        self.properties.as_ref()?.login_server.as_deref()
    }

    fn policies(&self) -> &WirePolicies {
        const NONE: &WirePolicies = &WirePolicies { retention_policy: None, soft_delete_policy: None };
        self.properties.as_ref().and_then(|it| it.policies.as_ref()).unwrap_or(NONE)
    }

    fn sku(&self) -> Option<ServiceTier> {
        match self.sku.as_ref()?.name.as_deref()?.to_ascii_lowercase().as_str() {
            "basic" => Some(ServiceTier::Basic),
            "standard" => Some(ServiceTier::Standard),
            "premium" => Some(ServiceTier::Premium),
            _ => None,
        }
    }
}
