//! The part of a report that somebody decides on, in the markup of ticket systems that do not render Markdown: mode,
//! removals by repository, refusals, what needs attention, and what to do next.

mod dialect;

pub use dialect::TicketDialect;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::humanize::format_count;
use super::skips::fold_skips;
use super::summary::{RESTORE_INSTRUCTIONS, RemovalStatus, describe_mode, describe_validity, headline, next_steps};
use super::{AttentionView, EntryView, PlanDocument, RunView};

/// A ticket with room for so much text.
struct Ticket {
    dialect: TicketDialect,
    /// Bytes that lists may still take.
    room: usize,
    parts: Vec<String>,
}

impl Ticket {
    /// Creates a ticket; the lists get the room that head and foot leave.
    fn new(dialect: TicketDialect, head: Vec<String>, foot: &[String]) -> Self {
        let used: usize = head.iter().chain(foot).map(|part| part.len() + 1).sum();
        Self { dialect, room: dialect.max_bytes().saturating_sub(used + 100), parts: head }
    }

    /// Adds a list with its title, as many rows as fit, and the number of the others; nothing for an empty list.
    fn add_list(&mut self, title: &str, count: usize, rows: impl Iterator<Item = String>) {
        let title = self.dialect.heading(title);
        // Room for the number of others.
        let mut room = self.room.saturating_sub(title.len() + 80);
        let mut shown = Vec::new();
        for row in rows {
            let row = self.dialect.bullet(&row);
            if row.len() + 1 > room {
                break;
            }
            room -= row.len() + 1;
            shown.push(row);
        }
        let others = count - shown.len().min(count);
        if others > 0 {
            shown
                .push(self.dialect.bullet(&format!("and {} more in the attached report", format_count(others as u64))));
        }
        if !shown.is_empty() {
            let list = self.dialect.list(&shown);
            self.room = self.room.saturating_sub(title.len() + list.len() + 2);
            self.parts.extend([title, list]);
        }
    }

    fn finish(mut self, foot: Vec<String>) -> String {
        self.parts.extend(foot);
        self.dialect.document(&self.parts)
    }
}

/// Renders a plan.
pub(super) fn plan_ticket(document: &PlanDocument, dialect: TicketDialect) -> String {
    let head = vec![
        dialect.heading("Tagwarden plan"),
        dialect.strong(&describe_mode(document)),
        dialect.paragraph(&headline(document)),
    ];
    let steps: Vec<String> = next_steps(document).iter().map(|step| dialect.advice_bullet(step)).collect();
    let foot = vec![
        dialect.heading("What next"),
        dialect.list(&steps),
        dialect.advice(&describe_validity(document)),
        dialect.advice(RESTORE_INSTRUCTIONS),
    ];
    let mut ticket = Ticket::new(dialect, head, &foot);
    let removals = removals_by_repository(document);
    ticket.add_list("Would be removed", removals.len(), removals.into_iter());
    let refusals = document.refusals.iter().map(|refusal| {
        let mark = if refusal.binding { "" } else { "would be refused: " };
        format!("{mark}{}", refusal.message)
    });
    ticket.add_list("Refused", document.refusals.len(), refusals);
    let attention: Vec<&AttentionView> = document
        .attention
        .iter()
        .filter(|found| !matches!(found.kind.as_str(), "refused" | "would-be-refused"))
        .collect();
    ticket.add_list("Needs attention", attention.len(), attention.iter().map(|found| found.sentence()));
    ticket.finish(foot)
}

/// Returns a line for each repository, policy and enforcement, with most removals first.
fn removals_by_repository(document: &PlanDocument) -> Vec<String> {
    let mut counts: BTreeMap<(String, String, RemovalStatus), u64> = BTreeMap::new();
    for (removal, count) in document.removals.groups() {
        let place = format!("{}/{}", removal.registry, removal.repository);
        *counts.entry((place, removal.policy.clone(), RemovalStatus::of(document, &removal))).or_default() += count;
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|(_, count)| Reverse(*count));
    let line = |((place, policy, status), count): ((String, String, RemovalStatus), u64)| {
        format!("{place}: {} by {policy} ({})", super::counted(count, "tag"), status.label())
    };
    sorted.into_iter().map(line).collect()
}

/// Renders a past run.
pub(super) fn run_ticket(run: &RunView, dialect: TicketDialect) -> String {
    let head = vec![dialect.heading(&run.headline()), dialect.strong(&run.describe_counts())];
    let facts: Vec<String> =
        run.facts().iter().map(|(what, value)| dialect.bullet(&format!("{what}: {value}"))).collect();
    let foot = vec![dialect.heading("Run"), dialect.list(&facts), dialect.advice(&run.restore_instructions())];
    let mut ticket = Ticket::new(dialect, head, &foot);
    ticket.add_list("Needs attention", run.attention.len(), run.attention.iter().map(AttentionView::sentence));
    let (removed, open): (Vec<&EntryView>, Vec<&EntryView>) =
        run.entries_by_name().into_iter().partition(|entry| entry.outcome_label() == "done");
    let (listed, folded) = fold_skips(&open, |entry| entry.skipped());
    let line = |entry: &EntryView| format!("{} {}: {}", entry.outcome_label(), entry.name(), entry.outcome_text());
    let rows = listed
        .iter()
        .map(|entry| line(entry))
        .chain(folded.iter().map(|group| format!("skipped {}", group.sentence())));
    ticket.add_list("Not done", listed.len() + folded.len(), rows);
    ticket.add_list("Done", removed.len(), removed.iter().map(|entry| format!("{} {}", entry.action, entry.name())));
    ticket.finish(foot)
}
