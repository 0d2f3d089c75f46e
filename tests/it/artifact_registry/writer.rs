//! Removals and restores, answer by answer.

use tagwarden::demo::image;
use tagwarden::demo::registry::{ArtifactRepository, Fault, FaultKind};
use tagwarden::registry::{RegistryErrorKind, RemovalResponse};

use super::{API, image as build, name, options, put, refusal, request_counts, start, throttling, writer};
use crate::registry::tag;
use crate::support::removal::{delete_manifest, put_tag, raw_manifest, untag_manifest};

#[tokio::test]
async fn a_tag_is_removed_alone_and_comes_back_without_a_push() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let (writer, api) = (writer(&registry.url()), name(API));
    let removed = untag_manifest(&writer, &api, &tag("v1"), &one.bytes).await.unwrap();
    assert_eq!(removed, RemovalResponse::Removed { request_id: String::new(), digest: None });
    assert!(registry.manifest(API, &one.digest).is_some(), "the last tag leaves the manifest");
    assert_eq!(untag_manifest(&writer, &api, &tag("v1"), &one.bytes).await.unwrap(), RemovalResponse::AlreadyMissing);
    put_tag(&writer, &api, &tag("v1"), &raw_manifest(&one)).await.unwrap();
    put_tag(&writer, &api, &tag("v1"), &raw_manifest(&one)).await.unwrap();
    assert_eq!(registry.tags(API)["v1"], one.digest);
    let asked = request_counts(&registry);
    assert_eq!((asked["DELETE tags/*"], asked["POST tags"], asked["GET tags/*"]), (2, 2, 1), "{asked:?}");
    assert!(asked.keys().all(|kind| !kind.contains("/v2/")), "{asked:?}");
}

/// The answer, the class of the error, and a phrase of it.
#[tokio::test]
async fn each_refusal_is_what_google_means_by_it() {
    use RegistryErrorKind::{Denied, Locked, Malformed, Status, Throttled, Unauthenticated};
    for (fault, kind, phrase) in [
        (refusal(400, "FAILED_PRECONDITION", "immutable"), Locked, "tags of the repository are immutable"),
        (refusal(403, "PERMISSION_DENIED", "denied"), Denied, "`artifactregistry.tags.delete`"),
        (refusal(401, "UNAUTHENTICATED", "no"), Unauthenticated, "does not accept the token"),
        (refusal(400, "INVALID_ARGUMENT", "odd"), Status(400), "odd"),
        (refusal(503, "UNAVAILABLE", "later"), Status(503), "when the registry is well"),
        (throttling(), Throttled, "quota"),
        (FaultKind::HtmlPage, Malformed, "answers no deletion so"),
        (
            FaultKind::Status { status: 404, headers: Vec::new(), body: "<html>nothing</html>".into() },
            Malformed,
            "check `endpoint`",
        ),
        (
            FaultKind::Status { status: 403, headers: Vec::new(), body: "<html>blocked</html>".into() },
            Malformed,
            "check `endpoint`",
        ),
    ] {
        let registry = start(options()).await;
        let one = build("one", 9);
        put(&registry, API, "v1", &one, 5);
        registry.inject(Fault::on("/tags/v1", fault));
        let error = untag_manifest(&writer(&registry.url()), &name(API), &tag("v1"), &one.bytes).await.unwrap_err();
        assert_eq!(error.kind, kind, "{}", error.chain());
        assert!(error.chain().contains(phrase), "{}", error.chain());
        assert_eq!(registry.tags(API).len(), 1);
        assert_eq!(request_counts(&registry)["DELETE tags/*"], 1, "sent once");
    }
}

#[tokio::test]
async fn restores_push_what_was_deleted_and_overwrite_nothing() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, API, "v1", &one, 5);
    put(&registry, API, "v2", &two, 5);
    let (writer, api) = (writer(&registry.url()), name(API));
    let error = put_tag(&writer, &api, &tag("v1"), &raw_manifest(&two)).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Locked, "{}", error.chain());
    assert_eq!(registry.tags(API)["v1"], one.digest);
    // Somebody deleted the image; its layers are still there.
    registry.content(|content| content.delete_manifest(API, &two.digest));
    put_tag(&writer, &api, &tag("v2"), &raw_manifest(&two)).await.unwrap();
    assert_eq!(registry.tags(API)["v2"], two.digest);
    assert!(request_counts(&registry).contains_key("PUT /v2/ manifests"));
    registry.content(|content| {
        content.delete_manifest(API, &two.digest);
        let _freed = content.collect_garbage();
    });
    let error = put_tag(&writer, &api, &tag("v2"), &raw_manifest(&two)).await.unwrap_err();
    assert!(error.chain().contains("could not be pushed"), "{}", error.chain());
}

#[tokio::test]
async fn a_manifest_is_deleted_unless_it_has_a_tag_or_an_index_lists_it() {
    let registry = start(options()).await;
    let (child, loose) = (build("amd64", 9), build("loose", 9));
    let index = image::index(image::Format::Oci, std::slice::from_ref(&child));
    put(&registry, API, "v1", &index, 5);
    registry.content(|content| content.put_image(API, None, &loose));
    let (writer, api) = (writer(&registry.url()), name(API));
    for kept in [&child, &index] {
        let error = delete_manifest(&writer, &api, &kept.bytes).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Locked, "{}", error.chain());
    }
    assert!(registry.delete_tag(API, "v1"));
    for gone in [&loose, &index, &child] {
        let removed = delete_manifest(&writer, &api, &gone.bytes).await.unwrap();
        let RemovalResponse::Removed { request_id, .. } = removed else { panic!("{removed:?}") };
        assert!(request_id.starts_with("operation: projects/acme/locations/europe-west3/operations/"), "{request_id}");
        assert_eq!(delete_manifest(&writer, &api, &gone.bytes).await.unwrap(), RemovalResponse::AlreadyMissing);
    }
    assert_eq!(request_counts(&registry)["GET operations/*"], 3, "a deletion is done a moment later");
}

#[tokio::test]
async fn tags_that_became_immutable_stay() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let immutable = ArtifactRepository { immutable_tags: true, ..ArtifactRepository::default() };
    registry.artifact_registry(|service| drop(service.options.repositories.insert("acme/shop".to_owned(), immutable)));
    let error = untag_manifest(&writer(&registry.url()), &name(API), &tag("v1"), &one.bytes).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Locked, "{}", error.chain());
    assert_eq!(registry.tags(API).len(), 1);
}
