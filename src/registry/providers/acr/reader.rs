//! Reading: the lists of tags and manifests, and a manifest's own bytes only where something needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::future;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::lists::{self, InvalidRow, ListRequest, PAGE_SIZE, PageQuery, Row, RowList};
use super::manifests::{ManifestCollector, WantedManifests, listed_manifest};
use super::metadata;
use super::parallel_lists::{self, Timed};
use super::registry_info::registry_info;
use super::wire::{
    WireManifest, WireManifestState, WireManifests, WireOneManifest, WireOneTag, WireRepository, WireTag, WireTags,
};
use super::{documented_limits, manifest_path, repository_path, tag_path};
use crate::azure::Arm;
use crate::domain::{
    CompactTime, Digest, Failure, Gap, GapTarget, InvalidName, ListedManifest, ManifestState, RegistryInfo,
    RemovalObstacle, Repository, RepositoryName, Tag, TagName, TagState, UnlistedManifests,
};
use crate::http_client::{Response, RetryPolicy, parse_json_lossy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::HttpConnection;
use crate::registry::client::manifest_graph::ReferrersApi;
use crate::registry::client::pagination::PageContext;
use crate::registry::client::{list_gaps, pull, wire};
use crate::registry::{
    Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings,
    RequestCounts, ServerTime, hosts,
};

/// Reads an Azure Container Registry.
#[derive(Debug)]
pub struct AcrReader {
    pub(super) http: HttpConnection,
    /// Whom to ask about the registry itself, where the settings say where it is.
    arm: Option<Arm>,
    referrers: ReferrersApi,
}

impl AcrReader {
    /// A reader by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    pub fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        let arm = settings
            .azure_resource
            .as_ref()
            .map(|resource| Arm::new(&resource.credential, retry_policy))
            .transpose()?;
        let http = HttpConnection::new(settings, retry_policy)?;
        Ok(Self { http, arm, referrers: ReferrersApi::default() })
    }

    /// See [`metadata::fetch`].
    async fn fetch_metadata(&self, repository: &RepositoryName, path: &str) -> Result<Option<Response>, RegistryError> {
        metadata::fetch(&self.http, repository, path).await
    }

    fn manifests<'a>(&'a self, cache: &'a dyn ContentCache) -> ManifestCollector<'a> {
        ManifestCollector { http: &self.http, referrers: &self.referrers, cache }
    }

    async fn fetch_attributes(&self, name: &RepositoryName) -> Result<Option<WireRepository>, RegistryError> {
        let Some(response) = self.fetch_metadata(name, &repository_path(name)).await? else { return Ok(None) };
        response.parse_json().map(Some)
    }

    /// The tags of a repository that has so many by the registry's count.
    async fn list_tags(
        &self,
        name: &RepositoryName,
        count: Option<u64>,
    ) -> Result<Option<RowList<Tag>>, RegistryError> {
        let list = tag_list_request(name);
        if let Some(count) = parallel_lists::long_list_count(count)
            && let Some(rows) = parallel_lists::scan_from_both_ends(&self.http, &list, count).await
        {
            return Ok(Some(RowList { rows, ..RowList::default() }));
        }
        lists::read_all(&self.http, &list).await
    }

    /// The manifests of a repository that has so many by the registry's count.
    async fn list_manifests(
        &self,
        name: &RepositoryName,
        count: Option<u64>,
        sought: &WantedManifests<'_>,
    ) -> Result<Option<RowList<ListedManifest>>, RegistryError> {
        let list = manifest_list_request(name, sought);
        if let Some(count) = parallel_lists::long_list_count(count)
            && let Some(rows) = parallel_lists::scan_partitions(&self.http, &list, count).await
        {
            return Ok(Some(RowList { rows, ..RowList::default() }));
        }
        lists::read_all(&self.http, &list).await
    }

    /// Reads one repository, and notes what is sought.
    async fn read_repository(
        &self,
        name: &RepositoryName,
        sought: &WantedManifests<'_>,
        cache: &dyn ContentCache,
    ) -> Repository {
        let mut repository = Repository::empty(name.clone());
        let mut gaps = Vec::new();
        // First, because their counts tell how the lists are best read.
        let attributes = self.fetch_attributes(name).await.unwrap_or_else(|error| {
            // Without them nobody knows whether the repository is locked.
            gaps.push(error.into_gap(GapTarget::TagList));
            None
        });
        let counts = attributes.as_ref();
        let (tags, manifests) = future::join(
            self.list_tags(name, counts.and_then(|counts| counts.tag_count)),
            self.list_manifests(name, counts.and_then(|counts| counts.manifest_count), sought),
        )
        .await;
        let mut tags = list_or_gap(tags, GapTarget::TagList, &mut gaps);
        let manifests = list_or_gap(manifests, GapTarget::ManifestList, &mut gaps);
        // A repository that has only untagged manifests may be one of which the registry knows no tags.
        if gaps.is_empty() && manifests.is_some() && counts.is_some_and(|counts| counts.tag_count == Some(0)) {
            tags = tags.or_else(|| Some(RowList::default()));
        }
        let (Some(tags), Some(manifests)) = (tags, manifests) else {
            let named = self.http.settings.repositories.contains(name);
            if gaps.is_empty() && (attributes.is_some() || named) {
                gaps.push(unknown_repository_error(name, named).into_gap(GapTarget::TagList));
            }
            repository.gaps = gaps;
            return repository;
        };
        repository.unlisted = UnlistedManifests::None;
        repository.lock = attributes.as_ref().and_then(WireRepository::lock);
        let read = Counts { tags: tags.len(), manifests: manifests.len() };
        let odd_names: Vec<Gap> =
            tags.invalid.iter().map(|entry| list_gaps::invalid_tag(&entry.name, &entry.why)).collect();
        repository.tags = tags.rows;
        let unnamed = repository.tags.iter().filter(|tag| tag.digest.is_none());
        gaps.extend(
            unnamed.map(|tag| list_gaps::missing_digest(name, &tag.name).into_gap(GapTarget::Tag(tag.name.clone()))),
        );
        repository.tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        gaps.extend(manifests.invalid.iter().map(|odd| {
            let message = format!("the manifests of {name} list what cannot be understood: {}", odd.why);
            RegistryError::new(RegistryErrorKind::Malformed, message).into_gap(GapTarget::ManifestList)
        }));
        let rows = manifests.rows;
        if gaps.is_empty() {
            gaps = self.compare_counts(attributes.as_ref(), name, read).await;
        }
        gaps.extend(odd_names);
        repository.gaps = gaps;
        let missing = self.manifests(cache).add_all(&mut repository, rows, sought).await;
        list_gaps::drop_missing_manifests(self, &mut repository, missing).await;
        repository
    }

    /// Compares what was read with the registry's own count, once more where they differ: something may have been pushed
    /// meanwhile.
    async fn compare_counts(&self, counts: Option<&WireRepository>, name: &RepositoryName, read: Counts) -> Vec<Gap> {
        let Some(first) = counts else { return Vec::new() };
        if read.differences(first).is_empty() {
            return Vec::new();
        }
        match self.fetch_attributes(name).await {
            Ok(Some(now)) => read
                .differences(&now)
                .into_iter()
                .map(|(at, said, read)| count_mismatch(name, at, said, read))
                .collect(),
            Ok(None) => Vec::new(),
            Err(error) => vec![error.into_gap(GapTarget::TagList)],
        }
    }
}

