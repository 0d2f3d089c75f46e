//! How the names that selectors select lie to each other.
//!
//! Each language is compiled once, when it is first walked, however many others it is held against. Two whose names
//! must begin or end differently are told apart without a walk: in a folder of many policies that is nearly every pair.
//! Each question about the others costs effort, and effort is bounded.

use std::cell::{OnceCell, RefCell};
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

/// A question about two languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// Some name is in both.
    Meet,
    /// Every name of the first is in the second.
    Inside,
}

impl Question {
    /// The part of a relation that answers it.
    fn wanted(self) -> Relation {
        match self {
            Self::Meet => Relation { both: true, ..Relation::default() },
            Self::Inside => Relation { only_first: true, ..Relation::default() },
        }
    }

    fn answer(self, found: Relation) -> bool {
        match self {
            Self::Meet => found.both,
            Self::Inside => !found.only_first,
        }
    }
}

/// The states that may be walked through to answer questions: some for each policy, and some for all of them together.
#[derive(Debug)]
pub(super) struct Effort {
    each: usize,
    own: usize,
    shared: usize,
    over: bool,
}

impl Effort {
    pub(super) fn new(each: usize, shared: usize) -> Self {
        Self { each, own: each, shared, over: false }
    }

    /// Begins with another policy.
    pub(super) fn begin(&mut self) {
        (self.own, self.over) = (self.each, false);
    }

    /// Ends the walks for this policy: only what is known already is answered.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    fn left(&self) -> usize {
        if self.over { 0 } else { self.own + self.shared }
    }

    fn spend(&mut self, states: usize) {
        let of_own = states.min(self.own);
        self.own -= of_own;
        self.shared = self.shared.saturating_sub(states - of_own);
    }
}

/// Languages over the same names, known by their numbers. Equal ones have the same number.
#[derive(Debug)]
pub(super) struct Languages {
    names: Names,
    numbers: HashMap<Language, usize>,
    compiled: Vec<Compiled>,
    relations: RefCell<HashMap<(usize, usize), Option<Relation>>>,
    answers: RefCell<HashMap<(Question, usize, usize), Option<bool>>>,
    #[cfg(test)]
    walked: std::cell::Cell<usize>,
}

/// A language with its automata: of what it includes, and of what it excludes. `None` where one does not compile.
#[derive(Debug)]
struct Compiled {
    language: Language,
    automata: OnceCell<Option<RefCell<[Automaton; 2]>>>,
    literals: Vec<Literals>,
}

impl Compiled {
    fn automata(&self) -> Option<&RefCell<[Automaton; 2]>> {
        let Language { include, exclude } = &self.language;
        let compile = || Some(RefCell::new([Automaton::of(include)?, Automaton::of(exclude)?]));
        self.automata.get_or_init(compile).as_ref()
    }
}

impl Languages {
    pub(super) fn of(names: Names) -> Self {
        Self {
            names,
            numbers: HashMap::new(),
            compiled: Vec::new(),
            relations: RefCell::default(),
            answers: RefCell::default(),
            #[cfg(test)]
            walked: std::cell::Cell::default(),
        }
    }

    /// The number of a language.
    pub(super) fn add(&mut self, language: Language) -> usize {
        if let Some(number) = self.numbers.get(&language) {
            return *number;
        }
        let number = self.compiled.len();
        self.numbers.insert(language.clone(), number);
        let literals = language.include.iter().map(|expression| literals(expression)).collect();
        self.compiled.push(Compiled { language, automata: OnceCell::new(), literals });
        number
    }

    /// The characters with which the names begin and end that each part of a language includes.
    pub(super) fn literals(&self, number: usize) -> &[Literals] {
        &self.compiled[number].literals
    }

    /// Whether two languages surely have no name in common, by what their names begin and end with.
    pub(super) fn surely_apart(&self, first: usize, second: usize) -> bool {
        let (first, second) = (self.literals(first), self.literals(second));
        first.iter().all(|one| second.iter().all(|other| one.surely_apart(other)))
    }

    /// How the names of two languages lie to each other. `None` where that would take too long to find out.
    pub(super) fn relation(&self, first: usize, second: usize) -> Option<Relation> {
        if let Some(known) = self.relations.borrow().get(&(first, second)) {
            return *known;
        }
        let found = self.walk((first, second), EVERYTHING, &mut { MOST_STATES });
        self.relations.borrow_mut().insert((first, second), found);
        found
    }

