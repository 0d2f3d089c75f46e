//! Policy files: what is read, and how each fault is told.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use proptest::prelude::*;
use tagwarden::domain::{Digest, Keep, KeepRule, PolicyLimits, PolicyMode, RegistryName, TagSelector, chain};
use tagwarden::policy::{Diagnostic, load, parse, render, schema};

/// Whether the JSON schema accepts a text; nothing if it is no YAML at all.
struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema.json", schema()).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn accepts(&self, text: &str) -> Option<bool> {
        let value: serde_json::Value = serde_saphyr::from_str(text).ok()?;
        Some(self.schemas.validate(&value, self.index).is_ok())
    }
}

/// The cases of a file of cases: title and text.
fn cases(text: &str) -> Vec<(&str, &str)> {
    text.split("=== ").skip(1).map(|case| case.split_once('\n').unwrap_or((case, ""))).collect()
}

fn lines(problems: &[Diagnostic]) -> String {
    let mut out = String::new();
    for problem in problems {
        let _ = writeln!(out, "  {problem}");
    }
    out
}

/// Every fault with its place, its words and its help, and whether editors see it, too.
#[test]
fn faults_are_told() {
    let schema = Schema::new();
    let mut told = String::new();
    for (title, text) in cases(include_str!("policy_faults.txt")) {
        let problems = parse("p.yaml", text).expect_err(title);
        let editor = match schema.accepts(text) {
            Some(true) => "accepts",
            Some(false) => "refuses",
            None => "cannot read",
        };
        let _ = writeln!(told, "{title} (the schema {editor} it)\n{}", lines(&problems));
    }
    insta::assert_snapshot!(told);
}

