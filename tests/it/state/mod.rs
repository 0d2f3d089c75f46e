//! The state: what was acknowledged is there after any end, and what is damaged says so.

mod conformance;
mod file;
mod leases;
mod missing_manifests;
mod observations;
mod plans;
#[cfg(target_os = "linux")]
mod postgres;
#[cfg(target_os = "linux")]
mod postgres_runs;
#[cfg(target_os = "linux")]
mod transfer;
mod write_ahead_log;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use tagwarden::domain::{Action, Digest, Intent, Outcome, RemovalMethod, SkipReason};
use tagwarden::registry::{ContentCache as _, RawManifest};
use tagwarden::state::{
    JournalEntry, JournalId, Lease, NewRun, PruneCounts, RetentionCutoffs, RunEnd, RunKind, StateErrorKind, StateStore,
};
use uuid::Uuid;

use crate::support::lease::lease;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn noon() -> Timestamp {
    at("2026-11-23T12:00:00Z")
}

fn manifest(text: &str) -> RawManifest {
    let bytes: Arc<[u8]> = text.as_bytes().into();
    RawManifest { digest: Digest::of(&bytes), media_type: "application/vnd.oci.image.manifest.v1+json".into(), bytes }
}

fn intent(tag: &str, manifest: &RawManifest) -> Intent {
    Intent {
        action: Action::Remove(RemovalMethod::Untag),
        registry: "contoso".parse().unwrap(),
        repository: "shop/api".parse().unwrap(),
        tag: tag.parse().unwrap(),
        digest: manifest.digest.clone(),
        media_type: manifest.media_type.clone(),
        policy: Some("candidate-builds".into()),
        evidence: r#"[{"kind":"not-kept"}]"#.into(),
        endpoint: None,
        date: None,
    }
}

fn new_run(number: u128, started_at: Timestamp) -> NewRun {
    NewRun {
        id: Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000 | number),
        kind: RunKind::Apply,
        mode: "approved".into(),
        started_at,
        started_by: "alice@build-7".into(),
        version: "0.1.0".into(),
        approved_by: Some("bob".into()),
        ticket: None,
    }
}

fn end(ended_at: Timestamp) -> RunEnd {
    RunEnd { ended_at, outcome: "applied".into(), exit_code: 4, summary: "{}".into(), error: Some("one failed".into()) }
}

async fn fresh() -> (tempfile::TempDir, StateStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap();
    (folder, store)
}

#[tokio::test]
async fn runs_and_plans_come_back_as_they_were_recorded() {
    let (_folder, store) = fresh().await;
    let (first, second) = (new_run(0x10, noon()), new_run(0x11, noon()));
    store.begin_run(&first).await.unwrap();
    store.begin_run(&second).await.unwrap();
    let head = format!("{{\"schema\":\"tagwarden.plan/1\",\"settings\":\"{}\"}}", "ä".repeat(100_000));
    store.save_plan(first.id, "sha256:abc", &head, &mut std::iter::empty()).await.unwrap();
    store.finish_run(first.id, &end(noon())).await.unwrap();

    let runs = store.runs(10).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.run.id).collect::<Vec<_>>(), [second.id, first.id]);
    assert_eq!((&runs[0].run, &runs[0].end), (&second, &None));
    assert_eq!((&runs[1].run, &runs[1].end), (&first, &Some(end(noon()))));
    assert_eq!(runs[1].plan_id.as_deref(), Some("sha256:abc"));
    assert_eq!(store.runs(1).await.unwrap().len(), 1);
    assert_eq!(store.plan_head(first.id).await.unwrap(), Some(head));
    assert_eq!(store.plan_head(second.id).await.unwrap(), None);
    assert_eq!(store.find_plan("sha256:abc").await.unwrap(), Some(first.id));
    assert_eq!(store.find_plan("sha256:ab").await.unwrap(), None);

    let whole = first.id.to_string();
    assert_eq!(store.run(&whole.to_uppercase()).await.unwrap().unwrap().run, first);
    let error = store.run(&whole[..20]).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Ambiguous);
    assert!(error.chain().contains(&whole), "{error}");
    assert_eq!(store.run("ff").await.unwrap(), None);
    assert_eq!(store.run("%").await.unwrap(), None);
    assert_eq!(store.finish_run(Uuid::nil(), &end(noon())).await.unwrap_err().kind, StateErrorKind::Missing);
}

