//! Full disks, and disks that cannot be written.

use super::*;

#[tokio::test]
async fn a_full_or_unwritable_disk_says_so_and_keeps_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.db");
    let run = |number| NewRun {
        id: uuid::Uuid::from_u128(number),
        kind: RunKind::Run,
        mode: "enforce".into(),
        started_at: Timestamp::UNIX_EPOCH,
        started_by: "x".repeat(5000),
        version: String::new(),
        approved_by: None,
        ticket: None,
    };
    let full = SqliteState::open_with(&path, |options| options.pragma("max_page_count", "100")).await.unwrap();
    let mut recorded = 0;
    let error = loop {
        match full.begin_run(&run(recorded)).await {
            Ok(()) => recorded += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, StateErrorKind::Full);
    assert!(error.chain().contains("make room"), "{error}");
    assert!(
        matches!(std::error::Error::source(&error), Some(cause) if cause.is::<sqlx::sqlite::SqliteError>()),
        "{error:?}"
    );
    assert_eq!(full.runs(1000).await.unwrap().len() as u128, recorded);

    let unwritable = |options: SqliteConnectOptions| options.pragma("query_only", "on");
    let read_only = SqliteState::open_with(&path, unwritable).await.unwrap();
    assert_eq!(read_only.runs(1000).await.unwrap().len() as u128, recorded);
    let error = read_only.begin_run(&run(recorded)).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::ReadOnly, "{error}");
    assert_eq!(SqliteState::open(&path).await.unwrap().runs(1000).await.unwrap().len() as u128, recorded);
}

#[tokio::test]
async fn a_full_disk_fails_every_entry_of_a_write_and_loses_none_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.db");
    let store = SqliteState::open_with(&path, |options| options.pragma("max_page_count", "120")).await.unwrap();
    let run = uuid::Uuid::from_u128(1);
    let begun = NewRun {
        id: run,
        kind: RunKind::Run,
        mode: "enforce".into(),
        started_at: Timestamp::UNIX_EPOCH,
        started_by: String::new(),
        version: String::new(),
        approved_by: None,
        ticket: None,
    };
    store.begin_run(&begun).await.unwrap();
    let lease = lease(&store).await;
    let bytes: Arc<[u8]> = b"{}".as_slice().into();
    let manifest = crate::registry::RawManifest {
        digest: crate::domain::Digest::of(&bytes),
        media_type: "application/json".into(),
        bytes,
    };
    let intent = |number: usize| crate::domain::Intent {
        action: crate::domain::Action::Restore,
        registry: "contoso".parse().unwrap(),
        repository: "shop/api".parse().unwrap(),
        tag: format!("t-{number}").parse().unwrap(),
        digest: manifest.digest.clone(),
        media_type: Arc::clone(&manifest.media_type),
        policy: None,
        endpoint: None,
        date: None,
        evidence: "x".repeat(3000),
    };
    let write =
        async |number| (number, store.intend(&lease, run, &intent(number), &manifest, Timestamp::UNIX_EPOCH).await);
    let (mut there, mut failed) = (Vec::new(), 0);
    for start in (0..).step_by(16) {
        for (number, written) in futures::future::join_all((start..start + 16).map(write)).await {
            match written {
                Ok(_) => there.push(format!("t-{number}")),
                Err(error) => {
                    assert_eq!(error.kind, StateErrorKind::Full, "{error}");
                    failed += 1;
                }
            }
        }
        if failed > 0 {
            break;
        }
    }
    assert!(failed > 1, "those that shared the write failed together: {failed}");
    let mut journaled: Vec<String> =
        store.journal(run).await.unwrap().iter().map(|e| e.intent.tag.to_string()).collect();
    journaled.sort();
    there.sort();
    assert_eq!(journaled, there);
}

async fn lease(store: &SqliteState) -> LeaseToken {
    let lease = store.take_lease(LeaseScope::Run, "a test").await.unwrap();
    store.begin_epoch(&lease, Timestamp::UNIX_EPOCH).await.unwrap()
}

