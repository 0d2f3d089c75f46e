//! The verdict on a tag, and every reason for it.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    DateOrigin, Digest, GapTarget, HoldReason, Holder, Lock, Period, PolicyName, RangeSelection, Reasons, SharedText,
    SourceName, TagName, UnknownFact, VersionPart, VersionRange,
};

/// The verdict on one tag. Every tag of the inventory has exactly one.
///
/// If several apply, the first in this order wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// No policy selects it, so it is retained.
    OutOfScope,
    /// A claim, a lock, a referrer or an index protects it.
    Protected,
    /// A keep rule keeps it.
    Retained,
    /// A fact that the decision needs is missing, so it is retained.
    Undecided,
    /// It is to be removed.
    Expired,
}

/// The position of a tag in its inventory: indexes into the sorted lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagPosition {
    /// Position of the registry.
    pub registry: u32,
    /// Position of the repository in the registry.
    pub repository: u32,
    /// Position of the tag in the repository.
    pub tag: u32,
}

/// The verdict on one tag, with all reasons found, in canonical order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagVerdict {
    /// The tag.
    pub position: TagPosition,
    /// The verdict.
    pub verdict: Verdict,
    /// All reasons for and against removal. Never empty.
    pub reasons: Reasons,
}

/// A reason for or against the removal of a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No policy selects the tag.
    NotSelected,
    /// A hold protects it.
    Held(Box<HoldReason>),
    /// A source claims it.
    Claimed(Box<ClaimReason>),
    /// A text of a source contains its name, or its digest's beginning, and names its repository, too.
    Mentioned(Box<MentionReason>),
    /// The registry has locked it.
    Locked {
        /// The object that carries the lock.
        on: LockTarget,
        /// The lock.
        lock: Lock,
    },
    /// A retained index contains its image.
    ChildOfKept {
        /// The retained index.
        index: Box<Digest>,
    },
    /// It is a signature, attestation or the like of a retained image.
    CompanionOfKept {
        /// The retained image.
        subject: Box<Digest>,
    },
    /// It is a signature, attestation or the like of an image that this inventory does not show.
    CompanionOfUnknown {
        /// The missing image.
        subject: Box<Digest>,
    },
    /// A retained manifest refers to its manifest, and removal here would delete the manifest or what refers to it.
    SubjectOfKept {
        /// The retained referrer.
        referrer: Box<Digest>,
    },
    /// A retained tag shares its manifest, and removal here would delete the manifest.
    SharesManifest {
        /// The retained tag.
        tag: TagName,
    },
    /// No tag of its manifest would remain, and the registry deletes a manifest with its last tag.
    LastTag,
    /// The policy keeps all that it selects.
    KeptAll {
        /// The policy.
        policy: PolicyName,
    },
    /// It is among the newest images of its group.
    KeptNewest {
        /// The policy.
        policy: PolicyName,
        /// Its rank, from 1.
        rank: u32,
        /// The number that the rule keeps.
        count: u32,
    },
    /// It was pushed recently.
    KeptWithin {
        /// The policy.
        policy: PolicyName,
        /// The rule's duration as written.
        within: SharedText,
        /// End of the window for this tag.
        until: Timestamp,
    },
    /// It is the newest of its day, week, month or year.
    KeptBucket {
        /// The policy.
        policy: PolicyName,
        /// The period.
        period: Period,
        /// The period's key, such as `2026-W47`.
        bucket: Box<str>,
        /// The number of periods that the rule keeps.
        count: u32,
    },
    /// It is among the highest versions of its line.
    KeptVersion {
        /// The policy.
        policy: PolicyName,
        /// The part of the version that defines a line.
        part: VersionPart,
        /// The line, such as `1.2`.
        line: Box<str>,
        /// Its rank in it, from 1.
        rank: u32,
        /// The number that the rule keeps.
        count: u32,
    },
    /// It was pulled recently, or pushed recently and never pulled.
    KeptPulled {
        /// The policy.
        policy: PolicyName,
        /// The rule's duration as written.
        within: SharedText,
        /// The end of that window.
        until: Timestamp,
    },
    /// A rule needs the time of its last pull, and that may not be recorded.
    PullTimeUnknown {
        /// The policy.
        policy: PolicyName,
    },
    /// A `matching` rule names it.
    KeptMatching {
        /// The policy.
        policy: PolicyName,
        /// The glob as written.
        glob: SharedText,
    },
    /// An `image_with` rule keeps its image.
    KeptImageWith {
        /// The policy.
        policy: PolicyName,
        /// The first tag by name for which the image stays.
        tag: TagName,
    },
    /// A rule needs its time, and it has none that can be trusted.
    Undated {
        /// The policy.
        policy: PolicyName,
        /// Why its time is unknown.
        cause: UndatedCause,
    },
    /// A rule depends on versions, and the tag is not one.
    NotAVersion {
        /// The policy.
        policy: PolicyName,
    },
    /// A policy selects by a fact that is unknown, so it may select the tag and keep it.
    SelectionUnknown {
        /// The policy.
        policy: PolicyName,
        /// The fact.
        fact: UnknownFact,
    },
    /// A source that could have protected it failed.
    SourceFailed {
        /// The source.
        source: SourceName,
    },
    /// Part of its repository, or the tag itself, could not be read.
    Gap {
        /// The missing information.
        target: Box<GapTarget>,
        /// The gap's label.
        kind: &'static str,
    },
    /// A source claims a digest that may be this image's.
    MaybeClaimed(Arc<UncertainClaimReason>),
    /// A source names its repository without identifying an image in it.
    UnresolvedReference(Arc<UnresolvedReason>),
    /// An index or artifact that could contain it was not read.
    IndexUnread {
        /// The first unread manifest.
        index: Box<Digest>,
        /// The number of unread manifests.
        count: u32,
    },
    /// The policy selects it and no rule of the policy keeps it.
    NotKept {
        /// The policy.
        policy: PolicyName,
        /// By how much it missed each rule, in the rules' order.
        shortfalls: Box<[Shortfall]>,
    },
    /// It is a signature, attestation or the like of an image whose last tags are removed, and is removed with them.
    CompanionOfExpired {
        /// The image.
        subject: Box<Digest>,
        /// The first policy by name that expires the image's tags.
        policy: PolicyName,
    },
}

