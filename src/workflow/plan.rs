//! The command `plan`: one dry run.

use jiff::Timestamp;

use super::result::{PlanIssues, run_result};
use super::{App, Approval, RunError, RunResult};
use crate::registry::{CollectScope, Progress};
use crate::state::RunKind;

impl App {
    /// One dry run.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn plan(&self, at: Option<Timestamp>, progress: &dyn Progress) -> Result<RunResult, RunError> {
        let run = self.begin_run(RunKind::Plan, &Approval::default(), &self.policy_context()).await?;
        let _beat = self.start_heartbeat(Some(run));
        let walked = async {
            self.recover_if_unleased().await?;
            let decision = self.decide(&CollectScope::All, at, progress).await?;
            self.record_confirmed_time(run, &decision).await?;
            self.save_plan(run, &decision.document, decision.spool.as_ref()).await?;
            let issues = PlanIssues::of_report(&decision);
            Ok(run_result(run, decision.document, Vec::new(), Vec::new(), issues))
        };
        self.finish_run(run, walked.await).await
    }
}
