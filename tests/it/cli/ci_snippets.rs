//! The snippets of docs/ci.md, and the hooks of this repository, run as far as that is possible without the services.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tagwarden::demo::registry::{EmbeddedRegistry, Options};
use tokio::process::Command;

use super::{CliFixture, fill, record, settings};
use crate::documents::blocks;
use crate::support::git::git;

const CI: &str = include_str!("../../../docs/ci.md");
const HOOKS: &str = include_str!("../../../.pre-commit-hooks.yaml");
const POLICIES: &str = "policies:\n  - { name: builds, description: Builds, select: { repositories: [\"shop/*\"], tags: \
    [\"b-*\"] }, keep: [{ newest: 3 }] }\n";
const TESTS: &str = "tests:\n  - name: three\n    repository: shop/api\n    tags:\n      b-1: { pushed: 4d, expect: expired }\n      \
    b-2: { pushed: 3d }\n      b-3: { pushed: 2d }\n      b-4: { pushed: 1d, expect: retained }\n";

/// The shell commands of a snippet that call Tagwarden: of `run`, `script` and lists of them, also over several lines.
fn commands(snippet: &str) -> Vec<String> {
    let plain = |line: &str| {
        let line = line.trim().trim_start_matches("- ");
        let line = ["run: ", "script: "].iter().find_map(|key| line.strip_prefix(key)).unwrap_or(line);
        line.to_owned()
    };
    snippet.lines().map(plain).filter(|line| line.starts_with("tagwarden ")).collect()
}

/// The values of a key in a list of hooks.
fn values<'a>(hooks: &'a str, key: &str) -> Vec<&'a str> {
    hooks
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": "))
        .collect()
}

/// A checkout with a main branch and an edit of its policies, as a pipeline has it, with an inventory.
async fn checkout() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "b", 5);
    let desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/builds.yaml", &POLICIES.replace("newest: 3", "newest: 4")),
        ("releases/api.json", &record(&format!("{}/shop/api:b-5", registry.host()))),
    ]);
    desk.run("inventory --out inventory.json").await.exits(0);
    let folder = desk.folder.path();
    git(folder, &["init", "--quiet", "--initial-branch=main"]);
    git(folder, &["add", "tagwarden.toml", "policies"]);
    git(folder, &["commit", "--quiet", "--message", "old"]);
    git(folder, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    desk.write("policies/builds.yaml", POLICIES);
    desk.write("policies/builds.test.yaml", TESTS);
    (registry, desk)
}

/// Runs a line as a shell of a pipeline does.
async fn sh(desk: &CliFixture, line: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_tagwarden")).parent().unwrap();
    let base = git(desk.folder.path(), &["rev-parse", "origin/main"]);
    let mut command = Command::new("sh");
    command.args(["-eu", "-c", line]).current_dir(desk.folder.path()).env_clear();
    command.env("PATH", format!("{}:/usr/bin:/bin", binary.display())).env("HOME", desk.folder.path());
    command.env("BASE", "main").env("SYSTEM_PULLREQUEST_TARGETBRANCHNAME", "main");
    command.env("CI_MERGE_REQUEST_DIFF_BASE_SHA", base).env("GITHUB_STEP_SUMMARY", desk.path("summary.md"));
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn each_snippet_runs_on_an_edit() {
    let snippets = blocks(CI, "yaml");
    let names: Vec<&str> = snippets.iter().map(|(name, _)| *name).collect();
    let files = [".github/workflows/policies.yaml", ".gitlab-ci.yml", "azure-pipelines.yml", ".pre-commit-config.yaml"];
    assert_eq!(names, files);
    for ((name, snippet), (count, written)) in snippets.into_iter().zip([
        (4, &["summary.md"][..]),
        (3, &["gl-code-quality-report.json", "tests.xml", "diff.md"]),
        (3, &["tests.xml", "diff.md"]),
        (0, &[]),
    ]) {
        serde_saphyr::from_str::<serde_json::Value>(snippet).unwrap();
        let (_registry, desk) = checkout().await;
        let commands = commands(snippet);
        assert_eq!(commands.len(), count, "{name}: {commands:?}");
        for line in commands {
            sh(&desk, &line).await;
        }
        for file in written {
            let text = desk.read(file);
            assert!(!text.is_empty(), "{name}: {file}");
            if std::path::Path::new(file).extension().is_some_and(|end| end == "md") {
                assert!(text.starts_with("### Tagwarden: 1 newly expired"), "{name}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn each_hook_accepts_good_files_and_refuses_bad_ones() {
    let local = blocks(CI, "yaml").pop().unwrap().1;
    serde_saphyr::from_str::<serde_json::Value>(HOOKS).unwrap();
    let (_registry, desk) = checkout().await;
    // Settings are not needed.
    fs::remove_file(desk.path("tagwarden.toml")).unwrap();
    let entries = [values(HOOKS, "entry"), values(local, "entry")].concat();
    assert_eq!(entries.len(), 6);
    for entry in &entries {
        let files =
            if entry.starts_with("tagwarden check") { " policies/builds.yaml policies/builds.test.yaml" } else { "" };
        sh(&desk, &format!("{entry}{files}")).await;
    }
    desk.write("policies/builds.yaml", &POLICIES.replace("newest: 3", "newest: 4, then: 2"));
    for entry in &entries {
        let files = if entry.starts_with("tagwarden check") { " policies/builds.yaml" } else { "" };
        sh(&desk, &format!("! {entry}{files}")).await;
    }
    for pattern in [values(HOOKS, "files"), values(local, "files")].concat() {
        let pattern = regex::Regex::new(pattern).unwrap();
        for (file, matches) in [("policies/a.yaml", true), ("policies/x/a.test.yml", true), ("README.md", false)] {
            assert_eq!(pattern.is_match(file), matches, "{pattern} {file}");
        }
    }
}
