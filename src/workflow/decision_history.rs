//! The decisions of past plans on one tag, as far as their plans are stored.

use std::io;

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::{RegistryName, RepositoryName, TagName};
use crate::report::{DecisionView, KeptView, PlanCoverageView, ReasonView, RemovalView};
use crate::state::{PlanChunk, RepositoryPlan, StateError, StateStore};

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

/// Returns the decisions of the stored plans on a tag, the oldest first, and the extent of these plans; plans in a row
/// that decided the same are one, unless something happened to the tag in between, at one of the times `events`. Older
/// plans have their removals only, so what they kept is not among these. At most the last `limit` plans that have
/// anything of the repository are searched.
pub(super) async fn past_decisions(
    store: &StateStore,
    (registry, repository, tag): (&RegistryName, &RepositoryName, &TagName),
    (limit, events): (usize, &[Timestamp]),
) -> Result<(Vec<DecisionView>, PlanCoverageView), StateError> {
    let mut plans = store.plans_of_repository(registry.as_str(), repository.as_str()).await?;
    let with_chunks = plans.iter().enumerate().rev().filter(|(_, plan)| !plan.chunks.is_empty());
    let before = with_chunks.map(|(position, _)| position).nth(limit).map_or(0, |position| position + 1);
    plans.drain(..before);
    let mut coverage = PlanCoverageView {
        searched: plans.len() as u64,
        since: plans.first().map(|plan| plan.started_at),
        unreadable: 0,
        partial: before > 0,
    };
    let mut found: Vec<DecisionView> = Vec::new();
    // False once a plan did not list the tag, so that the next decision is a new one.
    let mut continues = false;
    for plan in plans {
        let decided = decision_of(store, &plan, tag.as_str()).await?.unwrap_or_else(|_| {
            coverage.unreadable += 1;
            None
        });
        let Some(Decided { verdict, digest, policy, enforce, reasons }) = decided else {
            continues = false;
            continue;
        };
        let (run, at) = (plan.run.to_string(), plan.started_at);
        let same = found.last_mut().filter(|last| {
            continues
                && !events.iter().any(|event| last.last_at <= *event && *event < at)
                && (&last.verdict, &last.digest, &last.policy) == (&verdict, &digest, &policy)
        });
        match same.filter(|last| last.enforce == enforce) {
            Some(last) => {
                last.plans += 1;
                (last.last_run, last.last_at) = (run, at);
                last.last_reasons = Some(reasons).filter(|reasons| *reasons != last.reasons);
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
                last_reasons: None,
            }),
        }
        continues = true;
    }
    Ok((found, coverage))
}

/// A plan that is damaged, or of another version.
struct Unreadable;

/// Returns the decision of one plan; `None` if it does not list the tag.
async fn decision_of(
    store: &StateStore,
    plan: &RepositoryPlan,
    tag: &str,
) -> Result<Result<Option<Decided>, Unreadable>, StateError> {
    for ordinal in &plan.chunks {
        // Pruned since the chunks were listed.
        let Some(chunk) = store.plan_chunk(plan.run, *ordinal).await? else { continue };
        let tag = tag.to_owned();
        match tokio::task::spawn_blocking(move || decision_in(&chunk, &tag)).await {
            Ok(Ok(None)) => {}
            Ok(Ok(found)) => return Ok(Ok(found)),
            Ok(Err(_)) | Err(_) => return Ok(Err(Unreadable)),
        }
    }
    Ok(Ok(None))
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
