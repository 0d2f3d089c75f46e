//! The distribution dialect: the OCI distribution API, as most registries speak it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use http::StatusCode;
use uuid::Uuid;

use super::auth::Grant;
use super::contents::{Reading, ReferrersApi};
use super::http::RegistryHttp;
use super::{
    Ability, Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings,
    Requests, paging, pull,
};
use crate::domain::{
    Digest, Gap, GapAt, InvalidName, ManifestNow, RemovalAbility, RemovalMethod, RemovalObstacle, Repository,
    RepositoryName, Tag, TagName, TagNow,
};
use crate::transport::{Ask, Patience};

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
        let grant = Grant::Pull(name.clone());
        let url = self.http.url(&format!("/v2/{name}/tags/list"));
        let first = paging::first(&self.http, &grant, &url, pull::TAGS).await?;
        let unknown =
            first.answer.status == StatusCode::NOT_FOUND && first.answer.code().as_deref() == Some("NAME_UNKNOWN");
        if unknown && self.http.settings.repositories.is_empty() {
            // The catalogue lists repositories for a while after their last tag has gone.
            return Ok((Vec::new(), Vec::new()));
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
                Err(error) => gaps.push(invalid(&url, &error).gap(GapAt::TagList)),
            }
        }
        Ok((tags, gaps))
    }

    async fn tag(&self, repository: &RepositoryName, name: TagName) -> (Tag, Option<Gap>) {
        let (digest, gap) = match pull::resolve(&self.http, repository, &name).await {
            Ok(Some(digest)) => (Some(digest), None),
            Ok(None) => {
                let error = RegistryError {
                    kind: RegistryErrorKind::NotFound,
                    message: format!(
                        "{repository}:{name} is in the list of tags, but the registry does not know it any more"
                    ),
                };
                (None, Some(error.gap(GapAt::VanishedTag(name.clone()))))
            }
            Err(error) => (None, Some(error.gap(GapAt::Tag(name.clone())))),
        };
        (Tag { name, digest, pushed_at: None, first_seen: None, lock: None }, gap)
    }

    /// Asks to delete `reference`, which must be one that cannot exist, and gives the status.
    async fn probe(&self, repository: &RepositoryName, reference: &str) -> Result<StatusCode, RegistryError> {
        let url = self.http.url(&format!("/v2/{repository}/manifests/{reference}"));
        let answer = self.http.send(&Grant::Delete(repository.clone()), &Ask::probe(url)).await?;
        match answer.status.as_u16() {
            // Some registries take any deletion for done, existing or not.
            200 | 202 | 204 | 404 | 400 | 405 | 401 | 403 => Ok(answer.status),
            _ => Err(answer.refusal()),
        }
    }

    async fn ability(&self, repository: &RepositoryName) -> Result<RemovalAbility, RegistryError> {
        let random = Uuid::now_v7().simple().to_string();
        let by_digest = Digest::of(random.as_bytes()).to_string();
        let obstacle = match self.http.settings.removal {
            RemovalMethod::Untag => {
                let by_tag = self.probe(repository, &format!("tagwarden-probe-{random}")).await?;
                match by_tag.as_u16() {
                    // A 405 can mean that nothing may be deleted or that tags may not, whatever its code says: ask about
                    // a digest as well, to tell a person the right thing to change.
                    400 | 405 => match self.probe(repository, &by_digest).await?.as_u16() {
                        400 | 405 => RemovalObstacle::DeletesDisabled,
                        _ => RemovalObstacle::NoUntag,
                    },
                    401 | 403 => denied(),
                    _ => return Ok(RemovalAbility::Able),
                }
            }
            RemovalMethod::DeleteManifest => match self.probe(repository, &by_digest).await?.as_u16() {
                400 | 405 => RemovalObstacle::DeletesDisabled,
                401 | 403 => denied(),
                _ => return Ok(RemovalAbility::Able),
            },
        };
        Ok(RemovalAbility::Impossible(obstacle))
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
                Err(error) => catalogue.gaps.push(invalid(&url, &error).gap(GapAt::Catalogue)),
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
        let tagged: BTreeSet<Digest> = repository.tags.iter().filter_map(|tag| tag.digest.clone()).collect();
        let reading = Reading { http: &self.http, referrers: &self.referrers, repository: name, cache };
        let contents = reading.contents(tagged).await;
        repository.manifests = contents.manifests;
        repository.gaps.extend(contents.gaps);
        repository.tags.sort_by(|a, b| a.name.cmp(&b.name));
        repository.gaps.sort();
        repository
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let (mut names, gaps) = self.tag_names(repository).await?;
        if let Some(gap) = gaps.into_iter().next() {
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

    /// Asks to delete what cannot exist, and reads the refusal.
    ///
    /// Harmless, because there is nothing that the request could name: the tag is a UUID drawn for this one question
    /// (74 random bits beside the time) behind a prefix that nobody pushes, and the digest is the SHA-256 of such a UUID,
    /// content that nobody stored. A registry that does delete by tag finds no such tag; one that cannot says so before
    /// it looks; and no registry has a deletion by pattern or prefix that the name could trigger.
    async fn removal_ability(&self, repositories: &[RepositoryName]) -> Ability {
        let Some(repository) = repositories.first() else { return RemovalAbility::NotAsked.into() };
        let ability = match self.ability(repository).await {
            Ok(ability) => ability,
            Err(error) if error.kind == RegistryErrorKind::Denied => RemovalAbility::Impossible(denied()),
            Err(error) => RemovalAbility::Impossible(RemovalObstacle::Unclear { message: error.message }),
        };
        ability.into()
    }
}

fn denied() -> RemovalObstacle {
    let message = "the credentials may not delete here; grant deletion to them, then plan again".to_owned();
    RemovalObstacle::Denied { message }
}

fn invalid(list: &url::Url, error: &InvalidName) -> RegistryError {
    RegistryError {
        kind: RegistryErrorKind::Malformed,
        message: format!("GET {list} lists a name that the distribution specification does not allow: {error}"),
    }
}

impl RegistryError {
    /// The gap that this failure leaves.
    pub(super) fn gap(self, at: GapAt) -> Gap {
        Gap { at, kind: self.kind.label(), message: Arc::from(self.message) }
    }
}
