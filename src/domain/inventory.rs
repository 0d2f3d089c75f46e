//! The contents of the registries at one point in time; unreadable parts are recorded as gaps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{
    AbilityOrigin, ClockIssue, CompactTime, Digest, Hosts, IndexReads, KnownTexts, ListedManifest, OriginalDate,
    Product, PullTime, RefusedTag, RegistryInfo, RegistryName, RemovalAbility, RemovalObstacle, RepositoryName,
    TagName, UnlistedManifests, UnreadKind, UntaggedHistory,
};

/// Everything that was read from the registries, sorted by name at every level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The registries, by name.
    pub registries: Vec<Registry>,
}

/// One registry as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each documented by itself")]
pub struct Registry {
    /// Its name in the settings.
    pub name: RegistryName,
    /// Its dialect, such as `distribution`.
    pub kind: &'static str,
    /// Its address, scheme included.
    pub endpoint: String,
    /// The names by which image references refer to it (endpoint and aliases): lower-case hosts, with a port if needed,
    /// or such a host with the path of a cache after it.
    pub hosts: Vec<String>,
    /// The names of the other registries of the settings, read or not.
    pub other_hosts: Vec<String>,
    /// The identity that read it, in words: `anonymous`, `user ci-reader`.
    pub identity: String,
    /// The method of removing a tag.
    pub removal: RemovalMethod,
    /// The ability to remove tags in that way.
    pub ability: RemovalAbility,
    /// The origin of `ability`.
    pub ability_origin: AbilityOrigin,
    /// The recognized product.
    pub product: Option<Product>,
    /// Repositories whose tags cannot be removed although `ability` allows it, for example because permissions are
    /// granted by repository.
    pub obstacles: BTreeMap<RepositoryName, RemovalObstacle>,
    /// Repositories from which the reading identity may not remove, as far as the registry reports it. Refuses nothing:
    /// if this identity removes tags, they are in `obstacles` instead.
    pub missing_rights: BTreeMap<RepositoryName, RemovalObstacle>,
    /// The registry's own settings as the cloud reports them; `None` if not queried. A failed query is a gap.
    pub info: Option<RegistryInfo>,
    /// True if the settings accept that the registry deletes untagged manifests before the undo window ends.
    pub accepts_retention: bool,
    /// True if the settings accept that another registry has the same tags at the same digests.
    pub accepts_same_content: bool,
    /// The lead of the registry's clock over the time of the run; `None` if the registry did not report its time.
    pub clock_ahead: Option<SignedDuration>,
    /// Why the time of the run cannot be trusted here, whatever the registry's own clock shows.
    pub clock_issue: Option<ClockIssue>,
    /// True if every manifest was listed, tagged or not. Otherwise an unlisted index may contain any manifest.
    pub lists_untagged: bool,
    /// True if the tags of cosign's signatures may be removed along with the last tag of their image.
    pub expires_companions: bool,
    /// True if the removal of a manifest's last tag deletes the manifest, and that of any other tag leaves it.
    pub deletes_with_last_tag: bool,
    /// True if the registry deletes what an index lists together with it, so that no index is deleted.
    pub deletes_index_contents: bool,
    /// The number of manifests that were read to decide, by cause.
    pub index_reads: IndexReads,
    /// Tags that it refused to remove in earlier runs, by repository and name.
    pub refused_tags: Vec<RefusedTag>,
    /// Its repositories, by name.
    pub repositories: Vec<Repository>,
    /// The registry-wide gaps.
    pub gaps: Vec<Gap>,
}

/// The method of removing a tag from a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalMethod {
    /// Remove the tag alone; the manifest remains until the registry collects it.
    Untag,
    /// Delete the manifest, and with it all of its tags. Opt-in by a person, per registry.
    DeleteManifest,
}

