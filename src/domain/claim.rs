//! Claims: the images that workloads, releases and people use.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Hold, Hosts, ImageReference, Mention, RangeSelection, RegistryName, RepositoryName, SourceName, TextIndex,
    UnlistedContent, UnresolvedReference, VersionRange,
};

/// The outcomes of all configured sources, by name, and the holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// One outcome for each configured source, sorted by name.
    pub sources: Vec<SourceOutcome>,
    /// The holds, sorted. Expired ones protect nothing.
    pub holds: Vec<Arc<Hold>>,
    /// The words of the sources' texts, in which tag names are looked up repository by repository. Empty if the
    /// mentions were found before.
    pub texts: BTreeMap<SourceName, Arc<SourceTexts>>,
}

/// The words of the texts of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceTexts {
    /// The texts whose mentions protect.
    pub protecting: TextIndex,
    /// The texts whose mentions are only reported.
    pub report_only: TextIndex,
    /// The reason why the source counts as empty unless one of its words mentions a tag: nothing else in it names a
    /// registry that it protects.
    pub unless_mentioned: Option<Arc<str>>,
}

/// The outcome of one source: its claims, or its failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOutcome {
    /// Its name in the settings.
    pub name: SourceName,
    /// Its kind in the settings, such as `release-records`.
    pub kind: &'static str,
    /// The registries that it protects; `None` means all.
    pub registries: Option<Vec<RegistryName>>,
    /// Its claims, or why there are none.
    pub state: SourceState,
}

/// The result of querying a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceState {
    /// It answered in full.
    Complete {
        /// Its claims, sorted.
        claims: Vec<Claim>,
        /// Its references that name repositories and leave open which image they mean, sorted.
        unresolved: Vec<UnresolvedReference>,
        /// Tags and digests whose names occur in its texts but are not understood as claims, sorted.
        mentions: Vec<Mention>,
        /// The time of the evidence: as the source reports it, else the file's modification time.
        as_of: Option<Timestamp>,
        /// Remarks for people although nothing failed, such as hosts that match no configured registry.
        notes: Vec<String>,
    },
    /// It failed, timed out, is too old, or was empty. Everything that it could have protected is retained.
    Failed {
        /// A short label for metrics and scripts, such as `unreadable`, `too-old`, `empty`.
        kind: &'static str,
        /// The failure: its place, what happened, and what to do next.
        message: Arc<str>,
    },
}

/// One statement of a source: this workload or release uses this image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The image it names.
    pub image: ImageReference,
    /// The workload, file or release that uses the image.
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
    /// By a text that is invalid as it stands; the reference is its probable meaning.
    Corrected,
    /// By separate parts that a tool's convention joins, such as a chart's `appVersion` and a repository in its values.
    /// The resulting image may not be intended.
    Joined,
    /// By a range of versions. The reference has neither tag nor digest.
    Range(Arc<VersionRange>, RangeSelection),
    /// By an image id: the bare digest of a manifest or of a configuration. These are the names, without tag and
    /// digest, that the container's specification and the runtime give the image. Never empty.
    ContainerImageId(Arc<[ImageReference]>),
    /// By an image id without a known container. These are all names in the specification of the object that runs it;
    /// empty if it has none.
    ObjectImageId(Arc<[ImageReference]>),
}

/// The holder of a claim, with enough detail to find it by hand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A release record.
    Release(Release),
    /// A reference in a file that a person or a pipeline keeps.
    File {
        /// The file, as the settings' glob found it.
        path: String,
        /// Its line, from 1; 0 if the format has none.
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
    /// A pull, which the registry's log recorded.
    Pull {
        /// Its time.
        at: Timestamp,
        /// The identity that pulled, as the log names it; empty if anonymous.
        identity: String,
        /// The client's `User-Agent`, up to its first space.
        client: String,
    },
    /// A hold on a tag.
    Hold {
        /// The person who set it.
        by: String,
        /// The reason given.
        reason: String,
        /// Its expiry.
        until: Timestamp,
    },
}

