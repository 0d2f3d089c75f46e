//! Variables: their definitions in the documents of a source, and the expansion of references with them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use super::assignments::is_value;
use super::placeholder::{Piece, Variable, has_placeholder as is_open_text, pieces, variable};
use crate::sources::file_version::file_of;

/// Most texts that one reference expands to. A variable with more values stays open.
const MOST_TEXTS: usize = 50;

/// Maximum depth of variables in the values of variables.
const MAX_DEPTH: usize = 5;

/// Most values that are examined for one reference, however they refer to each other.
const MOST_STEPS: usize = 2_000;

/// Most definitions of one variable in one file, and of all together.
const MOST_IN_FILE: usize = 60;
const MAX_DEFINITIONS: usize = 200_000;

/// The variables that the documents of a source define.
#[derive(Debug)]
pub(super) struct Definitions {
    /// By the name in lower case.
    by_name: HashMap<Box<str>, Vec<Definition>>,
    /// The names, in lower case, with definitions that were not stored.
    incomplete: HashSet<Box<str>>,
    files: Vec<File>,
    count: usize,
    /// The most definitions that are stored.
    capacity: usize,
}

/// The definitions of a source, while references are expanded.
pub(super) struct Variables<'d> {
    definitions: &'d Definitions,
    /// The definitions of each requested name, by name and case-insensitivity.
    by_name: HashMap<(String, bool), NameDefinitions<'d>>,
}

/// The definitions that one name may refer to, in reading order, with their positions.
#[derive(Default)]
struct NameDefinitions<'d> {
    all: Vec<&'d Definition>,
    by_file: HashMap<u32, Vec<usize>>,
    by_folder: BTreeMap<&'d str, Vec<usize>>,
    /// The same for files of settings alone.
    settings: BTreeMap<&'d str, Vec<usize>>,
}

#[derive(Debug)]
struct File {
    folder: Box<str>,
    /// True if it contains only settings for other files, so that its values count beside those in these.
    is_settings: bool,
    /// True if its language shares the variables of a folder between files.
    is_shared: bool,
}

#[derive(Debug)]
struct Definition {
    name: Box<str>,
    value: Box<str>,
    file: u32,
    line: u32,
}

/// A definition that was used, by its file, its line, and its name without its scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct UsedDefinition {
    file: u32,
    line: u32,
    name: Box<str>,
}

impl UsedDefinition {
    pub(super) fn new(file: u32, line: u32, name: &str) -> Self {
        Self { file, line, name: name.rsplit('.').next().unwrap_or(name).into() }
    }
}

/// The results of expanding a text with variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expansion {
    /// Each text that it may expand to. Undefined placeholders are still in it.
    pub(super) texts: Vec<String>,
    /// True if a distant definition was used: it may not be the one that applies.
    pub(super) is_far: bool,
    /// The definitions that were used.
    pub(super) used: Vec<UsedDefinition>,
}

/// The reading of one text.
#[derive(Default)]
struct ExpansionState {
    /// The variables whose values are being expanded.
    open: Vec<String>,
    steps: usize,
    is_far: bool,
    used: Vec<UsedDefinition>,
}

impl Default for Definitions {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            incomplete: HashSet::new(),
            files: Vec::new(),
            count: 0,
            capacity: MAX_DEFINITIONS,
        }
    }
}

