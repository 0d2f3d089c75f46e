//! Policies that select the same tags.
//!
//! Comparing all pairs would take quadratic time. So only policies whose names can share a prefix and a suffix are
//! compared, equal selectors are compared once, and the findings about one policy become one lint. Walks end early: a
//! policy that overlaps with several is reported to overlap with more.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::inspected_policy::InspectedPolicy;
use super::lint_result::{Lint, Severity};
use super::relation::{Languages, RelationQuery, WalkBudget};

/// Overlaps of one policy after which no more are searched by walking.
const MAX_OVERLAPS: usize = 5;
/// The number of them that are named.
const MAX_NAMED: usize = 3;
/// States that may be walked for each policy.
const STATES_PER_POLICY: usize = 250;
/// Additional states for all policies together: enough to compare a hundred with each other.
const SHARED_STATES: usize = 100_000;

/// Finds policies that others make pointless, and those that may select the same tags as others.
pub(super) fn lint_overlaps(
    policies: &[InspectedPolicy<'_>],
    languages: (&Languages, &Languages),
    found: &mut Vec<Lint>,
) {
    lint_overlaps_within(policies, languages, (STATES_PER_POLICY, SHARED_STATES), found);
}

fn lint_overlaps_within(
    policies: &[InspectedPolicy<'_>],
    (tags, repositories): (&Languages, &Languages),
    (each, shared): (usize, usize),
    found: &mut Vec<Lint>,
) {
    let neighbours = Neighbours::of(policies, tags, repositories);
    let pairs = Pairs { policies, tags, repositories, neighbours };
    for warn in [true, false] {
        // A separate budget for each kind, so that notes take nothing from warnings.
        let mut effort = WalkBudget::new(each, shared);
        for at in 0..policies.len() {
            effort.start_policy();
            found.extend(if warn { pairs.shadow(at, &mut effort) } else { pairs.overlap(at, &mut effort) });
        }
    }
}

/// The texts that distinguish two selections without a walk: the registries, and the prefixes and suffixes of
/// repositories and tags. They can only intersect if, for each kind, a text of one is a prefix of a text of the other.
type AffixSets = [BTreeSet<String>; 5];

fn texts(policy: &InspectedPolicy<'_>, tags: &Languages, repositories: &Languages) -> AffixSets {
    let registries = match &policy.policy.select.registries {
        None => BTreeSet::from([String::new()]),
        // Names are complete: none is a prefix of another one with the end of a line.
        Some(names) => names.iter().map(|name| format!("{name}\n")).collect(),
    };
    let both_ends = |languages: &Languages, number: Option<usize>| -> [BTreeSet<String>; 2] {
        let literals = number.map(|number| languages.literals(number)).unwrap_or_default();
        let starts = literals.iter().map(|literals| literals.start().to_owned());
        // Reversed, so that a suffix is a prefix.
        let ends = literals.iter().map(|literals| literals.end().chars().rev().collect::<String>());
        [starts.collect(), ends.collect()]
    };
    let [tags_start, tags_end] = both_ends(tags, policy.tags);
    let [repositories_start, repositories_end] = both_ends(repositories, policy.repositories);
    [registries, repositories_start, repositories_end, tags_start, tags_end]
}

/// For each policy, those that it may overlap with by their texts.
struct Neighbours {
    texts: Vec<AffixSets>,
    /// The policies that have a text, by kind.
    by_text: [BTreeMap<String, Vec<usize>>; 5],
}

impl Neighbours {
    fn of(policies: &[InspectedPolicy<'_>], tags: &Languages, repositories: &Languages) -> Self {
        let texts: Vec<AffixSets> = policies.iter().map(|policy| texts(policy, tags, repositories)).collect();
        let mut having: [BTreeMap<String, Vec<usize>>; 5] = std::array::from_fn(|_| BTreeMap::new());
        for (at, texts) in texts.iter().enumerate() {
            for (having, texts) in having.iter_mut().zip(texts) {
                for text in texts {
                    having.entry(text.clone()).or_default().push(at);
                }
            }
        }
        Self { texts, by_text: having }
    }

    /// Returns the policies that one of them may overlap with, by the most distinctive kind of text, in order.
    fn candidates(&self, at: usize) -> Vec<usize> {
        let kinds =
            self.by_text.iter().zip(&self.texts[at]).filter_map(|(having, texts)| with_common_prefix(having, texts));
        let fewest = kinds.min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>());
        let Some(lists) = fewest else { return (0..self.texts.len()).filter(|other| *other != at).collect() };
        let mut near: Vec<usize> = lists.into_iter().flatten().copied().filter(|other| *other != at).collect();
        near.sort_unstable();
        near.dedup();
        near
    }
}

/// Returns the policies with a text that has one of these as a prefix, or is a prefix of one. `None` if that is all.
fn with_common_prefix<'a>(
    having: &'a BTreeMap<String, Vec<usize>>,
    texts: &BTreeSet<String>,
) -> Option<Vec<&'a [usize]>> {
    let mut found = Vec::new();
    for text in texts {
        if text.is_empty() {
            return None;
        }
        let longer = having.range::<str, _>((Bound::Included(text.as_str()), Bound::<&str>::Unbounded));
        let longer = longer.take_while(|(longer, _)| longer.starts_with(text.as_str()));
        found.extend(longer.map(|(_, policies)| policies.as_slice()));
        let shorter = text.char_indices().filter_map(|(end, _)| having.get(&text[..end]));
        found.extend(shorter.map(Vec::as_slice));
    }
    Some(found)
}

