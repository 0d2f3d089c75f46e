//! The relations between the selections of selectors.
//!
//! Each language is compiled once, on its first walk, however many others it is compared with. Two with different
//! prefixes or suffixes are distinguished without a walk, which is nearly every pair in a folder of many policies. Each
//! other query has a cost, which is bounded.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};

use regex_automata::hybrid::LazyStateID;

use super::affixes::{Affixes, affixes};
use super::pattern_coverage::{Automaton, MAX_STATES, NameKind};

/// The texts that some expressions match, without those that others match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Language {
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
}

/// The relation between two sets of names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Relation {
    /// True if a name is in both.
    pub(super) both: bool,
    /// True if a name is only in the first.
    pub(super) only_first: bool,
    /// True if a name is only in the second.
    pub(super) only_second: bool,
}

/// A query about two languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RelationQuery {
    /// Some name is in both.
    Intersects,
    /// Every name of the first is in the second.
    IsSubset,
}

impl RelationQuery {
    /// Returns the part of a relation that answers it.
    fn relation_needed(self) -> Relation {
        match self {
            Self::Intersects => Relation { both: true, ..Relation::default() },
            Self::IsSubset => Relation { only_first: true, ..Relation::default() },
        }
    }

    fn is_satisfied_by(self, found: Relation) -> bool {
        match self {
            Self::Intersects => found.both,
            Self::IsSubset => !found.only_first,
        }
    }
}

/// The states that may be walked to answer queries: some for each policy, and some for all of them together.
#[derive(Debug)]
pub(super) struct WalkBudget {
    each: usize,
    remaining: usize,
    shared: usize,
    is_exhausted: bool,
}

impl WalkBudget {
    pub(super) fn new(each: usize, shared: usize) -> Self {
        Self { each, remaining: each, shared, is_exhausted: false }
    }

    /// Begins with another policy.
    pub(super) fn start_policy(&mut self) {
        (self.remaining, self.is_exhausted) = (self.each, false);
    }

    /// Ends the walks for this policy: only known answers are returned.
    pub(super) fn end_policy(&mut self) {
        self.is_exhausted = true;
    }

    fn available(&self) -> usize {
        if self.is_exhausted { 0 } else { self.remaining + self.shared }
    }

    fn spend(&mut self, states: usize) {
        let of_own = states.min(self.remaining);
        self.remaining -= of_own;
        self.shared = self.shared.saturating_sub(states - of_own);
    }
}

/// Languages over the same names, identified by numbers. Equal ones have the same number.
#[derive(Debug)]
pub(super) struct Languages {
    names: NameKind,
    numbers: HashMap<Language, usize>,
    compiled: Vec<Compiled>,
    relations: RefCell<HashMap<(usize, usize), Option<Relation>>>,
    results: RefCell<HashMap<(RelationQuery, usize, usize), Option<bool>>>,
    #[cfg(test)]
    walked: std::cell::Cell<usize>,
}

/// A language with its automata: of its inclusions and of its exclusions. `None` if one does not compile.
#[derive(Debug)]
struct Compiled {
    language: Language,
    automata: OnceCell<Option<RefCell<[Automaton; 2]>>>,
    literals: Vec<Affixes>,
}

impl Compiled {
    fn automata(&self) -> Option<&RefCell<[Automaton; 2]>> {
        let Language { include, exclude } = &self.language;
        let compile = || Some(RefCell::new([Automaton::of(include)?, Automaton::of(exclude)?]));
        self.automata.get_or_init(compile).as_ref()
    }
}

impl Languages {
    pub(super) fn of(names: NameKind) -> Self {
        Self {
            names,
            numbers: HashMap::new(),
            compiled: Vec::new(),
            relations: RefCell::default(),
            results: RefCell::default(),
            #[cfg(test)]
            walked: std::cell::Cell::default(),
        }
    }

    /// Returns the number of a language.
    pub(super) fn add(&mut self, language: Language) -> usize {
        if let Some(number) = self.numbers.get(&language) {
            return *number;
        }
        let number = self.compiled.len();
        self.numbers.insert(language.clone(), number);
        let literals = language.include.iter().map(|expression| affixes(expression)).collect();
        self.compiled.push(Compiled { language, automata: OnceCell::new(), literals });
        number
    }

    /// Returns the prefix and suffix of the names in each part of a language.
    pub(super) fn literals(&self, number: usize) -> &[Affixes] {
        &self.compiled[number].literals
    }

    /// Returns true if two languages certainly have no name in common, by their prefixes and suffixes.
    pub(super) fn is_disjoint(&self, first: usize, second: usize) -> bool {
        let (first, second) = (self.literals(first), self.literals(second));
        first.iter().all(|one| second.iter().all(|other| one.is_disjoint(other)))
    }

