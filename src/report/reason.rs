//! Reasons as data and as sentences.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::holder::HolderView;
use super::holds::describe_hold;
use super::humanize::ordinal;
use super::idle::describe_selection;
use super::notation::{format_minute, short_digest};
use super::shortfall::{ShortfallView, periods};
use crate::domain::{ClaimMatch, Digest, HoldMatch, HoldReason, LockTarget, RangeSelection, Reason, UndatedCause};

/// A reason for or against the removal of a tag. The variants are those of [`Reason`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the variants and fields are those of `domain::Reason`, documented there")]
pub enum ReasonView {
    NotSelected {},
    Held {
        by: String,
        tag: String,
        digest: Option<String>,
        reason: String,
        held_by: String,
        until: Timestamp,
        origin: String,
    },
    Claimed {
        source: String,
        by: String,
        reference: String,
        digest: Option<String>,
        holder: Box<HolderView>,
    },
    Locked {
        on: String,
        lock: String,
    },
    ChildOfKept {
        index: String,
    },
    CompanionOfKept {
        subject: String,
    },
    CompanionOfUnknown {
        subject: String,
    },
    SubjectOfKept {
        referrer: String,
    },
    SharesManifest {
        tag: String,
    },
    LastTag {},
    KeptAll {
        policy: String,
    },
    KeptNewest {
        policy: String,
        rank: u32,
        count: u32,
    },
    KeptWithin {
        policy: String,
        within: String,
        until: Timestamp,
    },
    KeptBucket {
        policy: String,
        rule: String,
        bucket: String,
        count: u32,
    },
    KeptVersion {
        policy: String,
        version: String,
        line: String,
        rank: u32,
        count: u32,
    },
    KeptPulled {
        policy: String,
        within: String,
        until: Timestamp,
    },
    PullTimeUnknown {
        policy: String,
    },
    KeptMatching {
        policy: String,
        glob: String,
    },
    KeptImageWith {
        policy: String,
        tag: String,
    },
    Undated {
        policy: String,
        why: String,
        time: Option<Timestamp>,
    },
    NotAVersion {
        policy: String,
    },
    SelectionUnknown {
        policy: String,
        fact: String,
    },
    SourceFailed {
        source: String,
    },
    Gap {
        at: String,
        failure: String,
    },
    MaybeClaimed {
        source: String,
        digest: String,
        #[serde(default, alias = "doubt")]
        uncertainty: String,
        /// Missing in plans of version 0.1.
        #[serde(default)]
        holder: Option<Box<HolderView>>,
    },
    UnresolvedReference {
        source: String,
        text: String,
        holder: Box<HolderView>,
    },
    Mentioned {
        source: String,
        text: String,
        holder: Box<HolderView>,
    },
    IndexUnread {
        index: String,
        count: u32,
    },
    #[serde(alias = "let-go")]
    NotKept {
        policy: String,
        #[serde(alias = "misses")]
        shortfalls: Vec<ShortfallView>,
    },
    CompanionOfExpired {
        subject: String,
        policy: String,
    },
}

