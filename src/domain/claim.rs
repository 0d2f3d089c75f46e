//! What the world outside says about images: who uses what.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Hold, Hosts, ImageReference, Mention, RangeSelection, RegistryName, RepositoryName, SourceName, TextIndex,
    UnresolvedReference, VersionRange,
};

/// The answers of all configured sources, by name, and the holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// One answer for each configured source, sorted by name.
    pub sources: Vec<SourceOutcome>,
    /// The holds, sorted. Those that are over protect nothing.
    pub holds: Vec<Arc<Hold>>,
    /// The words of the sources' texts, in which the names of tags are looked up repository by repository; empty where the
    /// sources' mentions were found before.
    pub texts: BTreeMap<SourceName, Arc<SourceTexts>>,
}

/// The words of the texts of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceTexts {
    /// Those whose mentions protect.
    pub protecting: TextIndex,
    /// Those whose mentions are only reported.
    pub report_only: TextIndex,
    /// Why the source counts as empty unless a word of it mentions a tag: it names no registry that it protects in any other
    /// way.
    pub unless_mentioned: Option<Arc<str>>,
}

/// What one source said, or why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOutcome {
    /// Its name in the settings.
    pub name: SourceName,
    /// Its kind in the settings, such as `release-records`.
    pub kind: &'static str,
    /// The registries that it protects; nothing means all.
    pub registries: Option<Vec<RegistryName>>,
    /// What came of asking it.
    pub state: SourceState,
}

/// What came of asking a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceState {
    /// It answered in full.
    Complete {
        /// What it claims, sorted.
        claims: Vec<Claim>,
        /// Its references that name repositories and leave open which image they mean, sorted.
        unresolved: Vec<UnresolvedReference>,
        /// The tags and digests whose names stand in its texts without being understood as claims, sorted.
        mentions: Vec<Mention>,
        /// The time of the evidence: its own word, else the file's time.
        as_of: Option<Timestamp>,
        /// What a person should know although nothing failed, such as hosts that no registry is known by.
        notes: Vec<String>,
    },
    /// It failed, timed out, is too old, or answered with nothing. What it could have protected stays.
    Failed {
        /// A short label for metrics and scripts, such as `unreadable`, `too-old`, `empty`.
        kind: &'static str,
        /// What happened, where, and what to do next.
        message: Arc<str>,
    },
}

/// One statement of a source: this workload or release uses this image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The image it names.
    pub image: ImageReference,
    /// Who holds it.
    pub holder: Arc<Holder>,
    /// The way in which the image was named.
    pub naming: Naming,
}

/// The way in which a source named an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Naming {
    /// By the reference, as it was written.
    #[default]
    Written,
    /// By a text that is invalid as it stands; the reference is what it may have been meant to be.
    Corrected,
    /// By parts that stand apart and belong together by a tool's convention, such as a chart's `appVersion` and a
    /// repository in its values. Nobody may have meant the image that they make.
    Joined,
    /// By a range of versions. The reference has neither tag nor digest.
    Range(Arc<VersionRange>, RangeSelection),
    /// By an image id, a bare digest of a manifest or of a configuration. The container that runs it is known, and these
    /// are the names, without tag and digest, that its specification and the runtime give the image. Never empty.
    ContainerImageId(Arc<[ImageReference]>),
    /// By an image id of which no container is known. These are all names in the specification of the object that runs
    /// it; empty where that has none.
    ObjectImageId(Arc<[ImageReference]>),
}

/// Who holds a claim, with enough to find it by hand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A release record.
    Release(Release),
    /// A reference in a file that a person or a pipeline keeps.
    File {
        /// The file, as the settings' glob found it.
        path: String,
        /// Its line, from 1; 0 where the format has none.
        line: u32,
    },
    /// Something that runs or could be started: a workload of a cluster or of a cloud service.
    Workload {
        /// The cluster, subscription or host.
        place: String,
        /// Its namespace or resource group.
        namespace: String,
        /// Its kind, such as `Deployment`.
        kind: String,
        /// Its name.
        name: String,
        /// The container in it, or empty.
        container: String,
    },
    /// A hold on a tag.
    Hold {
        /// Who set it.
        by: String,
        /// The reason that was given.
        reason: String,
        /// When it ends.
        until: Timestamp,
    },
}

/// A release record that still protects.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// The file it stands in.
    pub path: String,
    /// Its line there, from 1; 0 where unknown.
    pub line: u32,
    /// The service that was released.
    pub service: Option<String>,
    /// Where it was released to.
    pub environment: Option<String>,
    /// Who owns it.
    pub owner: Option<String>,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// The build it came from.
    pub build: Option<String>,
    /// The branch it came from.
    pub branch: Option<String>,
    /// When it was released.
    pub released_at: Option<Timestamp>,
    /// Whether it is live or kept for a rollback.
    pub status: ReleaseStatus,
    /// Until when it protects, where that is limited.
    pub keep_until: Option<Timestamp>,
}

