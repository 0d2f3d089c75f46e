//! Views of holds.

use std::sync::Arc;

use super::table::TextTable;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::humanize::sanitize;
use super::notation::{format_minute, short_digest};
use crate::domain::{Cause, EndedHold, Failure, Hold, HoldOrigin, InvalidDigest, InvalidName};

/// A hold on a tag, and on the digest that it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// The registry's name in the settings when the hold was set.
    pub registry: String,
    /// The registry's address.
    pub endpoint: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest that it had; `null` if there was no such tag.
    pub digest: Option<String>,
    /// The reason given.
    pub reason: String,
    /// The person who set it.
    pub by: String,
    /// Time at which it was set.
    pub since: Timestamp,
    /// End of the hold.
    pub until: Timestamp,
    /// `person`, or `restore` for restored tags.
    pub origin: String,
}

/// A hold that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndedHoldView {
    /// The hold.
    #[serde(flatten)]
    pub hold: HoldView,
    /// Time at which it ended.
    pub ended_at: Timestamp,
    /// The person who ended it; `null` if its time was over.
    pub ended_by: Option<String>,
}

impl From<&EndedHold> for EndedHoldView {
    fn from(ended: &EndedHold) -> Self {
        let EndedHold { hold, ended_at, ended_by } = ended;
        Self { hold: hold.into(), ended_at: *ended_at, ended_by: ended_by.clone() }
    }
}

impl From<&Hold> for HoldView {
    fn from(hold: &Hold) -> Self {
        Self {
            registry: hold.registry.to_string(),
            endpoint: hold.endpoint.to_string(),
            repository: hold.repository.to_string(),
            tag: hold.tag.to_string(),
            digest: hold.digest.as_ref().map(ToString::to_string),
            reason: hold.reason.clone(),
            by: hold.by.clone(),
            since: hold.since,
            until: hold.until,
            origin: hold.origin.label().to_owned(),
        }
    }
}

impl HoldView {
    /// Parses the hold.
    ///
    /// # Errors
    /// Returns an error that names the invalid field.
    pub fn to_hold(&self) -> Result<Hold, Failure<()>> {
        let invalid = |cause: Cause| Failure::new((), format!("invalid hold on {}", self.name())).caused_by(cause);
        let origin = [HoldOrigin::Person, HoldOrigin::Restore].into_iter().find(|one| one.label() == self.origin);
        Ok(Hold {
            registry: self.registry.parse().map_err(|error: InvalidName| invalid(error.into()))?,
            endpoint: Arc::from(self.endpoint.as_str()),
            repository: self.repository.parse().map_err(|error: InvalidName| invalid(error.into()))?,
            tag: self.tag.parse().map_err(|error: InvalidName| invalid(error.into()))?,
            digest: match &self.digest {
                Some(digest) => Some(digest.parse().map_err(|error: InvalidDigest| invalid(error.into()))?),
                None => None,
            },
            reason: self.reason.clone(),
            by: self.by.clone(),
            since: self.since,
            until: self.until,
            origin: origin.ok_or_else(|| {
                Failure::new((), format!("invalid hold on {}: unknown origin `{}`", self.name(), self.origin))
            })?,
        })
    }

    /// Returns `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }

    /// Describes holder, end and reason.
    #[must_use]
    pub fn describe(&self) -> String {
        describe_hold(&self.by, self.until, &self.reason)
    }

    /// Returns the cells of a table: tag, digest, end, holder, start, reason.
    #[must_use]
    pub fn cells(&self) -> [String; 6] {
        [
            self.name(),
            self.digest.as_deref().map_or_else(|| "none".to_owned(), short_digest),
            format_minute(self.until),
            self.by.clone(),
            format_minute(self.since),
            self.reason.clone(),
        ]
    }
}

/// The headings of [`HoldView::cells`].
pub(super) const HEADINGS: [&str; 6] = ["tag", "digest", "until", "held by", "since", "reason"];

/// Describes a hold: its end, holder and reason.
pub(super) fn describe_hold(by: &str, until: Timestamp, reason: &str) -> String {
    format!("held until {} by {by}: {reason}", format_minute(until))
}

/// Renders the holds for the terminal.
#[must_use]
pub fn holds_text(holds: &[HoldView]) -> String {
    if holds.is_empty() {
        return "no holds\n".to_owned();
    }
    let mut table = TextTable::new(HEADINGS.map(str::to_uppercase));
    for hold in holds {
        table.add_row(hold.cells().map(|cell| sanitize(&cell)));
    }
    table.text(0)
}

/// Renders the holds that are over for the terminal.
#[must_use]
pub fn ended_holds_text(holds: &[EndedHoldView]) -> String {
    if holds.is_empty() {
        return "no holds have ended\n".to_owned();
    }
    let [name, digest, _, by, since, reason] = HEADINGS;
    let mut table = TextTable::new([name, digest, "ended", "ended by", by, since, reason].map(str::to_uppercase));
    for EndedHoldView { hold, ended_at, ended_by } in holds {
        let [name, digest, _, by, since, reason] = hold.cells();
        let ended_by = ended_by.clone().unwrap_or_else(|| "its time".to_owned());
        let cells = [name, digest, format_minute(*ended_at), ended_by, by, since, reason];
        table.add_row(cells.map(|cell| sanitize(&cell)));
    }
    table.text(0)
}