/// The worked examples: each is read, each is what the schema accepts, and all together are one set.
#[test]
fn examples_are_read() {
    let schema = Schema::new();
    let set = load(Path::new("policies")).unwrap_or_else(|error| panic!("{}", render(&error.diagnostics, false)));
    for (file, revision) in &set.files {
        let text = fs::read_to_string(Path::new("policies").join(file)).unwrap();
        assert_eq!(schema.accepts(&text), Some(true), "{file}");
        assert_eq!(*revision, Digest::of(text.as_bytes()).to_string());
    }
    let shown: Vec<String> = set.policies.iter().map(|policy| format!("{} ({})", policy.name, policy.file)).collect();
    insta::assert_snapshot!(shown.join("\n"), @r##"
    branch-builds (branches.yaml)
    builds-behind (stable-and-rollback.yaml)
    canaries (canary-and-regions.yaml)
    candidate-builds (candidates-and-releases.yaml)
    dev-builds (from-acr-purge.yaml)
    main-builds (branches.yaml)
    nightly-builds (nightly.yaml)
    preview-builds (two-steps.yaml)
    pull-requests (pull-requests.yaml)
    region-tests (canary-and-regions.yaml)
    releases-stay (candidates-and-releases.yaml)
    stable-tags (stable-and-rollback.yaml)
    versions (versions.yaml)
    "##);
}

/// A file that says everything that can be said.
const WHOLE: &str = r#"
policies:
  - name: everything
    description: All that can be written.
    owner: platform@contoso.example
    select:
      registries: [contoso, Fabrikam-EU]
      repositories: ["shop/**", "!shop/legacy/**"]
      pattern: '(?<branch>.+)-(?<build>\d+)'
    group_by: [branch]
    keep:
      - newest: 5
      - within: 1d 12h
      - daily: 7
      - weekly: 4
      - monthly: 12
      - yearly: 3
      - newest_per: { version: minor, count: 2 }
      - matching: ["*-lts", "!x-lts"]
      - image_with: { tags: ["release-*"], within: 30d }
      - image_with: { within: 2d }
    then: { delete_manifest: after 1d 12h }
    mode: enforce
    limits: { untag: 200, percent: 30 }
  - name: least
    select: { registries: [contoso] }
    keep: none
"#;

#[test]
fn everything_that_can_be_written_is_read() {
    let policies = parse("whole.yaml", WHOLE).unwrap();
    let [everything, least] = policies.as_slice() else { panic!("{policies:?}") };
    assert_eq!(everything.name.as_str(), "everything");
    assert_eq!(everything.description.as_deref(), Some("All that can be written."));
    assert_eq!(everything.owner.as_deref(), Some("platform@contoso.example"));
    assert_eq!(everything.group_by, ["branch"]);
    assert_eq!(everything.mode, PolicyMode::Enforce);
    let grace = everything.delete_manifest_after.as_ref().unwrap();
    assert_eq!((grace.duration.as_hours(), &*grace.written), (36, "1d 12h"));
    assert_eq!(everything.limits, PolicyLimits { untag: Some(200), percent: Some(30) });
    assert_eq!(&*everything.file, "whole.yaml");
    assert_eq!(*everything.revision, *Digest::of(WHOLE.as_bytes()).to_string());
    let registries: Vec<&str> = everything.select.registries.iter().flatten().map(RegistryName::as_str).collect();
    assert_eq!(registries, ["contoso", "Fabrikam-EU"]);
    let repositories = everything.select.repositories.as_ref().unwrap();
    assert!(repositories.matches("shop/a/b") && !repositories.matches("shop/legacy/b"));
    let TagSelector::Pattern(pattern) = &everything.select.tags else { panic!("{:?}", everything.select.tags) };
    assert!(pattern.is_match("main-1") && !pattern.is_match("main-1-x") && !pattern.is_match("main"));
    insta::assert_debug_snapshot!(everything.keep.rules().iter().take(7).collect::<Vec<_>>());
    assert!(matches!(&everything.keep.rules()[7], KeepRule::Matching(globs) if globs.matches("1-lts")));
    let KeepRule::ImageWith { tags: Some(tags), within: Some(within) } = &everything.keep.rules()[8] else {
        panic!("{:?}", everything.keep.rules()[8]);
    };
    assert!(tags.matches("release-1") && &*within.written == "30d");
    assert!(matches!(&everything.keep.rules()[9], KeepRule::ImageWith { tags: None, within: Some(_) }));

    assert!(matches!(least.keep, Keep::None));
    assert!(matches!(least.select.tags, TagSelector::All));
    assert!(least.select.repositories.is_none());
    assert_eq!(least.delete_manifest_after, None);
    assert_eq!((least.mode, least.limits), (PolicyMode::DryRun, PolicyLimits::default()));
    assert_eq!(Schema::new().accepts(WHOLE), Some(true));
}

/// A pattern is one for the whole tag, also where it has alternatives.
#[test]
fn patterns_are_anchored() {
    let text = "policies: [{ name: a, select: { pattern: 'rc|candidate' }, keep: none }]";
    let policies = parse("p.yaml", text).unwrap();
    let TagSelector::Pattern(pattern) = &policies[0].select.tags else { panic!() };
    assert!(pattern.is_match("rc") && pattern.is_match("candidate"));
    assert!(!pattern.is_match("rc-1") && !pattern.is_match("my-candidate"));
}

/// What says plainly that it means everything may mean everything.
#[test]
fn everything_can_be_meant() {
    for select in [
        r#"{ tags: ["*"] }"#,
        r#"{ tags: ["**"] }"#,
        r#"{ tags: ["*", "!x"] }"#,
        r#"{ repositories: ["**"] }"#,
        "{ pattern: '.*' }",
        "{ pattern: '.+' }",
        "{ pattern: '(?<stays>latest|v.+)|.*' }",
        "{ registries: [contoso] }",
    ] {
        let text = format!("policies: [{{ name: a, select: {select}, keep: none }}]");
        assert!(parse("p.yaml", &text).is_ok(), "{select}");
    }
}

/// What is meant by other spellings of the same text.
#[test]
fn yaml_is_yaml() {
    let anchored =
        "policies:\n- name: a\n  select: &s\n    tags: [v*]\n  keep: all\n- name: b\n  select: *s\n  keep: all\n";
    let windows = "\u{feff}policies:\r\n- name: a\r\n  select: { tags: [v*] }\r\n  keep: all\r\n";
    let document = "%YAML 1.2\n---\npolicies: [{name: a, select: {tags: [v*]}, keep: all}]\n...\n";
    let json = r#"{"policies": [{"name": "a", "select": {"tags": ["v*"]}, "keep": [{"newest": 3}]}]}"#;
    let commented =
        format!("policies:\n{}- name: a\n  select: {{ tags: [v*] }}\n  keep: all\n", "# a comment\n".repeat(500));
    for text in [anchored, windows, document, json, &commented] {
        assert!(parse("p.yaml", text).is_ok(), "{text}: {:?}", parse("p.yaml", text));
    }
}

/// With the lines around them, underlined by characters and not by bytes.
#[test]
fn rendered_with_source() {
    let text = "policies:\n  - name: straße\n    select: { tags: [\"ü*\", \"v*\"] }\n    keep:\n      - newst: 5\n  - name: a\n    select: { tags: [\"v*\"] }\n    keep: all\n    keep: none\n";
    let problems = parse("policies/a.yaml", text).unwrap_err();
    insta::assert_snapshot!(render(&problems, false));
    assert!(render(&problems, true).contains("\u{1b}["));
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

/// The lines of an error, without the folder of the test.
fn error_of(path: &Path, folder: &tempfile::TempDir) -> String {
    let error = load(path).unwrap_err();
    assert_eq!(error.kind(), "policy");
    chain(&error)
        .replace(&format!("{}/", folder.path().display()), "")
        .replace(&folder.path().display().to_string(), ".")
}

fn policy(name: &str) -> Vec<u8> {
    format!("policies:\n  - name: {name}\n    select: {{ tags: [\"v*\"] }}\n    keep: all\n").into_bytes()
}

#[test]
fn a_folder_is_read_whole_and_sorted() {
    let folder = folder(&[
        ("b.yaml", &policy("zeta")),
        ("team/deep/a.YML", &policy("alpha")),
        (".hidden.yaml", b"nonsense: ["),
        (".git/x.yaml", b"nonsense: ["),
        ("b.test.yaml", b"nonsense: ["),
        ("README.md", b"nonsense: ["),
        ("b.yaml~", b"nonsense: ["),
    ]);
    let set = load(folder.path()).unwrap();
    let names: Vec<_> = set.policies.iter().map(|policy| (policy.name.as_str(), &*policy.file)).collect();
    assert_eq!(names, [("alpha", "team/deep/a.YML"), ("zeta", "b.yaml")]);
    let files: Vec<_> = set.files.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, ["b.yaml", "team/deep/a.YML"]);
    // A file alone is called by its own name, whatever its ending.
    fs::write(folder.path().join("one.txt"), policy("one")).unwrap();
    let set = load(&folder.path().join("one.txt")).unwrap();
    assert_eq!(set.files[0].0, "one.txt");
}

#[test]
fn all_faults_of_all_files_are_told_together() {
    let folder = folder(&[
        ("a.yaml", b"policies:\n  - name: a\n    select: { tags: [\"v*\"] }\n    keep: al\n    mode: on\n"),
        ("b.yaml", b"policies: [\n"),
        ("c.yaml", b"policies: []\nx: \xff\n"),
        ("d.yaml", &vec![b'#'; 1024 * 1024 + 1]),
        ("e.yaml", b""),
        ("f/g.yaml", &policy("twice")),
        ("h.yaml", &policy("twice")),
        ("i.yaml/j.txt", b""),
    ]);
    insta::assert_snapshot!(error_of(folder.path(), &folder), @r##"
    a.yaml:4:11: unknown word `al` for `keep`, did you mean `all`? (write `keep: all`, `keep: none`, or a list of rules such as `- newest: 5`)
    a.yaml:5:11: unknown mode `on` (known: `dry-run`, `enforce`)
    b.yaml:1:11: no valid YAML: unclosed bracket '[' (put globs and patterns in quotes)
    c.yaml: is not readable text: not valid UTF-8 (line 2); save it as UTF-8
    d.yaml: is larger than 1024 KiB, which no policy file is
    e.yaml:1:1: no policies in this file (a policy file is `policies:` and below it a list, each policy with `- name: …`)
    h.yaml:2:11: two policies are named `twice`; f/g.yaml:2:11: `twice` is first used here (give each its own name)
    "##);
}

/// A name that two files use is one block, which names both places.
#[test]
fn two_files_with_a_name_are_one_block() {
    let folder = folder(&[("a.yaml", &policy("twice")), ("b.yaml", &policy("twice"))]);
    let error = load(folder.path()).unwrap_err();
    let shown = render(&error.diagnostics, false);
    assert!(shown.contains("two policies are named `twice`"), "{shown}");
    assert!(
        shown.contains("b.yaml:2:11") && shown.contains("`twice` is first used at ") && shown.contains("a.yaml:2:11"),
        "{shown}"
    );
    assert!(!shown.contains("Error:") && shown.matches('\u{d7}').count() == 1, "{shown}");
}

#[test]
fn no_policies_is_an_error() {
    let folder = folder(&[("a.test.yaml", b""), ("README.md", b"")]);
    insta::assert_snapshot!(error_of(folder.path(), &folder), @".: no policies in this folder (put `*.yaml` files there, or set `policies` to another file or folder)");
    insta::assert_snapshot!(error_of(&folder.path().join("nowhere"), &folder), @"nowhere: policies cannot be read: No such file or directory (os error 2) (name a file or a folder; `policies` in the settings is relative to the settings)");
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::fs::symlink;
    // As Kubernetes mounts a ConfigMap.
    let mounted = folder(&[("..data_1/a.yaml", &policy("a"))]);
    symlink("..data_1", mounted.path().join("..data")).unwrap();
    symlink("..data/a.yaml", mounted.path().join("a.yaml")).unwrap();
    assert_eq!(load(mounted.path()).unwrap().files[0].0, "a.yaml");
    // A link that leads nowhere is a policy file that cannot be read, not one less.
    symlink("nowhere.yaml", mounted.path().join("b.yaml")).unwrap();
    assert!(error_of(mounted.path(), &mounted).starts_with("b.yaml: is a link to a file that does not exist"));

    let circle = folder(&[("a.yaml", &policy("a"))]);
    let alone = error_of(&mounted.path().join("b.yaml"), &mounted);
    assert!(alone.contains("is a link to a file that does not exist"), "{alone}");
    symlink(".", circle.path().join("again")).unwrap();
    assert!(error_of(circle.path(), &circle).contains("a link to itself"));
}

/// Files that are as large, as deep or as wrong as they can be end with a few words.
#[test]
fn large_deep_and_very_wrong_files_end() {
    let policy = "  - name: a\n    select: { tags: [\"v*\"] }\n    keep: all\n";
    let keys = (0..50_000).fold(String::new(), |keys, key| keys + &format!("    k{key}: x\n"));
    let one_line = format!("policies: [{}]", "{x: 1}, ".repeat(50_000));
    for (text, least) in [
        (format!("policies:\n{policy}{keys}"), "and 49900 more problems in this file"),
        (format!("policies:\n{}", policy.repeat(500)), "and 399 more problems in this file"),
        (one_line, "and 199900 more problems in this file"),
        ("[".repeat(100_000), "too large or too deeply nested"),
        ("{a: ".repeat(100_000), "too large or too deeply nested"),
        ("- ".repeat(100_000), "too large or too deeply nested"),
    ] {
        let problems = parse("p.yaml", &text).unwrap_err();
        assert!(problems.len() <= 101, "{}", problems.len());
        assert!(problems.last().unwrap().message.contains(least), "{}", problems.last().unwrap());
    }
}

fn mutated() -> impl Strategy<Value = String> {
    let cut = (0..WHOLE.len(), 0..40_usize, "[a-z0-9 \\-:\\[\\]{}*!&\"'#|>\\n\\t.\u{e9}]{0,8}");
    prop::collection::vec(cut, 1..4).prop_map(|cuts| {
        let mut text: Vec<char> = WHOLE.chars().collect();
        for (at, length, put) in cuts {
            let start = at.min(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, put.chars());
        }
        text.into_iter().collect()
    })
}

fn places_are_right(text: &str) {
    let Err(problems) = parse("p.yaml", text) else { return };
    assert!(!problems.is_empty());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for problem in &problems {
        assert!(text.get(problem.span.clone()).is_some(), "{problem:?}");
        assert!(problem.line >= 1 && problem.column >= 1, "{problem:?}");
    }
    assert!(!render(&problems, false).is_empty());
}

/// White space that takes several bytes is underlined whole.
#[test]
fn wide_white_space_has_a_place() {
    places_are_right("\u{2000}");
    places_are_right("policies: \u{2000}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_told(text in any::<String>()) {
        places_are_right(&text);
    }

    /// And what is read is also what the schema accepts.
    #[test]
    fn any_mutation_is_read_or_told(text in mutated()) {
        places_are_right(&text);
        if parse("p.yaml", &text).is_ok() {
            prop_assert_eq!(Schema::new().accepts(&text), Some(true));
        }
    }
}

/// The schema in the repository, for editors that take it from there, is the one of this version.
#[test]
fn the_schema_file_is_up_to_date() {
    let text = fs::read_to_string("schema/policies.json").unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written, schema(), "write the output of `tagwarden schema` to schema/policies.json");
}

/// The reference names every key, and what it shows is read.
#[test]
fn the_reference_is_true() {
    let text = fs::read_to_string("docs/policies.md").unwrap();
    let mut shown = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).peekable();
    assert!(shown.peek().is_some());
    shown.for_each(|block| assert!(parse("docs/policies.md", block).is_ok(), "{block}"));
    for key in keys(&schema()) {
        let named = text.contains(&format!("`{key}`")) || text.contains(&format!("{key}: "));
        assert!(named, "docs/policies.md does not name `{key}`");
    }
}

/// All keys of a schema, at any depth.
fn keys(schema: &serde_json::Value) -> Vec<String> {
    let own = schema.get("properties").and_then(|properties| properties.as_object());
    let own = own.into_iter().flatten().map(|(key, _)| key.clone());
    let deeper = match schema {
        serde_json::Value::Object(object) => object.values().flat_map(keys).collect(),
        serde_json::Value::Array(list) => list.iter().flat_map(keys).collect(),
        _ => Vec::new(),
    };
    own.chain(deeper).collect()
}
