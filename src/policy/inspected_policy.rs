//! Inspection of single policies: rules that keep everything, and rules without an effect.

use jiff::Timestamp;

use super::diagnostic::Diagnostic;
use super::lint_result::{Lint, Severity};
use super::load::{PolicyPlaces, PolicySet};
use super::pattern_coverage::NameKind;
use super::relation::{Language, Languages, Relation};
use super::selection::language;
use crate::domain::{Keep, KeepRule, Policy, TagSelector};

/// 2013-01-01T00:00:00Z: there were no container images before.
const FIRST_IMAGES: Timestamp = Timestamp::constant(1_356_998_400, 0);
/// More images of one group than any repository has.
const UNREACHABLE_COUNT: u32 = 100_000;

/// Inspects each policy by itself, and collects the languages of their tags and of their repositories.
pub(super) fn inspect_policies(set: &PolicySet, now: Timestamp) -> (Vec<InspectedPolicy<'_>>, Languages, Languages) {
    let (mut tags, mut repositories) = (Languages::of(NameKind::Tags), Languages::of(NameKind::Repositories));
    let look = |policy| InspectedPolicy::at(policy, set, now, (&mut tags, &mut repositories));
    let policies = set.policies.iter().filter_map(look).collect();
    (policies, tags, repositories)
}

/// A policy and the results of its inspection.
pub(super) struct InspectedPolicy<'a> {
    pub(super) policy: &'a Policy,
    pub(super) places: &'a PolicyPlaces,
    /// The number of the language of its tags.
    pub(super) tags: Option<usize>,
    /// The number of the language of its repositories.
    pub(super) repositories: Option<usize>,
    /// For each of its rules, the relation between the rule's matches and the policy's selection, if applicable.
    matching_relations: Vec<Option<Relation>>,
    /// Its keep rules as text, to compare.
    pub(super) keep_text: String,
    /// The position of the rule that keeps everything.
    unbounded_rule: Option<(usize, String)>,
}

impl<'a> InspectedPolicy<'a> {
    fn at(
        policy: &'a Policy,
        set: &'a PolicySet,
        now: Timestamp,
        (tag_languages, repository_languages): (&mut Languages, &mut Languages),
    ) -> Option<Self> {
        let tags = match &policy.select.tags {
            TagSelector::All => Some(everything()),
            TagSelector::Globs(globs) => language(globs),
            TagSelector::Pattern(pattern) => {
                Some(Language { include: vec![pattern.as_str().to_owned()], exclude: Vec::new() })
            }
            TagSelector::Untagged(_) => None,
        };
        let repositories = policy.select.repositories.as_ref().map_or_else(|| Some(everything()), language);
        let repositories = repositories.map(|language| repository_languages.add(language));
        let tags = tags.map(|language| tag_languages.add(language));
        let matching = policy.keep.rules().iter().map(|rule| match rule {
            KeepRule::Matching(globs) => {
                let matched = tag_languages.add(language(globs)?);
                tag_languages.relation(tags?, matched)
            }
            _ => None,
        });
        let matching = matching.collect();
        let (places, keeps) = (set.places.get(&policy.name)?, format!("{:?}", policy.keep));
        let mut looked = Self {
            policy,
            places,
            tags,
            repositories,
            matching_relations: matching,
            keep_text: keeps,
            unbounded_rule: None,
        };
        let mut rules = policy.keep.rules().iter().enumerate();
        looked.unbounded_rule =
            rules.find_map(|(at, rule)| Some((at, looked.keeps_everything_because(at, rule, now)?)));
        Some(looked)
    }

    /// Returns why a rule keeps everything that the policy selects, if it does.
    fn keeps_everything_because(&self, at: usize, rule: &KeepRule, now: Timestamp) -> Option<String> {
        match rule {
            // Whatever they keep, they keep no more than the limit.
            KeepRule::Newest(_) if self.policy.keep.at_most().is_some() => None,
            KeepRule::Newest(count) if count.get() >= UNREACHABLE_COUNT => {
                Some(format!("`newest: {count}` are more images than a repository has"))
            }
            KeepRule::NewestPer { count, .. } if count.get() >= UNREACHABLE_COUNT => {
                Some(format!("`count: {count}` are more images than a version line has"))
            }
            KeepRule::Within(span) if now.checked_sub(span.duration).is_ok_and(|start| start > FIRST_IMAGES) => None,
            KeepRule::Within(span) => {
                Some(format!("`within: {}` is longer than there have been container images", span.written))
            }
            KeepRule::Matching(_) => {
                let inside = self.matching_relation(at).is_some_and(|relation| !relation.only_first);
                inside.then(|| "its `matching` matches every tag that it selects".to_owned())
            }
            KeepRule::Newest(_)
            | KeepRule::NewestPer { .. }
            | KeepRule::Bucketed { .. }
            | KeepRule::ImageWith { .. }
            | KeepRule::PulledWithin(_)
            | KeepRule::AtMost(_) => None,
        }
    }

