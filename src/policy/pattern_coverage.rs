//! The extent of an expression: whether it matches every text, none, or some.
//!
//! Determined by walking the states of its automaton over the characters of tags (or repositories), so a `[\w.-]+` is
//! recognized however it is written.

use std::collections::HashSet;

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

/// The matched share of a set of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every name.
    Every,
    /// Some names and not others.
    Some,
    /// No name.
    None,
}

/// The alphabet of names.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NameKind {
    /// Tags, by the grammar of the OCI distribution specification but for their length.
    Tags,
    /// Repositories: a superset of the grammar, which only makes `Every` harder to reach.
    Repositories,
}

/// Beyond this number of states an expression is assumed to match some.
pub(super) const MAX_STATES: usize = 20_000;

/// Returns the extent of those names that the expressions match together, as whole texts, after the exclusions.
/// Expressions that do not compile, or compile to something enormous, match some.
pub(super) fn extent(names: NameKind, include: &[String], exclude: &[String]) -> Extent {
    walk(names, include, exclude).unwrap_or(Extent::Some)
}

fn walk(names: NameKind, include: &[String], exclude: &[String]) -> Option<Extent> {
    let (mut include, mut exclude) = (Automaton::of(include)?, Automaton::of(exclude)?);
    let start = (include.start()?, exclude.start()?);
    // The start may be reached again later, and only then be the end of a name.
    let (mut seen, mut waiting) = (HashSet::new(), vec![(start, true)]);
    let (mut some, mut every) = (false, true);
    while let Some(((included, excluded), first)) = waiting.pop() {
        if !first {
            let matched = include.is_accepting(included)? && !exclude.is_accepting(excluded)?;
            some |= matched;
            every &= matched;
        }
        if (some && !every) || seen.len() > MAX_STATES {
            return Some(Extent::Some);
        }
        for byte in names.alphabet(first) {
            let next = (include.next(included, byte)?, exclude.next(excluded, byte)?);
            if seen.insert(next) {
                waiting.push((next, false));
            }
        }
    }
    Some(match (some, every) {
        (true, true) => Extent::Every,
        (true, false) => Extent::Some,
        (false, _) => Extent::None,
    })
}

impl NameKind {
    pub(super) fn alphabet(self, first: bool) -> impl Iterator<Item = u8> {
        (b'-'..=b'z').filter(move |byte| match (self, byte) {
            (_, b'a'..=b'z' | b'0'..=b'9') | (Self::Tags, b'A'..=b'Z' | b'_') => true,
            (_, b'-' | b'.') | (Self::Repositories, b'_' | b'/') => !first,
            _ => false,
        })
    }
}

/// An automaton whose states are built on demand.
#[derive(Debug)]
pub(super) struct Automaton {
    dfa: DFA,
    cache: Cache,
}

impl Automaton {
    pub(super) fn of(expressions: &[String]) -> Option<Self> {
        let config = DFA::config()
            .match_kind(MatchKind::All)
            .unicode_word_boundary(true)
            .cache_capacity(32 * 1024 * 1024)
            // Clearing the cache would reuse state ids in the middle of the walk.
            .minimum_cache_clear_count(Some(0));
        let dfa = DFA::builder()
            .configure(config)
            .syntax(syntax::Config::new().utf8(false))
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(4 * 1024 * 1024)))
            .build_many(expressions)
            .ok()?;
        let cache = dfa.create_cache();
        Some(Self { dfa, cache })
    }

    /// Returns the class of a byte: bytes of one class lead to the same states everywhere.
    pub(super) fn class(&self, byte: u8) -> u8 {
        self.dfa.byte_classes().get(byte)
    }

    pub(super) fn start(&mut self) -> Option<LazyStateID> {
        self.dfa.start_state(&mut self.cache, &start::Config::new().anchored(Anchored::Yes)).ok()
    }

    pub(super) fn next(&mut self, state: LazyStateID, byte: u8) -> Option<LazyStateID> {
        self.dfa.next_state(&mut self.cache, state, byte).ok().filter(|next| !next.is_quit())
    }

    pub(super) fn is_accepting(&mut self, state: LazyStateID) -> Option<bool> {
        self.dfa.next_eoi_state(&mut self.cache, state).ok().map(|end| end.is_match())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(expression: &str) -> Extent {
        extent(NameKind::Tags, &[format!("^(?:{expression})$")], &[])
    }

    #[test]
    fn every_tag_however_it_is_written() {
        for expression in
            [".*", ".+", "[^/]+", r"\S+", r"[\w.-]+", "(?i)[a-z0-9._-]*", r"\w.*", "a|[^a].*|a.+", "(?s).{1,}"]
        {
            assert_eq!(tags(expression), Extent::Every, "{expression}");
        }
    }

    #[test]
    fn no_tag_at_all() {
        for expression in ["feature/.*", " v1", "a^b", r"[^\s\S]", "-rc.*", "", "ä.*", "v1:.+"] {
            assert_eq!(tags(expression), Extent::None, "{expression}");
        }
    }

    #[test]
    fn some_tags() {
        for expression in ["a", "[a-z]+", r"v\d+", "(a|b)*", r"\bv.*", "[^v].*", ".{2,}", r"(?<branch>.+)-\d+"] {
            assert_eq!(tags(expression), Extent::Some, "{expression}");
        }
    }

    #[test]
    fn what_is_excluded_counts() {
        let list = |words: &[&str]| words.iter().map(|word| format!("^(?:{word})$")).collect::<Vec<_>>();
        assert_eq!(extent(NameKind::Tags, &list(&["v.*"]), &list(&[".*"])), Extent::None);
        assert_eq!(extent(NameKind::Tags, &list(&["v.*"]), &list(&["v"])), Extent::Some);
        assert_eq!(extent(NameKind::Tags, &list(&["v.*", "[^v].*"]), &list(&[])), Extent::Every);
        assert_eq!(extent(NameKind::Repositories, &list(&["Shop/.*"]), &list(&[])), Extent::None);
        assert_eq!(extent(NameKind::Repositories, &list(&[".*"]), &list(&[])), Extent::Every);
    }
}
