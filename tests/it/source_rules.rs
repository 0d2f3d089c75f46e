//! Rules for the source: the order of imports, the length of files, constructs that no file has, and documents that
//! match it. A room is a top-level module of the crate.

mod dependencies;
mod doc_comments;
mod errors;
mod import_circles;

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};

/// The rooms, the lowest first: each may import those before it.
const ROOMS: [&str; 20] = [
    "domain",
    "engine",
    "policy",
    "policy_import",
    "http_client",
    "azure",
    "registry",
    "sources",
    "state",
    "report",
    "config",
    "apply",
    "workflow",
    "notify",
    "telemetry",
    "web",
    "daemon",
    "demo",
    "cli",
    "main",
];

/// The map of the source.
const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");

/// Longer files are hard to hold in the head.
const MOST_LINES: usize = 600;

#[test]
fn imports_point_downward() {
    let found: Vec<String> = sources("src").iter().flat_map(|file| imports(&file.path, &file.text)).collect();
    assert!(found.is_empty(), "imports that do not point downward:\n{}", found.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = sources("src")
        .iter()
        .chain(&sources("tests"))
        .filter(|file| file.text.lines().count() > MOST_LINES)
        .map(|file| format!("{}: {} lines", file.path, file.text.lines().count()))
        .collect();
    assert!(long.is_empty(), "files of more than {MOST_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn nothing_is_left_for_later_or_hushed_up() {
    let found: Vec<String> = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(sources)
        .flat_map(|file| leftovers(&file.path, tokens(&file.path, &file.text)))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn links_in_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = Vec::new();
    files_below(root, "md", &mut documents);
    assert!(documents.contains(&root.join("README.md")), "{documents:?}");
    let mut dead = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        for (line, target) in links(&text) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { document.clone() } else { document.with_file_name("").join(path) };
            let there = file.exists()
                && (heading.is_empty() || fs::read_to_string(&file).is_ok_and(|text| has_heading(&text, heading)));
            if !there {
                dead.push(format!("{}:{line}: {target}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

#[test]
fn the_architecture_names_all_modules_in_import_order() {
    let headings = ARCHITECTURE.lines().filter_map(|line| line.strip_prefix("### `")?.split_once('`'));
    let named: Vec<&str> = headings.map(|(module, _)| module).collect();
    // The binary only calls `cli`.
    let (main, modules) = ROOMS.split_last().unwrap();
    assert_eq!(*main, "main");
    assert_eq!(named, modules);
}

#[test]
fn files_and_functions_in_the_architecture_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source: String = sources("src").into_iter().map(|file| file.text).collect();
    let (mut checked, mut missing) = (0, Vec::new());
    for section in ARCHITECTURE.split("\n## ").flat_map(|part| part.split("\n### ")) {
        // In the section of a module, files are named relative to its folder.
        let module = section.strip_prefix('`').and_then(|heading| heading.split('`').next());
        for name in section.split('`').skip(1).step_by(2) {
            let from_root = ["src/", "tests/", "benches/"].iter().any(|folder| name.starts_with(folder));
            let exists = match (module, name.rsplit_once("::")) {
                _ if from_root => root.join(name).exists(),
                (Some(module), None) if Path::new(name).extension().is_some_and(|end| end == "rs") => {
                    root.join("src").join(module).join(name).exists()
                }
                (_, Some((_, function))) if function.starts_with(|c: char| c.is_ascii_lowercase()) => {
                    ['(', '<'].iter().any(|next| source.contains(&format!("fn {function}{next}")))
                }
                _ => continue,
            };
            checked += 1;
            if !exists {
                missing.push(name);
            }
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md names what does not exist: {missing:?}");
    assert!(checked > 80, "only {checked} names were found: are they still written in backticks?");
}

#[test]
fn every_way_to_reach_upward_is_seen() {
    for (path, text) in [
        ("src/engine/plan.rs", "use crate::report::text;"),
        ("src/engine/plan.rs", "use crate::{domain::Tag, report::{self, text}};"),
        ("src/engine/plan.rs", "use super::super::report;"),
        ("src/engine/plan.rs", "use {crate::domain, super::super::{domain::Tag, state}};"),
        ("src/engine/mod.rs", "use super::state::StateStore;"),
        ("src/engine/mod.rs", "use self::super::state::StateStore;"),
        ("src/engine/check/mod.rs", "fn f() -> super::super::state::StateStore { loop {} }"),
        ("src/engine/plan.rs", "fn f() { let x = crate::state::open(); }"),
        ("src/engine/plan.rs", "fn f(x: &crate::state::StateStore) {}"),
        ("src/engine/plan.rs", "fn f() { format!(\"{}\", crate::state::NAME); }"),
        ("src/engine/plan.rs", "macro_rules! f { () => { $crate::state::open() } }"),
        ("src/engine/plan.rs", "#[cfg(test)] mod tests { use crate::demo::image; }"),
        ("src/engine/plan.rs", "mod tests { use super::super::super::demo::image; }"),
        ("src/engine/plan.rs", "#[serde(with = \"crate::report::time\")] struct A;"),
        ("src/engine/plan.rs", "use tagwarden::state::Store;"),
        ("src/apply.rs", "use crate::workflow::run;"),
        ("src/apply.rs", "use super::workflow::run;"),
        ("src/workflow/plan.rs", "use crate::demo::image;"),
        ("src/engine/plan.rs", "use crate::surprise::Thing;"),
        ("src/engine/plan.rs", "use crate::*;"),
        ("src/engine/mod.rs", "use super::*;"),
        ("src/engine/plan.rs", "use crate as other;"),
        ("src/engine/plan.rs", "extern crate self as other;"),
        ("src/lib.rs", "pub use crate::domain::Tag;"),
        ("src/lib.rs", "pub mod domain; pub use domain::Tag;"),
        ("src/surprise/mod.rs", ""),
        ("src/surprise.rs", ""),
    ] {
        assert!(!imports(path, text).is_empty(), "not seen in {path}: {text}");
    }
}

#[test]
fn what_points_downward_is_let_be() {
    for (path, text) in [
        ("src/engine/plan.rs", "use crate::domain::{self, Tag}; use super::evaluate; use crate::engine::check;"),
        ("src/engine/plan.rs", "mod tests { use super::*; use super::super::evaluate; }"),
        ("src/engine/plan.rs", "/// See [`crate::report`].\npub(crate) fn f() { \"crate::report\"; }"),
        ("src/engine/plan.rs", "pub(in crate::engine) fn f() { self::g(); report::h(); }"),
        ("src/config/mod.rs", "pub(super) use reading::Reading; use crate::report::{text, words};"),
        ("src/cli/mod.rs", "use crate::{demo, workflow::{self, plan}};"),
        ("src/main.rs", "use tagwarden::cli; fn main() { tagwarden::workflow::run(); }"),
        ("src/lib.rs", "//! Rooms.\n#![deny(missing_docs)]\npub mod domain;\n/// Decisions.\npub mod engine;"),
    ] {
        assert_eq!(imports(path, text), [""; 0], "{path}: {text}");
    }
}

#[test]
fn leftovers_are_seen_and_words_about_them_are_not() {
    for text in [
        "fn f() { todo!() }",
        "fn f() { unimplemented!(\"later\") }",
        "fn f() -> u8 { vec![dbg!(1)][0] }",
        "#[allow(dead_code)] fn f() {}",
        "#![allow(dead_code)]",
        "#[cfg_attr(test, allow(dead_code))] fn f() {}",
        "#[test] #[ignore] fn f() {}",
        "#[test] #[ignore = \"slow\"] fn f() {}",
        "#[path = \"../other.rs\"] mod other;",
    ] {
        assert_eq!(leftovers("x.rs", text.parse().unwrap()).len(), 1, "{text}");
    }
    let fine = "/// todo!() #[allow(x)]\n#[expect(dead_code, reason = \"allow(x)\")] fn f(ignore: A) { \"dbg!(1)\"; allow(x) }\n\
                #[ignore = \"started and killed by `g`\"] fn h() {}";
    assert_eq!(leftovers("x.rs", fine.parse().unwrap()), [""; 0]);
}

/// A removal takes the proof that it is journaled, and a writer the proof that the lease is held, so nobody but the state
/// may make either.
#[test]
fn only_the_state_records_intents_and_grants_leases() {
    for constructor in ["recorded", "granted"] {
        let calls = |in_state: bool| -> Vec<String> {
            let files = sources("src").into_iter().filter(|file| file.path.starts_with("src/state/") == in_state);
            files.flat_map(|file| calls_of(constructor, &file.path, &file.text)).collect()
        };
        assert_eq!(calls(true).len(), 1, "the one place that calls `{constructor}`");
        let found = calls(false);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    for text in [
        "fn f() { JournaledIntent::recorded(id, &intent); }",
        "fn f() { ids.map(|id| crate::domain::JournaledIntent::recorded(id, &intent)) }",
        "use crate::domain::JournaledIntent as Proof; fn f() { Proof::recorded(id, &intent); }",
        "fn f() { <JournaledIntent>::recorded(id, &intent); }",
        "macro_rules! f { () => { $crate::domain::JournaledIntent::recorded(id, &intent) } }",
        "fn f() { let make = JournaledIntent::recorded; }",
    ] {
        assert_eq!(calls_of("recorded", "x.rs", text).len(), 1, "{text}");
    }
    let fine =
        "/// See [`JournaledIntent::recorded`].\nfn recorded() { self.recorded(); \"JournaledIntent::recorded\"; }";
    assert_eq!(calls_of("recorded", "x.rs", fine), [""; 0]);
}

/// A Rust file, by its path from the root of the package.
struct Source {
    path: String,
    text: String,
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    files_below(&root.join(folder), "rs", &mut files);
    assert!(!files.is_empty(), "no sources in {folder}");
    let source = |file: PathBuf| Source {
        path: file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/"),
        text: fs::read_to_string(&file).unwrap(),
    };
    files.into_iter().map(source).collect()
}

/// All files with that ending, in the order of their names; what is built or hidden is passed over.
fn files_below(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap().to_str().unwrap();
        if entry.is_dir() && name != "target" && !name.starts_with('.') {
            files_below(&entry, ending, found);
        } else if entry.is_file() && entry.extension().is_some_and(|extension| extension == ending) {
            found.push(entry);
        }
    }
}

fn tokens(path: &str, text: &str) -> TokenStream {
    text.parse().unwrap_or_else(|error| panic!("{path} is no Rust: {error}"))
}

/// The imports of a file that do not point downward, each with its place.
///
/// Goes by tokens rather than by syntax, because paths stand in macros and attributes, too.
fn imports(path: &str, text: &str) -> Vec<String> {
    scan(path, text).found
}

/// The path of the module that a file holds, from the root of the crate.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")).expect("a source under src");
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// Reads the imports of a file. Those of the binary's own file are not looked at.
fn scan<'p>(path: &'p str, text: &str) -> Scan<'p> {
    let mut module = module_of(path);
    let room = module[0].clone();
    let mut scan = Scan { path, room: rank(&room), found: Vec::new(), paths: Vec::new() };
    match room.as_str() {
        "main" => {}
        "lib" => scan.root(tokens(path, text)),
        _ if scan.room.is_none() => scan.found.push(format!("{path}: `{room}` is no room yet: give it its place")),
        _ => scan.tokens(tokens(path, text), &mut module),
    }
    scan
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|name| *name == room)
}

struct Scan<'a> {
    path: &'a str,
    room: Option<usize>,
    found: Vec<String>,
    /// The paths that are imported, from the root of the crate, but for those of tests.
    paths: Vec<Vec<String>>,
}

impl Scan<'_> {
    fn tell(&mut self, span: Span, what: &str) {
        self.found.push(format!("{}:{}: {what}", self.path, span.start().line));
    }

    /// The crate's root only names its rooms; what it exported under another name would be seen nowhere.
    fn root(&mut self, stream: TokenStream) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        for tree in &trees {
            if let TokenTree::Ident(word) = tree
                && (word == "use" || word == "extern" || word == "fn" || word == "macro_rules")
            {
                self.tell(word.span(), "the crate's root names its rooms and nothing else");
            }
        }
    }

    /// Looks for paths. `module` is the module that the tokens stand in.
    fn tokens(&mut self, stream: TokenStream, module: &mut Vec<String>) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < trees.len() {
            match &trees[at] {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    at += 1;
                    // `#![…]`
                    at += usize::from(is_punct(trees.get(at), '!'));
                    if let Some(TokenTree::Group(attribute)) = trees.get(at) {
                        self.attribute(attribute, module);
                        at += 1;
                    }
                    continue;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (trees.get(at + 1), trees.get(at + 2))
                    {
                        let before = self.paths.len();
                        module.push(name.to_string());
                        self.tokens(body.stream(), module);
                        module.pop();
                        if name == "tests" {
                            self.paths.truncate(before);
                        }
                        at += 3;
                        continue;
                    }
                }
                TokenTree::Ident(word) if word == "extern" && is_word(trees.get(at + 2), "self") => {
                    self.tell(word.span(), "the crate under another name hides what is imported");
                }
                TokenTree::Ident(word) if starts_path(&trees, at) => {
                    let base = match word.to_string().as_str() {
                        "crate" | "tagwarden" => Some(Vec::new()),
                        "self" => Some(module.clone()),
                        "super" => Some(parent(module)),
                        _ => None,
                    };
                    // `self` alone is a value, and `pub(crate)` and `pub(super)` import nothing.
                    let goes_on = is_path_separator(&trees, at + 1);
                    if let Some(base) = base.filter(|_| goes_on) {
                        at = self.path(&trees, at + 3, base, word.span());
                        continue;
                    }
                    if word == "crate" && is_word(trees.get(at + 1), "as") {
                        self.tell(word.span(), "the crate under another name hides what is imported");
                    }
                }
                TokenTree::Group(group) => self.tokens(group.stream(), module),
                _ => {}
            }
            at += 1;
        }
    }

    /// Follows a path to the room that it leads to. `base` is what was walked so far, `at` stands behind a `::`. Gives
    /// the position behind what was read.
    fn path(&mut self, trees: &[TokenTree], mut at: usize, mut base: Vec<String>, from: Span) -> usize {
        loop {
            match trees.get(at) {
                Some(TokenTree::Ident(word)) if word == "super" => base = parent(&base),
                Some(TokenTree::Ident(word)) if word == "self" => {}
                Some(TokenTree::Ident(word)) => base.push(word.to_string()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in branches.split(|tree| is_punct(Some(tree), ',')).filter(|branch| !branch.is_empty()) {
                        self.path(branch, 0, base.clone(), branch[0].span());
                    }
                    return at + 1;
                }
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                    self.import(&base, from);
                    return at + 1;
                }
                _ => {
                    self.import(&base, from);
                    return at;
                }
            }
            if !is_path_separator(trees, at + 1) {
                self.import(&base, from);
                return at + 1;
            }
            at += 3;
        }
    }

    fn import(&mut self, path: &[String], span: Span) {
        self.paths.push(path.to_vec());
        let Some(name) = path.first() else {
            return self.tell(span, "a glob or a name for the whole crate hides what is imported");
        };
        match rank(name) {
            None => self.tell(span, &format!("`crate::{name}` is in no room: give it its place")),
            Some(room) if Some(room) > self.room => {
                let (own, order) = (ROOMS[self.room.unwrap_or_default()], ROOMS.join(" < "));
                self.tell(span, &format!("{own} may not import {name} ({order})"));
            }
            Some(_) => {}
        }
    }

    /// Attributes name paths in texts as well, such as serde's `with`; a doc comment is only words.
    fn attribute(&mut self, attribute: &Group, module: &mut Vec<String>) {
        let stream = attribute.stream();
        if is_word(stream.clone().into_iter().next().as_ref(), "doc") {
            return;
        }
        for tree in flat(stream.clone()) {
            if let TokenTree::Literal(literal) = &tree
                && let Some(text) = literal.to_string().strip_prefix('"').and_then(|text| text.strip_suffix('"'))
                && ["crate::", "super::"].iter().any(|start| text.starts_with(start))
                && let Ok(path) = text.parse()
            {
                let before = self.found.len();
                self.tokens(path, module);
                if self.found.len() > before {
                    self.found.truncate(before);
                    self.tell(literal.span(), &format!("`{text}` does not point downward"));
                }
            }
        }
        self.tokens(stream, module);
    }
}

