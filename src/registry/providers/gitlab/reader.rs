//! Reading: repositories, tags and manifests of GitLab's registry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt, future, stream};
use secrecy::ExposeSecret as _;

use super::rest::GitlabRest;
use super::token::{Protections, RepositoryAccess};
use super::wire::{Right, Row, TagAnswer, WireTag};
use crate::domain::{
    CompactTime, Digest, GapTarget, Manifest, ManifestDetail, ManifestState, RegistryInfo, RemovalObstacle, Repository,
    RepositoryName, Tag, TagName, TagState, UnreadKind, is_index_type,
};
use crate::http_client::{Request, Response, RetryPolicy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::client::{list_gaps, listed_manifests, pull};
use crate::registry::{
    Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings,
    RequestCounts, ServerTime,
};

/// Most bytes of an answer: a page of a thousand tags with what refers to each.
const MAX_BYTES: usize = 64 << 20;

/// Reads GitLab's registry.
#[derive(Debug)]
pub(super) struct GitlabReader {
    pub(super) http: HttpConnection,
    /// GitLab's REST API, where the settings have it.
    pub(super) rest: Option<GitlabRest>,
    /// The list of repositories that the cleanup policies were looked up for, until it is asked for.
    listed: Mutex<Option<Catalogue>>,
}

impl GitlabReader {
    /// A reader by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        let rest = GitlabRest::new(&settings, retry_policy)?;
        Ok(Self { http: HttpConnection::new(settings, retry_policy)?, rest, listed: Mutex::default() })
    }

    /// The answer to a GET, whatever its status.
    pub(super) async fn get(
        &self,
        scope: TokenScope,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, RegistryError> {
        let mut url = self.http.url(path);
        url.query_pairs_mut().extend_pairs(query);
        self.http.read(&scope, Request::get(url, "application/json", MAX_BYTES), RedirectPolicy::SameOrigin).await
    }

    /// What a token for a repository says; `None` if it does not say.
    ///
    /// # Errors
    /// When there is no such token.
    pub(super) async fn access(
        &self,
        repository: &RepositoryName,
        scope: TokenScope,
    ) -> Result<Option<RepositoryAccess>, RegistryError> {
        access(&self.http, repository, scope).await
    }

    /// What protects tags of a repository. Nothing where the identity may not delete: then nothing is removed anyway.
    async fn protections(&self, repository: &RepositoryName) -> Result<Protections, RegistryError> {
        let access = match self.access(repository, TokenScope::Delete(repository.clone())).await {
            Err(error) if error.kind == RegistryErrorKind::Denied => return Ok(Protections::default()),
            other => other?,
        };
        let protections = access.map(|access| access.protections).unwrap_or_default();
        for pattern in protections.unknown_patterns() {
            tracing::warn!(%repository, pattern, "the pattern of a protected tag is not understood, so every tag is locked");
        }
        Ok(protections)
    }

    /// The repositories, kept until [`RegistryReader::catalogue`] asks for them: one list answers both.
    pub(super) async fn list_for_policies(&self) -> Result<Vec<RepositoryName>, RegistryError> {
        let catalogue = self.list_repositories().await?;
        let names = catalogue.repositories.clone();
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(catalogue);
        Ok(names)
    }

    /// The reason for which the identity may remove nothing from a repository.
    async fn obstacle(&self, name: &RepositoryName) -> Option<RemovalObstacle> {
        match self.access(name, TokenScope::Delete(name.clone())).await {
            Ok(Some(access)) if !access.allows("delete") => {
                Some(RemovalObstacle::Denied { message: no_deletions(name) })
            }
            Ok(_) => None,
            Err(error) if error.kind == RegistryErrorKind::Denied => {
                Some(RemovalObstacle::Denied { message: error.chain() })
            }
            Err(error) => Some(RemovalObstacle::CheckFailed { message: error.chain() }),
        }
    }
}

/// What a token for a repository says; `None` if it does not say.
///
/// # Errors
/// When there is no such token.
pub(super) async fn access(
    http: &HttpConnection,
    repository: &RepositoryName,
    scope: TokenScope,
) -> Result<Option<RepositoryAccess>, RegistryError> {
    let token = http.bearer_token(&scope).await?;
    Ok(token.and_then(|token| RepositoryAccess::parse(token.expose_secret(), repository)))
}

/// The sentence on an identity that may not remove tags.
pub(super) fn no_deletions(name: &RepositoryName) -> String {
    format!("the token of GitLab does not allow to remove tags from {name}: {}", Right::Delete.advice())
}

#[async_trait]
impl RegistryReader for GitlabReader {
    fn settings(&self) -> &RegistrySettings {
        &self.http.settings
    }

    fn identity(&self) -> String {
        self.http.identity()
    }

    fn request_counts(&self) -> RequestCounts {
        self.http.request_counts()
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match listed {
            Some(listed) => Ok(listed),
            None => self.list_repositories().await,
        }
    }

    /// By the list of tags alone. What an index lists, and what an artifact refers to, is left unread.
    async fn repository(&self, name: &RepositoryName, _: &BTreeSet<Digest>, _: &dyn ContentCache) -> Repository {
        let mut repository = Repository::empty(name.clone());
        let rows = match self.list_tags(name).await {
            Ok(Some(rows)) => rows,
            Ok(None) => {
                let named = self.http.settings.repositories.contains(name);
                repository.gaps.extend(named.then(|| unknown_repository(name).into_gap(GapTarget::TagList)));
                return repository;
            }
            Err(error) => {
                repository.gaps.push(error.into_gap(GapTarget::TagList));
                return repository;
            }
        };
        // Which tags are locked is not known then, so none of them may be removed.
        let protections = self.protections(name).await.unwrap_or_else(|error| {
            repository.gaps.push(error.into_gap(GapTarget::TagList));
            Protections::default()
        });
        for row in rows {
            add_row(&mut repository, row, &protections);
        }
        repository.tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        repository.gaps.sort();
        repository
    }

    /// By the distribution API: unlike GitLab's `tags/detail`, that tells what a manifest refers to, can be checked against its
    /// digest, and is read only once, ever.
    async fn read_manifests(&self, repository: &mut Repository, digests: &BTreeSet<Digest>, cache: &dyn ContentCache) {
        listed_manifests::read_listed(self, repository, digests, cache).await;
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let rows = self.list_tags(repository).await?.ok_or_else(|| unknown_repository(repository))?;
        let mut names = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                Ok((name, _)) => names.push(name),
                Err(odd) => {
                    let message = list_gaps::invalid_tag(&odd.name, &odd.why).message.to_string();
                    return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// By the tag alone.
    async fn lists_tag(&self, repository: &RepositoryName, tag: &TagName) -> Result<bool, RegistryError> {
        match self.fetch_tag(repository, tag).await? {
            TagAnswer::Found(_) => Ok(true),
            TagAnswer::Missing => Ok(false),
            TagAnswer::UnknownRepository => Err(unknown_repository(repository)),
            TagAnswer::NotAsked => Ok(self.tags(repository).await?.binary_search(tag).is_ok()),
        }
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        let (digest, pushed_at) = match self.fetch_tag(repository, tag).await? {
            TagAnswer::Missing | TagAnswer::UnknownRepository => return Ok(None),
            TagAnswer::Found(row) => {
                let digest = row.digest.as_deref().and_then(|text| text.parse().ok());
                (digest.ok_or_else(|| list_gaps::missing_digest(repository, tag))?, row.pushed_at())
            }
            TagAnswer::NotAsked => match pull::resolve(&self.http, repository, tag).await? {
                None => return Ok(None),
                Some(digest) => (digest, None),
            },
        };
        let lock = self.protections(repository).await?.lock(tag);
        Ok(Some(TagState { digest, pushed_at, lock }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        pull::has_manifest(&self.http, repository, digest).await
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        Err(unsupported(&format!("has no question for the tags of {digest} of {repository}")))
    }

    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        Err(unsupported(&format!("tells what refers to {digest} of {repository} only beside a tag that names it")))
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

    async fn registry_info(&self) -> Result<Option<RegistryInfo>, RegistryError> {
        self.read_cleanup_rules().await.map(Some)
    }

    /// GitLab's tokens say what they allow; those for deletions were needed to know which tags are protected.
    async fn missing_rights(&self, repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        let asked = repositories.iter().map(|name| async move { (name.clone(), self.obstacle(name).await) });
        let asked: Vec<_> = asked.collect();
        let found = stream::iter(asked).buffer_unordered(self.http.settings.concurrency.max(1));
        found.filter_map(|(name, obstacle)| future::ready(obstacle.map(|obstacle| (name, obstacle)))).collect().await
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.http.server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.http.invalid_date_header()
    }
}

/// Puts a row into the repository: the tag, its manifest as far as the list tells it, and what refers to that.
fn add_row(repository: &mut Repository, row: Row, protections: &Protections) {
    let (name, row) = match row {
        Ok(row) => row,
        Err(odd) => return repository.gaps.push(list_gaps::invalid_tag(&odd.name, &odd.why)),
    };
    let digest: Option<Digest> = row.digest.as_deref().and_then(|text| text.parse().ok());
    let tag = Tag {
        lock: protections.lock(&name),
        name,
        digest: digest.clone(),
        pushed_at: row.pushed_at().map(CompactTime::from),
        first_seen: None,
    };
    if let Some(digest) = digest {
        add_manifest(repository, digest, &row);
    } else {
        let error = list_gaps::missing_digest(&repository.name, &tag.name);
        repository.gaps.push(error.into_gap(GapTarget::Tag(tag.name.clone())));
    }
    repository.tags.push(tag);
}

fn add_manifest(repository: &mut Repository, digest: Digest, row: &WireTag) {
    for referrer in row.referrers.iter().filter_map(|referrer| referrer.digest.as_deref()?.parse::<Digest>().ok()) {
        let unread = ManifestDetail::Unread { image_size: None, kind: UnreadKind::Artifact };
        let entry = repository.manifests.entry(referrer);
        let referrer = entry.or_insert_with(|| listed_manifests::listed_manifest("", unread));
        referrer.subject.get_or_insert_with(|| Box::new(digest.clone()));
    }
    let listed = listed_manifest(row);
    let known = repository.manifests.remove(&digest);
    let subject = known.and_then(|known| known.subject);
    repository.manifests.insert(digest, Manifest { subject, ..listed });
}

/// A manifest as the list of tags describes it. Its subject is left out, so an OCI manifest counts as unread.
fn listed_manifest(row: &WireTag) -> Manifest {
    let (media_type, image_size) = (row.media_type.as_deref().unwrap_or_default(), row.image_size());
    let detail = match media_type {
        // Neither of Docker's image formats refers to anything.
        "application/vnd.docker.distribution.manifest.v2+json"
        | "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => ManifestDetail::Listed { image_size },
        "application/vnd.oci.image.manifest.v1+json" => {
            ManifestDetail::Unread { image_size, kind: UnreadKind::Artifact }
        }
        _ => ManifestDetail::Unread { image_size, kind: UnreadKind::Index },
    };
    let config = row.config_digest.as_deref().filter(|_| !is_index_type(media_type));
    Manifest {
        config: config.and_then(|text| text.parse().ok()).map(Box::new),
        ..listed_manifests::listed_manifest(media_type, detail)
    }
}

fn unknown_repository(repository: &RepositoryName) -> RegistryError {
    let message = format!(
        "GitLab's registry knows no repository {repository}; if it stands in `repositories`, is it spelled right?"
    );
    RegistryError::new(RegistryErrorKind::NotFound, message)
}

fn unsupported(what: &str) -> RegistryError {
    RegistryError::new(RegistryErrorKind::Unsupported, format!("GitLab's registry {what}"))
}