    fn matching_relation(&self, rule: usize) -> Option<Relation> {
        self.matching_relations.get(rule).copied().flatten()
    }

    /// Returns why nothing that it selects can ever expire, in a phrase; `None` if something can.
    pub(super) fn never_expires_because(&self) -> Option<&'static str> {
        match (&self.policy.keep, &self.unbounded_rule) {
            (Keep::All, _) => Some("keeps all"),
            (_, Some(_)) => Some("never removes anything"),
            _ => None,
        }
    }

    pub(super) fn new_lint(&self, severity: Severity, kind: &'static str, diagnostic: Diagnostic) -> Lint {
        Lint { severity, kind, policy: self.policy.name.to_string(), diagnostic }
    }

    fn rule_place(&self, at: usize) -> &Diagnostic {
        self.places.rules.get(at).unwrap_or(&self.places.name)
    }

    /// Lints the policy without the others.
    pub(super) fn lint_alone(&self, found: &mut Vec<Lint>) {
        if let (Some(why), Some(then)) = (self.never_expires_because(), &self.places.then) {
            let message = format!("`then` has no effect: policy `{}` {why}", self.policy.name);
            let diagnostic =
                then.with_message_and_help(message, "leave it out: manifests are deleted only after their untags");
            found.push(self.new_lint(Severity::Warning, "then-without-effect", diagnostic));
        }
        if let Some((at, why)) = &self.unbounded_rule {
            let message = format!("policy `{}` never removes anything: {why}", self.policy.name);
            let diagnostic = self.rule_place(*at).with_message_and_help(message, "if that is meant, write `keep: all`");
            found.push(self.new_lint(Severity::Warning, "never-expires", diagnostic));
            return;
        }
        let rules = self.policy.keep.rules();
        for (at, rule) in rules.iter().enumerate() {
            let is_limited = |rule: &KeepRule| {
                matches!(rule, KeepRule::Newest(_) | KeepRule::Bucketed { .. } | KeepRule::PulledWithin(_))
            };
            let why = match rule {
                KeepRule::AtMost(_) if !rules.iter().any(is_limited) => {
                    Some("there is no rule beside it that it limits".to_owned())
                }
                KeepRule::Matching(_) if self.matching_relation(at).is_some_and(|found| !found.both) => {
                    Some("it matches no tag that this policy selects".to_owned())
                }
                rule => rules.iter().enumerate().find_map(|(other_at, other)| {
                    let covered = covers(other, rule) && (!covers(rule, other) || other_at < at);
                    (other_at != at && covered).then(|| "another rule here keeps all that it keeps".to_owned())
                }),
            };
            if let Some(why) = why {
                let diagnostic = self
                    .rule_place(at)
                    .with_message_and_help(format!("this rule has no effect: {why}"), "remove it, or correct it");
                found.push(self.new_lint(Severity::Warning, "rule-without-effect", diagnostic));
            }
        }
    }
}

fn everything() -> Language {
    Language { include: vec!["^(?s:.*)$".to_owned()], exclude: Vec::new() }
}

/// Returns true if a rule certainly keeps everything that another keeps, by being the same kind with a larger number.
fn covers(rule: &KeepRule, other: &KeepRule) -> bool {
    match (rule, other) {
        (KeepRule::Newest(a), KeepRule::Newest(b)) => a >= b,
        (KeepRule::Within(a), KeepRule::Within(b)) | (KeepRule::PulledWithin(a), KeepRule::PulledWithin(b)) => {
            a.duration >= b.duration
        }
        (KeepRule::Bucketed { period, count }, KeepRule::Bucketed { period: of, count: b }) => {
            period == of && count >= b
        }
        (KeepRule::NewestPer { version, count }, KeepRule::NewestPer { version: of, count: b }) => {
            version == of && count >= b
        }
        _ => false,
    }
}