/// The margin by which a tag missed a keep rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortfall {
    /// At least `count` images of its group are newer or equally new.
    Newest {
        /// Its rank, from 1.
        rank: u32,
        /// The number that the rule keeps.
        count: u32,
    },
    /// It is older than the window.
    Within {
        /// Its age in seconds.
        age_seconds: i64,
        /// The rule's duration as written.
        within: SharedText,
    },
    /// It is not the newest of a kept period.
    Bucket {
        /// The period.
        period: Period,
        /// The number of periods that the rule keeps.
        count: u32,
    },
    /// Its line has enough higher versions.
    Version {
        /// The part of the version that defines a line.
        part: VersionPart,
        /// Its rank in its line, from 1.
        rank: u32,
        /// The number that the rule keeps.
        count: u32,
    },
    /// It was not pulled within the window.
    Pulled {
        /// Seconds since its last pull, or since its push where that came later.
        idle_seconds: i64,
        /// The rule's duration as written.
        within: SharedText,
        /// True if it was never pulled.
        never: bool,
    },
    /// No glob of the rule matches it.
    Matching,
    /// No tag of its image is such as the rule asks for.
    ImageWith,
    /// The policy's limit on what its rules by time keep.
    AtMost {
        /// Its rank among what they keep, from 1; `None` where they do not keep it.
        rank: Option<u32>,
        /// The most images that they keep.
        count: u32,
    },
}

/// A claim on a tag and the way in which it matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimReason {
    /// The source.
    pub source: SourceName,
    /// The way in which the claim matches the tag.
    pub by: ClaimMatch,
    /// The reference as the source gave it, in normal form.
    pub reference: Arc<str>,
    /// The holder of the claim.
    pub holder: Arc<Holder>,
}

/// A word in a text that may name a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MentionReason {
    /// The source.
    pub source: SourceName,
    /// The word as it was found.
    pub text: Arc<str>,
    /// The place where it occurs.
    pub holder: Arc<Holder>,
}

/// A claim on a digest that may or may not be an image's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UncertainClaimReason {
    /// The source.
    pub source: SourceName,
    /// The digest that it claims.
    pub digest: Digest,
    /// The cause of the doubt.
    pub uncertainty: Uncertainty,
    /// The holder of the claim.
    pub holder: Arc<Holder>,
}

/// The cause of the doubt that a digest is an image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Uncertainty {
    /// It is an image id that came with the name of the repository, and the image's configuration was not read.
    ConfigUnread,
    /// It is an image id of which no container is known, and the image's configuration was not read.
    NoContainer,
    /// Its algorithm differs from that of the digests by which the registry knows the image.
    OtherAlgorithm,
}

