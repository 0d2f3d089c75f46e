//! Removals that delete manifests.

use http::Method;
use tagwarden::demo::image::{Format as Family, artifact, companion_tag, index, media_type, multi_arch, signature};
use tagwarden::demo::registry::{Fault, FaultKind};

use super::*;

async fn by_manifest() -> WorkflowFixture {
    WorkflowFixture::with(Options::default(), "removal = \"manifest\"").await
}

impl WorkflowFixture {
    fn delete_of(&self, tag: &str, what: FaultKind) {
        let path = format!("manifests/{}", self.digest("shop/api", tag));
        self.registry.inject(Fault::on(&path, what).method(Method::DELETE));
    }

    fn also(&self, tag: &str, of: &str) -> Digest {
        let digest = self.registry.tags("shop/api")[of].clone();
        assert!(self.registry.move_tag("shop/api", tag, &digest));
        self.snapshot_tags();
        digest
    }

    fn has(&self, digest: &Digest) -> bool {
        self.registry.manifest("shop/api", digest).is_some()
    }
}

fn puts(tag: &'static str, at: &Digest) -> FaultKind {
    let at = at.clone();
    FaultKind::before_request(move |content| assert!(content.move_tag("shop/api", tag, &at)))
}

fn old(days: i64) -> Timestamp {
    noon() - (days * 24).hours()
}

#[tokio::test]
async fn a_digest_shared_with_what_stays_stays() {
    let walk = by_manifest().await;
    let digest = walk.also("pinned", "candidate-1");
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["-", "done", "done", "done"]), "{}", came.text);
    assert!(walk.has(&digest));
}

#[tokio::test]
async fn tags_of_one_digest_go_together_and_each_is_journaled() {
    let walk = by_manifest().await;
    let digest = walk.also("candidate-1b", "candidate-1");
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert_eq!(came.tags["shop/api:candidate-1b"], "done", "{}", came.text);
    assert_eq!(came.labels(), ["done"; 4]);
    assert!(!walk.has(&digest));
    walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(walk.tags(), *walk.before.lock().unwrap());
}

#[tokio::test]
async fn a_tag_that_somebody_else_removed_is_not_ours() {
    let walk = by_manifest().await;
    walk.also("candidate-1b", "candidate-1");
    let plan = walk.plan().await;
    let vanish = FaultKind::before_request(|content| {
        content.delete_tag("shop/api", "candidate-1b");
    });
    walk.registry.inject(Fault::on("tags/list", vanish).after(1));
    let came = walk.apply_text(&report::render(&plan, Format::Json)).await;
    assert_eq!(came.tags["shop/api:candidate-1b"], "missing", "{}", came.text);
    assert_eq!(came.labels(), ["done"; 4], "{}", came.text);
}

#[tokio::test]
async fn what_no_longer_has_its_tag_is_not_deleted() {
    let walk = by_manifest().await;
    let plan = walk.plan().await;
    let vanish = FaultKind::before_request(|content| {
        content.delete_tag("shop/api", "candidate-2");
    });
    walk.registry.inject(Fault::on("tags/list", vanish).after(1));
    let came = walk.apply_text(&report::render(&plan, Format::Json)).await;
    assert_eq!(came.labels(), ["done", "missing", "done", "done"], "{}", came.text);
    assert!(walk.has(&walk.digest("shop/api", "candidate-2")));
}

#[tokio::test]
async fn an_index_and_what_it_contains() {
    let walk = by_manifest().await;
    // One that goes and contains an image that stays, and one that stays and contains an image that would be removed.
    let release = image("release-1", 50);
    walk.put("shop/api", "candidate-0", &index(Family::Oci, std::slice::from_ref(&release)));
    walk.put("shop/api", "release-2", &index(Family::Oci, &[image("candidate-1", 99)]));
    // One that goes with a tag on one of its images, which goes after it.
    let many = multi_arch(old(200), |platform| vec![Blob::layer(platform.architecture, 100)]);
    walk.put("shop/api", "candidate-9", &many);
    walk.put("shop/api", "candidate-9-amd64", &many.children[0]);
    let plan = walk.plan().await;
    walk.registry.clear_requests();
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()[0]), (0, "-"), "{}", came.text);
    assert!(walk.has(&release.digest));
    assert!(walk.has(&walk.digest("shop/api", "candidate-1")));
    for tag in ["candidate-9", "candidate-9-amd64"] {
        assert_eq!(came.tags[&format!("shop/api:{tag}")], "done", "{}", came.text);
    }
    let requests = walk.registry.requests();
    let at = |image: &Image| {
        let ending = image.digest.to_string();
        requests.iter().position(|request| request.method == Method::DELETE && request.path.ends_with(&ending))
    };
    assert!(at(&many).unwrap() < at(&many.children[0]).unwrap());
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    assert_eq!(walk.tags(), *walk.before.lock().unwrap());
    assert_eq!(walk.registry.manifest("shop/api", &many.digest).unwrap().0, many.bytes);
}