/// How many tags and manifests were read.
#[derive(Clone, Copy)]
struct Counts {
    tags: usize,
    manifests: usize,
}

impl Counts {
    /// The lists that differ from the registry's count, with its count and what was read.
    fn differences(self, said: &WireRepository) -> Vec<(GapTarget, u64, usize)> {
        [
            (GapTarget::TagList, said.tag_count, self.tags),
            (GapTarget::ManifestList, said.manifest_count, self.manifests),
        ]
        .into_iter()
        .filter_map(|(at, said, read)| said.filter(|said| *said != read as u64).map(|said| (at, said, read)))
        .collect()
    }
}

#[async_trait]
impl RegistryReader for AcrReader {
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
        let named = &self.http.settings.repositories;
        if !named.is_empty() {
            self.http.preauthorize(named);
            return Ok(Catalogue { repositories: named.clone(), gaps: Vec::new() });
        }
        let list = ListRequest {
            path: "/acr/v1/_catalog".to_owned(),
            scope: TokenScope::Catalogue,
            parse_page: Box::new(|body| {
                let page = PageContext { path: "/acr/v1/_catalog", is_unlinked: false };
                let page: Vec<String> = wire::catalogue_page(body, page).map_err(serde::de::Error::custom)?;
                Ok(Some(page.into_iter().map(parse_name).collect()))
            }),
        };
        let RowList { mut rows, invalid: mut odd, error: mut trouble } =
            lists::read_all(&self.http, &list).await.map_err(with_catalogue_advice)?.unwrap_or_default();
        // The list has been cut without a word, so its end is asked for.
        while let (None, Some(last)) = (&trouble, rows.last()) {
            let way = PageQuery { after: Some(last.as_str()), ..PageQuery::default() };
            match lists::fetch_rows(&self.http, &list, way, PAGE_SIZE).await {
                Ok(more) if more.is_empty() => break,
                Ok(more) if more.iter().flatten().any(|name| rows.contains(name)) => {
                    trouble = Some(RegistryError::new(
                        RegistryErrorKind::Malformed,
                        format!(
                            "{}: the list of repositories begins anew after its end",
                            self.http.url("/acr/v1/_catalog")
                        ),
                    ));
                }
                Ok(more) => {
                    let before = rows.len();
                    for name in more {
                        match name {
                            Ok(name) => rows.push(name),
                            Err(name) => odd.push(name),
                        }
                    }
                    if rows.len() == before {
                        break;
                    }
                }
                Err(error) => trouble = Some(error),
            }
        }
        let mut catalogue = Catalogue { repositories: rows, gaps: Vec::new() };
        catalogue.gaps.extend(trouble.map(|error| error.into_gap(GapTarget::Catalogue)));
        catalogue.gaps.extend(odd.iter().map(|entry| list_gaps::invalid_repository(&entry.name, &entry.why)));
        self.http.preauthorize(&catalogue.repositories);
        Ok(catalogue)
    }

    async fn repository(
        &self,
        name: &RepositoryName,
        look_for: &BTreeSet<Digest>,
        cache: &dyn ContentCache,
    ) -> Repository {
        self.read_repository(name, &WantedManifests::new(look_for), cache).await
    }

    async fn repository_with_changes(
        &self,
        name: &RepositoryName,
        look_for: &BTreeSet<Digest>,
        cache: &dyn ContentCache,
    ) -> (Repository, BTreeMap<Digest, Timestamp>) {
        let sought = WantedManifests::new(look_for).with_all_changes();
        let repository = self.read_repository(name, &sought, cache).await;
        let changes = sought.changes_without(&repository.tags);
        (repository, changes)
    }

    async fn read_manifests(&self, repository: &mut Repository, digests: &BTreeSet<Digest>, cache: &dyn ContentCache) {
        let missing = self.manifests(cache).read(repository, digests.clone()).await;
        list_gaps::drop_missing_manifests(self, repository, missing).await;
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let Some(listed) = lists::read_all(&self.http, &tag_list_request(repository)).await? else {
            let message = format!("registry `{}` knows no repository {repository}", self.http.settings.name);
            return Err(RegistryError::new(RegistryErrorKind::NotFound, message));
        };
        if let Some(error) = listed.error {
            return Err(error);
        }
        let mut odd_names = listed.invalid.iter().map(|entry| list_gaps::invalid_tag(&entry.name, &entry.why));
        if let Some(gap) = odd_names.find(Gap::may_hide_tag) {
            return Err(RegistryError::new(RegistryErrorKind::Malformed, gap.message.to_string()));
        }
        let mut names: Vec<TagName> = listed.rows.into_iter().map(|tag| tag.name).collect();
        names.sort();
        Ok(names)
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        let Some(response) = self.fetch_metadata(repository, &tag_path(repository, tag)).await? else {
            return Ok(None);
        };
        let wire: WireOneTag = response.parse_json()?;
        let digest = wire.tag.digest.as_deref().ok_or_else(|| response.malformed("the tag has no digest"))?;
        let digest = digest.parse().map_err(|error: crate::domain::InvalidDigest| response.unparsable(error))?;
        if wire.tag.name != tag.as_str() {
            return Err(response.malformed("it is about another tag"));
        }
        Ok(Some(TagState { digest, pushed_at: wire.tag.pushed_at(), lock: wire.tag.lock() }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(self.fetch_metadata(repository, &manifest_path(repository, digest)).await?.is_some())
    }

    fn deletes_untagged_at_once(&self) -> bool {
        true
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        let Some(response) = self.fetch_metadata(repository, &manifest_path(repository, digest)).await? else {
            return Ok(None);
        };
        let WireOneManifest { manifest } = response.parse_json::<WireOneManifest<WireManifestState>>()?;
        if manifest.digest != digest.to_string() {
            return Err(response.malformed("it is about another manifest"));
        }
        // The registry accepts tag names that are invalid here.
        let tags = manifest.tags.iter().flatten().map(|name| name.parse()).collect::<Result<_, InvalidName>>();
        let tags = tags.map_err(|error| {
            response.unparsable(Failure::new((), "a tag of it has no name that is allowed").caused_by(error))
        })?;
        Ok(Some(ManifestState { tags, lock: manifest.lock(), changed_at: manifest.changed_at() }))
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

    async fn registry_info(&self) -> Result<Option<RegistryInfo>, RegistryError> {
        let (Some(arm), Some(resource)) = (&self.arm, &self.http.settings.azure_resource) else { return Ok(None) };
        let particulars = registry_info(arm, resource, &hosts(&self.http.settings)).await?;
        if let Some(sku) = particulars.tier {
            self.http.set_documented_limits(documented_limits(sku));
        }
        Ok(Some(particulars))
    }

    /// Asks for tokens to delete with, looks at what they are good for, and uses them for nothing.
    async fn missing_rights(&self, repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        let granted = self.http.check_authorization(TokenScope::Delete, repositories).await;
        granted.into_iter().filter_map(|(name, granted)| Some((name, removal_obstacle(&granted.err()?)))).collect()
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.http.server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.http.invalid_date_header()
    }
}

fn removal_obstacle(error: &RegistryError) -> RemovalObstacle {
    match error.kind {
        RegistryErrorKind::Denied => RemovalObstacle::Denied { message: error.chain() },
        _ => RemovalObstacle::CheckFailed { message: error.chain() },
    }
}

/// A list; what is wrong with it becomes a gap. Nothing where it could not be read or there is no repository.
fn list_or_gap<T>(
    listed: Result<Option<RowList<T>>, RegistryError>,
    at: GapTarget,
    gaps: &mut Vec<Gap>,
) -> Option<RowList<T>> {
    match listed {
        Ok(listed) => {
            let mut listed = listed?;
            gaps.extend(listed.error.take().map(|error| error.into_gap(at)));
            Some(listed)
        }
        Err(error) => {
            gaps.push(error.into_gap(at));
            None
        }
    }
}

/// All tags of a repository.
fn tag_list_request(name: &RepositoryName) -> ListRequest<'static, Tag> {
    let own = name.clone();
    ListRequest {
        path: format!("/acr/v1/{name}/_tags"),
        scope: TokenScope::List(name.clone()),
        parse_page: Box::new(move |body| {
            let page = parse_json_lossy::<WireTags>(body)?;
            let is_it = page.image_name.as_deref() == Some(own.as_str());
            let tags = page.tags.or_else(|| is_it.then(Vec::new));
            Ok(tags.map(|tags| tags.iter().map(|tag| parse_tag(tag)).collect()))
        }),
    }
}

/// All manifests of a repository. Those that are sought are met on the way.
fn manifest_list_request<'a>(
    name: &RepositoryName,
    sought: &'a WantedManifests<'_>,
) -> ListRequest<'a, ListedManifest> {
    let types = Mutex::new(Vec::new());
    ListRequest {
        path: format!("/acr/v1/{name}/_manifests"),
        scope: TokenScope::List(name.clone()),
        parse_page: Box::new(move |body| {
            let manifests = parse_json_lossy::<WireManifests>(body)?.manifests;
            let mut types = types.lock().unwrap_or_else(PoisonError::into_inner);
            let listed = |wire: WireManifest| match listed_manifest(&wire, &mut types) {
                Ok(row) => {
                    sought.record(&row, || wire.changed_at());
                    sought.record_type(&row, &wire);
                    Ok(row)
                }
                Err(why) => Err(InvalidRow { name: wire.digest, why: why.to_string() }),
            };
            Ok(manifests.map(|manifests| manifests.into_iter().map(listed).collect()))
        }),
    }
}

