//! Many tags at once: what others need comes first, and each result stands where its entry does.

use http::Method;
use tagwarden::demo::image::{Format, artifact, index};
use tagwarden::demo::registry::{Fault, FaultKind};

use super::*;

const ALL_GO: &str = r#"policies:
  - name: candidates
    select: { tags: ["candidate-*"] }
    keep: none
    mode: enforce
  - name: releases
    select: { tags: ["release-*"] }
    keep: all
"#;

/// An index, its two images and what refers to one of them, each under a tag of its own, all of it removed.
async fn removed_family() -> (WorkflowFixture, String) {
    let walk = WorkflowFixture::with(Options::default(), "concurrency = 4").await;
    walk.policies(ALL_GO);
    let (amd, arm) = (image("amd", 60), image("arm", 61));
    let family = index(Format::Oci, &[amd.clone(), arm.clone()]);
    let sbom = artifact("application/vnd.example.sbom", ("text/plain", Blob::of("sbom")), Some(&amd), &[]);
    walk.put("shop/api", "candidate-all", &family);
    walk.put("shop/api", "candidate-amd", &amd);
    walk.put("shop/api", "candidate-arm", &arm);
    walk.put("shop/api", "candidate-sbom", &sbom);
    let run = walk.apply(&walk.plan().await).await.run_id();
    assert_eq!(walk.registry.tags("shop/api").len(), 1, "the release");
    (walk, run)
}

/// The paths of the tags that were put, in order.
fn put(walk: &WorkflowFixture) -> Vec<String> {
    let requests = walk.registry.requests().into_iter().filter(|request| request.method == Method::PUT);
    requests.filter_map(|request| Some(request.path.rsplit_once('/')?.1.to_owned())).collect()
}

#[tokio::test]
async fn what_others_need_comes_before_them() {
    let (walk, run) = removed_family().await;
    walk.registry.clear_requests();
    let restored = walk.restore(&run).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{:?}", restored.restored);
    assert_eq!(walk.tags(), *walk.before.lock().unwrap());
    let put = put(&walk);
    let place = |tag: &str| put.iter().position(|path| path == tag).unwrap();
    assert!(place("candidate-amd").max(place("candidate-arm")) < place("candidate-all"), "{put:?}");
    assert!(place("candidate-amd") < place("candidate-sbom"), "{put:?}");
    let journal = walk.journal().await;
    let removed = journal.iter().rev().filter(|entry| entry.run.to_string() == run);
    let removed: Vec<String> = removed.map(|entry| entry.intent.tag.to_string()).collect();
    let results: Vec<String> = restored.restored.iter().map(|one| one.intent.tag.to_string()).collect();
    assert_eq!(results, removed, "in the order of the entries");
}

#[tokio::test]
async fn a_tag_costs_a_look_a_put_and_a_look() {
    let walk = WorkflowFixture::new().await;
    let run = walk.apply(&walk.plan().await).await.run_id();
    walk.registry.clear_requests();
    walk.restore(&run).await.unwrap();
    for tag in EXPIRED_TAGS {
        let of_tag = walk.registry.requests().into_iter().filter(|request| request.path.ends_with(&format!("/{tag}")));
        let methods: Vec<Method> = of_tag.map(|request| request.method).collect();
        // That a tag is not there is believed of a GET alone.
        assert_eq!(methods, [Method::HEAD, Method::GET, Method::PUT, Method::HEAD], "{tag}");
    }
}

#[tokio::test]
async fn one_that_fails_is_tried_again_after_the_others() {
    let (walk, run) = removed_family().await;
    walk.registry.clear_requests();
    let refusal = Fault::on("manifests/candidate-amd", FaultKind::status(403)).method(Method::PUT);
    walk.registry.inject(refusal.times(1));
    let restored = walk.restore(&run).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{:?}", restored.restored);
    assert_eq!(walk.tags(), *walk.before.lock().unwrap());
    let put = put(&walk);
    let tries: Vec<usize> =
        put.iter().enumerate().filter(|(_, tag)| *tag == "candidate-amd").map(|(at, _)| at).collect();
    assert_eq!((tries.len(), tries.last()), (2, Some(&(put.len() - 1))), "{put:?}");
}

#[tokio::test]
async fn a_stop_leaves_the_rest_for_the_next_restore() {
    let walk = WorkflowFixture::with(Options::default(), "concurrency = 1").await;
    let run = walk.apply(&walk.plan().await).await.run_id();
    let stop = Arc::clone(&walk.stop);
    let stops = FaultKind::before_request(move |_| {
        stop.send_replace(true);
    });
    walk.registry.inject(Fault::on("manifests/candidate-", stops).method(Method::PUT).after(1).times(1));
    let restored = walk.restore(&run).await.unwrap();
    let labels: Vec<&str> = restored.restored.iter().map(|one| one.outcome.label()).collect();
    assert_eq!(labels, ["done", "done", "skipped", "skipped"]);
    assert_eq!(walk.remaining_tags().len(), 2);
    walk.stop.send_replace(false);
    assert_eq!(walk.restore(&run).await.unwrap().outcome().exit_code(), 0);
    assert_eq!(walk.remaining_tags(), EXPIRED_TAGS);
}
