//! Reading: tags by the distribution API, and what belongs to them by zot's search.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio::sync::OnceCell;

use super::extensions::{self, Extensions};
use super::images::{self, ImageList};
use super::search::{self, Search};
use crate::domain::{
    Digest, Gap, GapTarget, ManifestState, Product, RegistryInfo, RemovalObstacle, Repository, RepositoryName,
    RetentionDays, TagName, TagState, UnlistedManifests,
};
use crate::http_client::{Request, RetryPolicy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::client::listed_manifests::{MediaTypes, store_read};
use crate::registry::client::manifest_graph::read_cached_manifest;
use crate::registry::client::{list_gaps, pull, wire};
use crate::registry::providers::DistributionReader;
use crate::registry::{
    Capabilities, Catalogue, ContentCache, RawManifest, RegistryError, RegistryReader, RegistrySettings, RequestCounts,
    ServerTime,
};

/// Most bytes of a manifest.
const MAX_MANIFEST_BYTES: usize = 8 << 20;

const COLLECTION: &str = "zot shows no settings by its API, so its garbage collection is not known: by default it runs every \
                          hour and deletes untagged manifests that were pushed more than an hour before, whenever they \
                          lost their tag; with `deleteUntagged` set to false in its retention policies it keeps them";
const RETENTION: &str = "whether zot's retention policies remove tags by themselves is not known";
const NO_SEARCH: &str = "zot's search extension is off, so it is read as any registry: without its push times, pull times and \
                         sizes, manifest by manifest; enable `extensions.search` there";

/// Reads zot.
#[derive(Debug)]
pub(super) struct ZotReader {
    /// The reader of the distribution API, whose connection it shares.
    plain: DistributionReader,
    extensions: OnceCell<Extensions>,
    search: Search,
}

/// A tag that the search does not list, as the registry has it.
enum Unlisted {
    /// It names a manifest of that type.
    Found(Digest, String),
    /// It is gone, or could not be looked up.
    Gap(Gap),
}

impl ZotReader {
    /// Makes a reader by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// Returns an error if the settings cannot work, such as a CA file that cannot be read.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        let plain = DistributionReader::with_retry_policy(settings, retry_policy)?;
        Ok(Self { plain, extensions: OnceCell::new(), search: Search::default() })
    }

    pub(super) fn http(&self) -> &HttpConnection {
        &self.plain.http
    }

    async fn extensions(&self) -> Result<&Extensions, RegistryError> {
        self.extensions.get_or_try_init(|| extensions::discover(self.http())).await
    }

    /// Reads a repository by the search. Tags that it does not list are looked up one by one.
    async fn read_by_search(&self, name: &RepositoryName) -> Repository {
        let mut repository = Repository::empty(name.clone());
        // In this order: a tag that was removed meanwhile is not in the list of tags, one that was added is looked up.
        let rows = match self.search.images(self.http(), name).await {
            Ok(rows) => rows,
            Err(error) => {
                repository.gaps.push(error.into_gap(GapTarget::TagList));
                return repository;
            }
        };
        let names = match self.plain.list_tags(name).await {
            Ok(listed) => {
                let (names, gaps) = listed.unwrap_or_default();
                repository.gaps = gaps;
                names
            }
            Err(error) => {
                repository.gaps.push(error.into_gap(GapTarget::TagList));
                return repository;
            }
        };
        repository.unlisted = UnlistedManifests::InListedIndexes;
        let mut rows = images::by_tag(rows);
        let records_pulls = self.http().settings.records_pulls();
        let mut list = ImageList { repository: &mut repository, types: MediaTypes::default(), records_pulls };
        let mut unlisted = Vec::new();
        for tag in names {
            match rows.remove(tag.as_str()) {
                Some(row) => list.add(tag, &row),
                None => unlisted.push(tag),
            }
        }
        let mut looked_up = stream::iter(unlisted)
            .map(|tag| async move { (self.look_up(name, &tag).await, tag) })
            .buffer_unordered(self.http().settings.concurrency.max(1));
        while let Some((found, tag)) = looked_up.next().await {
            match found {
                Unlisted::Found(digest, media_type) => list.add_unlisted(tag, &digest, &media_type),
                Unlisted::Gap(gap) => list.add_gap(tag, gap),
            }
        }
        drop(looked_up);
        list.finish();
        repository
    }

    async fn look_up(&self, name: &RepositoryName, tag: &TagName) -> Unlisted {
        let url = self.http().url(&format!("/v2/{name}/manifests/{tag}"));
        let request = Request::head(url, pull::MANIFEST_TYPES);
        let scope = TokenScope::Pull(name.clone());
        let found = async {
            let response = self.http().read(&scope, request, RedirectPolicy::SameOrigin).await?;
            if response.status == StatusCode::OK
                && let Some(digest) = pull::content_digest(&response)?
            {
                let media_type = response.header(CONTENT_TYPE.as_str()).unwrap_or_default();
                return Ok(Some((digest, media_type.split(';').next().unwrap_or_default().trim().to_owned())));
            }
            // Of what a HEAD does not tell, the type remains open.
            Ok::<_, RegistryError>(pull::resolve(self.http(), name, tag).await?.map(|digest| (digest, String::new())))
        };
        match found.await {
            Ok(Some((digest, media_type))) => Unlisted::Found(digest, media_type),
            Ok(None) => Unlisted::Gap(list_gaps::vanished_tag(name, tag)),
            Err(error) => Unlisted::Gap(error.into_gap(GapTarget::Tag(tag.clone()))),
        }
    }

    async fn obstacle(&self, name: &RepositoryName) -> Option<RemovalObstacle> {
        match search::may_delete(self.http(), name).await {
            Ok(Some(false)) => Some(RemovalObstacle::Denied {
                message: format!(
                    "zot does not allow {} to delete from {name}: the action `delete` is missing in `accessControl`",
                    self.http().identity()
                ),
            }),
            Ok(Some(true) | None) => None,
            Err(error) => Some(RemovalObstacle::CheckFailed { message: error.chain() }),
        }
    }
}

