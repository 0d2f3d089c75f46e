//! The outcome of a run, by the outcomes of everything in it.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Decision, RunOutcome, RunResult};
use crate::apply::{DeletionResult, RemovalResult};
use crate::domain::{Outcome, Plan, Refusal, Removal, SkipReason, SourceOutcome};
use crate::report::PlanDocument;
use crate::state::RunContext;

/// The state of a plan that the outcome of its run depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlanIssues {
    /// True if refusals determine the outcome.
    is_refused: bool,
    /// True if the plan rests on incomplete evidence.
    lacks_evidence: bool,
}

impl PlanIssues {
    /// Returns the issues of a report: every refusal counts, also for removals that dry-run policies only report. A
    /// plan looks ahead.
    pub(super) fn of_report(decision: &Decision) -> Self {
        Self::of(decision, |_| true)
    }

    /// Returns the issues of an enforcing run: only refusals of real removals count. A dry-run policy over its limit
    /// must not fail every night's run.
    pub(super) fn of_enforcement(decision: &Decision) -> Self {
        Self::of(decision, |refusal| refusal.binding)
    }

    /// Returns the issues of an approved plan: refusals count only if nothing is left to apply, because its other
    /// removals were approved.
    ///
    /// The plan exists only as a document, which was parsed from a file. Everything else decides by domain values.
    pub(super) fn of_approved(plan: &PlanDocument) -> Self {
        let mut removals = plan.removals.iter().filter(|removal| removal.enforce).peekable();
        let mut deletions = plan.deletions.deletable().filter(|deletion| deletion.enforce).peekable();
        let is_refused = (removals.peek().is_some() || deletions.peek().is_some())
            && removals.all(|removal| plan.refusal_of(&removal).is_some())
            && deletions.all(|deletion| deletion.refused.is_some());
        Self { is_refused, lacks_evidence: plan.evidence_missing() }
    }

    fn of(decision: &Decision, counts: fn(&Refusal) -> bool) -> Self {
        let is_refused = all_refusals(&decision.plan).any(counts);
        Self { is_refused, lacks_evidence: decision.lacks_evidence() }
    }
}

impl Decision {
    /// Returns true if a source failed or something could not be read, so that it rests on incomplete evidence.
    pub(super) fn lacks_evidence(&self) -> bool {
        self.claims.sources.iter().any(SourceOutcome::has_failed) || self.has_gaps
    }

    /// Returns true if something that would be enforced is refused because the time cannot be trusted.
    pub(super) fn is_refused_by_clock(&self) -> bool {
        all_refusals(&self.plan).any(|refusal| refusal.binding && refusal.reason.is_clock())
    }
}

fn all_refusals(plan: &Plan) -> impl Iterator<Item = &Refusal> {
    plan.refusals.iter().chain(&plan.deletions.refusals)
}

/// Logs the skipped actions of a run, counted by reason.
fn log_skips(applied: &[RemovalResult], deleted: &[DeletionResult]) {
    let removals = applied.iter().map(|one| {
        let Removal { registry, repository, tag, .. } = &*one.removal;
        (&one.outcome, format!("{registry}/{repository}:{tag}"))
    });
    let deletions = deleted.iter().map(|one| {
        let name = format!("{}/{}@{}", one.deletion.registry, one.deletion.repository, one.digest.short());
        (&one.outcome, name)
    });
    let mut reasons: BTreeMap<&str, (u64, String, String)> = BTreeMap::new();
    for (outcome, name) in removals.chain(deletions) {
        if let Outcome::Skipped(skip) = outcome
            && !skip.is_notable()
        {
            reasons.entry(skip.label()).or_insert_with(|| (0, name, skip.to_string())).0 += 1;
        }
    }
    for (reason, (count, example, why)) in reasons {
        tracing::info!(reason, count, %example, why, "skipped");
    }
}

/// Creates the result of a run.
pub(super) fn run_result(
    run: Uuid,
    document: PlanDocument,
    applied: Vec<RemovalResult>,
    deleted: Vec<DeletionResult>,
    issues: PlanIssues,
) -> RunResult {
    log_skips(&applied, &deleted);
    let outcomes = || applied.iter().map(|one| &one.outcome).chain(deleted.iter().map(|one| &one.outcome));
    let any = |what: fn(&Outcome) -> bool| outcomes().any(what);
    let outcome = if any(|outcome| matches!(outcome, Outcome::Skipped(SkipReason::Interrupted))) {
        RunOutcome::Interrupted
    } else if issues.is_refused {
        RunOutcome::Refused
    } else if any(|outcome| matches!(outcome, Outcome::Failed(_) | Outcome::Skipped(SkipReason::Stopped(_)))) {
        RunOutcome::Failed
    } else if issues.lacks_evidence {
        RunOutcome::EvidenceMissing
    } else {
        RunOutcome::Done
    };
    let (aftermath, by_registry, run_context) = (Vec::new(), BTreeMap::new(), RunContext::default());
    RunResult {
        run,
        document,
        applied,
        deleted,
        storage_changes: aftermath,
        by_registry,
        context: run_context,
        pending_schedule: 0,
        forgotten: None,
        outcome,
        interrupted_by: None,
        missing_manifests: 0,
        failed_sources: Vec::new(),
    }
}
