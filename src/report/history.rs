//! The history of a tag: everything that Tagwarden did or skipped, and when the tag was last seen.

use jiff::Timestamp;
use serde::Serialize;

use super::notation::{format_minute, short_digest};
use super::text::{heading, line};
use super::{EntryView, ReasonView};

/// The history of a tag.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryView {
    /// Always `tagwarden.history/1`.
    pub schema: &'static str,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// True if it is in the registry now; `None` if the registry did not answer.
    pub exists: Option<bool>,
    /// Its last sighting; `None` if no complete run saw it, as far back as the state goes.
    pub last_seen: Option<LastSeenView>,
    /// True if the last known event is its removal by Tagwarden.
    pub removed_by_tagwarden: bool,
    /// The actions done or skipped, the oldest first.
    pub entries: Vec<HistoryEntryView>,
}

/// The last sighting of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastSeenView {
    /// Time of the last complete run that saw it.
    pub at: Timestamp,
    /// Its digest then, shortened.
    pub digest: String,
    /// Time of the first complete run without it; `None` if there was none since.
    pub missing_since: Option<Timestamp>,
}

/// An entry of the journal, with its run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryEntryView {
    /// The command of its run.
    pub command: String,
    /// The user who started it.
    pub by: String,
    /// The approver of the plan, if stated or signed.
    pub approved_by: Option<String>,
    /// The change ticket.
    pub ticket: Option<String>,
    /// The action and its reason.
    #[serde(flatten)]
    pub entry: EntryView,
}

impl LastSeenView {
    fn describe(&self) -> String {
        let missed = self.missing_since.map_or_else(String::new, |at| format!(", and missed {}", format_minute(at)));
        format!("last seen {} at {}{missed}", format_minute(self.at), self.digest)
    }
}

impl HistoryView {
    /// Describes the current state of the tag, and who removed it.
    #[must_use]
    pub fn describe_state(&self) -> String {
        let seen = self.last_seen.as_ref();
        match (self.exists, self.removed_by_tagwarden) {
            (Some(true), _) => "in the registry".to_owned(),
            (exists, true) => {
                let now = if exists.is_none() {
                    "not known whether it is in the registry now"
                } else {
                    "not in the registry"
                };
                format!("{now}; Tagwarden removed it last, see above")
            }
            (Some(false), false) => match seen {
                Some(seen) => format!("not in the registry; not removed by Tagwarden, {}", seen.describe()),
                None => {
                    "not in the registry; not removed by Tagwarden, and no whole run of this state saw it".to_owned()
                }
            },
            (None, false) => {
                let seen = seen.map_or_else(|| "no whole run of this state saw it".to_owned(), LastSeenView::describe);
                format!("not known whether it is in the registry now; {seen}")
            }
        }
    }

    /// Renders the history for the terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        line(&mut out, 0, &format!("History of {}/{}:{}", self.registry, self.repository, self.tag));
        if self.entries.is_empty() {
            line(&mut out, 1, "Tagwarden never removed, restored or skipped it, as far as this state goes back");
        }
        for found in &self.entries {
            let entry = &found.entry;
            let when = entry.intended_at.strftime("%Y-%m-%d %H:%M:%S UTC");
            heading(&mut out, &format!("{when}  {}: {}", entry.action, entry.outcome_label()));
            line(&mut out, 1, &format!("digest:   {}", short_digest(&entry.digest)));
            line(&mut out, 1, &format!("run:      {} ({}) by {}", entry.run, found.command, found.by));
            let approved = match (&found.approved_by, &found.ticket) {
                (Some(who), Some(ticket)) => format!("{who}, ticket {ticket}"),
                (Some(who), None) => who.clone(),
                (None, Some(ticket)) => format!("ticket {ticket}"),
                (None, None) => String::new(),
            };
            let facts = [
                ("approved", approved),
                ("policy", entry.describe_policy()),
                ("outcome", entry.outcome_text().to_owned()),
            ];
            for (what, words) in facts.into_iter().filter(|(_, words)| !words.is_empty()) {
                line(&mut out, 1, &format!("{:<9} {words}", format!("{what}:")));
            }
            for reason in entry.reason_views() {
                line(&mut out, 1, &format!("because:  {}", ReasonView::sentence(&reason)));
            }
        }
        heading(&mut out, &format!("Now: {}", self.describe_state()));
        out
    }
}