/// One repository as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its name.
    pub name: RepositoryName,
    /// Its tags, by name.
    pub tags: Vec<Tag>,
    /// The tags that were restored and are dated by their time before the removal.
    pub original_dates: BTreeMap<TagName, OriginalDate>,
    /// The last pull of each tag, where the registry records pulls. A tag without an entry may have been pulled at any time.
    pub pull_times: BTreeMap<TagName, PullTime>,
    /// The latest time at which a tag can have come to a manifest, where the registry tells no more of its tags than that.
    /// Such tags have no date until they are seen to move.
    pub latest_pushes: BTreeMap<Digest, CompactTime>,
    /// Every manifest that was read: those of the tags, their children at any depth, and their referrers.
    pub manifests: BTreeMap<Digest, Manifest>,
    /// The own types of manifests, where they are known: `artifactType`, else the media type of the configuration; empty for
    /// one that has neither. Of an index that lists the parts of a build cache, it is the type of the cache.
    pub artifact_types: BTreeMap<Digest, Arc<str>>,
    /// The annotations of manifests, as far as policies ask for them and decisions need them.
    pub annotations: BTreeMap<Digest, KnownTexts>,
    /// The same for labels of images, by their manifests.
    pub labels: BTreeMap<Digest, KnownTexts>,
    /// The existing ones among the manifests that were looked up by digest (see `registry_info::ExtraManifests`), with
    /// the time of their last change as the registry reports it. They are in `manifests` as well.
    pub untagged: BTreeMap<Digest, Option<Timestamp>>,
    /// Untagged manifests that indexes list beside their images and for no platform, such as attestations: no container
    /// runs them. Only filled if manifests are listed without being read.
    pub attached: BTreeSet<Digest>,
    /// The past of the manifests that no tag references; `None` where no policy with `untagged` asks for it, where there is
    /// no such manifest, and where the registry does not list them. All of them stand in `manifests` then.
    pub untagged_history: Option<Box<UntaggedHistory>>,
    /// What the registry lists beside `manifests`, sorted by digest: no tag names it, and nothing that was read leads to it.
    pub listed: Vec<ListedManifest>,
    /// The places of manifests that neither `manifests` nor `listed` may have.
    pub unlisted: UnlistedManifests,
    /// Time of the first read of the registry, or of this repository if it could not be listed then. A tag with neither
    /// a push time nor a first sight existed at that time. `None` if no read is on record.
    pub first_read_at: Option<CompactTime>,
    /// The last removal of tags by Tagwarden whose use is not on record any more: not those of a repository that was idle
    /// already. Only looked up where a policy with `idle` asks for it.
    pub removed_at: Option<CompactTime>,
    /// The last pull of a manifest that no tag names, where the registry records that: it was pulled by its digest.
    pub digest_pulled_at: Option<CompactTime>,
    /// The gaps in this repository.
    pub gaps: Vec<Gap>,
    /// A lock on the whole repository.
    pub lock: Option<Lock>,
}

/// One tag as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: TagName,
    /// The digest that it named; `None` if it could not be read, in which case there is a gap.
    pub digest: Option<Digest>,
    /// Time of its last push or move, as the registry reports it.
    pub pushed_at: Option<CompactTime>,
    /// The time Tagwarden first saw it at this digest, except at the first read (see [`Repository::first_read_at`]).
    pub first_seen: Option<CompactTime>,
    /// A lock on the tag.
    pub lock: Option<Lock>,
}

/// One manifest as it was read. There are as many as tags, and most were only listed, so the fields of fully read ones
/// take little room if empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type, as reported by the registry or the manifest itself.
    pub media_type: Arc<str>,
    /// Bytes of the manifest itself.
    pub size: u64,
    /// The digest of an image's configuration.
    pub config: Option<Box<Digest>>,
    /// The blobs it needs and the registry stores (configuration and layers; no foreign layers).
    pub blobs: Box<[Blob]>,
    /// The manifests that it lists; empty unless it is an index.
    pub children: Vec<Digest>,
    /// The manifest that it refers to (OCI 1.1 `subject`), which makes it a referrer.
    pub subject: Option<Box<Digest>>,
    /// The latest creation time that the image reports, not checked for plausibility.
    pub created_at: Option<CompactTime>,
    /// A lock on the manifest.
    pub lock: Option<Lock>,
    /// The extent to which it was read.
    pub detail: ManifestDetail,
}

