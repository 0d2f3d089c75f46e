//! The command `plan`: one dry run.

use jiff::Timestamp;
use tracing::field::Empty;
use uuid::Uuid;

use super::decision::{DecideOptions, Decision};
use super::result::{PlanIssues, run_result};
use super::run_record::report_unrecorded;
use super::{App, Approval, Narrowing, RunError, RunResult};
use crate::domain::Acceptance;
use crate::registry::Progress;
use crate::state::RunKind;

/// What a plan is to be of.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// Another time than now to decide for.
    pub at: Option<Timestamp>,
    /// What the plan is narrowed to.
    pub narrowing: Narrowing,
    /// The refusals that a person accepts for this plan.
    pub acceptances: Vec<Acceptance>,
    /// The reason with which windows and freezes would be overridden.
    pub override_reason: Option<String>,
}

impl App {
    /// One dry run of everything.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn plan(&self, at: Option<Timestamp>, progress: &dyn Progress) -> Result<RunResult, RunError> {
        self.plan_with(PlanOptions { at, ..PlanOptions::default() }, progress).await
    }

    /// One dry run, as the options say.
    ///
    /// # Errors
    /// See [`RunError`].
    #[tracing::instrument(name = "plan", skip_all, fields(run = Empty, outcome = Empty, error = Empty, otel.status_code = Empty))]
    pub async fn plan_with(&self, options: PlanOptions, progress: &dyn Progress) -> Result<RunResult, RunError> {
        let PlanOptions { at, narrowing, acceptances, override_reason } = options;
        let run = self.begin_run(RunKind::Plan, &Approval::default(), &self.policy_context()).await?;
        let _beat = self.start_heartbeat(Some(run));
        let walked = async {
            let _dry = self.begin_dry_run();
            self.unless_lost(self.recover_if_unleased()).await?;
            let blocked_by = self.removal_block(override_reason.as_deref()).filter(|_| at.is_none());
            let options = DecideOptions { at, narrowing, acceptances, blocked_by, ..DecideOptions::default() };
            let decision = self.decide_with(options, progress).await?;
            // Nothing was changed that the record would have to tell: the report is worth more than its record.
            report_unrecorded(run, self.record_plan(run, &decision).await)?;
            let issues = PlanIssues::of_report(&decision);
            Ok(run_result(run, decision.document, Vec::new(), Vec::new(), issues))
        };
        // Stopped in here, so that the record says so.
        let walked = self.until_stopped(Box::pin(walked)).await;
        self.finish_dry_run(run, walked).await
    }

    pub(super) async fn record_plan(&self, run: Uuid, decision: &Decision) -> Result<(), RunError> {
        self.record_confirmed_time(run, decision).await?;
        self.save_plan(run, &decision.document, decision.spool.as_ref()).await
    }
}
