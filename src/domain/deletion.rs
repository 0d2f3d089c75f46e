//! Manifests without a tag, whoever left them, and whether they may be deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Digest, GapTarget, Hold, Holder, Lock, LockTarget, Manifest, MentionReason, PolicyName, Refusal, RegistryName,
    RepositoryName, SourceName, TagName, UncertainClaimReason, UnresolvedReason,
};

/// A manifest that Tagwarden took tags from, as the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntaggedManifest {
    /// The registry.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// The tags that were taken from it, by name; never empty.
    pub tags: Vec<RemovedTag>,
    /// What its bytes say, which the journal keeps; nothing where they were not asked for, or are damaged.
    pub manifest: Option<Manifest>,
}

/// A tag that Tagwarden took from a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedTag {
    /// Its name.
    pub name: TagName,
    /// When it was removed.
    pub at: Timestamp,
    /// The policies that let it go, by name; empty where the record of it cannot be understood.
    pub policies: Vec<PolicyName>,
    /// Whether Tagwarden has put it back since: if it is gone again, somebody else removed it.
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
    /// The policies that have it deleted, by name; all of them must.
    pub policies: Vec<PolicyName>,
    /// Whether all of them say `enforce`, and so do those of everything that it hangs on.
    pub enforce: bool,
    /// What goes along, in the order in which it goes: the images of an index, then what refers to them; empty where it
    /// stays.
    pub dependents: Vec<Dependent>,
    /// What that frees; nothing where it cannot be known, or where it stays.
    pub reclaim: Option<DeletionReclaim>,
    /// Why it stays, in order; empty where it goes.
    pub retain_reasons: Vec<RetainReason>,
}

/// Bytes that only a manifest and what goes along with it need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionReclaim {
    /// How many.
    pub bytes: u64,
    /// Whether the registry did not show the blobs of all its manifests: these are then whole images by its own account.
    pub estimated: bool,
}

/// What becomes of the manifests that no tag references, where a policy has them deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletions {
    /// Those whose grace is over, by registry, repository and digest.
    pub eligible: Vec<Deletion>,
    /// How many wait for the end of theirs.
    pub pending: u64,
    /// When the first of these ends.
    pub next_eligible_at: Option<Timestamp>,
    /// The registries in which policies have manifests deleted and that do not list what has no tag, by name: nothing is
    /// deleted there.
    pub unlisted: Vec<RegistryName>,
    /// What stands against deleting.
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

/// A manifest that goes with another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependent {
    /// As what; the images come before what refers to them.
    pub role: DependentRole,
    /// Its digest.
    pub digest: Digest,
}

/// As what a manifest goes with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DependentRole {
    /// An index that goes lists it.
    Child,
    /// It refers to something that goes: a signature, an attestation, an SBOM.
    Referrer,
}

/// Why an untagged manifest is not deleted although its grace is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetainReason {
    /// The registry does not list manifests without tags, so nobody knows whether an index holds it.
    NotListed,
    /// A source that could have claimed it failed.
    SourceFailed(SourceName),
    /// Something about its repository could not be read.
    Gap(Box<GapTarget>),
    /// A hold protects it, an image in it, or a tag that it had.
    Held(Arc<Hold>),
    /// A source claims it, an image in it, or a tag that it had.
    Claimed {
        /// The source.
        source: SourceName,
        /// The reference as the source gave it, in normal form.
        reference: Arc<str>,
        /// Who holds the claim.
        holder: Arc<Holder>,
    },
    /// A source has its digest's beginning, an image's in it, or a tag that it had, in a text.
    Mentioned(Box<MentionReason>),
    /// A source claims a digest that may be that of an image in it.
    MaybeClaimed(Arc<UncertainClaimReason>),
    /// A source names its repository and leaves open which image of it.
    UnresolvedReference(Arc<UnresolvedReason>),
    /// The registry has locked it, an image in it, or its repository.
    Locked {
        /// What carries the lock.
        on: LockTarget,
        /// Which lock.
        lock: Lock,
    },
    /// An index that stays lists it.
    ListedByRetained(Digest),
    /// Something that stays refers to it.
    ReferredToByRetained(Digest),
    /// A signature or the like of it has a tag.
    HasCompanionTag(TagName),
    /// It is a signature or the like of an image that stays.
    RefersToRetained(Digest),
    /// Tagwarden put this tag back since, and somebody else removed it.
    Restored(TagName),
    /// The record of the removal of this tag cannot be understood.
    Unrecorded(TagName),
    /// The policy that let it go is gone.
    PolicyMissing(PolicyName),
    /// The policy that let this tag go does not select it any more.
    NotSelected(PolicyName, TagName),
    /// The policy, which selects a tag that it had, says nothing of deleting.
    DeletionNotRequested(PolicyName),
    /// It and what it hangs on hang on each other, so that none can go before the other.
    Cyclic,
}

impl Deletion {
    /// Whether nothing keeps it.
    #[must_use]
    pub fn is_deletable(&self) -> bool {
        self.retain_reasons.is_empty()
    }
}

impl Deletions {
    /// Those that go.
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
    /// The label used in reports: `child` or `referrer`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Child => "child",
            Self::Referrer => "referrer",
        }
    }
}

impl RetainReason {
    /// The label used in reports.
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
            Self::Cyclic => "cyclic",
        }
    }
}
