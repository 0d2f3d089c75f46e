//! The formula of a generated registry: names, times and bytes from a repository's and a tag's number alone.

use axum::body::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::demo::blob::Blob;
use crate::demo::image::media_type;
use crate::demo::registry::content::{Attributes, Child};
use crate::domain::Digest;

/// A registry of repositories of equal size, whose content is a function of the numbers of repository and tag.
///
/// Tags are named `build-0000000` and so on, each pushed `interval_seconds` after the one before, so that their order
/// by name and by time is the same. The manifests of an image are pushed a millisecond apart, the last together with
/// its first tag: for an index first the images of its platforms, then their attestations, then the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedWorld {
    /// The number of repositories; at most 100,000.
    pub repositories: u32,
    /// The number of tags in each; at least one, at most ten million.
    pub tags: u32,
    /// The platforms of each index, at most eight; 0 makes plain images.
    pub platforms: u8,
    /// True if the index contains an attestation for each platform, as buildkit adds them.
    pub attestations: bool,
    /// Makes every n-th tag share the image of the tag before it (at least 2). With `None`, each tag has its own image.
    pub shared_every: Option<u32>,
    /// Locks every n-th tag against deletion.
    pub locked_every: Option<u32>,
    /// The push time of the newest tag, to the second.
    pub newest: Timestamp,
    /// Seconds between the pushes of two tags; at least one.
    pub interval_seconds: u32,
}

static ARCHITECTURES: [&str; 8] = ["amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "mips64le"];
const OS: &str = "linux";
/// The operating system and architecture of attestations.
const UNKNOWN: &str = "unknown";
const TAG_PREFIX: &str = "build-";

impl GeneratedWorld {
    /// Creates a world of plain images, a minute apart, one for each tag.
    #[must_use]
    pub fn new(repositories: u32, tags: u32, newest: Timestamp) -> Self {
        Self {
            repositories,
            tags,
            platforms: 0,
            attestations: false,
            shared_every: None,
            locked_every: None,
            newest,
            interval_seconds: 60,
        }
    }

    /// Returns the name of the repository of that number.
    #[must_use]
    pub fn repository_name(number: u32) -> String {
        format!("team-{:02}/service-{number:05}", number % 40)
    }

    /// Returns the name of the tag of that number.
    #[must_use]
    pub fn tag_name(number: u32) -> String {
        format!("{TAG_PREFIX}{number:07}")
    }

    /// Returns the number of a tag by its name.
    pub(super) fn tag_number(&self, name: &str) -> Option<u32> {
        let number: u32 = name.strip_prefix(TAG_PREFIX)?.parse().ok()?;
        (number < self.tags && Self::tag_name(number) == name).then_some(number)
    }

    /// Returns the push time of a tag.
    ///
    /// # Panics
    /// If no tag has that number.
    #[must_use]
    pub fn tag_time(&self, tag: u32) -> Timestamp {
        let seconds = i64::from(self.tags - 1 - tag) * i64::from(self.interval_seconds);
        let newest = Timestamp::from_second(self.newest.as_second()).expect("a time without its fraction is one");
        newest - SignedDuration::from_secs(seconds)
    }

    /// Returns the attributes of a tag.
    pub(super) fn tag_attributes(&self, tag: u32) -> Attributes {
        let locked = self.locked_every.is_some_and(|every| tag % every == every - 1);
        Attributes { delete: !locked, ..Attributes::default() }
    }

    /// Returns the number of the image that a tag names.
    pub(super) fn image_of(&self, tag: u32) -> u32 {
        match self.shared_every {
            None => tag,
            Some(every) => tag / every * (every - 1) + (tag % every).min(every - 2),
        }
    }

    /// Returns the tags that name an image.
    pub(super) fn tags_of(&self, image: u32) -> impl Iterator<Item = u32> {
        let first = self.first_tag(image);
        let second = (first + 1..self.tags).take(1).filter(move |tag| self.image_of(*tag) == image);
        std::iter::once(first).chain(second)
    }

    fn first_tag(&self, image: u32) -> u32 {
        match self.shared_every {
            None => image,
            Some(every) => image / (every - 1) * every + image % (every - 1),
        }
    }

    /// Returns the number of images in each repository.
    #[must_use]
    pub fn images(&self) -> u32 {
        self.image_of(self.tags - 1) + 1
    }

    /// Returns the number of manifests of each image.
    #[must_use]
    pub fn manifests_per_image(&self) -> u32 {
        match u32::from(self.platforms) {
            0 => 1,
            platforms if self.attestations => 2 * platforms + 1,
            platforms => platforms + 1,
        }
    }

    /// Returns the position of the manifest that the tags of an image name.
    pub(super) fn top_position(&self, image: u32) -> u32 {
        (image + 1) * self.manifests_per_image() - 1
    }

    /// Returns the push time of the manifest at a position.
    pub(super) fn manifest_time(&self, position: u32) -> Timestamp {
        let per_image = self.manifests_per_image();
        let before_top = per_image - 1 - position % per_image;
        let pushed_at = self.tag_time(self.first_tag(position / per_image));
        pushed_at - SignedDuration::from_millis(i64::from(before_top))
    }

    pub(super) fn assert_valid(&self) {
        assert!((1..=10_000_000).contains(&self.tags), "a generated repository has one to ten million tags");
        assert!(self.repositories <= 100_000, "a generated registry has at most 100,000 repositories");
        assert!(usize::from(self.platforms) <= ARCHITECTURES.len(), "an index has at most eight platforms");
        assert!(self.shared_every.is_none_or(|every| every >= 2), "an image is shared by the tag after it");
        assert!(self.locked_every.is_none_or(|every| every >= 1), "every so many tags are at least one");
        assert!(self.interval_seconds >= 1, "tags are pushed one after the other");
    }
}

/// A manifest made by the formula.
#[derive(Debug, Clone)]
pub(super) struct GeneratedManifest {
    pub(super) digest: Digest,
    pub(super) media_type: &'static str,
    pub(super) bytes: Bytes,
    pub(super) config: Option<Blob>,
    pub(super) children: Vec<Child>,
    pub(super) shape: Shape,
}

/// Properties shared by the n-th manifests of all images: numbers in their bytes have a fixed width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) media_type: &'static str,
    pub(super) image_size: u64,
    pub(super) architecture: Option<&'static str>,
    pub(super) os: Option<&'static str>,
}

