//! Policies: selection of tags, rules that keep them, and limits on removals.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use regex::Regex;

use super::{
    AllowUnmatched, ArtifactType, Cron, PolicyName, RegistryName, RepositoryName, RuleKey, SharedText, TextCondition,
};

/// One policy, validated.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name, unique over all files.
    pub name: PolicyName,
    /// Its purpose, in its author's words.
    pub description: Option<String>,
    /// The contact for questions about it.
    pub owner: Option<String>,
    /// The tags that it selects.
    pub select: Selector,
    /// Named groups of the selector's pattern: the keep rules apply to each combination of their values apart.
    pub group_by: Vec<String>,
    /// The tags that it keeps.
    pub keep: Keep,
    /// The grace period after the removal of a manifest's last tag, after which the manifest is deleted as well; `None`
    /// means never.
    pub delete_manifest_after: Option<WrittenDuration>,
    /// Dry run or enforcement.
    pub mode: PolicyMode,
    /// The policy's own limits.
    pub limits: PolicyLimits,
    /// The times at which the daemon may remove its tags; `None` means the schedule of the settings.
    pub schedule: Option<Cron>,
    /// The rules that may match nothing.
    pub allow_unmatched: AllowUnmatched,
    /// The line of each rule in its file, from 1, by key and text.
    pub lines: BTreeMap<(RuleKey, String), u32>,
    /// Its file, relative to the policies folder.
    pub file: Arc<str>,
    /// The content hash of that file, `sha256:…`.
    pub revision: Arc<str>,
}

/// Mode of a policy: report removals, or carry them out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PolicyMode {
    /// Removals are only reported.
    #[default]
    DryRun,
    /// Removals are carried out.
    Enforce,
}

/// The selection of tags by a policy.
#[derive(Debug, Clone)]
pub struct Selector {
    /// The registries; `None` means all.
    pub registries: Option<Vec<RegistryName>>,
    /// The repositories; `None` means all. `*` does not cross path segments.
    pub repositories: Option<Globs>,
    /// The tags.
    pub tags: TagSelector,
    /// The conditions on facts besides names.
    pub facts: FactSelector,
}

/// The conditions of a selector on facts. All of them must hold, and an empty one asks nothing. A fact that is unknown
/// leaves open whether the policy selects a tag: then the tag is retained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FactSelector {
    /// The time for which nothing may have been pushed to the repository, or pulled from it.
    pub idle: Option<WrittenDuration>,
    /// The types of artifacts, one of which a tag has to name; never empty.
    pub types: Option<Vec<ArtifactType>>,
    /// The annotations that the manifest has to have; empty asks nothing.
    pub annotations: Vec<TextCondition>,
    /// The labels that the image has to have; empty asks nothing.
    pub labels: Vec<TextCondition>,
}

/// The selection of tags in a selected repository.
#[derive(Debug, Clone)]
pub enum TagSelector {
    /// All.
    All,
    /// The tags that the globs match.
    Globs(Globs),
    /// The tags that the regular expression matches as a whole; it is already anchored at both ends.
    Pattern(Regex),
    /// None: the policy speaks of manifests that no tag references, and has them deleted so long after they were found
    /// free.
    Untagged(WrittenDuration),
}

/// A list of globs; those with `!` exclude matches of the others.
#[derive(Debug, Clone)]
pub struct Globs {
    include: Vec<(Pattern, SharedText)>,
    exclude: Vec<Pattern>,
    written: Vec<String>,
}

/// One glob of a list, by itself.
#[derive(Debug, Clone, Copy)]
pub struct Glob<'a> {
    /// As written, with `!` if it excludes.
    pub written: &'a str,
    /// True if it excludes.
    pub excludes: bool,
    pattern: &'a Pattern,
}

/// One glob, compiled.
#[derive(Debug, Clone)]
enum Pattern {
    /// Plain text with one star in it, as most globs are: comparing its ends is much cheaper than a search.
    OneStar { start: Box<str>, end: Box<str> },
    /// Any other.
    Glob(GlobMatcher),
}

/// The tags that a policy keeps.
#[derive(Debug, Clone)]
pub enum Keep {
    /// Every tag that it selects.
    All,
    /// None of them.
    None,
    /// Tags that at least one rule keeps; never empty.
    Rules(Vec<KeepRule>),
}

