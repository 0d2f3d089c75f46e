//! The audit record of a run: counts and log lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::PoisonError;

use uuid::Uuid;

use super::{App, RunResult, StorageChange};
use crate::apply::RestoreResult;
use crate::config::Mode;
use crate::domain::{Action, Outcome, RegistryName, RemovalMethod, SkipReason};
use crate::registry::RequestCounts;
use crate::report::{self, AttentionKind, AttentionView, PlanDocument, RegistryCounts, RunSummary, SummaryView};

/// The requests of the registries' connections at the last count.
#[derive(Default)]
pub(super) struct RequestCounter {
    before: BTreeMap<RegistryName, RequestCounts>,
}

impl App {
    /// Returns the requests since the last call.
    pub(super) fn take_request_counts(&self) -> BTreeMap<RegistryName, RequestCounts> {
        let mut asked = self.request_counter.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<_, _> =
            self.readers.iter().map(|(registry, reader)| (registry.clone(), reader.request_counts())).collect();
        let before = std::mem::replace(&mut asked.before, now.clone());
        now.into_iter()
            .map(|(registry, now)| {
                let earlier = before.get(&registry).copied().unwrap_or_default();
                (registry, now.since(earlier))
            })
            .collect()
    }
}

impl App {
    /// Counts the actions of a failed run for its record, and returns how to undo its removals, if there are any. They are
    /// in the journal alone, because a failed run returns no result.
    pub(super) async fn failed_run_summary(&self, run: Uuid) -> (RunSummary, Option<String>) {
        let entries = match self.store.journal_counts(run).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%run, "cannot count what the run did before it failed: {}", error.chain());
                return (RunSummary::default(), None);
            }
        };
        let mut undo = None;
        let tags = [RemovalMethod::Untag, RemovalMethod::DeleteManifest].map(|method| Action::Remove(method).label());
        let manifests = [Action::DeleteUntagged.label()];
        let count = |actions: &[&str], outcome: Option<&str>| -> u64 {
            let counted = entries.iter().filter(|entry| actions.contains(&entry.action.as_str()));
            counted.filter(|entry| entry.outcome.as_deref() == outcome).map(|entry| entry.count.unsigned_abs()).sum()
        };
        let both = |outcome| count(&tags, outcome) + count(&manifests, outcome);
        let (removed, deleted, open) = (count(&tags, Some("done")), count(&manifests, Some("done")), both(None));
        if removed + deleted + open > 0 {
            let mut words = report::counted(removed, "tag") + " removed before the run failed";
            if deleted > 0 {
                let _ = write!(words, ", {} deleted", report::counted(deleted, "untagged manifest"));
            }
            if open > 0 {
                let _ = write!(words, ", {} with an outcome that the next run finds out", report::format_count(open));
            }
            undo = Some(format!("{words}; to undo: tagwarden restore --run {run}"));
        }
        let summary = RunSummary {
            removed: Some(removed),
            deleted: Some(deleted),
            skipped: Some(both(Some("skipped"))),
            failed: Some(both(Some("failed"))),
            ..RunSummary::default()
        };
        (summary, undo)
    }
}

/// Returns the counts for each registry.
pub(super) fn counts_by_registry(
    document: &PlanDocument,
    requested: &BTreeMap<RegistryName, RequestCounts>,
) -> BTreeMap<String, RegistryCounts> {
    let mut counts: BTreeMap<String, RegistryCounts> = BTreeMap::new();
    for registry in &document.registries {
        let requests = requested.iter().find(|(name, _)| name.as_str() == registry.name);
        let found = SummaryView { bytes: document.bytes_label(&registry.name).to_owned(), ..SummaryView::default() };
        let requests = requests.map(|(_, requests)| *requests).unwrap_or_default();
        counts.insert(registry.name.clone(), RegistryCounts { summary: found, reported_only: 0, requests });
    }
    for (removal, count) in document.removals.groups() {
        let Some(counts) = counts.get_mut(&removal.registry) else { continue };
        counts.summary.tags += count;
        counts.summary.expired += count;
        if !removal.enforce || document.refusal_of(&removal).is_some() {
            counts.reported_only += count;
        }
    }
    for (kept, count) in document.kept.groups() {
        let Some(RegistryCounts { summary: found, .. }) = counts.get_mut(&kept.registry) else { continue };
        found.tags += count;
        match kept.verdict.as_str() {
            "retained" => found.retained += count,
            "protected" => found.protected += count,
            "undecided" => found.undecided += count,
            _ => found.out_of_scope += count,
        }
    }
    add_bytes(document, &mut counts);
    counts
}

