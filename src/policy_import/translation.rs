//! Policies that another tool's rules were translated to, with everything in which they differ.

use super::expression::WholeExpression;
use super::globs::tag_globs;
use crate::policy::{Extent, NameKind, NameRelation, NameSet, matched_share};

/// What a file of another tool says, as policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translation {
    /// The policies, in the order of the original rules.
    pub policies: Vec<ImportedPolicy>,
    /// What holds of the whole file.
    pub remarks: Vec<Remark>,
}

/// One policy, and the rule that it was translated from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedPolicy {
    /// Its name.
    pub name: String,
    /// What it does, in one sentence.
    pub description: String,
    /// The original rule, line by line.
    pub original: Vec<String>,
    /// Globs of repositories.
    pub repositories: Vec<String>,
    /// The tags that it selects. `None` for a policy on untagged manifests.
    pub tags: Option<TagSelection>,
    /// What of these stays.
    pub keep: ImportedKeep,
    /// The number of seconds after which manifests without a tag are deleted.
    pub untagged_after: Option<u64>,
    /// In what it differs from the original.
    pub remarks: Vec<Remark>,
    /// It keeps tags that other policies here would remove, so they cannot do without it.
    pub holds_others: bool,
    /// Why it is left out: it stands in the file as a comment.
    pub left_out: Option<String>,
}

/// The tags that a policy selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagSelection {
    /// Globs, those with `!` excluded.
    Globs(Vec<String>),
    /// A regular expression on the whole tag.
    Pattern(String),
    /// Tags that count apart from the others, and stay, and the others: both as expressions on the whole tag.
    Apart {
        /// The tags that stay, each a group of its own.
        apart: String,
        /// The others: one group.
        rest: String,
    },
}

/// What a policy keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportedKeep {
    /// Everything.
    All,
    /// What one of the rules keeps; without rules, nothing.
    Rules(Vec<ImportedRule>),
}

/// One keep rule. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportedRule {
    /// The newest so many images.
    Newest(u32),
    /// What was pushed so recently.
    Within(u64),
    /// What was pulled so recently.
    PulledWithin(u64),
    /// Images with such a tag, and one pushed so recently.
    ImageWith {
        /// Globs of tags; none asks nothing.
        tags: Vec<String>,
        /// The time; `None` asks nothing.
        within: Option<u64>,
    },
}

/// The class of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemarkKind {
    /// The text that an expression or glob has to match.
    Matching,
    /// The order in which rules apply, and which rule of several wins.
    Priority,
    /// What a number counts.
    Count,
    /// What becomes of tags that no rule matches.
    Unmatched,
    /// Manifests without a tag.
    Untagged,
    /// The time that an age is counted from.
    Time,
    /// The repositories that the rule is evaluated on.
    Scope,
    /// Locks and immutable tags.
    Locks,
    /// Several tags of one image.
    Image,
    /// Something that a policy does not express; the policy keeps more.
    KeepsMore,
    /// Keys and options that are not understood.
    Unknown,
    /// When the tool acts, and whether it does.
    Schedule,
}

/// One difference between a policy and the rule that it was translated from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Its class.
    pub kind: RemarkKind,
    /// The difference, in a sentence without its full stop.
    pub text: String,
}

impl RemarkKind {
    /// The label that stands before the text.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Matching => "matching",
            Self::Priority => "priority",
            Self::Count => "count",
            Self::Unmatched => "unmatched tags",
            Self::Untagged => "untagged manifests",
            Self::Time => "time",
            Self::Scope => "scope",
            Self::Locks => "locks",
            Self::Image => "several tags of an image",
            Self::KeepsMore => "keeps more",
            Self::Unknown => "not understood",
            Self::Schedule => "schedule",
        }
    }
}

