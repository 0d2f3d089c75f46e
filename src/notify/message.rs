//! One message, in the words and formats of its receivers.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::event::clip;
use super::{RunEvent, RunEventCounts};
use crate::config::{Mode, NotifyEvent, NotifySettings};
use crate::report;
use crate::state::RunKind;

/// The `schema` of a webhook's payload: its format is a promise.
const SCHEMA: &str = "tagwarden.notice/1";

/// Slack's limits: <https://docs.slack.dev/reference/block-kit/blocks>.
const SLACK_HEADER_CHARS: usize = 150;
const SLACK_SECTION_CHARS: usize = 3000;
/// Teams refuses more than 28 KB in all.
const TEAMS_TEXT_CHARS: usize = 8000;

/// A message.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The same for each attempt.
    pub(super) id: Uuid,
    /// One line.
    pub(super) title: String,
    /// Some lines.
    pub(super) text: String,
    name: String,
    occasions: Vec<&'static str>,
    test: bool,
    at: Timestamp,
    event: RunEvent,
}

impl Message {
    /// Creates the message about an event.
    pub(super) fn new(settings: &NotifySettings, news: &RunEvent, due: &BTreeSet<NotifyEvent>, at: Timestamp) -> Self {
        let title = title(news, due);
        let text = match &settings.template {
            Some(template) => template.fill(&placeholder_values(news, &title)).trim().to_owned(),
            None => text(news),
        };
        Self {
            id: Uuid::now_v7(),
            title,
            text,
            name: settings.name.clone(),
            occasions: due.iter().map(|occasion| occasion.label()).collect(),
            test: false,
            at,
            event: news.clone(),
        }
    }

    /// Creates a test message.
    pub(super) fn test(settings: &NotifySettings, by: &str, at: Timestamp) -> Self {
        let news = RunEvent {
            run_id: None,
            kind: RunKind::Run,
            mode: Mode::DryRun,
            by: by.to_owned(),
            ended_at: at,
            outcome: "done",
            exit_code: 0,
            occasions: BTreeMap::new(),
            is_complete: true,
            counts: None,
            problems: Vec::new(),
        };
        let title = format!("Tagwarden: a test of {}", settings.name);
        let text = match &settings.template {
            Some(template) => template.fill(&placeholder_values(&news, &title)).trim().to_owned(),
            None => format!("{by} asked for it. There was no run, and nothing is wrong."),
        };
        let name = settings.name.clone();
        Self { id: Uuid::now_v7(), title, text, name, occasions: Vec::new(), test: true, at, event: news }
    }

    /// Returns the payload of a generic webhook.
    pub(super) fn json(&self) -> Value {
        let news = &self.event;
        json!({
            "schema": SCHEMA,
            "id": self.id.to_string(),
            "name": self.name,
            "sent_at": self.at.to_string(),
            "test": self.test,
            "occasions": self.occasions,
            "title": self.title,
            "text": self.text,
            "run": {
                "id": news.run_id,
                "kind": news.kind.label(),
                "mode": news.mode.label(),
                "by": news.by,
                "ended_at": news.ended_at.to_string(),
                "outcome": news.outcome,
                "exit_code": news.exit_code,
            },
            "counts": news.counts,
            "problems": news.problems,
        })
    }

    /// Returns the payload of an incoming webhook of Slack.
    pub(super) fn slack(&self) -> Value {
        let context = format!("{} · {} · {}", self.event.kind.label(), self.event.mode.label(), self.event.by);
        json!({
            // For notifications, and for clients that cannot display blocks.
            "text": escape_slack(&self.title),
            "blocks": [
                { "type": "header", "text": { "type": "plain_text", "text": clip(&self.title, SLACK_HEADER_CHARS) } },
                { "type": "section", "text": { "type": "mrkdwn", "text": clip(&escape_slack(&self.text), SLACK_SECTION_CHARS) } },
                { "type": "context", "elements": [{ "type": "mrkdwn", "text": escape_slack(&context) }] },
            ],
        })
    }

    /// Returns the payload of a workflow of Teams: one adaptive card.
    pub(super) fn teams(&self) -> Value {
        let serious =
            self.occasions.iter().any(|label| super::PROBLEM_OCCASIONS.iter().any(|problem| problem.label() == *label));
        // Teams parses texts as Markdown, in which an empty line ends a line.
        let text = clip(&escape_markdown(&self.text), TEAMS_TEXT_CHARS).replace('\n', "\n\n");
        let fact = |title: &str, value: &str| json!({ "title": title, "value": value });
        let mut facts = vec![
            fact("Run", self.event.run_id.as_deref().unwrap_or("none")),
            fact("Mode", self.event.mode.label()),
            fact("Outcome", self.event.outcome),
            fact("By", &self.event.by),
        ];
        if let Some(counts) = &self.event.counts {
            facts.push(fact("Removed", &report::format_count(counts.removed)));
            if counts.deleted > 0 {
                facts.push(fact("Deleted", &report::format_count(counts.deleted)));
            }
            facts.push(fact("Undecided", &report::format_count(counts.undecided)));
        }
        json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "msteams": { "width": "Full" },
                    "body": [
                        {
                            "type": "TextBlock", "text": escape_markdown(&self.title), "weight": "Bolder", "size": "Medium",
                            "wrap": true, "color": if serious { "Attention" } else { "Default" },
                        },
                        { "type": "TextBlock", "text": text, "wrap": true },
                        { "type": "FactSet", "facts": facts },
                    ],
                },
            }],
        })
    }
}

