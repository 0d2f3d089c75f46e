//! The history of a tag: decisions of plans, holds, everything that Tagwarden did or skipped, and the last sighting.

use jiff::Timestamp;
use serde::Serialize;

use super::humanize::{counted, format_count};
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
    /// Everything on record about it.
    #[serde(flatten)]
    pub record: TagRecordView,
}

/// The records of a tag in the state.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TagRecordView {
    /// The plans from which its decisions are known.
    pub plans: PlanCoverageView,
    /// The decisions of these plans, the oldest first.
    pub decisions: Vec<DecisionView>,
    /// The holds on it, the oldest first.
    pub holds: Vec<HistoryHoldView>,
    /// The actions done or skipped, the oldest first.
    pub entries: Vec<HistoryEntryView>,
}

/// The extent of the stored plans that were searched for decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PlanCoverageView {
    /// The number of full plans that were searched.
    pub searched: u64,
    /// Time of the first of them; `None` if there are none.
    pub since: Option<Timestamp>,
    /// The number of those that could not be read.
    pub unreadable: u64,
    /// True if older plans are stored and were not searched.
    pub partial: bool,
}

/// An event in the history of a tag, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEvent {
    /// Its time.
    pub at: Timestamp,
    /// Its kind: `decided`, `hold`, or an action of the journal.
    pub subject: String,
    /// The verdict, the outcome, or the end of a hold.
    pub outcome: String,
    /// The effect of a decision: `enforced` or `dry run`.
    pub effect: Option<&'static str>,
    /// The run that decided or acted.
    pub run: Option<String>,
    /// Labels with words. A label may appear several times.
    pub facts: Vec<(&'static str, String)>,
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
    /// The reasons in the first of them.
    pub reasons: Vec<ReasonView>,
    /// The reasons in the last of them, if they are others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reasons: Option<Vec<ReasonView>>,
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
    /// The mode then in force.
    pub mode: String,
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
    /// Returns true if nothing at all is known of the tag, and it is not in the registry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let TagRecordView { entries, decisions, holds, .. } = &self.record;
        let nothing_happened = entries.is_empty() && decisions.is_empty() && holds.is_empty();
        nothing_happened && self.last_seen.is_none() && self.exists != Some(true)
    }

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

    /// Describes the state of a tag behind a text that says that it is not in the registry.
    #[must_use]
    pub fn describe_absence(&self) -> String {
        match (self.exists, self.removed_by_tagwarden) {
            (Some(false), true) => "Tagwarden removed it last".to_owned(),
            (Some(false), false) => {
                let seen = if self.last_seen.is_some() { "" } else { "and " };
                format!("not removed by Tagwarden, {seen}{}", self.describe_last_event())
            }
            _ => self.describe_state(),
        }
    }

    /// Describes the last known event of a tag of which the registry tells nothing now.
    #[must_use]
    pub fn describe_last_event(&self) -> String {
        if self.removed_by_tagwarden {
            return "Tagwarden removed it last; `tagwarden explain IMAGE --history` has the run".to_owned();
        }
        let seen = self.last_seen.as_ref();
        seen.map_or_else(|| "no whole run of this state saw it".to_owned(), LastSeenView::describe)
    }

    /// Renders the history for the terminal, in the order of time.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        line(&mut out, 0, &format!("History of {}/{}:{}", self.registry, self.repository, self.tag));
        if self.record.entries.is_empty() {
            line(&mut out, 1, "Tagwarden never removed, restored or skipped it, as far as this state goes back");
        }
        line(&mut out, 1, &self.record.plans.describe());
        for event in self.record.events() {
            let effect = event.effect.map(|effect| format!(" ({effect})")).unwrap_or_default();
            heading(&mut out, &format!("{}  {}: {}{effect}", second(event.at), event.subject, event.outcome));
            for (label, words) in event.facts {
                line(&mut out, 1, &format!("{:<9} {words}", format!("{label}:")));
            }
        }
        heading(&mut out, &format!("Now: {}", self.describe_state()));
        out
    }
}

impl TagRecordView {
    /// Returns all events, the oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<HistoryEvent> {
        let decided = self.decisions.iter().map(DecisionView::event);
        let held = self.holds.iter().flat_map(HistoryHoldView::events);
        let done = self.entries.iter().map(HistoryEntryView::event);
        let mut events: Vec<HistoryEvent> = decided.chain(held).chain(done).collect();
        events.sort_by_key(|event| event.at);
        events
    }
}

