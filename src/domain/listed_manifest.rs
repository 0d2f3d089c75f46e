//! Manifests that a registry lists and that were not read: what they hold and what they refer to is unknown.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Digest, Lock, Manifest, ManifestDetail, Registry, RemovalMethod, Repository, RetentionDays};

/// A manifest as the registry lists it. There may be hundreds of thousands of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedManifest {
    /// Its digest.
    pub digest: Digest,
    /// As the registry says; empty where it does not.
    pub media_type: Arc<str>,
    /// Bytes of the image by the registry's account, shared layers included; nothing where it does not say.
    pub image_size: Option<u64>,
    /// A lock on it.
    pub lock: Option<Lock>,
    /// Its kind.
    pub kind: ListedKind,
}

/// What the registry's list tells of a manifest's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListedKind {
    /// An image for one platform: it lists no other manifests and refers to none.
    Image,
    /// Something that may refer to an image, but lists none.
    Artifact,
    /// An index, or something that may be one.
    Index,
}

/// The kind of a manifest that has to be read before anything is known of what it holds or refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnreadKind {
    /// Something that may refer to an image, but lists none.
    Artifact,
    /// An index, or something that may be one.
    Index,
}

/// Why an unread manifest is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnreadCause {
    /// It stays, or may refer to something that does, and may hold an image whose tag would go.
    Kept,
    /// A tag that would go leads to it, and it may hold an image in use.
    Claimed,
    /// It may tell which image a signature, an attestation or the like accompanies.
    Companions,
    /// A manifest of its repository is due for deletion.
    Deletions,
}

/// How many indexes and artifacts of a registry were read, by cause.
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
}

impl IndexReads {
    /// Counts one more.
    pub fn add(&mut self, cause: UnreadCause) {
        let count = match cause {
            UnreadCause::Kept => &mut self.kept,
            UnreadCause::Claimed => &mut self.claimed,
            UnreadCause::Companions => &mut self.companions,
            UnreadCause::Deletions => &mut self.deletions,
        };
        *count = count.saturating_add(1);
    }

    /// How many they are together.
    #[must_use]
    pub fn total(&self) -> u32 {
        let causes = [self.kept, self.claimed, self.companions, self.deletions];
        causes.into_iter().fold(0, u32::saturating_add)
    }
}

impl UnreadKind {
    /// The label used in files: `artifact` or `index`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Index => "index",
        }
    }
}

impl ListedKind {
    /// The label used in files: `image`, `artifact` or `index`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Artifact => UnreadKind::Artifact.label(),
            Self::Index => UnreadKind::Index.label(),
        }
    }

    /// The kind that a label means.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Image, Self::Artifact, Self::Index].into_iter().find(|kind| kind.label() == label)
    }

    /// What has to be read of it; nothing of an image.
    #[must_use]
    pub fn unread(self) -> Option<UnreadKind> {
        match self {
            Self::Image => None,
            Self::Artifact => Some(UnreadKind::Artifact),
            Self::Index => Some(UnreadKind::Index),
        }
    }
}

impl ListedManifest {
    /// The manifest as far as it is known.
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
    /// Returns true if what it lists and what it refers to is unknown.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.unread_kind().is_some()
    }

    /// The kind of a manifest of which it is unknown what it lists and what it refers to.
    #[must_use]
    pub fn unread_kind(&self) -> Option<UnreadKind> {
        match self.detail {
            ManifestDetail::Unread { kind, .. } => Some(kind),
            ManifestDetail::Full | ManifestDetail::Listed { .. } => None,
        }
    }

    /// Returns true if it surely is an index.
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

/// Returns true for the media type of Docker's own indexes, which refer to nothing.
#[must_use]
pub fn is_docker_list_type(media_type: &str) -> bool {
    media_type == "application/vnd.docker.distribution.manifest.list.v2+json"
}

impl Repository {
    /// What the registry lists of a manifest to which nothing known leads.
    #[must_use]
    pub fn listed_manifest(&self, digest: &Digest) -> Option<&ListedManifest> {
        let found = self.listed.binary_search_by(|row| row.digest.cmp(digest)).ok()?;
        self.listed.get(found)
    }

    /// Moves listed manifests among those to which something known leads. Others of the digests are passed over.
    pub fn include_listed(&mut self, digests: &BTreeSet<Digest>) {
        if !digests.iter().any(|digest| self.listed_manifest(digest).is_some()) {
            return;
        }
        for row in self.listed.extract_if(.., |row| digests.contains(&row.digest)) {
            self.manifests.entry(row.digest.clone()).or_insert_with(|| row.into_manifest());
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

    /// Every manifest of which it is unknown what it lists or what it refers to.
    pub fn unread(&self) -> impl Iterator<Item = (&Digest, UnreadKind)> {
        let met = self.manifests.iter().filter_map(|(digest, manifest)| Some((digest, manifest.unread_kind()?)));
        met.chain(self.listed.iter().filter_map(|row| Some((&row.digest, row.kind.unread()?))))
    }
}

impl Registry {
    /// Returns true where an untag in a repository certainly leaves the manifest: nothing deletes what has no tag, neither
    /// the registry nor, as far as it is due now, Tagwarden.
    #[must_use]
    pub fn certainly_keeps_untagged(&self, repository: &Repository) -> bool {
        let retention = self.info.as_ref().map(|info| info.untagged_retention);
        self.removal == RemovalMethod::Untag && retention == Some(RetentionDays::Off) && repository.untagged.is_empty()
    }
}
