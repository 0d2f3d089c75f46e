//! Registries that fail while tags are removed, and tags that change under the hand.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind, TagDeletion};

use super::*;

/// Faults that are there once the plan is made, the exit code, what came of each of [`GOING`], and a phrase of it.
type Row = (&'static str, Vec<Fault>, u8, [&'static str; 4], &'static str);

/// A registry that asks for a long pause at the last of [`GOING`]: the removals go one by one, so that none is stopped by
/// it that comes before.
const LAST_BUSY: &str = "busy for an hour, at the last";

fn rows(walk: &WorkflowFixture) -> Vec<Row> {
    let on = |method: Method, tag: &str, what| Fault::on(&format!("manifests/{tag}"), what).method(method);
    let delete = |tag: &str, what| vec![on(Method::DELETE, tag, what)];
    let busy = |retry_after| FaultKind::TooManyRequests { retry_after };
    let elsewhere = walk.digest("shop/api", "candidate-6");
    let moves = move |tag: &'static str| {
        let elsewhere = elsewhere.clone();
        FaultKind::before_request(move |content| assert!(content.move_tag("shop/api", tag, &elsewhere)))
    };
    let no_such = FaultKind::Status {
        status: 404,
        headers: Vec::new(),
        body: r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#.into(),
    };
    let stops = ["failed", "stopped", "stopped", "stopped"];
    let without_first = ["failed", "done", "done", "done"];
    vec![
        ("busy once", delete("candidate-1", busy(None)).into_iter().map(|f| f.times(1)).collect(), 0, ["done"; 4], ""),
        ("busy at all", delete("candidate", busy(None)).into_iter().map(|f| f.times(6)).collect(), 0, ["done"; 4], ""),
        (
            "busy for a second",
            delete("candidate-2", busy(Some(1))).into_iter().map(|f| f.times(1)).collect(),
            0,
            ["done"; 4],
            "",
        ),
        ("busy for an hour", delete("candidate-1", busy(Some(3600))), 4, stops, "429"),
        (LAST_BUSY, delete("candidate-4", busy(Some(3600))), 4, ["done", "done", "done", "failed"], "429"),
        ("busy for good", delete("candidate-3", busy(None)), 4, ["done", "done", "failed", "done"], "429"),
        ("500", delete("candidate-3", FaultKind::status(500)), 4, ["done", "done", "failed", "done"], "500"),
        ("500 for all", delete("candidate", FaultKind::status(500)), 4, ["failed"; 4], "500"),
        ("500, and did it", delete("candidate-3", FaultKind::HandledButStatus(500)), 0, ["done"; 4], "although"),
        ("502, and did it", delete("candidate-3", FaultKind::HandledButStatus(502)), 0, ["done"; 4], "although"),
        (
            "hangs up",
            delete("candidate-3", FaultKind::HangUp { handled: false }),
            4,
            ["done", "done", "failed", "done"],
            "",
        ),
        (
            "hangs up, and did it",
            delete("candidate-3", FaultKind::HangUp { handled: true }),
            0,
            ["done"; 4],
            "although",
        ),
        ("cut, and did it", delete("candidate-3", FaultKind::CutBody), 0, ["done"; 4], ""),
        ("401", delete("candidate-1", FaultKind::status(401)), 4, stops, "auth"),
        ("403", delete("candidate-1", FaultKind::status(403)), 4, without_first, "auth"),
        ("405", delete("candidate-1", FaultKind::status(405)), 4, without_first, "405"),
        ("locked", delete("candidate-1", FaultKind::status(423)), 0, ["locked", "done", "done", "done"], "locked"),
        ("says it is gone", delete("candidate-1", no_such.clone()), 4, without_first, "is still there"),
        (
            "says it is gone, later",
            delete("candidate-3", no_such),
            4,
            ["done", "done", "failed", "done"],
            "is still there",
        ),
        ("says it did it", delete("candidate-1", FaultKind::status(202)), 4, stops, "is still there"),
        ("a page", delete("candidate-3", FaultKind::HtmlPage), 4, ["done", "done", "failed", "done"], "web page"),
        (
            "second look 500",
            vec![on(Method::HEAD, "candidate-3", FaultKind::status(500)).after(1)],
            4,
            ["done", "done", "failed", "done"],
            "could not be read again",
        ),
        (
            "second look 401",
            vec![on(Method::HEAD, "candidate-1", FaultKind::status(401)).after(1)],
            4,
            without_first,
            "could not be read again",
        ),
        (
            "moved before the second look",
            vec![on(Method::HEAD, "candidate-3", moves("candidate-3")).after(1)],
            0,
            ["done", "done", "moved", "done"],
            "has moved to",
        ),
        (
            "moved before the first look",
            vec![on(Method::HEAD, "candidate-3", moves("candidate-3")).times(1)],
            0,
            ["done", "done", "moved", "done"],
            "has moved to",
        ),
        (
            "moved while the registry was busy",
            vec![
                on(Method::DELETE, "candidate-3", moves("candidate-3")).times(1),
                on(Method::DELETE, "candidate-3", busy(None)).times(1),
            ],
            0,
            ["done", "done", "moved", "done"],
            "has moved to",
        ),
    ]
}