impl Definitions {
    /// Adds a file, and returns the number by which it defines and uses variables.
    pub(super) fn file(&mut self, name: &str) -> u32 {
        let name = file_of(name);
        let (folder, base) = name.rsplit_once('/').unwrap_or(("", name));
        let (is_settings, is_shared) = (is_settings(folder, base), is_shared(base));
        self.files.push(File { folder: folder.into(), is_settings, is_shared });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn define(&mut self, file: u32, name: &str, value: &str, line: u32) {
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        // Terraform writes a variable as a value without any delimiter.
        let is_reference = value.starts_with("var.") || value.starts_with("local.");
        let value = if !is_value(value) {
            // An unreadable value counts as one more: the name itself, which stays open.
            format!("${{{name}}}")
        } else if is_reference {
            format!("${{{value}}}")
        } else {
            value.to_owned()
        };
        let key: Box<str> = name.to_ascii_lowercase().into();
        let known = self.by_name.get(&key).map(Vec::as_slice).unwrap_or_default();
        // With the same case: others may have other values, if the language is case-sensitive.
        let in_file = || known.iter().rev().take_while(|one| one.file == file).filter(|one| *one.name == *name);
        if in_file().any(|one| *one.value == *value) || in_file().count() >= MOST_IN_FILE {
            return;
        }
        if self.count >= self.capacity {
            // It counts as one more value, which stays open.
            self.incomplete.insert(key);
            return;
        }
        self.by_name.entry(key).or_default().push(Definition { name: name.into(), value: value.into(), file, line });
        self.count += 1;
    }

    fn at(&self, file: u32) -> Option<&File> {
        self.files.get(usize::try_from(file).ok()?)
    }
}

impl<'d> Variables<'d> {
    pub(super) fn new(definitions: &'d Definitions) -> Self {
        Self { definitions, by_name: HashMap::new() }
    }

    /// Returns everything that a text in a file may expand to.
    pub(super) fn expand(&mut self, text: &str, file: u32) -> Expansion {
        let mut state = ExpansionState::default();
        let texts = self.texts(text, file, &mut state);
        let ExpansionState { is_far, mut used, .. } = state;
        used.sort_unstable();
        used.dedup();
        Expansion { texts, is_far, used }
    }

    fn texts(&mut self, text: &str, file: u32, state: &mut ExpansionState) -> Vec<String> {
        let mut texts = vec![String::new()];
        for piece in pieces(text) {
            let mut options = match piece {
                Piece::Literal(text) => vec![text.to_owned()],
                Piece::Placeholder(written) => self.values(written, file, state),
            };
            if texts.len() * options.len() > MOST_TEXTS
                && let Piece::Placeholder(written) = piece
            {
                options = vec![written.to_owned()];
            }
            texts = texts.iter().flat_map(|text| options.iter().map(move |option| format!("{text}{option}"))).collect();
        }
        texts
    }

    /// Returns the values of a placeholder; the placeholder itself if nothing defines it.
    fn values(&mut self, written: &str, file: u32, state: &mut ExpansionState) -> Vec<String> {
        let unknown = || vec![written.to_owned()];
        let Some(variable) = variable(written) else { return unknown() };
        state.steps += 1;
        if state.open.len() >= MAX_DEPTH || state.steps > MOST_STEPS {
            return unknown();
        }
        let is_open = state.open.contains(&variable.name);
        let (definitions, is_far) = if is_open { (Vec::new(), false) } else { self.definitions(&variable, file) };
        if definitions.len() > MOST_TEXTS {
            return unknown();
        }
        let is_defined = !definitions.is_empty();
        let cut = &self.definitions.incomplete;
        let is_cut = !cut.is_empty() && cut.contains(variable.name.to_ascii_lowercase().as_str());
        let mut values = Vec::new();
        state.open.push(variable.name);
        for definition in definitions {
            state.used.push(UsedDefinition::new(definition.file, definition.line, &definition.name));
            state.is_far |= is_far;
            values.extend(self.texts(&definition.value, definition.file, state));
        }
        for default in &variable.defaults {
            let defaults = self.texts(default, file, state);
            // An open default adds nothing to a definition.
            values.extend(defaults.into_iter().filter(|text| !is_defined || !is_open_text(text)));
        }
        state.open.pop();
        if values.is_empty() || is_cut {
            values.push(written.to_owned());
        }
        values.sort_unstable();
        values.dedup();
        values
    }