#[tokio::test]
async fn a_referrer_stays_when_its_image_does() {
    let walk = by_manifest().await;
    let subject = image("candidate-1", 99);
    let note = artifact(media_type::SPDX, (media_type::SPDX, Blob::of("{}")), Some(&subject), &[]);
    walk.put("shop/api", "note-1", &note);
    walk.registry.content(|content| content.put_image("shop/api", None, &note));
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert!(walk.has(&note.digest), "{}", came.text);
}

#[tokio::test]
async fn a_signature_goes_after_its_image() {
    let walk = by_manifest().await;
    let signed = walk.digest("shop/api", "candidate-3");
    let tag = companion_tag(&signed, ".sig");
    walk.put("shop/api", &tag, &signature(&signed, "shop/api"));
    let plan = walk.plan().await;
    walk.delete_of("candidate-3", FaultKind::status(500));
    let came = walk.apply(&plan).await;
    assert_eq!((came.labels()[2], &*came.tags[&format!("shop/api:{tag}")]), ("failed", "kept"), "{}", came.text);
    walk.registry.clear_faults();
    let came = walk.apply(&plan).await;
    assert_eq!((came.labels()[2], &*came.tags[&format!("shop/api:{tag}")]), ("done", "done"), "{}", came.text);
}

#[tokio::test]
async fn a_tag_pushed_onto_it_meanwhile_holds_it() {
    for busy in [false, true] {
        let walk = by_manifest().await;
        let plan = walk.plan().await;
        let digest = walk.digest("shop/api", "candidate-2");
        if busy {
            walk.delete_of("candidate-2", puts("fresh", &digest));
            let path = format!("manifests/{digest}");
            let wait = FaultKind::TooManyRequests { retry_after: None };
            walk.registry.inject(Fault::on(&path, wait).method(Method::DELETE).times(1));
        } else {
            walk.registry.inject(Fault::on("tags/list", puts("fresh", &digest)).after(1));
        }
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, came.labels()), (0, vec!["done", "kept", "done", "done"]), "{busy}: {}", came.text);
        assert!(came.text.contains("fresh"), "{}", came.text);
        assert_eq!(walk.registry.tags("shop/api")["fresh"], digest);
    }
}

/// Nobody knows what a tag named that is missing afterwards: it is reported, and never put at the deleted image.
#[tokio::test]
async fn a_kept_tag_that_moves_onto_it_in_the_instant_is_reported() {
    let walk = by_manifest().await;
    let plan = walk.plan().await;
    let (digest, before) = (walk.digest("shop/api", "candidate-2"), walk.digest("shop/api", "release-1"));
    walk.delete_of("candidate-2", puts("release-1", &digest));
    let came = walk.apply_text(&report::render(&plan, Format::Json)).await;
    assert_eq!((came.code, came.labels()), (4, vec!["stopped", "failed", "stopped", "stopped"]), "{}", came.text);
    assert!(came.text.contains(&format!("release-1 (at {before} when it was read)")), "{}", came.text);
    assert!(!walk.registry.tags("shop/api").contains_key("release-1") && !walk.has(&digest));
    assert!(walk.journal().await.iter().all(|entry| entry.intent.tag.as_str() != "release-1"));
}

#[tokio::test]
async fn a_kept_tag_that_somebody_else_removes_meanwhile_is_not_put_back() {
    for alone in [false, true] {
        let walk = by_manifest().await;
        let plan = walk.plan().await;
        let release = walk.digest("shop/api", "release-1");
        let removed = FaultKind::before_request(move |content| {
            if alone {
                content.delete_tag("shop/api", "release-1");
            } else {
                content.delete_manifest("shop/api", &release);
            }
        });
        walk.delete_of("candidate-2", removed);
        let came = walk.apply_text(&report::render(&plan, Format::Json)).await;
        assert!(!walk.registry.tags("shop/api").contains_key("release-1"), "{}", came.text);
        let expected = if alone { (4, "failed", "stopped") } else { (0, "done", "done") };
        assert_eq!((came.code, came.labels()[1], came.labels()[3]), expected, "{}", came.text);
        assert!(walk.journal().await.iter().all(|entry| entry.intent.action != Action::Restore));
    }
}

/// A kept tag that somebody moves onto the image before it is deleted is seen, whatever the run waited for before.
#[tokio::test]
async fn a_kept_tag_that_was_moved_onto_it_holds_it() {
    for after in [1, 2] {
        let walk = by_manifest().await;
        let plan = walk.plan().await;
        let digest = walk.digest("shop/api", "candidate-1");
        walk.registry.inject(Fault::on("tags/list", puts("release-1", &digest)).after(after).times(1));
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, came.labels()), (0, vec!["kept", "done", "done", "done"]), "{after}: {}", came.text);
        assert!(came.text.contains("tag release-1, which stays, names the same manifest now"), "{}", came.text);
        assert_eq!(walk.registry.tags("shop/api")["release-1"], digest);
    }
}

