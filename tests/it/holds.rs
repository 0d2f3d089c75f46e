//! Holds and restored tags in the state.

use std::path::Path;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tagwarden::domain::{
    Action, Date, DateOrigin, Digest, Hold, HoldOrigin, Intent, OriginalDate, Outcome, RemovalMethod,
};
use tagwarden::registry::RawManifest;
use tagwarden::state::{NewRun, RestoreRecord, RunKind, StateErrorKind, StateStore};
use uuid::Uuid;

use crate::support::lease::lease;
use crate::support::old_state::old_state;

const ENDPOINT: &str = "https://contoso.azurecr.io";

fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn manifest(text: &str) -> RawManifest {
    let bytes: Arc<[u8]> = text.as_bytes().into();
    RawManifest { digest: Digest::of(&bytes), media_type: "application/vnd.oci.image.manifest.v1+json".into(), bytes }
}

fn intent(tag: &str, manifest: &RawManifest) -> Intent {
    Intent {
        action: Action::Remove(RemovalMethod::Untag),
        registry: "contoso".parse().unwrap(),
        endpoint: Some(ENDPOINT.into()),
        repository: "shop/api".parse().unwrap(),
        tag: tag.parse().unwrap(),
        digest: manifest.digest.clone(),
        media_type: manifest.media_type.clone(),
        policy: Some("builds".into()),
        evidence: "[]".into(),
        date: Some(Date::Created(noon() - 90.hours())),
    }
}

fn hold(tag: &str, digest: Option<Digest>, hours: i64) -> Hold {
    Hold {
        registry: "contoso".parse().unwrap(),
        endpoint: ENDPOINT.into(),
        repository: "shop/api".parse().unwrap(),
        tag: tag.parse().unwrap(),
        digest,
        reason: "incident 42".into(),
        by: "ada@here".into(),
        since: noon(),
        until: noon() + hours.hours(),
        origin: HoldOrigin::Person,
    }
}

async fn begun() -> (tempfile::TempDir, StateStore, Uuid) {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap();
    let run = NewRun {
        id: Uuid::from_u128(7),
        kind: RunKind::Run,
        mode: "enforce".into(),
        started_at: noon(),
        started_by: "ada@here".into(),
        version: "0.1.0".into(),
        approved_by: None,
        ticket: None,
    };
    store.begin_run(&run).await.unwrap();
    (folder, store, run.id)
}

#[tokio::test]
async fn what_a_hold_covers_is_not_journaled_and_what_shares_its_write_is() {
    let (_folder, store, run) = begun().await;
    let lease = lease(&store).await;
    let inner = manifest("{\"inner\": 1}");
    let other = manifest("{\"other\": 1}");
    let index = manifest(&format!("{{\"manifests\": [{{\"digest\": \"{}\"}}]}}", inner.digest));
    store.hold(&hold("held", None, 1)).await.unwrap();
    store.hold(&hold("elsewhere", Some(inner.digest.clone()), 1)).await.unwrap();
    store.hold(&hold("over", None, -1)).await.unwrap();
    let ended = hold("ended", None, 1);
    store.hold(&ended).await.unwrap();
    assert_eq!(store.end_holds(ENDPOINT, &ended.repository, &ended.tag, "bob@here", noon()).await.unwrap(), 1);
    let away = Hold { endpoint: "https://fabrikam.azurecr.io".into(), ..hold("away", None, 1) };
    store.hold(&away).await.unwrap();

    let cases = [
        ("held", &other, true),
        ("same-image", &inner, true),
        ("around-it", &index, true),
        ("over", &other, false),
        ("ended", &other, false),
        ("away", &other, false),
        ("free", &other, false),
    ];
    let intents = cases.map(|(tag, manifest, _)| (intent(tag, manifest), manifest));
    let written = intents.iter().map(|(intent, manifest)| store.intend(&lease, run, intent, manifest, noon()));
    let written = futures::future::join_all(written).await;
    for ((tag, _, held), written) in cases.iter().zip(written) {
        match written {
            Ok(_) => assert!(!held, "{tag}"),
            Err(error) => {
                assert_eq!((error.kind, *held), (StateErrorKind::Held, true), "{tag}: {error}");
                assert!(error.chain().starts_with("ada@here holds tag ") && error.chain().ends_with("incident 42"));
            }
        }
    }
    let journaled: Vec<String> =
        store.journal(run).await.unwrap().iter().map(|entry| entry.intent.tag.to_string()).collect();
    assert_eq!(journaled, ["over", "ended", "away", "free"]);

    // So with a manifest that was untagged before.
    let deletion = Intent { action: Action::DeleteUntagged, ..intent("gone", &inner) };
    assert_eq!(store.intend(&lease, run, &deletion, &inner, noon()).await.unwrap_err().kind, StateErrorKind::Held);
    // A restore is no removal.
    let back = Intent { action: Action::Restore, ..intent("held", &other) };
    store.intend(&lease, run, &back, &other, noon()).await.unwrap();
    let elsewhere = Intent { repository: "shop/web".parse().unwrap(), ..intent("held", &other) };
    store.intend(&lease, run, &elsewhere, &other, noon()).await.unwrap();
}

