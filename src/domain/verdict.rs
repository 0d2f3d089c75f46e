//! What is decided about a tag, and every reason for it.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    DateOrigin, Digest, GapTarget, HoldReason, Holder, Lock, Period, PolicyName, RangeSelection, Reasons, SharedText,
    SourceName, TagName, VersionPart, VersionRange,
};

/// What is decided about one tag. Every tag of the inventory has exactly one.
///
/// Where several apply, the first in this order is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// No policy selects it, so it stays.
    OutOfScope,
    /// A claim, a lock, a referrer or an index holds it.
    Protected,
    /// A keep rule keeps it.
    Retained,
    /// Something needed to be sure is missing, so it stays.
    Undecided,
    /// It goes.
    Expired,
}

/// Where a tag stands in its inventory: positions in the sorted lists.
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
    /// Which tag.
    pub position: TagPosition,
    /// What is decided.
    pub verdict: Verdict,
    /// Everything that speaks for or against it. Never empty.
    pub reasons: Reasons,
}

/// One thing that speaks for or against a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No policy selects the tag.
    NotSelected,
    /// A hold protects it.
    Held(Box<HoldReason>),
    /// A source claims it.
    Claimed(Box<ClaimReason>),
    /// A source has its name, or its digest's beginning, in a text that names its repository, too.
    Mentioned(Box<MentionReason>),
    /// The registry has locked it.
    Locked {
        /// What carries the lock.
        on: LockTarget,
        /// Which lock.
        lock: Lock,
    },
    /// An index that stays contains its image.
    ChildOfKept {
        /// That index.
        index: Box<Digest>,
    },
    /// It is a signature, attestation or the like of an image that stays.
    CompanionOfKept {
        /// That image.
        subject: Box<Digest>,
    },
    /// It is a signature, attestation or the like of an image that this inventory does not show.
    CompanionOfUnknown {
        /// That image.
        subject: Box<Digest>,
    },
    /// Something that stays refers to its manifest, and removal here would delete the manifest or what refers to it.
    SubjectOfKept {
        /// That referrer.
        referrer: Box<Digest>,
    },
    /// A tag that stays shares its manifest, and removal here would delete the manifest.
    SharesManifest {
        /// That tag.
        tag: TagName,
    },
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
        /// How many the rule keeps.
        count: u32,
    },
    /// It was pushed recently.
    KeptWithin {
        /// The policy.
        policy: PolicyName,
        /// The rule's duration as written.
        within: SharedText,
        /// When it leaves that window.
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
        /// How many periods the rule keeps.
        count: u32,
    },
    /// It is among the highest versions of its line.
    KeptVersion {
        /// The policy.
        policy: PolicyName,
        /// What makes a line.
        part: VersionPart,
        /// The line, such as `1.2`.
        line: Box<str>,
        /// Its rank in it, from 1.
        rank: u32,
        /// How many the rule keeps.
        count: u32,
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
        /// Why not.
        cause: UndatedCause,
    },
    /// A rule goes by version, and the tag is none.
    NotAVersion {
        /// The policy.
        policy: PolicyName,
    },
    /// A source that could have protected it failed.
    SourceFailed {
        /// The source.
        source: SourceName,
    },
    /// Something about its repository or itself could not be read.
    Gap {
        /// What.
        target: Box<GapTarget>,
        /// The gap's label.
        kind: &'static str,
    },
    /// A source claims a digest that may be this image's.
    MaybeClaimed(Arc<UncertainClaimReason>),
    /// A source names its repository and leaves open which image of it.
    UnresolvedReference(Arc<UnresolvedReason>),
    /// An index or artifact that could hold it was not read.
    IndexUnread {
        /// The first of those.
        index: Box<Digest>,
        /// How many they are.
        count: u32,
    },
    /// The policy selects it and no rule of the policy keeps it.
    NotKept {
        /// The policy.
        policy: PolicyName,
        /// By how much it missed each rule, in the rules' order.
        shortfalls: Box<[Shortfall]>,
    },
    /// It is a signature, attestation or the like of an image whose last tags go, and goes with them.
    CompanionOfExpired {
        /// That image.
        subject: Box<Digest>,
        /// The first policy by name that lets that image's tags go.
        policy: PolicyName,
    },
}

