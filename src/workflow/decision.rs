//! A decision, and what it goes by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::ability::Purpose;
use super::evidence_age::GatherTime;
use super::manifest_cleanup::CleanupCandidates;
use super::needed_manifests::ReadBudget;
use super::{ClockCheck, Narrowing, PolicyFilter};
use crate::domain::{
    Acceptance, Claims, Inventory, Plan, RegistryName, RepositoryName, Rules, SourceName, UntaggedManifest,
};
use crate::engine::{PlacedDigests, RemovalDependencies, Verdicts};
use crate::registry::{CollectScope, RegistryHead};
use crate::report::{PlanDocument, SpooledPlan};
use crate::state::CachedContent;

/// What was read and decided for one time.
#[derive(Debug)]
pub struct Decision {
    /// The registries; their repositories only where facts were to be kept.
    pub inventory: Arc<Inventory>,
    /// The names of the repositories that were read, by registry.
    pub heads: Vec<RegistryHead>,
    /// What the sources say.
    pub claims: Claims,
    /// The verdicts on the tags in `inventory`.
    pub verdicts: Arc<Verdicts>,
    /// What follows. Removals are those from `inventory`; refusals, deletions and coverage are always there.
    pub plan: Arc<Plan>,
    /// Manifests that Tagwarden untagged and somebody else deleted since.
    pub externally_deleted: Vec<UntaggedManifest>,
    /// Whether the time can be trusted by which it was decided.
    pub clock: ClockCheck,
    /// Cached content that nothing uses, where that was asked for and everything was read.
    pub(super) unused_cache: Option<CachedContent>,
    /// What the removals in `plan` hang on, by repository.
    pub(super) dependencies: BTreeMap<(RegistryName, RepositoryName), RemovalDependencies>,
    /// Whether anything could not be read.
    pub(super) has_gaps: bool,
    /// All of it as people and scripts read it.
    pub document: PlanDocument,
    /// The tags of the document, as they are written into the state.
    pub(super) spool: Option<SpooledPlan>,
    /// The grounds of the decision besides its facts.
    pub(super) grounds: DecisionGrounds,
}

/// Rules, evidence and time, to decide again by.
#[derive(Debug, Clone)]
pub(super) struct DecisionGrounds {
    pub(super) rules: Rules,
    pub(super) candidates: Arc<CleanupCandidates>,
    pub(super) evaluated_at: Timestamp,
    pub(super) gathered: GatherTime,
    /// The sources that were seen to mention a tag.
    pub(super) mentioning: BTreeSet<SourceName>,
    pub(super) placed: PlacedDigests,
    pub(super) budget: ReadBudget,
}

/// Whether the facts about each repository outlive the decision about it. They take many times the memory of what is kept
/// otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Facts {
    #[default]
    Released,
    Kept,
}

/// Whether the progress of a run shows what a decision reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tracking {
    #[default]
    Shown,
    /// Not while parts of a plan are decided about again: they are shown by what is removed.
    Hidden,
}

/// What decisions before went by and found out, as far as it still holds.
#[derive(Debug, Clone, Default)]
pub(super) struct EarlierEvidence {
    /// Evidence that is fresh enough.
    pub(super) gathered: Option<(Claims, GatherTime)>,
    /// The sources that were seen to mention a tag, in repositories that are perhaps not read now.
    pub(super) mentioning: BTreeSet<SourceName>,
    /// The claimed digests that were found, in repositories that are perhaps not read now.
    pub(super) placed: PlacedDigests,
    pub(super) budget: ReadBudget,
}

/// What to decide about, and what for.
#[derive(Debug, Default)]
pub(super) struct DecideOptions {
    pub(super) scope: CollectScope,
    /// Another time than now to decide for.
    pub(super) at: Option<Timestamp>,
    /// The policies that may remove.
    pub(super) policies: PolicyFilter,
    /// What the plan is narrowed to.
    pub(super) narrowing: Narrowing,
    /// The refusals that a person accepted.
    pub(super) acceptances: Vec<Acceptance>,
    pub(super) purpose: Purpose,
    pub(super) facts: Facts,
    /// What is known from decisions before.
    pub(super) earlier: EarlierEvidence,
    /// Whether the progress of the run shows what is read.
    pub(super) tracking: Tracking,
    /// Whether to find cached content that nothing uses any more.
    pub(super) find_unused_cache: bool,
}
