//! What a restore would come to, and the restore of a repository.

use tagwarden::apply::ExpectedRestore;
use tagwarden::demo::image::{self, multi_arch};
use tagwarden::workflow::{RestoreCandidate, RestoreSelection};

use super::*;

const REPOSITORY: &str = "main/shop/api";

impl WorkflowFixture {
    async fn foresee(&self, what: &RestoreSelection) -> Result<Vec<RestoreCandidate>, RunError> {
        let app = self.open().await?;
        let foreseen = app.preview_restore(what).await;
        app.close().await;
        foreseen
    }

    /// The outlook of each tag, by name.
    async fn outlooks(&self, what: &RestoreSelection) -> Vec<(String, &'static str)> {
        let foreseen = self.foresee(what).await.unwrap();
        let one = |one: &RestoreCandidate| (one.preview.entry.intent.tag.to_string(), one.preview.expected.label());
        let mut outlooks: Vec<_> = foreseen.iter().map(one).collect();
        outlooks.sort();
        outlooks
    }

    async fn restore_repository(&self, since: Option<Timestamp>) -> Result<RestoreRunResult, RunError> {
        let app = self.open().await?;
        let ended = app.restore(&RestoreSelection::Repository { name: REPOSITORY.into(), since }).await;
        app.close().await;
        ended
    }
}

fn repository() -> RestoreSelection {
    RestoreSelection::Repository { name: REPOSITORY.into(), since: None }
}