#[tokio::test]
async fn answers_are_held_against_the_registry() {
    let gone = FaultKind::Status { status: 404, headers: Vec::new(), body: String::new() };
    for (fault, code, label) in [
        (FaultKind::HandledButStatus(500), 0, "done"),
        (FaultKind::HangUp { handled: true }, 0, "done"),
        (FaultKind::HandledButStatus(503), 0, "done"),
        (FaultKind::HangUp { handled: false }, 4, "failed"),
        (FaultKind::status(500), 4, "failed"),
        (FaultKind::TooManyRequests { retry_after: None }, 4, "failed"),
        (FaultKind::status(423), 0, "locked"),
        (gone, 4, "failed"),
    ] {
        let walk = by_manifest().await;
        let plan = walk.plan().await;
        let what = format!("{fault:?}");
        walk.delete_of("candidate-3", fault);
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, came.labels()[2]), (code, label), "{what}: {}", came.text);
    }
}

/// One failure of a busy registry is no failure of the night: after the timeout everything is looked at again.
#[tokio::test]
async fn a_deletion_that_fails_is_tried_once_more() {
    for (what, times, code, label, open) in [
        (FaultKind::status(500), 1, 0, "done", 0),
        (FaultKind::status(503), 1, 0, "done", 0),
        (FaultKind::HangUp { handled: false }, 1, 0, "done", 0),
        (FaultKind::status(500), 2, 4, "failed", 0),
        (FaultKind::status(503), 2, 4, "failed", 1),
        (FaultKind::HangUp { handled: false }, 2, 4, "failed", 1),
    ] {
        let walk = by_manifest().await;
        let plan = walk.plan().await;
        let name = format!("{what:?} {times}");
        let path = format!("manifests/{}", walk.digest("shop/api", "candidate-3"));
        walk.registry.inject(Fault::on(&path, what).method(Method::DELETE).times(times));
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, came.labels()[2]), (code, label), "{name}: {}", came.text);
        let sent = walk.deletions_sent().iter().filter(|sent| sent.ends_with(&path)).count();
        assert_eq!(sent, 2, "{name}");
        assert_eq!(walk.pauses.lock().unwrap().as_slice(), [Duration::from_secs(30)], "{name}");
        let unsettled = walk.journal().await.iter().filter(|entry| entry.outcome.is_none()).count();
        assert_eq!(unsettled, open, "{name}");
    }
}

/// What somebody does while it waits counts.
#[tokio::test]
async fn a_tag_pushed_onto_it_while_it_waits_to_be_tried_again_holds_it() {
    let walk = by_manifest().await;
    let plan = walk.plan().await;
    let digest = walk.digest("shop/api", "candidate-2");
    let path = format!("manifests/{digest}");
    walk.delete_of("candidate-2", puts("fresh", &digest));
    walk.registry.inject(Fault::on(&path, FaultKind::status(500)).method(Method::DELETE).times(1));
    let came = walk.apply(&plan).await;
    assert_eq!(came.labels(), ["done", "failed", "done", "done"], "{}", came.text);
    assert!(came.text.contains("fresh"), "{}", came.text);
    assert_eq!(walk.deletions_sent().iter().filter(|sent| sent.ends_with(&path)).count(), 1);
    assert_eq!(walk.registry.tags("shop/api")["fresh"], digest);
}

/// The first answer in each repository is verified, as for an untag.
#[tokio::test]
async fn a_registry_that_only_reports_deletions_ends_it() {
    let walk = by_manifest().await;
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("/manifests/", FaultKind::status(202)).method(Method::DELETE));
    let came = walk.apply(&plan).await;
    let count = |label: &str| came.tags.values().filter(|found| *found == label).count();
    assert_eq!((came.code, count("failed"), count("stopped")), (4, 1, 3), "{}", came.text);
    assert!(came.text.contains("answered that it deleted the manifest, and still has it"), "{}", came.text);
    assert_eq!(walk.remaining_tags(), EXPIRED_TAGS);
}

/// So is each later one whose tag the list of tags still shows.
#[tokio::test]
async fn a_registry_that_only_reports_later_deletions_ends_it() {
    for done in [1, 2] {
        let walk = by_manifest().await;
        let plan = walk.plan().await;
        walk.registry.inject(Fault::on("/manifests/", FaultKind::status(202)).method(Method::DELETE).after(done));
        let came = walk.apply(&plan).await;
        let count = |label: &str| came.tags.values().filter(|found| *found == label).count();
        let expected = (4, done, 1, 3 - done);
        assert_eq!((came.code, count("done"), count("failed"), count("stopped")), expected, "{}", came.text);
        assert_eq!(walk.remaining_tags().len(), EXPIRED_TAGS.len() - done);
    }
}
