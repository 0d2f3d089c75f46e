//! Putting back what was deleted.

use tagwarden::apply::ExpectedRestore;
use tagwarden::workflow::RestoreSelection;

use super::*;

impl WorkflowFixture {
    /// The family of candidate-0 is deleted. With the run that untagged it.
    async fn deleted_family() -> (Self, ManifestTree, String, BTreeSet<Digest>) {
        let walk = Self::azure(|options| options).await;
        walk.policies(THEN);
        let family = walk.family("candidate-0");
        walk.settings("enforce", "", "");
        let run = walk.enforce().await.run_id();
        let before = walk.manifests();
        walk.advance_clock(9 * 24);
        let came = walk.enforce().await;
        assert_eq!(walk.deleted(&came, &family.names()).await, outcomes(Some(&family), &[]));
        (walk, family, run, before)
    }

    async fn outlook(&self, image: &str) -> ExpectedRestore {
        let app = self.open().await.unwrap();
        let foreseen = app.preview_restore(&RestoreSelection::Image(image.into())).await.unwrap();
        app.close().await;
        foreseen.into_iter().map(|one| one.preview.expected).next().unwrap()
    }
}

#[tokio::test]
async fn what_was_deleted_comes_back_with_all_that_went_along() {
    let (walk, family, run, before) = Box::pin(WorkflowFixture::deleted_family()).await;
    let deleting = walk.recorded_runs().await;
    let ExpectedRestore::Doubtful(why) = walk.outlook("main/shop/api:candidate-0").await else {
        panic!("it was deleted")
    };
    let words = format!("Tagwarden deleted its manifest on 2026-11-29 12:00 UTC (run {})", deleting.last().unwrap());
    assert!(why.contains(&words) && why.contains("with 7 more that went along"), "{why}");
    assert!(why.contains("only while its layers and configuration are there"), "{why}");

    let restored = walk.restore(&run).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{:?}", restored.restored);
    assert_eq!(walk.tags(), *walk.before.lock().unwrap());
    assert_eq!(walk.manifests(), before, "byte for byte, and nothing else");
    walk.audit(None).await;
    let journal = walk.journal().await;
    let put = journal.iter().filter(|entry| entry.intent.action == Action::RestoreManifest).count();
    let children = family.index.children.len();
    assert_eq!(put, children + 3, "the images, two on the index, one on an image");
    assert!(journal.iter().all(|entry| entry.outcome.is_some()));
    assert_eq!(walk.outlook("main/shop/api:candidate-0").await, ExpectedRestore::AlreadyThere);

    // What is back is judged by its tags, and what came along waits for nothing.
    walk.advance_clock(9 * 24);
    let plan = walk.plan().await;
    assert!(plan.deletions.is_empty(), "{:?}", plan.deletions);
    let again = walk.restore(&run).await.unwrap();
    assert!(again.restored.iter().all(|one| one.already_there), "{:?}", again.restored);

    // Let go once more, it goes once more: the hold of the restore is over.
    walk.policies(&THEN.replace("keep: [{ newest: 2 }]", "keep: none"));
    walk.enforce().await;
    walk.advance_clock(9 * 24);
    let came = walk.enforce().await;
    let mut all = outcomes(Some(&family), &[]);
    all.extend(["candidate-5 done".to_owned(), "candidate-6 done".to_owned()]);
    all.sort();
    assert_eq!(walk.deleted(&came, &family.names()).await, all);
}

#[tokio::test]
async fn without_its_layers_it_does_not_come_back() {
    let (walk, _, run, _) = Box::pin(WorkflowFixture::deleted_family()).await;
    let _ = walk.registry.collect_garbage();
    assert!(matches!(walk.outlook("main/shop/api:candidate-0").await, ExpectedRestore::Doubtful(_)));
    let left = walk.manifests();
    let restored = walk.restore(&run).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 4);
    for one in &restored.restored {
        let Outcome::Failed(why) = &one.outcome else { panic!("{one:?}") };
        assert!(why.contains("push the image again"), "{why}");
        if one.intent.tag.as_str() == "candidate-0" {
            assert!(why.contains("which is in it, could not be put back"), "{why}");
        } else if one.intent.tag.as_str().starts_with("candidate") {
            assert!(why.contains("Tagwarden deleted its manifest on 2026-11-29"), "{why}");
        }
    }
    assert_eq!(walk.manifests(), left);
    let journal = walk.journal().await;
    assert!(journal.iter().all(|entry| entry.outcome.is_some()));
}

/// An image in the index is neither there nor in the journal.
#[tokio::test]
async fn without_an_image_in_it_an_index_cannot_come_back() {
    let (walk, family, run, _) = Box::pin(WorkflowFixture::deleted_family()).await;
    let child = family.index.children[1].digest.to_string();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(walk.path("tagwarden.db"));
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("UPDATE journaled_manifests SET bytes = x'7b7d' WHERE digest = ?1")
        .bind(&child)
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let ExpectedRestore::Incomplete(why) = walk.outlook("main/shop/api:candidate-0").await else {
        panic!("an image is lost")
    };
    assert!(why.contains(&child) && why.contains("push it first"), "{why}");
    let restored = walk.restore(&run).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 4);
    assert_eq!(walk.remaining_tags(), EXPIRED_TAGS, "the others come back");
    assert!(!walk.tags().contains_key(&(REPOSITORY.to_owned(), "candidate-0".to_owned())));
    let put = |entry: &JournalEntry| entry.intent.action == Action::RestoreManifest;
    assert!(!walk.journal().await.iter().any(put), "nothing is put for nothing");
}

/// The images in it are back, the tag is not: that is tried again, and they are not put twice.
#[tokio::test]
async fn an_index_that_failed_after_its_images_comes_back_the_next_time() {
    let (walk, family, run, before) = Box::pin(WorkflowFixture::deleted_family()).await;
    let fault = Fault::on("manifests/candidate-0", FaultKind::status(500)).method(http::Method::PUT);
    walk.registry.inject(fault);
    assert_eq!(walk.restore(&run).await.unwrap().outcome().exit_code(), 4);
    assert!(family.index.children.iter().all(|child| walk.manifests().contains(&child.digest)));
    walk.registry.clear_faults();
    let app = walk.open().await.unwrap();
    let what = RestoreSelection::Repository { name: "main/shop/api".into(), since: None };
    let restored = app.restore(&what).await.unwrap();
    app.close().await;
    assert_eq!(restored.outcome().exit_code(), 0, "{:?}", restored.restored);
    assert_eq!((walk.tags(), walk.manifests()), (walk.before.lock().unwrap().clone(), before));
    let journal = walk.journal().await;
    let put = journal.iter().filter(|entry| entry.intent.action == Action::RestoreManifest);
    assert_eq!(put.count(), family.index.children.len() + 3);
}

impl WorkflowFixture {
    async fn recorded_runs(&self) -> Vec<String> {
        let app = self.open().await.unwrap();
        let mut runs: Vec<String> =
            app.store.runs(1000).await.unwrap().iter().map(|record| record.run.id.to_string()).collect();
        app.close().await;
        runs.sort();
        runs
    }
}
