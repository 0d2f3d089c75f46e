//! The history of a tag: everything that Tagwarden did to it or left undone, and when it was seen last.

use jiff::Timestamp;
use serde::Serialize;

use super::reason::{format_minute, short_digest};
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
    /// Whether it is in the registry now; `None` where the registry did not say.
    pub exists: Option<bool>,
    /// When it was seen last; `None` where no whole run saw it, as far as the state goes back.
    pub last_seen: Option<LastSeenView>,
    /// Whether the last thing known of it is that Tagwarden removed it.
    pub removed_by_tagwarden: bool,
    /// What was done or left undone, the oldest first.
    pub entries: Vec<HistoryEntryView>,
}

/// When a tag was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastSeenView {
    /// When a whole run saw it last.
    pub at: Timestamp,
    /// The digest that it had then, shortened.
    pub digest: String,
    /// When a whole run first missed it; `None` where there was none since.
    pub missing_since: Option<Timestamp>,
}

/// One entry of the journal, with the run that it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryEntryView {
    /// The command of its run.
    pub command: String,
    /// Who started it.
    pub by: String,
    /// Who approved the plan, where that was said or signed.
    pub approved_by: Option<String>,
    /// The change ticket.
    pub ticket: Option<String>,
    /// What was done, and why.
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
    /// Where the tag is now, and who took it away, in words.
    #[must_use]
    pub fn describe_state(&self) -> String {
        let seen = self.last_seen.as_ref();
        match (self.exists, self.removed_by_tagwarden) {
            (Some(true), _) => "in the registry now".to_owned(),
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

    /// The history for the terminal.
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
