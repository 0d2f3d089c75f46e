//! The data that pages and the API show about runs, tags and the journal: plain texts and numbers.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::plan_index::{PlanTag, VERDICTS};
use super::problem::Problem;
use crate::report::{EntryView, PlanDocument, ReasonView, RunContextView, RunSummary, RunView};
use crate::state::{JournalEntry, RecordedPolicy, RunKind, RunRecord, StateStore};
use crate::workflow;

/// One tag of a plan, removed or retained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct TagDto {
    pub(super) registry: String,
    pub(super) repository: String,
    pub(super) tag: String,
    pub(super) digest: Option<String>,
    pub(super) verdict: String,
    /// The policy that expires it, if it is expired.
    pub(super) policy: Option<String>,
    /// For an expired tag: `enforced`, `reported only` or `refused`.
    pub(super) enforcement: Option<&'static str>,
    pub(super) dated_at: Option<Timestamp>,
    pub(super) dated_by: String,
    pub(super) age_seconds: Option<i64>,
    pub(super) reclaimable_bytes: Option<u64>,
    pub(super) shared_bytes: Option<u64>,
    pub(super) sentences: Vec<String>,
    pub(super) reasons: Vec<ReasonView>,
}

impl TagDto {
    pub(super) fn new(tag: PlanTag, document: &PlanDocument) -> Self {
        let age = |dated: Option<Timestamp>| dated.map(|dated| document.evaluated_at.duration_since(dated).as_secs());
        let sentences = |reasons: &[ReasonView]| reasons.iter().map(ReasonView::sentence).collect();
        match tag {
            PlanTag::Removal(found) => Self {
                verdict: VERDICTS[0].to_owned(),
                enforcement: Some(match (document.refusal_of(&found), found.enforce) {
                    (Some(_), _) => "refused",
                    (None, true) => "enforced",
                    (None, false) => "reported only",
                }),
                sentences: sentences(&found.reasons),
                registry: found.registry,
                repository: found.repository,
                tag: found.tag,
                digest: Some(found.digest),
                policy: Some(found.policy),
                dated_at: found.dated_at,
                dated_by: found.dated_by,
                age_seconds: found.age_seconds,
                reclaimable_bytes: found.reclaimable_bytes,
                shared_bytes: found.shared_bytes,
                reasons: found.reasons,
            },
            PlanTag::Kept(found) => Self {
                verdict: found.verdict,
                enforcement: None,
                sentences: sentences(&found.reasons),
                registry: found.registry,
                repository: found.repository,
                tag: found.tag,
                digest: found.digest,
                policy: None,
                age_seconds: age(found.dated_at),
                dated_at: found.dated_at,
                dated_by: found.dated_by,
                reclaimable_bytes: None,
                shared_bytes: None,
                reasons: found.reasons,
            },
        }
    }
}

/// Loads entries of the journal, with the recorded facts about their runs and policies.
pub(super) async fn load_entries(store: &StateStore, journal: &[JournalEntry]) -> Result<Vec<EntryView>, Problem> {
    let ids: BTreeSet<Uuid> = journal.iter().map(|entry| entry.run).collect();
    let mut runs: BTreeMap<Uuid, (RunSummary, RunContextView)> = BTreeMap::new();
    // Most runs use the same policies, which are read once.
    let mut policies: BTreeMap<String, Vec<RecordedPolicy>> = BTreeMap::new();
    for id in ids {
        let record = store.run(&id.to_string()).await?;
        let context = store.run_context(id).await?;
        if let Some(revision) = context.revision.clone()
            && let Entry::Vacant(unread) = policies.entry(revision)
        {
            unread.insert(store.policies_of(id).await?);
        }
        runs.insert(id, (record.as_ref().map(RunSummary::from_record).unwrap_or_default(), context.into()));
    }
    let view = |entry: &JournalEntry| {
        let Some((summary, context)) = runs.get(&entry.run) else { return EntryView::new(entry, None) };
        let of_run = context.policies_revision.as_ref().and_then(|revision| policies.get(revision));
        let of_run = of_run.map(Vec::as_slice).unwrap_or_default();
        EntryView::new(entry, summary.undo_until(entry)).with_policies(of_run, context)
    };
    Ok(journal.iter().map(view).collect())
}

/// The number of runs that are searched for the latest complete one, and shown in the chart.
pub(super) const RECENT_RUNS: u32 = 200;

/// Loads the last runs, the newest first, each with its counts.
pub(super) async fn load_recent_runs(store: &StateStore) -> Result<Vec<(RunRecord, RunSummary)>, Problem> {
    let records = store.runs(RECENT_RUNS).await?;
    let summaries = workflow::run_summaries(store, &records).await?;
    Ok(records.into_iter().zip(summaries).collect())
}

/// Loads one run without the entries of its journal, which are paged.
pub(super) async fn load_run(store: &StateStore, record: &RunRecord) -> Result<RunView, Problem> {
    let summary = workflow::run_summaries(store, slice::from_ref(record)).await?.pop().unwrap_or_default();
    let counts = store.journal_counts(record.run.id).await?;
    let context = store.run_context(record.run.id).await?;
    Ok(RunView::new(record, summary).with_journal_counts(&counts).with_context(context))
}

/// Returns the run that shows the current situation: the last full one as of its own time whose plan is still stored.
pub(super) fn latest_complete_run(recent: &[(RunRecord, RunSummary)]) -> Option<&(RunRecord, RunSummary)> {
    recent.iter().find(|(record, summary)| is_complete(record, summary) && record.plan_id.is_some())
}

/// Returns true if a run evaluated everything as of its own time. An applied plan contains only what was approved.
pub(super) fn is_complete(record: &RunRecord, summary: &RunSummary) -> bool {
    matches!(record.run.kind, RunKind::Plan | RunKind::Run)
        && !summary.hypothetical
        && summary.narrowed.is_none()
        && !summary.by_registry.is_empty()
}
