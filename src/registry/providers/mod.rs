//! The registry products: one folder each, with everything that is known of the product, and one table of all.

mod acr;
mod distribution;
mod settings;
mod shell;

use std::fmt::Debug;
use std::sync::Arc;

use super::authenticator::Authenticator;
use super::{RegistryError, RegistryReader, RegistrySettings, RegistryWriter};
use crate::domain::{Registry, Removal};
use crate::http_client::RetryPolicy;

pub use acr::{Acr, AcrReader, AcrWriter, RegistryResource, registry_info, storage_usage};
pub use distribution::{Distribution, DistributionReader, DistributionWriter};
pub use settings::{SettingProblem, SettingsDraft};

/// All products: the only list that a new one is added to.
pub const PROVIDERS: &[&dyn Provider] = &[&Acr, &Distribution];

/// Returns the product that settings and reports call by that name, if Tagwarden knows it.
#[must_use]
pub fn provider(name: &str) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.name() == name)
}

/// A registry product.
pub trait Provider: Send + Sync + Debug {
    /// Returns the product's `kind` in settings and reports, for example `acr`.
    fn name(&self) -> &'static str;

    /// Returns the requests in flight at once, unless the settings say otherwise.
    fn default_concurrency(&self) -> usize {
        8
    }

    /// Returns the abilities of the product's API, whatever an identity may do there.
    fn capabilities(&self) -> Capabilities;

    /// Returns the settings that the product refuses. By default those are the ones of Azure.
    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        acr::refuse_azure_settings(draft)
    }

    /// Returns what a person should know of valid settings.
    fn warnings(&self, _settings: &RegistrySettings) -> Vec<String> {
        Vec::new()
    }

    /// Makes the way to sign in: by the challenge of the registry, unless the product has its own.
    fn authenticator(&self, settings: &RegistrySettings, _retry: RetryPolicy) -> Authenticator {
        Authenticator::by_challenge(settings)
    }

    /// Makes a reader. Nothing is sent yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    fn reader(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<Arc<dyn RegistryReader>, RegistryError>;

    /// Makes a writer. Nothing is sent yet.
    ///
    /// # Errors
    /// As [`Provider::reader`].
    fn writer(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<Arc<dyn RegistryWriter>, RegistryError>;

    /// Returns the commands that show a removal's tag and manifest by hand, for a POSIX shell. They only read.
    fn verify_commands(&self, registry: &Registry, removal: &Removal) -> Vec<String> {
        shell::skopeo_commands(registry, removal)
    }

    /// Returns the product's own tool for [`Provider::verify_commands`], or `None` if any tool for registries does.
    fn verify_tool(&self) -> Option<VerifyTool> {
        None
    }

    /// Returns the remark on a registry whose own settings were not asked for, or `None` if the product has none.
    fn missing_info(&self) -> Option<&'static str> {
        None
    }
}

/// A command-line tool of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyTool {
    /// The command that it is started by.
    pub command: &'static str,
    /// The introduction to its commands in a report.
    pub introduction: &'static str,
}

/// The abilities of a product's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Lists manifests that have no tag. Only then can it be known that no index holds one.
    pub lists_untagged: Support,
    /// Lists the tags that name a manifest.
    pub tags_of_manifest: Support,
    /// Has the time at which a tag was pushed.
    pub push_times: Support,
    /// Has the time at which an image was last pulled.
    pub pull_times: Support,
    /// Has locks of tags and manifests.
    pub locks: Support,
    /// Lists what refers to a manifest.
    pub referrers: Support,
    /// Removes a tag only if it still names a given digest.
    pub digest_in_removal: Support,
    /// Shows the rights of an identity without a removal.
    pub rights: Support,
    /// Answers from replicas, which may lag behind.
    pub replicas: Support,
    /// The effect of the removal of a tag.
    pub untag: UntagSupport,
    /// The largest number of tags in one removal request.
    pub batch: usize,
}

impl Capabilities {
    /// Nothing known but single removals.
    pub const UNKNOWN: Self = Self {
        lists_untagged: Support::Unknown,
        tags_of_manifest: Support::Unknown,
        push_times: Support::Unknown,
        pull_times: Support::Unknown,
        locks: Support::Unknown,
        referrers: Support::Unknown,
        digest_in_removal: Support::Unknown,
        rights: Support::Unknown,
        replicas: Support::Unknown,
        untag: UntagSupport::Unknown,
        batch: 1,
    };
}

/// An answer to whether an API can do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// That depends on the registry behind the API.
    Unknown,
}

impl Support {
    /// Returns true only if it is known that the API can do it.
    #[must_use]
    pub fn is_certain(self) -> bool {
        self == Self::Yes
    }
}

/// The effect of the removal of a tag by a product's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntagSupport {
    /// The tag alone is removed.
    Native,
    /// The removal of a manifest's last tag deletes the manifest.
    DeletesLast,
    /// The API has no removal of a tag alone.
    Unsupported,
    /// That depends on the registry behind the API.
    Unknown,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_product_has_a_name_of_its_own_and_is_found_by_it() {
        let names: BTreeSet<&str> = PROVIDERS.iter().map(|provider| provider.name()).collect();
        assert_eq!(names.len(), PROVIDERS.len(), "{names:?}");
        for provider in PROVIDERS {
            let name = provider.name();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
            assert_eq!(super::provider(name).map(Provider::name), Some(name));
            assert!((1..=256).contains(&provider.default_concurrency()), "{name}");
            assert!(provider.capabilities().batch >= 1, "{name}");
        }
        assert!(super::provider("made-up").is_none());
    }
}
