//! The registry products: one folder each, with everything that is known of the product, and one table of all.

mod acr;
mod artifact_registry;
mod artifactory;
mod capabilities;
mod distribution;
mod docker_hub;
mod ecr;
mod ghcr;
mod gitlab;
mod harbor;
mod keyed_images;
mod keyed_reader;
mod nexus;
mod quay;
mod recognition;
mod settings;
mod shell;
mod zot;

use std::fmt::Debug;
use std::time::Duration;

use super::client::authenticator::Authenticator;
use super::{RegistryConnection, RegistryError, RegistrySettings};
use crate::domain::{Product, Registry, Removal, RemovalMethod};
use crate::http_client::RetryPolicy;

pub use acr::{Acr, AcrReader, RegistryResource, registry_info, storage_usage};
pub use artifact_registry::{ArtifactRegistry, FederatedIdentity, GoogleIdentity};
pub use artifactory::Artifactory;
pub use capabilities::{Capabilities, ReferrersSupport, Support, UntagSupport};
pub use distribution::{Distribution, DistributionReader};
pub use docker_hub::DockerHub;
pub use ecr::{AwsIdentity, ContainerToken, Ecr};
pub use ghcr::Ghcr;
pub use gitlab::Gitlab;
pub use harbor::Harbor;
pub use nexus::Nexus;
pub use quay::Quay;
pub use recognition::{FirstAnswer, ProductMatch};
pub use settings::{ProductApi, SettingProblem, SettingsDraft};
pub use zot::Zot;

/// All products: the only list that a new one is added to.
pub const PROVIDERS: &[&dyn Provider] = &[
    &Acr,
    &ArtifactRegistry,
    &Artifactory,
    &Distribution,
    &DockerHub,
    &Ecr,
    &Ghcr,
    &Gitlab,
    &Harbor,
    &Nexus,
    &Quay,
    &Zot,
];

/// Returns the product that settings and reports call by that name, if Tagwarden knows it.
#[must_use]
pub fn provider(name: &str) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.name() == name)
}

/// Other names that people write for a product, and its name here.
const OTHER_NAMES: [(&str, &str); 15] = [
    ("aws", "ecr"),
    ("amazon", "ecr"),
    ("azure", "acr"),
    ("azurecr", "acr"),
    ("docker", "distribution"),
    ("docker-registry", "distribution"),
    ("dockerhub", "docker-hub"),
    ("gar", "artifact-registry"),
    ("gcr", "artifact-registry"),
    ("github", "ghcr"),
    ("google", "artifact-registry"),
    ("jfrog", "artifactory"),
    ("oci", "distribution"),
    ("registry", "distribution"),
    ("sonatype", "nexus"),
];

/// Returns the name of the product that people call otherwise, such as `acr` for `azure`.
#[must_use]
pub fn kind_called(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase();
    OTHER_NAMES.iter().find(|(other, _)| *other == word).map(|(_, name)| *name)
}

/// The product of a registry, and the `kind` for it that this version has.
#[derive(Debug, Clone)]
pub struct Recognition {
    /// The product, if some sign tells it.
    pub product: Option<Product>,
    /// The provider that does most for it today.
    pub provider: &'static dyn Provider,
    /// Whether the provider recognised a sign of its own.
    pub is_certain: bool,
}

/// Recognizes a registry; `None` where nothing tells what it is.
#[must_use]
pub fn recognize(answer: &FirstAnswer, providers: &[&'static dyn Provider]) -> Option<Recognition> {
    let matches = providers.iter().map(|provider| (provider.recognize(answer), *provider));
    // The first of several by the order of the table.
    let (found, provider) = matches.rev().max_by_key(|(found, _)| *found)?;
    let product = answer.product();
    match found {
        ProductMatch::Mine => Some(Recognition { product, provider, is_certain: true }),
        ProductMatch::Maybe => Some(Recognition { product, provider, is_certain: false }),
        ProductMatch::NotMine => None,
    }
}

/// Returns the right kind of a registry that settings give a wrong one: by a sign that belongs to another product.
/// `distribution` is never wrong: any product may be read by the OCI API alone.
#[must_use]
pub fn correct_kind(
    configured: &dyn Provider,
    answer: &FirstAnswer,
    providers: &[&'static dyn Provider],
) -> Option<Recognition> {
    let is_sure = |found: &Recognition| found.is_certain || found.product.is_some();
    let found = recognize(answer, providers).filter(is_sure)?;
    let wrong = configured.name() != Distribution.name() && configured.recognize(answer) == ProductMatch::NotMine;
    (wrong && found.provider.name() != configured.name()).then_some(found)
}

/// Returns the names of all products.
#[must_use]
pub fn kinds() -> Vec<&'static str> {
    PROVIDERS.iter().map(|provider| provider.name()).collect()
}

/// A registry product.
pub trait Provider: Send + Sync + Debug {
    /// Returns the product's `kind` in settings and reports, for example `acr`.
    fn name(&self) -> &'static str;

    /// Returns the requests in flight at once, unless the settings say otherwise.
    fn default_concurrency(&self) -> usize {
        8
    }

    /// Returns the capabilities of the kind, before a registry of it is asked. Those of one registry come from its
    /// connection.
    fn capabilities(&self) -> Capabilities;

    /// Returns true if image configurations can be read, see
    /// [`RegistryReader::configuration`](crate::registry::RegistryReader::configuration).
    fn reads_configurations(&self) -> bool {
        true
    }

    /// Returns whether a registry is one of this product's, by its address and its first answer. By default a product
    /// claims the registries whose signs [`FirstAnswer::product`] knows under its name.
    fn recognize(&self, answer: &FirstAnswer) -> ProductMatch {
        if answer.product_kind() == Some(self.name()) { ProductMatch::Mine } else { ProductMatch::NotMine }
    }

    /// Returns the settings that the product refuses. By default those are the ones of Azure, of Quay and of GitLab.
    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        let mut problems = acr::refuse_azure_settings(draft);
        problems.extend(settings::refuse_product_settings(draft));
        problems
    }

    /// Returns the reason for which Tagwarden only reads the product, or `None` if it also removes there. Then every removal
    /// is refused, whatever settings and experience say, and the connection has no writer.
    fn read_only_reason(&self) -> Option<&'static str> {
        None
    }

    /// Returns the time for which the product itself puts back what a deletion took, or `None` if it does not.
    fn deletion_undo(&self) -> Option<Duration> {
        None
    }

    /// Describes a removal in this product for plans, or returns `None` where the name of the method says it all.
    fn describe_removal(&self, _method: RemovalMethod) -> Option<&'static str> {
        None
    }

    /// Returns what a person should know of valid settings.
    fn warnings(&self, _settings: &RegistrySettings) -> Vec<String> {
        Vec::new()
    }

    /// Makes the way to sign in: by the challenge of the registry, unless the product has its own.
    fn authenticator(&self, settings: &RegistrySettings, _retry: RetryPolicy) -> Authenticator {
        Authenticator::by_challenge(settings)
    }

    /// Opens the one connection that reader and writer of a registry share. Nothing is sent yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError>;

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
