//! The history of a tag over the years, from the state and one query of the registry.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use jiff::Timestamp;
use uuid::Uuid;

use super::decision_history::past_decisions;
use super::{App, RunError, TagRef};
use crate::domain::{Action, Hold, Outcome, Policy, RegistryName, RepositoryName, TagName};
use crate::report::{
    EntryView, HistoryEntryView, HistoryHoldView, HistoryView, LastSeenView, RunContextView, TagRecordView,
};
use crate::state::{JournalEntry, LastSeen, RecordedPolicy, RunContext, RunRecord, StateError, StateStore};

/// The limits of what is read of a tag's record, from the newest back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// The number of plans with anything of the repository that are searched for decisions.
    pub plans: usize,
    /// The number of journal entries.
    pub entries: usize,
}

/// The record of a tag, as far as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct TagRecord {
    /// Its decisions, holds and actions.
    pub view: TagRecordView,
    /// The number of older journal entries that were not read.
    pub omitted_entries: u64,
    /// True if the last completed action is its removal.
    pub is_removed: bool,
}

/// The recorded facts about a run that an entry of its journal needs.
pub(super) struct RunInfo {
    record: Option<RunRecord>,
    context: RunContext,
    policies: Vec<RecordedPolicy>,
}

impl App {
    /// Returns the history of a tag: decisions of stored plans, removals, restores, skips and holds, and its last
    /// sighting.
    ///
    /// # Errors
    /// Returns an error if no tag is named, or the state cannot be read. An unreadable registry is not an error: the
    /// history then says that the tag's existence is unknown.
    pub async fn history(&self, named: &TagRef) -> Result<HistoryView, RunError> {
        let TagRef { registry, repository, tag: Some(tag) } = named else {
            return Err(RunError::usage("name a tag: HOST/REPOSITORY:TAG or REGISTRY/REPOSITORY:TAG".to_owned()));
        };
        let everything = RecordLimits { plans: usize::MAX, entries: usize::MAX };
        let of_tag = (registry, repository, tag);
        let TagRecord { view, is_removed, .. } = tag_record(&self.store, of_tag, self.now(), everything).await?;
        let exists = match self.readers.get(registry) {
            Some(reader) => match reader.resolve(repository, tag).await {
                Ok(found) => Some(found.is_some()),
                Err(error) => {
                    tracing::warn!(%registry, %repository, %tag, kind = error.kind.label(),
                        "cannot look whether the tag is there now: {}", error.chain());
                    None
                }
            },
            None => None,
        };
        Ok(HistoryView {
            schema: "tagwarden.history/1",
            registry: registry.to_string(),
            repository: repository.to_string(),
            tag: tag.to_string(),
            exists,
            last_seen: self.last_seen(registry, repository, tag).await?.map(last_seen_view),
            removed_by_tagwarden: exists != Some(true) && is_removed,
            record: view,
        })
    }

