//! Images as Artifact Registry lists them, as tags and manifests of a repository.
//!
//! It has the time at which an image was uploaded, and none for its tags: that stands where other registries have the
//! creation of the image, so that a tag that was seen to move later counts from then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::address::last_part;
use super::wire::{MAX_RELATED_TAGS, UploadTime, WireDetails, WireDockerImage, WireTag, WireVersion};
use crate::domain::{
    CompactTime, Digest, Gap, GapTarget, ListedKind, ListedManifest, Lock, Manifest, ManifestDetail, Repository,
    RepositoryName, Tag, TagName, UnlistedManifests,
};
use crate::http_client::one_line;
use crate::registry::client::list_gaps;
use crate::registry::client::listed_manifests::{MediaTypes, listed_manifest};
use crate::registry::{RegistryError, RegistryErrorKind};

/// The reliance on the lists of what is in an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexLists {
    /// They name every image in them.
    Images,
    /// They need not name everything that is in them, such as attestations: before something is deleted, indexes are read.
    Incomplete,
}

/// An image as a list has it, whichever list that is.
#[derive(Debug)]
pub(super) struct ListedImage {
    digest: Digest,
    tags: Vec<String>,
    uploaded_at: UploadTime,
    /// The later of its upload and its last change.
    changed_at: Option<Timestamp>,
    details: WireDetails,
}

impl ListedImage {
    /// Parses a row of the list of a whole repository. Returns the package as well.
    pub(super) fn of_docker_image(row: Value) -> Result<(String, Self), String> {
        let wire: WireDockerImage = parse_row(row)?;
        let name = last_part(&wire.name, "dockerImages").unwrap_or_default();
        let (package, digest) = name.rsplit_once('@').ok_or_else(|| format!("`{}` is not an image", wire.name))?;
        let digest = digest.parse().map_err(|why: crate::domain::InvalidDigest| why.to_string())?;
        let image = Self {
            digest,
            tags: wire.tags,
            changed_at: wire.upload_time.known().max(wire.update_time),
            uploaded_at: wire.upload_time,
            details: wire.details,
        };
        Ok((package.to_owned(), image))
    }

    /// Parses a row of the list of one package. Returns true as well if it may have more tags than the row names.
    pub(super) fn of_version(row: Value) -> Result<(Self, bool), String> {
        let wire: WireVersion = parse_row(row)?;
        let digest = last_part(&wire.name, "versions").unwrap_or_default();
        let digest = digest.parse().map_err(|why: crate::domain::InvalidDigest| why.to_string())?;
        let tag_of = |tag: &WireTag| last_part(&tag.name, "tags").unwrap_or_else(|| tag.name.clone());
        let image = Self {
            digest,
            tags: wire.related_tags.iter().map(tag_of).collect(),
            changed_at: wire.create_time.known().max(wire.update_time),
            uploaded_at: wire.create_time,
            details: wire.metadata.unwrap_or_default(),
        };
        Ok((image, wire.related_tags.len() >= MAX_RELATED_TAGS))
    }
}

/// Everything that is listed of an image's name.
#[derive(Debug, Default)]
pub(super) struct Images {
    pub(super) tags: Vec<Tag>,
    manifests: BTreeMap<Digest, Manifest>,
    /// Those that have neither tags nor children.
    loose: Vec<ListedManifest>,
    /// The uploads of all of them.
    uploaded_at: BTreeMap<Digest, Option<Timestamp>>,
    changed_at: BTreeMap<Digest, Option<Timestamp>>,
    /// Attestations in indexes, which no container runs.
    attached: BTreeSet<Digest>,
    pub(super) gaps: Vec<Gap>,
    types: MediaTypes,
    /// The own types of artifacts, where they are listed.
    artifact_types: BTreeMap<Digest, Arc<str>>,
}

impl Images {
    /// Adds an image. One that is not understood may hold or refer to anything.
    pub(super) fn add_row(&mut self, shown: &str, row: Result<ListedImage, String>) {
        match row {
            Ok(image) => self.add(image),
            Err(why) => {
                let message = format!("the images of {shown} list one that cannot be understood: {why}");
                let gap = RegistryError::new(RegistryErrorKind::Malformed, message).into_gap(GapTarget::ManifestList);
                self.gaps.push(gap);
            }
        }
    }

