//! `diff --against` a revision of git: real repositories, made by the `git` command.

use std::path::Path;

use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{CliFixture, fill};
use crate::support::git::git;

const OLD: &str = "policies:\n  - { name: builds, select: { tags: [\"b*\"] }, keep: [{ newest: 3 }] }\n";
const SETTINGS: &str = "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"http://127.0.0.1:1\"\n";
const DIFF: &str = "diff --inventory inventory.json --format json --against";

/// A recorded inventory of the tags `b-1` to `b-5`, the last of which is the newest.
async fn inventory() -> String {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "b", 5);
    let settings = SETTINGS.replace("http://127.0.0.1:1", &registry.url());
    let settings = format!("{settings}[limits]\npercent = 100\n");
    let desk = CliFixture::with(&[("tagwarden.toml", &settings), ("policies/a.yaml", OLD)]);
    desk.run("inventory --out inventory.json").await.exits(0);
    desk.read("inventory.json")
}

/// A repository with the old policies at `main`, and the new ones, which keep less, in the working tree.
async fn checkout(policies: &str) -> CliFixture {
    let desk = CliFixture::with(&[
        (&format!("{policies}/builds.yaml"), OLD),
        (&format!("{policies}/builds.test.yaml"), "not read"),
        (&format!("{policies}/.hidden.yaml"), "not read either"),
        ("tagwarden.toml", &format!("policies = \"{policies}\"\n{SETTINGS}")),
        ("inventory.json", &inventory().await),
    ]);
    let folder = desk.folder.path();
    git(folder, &["init", "--quiet", "--initial-branch=main"]);
    commit(folder, "old");
    desk.write(&format!("{policies}/builds.yaml"), &OLD.replace("newest: 3", "newest: 2"));
    desk
}

fn commit(folder: &Path, message: &str) {
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--message", message]);
}

#[tokio::test]
async fn the_policies_of_a_revision_are_compared_with_the_working_tree() {
    for policies in ["policies", "deploy/registry/our rules"] {
        let desk = checkout(policies).await;
        let commit_id = git(desk.folder.path(), &["rev-parse", "HEAD"]);
        for revision in ["main", "HEAD", "refs/heads/main", &commit_id, &commit_id[..10]] {
            let view = desk.run(&format!("{DIFF} {revision}")).await.exits(0).json();
            assert_eq!(view["summary"]["newly_expired"], 1, "{revision}: {view:#}");
            assert_eq!(view["newly_expired"][0]["tag"], "b-3");
            let against = &view["against"];
            assert_eq!((&against["revision"], &against["commit"]), (&revision.into(), &commit_id.as_str().into()));
            assert_eq!(against["path"], policies);
        }
        let text = desk.run("diff --inventory inventory.json --against main").await.exits(0).out;
        assert!(text.contains(&format!("Old policies: `main` ({}).", &commit_id[..10])), "{text}");
        commit(desk.folder.path(), "new");
        let same = desk.run(&format!("{DIFF} HEAD --exit-code")).await.exits(0).json();
        assert_eq!(same["policies"][0]["change"], "same");
        desk.run(&format!("{DIFF} HEAD~1 --exit-code")).await.exits(1);
    }
}

#[tokio::test]
async fn a_path_comes_before_a_revision_and_may_be_another_one() {
    let desk = checkout("policies").await;
    // A branch and a folder of the same name.
    desk.write("main/builds.yaml", &OLD.replace("newest: 3", "newest: 1"));
    let view = desk.run(&format!("{DIFF} main")).await.exits(0).json();
    assert_eq!((&view["summary"]["no_longer_expired"], &view["against"]), (&1.into(), &serde_json::Value::Null));
    let view = desk.run(&format!("{DIFF} refs/heads/main")).await.exits(0).json();
    assert_eq!(view["summary"]["newly_expired"], 1);
    // The folder had another name then.
    std::fs::rename(desk.path("policies"), desk.path("rules")).unwrap();
    let view = desk.run(&format!("{DIFF} HEAD:policies --policies rules")).await.exits(0).json();
    assert_eq!((&view["summary"]["newly_expired"], &view["against"]["path"]), (&1.into(), &"policies".into()));
    // One file alone.
    let file = "rules/builds.yaml";
    let view = desk.run(&format!("{DIFF} HEAD:policies/builds.yaml --policies {file}")).await.exits(0).json();
    assert_eq!(view["summary"]["newly_expired"], 1);
}