    /// Returns the last sighting of a tag by a complete read.
    pub(super) async fn last_seen(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<LastSeen>, RunError> {
        let settings = self.settings.registries.iter().find(|settings| settings.name == *registry);
        let Some(settings) = settings else { return Ok(None) };
        let endpoint = settings.endpoint.as_str().trim_end_matches('/');
        Ok(self.store.last_seen(endpoint, repository, tag).await?)
    }

    /// Stores the policies of a starting run, for later questions about it.
    pub(super) async fn record_policies(&self, went_by: &RunContext) -> Result<(), RunError> {
        let Some(revision) = &went_by.revision else { return Ok(()) };
        let recorded = |policy: &Policy| RecordedPolicy {
            name: policy.name.to_string(),
            mode: policy.mode.label().to_owned(),
            file: policy.file.to_string(),
            revision: policy.revision.to_string(),
        };
        let policies: Vec<RecordedPolicy> = self.policies.policies.iter().map(recorded).collect();
        Ok(self.store.record_policies(revision, &policies, &self.policies.texts).await?)
    }
}

/// Reads the record of a tag at the time `now`.
///
/// # Errors
/// Returns an error if the state cannot be read.
pub async fn tag_record(
    store: &StateStore,
    of_tag: (&RegistryName, &RepositoryName, &TagName),
    now: Timestamp,
    limits: RecordLimits,
) -> Result<TagRecord, StateError> {
    let (registry, repository, tag) = of_tag;
    let journal = store.journal_of_tag(registry, repository, tag).await?;
    let omitted = journal.len().saturating_sub(limits.entries);
    let mut runs: BTreeMap<Uuid, RunInfo> = BTreeMap::new();
    for entry in &journal[omitted..] {
        if let Entry::Vacant(unread) = runs.entry(entry.run) {
            unread.insert(load_run_info(store, entry.run).await?);
        }
    }
    let entries = journal[omitted..].iter().filter_map(|entry| Some(entry_view(entry, runs.get(&entry.run)?)));
    let is_of_tag = |hold: &Hold| (&hold.registry, &hold.repository, &hold.tag) == of_tag;
    let in_force = store.holds(now).await?;
    let over = store.ended_holds(now).await?;
    let in_force = in_force.iter().filter(|hold| is_of_tag(hold)).map(HistoryHoldView::from);
    let over = over.iter().filter(|ended| is_of_tag(&ended.hold)).map(HistoryHoldView::from);
    let mut holds: Vec<HistoryHoldView> = in_force.chain(over).collect();
    holds.sort_by_key(|held| held.hold.since);
    let events: Vec<Timestamp> = journal.iter().map(|entry| entry.intended_at).collect();
    let (decisions, plans) = past_decisions(store, of_tag, (limits.plans, &events)).await?;
    Ok(TagRecord {
        view: TagRecordView { plans, decisions, holds, entries: entries.collect() },
        omitted_entries: omitted as u64,
        is_removed: is_removed(&journal),
    })
}

pub(super) async fn load_run_info(store: &StateStore, run: Uuid) -> Result<RunInfo, StateError> {
    Ok(RunInfo {
        record: store.run(&run.to_string()).await?,
        context: store.run_context(run).await?,
        policies: store.policies_of(run).await?,
    })
}

/// Returns true if the last completed action on a tag is its removal.
pub(super) fn is_removed(journal: &[JournalEntry]) -> bool {
    let done = |entry: &&JournalEntry| matches!(entry.outcome, Some((Outcome::Done(_), _)));
    let of_tag = |entry: &&JournalEntry| matches!(entry.intent.action, Action::Remove(_) | Action::Restore);
    let last = journal.iter().filter(done).rfind(of_tag);
    last.is_some_and(|entry| matches!(entry.intent.action, Action::Remove(_)))
}

fn last_seen_view(seen: LastSeen) -> LastSeenView {
    let LastSeen { digest, at, missed_at } = seen;
    LastSeenView { at, digest, missing_since: missed_at }
}

pub(super) fn entry_view(entry: &JournalEntry, of_run: &RunInfo) -> HistoryEntryView {
    let run = of_run.record.as_ref().map(|record| &record.run);
    let went_by = RunContextView { policies_commit: of_run.context.commit.clone(), ..RunContextView::default() };
    HistoryEntryView {
        command: run.map_or_else(String::new, |run| run.kind.label().to_owned()),
        mode: run.map_or_else(String::new, |run| run.mode.clone()),
        by: run.map_or_else(|| "unknown".to_owned(), |run| run.started_by.clone()),
        approved_by: run.and_then(|run| run.approved_by.clone()),
        signed_by: of_run.record.as_ref().and_then(|record| record.signed_by.clone()),
        ticket: run.and_then(|run| run.ticket.clone()),
        entry: EntryView::new(entry, None).with_policies(&of_run.policies, &went_by),
    }
}