    fn add(&mut self, image: ListedImage) {
        let ListedImage { digest, tags, uploaded_at, changed_at, details } = image;
        if let UploadTime::Odd(text) = &uploaded_at {
            let message = format!("the upload time of {digest} cannot be understood: `{}`", one_line(text));
            let gap = RegistryError::new(RegistryErrorKind::Malformed, message);
            self.gaps.push(gap.into_gap(GapTarget::CreationTime(digest.clone())));
        }
        let uploaded_at = uploaded_at.known();
        self.uploaded_at.insert(digest.clone(), uploaded_at);
        self.changed_at.insert(digest.clone(), changed_at);
        for tag in &tags {
            self.add_tag(tag, &digest);
        }
        let kind = kind(&details);
        // The size of an index is not defined; its images have theirs.
        let image_size = details.image_size().filter(|_| kind != ListedKind::Index);
        let media_type = self.types.intern(Some(&details.media_type));
        let children = if kind == ListedKind::Index { self.children(&details) } else { Vec::new() };
        if tags.is_empty() && children.is_empty() {
            self.loose.push(ListedManifest { digest, media_type, image_size, lock: None, kind });
            return;
        }
        let detail = match kind.unread() {
            None => ManifestDetail::Listed { image_size },
            Some(kind) => ManifestDetail::Unread { image_size, kind },
        };
        let created_at = uploaded_at.map(CompactTime::from);
        if !details.artifact_type.is_empty() {
            self.artifact_types.insert(digest.clone(), self.types.intern(Some(&details.artifact_type)));
        }
        self.manifests.insert(digest, Manifest { media_type, children, created_at, ..listed_manifest("", detail) });
    }

    fn children(&mut self, details: &WireDetails) -> Vec<Digest> {
        let mut children = Vec::with_capacity(details.image_manifests.len());
        for listed in &details.image_manifests {
            // One without a digest leaves the index to be read.
            let Ok(digest) = listed.digest.parse::<Digest>() else { return Vec::new() };
            if listed.os == "unknown" {
                self.attached.insert(digest.clone());
            }
            if !children.contains(&digest) {
                children.push(digest);
            }
        }
        children
    }

    /// Adds a tag of a manifest.
    pub(super) fn add_tag(&mut self, tag: &str, digest: &Digest) {
        match tag.parse::<TagName>() {
            Ok(name) => {
                let digest = Some(digest.clone());
                self.tags.push(Tag { name, digest, pushed_at: None, first_seen: None, lock: None });
            }
            Err(why) => self.gaps.push(list_gaps::invalid_tag(tag, &why)),
        }
    }

    /// Replaces the tags by those of the list of tags, where rows of versions do not name all.
    pub(super) fn replace_tags(&mut self, rows: Vec<Value>) {
        self.tags.clear();
        for row in rows {
            let shown = row["name"].as_str().map_or_else(|| row.to_string(), str::to_owned);
            let tag = serde_json::from_value::<WireTag>(row).map_err(|why| why.to_string());
            let named = tag.and_then(|tag| named_version(&tag));
            match named {
                Ok((name, digest)) => self.add_tag(&name, &digest),
                Err(why) => self.gaps.push(list_gaps::invalid_tag(&shown, &why)),
            }
        }
        let tagged: BTreeSet<Digest> = self.tags.iter().filter_map(|tag| tag.digest.clone()).collect();
        for row in self.loose.extract_if(.., |row| tagged.contains(&row.digest)).collect::<Vec<_>>() {
            let uploaded_at = self.uploaded_at.get(&row.digest).copied().flatten();
            let created_at = uploaded_at.map(CompactTime::from);
            self.manifests.insert(row.digest.clone(), Manifest { created_at, ..row.into_manifest() });
        }
    }

    /// Sorts everything. Returns false if a tag is met twice: it moved from what was read to what was not.
    pub(super) fn finish(&mut self) -> bool {
        // What an index lists may have a row of its own, and no tag.
        let listed: BTreeSet<Digest> =
            self.manifests.values().flat_map(|manifest| &manifest.children).cloned().collect();
        for row in self.loose.extract_if(.., |row| listed.contains(&row.digest)).collect::<Vec<_>>() {
            self.manifests.entry(row.digest.clone()).or_insert_with(|| row.into_manifest());
        }
        for digest in listed {
            let detail = ManifestDetail::Listed { image_size: None };
            self.manifests.entry(digest).or_insert_with(|| listed_manifest("", detail));
        }
        self.loose.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
        self.tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.gaps.sort();
        self.tags.windows(2).all(|pair| pair[0].name != pair[1].name)
    }