/// A release record that still protects.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// The file that contains it.
    pub path: String,
    /// Its line there, from 1; 0 where unknown.
    pub line: u32,
    /// The service that was released.
    pub service: Option<String>,
    /// The environment it was released to.
    pub environment: Option<String>,
    /// The owner.
    pub owner: Option<String>,
    /// The approver.
    pub approved_by: Option<String>,
    /// The build that produced it.
    pub build: Option<String>,
    /// The branch it was built from.
    pub branch: Option<String>,
    /// The time of the release.
    pub released_at: Option<Timestamp>,
    /// Live, or kept for a rollback.
    pub status: ReleaseStatus,
    /// End of its protection, if limited.
    pub keep_until: Option<Timestamp>,
}

/// Status of a release that protects. A `retired` release is not a claim and never becomes one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReleaseStatus {
    /// It is live.
    #[default]
    Active,
    /// It is a rollback target.
    Rollback,
}

impl Claim {
    /// Creates a claim on the image that a reference names.
    #[must_use]
    pub fn new(image: ImageReference, holder: Arc<Holder>) -> Self {
        Self { image, holder, naming: Naming::Written }
    }

    /// Returns true if it names an image by an id alone, that is by a digest that may be a configuration's. A digest
    /// after a name is always a manifest's.
    #[must_use]
    pub fn is_image_id(&self) -> bool {
        self.image.repository.is_none() && self.image.digest.is_some()
    }

    /// Returns the names that came with an image id; empty for other claims, and for an id without names.
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

    /// Returns true if the image may be an unintended guess. A guess that does not exist is not reported as missing.
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

    /// Returns true if its digest may be that of an image in `repository`, by the names that came with it. An id
    /// without a name may be anywhere.
    #[must_use]
    pub fn may_match_repository(&self, hosts: Hosts<'_>, repository: &RepositoryName) -> bool {
        match self.image_id_names() {
            [] if self.is_image_id() => true,
            [] => self.image.may_match_repository(hosts, repository),
            names => names.iter().any(|name| name.may_match_repository(hosts, repository)),
        }
    }

    /// Returns true if its digest may be that of content of `repository` that is not listed.
    ///
    /// Runtimes report digests under other names than those that were pulled, so an image may have any name. To look for
    /// an index within an index is worth less, since hardly anybody refers to one: there the path has to match, whatever
    /// host or mirror stands before it.
    #[must_use]
    pub fn may_name_unlisted(&self, content: UnlistedContent, hosts: Hosts<'_>, repository: &RepositoryName) -> bool {
        if content == UnlistedContent::Anything {
            return true;
        }
        let names = match self.image_id_names() {
            [] => std::slice::from_ref(&self.image),
            names => names,
        };
        let shares_path = |name: &ImageReference| {
            let Some(path) = &name.repository else { return true };
            let (a, b) = (path.as_str(), repository.as_str());
            let ends = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('/'));
            a == b || ends(a, b) || ends(b, a)
        };
        names.iter().any(|name| shares_path(name) || name.may_match_repository(hosts, repository))
    }

    /// Returns true if it names a registry at one of those hosts, or names no host at all.
    #[must_use]
    pub fn may_match_registry(&self, hosts: Hosts<'_>) -> bool {
        match self.image_id_names() {
            [] => self.image.may_match_registry(hosts),
            names => names.iter().any(|name| name.may_match_registry(hosts)),
        }
    }
}

impl SourceOutcome {
    /// Returns its references that do not identify an image; empty if it failed.
    #[must_use]
    pub fn unresolved(&self) -> &[UnresolvedReference] {
        match &self.state {
            SourceState::Complete { unresolved, .. } => unresolved,
            SourceState::Failed { .. } => &[],
        }
    }

    /// Returns its mentions; empty if it failed.
    #[must_use]
    pub fn mentions(&self) -> &[Mention] {
        match &self.state {
            SourceState::Complete { mentions, .. } => mentions,
            SourceState::Failed { .. } => &[],
        }
    }

    /// Returns true if it protects the registry with that name.
    #[must_use]
    pub fn covers(&self, registry: &RegistryName) -> bool {
        self.registries.as_ref().is_none_or(|names| names.contains(registry))
    }

    /// Returns its claims; empty if it failed.
    #[must_use]
    pub fn claims(&self) -> &[Claim] {
        match &self.state {
            SourceState::Complete { claims, .. } => claims,
            SourceState::Failed { .. } => &[],
        }
    }

    /// Returns true if it failed.
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
    /// Returns the label used in records and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rollback => "rollback",
        }
    }
}
