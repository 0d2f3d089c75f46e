//! Removals and restores, answer by answer.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::registry::{RegistryErrorKind, RemovalResponse};

use super::{API, api, image as build, options, put, start, writer};
use crate::registry::{name, tag};
use crate::support::removal::{delete_manifest, put_tag, raw_manifest, untag};

#[tokio::test]
async fn a_tag_is_removed_alone_and_comes_back() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let writer = writer(&registry.url());
    let removed = untag(&writer, &api(), &tag("v1")).await.unwrap();
    assert!(matches!(removed, RemovalResponse::Removed { .. }), "{removed:?}");
    assert!(registry.tags(API).is_empty() && registry.manifest(API, &one.digest).is_some(), "the manifest stays");
    let deletions = registry.requests().into_iter().filter(|request| request.method == Method::DELETE);
    assert_eq!(deletions.map(|request| request.path).collect::<Vec<_>>(), ["/v2/shop/api/manifests/v1"]);
    assert_eq!(untag(&writer, &api(), &tag("v1")).await.unwrap(), RemovalResponse::AlreadyMissing);
    assert_eq!(untag(&writer, &name("shop/none"), &tag("v1")).await.unwrap(), RemovalResponse::AlreadyMissing);
    put_tag(&writer, &api(), &tag("v1"), &raw_manifest(&one)).await.unwrap();
    assert_eq!(registry.tags(API)["v1"], one.digest);
}

/// The answer, the class of the error, and a phrase of it.
#[tokio::test]
async fn each_refusal_is_what_zot_means_by_it() {
    use RegistryErrorKind::{Denied, Locked, Malformed, NotFound, Status, Throttled, Unauthenticated, Unsupported};
    let answer = |status: u16, body: &str| FaultKind::Status { status, headers: Vec::new(), body: body.to_owned() };
    let own = |code: &str, message: &str| {
        format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":{{}}}}]}}"#)
    };
    for (fault, kind, phrase) in [
        (answer(405, &own("DENIED", "requested access to the resource is denied")), Locked, "DENIED"),
        (answer(409, &own("MANIFEST_INVALID", "manifest invalid")), Locked, "MANIFEST_INVALID"),
        (answer(400, &own("UNSUPPORTED", "the operation is unsupported")), Unsupported, "UNSUPPORTED"),
        (answer(403, &own("DENIED", "requested access to the resource is denied")), Denied, "`auth`"),
        (answer(401, &own("UNAUTHORIZED", "authentication required")), Unauthenticated, "`auth`"),
        (answer(404, "<html>gone</html>"), NotFound, ""),
        (answer(500, ""), Status(500), "when the registry is well"),
        (FaultKind::HtmlPage, Malformed, "answers a deletion so"),
        (FaultKind::TooManyRequests { retry_after: None }, Throttled, "less busy"),
    ] {
        let registry = start(options()).await;
        put(&registry, API, "v1", &build("one", 9), 5);
        registry.inject(Fault::on("/manifests/v1", fault).method(Method::DELETE));
        let error = untag(&writer(&registry.url()), &api(), &tag("v1")).await.unwrap_err();
        assert_eq!(error.kind, kind, "{}", error.chain());
        assert!(error.chain().contains(phrase), "{}", error.chain());
        assert!(registry.tags(API).contains_key("v1"));
    }
}

#[tokio::test]
async fn whoever_may_not_delete_is_refused() {
    let mut options = options();
    options.users[0].delete.clear();
    let registry = start(options).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    let error = untag(&writer(&registry.url()), &api(), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied, "{}", error.chain());
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
