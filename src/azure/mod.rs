//! Azure around the registries: its clouds, tokens of Microsoft Entra ID, and Azure Resource Manager (ARM).
//!
//! `credential` signs in and gives tokens, `arm` asks the resource manager, `registry` understands what that says of a
//! container registry. What is in a registry is none of this room's business.

mod authority;
mod credential;
mod registry;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use credential::{Credential, Identity, Tokens};
pub use registry::RegistryResource;

/// A cloud of Azure, with the addresses of its services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cloud {
    /// The public one.
    #[default]
    Public,
    /// Azure operated by 21Vianet.
    China,
    /// Azure Government.
    UsGov,
}

/// Where Azure's services are, and how to reach them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The cloud.
    pub cloud: Cloud,
    /// The resource manager instead of the cloud's own.
    pub resource_manager: Option<Url>,
    /// The authority that gives tokens instead of the cloud's own; https only.
    pub authority: Option<Url>,
    /// A PEM file with further certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take; nothing means half a minute.
    pub timeout: Option<Duration>,
}

impl Cloud {
    /// The label used in settings: `public`, `china`, `usgov`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::China => "china",
            Self::UsGov => "usgov",
        }
    }

    /// The authority that gives tokens.
    #[must_use]
    pub fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::China => "https://login.chinacloudapi.cn",
            Self::UsGov => "https://login.microsoftonline.us",
        }
    }

    /// The resource manager.
    #[must_use]
    pub fn resource_manager(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::China => "https://management.chinacloudapi.cn",
            Self::UsGov => "https://management.usgovcloudapi.net",
        }
    }

    /// The scope of tokens for the resource manager.
    #[must_use]
    pub fn resource_manager_scope(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com/.default",
            Self::China => "https://management.core.chinacloudapi.cn/.default",
            Self::UsGov => "https://management.core.usgovcloudapi.net/.default",
        }
    }

    /// The scope of tokens that a container registry exchanges for its own. In the public cloud it is the narrow one,
    /// good for registries and nothing else; the other clouds have none, and the SDKs for them use the resource manager's.
    #[must_use]
    pub fn registry_scope(self) -> &'static str {
        match self {
            Self::Public => "https://containerregistry.azure.net/.default",
            Self::China | Self::UsGov => self.resource_manager_scope(),
        }
    }
}

impl Surroundings {
    fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(30))
    }
}