#[tokio::test]
async fn every_outcome_comes_back_from_the_journal() {
    let (_folder, store) = fresh().await;
    let lease = lease(&store).await;
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    let image = manifest("{}");
    let why = || "why".to_owned();
    let outcomes = [
        Outcome::Done(why()),
        Outcome::Done(String::new()),
        Outcome::Failed(why()),
        Outcome::Skipped(SkipReason::Moved { to: manifest("other").digest }),
        Outcome::Skipped(SkipReason::Missing),
        Outcome::Skipped(SkipReason::Kept(why())),
        Outcome::Skipped(SkipReason::Locked(why())),
        Outcome::Skipped(SkipReason::DryRun),
        Outcome::Skipped(SkipReason::Refused(why())),
        Outcome::Skipped(SkipReason::Stopped(why())),
        Outcome::Skipped(SkipReason::Interrupted),
        Outcome::Skipped(SkipReason::Recovered(why())),
    ];
    for (number, outcome) in outcomes.iter().enumerate() {
        let mut intent = intent(&format!("c-{number}"), &image);
        intent.action = [Action::Restore, Action::Remove(RemovalMethod::DeleteManifest), intent.action][number % 3];
        intent.policy = (number % 2 == 0).then(|| "p".to_owned());
        let expected = if number % 2 == 0 {
            let id = store.intend(&lease, run.id, &intent, &image, noon()).await.unwrap().id();
            assert_eq!(store.pending_entries().await.unwrap().len(), 1);
            store.record_outcome(id, outcome, noon() + 1.second()).await.unwrap();
            let again = store.record_outcome(id, &Outcome::Done(String::new()), noon()).await.unwrap_err();
            assert_eq!(again.kind, StateErrorKind::LeaseLost, "the first word stands");
            (outcome.clone(), noon() + 1.second())
        } else {
            store.record_not_attempted(&lease, run.id, &intent, outcome, noon()).await.unwrap();
            (outcome.clone(), noon())
        };
        let entry = store.journal(run.id).await.unwrap().pop().unwrap();
        assert_eq!((entry.intent, entry.outcome, entry.intended_at), (intent, Some(expected), noon()));
    }
    assert_eq!(store.pending_entries().await.unwrap(), []);
}

#[tokio::test]
async fn the_journal_keeps_exact_manifests() {
    let (_folder, store) = fresh().await;
    let lease = lease(&store).await;
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    let image = manifest("{ \"odd\":   \"spacing\" }\n");
    let id = store.intend(&lease, run.id, &intent("c-1", &image), &image, noon()).await.unwrap().id();
    let refused = store.intend(&lease, run.id, &intent("c-1", &image), &manifest("other"), noon()).await.unwrap_err();
    assert_eq!(refused.kind, StateErrorKind::Corrupt, "an intent with another manifest could not be undone");
    assert_eq!(store.journal(run.id).await.unwrap().len(), 1);

    let names = ("contoso".parse().unwrap(), "shop/api".parse().unwrap(), "c-1".parse().unwrap());
    let last = async || store.last_removal(&names.0, &names.1, &names.2).await.unwrap();
    assert_eq!(last().await, None, "nothing is known to be removed yet");
    store.record_outcome(id, &Outcome::Done(String::new()), noon()).await.unwrap();
    let entry = last().await.unwrap();
    assert_eq!(entry.id, id);
    assert_eq!(store.manifest_of(&entry).await.unwrap(), image);

    let noted = manifest("never pinned");
    store
        .record_not_attempted(&lease, run.id, &intent("c-2", &noted), &Outcome::Skipped(SkipReason::Missing), noon())
        .await
        .unwrap();
    let entry = store.journal(run.id).await.unwrap().pop().unwrap();
    assert_eq!(store.manifest_of(&entry).await.unwrap_err().kind, StateErrorKind::Missing);
}

