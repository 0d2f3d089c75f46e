//! Azure around the registries: its clouds, tokens of Microsoft Entra ID, Azure Resource Manager (ARM), Log Analytics.
//!
//! `credential` authenticates and provides tokens, `arm` is the client of the resource manager, `log_analytics` that of
//! logs.
//! `registry::providers::acr` interprets its facts about a container registry.

mod arm;
mod authority;
mod bearer;
mod credential;
mod log_analytics;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use crate::http_client::{RequestError, RequestErrorKind};

pub use arm::Arm;
pub use credential::{Credential, Identity, TokenCache};
pub use log_analytics::LogAnalytics;

/// A cloud of Azure, with the addresses of its services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cloud {
    /// The public cloud.
    #[default]
    Public,
    /// Azure operated by 21Vianet.
    China,
    /// Azure Government.
    UsGov,
}

/// The addresses of Azure's services, and the connection settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AzureEnvironment {
    /// The cloud.
    pub cloud: Cloud,
    /// The resource manager, if not the cloud's own.
    pub resource_manager: Option<Url>,
    /// The query API of Log Analytics, if not the cloud's own.
    pub log_analytics: Option<Url>,
    /// The authority that issues tokens, if not the cloud's own; https only.
    pub authority: Option<Url>,
    /// A PEM file with further certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// The timeout of one request; `None` means half a minute.
    pub timeout: Option<Duration>,
}

impl Cloud {
    /// Returns the label used in settings: `public`, `china`, `usgov`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::China => "china",
            Self::UsGov => "usgov",
        }
    }

    /// Returns the authority that issues tokens.
    #[must_use]
    pub fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::China => "https://login.chinacloudapi.cn",
            Self::UsGov => "https://login.microsoftonline.us",
        }
    }

    /// Returns the resource manager.
    #[must_use]
    pub fn resource_manager(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::China => "https://management.chinacloudapi.cn",
            Self::UsGov => "https://management.usgovcloudapi.net",
        }
    }

    /// Returns the scope of tokens for the resource manager.
    #[must_use]
    pub fn resource_manager_scope(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com/.default",
            Self::China => "https://management.core.chinacloudapi.cn/.default",
            Self::UsGov => "https://management.core.usgovcloudapi.net/.default",
        }
    }

    /// Returns the query API of Log Analytics.
    #[must_use]
    pub fn log_analytics(self) -> &'static str {
        match self {
            Self::Public => "https://api.loganalytics.azure.com",
            Self::China => "https://api.loganalytics.azure.cn",
            Self::UsGov => "https://api.loganalytics.us",
        }
    }

    /// Returns the scope of tokens for Log Analytics. In the public cloud it has the API's former name: not every tenant
    /// knows the API by the new one, and the SDKs use the former, too.
    #[must_use]
    pub fn log_analytics_scope(self) -> &'static str {
        match self {
            Self::Public => "https://api.loganalytics.io/.default",
            Self::China => "https://api.loganalytics.azure.cn/.default",
            Self::UsGov => "https://api.loganalytics.us/.default",
        }
    }

    /// The scope of tokens that Azure Database for PostgreSQL takes for passwords.
    /// <https://learn.microsoft.com/azure/postgresql/flexible-server/how-to-configure-sign-in-azure-ad-authentication>
    #[must_use]
    pub fn database_scope(self) -> &'static str {
        match self {
            Self::Public => "https://ossrdbms-aad.database.windows.net/.default",
            Self::China => "https://ossrdbms-aad.database.chinacloudapi.cn/.default",
            Self::UsGov => "https://ossrdbms-aad.database.usgovcloudapi.net/.default",
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

impl AzureEnvironment {
    /// Returns the configured resource manager. It receives tokens, so it must be encrypted or on this machine.
    fn resource_manager(&self) -> Result<Url, RequestError> {
        receiver(self.resource_manager.as_ref(), self.cloud.resource_manager(), "resource_manager")
    }

    /// Returns the configured query API of Log Analytics, under the same condition.
    fn log_analytics(&self) -> Result<Url, RequestError> {
        receiver(self.log_analytics.as_ref(), self.cloud.log_analytics(), "log_analytics")
    }

    fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(30))
    }
}

/// Returns the address of a service: the configured one, else the cloud's own.
fn receiver(configured: Option<&Url>, own: &str, key: &str) -> Result<Url, RequestError> {
    let own = || Url::parse(own).expect("the addresses of clouds are constants that parse");
    let url = configured.cloned().unwrap_or_else(own);
    if url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url) {
        return Ok(url);
    }
    let message = format!("{url} would get tokens unencrypted");
    Err(RequestError::new(RequestErrorKind::InvalidSettings, message)
        .with_help(format!("write `{key} = \"https://…\"`")))
}

/// Returns true if an address is on this machine, by its text.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}
