//! Journal entries: first the intent, then the outcome.

use std::fmt;
use std::sync::Arc;

use super::{Date, Digest, RegistryName, RemovalMethod, RepositoryName, TagName};

/// An intended change of a tag. It is journaled before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The intended action.
    pub action: Action,
    /// The registry.
    pub registry: RegistryName,
    /// Its address, as in [`Registry::endpoint`](super::Registry::endpoint); `None` in entries of older versions.
    pub endpoint: Option<Arc<str>>,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: TagName,
    /// The digest that the tag has before a removal, or gets by a restore.
    pub digest: Digest,
    /// The media type of the manifest behind it.
    pub media_type: Arc<str>,
    /// The policy that expires it; `None` for a restore.
    pub policy: Option<String>,
    /// The reasons as the plan gave them, as JSON text; the proof of a removal.
    pub evidence: String,
    /// The date by which a removed tag was decided; `None` for other actions, and in entries of older versions.
    pub date: Option<Date>,
}

/// An action on a tag, or on a manifest that lost its tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Remove the tag, by that method.
    Remove(RemovalMethod),
    /// Restore the tag.
    Restore,
    /// Push a deleted manifest again by its digest, because a restored tag's manifest contains it, or because it refers
    /// to that.
    RestoreManifest,
    /// The manifest, without a tag for long, is deleted. The tag is the last that Tagwarden took from it, or from what it goes
    /// along with; [`TagName::none`] where it took none.
    DeleteUntagged,
}

/// The outcome of an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done. The text comes from the registry's answer, such as a correlation id; often empty.
    Done(String),
    /// It was not done because it no longer fits.
    Skipped(SkipReason),
    /// It was tried, and the registry refused or failed. The tag is unchanged, as far as is known.
    Failed(String),
}

/// Why a planned action was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// The tag names another digest by now.
    Moved {
        /// The new digest.
        to: Digest,
    },
    /// The tag no longer exists.
    Missing,
    /// A new decision on current evidence retains it. The text says why.
    Kept(String),
    /// A hold was set on the tag or its digest after the decision. The text is the hold's.
    Held(String),
    /// The registry has locked it meanwhile.
    Locked(String),
    /// A policy that expires it says `dry-run`.
    DryRun,
    /// A refusal of the plan covers it. The text is the refusal's.
    Refused(String),
    /// It moved at the instant of its removal, and was restored to its new digest. The text names both.
    Reverted(String),
    /// The registry refused to remove this one tag in earlier runs, and its next try is not due yet. The text says when.
    Postponed(String),
    /// Earlier removals showed that untagging destroys the manifest in this registry.
    Stopped(String),
    /// The removal window closed before it was processed. The text names the window.
    Blocked(String),
    /// The run was asked to stop before it was processed.
    Interrupted,
    /// It was undone or never started, as found at the next start. The text says what was seen.
    Recovered(String),
    /// A restore found the tag or the manifest in place. The text says what was seen.
    Present(String),
    /// Another process took over while it was open, and found the tag still there: the request may have been sent all
    /// the same, or be sent late. If the tag is found gone later without another entry, a new entry attributes that to
    /// this one. The text says what was seen.
    Superseded(String),
}

impl Intent {
    /// `registry/repository:tag`, or `registry/repository@digest` where there is no tag.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { registry, repository, tag, digest, .. } = self;
        if tag.is_none() {
            format!("{registry}/{repository}@{digest}")
        } else {
            format!("{registry}/{repository}:{tag}")
        }
    }
}

impl Action {
    /// Returns the label used in the journal: `untag`, `delete-manifest`, `restore`, `restore-manifest`,
    /// `delete-untagged`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Remove(RemovalMethod::Untag) => "untag",
            Self::Remove(RemovalMethod::DeleteManifest) => "delete-manifest",
            Self::Restore => "restore",
            Self::RestoreManifest => "restore-manifest",
            Self::DeleteUntagged => "delete-untagged",
        }
    }
}

impl Outcome {
    /// Returns the label used in the journal: `done`, `skipped`, `failed`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "failed",
        }
    }
}

impl SkipReason {
    /// Returns the label used in the journal and in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Moved { .. } => "moved",
            Self::Missing => "missing",
            Self::Kept(_) => "kept",
            Self::Held(_) => "held",
            Self::Locked(_) => "locked",
            Self::DryRun => "policy-dry-run",
            Self::Refused(_) => "refused",
            Self::Reverted(_) => "reverted",
            Self::Postponed(_) => "postponed",
            Self::Stopped(_) => "stopped",
            Self::Blocked(_) => "blocked",
            Self::Interrupted => "interrupted",
            Self::Recovered(_) => "recovered",
            Self::Present(_) => "present",
            Self::Superseded(_) => "superseded",
        }
    }

    /// Returns true for skips that a person should see one by one: holds, and tags that were touched.
    #[must_use]
    pub fn is_notable(&self) -> bool {
        matches!(self, Self::Held(_) | Self::Reverted(_) | Self::Recovered(_))
    }

    /// Returns the current label for one that an older version may have journaled; any other label is returned
    /// unchanged.
    #[must_use]
    pub fn current_label(label: &str) -> &str {
        match label {
            "gone" => "missing",
            "put-back" => "reverted",
            "held-back" => "blocked",
            "settled" => "recovered",
            other => other,
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moved { to } => write!(f, "the tag has moved to {to}"),
            Self::Missing => f.write_str("the tag is gone already"),
            Self::Kept(why) => write!(f, "it stays now: {why}"),
            Self::Held(hold) => write!(f, "it is held: {hold}"),
            Self::Locked(why) => write!(f, "it is locked now: {why}"),
            Self::DryRun => f.write_str("a policy that expires it says `mode: dry-run`"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Reverted(what) => write!(f, "put back: {what}"),
            Self::Postponed(why) => write!(f, "postponed: {why}"),
            Self::Stopped(why) => write!(f, "stopped: {why}"),
            Self::Blocked(why) => write!(f, "held back: {why}"),
            Self::Interrupted => f.write_str("the run was interrupted before its turn"),
            Self::Present(seen) => f.write_str(seen),
            Self::Recovered(seen) => write!(f, "settled after an interruption: {seen}"),
            Self::Superseded(seen) => write!(f, "superseded by a takeover: {seen}"),
        }
    }
}