impl PlanCoverageView {
    /// Describes the plans whose decisions are known, and why no others are.
    #[must_use]
    pub fn describe(&self) -> String {
        let Some(since) = self.since else {
            return "No decision is known: no complete plan is stored (`records.plans` limits how long)".to_owned();
        };
        let earlier = if self.partial {
            "earlier plans were not searched"
        } else {
            "earlier ones, if there were any, are not stored any more (`records.plans`)"
        };
        let unreadable = match self.unreadable {
            0 => String::new(),
            number => format!(", and {} cannot be read", format_count(number)),
        };
        format!(
            "Decisions are those of {} since {}: {earlier}, and plans before the last have their removals only{unreadable}",
            counted(self.searched, "complete plan"),
            format_minute(since)
        )
    }
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Returns the facts that say something.
fn known_facts(facts: impl IntoIterator<Item = (&'static str, String)>) -> Vec<(&'static str, String)> {
    facts.into_iter().filter(|(_, words)| !words.is_empty()).collect()
}

/// Returns the reasons as facts.
fn because(reasons: &[ReasonView]) -> impl Iterator<Item = (&'static str, String)> {
    reasons.iter().map(|reason| ("because", reason.sentence()))
}

impl DecisionView {
    fn event(&self) -> HistoryEvent {
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
        let facts = [
            ("digest", self.digest.as_deref().map(short_digest).unwrap_or_default()),
            ("by run", run),
            ("policy", self.policy.clone().unwrap_or_default()),
        ];
        let in_last = self.last_reasons.iter().flatten().map(|reason| ("in last", reason.sentence()));
        HistoryEvent {
            at: self.first_at,
            subject: "decided".to_owned(),
            outcome: self.verdict.clone(),
            effect: self.enforce.map(|enforce| if enforce { "enforced" } else { "dry run" }),
            run: Some(self.first_run.clone()),
            facts: known_facts(facts.into_iter().chain(because(&self.reasons)).chain(in_last)),
        }
    }
}

impl HistoryHoldView {
    /// Returns its beginning and, if it is over, its end.
    fn events(&self) -> Vec<HistoryEvent> {
        let HoldView { since, until, by, reason, .. } = &self.hold;
        let event = |at: Timestamp, outcome: String, facts: Vec<(&'static str, String)>| HistoryEvent {
            at,
            subject: "hold".to_owned(),
            outcome,
            effect: None,
            run: None,
            facts: known_facts(facts),
        };
        let set = vec![("by", by.clone()), ("because", reason.clone())];
        let mut events = vec![event(*since, format!("until {}", format_minute(*until)), set)];
        if let Some(at) = self.ended_at {
            let ended_by = self.ended_by.clone().unwrap_or_else(|| "its time was over".to_owned());
            let held = format!("by {by} since {}: {reason}", format_minute(*since));
            events.push(event(at, "ended".to_owned(), vec![("by", ended_by), ("held", held)]));
        }
        events
    }
}

impl HistoryEntryView {
    fn event(&self) -> HistoryEvent {
        let entry = &self.entry;
        let approver = self.approved_by.as_ref().map(|who| describe_approval(who, self.signed_by.as_deref()));
        let ticket = self.ticket.as_ref().map(|ticket| format!("ticket {ticket}"));
        let nobody = (self.command == "apply" && approver.is_none()).then(|| "nobody is on record".to_owned());
        let approval: Vec<String> = approver.or(nobody).into_iter().chain(ticket).collect();
        // Those of a restore are the reasons of the removal that it undoes.
        let because = if entry.action.starts_with("restore") { "undoes" } else { "because" };
        let reasons = entry.reason_views().into_iter().map(|reason| (because, reason.sentence()));
        let facts = [
            ("digest", short_digest(&entry.digest)),
            ("run", format!("{} ({}) by {}", entry.run, self.command, self.by)),
            ("approved", approval.join(", ")),
            ("policy", entry.describe_policy()),
            ("outcome", entry.outcome_text().to_owned()),
        ];
        HistoryEvent {
            at: entry.intended_at,
            subject: entry.action.clone(),
            outcome: entry.outcome_label().to_owned(),
            effect: None,
            run: Some(entry.run.clone()),
            facts: known_facts(facts.into_iter().chain(reasons)),
        }
    }
}
