//! How the names that selectors select lie to each other.
//!
//! Each language is compiled once, however many others it is held against. Two whose names must begin or end differently
//! are told apart without a walk: in a folder of many policies that is nearly every pair.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use regex_automata::hybrid::LazyStateID;

use super::language::{Automaton, MOST_STATES, Names};
use super::literals::{Literals, literals};

/// The texts that some expressions match, but for those that others do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Language {
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
}

/// How two sets of names lie to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Relation {
    /// Whether some name is in both.
    pub(super) both: bool,
    /// Whether some name is only in the first.
    pub(super) only_first: bool,
    /// Whether some name is only in the second.
    pub(super) only_second: bool,
}

/// Languages over the same names, known by their numbers. Equal ones have the same number.
#[derive(Debug)]
pub(super) struct Languages {
    names: Names,
    numbers: HashMap<Language, usize>,
    compiled: Vec<Compiled>,
    found: RefCell<HashMap<(usize, usize), Option<Relation>>>,
}

/// A language with its automata: of what it includes, and of what it excludes. `None` where one does not compile.
#[derive(Debug)]
struct Compiled {
    automata: Option<RefCell<[Automaton; 2]>>,
    literals: Vec<Literals>,
}

impl Languages {
    pub(super) fn of(names: Names) -> Self {
        Self { names, numbers: HashMap::new(), compiled: Vec::new(), found: RefCell::default() }
    }

    /// The number of a language.
    pub(super) fn add(&mut self, language: Language) -> usize {
        if let Some(number) = self.numbers.get(&language) {
            return *number;
        }
        let automata = || Some([Automaton::of(&language.include)?, Automaton::of(&language.exclude)?]);
        self.compiled.push(Compiled {
            automata: automata().map(RefCell::new),
            literals: language.include.iter().map(|expression| literals(expression)).collect(),
        });
        let number = self.compiled.len() - 1;
        self.numbers.insert(language, number);
        number
    }

    /// Whether two languages surely have no name in common, by what their names begin and end with.
    pub(super) fn surely_apart(&self, first: usize, second: usize) -> bool {
        let (first, second) = (&self.compiled[first].literals, &self.compiled[second].literals);
        first.iter().all(|one| second.iter().all(|other| one.surely_apart(other)))
    }

    /// How the names of two languages lie to each other. `None` where that would take too long to find out.
    pub(super) fn relation(&self, first: usize, second: usize) -> Option<Relation> {
        if let Some(known) = self.found.borrow().get(&(first, second)) {
            return *known;
        }
        let found = self.walk(first, second);
        self.found.borrow_mut().insert((first, second), found);
        found
    }

    fn walk(&self, first: usize, second: usize) -> Option<Relation> {
        let mut one = self.compiled[first].automata.as_ref()?.borrow_mut();
        if first == second {
            let both = walk(self.names, [one.as_mut_slice(), &mut []])?.only_first;
            return Some(Relation { both, only_first: false, only_second: false });
        }
        let mut other = self.compiled[second].automata.as_ref()?.borrow_mut();
        walk(self.names, [one.as_mut_slice(), other.as_mut_slice()])
    }
}

/// Walks the states of two languages at once; one without automata has no names.
fn walk(names: Names, sides: [&mut [Automaton]; 2]) -> Option<Relation> {
    let split = sides[0].len();
    let mut automata: Vec<&mut Automaton> = sides.into_iter().flat_map(<[Automaton]>::iter_mut).collect();
    let steps = [false, true].map(|beginning| representatives(names, beginning, &automata));
    let start = automata.iter_mut().map(|automaton| automaton.start()).collect::<Option<Vec<_>>>()?;
    // The start may be walked through again later, and only then be the end of a name.
    let (mut seen, mut waiting) = (HashSet::new(), vec![(start, true)]);
    let mut found = Relation::default();
    while let Some((states, beginning)) = waiting.pop() {
        let (first, second) = states.split_at(split);
        if !beginning {
            let (left, right) = automata.split_at_mut(split);
            let (first, second) = (is_name(left, first)?, is_name(right, second)?);
            found.both |= first && second;
            found.only_first |= first && !second;
            found.only_second |= second && !first;
        }
        if !can_add(found, is_alive(first), is_alive(second)) {
            continue;
        }
        if seen.len() > MOST_STATES {
            return None;
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
                waiting.push((next, false));
            }
        }
    }
    Some(found)
}

/// One byte for each way in which all the automata go on.
fn representatives(names: Names, beginning: bool, automata: &[&mut Automaton]) -> Vec<u8> {
    let mut seen = HashSet::new();
    let classes = |byte| automata.iter().map(|automaton| automaton.class(byte)).collect::<Vec<u8>>();
    names.alphabet(beginning).filter(|byte| seen.insert(classes(*byte))).collect()
}

/// Whether a name of a language ends in these states.
fn is_name(automata: &mut [&mut Automaton], states: &[LazyStateID]) -> Option<bool> {
    match (automata, states) {
        ([include, exclude], [included, excluded]) => Some(include.ends(*included)? && !exclude.ends(*excluded)?),
        _ => Some(false),
    }
}

/// Whether a name of a language can still end beyond these states.
fn is_alive(states: &[LazyStateID]) -> bool {
    states.first().is_some_and(|included| !included.is_dead())
}

/// Whether going on can find what was not found yet.
fn can_add(found: Relation, first: bool, second: bool) -> bool {
    first && second && !found.both || first && !found.only_first || second && !found.only_second
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relation(names: Names, first: &Language, second: &Language) -> Option<Relation> {
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
            let found = relation(Names::Tags, first, second).unwrap();
            (found.both, found.only_first, found.only_second)
        };
        let (v, all) = (language("v.*", &[]), language(".*", &[]));
        assert_eq!(lies(&v, &all), (true, false, true));
        assert_eq!(lies(&all, &language(".*", &["v.*"])), (true, true, false));
        assert_eq!(lies(&v, &language(".*", &["v.*"])), (false, true, true));
        assert_eq!(lies(&v, &language(".*-lts", &[])), (true, true, true));
        assert_eq!(lies(&v, &language("v|v.+", &[])), (true, false, false));
    }

    proptest! {
        /// What literals tell apart, the automata tell apart.
        #[test]
        fn languages_that_are_surely_apart_have_no_name_in_common(
            first in "[ab*./-]{1,5}", second in "[ab*./-]{1,5}"
        ) {
            let language = |glob: &str| -> Option<Language> {
                let glob = globset::GlobBuilder::new(glob).literal_separator(true).build().ok()?;
                Some(Language { include: vec![glob.regex().to_owned()], exclude: Vec::new() })
            };
            let (Some(first), Some(second)) = (language(&first), language(&second)) else { return Ok(()) };
            let mut languages = Languages::of(Names::Repositories);
            let (first, second) = (languages.add(first), languages.add(second));
            if languages.surely_apart(first, second) {
                prop_assert!(!languages.relation(first, second).unwrap().both);
            }
        }
    }
}