/// Whether a release is live. A `retired` one is no claim and never becomes one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReleaseStatus {
    /// It is live.
    #[default]
    Active,
    /// It is what a rollback would go to.
    Rollback,
}

impl Claim {
    /// A claim on what a reference says.
    #[must_use]
    pub fn new(image: ImageReference, holder: Arc<Holder>) -> Self {
        Self { image, holder, naming: Naming::Written }
    }

    /// Returns true if it names an image by an id alone: a digest that may be a configuration's. Runtimes give an image's id
    /// without a name; with a name before it a digest is a manifest's.
    #[must_use]
    pub fn is_image_id(&self) -> bool {
        self.image.repository.is_none() && self.image.digest.is_some()
    }

    /// The names that came with an image id; empty for other claims, and where none came.
    #[must_use]
    pub fn image_id_names(&self) -> &[ImageReference] {
        match &self.naming {
            Naming::ContainerImageId(names) | Naming::ObjectImageId(names) => names,
            Naming::Written | Naming::Corrected | Naming::Joined | Naming::Range(..) => &[],
        }
    }

    /// Returns the range of versions that it names, and which of them it claims.
    #[must_use]
    pub fn range(&self) -> Option<(&Arc<VersionRange>, RangeSelection)> {
        match &self.naming {
            Naming::Range(range, ranges) => Some((range, *ranges)),
            _ => None,
        }
    }

    /// Returns true if the image that it names may be one that nobody meant, so that none is missed where it is not.
    #[must_use]
    pub fn is_guess(&self) -> bool {
        matches!(self.naming, Naming::Corrected | Naming::Joined)
    }

    /// Returns the text that it is shown by: the reference, and the range.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.naming {
            Naming::Range(range, _) => format!("{} in {range}", self.image),
            _ => self.image.to_string(),
        }
    }

    /// Returns true if its digest may be that of an image in `repository`, by the names that came with it. An id without
    /// any name may be anywhere.
    #[must_use]
    pub fn may_match_repository(&self, hosts: Hosts<'_>, repository: &RepositoryName) -> bool {
        match self.image_id_names() {
            [] if self.is_image_id() => true,
            [] => self.image.may_match_repository(hosts, repository),
            names => names.iter().any(|name| name.may_match_repository(hosts, repository)),
        }
    }

    /// Returns true if it names a registry with those names, or could because it names none.
    #[must_use]
    pub fn may_match_registry(&self, hosts: Hosts<'_>) -> bool {
        match self.image_id_names() {
            [] => self.image.may_match_registry(hosts),
            names => names.iter().any(|name| name.may_match_registry(hosts)),
        }
    }
}

impl SourceOutcome {
    /// Its references that leave open which image they mean; none where it failed.
    #[must_use]
    pub fn unresolved(&self) -> &[UnresolvedReference] {
        match &self.state {
            SourceState::Complete { unresolved, .. } => unresolved,
            SourceState::Failed { .. } => &[],
        }
    }

    /// Returns its mentions; none where it failed.
    #[must_use]
    pub fn mentions(&self) -> &[Mention] {
        match &self.state {
            SourceState::Complete { mentions, .. } => mentions,
            SourceState::Failed { .. } => &[],
        }
    }

    /// Whether it protects the registry of that name.
    #[must_use]
    pub fn covers(&self, registry: &RegistryName) -> bool {
        self.registries.as_ref().is_none_or(|names| names.contains(registry))
    }

    /// Its claims; none where it failed.
    #[must_use]
    pub fn claims(&self) -> &[Claim] {
        match &self.state {
            SourceState::Complete { claims, .. } => claims,
            SourceState::Failed { .. } => &[],
        }
    }

    /// Whether it failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self.state, SourceState::Failed { .. })
    }
}

impl Claims {
    /// Puts everything in its canonical order.
    pub fn sort(&mut self) {
        self.sources.sort_by(|a, b| a.name.cmp(&b.name));
        self.holds.sort();
        self.holds.dedup();
        for source in &mut self.sources {
            if let SourceState::Complete { claims, unresolved, mentions, .. } = &mut source.state {
                claims.sort();
                claims.dedup();
                unresolved.sort();
                unresolved.dedup();
                mentions.sort();
                mentions.dedup();
            }
        }
    }
}

impl ReleaseStatus {
    /// The label used in records and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rollback => "rollback",
        }
    }
}
