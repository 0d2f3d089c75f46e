//! The files of a history: what is read in them, what is said of it, and how old it is.

use std::fs::File;
use std::time::SystemTime;

use jiff::SignedDuration;
use tagwarden::domain::{Globs, Holder};
use tagwarden::sources::{GitHistory, GitHistorySettings, MentionEffect, Source as _, TextException, TextSettings};

use super::super::now;
use super::{Checkout, HOST, ask, image, tags, texts};

#[tokio::test]
async fn what_is_not_text_is_passed_over_and_named() {
    let mut checkout = Checkout::new();
    let utf16: Vec<u8> = format!("\u{feff}{}", image("v2")).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12\n", "0".repeat(64));
    let hidden = [&b"\x89PNG\r\n\x1a\n\0"[..], image("v8").as_bytes()].concat();
    checkout.write(&[
        ("api.yaml", image("v1").as_bytes()),
        ("running.txt", &utf16),
        ("logo.png", &hidden),
        ("old.gz", b"\x1f\x8b\x08\x00"),
        ("values.bin", pointer.as_bytes()),
    ]);
    #[cfg(unix)]
    std::os::unix::fs::symlink(format!("{HOST}/shop/api:v7"), checkout.path().join("link")).unwrap();
    checkout.save();
    // A submodule, whose commit is in another repository.
    let submodule = format!("160000,{},library", "1".repeat(40));
    checkout.git(&["update-index", "--add", "--cacheinfo", &submodule]);
    checkout.git(&["commit", "--quiet", "--message=x"]);
    let answer = ask(&checkout.settings(10)).await.unwrap();
    assert_eq!(tags(&answer), ["v1", "v2"]);
    let notes = answer.notes.join("\n");
    assert!(notes.contains("not text, so nothing was read in them: logo.png, old.gz"), "{notes}");
    assert!(notes.contains("Git LFS") && notes.contains(": values.bin"), "{notes}");
}

/// What cannot be corrected any more must not keep everything for good; its words still protect.
#[tokio::test]
async fn a_file_that_once_did_not_read_is_a_note_and_its_words_count() {
    let mut checkout = Checkout::new();
    let broken = checkout.commit(&[("api.yaml", &format!("{}\t]: [\nrelease: 2026.46\n", image("v1")))]);
    checkout.commit(&[("api.yaml", &image("v2"))]);
    let answer = ask(&checkout.settings(10)).await.unwrap();
    assert_eq!(tags(&answer), ["v1", "v2"]);
    let [word] = answer.texts.find("2026.46") else { panic!("{:?}", answer.texts) };
    let holder = answer.texts.holder(*word).unwrap();
    assert_eq!(*holder, Holder::File { path: format!("api.yaml@{broken}"), line: 3 });
    assert!(ask(&checkout.settings(1)).await.unwrap().texts.find("2026.46").is_empty());
}

#[tokio::test]
async fn a_claim_has_the_newest_version_that_makes_it() {
    let mut checkout = Checkout::new();
    checkout.commit(&[("a.yaml", &image("v1"))]);
    checkout.commit(&[("a.yaml", &format!("# the same\n{}", image("v1")))]);
    let last = checkout.commit(&[("b.yaml", &image("v1"))]);
    let answer = ask(&checkout.settings(10)).await.unwrap();
    let mut holders: Vec<Holder> = answer.claims.iter().map(|claim| (*claim.holder).clone()).collect();
    holders.sort();
    let at = |file: &str, line| Holder::File { path: format!("{file}@{last}"), line };
    assert_eq!(holders, [at("a.yaml", 2), at("b.yaml", 1)]);
}

/// The version of the chart moves on while its values stay as they are, and the other way round.
#[tokio::test]
async fn a_chart_and_its_values_meet_although_they_changed_at_different_commits() {
    let chart = |version: &str| format!("apiVersion: v2\nname: api\nversion: 1.0.0\nappVersion: {version}\n");
    let values = format!("image:\n  repository: {HOST}/shop/api\n  tag: \"\"\n");
    let mut checkout = Checkout::new();
    checkout.commit(&[("charts/api/Chart.yaml", &chart("v1")), ("charts/api/values.yaml", &values)]);
    checkout.commit(&[("charts/api/Chart.yaml", &chart("v2"))]);
    checkout.commit(&[("charts/api/values.yaml", &format!("# the same\n{values}"))]);
    let read = TextSettings { mentions: MentionEffect::Off, ..TextSettings::default() };
    let answer = GitHistory::new(checkout.settings(10), vec![HOST.to_owned()], read).query(now()).await.unwrap();
    // A template may write the version with or without its `v`.
    assert_eq!(tags(&answer), ["1", "2", "v1", "v2"]);
}

#[tokio::test]
async fn exceptions_know_files_by_their_paths() {
    let mut checkout = Checkout::new();
    checkout.commit(&[("deploy/api.yaml", "release: 2026.45\n"), ("docs/news.md", "release: 2026.46\n")]);
    let exception = TextException {
        paths: Some(Globs::new(&["docs/*.md"]).unwrap()),
        kinds: Vec::new(),
        mentions: Some(MentionEffect::Off),
        unresolved: None,
    };
    let read = TextSettings { exceptions: vec![exception], ..TextSettings::default() };
    let answer = GitHistory::new(checkout.settings(1), texts(&[HOST]), read).query(now()).await.unwrap();
    assert_eq!((answer.texts.find("2026.45").len(), answer.texts.find("2026.46").len()), (1, 0));
}

#[tokio::test]
async fn the_evidence_is_as_old_as_the_last_fetch() {
    let mut checkout = Checkout::new();
    checkout.commit(&[("api.yaml", &image("v1"))]);
    let written = |file: &str, age: i64| {
        let path = checkout.path().join(".git").join(file);
        let file = File::options().append(true).create(true).open(path).unwrap();
        file.set_modified(SystemTime::from(now() - SignedDuration::from_hours(age))).unwrap();
    };
    let asked = GitHistorySettings { branches: texts(&["main"]), ..checkout.settings(1) };
    let age = async || now().duration_since(ask(&asked).await.unwrap().as_of.unwrap()).as_hours();
    written("HEAD", 50);
    written("logs/HEAD", 40);
    written("refs/heads/main", 30);
    assert_eq!(age().await, 30);
    written("logs/HEAD", 20);
    assert_eq!(age().await, 20);
    written("FETCH_HEAD", 90);
    assert_eq!(age().await, 90);
}