/// Policies that are compared with each other.
struct Pairs<'a> {
    policies: &'a [InspectedPolicy<'a>],
    tags: &'a Languages,
    repositories: &'a Languages,
    neighbours: Neighbours,
}

impl Pairs<'_> {
    /// Returns the lint for a policy that keeps everything another one would expire, if there is one; the first of
    /// several.
    fn shadow(&self, at: usize, effort: &mut WalkBudget) -> Option<Lint> {
        let inner = &self.policies[at];
        if inner.never_expires_because().is_some() {
            return None;
        }
        let near = self.neighbours.candidates(at).into_iter().map(|other| &self.policies[other]);
        let mut keeping = near.filter_map(|outer| Some((outer, outer.never_expires_because()?)));
        let (outer, why) = keeping.find(|(outer, _)| {
            self.is_subset(inner, outer, effort) == Some(true) && self.intersect(inner, outer, effort) == Some(true)
        })?;
        let (name, other) = (&inner.policy.name, &outer.policy.name);
        let message =
            format!("policy `{name}` removes nothing: policy `{other}` {why}, and selects all that this one does");
        let help = "a keep anywhere wins: narrow the other policy, or remove this one";
        let mut diagnostic = inner.places.name.with_message_and_help(message, help);
        diagnostic.add_secondary(outer.places.name.with_message("the other policy"));
        Some(inner.new_lint(Severity::Warning, "shadowed", diagnostic))
    }

    /// Returns the policies after one of them that may select the same tags, as one note.
    fn overlap(&self, at: usize, effort: &mut WalkBudget) -> Option<Lint> {
        let policy = &self.policies[at];
        if policy.never_expires_because().is_some() {
            return None;
        }
        let (mut others, mut unknown) = (Vec::new(), false);
        for other in self.neighbours.candidates(at).into_iter().filter(|other| *other > at) {
            let other = &self.policies[other];
            // It speaks of no tags.
            if other.policy.untagged_after().is_some() {
                continue;
            }
            let same = policy.policy.mode == other.policy.mode && policy.keep_text == other.keep_text;
            if same || other.never_expires_because().is_some() {
                continue;
            }
            match self.intersect(policy, other, effort) {
                Some(true) => others.push(other),
                Some(false) => {}
                None => unknown = true,
            }
            if others.len() >= MAX_OVERLAPS {
                effort.end_policy();
            }
        }
        let first = others.first()?;
        let message = overlap_message(policy, &others, unknown);
        let mut diagnostic = policy
            .places
            .name
            .with_message_and_help(message, "if that is not meant, let the selectors exclude each other");
        let what = if others.len() == 1 { "the other policy" } else { "the first of them" };
        diagnostic.add_secondary(first.places.name.with_message(what));
        Some(policy.new_lint(Severity::Note, "overlap", diagnostic))
    }

    /// Returns true if some tag is selected by both, or `None` if that is not known.
    fn intersect(&self, a: &InspectedPolicy<'_>, b: &InspectedPolicy<'_>, effort: &mut WalkBudget) -> Option<bool> {
        let (repositories, tags) = ((a.repositories?, b.repositories?), (a.tags?, b.tags?));
        let registries = match (&a.policy.select.registries, &b.policy.select.registries) {
            (Some(a), Some(b)) => a.iter().any(|name| b.contains(name)),
            _ => true,
        };
        if !registries
            || self.repositories.is_disjoint(repositories.0, repositories.1)
            || self.tags.is_disjoint(tags.0, tags.1)
        {
            return Some(false);
        }
        Some(
            self.repositories.query(RelationQuery::Intersects, repositories, effort)?
                && self.tags.query(RelationQuery::Intersects, tags, effort)?,
        )
    }

    /// Returns true if another policy selects all that one selects, or `None` if that is not known.
    fn is_subset(
        &self,
        inner: &InspectedPolicy<'_>,
        outer: &InspectedPolicy<'_>,
        effort: &mut WalkBudget,
    ) -> Option<bool> {
        let registries = match (&inner.policy.select.registries, &outer.policy.select.registries) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(inner), Some(outer)) => inner.iter().all(|name| outer.contains(name)),
        };
        let repositories = (inner.repositories?, outer.repositories?);
        let tags = (inner.tags?, outer.tags?);
        let facts = &outer.policy.select.facts;
        Some(
            registries
                && (facts.is_empty() || *facts == inner.policy.select.facts)
                && self.repositories.query(RelationQuery::IsSubset, repositories, effort)?
                && self.tags.query(RelationQuery::IsSubset, tags, effort)?,
        )
    }
}