    /// Returns the definitions that apply to a variable in a file, and true if they are distant: those of the file
    /// itself and of settings near it, else those near it, else all. Of more than [`MOST_TEXTS`] some are omitted.
    fn definitions(&mut self, variable: &Variable, file: u32) -> (Vec<&'d Definition>, bool) {
        let definitions = self.definitions;
        let named = self.named(variable);
        let far = || (named.all.iter().copied().take(MOST_TEXTS + 1).collect::<Vec<_>>(), !named.all.is_empty());
        let of = |mut positions: Vec<usize>| {
            positions.sort_unstable();
            positions.dedup();
            positions.into_iter().map(|at| named.all[at]).collect::<Vec<_>>()
        };
        let Some(here) = definitions.at(file) else { return far() };
        if let Some(own) = named.by_file.get(&file) {
            let settings = near(&named.settings, &here.folder);
            return (of([own.as_slice(), &settings].concat()), false);
        }
        let near = of(near(&named.by_folder, &here.folder));
        if near.is_empty() {
            return far();
        }
        // A pipeline does not have the variables of another pipeline.
        let is_shared =
            |one: &&Definition| definitions.at(one.file).is_some_and(|there| there.is_settings || there.is_shared);
        let is_far = !near.iter().any(is_shared);
        (near, is_far)
    }

    fn named(&mut self, variable: &Variable) -> &NameDefinitions<'d> {
        let Variable { name, any_case, .. } = variable;
        let key = if *any_case { name.to_ascii_lowercase() } else { name.clone() };
        let definitions = self.definitions;
        self.by_name.entry((key, *any_case)).or_insert_with(|| NameDefinitions::of(definitions, variable))
    }
}

impl<'d> NameDefinitions<'d> {
    fn of(definitions: &'d Definitions, variable: &Variable) -> Self {
        let known = definitions.by_name.get(variable.name.to_ascii_lowercase().as_str());
        let known = known.map(Vec::as_slice).unwrap_or_default().iter();
        let mut named = Self::default();
        for one in known.filter(|one| variable.any_case || *one.name == *variable.name) {
            let position = named.all.len();
            named.all.push(one);
            named.by_file.entry(one.file).or_default().push(position);
            if let Some(File { folder, is_settings, .. }) = definitions.at(one.file) {
                named.by_folder.entry(folder).or_default().push(position);
                if *is_settings {
                    named.settings.entry(folder).or_default().push(position);
                }
            }
        }
        named
    }
}

/// Returns the positions in a folder, in its parents, or in its subfolders: at most one more than may be used.
fn near(folders: &BTreeMap<&str, Vec<usize>>, here: &str) -> Vec<usize> {
    let outer = here.match_indices('/').map(|(at, _)| &here[..at]).filter(|outer| !outer.is_empty());
    let outer = std::iter::once("").chain(outer).chain(Some(here).filter(|here| !here.is_empty()));
    let outer = outer.filter_map(|folder| folders.get(folder));
    let prefix = if here.is_empty() { String::new() } else { format!("{here}/") };
    let first = if here.is_empty() { Bound::Excluded("") } else { Bound::Included(prefix.as_str()) };
    let inner = folders.range::<str, _>((first, Bound::Unbounded));
    let inner = inner.take_while(|(folder, _)| folder.starts_with(&prefix)).map(|(_, positions)| positions);
    outer.chain(inner).flatten().copied().take(MOST_TEXTS + 1).collect()
}

/// Returns true if a file contains settings for others: `.env`, `prod.tfvars`, `values.yaml`, `group_vars/all.yml`.
fn is_settings(folder: &str, base: &str) -> bool {
    let base = base.to_ascii_lowercase();
    base.starts_with(".env")
        || [".env", ".tfvars", ".bicepparam"].iter().any(|end| base.ends_with(end))
        || ["tfvars.", "parameters.", "values", "vars."].iter().any(|part| base.contains(part))
        || folder.split('/').any(|part| matches!(part, "group_vars" | "host_vars" | "vars" | "defaults"))
}