/// A reference that does not identify an image of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnresolvedReason {
    /// The source.
    pub source: SourceName,
    /// The text as found in the source.
    pub text: Arc<str>,
    /// The place where it occurs.
    pub holder: Arc<Holder>,
}

impl Uncertainty {
    /// Returns the label used in reports: `configuration-unread`, `no-container`, `other-algorithm`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ConfigUnread => "configuration-unread",
            Self::NoContainer => "no-container",
            Self::OtherAlgorithm => "other-algorithm",
        }
    }
}

/// The way in which a claim matches a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimMatch {
    /// The claim names the tag.
    Tag,
    /// The claim names the tag's digest.
    Digest,
    /// The claim names the digest of an image's configuration, and the tag's image, or one inside its index, has it.
    Config,
    /// The tag is an index that contains the claimed digest.
    IndexContains(Digest),
    /// The claim names the tag and another digest: it moved since (drift). Both are protected.
    DriftedTag {
        /// The digest that the claim recorded.
        recorded: Digest,
    },
    /// The claim names a range of versions, and the tag is the highest in it or, where all are claimed, one in it.
    Range(Arc<VersionRange>, RangeSelection),
}

/// The object that carries a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockTarget {
    /// The tag itself.
    Tag,
    /// Its manifest.
    Manifest,
    /// Its repository.
    Repository,
}

/// The date by which a tag is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Date {
    /// The time of the last push, as the registry reports it.
    Pushed(Timestamp),
    /// The creation time, as the image reports it.
    Created(Timestamp),
    /// The time Tagwarden first saw the tag at this digest, if it is later than the image's creation time or that is
    /// unknown.
    FirstSeen(Timestamp),
    /// The date that a restored tag had when it was removed, and its origin.
    Original(Timestamp, DateOrigin),
    /// No trustworthy time is known.
    Unknown(UndatedCause),
}

/// Why a tag has no date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UndatedCause {
    /// Neither the registry nor the image reports one.
    Missing,
    /// The timestamp is before 2013, when there were no container images: a reproducible build.
    TooEarly(Timestamp),
    /// The timestamp is in the future.
    Future(Timestamp),
    /// It was restored, and its original date is not known.
    Restored,
    /// Another tag of its image has no date. The image counts by the newest of its tags, so it may be newer than this one.
    OtherTag,
}

impl Date {
    /// Returns the time, if known.
    #[must_use]
    pub fn timestamp(self) -> Option<Timestamp> {
        match self {
            Self::Pushed(time) | Self::Created(time) | Self::FirstSeen(time) | Self::Original(time, _) => Some(time),
            Self::Unknown(_) => None,
        }
    }

    /// Returns the label used in reports: `pushed`, `created`, `first-seen`, `original`, `unknown`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pushed(_) => "pushed",
            Self::Created(_) => "created",
            Self::FirstSeen(_) => "first-seen",
            Self::Original(..) => "original",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl Verdict {
    /// Returns the label used in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::OutOfScope => "out-of-scope",
            Self::Protected => "protected",
            Self::Retained => "retained",
            Self::Undecided => "undecided",
            Self::Expired => "expired",
        }
    }
}

impl Reason {
    /// Returns the verdict that this reason alone would give.
    #[must_use]
    pub fn implied_verdict(&self) -> Verdict {
        match self {
            Self::NotSelected => Verdict::OutOfScope,
            Self::Held(_)
            | Self::Claimed(_)
            | Self::Mentioned(_)
            | Self::Locked { .. }
            | Self::ChildOfKept { .. }
            | Self::CompanionOfKept { .. }
            | Self::CompanionOfUnknown { .. }
            | Self::SubjectOfKept { .. }
            | Self::SharesManifest { .. }
            | Self::LastTag => Verdict::Protected,
            Self::KeptAll { .. }
            | Self::KeptNewest { .. }
            | Self::KeptWithin { .. }
            | Self::KeptBucket { .. }
            | Self::KeptVersion { .. }
            | Self::KeptMatching { .. }
            | Self::KeptImageWith { .. }
            | Self::KeptPulled { .. }
            | Self::PullTimeUnknown { .. }
            | Self::Undated { .. }
            | Self::NotAVersion { .. }
            | Self::SelectionUnknown { .. } => Verdict::Retained,
            Self::SourceFailed { .. }
            | Self::Gap { .. }
            | Self::MaybeClaimed(_)
            | Self::UnresolvedReference(_)
            | Self::IndexUnread { .. } => Verdict::Undecided,
            Self::NotKept { .. } | Self::CompanionOfExpired { .. } => Verdict::Expired,
        }
    }
}