impl From<&Reason> for ReasonView {
    fn from(reason: &Reason) -> Self {
        match reason {
            Reason::NotSelected => Self::NotSelected {},
            Reason::Held(held) => Self::from_held(held),
            Reason::Claimed(claimed) => {
                let (by, digest) = claim_match(&claimed.by);
                Self::Claimed {
                    source: claimed.source.to_string(),
                    by: by.to_owned(),
                    reference: claimed.reference.to_string(),
                    digest: digest.map(ToString::to_string),
                    holder: Box::new(HolderView::from(&*claimed.holder)),
                }
            }
            Reason::Locked { on, lock } => Self::Locked { on: locked(*on).to_owned(), lock: lock.label().to_owned() },
            Reason::ChildOfKept { index } => Self::ChildOfKept { index: index.to_string() },
            Reason::CompanionOfKept { subject } => Self::CompanionOfKept { subject: subject.to_string() },
            Reason::CompanionOfUnknown { subject } => Self::CompanionOfUnknown { subject: subject.to_string() },
            Reason::SubjectOfKept { referrer } => Self::SubjectOfKept { referrer: referrer.to_string() },
            Reason::SharesManifest { tag } => Self::SharesManifest { tag: tag.to_string() },
            Reason::LastTag => Self::LastTag {},
            Reason::KeptAll { policy } => Self::KeptAll { policy: policy.to_string() },
            Reason::KeptNewest { policy, rank, count } => {
                Self::KeptNewest { policy: policy.to_string(), rank: *rank, count: *count }
            }
            Reason::KeptWithin { policy, within, until } => {
                Self::KeptWithin { policy: policy.to_string(), within: within.to_string(), until: *until }
            }
            Reason::KeptPulled { policy, within, until } => {
                Self::KeptPulled { policy: policy.to_string(), within: within.to_string(), until: *until }
            }
            Reason::PullTimeUnknown { policy } => Self::PullTimeUnknown { policy: policy.to_string() },
            Reason::KeptBucket { policy, period, bucket, count } => Self::KeptBucket {
                policy: policy.to_string(),
                rule: period.rule_name().to_owned(),
                bucket: bucket.to_string(),
                count: *count,
            },
            Reason::KeptVersion { policy, part, line, rank, count } => Self::KeptVersion {
                policy: policy.to_string(),
                version: part.label().to_owned(),
                line: line.to_string(),
                rank: *rank,
                count: *count,
            },
            Reason::KeptMatching { policy, glob } => {
                Self::KeptMatching { policy: policy.to_string(), glob: glob.to_string() }
            }
            Reason::KeptImageWith { policy, tag } => {
                Self::KeptImageWith { policy: policy.to_string(), tag: tag.to_string() }
            }
            Reason::Undated { policy, cause: why } => {
                let (why, time) = match why {
                    UndatedCause::Missing => ("missing", None),
                    UndatedCause::TooEarly(time) => ("before-2013", Some(*time)),
                    UndatedCause::Future(time) => ("future", Some(*time)),
                    UndatedCause::Restored => ("restored", None),
                    UndatedCause::OtherTag => ("other-tag", None),
                };
                Self::Undated { policy: policy.to_string(), why: why.to_owned(), time }
            }
            Reason::NotAVersion { policy } => Self::NotAVersion { policy: policy.to_string() },
            Reason::SelectionUnknown { policy, fact } => {
                Self::SelectionUnknown { policy: policy.to_string(), fact: fact.label().to_owned() }
            }
            Reason::SourceFailed { source } => Self::SourceFailed { source: source.to_string() },
            Reason::Gap { target: at, kind } => Self::Gap { at: at.to_string(), failure: (*kind).to_owned() },
            Reason::MaybeClaimed(claimed) => Self::MaybeClaimed {
                source: claimed.source.to_string(),
                digest: claimed.digest.to_string(),
                uncertainty: claimed.uncertainty.label().to_owned(),
                holder: Some(Box::new(HolderView::from(&*claimed.holder))),
            },
            Reason::UnresolvedReference(unresolved) => Self::UnresolvedReference {
                source: unresolved.source.to_string(),
                text: unresolved.text.to_string(),
                holder: Box::new(HolderView::from(&*unresolved.holder)),
            },
            Reason::Mentioned(mentioned) => Self::Mentioned {
                source: mentioned.source.to_string(),
                text: mentioned.text.to_string(),
                holder: Box::new(HolderView::from(&*mentioned.holder)),
            },
            Reason::IndexUnread { index, count } => Self::IndexUnread { index: index.to_string(), count: *count },
            Reason::NotKept { policy, shortfalls } => Self::NotKept {
                policy: policy.to_string(),
                shortfalls: shortfalls.iter().map(ShortfallView::from).collect(),
            },
            Reason::CompanionOfExpired { subject, policy } => {
                Self::CompanionOfExpired { subject: subject.to_string(), policy: policy.to_string() }
            }
        }
    }
}

fn locked(on: LockTarget) -> &'static str {
    match on {
        LockTarget::Tag => "tag",
        LockTarget::Manifest => "manifest",
        LockTarget::Repository => "repository",
    }
}

impl ReasonView {
    fn from_held(held: &HoldReason) -> Self {
        let HoldReason { by, hold } = held;
        let (by, inside) = match by {
            HoldMatch::Tag => ("tag", None),
            HoldMatch::DriftedTag => ("drifted-tag", None),
            HoldMatch::Digest => ("digest", None),
            HoldMatch::IndexContains(digest) => ("index-contains", Some(digest)),
        };
        Self::Held {
            by: by.to_owned(),
            tag: hold.tag.to_string(),
            digest: inside.or(hold.digest.as_ref()).map(ToString::to_string),
            reason: hold.reason.clone(),
            held_by: hold.by.clone(),
            until: hold.until,
            origin: hold.origin.label().to_owned(),
        }
    }