/// Adds the bytes that removals would free. Plans of an older version have them for each removal only.
fn add_bytes(document: &PlanDocument, counts: &mut BTreeMap<String, RegistryCounts>) {
    for there in &document.storage {
        let Some(RegistryCounts { summary: found, .. }) = counts.get_mut(&there.registry) else { continue };
        found.reclaimable_bytes = there.exclusive_bytes;
        found.shared_bytes = there.shared_bytes;
        found.unknown_bytes_removals = there.unknown_removals;
    }
    if !document.storage.is_empty() {
        return;
    }
    for removal in document.removals.iter() {
        let Some(RegistryCounts { summary: found, .. }) = counts.get_mut(&removal.registry) else { continue };
        match removal.reclaimable_bytes {
            Some(bytes) => found.reclaimable_bytes += bytes,
            None => found.unknown_bytes_removals += 1,
        }
        found.shared_bytes += removal.shared_bytes.unwrap_or_default();
    }
}

impl RunResult {
    /// Returns the items that need a person's attention, the most urgent first.
    #[must_use]
    pub fn attention(&self) -> Vec<AttentionView> {
        let mut found = self.document.attention.clone();
        let unread = found.iter().take_while(|found| found.is_one_of(&[AttentionKind::RegistryUnread])).count();
        found.splice(unread..unread, self.failed_sources.iter().cloned());
        let applied = self.applied.iter().map(|one| {
            let removal = &one.removal;
            (format!("{}/{}:{}", removal.registry, removal.repository, removal.tag), &one.outcome)
        });
        let deleted = self.deleted.iter().map(|one| {
            let deletion = &one.deletion;
            (format!("{}/{}@{}", deletion.registry, deletion.repository, one.digest.short()), &one.outcome)
        });
        let mut failed = applied.chain(deleted).filter_map(|(name, outcome)| match outcome {
            Outcome::Failed(why) | Outcome::Skipped(SkipReason::Stopped(why)) => Some((name, why)),
            Outcome::Done(_) | Outcome::Skipped(_) => None,
        });
        if let Some((name, why)) = failed.next() {
            let number = 1 + failed.count() as u64;
            let first = if number == 1 { "" } else { ", the first" };
            let message = format!("{} not done{first}: {name}: {why}", report::counted(number, "removal"));
            let remedy = format!("`tagwarden runs show {}` lists them; the next run tries again", self.run);
            found.push(AttentionView::new(AttentionKind::RemovalsFailed, &name, &message, Some(remedy)));
        }
        if self.missing_manifests > 0 {
            let removals = report::counted(self.missing_manifests, "removal");
            let message = format!("{removals} can be undone only while the registry keeps the manifest");
            let remedy = "the next run reads it again; the log names what could not be read".to_owned();
            found.push(AttentionView::new(AttentionKind::ManifestsMissing, "journal", &message, Some(remedy)));
        }
        found
    }
}

/// Logs gaps in the evidence of a decision and its refusals: each once, with cause and remedy.
pub(super) fn log_warnings(document: &PlanDocument) {
    use AttentionKind::{Refused, RegistryPartlyUnread, RegistryUnread, SourceFailed};
    let urgent =
        |found: &&AttentionView| found.is_one_of(&[RegistryUnread, SourceFailed, RegistryPartlyUnread, Refused]);
    for found in document.attention.iter().filter(urgent) {
        tracing::warn!(kind = found.kind, about = found.about, "{}", found.sentence());
    }
}

