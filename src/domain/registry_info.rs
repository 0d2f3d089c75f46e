//! What the cloud around a registry says of the registry itself, beyond what is in it.

use std::sync::Arc;

/// The settings of a registry as it, or the cloud around it, reports them. For Azure, Azure Resource Manager does so, where
/// the settings name subscription and resource group; `subscription`, `resource_group` and `resource` are empty elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryInfo {
    /// The subscription's id.
    pub subscription: Arc<str>,
    /// The resource group.
    pub resource_group: Arc<str>,
    /// The name of the registry as a resource; its login server may be called otherwise.
    pub resource: Arc<str>,
    /// Its service tier.
    pub tier: Option<ServiceTier>,
    /// Whether, and after how many days, the registry itself deletes manifests that lose their last tag. It counts for
    /// Docker manifests only, and for those untagged since it was switched on.
    pub untagged_retention: RetentionDays,
    /// Whether, and for how many days, what is deleted stays in a bin.
    pub soft_delete: RetentionDays,
    /// By what its data may be reached.
    pub permissions: Option<PermissionMode>,
    /// The regions that hold a replica, the home region not among them; sorted.
    pub replicas: Vec<Arc<str>>,
    /// Bytes stored in the home region, by the registry's own account. It lags behind.
    pub stored_bytes: Option<u64>,
    /// The registry's own rules that remove tags, one sentence each without its full stop.
    pub cleanup_rules: Vec<Arc<str>>,
}

/// A service tier of Azure Container Registry. Each has request rates of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceTier {
    /// The smallest.
    Basic,
    /// With the rates of `Basic` and more storage.
    Standard,
    /// The one with replicas, private endpoints and the retention policy.
    Premium,
}

/// Something that a registry does after a number of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetentionDays {
    /// It does not.
    Off,
    /// After so many days; 0 is at once.
    Days(u32),
    /// It was asked for and not understood, or not told.
    Unknown,
}

impl RegistryInfo {
    /// What is known of a registry of which nothing else is recorded than that it never deletes untagged manifests itself.
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

/// How a container registry gives permissions on its data (`roleAssignmentMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PermissionMode {
    /// By roles on the registry.
    Registry,
    /// By roles with conditions on repositories (ABAC). Roles on the registry count for nothing on its data.
    Repositories,
}

impl ServiceTier {
    /// The label used in settings and reports: `basic`, `standard`, `premium`.
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
    /// The number of days, where it is on and known.
    #[must_use]
    pub fn days(self) -> Option<u32> {
        match self {
            Self::Days(days) => Some(days),
            Self::Off | Self::Unknown => None,
        }
    }
}

impl PermissionMode {
    /// The label used in reports: `rbac`, `rbac-abac`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Registry => "rbac",
            Self::Repositories => "rbac-abac",
        }
    }
}