#[tokio::test]
async fn pruning_never_takes_a_way_back() {
    let (_folder, store) = fresh().await;
    let lease = lease(&store).await;
    let (old, new) = (noon() - 900.hours(), noon());
    // Whether the run is still there, and whether its plan is.
    let (long_ago, done) = (noon() - 9000.hours(), || Some(Outcome::Done(String::new())));
    let outcomes = [
        (done(), long_ago, false, false),
        (None, long_ago, true, false),
        (done(), old, true, false),
        (Some(Outcome::Failed("500".into())), old, true, false),
        (Some(Outcome::Skipped(SkipReason::DryRun)), old, true, false),
        (None, old, true, false),
        (Some(Outcome::Skipped(SkipReason::DryRun)), new, true, true),
    ];
    for (number, (outcome, ended_at, _, _)) in outcomes.iter().enumerate() {
        let run = new_run(number as u128, *ended_at);
        let image = manifest(&number.to_string());
        store.begin_run(&run).await.unwrap();
        store.save_plan(run.id, &format!("plan {number}"), "{}", &mut std::iter::empty()).await.unwrap();
        let id = store.intend(&lease, run.id, &intent("c-1", &image), &image, *ended_at).await.unwrap().id();
        if let Some(outcome) = outcome {
            store.record_outcome(id, outcome, *ended_at).await.unwrap();
        }
        store.finish_run(run.id, &end(*ended_at)).await.unwrap();
        store.confirm_time(run.id, *ended_at).await.unwrap();
    }
    let killed = new_run(9, old);
    store.begin_run(&killed).await.unwrap();

    let since = RetentionCutoffs { runs: noon() - 8000.hours(), plans: noon() - 1.hour() };
    let forgotten = store.prune(since).await.unwrap();
    assert_eq!(forgotten, PruneCounts { runs: 1, plans: 6, entries: 1, manifests: 1 });
    for (number, (_, ended_at, stays, planned)) in outcomes.iter().enumerate() {
        let run = new_run(number as u128, *ended_at);
        assert_eq!(store.run(&run.id.to_string()).await.unwrap().is_some(), *stays, "run {number}");
        let entries = store.journal(run.id).await.unwrap();
        assert_eq!(entries.len(), usize::from(*stays), "run {number}");
        for entry in entries {
            assert_eq!(&*store.manifest_of(&entry).await.unwrap().bytes, number.to_string().as_bytes());
        }
        assert_eq!(store.plan_head(run.id).await.unwrap().is_some(), *planned, "run {number}");
    }
    assert!(store.run(&killed.id.to_string()).await.unwrap().is_some(), "a killed run is evidence");
}

/// A run of a dead battery's clock is as old as the runs around it.
#[tokio::test]
async fn a_run_whose_clock_nobody_confirmed_is_kept_until_a_later_one_is_old() {
    let (_folder, store) = fresh().await;
    let days = |days: i64| noon() + (days * 24).hours();
    // When it says that it was, whether that was confirmed.
    let runs = [(days(0), true), (days(-9000), false), (days(800), false), (days(10), true), (days(-9000), false)];
    for (number, (said, confirmed)) in runs.iter().enumerate() {
        let run = new_run(number as u128, *said);
        store.begin_run(&run).await.unwrap();
        store.finish_run(run.id, &end(*said)).await.unwrap();
        if *confirmed {
            store.confirm_time(run.id, *said).await.unwrap();
        }
    }
    let left = async |since| {
        store.prune(RetentionCutoffs { runs: since, plans: since }).await.unwrap();
        let runs = store.runs(10).await.unwrap();
        runs.iter().map(|record| record.run.id.as_u128() & 0xf).collect::<Vec<_>>()
    };
    assert_eq!(left(days(5)).await, [4, 3, 2, 1], "only the first is surely old");
    assert_eq!(left(days(10)).await, [4, 3, 2, 1]);
    assert_eq!(left(days(11)).await, [4], "what is before one that is old is old, whatever it says");
    assert_eq!(left(days(2000)).await, [4], "nobody knows");
}

#[tokio::test]
async fn a_registry_stays_marked_until_a_person_clears_it() {
    let (_folder, store) = fresh().await;
    let registry = "contoso".parse().unwrap();
    assert_eq!(store.untag_destructive_since(&registry).await.unwrap(), None);
    store.mark_untag_destructive(&registry, noon()).await.unwrap();
    store.mark_untag_destructive(&registry, noon() + 1.hour()).await.unwrap();
    assert_eq!(store.untag_destructive_since(&registry).await.unwrap(), Some(noon()));
    store.clear_untag_destructive(&registry).await.unwrap();
    assert_eq!(store.untag_destructive_since(&registry).await.unwrap(), None);
}