    /// Returns true if there is nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.uploaded_at.is_empty() && self.tags.is_empty() && self.gaps.is_empty()
    }

    /// Returns the last changes of the manifests that no tag names.
    pub(super) fn untagged_changes(&self) -> BTreeMap<Digest, Timestamp> {
        let tagged: BTreeSet<&Digest> = self.tags.iter().filter_map(|tag| tag.digest.as_ref()).collect();
        let without = self.changed_at.iter().filter(|(digest, _)| !tagged.contains(digest));
        without.filter_map(|(digest, at)| Some((digest.clone(), (*at)?))).collect()
    }

    /// The facts of a repository, whose tags cannot be removed if they are immutable.
    pub(super) fn into_repository(
        mut self,
        name: RepositoryName,
        look_for: &BTreeSet<Digest>,
        (immutable_tags, lists): (bool, IndexLists),
    ) -> Repository {
        let mut repository = Repository { unlisted: UnlistedManifests::None, ..Repository::empty(name) };
        for tag in &mut self.tags {
            tag.lock = immutable_tags.then_some(Lock::DeleteAndWrite);
        }
        if lists == IndexLists::Images && look_for.is_empty() {
            for manifest in self.manifests.values_mut().filter(|manifest| !manifest.children.is_empty()) {
                manifest.detail = ManifestDetail::Listed { image_size: None };
            }
        }
        (repository.tags, repository.manifests) = (self.tags, self.manifests);
        (repository.listed, repository.gaps) = (self.loose, self.gaps);
        repository.artifact_types = self.artifact_types;
        repository.attached = self.attached;
        repository.include_listed(look_for);
        for digest in look_for.iter().filter(|digest| repository.manifests.contains_key(*digest)) {
            repository.untagged.insert(digest.clone(), self.uploaded_at.get(digest).copied().flatten());
        }
        repository
    }
}

/// Parses a row of a list. An error names the image.
fn parse_row<T: DeserializeOwned>(row: Value) -> Result<T, String> {
    let name = row["name"].as_str().map(one_line);
    serde_json::from_value(row).map_err(|why| match name {
        Some(name) => format!("`{name}`: {why}"),
        None => why.to_string(),
    })
}

/// Returns a tag's name and the digest of the version that it is at.
pub(super) fn named_version(tag: &WireTag) -> Result<(String, Digest), String> {
    let name = last_part(&tag.name, "tags").ok_or_else(|| format!("`{}` is not a tag", tag.name))?;
    let digest = last_part(&tag.version, "versions").unwrap_or_default();
    let digest = digest.parse().map_err(|why: crate::domain::InvalidDigest| why.to_string())?;
    Ok((name, digest))
}

/// The kind of an image by the types that are listed. What refers to another manifest has a type of artifact, by the published
/// description of `artifactType`.
fn kind(details: &WireDetails) -> ListedKind {
    match details.media_type.as_str() {
        "application/vnd.docker.distribution.manifest.v2+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws"
        | "application/vnd.docker.distribution.manifest.v1+json" => ListedKind::Image,
        "application/vnd.oci.image.manifest.v1+json" if details.artifact_type.is_empty() => ListedKind::Image,
        "application/vnd.oci.image.manifest.v1+json" => ListedKind::Artifact,
        // An index, or something of no known type, which may be one.
        _ => ListedKind::Index,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_upload_time_that_is_not_understood_leaves_its_image_undated_and_is_named() {
        for (time, known, odd) in [
            (json!("2026-11-20T12:00:00Z"), true, false),
            (json!(null), false, false),
            (json!(""), false, true),
            (json!("2026-11-20T12:00:00"), false, true),
            (json!(1_795_176_000), false, true),
        ] {
            let digest = Digest::of(b"one");
            let name = format!("projects/p/locations/l/repositories/r/dockerImages/api@{digest}");
            let row = json!({
                "name": name, "tags": ["v1"], "uploadTime": time, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            });
            let (package, image) = ListedImage::of_docker_image(row).unwrap();
            let mut images = Images::default();
            images.add_row("r", Ok(image));
            assert!(images.finish() && package == "api");
            let lists = (false, IndexLists::Images);
            let repository = images.into_repository("p/r/api".parse().unwrap(), &BTreeSet::new(), lists);
            assert_eq!(repository.tags.len(), 1, "{time}");
            assert_eq!(repository.manifests[&digest].created_at.is_some(), known, "{time}");
            let gaps: Vec<_> =
                repository.gaps.iter().map(|gap| (&gap.target, gap.message.contains("upload time"))).collect();
            let target = GapTarget::CreationTime(digest.clone());
            assert_eq!(gaps, if odd { vec![(&target, true)] } else { Vec::new() }, "{time}");
        }
        let odd = json!({ "name": "projects/p/locations/l/repositories/r/dockerImages/api@sha256:1", "tags": 7 });
        let why = ListedImage::of_docker_image(odd).unwrap_err();
        assert!(why.contains("dockerImages/api@sha256:1`: "), "{why}");
    }
}
