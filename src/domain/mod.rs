//! Facts and words. No IO, no clock, no serde of outside formats.
//!
//! Everything here is what the field calls it; what a registry or a file calls it differently is translated at the edge.

mod ability;
mod claim;
mod clock;
mod coverage;
mod cron;
mod deletion;
mod digest;
mod endpoint;
mod hold;
mod hosts;
mod inventory;
mod journal;
mod mention;
mod moment;
mod name;
mod original;
mod particulars;
mod plan;
mod policy;
mod reasons;
mod reclaim;
mod reference;
mod refused;
mod settling;
mod text;
mod text_index;
mod unresolved;
mod verdict;
mod version_range;

pub use ability::{KnownFrom, Product, RemovalAbility, RemovalObstacle, UntagEffect};
pub use claim::{Claim, Claims, Holder, Naming, Release, ReleaseStatus, SourceAnswer, SourceState};
pub use clock::{ClockDoubt, ClockReading};
pub use coverage::{
    AllowUnmatched, Coverage, CoverageBasis, RuleEffect, RuleHint, RuleHistory, RuleId, RuleKey, Slip, Unmatched,
    UnmatchedSince,
};
pub use cron::{Cron, InvalidCron};
pub use deletion::{Along, Deletion, Deletions, Freed, Role, Stay, TakenTag, Untagged};
pub use digest::{Digest, InvalidDigest};
pub use endpoint::Endpoint;
pub use hold::{Held, HeldBy, Hold, HoldOrigin};
pub use hosts::{Hosts, azure_registry};
pub use inventory::{
    Blob, Depth, Gap, GapAt, Inventory, Lock, Manifest, ManifestNow, Registry, RemovalMethod, Repository, Tag, TagNow,
};
pub use journal::{Action, Intent, Outcome, Skip};
pub use mention::{Mention, MentionedImage};
pub use moment::Moment;
pub use name::{InvalidName, PolicyName, RegistryName, RepositoryName, SourceName, TagName};
pub use original::{DateOrigin, Original};
pub use particulars::{AfterDays, Particulars, PermissionMode, Sku};
pub use plan::{Drift, Plan, Refusal, RefusalReason, Removal, Scope};
pub use policy::{
    Glob, Globs, Keep, KeepRule, Limits, Period, Policy, PolicyLimits, PolicyMode, Rules, Selector, Span, TagSelector,
    VersionPart,
};
pub use reasons::Reasons;
pub use reclaim::{Bytes, Reclaim, ReclaimSum, RegistryReclaim};
pub use reference::{ImageReference, InvalidReference};
pub use refused::RefusedTag;
pub use settling::time_to_settle;
pub use text::SharedText;
pub use text_index::{
    IndexedWord, RecordedWords, TextIndex, TextIndexBuilder, TextPlace, TextScope, WordRecorder, is_everyday,
};
pub use unresolved::{ImageNames, PathPattern, UnresolvedIndex, UnresolvedReference};
pub use verdict::{
    ClaimMatch, Claimed, Date, Doubt, Locked, MaybeClaimed, Mentioned, Miss, Reason, TagAt, TagVerdict, Undated,
    Unresolved, Verdict,
};
pub use version_range::{InvalidRange, Prereleases, Ranges, TagVersion, VersionRange};
