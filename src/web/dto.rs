//! What pages and the API show of runs, tags and the journal: plain texts and numbers.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::plan_index::{PlanTag, VERDICTS};
use super::problem::Problem;
use crate::domain::Outcome;
use crate::report::{AttentionView, PlanDocument, ReasonView, RefusalView, SourceView, SummaryView};
use crate::state::{JournalEntry, RecordedPolicy, RunContext, RunRecord, StateStore};
use crate::workflow::RegistryCounts;

/// What the record holds of a run in numbers. Records of an older version hold less.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RunCounts {
    pub(super) plan: Option<SummaryView>,
    pub(super) hypothetical: bool,
    pub(super) by_registry: BTreeMap<String, RegistryCounts>,
    pub(super) sources: Vec<SourceView>,
    pub(super) refusals: Vec<RefusalView>,
    pub(super) attention: Vec<AttentionView>,
    pub(super) fingerprint: Option<String>,
    pub(super) gaps: u64,
    pub(super) removed: u64,
    pub(super) deleted: u64,
    pub(super) restored: u64,
    pub(super) skipped: u64,
    pub(super) failed: u64,
    pub(super) registries: BTreeMap<String, StorageChangeDto>,
}

/// What was so of a registry once something was removed from it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StorageChangeDto {
    pub(super) undo_seconds: Option<u64>,
    pub(super) stored_bytes_before: Option<u64>,
    pub(super) stored_bytes_after: Option<u64>,
    pub(super) reclaimed_bytes: Option<u64>,
}

impl RunCounts {
    pub(super) fn from_record(record: &RunRecord) -> Self {
        record.end.as_ref().and_then(|end| serde_json::from_str(&end.summary).ok()).unwrap_or_default()
    }

    /// Bytes that the registries stored less afterwards; nothing where none of them told.
    pub(super) fn reclaimed_bytes(&self) -> Option<u64> {
        self.registries.values().filter_map(|after| after.reclaimed_bytes).reduce(u64::saturating_add)
    }
}

/// A run in a list.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RunDto {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) mode: String,
    pub(super) started_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) seconds: Option<i64>,
    pub(super) by: String,
    pub(super) version: String,
    pub(super) approved_by: Option<String>,
    pub(super) ticket: Option<String>,
    /// `unfinished` where no end is on record: it still runs, or was killed.
    pub(super) outcome: String,
    pub(super) exit_code: Option<u8>,
    pub(super) error: Option<String>,
    pub(super) plan_id: Option<String>,
    /// That of its plan; nothing for runs of an older version.
    pub(super) fingerprint: Option<String>,
    pub(super) hypothetical: bool,
    pub(super) tags: Option<SummaryView>,
    pub(super) removed: u64,
    /// Manifests that had been untagged before.
    pub(super) deleted: u64,
    pub(super) restored: u64,
    pub(super) skipped: u64,
    pub(super) failed: u64,
    pub(super) reclaimed_bytes: Option<u64>,
}

impl RunDto {
    pub(super) fn from_record(record: &RunRecord) -> Self {
        Self::new(record, &RunCounts::from_record(record))
    }

    pub(super) fn new(record: &RunRecord, counts: &RunCounts) -> Self {
        let (run, end) = (&record.run, record.end.as_ref());
        Self {
            id: run.id.to_string(),
            kind: run.kind.label(),
            mode: run.mode.clone(),
            started_at: run.started_at,
            ended_at: end.map(|end| end.ended_at),
            seconds: end.map(|end| end.ended_at.duration_since(run.started_at).as_secs()),
            by: run.started_by.clone(),
            version: run.version.clone(),
            approved_by: run.approved_by.clone(),
            ticket: run.ticket.clone(),
            outcome: end.map_or_else(|| "unfinished".to_owned(), |end| end.outcome.clone()),
            exit_code: end.map(|end| end.exit_code),
            error: end.and_then(|end| end.error.clone()),
            plan_id: record.plan_id.clone(),
            fingerprint: counts.fingerprint.clone(),
            hypothetical: counts.hypothetical,
            tags: counts.plan.clone(),
            removed: counts.removed,
            deleted: counts.deleted,
            restored: counts.restored,
            skipped: counts.skipped,
            failed: counts.failed,
            reclaimed_bytes: counts.reclaimed_bytes(),
        }
    }
}

/// One tag of a plan, whichever way it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct TagDto {
    pub(super) registry: String,
    pub(super) repository: String,
    pub(super) tag: String,
    pub(super) digest: Option<String>,
    pub(super) verdict: String,
    /// The policy that lets it go, if it goes.
    pub(super) policy: Option<String>,
    /// For one that goes: `enforced`, `reported only` or `refused`.
    pub(super) standing: Option<&'static str>,
    pub(super) dated_at: Option<Timestamp>,
    pub(super) dated_by: String,
    pub(super) age_seconds: Option<i64>,
    pub(super) reclaimable_bytes: Option<u64>,
    pub(super) shared_bytes: Option<u64>,
    pub(super) why: Vec<String>,
    pub(super) reasons: Vec<ReasonView>,
}