/// Macros and attributes that put something off, or silence what should be said.
fn leftovers(path: &str, stream: TokenStream) -> Vec<String> {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut found = Vec::new();
    let mut tell = |span: Span, what: String| found.push(format!("{path}:{}: {what}", span.start().line));
    let mut inner = Vec::new();
    for (at, tree) in trees.iter().enumerate() {
        let next = trees.get(at + 1);
        match tree {
            TokenTree::Ident(word) if is_punct(next, '!') && !is_punct(trees.get(at + 2), '=') => {
                let word = word.to_string();
                if ["todo", "unimplemented", "dbg"].contains(&word.as_str()) {
                    tell(tree.span(), format!("`{word}!` is left"));
                }
            }
            TokenTree::Punct(hash) if hash.as_char() == '#' => {
                let group = if is_punct(next, '!') { trees.get(at + 2) } else { next };
                let Some(TokenTree::Group(attribute)) = group else { continue };
                let all = flat(attribute.stream());
                for (at, tree) in all.iter().enumerate() {
                    let hushes = is_word(Some(tree), "allow") && matches!(all.get(at + 1), Some(TokenTree::Group(_)));
                    // A test may be half of another, which says so and starts it.
                    let half = matches!(all.get(2), Some(reason) if reason.to_string().starts_with("\"started "));
                    let ignores = at == 0 && is_word(Some(tree), "ignore") && !half;
                    if hushes || ignores || at == 0 && is_word(Some(tree), "path") {
                        tell(tree.span(), format!("`#[{tree}…]`: say it with `#[expect(…, reason)]`, or do without"));
                    }
                }
            }
            TokenTree::Group(group) => inner.push(group.stream()),
            _ => {}
        }
    }
    found.extend(inner.into_iter().flat_map(|stream| leftovers(path, stream)));
    found
}