#[tokio::test]
async fn what_fails_is_told_and_journaled_as_it_is() {
    let count = rows(&WorkflowFixture::new().await).len();
    for number in 0..count {
        let walk = WorkflowFixture::new().await;
        let (name, faults, code, labels, phrase) = rows(&walk).remove(number);
        if name == LAST_BUSY {
            walk.settings("approved", "concurrency = 1", "");
        }
        let plan = walk.plan().await;
        for fault in faults {
            walk.registry.inject(fault);
        }
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, came.labels()), (code, labels.to_vec()), "{name}: {}", came.text);
        assert!(came.text.contains(phrase), "{name}: {}", came.text);
        // Whatever the registry did with what it left open is settled later.
        walk.registry.clear_faults();
        walk.advance_clock(1);
        walk.plan().await;
        walk.audit(Some(&plan)).await;
        assert!(walk.journal().await.iter().all(|entry| entry.outcome.is_some()), "{name}");
    }
}

#[tokio::test]
async fn many_failures_in_a_row_end_it() {
    let walk = WorkflowFixture::new().await;
    for number in 7..=30 {
        walk.put("shop/api", &format!("candidate-{number}"), &image(&format!("candidate-{number}"), 200 + number));
    }
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("manifests/candidate", FaultKind::status(500)).method(Method::DELETE));
    let came = walk.apply(&plan).await;
    let count = |label: &str| came.tags.values().filter(|found| *found == label).count();
    assert_eq!((came.code, count("failed"), count("stopped")), (4, 8, 20), "{}", came.text);
}

/// What cannot be seen: a tag that moves after the last look goes with what it then named. The manifest that it then
/// named stays in the registry, and the journal has the digest at which it was seen.
#[tokio::test]
async fn a_tag_that_moves_in_the_instant_of_its_removal() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let fresh = walk.digest("shop/api", "candidate-6");
    let to = fresh.clone();
    let moves = FaultKind::before_request(move |content| assert!(content.move_tag("shop/api", "candidate-3", &to)));
    walk.registry.inject(Fault::on("manifests/candidate-3", moves).method(Method::DELETE));
    let came = walk.apply(&plan).await;
    assert_eq!(came.labels(), ["done"; 4]);
    assert!(walk.registry.manifest("shop/api", &fresh).is_some());
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(restored.restored.len(), 4);
    assert_eq!(walk.registry.tags("shop/api")["candidate-3"], walk.digest("shop/api", "candidate-3"));
}

#[tokio::test]
async fn a_new_tag_on_the_same_digest_is_nobodys_business() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let digest = walk.digest("shop/api", "candidate-1");
    assert!(walk.registry.move_tag("shop/api", "stable", &digest));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    assert_eq!(walk.registry.tags("shop/api")["stable"], digest);
}

