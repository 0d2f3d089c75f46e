//! Images that the history of a repository names: real repositories, made by the `git` command.

mod contents;
mod failures;
mod settings;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tagwarden::domain::{RegistryName, Verdict};
use tagwarden::engine::evaluate;
use tagwarden::sources::{
    GatherContext, GitHistory, GitHistorySettings, Source, SourceError, SourceEvidence, SourceKind, SourceSettings,
    TextSettings, gather_about, source,
};

use super::now;
use crate::scenarios::shape::Scenario;

const HOST: &str = "contoso.azurecr.io";

/// A checkout, and the time at which its next commit is made.
struct Checkout {
    folder: tempfile::TempDir,
    time: Timestamp,
}

/// Runs `git` with an identity and a time, and none of this machine's settings.
fn git(folder: &Path, time: Timestamp, arguments: &[&str]) -> String {
    let date = format!("@{} +0000", time.as_second());
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "Ada"),
        ("GIT_AUTHOR_EMAIL", "ada@contoso.example"),
        ("GIT_AUTHOR_DATE", &*date),
        ("GIT_COMMITTER_NAME", "Ada"),
        ("GIT_COMMITTER_EMAIL", "ada@contoso.example"),
        ("GIT_COMMITTER_DATE", &*date),
    ] {
        command.env(name, value);
    }
    let output = command.current_dir(folder).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("git did not start ({error}): `tests/run` installs it"));
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Checkout {
    fn new() -> Self {
        let one = Self { folder: tempfile::tempdir().unwrap(), time: now() - SignedDuration::from_hours(1000) };
        one.git(&["init", "--quiet", "--initial-branch=main"]);
        one
    }

    /// A checkout whose last commit was made half an hour ago, and each before it an hour earlier: they deploy `v1`,
    /// `v2` and so on.
    fn hourly(count: i64) -> Self {
        let mut one = Self::new();
        one.time = now() - SignedDuration::from_mins(60 * count - 30);
        for number in 1..=count {
            one.commit(&[("deploy/api.yaml", &image(&format!("v{number}")))]);
        }
        one
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(self.path(), self.time, arguments)
    }

    fn write(&self, files: &[(&str, &[u8])]) {
        for (name, bytes) in files {
            let path = self.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// Commits everything as it stands, and returns the first digits of the commit's id.
    fn save(&mut self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=x"]);
        self.time += SignedDuration::from_hours(1);
        self.git(&["rev-parse", "HEAD"])[..10].to_owned()
    }

    fn commit(&mut self, files: &[(&str, &str)]) -> String {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        self.write(&files);
        self.save()
    }

    /// Clones it in another folder.
    fn clone_with(&self, arguments: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", self.path().display());
        let mut all = vec!["clone", "--quiet"];
        all.extend(arguments);
        all.extend([&*url, "."]);
        git(folder.path(), self.time, &all);
        folder
    }

    fn settings(&self, commits: u32) -> GitHistorySettings {
        settings(self.path(), commits)
    }
}

fn image(tag: &str) -> String {
    format!("image: {HOST}/shop/api:{tag}\n")
}

fn settings(path: &Path, commits: u32) -> GitHistorySettings {
    GitHistorySettings { path: path.to_owned(), commits: Some(commits), ..GitHistorySettings::default() }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

async fn ask(settings: &GitHistorySettings) -> Result<SourceEvidence, SourceError> {
    GitHistory::new(settings.clone(), texts(&[HOST]), TextSettings::default()).query(now()).await
}

/// The tags that are claimed, in the order of their numbers.
fn tags(answer: &SourceEvidence) -> Vec<String> {
    let tag = |text: &tagwarden::domain::TagName| text.as_str().to_owned();
    let mut tags: Vec<String> = answer.claims.iter().filter_map(|claim| claim.image.tag.as_ref().map(tag)).collect();
    tags.sort_by_key(|tag| (tag.len(), tag.clone()));
    tags.dedup();
    tags
}

/// `v3`, `v4`, `v5` for 3 and 5.
fn from_to(first: u32, last: u32) -> Vec<String> {
    (first..=last).map(|number| format!("v{number}")).collect()
}

/// A change of settings.
type Change = fn(&mut GitHistorySettings);

fn hours(hours: u64) -> Duration {
    Duration::from_hours(hours)
}

#[tokio::test]
async fn the_last_commits_count_and_release_tags_however_old() {
    let mut origin = Checkout::hourly(60);
    origin.git(&["tag", "release-5", "HEAD~55"]);
    origin.git(&["tag", "--annotate", "--message=x", "release-6", "HEAD~54"]);
    origin.git(&["tag", "--annotate", "--message=x", "release-6-again", "release-6"]);
    origin.git(&["tag", "nightly", "HEAD~53"]);
    origin.git(&["tag", "release-tree", "HEAD~53^{tree}"]);
    let cases: [(Change, Vec<String>); 11] = [
        (|it| it.commits = Some(1), from_to(60, 60)),
        (|it| it.commits = Some(4), from_to(57, 60)),
        (|it| it.commits = Some(50), from_to(11, 60)),
        (|it| it.commits = Some(1000), from_to(1, 60)),
        // The one before the oldest of them was current when the time began.
        (|it| (it.commits, it.since) = (None, Some(hours(2))), from_to(58, 60)),
        (|it| (it.commits, it.since) = (None, Some(Duration::from_mins(1))), from_to(60, 60)),
        (|it| (it.commits, it.since) = (None, Some(hours(24 * 36500))), from_to(1, 60)),
        // Of both, the one that reaches further back.
        (|it| (it.commits, it.since) = (Some(2), Some(hours(4))), from_to(56, 60)),
        (|it| (it.commits, it.since) = (Some(10), Some(hours(2))), from_to(51, 60)),
        (|it| (it.commits, it.tags) = (Some(1), texts(&["release-*"])), [from_to(5, 6), from_to(60, 60)].concat()),
        (|it| (it.commits, it.tags) = (Some(1), texts(&["refs/tags/night*"])), texts(&["v7", "v60"])),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let mut settings = origin.settings(50);
        change(&mut settings);
        let answer = ask(&settings).await.unwrap();
        assert_eq!(tags(&answer), expected, "case {number}: {settings:?}");
        let told = answer.notes.iter().any(|note| note.contains("refs/tags/release-tree names no commit"));
        assert_eq!(told, settings.tags == ["release-*"], "{:?}", answer.notes);
    }
    // A commit whose clock was wrong does not end the walk.
    let clock = std::mem::replace(&mut origin.time, Timestamp::from_second(1_000_000).unwrap());
    origin.commit(&[("other.txt", "x")]);
    origin.time = clock;
    origin.commit(&[("deploy/api.yaml", &image("v61"))]);
    let answer = ask(&GitHistorySettings { commits: None, since: Some(hours(2)), ..origin.settings(1) }).await.unwrap();
    assert!(from_to(59, 61).iter().all(|tag| tags(&answer).contains(tag)), "{answer:?}");
}

#[tokio::test]
async fn a_tag_that_the_history_names_stays_and_others_do_not() {
    const REGISTRY: &str = r#"
lesson: one registry with old images
policies: |
  - { name: old, select: { tags: ["*"] }, keep: none, mode: enforce }
registry: { hosts: [contoso.azurecr.io] }
repositories:
  shop/api: { tags: { v1: a 90d, v57: b 90d, v60: c 90d, gone: d 90d } }
expect: ""
"#;
    let checkout = Checkout::hourly(60);
    let scenario: Scenario = serde_saphyr::from_str(REGISTRY).unwrap();
    let stage = scenario.stage("history");
    for (commits, expected) in [(50, vec!["v57", "v60"]), (60, vec!["v1", "v57", "v60"]), (3, vec!["v60"])] {
        let settings = SourceSettings {
            name: "deployments".parse().unwrap(),
            kind: SourceKind::GitHistory(checkout.settings(commits)),
            registries: None,
            max_age: None,
            allow_empty: false,
            min_claims: None,
            deadline: Duration::from_mins(2),
            texts: TextSettings::default(),
        };
        let asked = source(&settings, &texts(&[HOST]));
        let hosts: Vec<(RegistryName, Vec<String>)> = vec![("contoso".parse().unwrap(), texts(&[HOST]))];
        let known = GatherContext { hosts: &hosts, inventory: &stage.inventory, untagged: &[] };
        let claims = gather_about(vec![(settings, asked)], known, now(), now()).await;
        let verdicts = evaluate(&stage.rules, &stage.inventory, &claims, stage.now);
        let staying = verdicts.tags.iter().filter(|found| found.verdict != Verdict::Expired).map(|found| {
            assert_eq!(found.verdict, Verdict::Protected);
            let repository = &stage.inventory.registries[0].repositories[found.position.repository as usize];
            repository.tags[found.position.tag as usize].name.to_string()
        });
        let mut staying: Vec<String> = staying.collect();
        staying.sort();
        assert_eq!(staying, expected, "{commits} commits");
    }
}

#[tokio::test]
async fn files_that_were_moved_changed_back_or_removed_count_as_they_were() {
    let mut moved = Checkout::new();
    moved.commit(&[("deploy/api.yaml", &image("v1"))]);
    fs::create_dir(moved.path().join("apps")).unwrap();
    moved.git(&["mv", "deploy/api.yaml", "apps/api.yaml"]);
    moved.save();
    moved.commit(&[("apps/api.yaml", &image("v2"))]);
    for (commits, paths, expected) in [
        (3, vec!["deploy/**"], vec!["v1"]),
        (3, vec!["./apps/*.yaml"], vec!["v1", "v2"]),
        (2, vec!["apps/*.yaml"], vec!["v1", "v2"]),
        (1, vec!["**/*.yaml"], vec!["v2"]),
        (1, vec![], vec!["v2"]),
    ] {
        let settings = GitHistorySettings { paths: texts(&paths), ..moved.settings(commits) };
        assert_eq!(tags(&ask(&settings).await.unwrap()), expected, "{commits} {paths:?}");
    }

    let mut removed = Checkout::new();
    removed.commit(&[("a.yaml", &image("v1")), ("b.yaml", &image("v2"))]);
    removed.commit(&[("a.yaml", &image("v3"))]);
    fs::remove_file(removed.path().join("b.yaml")).unwrap();
    removed.save();
    removed.commit(&[("a.yaml", &image("v1"))]);
    for (commits, expected) in [(1, vec!["v1"]), (2, vec!["v1", "v3"]), (3, vec!["v1", "v2", "v3"])] {
        assert_eq!(tags(&ask(&removed.settings(commits)).await.unwrap()), expected, "{commits}");
    }
}

/// `main` has v1, then v9 in another file; `feature` has v2, then v3, and is merged.
fn merged() -> Checkout {
    let mut one = Checkout::new();
    one.commit(&[("api.yaml", &image("v1"))]);
    one.git(&["switch", "--quiet", "--create=feature"]);
    one.commit(&[("api.yaml", &image("v2"))]);
    one.commit(&[("api.yaml", &image("v3"))]);
    one.git(&["switch", "--quiet", "main"]);
    one.commit(&[("other.yaml", &image("v9"))]);
    one.git(&["merge", "--quiet", "--no-ff", "-m", "x", "feature"]);
    one
}

#[tokio::test]
async fn changes_on_a_merged_branch_count() {
    let checkout = merged();
    for (commits, expected) in [
        (1, vec!["v3", "v9"]),
        (2, vec!["v1", "v3", "v9"]),
        (4, vec!["v1", "v2", "v3", "v9"]),
        (50, vec!["v1", "v2", "v3", "v9"]),
    ] {
        assert_eq!(tags(&ask(&checkout.settings(commits)).await.unwrap()), expected, "{commits}");
    }
    let all = GitHistorySettings { commits: None, since: Some(hours(24 * 365)), ..checkout.settings(1) };
    assert_eq!(tags(&ask(&all).await.unwrap()), ["v1", "v2", "v3", "v9"]);
}

#[tokio::test]
async fn branches_are_named_by_globs_and_count_as_they_are_here_and_at_each_remote() {
    let mut origin = Checkout::new();
    origin.commit(&[("api.yaml", &image("v1"))]);
    for (branch, tag) in [("release/1.0", "v2"), ("release/1.1", "v3"), ("feature/x/y", "v4")] {
        origin.git(&["switch", "--quiet", "--create", branch, "main"]);
        origin.commit(&[("api.yaml", &image(tag))]);
    }
    origin.git(&["switch", "--quiet", "--detach", "release/1.0"]);
    let clone = origin.clone_with(&["--branch=main"]);
    // Fetched and not merged: the branch here is behind.
    origin.git(&["switch", "--quiet", "main"]);
    origin.commit(&[("api.yaml", &image("v5"))]);
    git(clone.path(), origin.time, &["fetch", "--quiet"]);
    let bare = origin.clone_with(&["--mirror"]);
    let linked = tempfile::tempdir().unwrap();
    let tree = linked.path().join("tree");
    origin.git(&["worktree", "add", "--quiet", "--detach", tree.to_str().unwrap(), "release/1.1"]);
    let cases: &[(&Path, &[&str], &[&str])] = &[
        (origin.path(), &[], &["v5"]),
        (origin.path(), &["main"], &["v5"]),
        (origin.path(), &["release/*"], &["v2", "v3"]),
        (origin.path(), &["refs/heads/release/1.0"], &["v2"]),
        (origin.path(), &["*", "feature/**"], &["v4", "v5"]),
        (origin.path(), &["**"], &["v2", "v3", "v4", "v5"]),
        (clone.path(), &[], &["v1"]),
        (clone.path(), &["main"], &["v1", "v5"]),
        (clone.path(), &["origin/main"], &["v5"]),
        (clone.path(), &["release/*"], &["v2", "v3"]),
        (bare.path(), &[], &["v5"]),
        (bare.path(), &["release/*"], &["v2", "v3"]),
        (tree.as_path(), &[], &["v3"]),
        (tree.as_path(), &["main"], &["v5"]),
    ];
    for (path, branches, expected) in cases {
        let settings = GitHistorySettings { branches: texts(branches), ..settings(path, 1) };
        assert_eq!(tags(&ask(&settings).await.unwrap()), *expected, "{path:?} {branches:?}");
    }
}

/// The depth of a clone, how far back it is asked for, and the tags where it is deep enough.
type Depth = (u32, Option<u32>, Option<u64>, Option<Vec<String>>);

#[tokio::test]
async fn a_shallow_clone_that_ends_too_early_fails_the_source() {
    let origin = Checkout::hourly(5);
    let cases: Vec<Depth> = vec![
        (1, Some(1), None, Some(from_to(5, 5))),
        (2, Some(3), None, None),
        (3, Some(3), None, Some(from_to(3, 5))),
        (3, Some(1), None, Some(from_to(5, 5))),
        (3, None, Some(2), Some(from_to(3, 5))),
        (3, None, Some(3), None),
        (3, Some(1), Some(3), None),
        (3, Some(50), Some(2), None),
        (100, Some(50), None, Some(from_to(1, 5))),
    ];
    for (depth, commits, since, expected) in cases {
        let clone = origin.clone_with(&[&format!("--depth={depth}")]);
        let settings = GitHistorySettings { commits, since: since.map(hours), ..settings(clone.path(), 1) };
        match (ask(&settings).await, expected) {
            (Ok(answer), Some(expected)) => assert_eq!(tags(&answer), expected, "{settings:?}"),
            (Err(error), None) => {
                assert_eq!(error.kind, "shallow", "{error}");
                assert!(error.chain().contains("git fetch --unshallow"), "{error}");
                git(clone.path(), origin.time, &["fetch", "--quiet", "--unshallow"]);
                assert!(ask(&settings).await.is_ok());
            }
            (answer, _) => panic!("depth {depth}, {settings:?}: {answer:?}"),
        }
    }
    // A merge whose second parent was cut off: its commits may be among those that are asked for.
    let merged = merged();
    let clone = merged.clone_with(&["--depth=2"]);
    assert_eq!(ask(&settings(clone.path(), 4)).await.unwrap_err().kind, "shallow");
    assert_eq!(tags(&ask(&settings(clone.path(), 1)).await.unwrap()), ["v3", "v9"]);
}
