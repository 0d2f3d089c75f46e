//! Epochs of the lease: whoever lost it without knowing it journals nothing more.

use sqlx::{ConnectOptions as _, Connection as _};
use tagwarden::domain::{Action, Intent, Outcome, SkipReason};
use tagwarden::state::{Lease, RestoreRecord, StateErrorKind, StateStore};

use super::{fresh, intent, manifest, meddle, new_run, noon};
use crate::support::lease::lease;

#[tokio::test]
async fn epochs_rise_with_each_lease_and_every_entry_has_its_own() {
    let (_folder, store) = fresh().await;
    let (run, image) = (new_run(1, noon()), manifest("{}"));
    store.begin_run(&run).await.unwrap();
    for epoch in 1..=3 {
        // As the next process finds it: only the file knows how often it was taken.
        let store = StateStore::open(store.location().path().unwrap()).await.unwrap();
        let lease = lease(&store).await;
        assert_eq!(lease.epoch(), epoch);
        let removed = intent(&format!("c-{epoch}"), &image);
        store.intend(&lease, run.id, &removed, &image, noon()).await.unwrap();
        let back = Intent { action: Action::Restore, ..removed };
        store.intend_restore(&lease, run.id, &back, &image, RestoreRecord::default(), noon()).await.unwrap();
        let missing = Outcome::Skipped(SkipReason::Missing);
        store.record_not_attempted(&lease, run.id, &back, &missing, noon()).await.unwrap();
        store.record_all_not_attempted(&lease, run.id, &[(&back, &missing)], noon()).await.unwrap();
        store.close().await;
    }
    let epochs: Vec<_> = store.journal(run.id).await.unwrap().iter().map(|entry| entry.epoch).collect();
    assert_eq!(epochs, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3].map(Some));
}

#[tokio::test]
async fn whoever_lost_the_lease_journals_nothing_and_others_of_the_same_write_do() {
    let (_folder, store) = fresh().await;
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    let taken = Lease::take(store.location().path().unwrap(), "run by ada@here").unwrap();
    let old = store.begin_epoch(&taken, noon()).await.unwrap();
    let new = store.begin_epoch(&taken, noon()).await.unwrap();
    let cases: Vec<_> = [("late", &old), ("mine", &new), ("later", &old)]
        .into_iter()
        .map(|(tag, lease)| (manifest(tag), tag, lease))
        .map(|(image, tag, lease)| (intent(tag, &image), image, lease))
        .collect();
    let written = cases.iter().map(|(intent, image, lease)| store.intend(lease, run.id, intent, image, noon()));
    let written = futures::future::join_all(written).await;
    for ((intent, _, lease), written) in cases.iter().zip(written) {
        match written {
            Ok(journaled) => {
                assert_eq!(lease.epoch(), 2);
                let entry = store.journal_entry(journaled.id()).await.unwrap();
                assert_eq!((&entry.intent, entry.epoch), (intent, Some(2)));
                let of = (journaled.registry(), journaled.repository(), journaled.tag(), journaled.digest());
                assert_eq!(of, (&intent.registry, &intent.repository, &intent.tag, &intent.digest));
            }
            Err(error) => {
                assert_eq!((error.kind, lease.epoch()), (StateErrorKind::LeaseLost, 1), "{error}");
                let words = "the lease of epoch 1 was lost: run by ada@here has epoch 2";
                assert!(error.chain().contains(words), "{error}");
            }
        }
    }
    let image = manifest("back");
    let back = Intent { action: Action::Restore, ..intent("back", &image) };
    let refused = store.intend_restore(&old, run.id, &back, &image, RestoreRecord::default(), noon()).await;
    assert_eq!(refused.unwrap_err().kind, StateErrorKind::LeaseLost);

    assert_eq!(store.journal(run.id).await.unwrap().len(), 1, "the one of the later epoch");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(store.location().path().unwrap());
    let mut connection = options.connect().await.unwrap();
    let manifests: i64 =
        sqlx::query_scalar("SELECT count(*) FROM journaled_manifests").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert_eq!(manifests, 1);
}

#[tokio::test]
async fn a_token_keeps_the_lease_and_only_the_lease_of_the_same_state_gives_one() {
    let (folder, store) = fresh().await;
    let token = lease(&store).await;
    let copy = token.clone();
    drop(token);
    assert_eq!(Lease::take(store.location().path().unwrap(), "x").unwrap_err().kind, StateErrorKind::Leased);
    drop(copy);
    let own = Lease::take(store.location().path().unwrap(), "x").unwrap();

    let others = [
        Lease::take(&folder.path().join("other.db"), "x").unwrap(),
        Lease::take_daemon(store.location().path().unwrap(), "serve").unwrap(),
    ];
    for other in others {
        let error = store.begin_epoch(&other, noon()).await.unwrap_err();
        assert!(error.chain().contains("is not its lock file"), "{error}");
    }
    assert_eq!(store.begin_epoch(&own, noon()).await.unwrap().epoch(), 2, "a refused one counts for nothing");
}

/// The tables of the version before, with an entry of it.
#[tokio::test]
async fn entries_of_the_version_before_have_no_epoch() {
    let (folder, store) = fresh().await;
    let (run, image) = (new_run(1, noon()), manifest("{}"));
    store.begin_run(&run).await.unwrap();
    let old = store.intend(&lease(&store).await, run.id, &intent("c-1", &image), &image, noon()).await.unwrap();
    store.close().await;
    let path = folder.path().join("tagwarden.db");
    for statement in [
        "DROP TABLE leases",
        "ALTER TABLE journal DROP COLUMN epoch",
        "DELETE FROM _sqlx_migrations WHERE version = 13",
    ] {
        meddle(&path, statement).await;
    }
    let store = StateStore::open(&path).await.unwrap();
    let lease = lease(&store).await;
    store.intend(&lease, run.id, &intent("c-2", &image), &image, noon()).await.unwrap();
    let entries = store.pending_entries().await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.epoch).collect::<Vec<_>>(), [None, Some(1)]);
    assert_eq!(entries[0].id, old.id());
    assert_eq!(store.manifest_of(&entries[0]).await.unwrap(), image);
}
