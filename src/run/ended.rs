//! How a run ended, by what came of everything in it.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Ended, RunOutcome};
use crate::apply::{Applied, Deleted};
use crate::domain::{Outcome, Skip};
use crate::report::PlanDocument;
use crate::store::Circumstances;

/// Which refusals make a run one that was refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusals {
    /// Every one, also of what only would go if all policies said `enforce`: a plan is for looking ahead.
    All,
    /// Those that stop what would really be removed. A trial policy over its limit is no failure of every night's run.
    Binding,
    /// Those that leave nothing to apply: a plan's other removals are what was approved.
    OfEverything,
}

/// How a run ended.
pub(super) fn ended(
    run: Uuid,
    document: PlanDocument,
    applied: Vec<Applied>,
    deleted: Vec<Deleted>,
    refusals: Refusals,
) -> Ended {
    let all_refused = || {
        let mut left = document.removals.iter().filter(|removal| removal.enforce).peekable();
        let mut deletions = document.deletions.going().filter(|deletion| deletion.enforce).peekable();
        (left.peek().is_some() || deletions.peek().is_some())
            && left.all(|removal| document.refused(&removal).is_some())
            && deletions.all(|deletion| deletion.refused.is_some())
    };
    let outcomes = || applied.iter().map(|one| &one.outcome).chain(deleted.iter().map(|one| &one.outcome));
    let any = |what: fn(&Outcome) -> bool| outcomes().any(what);
    let mut against = document.refusals.iter().chain(&document.deletions.refusals);
    let refused = match refusals {
        Refusals::All => against.next().is_some(),
        Refusals::Binding => against.any(|refusal| refusal.binding),
        Refusals::OfEverything => all_refused(),
    };
    let outcome = if any(|outcome| matches!(outcome, Outcome::Skipped(Skip::Interrupted))) {
        RunOutcome::Interrupted
    } else if refused {
        RunOutcome::Refused
    } else if any(|outcome| matches!(outcome, Outcome::Failed(_) | Outcome::Skipped(Skip::Stopped(_)))) {
        RunOutcome::Failed
    } else if document.evidence_missing() {
        RunOutcome::EvidenceMissing
    } else {
        RunOutcome::Done
    };
    let (aftermath, by_registry, circumstances) = (Vec::new(), BTreeMap::new(), Circumstances::default());
    Ended {
        run,
        document,
        applied,
        deleted,
        aftermath,
        by_registry,
        circumstances,
        not_due: 0,
        forgotten: None,
        outcome,
        interrupted_by: None,
        lost_evidence: Vec::new(),
    }
}