    /// Returns the label, as in the JSON's `kind`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotSelected {} => "not-selected",
            Self::Held { .. } => "held",
            Self::Claimed { .. } => "claimed",
            Self::Locked { .. } => "locked",
            Self::ChildOfKept { .. } => "child-of-kept",
            Self::CompanionOfKept { .. } => "companion-of-kept",
            Self::CompanionOfUnknown { .. } => "companion-of-unknown",
            Self::SubjectOfKept { .. } => "subject-of-kept",
            Self::SharesManifest { .. } => "shares-manifest",
            Self::LastTag {} => "last-tag",
            Self::KeptAll { .. } => "kept-all",
            Self::KeptNewest { .. } => "kept-newest",
            Self::KeptWithin { .. } => "kept-within",
            Self::KeptBucket { .. } => "kept-bucket",
            Self::KeptVersion { .. } => "kept-version",
            Self::KeptPulled { .. } => "kept-pulled",
            Self::PullTimeUnknown { .. } => "pull-time-unknown",
            Self::KeptMatching { .. } => "kept-matching",
            Self::KeptImageWith { .. } => "kept-image-with",
            Self::Undated { .. } => "undated",
            Self::NotAVersion { .. } => "not-a-version",
            Self::SelectionUnknown { .. } => "selection-unknown",
            Self::SourceFailed { .. } => "source-failed",
            Self::Gap { .. } => "gap",
            Self::MaybeClaimed { .. } => "maybe-claimed",
            Self::UnresolvedReference { .. } => "unresolved-reference",
            Self::IndexUnread { .. } => "index-unread",
            Self::Mentioned { .. } => "mentioned",
            Self::NotKept { .. } => "not-kept",
            Self::CompanionOfExpired { .. } => "companion-of-expired",
        }
    }

    /// Returns the policy that it comes from, if any.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::KeptAll { policy }
            | Self::KeptNewest { policy, .. }
            | Self::KeptWithin { policy, .. }
            | Self::KeptBucket { policy, .. }
            | Self::KeptVersion { policy, .. }
            | Self::KeptMatching { policy, .. }
            | Self::KeptImageWith { policy, .. }
            | Self::KeptPulled { policy, .. }
            | Self::PullTimeUnknown { policy }
            | Self::Undated { policy, .. }
            | Self::NotAVersion { policy }
            | Self::SelectionUnknown { policy, .. }
            | Self::NotKept { policy, .. }
            | Self::CompanionOfExpired { policy, .. } => Some(policy),
            _ => None,
        }
    }

    /// Returns one sentence without its full stop.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::NotSelected {} => "no policy selects it".to_owned(),
            Self::Held { by, tag, digest, reason, held_by, until, .. } => {
                let words = describe_hold(held_by, *until, reason);
                match (by.as_str(), digest.as_deref().map(short_digest)) {
                    ("digest", _) => format!("its image is {words} (tag {tag})"),
                    ("index-contains", Some(digest)) => {
                        format!("{digest}, which this index contains, is {words} (tag {tag})")
                    }
                    ("drifted-tag", Some(digest)) => format!("{words}; DRIFT: the tag was at {digest} then"),
                    _ => words,
                }
            }
            Self::Claimed { source, by, reference, digest, holder } => {
                describe_claim(source, by, reference, digest.as_deref(), holder)
            }
            Self::Locked { on, lock } => format!("the registry has locked the {on} ({lock})"),
            Self::ChildOfKept { index } => {
                format!("its image is part of the index {}, which stays", short_digest(index))
            }
            Self::CompanionOfKept { subject } => {
                format!("it accompanies the image {}, which stays", short_digest(subject))
            }
            Self::CompanionOfUnknown { subject } => {
                format!(
                    "it accompanies the image {}, which no tag here names: not sure, so it stays",
                    short_digest(subject)
                )
            }
            Self::SubjectOfKept { referrer } => format!(
                "{} refers to its manifest and stays; removal in this registry takes more than the tag",
                short_digest(referrer)
            ),
            Self::SharesManifest { tag } => {
                format!("tag {tag} has the same manifest and stays; removal in this registry deletes the manifest")
            }
            Self::LastTag {} => "its image would have no tag left, and the registry would delete it then".to_owned(),
            Self::KeptAll { policy } => format!("policy {policy} keeps all that it selects"),
            Self::KeptNewest { policy, rank, count } => {
                format!("policy {policy} keeps the newest {count}: it is the {}", ordinal(*rank))
            }
            Self::KeptWithin { policy, within, until } => {
                format!("policy {policy} keeps what is younger than {within}: until {}", format_minute(*until))
            }
            Self::KeptBucket { policy, rule, bucket, count } => {
                let periods = periods(rule);
                format!(
                    "policy {policy} keeps the newest of each of the last {count} {periods}: it is that of {bucket}"
                )
            }
            Self::KeptVersion { policy, version, line, rank, count } => {
                let rank = ordinal(*rank);
                format!("policy {policy} keeps {count} per {version} version: it is the {rank} highest of {line}")
            }
            Self::KeptPulled { policy, within, until } => {
                let until = format_minute(*until);
                format!("policy {policy} keeps what was pulled or pushed within {within}: until {until}")
            }
            Self::PullTimeUnknown { policy } => {
                format!("policy {policy} keeps what was pulled lately, and its pulls may not be recorded")
            }
            Self::KeptMatching { policy, glob } => format!("policy {policy} keeps what matches `{glob}`"),
            Self::KeptImageWith { policy, tag } => {
                format!("policy {policy} keeps every tag of an image with the tag `{tag}`")
            }
            Self::Undated { policy, why, time } => describe_undated(policy, why, *time),
            Self::NotAVersion { policy } => {
                format!("policy {policy} goes by version, and this tag is none, so it stays")
            }
            Self::SelectionUnknown { policy, fact } => describe_selection(policy, fact),
            Self::SourceFailed { source } => format!("source {source} failed and could have protected it"),
            Self::Gap { at, failure } => format!("{at} could not be read ({failure})"),
            Self::MaybeClaimed { source, digest, uncertainty, holder } => {
                describe_possible_claim(source, digest, uncertainty, holder.as_deref())
            }
            Self::UnresolvedReference { source, text, holder } => describe_unresolved(source, text, holder),
            Self::IndexUnread { index, count } => describe_unread_index(index, *count),
            Self::Mentioned { source, text, holder } => describe_mention(source, text, holder),
            Self::NotKept { policy, shortfalls } if shortfalls.is_empty() => format!("policy {policy} keeps none"),
            Self::NotKept { policy, shortfalls } => {
                let shortfalls: Vec<String> = shortfalls.iter().map(ShortfallView::describe).collect();
                format!("policy {policy} does not keep it: {}", shortfalls.join("; "))
            }
            Self::CompanionOfExpired { subject, policy } => {
                format!(
                    "it is removed with the image {}, whose last tags policy {policy} expires",
                    short_digest(subject)
                )
            }
        }
    }
}