/// The places that call a constructor by its path, whatever name its type has there.
fn calls_of(constructor: &str, path: &str, text: &str) -> Vec<String> {
    let trees = flat(tokens(path, text));
    let calls = (2..trees.len()).filter(|at| is_word(trees.get(*at), constructor) && is_path_separator(&trees, at - 2));
    let place = |at: usize| trees[at].span().start().line;
    calls.map(|at| format!("{path}:{}: only the state calls `{constructor}`", place(at))).collect()
}

/// All tokens in their order, each group followed by what is in it.
fn flat(stream: TokenStream) -> Vec<TokenTree> {
    let mut all = Vec::new();
    for tree in stream {
        let inner = if let TokenTree::Group(group) = &tree { flat(group.stream()) } else { Vec::new() };
        all.push(tree);
        all.extend(inner);
    }
    all
}

fn parent(module: &[String]) -> Vec<String> {
    module[..module.len().saturating_sub(1)].to_vec()
}

/// Whether the word there begins a path rather than continuing one, such as the `super` in `self::super`.
fn starts_path(trees: &[TokenTree], at: usize) -> bool {
    at < 2 || !is_path_separator(trees, at - 2)
}

fn is_path_separator(trees: &[TokenTree], at: usize) -> bool {
    is_punct(trees.get(at), ':') && is_punct(trees.get(at + 1), ':')
}

fn is_punct(tree: Option<&TokenTree>, sign: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

fn is_word(tree: Option<&TokenTree>, text: &str) -> bool {
    matches!(tree, Some(TokenTree::Ident(word)) if word == text)
}

/// The links of a Markdown text that lead into the repository, with their lines from 1. Code is no link.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code && !line.starts_with("    ") {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
            let inside = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
            found.extend(inside.map(|target| (number + 1, target)));
        }
    }
    found
}

/// Whether a Markdown text has a heading of that name, as forges make one of a heading's words.
fn has_heading(text: &str, name: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let name_of = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(name_of).any(|heading| heading == name)
}
