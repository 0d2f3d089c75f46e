//! Repositories that cannot be read whole, and those that must not be trusted.

use std::fs;
use std::path::PathBuf;

use tagwarden::sources::GitHistorySettings;

use super::{Checkout, ask, git, image, settings, texts};
use crate::causes::cause;

#[tokio::test]
async fn what_cannot_be_read_whole_fails_the_source() {
    let mut checkout = Checkout::new();
    checkout.commit(&[("deploy/api.yaml", &image("v1"))]);
    let empty = Checkout::new();
    let folder = tempfile::tempdir().unwrap();
    // Objects that went missing: a content, and a tree.
    let damaged = |object: &str| {
        let mut one = Checkout::new();
        one.commit(&[("deploy/api.yaml", &image("v1"))]);
        let id = one.git(&["rev-parse", object]);
        fs::remove_file(one.path().join(".git/objects").join(&id[..2]).join(&id[2..])).unwrap();
        one
    };
    let (without_content, without_tree) = (damaged("HEAD:deploy/api.yaml"), damaged("HEAD:deploy"));
    let at = |path: PathBuf| settings(&path, 5);
    let branches = |list: &[&str]| GitHistorySettings { branches: texts(list), ..checkout.settings(5) };
    let files = |list: &[&str]| GitHistorySettings { paths: texts(list), ..checkout.settings(5) };
    let release = GitHistorySettings { tags: texts(&["v*"]), ..checkout.settings(5) };
    for (settings, kind, says) in [
        (at(folder.path().join("nowhere")), "missing", "clone the repository there"),
        (at(folder.path().to_owned()), "missing", "is not a git repository"),
        (at(checkout.path().join("deploy")), "missing", "is not a git repository"),
        (empty.settings(5), "missing", "nothing is checked out"),
        (branches(&["main", "release/*"]), "missing", "no branch matches `release/*`"),
        (branches(&["release/["]), "settings", "`branches`: invalid glob"),
        (release, "missing", "no tag matches `v*`"),
        (files(&["deploy/*", "k8s/**"]), "missing", "no file of these commits matches `k8s/**`"),
        (without_content.settings(5), "unreadable", "is missing in the repository"),
        (without_tree.settings(5), "unreadable", "git fsck"),
    ] {
        let error = ask(&settings).await.expect_err(says);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.chain().contains(says), "{says}: {error}");
    }
    let missing = ask(&at(folder.path().join("nowhere"))).await.unwrap_err();
    assert_eq!(cause::<std::io::Error>(&missing).kind(), std::io::ErrorKind::NotFound);
    let invalid = ask(&branches(&["release/["])).await.unwrap_err();
    assert_eq!(cause::<globset::Error>(&invalid).glob(), Some("release/["));
}

/// A partial clone would run the command of its remote to fetch what it lacks.
#[tokio::test]
async fn nothing_is_fetched_and_nothing_is_run() {
    let mut origin = Checkout::new();
    origin.commit(&[("api.yaml", &image("v1"))]);
    origin.git(&["config", "uploadpack.allowFilter", "true"]);
    let clone = origin.clone_with(&["--no-checkout", "--filter=blob:none"]);
    let marker = clone.path().join("marker");
    let command = format!("touch {}", marker.display());
    for (key, value) in [
        ("remote.origin.url", format!("ext::sh -c {}", command.replace(' ', "% "))),
        ("protocol.ext.allow", "always".to_owned()),
        ("core.fsmonitor", command.clone()),
        ("core.pager", command.clone()),
        ("core.sshCommand", command.clone()),
        ("diff.external", command.clone()),
    ] {
        git(clone.path(), origin.time, &["config", key, &value]);
    }
    let error = ask(&settings(clone.path(), 1)).await.unwrap_err();
    assert_eq!(error.kind, "unreadable");
    assert!(error.chain().contains("`--filter`"), "{error}");
    assert!(!marker.exists());
}
