//! One message, in the words and shapes of those who receive it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::news::clip;
use super::{Counts, RunNews};
use crate::config::{Mode, NotifySettings, Occasion};
use crate::report;
use crate::store::RunKind;

/// The `schema` of what a webhook receives: its shape is a promise.
const SCHEMA: &str = "tagwarden.notice/1";

/// Slack's limits: <https://docs.slack.dev/reference/block-kit/blocks>.
const SLACK_HEADER: usize = 150;
const SLACK_SECTION: usize = 3000;
/// Teams refuses more than 28 KB in all.
const TEAMS_TEXT: usize = 8000;

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The same for each try to send it.
    pub(super) id: Uuid,
    /// One line.
    pub(super) title: String,
    /// Some lines.
    pub(super) text: String,
    name: String,
    occasions: Vec<&'static str>,
    test: bool,
    at: Timestamp,
    news: RunNews,
}

impl Message {
    /// The news as somebody is to be told of them.
    pub(super) fn of(settings: &NotifySettings, news: &RunNews, due: &BTreeSet<Occasion>, at: Timestamp) -> Self {
        let title = title(news, due);
        let text = match &settings.template {
            Some(template) => template.fill(&values(news, &title)).trim().to_owned(),
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
            news: news.clone(),
        }
    }

    /// A test.
    pub(super) fn test(settings: &NotifySettings, by: &str, at: Timestamp) -> Self {
        let news = RunNews {
            run: None,
            kind: RunKind::Run,
            mode: Mode::DryRun,
            by: by.to_owned(),
            at,
            outcome: "done",
            exit_code: 0,
            occasions: BTreeMap::new(),
            whole: true,
            counts: None,
            problems: Vec::new(),
        };
        let title = format!("Tagwarden: a test of {}", settings.name);
        let text = match &settings.template {
            Some(template) => template.fill(&values(&news, &title)).trim().to_owned(),
            None => format!("{by} asked for it. There was no run, and nothing is wrong."),
        };
        let name = settings.name.clone();
        Self { id: Uuid::now_v7(), title, text, name, occasions: Vec::new(), test: true, at, news }
    }

