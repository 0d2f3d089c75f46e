//! What removals showed of a registry, as the state keeps it.

use std::path::Path;

use jiff::{Timestamp, ToSpan as _};
use tagwarden::domain::RemovalMethod;
use tagwarden::state::{DeletionResponse, Experience, StateStore, UntagExperience};

use crate::support::old_state::old_state;

use UntagExperience::{ManifestDestroyed, ManifestSurvives, Unsupported};

const ENDPOINT: &str = "https://registry.example:5000";

fn day(day: i64) -> Timestamp {
    "2026-11-01T03:00:00Z".parse::<Timestamp>().unwrap() + (24 * day).hours()
}

async fn fresh() -> (tempfile::TempDir, StateStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap();
    (folder, store)
}

/// What was recorded on which days, and what is known then, since when and until when.
type Case<'a> = (&'a [(UntagExperience, i64)], (UntagExperience, i64, i64));

#[tokio::test]
async fn what_an_untag_did_last_counts_and_a_destruction_always() {
    let cases: &[Case<'_>] = &[
        (&[(ManifestSurvives, 1)], (ManifestSurvives, 1, 1)),
        (&[(ManifestSurvives, 1), (ManifestSurvives, 3)], (ManifestSurvives, 1, 3)),
        // Of two processes the slower one may write what happened earlier.
        (&[(ManifestSurvives, 3), (ManifestSurvives, 1)], (ManifestSurvives, 1, 3)),
        (&[(Unsupported, 1), (Unsupported, 4)], (Unsupported, 1, 4)),
        (&[(ManifestSurvives, 1), (ManifestDestroyed, 2)], (ManifestDestroyed, 2, 2)),
        (&[(ManifestDestroyed, 1), (ManifestSurvives, 2)], (ManifestDestroyed, 1, 1)),
        (&[(ManifestDestroyed, 1), (Unsupported, 2)], (ManifestDestroyed, 1, 1)),
        // Downgraded, then upgraded.
        (&[(ManifestSurvives, 1), (Unsupported, 2)], (Unsupported, 2, 2)),
        (&[(ManifestSurvives, 1), (Unsupported, 2), (ManifestSurvives, 3)], (ManifestSurvives, 3, 3)),
        (&[(Unsupported, 3), (ManifestSurvives, 1)], (Unsupported, 3, 3)),
    ];
    for (recorded, (what, since, last_at)) in cases {
        let (_folder, store) = fresh().await;
        assert_eq!(store.untag_experience(ENDPOINT).await.unwrap(), None);
        for (what, at) in *recorded {
            store.record_untag_experience(ENDPOINT, *what, day(*at)).await.unwrap();
        }
        let expected = Experience { effect: *what, since: day(*since), last_at: day(*last_at) };
        assert_eq!(store.untag_experience(ENDPOINT).await.unwrap(), Some(expected), "{recorded:?}");
        let slash = format!("{ENDPOINT}/");
        assert_eq!(store.untag_experience(&slash).await.unwrap(), Some(expected), "with a slash at the end");
        assert_eq!(store.untag_experience("https://registry.example").await.unwrap(), None, "another port");
    }
}

#[tokio::test]
async fn a_refusal_is_believed_for_a_week_and_a_destruction_until_it_is_forgotten() {
    let (_folder, store) = fresh().await;
    store.record_untag_experience(ENDPOINT, Unsupported, day(0)).await.unwrap();
    store.record_untag_experience(ENDPOINT, Unsupported, day(2)).await.unwrap();
    let refused = store.untag_experience(ENDPOINT).await.unwrap().unwrap();
    for (at, counts) in [(2, true), (8, true), (9, false), (100, false)] {
        assert_eq!(refused.is_valid_at(day(at)), counts, "{at} days");
        let answer = store.deletion_response(ENDPOINT, RemovalMethod::Untag, day(at)).await.unwrap();
        assert_eq!(answer, counts.then_some((DeletionResponse::Unsupported, day(2))), "{at} days");
    }
    store.record_untag_experience(ENDPOINT, ManifestDestroyed, day(3)).await.unwrap();
    assert!(store.untag_experience(ENDPOINT).await.unwrap().unwrap().is_valid_at(day(4000)));

    let name = "contoso".parse().unwrap();
    store.mark_untag_destructive(&name, day(1)).await.unwrap();
    assert!(store.forget_experience(&name, ENDPOINT).await.unwrap());
    assert_eq!(store.untag_experience(ENDPOINT).await.unwrap(), None);
    assert_eq!(store.untag_destructive_since(&name).await.unwrap(), None);
    assert!(!store.forget_experience(&name, ENDPOINT).await.unwrap(), "nothing is left to forget");
}

