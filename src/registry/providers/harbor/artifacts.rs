//! Artifacts as Harbor lists them, as tags and manifests of a repository.
//!
//! Harbor lists an artifact with its tags, with the manifests that it lists itself (`references`) and with what refers to it
//! (`accessories`). What refers to something has no row of its own, nor has an image of an index without a tag. So one
//! list tells everything but what is in the manifests themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::api::HarborReader;
use super::keyset_list::KeysetList;
use super::wire::{ListedPlatform, WireAccessory, WireArtifact, WireReference, WireTag};
use super::{artifacts_path, repository_path, wire};
use crate::domain::{
    CompactTime, Digest, Gap, GapTarget, InvalidDigest, InvalidName, ListedKind, ListedManifest, Manifest,
    ManifestDetail, PullTime, Repository, RepositoryName, Tag, TagName, UnlistedManifests, UnreadKind, is_index_type,
};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::list_gaps;
use crate::registry::client::listed_manifests::{MediaTypes, listed_manifest};
use crate::registry::{RegistryError, RegistryErrorKind};

/// Most reads of a list in which tags move meanwhile.
const MAX_READS: usize = 3;

/// A tag as Harbor lists it.
pub(super) struct ListedTag {
    pub(super) tag: Tag,
    /// The last pull of its image; `None` where none is on record.
    pub(super) pulled_at: Option<Timestamp>,
}

/// Everything that Harbor lists of a repository.
#[derive(Default)]
pub(super) struct Artifacts {
    pub(super) tags: Vec<ListedTag>,
    pub(super) manifests: BTreeMap<Digest, Manifest>,
    /// Those that have neither tags nor ties.
    pub(super) loose: Vec<ListedManifest>,
    /// Those that no container runs: attestations in indexes, and signatures.
    attached: BTreeSet<Digest>,
    /// The artifacts that have a row of their own, with the time of their push.
    pub(super) rows: BTreeMap<Digest, Option<Timestamp>>,
    /// The last pull of each artifact by its digest, where one is on record.
    pulls: BTreeMap<Digest, Timestamp>,
    pub(super) gaps: Vec<Gap>,
    types: MediaTypes,
    /// The own types of artifacts, where they are listed.
    artifact_types: BTreeMap<Digest, Arc<str>>,
}

impl HarborReader {
    /// Everything that Harbor lists of a repository; `None` if it does not know the repository.
    ///
    /// # Errors
    /// When the list could not be read whole, or tags moved each time that it was read.
    pub(super) async fn list_artifacts(&self, name: &RepositoryName) -> Result<Option<Artifacts>, RegistryError> {
        let list = KeysetList {
            path: artifacts_path(name),
            key: ("id", "id"),
            condition: None,
            parameters: &[("with_tag", "true"), ("with_immutable_status", "true"), ("with_accessory", "true")],
            repository: Some(name),
        };
        for _ in 0..MAX_READS {
            let Some(rows) = self.read_list(&list).await? else { return Ok(None) };
            // The list of a repository that does not exist is empty as well.
            if rows.is_empty() && !self.has_repository(name).await? {
                return Ok(None);
            }
            let mut artifacts = Artifacts::default();
            for row in rows {
                artifacts.add_row(name, row);
            }
            let mut seen = BTreeSet::new();
            // A tag that moves from what was read to what was not is met twice.
            if artifacts.tags.iter().all(|listed| seen.insert(&listed.tag.name)) {
                artifacts.finish();
                return Ok(Some(artifacts));
            }
        }
        let message = format!(
            "the list of artifacts of {name} is not complete: tags moved each time that it was read; run again when that is over"
        );
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }

    /// Returns true if Harbor knows a repository.
    async fn has_repository(&self, name: &RepositoryName) -> Result<bool, RegistryError> {
        let response = self.get(&TokenScope::List(name.clone()), &repository_path(name), &[]).await?;
        match response.status {
            http::StatusCode::OK => Ok(true),
            _ if wire::is_absence(&response) => Ok(false),
            _ => Err(wire::refusal(&response, wire::Right::Read)),
        }
    }
}

