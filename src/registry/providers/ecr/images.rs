//! Images as Amazon ECR lists them, as tags and manifests of a repository.
//!
//! One list has every image, tagged or not, with its tags, its type and what it refers to. It has the time at which an image
//! was pushed, and none for its tags: that stands where other registries have the creation of the image, so that a tag
//! that was seen to move later counts from then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::api::{EcrApi, Operation, in_repository};
use super::wire::{WireImage, WireImages};
use crate::domain::{
    CompactTime, Digest, Gap, GapTarget, InvalidDigest, ListedKind, ListedManifest, Lock, Manifest, ManifestDetail,
    PullTime, Repository, RepositoryName, Tag, TagName, UnlistedManifests, UnreadKind,
};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::list_gaps;
use crate::registry::client::listed_manifests::{MediaTypes, listed_manifest};
use crate::registry::{RegistryError, RegistryErrorKind};

/// Most images on a page.
const PAGE: u32 = 1000;
/// Most reads of a list in which tags move meanwhile.
const MAX_READS: usize = 3;
/// The delay with which pulls are recorded
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html>).
const PULL_TIME_DELAY: SignedDuration = SignedDuration::from_hours(24);

/// Everything that is listed of a repository.
#[derive(Default)]
pub(super) struct Images {
    pub(super) tags: Vec<Tag>,
    manifests: BTreeMap<Digest, Manifest>,
    /// Those that have neither tags nor subjects.
    loose: Vec<ListedManifest>,
    /// The pushes of all of them.
    pushed_at: BTreeMap<Digest, Option<Timestamp>>,
    /// The last pulls on record. Each can be a day older than the pull.
    pulled_at: BTreeMap<Digest, Timestamp>,
    pub(super) gaps: Vec<Gap>,
    types: MediaTypes,
    /// The own types of artifacts, where they are listed.
    artifact_types: BTreeMap<Digest, Arc<str>>,
}

impl EcrApi {
    /// Reads the images of a repository, those in the archive among them.
    ///
    /// # Errors
    /// When the list could not be read whole, or tags moved each time that it was read.
    pub(super) async fn list_images(&self, name: &RepositoryName) -> Result<Images, RegistryError> {
        let scope = TokenScope::List(name.clone());
        let parameters = in_repository(name, json!({ "filter": { "tagStatus": "ANY", "imageStatus": "ANY" } }));
        for _ in 0..MAX_READS {
            let rows = self.read_pages::<WireImages>(Operation::DescribeImages, &scope, &parameters, PAGE).await?;
            let mut images = Images::default();
            for row in rows {
                images.add_row(name, row);
            }
            let mut seen = BTreeSet::new();
            // A tag that moves from what was read to what was not is met twice.
            if images.tags.iter().all(|tag| seen.insert(&tag.name)) {
                images.finish();
                return Ok(images);
            }
        }
        let message = format!(
            "the list of images of {name} is not complete: tags moved each time that it was read; run again when that is over"
        );
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }
}

impl Images {
    /// Adds an image. One that is not understood may hold or refer to anything.
    fn add_row(&mut self, name: &RepositoryName, row: Value) {
        let parsed = serde_json::from_value::<WireImage>(row).map_err(|why| why.to_string());
        let added = parsed.and_then(|image| self.add(&image).map_err(|why| why.to_string()));
        if let Err(why) = added {
            let message = format!("the images of {name} list one that cannot be understood: {why}");
            let gap = RegistryError::new(RegistryErrorKind::Malformed, message).into_gap(GapTarget::ManifestList);
            self.gaps.push(gap);
        }
    }

    fn add(&mut self, image: &WireImage) -> Result<(), InvalidDigest> {
        let digest: Digest = image.image_digest.parse()?;
        let subject = image.subject_manifest_digest.as_deref().map(str::parse::<Digest>).transpose()?;
        self.pushed_at.insert(digest.clone(), image.image_pushed_at);
        if let Some(pulled_at) = image.last_recorded_pull_time {
            self.pulled_at.insert(digest.clone(), pulled_at);
        }
        for tag in &image.image_tags {
            match tag.parse::<TagName>() {
                Ok(name) => {
                    let digest = Some(digest.clone());
                    self.tags.push(Tag { name, digest, pushed_at: None, first_seen: None, lock: None });
                }
                Err(why) => self.gaps.push(list_gaps::invalid_tag(tag, &why)),
            }
        }
        let kind = kind(image, subject.is_some());
        // Nothing is read from the archive, so what is in it could not be put back.
        let lock = image.is_archived().then_some(Lock::DeleteAndWrite);
        let image_size = image.image_size_in_bytes.filter(|_| kind != ListedKind::Index);
        let media_type = self.types.intern(image.image_manifest_media_type.as_deref());
        if image.image_tags.is_empty() && subject.is_none() {
            self.loose.push(ListedManifest { digest, media_type, image_size, lock, kind });
            return Ok(());
        }
        let detail = match kind.unread() {
            None => ManifestDetail::Listed { image_size },
            Some(kind) => ManifestDetail::Unread { image_size, kind },
        };
        let created_at = image.image_pushed_at.map(CompactTime::from);
        let subject = subject.map(Box::new);
        if let Some(own) = image.artifact_media_type.as_deref().filter(|own| !own.is_empty()) {
            self.artifact_types.insert(digest.clone(), self.types.intern(Some(own)));
        }
        self.manifests
            .insert(digest, Manifest { media_type, subject, created_at, lock, ..listed_manifest("", detail) });
        Ok(())
    }

    fn finish(&mut self) {
        self.loose.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
        self.tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.gaps.sort();
    }