/// Returns the counts of a run for its record.
pub(super) fn run_summary(result: &RunResult) -> RunSummary {
    let count = |label: &str| result.outcomes().filter(|outcome| outcome.label() == label).count() as u64;
    let deleted = result.deleted.iter().filter(|one| matches!(one.outcome, Outcome::Done(_))).count() as u64;
    let document = &result.document;
    RunSummary {
        plan: Some(document.summary.clone()),
        fingerprint: Some(document.fingerprint.clone()),
        attention: Some(result.attention()),
        hypothetical: document.hypothetical,
        narrowed: document.narrowed.clone(),
        accepted: document.accepted.clone(),
        by_registry: result.by_registry.clone(),
        sources: document.sources.clone(),
        refusals: document.refusals.clone(),
        gaps: document.registries.iter().map(|registry| registry.gaps.len() as u64).sum(),
        removed: Some(count("done") - deleted),
        deleted: Some(deleted),
        restored: None,
        skipped: Some(count("skipped")),
        failed: Some(count("failed")),
        pending_schedule: result.pending_schedule,
        blocked_by: result.context.blocked_by.clone(),
        clock: document.registries.iter().find_map(|registry| registry.clock.clone()),
        pruned: result.forgotten.map(Into::into),
        storage: result.storage_changes.iter().map(StorageChange::summary_entry).collect(),
    }
}

/// Returns the counts of a restore for its record.
pub(super) fn restore_summary(restored: &[RestoreResult]) -> RunSummary {
    let count = |label: &str| restored.iter().filter(|one| one.outcome.label() == label).count() as u64;
    RunSummary {
        restored: Some(count("done")),
        skipped: Some(count("skipped")),
        failed: Some(count("failed")),
        ..RunSummary::default()
    }
}

/// Returns a self-contained summary of a run on one line.
pub(super) fn summary_line(result: &RunResult, mode: Mode, policies: usize) -> String {
    let summary = &result.document.summary;
    let done = result.applied.iter().filter(|applied| matches!(applied.outcome, Outcome::Done(_))).count();
    let deleted = result.deleted.iter().filter(|one| matches!(one.outcome, Outcome::Done(_))).count();
    let blocked_by = result.context.blocked_by.as_deref();
    let what = if result.outcomes().next().is_none() && (mode != Mode::Enforce || blocked_by.is_some()) {
        "dry run"
    } else {
        "run"
    };
    let unread: Vec<String> = result
        .document
        .attention
        .iter()
        .filter(|found| found.is_one_of(&[AttentionKind::RegistryUnread]))
        .map(|found| found.message.clone())
        .collect();
    if summary.tags == 0 && !unread.is_empty() {
        return format!("{what} {}: nothing was read: {}", result.run, unread.join("; "));
    }
    let mut line = format!(
        "{what} {} of {policies} {}: {} tags, {} would be removed ({}{} reclaimable), {}, {} retained, {} undecided, {done} removed",
        result.run,
        if policies == 1 { "policy" } else { "policies" },
        report::format_count(summary.tags),
        report::format_count(summary.expired),
        if summary.is_estimated() { "about " } else { "" },
        report::format_bytes(summary.reclaimable_bytes),
        describe_protected(result),
        report::format_count(summary.retained),
        report::format_count(summary.undecided),
    );
    if deleted > 0 {
        let _ = write!(line, ", {} deleted", report::counted(deleted as u64, "untagged manifest"));
    }
    if result.pending_schedule > 0 {
        let _ =
            write!(line, ", {} wait for the schedule of their policy", report::format_count(result.pending_schedule));
    }
    let refused = result.document.attention.iter().filter(|found| found.is_one_of(&[AttentionKind::Refused]));
    for words in unread.iter().chain(refused.map(|found| &found.message).take(1)) {
        let _ = write!(line, "; {words}");
    }
    if let Some(why) = blocked_by {
        let _ = write!(line, "; removals are held back, {why}");
    }
    line
}

/// Formats counts such as `41 protected (37 by aks-prod)`; a tag that several sources protect counts for each of them.
fn describe_protected(result: &RunResult) -> String {
    let by = result.document.sources.iter().filter(|source| source.protects > 0);
    let by: Vec<String> =
        by.map(|source| format!("{} by {}", report::format_count(source.protects), source.name)).collect();
    let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
    format!("{} protected{by}", report::format_count(result.document.summary.protected))
}
