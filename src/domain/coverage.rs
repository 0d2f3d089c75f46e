//! Rules that may protect tags, and those of them that match nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{PolicyName, SharedText};

/// The key of a policy under which a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKey {
    /// The whole selector of a policy.
    Select,
    /// A registry's name.
    Registries,
    /// A glob of repositories.
    Repositories,
    /// A glob of tags.
    Tags,
    /// The regular expression of tags.
    Pattern,
    /// A glob of tags that stay.
    Matching,
}

/// One rule of a policy: a name, a glob or a pattern as it is written. An edit makes it another rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    /// The policy.
    pub policy: PolicyName,
    /// The key under which it stands.
    pub key: RuleKey,
    /// Its text, with `!` where it excludes.
    pub written: SharedText,
}

/// The rules of a policy that may match nothing without consequences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AllowUnmatched {
    /// None of them.
    #[default]
    None,
    /// All of them.
    All,
    /// Those with these texts.
    Rules(Vec<String>),
}

/// Matches that earlier plans of everything found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleHistory {
    /// The last match of each rule, by the address of the registry where it was.
    pub matched: BTreeMap<RuleId, BTreeMap<String, Timestamp>>,
    /// The rules that never matched, with the time of the last whole plan that said so.
    pub unmatched: BTreeMap<RuleId, Timestamp>,
}

/// The inventory by which rules are judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CoverageBasis {
    /// None: nothing is judged.
    #[default]
    NotChecked,
    /// The whole inventory. Where a selected registry was not read whole, the last whole plan decides.
    FullInventory,
    /// A part of it: the last whole plan decides.
    LastFullPlan,
}

/// The rules that match nothing, and what they were judged by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// What they were judged by.
    pub basis: CoverageBasis,
    /// What earlier plans found.
    pub history: RuleHistory,
    /// The rules that match nothing, in order.
    pub unmatched: Vec<UnmatchedRule>,
    /// The addresses of the registries in which each rule matches, of those that were looked at.
    pub matched: BTreeMap<RuleId, BTreeSet<String>>,
}

/// A rule that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedRule {
    /// The rule.
    pub rule: RuleId,
    /// What it would do if it matched.
    pub effect: RuleEffect,
    /// The policy's file.
    pub file: Arc<str>,
    /// Its line there, from 1; `None` where that is not known.
    pub line: Option<u32>,
    /// When it matched before.
    pub last_match: LastMatch,
    /// What was probably meant.
    pub hint: Option<RuleHint>,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleEffect {
    /// It selects for a policy with `keep: all`, so what it matches stays.
    KeepsAll,
    /// It takes away from what its policy selects.
    Excludes,
    /// It names tags that its policy keeps.
    Keeps,
    /// It selects for a policy that lets tags go.
    Selects,
}

/// Whether a rule that matches nothing ever matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastMatch {
    /// Never, as far as the state goes back.
    Never,
    /// Never, by the last plan of everything, made at that time; this one could not judge.
    NeverAsOf(Timestamp),
    /// It matched at that time.
    At(Timestamp),
}

/// What was probably meant by a rule that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleHint {
    /// What is wrong with it.
    pub mistake: RuleMistake,
    /// A name that it would match.
    pub example: String,
    /// The rule that would match it, where it can be said.
    pub suggestion: Option<String>,
}

/// A slip in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleMistake {
    /// It is written as a regular expression, and globs are not.
    RegexSyntax,
    /// Its pattern matches a part of a tag, and must match all of it.
    PartialMatch,
    /// Capital letters differ.
    CaseMismatch,
    /// A host or a registry's name stands before the repository.
    HostPrefix,
    /// It names a repository, and those that are there are below it.
    ParentPath,
}

impl RuleKey {
    /// Its name in policy files.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Registries => "registries",
            Self::Repositories => "repositories",
            Self::Tags => "tags",
            Self::Pattern => "pattern",
            Self::Matching => "matching",
        }
    }

    /// The key of that name.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        let all = [Self::Select, Self::Registries, Self::Repositories, Self::Tags, Self::Pattern, Self::Matching];
        all.into_iter().find(|key| key.label() == label)
    }
}

impl AllowUnmatched {
    /// Whether a rule with that text may match nothing.
    #[must_use]
    pub fn allows(&self, written: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Rules(rules) => rules.iter().any(|rule| rule == written),
        }
    }
}

impl RuleHistory {
    /// The last match of a rule in a registry at one of these addresses.
    #[must_use]
    pub fn matched_at<'a>(&self, rule: &RuleId, mut endpoints: impl Iterator<Item = &'a str>) -> Option<Timestamp> {
        let there = self.matched.get(rule)?;
        endpoints.by_ref().filter_map(|endpoint| there.get(endpoint).copied()).max()
    }
}

impl UnmatchedRule {
    /// Whether an enforcing run refuses what the rule might have protected.
    #[must_use]
    pub fn blocks_removals(&self) -> bool {
        self.effect != RuleEffect::Selects && !matches!(self.last_match, LastMatch::At(_))
    }
}
