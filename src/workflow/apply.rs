//! The command `apply`: applies an approved plan exactly, or less of it.

use std::collections::BTreeMap;

use tracing::field::Empty;
use uuid::Uuid;

use super::decision::EarlierEvidence;
use super::enforcement::{PlannedRemovals, Unenforced};
use super::result::{PlanIssues, run_result};
use super::{
    App, Approval, PolicyFilter, Refused, RunError, RunOutcome, RunResult, admission, clock, heartbeat,
    manifest_cleanup, signature,
};
use crate::domain::{Action, Failure, Outcome, decode_text};
use crate::registry::Progress;
use crate::report::{PlanDocument, PlanReadError};
use crate::state::{JournalEntry, RunContext, RunKind};

impl App {
    /// Applies an approved plan exactly, or less of it. `plan` is the content of its file, over which signatures are.
    ///
    /// # Errors
    /// Returns [`RunError::Refused`] if the plan may not be applied at all, and [`RunError::Usage`], of which there is no
    /// record, for another file than a plan; see [`RunError`] for the rest.
    pub async fn apply(
        &self,
        plan: impl AsRef<[u8]>,
        approval: &Approval,
        progress: &dyn Progress,
    ) -> Result<RunResult, RunError> {
        let approved = admission::read_plan(plan.as_ref());
        if let Err(Refused::InvalidPlan(error)) = &approved
            && error.is_another_file()
            && !is_cut_plan(plan.as_ref(), error)
        {
            let failure = Failure::new((), "it is not a plan").caused_by(error.clone());
            return Err(RunError::Usage(
                failure.with_help("name the file that `tagwarden plan --out plan.json` wrote"),
            ));
        }
        self.apply_plan(plan.as_ref(), approved, approval, None, progress).await
    }

    /// Applies a plan of the folder of approved plans, and records each refusal with the name of its file: the next
    /// look skips it.
    pub(super) async fn apply_from_folder(
        &self,
        plan: &[u8],
        approval: &Approval,
        file: &str,
        progress: &dyn Progress,
    ) -> Result<RunResult, RunError> {
        self.apply_plan(plan, admission::read_plan(plan), approval, Some(file), progress).await
    }

    #[tracing::instrument(name = "apply", skip_all, fields(run = Empty, outcome = Empty, error = Empty, otel.status_code = Empty))]
    async fn apply_plan(
        &self,
        plan: &[u8],
        approved: Result<PlanDocument, Refused>,
        approval: &Approval,
        file: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<RunResult, RunError> {
        let signer = signature::verify_signer(&self.settings.approvals, plan, approval.signature.as_deref());
        let signed_by = signer.as_ref().ok().cloned().flatten();
        let override_reason = approval.override_reason.clone();
        let run_context = RunContext { override_reason, signed_by, ..self.policy_context() };
        self.warn_of_new_state(approved.is_ok() && signer.is_ok()).await?;
        let run = self.begin_run(RunKind::Apply, &approval.with_signer(&signer), &run_context).await?;
        let _beat = self.start_heartbeat(Some(run));
        let walked = async {
            let approved = approved?;
            signer?;
            admission::admit(&approved, &self.settings, &self.policies, self.now())?;
            admission::check_schedule(&self.settings, approval.override_reason.as_deref(), self.now())?;
            admission::check_names(&approved)?;
            let lease = self.lease("apply").await?;
            let requests = self.stop_requests(true);
            let recover = self.until_signal(requests.stop.clone(), self.recover(&lease, run));
            let token = requests.with_requester(recover.await)?;
            let earlier = self.removed_earlier(&approved.id).await?;
            self.save_plan(run, &approved, None).await?;
            admission::enforce_limits(&approved, &self.rules())?;
            manifest_cleanup::enforce_limit(&approved, &self.rules())?;
            let start = self.read_clocks();
            let enforced = admission::count_enforced(&approved);
            let mut context = self.apply_context(run, token);
            context.deadline = self.removal_deadline(approval.override_reason.as_deref());
            context.stop = requests.stop.clone();
            let watch = self.clock_watch(start);
            context.clock_guard = watch.as_ref().map(clock::ClockWatch::guard);
            self.heartbeat.start_tasks(heartbeat::Phase::Removing, enforced);
            let planned = PlannedRemovals {
                document: &approved,
                earlier,
                policies: PolicyFilter::All,
                unenforced: Unenforced::Journaled,
                tag_counts: admission::tag_counts(&approved),
                earlier_evidence: EarlierEvidence::default(),
            };
            let mut done = self.enforce(&context, planned, &requests, progress).await?;
            let aftermath = self.storage_changes(&done.registries, &done.applied).await;
            let (applied, deleted) = (std::mem::take(&mut done.applied), std::mem::take(&mut done.deleted));
            let issues = PlanIssues::of_approved(&approved);
            let mut result = RunResult {
                storage_changes: aftermath,
                missing_manifests: self.store.count_missing_manifests(run).await?,
                context: run_context,
                failed_sources: std::mem::take(&mut done.failed_sources),
                ..run_result(run, approved, applied, deleted, issues)
            };
            if result.outcome == RunOutcome::Done && (done.lacks_evidence || !result.failed_sources.is_empty()) {
                result.outcome = RunOutcome::EvidenceMissing;
            }
            done.refuse(&mut result);
            let result = clock::refuse_if_clock_changed(result, watch.as_ref());
            Ok(self.with_interrupter(&requests, result).await)
        };
        let applied = Box::pin(walked).await;
        let applied = applied.map_err(|error: RunError| match file {
            Some(file) => error.in_file(file),
            None => error,
        });
        self.finish_run(run, applied).await
    }

    /// Returns the removals by earlier applications of a plan, by name and with the run.
    pub(super) async fn removed_earlier(&self, plan: &str) -> Result<BTreeMap<String, Uuid>, RunError> {
        let mut removed = BTreeMap::new();
        for record in self.store.runs_applying(plan).await? {
            admission::check_reapplication(plan, &record)?;
            for entry in self.store.journal(record.run.id).await?.iter().filter(|entry| was_removed(entry)) {
                removed.insert(entry.intent.name(), record.run.id);
            }
        }
        Ok(removed)
    }
}

/// Returns true for the beginning of a plan whose rest is missing: that is a plan, and is refused as one.
fn is_cut_plan(plan: &[u8], error: &PlanReadError) -> bool {
    let begins_so = || decode_text(plan.to_vec()).is_ok_and(|text| text.trim_start().starts_with('{'));
    matches!(error, PlanReadError::NotJson(_)) && begins_so()
}

/// Returns true if an entry is a completed removal.
pub(super) fn was_removed(entry: &JournalEntry) -> bool {
    matches!(entry.intent.action, Action::Remove(_)) && matches!(entry.outcome, Some((Outcome::Done(_), _)))
}
