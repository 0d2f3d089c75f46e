//! The distribution dialect: the OCI distribution API, as most registries speak it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use http::StatusCode;

use super::auth::Grant;
use super::contents::{Reading, ReferrersApi};
use super::http::{Redirects, RegistryHttp};
use super::{
    Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings, Requests,
    ServerTime, odd, paging, product, pull,
};
use crate::domain::{Digest, Gap, GapAt, ManifestNow, Product, Repository, RepositoryName, Tag, TagName, TagNow};
use crate::transport::{Ask, ERROR_LIMIT, Patience};

/// Reads a registry by the distribution API.
#[derive(Debug)]
pub struct DistributionReader {
    http: RegistryHttp,
    referrers: ReferrersApi,
}

impl DistributionReader {
    /// A reader by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    pub fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        Self::with_patience(settings, Patience::default())
    }

    /// The same, with another patience for what fails.
    ///
    /// # Errors
    /// As [`DistributionReader::new`].
    pub fn with_patience(settings: RegistrySettings, patience: Patience) -> Result<Self, RegistryError> {
        Ok(Self { http: RegistryHttp::new(settings, patience)?, referrers: ReferrersApi::default() })
    }

    /// The tag list, as far as it could be read.
    async fn tag_names(&self, name: &RepositoryName) -> Result<(Vec<TagName>, Vec<Gap>), RegistryError> {
        // The catalogue lists repositories for a while after their last tag has gone.
        Ok(self.listed_tags(name).await?.unwrap_or_default())
    }

    /// The tags of a repository, or `None` where the registry says that it does not know it.
    async fn listed_tags(&self, name: &RepositoryName) -> Result<Option<(Vec<TagName>, Vec<Gap>)>, RegistryError> {
        let grant = Grant::Pull(name.clone());
        let url = self.http.url(&format!("/v2/{name}/tags/list"));
        let first = paging::first(&self.http, &grant, &url, pull::TAGS).await?;
        let unknown =
            first.answer.status == StatusCode::NOT_FOUND && first.answer.code().as_deref() == Some("NAME_UNKNOWN");
        if unknown && self.http.settings.repositories.is_empty() {
            return Ok(None);
        }
        if unknown {
            let mut error = first.answer.refusal();
            error.message.push_str("; it stands in the registry's `repositories`: is it spelled right?");
            return Err(error);
        }
        if first.answer.status != StatusCode::OK {
            return Err(first.answer.refusal());
        }
        let pages = paging::all(&self.http, &grant, first, pull::TAGS).await;
        let mut gaps: Vec<Gap> = pages.trouble.into_iter().map(|error| error.gap(GapAt::TagList)).collect();
        let mut tags = Vec::with_capacity(pages.names.len());
        for text in pages.names {
            match text.parse() {
                Ok(tag) => tags.push(tag),
                Err(error) => gaps.push(odd::tag(&text, &error)),
            }
        }
        Ok(Some((tags, gaps)))
    }

    /// Asks for the list again where it named tags that the registry then did not know: those that still stand in it are
    /// there without a manifest, and the others were removed meanwhile.
    async fn look_for_vanished(&self, repository: &mut Repository) {
        let vanished = |gap: &Gap| matches!(gap.at, GapAt::VanishedTag(_));
        if !repository.gaps.iter().any(vanished) {
            return;
        }
        let Ok((listed, _)) = self.tag_names(&repository.name).await else { return };
        let listed: BTreeSet<TagName> = listed.into_iter().collect();
        for gap in repository.gaps.iter_mut().filter(|gap| vanished(gap)) {
            if let GapAt::VanishedTag(tag) = &gap.at
                && listed.contains(tag)
            {
                *gap = odd::dangling(&repository.name, tag);
            }
        }
    }

    async fn tag(&self, repository: &RepositoryName, name: TagName) -> (Tag, Option<Gap>) {
        let (digest, gap) = match pull::resolve(&self.http, repository, &name).await {
            Ok(Some(digest)) => (Some(digest), None),
            Ok(None) => (None, Some(odd::vanished(repository, &name))),
            Err(error) => (None, Some(error.gap(GapAt::Tag(name.clone())))),
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

    fn requests(&self) -> Requests {
        self.http.requests()
    }

    fn clock(&self) -> Option<ServerTime> {
        self.http.clock()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.http.invalid_date_header()
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        let listed = &self.http.settings.repositories;
        if !listed.is_empty() {
            return Ok(Catalogue { repositories: listed.clone(), gaps: Vec::new() });
        }
        let url = self.http.url("/v2/_catalog");
        let first = paging::first(&self.http, &Grant::Catalogue, &url, pull::CATALOGUE).await?;
        if first.answer.status != StatusCode::OK {
            let mut error = first.answer.refusal();
            if matches!(first.answer.status.as_u16(), 401 | 403 | 404 | 405) {
                error.message.push_str(
                    "; many registries do not list their repositories: name them in the registry's `repositories`",
                );
            }
            return Err(error);
        }
        let pages = paging::all(&self.http, &Grant::Catalogue, first, pull::CATALOGUE).await;
        if let (0, Some(error)) = (pages.read, &pages.trouble) {
            return Err(error.clone());
        }
        let mut catalogue = Catalogue::default();
        catalogue.gaps.extend(pages.trouble.map(|error| error.gap(GapAt::Catalogue)));
        for text in pages.names {
            match text.parse() {
                Ok(name) => catalogue.repositories.push(name),
                Err(error) => catalogue.gaps.push(odd::repository(&text, &error)),
            }
        }
        Ok(catalogue)
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
                repository.gaps.push(error.gap(GapAt::TagList));
                return repository;
            }
        };
        repository.tags.reserve_exact(names.len());
        let mut read =
            stream::iter(names).map(|tag| self.tag(name, tag)).buffer_unordered(self.http.settings.concurrency.max(1));
        while let Some((tag, gap)) = read.next().await {
            repository.tags.push(tag);
            repository.gaps.extend(gap);
        }
        drop(read);
        self.look_for_vanished(&mut repository).await;
        let tagged: BTreeSet<Digest> = repository.tags.iter().filter_map(|tag| tag.digest.clone()).collect();
        let reading = Reading { http: &self.http, referrers: &self.referrers, repository: name, cache };
        let contents = reading.contents(tagged).await;
        repository.manifests = contents.manifests;
        repository.gaps.extend(contents.gaps);
        odd::without_manifest(self, &mut repository, &contents.missing).await;
        repository.tags.sort_by(|a, b| a.name.cmp(&b.name));
        repository.gaps.sort();
        repository
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let Some((mut names, gaps)) = self.listed_tags(repository).await? else {
            let message = format!("registry `{}` knows no repository {repository}", self.http.settings.name);
            return Err(RegistryError { kind: RegistryErrorKind::NotFound, message });
        };
        if let Some(gap) = gaps.into_iter().find(Gap::hides_a_tag) {
            return Err(RegistryError { kind: RegistryErrorKind::Malformed, message: gap.message.to_string() });
        }
        names.sort();
        Ok(names)
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagNow>, RegistryError> {
        let digest = pull::resolve(&self.http, repository, tag).await?;
        Ok(digest.map(|digest| TagNow { digest, pushed_at: None, lock: None }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        pull::has_manifest(&self.http, repository, digest).await
    }

    async fn manifest_now(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestNow>, RegistryError> {
        Err(RegistryError {
            kind: RegistryErrorKind::Unsupported,
            message: format!(
                "registry `{}` speaks the distribution API, which has no question for the tags of a manifest, so it is \
                 not known whether a tag names {digest} of {repository}",
                self.http.settings.name
            ),
        })
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

    /// One GET of `/v2/` without credentials, whose refusal tells most, and where that does not tell one of the list of
    /// extensions, which zot has. Nothing where the host tells it.
    async fn product(&self) -> Option<Product> {
        if let Some(product) = product::of_host(&self.http.settings.endpoint) {
            return Some(product);
        }
        if let Some(product) = product::of_answer(&self.http.stranger("/v2/").await.ok()?) {
            return Some(product);
        }
        let ask = Ask::optional(self.http.url(product::EXTENSIONS), "application/json", ERROR_LIMIT);
        let answer = self.http.read(&Grant::Catalogue, ask, Redirects::Registry).await.ok()?;
        product::of_extensions(&answer)
    }
}

impl RegistryError {
    /// The gap that this failure leaves.
    pub(super) fn gap(self, at: GapAt) -> Gap {
        Gap { at, kind: self.kind.label(), message: Arc::from(self.message) }
    }
}
