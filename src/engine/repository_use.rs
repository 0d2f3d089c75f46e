//! The use of repositories: when something was last pushed to one, or pulled from it.

use jiff::{SignedDuration, Timestamp};

use super::date::{no_later_than, tag_date};
use crate::domain::{CompactTime, Gap, PullTime, Repository, UnknownFact};

/// The last use of a repository, as far as its tags show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepositoryUse {
    /// The latest push of any of its tags; `None` if no tag has a date.
    pub pushed: Option<Timestamp>,
    /// The latest pull of any of its tags and manifests; `None` if none is on record.
    pub pulled: Option<Timestamp>,
    /// True if the pulls of all its tags are known.
    pub knows_pulls: bool,
    /// The latest time at which a tag without a date can have been pushed.
    undated_until: Option<Timestamp>,
    /// The last removal of tags whose use went with them.
    removed: Option<Timestamp>,
    /// True if some tag may have been pushed at any time.
    may_have_pushes: bool,
}

/// The answer to whether a repository was idle for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idleness {
    /// It was used within that time.
    Used,
    /// It was certainly not used within that time.
    Idle,
    /// The fact that decides is unknown.
    Unknown(UnknownFact),
}

/// Returns the last use of a repository at `now`.
///
/// Every tag counts, signatures and the like as well: who signs an image uses it. A time in the future comes from a wrong
/// clock and is unknown.
#[must_use]
pub fn repository_use(repository: &Repository, now: Timestamp) -> RepositoryUse {
    let mut found = RepositoryUse {
        pushed: None,
        pulled: None,
        knows_pulls: true,
        undated_until: None,
        removed: repository.removed_at.map(CompactTime::timestamp),
        may_have_pushes: repository.gaps.iter().any(Gap::may_hide_tag),
    };
    for tag in &repository.tags {
        match (tag_date(repository, tag, now).timestamp(), no_later_than(repository, tag, now)) {
            (Some(pushed), _) => found.pushed = found.pushed.max(Some(pushed)),
            (None, Some(latest)) => found.undated_until = found.undated_until.max(Some(latest)),
            (None, None) => found.may_have_pushes = true,
        }
        match repository.pull_times.get(&tag.name) {
            Some(PullTime::At(at)) if at.timestamp() <= now => found.pulled = found.pulled.max(Some(at.timestamp())),
            Some(PullTime::Never) => {}
            Some(PullTime::At(_)) | None => found.knows_pulls = false,
        }
    }
    match repository.digest_pulled_at.map(CompactTime::timestamp) {
        Some(at) if at <= now => found.pulled = found.pulled.max(Some(at)),
        Some(_) => found.knows_pulls = false,
        None => {}
    }
    found
}

impl RepositoryUse {
    /// Returns the idleness of the repository for so long before `now`.
    #[must_use]
    pub fn idleness(&self, span: SignedDuration, now: Timestamp) -> Idleness {
        let recent = |at: Option<Timestamp>| at.is_some_and(|at| now.duration_since(at) <= span);
        if recent(self.pushed) || recent(self.pulled) {
            Idleness::Used
        } else if self.may_have_pushes || recent(self.undated_until) {
            Idleness::Unknown(UnknownFact::LastPush)
        } else if !self.knows_pulls {
            Idleness::Unknown(UnknownFact::LastPull)
        } else if recent(self.removed) {
            Idleness::Unknown(UnknownFact::UseBeforeRemovals)
        } else {
            Idleness::Idle
        }
    }
}
