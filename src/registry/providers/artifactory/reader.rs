//! Reading: repositories, tags and manifests by Artifactory's API.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::wire::{INDEX, MANIFEST, WireItem, WireRepository};
use crate::domain::{
    CompactTime, Digest, GapTarget, InvalidName, ManifestDetail, PullTime, Repository, RepositoryName, Tag, TagName,
    TagState, UnreadKind,
};
use crate::http_client::RetryPolicy;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::{list_gaps, listed_manifests};
use crate::registry::providers::keyed_images::{ImagePlace, KeyedApi};
use crate::registry::providers::keyed_reader::KeyedProduct;
use crate::registry::{RegistryError, RegistryErrorKind, RegistrySettings};

/// The kinds of repositories that hold images themselves, instead of showing those of others.
const OWN_KINDS: [&str; 2] = ["LOCAL", "FEDERATED"];
/// The starts of the names of folders that hold the images of an index, beside the folders of tags.
const DIGEST_FOLDERS: [&str; 2] = ["sha256:", "sha256__"];

/// Lists tags in Artifactory.
#[derive(Debug)]
pub(super) struct ArtifactorySearch {
    pub(super) api: KeyedApi,
}

/// Returns the name of the tag whose manifest a file is, if it is one of the image in that folder.
pub(super) fn tag_of<'i>(image: &str, item: &'i WireItem) -> Option<&'i str> {
    let folder = item.path.strip_prefix(image)?.strip_prefix('/')?;
    let is_tag = !folder.contains('/') && !DIGEST_FOLDERS.iter().any(|start| folder.starts_with(start));
    (is_tag && [MANIFEST, INDEX].contains(&&*item.name)).then_some(folder)
}

impl ArtifactorySearch {
    /// Searches by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// Returns an error if the settings cannot work, such as a CA file that cannot be read.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        Ok(Self { api: KeyedApi::new(settings, retry_policy, ("Artifactory", "/artifactory"), help)? })
    }
}

/// Returns the remedy for an error of that kind.
fn help(kind: RegistryErrorKind) -> &'static str {
    match kind {
        RegistryErrorKind::Denied => {
            "the identity needs the permission Read on the repository, and searches take a signed-in user"
        }
        RegistryErrorKind::NotFound => "check the address of the API, and the key of the repository",
        RegistryErrorKind::Throttled | RegistryErrorKind::RetriesExhausted => {
            "run when Artifactory is less busy, or lower `concurrency`"
        }
        RegistryErrorKind::Status(408) => "the search took too long: run when Artifactory is less busy",
        _ => "",
    }
}

#[async_trait]
impl KeyedProduct for ArtifactorySearch {
    fn api(&self) -> &KeyedApi {
        &self.api
    }

    fn registry_path(&self, key: &str) -> String {
        format!("api/docker/{key}/v2")
    }

    async fn keys(&self) -> Result<Vec<String>, RegistryError> {
        let mut url = self.api.url("api/repositories");
        url.query_pairs_mut().append_pair("packageType", "docker");
        let found: Vec<WireRepository> = self.api.get(&TokenScope::Catalogue, url).await?.parse_json()?;
        let own = found.into_iter().filter(|repository| OWN_KINDS.contains(&&*repository.kind));
        let mut keys: Vec<String> = own.map(|repository| repository.key).collect();
        keys.sort();
        Ok(keys)
    }

    /// By the files of manifests alone.
    async fn add_tags(&self, repository: &mut Repository) -> Result<(), RegistryError> {
        let (place, items) = (self.api.place(&repository.name)?, self.list_tags(&repository.name).await?);
        add_tags(repository, &place, items, self.api.settings.records_pulls());
        Ok(())
    }

    async fn tag_names(&self, repository: &RepositoryName) -> Result<BTreeSet<String>, RegistryError> {
        let place = self.api.place(repository)?;
        let items = self.list_tags(repository).await?;
        Ok(items.iter().filter_map(|item| tag_of(&place.image, item)).map(str::to_owned).collect())
    }

    async fn tag_state(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        match &self.find_tag(repository, tag).await?[..] {
            [] => Ok(None),
            [item] => {
                let digest = digest_of(item).ok_or_else(|| list_gaps::missing_digest(repository, tag))?;
                Ok(Some(TagState { digest, pushed_at: item.pushed_at(), lock: None }))
            }
            _ => Err(ambiguous(repository, tag)),
        }
    }
}

/// Puts the tags of a list into the repository, with their manifests as far as the list tells them.
fn add_tags(repository: &mut Repository, place: &ImagePlace, items: Vec<WireItem>, records_pulls: bool) {
    let mut folders: BTreeMap<String, Vec<WireItem>> = BTreeMap::new();
    for item in items {
        if let Some(tag) = tag_of(&place.image, &item) {
            folders.entry(tag.to_owned()).or_default().push(item);
        }
    }
    for (folder, items) in folders {
        let name: TagName = match folder.parse() {
            Ok(name) => name,
            Err(error) => {
                let error: InvalidName = error;
                repository.gaps.push(list_gaps::invalid_tag(&folder, &error));
                continue;
            }
        };
        let item = &items[0];
        let digest = digest_of(item).filter(|_| items.len() == 1);
        if items.len() > 1 {
            let gap = ambiguous(&repository.name, &name).into_gap(GapTarget::Tag(name.clone()));
            repository.gaps.push(gap);
        } else if digest.is_none() {
            let gap = list_gaps::missing_digest(&repository.name, &name).into_gap(GapTarget::Tag(name.clone()));
            repository.gaps.push(gap);
        }
        if let Some(digest) = &digest {
            // An image is left unread for good: reading it would count as its download.
            let detail = if item.name == INDEX {
                ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index }
            } else {
                ManifestDetail::Listed { image_size: None }
            };
            repository.manifests.entry(digest.clone()).or_insert_with(|| listed_manifests::listed_manifest("", detail));
        }
        if let (true, 1, Ok(last)) = (records_pulls, items.len(), item.last_download()) {
            let pulled = last.map_or(PullTime::Never, |at| PullTime::At(CompactTime::from(at)));
            repository.set_pull_time(name.clone(), pulled);
        }
        let pushed_at = items.iter().filter_map(WireItem::pushed_at).max().map(CompactTime::from);
        repository.tags.push(Tag { name, digest, pushed_at, first_seen: None, lock: None });
    }
}

/// Returns the digest of a manifest: that of its file.
fn digest_of(item: &WireItem) -> Option<Digest> {
    format!("sha256:{}", item.sha256.as_deref()?.to_ascii_lowercase()).parse().ok()
}

fn ambiguous(repository: &RepositoryName, tag: &TagName) -> RegistryError {
    let message = format!("the folder of {repository}:{tag} holds an image and an index");
    RegistryError::new(RegistryErrorKind::Malformed, message)
}
