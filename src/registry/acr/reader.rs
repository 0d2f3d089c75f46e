//! Reading: the lists of tags and manifests, and a manifest's own bytes only where something needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::future;
use http::StatusCode;

use super::behind::{ListedManifest, Sought, row};
use super::list::{self, List, Listed, Odd, PAGE, Row, Way};
use super::split::{self, Timed};
use super::wire::{
    WireManifest, WireManifestNow, WireManifests, WireOneManifest, WireOneTag, WireRepository, WireTag, WireTags,
};
use super::{documented, manifest_path, repository_path, tag_path};
use crate::azure::{self, Arm};
use crate::domain::{
    Digest, Gap, GapAt, InvalidName, ManifestNow, Moment, Particulars, RemovalObstacle, Repository, RepositoryName,
    Tag, TagName, TagNow,
};
use crate::registry::auth::Grant;
use crate::registry::contents::ReferrersApi;
use crate::registry::http::{Redirects, RegistryHttp};
use crate::registry::paging::Page;
use crate::registry::{
    Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings, Requests,
    ServerTime, hosts, odd, pull, wire,
};
use crate::transport::{Answer, Ask, Patience, json};

/// Reads an Azure Container Registry.
#[derive(Debug)]
pub struct AcrReader {
    pub(super) http: RegistryHttp,
    /// Whom to ask about the registry itself, where the settings say where it is.
    arm: Option<Arm>,
    pub(super) referrers: ReferrersApi,
}

impl AcrReader {
    /// A reader by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    pub fn new(settings: RegistrySettings, patience: Patience) -> Result<Self, RegistryError> {
        let arm = settings.resource.as_ref().map(|resource| Arm::new(&resource.credential, patience)).transpose()?;
        let http = RegistryHttp::new(settings, patience)?;
        Ok(Self { http, arm, referrers: ReferrersApi::default() })
    }

    /// A metadata document; nothing where the registry says that there is no such thing.
    pub(super) async fn metadata(
        &self,
        repository: &RepositoryName,
        path: &str,
    ) -> Result<Option<Answer>, RegistryError> {
        let ask = Ask::get(self.http.url(path), "application/json", METADATA_LIMIT);
        let answer = self.http.read(&Grant::List(repository.clone()), ask, Redirects::Registry).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(answer)),
            _ if answer.is_absence() => Ok(None),
            StatusCode::NOT_FOUND => Err(answer.error(RegistryErrorKind::Malformed)),
            _ => Err(answer.refusal()),
        }
    }

    async fn attributes(&self, name: &RepositoryName) -> Result<Option<WireRepository>, RegistryError> {
        let Some(answer) = self.metadata(name, &repository_path(name)).await? else { return Ok(None) };
        understood(&answer).map(Some)
    }

    /// The tags of a repository that has so many by the registry's count.
    async fn all_tags(&self, name: &RepositoryName, count: Option<u64>) -> Result<Option<Listed<Tag>>, RegistryError> {
        let list = tag_list(name);
        if let Some(count) = split::is_long(count)
            && let Some(rows) = split::from_both_ends(&self.http, &list, count).await
        {
            return Ok(Some(Listed { rows, ..Listed::default() }));
        }
        list::all(&self.http, &list).await
    }

    /// The manifests of a repository that has so many by the registry's count.
    async fn all_manifests(
        &self,
        name: &RepositoryName,
        count: Option<u64>,
        sought: &Sought<'_>,
    ) -> Result<Option<Listed<ListedManifest>>, RegistryError> {
        let list = manifest_list(name, sought);
        if let Some(count) = split::is_long(count)
            && let Some(rows) = split::in_parts(&self.http, &list, count).await
        {
            return Ok(Some(Listed { rows, ..Listed::default() }));
        }
        list::all(&self.http, &list).await
    }

    /// Compares what was read with the registry's own count, once more where they differ: something may have been pushed
    /// meanwhile.
    async fn compare(&self, counts: Option<&WireRepository>, name: &RepositoryName, read: Counts) -> Vec<Gap> {
        let Some(first) = counts else { return Vec::new() };
        if read.differ(first).is_empty() {
            return Vec::new();
        }
        match self.attributes(name).await {
            Ok(Some(now)) => {
                read.differ(&now).into_iter().map(|(at, said, read)| uncounted(name, at, said, read)).collect()
            }
            Ok(None) => Vec::new(),
            Err(error) => vec![error.gap(GapAt::TagList)],
        }
    }
}

