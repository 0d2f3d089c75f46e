//! The history of a tag: decisions of plans, holds, everything that Tagwarden did or skipped, and the last sighting.

use jiff::Timestamp;
use serde::Serialize;

use super::humanize::format_count;
use super::notation::{format_minute, short_digest};
use super::text::{heading, line};
use super::{EntryView, HoldView, ReasonView, describe_approval};
use crate::domain::{EndedHold, Hold};

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
    /// The decisions of the plans that are still stored, the oldest first. Plans before the last have their removals
    /// only.
    pub decisions: Vec<DecisionView>,
    /// The holds on it, the oldest first.
    pub holds: Vec<HistoryHoldView>,
    /// The actions done or skipped, the oldest first.
    pub entries: Vec<HistoryEntryView>,
}

/// Plans in a row that decided the same about a tag.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecisionView {
    /// `expired`, `retained`, `protected`, `undecided` or `out-of-scope`.
    pub verdict: String,
    /// The digest that the tag had.
    pub digest: Option<String>,
    /// The policy that expired it.
    pub policy: Option<String>,
    /// For an expired tag, true if every policy that expires it said `enforce`.
    pub enforce: Option<bool>,
    /// The run of the first of these plans.
    pub first_run: String,
    /// The time of that run.
    pub first_at: Timestamp,
    /// The run of the last of these plans.
    pub last_run: String,
    /// The time of that run.
    pub last_at: Timestamp,
    /// The number of these plans.
    pub plans: u64,
    /// The reasons in the last of them.
    pub reasons: Vec<ReasonView>,
}

/// A hold on a tag, in force or over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryHoldView {
    /// The hold.
    #[serde(flatten)]
    pub hold: HoldView,
    /// Time at which it ended; `None` while it is in force.
    pub ended_at: Option<Timestamp>,
    /// The person who ended it; `None` if its time was over, or it is in force.
    pub ended_by: Option<String>,
}

impl From<&Hold> for HistoryHoldView {
    fn from(hold: &Hold) -> Self {
        Self { hold: hold.into(), ended_at: None, ended_by: None }
    }
}

impl From<&EndedHold> for HistoryHoldView {
    fn from(ended: &EndedHold) -> Self {
        Self { hold: (&ended.hold).into(), ended_at: Some(ended.ended_at), ended_by: ended.ended_by.clone() }
    }
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
    /// The signer of the plan, whose signature was verified.
    pub signed_by: Option<String>,
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

    /// Renders the history for the terminal, in the order of time.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        line(&mut out, 0, &format!("History of {}/{}:{}", self.registry, self.repository, self.tag));
        if self.entries.is_empty() {
            line(&mut out, 1, "Tagwarden never removed, restored or skipped it, as far as this state goes back");
        }
        let decided = self.decisions.iter().map(|found| (found.first_at, found.text()));
        let held = self.holds.iter().flat_map(HistoryHoldView::events);
        let done = self.entries.iter().map(|found| (found.entry.intended_at, found.text()));
        let mut events: Vec<(Timestamp, String)> = decided.chain(held).chain(done).collect();
        events.sort_by_key(|(at, _)| *at);
        out.extend(events.into_iter().map(|(_, text)| text));
        heading(&mut out, &format!("Now: {}", self.describe_state()));
        out
    }
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Writes a fact with its label, unless it is empty.
fn fact(out: &mut String, label: &str, words: &str) {
    if !words.is_empty() {
        line(out, 1, &format!("{:<9} {words}", format!("{label}:")));
    }
}

impl DecisionView {
    fn text(&self) -> String {
        let mut out = String::new();
        let effect = match self.enforce {
            Some(true) => " (enforced)",
            Some(false) => " (dry run)",
            None => "",
        };
        heading(&mut out, &format!("{}  decided: {}{effect}", second(self.first_at), self.verdict));
        fact(&mut out, "digest", &self.digest.as_deref().map(short_digest).unwrap_or_default());
        let run = if self.plans == 1 {
            self.first_run.clone()
        } else {
            format!(
                "{} and {} more until {}",
                self.first_run,
                format_count(self.plans - 1),
                format_minute(self.last_at)
            )
        };
        fact(&mut out, "plan", &run);
        fact(&mut out, "policy", self.policy.as_deref().unwrap_or_default());
        for reason in &self.reasons {
            fact(&mut out, "because", &reason.sentence());
        }
        out
    }
}

impl HistoryHoldView {
    /// Returns its beginning and, if it is over, its end.
    fn events(&self) -> Vec<(Timestamp, String)> {
        let HoldView { since, until, by, reason, .. } = &self.hold;
        let mut text = String::new();
        heading(&mut text, &format!("{}  hold: until {}", second(*since), format_minute(*until)));
        fact(&mut text, "by", by);
        fact(&mut text, "because", reason);
        let mut events = vec![(*since, text)];
        if let Some(at) = self.ended_at {
            let mut text = String::new();
            heading(&mut text, &format!("{}  hold: ended", second(at)));
            fact(&mut text, "by", self.ended_by.as_deref().unwrap_or("its time was over"));
            events.push((at, text));
        }
        events
    }
}

impl HistoryEntryView {
    fn text(&self) -> String {
        let (mut out, entry) = (String::new(), &self.entry);
        heading(&mut out, &format!("{}  {}: {}", second(entry.intended_at), entry.action, entry.outcome_label()));
        fact(&mut out, "digest", &short_digest(&entry.digest));
        fact(&mut out, "run", &format!("{} ({}) by {}", entry.run, self.command, self.by));
        let approver = self.approved_by.as_ref().map(|who| describe_approval(who, self.signed_by.as_deref()));
        let ticket = self.ticket.as_ref().map(|ticket| format!("ticket {ticket}"));
        fact(&mut out, "approved", &approver.into_iter().chain(ticket).collect::<Vec<_>>().join(", "));
        fact(&mut out, "policy", &entry.describe_policy());
        fact(&mut out, "outcome", entry.outcome_text());
        for reason in entry.reason_views() {
            fact(&mut out, "because", &reason.sentence());
        }
        out
    }
}