impl Remark {
    pub(super) fn new(kind: RemarkKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl ImportedPolicy {
    /// A policy that keeps nothing of what it selects.
    pub(super) fn new(name: String, original: Vec<String>, repositories: Vec<String>) -> Self {
        Self {
            name,
            description: String::new(),
            original,
            repositories,
            tags: Some(TagSelection::every()),
            keep: ImportedKeep::Rules(Vec::new()),
            untagged_after: None,
            remarks: Vec::new(),
            holds_others: false,
            left_out: None,
        }
    }

    pub(super) fn remark(&mut self, kind: RemarkKind, text: impl Into<String>) {
        let remark = Remark::new(kind, text);
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// Leaves it out, for the first reason that was found.
    pub(super) fn leave_out(&mut self, reason: impl Into<String>) {
        self.left_out.get_or_insert(reason.into());
    }

    /// Adds a keep rule. Of two that differ in a number alone, the one that keeps more stays.
    pub(super) fn keep_rule(&mut self, rule: ImportedRule) {
        let ImportedKeep::Rules(rules) = &mut self.keep else { return };
        for known in rules.iter_mut() {
            match (known, &rule) {
                (ImportedRule::Newest(known), ImportedRule::Newest(new)) => *known = (*known).max(*new),
                (ImportedRule::Within(known), ImportedRule::Within(new)) => *known = (*known).max(*new),
                (known, new) if known == new => {}
                _ => continue,
            }
            return;
        }
        rules.push(rule);
    }

    /// Returns true if one of its rules counts.
    pub(super) fn counts(&self) -> bool {
        self.rules().iter().any(|rule| matches!(rule, ImportedRule::Newest(_)))
    }

    /// Returns true unless surely no tag of any repository is selected by both.
    pub(super) fn shares_tags_with(&self, other: &Self) -> bool {
        let (Some(tags), Some(others)) = (&self.tags, &other.tags) else { return false };
        let disjoint = |first: Option<NameSet>, second: Option<NameSet>, kind: NameKind| {
            first
                .zip(second)
                .is_some_and(|(first, second)| first.relation(&second, kind) == Some(NameRelation::Disjoint))
        };
        let repositories = |policy: &Self| NameSet::of_globs(&policy.repositories);
        !disjoint(repositories(self), repositories(other), NameKind::Repositories)
            && !disjoint(tags.names(), others.names(), NameKind::Tags)
    }

    pub(super) fn rules(&self) -> &[ImportedRule] {
        match &self.keep {
            ImportedKeep::All => &[],
            ImportedKeep::Rules(rules) => rules,
        }
    }
}

impl TagSelection {
    /// Every tag.
    pub(super) fn every() -> Self {
        Self::Globs(vec!["*".to_owned()])
    }

    /// The tags that do not surely stay.
    fn names(&self) -> Option<NameSet> {
        match self {
            Self::Globs(globs) => NameSet::of_globs(globs),
            Self::Pattern(pattern) | Self::Apart { rest: pattern, .. } => {
                Some(NameSet::of_expressions(std::slice::from_ref(pattern)))
            }
        }
    }

    /// The tags that one of these expressions matches. `None` where no tag does.
    pub(super) fn of(include: &[WholeExpression]) -> Option<Self> {
        let expression = joined(include);
        match matched_share(NameKind::Tags, std::slice::from_ref(&expression)) {
            Extent::None => None,
            Extent::Every => Some(Self::every()),
            Extent::Some => Some(tag_globs(include).map_or(Self::Pattern(expression), Self::Globs)),
        }
    }

    /// The tags that an expression of `include` matches and none of `exclude`. `Err` where only groups can tell them apart:
    /// then the excluded tags are selected as well, and stay.
    pub(super) fn without(include: &[WholeExpression], exclude: &[WholeExpression]) -> Option<Result<Self, Self>> {
        let selected = Self::of(include)?;
        let apart: Vec<WholeExpression> = exclude
            .iter()
            .filter(|one| !matches_no_tag(one) && !are_disjoint(include, std::slice::from_ref(one)))
            .cloned()
            .collect();
        if apart.is_empty() {
            return Some(Ok(selected));
        }
        if let (Self::Globs(globs), Some(excluded)) = (&selected, tag_globs(&apart)) {
            let globs: Vec<String> =
                globs.iter().cloned().chain(excluded.iter().map(|glob| format!("!{glob}"))).collect();
            let nothing = NameSet::of_globs(&globs).is_none_or(|set| {
                set.relation(&NameSet::default(), NameKind::Tags).is_none_or(|found| found == NameRelation::Equal)
            });
            return (!nothing).then_some(Ok(Self::Globs(globs)));
        }
        let rest =
            if matches!(&selected, Self::Globs(globs) if globs == &["*"]) { ".*".to_owned() } else { joined(include) };
        Some(Err(Self::Apart { apart: joined(&apart), rest }))
    }
}

/// Returns true if surely no tag is matched, as by `-rc.*`: tags do not begin so.
fn matches_no_tag(expression: &WholeExpression) -> bool {
    matched_share(NameKind::Tags, &[expression.as_str().to_owned()]) == Extent::None
}

/// Returns true if surely no tag is matched by both.
pub(super) fn are_disjoint(first: &[WholeExpression], second: &[WholeExpression]) -> bool {
    let set = |expressions: &[WholeExpression]| {
        NameSet::of_expressions(&expressions.iter().map(|one| one.as_str().to_owned()).collect::<Vec<_>>())
    };
    set(first).relation(&set(second), NameKind::Tags) == Some(NameRelation::Disjoint)
}

/// Returns true unless surely no tag is matched by one of the globs and by that one.
pub(super) fn overlap(globs: &[String], glob: &str) -> bool {
    let relation = || NameSet::of_globs(globs)?.relation(&NameSet::of_globs(&[glob.to_owned()])?, NameKind::Tags);
    relation() != Some(NameRelation::Disjoint)
}

/// The expressions as alternatives of one. Flags of one must not reach into the next.
fn joined(expressions: &[WholeExpression]) -> String {
    if let [one] = expressions {
        return one.as_str().to_owned();
    }
    let wrapped = expressions
        .iter()
        .map(|one| if one.as_str().contains("(?") { format!("(?:{})", one.as_str()) } else { one.as_str().to_owned() });
    wrapped.collect::<Vec<_>>().join("|")
}