    /// Returns the relation between two languages, or `None` if that would take too long.
    pub(super) fn relation(&self, first: usize, second: usize) -> Option<Relation> {
        if let Some(known) = self.relations.borrow().get(&(first, second)) {
            return *known;
        }
        let found = self.walk((first, second), EVERYTHING, &mut { MAX_STATES });
        self.relations.borrow_mut().insert((first, second), found);
        found
    }

    /// Returns the answer to a query about two languages. `None` if it is unknown, and would take too long.
    pub(super) fn query(
        &self,
        question: RelationQuery,
        (first, second): (usize, usize),
        effort: &mut WalkBudget,
    ) -> Option<bool> {
        if question == RelationQuery::IsSubset && first == second {
            return Some(true);
        }
        let key = match question {
            RelationQuery::Intersects => (question, first.min(second), first.max(second)),
            RelationQuery::IsSubset => (question, first, second),
        };
        if let Some(known) = self.results.borrow().get(&key) {
            return *known;
        }
        let most = effort.available().min(MAX_STATES);
        if most == 0 {
            return None;
        }
        let mut left = most;
        #[cfg(test)]
        self.walked.set(self.walked.get() + 1);
        let found = self.walk((first, second), question.relation_needed(), &mut left);
        effort.spend((most - left).max(1));
        let answer = found.map(|found| question.is_satisfied_by(found));
        // Cut short by the budget, it may be queried again.
        if answer.is_some() || most == MAX_STATES {
            self.results.borrow_mut().insert(key, answer);
        }
        answer
    }

    /// Returns the number of queries that took a walk.
    #[cfg(test)]
    pub(super) fn walk_count(&self) -> usize {
        self.walked.get()
    }

    fn walk(&self, (first, second): (usize, usize), wanted: Relation, left: &mut usize) -> Option<Relation> {
        let mut one = self.compiled[first].automata()?.borrow_mut();
        if first == second {
            let alone = Relation { only_first: true, ..Relation::default() };
            let both = walk(self.names, [one.as_mut_slice(), &mut []], alone, left)?.only_first;
            return Some(Relation { both, only_first: false, only_second: false });
        }
        let mut other = self.compiled[second].automata()?.borrow_mut();
        walk(self.names, [one.as_mut_slice(), other.as_mut_slice()], wanted, left)
    }
}

const EVERYTHING: Relation = Relation { both: true, only_first: true, only_second: true };

/// Walks the states of two languages at once until everything `wanted` was found, through at most as many as are
/// `left`; one without automata has no names.
fn walk(names: NameKind, sides: [&mut [Automaton]; 2], wanted: Relation, left: &mut usize) -> Option<Relation> {
    let split = sides[0].len();
    let mut automata: Vec<&mut Automaton> = sides.into_iter().flat_map(<[Automaton]>::iter_mut).collect();
    let steps = [false, true].map(|beginning| representatives(names, beginning, &automata));
    let start = automata.iter_mut().map(|automaton| automaton.start()).collect::<Option<Vec<_>>>()?;
    // The start may be reached again later, and only then be the end of a name.
    let (mut seen, mut waiting) = (HashSet::new(), vec![(start, true)]);
    let mut found = Relation::default();
    while let Some((states, beginning)) = waiting.pop() {
        let (first, second) = states.split_at(split);
        if !beginning {
            let (one, other) = automata.split_at_mut(split);
            let (first, second) = (is_name(one, first)?, is_name(other, second)?);
            found.both |= first && second;
            found.only_first |= first && !second;
            found.only_second |= second && !first;
        }
        if !can_add(found, wanted, (true, true)) {
            break;
        }
        if !can_add(found, wanted, (can_still_match(first), can_still_match(second))) {
            continue;
        }
        for byte in &steps[usize::from(beginning)] {
            let step = |(automaton, state): (&mut Automaton, &LazyStateID)| automaton.next(*state, *byte);
            let next = automata
                .iter_mut()
                .map(|automaton| &mut **automaton)
                .zip(&states)
                .map(step)
                .collect::<Option<Vec<_>>>()?;
            if seen.insert(next.clone()) {
                *left = left.checked_sub(1)?;
                waiting.push((next, false));
            }
        }
    }
    Some(found)
}

/// Returns one byte for each distinct transition of all the automata.
fn representatives(names: NameKind, beginning: bool, automata: &[&mut Automaton]) -> Vec<u8> {
    let mut seen = HashSet::new();
    let classes = |byte| automata.iter().map(|automaton| automaton.class(byte)).collect::<Vec<u8>>();
    names.alphabet(beginning).filter(|byte| seen.insert(classes(*byte))).collect()
}

