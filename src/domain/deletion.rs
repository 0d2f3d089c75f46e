//! Manifests without a tag, whoever left them, and whether they may be deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Digest, GapTarget, Hold, Holder, Lock, LockTarget, Manifest, MentionReason, PolicyName, Refusal, RegistryName,
    RepositoryName, SourceName, TagName, UncertainClaimReason, UnresolvedReason,
};

/// A manifest that Tagwarden removed tags from, according to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntaggedManifest {
    /// The registry.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// The removed tags, by name; never empty.
    pub tags: Vec<RemovedTag>,
    /// Its content, from the journal; `None` if it was not fetched or is damaged.
    pub manifest: Option<Manifest>,
}

/// A tag that Tagwarden removed from a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedTag {
    /// Its name.
    pub name: TagName,
    /// Time of the removal.
    pub at: Timestamp,
    /// The policies that removed it, by name; empty if the record cannot be parsed.
    pub policies: Vec<PolicyName>,
    /// True if Tagwarden has restored it since. If it is missing now, somebody else removed it.
    pub restored: bool,
}

/// A manifest without a tag whose grace is over: it goes, or there is a reason for which it stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The registry.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// The tag that Tagwarden took from it last; [`TagName::none`] where it took none.
    pub tag: TagName,
    /// When that was; where it took none, since when the manifest is found free.
    pub untagged_at: Timestamp,
    /// The time since which every run found it free; `None` where no policy with `untagged` has a say, or it is not free.
    pub free_since: Option<Timestamp>,
    /// When its grace was over.
    pub eligible_at: Timestamp,
    /// The policies that request its deletion, by name; all of them must.
    pub policies: Vec<PolicyName>,
    /// True if all of them say `enforce`, and so do those of every manifest that it depends on.
    pub enforce: bool,
    /// The manifests deleted with it, in order of deletion: the images of an index, then referrers. Empty if it is
    /// retained.
    pub dependents: Vec<Dependent>,
    /// The bytes that this frees; `None` if unknown, or if it is retained.
    pub reclaim: Option<DeletionReclaim>,
    /// Why it is retained, in order; empty if it is deleted.
    pub retain_reasons: Vec<RetainReason>,
}

/// Bytes that only a manifest and its dependents need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionReclaim {
    /// The number of bytes.
    pub bytes: u64,
    /// True if the registry did not list the blobs of all manifests, in which case the sizes it reports for whole
    /// images are used.
    pub estimated: bool,
}

/// What becomes of the manifests that no tag references, where a policy has them deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletions {
    /// Manifests whose grace period is over, by registry, repository and digest.
    pub eligible: Vec<Deletion>,
    /// The number of manifests still in their grace period.
    pub pending: u64,
    /// The earliest end of a grace period among them.
    pub next_eligible_at: Option<Timestamp>,
    /// The registries in which policies have manifests deleted and that do not list what has no tag, by name: nothing is
    /// deleted there.
    pub unlisted: Vec<RegistryName>,
    /// The refusals that block deletions.
    pub refusals: Vec<Refusal>,
    /// How many manifests without a tag policies with `untagged` speak of and something keeps, by the label of the reason.
    /// Not among them are those in `eligible`.
    pub kept: BTreeMap<&'static str, u64>,
    /// What deleting those that wait would free, of the ones that policies with `untagged` speak of.
    pub forecast: DeletionForecast,
}

/// What deleting manifests would free, once their time is over and if nothing keeps them by then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeletionForecast {
    /// How many they are.
    pub manifests: u64,
    /// Bytes that only they need in their repositories.
    pub bytes: u64,
    /// How many of them are of unknown size.
    pub unsized_manifests: u64,
    /// Whether the registry did not show the blobs of all manifests: such an image counts whole.
    pub estimated: bool,
}

/// A manifest that is deleted together with another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependent {
    /// Its relation; images precede referrers.
    pub role: DependentRole,
    /// Its digest.
    pub digest: Digest,
}

/// The relation of a dependent to the manifest that it is deleted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DependentRole {
    /// A deleted index lists it.
    Child,
    /// It refers to a deleted manifest: a signature, an attestation, an SBOM.
    Referrer,
}

