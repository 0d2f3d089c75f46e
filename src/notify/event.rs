//! The facts about a run that notifications report.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::config::{Mode, NotifyEvent};
use crate::domain::{Digest, Outcome, SkipReason, chain};
use crate::report::{self, AttentionKind, AttentionView, PlanDocument};
use crate::state::{RunKind, StateErrorKind};
use crate::workflow::{RunError, RunOutcome, RunResult};

/// More problems than these are only counted.
const MAX_PROBLEMS: usize = 10;
const MAX_PROBLEM_CHARS: usize = 300;

/// The outcome of a run, for notifications.
#[derive(Debug, Clone)]
pub struct RunEvent {
    /// The run's id; `None` if it failed.
    pub run_id: Option<String>,
    /// Its kind.
    pub kind: RunKind,
    /// The mode of the settings.
    pub mode: Mode,
    /// The user who ran it.
    pub by: String,
    /// Time of its end.
    pub ended_at: Timestamp,
    /// The label of its outcome; `error` if it failed.
    pub outcome: &'static str,
    /// Its exit code.
    pub exit_code: u8,
    /// The occasions of the run, never [`NotifyEvent::Recovered`] or [`NotifyEvent::Always`], each with a text that
    /// distinguishes its problem from others of its kind.
    pub occasions: BTreeMap<NotifyEvent, String>,
    /// True if it was complete, so that absent problems are over.
    pub is_complete: bool,
    /// The numbers; `None` if it failed.
    pub counts: Option<RunEventCounts>,
    /// The problems, each in one line; the last line counts the omitted ones.
    pub problems: Vec<String>,
}

/// The numbers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RunEventCounts {
    /// Tags evaluated.
    pub tags: u64,
    /// Expired tags.
    pub expired: u64,
    /// Protected tags.
    pub protected: u64,
    /// Tags kept by a keep rule.
    pub retained: u64,
    /// Tags with missing information.
    pub undecided: u64,
    /// Tags that no policy selects.
    pub out_of_scope: u64,
    /// Completed removals.
    pub removed: u64,
    /// Manifests without a tag that were deleted.
    pub deleted: u64,
    /// Skipped removals.
    pub skipped: u64,
    /// Removals that failed.
    pub failed: u64,
    /// Bytes that the registry can collect once all expired tags are removed.
    pub reclaimable_bytes: u64,
    /// True if some of those are a registry's own sizes.
    pub estimated: bool,
}

impl RunEvent {
    /// Creates the event of a run that ended at `at`.
    #[must_use]
    pub fn new(kind: RunKind, came: Result<&RunResult, &RunError>, mode: Mode, by: &str, at: Timestamp) -> Self {
        let event = Self {
            run_id: None,
            kind,
            mode,
            by: by.to_owned(),
            ended_at: at,
            outcome: "error",
            exit_code: 1,
            occasions: BTreeMap::new(),
            is_complete: false,
            counts: None,
            problems: Vec::new(),
        };
        match came {
            Ok(ended) => event.with_result(ended),
            Err(error) => event.with_error(error),
        }
    }

    fn with_result(self, ended: &RunResult) -> Self {
        let document = &ended.document;
        let counts = counts(ended);
        let mut occasions = BTreeMap::new();
        let mut problems = Vec::new();
        if counts.removed > 0 || counts.deleted > 0 {
            occasions.insert(NotifyEvent::Removed, String::new());
        }
        let failed = ended.applied.iter().filter_map(|applied| match &applied.outcome {
            Outcome::Failed(why) | Outcome::Skipped(SkipReason::Stopped(why)) => Some((&applied.removal, why)),
            Outcome::Done(_) | Outcome::Skipped(_) => None,
        });
        let mut where_failed = BTreeSet::new();
        for (removal, why) in failed {
            where_failed.insert(format!("{}/{}", removal.registry, removal.repository));
            problems.push(format!("{}/{}:{}: {why}", removal.registry, removal.repository, removal.tag));
        }
        for one in &ended.deleted {
            if let Outcome::Failed(why) | Outcome::Skipped(SkipReason::Stopped(why)) = &one.outcome {
                let place = format!("{}/{}", one.deletion.registry, one.deletion.repository);
                problems.push(format!("{place}@{}: {why}", one.digest.short()));
                where_failed.insert(place);
            }
        }
        if !where_failed.is_empty() {
            occasions.insert(NotifyEvent::Failed, problem_digest(where_failed));
        }
        if ended.outcome == RunOutcome::Refused {
            let all = || document.refusals.iter().chain(&document.deletions.refusals);
            let refusals = || all().filter(|refusal| refusal.binding || self.kind == RunKind::Plan);
            problems.extend(sentences(document, &[AttentionKind::Refused]));
            if self.kind == RunKind::Plan {
                problems.extend(sentences(document, &[AttentionKind::WouldBeRefused]));
            }
            let apart = refusals().map(|it| format!("{}/{:?}/{:?}", it.kind, it.policy, it.repository)).collect();
            occasions.insert(NotifyEvent::Refused, problem_digest(apart));
        }
        if document.evidence_missing() || !ended.failed_sources.is_empty() {
            let mut apart = BTreeSet::new();
            for lost in &ended.failed_sources {
                apart.insert(format!("source {}", lost.about));
                problems.push(lost.sentence());
            }
            for source in document.sources.iter().filter(|source| source.error.is_some()) {
                apart.insert(format!("source {}", source.name));
            }
            for registry in &document.registries {
                for gap in &registry.gaps {
                    apart.insert(format!("{} {} {}", registry.name, gap.at, gap.kind));
                }
            }
            problems.extend(sentences(document, &EVIDENCE_KINDS));
            occasions.insert(NotifyEvent::EvidenceMissing, problem_digest(apart));
        }
        Self {
            run_id: Some(ended.run.to_string()),
            outcome: ended.outcome.label(),
            exit_code: ended.outcome.exit_code(),
            occasions,
            is_complete: ended.outcome != RunOutcome::Interrupted,
            counts: Some(counts),
            problems: truncate_problems(problems),
            ..self
        }
    }