/// Explains that a policy may select the same tags as others; `unknown` is true if there may be more of them.
fn overlap_message(policy: &InspectedPolicy<'_>, others: &[&InspectedPolicy<'_>], unknown: bool) -> String {
    let name = &policy.policy.name;
    let in_another_mode = others.iter().filter(|other| other.policy.mode != policy.policy.mode).count();
    if let [other] = others {
        let consequence = if in_another_mode == 0 {
            "such a tag stays if either keeps it"
        } else {
            "what both let go is only reported, since a removal needs all of them to say `enforce`"
        };
        return format!("policies `{name}` and `{}` may select the same tags: {consequence}", other.policy.name);
    }
    let consequence = if in_another_mode == 0 {
        "such a tag stays if any of them keeps it"
    } else if in_another_mode == others.len() {
        "what it and another let go is only reported, since a removal needs all of them to say `enforce`"
    } else {
        "such a tag stays if any of them keeps it, and is only reported where one of them does not say `enforce`"
    };
    let named: Vec<String> = others.iter().take(MAX_NAMED).map(|other| format!("`{}`", other.policy.name)).collect();
    let named = match (others.len() - named.len(), named.as_slice()) {
        (0, [all @ .., last]) => format!("{} and {last}", all.join(", ")),
        (_, named) if unknown => format!("{} and more", named.join(", ")),
        (more, named) => format!("{} and {more} more", named.join(", ")),
    };
    let at_least = if unknown { "at least " } else { "" };
    let count = others.len();
    format!("policy `{name}` may select the same tags as {at_least}{count} others: {named}; {consequence}")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use jiff::Timestamp;

    use super::super::inspected_policy::inspect_policies;
    use super::super::load::{PolicySet, load};
    use super::*;
    use crate::domain::Keep;

    /// A set of `count` policies, each with its own selector and rule.
    fn set(count: usize, select: impl Fn(usize) -> String) -> PolicySet {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::from("policies:\n");
        for number in 0..count {
            let (select, newest) = (select(number), number + 1);
            writeln!(text, "  - {{ name: p{number:04}, select: {select}, keep: [{{ newest: {newest} }}] }}").unwrap();
        }
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, text).unwrap();
        load(&path).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The lints on them, and the number of walks through tags and through repositories.
    fn found(set: &PolicySet, effort: (usize, usize)) -> (Vec<String>, usize, usize) {
        let (policies, tags, repositories) = inspect_policies(set, Timestamp::UNIX_EPOCH);
        let mut remarks = Vec::new();
        lint_overlaps_within(&policies, (&tags, &repositories), effort, &mut remarks);
        let messages = remarks.into_iter().map(|remark| remark.diagnostic.message).collect();
        (messages, tags.walk_count(), repositories.walk_count())
    }

    const USUAL: (usize, usize) = (STATES_PER_POLICY, SHARED_STATES);

    /// All overlap with each other. One note for each policy, after a few walks.
    #[test]
    fn policies_that_all_overlap_take_a_few_walks_and_one_note_each() {
        let count = 120;
        let set = set(count, |number| format!("{{ tags: [\"candidate-*\", \"!x{number}\"] }}"));
        let (notes, tags, repositories) = found(&set, USUAL);
        assert_eq!(notes.len(), count - 1);
        assert!(tags <= MAX_OVERLAPS * count && repositories <= 1, "{tags} walks through tags, {repositories} others");
        let first = "policy `p0000` may select the same tags as at least 5 others: `p0001`, `p0002`, `p0003` and more; \
                     such a tag stays if any of them keeps it";
        assert_eq!(notes[0], first);
        assert!(notes[count - 2].starts_with("policies `p0118` and `p0119` may select the same tags: "));
    }

    /// Equal selectors are compared once, so that all of them are counted.
    #[test]
    fn policies_with_equal_selectors_are_counted_after_one_walk() {
        let set = set(120, |_| "{ repositories: [\"shop/**\"], tags: [\"candidate-*\"] }".to_owned());
        let (notes, tags, repositories) = found(&set, USUAL);
        assert_eq!((notes.len(), tags, repositories), (119, 1, 1));
        assert!(notes[0].contains("as 119 others: `p0001`, `p0002`, `p0003` and 116 more;"), "{}", notes[0]);
        assert!(notes[115].contains("as 4 others: `p0116`, `p0117`, `p0118` and 1 more;"), "{}", notes[115]);
        assert!(notes[116].contains("as 3 others: `p0117`, `p0118` and `p0119`;"), "{}", notes[116]);
    }

    /// Policies whose names have different prefixes or suffixes are not compared at all.
    #[test]
    fn policies_of_their_own_names_take_no_walk() {
        let selectors: [fn(usize) -> String; 5] = [
            |number| format!("{{ repositories: [\"team-{number}/**\"], tags: [\"build-*\", \"!*-keep\"] }}"),
            |number| format!("{{ repositories: [\"**/api-{number}\", \"**/web-{number}\"] }}"),
            |number| format!("{{ pattern: 'rc-{number}-\\d+' }}"),
            |number| format!("{{ tags: [\"*-of-{number}\"] }}"),
            |number| format!("{{ registries: [registry-{number}] }}"),
        ];
        for select in selectors {
            let (notes, tags, repositories) = found(&set(60, select), USUAL);
            assert_eq!((notes.len(), tags, repositories), (0, 0, 0), "{}: {notes:?}", select(1));
        }
    }

    /// The cost is bounded if only the automata distinguish policies: it grows linearly with their number.
    #[test]
    fn policies_that_only_look_alike_cost_a_bounded_effort() {
        let (count, each) = (60, 40);
        let set = set(count, |number| format!("{{ pattern: '(?:rc|beta)-{number:04}-(?:a|b)' }}"));
        let (notes, walks, _) = found(&set, (each, 0));
        assert!(notes.is_empty(), "{notes:?}");
        // Each walk takes several states: those of `rc-0` and `beta-0` at least.
        assert!(walks > count && walks <= count * each / 4, "{walks} walks");
        let (notes, all, _) = found(&set, USUAL);
        assert!(notes.is_empty() && all == count * (count - 1) / 2, "{all} walks: {notes:?}");
    }

    /// A policy that others make pointless is reported once.
    #[test]
    fn one_warning_for_a_policy_under_many_that_keep_all() {
        let mut policies = set(40, |number| match number % 2 {
            0 => format!("{{ tags: [\"release-*\", \"!x{number}\"] }}"),
            _ => format!("{{ tags: [\"release-{number}-*\"] }}"),
        });
        for policy in policies.policies.iter_mut().step_by(2) {
            policy.keep = Keep::All;
        }
        let (messages, walks, _) = found(&policies, USUAL);
        assert_eq!(messages.len(), 20, "{messages:#?}");
        assert!(messages.iter().all(|message| message.contains("removes nothing: policy `p0000` keeps all")));
        assert!(walks <= 2 * 40, "{walks} walks");
    }
}
