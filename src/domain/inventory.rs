//! What the registries hold, as read at one time, with what could not be read as data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{
    AbilityOrigin, ClockIssue, CompactTime, Digest, Hosts, IndexReads, ListedManifest, OriginalDate, Product,
    RefusedTag, RegistryInfo, RegistryName, RemovalAbility, RemovalObstacle, RepositoryName, TagName, UnreadKind,
    UntaggedHistory,
};

/// Everything that was read from the registries, sorted by name at every level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The registries, by name.
    pub registries: Vec<Registry>,
}

/// One registry as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its name in the settings.
    pub name: RegistryName,
    /// Its dialect, such as `distribution`.
    pub kind: &'static str,
    /// Its address, scheme included.
    pub endpoint: String,
    /// The names by which image references mean it (endpoint and aliases): lower-case hosts, with the port where there
    /// is one, or such a host with the path of a cache behind it.
    pub hosts: Vec<String>,
    /// The names of the other registries of the settings, read or not.
    pub other_hosts: Vec<String>,
    /// As whom it was read, in words: `anonymous`, `user ci-reader`.
    pub identity: String,
    /// How a tag is removed here.
    pub removal: RemovalMethod,
    /// Whether that can be done.
    pub ability: RemovalAbility,
    /// The origin of `ability`.
    pub ability_origin: AbilityOrigin,
    /// The product that it was recognised as.
    pub product: Option<Product>,
    /// The repositories in which it cannot although `ability` says it can, for one because permissions are given by
    /// repository.
    pub obstacles: BTreeMap<RepositoryName, RemovalObstacle>,
    /// The repositories from which the identity may not remove, as far as the registry says. Refuses nothing: where this
    /// identity is to remove, they are `obstacles` instead.
    pub missing_rights: BTreeMap<RepositoryName, RemovalObstacle>,
    /// What the cloud says of the registry itself; nothing where it was not asked. Where asking failed there is a gap.
    pub info: Option<RegistryInfo>,
    /// Whether the settings accept that the registry deletes untagged manifests sooner than the undo window ends.
    pub accepts_retention: bool,
    /// How much the registry's clock is ahead of the time by which the run decides; `None` where it did not say.
    pub clock_ahead: Option<SignedDuration>,
    /// Why that time cannot be trusted here, whatever the registry's own clock says.
    pub clock_issue: Option<ClockIssue>,
    /// Whether every manifest was listed, tagged or not: only then can it be known that no index holds one.
    pub lists_untagged: bool,
    /// True if it may remove the tags of cosign's signatures along with the last tag of their image.
    pub expires_companions: bool,
    /// How many of its indexes and artifacts were read to decide, and why.
    pub index_reads: IndexReads,
    /// Tags that it refused to remove in earlier runs, by repository and name.
    pub refused_tags: Vec<RefusedTag>,
    /// Its repositories, by name.
    pub repositories: Vec<Repository>,
    /// What could not be read of the registry as a whole.
    pub gaps: Vec<Gap>,
}

/// How a tag is removed from a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalMethod {
    /// The tag alone goes; the manifest stays until the registry collects it.
    Untag,
    /// The manifest goes, and with it every tag it has. Chosen by a person, per registry.
    DeleteManifest,
}

/// One repository as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its name.
    pub name: RepositoryName,
    /// Its tags, by name.
    pub tags: Vec<Tag>,
    /// The tags that were restored and count by the time that they had before.
    pub original_dates: BTreeMap<TagName, OriginalDate>,
    /// Every manifest that was read: those of the tags, their children to any depth, and their referrers.
    pub manifests: BTreeMap<Digest, Manifest>,
    /// Those of the manifests that were looked for by their digest (see `registry_info::ExtraManifests`) that are there; when the
    /// registry says that they last changed. They stand in `manifests`, too.
    pub untagged: BTreeMap<Digest, Option<Timestamp>>,
    /// Those of the manifests that indexes list beside their images and for no platform, such as attestations, and that
    /// have no tag: no container ever runs one. Only kept where manifests are listed without being read.
    pub attached: BTreeSet<Digest>,
    /// The past of the manifests that no tag references; `None` where no policy with `untagged` asks for it, where there is
    /// no such manifest, and where the registry does not list them. All of them stand in `manifests` then.
    pub untagged_history: Option<Box<UntaggedHistory>>,
    /// What the registry lists beside `manifests`, sorted by digest: no tag names it, and nothing that was read leads to it.
    pub listed: Vec<ListedManifest>,
    /// The first look at the registry, or at this repository if it could not be listed then. A tag without a push time
    /// and without a first sight was there already, so it was pushed no later. `None` where no look is on record.
    pub first_read_at: Option<CompactTime>,
    /// What could not be read here.
    pub gaps: Vec<Gap>,
    /// A lock on the whole repository.
    pub lock: Option<Lock>,
}