/// The extent to which a manifest was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ManifestDetail {
    /// Its bytes: everything is known.
    Full,
    /// Listed only: type and lock are known. Blobs and subject are unknown, and so is the configuration unless it was
    /// looked up. It is not an index.
    Listed {
        /// Bytes of the image as the registry reports them, shared layers included; `None` if not reported.
        image_size: Option<u64>,
    },
    /// Listed, but still to be read: type and lock are known, its children and its subject are not.
    Unread {
        /// Bytes of everything in it as the registry reports them; `None` if not reported.
        image_size: Option<u64>,
        /// Its possible content: other manifests, or only a reference to one.
        kind: UnreadKind,
    },
}

/// The current state of one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagState {
    /// The digest that it names.
    pub digest: Digest,
    /// Time of its last push or move, as the registry reports it.
    pub pushed_at: Option<Timestamp>,
    /// A lock on it.
    pub lock: Option<Lock>,
}

/// The current state of one manifest, by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestState {
    /// Tags that name it. A registry may truncate the list, but an empty list means that there are none.
    pub tags: Vec<TagName>,
    /// A lock on it.
    pub lock: Option<Lock>,
    /// Time of its last change, as the registry reports it.
    pub changed_at: Option<Timestamp>,
}

/// A blob in a registry's store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob {
    /// Its address.
    pub digest: Digest,
    /// Its length in bytes, as the manifest states it.
    pub size: u64,
}

/// A lock that the registry itself enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    /// It may not be deleted.
    Delete,
    /// It may not be written, which blocks deletion as well.
    Write,
    /// Neither deleted nor written.
    DeleteAndWrite,
}

/// Something that could not be read. A gap is a reason to keep, never an absence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// The missing information.
    pub target: GapTarget,
    /// A short label for metrics and scripts, such as `http-500` or `digest-mismatch`.
    pub kind: &'static str,
    /// The failure, and what to do next.
    pub message: Arc<str>,
    /// True if the message says what to do next.
    pub has_help: bool,
}

/// The information that a gap leaves unknown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum GapTarget {
    /// The list of repositories, which may be incomplete.
    Catalogue,
    /// The registry's own settings, such as its retention of untagged manifests.
    RegistryInfo,
    /// The list of tags in the repository, which may be incomplete.
    TagList,
    /// The list of manifests in the repository: an unlisted index may contain any of its images.
    ManifestList,
    /// A listed tag that the registry could not find: it was deleted meanwhile, or names nothing.
    VanishedTag(TagName),
    /// A listed entry whose name is invalid: it exists, and nothing else is missing.
    InvalidName(Arc<str>),
    /// An entry of a tag list that is a digest, and so not a tag: nothing is missing.
    ListedDigest(Digest),
    /// The digest of a tag.
    Tag(TagName),
    /// The content of a manifest: its children, its subject, its blobs.
    Manifest(Digest),
    /// The creation time of an image; nothing else is missing.
    CreationTime(Digest),
    /// The configuration of an image; nothing else is missing.
    Configuration(Digest),
    /// The referrers of a manifest.
    Referrers(Digest),
    /// The records of earlier runs about a repository or a registry: the state did not answer.
    Records,
}

impl Gap {
    /// Returns true if it leaves every tag of its repository in doubt.
    ///
    /// An unread list hides tags of the same digest; an unread manifest may be an index that contains any image of the
    /// repository, and so may an unread referrer. A vanished tag, an invalid name or a missing creation time does not
    /// affect other tags.
    #[must_use]
    pub fn blocks_repository(&self) -> bool {
        match self.target {
            GapTarget::TagList
            | GapTarget::ManifestList
            | GapTarget::Tag(_)
            | GapTarget::Manifest(_)
            | GapTarget::Referrers(_)
            | GapTarget::Records => true,
            GapTarget::Catalogue
            | GapTarget::RegistryInfo
            | GapTarget::VanishedTag(_)
            | GapTarget::InvalidName(_)
            | GapTarget::ListedDigest(_)
            | GapTarget::CreationTime(_)
            | GapTarget::Configuration(_) => false,
        }
    }

