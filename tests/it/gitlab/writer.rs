//! Removals and restores, answer by answer.

use http::Method;
use jiff::SignedDuration;
use tagwarden::demo::registry::{Fault, FaultKind, GitlabOptions, GitlabRole, GitlabScope, TagRule};
use tagwarden::registry::{RegistryErrorKind, RemovalResponse};

use super::{API, api, image as build, options, put, start, user, writer};
use crate::registry::tag;
use crate::support::removal::{delete_manifest, put_tag, raw_manifest, untag};

#[tokio::test]
async fn a_tag_is_removed_alone_and_comes_back() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    put(&registry, API, "v2", &one, 5);
    let writer = writer(&registry.url());
    let removed = untag(&writer, &api(), &tag("v1")).await.unwrap();
    assert!(matches!(removed, RemovalResponse::Removed { .. }), "{removed:?}");
    assert_eq!(registry.tags(API).into_keys().collect::<Vec<_>>(), ["v2"]);
    let deletions = registry.requests().into_iter().filter(|request| request.method == Method::DELETE);
    assert_eq!(deletions.map(|request| request.path).collect::<Vec<_>>(), ["/v2/shop/backend/api/manifests/v1"]);
    assert_eq!(untag(&writer, &api(), &tag("v1")).await.unwrap(), RemovalResponse::AlreadyMissing);
    put_tag(&writer, &api(), &tag("v1"), &raw_manifest(&one)).await.unwrap();
    assert_eq!(registry.tags(API)["v1"], one.digest);
}

/// The answer, the class of the error, and a phrase of it.
#[tokio::test]
async fn each_refusal_is_what_gitlab_means_by_it() {
    use RegistryErrorKind::{Denied, Locked, Malformed, Status, Throttled, Unauthenticated};
    let answer = |status: u16, body: &str| FaultKind::Status { status, headers: Vec::new(), body: body.to_owned() };
    let own = |code: &str, message: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
    for (fault, kind, phrase) in [
        (answer(401, &own("PROTECTED_TAG", "insufficient permissions")), Locked, "PROTECTED_TAG"),
        (answer(401, &own("IMMUTABLE_TAG", "tag is immutable")), Locked, "tag is immutable"),
        (answer(400, &own("TAG_PATTERN_COUNT_LIMIT_EXCEEDED", "limit")), Locked, "TAG_PATTERN_COUNT"),
        (answer(400, &own("TAG_PROTECTION_PATTERN_INVALID", "invalid")), Locked, "TAG_PROTECTION_PATTERN"),
        (answer(400, &own("TAG_IMMUTABILITY_PATTERN_INVALID", "invalid")), Locked, "TAG_IMMUTABILITY_PATTERN"),
        (answer(403, &own("DENIED", "access forbidden")), Locked, "access forbidden"),
        (answer(409, &own("RENAME_IN_PROGRESS", "undergoing a rename")), Locked, "undergoing a rename"),
        (answer(401, &own("UNAUTHORIZED", "authentication required")), Unauthenticated, "check the registry's `auth`"),
        (answer(403, &own("OTHER", "no")), Denied, "check the registry's `auth`"),
        (answer(404, "<html>gone</html>"), Malformed, ""),
        (answer(503, ""), Status(503), "when the registry is well"),
        (FaultKind::HtmlPage, Malformed, "answers a deletion so"),
        (FaultKind::TooManyRequests { retry_after: None }, Throttled, "less busy"),
    ] {
        let registry = start(options()).await;
        put(&registry, API, "v1", &build("one", 9), 5);
        registry.inject(Fault::on("/manifests/v1", fault).method(Method::DELETE));
        let error = untag(&writer(&registry.url()), &api(), &tag("v1")).await.unwrap_err();
        let found = if kind == Malformed && error.kind == RegistryErrorKind::NotFound { Malformed } else { error.kind };
        assert_eq!(found, kind, "{error}");
        assert!(error.chain().contains(phrase), "{}", error.chain());
        assert!(registry.tags(API).contains_key("v1"));
    }
}

#[tokio::test]
async fn protected_tags_and_renames_are_enforced() {
    let mut options = options();
    let project = options.projects.get_mut("shop/backend").unwrap();
    project.protected = vec![TagRule { pattern: "^v1$".into(), push: GitlabRole::Owner, delete: GitlabRole::Owner }];
    project.immutable = vec!["^v2$".into()];
    let registry = start(options).await;
    let one = build("one", 9);
    for name in ["v1", "v2", "v3"] {
        put(&registry, API, name, &one, 5);
    }
    let writer = writer(&registry.url());
    for (name, code) in [("v1", "PROTECTED_TAG"), ("v2", "IMMUTABLE_TAG")] {
        let error = untag(&writer, &api(), &tag(name)).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Locked, "{error}");
        assert!(error.chain().contains(code), "{}", error.chain());
        let error = put_tag(&writer, &api(), &tag(name), &raw_manifest(&one)).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Locked, "{error}");
    }
    registry.gitlab(|gitlab| gitlab.options_mut().projects.get_mut("shop/backend").unwrap().renaming = true);
    let error = untag(&writer, &api(), &tag("v3")).await.unwrap_err();
    assert!(
        error.kind == RegistryErrorKind::Locked && error.chain().contains("RENAME_IN_PROGRESS"),
        "{}",
        error.chain()
    );
    registry.gitlab(|gitlab| gitlab.options_mut().projects.get_mut("shop/backend").unwrap().renaming = false);
    untag(&writer, &api(), &tag("v3")).await.unwrap();
}

#[tokio::test]
async fn whoever_may_not_delete_is_told_before_anything_is_sent() {
    let developer = user(&[GitlabScope::Api], GitlabRole::Developer);
    let registry = start(GitlabOptions { users: vec![developer], ..options() }).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    let error = untag(&writer(&registry.url()), &api(), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    assert!(error.chain().contains("the role Maintainer in the project"), "{}", error.chain());
    assert!(registry.requests().iter().all(|request| request.method == Method::GET));
}

#[tokio::test]
async fn what_was_collected_comes_back_as_long_as_its_blobs_are_there() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    put(&registry, API, "other", &build("other", 9), 5);
    // A token ends in the meantime, so each step signs in anew.
    let fresh = || writer(&registry.url());
    untag(&fresh(), &api(), &tag("v1")).await.unwrap();
    registry.advance_time(SignedDuration::from_hours(23));
    assert!(registry.manifest(API, &one.digest).is_some());
    registry.advance_time(SignedDuration::from_hours(2));
    assert!(registry.manifest(API, &one.digest).is_none(), "a day after its last tag");
    put_tag(&fresh(), &api(), &tag("v1"), &raw_manifest(&one)).await.unwrap();
    untag(&fresh(), &api(), &tag("v1")).await.unwrap();
    registry.advance_time(SignedDuration::from_hours(25));
    let _freed = registry.collect_garbage();
    let error = put_tag(&fresh(), &api(), &tag("v1"), &raw_manifest(&one)).await.unwrap_err();
    assert!(error.chain().contains("MANIFEST_BLOB_UNKNOWN"), "{}", error.chain());
}

#[tokio::test]
async fn no_manifest_is_deleted_by_its_digest() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let writer = writer(&registry.url());
    let error = delete_manifest(&writer, &api(), &one.bytes).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unsupported);
    assert!(registry.requests().iter().all(|request| request.method == Method::GET));
    writer.put_manifest(&api(), &raw_manifest(&one)).await.unwrap();
}
