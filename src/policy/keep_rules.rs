//! The keep rules of a policy, from YAML.

use std::num::NonZeroU32;

use jiff::SignedDuration;

use super::diagnostic::Problems;
use super::fields::{self, Fields};
use super::selection;
use super::yaml::{DASH_HELP, Entry, Node, Value};
use crate::domain::{Keep, KeepRule, Period, VersionPart, WrittenDuration};

const VERSIONS: [(&str, VersionPart); 3] =
    [("major", VersionPart::Major), ("minor", VersionPart::Minor), ("patch", VersionPart::Patch)];
pub(super) const RULES: [&str; 11] = [
    "newest",
    "within",
    "daily",
    "weekly",
    "monthly",
    "yearly",
    "newest_per",
    "matching",
    "image_with",
    "pulled_within",
    "at_most",
];
const RULE_HELP: &str = "write it as `- newest: 5`";
const KEEP_HELP: &str = "write `keep: all`, `keep: none`, or a list of rules such as `- newest: 5`";

pub(super) fn keep(node: &Node, problems: &mut Problems) -> Option<Keep> {
    match &node.value {
        Value::Text(word) if word == "all" => Some(Keep::All),
        Value::Text(word) if word == "none" => Some(Keep::None),
        Value::Text(word) => {
            let (message, _) = fields::unknown_word("word", word, " for `keep`", &["all", "none"]);
            problems.add(&node.at, message).help(KEEP_HELP);
            None
        }
        Value::List(nodes) if nodes.is_empty() => {
            problems
                .add(&node.at, "`keep` is an empty list")
                .help("say what stays, as `- newest: 5`; `keep: none` would let every selected tag expire");
            None
        }
        Value::List(nodes) => {
            let rules: Vec<Option<KeepRule>> = nodes.iter().map(|node| rule(node, problems)).collect();
            let rules = rules.into_iter().collect::<Option<Vec<_>>>()?;
            verify_at_most(&rules, nodes, problems).then_some(Keep::Rules(rules))
        }
        Value::Null => {
            problems.add(&node.at, "`keep` is empty").help(KEEP_HELP);
            None
        }
        Value::Map(entries) => {
            let problem = problems.add(&node.at, "`keep` must be a list of rules, not a map");
            if entries.iter().all(|entry| entry.key.starts_with('-')) {
                problem.help(DASH_HELP);
                return None;
            }
            problem.help("put `- ` before each rule: a tag stays if any of them keeps it");
            for entry in entries {
                keep_rule(entry, problems);
            }
            None
        }
        value => {
            problems.add(&node.at, format!("`keep` must be a list of rules, not {}", value.describe())).help(KEEP_HELP);
            None
        }
    }
}

/// Notes a limit that cannot be what was meant; returns true if there is none.
fn verify_at_most(rules: &[KeepRule], nodes: &[Node], problems: &mut Problems) -> bool {
    let mut limits = rules.iter().zip(nodes).filter(|(rule, _)| matches!(rule, KeepRule::AtMost(_)));
    let Some((_, node)) = limits.next() else { return true };
    let before = problems.count();
    if let Some((_, second)) = limits.next() {
        problems.add(&second.at, "`at_most` is written twice").help("keep one of the two");
    }
    if !rules.iter().any(|rule| matches!(rule, KeepRule::Within(_))) {
        let help = "say what is never limited, as `- within: 7d`: what is younger stays, however much there is of it";
        problems.add(&node.at, "`at_most` without `within`").help(help);
    }
    if let Some((_, versions)) = rules.iter().zip(nodes).find(|(rule, _)| matches!(rule, KeepRule::NewestPer { .. })) {
        let versions = problems.diagnostic(&versions.at, "the versions are here");
        problems
            .add(&node.at, "`at_most` beside `newest_per`")
            .help("it goes by time, and would take the highest versions away; give versions a policy of their own")
            .add_secondary(versions);
    }
    problems.count() == before
}

fn rule(node: &Node, problems: &mut Problems) -> Option<KeepRule> {
    let Value::Map(entries) = &node.value else {
        let problem =
            problems.add(&node.at, format!("a keep rule must be a rule and its value, not {}", node.value.describe()));
        match &node.value {
            Value::Text(word) if word == "all" || word == "none" => {
                problem.help(format!("it stands alone, not in a list: `keep: {word}`"));
            }
            _ => {
                problem.help(RULE_HELP);
            }
        }
        return None;
    };
    let mut rules = entries.iter().map(|entry| (keep_rule(entry, problems), &entry.at)).collect::<Vec<_>>().into_iter();
    match (rules.next(), rules.next()) {
        (None, _) => {
            problems.add(&node.at, "an empty keep rule").help(RULE_HELP);
            None
        }
        (Some(_), Some((_, second))) => {
            problems
                .add(second, format!("a keep rule with {} keys", entries.len()))
                .help("start each rule with its own `- `: a tag stays if any of them keeps it");
            None
        }
        (Some((rule, _)), None) => rule,
    }
}

