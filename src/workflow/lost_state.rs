//! A dry run whose state is lost while it reads: it decides with what it has, and its report names what is missing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{App, RunError};
use crate::domain::{Gap, GapTarget};
use crate::state::StateErrorKind;

/// The label of gaps that a lost state leaves.
const KIND: &str = "state-lost";

/// The need for the state in what is under way.
#[derive(Debug, Default)]
pub(super) enum StateNeed {
    /// Nothing goes on without it: removals need their journal.
    #[default]
    Required,
    /// A report is worth more than its record.
    Optional,
    /// It does not answer any more, with the cause in words. It is not asked again, since each wait would take seconds.
    Lost(String),
}

/// A dry run under way; the state is required again once it is dropped.
pub(super) struct DryRun<'a>(&'a Mutex<StateNeed>);

impl Drop for DryRun<'_> {
    fn drop(&mut self) {
        *lock(self.0) = StateNeed::Required;
    }
}

fn lock(need: &Mutex<StateNeed>) -> MutexGuard<'_, StateNeed> {
    need.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    /// Lets what follows go on without the state. Only for what cannot remove.
    pub(super) fn begin_dry_run(&self) -> DryRun<'_> {
        *lock(&self.state_need) = StateNeed::Optional;
        DryRun(&self.state_need)
    }

    /// Returns true if this is a dry run, which goes on without the state.
    pub(super) fn may_lose_state(&self) -> bool {
        !matches!(*lock(&self.state_need), StateNeed::Required)
    }

    /// Returns true if this is a dry run that lost the state.
    pub(super) fn has_lost_state(&self) -> bool {
        matches!(*lock(&self.state_need), StateNeed::Lost(_))
    }

    /// Returns what the state answers; `None` in a dry run if its database does not answer any more.
    ///
    /// # Errors
    /// Returns any other failure, and this one too where the state is required.
    pub(super) async fn unless_lost<T, E: Into<RunError>>(
        &self,
        ask: impl Future<Output = Result<T, E>>,
    ) -> Result<Option<T>, RunError> {
        if self.has_lost_state() {
            return Ok(None);
        }
        let error = match ask.await {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => error.into(),
        };
        match error {
            RunError::Store(lost) if lost.kind == StateErrorKind::Unavailable => {
                let mut need = lock(&self.state_need);
                match *need {
                    StateNeed::Required => return Err(RunError::Store(lost)),
                    StateNeed::Lost(_) => {}
                    StateNeed::Optional => {
                        let words = "the state was lost; the dry run goes on without it, and its report is not stored";
                        tracing::error!(kind = lost.kind.label(), error = %lost.chain(), "{words}");
                        *need = StateNeed::Lost(lost.to_string());
                    }
                }
                Ok(None)
            }
            error => Err(error),
        }
    }

    /// Returns the gap that the lost state leaves in a registry or a repository.
    pub(super) fn lost_state_gap(&self, target: GapTarget) -> Gap {
        let why = match &*lock(&self.state_need) {
            StateNeed::Lost(why) => why.clone(),
            StateNeed::Required | StateNeed::Optional => "it was not asked".to_owned(),
        };
        let message = format!("the state was lost while this was read, and the report is not stored: {why}");
        Gap { target, kind: KIND, has_help: false, message: message.into() }
    }
}
