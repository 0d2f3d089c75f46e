//! The journal of a period: everything that was removed, restored or skipped in it, of all runs.

use super::history::{entry_view, load_run_info};
use super::lookup::PAGE;
use super::{App, RunError, RunQuery};
use crate::report::{self, HistoryEntryView};
use crate::state::{JournalEntry, RunKind};

impl App {
    /// Returns the entries of all journals in a period, the oldest first. The period is that of the entries: a run may
    /// have begun before.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub async fn journal_of_period(&self, query: &RunQuery) -> Result<Vec<HistoryEntryView>, RunError> {
        let includes = |entry: &&JournalEntry| {
            query.since.is_none_or(|since| entry.intended_at >= since)
                && query.until.is_none_or(|until| entry.intended_at < until)
        };
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = self.store.runs_before(before, PAGE).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.run.id);
            let can_have =
                |kind: RunKind| kind != RunKind::Plan && (query.kinds.is_empty() || query.kinds.contains(&kind));
            for record in page.iter().filter(|record| can_have(record.run.kind)) {
                // Its end does not matter: an entry may be added long after it, for a removal settled late.
                if query.until.is_some_and(|until| record.run.started_at >= until) {
                    continue;
                }
                let journal = self.store.journal(record.run.id).await?;
                let mut entries = journal.iter().filter(includes).peekable();
                if entries.peek().is_none() {
                    continue;
                }
                let of_run = load_run_info(&self.store, record.run.id).await?;
                found.extend(entries.map(|entry| {
                    let mut view = entry_view(entry, &of_run);
                    view.entry.undo_until = report::undo_until(record, entry);
                    view
                }));
            }
        }
        found.sort_by_key(|view| (view.entry.intended_at, view.entry.number));
        Ok(found)
    }
}