/// Returns the title: the most important fact first.
fn title(news: &RunEvent, due: &BTreeSet<NotifyEvent>) -> String {
    let what = match news.kind {
        RunKind::Plan => "a plan",
        RunKind::Run => "a run",
        RunKind::Apply => "applying a plan",
        RunKind::Restore => "a restore",
    };
    let removed = news.counts.map_or(0, |counts| counts.removed);
    let deleted = news.counts.map_or(0, |counts| counts.deleted);
    let failed = news.counts.map_or(0, |counts| counts.failed);
    let is = |occasion| due.contains(&occasion);
    let told = if is(NotifyEvent::Failed) && news.counts.is_some() {
        format!("{} failed", report::counted(failed.max(1), "removal"))
    } else if is(NotifyEvent::Failed) {
        format!("{what} failed")
    } else if is(NotifyEvent::Refused) {
        format!("{what} was refused")
    } else if is(NotifyEvent::EvidenceMissing) {
        format!("evidence is missing in {what}")
    } else if is(NotifyEvent::Recovered) {
        "runs are good again".to_owned()
    } else if removed > 0 {
        format!("{} removed", report::counted(removed, "tag"))
    } else if deleted > 0 {
        format!("{} deleted", report::counted(deleted, "untagged manifest"))
    } else {
        format!("{what} ended: {}", news.outcome)
    };
    format!("Tagwarden: {told}")
}

/// Returns the built-in text.
fn text(news: &RunEvent) -> String {
    let mut lines = Vec::new();
    if let Some(counts) = &news.counts {
        lines.push(counts_text(counts));
    }
    lines.extend(news.problems.iter().map(|problem| format!("- {problem}")));
    if let Some(run) = &news.run_id {
        lines.push(format!("All of it: tagwarden runs show {run}"));
    }
    lines.push(format!("In mode {}, by {}, at {}.", news.mode.label(), news.by, news.ended_at));
    lines.join("\n")
}

fn counts_text(counts: &RunEventCounts) -> String {
    let deleted = match counts.deleted {
        0 => String::new(),
        deleted => format!(" {} deleted,", report::counted(deleted, "untagged manifest")),
    };
    format!(
        "{}: {} removed,{deleted} {} skipped, {} failed; {} expired ({}{} reclaimable), {} protected, {} retained, {} undecided.",
        report::counted(counts.tags, "tag"),
        report::format_count(counts.removed),
        report::format_count(counts.skipped),
        report::format_count(counts.failed),
        report::format_count(counts.expired),
        if counts.estimated { "about " } else { "" },
        report::format_bytes(counts.reclaimable_bytes),
        report::format_count(counts.protected),
        report::format_count(counts.retained),
        report::format_count(counts.undecided),
    )
}

/// Returns the value for each placeholder of a template.
fn placeholder_values(news: &RunEvent, title: &str) -> BTreeMap<&'static str, String> {
    let number = |of: fn(&RunEventCounts) -> u64| {
        news.counts.as_ref().map_or_else(String::new, |counts| report::format_count(of(counts)))
    };
    BTreeMap::from([
        ("title", title.to_owned()),
        ("text", text(news)),
        ("run", news.run_id.clone().unwrap_or_default()),
        ("kind", news.kind.label().to_owned()),
        ("mode", news.mode.label().to_owned()),
        ("outcome", news.outcome.to_owned()),
        ("by", news.by.clone()),
        ("at", news.ended_at.to_string()),
        ("tags", number(|counts| counts.tags)),
        ("expired", number(|counts| counts.expired)),
        ("protected", number(|counts| counts.protected)),
        ("retained", number(|counts| counts.retained)),
        ("undecided", number(|counts| counts.undecided)),
        ("removed", number(|counts| counts.removed)),
        ("deleted", number(|counts| counts.deleted)),
        ("skipped", number(|counts| counts.skipped)),
        ("failed", number(|counts| counts.failed)),
        (
            "reclaimable",
            news.counts.as_ref().map_or_else(String::new, |counts| report::format_bytes(counts.reclaimable_bytes)),
        ),
        ("problems", news.problems.iter().map(|problem| format!("- {problem}")).collect::<Vec<_>>().join("\n")),
    ])
}

/// Escapes Slack's three characters: <https://docs.slack.dev/messaging/formatting-message-text#escaping>.
fn escape_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Escapes Markdown, so that foreign text cannot become links or emphasis.
fn escape_markdown(text: &str) -> String {
    text.chars()
        .flat_map(|c| matches!(c, '[' | ']' | '*' | '_' | '`' | '\\').then_some('\\').into_iter().chain([c]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Template;

    #[test]
    fn every_placeholder_has_a_value() {
        let news = RunEvent::new(
            RunKind::Run,
            Err(&crate::workflow::RunError::Interrupted),
            Mode::Enforce,
            "anna@host",
            Timestamp::UNIX_EPOCH,
        );
        let values = placeholder_values(&news, "t");
        let mut known = Template::PLACEHOLDERS.to_vec();
        known.sort_unstable();
        assert_eq!(values.keys().copied().collect::<Vec<_>>(), known);
    }

    #[test]
    fn words_of_others_do_not_become_markup() {
        assert_eq!(escape_slack("<!channel> & *"), "&lt;!channel&gt; &amp; *");
        assert_eq!(escape_markdown("[a](b) *c*"), "\\[a\\](b) \\*c\\*");
    }
}
