//! A rule against circles of imports between the files of a room.
//!
//! A child module may use what its parent holds, and a parent its children: those imports do not count. Nor do imports
//! of tests.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, module_of, scan, sources};

/// The path of a module, from the root of the crate.
type Module = Vec<String>;

/// The circles that are left, each with its reason.
const KNOWN_CIRCLES: [(&[&str], &str); 4] = [
    (
        &["apply/companions", "apply/removal_queue", "apply/untag"],
        "the queue calls the removals, which share the state of its repository",
    ),
    (
        &["daemon/approved_plans", "daemon/event_loop", "daemon/leadership", "daemon/reload", "daemon/rules"],
        "one `impl EventLoop` in five files",
    ),
    (
        &[
            "registry/client/auth",
            "registry/client/authenticator",
            "registry/client/connection",
            "registry/client/docker_config",
            "registry/client/pagination",
            "registry/client/wire",
        ],
        "the parser of lists needs the context of a page, and a page its connection",
    ),
    (
        &["sources/kubernetes/claims", "sources/kubernetes/objects", "sources/kubernetes/templates"],
        "objects, their templates and their claims describe each other",
    ),
];

#[test]
fn files_of_a_room_import_in_one_direction() {
    let circles = circles(&sources("src"));
    let unknown: Vec<_> =
        circles.iter().filter(|circle| !KNOWN_CIRCLES.iter().any(|(files, _)| covers(files, circle))).collect();
    assert!(unknown.is_empty(), "imports go in a circle, so move what these files share to one below: {unknown:#?}");
    let opened: Vec<_> =
        KNOWN_CIRCLES.iter().filter(|(files, _)| !circles.iter().any(|circle| covers(files, circle))).collect();
    assert!(opened.is_empty(), "no circle any more, so take it off `KNOWN_CIRCLES`: {opened:#?}");
}

/// Returns true if all files of a circle are among these.
fn covers(files: &[&str], circle: &BTreeSet<String>) -> bool {
    circle.iter().all(|file| files.contains(&file.as_str()))
}

/// Files by path and text, and the circles among them.
type Case<'c> = (&'c [(&'c str, &'c str)], &'c [&'c [&'c str]]);

#[test]
fn circles_are_found_and_parents_are_let_be() {
    let cases: [Case<'_>; 5] = [
        (
            &[
                ("src/engine/mod.rs", "mod limits; mod plan; pub use self::plan::plan; pub struct Plan;"),
                ("src/engine/plan.rs", "use super::Plan; use super::limits::refuse;"),
                ("src/engine/limits.rs", "use crate::engine::plan::first;"),
            ],
            &[&["engine/limits", "engine/plan"]],
        ),
        (
            &[
                ("src/engine/check/mod.rs", "use super::graph::Graph;"),
                ("src/engine/check/rules.rs", "use super::{Check, super::keep::{self, keep}};"),
                ("src/engine/graph.rs", "fn f() { super::check::rules::f(); }"),
                ("src/engine/keep.rs", "use super::graph;"),
            ],
            &[&["engine/check/rules", "engine/graph", "engine/keep"]],
        ),
        (
            &[
                ("src/engine/plan.rs", "use super::limits::refuse;"),
                ("src/engine/limits.rs", "#[cfg(test)] mod tests { use super::super::plan::plan; }"),
            ],
            &[],
        ),
        (
            &[
                ("src/engine/plan.rs", "use super::limits::refuse; use crate::domain::plan::Plan;"),
                ("src/engine/limits.rs", "/// See [`super::plan`].\nfn f() { \"super::plan\"; }"),
                ("src/domain/plan.rs", ""),
            ],
            &[],
        ),
        (
            &[
                ("src/engine/check/mod.rs", "use self::rules::Rules; pub struct Check;"),
                ("src/engine/check/rules.rs", "use super::Check;"),
            ],
            &[],
        ),
    ];
    for (files, expected) in cases {
        let files: Vec<Source> =
            files.iter().map(|(path, text)| Source { path: (*path).to_owned(), text: (*text).to_owned() }).collect();
        let found: Vec<Vec<String>> = circles(&files).into_iter().map(Vec::from_iter).collect();
        assert_eq!(found, expected, "{}", files[0].text);
    }
}

/// The groups of files of a room that reach each other by imports.
fn circles(files: &[Source]) -> BTreeSet<BTreeSet<String>> {
    let files: BTreeMap<Module, &Source> = files
        .iter()
        .map(|file| (module_of(&file.path), file))
        .filter(|(module, _)| !["lib", "main"].contains(&module[0].as_str()) && module[module.len() - 1] != "tests")
        .collect();
    let imports: BTreeMap<&Module, BTreeSet<&Module>> = files
        .iter()
        .map(|(module, file)| {
            let paths = scan(&file.path, &file.text).paths;
            (module, paths.iter().filter_map(|path| imported_file(path, module, &files)).collect())
        })
        .collect();
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        imports.keys().map(|module| (*module, reachable(module, &imports))).collect();
    let circle = |(module, others): (&&Module, &BTreeSet<&Module>)| -> BTreeSet<String> {
        others.iter().filter(|other| reached[*other].contains(*module)).map(|other| other.join("/")).collect()
    };
    reached.iter().map(circle).filter(|circle| !circle.is_empty()).collect()
}

/// The file of the same room that a path leads to, unless it is the file itself or one that it is a child of.
fn imported_file<'f>(path: &[String], from: &Module, files: &'f BTreeMap<Module, &Source>) -> Option<&'f Module> {
    let (file, _) = (1..=path.len()).rev().find_map(|length| files.get_key_value(&path[..length]))?;
    (file[0] == from[0] && !from.starts_with(file)).then_some(file)
}

/// The files that a file imports, and those that they import.
fn reachable<'f>(from: &Module, imports: &BTreeMap<&'f Module, BTreeSet<&'f Module>>) -> BTreeSet<&'f Module> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<&Module> = imports[from].iter().copied().collect();
    while let Some(module) = waiting.pop() {
        if found.insert(module) {
            waiting.extend(&imports[module]);
        }
    }
    found
}
