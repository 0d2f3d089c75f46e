//! A decision and its grounds.

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

/// The facts and decisions for one time.
#[derive(Debug)]
pub struct Decision {
    /// The registries; with repositories only if facts were to be kept.
    pub inventory: Arc<Inventory>,
    /// The names of the repositories that were read, by registry.
    pub heads: Vec<RegistryHead>,
    /// The claims of the sources.
    pub claims: Claims,
    /// The verdicts on the tags in `inventory`.
    pub verdicts: Arc<Verdicts>,
    /// The plan. Removals are those from `inventory`; refusals, deletions and coverage are always complete.
    pub plan: Arc<Plan>,
    /// Manifests that Tagwarden untagged and that were deleted externally since.
    pub externally_deleted: Vec<UntaggedManifest>,
    /// The check of the time by which it was decided.
    pub clock: ClockCheck,
    /// Unused cached content, if requested and everything was read.
    pub(super) unused_cache: Option<CachedContent>,
    /// The dependencies of the removals in `plan`, by repository.
    pub(super) dependencies: BTreeMap<(RegistryName, RepositoryName), RemovalDependencies>,
    /// True if anything could not be read.
    pub(super) has_gaps: bool,
    /// The whole decision as a document for people and scripts.
    pub document: PlanDocument,
    /// The tags of the document, as written into the state.
    pub(super) spool: Option<SpooledPlan>,
    /// The grounds of the decision besides its facts.
    pub(super) grounds: DecisionGrounds,
}

/// Rules, evidence and time, to repeat the decision.
#[derive(Debug, Clone)]
pub(super) struct DecisionGrounds {
    pub(super) rules: Rules,
    pub(super) candidates: Arc<CleanupCandidates>,
    pub(super) evaluated_at: Timestamp,
    pub(super) gathered: GatherTime,
    /// The sources known to mention a tag.
    pub(super) mentioning: BTreeSet<SourceName>,
    pub(super) placed: PlacedDigests,
    pub(super) budget: ReadBudget,
}

/// The lifetime of each repository's facts. They take many times the memory of everything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Facts {
    #[default]
    Released,
    Kept,
}

/// The visibility of a decision's reads in the progress of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tracking {
    #[default]
    Shown,
    /// Hidden while parts of a plan are decided again: removals show that progress.
    Hidden,
}

/// The evidence and findings of earlier decisions, as far as they still apply.
#[derive(Debug, Clone, Default)]
pub(super) struct EarlierEvidence {
    /// Evidence that is fresh enough.
    pub(super) gathered: Option<(Claims, GatherTime)>,
    /// The sources known to mention a tag, in repositories that may not be read now.
    pub(super) mentioning: BTreeSet<SourceName>,
    /// The claimed digests that were found, in repositories that may not be read now.
    pub(super) placed: PlacedDigests,
    pub(super) budget: ReadBudget,
}

/// The scope and purpose of a decision.
#[derive(Debug, Default)]
pub(super) struct DecideOptions {
    pub(super) scope: CollectScope,
    /// The time to decide for, if not now.
    pub(super) at: Option<Timestamp>,
    /// The policies that may remove.
    pub(super) policies: PolicyFilter,
    /// What the plan is narrowed to.
    pub(super) narrowing: Narrowing,
    /// The refusals that a person accepted.
    pub(super) acceptances: Vec<Acceptance>,
    pub(super) purpose: Purpose,
    /// The window, freeze or newer rules that hold removals back, for the document.
    pub(super) blocked_by: Option<String>,
    pub(super) facts: Facts,
    /// The evidence of earlier decisions.
    pub(super) earlier: EarlierEvidence,
    /// The visibility of its reads in the progress of the run.
    pub(super) tracking: Tracking,
    /// True to search for unused cached content.
    pub(super) find_unused_cache: bool,
}
