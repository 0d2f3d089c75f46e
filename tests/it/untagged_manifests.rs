//! What the journal tells of manifests that tags were taken from.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use tagwarden::domain::{Action, Digest, Intent, Outcome, RemovalMethod, SkipReason};
use tagwarden::registry::RawManifest;
use tagwarden::state::{NewRun, RunKind, StateStore, UntagRecord};
use uuid::Uuid;

use crate::support::lease::lease;

fn manifest(name: &str) -> RawManifest {
    let bytes: Arc<[u8]> = name.as_bytes().into();
    RawManifest { digest: Digest::of(&bytes), media_type: "application/vnd.oci.image.manifest.v1+json".into(), bytes }
}

fn action(label: &str) -> Action {
    let all = [
        Action::Remove(RemovalMethod::Untag),
        Action::Remove(RemovalMethod::DeleteManifest),
        Action::Restore,
        Action::RestoreManifest,
        Action::DeleteUntagged,
    ];
    all.into_iter().find(|action| action.label() == label).unwrap_or_else(|| panic!("no action is called {label}"))
}

fn outcome(label: &str) -> Option<Outcome> {
    let why = || "why".to_owned();
    Some(match label {
        "open" => return None,
        "done" => Outcome::Done(why()),
        "failed" => Outcome::Failed(why()),
        "missing" => Outcome::Skipped(SkipReason::Missing),
        "kept" => Outcome::Skipped(SkipReason::Kept(why())),
        "recovered" => Outcome::Skipped(SkipReason::Recovered(why())),
        "interrupted" => Outcome::Skipped(SkipReason::Interrupted),
        other => panic!("no outcome is called {other}"),
    })
}

/// What is told after those entries, each of them a run, a tag, an image, an action and an outcome, an hour after the other.
async fn told(entries: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap();
    let lease = lease(&store).await;
    let mut now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    for run in 1..=9 {
        let id = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000 | run);
        let (by, version) = ("alice@build-7".into(), "0.1.0".into());
        let mode = "enforce".into();
        let run = NewRun {
            id,
            kind: RunKind::Run,
            mode,
            started_at: now,
            started_by: by,
            version,
            approved_by: None,
            ticket: None,
        };
        store.begin_run(&run).await.unwrap();
    }
    for entry in entries {
        let words: Vec<&str> = entry.split(' ').collect();
        let [run, tag, image, what, came] = words[..] else { panic!("{entry}") };
        let manifest = manifest(image);
        let intent = Intent {
            action: action(what),
            registry: "contoso".parse().unwrap(),
            repository: "shop/api".parse().unwrap(),
            tag: tag.parse().unwrap(),
            digest: manifest.digest.clone(),
            media_type: manifest.media_type.clone(),
            policy: Some("candidates".into()),
            evidence: "[]".into(),
            endpoint: None,
            date: None,
        };
        let run = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000 | run.parse::<u128>().unwrap());
        match outcome(came) {
            Some(outcome) => drop(store.record_not_attempted(&lease, run, &intent, &outcome, now).await.unwrap()),
            None => drop(store.intend(&lease, run, &intent, &manifest, now).await.unwrap()),
        }
        now += 1.hour();
    }
    let mut lines = Vec::new();
    let name = |digest: &Digest| {
        let mut names = ["a", "b", "c"].iter().filter(|name| manifest(name).digest == *digest);
        (*names.next().unwrap()).to_owned()
    };
    let mut visit = |told: UntagRecord| {
        lines.push(match told {
            UntagRecord::Excluded { digest, .. } => format!("{} held", name(&digest)),
            UntagRecord::Untagged { untagged, entries } => {
                assert_eq!(untagged.tags.len(), entries.len());
                let tag = |tag: &tagwarden::domain::RemovedTag| {
                    let hour = tag.at.duration_since("2026-11-23T12:00:00Z".parse().unwrap()).as_hours();
                    format!("{}@{hour}{}", tag.name, if tag.restored { " back" } else { "" })
                };
                let tags: Vec<String> = untagged.tags.iter().map(tag).collect();
                format!("{} {}", name(&untagged.digest), tags.join(" "))
            }
        });
    };
    store.visit_untagged(&"contoso".parse().unwrap(), &mut visit).await.unwrap();
    store.close().await;
    lines.sort();
    lines
}

#[tokio::test]
async fn the_journal_tells_what_is_there_without_tags() {
    const UNTAG: &str = "1 v1 a untag done";
    const GONE: &str = "2 v1 a delete-untagged done";
    const LEFT: &str = "2 v1 b delete-untagged interrupted";
    let rows: &[(&[&str], &[&str])] = &[
        (&[UNTAG], &["a v1@0"]),
        (&["1 v1 a untag failed"], &[]),
        (&["1 v1 a delete-manifest done"], &[]),
        (&["1 v1 a untag open"], &["a held"]),
        // Put back, and let go again.
        (&[UNTAG, "2 v1 a restore done"], &["a held"]),
        (&[UNTAG, "2 v1 a restore failed"], &["a v1@0"]),
        (&[UNTAG, "2 v1 a restore done", "3 v1 a untag done"], &["a v1@2"]),
        (&[UNTAG, "1 v2 a untag done", "2 v1 a restore done"], &["a v1@2 back v2@1"]),
        // Deleted, or not.
        (&[UNTAG, GONE], &[]),
        (&[UNTAG, "2 v1 a delete-untagged missing"], &[]),
        (&[UNTAG, "2 v1 a delete-untagged open"], &["a held"]),
        (&[UNTAG, "2 v1 a delete-untagged failed"], &["a v1@0"]),
        (&[UNTAG, "2 v1 a delete-untagged kept"], &["a v1@0"]),
        (&[UNTAG, GONE, "3 v1 a restore done"], &["a held"]),
        (&[UNTAG, GONE, "3 v1 a restore done", "4 v1 a untag done"], &["a v1@3"]),
        // What went along: left over only once what it hung on is gone.
        (&[UNTAG, GONE, LEFT], &["b v1@2"]),
        (&[UNTAG, LEFT, GONE], &["b v1@1"]),
        (&[UNTAG, GONE, "2 v1 b delete-untagged recovered"], &["b v1@2"]),
        (&[UNTAG, GONE, "2 v1 b delete-untagged failed"], &["b v1@2"]),
        (&[UNTAG, GONE, "2 v1 b delete-untagged kept"], &[]),
        (&[UNTAG, GONE, "2 v1 b delete-untagged missing"], &[]),
        (&[UNTAG, GONE, "2 v1 b delete-untagged open"], &["b held"]),
        (&[UNTAG, GONE, "3 v1 b delete-untagged interrupted"], &[]),
        (&[UNTAG, "2 v1 a delete-untagged interrupted", LEFT], &["a v1@0"]),
        // Tried again by itself: its time is not over anew for that.
        (&[UNTAG, GONE, LEFT, "3 v1 b delete-untagged interrupted"], &["b v1@2"]),
        (&[UNTAG, GONE, LEFT, "3 v1 b delete-untagged kept"], &["b v1@2"]),
        (&[UNTAG, GONE, LEFT, "3 v1 b delete-untagged done"], &[]),
        (&[UNTAG, GONE, LEFT, "3 v1 b restore-manifest done"], &[]),
        (&[UNTAG, GONE, LEFT, "3 v2 b untag done"], &["b v2@3"]),
    ];
    for (entries, expected) in rows {
        assert_eq!(told(entries).await, *expected, "{entries:?}");
    }
}