#[tokio::test]
async fn what_cannot_be_compared_says_why_and_what_to_do() {
    let desk = checkout("policies").await;
    let folder = desk.folder.path();
    git(folder, &["update-ref", "refs/remotes/origin/release", "HEAD"]);
    desk.write("elsewhere/builds.yaml", OLD);
    commit(folder, "another");
    let shallow = CliFixture::new();
    let url = format!("file://{}", folder.display());
    git(shallow.folder.path(), &["clone", "--quiet", "--depth=1", "--no-tags", &url, "."]);
    for (desk, against, words) in [
        (&desk, "nowhere", &["unknown revision `nowhere`", "such as `origin/main`"][..]),
        (&desk, "release", &["unknown revision `release`", "did you mean `origin/release`?"]),
        (
            &desk,
            "HEAD~1 --policies elsewhere",
            &["`elsewhere` does not exist in `HEAD~1`", "write `HEAD~1:OTHER/PATH`"],
        ),
        (&desk, "HEAD:inventory", &["`inventory` does not exist in `HEAD`"]),
        (&desk, "HEAD --policies nothing", &["the new policies, nothing, do not exist", "`--policies PATH`"]),
        (&desk, "HEAD:builds.yaml", &["`builds.yaml` does not exist", "from the top of the repository"]),
        (&shallow, "HEAD~1", &["unknown revision `HEAD~1`", "run `git fetch --deepen=50`", "`fetch-depth: 0`"]),
        (&shallow, "origin/other", &["shallow clone", "run `git fetch origin other` and name `FETCH_HEAD`"]),
    ] {
        let done = desk.run(&format!("{DIFF} {against}")).await.exits(2);
        for word in words {
            assert!(done.err.contains(word), "{against}: {word} is not in\n{}", done.err);
        }
        assert!(done.out.contains("command-failed"), "{}", done.out);
    }
    let none = CliFixture::with(&[("policies/a.yaml", OLD), ("inventory.json", &inventory().await)]);
    let done = none.run(&format!("{DIFF} main")).await.exits(2);
    assert!(done.err.contains("is not in a git repository"), "{}", done.err);
    // Errors of the old policies name their revision.
    desk.write("policies/builds.yaml", "policies: 7\n");
    commit(folder, "broken");
    desk.write("policies/builds.yaml", OLD);
    let done = desk.run(&format!("{DIFF} HEAD")).await.exits(2);
    assert!(done.err.contains("HEAD:policies/builds.yaml:1:11"), "{}", done.err);
}

/// In a folder below the top of the repository, whose settings name `policies` there.
#[tokio::test]
async fn paths_of_a_revision_may_be_from_the_working_folder() {
    let desk = checkout("infra/policies").await;
    let below = desk.path("infra");
    desk.write("infra/tagwarden.toml", SETTINGS);
    std::fs::copy(desk.path("inventory.json"), below.join("inventory.json")).unwrap();
    let run = async |against: &str| {
        let output = desk.command(&format!("{DIFF} {against}")).current_dir(&below).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for against in ["HEAD", "HEAD:./policies", "HEAD:../infra/policies", "HEAD:infra/policies"] {
        let (code, out, err) = run(against).await;
        assert!(code == Some(0) && out.contains("\"path\": \"infra/policies\""), "{against}: {out}{err}");
    }
    let (code, _, err) = run("HEAD:policies").await;
    assert_eq!(code, Some(2));
    assert!(err.contains("paths are from the top of the repository: write `HEAD:infra/policies`"), "{err}");
}

#[tokio::test]
async fn a_repository_starts_no_program() {
    let desk = checkout("policies").await;
    let folder = desk.folder.path();
    let trap = desk.path("trap");
    let command = format!("touch {}", trap.display());
    for key in ["core.fsmonitor", "core.sshCommand", "core.pager", "diff.external", "filter.x.smudge"] {
        git(folder, &["config", key, &command]);
    }
    desk.run(&format!("{DIFF} main")).await.exits(0);
    assert!(!trap.exists());
    // A policy that is a link to somewhere is not followed.
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/passwd", desk.path("policies/link.yaml")).unwrap();
    commit(folder, "link");
    std::fs::remove_file(desk.path("policies/link.yaml")).unwrap();
    let done = desk.run(&format!("{DIFF} HEAD")).await.exits(2);
    assert!(done.err.contains("HEAD:policies/link.yaml is a symbolic link"), "{}", done.err);
}

#[tokio::test]
async fn effects_stand_beside_the_policy_that_causes_them() {
    let desk = checkout("policies").await;
    let words = |format: &str| format!("diff --inventory inventory.json --against main --format {format}");
    let github = desk.run(&words("github")).await.exits(0).out;
    let expected = "::warning file=policies/builds.yaml,line=2,col=13,title=newly-expired::policy `builds`: 1 tag would expire \
        and did not before: contoso/shop/api:b-3\n";
    assert_eq!(github, expected);
    let gitlab = desk.run(&words("gitlab")).await.exits(0).json();
    assert_eq!(gitlab[0]["location"]["path"], "policies/builds.yaml");
    let sarif = desk.run(&words("sarif")).await.exits(0).json();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "newly-expired");
}
