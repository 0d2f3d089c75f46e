//! What is worth telling of a run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::config::{Mode, Occasion};
use crate::domain::{Digest, Outcome, Skip};
use crate::report::{self, AttentionKind, AttentionView, PlanDocument};
use crate::run::{Ended, RunError, RunOutcome};
use crate::store::{RunKind, StoreErrorKind};

/// More than these are only counted.
const MOST_PROBLEMS: usize = 10;
const LONGEST_PROBLEM: usize = 300;

/// What came of a run, for those who were not there.
#[derive(Debug, Clone)]
pub struct RunNews {
    /// The run's id; nothing where it did not come to its end.
    pub run: Option<String>,
    /// Its kind.
    pub kind: RunKind,
    /// The mode of the settings.
    pub mode: Mode,
    /// Who ran it.
    pub by: String,
    /// When it ended.
    pub at: Timestamp,
    /// The label of its outcome; `error` where it did not come to its end.
    pub outcome: &'static str,
    /// The exit code that belongs to it.
    pub exit_code: u8,
    /// What of it may be told, never [`Occasion::Recovered`] or [`Occasion::Always`], each with what tells one problem
    /// from another of its kind.
    pub occasions: BTreeMap<Occasion, String>,
    /// Whether it went through, so that a problem which it does not have is over.
    pub whole: bool,
    /// The numbers; nothing where it did not come to its end.
    pub counts: Option<Counts>,
    /// What went wrong or is missing, each in one line; the last says how many more there are.
    pub problems: Vec<String>,
}

/// The numbers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Tags looked at.
    pub tags: u64,
    /// Those that may go.
    pub expired: u64,
    /// Those that something protects.
    pub protected: u64,
    /// Those that a keep rule keeps.
    pub retained: u64,
    /// Those that stay because something is missing.
    pub undecided: u64,
    /// Those that no policy speaks of.
    pub out_of_scope: u64,
    /// Removals that were done.
    pub removed: u64,
    /// Manifests, untagged before, that were deleted.
    pub deleted: u64,
    /// Removals that no longer fitted.
    pub skipped: u64,
    /// Removals that failed.
    pub failed: u64,
    /// Bytes that the registry can collect once all that is expired is gone.
    pub reclaimable_bytes: u64,
    /// Whether those are only known by the registry's own sizes.
    pub estimated: bool,
}

impl RunNews {
    /// What came of a run that ended at `at`.
    #[must_use]
    pub fn of(kind: RunKind, came: Result<&Ended, &RunError>, mode: Mode, by: &str, at: Timestamp) -> Self {
        let news = Self {
            run: None,
            kind,
            mode,
            by: by.to_owned(),
            at,
            outcome: "error",
            exit_code: 1,
            occasions: BTreeMap::new(),
            whole: false,
            counts: None,
            problems: Vec::new(),
        };
        match came {
            Ok(ended) => news.with(ended),
            Err(error) => news.without(error),
        }
    }