/// Returns true if a name of a language ends in these states.
fn is_name(automata: &mut [&mut Automaton], states: &[LazyStateID]) -> Option<bool> {
    match (automata, states) {
        ([include, exclude], [included, excluded]) => {
            Some(include.is_accepting(*included)? && !exclude.is_accepting(*excluded)?)
        }
        _ => Some(false),
    }
}

/// Returns true if a name of a language can still end beyond these states.
fn can_still_match(states: &[LazyStateID]) -> bool {
    states.first().is_some_and(|included| !included.is_dead())
}

/// Returns true if continuing can find something wanted, given which of the two can still end names.
fn can_add(found: Relation, wanted: Relation, (first, second): (bool, bool)) -> bool {
    first && second && wanted.both && !found.both
        || first && wanted.only_first && !found.only_first
        || second && wanted.only_second && !found.only_second
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relation(names: NameKind, first: &Language, second: &Language) -> Option<Relation> {
        let mut languages = Languages::of(names);
        let (first, second) = (languages.add(first.clone()), languages.add(second.clone()));
        languages.relation(first, second)
    }

    #[test]
    fn two_languages_lie_to_each_other() {
        let language = |include: &str, exclude: &[&str]| Language {
            include: vec![format!("^(?:{include})$")],
            exclude: exclude.iter().map(|word| format!("^(?:{word})$")).collect(),
        };
        let lies = |first: &Language, second: &Language| {
            let found = relation(NameKind::Tags, first, second).unwrap();
            (found.both, found.only_first, found.only_second)
        };
        let (v, all) = (language("v.*", &[]), language(".*", &[]));
        assert_eq!(lies(&v, &all), (true, false, true));
        assert_eq!(lies(&all, &language(".*", &["v.*"])), (true, true, false));
        assert_eq!(lies(&v, &language(".*", &["v.*"])), (false, true, true));
        assert_eq!(lies(&v, &language(".*-lts", &[])), (true, true, true));
        assert_eq!(lies(&v, &language("v|v.+", &[])), (true, false, false));
    }

    fn of_globs(first: &str, second: &str) -> Option<(Languages, (usize, usize))> {
        let language = |glob: &str| -> Option<Language> {
            let glob = globset::GlobBuilder::new(glob).literal_separator(true).build().ok()?;
            Some(Language { include: vec![glob.regex().to_owned()], exclude: Vec::new() })
        };
        let mut languages = Languages::of(NameKind::Repositories);
        let numbers = (languages.add(language(first)?), languages.add(language(second)?));
        Some((languages, numbers))
    }

    proptest! {
        /// The automata distinguish everything that literals distinguish.
        #[test]
        fn languages_that_are_surely_apart_have_no_name_in_common(
            first in "[ab*./-]{1,5}", second in "[ab*./-]{1,5}"
        ) {
            let Some((languages, (first, second))) = of_globs(&first, &second) else { return Ok(()) };
            if languages.is_disjoint(first, second) {
                prop_assert!(!languages.relation(first, second).unwrap().both);
            }
        }

        /// A query has the same answer as the whole relation, and none without budget.
        #[test]
        fn questions_are_answered_as_the_relation_has_it(first in "[ab*./-]{1,4}", second in "[ab*./-]{1,4}") {
            let Some((languages, (first, second))) = of_globs(&first, &second) else { return Ok(()) };
            let relation = languages.relation(first, second).unwrap();
            let (mut none, mut enough) = (WalkBudget::new(0, 0), WalkBudget::new(0, 100_000));
            for (question, answer) in [(RelationQuery::Intersects, relation.both), (RelationQuery::IsSubset, !relation.only_first)] {
                let without = languages.query(question, (first, second), &mut none);
                prop_assert!(without.is_none() || first == second);
                prop_assert_eq!(languages.query(question, (first, second), &mut enough), Some(answer));
                // It is cached.
                prop_assert_eq!(languages.query(question, (first, second), &mut none), Some(answer));
            }
        }
    }

    #[test]
    fn effort_ends_for_each_policy_and_for_all() {
        let mut effort = WalkBudget::new(10, 15);
        effort.spend(12);
        assert_eq!(effort.available(), 13);
        effort.end_policy();
        assert_eq!(effort.available(), 0);
        effort.start_policy();
        assert_eq!(effort.available(), 23);
        effort.spend(40);
        assert_eq!(effort.available(), 0);
        effort.start_policy();
        assert_eq!(effort.available(), 10);
    }
}