impl TagDto {
    pub(super) fn new(tag: PlanTag, document: &PlanDocument) -> Self {
        let age = |dated: Option<Timestamp>| dated.map(|dated| document.evaluated_at.duration_since(dated).as_secs());
        let why = |reasons: &[ReasonView]| reasons.iter().map(ReasonView::sentence).collect();
        match tag {
            PlanTag::Removal(found) => Self {
                verdict: VERDICTS[0].to_owned(),
                standing: Some(match (document.refusal_of(&found), found.enforce) {
                    (Some(_), _) => "refused",
                    (None, true) => "enforced",
                    (None, false) => "reported only",
                }),
                why: why(&found.reasons),
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
                standing: None,
                why: why(&found.reasons),
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

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct JournalEntryDto {
    pub(super) number: i64,
    pub(super) run: String,
    pub(super) action: &'static str,
    pub(super) registry: String,
    pub(super) repository: String,
    pub(super) tag: String,
    pub(super) digest: String,
    pub(super) policy: Option<String>,
    /// The file that the policy stood in then, the hash of its content, and the git commit of the policies folder;
    /// `None` where that is not on record.
    pub(super) policy_file: Option<String>,
    pub(super) policy_revision: Option<String>,
    pub(super) policies_commit: Option<String>,
    pub(super) intended_at: Timestamp,
    /// `done`, `skipped` or `failed`; nothing where it is not settled yet.
    pub(super) outcome: Option<&'static str>,
    pub(super) detail: Option<String>,
    pub(super) settled_at: Option<Timestamp>,
}

impl JournalEntryDto {
    pub(super) fn new(entry: &JournalEntry) -> Self {
        let intent = &entry.intent;
        let detail = entry.outcome.as_ref().map(|(outcome, _)| match outcome {
            Outcome::Done(text) | Outcome::Failed(text) => text.clone(),
            Outcome::Skipped(skip) => skip.to_string(),
        });
        Self {
            number: entry.id.number(),
            run: entry.run.to_string(),
            action: intent.action.label(),
            registry: intent.registry.to_string(),
            repository: intent.repository.to_string(),
            tag: intent.tag.to_string(),
            digest: intent.digest.to_string(),
            policy: intent.policy.clone(),
            policy_file: None,
            policy_revision: None,
            policies_commit: None,
            intended_at: entry.intended_at,
            outcome: entry.outcome.as_ref().map(|(outcome, _)| outcome.label()),
            detail: detail.filter(|detail| !detail.is_empty()),
            settled_at: entry.outcome.as_ref().map(|(_, at)| *at),
        }
    }
}

/// Entries of the journal, with what is on record of their policies.
pub(super) async fn load_entries(
    store: &StateStore,
    journal: &[JournalEntry],
) -> Result<Vec<JournalEntryDto>, Problem> {
    let ids: BTreeSet<Uuid> =
        journal.iter().filter(|entry| entry.intent.policy.is_some()).map(|entry| entry.run).collect();
    let mut runs: BTreeMap<Uuid, RunContext> = BTreeMap::new();
    for id in ids {
        runs.insert(id, store.run_context(id).await?);
    }
    // Most runs go by the same policies, which are read once.
    let sets: BTreeMap<&str, Uuid> =
        runs.iter().filter_map(|(id, went_by)| Some((went_by.revision.as_deref()?, *id))).collect();
    let mut policies: BTreeMap<&str, Vec<RecordedPolicy>> = BTreeMap::new();
    for (revision, id) in sets {
        policies.insert(revision, store.policies_of(id).await?);
    }
    let view = |entry: &JournalEntry| {
        let mut view = JournalEntryDto::new(entry);
        let Some((policy, went_by)) = entry.intent.policy.as_ref().zip(runs.get(&entry.run)) else { return view };
        view.policies_commit.clone_from(&went_by.commit);
        let set = went_by.revision.as_deref().and_then(|revision| policies.get(revision));
        if let Some(found) = set.and_then(|set| set.iter().find(|found| found.name == *policy)) {
            view.policy_file = Some(found.file.clone());
            view.policy_revision = Some(found.revision.clone());
        }
        view
    };
    Ok(journal.iter().map(view).collect())
}

/// How many runs are looked through for the one that says how things stand, and for the chart.
pub(super) const RECENT_RUNS: u32 = 200;

/// The last runs, the newest first, each with its numbers.
pub(super) async fn load_recent_runs(store: &StateStore) -> Result<Vec<(RunRecord, RunCounts)>, Problem> {
    let records = store.runs(RECENT_RUNS).await?;
    Ok(records
        .into_iter()
        .map(|record| {
            let counts = RunCounts::from_record(&record);
            (record, counts)
        })
        .collect())
}

/// The run that says how things stand: the last one that looked at everything as of its own time, and whose plan is
/// still kept.
pub(super) fn latest_complete_run(recent: &[(RunRecord, RunCounts)]) -> Option<&(RunRecord, RunCounts)> {
    recent.iter().find(|(record, counts)| is_complete(record, counts) && record.plan_id.is_some())
}

/// Whether a run looked at everything as of its own time. What is applied holds only what was approved once.
pub(super) fn is_complete(record: &RunRecord, counts: &RunCounts) -> bool {
    use crate::state::RunKind;
    matches!(record.run.kind, RunKind::Plan | RunKind::Run) && !counts.hypothetical && !counts.by_registry.is_empty()
}
