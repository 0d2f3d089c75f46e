//! Manifests that a registry lists and that were not read: their children and subjects are unknown.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Digest, Lock, Manifest, ManifestDetail, Registry, RemovalMethod, Repository, RetentionDays};

/// A manifest as the registry lists it. There may be hundreds of thousands of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type; empty if the registry does not report it.
    pub media_type: Arc<str>,
    /// Bytes of the image as the registry reports them, shared layers included; `None` if not reported.
    pub image_size: Option<u64>,
    /// A lock on it.
    pub lock: Option<Lock>,
    /// Its kind.
    pub kind: ListedKind,
}

/// The kind of a listed manifest, as far as the list shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListedKind {
    /// An image for one platform: it lists no other manifests and refers to none.
    Image,
    /// A manifest that may refer to an image, but lists none.
    Artifact,
    /// An index, or a manifest that may be one.
    Index,
}

/// The places in which a repository may have manifests that it does not list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnlistedManifests {
    /// None: whatever is not listed does not exist.
    None,
    /// In indexes that were not read.
    #[default]
    InUnreadIndexes,
    /// In indexes that were not read, although their images are listed: indexes between are not, or look like images.
    InListedIndexes,
}

/// Content of a manifest that its repository may not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnlistedContent {
    /// Images and indexes.
    Anything,
    /// Indexes alone; the images in them are listed.
    Indexes,
}

/// The kind of a manifest that has to be read before its children or subject are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnreadKind {
    /// A manifest that may refer to an image, but lists none.
    Artifact,
    /// An index, or a manifest that may be one.
    Index,
}

/// Why a listed manifest has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnreadCause {
    /// It is retained, or may refer to a retained manifest, and may contain an image whose tag would be removed.
    Kept,
    /// A tag that would be removed leads to it, and it may contain an image in use.
    Claimed,
    /// It may show which image a signature, an attestation or the like accompanies.
    Companions,
    /// A manifest of its repository is due for deletion.
    Deletions,
    /// A policy selects by its type, and that decides a tag.
    Types,
    /// A policy selects by its annotations, and that decides a tag.
    Annotations,
    /// A policy selects by its labels, and that decides a tag.
    Labels,
}

/// The numbers of manifests of a registry that were read, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexReads {
    /// For [`UnreadCause::Kept`].
    pub kept: u32,
    /// For [`UnreadCause::Claimed`].
    pub claimed: u32,
    /// For [`UnreadCause::Companions`].
    pub companions: u32,
    /// For [`UnreadCause::Deletions`].
    pub deletions: u32,
    /// For [`UnreadCause::Types`].
    pub types: u32,
    /// For [`UnreadCause::Annotations`].
    pub annotations: u32,
    /// For [`UnreadCause::Labels`].
    pub labels: u32,
}

impl IndexReads {
    /// Counts another read.
    pub fn add(&mut self, cause: UnreadCause) {
        let count = match cause {
            UnreadCause::Kept => &mut self.kept,
            UnreadCause::Claimed => &mut self.claimed,
            UnreadCause::Companions => &mut self.companions,
            UnreadCause::Deletions => &mut self.deletions,
            UnreadCause::Types => &mut self.types,
            UnreadCause::Annotations => &mut self.annotations,
            UnreadCause::Labels => &mut self.labels,
        };
        *count = count.saturating_add(1);
    }

    /// Returns the sum.
    #[must_use]
    pub fn total(&self) -> u32 {
        let causes = [self.kept, self.claimed, self.companions, self.deletions, self.types];
        let causes = causes.into_iter().chain([self.annotations, self.labels]);
        causes.fold(0, u32::saturating_add)
    }
}

impl UnreadKind {
    /// Returns the label used in files: `artifact` or `index`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Index => "index",
        }
    }
}

impl ListedKind {
    /// Returns the label used in files: `image`, `artifact` or `index`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Artifact => UnreadKind::Artifact.label(),
            Self::Index => UnreadKind::Index.label(),
        }
    }

    /// Returns the kind with that label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Image, Self::Artifact, Self::Index].into_iter().find(|kind| kind.label() == label)
    }

    /// Returns the kind of content to be read; `None` for an image.
    #[must_use]
    pub fn unread(self) -> Option<UnreadKind> {
        match self {
            Self::Image => None,
            Self::Artifact => Some(UnreadKind::Artifact),
            Self::Index => Some(UnreadKind::Index),
        }
    }
}

impl UnlistedManifests {
    /// Returns the label used in recorded inventories.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::InUnreadIndexes => "in-unread-indexes",
            Self::InListedIndexes => "in-listed-indexes",
        }
    }

    /// Parses a [`label`](Self::label).
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::None, Self::InUnreadIndexes, Self::InListedIndexes].into_iter().find(|one| one.label() == label)
    }
}

impl ListedManifest {
    /// Converts it into a manifest with what the list shows.
    #[must_use]
    pub fn into_manifest(self) -> Manifest {
        let image_size = self.image_size;
        Manifest {
            media_type: self.media_type,
            size: 0,
            config: None,
            blobs: [].into(),
            children: Vec::new(),
            subject: None,
            created_at: None,
            lock: self.lock,
            detail: match self.kind.unread() {
                None => ManifestDetail::Listed { image_size },
                Some(kind) => ManifestDetail::Unread { image_size, kind },
            },
        }
    }
}