    /// The answer to a question about two languages. `None` where it is not known, and would take too long to find out.
    pub(super) fn ask(&self, question: Question, (first, second): (usize, usize), effort: &mut Effort) -> Option<bool> {
        if question == Question::Inside && first == second {
            return Some(true);
        }
        let key = match question {
            Question::Meet => (question, first.min(second), first.max(second)),
            Question::Inside => (question, first, second),
        };
        if let Some(known) = self.answers.borrow().get(&key) {
            return *known;
        }
        let most = effort.left().min(MOST_STATES);
        if most == 0 {
            return None;
        }
        let mut left = most;
        #[cfg(test)]
        self.walked.set(self.walked.get() + 1);
        let found = self.walk((first, second), question.wanted(), &mut left);
        effort.spend((most - left).max(1));
        let answer = found.map(|found| question.answer(found));
        // Cut short for want of effort, it may be asked again.
        if answer.is_some() || most == MOST_STATES {
            self.answers.borrow_mut().insert(key, answer);
        }
        answer
    }

    /// The number of questions that took a walk.
    #[cfg(test)]
    pub(super) fn walks(&self) -> usize {
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

/// Walks the states of two languages at once until all that is `wanted` was found, through at most as many as are
/// `left`; one without automata has no names.
fn walk(names: Names, sides: [&mut [Automaton]; 2], wanted: Relation, left: &mut usize) -> Option<Relation> {
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
            let (one, other) = automata.split_at_mut(split);
            let (first, second) = (is_name(one, first)?, is_name(other, second)?);
            found.both |= first && second;
            found.only_first |= first && !second;
            found.only_second |= second && !first;
        }
        if !can_add(found, wanted, (true, true)) {
            break;
        }
        if !can_add(found, wanted, (is_alive(first), is_alive(second))) {
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

/// Returns true if going on can find what is wanted and not found yet, given which of the two can still end names.
fn can_add(found: Relation, wanted: Relation, (first, second): (bool, bool)) -> bool {
    first && second && wanted.both && !found.both
        || first && wanted.only_first && !found.only_first
        || second && wanted.only_second && !found.only_second
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

    fn of_globs(first: &str, second: &str) -> Option<(Languages, (usize, usize))> {
        let language = |glob: &str| -> Option<Language> {
            let glob = globset::GlobBuilder::new(glob).literal_separator(true).build().ok()?;
            Some(Language { include: vec![glob.regex().to_owned()], exclude: Vec::new() })
        };
        let mut languages = Languages::of(Names::Repositories);
        let numbers = (languages.add(language(first)?), languages.add(language(second)?));
        Some((languages, numbers))
    }

    proptest! {
        /// What literals tell apart, the automata tell apart.
        #[test]
        fn languages_that_are_surely_apart_have_no_name_in_common(
            first in "[ab*./-]{1,5}", second in "[ab*./-]{1,5}"
        ) {
            let Some((languages, (first, second))) = of_globs(&first, &second) else { return Ok(()) };
            if languages.surely_apart(first, second) {
                prop_assert!(!languages.relation(first, second).unwrap().both);
            }
        }

        /// A question has the answer that the whole relation has, and none where no effort is left.
        #[test]
        fn questions_are_answered_as_the_relation_has_it(first in "[ab*./-]{1,4}", second in "[ab*./-]{1,4}") {
            let Some((languages, (first, second))) = of_globs(&first, &second) else { return Ok(()) };
            let relation = languages.relation(first, second).unwrap();
            let (mut none, mut enough) = (Effort::new(0, 0), Effort::new(0, 100_000));
            for (question, answer) in [(Question::Meet, relation.both), (Question::Inside, !relation.only_first)] {
                let without = languages.ask(question, (first, second), &mut none);
                prop_assert!(without.is_none() || first == second);
                prop_assert_eq!(languages.ask(question, (first, second), &mut enough), Some(answer));
                // It is remembered.
                prop_assert_eq!(languages.ask(question, (first, second), &mut none), Some(answer));
            }
        }
    }

    #[test]
    fn effort_ends_for_each_policy_and_for_all() {
        let mut effort = Effort::new(10, 15);
        effort.spend(12);
        assert_eq!(effort.left(), 13);
        effort.end();
        assert_eq!(effort.left(), 0);
        effort.begin();
        assert_eq!(effort.left(), 23);
        effort.spend(40);
        assert_eq!(effort.left(), 0);
        effort.begin();
        assert_eq!(effort.left(), 10);
    }
}
