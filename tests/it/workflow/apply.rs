//! What changes between plan and apply: applying may only shrink.

use http::Method;
use tagwarden::demo::image::{companion_tag, signature};
use tagwarden::demo::registry::{Fault, FaultKind};

use super::*;

const RECORDS: &str = "[sources.releases]\nkind = \"release-records\"\npaths = [\"releases/*.json\"]";

async fn with_records() -> WorkflowFixture {
    let walk = WorkflowFixture::new().await;
    walk.settings("approved", "", RECORDS);
    fs::create_dir(walk.path("releases")).unwrap();
    walk.record("a", "release-1");
    walk
}

impl WorkflowFixture {
    fn record(&self, name: &str, tag: &str) {
        let text = format!("{{\"image\": \"{}/shop/api:{tag}\"}}", self.registry.host());
        fs::write(self.path(&format!("releases/{name}.json")), text).unwrap();
    }
}

#[tokio::test]
async fn a_release_since_the_plan_protects() {
    let walk = with_records().await;
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 4);
    walk.record("b", "candidate-2");
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["done", "kept", "done", "done"]), "{}", came.text);
    assert!(came.text.contains("releases"), "{}", came.text);
}

#[tokio::test]
async fn a_source_that_fails_at_apply_holds_everything() {
    for broken in ["{", "{\"releases\": []}", ""] {
        let walk = with_records().await;
        let plan = walk.plan().await;
        fs::write(walk.path("releases/a.json"), broken).unwrap();
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, came.labels()), (5, vec!["kept"; 4]), "{broken}: {}", came.text);
    }
}

#[tokio::test]
async fn what_cannot_be_read_again_stays() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("tags/list", FaultKind::status(500)));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (5, vec!["kept"; 4]), "{}", came.text);
    assert!(came.text.contains("500"), "{}", came.text);
}

#[tokio::test]
async fn what_became_newest_meanwhile_stays() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    assert!(walk.registry.delete_tag("shop/api", "candidate-6"));
    walk.snapshot_tags();
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["done", "done", "done", "kept"]), "{}", came.text);
}

/// `leave` is about what is there when it is removed, not about what was there when it was planned.
#[tokio::test]
async fn limits_hold_for_what_is_left_now() {
    let walk = WorkflowFixture::new().await;
    walk.policies(&POLICIES.replace("newest: 2", "matching: [candidate-5, candidate-6]"));
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 4);
    for tag in ["candidate-5", "candidate-6", "release-1"] {
        assert!(walk.registry.delete_tag("shop/api", tag));
    }
    walk.snapshot_tags();
    let came = walk.apply(&plan).await;
    assert_eq!(came.labels(), ["refused"; 4], "{}", came.text);
    assert_eq!(walk.remaining_tags(), EXPIRED_TAGS);
}

#[tokio::test]
async fn stopped_in_the_middle_the_rest_is_left() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let stop = Arc::clone(&walk.stop);
    let stops = FaultKind::before_request(move |_| {
        stop.send_replace(true);
    });
    walk.registry.inject(Fault::on("manifests/candidate-1", stops).method(Method::DELETE));
    let came = walk.apply(&plan).await;
    let rest = ["done", "interrupted", "interrupted", "interrupted"];
    assert_eq!((came.code, came.labels()), (1, rest.to_vec()), "{}", came.text);
    assert_eq!(walk.last_run().await, (RunKind::Apply, "interrupted".to_owned(), 1));
    walk.stop.send_replace(false);
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["missing", "done", "done", "done"]), "{}", came.text);
}

#[tokio::test]
async fn a_signature_goes_after_its_image_and_stays_with_it() {
    for (fault, image_label, signature_label) in [(None, "done", "done"), (Some(500), "failed", "kept")] {
        let walk = WorkflowFixture::new().await;
        let signed = walk.digest("shop/api", "candidate-3");
        let tag = companion_tag(&signed, ".sig");
        walk.put("shop/api", &tag, &signature(&signed, "shop/api"));
        let plan = walk.plan().await;
        assert_eq!(plan.removals.len(), 5);
        if let Some(status) = fault {
            walk.registry.inject(Fault::on("manifests/candidate-3", FaultKind::status(status)).method(Method::DELETE));
        }
        walk.registry.clear_requests();
        let came = walk.apply(&plan).await;
        assert_eq!(came.labels()[2], image_label, "{}", came.text);
        assert_eq!(came.tags[&format!("shop/api:{tag}")], signature_label, "{}", came.text);
        let requests = walk.registry.requests();
        let at = |name: &str| requests.iter().rposition(|r| r.method == Method::DELETE && r.path.ends_with(name));
        if fault.is_none() {
            assert!(at(&tag) > at("candidate-3"), "the image first");
        }
    }
}

#[tokio::test]
async fn an_enforcing_run_does_what_its_policies_say() {
    let walk = WorkflowFixture::new().await;
    walk.settings("enforce", "", "");
    walk.policies(&POLICIES.replace("    mode: enforce\n", ""));
    let came = walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["-"; 4]));
    walk.policies(POLICIES);
    let came = walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]));
}
