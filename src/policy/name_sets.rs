//! Sets of names that globs and regular expressions describe, held against each other.

use super::pattern_coverage::{Extent, NameKind, extent};
use super::relation::{Language, Languages};
use super::selection::expression;

/// The names that some globs and expressions match, but for those that others do.
#[derive(Debug, Clone, Default)]
pub(crate) struct NameSet {
    include: Vec<String>,
    exclude: Vec<String>,
}

/// The relation of one set of names to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameRelation {
    /// Both have the same names.
    Equal,
    /// Each name of the first is in the second.
    Subset,
    /// Each name of the second is in the first.
    Superset,
    /// They have no name in common.
    Disjoint,
    /// Each has names that the other does not have, and they share some.
    Overlap,
}

impl NameSet {
    /// The names that globs match, those with `!` excluded. `None` if one is not a valid glob.
    pub(crate) fn of_globs(globs: &[String]) -> Option<Self> {
        let mut set = Self::default();
        for glob in globs {
            match glob.strip_prefix('!') {
                Some(rest) => set.exclude.push(expression(rest).ok()?),
                None => set.include.push(expression(glob).ok()?),
            }
        }
        Some(set)
    }

    /// The names that one of these expressions matches as a whole.
    pub(crate) fn of_expressions(expressions: &[String]) -> Self {
        let include = expressions.iter().map(|expression| format!("^(?:{expression})$")).collect();
        Self { include, exclude: Vec::new() }
    }

    /// The relation to another set. `None` if that takes too long to find out.
    pub(crate) fn relation(&self, other: &Self, names: NameKind) -> Option<NameRelation> {
        let mut languages = Languages::of(names);
        let language = |set: &Self| Language { include: set.include.clone(), exclude: set.exclude.clone() };
        let (first, second) = (languages.add(language(self)), languages.add(language(other)));
        if first == second {
            return Some(NameRelation::Equal);
        }
        let found = languages.relation(first, second)?;
        Some(match (found.both, found.only_first, found.only_second) {
            (_, false, false) => NameRelation::Equal,
            (_, false, true) => NameRelation::Subset,
            (_, true, false) => NameRelation::Superset,
            (false, true, true) => NameRelation::Disjoint,
            (true, true, true) => NameRelation::Overlap,
        })
    }
}

/// The share of all such names that the expressions match together, each as a whole.
pub(crate) fn matched_share(names: NameKind, expressions: &[String]) -> Extent {
    let whole: Vec<String> = expressions.iter().map(|expression| format!("^(?:{expression})$")).collect();
    extent(names, &whole, &[])
}