/// The formula with the blobs that all images share.
#[derive(Debug)]
pub(super) struct Formula {
    pub(super) world: GeneratedWorld,
    /// The layer of every image.
    pub(super) layer: Blob,
    /// The statement of every attestation.
    pub(super) statement: Blob,
    shapes: Vec<Shape>,
}

impl Formula {
    pub(super) fn new(world: GeneratedWorld) -> Self {
        world.assert_valid();
        let statement =
            r#"{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2"}"#;
        let (layer, statement) = (Blob::layer("app/server", 100_000), Blob::of(statement));
        let mut formula = Self { world, layer, statement, shapes: Vec::new() };
        formula.shapes = formula.manifests(0, 0).into_iter().map(|manifest| manifest.shape).collect();
        formula
    }

    /// Returns the number of manifests in each repository.
    pub(super) fn manifest_count(&self) -> u32 {
        self.world.images() * self.world.manifests_per_image()
    }

    pub(super) fn shape(&self, position: u32) -> Shape {
        self.shapes[to_index(position % self.world.manifests_per_image())]
    }

    /// Returns the manifest at a position.
    pub(super) fn manifest(&self, repository: u32, position: u32) -> GeneratedManifest {
        let per_image = self.world.manifests_per_image();
        self.manifests(repository, position / per_image).swap_remove(to_index(position % per_image))
    }

    /// Returns the manifests of an image, in push order.
    pub(super) fn manifests(&self, repository: u32, image: u32) -> Vec<GeneratedManifest> {
        let platforms = usize::from(self.world.platforms);
        let created = self.world.tag_time(self.world.first_tag(image));
        let salt = format!("{repository:05}-{image:07}");
        let images = ARCHITECTURES.iter().take(platforms.max(1));
        let mut manifests: Vec<_> = images.map(|architecture| self.image(&salt, architecture, created)).collect();
        if platforms == 0 {
            return manifests;
        }
        if self.world.attestations {
            let attestations: Vec<_> =
                manifests.iter().map(|of| self.attestation(&salt, of.shape.architecture.unwrap_or(UNKNOWN))).collect();
            manifests.extend(attestations);
        }
        manifests.push(index(&manifests));
        manifests
    }

    fn image(&self, salt: &str, architecture: &'static str, created: Timestamp) -> GeneratedManifest {
        let layer = self.layer.digest();
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"{OS}","created":"{created}","author":"{salt}","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
        );
        single(Blob::of(config), (media_type::OCI_LAYER, &self.layer), (architecture, OS))
    }

    fn attestation(&self, salt: &str, of: &str) -> GeneratedManifest {
        let statement = self.statement.digest();
        let config = format!(
            r#"{{"architecture":"{UNKNOWN}","os":"{UNKNOWN}","author":"{salt}-{of}","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{statement}"]}}}}"#
        );
        single(Blob::of(config), (media_type::IN_TOTO, &self.statement), (UNKNOWN, UNKNOWN))
    }
}

