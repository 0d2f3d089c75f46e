//! The outcomes of runs, and their exit codes.

use serde::Serialize;
use uuid::Uuid;

use super::Refused;
use crate::apply::RestoreResult;
use crate::config::ConfigError;
use crate::domain::{Failure, Outcome, SkipReason, chain};
use crate::engine::Violation;
use crate::policy::Diagnostic;
use crate::registry::RegistryError;
use crate::state::{StateError, StateErrorKind};

/// The outcome of a run. If several apply, the first in this order wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// It was stopped before it was complete.
    Interrupted,
    /// A limit or an obstacle refused removals that would be enforced, or a plan could not be applied.
    Refused,
    /// Some removals failed.
    Failed,
    /// A source or a registry could not be read in full.
    EvidenceMissing,
    /// Everything was done.
    Done,
}

/// A completed restore.
#[derive(Debug)]
pub struct RestoreRunResult {
    /// The run's id.
    pub run: Uuid,
    /// The result for each tag.
    pub restored: Vec<RestoreResult>,
}

impl RestoreRunResult {
    /// Returns the outcome.
    #[must_use]
    pub fn outcome(&self) -> RunOutcome {
        let any = |what: fn(&Outcome) -> bool| self.restored.iter().any(|restored| what(&restored.outcome));
        if any(|outcome| matches!(outcome, Outcome::Skipped(SkipReason::Interrupted))) {
            RunOutcome::Interrupted
        } else if any(|outcome| matches!(outcome, Outcome::Failed(_)))
            || self.restored.iter().any(|restored| restored.is_incomplete)
        {
            RunOutcome::Failed
        } else {
            RunOutcome::Done
        }
    }
}

/// The failure of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Settings or policies are invalid, or do not fit each other: every problem, with its place.
    #[error("settings or policies have {} problems, the first: {}", .0.len(), .0.first().map(|first| chain(first)).unwrap_or_default())]
    Invalid(Vec<Diagnostic>),
    /// A registry's settings are invalid.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The state cannot be read or written.
    #[error(transparent)]
    Store(#[from] StateError),
    /// A requested item does not exist or does not fit the command.
    #[error(transparent)]
    Usage(Failure<()>),
    /// A registry could not be read, so that the answer is not known.
    #[error(transparent)]
    Unread(Failure<()>),
    /// It was stopped.
    #[error("interrupted; nothing was removed")]
    Interrupted,
    /// Another command stopped it before it removed anything.
    #[error("interrupted by {0}; nothing was removed")]
    InterruptedBy(String),
    /// A report could not be written.
    #[error(transparent)]
    Output(Failure<()>),
    /// The plan may not be applied, or a hold was too late.
    #[error("refused")]
    Refused(#[source] Refused),
    /// An internal failure. The next start resolves what it left open.
    #[error(transparent)]
    Failed(Failure<()>),
    /// The plan failed Tagwarden's own check. Nothing was done.
    #[error("the plan contradicts itself, which is a fault in tagwarden: {}; nothing was done; please report it",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Check(Vec<Violation>),
}

impl RunError {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(Failure::new((), message))
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(Failure::new((), message))
    }

    /// Adds the name of the plan's file to a refusal.
    pub(super) fn in_file(self, file: &str) -> Self {
        match self {
            Self::Refused(cause) => Self::Refused(Refused::InFile { file: file.to_owned(), cause: Box::new(cause) }),
            other => other,
        }
    }

    /// Adds what to do next to a failure. It is logged beside an error that has no place for it.
    pub(crate) fn with_help(self, help: String) -> Self {
        match self {
            Self::Registry(error) => Self::Registry(error.with_help(help)),
            Self::Store(error) => Self::Store(error.with_help(help)),
            Self::Usage(error) => Self::Usage(error.with_help(help)),
            Self::Unread(error) => Self::Unread(error.with_help(help)),
            Self::Output(error) => Self::Output(error.with_help(help)),
            Self::Failed(error) => Self::Failed(error.with_help(help)),
            error @ (Self::Invalid(_)
            | Self::Interrupted
            | Self::InterruptedBy(_)
            | Self::Refused(_)
            | Self::Check(_)) => {
                tracing::error!("{help}");
                error
            }
        }
    }

    /// Returns true if another run, or the next leader, can go on with the run that it ended: that was stopped, or lost its
    /// lease or the database.
    pub(super) fn is_interruption(&self) -> bool {
        match self {
            Self::Interrupted | Self::InterruptedBy(_) => true,
            Self::Store(error) => matches!(error.kind, StateErrorKind::LeaseLost | StateErrorKind::Unavailable),
            _ => false,
        }
    }

    /// Returns its exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid(_) | Self::Registry(_) | Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::Unread(_) => RunOutcome::EvidenceMissing.exit_code(),
            Self::Store(error) if matches!(error.kind, StateErrorKind::Leased | StateErrorKind::LeaseLost) => 3,
            Self::Store(error) if error.kind == StateErrorKind::Exists => 2,
            Self::Store(_)
            | Self::Check(_)
            | Self::Interrupted
            | Self::InterruptedBy(_)
            | Self::Output(_)
            | Self::Failed(_) => 1,
        }
    }

    /// Returns the problems with their places, if settings or policy files are invalid.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Invalid(diagnostics) => diagnostics,
            _ => &[],
        }
    }
}

impl From<ConfigError> for RunError {
    fn from(error: ConfigError) -> Self {
        Self::Invalid(error.diagnostics)
    }
}

impl From<Refused> for RunError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl RunOutcome {
    /// Returns its exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Interrupted => 1,
            Self::Refused => 3,
            Self::Failed => 4,
            Self::EvidenceMissing => 5,
        }
    }

    /// Returns the label used in the audit record and in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Interrupted => "interrupted",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::EvidenceMissing => "evidence-missing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_others_can_go_on_with_count_as_interrupted() {
        for (kind, is_interruption) in [
            (StateErrorKind::LeaseLost, true),
            (StateErrorKind::Unavailable, true),
            (StateErrorKind::Leased, false),
            (StateErrorKind::Full, false),
        ] {
            let error = RunError::Store(StateError::new(kind, "a failure"));
            assert_eq!(error.is_interruption(), is_interruption, "{kind:?}");
        }
        assert!(
            RunError::Interrupted.is_interruption() && RunError::InterruptedBy("restore".to_owned()).is_interruption()
        );
        assert!(!RunError::failed("a fault").is_interruption());
    }
}