/// Most bytes of a metadata document about one thing.
const METADATA_LIMIT: usize = 1 << 20;

/// How many tags and manifests were read.
#[derive(Clone, Copy)]
struct Counts {
    tags: usize,
    manifests: usize,
}

impl Counts {
    /// The lists that differ from the registry's count, with its count and what was read.
    fn differ(self, said: &WireRepository) -> Vec<(GapAt, u64, usize)> {
        [(GapAt::TagList, said.tag_count, self.tags), (GapAt::ManifestList, said.manifest_count, self.manifests)]
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

    fn requests(&self) -> Requests {
        self.http.requests()
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        let named = &self.http.settings.repositories;
        if !named.is_empty() {
            self.http.announce(named);
            return Ok(Catalogue { repositories: named.clone(), gaps: Vec::new() });
        }
        let list = List {
            path: "/acr/v1/_catalog".to_owned(),
            grant: Grant::Catalogue,
            read: Box::new(|body| {
                let page = Page { path: "/acr/v1/_catalog", guessed: false };
                let page: Vec<String> = wire::catalogue_page(body, page).map_err(serde::de::Error::custom)?;
                Ok(Some(page.into_iter().map(listed_name).collect()))
            }),
        };
        let Listed { mut rows, mut odd, mut trouble } =
            list::all(&self.http, &list).await.map_err(unlisted)?.unwrap_or_default();
        // The list has been cut without a word, so its end is asked for.
        while let (None, Some(last)) = (&trouble, rows.last()) {
            let way = Way { after: Some(last.as_str()), ..Way::default() };
            match list::some(&self.http, &list, way, PAGE).await {
                Ok(more) if more.is_empty() => break,
                Ok(more) if more.iter().flatten().any(|name| rows.contains(name)) => {
                    trouble = Some(RegistryError {
                        kind: RegistryErrorKind::Malformed,
                        message: format!(
                            "{}: the list of repositories begins anew after its end",
                            self.http.url("/acr/v1/_catalog")
                        ),
                    });
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
        catalogue.gaps.extend(trouble.map(|error| error.gap(GapAt::Catalogue)));
        catalogue.gaps.extend(odd.iter().map(|entry| odd::repository(&entry.name, &entry.why)));
        self.http.announce(&catalogue.repositories);
        Ok(catalogue)
    }

    async fn repository(
        &self,
        name: &RepositoryName,
        look_for: &BTreeSet<Digest>,
        cache: &dyn ContentCache,
    ) -> Repository {
        let mut repository = Repository::empty(name.clone());
        let mut gaps = Vec::new();
        // First, because their counts tell how the lists are best read.
        let attributes = self.attributes(name).await.unwrap_or_else(|error| {
            // Without them nobody knows whether the repository is locked.
            gaps.push(error.gap(GapAt::TagList));
            None
        });
        let counts = attributes.as_ref();
        let sought = Sought::new(look_for);
        let (tags, manifests) = future::join(
            self.all_tags(name, counts.and_then(|counts| counts.tag_count)),
            self.all_manifests(name, counts.and_then(|counts| counts.manifest_count), &sought),
        )
        .await;
        let mut tags = heard(tags, GapAt::TagList, &mut gaps);
        let manifests = heard(manifests, GapAt::ManifestList, &mut gaps);
        // A repository that has only untagged manifests may be one of which the registry knows no tags.
        if gaps.is_empty() && manifests.is_some() && counts.is_some_and(|counts| counts.tag_count == Some(0)) {
            tags = tags.or_else(|| Some(Listed::default()));
        }
        let (Some(tags), Some(manifests)) = (tags, manifests) else {
            let named = self.http.settings.repositories.contains(name);
            if gaps.is_empty() && (attributes.is_some() || named) {
                gaps.push(unknown(name, named).gap(GapAt::TagList));
            }
            repository.gaps = gaps;
            return repository;
        };
        repository.lock = attributes.as_ref().and_then(WireRepository::lock);
        let read = Counts { tags: tags.len(), manifests: manifests.len() };
        let odd_names: Vec<Gap> = tags.odd.iter().map(|entry| odd::tag(&entry.name, &entry.why)).collect();
        repository.tags = tags.rows;
        let unnamed = repository.tags.iter().filter(|tag| tag.digest.is_none());
        gaps.extend(unnamed.map(|tag| digestless(name, &tag.name).gap(GapAt::Tag(tag.name.clone()))));
        repository.tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        gaps.extend(manifests.odd.iter().map(|odd| {
            let message = format!("the manifests of {name} list what cannot be understood: {}", odd.why);
            RegistryError { kind: RegistryErrorKind::Malformed, message }.gap(GapAt::ManifestList)
        }));
        let rows = manifests.rows;
        if gaps.is_empty() {
            gaps = self.compare(attributes.as_ref(), name, read).await;
        }
        let behind = self.behind(name, &repository.tags, rows, &sought, cache).await;
        repository.untagged = sought.among(&behind.manifests);
        repository.manifests = behind.manifests;
        repository.attached = behind.attached;
        gaps.extend(behind.gaps);
        gaps.extend(odd_names);
        repository.gaps = gaps;
        odd::without_manifest(self, &mut repository, &behind.missing).await;
        repository.gaps.sort();
        repository
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let Some(listed) = list::all(&self.http, &tag_list(repository)).await? else {
            let message = format!("registry `{}` knows no repository {repository}", self.http.settings.name);
            return Err(RegistryError { kind: RegistryErrorKind::NotFound, message });
        };
        if let Some(error) = listed.trouble {
            return Err(error);
        }
        let mut odd_names = listed.odd.iter().map(|entry| odd::tag(&entry.name, &entry.why));
        if let Some(gap) = odd_names.find(Gap::hides_a_tag) {
            return Err(RegistryError { kind: RegistryErrorKind::Malformed, message: gap.message.to_string() });
        }
        let mut names: Vec<TagName> = listed.rows.into_iter().map(|tag| tag.name).collect();
        names.sort();
        Ok(names)
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagNow>, RegistryError> {
        let Some(answer) = self.metadata(repository, &tag_path(repository, tag)).await? else { return Ok(None) };
        let wire: WireOneTag = understood(&answer)?;
        let digest = wire.tag.digest.as_deref().ok_or_else(|| answer.malformed("the tag has no digest"))?;
        let digest =
            digest.parse().map_err(|error: crate::domain::InvalidDigest| answer.malformed(&error.to_string()))?;
        if wire.tag.name != tag.as_str() {
            return Err(answer.malformed("it is about another tag"));
        }
        Ok(Some(TagNow { digest, pushed_at: wire.tag.pushed_at(), lock: wire.tag.lock() }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(self.metadata(repository, &manifest_path(repository, digest)).await?.is_some())
    }

    async fn manifest_now(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestNow>, RegistryError> {
        let Some(answer) = self.metadata(repository, &manifest_path(repository, digest)).await? else {
            return Ok(None);
        };
        let WireOneManifest { manifest } = understood::<WireOneManifest<WireManifestNow>>(&answer)?;
        if manifest.digest != digest.to_string() {
            return Err(answer.malformed("it is about another manifest"));
        }
        // What is no name of a tag still is one to the registry.
        let tags = manifest.tags.iter().flatten().map(|name| name.parse()).collect::<Result<_, InvalidName>>();
        let tags =
            tags.map_err(|error| answer.malformed(&format!("a tag of it has no name that is allowed: {error}")))?;
        Ok(Some(ManifestNow { tags, lock: manifest.lock(), changed_at: manifest.changed_at() }))
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

    async fn particulars(&self) -> Result<Option<Particulars>, RegistryError> {
        let (Some(arm), Some(resource)) = (&self.arm, &self.http.settings.resource) else { return Ok(None) };
        let particulars = azure::particulars(arm, resource, &hosts(&self.http.settings)).await?;
        if let Some(sku) = particulars.sku {
            self.http.set_rates(documented(sku));
        }
        Ok(Some(particulars))
    }

    /// Asks for tokens to delete with, looks at what they are good for, and uses them for nothing.
    async fn missing_rights(&self, repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        let granted = self.http.granted(Grant::Delete, repositories).await;
        granted.into_iter().filter_map(|(name, granted)| Some((name, obstacle(granted.err()?)))).collect()
    }

    fn clock(&self) -> Option<ServerTime> {
        self.http.clock()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.http.invalid_date_header()
    }
}

fn obstacle(error: RegistryError) -> RemovalObstacle {
    match error.kind {
        RegistryErrorKind::Denied => RemovalObstacle::Denied { message: error.message },
        _ => RemovalObstacle::Unclear { message: error.message },
    }
}

pub(super) fn understood<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, RegistryError> {
    json(&answer.body).map_err(|error| answer.malformed(&error.to_string()))
}

/// A list; what is wrong with it becomes a gap. Nothing where it could not be read or there is no repository.
fn heard<T>(listed: Result<Option<Listed<T>>, RegistryError>, at: GapAt, gaps: &mut Vec<Gap>) -> Option<Listed<T>> {
    match listed {
        Ok(listed) => {
            let mut listed = listed?;
            gaps.extend(listed.trouble.take().map(|error| error.gap(at)));
            Some(listed)
        }
        Err(error) => {
            gaps.push(error.gap(at));
            None
        }
    }
}

/// All tags of a repository.
fn tag_list(name: &RepositoryName) -> List<'static, Tag> {
    let own = name.clone();
    List {
        path: format!("/acr/v1/{name}/_tags"),
        grant: Grant::List(name.clone()),
        read: Box::new(move |body| {
            let page = json::<WireTags>(body)?;
            let is_it = page.image_name.as_deref() == Some(own.as_str());
            let tags = page.tags.or_else(|| is_it.then(Vec::new));
            Ok(tags.map(|tags| tags.into_iter().map(listed_tag).collect()))
        }),
    }
}

/// All manifests of a repository. Those that are sought are met on the way.
fn manifest_list<'a>(name: &RepositoryName, sought: &'a Sought<'_>) -> List<'a, ListedManifest> {
    let types = Mutex::new(Vec::new());
    List {
        path: format!("/acr/v1/{name}/_manifests"),
        grant: Grant::List(name.clone()),
        read: Box::new(move |body| {
            let manifests = json::<WireManifests>(body)?.manifests;
            let mut types = types.lock().unwrap_or_else(PoisonError::into_inner);
            let listed = |wire: WireManifest| match row(&wire, &mut types) {
                Ok(row) => {
                    sought.meet(&row, || wire.changed_at());
                    Ok(row)
                }
                Err(why) => Err(Odd { name: wire.digest, why }),
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
    fn time(&self) -> Option<Moment> {
        self.pushed_at
    }
}

fn listed_tag(entry: serde_json::Value) -> Result<Tag, Odd> {
    let name = entry["name"].as_str().map_or_else(|| entry.to_string(), str::to_owned);
    let wire: WireTag = serde_json::from_value(entry).map_err(|error| Odd { name, why: error.to_string() })?;
    let pushed_at = wire.pushed_at().map(Moment::from);
    let (lock, digest) = (wire.lock(), wire.digest.as_deref().and_then(|text| text.parse().ok()));
    match wire.name.parse() {
        Ok(name) => Ok(Tag { name, digest, pushed_at, first_seen: None, lock }),
        Err(error) => Err(odd_name(wire.name, &error)),
    }
}

impl Row for RepositoryName {
    type Key = Self;

    fn key(&self) -> &Self {
        self
    }
}

fn listed_name(name: String) -> Result<RepositoryName, Odd> {
    name.parse().map_err(|error| odd_name(name, &error))
}

fn odd_name(name: String, error: &crate::domain::InvalidName) -> Odd {
    Odd { name, why: error.to_string() }
}

fn uncounted(repository: &RepositoryName, at: GapAt, said: u64, read: usize) -> Gap {
    let what = if at == GapAt::TagList { "tags" } else { "manifests" };
    RegistryError {
        kind: RegistryErrorKind::Malformed,
        message: format!(
            "{repository}: the registry counts {said} {what} and lists {read}; some may be hidden (`listEnabled` false), \
             or the list is not complete. Run again; if it stays so, look for hidden ones by hand"
        ),
    }
    .gap(at)
}

fn digestless(repository: &RepositoryName, tag: &TagName) -> RegistryError {
    RegistryError {
        kind: RegistryErrorKind::Malformed,
        message: format!("{repository}:{tag} is listed without a digest that can be understood"),
    }
}

fn unknown(repository: &RepositoryName, named: bool) -> RegistryError {
    let why = if named {
        "it stands in the registry's `repositories`: is it spelled right?"
    } else {
        "the registry has its attributes, and says of its lists that there is no such repository"
    };
    RegistryError { kind: RegistryErrorKind::NotFound, message: format!("{repository} could not be listed; {why}") }
}

/// A catalogue that may not be read is no reason to give up: repositories can be named.
fn unlisted(mut error: RegistryError) -> RegistryError {
    if error.kind == RegistryErrorKind::Denied {
        error
            .message
            .push_str("; if it may do all but list the repositories, name them in the registry's `repositories`");
    }
    error
}
