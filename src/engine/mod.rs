//! Decisions. Pure and synchronous: no IO, no clock, no randomness; equal inputs give equal outputs.
//!
//! [`evaluate()`] gives every tag its verdict, [`plan()`] the removals that follow and what stands against them, [`check()`]
//! looks at both with other eyes, and [`reclaim()`] says what would be freed. [`weighing()`] tells rule by rule how it came
//! to that, and [`outlooks()`] what time alone will make of it. All are total: an inventory that contradicts
//! itself, with cycles and missing parts, gives verdicts like any other.
//!
//! Deliberately absent: any way to reach a registry, and any rule that removes a tag because something is missing.

mod bucket;
mod check;
mod claims;
mod clock;
mod companion;
mod coverage;
mod date;
mod deletions;
mod dialect;
mod doubts;
mod evaluate;
mod freed;
mod grace;
mod graph;
mod hold_unmatched;
mod holds;
mod keep;
mod limits;
mod mentions;
mod outlook;
mod plan;
mod protect;
mod reclaim;
mod rule_hint;
mod select;
mod version;
mod weighing;

pub use check::{Finding, check, check_deletions};
pub use clock::{clock_doubt, clocks_differ};
pub use companion::companion_subject;
pub use coverage::coverage;
pub use date::{date, no_later_than};
pub use deletions::deletions;
pub use dialect::{begins_with_host, expression_sign, names_one_text};
pub use evaluate::evaluate;
pub use grace::{Grace, grace};
pub use hold_unmatched::hold_unmatched;
pub use keep::Weighed;
pub use limits::refuse_deletions;
pub use mentions::mentions;
pub use outlook::{Outlook, claims_left, outlooks};
pub use plan::plan;
pub use reclaim::reclaim;
pub use version::VersionReading;
pub use weighing::{Selects, TagWeighed, Weighing, group_of, version_of, weighing};

use crate::domain::{Digest, Drift, TagAt, TagVerdict};

/// What is decided about an inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// One for each tag, in the inventory's order.
    pub tags: Vec<TagVerdict>,
    /// The records that name a tag and a digest which no longer belong together.
    pub drift: Vec<Drift>,
    /// The manifests whose configurations would decide about tags that are undecided for want of them, in the
    /// inventory's order. Whoever reads them, sets them in the inventory and decides again can only learn more.
    pub unread: Vec<UnreadConfiguration>,
}

/// A listed manifest whose configuration was not read: positions of its registry and repository, and its digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreadConfiguration {
    /// Position of the registry in the inventory.
    pub registry: u32,
    /// Position of the repository in the registry.
    pub repository: u32,
    /// The manifest's digest.
    pub digest: Digest,
}

impl Verdicts {
    /// The verdict on the tag that stands there.
    #[must_use]
    pub fn at(&self, at: TagAt) -> Option<&TagVerdict> {
        self.tags.get(self.tags.binary_search_by_key(&at, |verdict| verdict.at).ok()?)
    }
}