    fn with_error(self, error: &RunError) -> Self {
        let (occasion, apart) = match error {
            RunError::Interrupted | RunError::InterruptedBy(_) => (None, "interrupted"),
            RunError::Refused(_) => (Some(NotifyEvent::Refused), "refused"),
            RunError::Store(error) if matches!(error.kind, StateErrorKind::Leased | StateErrorKind::LeaseLost) => {
                (Some(NotifyEvent::Refused), error.kind.label())
            }
            RunError::Store(error) => (Some(NotifyEvent::Failed), error.kind.label()),
            RunError::Registry(error) => (Some(NotifyEvent::Failed), error.kind.label()),
            RunError::Invalid(_) => (Some(NotifyEvent::Failed), "settings"),
            RunError::Usage(_) => (Some(NotifyEvent::Failed), "usage"),
            RunError::Unread(_) => (Some(NotifyEvent::EvidenceMissing), "unread"),
            RunError::Output(_) => (Some(NotifyEvent::Failed), "output"),
            RunError::Failed(_) => (Some(NotifyEvent::Failed), "failed"),
            RunError::Check(_) => (Some(NotifyEvent::Failed), "check"),
        };
        let diagnostics = error.diagnostics();
        let problems = if diagnostics.is_empty() {
            vec![chain(error)]
        } else {
            diagnostics.iter().map(|problem| chain(problem)).collect()
        };
        Self {
            exit_code: error.exit_code(),
            occasions: occasion.map(|occasion| (occasion, apart.to_owned())).into_iter().collect(),
            problems: truncate_problems(problems),
            ..self
        }
    }
}

/// The attention items about missing evidence.
const EVIDENCE_KINDS: [AttentionKind; 3] =
    [AttentionKind::RegistryUnread, AttentionKind::SourceFailed, AttentionKind::RegistryPartlyUnread];

/// Returns a plan's attention items of these kinds, in the words of its report.
fn sentences(document: &PlanDocument, kinds: &[AttentionKind]) -> Vec<String> {
    document.attention.iter().filter(|found| found.is_one_of(kinds)).map(AttentionView::sentence).collect()
}

fn counts(ended: &RunResult) -> RunEventCounts {
    let summary = &ended.document.summary;
    let number = |such: usize| u64::try_from(such).unwrap_or(u64::MAX);
    let count = |label: &str| number(ended.outcomes().filter(|outcome| outcome.label() == label).count());
    let deleted = number(ended.deleted.iter().filter(|one| matches!(one.outcome, Outcome::Done(_))).count());
    RunEventCounts {
        tags: summary.tags,
        expired: summary.expired,
        protected: summary.protected,
        retained: summary.retained,
        undecided: summary.undecided,
        out_of_scope: summary.out_of_scope,
        removed: count("done") - deleted,
        deleted,
        skipped: count("skipped"),
        failed: count("failed"),
        reclaimable_bytes: summary.reclaimable_bytes,
        estimated: summary.is_estimated(),
    }
}

/// Returns one short text for a set of problems.
fn problem_digest(set: BTreeSet<String>) -> String {
    let all: Vec<String> = set.into_iter().collect();
    Digest::of(all.join("\n").as_bytes()).to_string()
}

/// Returns the first problems, each truncated, and the number of the others.
fn truncate_problems(problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
    let mut few: Vec<String> = problems
        .into_iter()
        .take(MAX_PROBLEMS)
        .map(|problem| clip(&problem.replace('\n', " "), MAX_PROBLEM_CHARS))
        .collect();
    if more > 0 {
        few.push(format!("and {} more", report::format_count(u64::try_from(more).unwrap_or(u64::MAX))));
    }
    few
}

/// Truncates a text to that many characters.
pub(super) fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
