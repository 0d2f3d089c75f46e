//! Deleting from a registry that misbehaves.

use http::Method;

use super::*;

fn on_delete(path: &str, what: FaultKind) -> Fault {
    Fault::on(path, what).method(Method::DELETE)
}

/// What the registry does to the deletion of candidate-2, the exit code, what came of it and of the others, and what the
/// next run does about it.
#[tokio::test]
async fn a_registry_that_fails_is_asked_what_is_so() {
    let accepted = FaultKind::Status { status: 202, headers: Vec::new(), body: String::new() };
    for (fault, code, label, again) in [
        (FaultKind::status(500), 4, "failed", vec!["candidate-2 done"]),
        (FaultKind::HangUp { handled: false }, 4, "failed", vec!["candidate-2 done"]),
        (FaultKind::HandledButStatus(500), 0, "done", vec![]),
        (FaultKind::HangUp { handled: true }, 0, "done", vec![]),
        (accepted, 4, "failed", vec!["candidate-2 done"]),
    ] {
        let walk = WorkflowFixture::untagged().await;
        let what = format!("{fault:?}");
        let digest = walk.digest(REPOSITORY, "candidate-2");
        walk.registry.inject(on_delete(&digest.to_string(), fault));
        let came = walk.enforce().await;
        let deleted = walk.deleted(&came, &[]).await;
        assert_eq!((came.code, deleted[1].as_str()), (code, &*format!("candidate-2 {label}")), "{what}: {deleted:?}");
        assert_eq!(walk.manifests().contains(&digest), label == "failed", "{what}");
        walk.registry.clear_faults();
        walk.advance_clock(1);
        let next = walk.enforce().await;
        let mut deleted = walk.deleted(&next, &[]).await;
        deleted.retain(|one| one.starts_with("candidate-2"));
        assert_eq!(deleted, again, "{what}");
        assert!(walk.journal().await.iter().all(|entry| entry.outcome.is_some()), "{what}");
        let left: BTreeSet<Digest> = walk.tags().into_values().collect();
        assert_eq!(walk.manifests(), left, "{what}");
    }
}

/// One that says to have deleted what is still there is not asked for more.
#[tokio::test]
async fn a_registry_that_does_nothing_is_left_alone() {
    let walk = WorkflowFixture::untagged().await;
    let before = walk.manifests();
    let accepted = FaultKind::Status { status: 202, headers: Vec::new(), body: String::new() };
    walk.registry.inject(on_delete("/manifests/", accepted));
    walk.registry.clear_requests();
    let came = walk.enforce().await;
    let asked = walk.registry.requests().iter().filter(|request| request.method == Method::DELETE).count();
    let deleted = walk.deleted(&came, &[]).await;
    assert_eq!((came.code, asked, walk.manifests()), (4, 1, before), "{deleted:?}");
    assert_eq!(deleted.iter().filter(|one| one.ends_with(" stopped")).count(), 3, "{deleted:?}");
    // The registry was only late: the next start finds it gone.
    walk.registry.clear_faults();
    let open = walk.journal().await.into_iter().find(|entry| entry.outcome.is_none()).unwrap();
    walk.registry.content(|content| assert!(content.delete_manifest(REPOSITORY, &open.intent.digest)));
    walk.plan().await;
    let journal = walk.journal().await;
    let settled = journal.iter().find(|entry| entry.id == open.id).unwrap();
    assert!(matches!(settled.outcome, Some((Outcome::Done(_), _))), "{settled:?}");
}

#[tokio::test]
async fn a_registry_that_is_busy_is_waited_for() {
    let walk = WorkflowFixture::untagged().await;
    walk.registry.inject(on_delete("/manifests/", FaultKind::TooManyRequests { retry_after: None }).times(6));
    let came = walk.enforce().await;
    assert_eq!((came.code, walk.deleted(&came, &[]).await), (0, outcomes(None, &[])), "{}", came.text);

    // What somebody does in the pause counts.
    let walk = WorkflowFixture::untagged().await;
    let digest = walk.digest(REPOSITORY, "candidate-2");
    let path = digest.to_string();
    let tag = FaultKind::before_request(move |content| assert!(content.move_tag(REPOSITORY, "wanted", &digest)));
    walk.registry.inject(on_delete(&path, tag).times(1));
    walk.registry.inject(on_delete(&path, FaultKind::TooManyRequests { retry_after: None }).times(4));
    let came = walk.enforce().await;
    let expected = outcomes(None, &[("candidate-2", "kept")]);
    assert_eq!((came.code, walk.deleted(&came, &[]).await), (0, expected), "{}", came.text);

    // One that never has time is no reason to go on for ever.
    let walk = WorkflowFixture::untagged().await;
    walk.registry.inject(on_delete("/manifests/", FaultKind::TooManyRequests { retry_after: None }));
    let before = walk.manifests();
    let came = walk.enforce().await;
    let deleted = walk.deleted(&came, &[]).await;
    assert_eq!((came.code, walk.manifests()), (4, before), "{deleted:?}");
}

