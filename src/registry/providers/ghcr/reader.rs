//! Reading: packages, versions and manifests of GitHub's container registry.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use http::StatusCode;
use jiff::Timestamp;

use super::api::GhcrApi;
use super::contents;
use super::wire::Right;
use crate::domain::{
    Digest, GapTarget, InvalidName, ManifestState, Product, RegistryInfo, RemovalObstacle, Repository, RepositoryName,
    TagName, TagState, UntagEffect,
};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::{list_gaps, pagination, pull};
use crate::registry::{
    Auth, Capabilities, Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader,
    RegistrySettings, RequestCounts, ServerTime, parse_manifest,
};

/// Reads GitHub's container registry.
#[derive(Debug)]
pub(super) struct GhcrReader {
    pub(super) api: GhcrApi,
}

impl GhcrReader {
    async fn read(
        &self,
        name: &RepositoryName,
        look_for: &BTreeSet<Digest>,
    ) -> (Repository, BTreeMap<Digest, Timestamp>) {
        match self.api.list_versions(name).await {
            Ok(rows) => contents::repository_of(name, rows, look_for),
            Err(error) => {
                let mut repository = Repository::empty(name.clone());
                repository.gaps.push(error.into_gap(GapTarget::TagList));
                (repository, BTreeMap::new())
            }
        }
    }
}

/// Returns the product, for reports on what cannot be removed.
fn product() -> Product {
    Product {
        name: "GitHub Container Registry",
        version: None,
        recognized_by: "its `kind` in the settings",
        untag: UntagEffect::Unsupported,
        consequence: "it has no deletion by tag: a package version goes with all its tags; write removal = \"manifest\" if that \
                      is meant",
    }
}

#[async_trait]
impl RegistryReader for GhcrReader {
    fn settings(&self) -> &RegistrySettings {
        &self.api.settings
    }

    fn identity(&self) -> String {
        match self.api.settings.auth {
            Auth::Basic { .. } => self.api.registry.identity(),
            _ => self.api.rest.identity(),
        }
    }

    fn request_counts(&self) -> RequestCounts {
        self.api.request_counts()
    }

    /// Those of the kind: no setting gives GitHub an untag.
    fn known_capabilities(&self) -> Capabilities {
        self.api.settings.provider.capabilities()
    }

    async fn product(&self) -> Option<Product> {
        Some(product())
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        self.api.list_repositories().await
    }

    /// By the list of versions alone. What each is, is read where a decision needs it.
    async fn repository(&self, name: &RepositoryName, look_for: &BTreeSet<Digest>, _: &dyn ContentCache) -> Repository {
        self.read(name, look_for).await.0
    }

    async fn repository_with_changes(
        &self,
        name: &RepositoryName,
        look_for: &BTreeSet<Digest>,
        _: &dyn ContentCache,
    ) -> (Repository, BTreeMap<Digest, Timestamp>) {
        self.read(name, look_for).await
    }

    async fn read_manifests(&self, repository: &mut Repository, digests: &BTreeSet<Digest>, cache: &dyn ContentCache) {
        contents::read_manifests(self, repository, digests, cache).await;
    }

    /// By the registry itself, which has a thousand on a page.
    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let (http, scope) = (&self.api.registry, TokenScope::Pull(repository.clone()));
        let url = http.url(&format!("/v2/{repository}/tags/list"));
        let first = pagination::first_page(http, &scope, &url, pull::TAGS).await?;
        if first.response.status == StatusCode::NOT_FOUND {
            // Not an absence: a token that may not see a package is answered so, too.
            return Err(first.response.error(RegistryErrorKind::Denied).with_help(Right::Read.advice()));
        }
        if first.response.status != StatusCode::OK {
            return Err(first.response.status_error());
        }
        let pages = pagination::read_all(http, &scope, first, pull::TAGS).await;
        if let Some(error) = pages.error {
            return Err(error);
        }
        let names = pages.names.iter().map(|text| {
            text.parse().map_err(|why: InvalidName| {
                let message = list_gaps::invalid_tag(text, &why).message.to_string();
                RegistryError::new(RegistryErrorKind::Malformed, message)
            })
        });
        let mut names = names.collect::<Result<Vec<TagName>, _>>()?;
        names.sort();
        Ok(names)
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        let digest = pull::resolve(&self.api.registry, repository, tag).await?;
        Ok(digest.map(|digest| TagState { digest, pushed_at: None, lock: None }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        pull::has_manifest(&self.api.registry, repository, digest).await
    }

    /// By GitHub's API: the registry may have lost what it lists, or not give it for now.
    async fn lists_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        self.api.lists_version(repository, digest).await
    }

    /// A deleted version cannot be read, and GitHub restores it.
    async fn keeps_removed(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        Ok(self.has_manifest(repository, digest).await? || self.api.is_restorable(repository, tag, digest).await?)
    }

    fn names_all_tags(&self) -> bool {
        true
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        let Some(version) = self.api.version(repository, digest).await? else { return Ok(None) };
        let tags = version.tags().iter().map(|tag| tag.parse()).collect::<Result<_, InvalidName>>();
        let tags = tags.map_err(|why| {
            let message = format!("{repository}: {digest} has a tag that cannot be understood");
            RegistryError::new(RegistryErrorKind::Malformed, message).caused_by(why)
        })?;
        Ok(Some(ManifestState { tags, lock: None, changed_at: Some(version.changed_at()) }))
    }

    /// By the registry's own list, or by the fallback tag that clients keep where it has none.
    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        let http = &self.api.registry;
        match pull::referrers(http, repository, digest).await? {
            pull::ReferrersResponse::Listed(digests, None) => return Ok(digests),
            pull::ReferrersResponse::Listed(_, Some(error)) => return Err(error),
            pull::ReferrersResponse::Unsupported => {}
        }
        let Ok(tag) = digest.to_string().replace(':', "-").parse::<TagName>() else { return Ok(Vec::new()) };
        let Some(index) = pull::resolve(http, repository, &tag).await? else { return Ok(Vec::new()) };
        let Some(raw) = pull::manifest(http, repository, &index).await? else { return Ok(Vec::new()) };
        let parsed = parse_manifest(&raw).map_err(|why| {
            let message = format!("{repository}: the referrers of {digest}, under tag {tag}, are not understood");
            RegistryError::new(RegistryErrorKind::Malformed, message).caused_by(why)
        })?;
        Ok(parsed.children.into_iter().map(|child| child.digest).collect())
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError> {
        pull::manifest(&self.api.registry, repository, digest).await
    }

    async fn configuration(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        pull::configuration(&self.api.registry, repository, digest).await
    }

    /// GitHub deletes no version by itself.
    async fn registry_info(&self) -> Result<Option<RegistryInfo>, RegistryError> {
        Ok(Some(RegistryInfo::that_keeps_untagged()))
    }

    /// By the scopes that GitHub says a classic token has; nothing is asked for that.
    async fn missing_rights(&self, repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        let scope = "delete:packages";
        if !self.api.shared.lacks_scope(scope) {
            return BTreeMap::new();
        }
        let message = format!("the token has no scope `{scope}`: {}", Right::Delete.advice());
        let denied = RemovalObstacle::Denied { message };
        repositories.iter().map(|name| (name.clone(), denied.clone())).collect()
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.api.rest.server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.api.rest.invalid_date_header()
    }
}