    /// Returns true if a tag of the repository may name any of its manifests unnoticed, which matters before a manifest
    /// is deleted with all of its tags.
    #[must_use]
    pub fn may_hide_tag(&self) -> bool {
        self.blocks_repository() || matches!(self.target, GapTarget::InvalidName(_))
    }

    /// Returns true if the registry was read and only single names in it are odd. These names are retained; another run
    /// would not help, because only a person can change them.
    #[must_use]
    pub fn is_note(&self) -> bool {
        matches!(self.target, GapTarget::VanishedTag(_) | GapTarget::InvalidName(_) | GapTarget::ListedDigest(_))
    }
}

impl fmt::Display for GapTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalogue => f.write_str("the list of repositories"),
            Self::RegistryInfo => f.write_str("the registry's own settings"),
            Self::TagList => f.write_str("the list of tags"),
            Self::ManifestList => f.write_str("the list of manifests"),
            Self::VanishedTag(tag) | Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::InvalidName(name) => write!(f, "invalid name {name}"),
            Self::ListedDigest(digest) => write!(f, "digest {digest} in the list of tags"),
            Self::Manifest(digest) => write!(f, "manifest {digest}"),
            Self::CreationTime(digest) => write!(f, "creation time of {digest}"),
            Self::Configuration(digest) => write!(f, "configuration of {digest}"),
            Self::Referrers(digest) => write!(f, "referrers of {digest}"),
            Self::Records => f.write_str("the records of earlier runs"),
        }
    }
}

impl ManifestDetail {
    /// Returns true if it was not read and the registry does not report its size.
    #[must_use]
    pub fn is_unsized(self) -> bool {
        matches!(self, Self::Listed { image_size: None } | Self::Unread { image_size: None, .. })
    }
}

impl Lock {
    /// Returns the label used in reports: `delete`, `write`, `delete+write`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Write => "write",
            Self::DeleteAndWrite => "delete+write",
        }
    }
}

impl Manifest {
    /// Returns true if the digest of its configuration is unknown. Docker's schema 1 has none: the configuration that a
    /// runtime makes of it is in no registry.
    #[must_use]
    pub fn has_unknown_config(&self) -> bool {
        self.config.is_none()
            && match self.detail {
                ManifestDetail::Listed { .. } => true,
                // Its kind and its content have to be read first.
                ManifestDetail::Unread { .. } => false,
                ManifestDetail::Full => self.media_type.contains("docker.distribution.manifest.v1+"),
            }
    }
}

impl RemovalMethod {
    /// Returns the label used in settings and reports: `untag` or `manifest`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Untag => "untag",
            Self::DeleteManifest => "manifest",
        }
    }
}

impl Inventory {
    /// Puts everything in its canonical order, so that equal contents compare and hash equal however they were read.
    pub fn sort(&mut self) {
        self.registries.sort_by(|a, b| a.name.cmp(&b.name));
        for registry in &mut self.registries {
            registry.gaps.sort();
            registry.repositories.sort_by(|a, b| a.name.cmp(&b.name));
            for repository in &mut registry.repositories {
                repository.gaps.sort();
                repository.tags.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
    }

    /// Returns the registry with that name.
    #[must_use]
    pub fn registry(&self, name: &str) -> Option<&Registry> {
        self.registries.iter().find(|registry| registry.name.as_str() == name)
    }

    /// Returns the number of tags that were read.
    #[must_use]
    pub fn tag_count(&self) -> usize {
        self.registries.iter().flat_map(|registry| &registry.repositories).map(|repository| repository.tags.len()).sum()
    }

    /// Returns true if anything could not be read. Notes do not count.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        self.registries.iter().any(|registry| !registry.is_complete())
    }
}

impl Registry {
    /// Returns true if everything in it was read, apart from single odd names.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let inner = self.repositories.iter().flat_map(|repository| &repository.gaps);
        self.gaps.iter().chain(inner).all(Gap::is_note)
    }

