//! The audit record of a run: its beginning, its plan, and its end.

use tracing::Span;
use tracing::field::display;
use uuid::Uuid;

use super::{App, Approval, RunError, RunOutcome, RunResult, audit};
use crate::config::Mode;
use crate::domain::{Failure, chain};
use crate::report::{self, PlanDocument, RunSummary, SpooledPlan};
use crate::state::{NewRun, RunContext, RunEnd, RunKind};

impl App {
    pub(super) async fn begin_run(
        &self,
        kind: RunKind,
        approval: &Approval,
        run_context: &RunContext,
    ) -> Result<Uuid, RunError> {
        let id = Uuid::now_v7();
        Span::current().record("run", display(id));
        let run = NewRun {
            id,
            kind,
            mode: self.settings.mode.label().to_owned(),
            started_at: self.now(),
            started_by: self.by.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            approved_by: approval.approved_by.clone(),
            ticket: approval.ticket.clone(),
        };
        // Before the run itself is on record. An `apply` has warned, unless it is refused.
        let removals_follow = matches!(kind, RunKind::Plan | RunKind::Run) && self.settings.mode != Mode::DryRun;
        self.warn_of_new_state(removals_follow).await?;
        self.record_policies(run_context).await?;
        self.store.begin_run_with_context(&run, run_context).await?;
        Ok(id)
    }

    /// Warns of a new state if removals may follow, unless it was made for this app.
    pub(super) async fn warn_of_new_state(&self, removals_follow: bool) -> Result<(), RunError> {
        Ok(self.store.warn_if_new(removals_follow && !self.has_own_state).await?)
    }

    /// Stores the plan that a run made or applies; tags in a spool are copied from there.
    pub(super) async fn save_plan(
        &self,
        run: Uuid,
        document: &PlanDocument,
        spool: Option<&SpooledPlan>,
    ) -> Result<(), RunError> {
        let failed = |error: std::io::Error| {
            RunError::Failed(Failure::new((), "the plan cannot be written as JSON").caused_by(error))
        };
        let head = report::plan_head(document).map_err(failed)?;
        if let Some(spool) = spool {
            return Ok(self.store.save_plan(run, &document.id, &head, &mut spool.chunks()).await?);
        }
        let mut chunks = report::plan_chunks(document);
        Ok(self.store.save_plan(run, &document.id, &head, &mut chunks).await?)
    }

    /// Records the end of a run, successful or not.
    pub(super) async fn finish_run(
        &self,
        run: Uuid,
        walked: Result<RunResult, RunError>,
    ) -> Result<RunResult, RunError> {
        match walked {
            Ok(mut result) => {
                self.record_result(run, &mut result).await?;
                Ok(result)
            }
            Err(error) => {
                let code = error.exit_code();
                let label = if error.is_interruption() {
                    RunOutcome::Interrupted.label()
                } else if code == RunOutcome::Refused.exit_code() {
                    RunOutcome::Refused.label()
                } else {
                    "error"
                };
                let (counts, undo) = self.failed_run_summary(run).await;
                // The caller must get the original failure, even if the record cannot be written.
                if let Err(second) = self.record_end(run, label, code, &counts, Some(chain(&error))).await {
                    tracing::error!(%run, error = %chain(&second), "the end of the run could not be recorded");
                }
                Err(match undo {
                    Some(undo) => error.with_help(undo),
                    None => error,
                })
            }
        }
    }

    /// Does the same for a run that changed nothing: a state that is lost meanwhile does not cost its report.
    pub(super) async fn finish_dry_run(
        &self,
        run: Uuid,
        walked: Result<RunResult, RunError>,
    ) -> Result<RunResult, RunError> {
        let Ok(mut result) = walked else { return self.finish_run(run, walked).await };
        report_unrecorded(run, self.record_result(run, &mut result).await)?;
        Ok(result)
    }

    async fn record_result(&self, run: Uuid, result: &mut RunResult) -> Result<(), RunError> {
        result.by_registry = audit::counts_by_registry(&result.document, &self.take_request_counts());
        let outcome = result.outcome;
        tracing::info!("{}", audit::summary_line(result, self.settings.mode, self.policies.policies.len()));
        let why = result.interrupted_by.as_ref().map(|by| format!("interrupted by {by}"));
        self.record_end(run, outcome.label(), outcome.exit_code(), &audit::run_summary(result), why).await
    }

    pub(super) async fn record_end(
        &self,
        run: Uuid,
        outcome: &str,
        exit_code: u8,
        summary: &RunSummary,
        error: Option<String>,
    ) -> Result<(), RunError> {
        let span = Span::current();
        span.record("outcome", outcome);
        if let Some(error) = &error {
            span.record("error", error).record("otel.status_code", "ERROR");
        }
        let summary = summary.to_json();
        let end = RunEnd { ended_at: self.now(), outcome: outcome.to_owned(), exit_code, summary, error };
        Ok(self.store.finish_run(run, &end).await?)
    }
}

/// Logs that the state could not be written by a run that changed nothing. Other errors stay.
pub(super) fn report_unrecorded(run: Uuid, recorded: Result<(), RunError>) -> Result<(), RunError> {
    match recorded {
        Err(RunError::Store(error)) => {
            let kind = error.kind.label();
            tracing::error!(%run, error = %error.chain(), kind, "the dry run could not be recorded; its report is complete");
            Ok(())
        }
        recorded => recorded,
    }
}
