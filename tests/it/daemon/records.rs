//! What the daemon records, and what of it is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use tagwarden::domain::{Digest, Gap, GapTarget, Inventory, Manifest, ManifestDetail, Registry, Repository, Tag};
use tagwarden::registry::{ContentCache as _, RawManifest};
use tagwarden::state::{NewRun, RunContext, RunKind, StateStore};
use uuid::Uuid;

use super::at;
use crate::support::garbage::collect_garbage;

fn noon() -> Timestamp {
    at("2026-11-23T12:00:00Z")
}

async fn fresh() -> (tempfile::TempDir, StateStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap();
    (folder, store)
}

fn manifest(text: &str) -> RawManifest {
    let bytes: Arc<[u8]> = text.as_bytes().into();
    RawManifest { digest: Digest::of(&bytes), media_type: "application/vnd.oci.image.manifest.v1+json".into(), bytes }
}

fn new_run(number: u128, started_at: Timestamp) -> NewRun {
    NewRun {
        id: Uuid::from_u128(number),
        kind: RunKind::Run,
        mode: "enforce".into(),
        started_at,
        started_by: "anna@build-7".into(),
        version: "0.1.0".into(),
        approved_by: None,
        ticket: None,
    }
}

/// A store's tables by name, with how many rows each has.
async fn rows(store: &StateStore, table: &'static str) -> i64 {
    use sqlx::{ConnectOptions as _, Connection as _};
    let mut connection =
        sqlx::sqlite::SqliteConnectOptions::new().filename(store.location().path().unwrap()).connect().await.unwrap();
    let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    let count = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    count
}

#[tokio::test]
async fn only_what_the_registries_no_longer_hold_is_tidied_up() {
    let (_folder, store) = fresh().await;
    let (kept, gone) = (manifest("kept"), manifest("gone"));
    let tag = |name: &str, image: &RawManifest| Tag {
        name: name.parse().unwrap(),
        digest: Some(image.digest.clone()),
        pushed_at: None,
        first_seen: None,
        lock: None,
    };
    let repository = |name: &str, image: &RawManifest| {
        let mut repository = Repository::empty(name.parse().unwrap());
        repository.tags = vec![tag("v1", image)];
        let held = Manifest {
            media_type: Arc::clone(&image.media_type),
            size: 1,
            config: Some(Box::new(image.digest.clone())),
            blobs: [].into(),
            children: Vec::new(),
            subject: None,
            created_at: None,
            lock: None,
            detail: ManifestDetail::Full,
        };
        repository.manifests.insert(image.digest.clone(), held);
        repository
    };
    let registry = |repositories| Inventory {
        registries: vec![Registry { repositories, ..Registry::empty("contoso".parse().unwrap(), "distribution") }],
    };
    let mut both = registry(vec![repository("shop/api", &kept), repository("shop/web", &gone)]);
    store.observe(&mut both, noon()).await.unwrap();
    for image in [&kept, &gone] {
        store.store_manifest(image).await;
        store.store_created_at(&image.digest, None).await;
    }
    let counts = async || {
        [rows(&store, "manifests").await, rows(&store, "configs").await, rows(&store, "observed_repositories").await]
    };
    let long = noon() - 400.hours();
    collect_garbage(&store, &both, noon(), long).await.unwrap();
    assert_eq!(counts().await, [2, 2, 2]);

    // What could not be read may be what was not found.
    let mut unread = registry(vec![repository("shop/api", &kept)]);
    unread.registries[0].gaps.push(Gap {
        target: GapTarget::Catalogue,
        kind: "http-500",
        has_help: false,
        message: "".into(),
    });
    collect_garbage(&store, &unread, noon(), noon() + 1.hour()).await.unwrap();
    assert_eq!(counts().await, [2, 2, 2]);

    let one = registry(vec![repository("shop/api", &kept)]);
    collect_garbage(&store, &one, noon(), long).await.unwrap();
    assert_eq!(counts().await, [1, 1, 2], "when tags were first seen is forgotten late");
    assert!(store.manifest(&kept.digest).await.is_some());
    // It is back, and gone again: the time begins anew.
    collect_garbage(&store, &both, noon() + 300.hours(), noon() - 100.hours()).await.unwrap();
    collect_garbage(&store, &one, noon() + 300.hours(), noon() - 100.hours()).await.unwrap();
    collect_garbage(&store, &one, noon() + 401.hours(), noon() + 1.hour()).await.unwrap();
    assert_eq!(counts().await, [1, 1, 2]);
    collect_garbage(&store, &one, noon() + 701.hours(), noon() + 301.hours()).await.unwrap();
    assert_eq!(counts().await, [1, 1, 1]);
    assert_eq!(rows(&store, "observations").await, 1);
}

#[tokio::test]
async fn what_a_run_went_by_and_when_schedules_were_looked_after_come_back() {
    let (folder, store) = fresh().await;
    let run_context = RunContext {
        revision: Some("sha256:1".into()),
        commit: Some("2".repeat(40)),
        enforced_policies: Some("a, b".into()),
        blocked_by: Some("frozen".into()),
        override_reason: None,
        continues: Some(new_run(7, noon()).id),
        signed_by: None,
    };
    store.begin_run_with_context(&new_run(1, noon()), &run_context).await.unwrap();
    store.begin_run(&new_run(2, noon())).await.unwrap();
    assert_eq!(store.schedule_progress().await.unwrap(), BTreeMap::new());
    let handled = |pairs: &[(&str, Timestamp)]| pairs.iter().map(|(key, at)| ((*key).to_owned(), *at)).collect();
    store.record_schedule_progress(&handled(&[("a", noon()), ("b", noon())])).await.unwrap();
    let later: BTreeMap<String, Timestamp> = handled(&[("b", noon() + 1.hour()), ("c", noon())]);
    store.record_schedule_progress(&later).await.unwrap();
    let store = {
        store.close().await;
        StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap()
    };
    assert_eq!(store.schedule_progress().await.unwrap(), later);
    assert_eq!(store.run_context(new_run(1, noon()).id).await.unwrap(), run_context);
    assert_eq!(store.run_context(new_run(2, noon()).id).await.unwrap(), RunContext::default());
}