#[tokio::test]
async fn the_cache_gives_back_what_it_was_given() {
    let (folder, store) = fresh().await;
    let exact = at("2024-02-29T01:02:03.123456789Z");
    let images: Vec<RawManifest> = (0..1500).map(|n| manifest(&format!("image {n}"))).collect();
    for (number, image) in images.iter().enumerate() {
        store.store_manifest(image).await;
        store.store_created_at(&image.digest, (number % 2 == 0).then_some(exact)).await;
    }
    let unknown = manifest("unknown").digest;
    for store in [store.clone(), reopened(store, folder.path()).await] {
        for (number, image) in images.iter().enumerate() {
            assert_eq!(store.manifest(&image.digest).await.as_ref(), Some(image));
            let created_at = (number % 2 == 0).then_some(exact);
            assert_eq!(store.created_at(&image.digest).await, Some(created_at), "to the nanosecond");
        }
        assert_eq!(store.manifest(&unknown).await, None);
        assert_eq!(store.created_at(&unknown).await, None);
    }
}

async fn reopened(store: StateStore, folder: &Path) -> StateStore {
    store.flush_cache().await;
    StateStore::open(&folder.join("tagwarden.db")).await.unwrap()
}

/// Runs one statement on the file behind a store's back.
async fn meddle(path: &Path, statement: &'static str) {
    use sqlx::{ConnectOptions as _, Connection as _};
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn damaged_content_is_never_given_out() {
    let (_folder, store) = fresh().await;
    let lease = lease(&store).await;
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    let image = manifest("sound");
    store.store_manifest(&image).await;
    store.flush_cache().await;
    store.intend(&lease, run.id, &intent("c-1", &image), &image, noon()).await.unwrap();
    meddle(store.location().path().unwrap(), "UPDATE manifests SET bytes = x'00'").await;
    meddle(store.location().path().unwrap(), "UPDATE journaled_manifests SET bytes = x'00'").await;

    assert_eq!(store.manifest(&image.digest).await, None, "a damaged row counts as none");
    store.store_manifest(&image).await;
    store.flush_cache().await;
    assert_eq!(store.manifest(&image.digest).await, Some(image.clone()), "and is replaced");

    let entry: JournalEntry = store.journal(run.id).await.unwrap().pop().unwrap();
    assert_eq!(store.manifest_of(&entry).await.unwrap_err().kind, StateErrorKind::Corrupt);
    store.intend(&lease, run.id, &intent("c-2", &image), &image, noon()).await.unwrap();
    assert_eq!(store.manifest_of(&entry).await.unwrap(), image, "what was verified replaces what is damaged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn entries_made_at_once_are_each_durable_and_a_bad_one_fails_alone() {
    let (folder, store) = fresh().await;
    let lease = lease(&store).await;
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    let images: Vec<RawManifest> = (0..7).map(|number| manifest(&format!("image {number}"))).collect();
    let settled = store.intend(&lease, run.id, &intent("settled", &images[0]), &images[0], noon()).await.unwrap().id();
    store.record_outcome(settled, &Outcome::Done(String::new()), noon()).await.unwrap();
    let tasks: Vec<_> = (0..600)
        .map(|number: usize| {
            let (store, lease, image, run) = (store.clone(), lease.clone(), images[number % 7].clone(), run.id);
            tokio::spawn(async move {
                if number % 100 == 50 {
                    let error =
                        store.record_outcome(settled, &Outcome::Done("again".into()), noon()).await.unwrap_err();
                    assert_eq!(error.kind, StateErrorKind::LeaseLost);
                    let nowhere = Uuid::from_u128(9);
                    let error =
                        store.intend(&lease, nowhere, &intent("bad", &image), &image, noon()).await.unwrap_err();
                    assert_eq!(error.kind, StateErrorKind::Constraint, "there is no such run: {error}");
                    return None;
                }
                let intent = intent(&format!("c-{number}"), &image);
                let id = store.intend(&lease, run, &intent, &image, noon()).await.unwrap().id();
                match number % 3 {
                    0 => store.record_outcome(id, &Outcome::Done(number.to_string()), noon()).await.unwrap(),
                    1 => drop(
                        store
                            .record_not_attempted(&lease, run, &intent, &Outcome::Skipped(SkipReason::Missing), noon())
                            .await
                            .unwrap(),
                    ),
                    _ => {}
                }
                Some((id, number))
            })
        })
        .collect();
    let done = futures::future::join_all(tasks).await;
    // What was acknowledged is in the file, whatever becomes of the store.
    let copy = StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap();
    let journal = copy.journal(run.id).await.unwrap();
    let acknowledged: Vec<(JournalId, usize)> = done.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(acknowledged.len(), 594);
    for (id, number) in &acknowledged {
        let entry = journal.iter().find(|entry| entry.id == *id).unwrap();
        assert_eq!(entry.intent.tag.as_str(), format!("c-{number}"));
        let outcome = (number % 3 == 0).then(|| (Outcome::Done(number.to_string()), noon()));
        assert_eq!(entry.outcome, outcome);
        assert_eq!(copy.manifest_of(entry).await.unwrap(), images[number % 7]);
    }
    let notes = acknowledged.iter().filter(|(_, number)| number % 3 == 1).count();
    assert_eq!(journal.len(), 1 + acknowledged.len() + notes, "nothing is there twice");
}

#[tokio::test]
async fn whoever_is_cancelled_while_writing_leaves_the_journal_whole() {
    use futures::FutureExt as _;
    let (_folder, store) = fresh().await;
    let lease = lease(&store).await;
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    let image = manifest("{}");
    for number in 0..40 {
        let (cancelled, kept) = (intent(&format!("x-{number}"), &image), intent(&format!("k-{number}"), &image));
        let mut first = Box::pin(store.intend(&lease, run.id, &cancelled, &image, noon()));
        assert!(first.as_mut().now_or_never().is_none(), "it waits for the disk");
        // At another point each time.
        for _ in 0..number {
            tokio::task::yield_now().await;
        }
        drop(first);
        store.intend(&lease, run.id, &kept, &image, noon()).await.unwrap();
    }
    let journal = store.journal(run.id).await.unwrap();
    let tags: Vec<&str> = journal.iter().map(|entry| entry.intent.tag.as_str()).collect();
    let mut once = tags.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), tags.len(), "nothing is there twice: {tags:?}");
    assert!((0..40).all(|number| tags.contains(&format!("k-{number}").as_str())), "{tags:?}");
}