/// One tag as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: TagName,
    /// The digest that it named, or nothing where that could not be read (there is a gap then).
    pub digest: Option<Digest>,
    /// When the registry says that it was last pushed or moved.
    pub pushed_at: Option<CompactTime>,
    /// The time Tagwarden first saw it at this digest, except at the first look (see [`Repository::first_read_at`]).
    pub first_seen: Option<CompactTime>,
    /// A lock on the tag.
    pub lock: Option<Lock>,
}

/// One manifest as it was read. There are as many as tags, and most of them were only listed: what only a whole one has
/// takes little room where it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// As the registry or the manifest itself says.
    pub media_type: Arc<str>,
    /// Bytes of the manifest itself.
    pub size: u64,
    /// The digest of an image's configuration.
    pub config: Option<Box<Digest>>,
    /// The blobs it needs and the registry stores (configuration and layers; no foreign layers).
    pub blobs: Box<[Blob]>,
    /// The manifests that it lists, where it is an index.
    pub children: Vec<Digest>,
    /// The manifest that it refers to (OCI 1.1 `subject`), which makes it a referrer.
    pub subject: Option<Box<Digest>>,
    /// The latest time at which the image says it was created, unjudged.
    pub created_at: Option<CompactTime>,
    /// A lock on the manifest.
    pub lock: Option<Lock>,
    /// How much of it was read.
    pub detail: ManifestDetail,
}

/// How much of a manifest was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ManifestDetail {
    /// Its bytes: everything is known.
    Full,
    /// What the registry lists of it: type and lock. Its blobs and its subject are unknown, and so is its configuration
    /// unless that was looked for; it is no index.
    Listed {
        /// Bytes of the image by the registry's account, shared layers included; nothing where it does not say.
        image_size: Option<u64>,
    },
    /// What the registry lists of something that has to be read: its type and lock. What it lists and what it refers to
    /// is unknown.
    Unread {
        /// Bytes of everything in it by the registry's account; nothing where it does not say.
        image_size: Option<u64>,
        /// Whether it may list images, or only refer to one.
        kind: UnreadKind,
    },
}

/// What is so of one tag right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagState {
    /// The digest that it names.
    pub digest: Digest,
    /// When the registry says that it was last pushed or moved.
    pub pushed_at: Option<Timestamp>,
    /// A lock on it.
    pub lock: Option<Lock>,
}

/// What is so of one manifest right now, by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestState {
    /// Tags that name it. A registry may cut the list, but an empty one is empty.
    pub tags: Vec<TagName>,
    /// A lock on it.
    pub lock: Option<Lock>,
    /// When the registry says that it last changed.
    pub changed_at: Option<Timestamp>,
}

/// A blob in a registry's store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob {
    /// Its address.
    pub digest: Digest,
    /// Its length in bytes, as the manifest says.
    pub size: u64,
}

/// What the registry itself forbids.
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
    /// What is missing.
    pub target: GapTarget,
    /// A short label for metrics and scripts, such as `http-500` or `digest-mismatch`.
    pub kind: &'static str,
    /// What happened, and what to do next.
    pub message: Arc<str>,
}

/// What a gap leaves unknown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum GapTarget {
    /// Whether there are more repositories.
    Catalogue,
    /// What the registry itself does with what is untagged, and what else the cloud says of it.
    RegistryInfo,
    /// Whether there are more tags in the repository.
    TagList,
    /// Whether there are more manifests in the repository: among them may be an index that holds any of its images.
    ManifestList,
    /// A listed tag that the registry then did not know: it vanished meanwhile, or names nothing.
    VanishedTag(TagName),
    /// An entry of a list that is not a valid name: something of that name is there, and nothing else is missing.
    InvalidName(Arc<str>),
    /// An entry of a list of tags that is a digest, and so not a tag: nothing is missing.
    ListedDigest(Digest),
    /// What a tag names.
    Tag(TagName),
    /// What a manifest holds: its children, its subject, its blobs.
    Manifest(Digest),
    /// When an image was created; nothing else is missing.
    CreationTime(Digest),
    /// Which configuration an image has; nothing else is missing.
    Configuration(Digest),
    /// What refers to a manifest.
    Referrers(Digest),
}

impl Gap {
    /// Whether it leaves every tag of its repository in doubt.
    ///
    /// An unread list hides tags of the same digest; an unread manifest may be an index that holds any image of the
    /// repository, and so may an unread referrer. A vanished tag, an invalid name or a missing creation time says nothing
    /// of others.
    #[must_use]
    pub fn blocks_repository(&self) -> bool {
        match self.target {
            GapTarget::TagList
            | GapTarget::ManifestList
            | GapTarget::Tag(_)
            | GapTarget::Manifest(_)
            | GapTarget::Referrers(_) => true,
            GapTarget::Catalogue
            | GapTarget::RegistryInfo
            | GapTarget::VanishedTag(_)
            | GapTarget::InvalidName(_)
            | GapTarget::ListedDigest(_)
            | GapTarget::CreationTime(_)
            | GapTarget::Configuration(_) => false,
        }
    }