#[tokio::test]
async fn whoever_asks_for_no_more_removals_is_heard_until_that_is_over() {
    let (_folder, store, run) = begun().await;
    let lease = lease(&store).await;
    let image = manifest("{}");
    let request = store.request_stop("`tagwarden restore` of bob@here", noon() + 3.minutes()).await.unwrap();
    let error = store.intend(&lease, run, &intent("v1", &image), &image, noon()).await.unwrap_err();
    assert_eq!((error.kind, &*error.chain()), (StateErrorKind::Interrupted, "`tagwarden restore` of bob@here"));
    assert_eq!(store.stop_request(noon()).await.unwrap().as_deref(), Some("`tagwarden restore` of bob@here"));
    // One whose author was killed stops nothing for good.
    store.intend(&lease, run, &intent("v2", &image), &image, noon() + 3.minutes()).await.unwrap();
    store.withdraw_stop_request(request, noon()).await.unwrap();
    store.intend(&lease, run, &intent("v1", &image), &image, noon()).await.unwrap();
    assert_eq!(store.stop_request(noon()).await.unwrap(), None);
}

#[tokio::test]
async fn a_removal_keeps_its_time_and_a_restore_its_hold() {
    let (_folder, store, run) = begun().await;
    let lease = lease(&store).await;
    let image = manifest("{}");
    let dates = [
        Date::Pushed(noon()),
        Date::Created(noon()),
        Date::FirstSeen(noon()),
        Date::Original(noon(), DateOrigin::FirstSeen),
        Date::Unknown(tagwarden::domain::UndatedCause::Future(noon())),
    ];
    for (number, date) in dates.into_iter().enumerate() {
        let removed = Intent { date: Some(date), ..intent(&format!("v{number}"), &image) };
        store.intend(&lease, run, &removed, &image, noon()).await.unwrap();
    }
    let entries = store.journal(run).await.unwrap();
    for (entry, date) in entries.iter().zip(dates) {
        assert_eq!(OriginalDate::from(entry.intent.date.unwrap()), OriginalDate::from(date), "{date:?}");
        assert_eq!(entry.intent.endpoint.as_deref(), Some(ENDPOINT));
    }
    // What is put back: the hold goes with the intent, and ends with it where the tag was not put.
    for (outcome, held) in [(Outcome::Failed("no".into()), 0), (Outcome::Done(String::new()), 1)] {
        let back = Intent { action: Action::Restore, ..intent("back", &image) };
        let hold = Hold { origin: HoldOrigin::Restore, ..hold("back", Some(image.digest.clone()), 5) };
        let restoring = RestoreRecord { original: Some(OriginalDate::Unknown), hold: Some(hold) };
        let journaled = store.intend_restore(&lease, run, &back, &image, restoring, noon()).await.unwrap();
        assert_eq!(store.holds(noon()).await.unwrap().len(), 1, "before the tag is put");
        store.record_restore_outcome(journaled.id(), &outcome, None, noon()).await.unwrap();
        assert_eq!(store.holds(noon()).await.unwrap().len(), held, "{outcome:?}");
    }
}

/// The tables of the version before, with an entry of it.
#[tokio::test]
async fn the_state_of_the_version_before_opens_and_keeps_its_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.db");
    old_state(&path, 5).await;
    let image = manifest("{}");
    run_sql(
        &path,
        "INSERT INTO runs (id, kind, mode, started_at, started_by, version) VALUES
         ('01930000-0000-7000-8000-000000000001', 'run', 'enforce', '2026-11-20T00:00:00.000000000Z', 'a@b', '0')",
    )
    .await;
    for statement in [
        "INSERT INTO journal (run, action, registry, repository, tag, digest, media_type, proof, intended_at, outcome, detail,
                              settled_at)
         VALUES ('01930000-0000-7000-8000-000000000001', 'untag', 'contoso', 'shop/api', 'v1', ?1, ?2, '[]',
                 '2026-11-20T00:00:00.000000000Z', 'done', '', '2026-11-20T00:00:01.000000000Z')",
        "INSERT INTO journaled_manifests (digest, bytes) VALUES (?1, ?3)",
    ] {
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        sqlx::query(statement)
            .bind(image.digest.to_string())
            .bind(&*image.media_type)
            .bind(&*image.bytes)
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }
    let store = StateStore::open(&path).await.unwrap();
    let run = "01930000-0000-7000-8000-000000000001".parse().unwrap();
    let entry = store.journal(run).await.unwrap().remove(0);
    assert_eq!((entry.intent.endpoint.clone(), entry.intent.date), (None, None));
    assert!(matches!(entry.outcome, Some((Outcome::Done(_), _))));
    assert_eq!(store.manifest_of(&entry).await.unwrap(), image);
    assert!(store.holds(noon()).await.unwrap().is_empty());
    assert!(store.hold(&hold("v1", None, 1)).await.unwrap());
}

async fn run_sql(path: &Path, statement: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
