//! A registry's own settings, as the registry or the cloud around it reports them.

use std::sync::Arc;

/// The settings of a registry as it, or the cloud around it, reports them. For Azure, Azure Resource Manager reports
/// them if the settings name subscription and resource group; `subscription`, `resource_group` and `resource` are empty
/// elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryInfo {
    /// The subscription's id.
    pub subscription: Arc<str>,
    /// The resource group.
    pub resource_group: Arc<str>,
    /// The name of the registry as a resource; its login server may differ.
    pub resource: Arc<str>,
    /// Its service tier.
    pub tier: Option<ServiceTier>,
    /// The registry's own retention of manifests that lose their last tag. It affects Docker manifests only, and those
    /// untagged since it was enabled.
    pub untagged_retention: RetentionDays,
    /// The registry's soft-delete period.
    pub soft_delete: RetentionDays,
    /// The permission model for its data.
    pub permissions: Option<PermissionMode>,
    /// The regions that hold a replica, without the home region; sorted.
    pub replicas: Vec<Arc<str>>,
    /// Bytes stored in the home region, as the registry reports them. The number lags behind.
    pub stored_bytes: Option<u64>,
    /// The registry's own rules that remove tags, one sentence each without its full stop.
    pub cleanup_rules: Vec<Arc<str>>,
}

/// A service tier of Azure Container Registry. Request rates differ between tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceTier {
    /// The smallest.
    Basic,
    /// With the rates of `Basic` and more storage.
    Standard,
    /// The tier with replicas, private endpoints and the retention policy.
    Premium,
}

/// An action that a registry takes after a number of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetentionDays {
    /// Disabled.
    Off,
    /// After that many days; 0 is immediately.
    Days(u32),
    /// It was queried, but not reported or not understood.
    Unknown,
}

impl RegistryInfo {
    /// Returns the settings of a registry that never deletes untagged manifests itself; everything else is unknown.
    #[must_use]
    pub fn that_keeps_untagged() -> Self {
        Self {
            subscription: "".into(),
            resource_group: "".into(),
            resource: "".into(),
            tier: None,
            untagged_retention: RetentionDays::Off,
            soft_delete: RetentionDays::Off,
            permissions: None,
            replicas: Vec::new(),
            stored_bytes: None,
            cleanup_rules: Vec::new(),
        }
    }
}

/// The permission model of a container registry's data (`roleAssignmentMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PermissionMode {
    /// By roles on the registry.
    Registry,
    /// By roles with conditions on repositories (ABAC). Roles on the registry do not apply to its data.
    Repositories,
}

impl ServiceTier {
    /// Returns the label used in settings and reports: `basic`, `standard`, `premium`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Standard => "standard",
            Self::Premium => "premium",
        }
    }
}

impl RetentionDays {
    /// Returns the number of days, if enabled and known.
    #[must_use]
    pub fn days(self) -> Option<u32> {
        match self {
            Self::Days(days) => Some(days),
            Self::Off | Self::Unknown => None,
        }
    }
}

impl PermissionMode {
    /// Returns the label used in reports: `rbac`, `rbac-abac`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Registry => "rbac",
            Self::Repositories => "rbac-abac",
        }
    }
}
