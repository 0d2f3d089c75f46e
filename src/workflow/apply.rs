//! The command `apply`: an approved plan, applied exactly or less.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::ability::{self, Purpose};
use super::result::{PlanIssues, run_result};
use super::{
    App, Approval, PolicyFilter, Refused, RunError, RunOutcome, RunResult, admission, clock, evidence_refresh,
    heartbeat, manifest_cleanup, signature,
};
use crate::apply;
use crate::domain::{Action, Outcome, Removal};
use crate::registry::Progress;
use crate::report;
use crate::state::{JournalEntry, RunContext, RunKind};

impl App {
    /// Applies an approved plan, exactly or less.
    ///
    /// # Errors
    /// [`RunError::Refused`] when the plan may not be applied at all; see [`RunError`] for the rest.
    pub async fn apply(&self, text: &str, approval: &Approval, progress: &dyn Progress) -> Result<RunResult, RunError> {
        let signer = signature::verify_signer(&self.settings.approvals, text.as_bytes(), approval.signature.as_deref());
        let run_context = RunContext { override_reason: approval.override_reason.clone(), ..self.policy_context() };
        let run = self.begin_run(RunKind::Apply, &approval.with_signer(&signer), &run_context).await?;
        let _beat = self.start_heartbeat(Some(run));
        let walked = async {
            let approved = report::read_plan(text).map_err(Refused::InvalidPlan)?;
            signer?;
            admission::admit(&approved, &self.settings, &self.policies, self.now())?;
            admission::check_schedule(&self.settings, approval.override_reason.as_deref(), self.now())?;
            let removals = admission::approved_removals(&approved)?;
            let lease = self.lease("apply")?;
            let requests = self.stop_requests(true);
            let token = self.until_stopped(self.recover(&lease)).await?;
            let earlier = self.removed_earlier(&approved.id).await?;
            self.save_plan(run, &approved).await?;
            let mut scope = admission::scope(&removals);
            manifest_cleanup::extend_scope(&approved, &mut scope)?;
            let decide = self.decide_filtered(&scope, None, (&PolicyFilter::All, Purpose::Enforce), progress);
            let (decision, reevaluation) =
                requests.with_requester(self.until_signal(requests.stop.clone(), decide).await)?;
            self.record_confirmed_time(run, &decision).await?;
            if let Some(doubt) = &decision.clock.doubt {
                return Err(Refused::Clock(*doubt).into());
            }
            let (tasks, skipped) = admission::intersect(&approved, &removals, &decision, &earlier);
            admission::enforce_limits(&tasks, &self.rules())?;
            let (deletions, not_deleted) = manifest_cleanup::intersect(&approved, &decision);
            manifest_cleanup::enforce_limit(&deletions, &self.rules())?;
            if !tasks.is_empty() || !deletions.is_empty() {
                requests.with_requester(self.until_signal(requests.stop.clone(), self.verify_config_files()).await)?;
            }
            let lacks_rights = ability::any_skipped_for_rights(&decision.inventory, &skipped, &not_deleted);
            let mut hands = self.apply_context(run, token, &decision.inventory)?;
            hands.deadline = self.removal_deadline(approval.override_reason.as_deref());
            hands.stop = requests.stop.clone();
            self.heartbeat.start_tasks(heartbeat::Phase::Removing, tasks.len() + deletions.len());
            let watch = self.clock_watch(&decision);
            hands.clock_guard = watch.as_ref().map(clock::ClockWatch::guard);
            let evidence = self.fresh_evidence(&decision, reevaluation);
            hands.evidence = Some(evidence.clone());
            let mut deleted = apply::journal_skipped_deletions(&hands, not_deleted).await?;
            deleted.extend(apply::delete(&hands, deletions).await?);
            let mut applied = apply::journal_skipped_removals(&hands, skipped).await?;
            applied.extend(apply::apply(&hands, tasks, &decision.inventory).await?);
            applied.sort_by_cached_key(|applied| removal_name(&applied.removal));
            let aftermath = self.storage_changes(&decision, &applied).await;
            let issues = PlanIssues::of_approved(&approved);
            let mut result = RunResult {
                storage_changes: aftermath,
                context: run_context,
                ..run_result(run, approved, applied, deleted, issues)
            };
            if result.outcome == RunOutcome::Done && decision.lacks_evidence() {
                result.outcome = RunOutcome::EvidenceMissing;
            }
            if lacks_rights {
                result.outcome = result.outcome.min(RunOutcome::Refused);
            }
            if decision.is_refused_by_clock() && result.outcome != RunOutcome::Interrupted {
                result.outcome = RunOutcome::Refused;
            }
            let result = evidence_refresh::with_failed_sources(result, Some(&evidence));
            let result = clock::refuse_if_clock_changed(result, watch.as_ref());
            Ok(self.with_interrupter(&requests, result).await)
        };
        self.finish_run(run, walked.await).await
    }

    /// What was removed by earlier applications of a plan, by name and with the run.
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

fn removal_name(removal: &Removal) -> String {
    format!("{}/{}:{}", removal.registry, removal.repository, removal.tag)
}

/// Whether an entry is of a removal that was done.
pub(super) fn was_removed(entry: &JournalEntry) -> bool {
    matches!(entry.intent.action, Action::Remove(_)) && matches!(entry.outcome, Some((Outcome::Done(_), _)))
}
