//! Rules for what comes in from elsewhere: each dependency is used, its licence and origin are allowed by `deny.toml`, and
//! each snapshot belongs to a test.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, Licensee};

use super::{Path, files_below, fs, is_path_separator, is_punct, sources, tokens};

/// Dependencies without a path in the source, with what they are for.
const FOR_FEATURES: [(&str, &str); 1] = [("k8s-openapi", "kube needs one of its versions")];

fn manifest(name: &str) -> toml::Table {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(name)).unwrap().parse().unwrap()
}

fn texts(value: &toml::Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Returns the packages of the dependency graph on this platform, as `cargo metadata` describes them.
fn packages() -> Vec<Value> {
    let host = Command::new("rustc").args(["--print", "host-tuple"]).output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host.trim()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let used: BTreeSet<&str> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.filter(|package| used.contains(package["id"].as_str().unwrap())).cloned().collect()
}

/// Returns the names in a text that begin a path or are imported as a whole.
fn crates_of(path: &str, text: &str, found: &mut BTreeSet<String>) {
    let trees = super::flat(tokens(path, text));
    for (at, tree) in trees.iter().enumerate() {
        let imported = super::is_word(at.checked_sub(1).and_then(|before| trees.get(before)), "use")
            && (is_punct(trees.get(at + 1), ';') || super::is_word(trees.get(at + 1), "as"));
        if let proc_macro2::TokenTree::Ident(name) = tree
            && (imported || is_path_separator(&trees, at + 1))
        {
            found.insert(name.to_string());
        }
    }
}

#[test]
fn each_dependency_is_used() {
    let cargo = manifest("Cargo.toml");
    let mut used = BTreeSet::new();
    let mut unused = Vec::new();
    for (section, folders) in [("dependencies", &["src"][..]), ("dev-dependencies", &["tests", "benches"])] {
        for file in folders.iter().flat_map(|folder| sources(folder)) {
            crates_of(&file.path, &file.text, &mut used);
        }
        let names = cargo[section].as_table().unwrap().keys();
        let is_unused = |name: &&String| {
            !used.contains(&name.replace('-', "_")) && !FOR_FEATURES.iter().any(|(exempt, _)| exempt == name)
        };
        unused.extend(names.filter(is_unused).map(|name| format!("{name} of [{section}]")));
    }
    assert!(unused.is_empty(), "take these out of Cargo.toml: {}", unused.join(", "));
}

#[test]
fn licences_of_dependencies_are_allowed() {
    let deny = manifest("deny.toml");
    let allowed: Vec<Licensee> =
        texts(&deny["licenses"]["allow"]).into_iter().map(|licence| Licensee::parse(licence).unwrap()).collect();
    let packages = packages();
    assert!(packages.len() > 200, "only {} packages were found", packages.len());
    let mut found = Vec::new();
    for package in &packages {
        // "MIT/Apache-2.0" is how older crates write `OR`.
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        let is_allowed = Expression::parse(&licence)
            .is_ok_and(|expression| expression.evaluate(|needed| allowed.iter().any(|one| one.satisfies(needed))));
        if !is_allowed {
            found.push(format!("{}: {licence:?}", package["name"].as_str().unwrap()));
        }
    }
    assert!(found.is_empty(), "licences that deny.toml does not allow:\n{}", found.join("\n"));
}

#[test]
fn dependencies_are_from_the_registry() {
    for package in packages() {
        let (name, source) = (package["name"].as_str().unwrap(), package["source"].as_str());
        let expected = (name != "tagwarden").then_some("registry+https://github.com/rust-lang/crates.io-index");
        assert_eq!(source, expected, "{name}");
    }
}

/// By the tree of what is built: the metadata also has optional dependencies that no feature asks for.
#[test]
fn no_dependency_is_banned() {
    let deny = manifest("deny.toml");
    let banned = deny["bans"]["deny"].as_array().unwrap().iter();
    let banned: BTreeSet<&str> = banned.map(|banned| banned["crate"].as_str().unwrap()).collect();
    assert!(banned.contains("openssl"), "{banned:?}");
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(built.contains("rustls") && built.len() > 200, "only {} packages were found", built.len());
    let found: Vec<_> = built.intersection(&banned).collect();
    assert!(found.is_empty(), "banned by deny.toml: {found:?}");
}

/// A snapshot is named by the path of its module, then by the name that its test gives or the test's own.
#[test]
fn each_snapshot_belongs_to_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut snapshots = Vec::new();
    files_below(&root.join("tests"), "snap", &mut snapshots);
    assert!(snapshots.len() > 10, "{snapshots:?}");
    let mut found = Vec::new();
    for snapshot in snapshots {
        let text = fs::read_to_string(&snapshot).unwrap();
        let source = text.lines().find_map(|line| line.strip_prefix("source: ")).expect("a header");
        let Ok(source) = fs::read_to_string(root.join(source)) else {
            found.push(snapshot);
            continue;
        };
        let stem = snapshot.file_stem().unwrap().to_str().unwrap();
        let name = stem.rsplit("__").next().unwrap();
        // The second and later ones of a test have a number.
        let name =
            name.rsplit_once('-').filter(|(_, number)| number.parse::<u32>().is_ok()).map_or(name, |(name, _)| name);
        let is_tool = stem.starts_with("it__policy_import__")
            && tagwarden::policy_import::Tool::ALL.iter().any(|tool| tool.label().replace('-', "_") == name);
        if !is_tool && !source.contains(&format!("fn {name}(")) && !source.contains(&format!("\"{name}\"")) {
            found.push(snapshot);
        }
    }
    assert!(found.is_empty(), "snapshots without a test, to be deleted: {found:?}");
}