/// Registries in which nothing can be removed. Nobody asks them to before a person wants to know; then plans say so and
/// refuse, and so does applying one.
#[tokio::test]
async fn a_registry_that_cannot_remove_says_so_when_it_was_asked() {
    let usual = Options::default;
    let cases = [
        ("read-only", Options { read_only: true, ..usual() }, "delet"),
        ("refuses tags", Options { tag_deletion: TagDeletion::Unsupported, ..usual() }, "delete a tag alone"),
        (
            "refuses all",
            Options { tag_deletion: TagDeletion::Unsupported, manifest_deletion: false, ..usual() },
            "delet",
        ),
    ];
    for (name, options, phrase) in cases {
        let walk = WorkflowFixture::with(options, "").await;
        walk.settings("enforce", "", "");
        let planned = walk.try_plan().await.unwrap();
        let state = |planned: &RunResult| planned.document.registries[0].ability.clone().unwrap();
        assert_eq!((planned.outcome.exit_code(), &*state(&planned).state), (0, "not-known"), "{name}");
        assert!(state(&planned).message.contains("will be known at the first enforcing run"), "{name}");

        let app = walk.open().await.unwrap();
        let probe = app.probe("main", None).await.unwrap();
        app.close().await;
        assert_eq!((&*probe.view.result, probe.outcome.exit_code()), ("unsupported", 3), "{name}");
        let planned = walk.try_plan().await.unwrap();
        let kinds: Vec<&str> = planned.document.refusals.iter().map(|refusal| &*refusal.kind).collect();
        assert_eq!(kinds, ["removal-impossible"], "{name}");
        assert_eq!((planned.outcome.exit_code(), &*state(&planned).ability_origin), (3, "response"), "{name}");
        assert_eq!(planned.document.removals.len(), 4, "{name}: a refusal hides nothing");
        let message = &planned.document.refusals[0].message;
        assert!(message.contains(phrase), "{name}: {message}");
        walk.registry.clear_requests();
        let came = walk.apply(&planned.document).await;
        assert_eq!((came.code, came.labels()), (3, vec!["refused"; 4]), "{name}: {}", came.text);
        let came = walk.run().await;
        assert_eq!((came.code, came.labels()), (3, vec!["-"; 4]), "{name}: {}", came.text);
        assert!(walk.registry.requests().iter().all(|request| request.method != Method::DELETE), "{name}");
        assert_eq!(walk.remaining_tags(), EXPIRED_TAGS, "{name}");

        // Upgraded meanwhile: a person says so, or a week passes.
        let app = walk.open().await.unwrap();
        assert!(app.forget_registry("main").await.unwrap());
        app.close().await;
        assert_eq!(walk.try_plan().await.unwrap().outcome.exit_code(), 0, "{name}");
        let app = walk.open().await.unwrap();
        app.probe("main", None).await.unwrap();
        app.close().await;
        assert_eq!(walk.try_plan().await.unwrap().outcome.exit_code(), 3, "{name}");
        walk.advance_clock(7 * 24);
        let planned = walk.try_plan().await.unwrap();
        assert_eq!((planned.outcome.exit_code(), &*state(&planned).state), (0, "not-known"), "{name}");
    }
}

/// What a person says counts, except where it would lose an image every night.
#[tokio::test]
async fn the_settings_say_whether_a_registry_can_untag() {
    let walk = WorkflowFixture::new().await;
    let of = async |lines: &str| {
        walk.settings("approved", lines, "");
        let planned = walk.try_plan().await.unwrap();
        let ability = planned.document.registries[0].ability.clone().unwrap();
        (planned.outcome.exit_code(), ability.state, ability.ability_origin)
    };
    let expected = |code, state: &str, from: &str| (code, state.to_owned(), from.to_owned());
    assert_eq!(of("can_untag = \"yes\"").await, expected(0, "able", "settings"));
    assert_eq!(of("can_untag = \"no\"").await, expected(3, "impossible", "settings"));
    assert_eq!(of("can_untag = \"unknown\"").await, expected(0, "not-known", "unknown"));
    let app = walk.open().await.unwrap();
    let what = tagwarden::state::UntagExperience::ManifestDestroyed;
    app.store.record_untag_experience(&walk.registry.url(), what, walk.now()).await.unwrap();
    app.close().await;
    assert_eq!(of("can_untag = \"yes\"").await, expected(3, "impossible", "removals"));
}

#[tokio::test]
async fn a_registry_that_lost_its_deletions_between_plan_and_apply() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("manifests/", FaultKind::status(405)).method(Method::DELETE));
    let came = walk.apply(&plan).await;
    assert_ne!(came.code, 0, "{}", came.text);
    assert_eq!(walk.remaining_tags(), EXPIRED_TAGS, "{}", came.text);
}