impl Artifacts {
    /// Adds an artifact. One that is not understood may hold or refer to anything.
    fn add_row(&mut self, name: &RepositoryName, row: Value) {
        let parsed = serde_json::from_value::<WireArtifact>(row).map_err(|why| why.to_string());
        let added = parsed.and_then(|artifact| self.add(&artifact).map_err(|why| why.to_string()));
        if let Err(why) = added {
            let message = format!("the artifacts of {name} list one that cannot be understood: {why}");
            let gap = RegistryError::new(RegistryErrorKind::Malformed, message).into_gap(GapTarget::ManifestList);
            self.gaps.push(gap);
        }
    }

    /// Adds an artifact with its tags and ties.
    pub(super) fn add(&mut self, artifact: &WireArtifact) -> Result<(), InvalidDigest> {
        let digest: Digest = artifact.digest.parse()?;
        self.rows.insert(digest.clone(), artifact.push_time);
        self.pulls.extend(artifact.pull_time.map(|pulled| (digest.clone(), pulled)));
        let kind = kind(artifact);
        let media_type = self.types.intern(artifact.manifest_media_type.as_deref());
        let (tags, ties) = (artifact.tags.len(), artifact.references.len() + artifact.accessories.len());
        for tag in &artifact.tags {
            self.add_tag(&digest, tag, artifact.pull_time);
        }
        for accessory in &artifact.accessories {
            self.add_accessory(&digest, accessory)?;
        }
        if tags + ties == 0 {
            let (image_size, lock) = (artifact.size, None);
            self.loose.push(ListedManifest { digest, media_type, image_size, lock, kind });
            return Ok(());
        }
        let children = self.add_children(&artifact.references)?;
        let detail = match kind.unread() {
            // All that an index lists is in its references; without any it would have to be read.
            Some(UnreadKind::Index) if !children.is_empty() => ManifestDetail::Listed { image_size: artifact.size },
            Some(kind) => ManifestDetail::Unread { image_size: artifact.size, kind },
            None => ManifestDetail::Listed { image_size: artifact.size },
        };
        if let Some(own) = own_type(artifact) {
            self.artifact_types.insert(digest.clone(), self.types.intern(Some(own)));
        }
        let known = self.manifests.remove(&digest);
        let subject = known.and_then(|known| known.subject);
        self.manifests.insert(digest, Manifest { media_type, children, subject, ..listed_manifest("", detail) });
        Ok(())
    }

    fn add_tag(&mut self, digest: &Digest, entry: &Value, pulled: Option<Timestamp>) {
        let shown = entry["name"].as_str().map_or_else(|| entry.to_string(), str::to_owned);
        let wire: WireTag = match serde_json::from_value(entry.clone()) {
            Ok(wire) => wire,
            Err(why) => return self.gaps.push(list_gaps::invalid_tag(&shown, &why)),
        };
        let tag_name: TagName = match wire.name.parse() {
            Ok(tag_name) => tag_name,
            Err(why) => {
                let why: InvalidName = why;
                return self.gaps.push(list_gaps::invalid_tag(&shown, &why));
            }
        };
        let (pushed_at, lock, pulled_at) = (wire.push_time.map(CompactTime::from), wire.lock(), wire.pulled_at(pulled));
        let tag = Tag { name: tag_name, digest: Some(digest.clone()), pushed_at, first_seen: None, lock };
        self.tags.push(ListedTag { tag, pulled_at });
    }

    fn add_accessory(&mut self, subject: &Digest, accessory: &WireAccessory) -> Result<(), InvalidDigest> {
        let digest: Digest = accessory.digest.parse()?;
        let image_size = accessory.size();
        let detail = if accessory.lists_nothing() {
            self.attached.insert(digest.clone());
            ManifestDetail::Listed { image_size }
        } else {
            ManifestDetail::Unread { image_size, kind: UnreadKind::Index }
        };
        let subject = Some(Box::new(subject.clone()));
        self.manifests.insert(digest, Manifest { subject, ..listed_manifest("", detail) });
        Ok(())
    }

