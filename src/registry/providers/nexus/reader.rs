//! Reading: repositories, tags and manifests by Nexus' API.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use jiff::Timestamp;

use super::wire::{WireAsset, WireComponent, WireComponents, WireRepository};
use crate::domain::{
    CompactTime, Digest, GapTarget, InvalidName, ManifestDetail, PullTime, Repository, RepositoryName, Tag, TagName,
    TagState, UnreadKind,
};
use crate::http_client::RetryPolicy;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::tag_rows::incomplete_list;
use crate::registry::client::{list_gaps, listed_manifests};
use crate::registry::providers::keyed_images::{ImagePlace, KeyedApi};
use crate::registry::providers::keyed_reader::KeyedProduct;
use crate::registry::{RegistryError, RegistryErrorKind, RegistrySettings};

/// Most pages of a list: a longer one is a loop.
const MAX_PAGES: usize = 40_000;

/// Lists tags in Nexus.
#[derive(Debug)]
pub(super) struct NexusSearch {
    api: KeyedApi,
}

impl NexusSearch {
    /// Searches by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// Returns an error if the settings cannot work, such as a CA file that cannot be read.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        Ok(Self { api: KeyedApi::new(settings, retry_policy, ("Nexus", ""), help)? })
    }

    /// The components of an image, which are its tags and its manifests by digest; or those of one of its tags.
    ///
    /// # Errors
    /// Returns an error if a page cannot be read, or the pages lead in a circle.
    async fn components(
        &self,
        repository: &RepositoryName,
        tag: Option<&TagName>,
    ) -> Result<Vec<WireComponent>, RegistryError> {
        let ImagePlace { key, image } = self.api.place(repository)?;
        let scope = TokenScope::List(repository.clone());
        let (mut all, mut seen, mut tokens) = (Vec::new(), HashSet::new(), HashSet::new());
        let mut next = None::<String>;
        for _ in 0..MAX_PAGES {
            let mut url = self.api.url("service/rest/v1/search");
            url.query_pairs_mut()
                .append_pair("repository", &key)
                .append_pair("format", "docker")
                .append_pair("name", &image)
                .extend_pairs(tag.map(|tag| ("version", tag.as_str())))
                .extend_pairs(next.as_deref().map(|token| ("continuationToken", token)));
            let response = self.api.get(&scope, url).await?;
            let page: WireComponents = response.parse_json()?;
            if page.items.iter().any(|item| item.repository != key) {
                return Err(response.malformed("it has components of another repository"));
            }
            let own = |item: &WireComponent| {
                let is_wanted = tag.is_none_or(|tag| item.version == tag.as_str());
                item.name == image && is_wanted
            };
            // A page may repeat what the one before ended with, if components come and go meanwhile.
            all.extend(page.items.into_iter().filter(|item| own(item) && seen.insert(item.id.clone())));
            let Some(token) = page.continuation_token else { return Ok(all) };
            if !tokens.insert(token.clone()) {
                return Err(incomplete_list(repository, "its `continuationToken` leads in a circle"));
            }
            next = Some(token);
        }
        Err(incomplete_list(repository, "it has no end"))
    }
}

/// Returns the remedy for an error of that kind.
fn help(kind: RegistryErrorKind) -> &'static str {
    match kind {
        RegistryErrorKind::Denied => "the user needs the privileges `browse` and `read` on the repository",
        RegistryErrorKind::NotFound => {
            "check the address of the API, which is not that of a Docker connector, and the repository"
        }
        RegistryErrorKind::Throttled | RegistryErrorKind::RetriesExhausted => "run when Nexus is less busy",
        _ => "",
    }
}

#[async_trait]
impl KeyedProduct for NexusSearch {
    fn api(&self) -> &KeyedApi {
        &self.api
    }

    fn registry_path(&self, key: &str) -> String {
        format!("repository/{key}/v2")
    }