    /// What a webhook of anybody's receives.
    pub(super) fn json(&self) -> Value {
        let news = &self.news;
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
                "id": news.run,
                "kind": news.kind.label(),
                "mode": news.mode.label(),
                "by": news.by,
                "ended_at": news.at.to_string(),
                "outcome": news.outcome,
                "exit_code": news.exit_code,
            },
            "counts": news.counts,
            "problems": news.problems,
        })
    }

    /// What an incoming webhook of Slack takes.
    pub(super) fn slack(&self) -> Value {
        let context = format!("{} · {} · {}", self.news.kind.label(), self.news.mode.label(), self.news.by);
        json!({
            // What a notification shows, and whoever cannot show blocks.
            "text": escaped(&self.title),
            "blocks": [
                { "type": "header", "text": { "type": "plain_text", "text": clip(&self.title, SLACK_HEADER) } },
                { "type": "section", "text": { "type": "mrkdwn", "text": clip(&escaped(&self.text), SLACK_SECTION) } },
                { "type": "context", "elements": [{ "type": "mrkdwn", "text": escaped(&context) }] },
            ],
        })
    }

    /// What a workflow of Teams takes: one adaptive card.
    pub(super) fn teams(&self) -> Value {
        let serious =
            self.occasions.iter().any(|label| super::PROBLEMS.iter().any(|problem| problem.label() == *label));
        // Teams reads Markdown in texts: an empty line is what ends a line.
        let text = clip(&plain_markdown(&self.text), TEAMS_TEXT).replace('\n', "\n\n");
        let fact = |title: &str, value: &str| json!({ "title": title, "value": value });
        let mut facts = vec![
            fact("Run", self.news.run.as_deref().unwrap_or("none")),
            fact("Mode", self.news.mode.label()),
            fact("Outcome", self.news.outcome),
            fact("By", &self.news.by),
        ];
        if let Some(counts) = &self.news.counts {
            facts.push(fact("Removed", &report::count(counts.removed)));
            if counts.deleted > 0 {
                facts.push(fact("Deleted", &report::count(counts.deleted)));
            }
            facts.push(fact("Undecided", &report::count(counts.undecided)));
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
                            "type": "TextBlock", "text": plain_markdown(&self.title), "weight": "Bolder", "size": "Medium",
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

/// The most important thing first.
fn title(news: &RunNews, due: &BTreeSet<Occasion>) -> String {
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
    let told = if is(Occasion::Failed) && news.counts.is_some() {
        format!("{} failed", report::counted(failed.max(1), "removal"))
    } else if is(Occasion::Failed) {
        format!("{what} failed")
    } else if is(Occasion::Refused) {
        format!("{what} was refused")
    } else if is(Occasion::EvidenceMissing) {
        format!("evidence is missing in {what}")
    } else if is(Occasion::Recovered) {
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

/// The built-in text.
fn text(news: &RunNews) -> String {
    let mut lines = Vec::new();
    if let Some(counts) = &news.counts {
        lines.push(numbers(counts));
    }
    lines.extend(news.problems.iter().map(|problem| format!("- {problem}")));
    if let Some(run) = &news.run {
        lines.push(format!("All of it: tagwarden runs show {run}"));
    }
    lines.push(format!("In mode {}, by {}, at {}.", news.mode.label(), news.by, news.at));
    lines.join("\n")
}

fn numbers(counts: &Counts) -> String {
    let deleted = match counts.deleted {
        0 => String::new(),
        deleted => format!(" {} deleted,", report::counted(deleted, "untagged manifest")),
    };
    format!(
        "{}: {} removed,{deleted} {} skipped, {} failed; {} expired ({}{} reclaimable), {} protected, {} retained, {} undecided.",
        report::counted(counts.tags, "tag"),
        report::count(counts.removed),
        report::count(counts.skipped),
        report::count(counts.failed),
        report::count(counts.expired),
        if counts.estimated { "about " } else { "" },
        report::bytes(counts.reclaimable_bytes),
        report::count(counts.protected),
        report::count(counts.retained),
        report::count(counts.undecided),
    )
}

/// What stands for each placeholder of a template.
fn values(news: &RunNews, title: &str) -> BTreeMap<&'static str, String> {
    let number =
        |of: fn(&Counts) -> u64| news.counts.as_ref().map_or_else(String::new, |counts| report::count(of(counts)));
    BTreeMap::from([
        ("title", title.to_owned()),
        ("text", text(news)),
        ("run", news.run.clone().unwrap_or_default()),
        ("kind", news.kind.label().to_owned()),
        ("mode", news.mode.label().to_owned()),
        ("outcome", news.outcome.to_owned()),
        ("by", news.by.clone()),
        ("at", news.at.to_string()),
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
            news.counts.as_ref().map_or_else(String::new, |counts| report::bytes(counts.reclaimable_bytes)),
        ),
        ("problems", news.problems.iter().map(|problem| format!("- {problem}")).collect::<Vec<_>>().join("\n")),
    ])
}

/// Slack's three characters: <https://docs.slack.dev/messaging/formatting-message-text#escaping>.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Somebody else's words shall not become links or emphasis.
fn plain_markdown(text: &str) -> String {
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
        let news = RunNews::of(
            RunKind::Run,
            Err(&crate::run::RunError::Interrupted),
            Mode::Enforce,
            "anna@host",
            Timestamp::UNIX_EPOCH,
        );
        let values = values(&news, "t");
        let mut known = Template::PLACEHOLDERS.to_vec();
        known.sort_unstable();
        assert_eq!(values.keys().copied().collect::<Vec<_>>(), known);
    }

    #[test]
    fn words_of_others_do_not_become_markup() {
        assert_eq!(escaped("<!channel> & *"), "&lt;!channel&gt; &amp; *");
        assert_eq!(plain_markdown("[a](b) *c*"), "\\[a\\](b) \\*c\\*");
    }
}
