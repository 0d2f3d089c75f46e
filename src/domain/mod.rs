//! Facts and terms of the domain. No IO, no clock, no serde of outside formats.
//!
//! Everything here has the name that the field uses; names that differ in a registry or a file are translated at the
//! edge.

mod ability;
mod acceptance;
mod artifact_type;
mod claim;
mod clock;
mod compact_time;
mod coverage;
mod cron;
mod deletion;
mod digest;
mod endpoint;
mod failure;
mod file_stability;
mod hold;
mod hosts;
mod image_text;
mod interned;
mod inventory;
mod journal;
mod journaled_intent;
mod lease_token;
mod listed_manifest;
mod mention;
mod name;
mod original_date;
mod plan;
mod policy;
mod pull_time;
mod reasons;
mod reclaim;
mod reference;
mod refused_tag;
mod registry_info;
mod selector_fact;
mod text_encoding;
mod text_index;
mod unresolved;
mod untagged_history;
mod verdict;
mod version_range;

pub use ability::{AbilityOrigin, Product, RemovalAbility, RemovalObstacle, UntagEffect};
pub use acceptance::{ACCEPTABLE, Acceptance, AcceptanceScope, AcceptedBound};
pub use artifact_type::{ArtifactKind, ArtifactType};
pub use claim::{Claim, Claims, Holder, Naming, Release, ReleaseStatus, SourceOutcome, SourceState, SourceTexts};
pub use clock::{ClockIssue, ClockReading};
pub use compact_time::CompactTime;
pub use coverage::{
    AllowUnmatched, Coverage, CoverageBasis, LastMatch, RuleEffect, RuleHint, RuleHistory, RuleId, RuleKey,
    RuleMistake, UnmatchedRule,
};
pub use cron::{Cron, InvalidCron};
pub use deletion::{
    Deletion, DeletionForecast, DeletionReclaim, Deletions, Dependent, DependentRole, RemovedTag, RetainReason,
    UntaggedManifest,
};
pub use digest::{Digest, DigestMap, DigestSet, InvalidDigest};
pub use endpoint::Endpoint;
pub(crate) use failure::one_line;
pub use failure::{Cause, Failure, chain};
pub use file_stability::time_until_stable;
pub use hold::{EndedHold, Hold, HoldMatch, HoldOrigin, HoldReason};
pub use hosts::{Hosts, azure_registry_name, is_public_registry};
pub use image_text::{KnownTexts, TextCondition, TextKind};
pub use interned::SharedText;
pub use inventory::{
    Blob, Gap, GapTarget, Inventory, Lock, Manifest, ManifestDetail, ManifestState, Registry, RemovalMethod,
    Repository, Tag, TagState,
};
pub use journal::{Action, Intent, Outcome, SkipReason};
pub use journaled_intent::{JournalId, JournaledIntent};
pub(crate) use lease_token::HeldLease;
pub use lease_token::LeaseToken;
pub use listed_manifest::{
    IndexReads, ListedKind, ListedManifest, UnlistedContent, UnlistedManifests, UnreadCause, UnreadKind,
    is_docker_list_type, is_index_type,
};
pub use mention::{Mention, MentionedImage};
pub use name::{InvalidName, PolicyName, RegistryName, RepositoryName, SourceName, TagName};
pub use original_date::{DateOrigin, OriginalDate};
pub use plan::{AcceptedRefusal, Drift, Plan, Refusal, RefusalReason, RefusalScope, Removal};
pub use policy::{
    FactSelector, Glob, Globs, Keep, KeepRule, Limits, Period, Policy, PolicyLimits, PolicyMode, Rules, Selector,
    TagSelector, VersionPart, WrittenDuration,
};
pub use pull_time::PullTime;
pub use reasons::Reasons;
pub use reclaim::{Reclaim, ReclaimBytes, ReclaimSum, RegistryReclaim};
pub use reference::{ImageReference, InvalidReference};
pub use refused_tag::RefusedTag;
pub use registry_info::{PermissionMode, RegistryInfo, RetentionDays, ServiceTier};
pub use selector_fact::{FactCondition, UnknownFact};
pub use text_encoding::{InvalidText, decode_text};
pub use text_index::{
    IndexedWord, RecordedWords, TextIndex, TextIndexBuilder, TextPlace, TextScope, WordRecorder, is_common_word,
};
pub use unresolved::{ImageNames, PathPattern, UnresolvedIndex, UnresolvedReference};
pub use untagged_history::UntaggedHistory;
pub use verdict::{
    ClaimMatch, ClaimReason, Date, LockTarget, MentionReason, Reason, Shortfall, TagPosition, TagVerdict,
    UncertainClaimReason, Uncertainty, UndatedCause, UnresolvedReason, Verdict,
};
pub use version_range::{InvalidRange, Prereleases, RangeSelection, TagVersion, VersionRange};