    /// Creates a registry of which only the name and the kind are known.
    #[must_use]
    pub fn empty(name: RegistryName, kind: &'static str) -> Self {
        Self {
            name,
            kind,
            endpoint: String::new(),
            hosts: Vec::new(),
            other_hosts: Vec::new(),
            identity: String::new(),
            removal: RemovalMethod::Untag,
            ability: RemovalAbility::NotChecked,
            ability_origin: AbilityOrigin::Unknown,
            product: None,
            obstacles: BTreeMap::new(),
            missing_rights: BTreeMap::new(),
            info: None,
            accepts_retention: false,
            accepts_same_content: false,
            clock_ahead: None,
            clock_issue: None,
            lists_untagged: false,
            expires_companions: false,
            deletes_with_last_tag: false,
            deletes_index_contents: false,
            index_reads: IndexReads::default(),
            refused_tags: Vec::new(),
            repositories: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Returns the names by which image references refer to it.
    #[must_use]
    pub fn host_names(&self) -> Hosts<'_> {
        Hosts::new(&self.hosts, &self.other_hosts)
    }

    /// Returns the refusal that a removal of the tag at that digest met in earlier runs.
    #[must_use]
    pub fn refused_tag(&self, repository: &RepositoryName, tag: &TagName, digest: &Digest) -> Option<&RefusedTag> {
        let found =
            self.refused_tags.binary_search_by(|one| (&one.repository, &one.tag).cmp(&(repository, tag))).ok()?;
        self.refused_tags.get(found).filter(|found| found.digest == *digest)
    }

    /// Returns the repository with that name (the list is sorted).
    #[must_use]
    pub fn repository(&self, name: &str) -> Option<&Repository> {
        let found = self.repositories.binary_search_by(|repository| repository.name.as_str().cmp(name)).ok()?;
        self.repositories.get(found)
    }
}

impl Repository {
    /// Creates an empty repository.
    #[must_use]
    pub fn empty(name: RepositoryName) -> Self {
        Self {
            name,
            tags: Vec::new(),
            original_dates: BTreeMap::new(),
            pull_times: BTreeMap::new(),
            latest_pushes: BTreeMap::new(),
            manifests: BTreeMap::new(),
            artifact_types: BTreeMap::new(),
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            untagged: BTreeMap::new(),
            attached: BTreeSet::new(),
            untagged_history: None,
            listed: Vec::new(),
            unlisted: UnlistedManifests::default(),
            first_read_at: None,
            removed_at: None,
            digest_pulled_at: None,
            gaps: Vec::new(),
            lock: None,
        }
    }

    /// Releases the memory that piecewise reading left unused, which is up to half of all.
    pub fn compact(&mut self) {
        self.tags.shrink_to_fit();
        self.listed.shrink_to_fit();
        self.gaps.shrink_to_fit();
        // The nodes of a map that is built in one go from a sorted list are full.
        self.manifests = std::mem::take(&mut self.manifests).into_iter().collect();
    }

    /// Returns true for the manifest of an image that a container may run, and whose configuration is unknown.
    #[must_use]
    pub fn has_unknown_config(&self, digest: &Digest) -> bool {
        self.manifests.get(digest).is_some_and(Manifest::has_unknown_config) && !self.attached.contains(digest)
    }

    /// Returns the tag with that name (the list is sorted).
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&Tag> {
        let found = self.tags.binary_search_by(|tag| tag.name.as_str().cmp(name)).ok()?;
        self.tags.get(found)
    }
}
