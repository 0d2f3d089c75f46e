//! The settings of a registry, as connections use them.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::{Provider, RateLimits, Support, providers};
use crate::azure;
use crate::domain::{RegistryName, RemovalMethod, RepositoryName};

/// The settings of one registry, with its secrets loaded.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Its name in the settings.
    pub name: RegistryName,
    /// Its product.
    pub provider: &'static dyn Provider,
    /// Its address: scheme, host, port; no path.
    pub endpoint: url::Url,
    /// Other hosts that name the same registry in image references, lower case.
    pub aliases: Vec<String>,
    /// The authentication.
    pub auth: Auth,
    /// A PEM file with further certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// The removal method.
    pub removal: RemovalMethod,
    /// A person's statement on deleting a tag and leaving its manifest.
    pub can_untag: CanUntag,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// The timeout of one request.
    pub timeout: Duration,
    /// Additional hosts (with or without a port) whose token services may receive this registry's credentials. Its own
    /// host and those of well-known registries are included implicitly.
    pub token_hosts: Vec<String>,
    /// The repositories to read if the registry does not list them itself; empty means to list them.
    pub repositories: Vec<RepositoryName>,
    /// The namespaces whose repositories to read, if the registry lists them by namespace only.
    pub namespaces: Vec<String>,
    /// Most requests a minute, by kind of operation; without one only the registry itself limits the rate.
    pub rate_limits: RateLimits,
    /// The API of the product around the registry, where it may be asked.
    pub api: Option<providers::ProductApi>,
    /// The registry as a resource of Azure, where it may be asked about itself.
    pub azure_resource: Option<providers::RegistryResource>,
    /// The risks that a person accepts.
    pub accepted: AcceptedRisks,
    /// True if manifests are pulled for the sizes of their layers although a list contains enough to decide. Only in
    /// dialects with such lists; the others always pull.
    pub exact_bytes: bool,
}

/// The risks of a registry that a person accepts by name in its settings.
#[expect(clippy::struct_excessive_bools, reason = "each is a word of its own in the settings")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AcceptedRisks {
    /// `untagged-retention`: the registry may delete untagged manifests before the undo window ends.
    pub retention: bool,
    /// `no-date`: tags may be removed although the registry does not report its time and no other confirms this
    /// machine's.
    pub missing_date: bool,
    /// `pull-times`: the registry records every pull, although it cannot be asked whether it does.
    pub pull_times: bool,
    /// `same-content`: another registry has the same tags at the same digests, and is another registry all the same.
    pub same_content: bool,
}

impl RegistrySettings {
    /// Returns its address as in the inventory, the journal and holds: the endpoint without a trailing slash.
    #[must_use]
    pub fn address(&self) -> &str {
        self.endpoint.as_str().trim_end_matches('/')
    }

    /// Returns true if the last pull of each tag is known: absence of a later one can be relied on.
    #[must_use]
    pub fn records_pulls(&self) -> bool {
        match self.provider.capabilities().pull_times {
            Support::Yes => true,
            Support::Unknown => self.accepted.pull_times,
            Support::No => false,
        }
    }

    /// Creates settings with defaults for everything else.
    #[must_use]
    pub fn with_defaults(name: RegistryName, provider: &'static dyn Provider, endpoint: url::Url) -> Self {
        Self {
            name,
            provider,
            endpoint,
            aliases: Vec::new(),
            auth: Auth::Anonymous,
            ca_file: None,
            removal: RemovalMethod::Untag,
            can_untag: CanUntag::Unknown,
            concurrency: provider.default_concurrency(),
            timeout: Duration::from_secs(30),
            token_hosts: Vec::new(),
            repositories: Vec::new(),
            namespaces: Vec::new(),
            rate_limits: RateLimits::default(),
            api: None,
            azure_resource: None,
            accepted: AcceptedRisks::default(),
            exact_bytes: false,
        }
    }
}

/// The setting `can_untag`: a person's statement on deleting a tag and leaving its manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CanUntag {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// Not set: experience with removals and the registry's own facts decide.
    #[default]
    Unknown,
}

impl CanUntag {
    /// Returns the word in the settings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// The authentication with a registry.
#[derive(Debug, Clone)]
pub enum Auth {
    /// None.
    Anonymous,
    /// User name and password, sent to the registry and to the token service of its challenge.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A bearer token, sent as it is.
    Token(SecretString),
    /// The credentials of `docker login` or `podman login`: these files in order of precedence, with their credential
    /// helpers.
    DockerConfig(Vec<PathBuf>),
    /// An identity of Microsoft Entra ID, whose token the registry exchanges for its own. Only for Azure registries.
    Entra(Box<azure::Credential>),
    /// An identity of AWS, whose keys sign each request. Only for Amazon ECR.
    Aws(Box<providers::AwsIdentity>),
    /// An identity of Google Cloud, which gets access tokens. Only for Artifact Registry.
    Google(Box<providers::GoogleIdentity>),
}