/// One keep rule.
#[derive(Debug, Clone)]
pub enum KeepRule {
    /// The newest distinct images per repository and group.
    Newest(NonZeroU32),
    /// Tags pushed within that time before now.
    Within(WrittenDuration),
    /// The newest image of each of the last `count` periods that have one.
    Bucketed {
        /// The period.
        period: Period,
        /// The number of periods.
        count: NonZeroU32,
    },
    /// The `count` distinct images with the highest versions of each version line; every line counts.
    NewestPer {
        /// The part of the version that defines a line.
        version: VersionPart,
        /// The number of distinct images of each line.
        count: NonZeroU32,
    },
    /// Tags that the globs match.
    Matching(Globs),
    /// All tags of an image that has a tag with such a name, and a tag that was pushed so recently. At least one of the
    /// two is there; one that is not asks nothing.
    ImageWith {
        /// The globs that one of the image's tags matches, selected or not.
        tags: Option<Globs>,
        /// The time before now within which one of the image's tags was pushed.
        within: Option<WrittenDuration>,
    },
    /// Images pulled within that time before now; one that was never pulled counts by its push.
    PulledWithin(WrittenDuration),
    /// Keeps nothing, and limits what the rules by time keep beside it to so many distinct images per repository and group,
    /// the newest first. What a `within` rule keeps stays, and so does what has no time.
    AtMost(NonZeroU32),
}

/// A positive duration together with how it was written (`14d`), for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenDuration {
    /// The duration.
    pub duration: SignedDuration,
    /// As written.
    pub written: SharedText,
}

/// A calendar period. Weeks are ISO weeks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// A calendar day.
    Day,
    /// An ISO week, Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

/// The part of a version that defines a line: versions that agree up to it belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VersionPart {
    /// `1.x.y`
    Major,
    /// `1.2.x`
    Minor,
    /// `1.2.3`, with its pre-releases
    Patch,
}

/// The limits of one policy; `None` means that only the settings' limits apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyLimits {
    /// Most removals of this policy in one run.
    pub untag: Option<u32>,
    /// Most removals of this policy per repository, in percent of the repository's tags.
    pub percent: Option<u32>,
}

/// The limits of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most removals in one run.
    pub untag: u32,
    /// Most removals per repository, in percent of its tags (0 to 100).
    pub percent: u32,
    /// Fewest tags that a repository is left with.
    pub leave: u32,
    /// Most manifests that are deleted in one run, dependents included.
    pub delete: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { untag: 1000, percent: 50, leave: 1, delete: 1000 }
    }
}

/// The input of a decision: the policies and the settings that affect them.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The policies, by name.
    pub policies: Vec<Policy>,
    /// The settings' limits.
    pub limits: Limits,
    /// The time zone of days, weeks, months and years.
    pub timezone: TimeZone,
    /// The period for which an untag must remain undoable.
    pub undo_window: Duration,
}

impl Policy {
    /// Returns true if it selects from that registry.
    #[must_use]
    pub fn covers(&self, registry: &RegistryName) -> bool {
        self.select.registries.as_ref().is_none_or(|names| names.contains(registry))
    }

    /// Returns the waiting period after which it has manifests without a tag deleted, or `None` if it speaks of tags.
    #[must_use]
    pub fn untagged_after(&self) -> Option<&WrittenDuration> {
        match &self.select.tags {
            TagSelector::Untagged(after) => Some(after),
            TagSelector::All | TagSelector::Globs(_) | TagSelector::Pattern(_) => None,
        }
    }

    /// Returns true if it has manifests without a tag deleted in a repository.
    #[must_use]
    pub fn deletes_untagged_in(&self, registry: &RegistryName, repository: &RepositoryName) -> bool {
        let globs = self.select.repositories.as_ref();
        self.untagged_after().is_some()
            && self.covers(registry)
            && globs.is_none_or(|globs| globs.matches(repository.as_str()))
    }
}

impl FactSelector {
    /// Returns true if it asks nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Rules {
    /// Returns true if a policy has manifests without a tag deleted in a repository.
    #[must_use]
    pub fn delete_untagged_in(&self, registry: &RegistryName, repository: &RepositoryName) -> bool {
        self.policies.iter().any(|policy| policy.deletes_untagged_in(registry, repository))
    }
}

impl Keep {
    /// Returns the most images that its rules by time keep, where it limits them.
    #[must_use]
    pub fn at_most(&self) -> Option<NonZeroU32> {
        self.rules().iter().find_map(|rule| match rule {
            KeepRule::AtMost(count) => Some(*count),
            _ => None,
        })
    }