/// Returns the label of the way in which a claim matches a tag, and the digest concerned.
pub(super) fn claim_match(by: &ClaimMatch) -> (&'static str, Option<&Digest>) {
    match by {
        ClaimMatch::Tag => ("tag", None),
        ClaimMatch::Digest => ("digest", None),
        ClaimMatch::Config => ("config", None),
        ClaimMatch::IndexContains(digest) => ("index-contains", Some(digest)),
        ClaimMatch::DriftedTag { recorded } => ("drifted-tag", Some(recorded)),
        ClaimMatch::Range(_, RangeSelection::Highest) => ("highest-in-range", None),
        ClaimMatch::Range(_, RangeSelection::All) => ("in-range", None),
    }
}

/// Describes the way in which a claim matches a tag.
pub(super) fn describe_match(by: &str, digest: Option<&str>) -> String {
    match (by, digest) {
        ("digest", _) => "by its digest".to_owned(),
        ("config", _) => "by its image's configuration digest".to_owned(),
        ("highest-in-range", _) => "as the highest version in a range".to_owned(),
        ("in-range", _) => "as a version in a range".to_owned(),
        ("index-contains", Some(digest)) => format!("by {} inside it", short_digest(digest)),
        ("drifted-tag", Some(recorded)) => format!("by its tag; DRIFT: it recorded {}", short_digest(recorded)),
        _ => "by its tag".to_owned(),
    }
}