    /// Returns the time until which an image may have been pulled: a day after the last pull on record.
    fn pull_time(&self, digest: &Digest) -> PullTime {
        let recorded = self.pulled_at.get(digest);
        recorded.map_or(PullTime::Never, |at| PullTime::At((*at + PULL_TIME_DELAY).into()))
    }

    /// Returns the last pull of an image that no tag names: a runtime may pull the image of its platform by digest alone.
    fn last_untagged_pull(&self) -> Option<CompactTime> {
        let named: BTreeSet<&Digest> = self.tags.iter().filter_map(|tag| tag.digest.as_ref()).collect();
        let without = self.pulled_at.keys().filter(|digest| !named.contains(digest));
        without.filter_map(|digest| self.pull_time(digest).at()).max()
    }

    /// Returns true for an index. What it lists is not known: to read it would count as a pull.
    fn is_index(&self, digest: &Digest) -> bool {
        self.manifests.get(digest).and_then(Manifest::unread_kind) == Some(UnreadKind::Index)
    }

    /// Returns the pushes of the manifests that no tag names.
    pub(super) fn untagged_pushes(&self) -> BTreeMap<Digest, Timestamp> {
        let tagged: BTreeSet<&Digest> = self.tags.iter().filter_map(|tag| tag.digest.as_ref()).collect();
        let without = self.pushed_at.iter().filter(|(digest, _)| !tagged.contains(digest));
        without.filter_map(|(digest, at)| Some((digest.clone(), (*at)?))).collect()
    }

    /// The facts of a repository.
    pub(super) fn into_repository(self, name: RepositoryName, look_for: &BTreeSet<Digest>) -> Repository {
        let mut repository = Repository { unlisted: UnlistedManifests::None, ..Repository::empty(name) };
        let by_digest = self.last_untagged_pull();
        for (tag, digest) in self.tags.iter().filter_map(|tag| Some((&tag.name, tag.digest.as_ref()?))) {
            // Any of the images that no tag names may be in an index.
            let within = by_digest.filter(|_| self.is_index(digest)).map_or(PullTime::Never, PullTime::At);
            repository.set_pull_time(tag.clone(), self.pull_time(digest).max(within));
        }
        repository.digest_pulled_at = by_digest;
        (repository.tags, repository.manifests) = (self.tags, self.manifests);
        (repository.listed, repository.gaps) = (self.loose, self.gaps);
        repository.artifact_types = self.artifact_types;
        let subjects: BTreeSet<Digest> =
            repository.manifests.values().filter_map(|manifest| manifest.subject.as_deref().cloned()).collect();
        repository.include_listed(&subjects);
        repository.include_listed(look_for);
        for digest in look_for.iter().filter(|digest| repository.manifests.contains_key(*digest)) {
            repository.untagged.insert(digest.clone(), self.pushed_at.get(digest).copied().flatten());
        }
        repository
    }
}

/// The kind of an image by the types that are listed. A subject is listed as well, but not of what was pushed before Amazon
/// ECR knew them, so what is not an image by its type is read where that matters.
fn kind(image: &WireImage, has_subject: bool) -> ListedKind {
    const IMAGES: [&str; 2] =
        ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
    let is_image = image.artifact_media_type.as_deref().is_some_and(|kind| IMAGES.contains(&kind));
    match image.image_manifest_media_type.as_deref().unwrap_or_default() {
        "application/vnd.docker.distribution.manifest.v2+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws"
        | "application/vnd.docker.distribution.manifest.v1+json" => ListedKind::Image,
        "application/vnd.oci.image.manifest.v1+json" if is_image || has_subject => ListedKind::Image,
        "application/vnd.oci.image.manifest.v1+json" => ListedKind::Artifact,
        // An index, or something of no known type, which may be one.
        _ => ListedKind::Index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_count_from_a_day_after_their_record_for_all_tags_of_an_image() {
        let name: RepositoryName = "shop/api".parse().unwrap();
        let row = |word: &str, tags: Value, pulled: Value| {
            let digest = Digest::of(word.as_bytes()).to_string();
            let kind = if word == "index" { "index" } else { "manifest" };
            json!({
                "imageDigest": digest, "imageTags": tags, "imagePushedAt": 1_760_000_000, "lastRecordedPullTime": pulled,
                "imageManifestMediaType": format!("application/vnd.oci.image.{kind}.v1+json"),
                "artifactMediaType": "application/vnd.oci.image.config.v1+json"
            })
        };
        let mut images = Images::default();
        images.add_row(&name, row("pulled", json!(["stable", "v1"]), json!(1_764_460_800.5)));
        images.add_row(&name, row("never", json!(["v2"]), Value::Null));
        images.add_row(&name, row("index", json!(["v3"]), json!(1_764_000_000)));
        images.add_row(&name, row("untagged", json!([]), json!(1_764_460_800)));
        images.finish();
        assert_eq!(images.gaps, []);
        let repository = images.into_repository(name, &BTreeSet::new());
        let pulled =
            PullTime::At(Timestamp::from_millisecond((1_764_460_800 + 24 * 3600) * 1000 + 500).unwrap().into());
        // The image that no tag names may be in the index, and nothing else.
        let by_digest: CompactTime = Timestamp::from_second(1_764_460_800 + 24 * 3600).unwrap().into();
        let expected = [("stable", pulled), ("v1", pulled), ("v2", PullTime::Never), ("v3", PullTime::At(by_digest))];
        assert_eq!(repository.digest_pulled_at, Some(by_digest));
        let found: Vec<_> = repository.pull_times.iter().map(|(tag, pulled)| (tag.as_str(), *pulled)).collect();
        assert_eq!(found, expected);
    }
}