#[tokio::test]
async fn a_registry_that_destroys_is_stopped_at_the_first() {
    let walk =
        WorkflowFixture::with(Options { tag_deletion: TagDeletion::DeletesManifest, ..Options::default() }, "").await;
    let shared = walk.digest("shop/api", "candidate-1");
    assert!(walk.registry.move_tag("shop/api", "pinned", &shared));
    walk.snapshot_tags();
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    let count = |label: &str| came.tags.values().filter(|found| *found == label).count();
    assert_eq!((came.code, count("failed"), count("stopped")), (4, 1, 3), "{}", came.text);
    assert!(came.text.contains("it was put back under every tag that it had"), "{}", came.text);
    assert_eq!(walk.tags(), *walk.before.lock().unwrap(), "all is there again");

    let again = walk.try_plan().await.unwrap();
    assert_eq!(again.outcome.exit_code(), 3);
    assert!(again.document.refusals[0].message.contains("destroy"), "{:?}", again.document.refusals);
    let came = walk.apply(&again.document).await;
    assert_eq!((came.code, came.labels()), (3, vec!["refused"; 4]), "{}", came.text);
}

#[tokio::test]
async fn a_registry_that_destroys_and_does_not_take_back_is_told_so() {
    let walk =
        WorkflowFixture::with(Options { tag_deletion: TagDeletion::DeletesManifest, ..Options::default() }, "").await;
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("manifests/candidate", FaultKind::status(500)).method(Method::PUT));
    let came = walk.apply(&plan).await;
    let count = |label: &str| came.tags.values().filter(|found| *found == label).count();
    assert_eq!((came.code, count("failed"), count("stopped")), (4, 1, 3), "{}", came.text);
    assert!(came.text.contains("could not be put back as candidate-"), "{}", came.text);
    walk.registry.clear_faults();
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!((restored.restored.len(), restored.outcome().exit_code()), (1, 0));
    assert_eq!(walk.remaining_tags(), EXPIRED_TAGS);
}

/// What the daemon's pages and metrics are made from.
#[tokio::test]
async fn each_run_counts_what_it_found_and_asked() {
    let walk = WorkflowFixture::new().await;
    walk.settings("enforce", "", "");
    let busy = Fault::on("manifests/candidate-2", FaultKind::TooManyRequests { retry_after: None });
    walk.registry.inject(busy.method(Method::DELETE).times(1));
    let app = walk.open().await.unwrap();
    let first = app.run(&()).await.unwrap();
    let second = app.run(&()).await.unwrap();
    let found = |ended: &RunResult| {
        let counts = &ended.by_registry["main"];
        (counts.summary.tags, counts.summary.expired, counts.summary.retained, counts.reported_only)
    };
    assert_eq!((found(&first), found(&second)), ((7, 4, 3, 0), (3, 0, 3, 0)));
    let reclaimable = |ended: &RunResult| ended.by_registry["main"].summary.reclaimable_bytes;
    assert_eq!((reclaimable(&first), reclaimable(&second)), (first.document.summary.reclaimable_bytes, 0));
    let (found, whole) = (&first.by_registry["main"].summary, &first.document.summary);
    assert_eq!((found.shared_bytes, found.bytes.as_str()), (whole.shared_bytes, "exact"));
    assert!(found.shared_bytes > 4000, "the base layer stays: {found:?}");
    let [there] = first.document.storage.as_slice() else { panic!("{:?}", first.document.storage) };
    assert_eq!((there.exclusive_bytes, there.shared_bytes), (whole.reclaimable_bytes, whole.shared_bytes));
    let [asked, again] = [&first, &second].map(|ended| ended.by_registry["main"].requests);
    assert_eq!(asked.throttled, 1, "{asked:?}");
    assert_eq!(again.throttled, 0, "each run counts its own: {again:?}");
    for asked in [asked, again] {
        assert!(asked.total > 0 && asked.total == asked.statuses.iter().sum::<u64>(), "{asked:?}");
    }
    let record = app.store.run(&first.run.to_string()).await.unwrap().unwrap();
    let summary: serde_json::Value = serde_json::from_str(&record.end.unwrap().summary).unwrap();
    assert_eq!(summary["by_registry"]["main"]["expired"], 4, "{summary}");
    assert_eq!(summary["sources"], serde_json::json!([]));
    app.close().await;
}