/// Returns true if other files of a folder share the variables of a file of that name, by its language or by including
/// it.
fn is_shared(base: &str) -> bool {
    let base = base.to_ascii_lowercase();
    let by_end = [".tf", ".hcl", ".bicep", ".mk", ".properties", ".ini", ".toml", ".sh", ".ps1", ".json"];
    by_end.iter().any(|end| base.ends_with(end))
        || base.contains("makefile")
        || base.contains("variables")
        || matches!(base.as_str(), ".gitlab-ci.yml" | "chart.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Definitions {
        fn expand(&self, text: &str, file: u32) -> Expansion {
            Variables::new(self).expand(text, file)
        }
    }

    /// The results for a text in a file; `~` marks those by distant definitions.
    fn expanded(defined: &[(&str, &str, &str)], file: &str, text: &str) -> String {
        let mut definitions = Definitions::default();
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        for (name, variable, value) in defined {
            let number = *numbers.entry(*name).or_insert_with(|| definitions.file(name));
            definitions.define(number, variable, value, 1);
        }
        let number = numbers.get(file).copied().unwrap_or_else(|| definitions.file(file));
        let found = definitions.expand(text, number);
        format!("{}{}", if found.is_far { "~" } else { "" }, found.texts.join(" "))
    }

    #[test]
    fn variables_become_what_is_defined_near_them() {
        type Defined<'d> = &'d [(&'d str, &'d str, &'d str)];
        let text = "x/${A}:${B}";
        let cases: &[(Defined<'_>, &str, &str, &str)] = &[
            (&[], "a.yaml", text, text),
            (&[(".env", "A", "api"), (".env", "B", "v1")], "a.yaml", text, "x/api:v1"),
            (&[(".env", "A", "api")], "a.yaml", text, "x/api:${B}"),
            (&[(".env", "a", "api")], "a.yaml", "$A $(A) %a%", "$A api api"),
            (&[(".env", "B", "v1"), (".env", "B", "v2")], "a.yaml", "$B", "v1 v2"),
            // Near before far, and the file itself before others, except for settings.
            (&[("x/.env", "B", "v1"), ("y/.env", "B", "v2")], "y/a.yaml", "$B", "v2"),
            (&[("x/.env", "B", "v1")], "y/a.yaml", "$B", "~v1"),
            (&[("x/y/a.sh", "B", "v1"), ("x/z/a.sh", "B", "v2")], "x/a.sh", "$B", "v1 v2"),
            (&[("x/a.sh", "B", "v1")], "x/y/a.sh", "$B", "v1"),
            // A pipeline does not affect the one beside it.
            (&[("x/a.yml", "B", "v1")], "x/b.yml", "$B", "~v1"),
            (&[("x/variables.yml", "B", "v1")], "x/b.yml", "$B", "v1"),
            (&[("x/a.sh", "B", "v1"), ("x/b.sh", "B", "v2")], "x/a.sh", "$B", "v1"),
            (&[("x/main.tf", "B", "v1"), ("x/env/prod.tfvars", "B", "v2")], "x/main.tf", "${var.B}", "v1 v2"),
            // Defaults, and variables in values.
            (&[], "a", "${B:-v1}", "v1"),
            (&[("a", "B", "v2")], "a", "${B:-v1}", "v1 v2"),
            (&[("a", "B", "v2")], "a", "${B:-${C}}", "v2"),
            (&[("a", "A", "${B}"), ("a", "B", "${C}"), ("a", "C", "v1")], "a", "$A", "v1"),
            (&[("a", "A", "${B}"), ("a", "B", "${A}")], "a", "$A", "${A}"),
            (&[("a", "A", "${A:-v1}")], "a", "$A", "v1"),
            (&[("a", "A", "$(git x)")], "a", "$A", "$(git x)"),
            (&[("a", "A", "var.b"), ("a", "b", "v1")], "a", "${var.A}", "v1"),
            (&[("a", "A", "two words")], "a", "$A", "${A}"),
            (&[("a", "A", "v1"), ("a", "A", "two words")], "a", "$A", "${A} v1"),
            (&[], "a", "{api,web}:v1", "api:v1 web:v1"),
        ];
        for (defined, file, text, expected) in cases {
            assert_eq!(expanded(defined, file, text), *expected, "{text} in {file} of {defined:?}");
        }
        let many: Vec<String> = (0..60).map(|number| format!("v{number}")).collect();
        let many: Vec<(&str, &str, &str)> = many.iter().map(|value| ("a", "B", value.as_str())).collect();
        assert_eq!(expanded(&many, "a", "x:$B"), "x:$B");
        assert_eq!(expanded(&many[..10], "a", "$B $B").matches('$').count(), 10, "too many together");
    }
    #[test]
    fn a_definition_that_was_not_kept_is_one_more_value() {
        let mut definitions = Definitions { capacity: 2, ..Definitions::default() };
        let (near, far) = (definitions.file("a.sh"), definitions.file("x/b.sh"));
        for (file, name, value) in [
            (near, "A", "v1"),
            (near, "B", "v2"),
            // Near definitions are known, and nothing is new.
            (near, "B", "v2"),
            (near, "A", ""),
            // One more than the limit.
            (far, "a", "v3"),
            (far, "C", "v4"),
        ] {
            definitions.define(file, name, value, 1);
        }
        for (text, expected) in [
            ("$A", "$A v1"),
            ("$(a)", "$(a) v1"),
            ("$B", "v2"),
            ("$C", "$C"),
            ("${C:-v5}", "${C:-v5} v5"),
            ("$D", "$D"),
            ("${D:-v6}", "v6"),
        ] {
            assert_eq!(definitions.expand(text, near).texts.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn names_in_other_letters_take_no_room() {
        let mut definitions = Definitions::default();
        let file = definitions.file("a.sh");
        for number in 0..40 {
            definitions.define(file, "tag", &format!("w{number}"), number);
        }
        for number in 0..40 {
            definitions.define(file, "TAG", &format!("v{number}"), number);
        }
        let mut texts = definitions.expand("$TAG", file).texts;
        texts.sort_by_key(|text| text[1..].parse::<u32>().unwrap());
        assert_eq!(texts, (0..40).map(|number| format!("v{number}")).collect::<Vec<_>>());
    }

    #[test]
    fn definitions_are_near_in_the_same_folder_and_above_and_below_it() {
        let is_in = |inner: &str, outer: &str| {
            outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let all = ["", "a", "a/b", "a/b/c", "a/d", "a-b", "ab", "b", "/x", "/x/y", "a//b", "a/"];
        let folders: BTreeMap<&str, Vec<usize>> = all.iter().zip(0..).map(|(folder, at)| (*folder, vec![at])).collect();
        for here in all.iter().chain(&["a/b/c/d", "z"]) {
            let expected = (0..all.len()).filter(|at| is_in(all[*at], here) || is_in(here, all[*at]));
            let mut found = near(&folders, here);
            found.sort_unstable();
            assert_eq!(found, expected.collect::<Vec<_>>(), "{here}");
        }
    }

    #[test]
    fn a_variable_that_every_file_defines_has_the_value_of_each() {
        const MANY: usize = 5_000;
        let mut definitions = Definitions::default();
        let files: Vec<u32> = (0..MANY)
            .map(|number| {
                let file = definitions.file(&format!("services/s{number}/main.sh"));
                definitions.define(file, "TAG", &format!("v{number}"), 1);
                file
            })
            .collect();
        let settings = definitions.file("services/.env");
        definitions.define(settings, "TAG", "v", 1);
        let above = definitions.file("services/deploy.sh");
        let below = definitions.file("services/s7/deep/run.sh");
        let mut variables = Variables::new(&definitions);
        for (number, file) in files.into_iter().enumerate() {
            assert_eq!(variables.expand("$TAG", file).texts, ["v".to_owned(), format!("v{number}")]);
        }
        assert_eq!(variables.expand("$TAG", settings).texts, ["v"]);
        assert_eq!(variables.expand("$TAG", above).texts, ["$TAG"], "too many");
        assert_eq!(variables.expand("$TAG", below).texts, ["v", "v7"]);
    }
}
