//! Reading by the OCI distribution API.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use http::StatusCode;

use super::product;
use crate::domain::{
    Digest, Gap, GapTarget, ManifestState, Product, Repository, RepositoryName, Tag, TagName, TagState,
};
use crate::http_client::{MAX_ERROR_BYTES, Request, RetryPolicy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::client::manifest_graph::{ManifestReader, ReferrersApi};
use crate::registry::client::{list_gaps, pagination, pull};
use crate::registry::{
    Capabilities, Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader,
    RegistrySettings, RequestCounts, ServerTime,
};

/// Reads a registry by the distribution API.
#[derive(Debug)]
pub struct DistributionReader {
    pub(in crate::registry::providers) http: HttpConnection,
    referrers: ReferrersApi,
}

impl DistributionReader {
    /// A reader by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    pub fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        Self::with_retry_policy(settings, RetryPolicy::default())
    }

    /// The same, with another patience for what fails.
    ///
    /// # Errors
    /// As [`DistributionReader::new`].
    pub fn with_retry_policy(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        Ok(Self { http: HttpConnection::new(settings, retry_policy)?, referrers: ReferrersApi::default() })
    }

    /// The tag list, as far as it could be read.
    async fn tag_names(&self, name: &RepositoryName) -> Result<(Vec<TagName>, Vec<Gap>), RegistryError> {
        // The catalogue lists repositories for a while after their last tag has gone.
        Ok(self.list_tags(name).await?.unwrap_or_default())
    }

    /// The tags of a repository, or `None` where the registry says that it does not know it.
    ///
    /// # Errors
    /// When the first page could not be read; later failures are gaps.
    pub(in crate::registry::providers) async fn list_tags(
        &self,
        name: &RepositoryName,
    ) -> Result<Option<(Vec<TagName>, Vec<Gap>)>, RegistryError> {
        let scope = TokenScope::Pull(name.clone());
        let url = self.http.url(&format!("/v2/{name}/tags/list"));
        let first = pagination::first_page(&self.http, &scope, &url, pull::TAGS).await?;
        let unknown = first.response.status == StatusCode::NOT_FOUND
            && first.response.error_code().as_deref() == Some("NAME_UNKNOWN");
        if unknown && self.http.settings.repositories.is_empty() {
            return Ok(None);
        }
        if unknown {
            let help = "it stands in the registry's `repositories`: is it spelled right?";
            return Err(first.response.status_error().with_help(help));
        }
        if first.response.status != StatusCode::OK {
            return Err(first.response.status_error());
        }
        let pages = pagination::read_all(&self.http, &scope, first, pull::TAGS).await;
        let mut gaps: Vec<Gap> = pages.error.into_iter().map(|error| error.into_gap(GapTarget::TagList)).collect();
        let mut tags = Vec::with_capacity(pages.names.len());
        for text in pages.names {
            match text.parse() {
                Ok(tag) => tags.push(tag),
                Err(error) => gaps.push(list_gaps::invalid_tag(&text, &error)),
            }
        }
        Ok(Some((tags, gaps)))
    }

    /// Asks for the list again where it named tags that the registry then did not know: those that still stand in it are
    /// there without a manifest, and the others were removed meanwhile.
    async fn recheck_vanished_tags(&self, repository: &mut Repository) {
        let vanished = |gap: &Gap| matches!(gap.target, GapTarget::VanishedTag(_));
        if !repository.gaps.iter().any(vanished) {
            return;
        }
        let Ok((listed, _)) = self.tag_names(&repository.name).await else { return };
        let listed: BTreeSet<TagName> = listed.into_iter().collect();
        for gap in repository.gaps.iter_mut().filter(|gap| vanished(gap)) {
            if let GapTarget::VanishedTag(tag) = &gap.target
                && listed.contains(tag)
            {
                *gap = list_gaps::missing_manifest(&repository.name, tag);
            }
        }
    }

    async fn read_tag(&self, repository: &RepositoryName, name: TagName) -> (Tag, Option<Gap>) {
        let (digest, gap) = match pull::resolve(&self.http, repository, &name).await {
            Ok(Some(digest)) => (Some(digest), None),
            Ok(None) => (None, Some(list_gaps::vanished_tag(repository, &name))),
            Err(error) => (None, Some(error.into_gap(GapTarget::Tag(name.clone())))),
        };
        (Tag { name, digest, pushed_at: None, first_seen: None, lock: None }, gap)
    }
}