impl Manifest {
    /// Returns true if its children and its subject are unknown.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.unread_kind().is_some()
    }

    /// Returns the kind of a manifest whose children and subject are unknown.
    #[must_use]
    pub fn unread_kind(&self) -> Option<UnreadKind> {
        match self.detail {
            ManifestDetail::Unread { kind, .. } => Some(kind),
            ManifestDetail::Full | ManifestDetail::Listed { .. } => None,
        }
    }

    /// Returns true for an index of which its registry told what it contains, and whose bytes were not read.
    #[must_use]
    pub fn is_index_by_list(&self) -> bool {
        self.detail != ManifestDetail::Full && self.unread_kind() != Some(UnreadKind::Index) && self.is_index()
    }

    /// Returns true if it is certainly an index.
    #[must_use]
    pub fn is_index(&self) -> bool {
        !self.children.is_empty() || is_index_type(&self.media_type)
    }
}

/// Returns true for the media types of indexes.
#[must_use]
pub fn is_index_type(media_type: &str) -> bool {
    media_type == "application/vnd.oci.image.index.v1+json" || is_docker_list_type(media_type)
}

/// Returns true for the media type of Docker's own indexes, which have no subject.
#[must_use]
pub fn is_docker_list_type(media_type: &str) -> bool {
    media_type == "application/vnd.docker.distribution.manifest.list.v2+json"
}

impl Repository {
    /// Returns the list entry of a manifest that no known manifest leads to.
    #[must_use]
    pub fn listed_manifest(&self, digest: &Digest) -> Option<&ListedManifest> {
        let found = self.listed.binary_search_by(|row| row.digest.cmp(digest)).ok()?;
        self.listed.get(found)
    }

    /// Moves listed manifests to `manifests` because a known manifest leads to them. Digests that are not listed are
    /// ignored.
    pub fn include_listed(&mut self, digests: &BTreeSet<Digest>) {
        if !digests.iter().any(|digest| self.listed_manifest(digest).is_some()) {
            return;
        }
        // Both are in the order of digests, and there may be hundreds of thousands.
        let mut wanted = digests.iter().peekable();
        let is_wanted = |row: &mut ListedManifest| {
            while wanted.next_if(|digest| **digest < row.digest).is_some() {}
            wanted.peek().is_some_and(|digest| **digest == row.digest)
        };
        let found = self.listed.extract_if(.., is_wanted).map(|row| (row.digest.clone(), row.into_manifest()));
        if self.manifests.is_empty() {
            // A map that is built in one go has full nodes: half the memory of one that grows in the order of its keys.
            self.manifests = found.collect();
            return;
        }
        for (digest, manifest) in found {
            self.manifests.entry(digest).or_insert(manifest);
        }
    }

    /// Moves every listed manifest among the others, as those that may be deleted by themselves.
    pub fn include_all_listed(&mut self) {
        for row in std::mem::take(&mut self.listed) {
            self.manifests.entry(row.digest.clone()).or_insert_with(|| row.into_manifest());
        }
    }

    /// The digests of the manifests that no tag names, in order, as far as they are not only listed.
    pub fn digests_without_tag(&self) -> impl Iterator<Item = &Digest> {
        let tagged: BTreeSet<&Digest> = self.tags.iter().filter_map(|tag| tag.digest.as_ref()).collect();
        self.manifests.keys().filter(move |digest| !tagged.contains(digest))
    }

    /// Returns the content of a manifest that the repository may not list; `None` if all of it is listed.
    #[must_use]
    pub fn unlisted_content(&self, manifest: &Manifest) -> Option<UnlistedContent> {
        match self.unlisted {
            UnlistedManifests::None => None,
            _ if manifest.unread_kind() == Some(UnreadKind::Index) => Some(UnlistedContent::Anything),
            UnlistedManifests::InUnreadIndexes => None,
            UnlistedManifests::InListedIndexes => manifest.is_index_by_list().then_some(UnlistedContent::Indexes),
        }
    }

    /// Every manifest of which it is unknown what it lists or what it refers to.
    pub fn unread(&self) -> impl Iterator<Item = (&Digest, UnreadKind)> {
        let met = self.manifests.iter().filter_map(|(digest, manifest)| Some((digest, manifest.unread_kind()?)));
        met.chain(self.listed.iter().filter_map(|row| Some((&row.digest, row.kind.unread()?))))
    }
}

impl Registry {
    /// Returns true if an untag in a repository certainly leaves the manifest: neither the registry nor, as far as it
    /// is due now, Tagwarden deletes untagged manifests.
    #[must_use]
    pub fn certainly_keeps_untagged(&self, repository: &Repository) -> bool {
        let retention = self.info.as_ref().map(|info| info.untagged_retention);
        self.removal == RemovalMethod::Untag && retention == Some(RetentionDays::Off) && repository.untagged.is_empty()
    }
}