#[tokio::test]
async fn a_closed_store_refuses_entries() {
    let (_folder, store) = fresh().await;
    let lease = lease(&store).await;
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    let image = manifest("{}");
    store.clone().close().await;
    store.intend(&lease, run.id, &intent("c-1", &image), &image, noon()).await.unwrap_err();
    store.intend(&lease, run.id, &intent("c-2", &image), &image, noon()).await.unwrap_err();
}

/// The other half of the next test: journals without end, naming each entry once it is acknowledged.
#[tokio::test]
#[ignore = "started and killed by `what_was_acknowledged_survives_a_kill`"]
async fn journal_until_killed() {
    let mut path = String::new();
    std::io::stdin().read_line(&mut path).unwrap();
    let path = Path::new(path.trim());
    if path.as_os_str().is_empty() {
        return;
    }
    let lease = Lease::take(path, "the one that is killed").unwrap();
    let store = StateStore::open(path).await.unwrap();
    let lease = store.begin_epoch(&lease, noon()).await.unwrap();
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    for number in 0.. {
        let image = manifest(&format!("image {number}"));
        store.store_manifest(&image).await;
        let id =
            store.intend(&lease, run.id, &intent(&format!("c-{number}"), &image), &image, noon()).await.unwrap().id();
        println!("acknowledged {number}");
        if number % 2 == 0 {
            store.record_outcome(id, &Outcome::Done(String::new()), noon()).await.unwrap();
            println!("settled {number}");
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "state::journal_until_killed", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", path.display()).unwrap();
    let mut acknowledged = 0;
    let mut settled = vec![];
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, number)) = line.split_once("acknowledged ") {
            acknowledged = number.parse::<usize>().unwrap() + 1;
        } else if let Some((_, number)) = line.split_once("settled ") {
            settled.push(number.parse::<usize>().unwrap());
        }
        if acknowledged == 40 {
            assert_eq!(Lease::take(&path, "x").unwrap_err().kind, StateErrorKind::Leased);
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged >= 40);

    let _lease = Lease::take(&path, "the kernel gave it back").unwrap();
    let store = StateStore::open(&path).await.unwrap();
    let entries = store.journal(new_run(1, noon()).id).await.unwrap();
    assert!(entries.len() >= acknowledged);
    for (number, entry) in entries.iter().enumerate() {
        assert_eq!(entry.intent.tag.as_str(), format!("c-{number}"));
        assert_eq!(store.manifest_of(entry).await.unwrap(), manifest(&format!("image {number}")));
    }
    for number in settled {
        assert!(entries[number].outcome.is_some(), "{number}");
    }
    let unsettled = store.pending_entries().await.unwrap();
    assert!(unsettled.iter().all(|entry| entry.outcome.is_none()) && !unsettled.is_empty());
}