/// Creates a manifest with a configuration and one layer.
fn single(
    config: Blob,
    (layer_type, layer): (&str, &Blob),
    (architecture, os): (&'static str, &'static str),
) -> GeneratedManifest {
    let media_type = media_type::OCI_MANIFEST;
    let (config_entry, layer_entry) = (descriptor(media_type::OCI_CONFIG, &config), descriptor(layer_type, layer));
    let bytes =
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config_entry},"layers":[{layer_entry}]}}"#);
    let image_size = bytes.len() as u64 + config.length() + layer.length();
    GeneratedManifest {
        digest: Digest::of(bytes.as_bytes()),
        media_type,
        bytes: bytes.into(),
        config: Some(config),
        children: Vec::new(),
        shape: Shape { media_type, image_size, architecture: Some(architecture), os: Some(os) },
    }
}

fn descriptor(media_type: &str, blob: &Blob) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, blob.digest(), blob.length())
}

/// Creates an index of images, each of which may have its attestation in the second half.
fn index(manifests: &[GeneratedManifest]) -> GeneratedManifest {
    let media_type = media_type::OCI_INDEX;
    let images = manifests.iter().filter(|manifest| manifest.shape.os == Some(OS)).count();
    let entry = |(place, manifest): (usize, &GeneratedManifest)| {
        let Shape { architecture, os, .. } = manifest.shape;
        let (architecture, os) = (architecture.unwrap_or(UNKNOWN), os.unwrap_or(UNKNOWN));
        let annotations = place.checked_sub(images).map(|of| {
            format!(
                r#","annotations":{{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":"{}"}}"#,
                manifests[of].digest
            )
        });
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"architecture":"{architecture}","os":"{os}"}}{}}}"#,
            manifest.media_type,
            manifest.digest,
            manifest.bytes.len(),
            annotations.unwrap_or_default()
        )
    };
    let entries: Vec<String> = manifests.iter().enumerate().map(entry).collect();
    let bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#, entries.join(","));
    let children = manifests.iter().map(|manifest| Child {
        digest: manifest.digest.clone(),
        architecture: manifest.shape.architecture.map(str::to_owned),
        os: manifest.shape.os.map(str::to_owned),
    });
    let image_size = bytes.len() as u64 + manifests.iter().map(|manifest| manifest.shape.image_size).sum::<u64>();
    GeneratedManifest {
        digest: Digest::of(bytes.as_bytes()),
        media_type,
        children: children.collect(),
        bytes: bytes.into(),
        config: None,
        shape: Shape { media_type, image_size, architecture: None, os: None },
    }
}

/// Returns a number as an index in memory.
pub(super) fn to_index(number: u32) -> usize {
    usize::try_from(number).expect("a place has at least 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(tags: u32, shared_every: Option<u32>) -> GeneratedWorld {
        let newest = "2026-03-01T06:00:00.5Z".parse().unwrap();
        GeneratedWorld { platforms: 2, attestations: true, shared_every, ..GeneratedWorld::new(2, tags, newest) }
    }

    #[test]
    fn tags_and_images_lead_to_each_other() {
        for shared_every in [None, Some(2), Some(3), Some(10)] {
            for tags in 1..=31 {
                let world = world(tags, shared_every);
                let by_image: Vec<u32> = (0..world.images()).flat_map(|image| world.tags_of(image)).collect();
                assert_eq!(by_image, (0..tags).collect::<Vec<_>>(), "{shared_every:?} {tags}");
                let same = |image| world.tags_of(image).all(|tag| world.image_of(tag) == image);
                assert!((0..world.images()).all(same), "{shared_every:?} {tags}");
            }
        }
    }

    #[test]
    fn positions_are_in_the_order_of_time_and_shapes_are_those_of_every_image() {
        let formula = Formula::new(world(20, Some(10)));
        let times: Vec<_> =
            (0..formula.manifest_count()).map(|position| formula.world.manifest_time(position)).collect();
        assert!(times.is_sorted_by(|one, other| one < other));
        assert_eq!(times.len(), 18 * 5);
        assert_eq!(formula.world.tag_time(19).to_string(), "2026-03-01T06:00:00Z");
        for position in 0..formula.manifest_count() {
            let manifest = formula.manifest(1, position);
            assert_eq!(manifest.shape, formula.shape(position), "{position}");
            assert!(manifest.digest.matches(&manifest.bytes));
        }
    }
}