#[async_trait]
impl RegistryReader for ZotReader {
    fn settings(&self) -> &RegistrySettings {
        &self.http().settings
    }

    fn identity(&self) -> String {
        self.http().identity()
    }

    fn request_counts(&self) -> RequestCounts {
        self.http().request_counts()
    }

    /// The extensions show the release as soon as they were asked for.
    fn known_capabilities(&self) -> Capabilities {
        let settings = &self.http().settings;
        let kind = settings.provider.capabilities().with_settings(settings);
        kind.with_product(self.extensions.get().map(|found| found.product.clone()))
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        self.plain.catalogue().await
    }

    async fn repository(
        &self,
        name: &RepositoryName,
        look_for: &BTreeSet<Digest>,
        cache: &dyn ContentCache,
    ) -> Repository {
        match self.extensions().await {
            Ok(found) if found.has_search => self.read_by_search(name).await,
            Ok(_) => self.plain.repository(name, look_for, cache).await,
            Err(error) => {
                let mut repository = Repository::empty(name.clone());
                repository.gaps.push(error.clone().into_gap(GapTarget::TagList));
                repository
            }
        }
    }

    async fn read_manifests(&self, repository: &mut Repository, digests: &BTreeSet<Digest>, cache: &dyn ContentCache) {
        let name = &repository.name.clone();
        let read: Vec<_> = stream::iter(digests.iter().cloned().collect::<Vec<_>>())
            .map(|digest| async move {
                let parsed = read_cached_manifest(cache, (name, &digest), self.manifest(name, &digest)).await;
                (digest, parsed)
            })
            .buffer_unordered(self.http().settings.concurrency.max(1))
            .collect()
            .await;
        let (mut parsed, mut missing) = (Vec::new(), BTreeSet::new());
        for (digest, found) in read {
            match found {
                Ok(Some(manifest)) => parsed.push((digest, manifest)),
                Ok(None) => drop(missing.insert(digest)),
                Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
            }
        }
        // The times of manifests are those of their list, not of their annotations.
        for (_, manifest) in &mut parsed {
            manifest.manifest.created_at = None;
        }
        store_read(repository, parsed);
        list_gaps::drop_missing_manifests(self, repository, missing).await;
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        self.plain.tags(repository).await
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        self.plain.resolve(repository, tag).await
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        self.plain.has_manifest(repository, digest).await
    }

    /// Garbage collection removes the signatures of an image along with it.
    fn expires_companions(&self) -> bool {
        true
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        self.plain.manifest_state(repository, digest).await
    }

    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        self.plain.referrers(repository, digest).await
    }

    /// By its blob, where zot has it: a read of the manifest would count as a pull, and keep its tag. If there is no such
    /// blob, the manifest itself tells whether it exists.
    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError> {
        let url = self.http().url(&format!("/v2/{repository}/blobs/{digest}"));
        let request = Request::get(url, "*/*", MAX_MANIFEST_BYTES);
        let scope = TokenScope::Pull(repository.clone());
        let response = self.http().read(&scope, request, RedirectPolicy::AnyHost).await?;
        if response.status == StatusCode::OK && digest.matches(&response.body) {
            let media_type = wire::media_type(None, &response.body);
            return Ok(Some(RawManifest { digest: digest.clone(), media_type, bytes: response.body.into() }));
        }
        pull::manifest(self.http(), repository, digest).await
    }

    async fn configuration(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        pull::configuration(self.http(), repository, digest).await
    }

    async fn product(&self) -> Option<Product> {
        // Of a registry that does not answer, the release is not known either.
        Some(self.extensions().await.map_or_else(|_| extensions::unknown_release(), |found| found.product.clone()))
    }

    async fn registry_info(&self) -> Result<Option<RegistryInfo>, RegistryError> {
        let mut rules = vec![COLLECTION.into(), RETENTION.into()];
        rules.extend((!self.extensions().await?.has_search).then(|| NO_SEARCH.into()));
        Ok(Some(RegistryInfo {
            untagged_retention: RetentionDays::Unknown,
            cleanup_rules: rules,
            ..RegistryInfo::that_keeps_untagged()
        }))
    }

    /// By the search, which shows whether the identity may delete.
    async fn missing_rights(&self, repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        if !self.extensions().await.is_ok_and(|found| found.has_search) {
            return BTreeMap::new();
        }
        let asked: Vec<_> =
            repositories.iter().map(|name| async move { (name.clone(), self.obstacle(name).await) }).collect();
        stream::iter(asked)
            .buffer_unordered(self.http().settings.concurrency.max(1))
            .filter_map(|(name, obstacle)| async move { obstacle.map(|obstacle| (name, obstacle)) })
            .collect()
            .await
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.http().server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.http().invalid_date_header()
    }
}