    /// Returns `true` where a tag of the repository may name any of its manifests without being known to: before a
    /// manifest is deleted with all of its tags, that matters.
    #[must_use]
    pub fn may_hide_tag(&self) -> bool {
        self.blocks_repository() || matches!(self.target, GapTarget::InvalidName(_))
    }

    /// Returns `true` where the registry was read and only single names in it are odd. That keeps these names, and is no
    /// reason to run again: it stays so until a person changes it.
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
        }
    }
}

impl ManifestDetail {
    /// Returns true where it was not read and the registry does not say how large it is.
    #[must_use]
    pub fn is_unsized(self) -> bool {
        matches!(self, Self::Listed { image_size: None } | Self::Unread { image_size: None, .. })
    }
}

impl Lock {
    /// The label used in reports: `delete`, `write`, `delete+write`.
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
                // What it is, and what is in it, has to be read first.
                ManifestDetail::Unread { .. } => false,
                ManifestDetail::Full => self.media_type.contains("docker.distribution.manifest.v1+"),
            }
    }
}

impl RemovalMethod {
    /// The label used in settings and reports: `untag` or `manifest`.
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

    /// The registry of that name.
    #[must_use]
    pub fn registry(&self, name: &str) -> Option<&Registry> {
        self.registries.iter().find(|registry| registry.name.as_str() == name)
    }

    /// How many tags were read.
    #[must_use]
    pub fn tag_count(&self) -> usize {
        self.registries.iter().flat_map(|registry| &registry.repositories).map(|repository| repository.tags.len()).sum()
    }

    /// Whether anything could not be read. Notes are not counted.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        self.registries.iter().any(|registry| !registry.is_complete())
    }
}

impl Registry {
    /// Returns `true` where everything in it was read, apart from single odd names.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let inner = self.repositories.iter().flat_map(|repository| &repository.gaps);
        self.gaps.iter().chain(inner).all(Gap::is_note)
    }

    /// A registry of which only the name and the kind are known yet.
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
            clock_ahead: None,
            clock_issue: None,
            lists_untagged: false,
            expires_companions: false,
            index_reads: IndexReads::default(),
            refused_tags: Vec::new(),
            repositories: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Returns the names by which image references mean it.
    #[must_use]
    pub fn host_names(&self) -> Hosts<'_> {
        Hosts::new(&self.hosts, &self.other_hosts)
    }

    /// The refusal that a removal of the tag at that digest met in earlier runs.
    #[must_use]
    pub fn refused_tag(&self, repository: &RepositoryName, tag: &TagName, digest: &Digest) -> Option<&RefusedTag> {
        let found =
            self.refused_tags.binary_search_by(|one| (&one.repository, &one.tag).cmp(&(repository, tag))).ok()?;
        self.refused_tags.get(found).filter(|found| found.digest == *digest)
    }

    /// The repository of that name (the list is sorted).
    #[must_use]
    pub fn repository(&self, name: &str) -> Option<&Repository> {
        let found = self.repositories.binary_search_by(|repository| repository.name.as_str().cmp(name)).ok()?;
        self.repositories.get(found)
    }
}

impl Repository {
    /// A repository of which nothing is known yet.
    #[must_use]
    pub fn empty(name: RepositoryName) -> Self {
        Self {
            name,
            tags: Vec::new(),
            original_dates: BTreeMap::new(),
            manifests: BTreeMap::new(),
            untagged: BTreeMap::new(),
            attached: BTreeSet::new(),
            untagged_history: None,
            listed: Vec::new(),
            first_read_at: None,
            gaps: Vec::new(),
            lock: None,
        }
    }

    /// Gives back the memory that reading it piece by piece left unused, which is up to half of all.
    pub fn compact(&mut self) {
        self.tags.shrink_to_fit();
        self.listed.shrink_to_fit();
        self.gaps.shrink_to_fit();
        // Made in one go from a sorted list, a map's nodes are full.
        self.manifests = std::mem::take(&mut self.manifests).into_iter().collect();
    }

    /// Returns true for the manifest of an image that a container may run, and whose configuration is unknown.
    #[must_use]
    pub fn has_unknown_config(&self, digest: &Digest) -> bool {
        self.manifests.get(digest).is_some_and(Manifest::has_unknown_config) && !self.attached.contains(digest)
    }

    /// The tag of that name (the list is sorted).
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&Tag> {
        let found = self.tags.binary_search_by(|tag| tag.name.as_str().cmp(name)).ok()?;
        self.tags.get(found)
    }
}
