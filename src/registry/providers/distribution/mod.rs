//! The OCI distribution API: distribution, zot, Harbor's registry, and most others.

pub(super) mod product;
mod reader;
mod writer;

use std::sync::Arc;

use super::acr::is_azure_host;
use super::{Capabilities, FirstAnswer, ProductMatch, Provider, Support};
use crate::http_client::RetryPolicy;
use crate::registry::{RegistryConnection, RegistryError, RegistrySettings};

pub use reader::DistributionReader;
use writer::DistributionWriter;

/// Any registry, by the OCI distribution API alone.
#[derive(Debug, Clone, Copy)]
pub struct Distribution;

impl Provider for Distribution {
    fn name(&self) -> &'static str {
        "distribution"
    }

    /// The specification leaves open whether a deletion by tag is possible, and what becomes of the manifest.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::No,
            tags_of_manifest: Support::No,
            push_times: Support::No,
            pull_times: Support::No,
            locks: Support::No,
            digest_in_removal: Support::No,
            rights: Support::No,
            ..Capabilities::UNKNOWN
        }
    }

    /// Any registry may be read by the OCI API, known products included: they do more by their own, if there is a provider.
    fn recognize(&self, answer: &FirstAnswer) -> ProductMatch {
        let known = answer.product().is_some();
        if known || answer.is_registry() { ProductMatch::Maybe } else { ProductMatch::NotMine }
    }

    fn warnings(&self, settings: &RegistrySettings) -> Vec<String> {
        if settings.endpoint.host_str() == Some("quay.io") {
            return vec![format!(
                "registry `{}` is Quay: with kind = \"distribution\" neither its push times nor immutable tags are read, \
                 and its time machine is not known; with an OAuth access token, write kind = \"quay\"",
                settings.name
            )];
        }
        if settings.endpoint.host_str() == Some("registry.gitlab.com") {
            return vec![format!(
                "registry `{}` is GitLab's: with kind = \"distribution\" neither its push times nor protected tags are read; \
                 write kind = \"gitlab\"",
                settings.name
            )];
        }
        if !is_azure_host(&settings.endpoint) {
            return Vec::new();
        }
        vec![format!(
            "registry `{}` is an Azure Container Registry: with kind = \"distribution\" the times of its pushes and its \
             locks are not read, and nothing can be untagged; write kind = \"acr\"",
            settings.name
        )]
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        let reader = DistributionReader::with_retry_policy(settings, retry)?;
        let writer = DistributionWriter { http: reader.http.for_writer() };
        Ok(RegistryConnection::new(Arc::new(reader), Arc::new(writer)))
    }
}