    fn with(self, ended: &Ended) -> Self {
        let document = &ended.document;
        let counts = counts(ended);
        let mut occasions = BTreeMap::new();
        let mut problems = Vec::new();
        if counts.removed > 0 || counts.deleted > 0 {
            occasions.insert(Occasion::Removed, String::new());
        }
        let failed = ended.applied.iter().filter_map(|applied| match &applied.outcome {
            Outcome::Failed(why) | Outcome::Skipped(Skip::Stopped(why)) => Some((&applied.removal, why)),
            Outcome::Done(_) | Outcome::Skipped(_) => None,
        });
        let mut where_failed = BTreeSet::new();
        for (removal, why) in failed {
            where_failed.insert(format!("{}/{}", removal.registry, removal.repository));
            problems.push(format!("{}/{}:{}: {why}", removal.registry, removal.repository, removal.tag));
        }
        for one in &ended.deleted {
            if let Outcome::Failed(why) | Outcome::Skipped(Skip::Stopped(why)) = &one.outcome {
                let place = format!("{}/{}", one.deletion.registry, one.deletion.repository);
                problems.push(format!("{place}@{}: {why}", one.digest.short()));
                where_failed.insert(place);
            }
        }
        if !where_failed.is_empty() {
            occasions.insert(Occasion::Failed, told_apart(where_failed));
        }
        if ended.outcome == RunOutcome::Refused {
            let all = || document.refusals.iter().chain(&document.deletions.refusals);
            let refusals = || all().filter(|refusal| refusal.binding || self.kind == RunKind::Plan);
            problems.extend(sentences(document, &[AttentionKind::Refused]));
            if self.kind == RunKind::Plan {
                problems.extend(sentences(document, &[AttentionKind::WouldBeRefused]));
            }
            let apart = refusals().map(|it| format!("{}/{:?}/{:?}", it.kind, it.policy, it.repository)).collect();
            occasions.insert(Occasion::Refused, told_apart(apart));
        }
        if document.evidence_missing() || !ended.lost_evidence.is_empty() {
            let mut apart = BTreeSet::new();
            for lost in &ended.lost_evidence {
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
            problems.extend(sentences(document, &EVIDENCE));
            occasions.insert(Occasion::EvidenceMissing, told_apart(apart));
        }
        Self {
            run: Some(ended.run.to_string()),
            outcome: ended.outcome.label(),
            exit_code: ended.outcome.exit_code(),
            occasions,
            whole: ended.outcome != RunOutcome::Interrupted,
            counts: Some(counts),
            problems: few(problems),
            ..self
        }
    }

    fn without(self, error: &RunError) -> Self {
        let (occasion, apart) = match error {
            RunError::Interrupted | RunError::InterruptedBy(_) => (None, "interrupted"),
            RunError::Refused(_) => (Some(Occasion::Refused), "refused"),
            RunError::Store(error) if error.kind == StoreErrorKind::Leased => (Some(Occasion::Refused), "leased"),
            RunError::Store(error) => (Some(Occasion::Failed), error.kind.label()),
            RunError::Registry(error) => (Some(Occasion::Failed), error.kind.label()),
            RunError::Invalid(_) => (Some(Occasion::Failed), "settings"),
            RunError::Usage(_) => (Some(Occasion::Failed), "usage"),
            RunError::Output(_) => (Some(Occasion::Failed), "output"),
            RunError::Failed(_) => (Some(Occasion::Failed), "failed"),
            RunError::Check(_) => (Some(Occasion::Failed), "check"),
        };
        let diagnostics = error.diagnostics();
        let problems = if diagnostics.is_empty() {
            vec![error.to_string()]
        } else {
            diagnostics.iter().map(ToString::to_string).collect()
        };
        Self {
            exit_code: error.exit_code(),
            occasions: occasion.map(|occasion| (occasion, apart.to_owned())).into_iter().collect(),
            problems: few(problems),
            ..self
        }
    }
}

/// What of a plan's evidence is missing.
const EVIDENCE: [AttentionKind; 3] =
    [AttentionKind::RegistryUnread, AttentionKind::SourceFailed, AttentionKind::RegistryPartlyUnread];

/// What a plan needs attention for, of these kinds, in the words of its report.
fn sentences(document: &PlanDocument, kinds: &[AttentionKind]) -> Vec<String> {
    document.attention.iter().filter(|found| found.is_one_of(kinds)).map(AttentionView::sentence).collect()
}

fn counts(ended: &Ended) -> Counts {
    let summary = &ended.document.summary;
    let number = |such: usize| u64::try_from(such).unwrap_or(u64::MAX);
    let count = |label: &str| number(ended.outcomes().filter(|outcome| outcome.label() == label).count());
    let deleted = number(ended.deleted.iter().filter(|one| matches!(one.outcome, Outcome::Done(_))).count());
    Counts {
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
        estimated: summary.estimated(),
    }
}

/// One short text for a set of them.
fn told_apart(set: BTreeSet<String>) -> String {
    let all: Vec<String> = set.into_iter().collect();
    Digest::of(all.join("\n").as_bytes()).to_string()
}

/// The first of them, each clipped, and how many more there are.
fn few(problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    let mut few: Vec<String> = problems
        .into_iter()
        .take(MOST_PROBLEMS)
        .map(|problem| clip(&problem.replace('\n', " "), LONGEST_PROBLEM))
        .collect();
    if more > 0 {
        few.push(format!("and {} more", report::count(u64::try_from(more).unwrap_or(u64::MAX))));
    }
    few
}

/// At most so many characters.
pub(super) fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