/// Why an untagged manifest is not deleted although its grace period is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetainReason {
    /// The registry does not list manifests without tags, so an unseen index may contain it.
    NotListed,
    /// A source that could have claimed it failed.
    SourceFailed(SourceName),
    /// Something about its repository could not be read.
    Gap(Box<GapTarget>),
    /// A hold protects it, an image in it, or one of its former tags.
    Held(Arc<Hold>),
    /// A source claims it, an image in it, or one of its former tags.
    Claimed {
        /// The source.
        source: SourceName,
        /// The reference as the source gave it, in normal form.
        reference: Arc<str>,
        /// The holder of the claim.
        holder: Arc<Holder>,
    },
    /// A text of a source contains a former tag of it, or the beginning of its digest or of an image's in it.
    Mentioned(Box<MentionReason>),
    /// A source claims a digest that may be that of an image in it.
    MaybeClaimed(Arc<UncertainClaimReason>),
    /// A source names its repository without identifying an image in it.
    UnresolvedReference(Arc<UnresolvedReason>),
    /// The registry has locked it, an image in it, or its repository.
    Locked {
        /// The object that carries the lock.
        on: LockTarget,
        /// The lock.
        lock: Lock,
    },
    /// A retained index lists it.
    ListedByRetained(Digest),
    /// A retained manifest refers to it.
    ReferredToByRetained(Digest),
    /// A signature or the like of it has a tag.
    HasCompanionTag(TagName),
    /// It is a signature or the like of a retained image.
    RefersToRetained(Digest),
    /// Tagwarden has restored this tag since, and somebody else removed it.
    Restored(TagName),
    /// The record of this tag's removal cannot be parsed.
    Unrecorded(TagName),
    /// The policy that removed its tag no longer exists.
    PolicyMissing(PolicyName),
    /// The policy that removed this tag no longer selects it.
    NotSelected(PolicyName, TagName),
    /// The policy, which selects one of its former tags, does not request deletion.
    DeletionNotRequested(PolicyName),
    /// It is an index, or may be one, and the registry would delete what it lists together with it.
    IndexContents,
    /// It and what it depends on depend on each other, so that none can go before the other.
    Cyclic,
}

impl Deletion {
    /// Returns true if no reason retains it.
    #[must_use]
    pub fn is_deletable(&self) -> bool {
        self.retain_reasons.is_empty()
    }
}

impl Deletions {
    /// Returns the manifests that are to be deleted.
    pub fn deletable(&self) -> impl Iterator<Item = &Deletion> {
        self.eligible.iter().filter(|deletion| deletion.is_deletable())
    }

    /// Returns the first binding refusal that covers a deletion: one of deletions, then one of removals, which
    /// `of_removals` are.
    #[must_use]
    pub fn refusal_for<'a>(&'a self, deletion: &Deletion, of_removals: &'a [Refusal]) -> Option<&'a Refusal> {
        let mut all = self.refusals.iter().chain(of_removals);
        all.find(|refusal| refusal.binding && refusal.scope.covers_deletion(deletion))
    }

    /// Counts one that something keeps.
    pub fn add_kept(&mut self, label: &'static str) {
        *self.kept.entry(label).or_default() += 1;
    }

    /// Adds the counts of another part of the plan. What is eligible, unlisted or refused is left to the caller.
    pub fn add_counts(&mut self, other: &Self) {
        self.pending += other.pending;
        self.next_eligible_at = [self.next_eligible_at, other.next_eligible_at].into_iter().flatten().min();
        for (label, count) in &other.kept {
            *self.kept.entry(label).or_default() += count;
        }
        self.forecast.add(other.forecast);
    }

    /// Counts one that waits.
    pub fn add_pending(&mut self, until: Timestamp) {
        self.pending += 1;
        self.next_eligible_at = Some(self.next_eligible_at.map_or(until, |next| next.min(until)));
    }
}

impl DeletionForecast {
    /// Adds the forecast of another repository.
    pub fn add(&mut self, other: Self) {
        self.manifests += other.manifests;
        self.bytes += other.bytes;
        self.unsized_manifests += other.unsized_manifests;
        self.estimated |= other.estimated;
    }
}

impl DependentRole {
    /// Returns the label used in reports: `child` or `referrer`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Child => "child",
            Self::Referrer => "referrer",
        }
    }
}

impl RetainReason {
    /// Returns the label used in reports.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotListed => "not-listed",
            Self::SourceFailed(_) => "source-failed",
            Self::Gap(_) => "gap",
            Self::Held(_) => "held",
            Self::Claimed { .. } => "claimed",
            Self::Mentioned(_) => "mentioned",
            Self::MaybeClaimed(_) => "maybe-claimed",
            Self::UnresolvedReference(_) => "unresolved-reference",
            Self::Locked { .. } => "locked",
            Self::ListedByRetained(_) => "listed-by-retained",
            Self::ReferredToByRetained(_) => "referred-to-by-retained",
            Self::HasCompanionTag(_) => "has-companion-tag",
            Self::RefersToRetained(_) => "refers-to-retained",
            Self::Restored(_) => "restored",
            Self::Unrecorded(_) => "unrecorded",
            Self::PolicyMissing(_) => "policy-missing",
            Self::NotSelected(..) => "not-selected",
            Self::DeletionNotRequested(_) => "deletion-not-requested",
            Self::IndexContents => "index-contents",
            Self::Cyclic => "cyclic",
        }
    }
}
