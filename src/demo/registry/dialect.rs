//! The dialects that a registry may speak.

use super::{
    AcrOptions, ArtifactRegistryOptions, DockerHubOptions, EcrOptions, GhcrOptions, GitlabOptions, HarborOptions,
    QuayOptions, ZotOptions,
};

/// The dialect of a registry.
#[derive(Debug, Clone, Default)]
pub enum Dialect {
    /// The OCI distribution specification, with the responses of distribution.
    #[default]
    Distribution,
    /// The same, with the API of Azure Container Registry.
    Acr(Box<AcrOptions>),
    /// The API of Google Artifact Registry, and the registry API for manifests.
    ArtifactRegistry(Box<ArtifactRegistryOptions>),
    /// The API of Docker Hub, and its registry at the same address.
    DockerHub(Box<DockerHubOptions>),
    /// The API of Amazon ECR alone.
    Ecr(Box<EcrOptions>),
    /// GitHub's container registry, with GitHub's REST API for packages.
    Ghcr(Box<GhcrOptions>),
    /// GitLab's container registry with its own API, and so much of GitLab itself as signing in and its REST API need.
    Gitlab(Box<GitlabOptions>),
    /// The API of Harbor, and its registry API beside it.
    Harbor(Box<HarborOptions>),
    /// The API of Quay alone; nothing can be pushed.
    Quay(Box<QuayOptions>),
    /// The API of zot, with its search extension.
    Zot(Box<ZotOptions>),
}

impl Dialect {
    /// Returns the dialect of Azure Container Registry.
    #[must_use]
    pub fn acr(options: AcrOptions) -> Self {
        Self::Acr(Box::new(options))
    }

    /// The dialect of Google Artifact Registry.
    #[must_use]
    pub fn artifact_registry(options: ArtifactRegistryOptions) -> Self {
        Self::ArtifactRegistry(Box::new(options))
    }

    /// The dialect of Docker Hub.
    #[must_use]
    pub fn docker_hub(options: DockerHubOptions) -> Self {
        Self::DockerHub(Box::new(options))
    }

    /// The dialect of Amazon ECR.
    #[must_use]
    pub fn ecr(options: EcrOptions) -> Self {
        Self::Ecr(Box::new(options))
    }

    /// The dialect of GitHub's container registry.
    #[must_use]
    pub fn ghcr(options: GhcrOptions) -> Self {
        Self::Ghcr(Box::new(options))
    }

    /// The dialect of GitLab's container registry.
    #[must_use]
    pub fn gitlab(options: GitlabOptions) -> Self {
        Self::Gitlab(Box::new(options))
    }

    /// The dialect of Harbor.
    #[must_use]
    pub fn harbor(options: HarborOptions) -> Self {
        Self::Harbor(Box::new(options))
    }

    /// The dialect of Quay.
    #[must_use]
    pub fn quay(options: QuayOptions) -> Self {
        Self::Quay(Box::new(options))
    }

    /// The dialect of zot.
    #[must_use]
    pub fn zot(options: ZotOptions) -> Self {
        Self::Zot(Box::new(options))
    }
}