/// Describes a reference that does not identify an image of the repository, and the remedy.
pub(super) fn describe_unresolved(source: &str, text: &str, holder: &HolderView) -> String {
    format!(
        "{}: `{text}` leaves the tag open, so it may mean this one (source {source}; write the tag there, or set \
         `unresolved = \"note\"`)",
        holder.describe()
    )
}

/// Describes an index that was not read, and the remedy.
fn describe_unread_index(index: &str, count: u32) -> String {
    let others = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    format!("the index {}{others} was not read and may hold its image; a plan reads it", short_digest(index))
}

/// Describes a word in a text that may name an image, and the remedy.
pub(super) fn describe_mention(source: &str, text: &str, holder: &HolderView) -> String {
    format!(
        "{}: the word `{text}` may mean it (source {source}; where it does not, set `mentions = \"report\"`)",
        holder.describe()
    )
}

/// Describes a claim on a digest that may or may not be this image's.
pub(super) fn describe_possible_claim(
    source: &str,
    digest: &str,
    uncertainty: &str,
    holder: Option<&HolderView>,
) -> String {
    let who = holder.map_or_else(|| source.to_owned(), |holder| format!("{source} ({})", holder.describe()));
    let digest = short_digest(digest);
    match uncertainty {
        "other-algorithm" => format!(
            "{who} uses {digest}, and the registry knows this image by a digest of another algorithm: it may be the same"
        ),
        "no-container" => format!(
            "{who} reports the image id {digest} without a name: it may be the configuration of this image, which was not \
             read (`bytes = \"exact\"` for the registry reads it)"
        ),
        _ => format!(
            "{who} reports the image id {digest} for this repository: it may be the configuration of this image, which \
             was not read (a run reads at most 1,000)"
        ),
    }
}

fn describe_claim(source: &str, by: &str, reference: &str, digest: Option<&str>, holder: &HolderView) -> String {
    let holder = holder.describe();
    match (by, digest) {
        ("digest", _) => format!("{source} uses its digest: {holder} ({reference})"),
        ("config", _) => format!("{source} uses its image by configuration digest: {holder} ({reference})"),
        ("index-contains", Some(digest)) => {
            format!("{source} uses {}, which this index contains: {holder}", short_digest(digest))
        }
        ("drifted-tag", Some(recorded)) => {
            format!("{source} names this tag: {holder}; DRIFT: it recorded {}", short_digest(recorded))
        }
        ("highest-in-range", _) => format!("{source} uses the highest version of {reference}: {holder}"),
        ("in-range", _) => format!("{source} uses versions of {reference}: {holder}"),
        _ => format!("{source} names this tag: {holder}"),
    }
}

fn describe_undated(policy: &str, why: &str, time: Option<Timestamp>) -> String {
    let what = match (why, time) {
        ("other-tag", _) => "another tag of its image has no time, by which the image may be newer".to_owned(),
        ("restored", _) => "it was restored and its time from before is not known".to_owned(),
        ("before-2013", Some(time)) => {
            format!("its image claims to be from {}, which is not a real time", format_minute(time))
        }
        ("future", Some(time)) => format!("its time lies in the future ({})", format_minute(time)),
        _ => "neither the registry nor the image gives it a time".to_owned(),
    };
    format!("policy {policy} goes by time, and {what}, so it stays")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Lock, Period, Shortfall};

    #[test]
    fn labels_are_those_of_the_json() {
        let reasons = [
            ReasonView::LastTag {},
            ReasonView::SharesManifest { tag: "x".into() },
            ReasonView::KeptNewest { policy: "p".into(), rank: 1, count: 2 },
            ReasonView::NotKept { policy: "p".into(), shortfalls: vec![ShortfallView::Matching {}] },
            ReasonView::CompanionOfExpired { subject: "s".into(), policy: "p".into() },
        ];
        for reason in reasons {
            let json = serde_json::to_value(&reason).unwrap();
            assert_eq!(json["kind"], reason.kind());
            assert_eq!(serde_json::from_value::<ReasonView>(json).unwrap(), reason);
        }
    }

    #[test]
    fn a_lock_and_a_period_keep_their_labels() {
        let reason = Reason::Locked { on: LockTarget::Tag, lock: Lock::Write };
        assert_eq!(ReasonView::from(&reason).sentence(), "the registry has locked the tag (write)");
        let miss = ShortfallView::from(&Shortfall::Bucket { period: Period::Week, count: 4 });
        assert_eq!(miss.describe(), "not the newest of any of the last 4 weeks that have one");
    }
}
