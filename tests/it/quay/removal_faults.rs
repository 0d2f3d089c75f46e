//! Removals that Quay reports otherwise than it carries them out, and pushes in their instant.

use http::Method;
use jiff::{SignedDuration, ToSpan as _};
use tagwarden::apply;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::domain::Outcome;
use tagwarden::report;

use super::{fixture, image as build, put};
use crate::workflow::{StepResult, WorkflowFixture, noon};

const POLICY: &str = "policies:\n  - name: candidates\n    select: { tags: [\"candidate-*\"] }\n    keep: [{ newest: 20 }]\n    mode: enforce\n";

/// `shop/api` with 23 candidates, the oldest three of which would be removed.
async fn candidates() -> WorkflowFixture {
    let walk = fixture(|options| options, POLICY).await;
    for number in 0..23 {
        let tag = format!("candidate-{number:03}");
        put(&walk.registry, "shop/api", &tag, &build(&tag, 100), 100 - number);
    }
    walk.snapshot_tags();
    walk
}

fn deletion(tag: &str, what: FaultKind) -> Fault {
    Fault::on(&format!("/tag/{tag}"), what).method(Method::DELETE)
}

fn outcome<'a>(came: &'a StepResult, tag: &str) -> &'a str {
    came.tags.get(&format!("shop/api:{tag}")).map_or("-", String::as_str)
}

/// Someone pushes an image onto the tag after the last look at it, so many seconds before Quay removes it. Nothing else names
/// that image, so Quay hides it at once.
#[tokio::test]
async fn a_tag_that_moves_in_the_instant_of_its_removal_gets_its_image_back() {
    for seconds in [0, 2] {
        let walk = candidates().await;
        let plan = walk.plan().await;
        let (pushed, pushed_at) = (build("pushed", 0), noon() - seconds.seconds());
        let former = walk.digest("shop/api", "candidate-001");
        let time = (noon() - SignedDuration::from_hours(24 * 99), pushed_at);
        walk.registry.quay(|quay| quay.record_former("shop/api", "candidate-001", &former, time));
        let image = pushed.clone();
        let moves = FaultKind::before_request(move |content| {
            content.put_image("shop/api", Some("candidate-001"), &image);
            assert!(content.date_tag("shop/api", "candidate-001", pushed_at, pushed_at));
        });
        walk.registry.inject(deletion("candidate-001", moves).times(1));
        let came = walk.apply_text(&report::render(&plan, report::Format::Json)).await;
        assert_eq!((came.code, outcome(&came, "candidate-001")), (0, "reverted"), "{seconds}: {}", came.text);
        assert_eq!(walk.registry.tags("shop/api").get("candidate-001"), Some(&pushed.digest), "{seconds}");
        assert!(came.text.contains(&format!("the tag moved from {former} to {}", pushed.digest)), "{}", came.text);
        assert_eq!(came.tags.values().filter(|label| *label == "done").count(), 2, "{}", came.text);
    }
}

/// A registry that says it removed a tag and did not is found out at any tag, and not asked for more.
#[tokio::test]
async fn a_removal_that_quay_only_reports_is_a_failure() {
    for tag in ["candidate-000", "candidate-001", "candidate-002"] {
        let walk = candidates().await;
        let plan = walk.plan().await;
        walk.registry.inject(deletion(tag, FaultKind::status(204)));
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, outcome(&came, tag)), (4, "failed"), "{}", came.text);
        let words = format!("the registry said that it removed the tag, and shop/api:{tag} is still there");
        assert!(came.text.contains(&words), "{}", came.text);
        assert!(walk.registry.tags("shop/api").contains_key(tag));
    }
}

/// A read replica of Quay's database shows the tag for one more look.
#[tokio::test]
async fn a_history_that_lags_behind_is_read_again() {
    let walk = candidates().await;
    let plan = walk.plan().await;
    let (digest, time) =
        (walk.digest("shop/api", "candidate-001"), (noon() - SignedDuration::from_hours(24 * 99), noon()));
    walk.registry.quay(|quay| quay.record_former("shop/api", "candidate-001", &digest, time));
    walk.registry.inject(deletion("candidate-001", FaultKind::status(204)));
    let gone = FaultKind::before_request(|content| assert!(content.delete_tag("shop/api", "candidate-001")));
    // The look before the removal, and the history that lags behind.
    walk.registry.inject(Fault::on("specificTag=candidate-001", gone).after(2).times(1));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, outcome(&came, "candidate-001")), (0, "done"), "{}", came.text);
    assert_eq!(walk.pauses.lock().unwrap().len(), 1);
}

/// Each removal is carried out and reported as failed. The list of all tags is not read: the run itself changes it.
#[tokio::test]
async fn a_removal_that_was_done_and_reported_as_failed_takes_no_list() {
    let walk = candidates().await;
    let plan = walk.plan().await;
    walk.registry.inject(deletion("candidate", FaultKind::HandledButStatus(500)));
    walk.registry.clear_requests();
    let came = walk.apply(&plan).await;
    let done = came.tags.values().filter(|label| *label == "done").count();
    assert_eq!((came.code, done), (0, 3), "{}", came.text);
    let lists = walk.registry.requests().into_iter().filter(|request| request.path.contains("page=1"));
    assert_eq!(lists.count(), 1, "when the repository is read again");
}

/// The tag moves in the instant of its removal, and the history cannot be read: nobody knows what was lost, and that is said.
#[tokio::test]
async fn a_removal_whose_digest_cannot_be_seen_says_so() {
    let walk = candidates().await;
    let plan = walk.plan().await;
    // The first look is right before the removal.
    walk.registry.inject(Fault::on("specificTag=candidate-001", FaultKind::HtmlPage).after(1).times(1));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, outcome(&came, "candidate-001")), (0, "done"), "{}", came.text);
    let unknown = |outcome: &Outcome| apply::is_digest_unknown(outcome);
    let applied = &came.result.as_ref().unwrap().applied;
    let found: Vec<_> = applied.iter().filter(|applied| unknown(&applied.outcome)).collect();
    assert_eq!(found.iter().map(|applied| applied.removal.tag.as_str()).collect::<Vec<_>>(), ["candidate-001"]);
    let journal = walk.journal().await;
    let entry = journal.iter().find(|entry| entry.intent.tag.as_str() == "candidate-001").unwrap();
    let Some((Outcome::Done(evidence), _)) = &entry.outcome else { panic!("{entry:?}") };
    assert!(evidence.contains("so it is not known which digest the tag named"), "{evidence}");
}