/// Whatever cannot be read right before keeps everything.
#[tokio::test]
async fn what_cannot_be_read_right_before_keeps_everything() {
    // Before the fault the run reads so many times: to plan, and to decide again right before.
    for (path, fault, reads, code, label) in [
        ("/referrers/", FaultKind::status(500), 0, 4, "failed"),
        ("/referrers/", FaultKind::status(404), 0, 4, "failed"),
        ("/referrers/", FaultKind::InvalidJson, 0, 4, "failed"),
        ("/_manifests?", FaultKind::status(500), 1, 5, "kept"),
        ("/_manifests?", FaultKind::CutShort(3), 1, 5, "kept"),
        ("/_tags?", FaultKind::status(500), 1, 5, "kept"),
        ("/_manifests?", FaultKind::status(500), 2, 0, "kept"),
        ("/_manifests?", FaultKind::CutShort(3), 2, 0, "kept"),
        ("/_tags?", FaultKind::status(500), 2, 0, "kept"),
        ("/_manifests/", FaultKind::status(500), 0, 4, "failed"),
        ("/manifests/", FaultKind::status(403), 0, 4, "failed"),
    ] {
        let walk = WorkflowFixture::untagged().await;
        let (before, what) = (walk.manifests(), format!("{path} {fault:?} after {reads}"));
        walk.registry.clear_requests();
        walk.plan().await;
        let asked = walk.registry.requests().iter().filter(|request| request.path.contains(path)).count();
        let fault = if path == "/manifests/" { on_delete(path, fault) } else { Fault::on(path, fault) };
        walk.registry.inject(fault.after(reads * asked));
        walk.advance_clock(1);
        let came = walk.enforce().await;
        let deleted = walk.deleted(&came, &[]).await;
        assert_eq!(walk.manifests(), before, "{what}");
        assert_eq!((came.code, deleted.len()), (code, 4), "{what}: {deleted:?}");
        let ends = [format!(" {label}"), " stopped".to_owned()];
        assert!(deleted.iter().all(|one| ends.iter().any(|end| one.ends_with(end))), "{what}: {deleted:?}");
    }
}

/// The bytes of each manifest come first: what could not be put back is not deleted.
#[tokio::test]
async fn what_could_not_be_put_back_is_not_deleted() {
    let (walk, family) = WorkflowFixture::with_family().await;
    let child = family.index.children[0].digest.to_string();
    walk.registry.inject(Fault::on(&format!("/v2/{REPOSITORY}/manifests/{child}"), FaultKind::WrongDigest));
    let before = walk.manifests();
    let came = walk.enforce().await;
    let deleted = walk.deleted(&came, &family.names()).await;
    assert_eq!(came.code, 4);
    assert!(deleted.contains(&"index failed".to_owned()) && deleted.contains(&"amd64 kept".to_owned()), "{deleted:?}");
    let left = walk.manifests();
    let gone: BTreeSet<&Digest> = before.difference(&left).collect();
    assert_eq!(gone, EXPIRED_TAGS.iter().map(|tag| walk.digest(REPOSITORY, tag)).collect::<Vec<_>>().iter().collect());
}

/// Whoever may not delete is told before anything begins.
#[tokio::test]
async fn without_the_right_to_delete_nothing_begins() {
    let walk = WorkflowFixture::untagged().await;
    let before = walk.manifests();
    walk.registry.inject(Fault::on("oauth2/token", FaultKind::status(403)).method(Method::POST));
    walk.registry.inject(Fault::on("oauth2/token", FaultKind::status(403)).method(Method::GET));
    walk.registry.clear_requests();
    let came = walk.enforce().await;
    let asked = walk.registry.requests().iter().filter(|request| request.method == Method::DELETE).count();
    assert_eq!((asked, walk.manifests()), (0, before), "{}", came.text);
}