    /// Adds what an index lists, as far as the index says what it is. A row of its own says more.
    fn add_children(&mut self, references: &[WireReference]) -> Result<Vec<Digest>, InvalidDigest> {
        let mut children = Vec::with_capacity(references.len());
        for reference in references {
            let digest: Digest = reference.child_digest.parse()?;
            if !children.contains(&digest) {
                children.push(digest.clone());
            }
            let detail = match reference.platform() {
                ListedPlatform::Known => ManifestDetail::Listed { image_size: None },
                ListedPlatform::Unknown => {
                    self.attached.insert(digest.clone());
                    ManifestDetail::Listed { image_size: None }
                }
                ListedPlatform::Missing => ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index },
            };
            self.manifests.entry(digest).or_insert_with(|| listed_manifest("", detail));
        }
        Ok(children)
    }

    /// Puts right what only the whole list tells.
    fn finish(&mut self) {
        // What an index lists may have neither tags nor ties of its own, and have a row all the same.
        let led_to = |row: &mut ListedManifest| self.manifests.contains_key(&row.digest);
        for row in self.loose.extract_if(.., led_to).collect::<Vec<_>>() {
            let ties = self.manifests.remove(&row.digest);
            let subject = ties.and_then(|known| known.subject);
            self.manifests.insert(row.digest.clone(), Manifest { subject, ..row.into_manifest() });
        }
        self.loose.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
        self.tags.sort_unstable_by(|a, b| a.tag.name.cmp(&b.tag.name));
        for listed in &self.tags {
            if let Some(digest) = &listed.tag.digest {
                self.attached.remove(digest);
            }
        }
        share_sizes(&mut self.manifests, &self.rows);
    }

    /// Returns the last pull of a tag, of its artifact, or of a manifest in it: a runtime pulls the image of its platform by
    /// digest.
    fn last_pull(&self, listed: &ListedTag) -> PullTime {
        let index = listed.tag.digest.as_ref().and_then(|digest| self.manifests.get(digest));
        let children =
            index.iter().flat_map(|index| &index.children).filter_map(|child| self.pulls.get(child).copied());
        children.chain(listed.pulled_at).max().map_or(PullTime::Never, |pulled| PullTime::At(pulled.into()))
    }

    /// Returns the facts of a repository, with the last pull of each tag if Harbor records them all.
    pub(super) fn into_repository(
        mut self,
        name: RepositoryName,
        look_for: &BTreeSet<Digest>,
        records_pulls: bool,
    ) -> Repository {
        // Harbor lists no image that only an index contains.
        let mut repository = Repository { unlisted: UnlistedManifests::InListedIndexes, ..Repository::empty(name) };
        repository.tags.reserve(self.tags.len());
        for listed in std::mem::take(&mut self.tags) {
            if records_pulls {
                repository.set_pull_time(listed.tag.name.clone(), self.last_pull(&listed));
            }
            repository.tags.push(listed.tag);
        }
        self.gaps.sort();
        (repository.manifests, repository.attached) = (self.manifests, self.attached);
        (repository.listed, repository.gaps) = (self.loose, self.gaps);
        repository.artifact_types = self.artifact_types;
        repository.include_listed(look_for);
        for digest in look_for.iter().filter(|digest| repository.manifests.contains_key(*digest)) {
            repository.untagged.insert(digest.clone(), self.rows.get(digest).copied().flatten());
        }
        repository
    }

    /// Puts an artifact that was asked for by itself into the facts of a repository. Its size is counted there already where
    /// something else leads to it.
    pub(super) fn add_to(self, repository: &mut Repository) {
        let loose = self.loose.into_iter().map(|row| (row.digest.clone(), row.into_manifest()));
        for (digest, mut manifest) in self.manifests.into_iter().chain(loose) {
            if let Some(known) = repository.manifests.get(&digest) {
                if !known.is_unread() && manifest.is_unread() {
                    continue;
                }
                manifest.subject = manifest.subject.or_else(|| known.subject.clone());
                if let Some(size) = listed_size(known) {
                    set_size(&mut manifest, Some(size));
                }
            }
            repository.manifests.insert(digest, manifest);
        }
        repository.artifact_types.extend(self.artifact_types);
        repository.attached.extend(self.attached);
        repository.gaps.extend(self.gaps);
        repository.gaps.sort();
    }
}

