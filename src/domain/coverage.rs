//! Rules that may protect tags, and those that match nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{PolicyName, SharedText};

/// The key of a policy that contains a rule.
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
    /// A glob of tags to keep.
    Matching,
}

/// One rule of a policy: a name, a glob or a pattern as it is written. An edit makes it another rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    /// The policy.
    pub policy: PolicyName,
    /// The key that contains it.
    pub key: RuleKey,
    /// Its text, with `!` if it excludes.
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
    /// The rules with these texts.
    Rules(Vec<String>),
}

/// Matches that earlier plans of everything found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleHistory {
    /// The last match of each rule, by the address of the registry where it was.
    pub matched: BTreeMap<RuleId, BTreeMap<String, Timestamp>>,
    /// The rules that never matched, with the time of the last full plan that reported so.
    pub unmatched: BTreeMap<RuleId, Timestamp>,
}

/// The inventory that rules are checked against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CoverageBasis {
    /// None: rules are not checked.
    #[default]
    NotChecked,
    /// The whole inventory. If a selected registry was not read in full, the last full plan decides.
    FullInventory,
    /// A part of it: the last full plan decides.
    LastFullPlan,
}

/// The rules that match nothing, and the inventory they were checked against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The inventory they were checked against.
    pub basis: CoverageBasis,
    /// The matches of earlier plans.
    pub history: RuleHistory,
    /// The rules that match nothing, in order.
    pub unmatched: Vec<UnmatchedRule>,
    /// The addresses of the checked registries in which each rule matches.
    pub matched: BTreeMap<RuleId, BTreeSet<String>>,
}

/// A rule that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedRule {
    /// The rule.
    pub rule: RuleId,
    /// Its effect if it matched.
    pub effect: RuleEffect,
    /// The policy's file.
    pub file: Arc<str>,
    /// Its line there, from 1, if known.
    pub line: Option<u32>,
    /// Its last match.
    pub last_match: LastMatch,
    /// Its probable mistake, if one was recognized.
    pub hint: Option<RuleHint>,
}

/// The effect of a rule on the tags that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleEffect {
    /// It selects for a policy with `keep: all`, so matching tags are retained.
    KeepsAll,
    /// It excludes tags from its policy's selection.
    Excludes,
    /// It names tags that its policy keeps.
    Keeps,
    /// It selects for a policy that may remove tags.
    Selects,
}

/// The last match of a rule that matches nothing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastMatch {
    /// Never, as far back as the state goes.
    Never,
    /// Never, according to the last full plan, made at that time; this plan could not check it.
    NeverAsOf(Timestamp),
    /// It matched at that time.
    At(Timestamp),
}

/// The probable mistake in a rule that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleHint {
    /// The kind of mistake.
    pub mistake: RuleMistake,
    /// A name that it would match.
    pub example: String,
    /// A corrected rule that would match the example, if one can be derived.
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
    /// A host or a registry's name precedes the repository.
    HostPrefix,
    /// It names a parent path; the existing repositories are below it.
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

    /// Returns the key with that name.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        let all = [Self::Select, Self::Registries, Self::Repositories, Self::Tags, Self::Pattern, Self::Matching];
        all.into_iter().find(|key| key.label() == label)
    }
}

impl AllowUnmatched {
    /// Returns true if a rule with that text may match nothing.
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
    /// Returns the last match of a rule in a registry at one of these addresses.
    #[must_use]
    pub fn matched_at<'a>(&self, rule: &RuleId, mut endpoints: impl Iterator<Item = &'a str>) -> Option<Timestamp> {
        let there = self.matched.get(rule)?;
        endpoints.by_ref().filter_map(|endpoint| there.get(endpoint).copied()).max()
    }
}

impl UnmatchedRule {
    /// Returns true if an enforcing run refuses to remove tags that the rule might have protected.
    #[must_use]
    pub fn blocks_removals(&self) -> bool {
        self.effect != RuleEffect::Selects && !matches!(self.last_match, LastMatch::At(_))
    }
}