fn keep_rule(entry: &Entry, problems: &mut Problems) -> Option<KeepRule> {
    let node = &entry.node;
    let bucketed = |period: Period, problems: &mut Problems| {
        count(period.rule_name(), node, problems).map(|count| KeepRule::Bucketed { period, count })
    };
    match &*entry.key {
        "newest" => count("newest", node, problems).map(KeepRule::Newest),
        "within" => span("within", node, problems).map(KeepRule::Within),
        "daily" => bucketed(Period::Day, problems),
        "weekly" => bucketed(Period::Week, problems),
        "monthly" => bucketed(Period::Month, problems),
        "yearly" => bucketed(Period::Year, problems),
        "newest_per" => newest_per(node, problems),
        "matching" => selection::matching(node, problems).map(KeepRule::Matching),
        "image_with" => image_with(node, problems),
        "pulled_within" => span("pulled_within", node, problems).map(KeepRule::PulledWithin),
        "at_most" => count("at_most", node, problems).map(KeepRule::AtMost),
        other => {
            let (message, list) = fields::unknown_word("rule", other, "", &RULES);
            problems.add(&entry.at, message).help(foreign_rule_hint(other).map_or(list, str::to_owned));
            None
        }
    }
}

/// Returns a hint for rules of other tools.
fn foreign_rule_hint(rule: &str) -> Option<&'static str> {
    match rule {
        "keep_last" | "last" | "count" | "keep_n" | "latest" => Some("the newest so many are `newest: 5`"),
        "max_age" | "age" | "days" | "older_than" | "newer_than" | "younger_than" | "ago" | "duration" => {
            Some("a time since the push is `within: 14d`")
        }
        "max" | "maximum" | "max_tags" | "limit" => Some("the most that the other rules keep is `at_most: 20`"),
        "hourly" => Some("the finest period is `daily`; for hours write `within: 36h`"),
        "all" | "none" => Some("it stands alone, not in a list: `keep: all` or `keep: none`"),
        _ => None,
    }
}

fn count(rule: &str, node: &Node, problems: &mut Problems) -> Option<NonZeroU32> {
    if let Value::Text(text) = &node.value
        && let Some(number) =
            text.trim().strip_suffix(['d', 'w', 'h', 'm', 'y', 's']).and_then(|number| number.parse::<u32>().ok())
    {
        let help = format!("it counts: write `{rule}: {number}`; a time since the push is `within: {}`", text.trim());
        problems.add(&node.at, format!("`{rule}` must be a whole number from 1, not a time")).help(help);
        return None;
    }
    fields::integer(rule, node, 1..=u32::MAX, problems).and_then(NonZeroU32::new)
}

pub(super) fn span(key: &str, node: &Node, problems: &mut Problems) -> Option<WrittenDuration> {
    let duration = fields::duration(key, node, problems)?;
    let written = fields::text(key, node, problems)?;
    Some(WrittenDuration { duration: SignedDuration::try_from(duration).ok()?, written: written.trim().into() })
}

fn newest_per(node: &Node, problems: &mut Problems) -> Option<KeepRule> {
    const HELP: &str = "write `newest_per: { version: minor, count: 2 }`";
    if !matches!(node.value, Value::Map(_)) {
        problems.add(&node.at, format!("`newest_per` must be a map, not {}", node.value.describe())).help(HELP);
        return None;
    }
    let mut fields = Fields::of(node, "rule `newest_per`", problems)?;
    let mut part = |key, problems: &mut Problems| {
        let node = fields.get(key);
        if node.is_none() && !fields.is_misspelled(key) {
            problems.add(fields.at(), format!("`newest_per` without `{key}`")).help(HELP);
        }
        node
    };
    let (version, number) = (part("version", problems), part("count", problems));
    fields.finish(|_| None, problems);
    let version = version.and_then(|node| fields::choice("version", node, &VERSIONS, problems));
    let number = number.and_then(|node| count("count", node, problems));
    Some(KeepRule::NewestPer { version: version?, count: number? })
}

fn image_with(node: &Node, problems: &mut Problems) -> Option<KeepRule> {
    const HELP: &str = "write `image_with: { tags: [\"release-*\"] }`, with `within: 30d`, or with both";
    if !matches!(node.value, Value::Map(_)) {
        problems.add(&node.at, format!("`image_with` must be a map, not {}", node.value.describe())).help(HELP);
        return None;
    }
    let mut fields = Fields::of(node, "rule `image_with`", problems)?;
    let (tags, within) = (fields.get("tags"), fields.get("within"));
    if tags.is_none() && within.is_none() && !fields.is_misspelled("tags") && !fields.is_misspelled("within") {
        problems.add(fields.at(), "`image_with` without `tags` and `within`").help(HELP);
    }
    fields.finish(|_| None, problems);
    tags.or(within)?;
    let tags = tags.map(|node| selection::tags(node, problems));
    let within = within.map(|node| span("within", node, problems));
    let sound = |missing: bool| (!missing).then_some(());
    sound(matches!(tags, Some(None)) || matches!(within, Some(None)))?;
    Some(KeepRule::ImageWith { tags: tags.flatten(), within: within.flatten() })
}