/// Harbor counts the images of an index as part of it, and lists no size of those that have no row of their own. So each of
/// them counts with its index; where two indexes list the same one, the sizes of both stay unknown.
fn share_sizes(manifests: &mut BTreeMap<Digest, Manifest>, rows: &BTreeMap<Digest, Option<Timestamp>>) {
    let mut parents: BTreeMap<Digest, u32> = BTreeMap::new();
    for child in manifests.values().flat_map(|manifest| &manifest.children) {
        *parents.entry(child.clone()).or_default() += 1;
    }
    let indexes = manifests.iter().filter(|(_, found)| !found.children.is_empty());
    let mut sizes = Vec::new();
    for (digest, index) in indexes {
        let shared = index.children.iter().any(|child| !rows.contains_key(child) && parents[child] > 1);
        let own_rows = index.children.iter().filter(|child| rows.contains_key(*child));
        let listed: Option<u64> = own_rows.map(|child| listed_size(manifests.get(child)?)).sum();
        let size = listed_size(index).zip(listed).map(|(whole, listed)| whole.saturating_sub(listed));
        let within = index.children.iter().filter(|child| !rows.contains_key(*child)).cloned();
        sizes.push((digest.clone(), size.filter(|_| !shared), within.collect::<Vec<_>>()));
    }
    for (index, size, within) in sizes {
        let none = size.map(|_| 0);
        for (digest, size) in std::iter::once((&index, size)).chain(within.iter().map(|child| (child, none))) {
            if let Some(manifest) = manifests.get_mut(digest) {
                set_size(manifest, size);
            }
        }
    }
}

/// The size that Harbor lists of a manifest.
fn listed_size(manifest: &Manifest) -> Option<u64> {
    match manifest.detail {
        ManifestDetail::Listed { image_size } | ManifestDetail::Unread { image_size, .. } => image_size,
        ManifestDetail::Full => None,
    }
}

fn set_size(manifest: &mut Manifest, size: Option<u64>) {
    match &mut manifest.detail {
        ManifestDetail::Listed { image_size } | ManifestDetail::Unread { image_size, .. } => *image_size = size,
        ManifestDetail::Full => {}
    }
}

/// Returns the own type of an artifact that is not an index: `artifactType`, else the media type of its configuration.
/// Versions without the former list the latter alone, and an empty configuration says nothing then.
fn own_type(artifact: &WireArtifact) -> Option<&str> {
    let stated = artifact.artifact_type.as_deref().filter(|own| !own.is_empty());
    let config = artifact.media_type.as_deref().filter(|own| !matches!(*own, "" | "application/vnd.oci.empty.v1+json"));
    let is_index = artifact.manifest_media_type.as_deref().is_none_or(|kind| kind.is_empty() || is_index_type(kind));
    stated.or(config).filter(|_| !is_index)
}

/// The kind of an artifact by the types that Harbor lists. It refers to nothing that Harbor knows of, or it would be an
/// accessory. Versions before 2.8 know no referrers, so that anything but an image may be one.
pub(super) fn kind(artifact: &WireArtifact) -> ListedKind {
    const IMAGES: [&str; 2] =
        ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
    let manifest = artifact.manifest_media_type.as_deref().unwrap_or_default();
    let is_image = artifact.media_type.as_deref().is_some_and(|config| IMAGES.contains(&config))
        && artifact.artifact_type.as_deref().is_none_or(|kind| kind.is_empty() || IMAGES.contains(&kind));
    match manifest {
        "application/vnd.docker.distribution.manifest.v2+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws"
        | "application/vnd.docker.distribution.manifest.v1+json" => ListedKind::Image,
        "application/vnd.oci.image.manifest.v1+json" if is_image => ListedKind::Image,
        "application/vnd.oci.image.manifest.v1+json" => ListedKind::Artifact,
        // An index, or something of no known type, which may be one.
        _ => ListedKind::Index,
    }
}