    /// Returns the rules; empty for [`Keep::All`] and [`Keep::None`].
    #[must_use]
    pub fn rules(&self) -> &[KeepRule] {
        match self {
            Self::Rules(rules) => rules,
            Self::All | Self::None => &[],
        }
    }
}

impl PolicyMode {
    /// Returns the label used in files and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::DryRun => "dry-run",
            Self::Enforce => "enforce",
        }
    }
}

impl Period {
    /// Returns the rule's name in policy files: `daily`, …
    #[must_use]
    pub fn rule_name(self) -> &'static str {
        match self {
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }
}

impl VersionPart {
    /// Returns the label used in policy files.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Major => "major",
            Self::Minor => "minor",
            Self::Patch => "patch",
        }
    }
}

impl Globs {
    /// Compiles globs; those that start with `!` exclude. `*` and `?` stay inside one path segment, `**` crosses them.
    ///
    /// # Errors
    /// Returns the position of the first invalid glob, and its error.
    pub fn new<S: AsRef<str>>(globs: &[S]) -> Result<Self, (usize, globset::Error)> {
        let (mut include, mut exclude) = (Vec::new(), Vec::new());
        for (index, written) in globs.iter().enumerate() {
            let written = written.as_ref();
            let pattern = |text| Pattern::new(text).map_err(|error| (index, error));
            match written.strip_prefix('!') {
                Some(rest) => exclude.push(pattern(rest)?),
                None => include.push((pattern(written)?, written.into())),
            }
        }
        Ok(Self { include, exclude, written: globs.iter().map(|glob| glob.as_ref().to_owned()).collect() })
    }

    /// Returns true if a glob matches and no exclusion does.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.first_match(text).is_some()
    }

    /// Returns the first glob that matches, as written, unless an exclusion matches too.
    #[must_use]
    pub fn first_match(&self, text: &str) -> Option<&SharedText> {
        let (_, written) = self.include.iter().find(|(pattern, _)| pattern.matches(text))?;
        (!self.exclude.iter().any(|pattern| pattern.matches(text))).then_some(written)
    }

    /// Returns the globs as written.
    #[must_use]
    pub fn written(&self) -> &[String] {
        &self.written
    }

    /// Returns each glob by itself, in written order.
    pub fn globs(&self) -> impl Iterator<Item = Glob<'_>> {
        let mut include = self.include.iter().map(|(pattern, _)| pattern);
        let mut exclude = self.exclude.iter();
        self.written.iter().filter_map(move |written| {
            let excludes = written.starts_with('!');
            let pattern = if excludes { exclude.next() } else { include.next() }?;
            Some(Glob { written, excludes, pattern })
        })
    }
}

impl Glob<'_> {
    /// Returns true if it matches a text, regardless of the other globs and of `!`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.pattern.matches(text)
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, globset::Error> {
        let glob = GlobBuilder::new(text).literal_separator(true).build()?;
        Ok(match text.split_once('*') {
            Some((start, end)) if !format!("{start}{end}").contains(['*', '?', '[', ']', '{', '}', '\\']) => {
                Self::OneStar { start: start.into(), end: end.into() }
            }
            _ => Self::Glob(glob.compile_matcher()),
        })
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::OneStar { start, end } => {
                let (text, start, end) = (text.as_bytes(), start.as_bytes(), end.as_bytes());
                // Byte by byte: the first difference comes early, and a call to `memcmp` costs more than that.
                let starts = text.iter().zip(start).all(|(a, b)| a == b);
                let ends = text.iter().rev().zip(end.iter().rev()).all(|(a, b)| a == b);
                let middle =
                    if starts && ends { text.get(start.len()..text.len().wrapping_sub(end.len())) } else { None };
                middle.is_some_and(|middle| !middle.contains(&b'/'))
            }
            Self::Glob(glob) => glob.is_match(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_star_matches_what_the_glob_does(
            start in "[a./!,-]{0,3}", middle in "[a./!,-]{0,2}", end in "[a./!,-]{0,3}", other in "[a./!,-]{0,7}",
        ) {
            let written = format!("{start}*{end}");
            let pattern = Pattern::new(&written).unwrap();
            let by_ends = matches!(pattern, Pattern::OneStar { .. });
            prop_assert!(by_ends);
            let glob = GlobBuilder::new(&written).literal_separator(true).build().unwrap().compile_matcher();
            for text in [format!("{start}{middle}{end}"), format!("{start}{other}"), format!("{other}{end}"), other] {
                prop_assert_eq!(pattern.matches(&text), glob.is_match(&text), "{}", text);
            }
        }
    }
}