#[tokio::test]
async fn what_would_come_back_is_told_and_nothing_is_changed() {
    let walk = WorkflowFixture::new().await;
    walk.put(
        "shop/api",
        "candidate-0",
        &multi_arch(noon() - (200 * 24).hours(), |platform| vec![Blob::layer(&format!("{platform:?}"), 100)]),
    );
    let run = walk.apply(&walk.plan().await).await.run_id();
    let fresh = walk.digest("shop/api", "candidate-6");
    assert!(walk.registry.move_tag("shop/api", "candidate-2", &fresh));
    let same = walk.digest("shop/api", "candidate-3");
    assert!(walk.registry.move_tag("shop/api", "candidate-3", &same));
    let runs = |what: Vec<(String, &'static str)>| what.into_iter().map(|(_, label)| label).collect::<Vec<_>>();
    let expected = ["returns", "returns", "moved", "already-present", "returns"];
    let (before, journal) = (walk.tags(), walk.journal().await.len());
    assert_eq!(runs(walk.outlooks(&RestoreSelection::Run(run)).await), expected);
    assert_eq!(runs(walk.outlooks(&repository()).await), expected);
    let image = RestoreSelection::Image("main/shop/api:candidate-4".into());
    assert_eq!(runs(walk.outlooks(&image).await), ["returns"]);

    let _ = walk.registry.collect_garbage();
    let after = ["incomplete", "uncertain", "moved", "already-present", "uncertain"];
    assert_eq!(runs(walk.outlooks(&repository()).await), after);
    let foreseen = walk.foresee(&RestoreSelection::Image("main/shop/api:candidate-0".into())).await.unwrap();
    let ExpectedRestore::Incomplete(why) = &foreseen[0].preview.expected else { panic!("{foreseen:?}") };
    assert!(why.contains("neither in the registry nor in the journal") && why.contains("push them first"), "{why}");
    assert_eq!((walk.tags(), walk.journal().await.len()), (before, journal));
}

#[tokio::test]
async fn a_repository_comes_back_as_far_as_it_was_removed_since() {
    let walk = WorkflowFixture::new().await;
    walk.apply(&walk.plan().await).await;
    walk.advance_clock(2);
    // One more is old enough now that another was built.
    walk.put("shop/api", "candidate-7", &image("candidate-7", 1));
    walk.policies(&POLICIES.replace("newest: 2", "newest: 1"));
    let second = walk.now();
    let plan = walk.plan().await;
    assert_eq!(walk.apply_text(&report::render(&plan, Format::Json)).await.code, 0);
    assert_eq!(walk.registry.tags("shop/api").len(), 2);

    assert_eq!(walk.restore_repository(Some(second)).await.unwrap().restored.len(), 2);
    assert_eq!(walk.remaining_tags(), [""; 0], "what went before stays away");
    // What is back is not put back again.
    assert_eq!(walk.restore_repository(None).await.unwrap().restored.len(), 4);
    assert_eq!(walk.remaining_tags(), EXPIRED_TAGS);
    let error = walk.restore_repository(None).await.unwrap_err();
    assert!(error.to_string().contains("removed nothing from main/shop/api that is not back"), "{error}");
}

#[tokio::test]
async fn a_repository_is_named_by_its_registry_or_host() {
    let walk = WorkflowFixture::new().await;
    walk.apply(&walk.plan().await).await;
    let named = |name: String| RestoreSelection::Repository { name, since: None };
    let host = format!("{}/shop/api", walk.registry.host());
    for right in [host.as_str(), "main/shop/api", "shop/api"] {
        assert_eq!(walk.foresee(&named(right.to_owned())).await.unwrap().len(), 4, "{right}");
    }
    for wrong in ["mainshop/api", "other/shop/api", "main/", "main/shop/api:candidate-1"] {
        let error = walk.foresee(&named(wrong.into())).await.unwrap_err();
        assert_eq!(error.exit_code(), 2, "{wrong}: {error}");
    }
}

#[tokio::test]
async fn what_the_registry_collected_is_told_as_lost() {
    let walk = WorkflowFixture::new().await;
    let index = multi_arch(noon() - (200 * 24).hours(), |platform| vec![Blob::layer(&format!("{platform:?}"), 100)]);
    walk.put("shop/api", "candidate-0", &index);
    let run = walk.apply(&walk.plan().await).await.run_id();
    let _ = walk.registry.collect_garbage();
    let ended = walk.restore(&run).await.unwrap();
    assert_eq!(ended.outcome().exit_code(), 4);
    for one in &ended.restored {
        let Outcome::Failed(why) = &one.outcome else { panic!("{one:?}") };
        let index = one.intent.tag.as_str() == "candidate-0";
        let words =
            if index { "in its index are neither in the registry nor in the journal" } else { "push the image again" };
        assert!(why.contains(words), "{why}");
    }
    assert_eq!(walk.remaining_tags(), [""; 0]);
}

/// An index within an index is there, and an image in it is not: the registry looks no deeper than one level.
#[tokio::test]
async fn an_index_that_lacks_an_image_is_not_called_restored() {
    let walk = WorkflowFixture::new().await;
    let inner = multi_arch(noon() - (200 * 24).hours(), |platform| vec![Blob::layer(&format!("{platform:?}"), 100)]);
    let lost = inner.children[1].digest.clone();
    let outer = image::index(image::Format::Oci, std::slice::from_ref(&inner));
    walk.put("shop/api", "candidate-0", &outer);
    let run = walk.apply(&walk.plan().await).await.run_id();
    let image = RestoreSelection::Image("main/shop/api:candidate-0".into());
    assert_eq!(walk.foresee(&image).await.unwrap()[0].preview.expected, ExpectedRestore::Returns);
    let gone = walk.registry.content(|content| content.delete_manifest("shop/api", &lost));
    assert!(gone);
    let foreseen = walk.foresee(&image).await.unwrap();
    let ExpectedRestore::Incomplete(why) = &foreseen[0].preview.expected else { panic!("{foreseen:?}") };
    assert!(why.starts_with(&format!("{lost} in its index is neither in the registry nor in the journal")), "{why}");
    let ended = walk.restore(&run).await.unwrap();
    assert_eq!(ended.outcome().exit_code(), 4);
    let incomplete: Vec<_> = ended.restored.iter().filter(|one| one.is_incomplete).collect();
    assert_eq!(incomplete.len(), 1, "{:?}", ended.restored);
    let Outcome::Done(evidence) = &incomplete[0].outcome else { panic!("{incomplete:?}") };
    assert!(evidence.starts_with(&format!("incomplete: {lost} in its index")), "{evidence}");
    assert_eq!(walk.digest("shop/api", "candidate-0"), outer.digest);
}
