//! Decisions. Pure and synchronous: no IO, no clock, no randomness; equal inputs give equal outputs.
//!
//! [`evaluate()`] gives every tag its verdict, [`plan()`] returns the removals that follow and their refusals,
//! [`check()`] checks both independently, and [`reclaim()`] returns the freed bytes. [`trace_rules()`] explains the
//! verdicts rule by rule, and [`forecast()`] predicts them. All are total: an inventory that contradicts itself, with
//! cycles and missing parts, gets verdicts like any other.
//!
//! Deliberately absent: any way to reach a registry, and any rule that removes a tag because something is missing.

mod blob_ledger;
mod blob_uses;
mod bucket;
mod check;
mod claims;
mod clock;
mod companion;
mod coverage;
mod date;
mod decide;
mod deletion_reclaim;
mod deletions;
mod evaluate;
mod evidence;
mod expired_tags;
mod forecast;
mod free_manifests;
mod grace;
mod graph;
mod holds;
mod idle_repositories;
mod keep;
mod lacking_facts;
mod limits;
mod mentions;
mod placed_digests;
mod plan;
mod protect;
mod reason_table;
mod reclaim;
mod removal_dependencies;
mod repository_cleanup;
mod repository_use;
mod rule_hint;
mod rule_syntax;
mod rule_trace;
mod same_content;
mod select;
mod uncertain_claims;
mod undated_images;
mod unmatched_rules;
mod unread_indexes;
mod version;

pub use blob_ledger::{
    BlobLedger, BlobRecord, BlobTally, ReclaimFigure, ReclaimTarget, RepositoryReclaim, SettledLedger,
};
pub use blob_uses::{BlobUse, ClaimedDigests, RepositoryBlobs, blob_uses};
pub use check::{CheckTotals, PlanHead, Violation, check, check_deletions};
pub use claims::claim_texts;
pub use clock::{clock_issue, exceeds_clock_skew};
pub use companion::companion_subject;
pub use coverage::{RuleMatchCounter, rule_coverage};
pub use date::{no_later_than, tag_date};
pub use decide::{
    EvaluatedRepository, InventoryDecision, RepositoryDecision, decide, decide_inventory, evaluate_repository,
};
pub use deletions::{ManifestTrace, plan_deletions, trace_manifest};
pub use evaluate::evaluate;
pub use evidence::{Evidence, UntaggedManifests};
pub use forecast::{Forecast, forecast, remaining_claims};
pub use grace::{Grace, GraceFacts, grace_period};
pub use idle_repositories::{IdleRepository, idle_for, longest_idle};
pub use keep::RuleOutcome;
pub use limits::{DeletionCounts, RemovalCounts, refuse_deletions, refuse_removals};
pub use mentions::find_mentions;
pub use placed_digests::{AbsentDigest, PlacedDigests};
pub use plan::{RemovalPlanner, RepositoryRemovals, plan};
pub use reclaim::reclaim;
pub use removal_dependencies::{DeletionDependencies, RemovalDependencies};
pub use repository_use::{Idleness, RepositoryUse, repository_use};
pub use rule_hint::InventoryNames;
pub use rule_syntax::{begins_with_host, is_unanchored_search, regex_syntax_in};
pub use rule_trace::{Applicability, RuleTrace, TagTrace, group_of, trace_rules, version_of};
pub use same_content::ContentComparison;
pub use unmatched_rules::{refuse_unmatched, unenforce_deletions_among, unmatched_refusals};
pub use version::VersionReading;

use crate::domain::{Digest, Drift, TagPosition, TagVerdict, TextKind, UnreadCause};

/// The decision on an inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// One for each tag, in the inventory's order.
    pub tags: Vec<TagVerdict>,
    /// The records with a tag and a digest that no longer match.
    pub drift: Vec<Drift>,
    /// The manifests whose configurations would decide tags that are undecided without them, in the inventory's order.
    /// Reading them into the inventory and deciding again can only add knowledge.
    pub unread: Vec<UnreadConfiguration>,
    /// The indexes and artifacts that would decide tags that are undecided without them, or manifests that are due for
    /// deletion. The same applies to reading them.
    pub unread_indexes: Vec<UnreadManifest>,
    /// The images whose annotations or labels would decide tags that are retained without them. The same applies to
    /// reading them, where images differ in what they have to say.
    pub unread_texts: Vec<UnreadTexts>,
}

/// An image whose annotations or labels were not read: positions of its registry and repository, and the digest of its
/// manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreadTexts {
    /// Position of the registry in the inventory.
    pub registry: u32,
    /// Position of the repository in the registry.
    pub repository: u32,
    /// The manifest's digest.
    pub digest: Digest,
    /// The kind of texts.
    pub kind: TextKind,
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

/// A manifest that has to be read to decide: positions of its registry and repository, its digest, and the cause.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreadManifest {
    /// Position of the registry in the inventory.
    pub registry: u32,
    /// Position of the repository in the registry.
    pub repository: u32,
    /// The manifest's digest.
    pub digest: Digest,
    /// The decision that it could change.
    pub cause: UnreadCause,
}

impl Verdicts {
    /// Sorts and deduplicates the drifted records.
    pub fn sort_drift(&mut self) {
        let key = |drift: &Drift| {
            let Drift { source, registry, repository, reference, holder, actual } = drift.clone();
            (source, registry, repository, reference, holder, actual)
        };
        self.drift.sort_by_cached_key(key);
        self.drift.dedup();
    }

    /// Returns the verdict on the tag at that position.
    #[must_use]
    pub fn at(&self, at: TagPosition) -> Option<&TagVerdict> {
        self.tags.get(self.tags.binary_search_by_key(&at, |verdict| verdict.position).ok()?)
    }
}