#[tokio::test]
async fn answers_to_deletions_are_kept_by_method() {
    use DeletionResponse::{Accepted, Unsupported};
    let (_folder, store) = fresh().await;
    let answer = async |method| store.deletion_response(ENDPOINT, method, day(5)).await.unwrap();
    store.record_deletion_response(ENDPOINT, RemovalMethod::Untag, Unsupported, day(1)).await.unwrap();
    store.record_deletion_response(ENDPOINT, RemovalMethod::DeleteManifest, Accepted, day(1)).await.unwrap();
    assert_eq!(answer(RemovalMethod::Untag).await, Some((Unsupported, day(1))));
    assert_eq!(answer(RemovalMethod::DeleteManifest).await, Some((Accepted, day(1))));
    assert_eq!(store.untag_experience(ENDPOINT).await.unwrap().unwrap().effect, UntagExperience::Unsupported);

    store.record_deletion_response(ENDPOINT, RemovalMethod::Untag, Accepted, day(2)).await.unwrap();
    assert_eq!(answer(RemovalMethod::Untag).await, Some((Accepted, day(2))));
    assert_eq!(store.untag_experience(ENDPOINT).await.unwrap(), None, "nobody knows yet what an untag leaves");
    store.record_untag_experience(ENDPOINT, ManifestSurvives, day(3)).await.unwrap();
    assert_eq!(answer(RemovalMethod::Untag).await, Some((Accepted, day(3))));
}

/// Marks of the version before are by name. Where the registry is known, and was there when the mark was made, they count
/// for its endpoint; the others stay as they are.
#[tokio::test]
async fn marks_of_the_version_before_keep_their_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.db");
    old_state(&path, 6).await;
    for statement in [
        "INSERT INTO addresses (registry, address, since) VALUES
            ('known', 'https://known.example/', NULL),
            ('moved', 'https://now.example/', '2026-11-05T00:00:00.000000000Z'),
            ('settled', 'https://settled.example/', '2026-11-01T00:00:00.000000000Z')",
        "INSERT INTO destroyers (registry, since) VALUES
            ('known', '2026-11-02T03:00:00.000000000Z'), ('moved', '2026-11-02T03:00:00.000000000Z'),
            ('settled', '2026-11-02T03:00:00.000000000Z'), ('unknown', '2026-11-02T03:00:00.000000000Z')",
    ] {
        meddle(&path, statement).await;
    }
    let store = StateStore::open(&path).await.unwrap();
    for (name, endpoint, by_endpoint) in [
        ("known", "https://known.example", true),
        ("moved", "https://now.example", false),
        ("settled", "https://settled.example", true),
        ("unknown", "https://unknown.example", false),
    ] {
        let expected = Experience { effect: ManifestDestroyed, since: day(1), last_at: day(1) };
        assert_eq!(store.untag_experience(endpoint).await.unwrap(), by_endpoint.then_some(expected), "{name}");
        let marked = store.untag_destructive_since(&name.parse().unwrap()).await.unwrap();
        assert_eq!(marked, (!by_endpoint).then_some(day(1)), "{name}");
    }
}

async fn meddle(path: &Path, statement: &'static str) {
    use sqlx::{ConnectOptions as _, Connection as _};
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