    async fn keys(&self) -> Result<Vec<String>, RegistryError> {
        let url = self.api.url("service/rest/v1/repositories");
        let found: Vec<WireRepository> = self.api.get(&TokenScope::Catalogue, url).await?.parse_json()?;
        let own = found.into_iter().filter(|repository| repository.format == "docker" && repository.kind == "hosted");
        let mut keys: Vec<String> = own.map(|repository| repository.name).collect();
        keys.sort();
        Ok(keys)
    }

    /// By the components alone.
    async fn add_tags(&self, repository: &mut Repository) -> Result<(), RegistryError> {
        let components = self.components(&repository.name, None).await?;
        add_tags(repository, components, self.api.settings.records_pulls());
        Ok(())
    }

    async fn tag_names(&self, repository: &RepositoryName) -> Result<BTreeSet<String>, RegistryError> {
        let components = self.components(repository, None).await?.into_iter().filter(WireComponent::is_tag);
        Ok(components.map(|component| component.version).collect())
    }

    async fn tag_state(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        match &self.components(repository, Some(tag)).await?[..] {
            [] => Ok(None),
            [component] => {
                let asset = component.manifest();
                let digest = asset.and_then(digest_of).ok_or_else(|| list_gaps::missing_digest(repository, tag))?;
                Ok(Some(TagState { digest, pushed_at: asset.and_then(WireAsset::pushed_at), lock: None }))
            }
            _ => Err(repeated(repository, tag)),
        }
    }
}

/// Puts the tags of a list into the repository, with their manifests as far as the list tells them.
fn add_tags(repository: &mut Repository, mut components: Vec<WireComponent>, records_pulls: bool) {
    // A pull by digest is recorded at the component of the digest.
    let by_digest: HashMap<String, Timestamp> = components
        .iter()
        .filter(|component| !component.is_tag())
        .filter_map(|component| Some((component.version.clone(), component.manifest()?.last_downloaded?)))
        .collect();
    components.retain(WireComponent::is_tag);
    components.sort_by(|a, b| a.version.cmp(&b.version));
    for same in components.chunk_by(|a, b| a.version == b.version) {
        let version = &same[0].version;
        let name: TagName = match version.parse() {
            Ok(name) => name,
            Err(error) => {
                let error: InvalidName = error;
                repository.gaps.push(list_gaps::invalid_tag(version, &error));
                continue;
            }
        };
        let asset = same[0].manifest().filter(|_| same.len() == 1);
        let digest = asset.and_then(digest_of);
        if digest.is_none() {
            let error = match same {
                [_] => list_gaps::missing_digest(&repository.name, &name),
                _ => repeated(&repository.name, &name),
            };
            repository.gaps.push(error.into_gap(GapTarget::Tag(name.clone())));
        }
        if let (Some(digest), Some(asset)) = (&digest, asset) {
            // An image is left unread for good: reading it would count as its download.
            let detail = if asset.is_index() {
                ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index }
            } else {
                ManifestDetail::Listed { image_size: None }
            };
            repository.manifests.entry(digest.clone()).or_insert_with(|| listed_manifests::listed_manifest("", detail));
        }
        if let (true, Some(asset)) = (records_pulls, asset) {
            let as_digest = digest.as_ref().and_then(|digest| by_digest.get(&digest.to_string()).copied());
            let pulled =
                asset.last_downloaded.max(as_digest).map_or(PullTime::Never, |at| PullTime::At(CompactTime::from(at)));
            repository.set_pull_time(name.clone(), pulled);
        }
        let pushed = same.iter().flat_map(|component| &component.assets).filter_map(WireAsset::pushed_at).max();
        repository.tags.push(Tag {
            name,
            digest,
            pushed_at: pushed.map(CompactTime::from),
            first_seen: None,
            lock: None,
        });
    }
}

/// Returns the digest of a manifest: that of its asset.
fn digest_of(asset: &WireAsset) -> Option<Digest> {
    format!("sha256:{}", asset.checksum.as_ref()?.sha256.as_deref()?.to_ascii_lowercase()).parse().ok()
}

fn repeated(repository: &RepositoryName, tag: &TagName) -> RegistryError {
    let message = format!("{repository}:{tag} is listed several times at once");
    RegistryError::new(RegistryErrorKind::Malformed, message)
}