#[async_trait]
impl RegistryReader for DistributionReader {
    fn settings(&self) -> &RegistrySettings {
        &self.http.settings
    }

    fn identity(&self) -> String {
        self.http.identity()
    }

    fn request_counts(&self) -> RequestCounts {
        self.http.request_counts()
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.http.server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.http.invalid_date_header()
    }

    /// The first question for referrers tells whether the registry has the API for them.
    fn known_capabilities(&self) -> Capabilities {
        let settings = &self.http.settings;
        Capabilities { referrers: self.referrers.support(), ..settings.provider.capabilities().with_settings(settings) }
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        let listed = &self.http.settings.repositories;
        if !listed.is_empty() {
            return Ok(Catalogue { repositories: listed.clone(), gaps: Vec::new() });
        }
        let help = "many registries do not list their repositories: name them in the registry's `repositories`";
        pull::catalogue(&self.http, help).await
    }

    /// What no tag leads to is not listed by this API, so there is nothing to look for.
    async fn repository(&self, name: &RepositoryName, _: &BTreeSet<Digest>, cache: &dyn ContentCache) -> Repository {
        let mut repository = Repository::empty(name.clone());
        let names = match self.tag_names(name).await {
            Ok((names, gaps)) => {
                repository.gaps = gaps;
                names
            }
            Err(error) => {
                repository.gaps.push(error.into_gap(GapTarget::TagList));
                return repository;
            }
        };
        repository.tags.reserve_exact(names.len());
        let mut read = stream::iter(names)
            .map(|tag| self.read_tag(name, tag))
            .buffer_unordered(self.http.settings.concurrency.max(1));
        while let Some((tag, gap)) = read.next().await {
            repository.tags.push(tag);
            repository.gaps.extend(gap);
        }
        drop(read);
        self.recheck_vanished_tags(&mut repository).await;
        let tagged: BTreeSet<Digest> = repository.tags.iter().filter_map(|tag| tag.digest.clone()).collect();
        let reading = ManifestReader { http: &self.http, referrers: &self.referrers, repository: name, cache };
        let contents = reading.read_graph(tagged).await;
        (repository.manifests, repository.artifact_types) = (contents.manifests, contents.artifact_types);
        repository.gaps.extend(contents.gaps);
        repository.tags.sort_by(|a, b| a.name.cmp(&b.name));
        list_gaps::drop_missing_manifests(self, &mut repository, contents.missing).await;
        repository
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let Some((mut names, gaps)) = self.list_tags(repository).await? else {
            let message = format!("registry `{}` knows no repository {repository}", self.http.settings.name);
            return Err(RegistryError::new(RegistryErrorKind::NotFound, message));
        };
        if let Some(gap) = gaps.into_iter().find(Gap::may_hide_tag) {
            return Err(RegistryError::new(RegistryErrorKind::Malformed, gap.message.to_string()));
        }
        names.sort();
        Ok(names)
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        let digest = pull::resolve(&self.http, repository, tag).await?;
        Ok(digest.map(|digest| TagState { digest, pushed_at: None, lock: None }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        pull::has_manifest(&self.http, repository, digest).await
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        Err(RegistryError::new(
            RegistryErrorKind::Unsupported,
            format!(
                "registry `{}` speaks the distribution API, which has no question for the tags of a manifest, so it is \
                 not known whether a tag names {digest} of {repository}",
                self.http.settings.name
            ),
        ))
    }

    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        pull::all_referrers(&self.http, repository, digest).await
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError> {
        pull::manifest(&self.http, repository, digest).await
    }

    async fn configuration(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        pull::configuration(&self.http, repository, digest).await
    }

    /// One GET of `/v2/` without credentials, whose refusal tells most, and where that does not tell one of the list of
    /// extensions, which zot has. Nothing where the host tells it.
    async fn product(&self) -> Option<Product> {
        if let Some(product) = product::detect_by_host(&self.http.settings.endpoint) {
            return Some(product);
        }
        if let Some(product) = product::detect_by_response(&self.http.get_anonymously("/v2/").await.ok()?) {
            return Some(product);
        }
        let request = Request::optional(self.http.url(product::EXTENSIONS_PATH), "application/json", MAX_ERROR_BYTES);
        let response = self.http.read(&TokenScope::Catalogue, request, RedirectPolicy::SameOrigin).await.ok()?;
        product::detect_by_extensions(&response)
    }
}
