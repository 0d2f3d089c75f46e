//! How a run ended, by what came of everything in it.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{RunOutcome, RunResult};
use crate::apply::{DeletionResult, RemovalResult};
use crate::domain::{Outcome, SkipReason};
use crate::report::PlanDocument;
use crate::state::RunContext;

/// Which refusals make a run one that was refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum CountedRefusals {
    /// Every one, also of what only would go if all policies said `enforce`: a plan is for looking ahead.
    All,
    /// Those that stop what would really be removed. A trial policy over its limit is no failure of every night's run.
    Binding,
    /// Those that leave nothing to apply: a plan's other removals are what was approved.
    Complete,
}

/// How a run ended.
pub(super) fn run_result(
    run: Uuid,
    document: PlanDocument,
    applied: Vec<RemovalResult>,
    deleted: Vec<DeletionResult>,
    refusals: CountedRefusals,
) -> RunResult {
    let all_refused = || {
        let mut left = document.removals.iter().filter(|removal| removal.enforce).peekable();
        let mut deletions = document.deletions.deletable().filter(|deletion| deletion.enforce).peekable();
        (left.peek().is_some() || deletions.peek().is_some())
            && left.all(|removal| document.refusal_of(&removal).is_some())
            && deletions.all(|deletion| deletion.refused.is_some())
    };
    let outcomes = || applied.iter().map(|one| &one.outcome).chain(deleted.iter().map(|one| &one.outcome));
    let any = |what: fn(&Outcome) -> bool| outcomes().any(what);
    let mut against = document.refusals.iter().chain(&document.deletions.refusals);
    let refused = match refusals {
        CountedRefusals::All => against.next().is_some(),
        CountedRefusals::Binding => against.any(|refusal| refusal.binding),
        CountedRefusals::Complete => all_refused(),
    };
    let outcome = if any(|outcome| matches!(outcome, Outcome::Skipped(SkipReason::Interrupted))) {
        RunOutcome::Interrupted
    } else if refused {
        RunOutcome::Refused
    } else if any(|outcome| matches!(outcome, Outcome::Failed(_) | Outcome::Skipped(SkipReason::Stopped(_)))) {
        RunOutcome::Failed
    } else if document.evidence_missing() {
        RunOutcome::EvidenceMissing
    } else {
        RunOutcome::Done
    };
    let (aftermath, by_registry, circumstances) = (Vec::new(), BTreeMap::new(), RunContext::default());
    RunResult {
        run,
        document,
        applied,
        deleted,
        storage_changes: aftermath,
        by_registry,
        context: circumstances,
        pending_schedule: 0,
        forgotten: None,
        outcome,
        interrupted_by: None,
        failed_sources: Vec::new(),
    }
}
