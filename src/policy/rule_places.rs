//! The rules of a policy with their places in the tree of its file.

use super::diagnostic::Problems;
use super::fields;
use super::yaml::{Node, Place, Value};
use crate::domain::{AllowUnmatched, RuleKey};

const ALLOW_HELP: &str = "write `allow_unmatched: true`, or a list of rules of this policy: `[\"!hotfix-*\"]`";

/// One rule as written in the file.
pub(super) struct RulePlace {
    pub(super) key: RuleKey,
    pub(super) written: String,
    pub(super) at: Place,
}

/// Returns the names, globs and patterns of a policy, in the order of the file.
pub(super) fn rule_places(select: Option<&Node>, keep: Option<&Node>) -> Vec<RulePlace> {
    let mut found = Vec::new();
    let keys = [RuleKey::Registries, RuleKey::Repositories, RuleKey::Tags, RuleKey::Pattern];
    for (key, node) in entries(select) {
        if let Some(key) = keys.into_iter().find(|known| known.label() == key) {
            add(key, node, &mut found);
        }
    }
    if let Some(Value::List(rules)) = keep.map(|node| &node.value) {
        let rules = rules.iter().flat_map(|rule| entries(Some(rule)));
        rules.filter(|(key, _)| *key == RuleKey::Matching.label()).for_each(|(_, node)| {
            add(RuleKey::Matching, node, &mut found);
        });
    }
    found
}

fn entries(node: Option<&Node>) -> impl Iterator<Item = (&str, &Node)> {
    let entries = match node.map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|entry| (entry.key.as_str(), &entry.node))
}

fn add(key: RuleKey, node: &Node, found: &mut Vec<RulePlace>) {
    match &node.value {
        Value::Text(text) => found.push(RulePlace { key, written: text.clone(), at: node.at.clone() }),
        Value::List(nodes) => nodes.iter().for_each(|node| {
            if let Value::Text(_) = node.value {
                add(key, node, found);
            }
        }),
        _ => {}
    }
}

/// Parses the rules of a policy that may match nothing.
pub(super) fn allow_unmatched(node: &Node, rules: &[RulePlace], problems: &mut Problems) -> Option<AllowUnmatched> {
    match &node.value {
        Value::Bool(true) => return Some(AllowUnmatched::All),
        Value::Bool(false) => return Some(AllowUnmatched::None),
        Value::List(_) => {}
        value => {
            let message = format!("`allow_unmatched` must be `true` or a list of rules, not {}", value.describe());
            problems.add(&node.at, message).help(ALLOW_HELP);
            return None;
        }
    }
    let (texts, mut sound) = fields::texts("allow_unmatched", node, problems)?;
    let known: Vec<&str> = rules.iter().map(|rule| rule.written.as_str()).collect();
    for (text, at) in texts.iter().filter(|(text, _)| !known.contains(&text.as_str())) {
        let (message, help) = fields::unknown_word("rule", text, " of this policy", &known);
        problems.add(at, message).help(if known.is_empty() { ALLOW_HELP.to_owned() } else { help });
        sound = false;
    }
    sound.then(|| AllowUnmatched::Rules(texts.into_iter().map(|(text, _)| text).collect()))
}