impl Row for Tag {
    type Key = TagName;

    fn key(&self) -> &TagName {
        &self.name
    }
}

impl Timed for Tag {
    fn time(&self) -> Option<CompactTime> {
        self.pushed_at
    }
}

fn parse_tag(entry: &RawValue) -> Result<Tag, InvalidRow> {
    let wire = serde_json::from_str::<WireTag>(entry.get()).or_else(|_| {
        // As a value, so that it can be named, and what is wrong with it is told without a place in the page.
        let entry: serde_json::Value = serde_json::from_str(entry.get()).unwrap_or_default();
        let name = entry["name"].as_str().map_or_else(|| entry.to_string(), str::to_owned);
        serde_json::from_value(entry).map_err(|error| InvalidRow { name, why: error.to_string() })
    })?;
    let pushed_at = wire.pushed_at().map(CompactTime::from);
    let (lock, digest) = (wire.lock(), wire.digest.as_deref().and_then(|text| text.parse().ok()));
    match wire.name.parse() {
        Ok(name) => Ok(Tag { name, digest, pushed_at, first_seen: None, lock }),
        Err(error) => Err(invalid_name(wire.name, &error)),
    }
}

impl Row for RepositoryName {
    type Key = Self;

    fn key(&self) -> &Self {
        self
    }
}

