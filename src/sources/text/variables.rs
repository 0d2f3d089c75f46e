//! Variables: what the documents of a source define them to be, and the texts that come of references with them.

use std::collections::HashMap;

use super::assignments::is_value;
use super::placeholder::{Piece, Variable, is_open as is_open_text, pieces, variable};
use crate::sources::git_history::file_of;

/// Texts that one reference becomes at most. A variable with more values is left open.
const MOST_TEXTS: usize = 50;

/// Variables in the values of variables.
const DEEPEST: usize = 5;

/// Values that are looked at for one reference, however they refer to each other.
const MOST_STEPS: usize = 2_000;

/// Definitions of one variable in one file, and of all in all.
const MOST_IN_FILE: usize = 60;
const MOST: usize = 200_000;

/// The variables that the documents of a source define.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    /// By the name in lower case.
    by_name: HashMap<Box<str>, Vec<Definition>>,
    files: Vec<File>,
    count: usize,
}

#[derive(Debug)]
struct File {
    folder: Box<str>,
    /// It holds nothing but settings for other files, so that its values count beside those in these.
    is_settings: bool,
    /// Its language has the variables of a folder in any of its files.
    is_shared: bool,
}

#[derive(Debug)]
struct Definition {
    name: Box<str>,
    value: Box<str>,
    file: u32,
    line: u32,
}

/// A definition that was used, by its file, its line, and its name without what it stands in.
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

/// The results of filling in a text with variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expansion {
    /// Each text that it may become. What nothing defines is still a placeholder in it.
    pub(super) texts: Vec<String>,
    /// A definition that stands far from it was used: nothing says that it is the one which counts.
    pub(super) is_far: bool,
    /// The definitions that were used.
    pub(super) used: Vec<UsedDefinition>,
}

/// The reading of one text.
#[derive(Default)]
struct State {
    /// The variables whose values are being read.
    open: Vec<String>,
    steps: usize,
    is_far: bool,
    used: Vec<UsedDefinition>,
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
        if self.count >= MOST || value.is_empty() {
            return;
        }
        // Terraform writes a variable as a value without any mark.
        let is_reference = value.starts_with("var.") || value.starts_with("local.");
        let value = if !is_value(value) {
            // One that cannot be read is one more value all the same: the name itself, which stays open.
            format!("${{{name}}}")
        } else if is_reference {
            format!("${{{value}}}")
        } else {
            value.to_owned()
        };
        let known = self.by_name.entry(name.to_ascii_lowercase().into()).or_default();
        let in_file = || known.iter().rev().take_while(|one| one.file == file);
        if in_file().any(|one| *one.value == *value && *one.name == *name) || in_file().count() >= MOST_IN_FILE {
            return;
        }
        known.push(Definition { name: name.into(), value: value.into(), file, line });
        self.count += 1;
    }

    /// Returns everything that a text in a file may become.
    pub(super) fn expand(&self, text: &str, file: u32) -> Expansion {
        let mut state = State::default();
        let texts = self.texts(text, file, &mut state);
        let State { is_far, mut used, .. } = state;
        used.sort_unstable();
        used.dedup();
        Expansion { texts, is_far, used }
    }

    fn texts(&self, text: &str, file: u32, state: &mut State) -> Vec<String> {
        let mut texts = vec![String::new()];
        for piece in pieces(text) {
            let mut options = match piece {
                Piece::Literal(text) => vec![text.to_owned()],
                Piece::Open(written) => self.values(written, file, state),
            };
            if texts.len() * options.len() > MOST_TEXTS
                && let Piece::Open(written) = piece
            {
                options = vec![written.to_owned()];
            }
            texts = texts.iter().flat_map(|text| options.iter().map(move |option| format!("{text}{option}"))).collect();
        }
        texts
    }

    /// The values of a placeholder; the placeholder itself where nothing defines it.
    fn values(&self, written: &str, file: u32, state: &mut State) -> Vec<String> {
        let unknown = || vec![written.to_owned()];
        let Some(variable) = variable(written) else { return unknown() };
        state.steps += 1;
        if state.open.len() >= DEEPEST || state.steps > MOST_STEPS {
            return unknown();
        }
        let is_open = state.open.contains(&variable.name);
        let (definitions, is_far) = if is_open { (Vec::new(), false) } else { self.definitions(&variable, file) };
        if definitions.len() > MOST_TEXTS {
            return unknown();
        }
        let is_defined = !definitions.is_empty();
        let mut values = Vec::new();
        state.open.push(variable.name);
        for definition in definitions {
            state.used.push(UsedDefinition::new(definition.file, definition.line, &definition.name));
            state.is_far |= is_far;
            values.extend(self.texts(&definition.value, definition.file, state));
        }
        for default in &variable.defaults {
            let defaults = self.texts(default, file, state);
            // A default that is open itself says nothing beside a definition.
            values.extend(defaults.into_iter().filter(|text| !is_defined || !is_open_text(text)));
        }
        state.open.pop();
        values.sort_unstable();
        values.dedup();
        if values.is_empty() { unknown() } else { values }
    }

    /// The definitions that count for a variable in a file, and whether they stand far from it: those of the file itself
    /// and of settings near it, else those near it, else all.
    fn definitions(&self, variable: &Variable, file: u32) -> (Vec<&Definition>, bool) {
        let known =
            self.by_name.get(variable.name.to_ascii_lowercase().as_str()).map(Vec::as_slice).unwrap_or_default();
        let named: Vec<&Definition> =
            known.iter().filter(|one| variable.any_case || *one.name == *variable.name).collect();
        let of = |number: u32| self.files.get(usize::try_from(number).ok()?);
        let is_near = |one: &Definition| {
            of(file).zip(of(one.file)).is_some_and(|(here, there)| is_related(&here.folder, &there.folder))
        };
        let near: Vec<&Definition> = named.iter().copied().filter(|one| is_near(one)).collect();
        if near.is_empty() {
            let is_far = !named.is_empty();
            return (named, is_far);
        }
        let is_own = |one: &Definition| one.file == file;
        if near.iter().any(|one| is_own(one)) {
            let counts = |one: &&Definition| is_own(one) || of(one.file).is_some_and(|there| there.is_settings);
            return (near.into_iter().filter(counts).collect(), false);
        }
        // A pipeline has no variables of the pipeline beside it.
        let is_shared = |one: &Definition| of(one.file).is_some_and(|there| there.is_settings || there.is_shared);
        let is_far = !near.iter().any(|one| is_shared(one));
        (near, is_far)
    }
}

/// Returns true if one folder is the other or lies in it.
fn is_related(one: &str, other: &str) -> bool {
    let is_in = |inner: &str, outer: &str| {
        outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    is_in(one, other) || is_in(other, one)
}

/// Returns true if a file holds settings for others: `.env`, `prod.tfvars`, `values.yaml`, `group_vars/all.yml`.
fn is_settings(folder: &str, base: &str) -> bool {
    let base = base.to_ascii_lowercase();
    base.starts_with(".env")
        || [".env", ".tfvars", ".bicepparam"].iter().any(|end| base.ends_with(end))
        || ["tfvars.", "parameters.", "values", "vars."].iter().any(|part| base.contains(part))
        || folder.split('/').any(|part| matches!(part, "group_vars" | "host_vars" | "vars" | "defaults"))
}

/// Returns true if other files of a folder have the variables of a file of that name, by its language or by including
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

    /// The results for a text in a file; `~` marks those from far.
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
            // A pipeline says nothing of the one beside it.
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
}