/// By how much a tag missed a keep rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortfall {
    /// That many images of its group are newer or as new.
    Newest {
        /// Its rank, from 1.
        rank: u32,
        /// How many the rule keeps.
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
        /// How many periods the rule keeps.
        count: u32,
    },
    /// Its line has enough higher versions.
    Version {
        /// What makes a line.
        part: VersionPart,
        /// Its rank in its line, from 1.
        rank: u32,
        /// How many the rule keeps.
        count: u32,
    },
    /// No glob of the rule matches it.
    Matching,
    /// No tag of its image is such as the rule asks for.
    ImageWith,
}

/// A claim on a tag and how it reaches it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimReason {
    /// The source.
    pub source: SourceName,
    /// How the claim reaches the tag.
    pub by: ClaimMatch,
    /// The reference as the source gave it, in normal form.
    pub reference: Arc<str>,
    /// Who holds it.
    pub holder: Arc<Holder>,
}

/// A word in a text that may mean a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MentionReason {
    /// The source.
    pub source: SourceName,
    /// The word as it was found.
    pub text: Arc<str>,
    /// The place where it stands.
    pub holder: Arc<Holder>,
}

/// A claim on a digest of which it cannot be said whether it is an image's.
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

/// The cause of a doubt about a digest being an image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Uncertainty {
    /// It is an image id that came with the name of the repository, and the image's configuration was not read.
    ConfigUnread,
    /// It is an image id of which no container is known, and the image's configuration was not read.
    NoContainer,
    /// It is a digest of another algorithm than those by which the registry knows the image.
    OtherAlgorithm,
}

/// A reference that leaves open which image of a repository it means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnresolvedReason {
    /// The source.
    pub source: SourceName,
    /// The text as the source has it.
    pub text: Arc<str>,
    /// Where it stands.
    pub holder: Arc<Holder>,
}

impl Uncertainty {
    /// The label used in reports: `configuration-unread`, `no-container`, `other-algorithm`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ConfigUnread => "configuration-unread",
            Self::NoContainer => "no-container",
            Self::OtherAlgorithm => "other-algorithm",
        }
    }
}

/// How a claim reaches a tag.
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

/// What carries a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockTarget {
    /// The tag itself.
    Tag,
    /// Its manifest.
    Manifest,
    /// Its repository.
    Repository,
}

/// The time by which a tag is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Date {
    /// The registry's own word on its last push.
    Pushed(Timestamp),
    /// The image's word on its creation.
    Created(Timestamp),
    /// When Tagwarden first saw the tag at this digest, which is later than the image's own word or all there is.
    FirstSeen(Timestamp),
    /// The time that a restored tag had when it was removed, and who said it.
    Original(Timestamp, DateOrigin),
    /// There is none that can be trusted.
    Unknown(UndatedCause),
}

/// Why a tag has no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UndatedCause {
    /// Neither the registry nor the image says one.
    Missing,
    /// It says one before 2013, when there were no container images: a reproducible build.
    TooEarly(Timestamp),
    /// It says one that has not come yet.
    Future(Timestamp),
    /// It was restored, and the time that it had before is not known.
    Restored,
}

impl Date {
    /// The time, where there is one.
    #[must_use]
    pub fn timestamp(self) -> Option<Timestamp> {
        match self {
            Self::Pushed(time) | Self::Created(time) | Self::FirstSeen(time) | Self::Original(time, _) => Some(time),
            Self::Unknown(_) => None,
        }
    }

    /// The label used in reports: `pushed`, `created`, `first-seen`, `original`, `unknown`.
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
    /// The label used in reports.
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
    /// The verdict that this reason alone would give.
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
            | Self::SharesManifest { .. } => Verdict::Protected,
            Self::KeptAll { .. }
            | Self::KeptNewest { .. }
            | Self::KeptWithin { .. }
            | Self::KeptBucket { .. }
            | Self::KeptVersion { .. }
            | Self::KeptMatching { .. }
            | Self::KeptImageWith { .. }
            | Self::Undated { .. }
            | Self::NotAVersion { .. } => Verdict::Retained,
            Self::SourceFailed { .. }
            | Self::Gap { .. }
            | Self::MaybeClaimed(_)
            | Self::UnresolvedReference(_)
            | Self::IndexUnread { .. } => Verdict::Undecided,
            Self::NotKept { .. } | Self::CompanionOfExpired { .. } => Verdict::Expired,
        }
    }
}