fn parse_name(name: String) -> Result<RepositoryName, InvalidRow> {
    name.parse().map_err(|error| invalid_name(name, &error))
}

fn invalid_name(name: String, error: &crate::domain::InvalidName) -> InvalidRow {
    InvalidRow { name, why: error.to_string() }
}

fn count_mismatch(repository: &RepositoryName, at: GapTarget, said: u64, read: usize) -> Gap {
    let what = if at == GapTarget::TagList { "tags" } else { "manifests" };
    RegistryError::new(RegistryErrorKind::Malformed, format!(
            "{repository}: the registry counts {said} {what} and lists {read}; some may be hidden (`listEnabled` false), \
             or the list is not complete. Run again; if it stays so, look for hidden ones by hand"
        ))
    .into_gap(at)
}

fn unknown_repository_error(repository: &RepositoryName, named: bool) -> RegistryError {
    let why = if named {
        "it stands in the registry's `repositories`: is it spelled right?"
    } else {
        "the registry has its attributes, and says of its lists that there is no such repository"
    };
    RegistryError::new(RegistryErrorKind::NotFound, format!("{repository} could not be listed")).with_help(why)
}

/// Adds a remedy to the error of a catalogue that may not be read: repositories can be named.
fn with_catalogue_advice(error: RegistryError) -> RegistryError {
    if error.kind == RegistryErrorKind::Denied {
        return error
            .with_help("if it may do all but list the repositories, name them in the registry's `repositories`");
    }
    error
}
