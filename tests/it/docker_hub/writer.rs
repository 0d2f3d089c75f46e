//! Removals and restores, answer by answer.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::registry::{RegistryErrorKind, RemovalResponse};

use super::{API, api, image as build, options, put, start, writer};
use crate::registry::tag;
use crate::support::removal::{delete_manifest, put_tag, raw_manifest, untag};

#[tokio::test]
async fn a_tag_is_removed_alone_and_comes_back() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let writer = writer(&registry.url());
    let removed = untag(&writer, &api(), &tag("v1")).await.unwrap();
    assert!(matches!(removed, RemovalResponse::Removed { .. }), "{removed:?}");
    let deletions = registry.requests().into_iter().filter(|request| request.method == Method::DELETE);
    assert_eq!(deletions.map(|request| request.path).collect::<Vec<_>>(), ["/v2/repositories/contoso/api/tags/v1/"]);
    assert_eq!(untag(&writer, &api(), &tag("v1")).await.unwrap(), RemovalResponse::AlreadyMissing);
    put_tag(&writer, &api(), &tag("v1"), &raw_manifest(&one)).await.unwrap();
    assert_eq!(registry.tags(API)["v1"], one.digest);
}

/// The answer, the class of the error, and a phrase of it.
#[tokio::test]
async fn each_refusal_is_what_docker_hub_means_by_it() {
    use RegistryErrorKind::{Denied, Locked, Malformed, Status, Throttled, TokenRenewed, Unsupported};
    let answer = |status: u16, body: &str| FaultKind::Status { status, headers: Vec::new(), body: body.to_owned() };
    for (fault, kind, phrase) in [
        (answer(403, r#"{"message":"tag is immutable and cannot be deleted","errinfo":{}}"#), Locked, "immutable"),
        (answer(400, r#"{"detail":"Immutable tags cannot be deleted"}"#), Locked, "Immutable"),
        (
            answer(403, r#"{"detail":"access is forbidden with a JWT issued from a personal access token"}"#),
            Denied,
            "Read, Write, Delete",
        ),
        (answer(401, r#"{"detail":"authentication required"}"#), TokenRenewed, "there is a new token"),
        (answer(404, "<html>gone</html>"), Malformed, "these are not Docker Hub's words"),
        (answer(405, r#"{"message":"method not allowed"}"#), Unsupported, ""),
        (
            answer(500, r#"{"message":"Delete \"https://registry.example\": status=401","errinfo":{}}"#),
            Status(500),
            "500",
        ),
        (FaultKind::HtmlPage, Malformed, "answers no removal so"),
        (FaultKind::TooManyRequests { retry_after: None }, Throttled, "`concurrency`"),
    ] {
        let registry = start(options()).await;
        put(&registry, API, "v1", &build("one", 9), 5);
        registry.inject(Fault::on("/tags/v1/", fault).method(Method::DELETE));
        let error = untag(&writer(&registry.url()), &api(), &tag("v1")).await.unwrap_err();
        assert_eq!(error.kind, kind, "{}", error.chain());
        assert!(error.chain().contains(phrase), "{}", error.chain());
        assert!(registry.tags(API).contains_key("v1"));
    }
}

#[tokio::test]
async fn immutable_tags_and_missing_scopes_are_enforced() {
    let mut options = options();
    options.immutable.insert(API.into(), vec!["^v1$".into()]);
    let registry = start(options).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    put(&registry, API, "v2", &build("one", 9), 5);
    let writer = writer(&registry.url());
    assert_eq!(untag(&writer, &api(), &tag("v1")).await.unwrap_err().kind, RegistryErrorKind::Locked);
    registry.docker_hub(|hub| hub.options.accounts[0].may_delete = false);
    assert_eq!(untag(&writer, &api(), &tag("v2")).await.unwrap_err().kind, RegistryErrorKind::Denied);
}

/// Docker Hub says of what an account may not see that it does not exist.
#[tokio::test]
async fn a_repository_that_is_not_seen_any_more_is_a_refusal_and_not_a_missing_tag() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    let writer = writer(&registry.url());
    registry.docker_hub(|hub| {
        hub.options.private.insert(API.into());
        hub.options.accounts[0].writable.clear();
    });
    let error = untag(&writer, &api(), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied, "{}", error.chain());
    assert!(error.chain().contains("the account's permission in the repository"), "{}", error.chain());
}

#[tokio::test]
async fn no_manifest_is_deleted_by_its_digest() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let writer = writer(&registry.url());
    let error = delete_manifest(&writer, &api(), &one.bytes).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unsupported);
    writer.put_manifest(&api(), &raw_manifest(&one)).await.unwrap();
    assert!(registry.requests().iter().all(|request| request.method != Method::DELETE));
}
