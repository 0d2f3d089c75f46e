//! The margins by which tags missed keep rules, as data and as sentences.

use serde::{Deserialize, Serialize};

use super::humanize::{format_age, ordinal};
use crate::domain::Shortfall;

/// The margin by which a tag missed a keep rule. The variants are those of [`Shortfall`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the variants and fields are those of `domain::Miss`, documented there")]
pub enum ShortfallView {
    Newest { rank: u32, count: u32 },
    Within { age_seconds: i64, within: String },
    Bucket { period: String, count: u32 },
    NewestPer { version: String, rank: u32, count: u32 },
    Pulled { idle_seconds: i64, within: String, never: bool },
    Matching {},
    ImageWith {},
    AtMost { rank: Option<u32>, count: u32 },
}

impl From<&Shortfall> for ShortfallView {
    fn from(miss: &Shortfall) -> Self {
        match miss {
            Shortfall::Newest { rank, count } => Self::Newest { rank: *rank, count: *count },
            Shortfall::Within { age_seconds, within } => {
                Self::Within { age_seconds: *age_seconds, within: within.to_string() }
            }
            Shortfall::Bucket { period, count } => {
                Self::Bucket { period: period.rule_name().to_owned(), count: *count }
            }
            Shortfall::Version { part, rank, count } => {
                Self::NewestPer { version: part.label().to_owned(), rank: *rank, count: *count }
            }
            Shortfall::Pulled { idle_seconds, within, never } => {
                Self::Pulled { idle_seconds: *idle_seconds, within: within.to_string(), never: *never }
            }
            Shortfall::Matching => Self::Matching {},
            Shortfall::ImageWith => Self::ImageWith {},
            Shortfall::AtMost { rank, count } => Self::AtMost { rank: *rank, count: *count },
        }
    }
}

impl ShortfallView {
    /// Describes the margin.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Newest { rank, count } => format!("{} newest (the rule keeps {count})", ordinal(*rank)),
            Self::Within { age_seconds, within } => {
                format!("{} old (the rule keeps {within})", format_age(*age_seconds))
            }
            Self::Bucket { period, count } => {
                format!("not the newest of any of the last {count} {}", periods(period))
            }
            Self::NewestPer { version, rank, count } => {
                format!("{} highest of its {version} version (the rule keeps {count})", ordinal(*rank))
            }
            Self::Pulled { idle_seconds, within, never } => {
                let since = if *never { "never pulled, pushed" } else { "last pulled or pushed" };
                format!("{since} {} ago (the rule keeps {within})", format_age(*idle_seconds))
            }
            Self::Matching {} => "no kept name matches".to_owned(),
            Self::ImageWith {} => "no tag of its image keeps it".to_owned(),
            Self::AtMost { rank: Some(rank), count } => {
                format!("{} newest of what the other rules keep (at most {count})", ordinal(*rank))
            }
            Self::AtMost { rank: None, count } => format!("the other rules keep {count} at most"),
        }
    }
}

/// Returns the periods that a bucket rule counts.
pub(super) fn periods(rule: &str) -> &str {
    match rule {
        "daily" => "days that have one",
        "weekly" => "weeks that have one",
        "monthly" => "months that have one",
        "yearly" => "years that have one",
        other => other,
    }
}