/// Runs statements on the file beside a [`SqliteState`], as another process would.
async fn beside(path: &Path, statements: &[&'static str]) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    for statement in statements {
        sqlx::query(*statement).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

/// SQLite rolls back by itself when the disk is full. A connection that `sqlx` still considers inside a transaction
/// would refuse every later one, until the process ends.
#[tokio::test]
async fn the_same_process_goes_on_once_there_is_room_again() {
    use crate::registry::ContentCache as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.db");
    let store = SqliteState::open_with(&path, |options| options.pragma("max_page_count", "150")).await.unwrap();
    let run = |number, by: usize| NewRun {
        id: uuid::Uuid::from_u128(number),
        kind: RunKind::Run,
        mode: "enforce".into(),
        started_at: Timestamp::UNIX_EPOCH,
        started_by: "x".repeat(by),
        version: String::new(),
        approved_by: None,
        ticket: None,
    };
    let manifest = |text: &str| {
        let bytes: Arc<[u8]> = text.as_bytes().into();
        crate::registry::RawManifest { digest: crate::domain::Digest::of(&bytes), media_type: "m".into(), bytes }
    };
    let intent = |tag: &str, digest: &crate::domain::Digest| crate::domain::Intent {
        action: crate::domain::Action::Restore,
        registry: "contoso".parse().unwrap(),
        repository: "shop/api".parse().unwrap(),
        tag: tag.parse().unwrap(),
        digest: digest.clone(),
        media_type: "m".into(),
        policy: None,
        endpoint: None,
        date: None,
        evidence: "x".repeat(20_000),
    };
    store.begin_run(&run(1, 1)).await.unwrap();
    let lease = lease(&store).await;
    for round in 0..3_u128 {
        // The journal, the other durable writes, and relaxed ones.
        let small = manifest("small");
        let mut entries = 0;
        let full = loop {
            let intent = intent("a", &small.digest);
            match store.intend(&lease, run(1, 1).id, &intent, &small, Timestamp::UNIX_EPOCH).await {
                Ok(_) => entries += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind, StateErrorKind::Full, "{full}");
        assert!(entries > 0, "round {round}");
        for _ in 0..2 {
            assert_eq!(store.begin_run(&run(1000 + round, 50_000)).await.unwrap_err().kind, StateErrorKind::Full);
        }
        let large = manifest(&format!("{round}{}", "y".repeat(100_000)));
        store.store_manifest(&large).await;
        store.flush_cache().await;
        assert_eq!(store.manifest(&large.digest).await, None, "there was no room for it");

        beside(&path, &["DELETE FROM journal", "DELETE FROM manifests"]).await;
        store.store_manifest(&large).await;
        store.flush_cache().await;
        assert_eq!(store.manifest(&large.digest).await, Some(large));
        store.begin_run(&run(1000 + round, 100)).await.unwrap();
        beside(&path, &["DELETE FROM manifests"]).await;
        store.intend(&lease, run(1, 1).id, &intent("b", &small.digest), &small, Timestamp::UNIX_EPOCH).await.unwrap();
    }
}

/// Failures other than a full disk: another writer that does not end, and a write that is cancelled.
#[tokio::test]
async fn a_write_that_fails_or_is_given_up_takes_no_later_one_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.db");
    let brief = |options: SqliteConnectOptions| options.busy_timeout(std::time::Duration::from_millis(20));
    let store = SqliteState::open_with(&path, brief).await.unwrap();
    let mark = async |name: &str| store.mark_untag_destructive(&name.parse().unwrap(), Timestamp::UNIX_EPOCH).await;

    let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    for _ in 0..2 {
        assert_eq!(mark("a").await.unwrap_err().kind, StateErrorKind::Locked);
    }
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    mark("a").await.unwrap();

    let mut write = store.write_durably().await.unwrap();
    sqlx::query("DELETE FROM destructive_untags").execute(&mut *write.transaction).await.unwrap();
    drop(write);
    mark("b").await.unwrap();
    assert!(
        store.untag_destructive_since(&"a".parse().unwrap()).await.unwrap().is_some(),
        "what is given up is undone"
    );
}
