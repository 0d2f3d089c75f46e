//! Views of rules that match nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::notation::format_minute;
use crate::domain::{Coverage, LastMatch, RuleEffect, RuleHint, RuleKey, RuleMistake, UnmatchedRule};

/// A rule of a policy that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmatchedView {
    /// The policy.
    pub policy: String,
    /// Its key: `registries`, `repositories`, `tags`, `pattern`, `matching`; `select` for the whole selector of a
    /// policy.
    pub key: String,
    /// Its text, with `!` if it excludes; empty for a whole selector.
    pub rule: String,
    /// The policy's file.
    pub file: String,
    /// Its line there, from 1, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// `refuses`: an enforcing run refuses removals that it might have protected; `matched-before`: it matched in an
    /// earlier plan, and nothing is refused; `note`: it is not a rule that protects.
    pub state: String,
    /// Time of its last match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_matched: Option<Timestamp>,
    /// The rule, its place, and the remedy.
    pub message: String,
}

impl UnmatchedView {
    pub(super) fn all(coverage: &Coverage) -> Vec<Self> {
        let mut all: Vec<Self> = coverage.unmatched.iter().map(Self::of).collect();
        all.sort_by_key(|view| (view.state != "refuses", view.state == "note"));
        all
    }

    fn of(unmatched: &UnmatchedRule) -> Self {
        let UnmatchedRule { rule, file, line, last_match: since, .. } = unmatched;
        let last_matched = match since {
            LastMatch::At(at) => Some(*at),
            LastMatch::Never | LastMatch::NeverAsOf(_) => None,
        };
        let state = match (unmatched.blocks_removals(), last_matched) {
            (true, _) => "refuses",
            (false, Some(_)) => "matched-before",
            (false, None) => "note",
        };
        let whole = rule.key == RuleKey::Select;
        Self {
            policy: rule.policy.to_string(),
            key: rule.key.label().to_owned(),
            rule: if whole { String::new() } else { rule.written.to_string() },
            file: file.to_string(),
            line: *line,
            state: state.to_owned(),
            last_matched,
            message: describe_unmatched(unmatched),
        }
    }

    /// Returns true if an enforcing run refuses removals that the rule might have protected.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.state == "refuses"
    }
}

/// Describes a rule that matches nothing, its place, and the remedy.
pub(super) fn describe_unmatched(unmatched: &UnmatchedRule) -> String {
    let UnmatchedRule { rule, effect, file, line, last_match: since, hint } = unmatched;
    let place = line.map_or_else(|| file.to_string(), |line| format!("{file}:{line}"));
    let policy = &rule.policy;
    if rule.key == RuleKey::Select {
        return format!("{place}: policy `{policy}` has never selected a tag; if none is to be expected yet, leave it");
    }
    let what = match effect {
        RuleEffect::KeepsAll => "which keeps all,",
        RuleEffect::Excludes => "an exclusion",
        RuleEffect::Keeps => "a rule of `keep`",
        RuleEffect::Selects => "",
    };
    let of = match effect {
        RuleEffect::KeepsAll => format!("of policy `{policy}`, {what}"),
        RuleEffect::Selects => format!("of policy `{policy}`"),
        RuleEffect::Excludes | RuleEffect::Keeps => format!("({what}) of policy `{policy}`"),
    };
    let none = match rule.key {
        RuleKey::Registries => "registry",
        RuleKey::Repositories => "repository",
        _ => "tag",
    };
    let (key, written) = (rule.key.label(), &rule.written);
    let hint = hint.as_ref().map(describe_hint).unwrap_or_default();
    let since = match since {
        LastMatch::Never => format!("matches no {none}"),
        LastMatch::NeverAsOf(at) => {
            format!("matched no {none} in the last plan of everything, of {}", format_minute(*at))
        }
        LastMatch::At(at) => {
            return format!(
                "{place}: `{key}: {written}` {of} matches no {none} any more; it did until {}, so nothing is refused because \
                 of it{hint}",
                format_minute(*at)
            );
        }
    };
    let allow = if unmatched.blocks_removals() {
        format!("; correct it, or write `allow_unmatched: [\"{written}\"]` in the policy if that is meant")
    } else {
        String::new()
    };
    format!("{place}: `{key}: {written}` {of} {since}{hint}{allow}")
}

fn describe_hint(hint: &RuleHint) -> String {
    let RuleHint { mistake: slip, example, suggestion: better } = hint;
    let why = match slip {
        RuleMistake::RegexSyntax => format!("it is a glob; as a regular expression it would match `{example}`"),
        RuleMistake::PartialMatch => {
            format!("it fits only a part of `{example}`, and a pattern must match the whole tag")
        }
        RuleMistake::CaseMismatch => format!("but for capital letters it would match `{example}`"),
        RuleMistake::HostPrefix => format!("without what stands before the repository it would match `{example}`"),
        RuleMistake::ParentPath => format!("it names no repository that is there, but `{example}` is below it"),
    };
    let better = better.as_ref().map(|better| format!(": write `{better}`")).unwrap_or_default();
    format!("; {why}{better}")
}
