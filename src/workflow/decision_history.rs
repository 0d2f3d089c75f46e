//! The decisions of past plans on one tag, as far as their plans are stored.

use std::io;

use serde::Deserialize;

use super::{App, RunError};
use crate::domain::{RegistryName, RepositoryName, TagName};
use crate::report::{DecisionView, KeptView, ReasonView, RemovalView, RunSummary};
use crate::state::{PlanChunk, RunKind, RunRecord};

/// The number of runs whose plans are looked at.
const RECENT_RUNS: u32 = 200;

/// The decision of one plan on the tag.
struct Decided {
    verdict: String,
    digest: Option<String>,
    policy: Option<String>,
    enforce: Option<bool>,
    reasons: Vec<ReasonView>,
}

/// The name of a tag in either list of a plan.
#[derive(Deserialize)]
struct TagHead {
    tag: String,
}

impl App {
    /// Returns the decisions of the stored plans on a tag, the oldest first; plans in a row that decided the same are
    /// one. Older plans have their removals only, so what they kept is not among these.
    pub(super) async fn past_decisions(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Vec<DecisionView>, RunError> {
        let mut found: Vec<DecisionView> = Vec::new();
        // False once a plan did not list the tag, so that the next decision is a new one.
        let mut continues = false;
        for record in self.store.runs(RECENT_RUNS).await?.iter().rev().filter(|record| is_of_everything(record)) {
            let decided = self.decision_of(record, (registry.as_str(), repository.as_str(), tag.as_str())).await?;
            let Some(Decided { verdict, digest, policy, enforce, reasons }) = decided else {
                continues = false;
                continue;
            };
            let (run, at) = (record.run.id.to_string(), record.run.started_at);
            let same = found.last_mut().filter(|last| {
                continues && (&last.verdict, &last.digest, &last.policy) == (&verdict, &digest, &policy)
            });
            match same.filter(|last| last.enforce == enforce) {
                Some(last) => {
                    last.plans += 1;
                    (last.last_run, last.last_at, last.reasons) = (run, at, reasons);
                }
                None => found.push(DecisionView {
                    verdict,
                    digest,
                    policy,
                    enforce,
                    first_run: run.clone(),
                    first_at: at,
                    last_run: run,
                    last_at: at,
                    plans: 1,
                    reasons,
                }),
            }
            continues = true;
        }
        Ok(found)
    }

    /// Returns the decision of one plan; `None` if it does not list the tag, or can no longer be read.
    async fn decision_of(
        &self,
        record: &RunRecord,
        (registry, repository, tag): (&str, &str, &str),
    ) -> Result<Option<Decided>, RunError> {
        let run = record.run.id;
        for info in self.store.plan_chunks(run).await? {
            let is_it = info.registry == registry && info.repository == repository;
            if !is_it || info.counts.expired == 0 && !info.has_kept {
                continue;
            }
            let Some(chunk) = self.store.plan_chunk(run, info.ordinal).await? else { continue };
            let tag = tag.to_owned();
            let read = tokio::task::spawn_blocking(move || decision_in(&chunk, &tag));
            // An unreadable plan, such as one of another version, has no decisions.
            if let Ok(Ok(Some(decided))) = read.await {
                return Ok(Some(decided));
            }
        }
        Ok(None)
    }
}

/// Returns true for a run that decided about everything as of its own time, and whose plan is stored.
fn is_of_everything(record: &RunRecord) -> bool {
    let summary = RunSummary::from_record(record);
    record.plan_id.is_some()
        && matches!(record.run.kind, RunKind::Plan | RunKind::Run)
        && !summary.hypothetical
        && summary.narrowed.is_none()
}

fn decision_in(chunk: &PlanChunk, tag: &str) -> io::Result<Option<Decided>> {
    let removals = PlanChunk::json(&chunk.removals)?;
    if let Some(position) = position_of(&removals, tag)? {
        let RemovalView { digest, policy, enforce, reasons, .. } = view_at(&removals, position)?;
        let (digest, policy, enforce) = (Some(digest), Some(policy), Some(enforce));
        return Ok(Some(Decided { verdict: "expired".to_owned(), digest, policy, enforce, reasons }));
    }
    let kept = PlanChunk::json(&chunk.kept)?;
    let Some(position) = position_of(&kept, tag)? else { return Ok(None) };
    let KeptView { verdict, digest, reasons, .. } = view_at(&kept, position)?;
    Ok(Some(Decided { verdict, digest, policy: None, enforce: None, reasons }))
}

fn position_of(list: &[u8], tag: &str) -> io::Result<Option<usize>> {
    let heads: Vec<TagHead> = serde_json::from_slice(list)?;
    Ok(heads.iter().position(|head| head.tag == tag))
}

fn view_at<V: serde::de::DeserializeOwned>(list: &[u8], position: usize) -> io::Result<V> {
    let texts: Vec<&serde_json::value::RawValue> = serde_json::from_slice(list)?;
    let text = texts.get(position).ok_or(io::ErrorKind::InvalidData)?;
    Ok(serde_json::from_str(text.get())?)
}
