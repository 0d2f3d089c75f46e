//! Removals and restores, answer by answer.

use tagwarden::demo::image;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::registry::{RegistryErrorKind, RemovalResponse};

use super::{image as build, name, options, put, refusal, request_counts, start, throttling, writer};
use crate::registry::tag;
use crate::support::removal::{delete_manifest, put_tag, raw_manifest, untag_manifest};

#[tokio::test]
async fn a_tag_that_is_not_the_last_one_is_removed_and_comes_back() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    assert!(registry.move_tag("shop/api", "stable", &one.digest));
    registry.clear_requests();
    let (writer, shop) = (writer(&registry.url()), name("shop/api"));
    let removed = untag_manifest(&writer, &shop, &tag("v1"), &one.bytes).await.unwrap();
    assert_eq!(removed, RemovalResponse::Removed { request_id: String::new(), digest: Some(one.digest.clone()) });
    let expected = [("BatchDeleteImage".to_owned(), 1), ("DescribeImages".to_owned(), 1)];
    assert_eq!(request_counts(&registry), expected.into(), "a look at the image's tags, and the removal");
    assert_eq!(registry.tags("shop/api").into_keys().collect::<Vec<_>>(), ["stable"]);
    assert_eq!(untag_manifest(&writer, &shop, &tag("v1"), &one.bytes).await.unwrap(), RemovalResponse::AlreadyMissing);
    put_tag(&writer, &shop, &tag("v1"), &raw_manifest(&one)).await.unwrap();
    put_tag(&writer, &shop, &tag("v1"), &raw_manifest(&one)).await.unwrap();
    assert_eq!(registry.tags("shop/api")["v1"], one.digest);
}

#[tokio::test]
async fn a_last_tag_is_never_removed_by_an_untag() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    assert!(registry.move_tag("shop/api", "v2", &one.digest));
    let (writer, shop) = (writer(&registry.url()), name("shop/api"));
    // Both at once: one of them is the last.
    let (v1, v2) = (tag("v1"), tag("v2"));
    let both =
        tokio::join!(untag_manifest(&writer, &shop, &v1, &one.bytes), untag_manifest(&writer, &shop, &v2, &one.bytes));
    let results = [both.0, both.1];
    let removed = results.iter().filter(|result| matches!(result, Ok(RemovalResponse::Removed { .. }))).count();
    assert_eq!((removed, registry.tags("shop/api").len()), (1, 1), "{results:?}");
    let error = results.into_iter().find_map(Result::err).unwrap();
    assert_eq!(error.kind, RegistryErrorKind::Locked);
    assert!(error.chain().contains("is the last tag of"), "{}", error.chain());
    assert!(registry.manifest("shop/api", &one.digest).is_some());
}

#[tokio::test]
async fn a_tag_that_moves_in_the_last_instant_is_told_with_its_image() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, "shop/api", "v1", &one, 5);
    assert!(registry.move_tag("shop/api", "a", &one.digest) && registry.move_tag("shop/api", "b", &one.digest));
    put(&registry, "shop/api", "v2", &two, 5);
    let (writer, shop, elsewhere) = (writer(&registry.url()), name("shop/api"), two.digest.clone());
    // It moves after the last look.
    let moves = FaultKind::before_request(move |content| assert!(content.move_tag("shop/api", "v1", &elsewhere)));
    registry.inject(Fault::on("/BatchDeleteImage", moves).times(1));
    let removed = untag_manifest(&writer, &shop, &tag("v1"), &one.bytes).await.unwrap();
    // The answer tells where the tag was, so that the caller can put it back there.
    assert_eq!(removed, RemovalResponse::Removed { request_id: String::new(), digest: Some(two.digest.clone()) });
    assert!(registry.manifest("shop/api", &two.digest).is_some());
}

/// The answer, the class of the error, and a phrase of it.
#[tokio::test]
async fn each_refusal_is_what_amazon_means_by_it() {
    use RegistryErrorKind::{Denied, Locked, Malformed, Status, Throttled, Unauthenticated};
    let failure = |code: &str| {
        let body = format!(
            r#"{{"imageIds":[],"failures":[{{"imageId":{{"imageTag":"v1"}},"failureCode":"{code}","failureReason":"so"}}]}}"#
        );
        FaultKind::Status { status: 200, headers: Vec::new(), body }
    };
    for (fault, kind, phrase) in [
        (failure("ImageReferencedByManifestList"), Locked, "an index lists it"),
        (failure("ImageInaccessible"), Locked, "archived"),
        (failure("KmsError"), Denied, "encrypted"),
        (failure("UpstreamUnavailable"), Status(200), "caches another registry"),
        (failure("OfLaterDays"), Status(200), "OfLaterDays for v1: so"),
        (refusal("AccessDeniedException", "not authorized"), Denied, "`ecr:BatchDeleteImage`"),
        (refusal("InvalidSignatureException", "does not match"), Unauthenticated, "the clock of this machine"),
        (refusal("ExpiredTokenException", "expired"), Unauthenticated, "session of the keys is over"),
        (refusal("InvalidParameterException", "imageIds"), Status(400), "InvalidParameterException"),
        (throttling(), Throttled, "less busy"),
        (
            FaultKind::Status { status: 500, headers: Vec::new(), body: String::new() },
            Status(500),
            "when the registry is well",
        ),
        (FaultKind::HtmlPage, Malformed, "cannot be understood"),
        (
            FaultKind::Status { status: 403, headers: Vec::new(), body: "<html>blocked</html>".into() },
            Malformed,
            "check `endpoint`",
        ),
    ] {
        let registry = start(options()).await;
        let one = build("one", 9);
        put(&registry, "shop/api", "v1", &one, 5);
        assert!(registry.move_tag("shop/api", "stable", &one.digest));
        registry.inject(Fault::on("/BatchDeleteImage", fault));
        let error =
            untag_manifest(&writer(&registry.url()), &name("shop/api"), &tag("v1"), &one.bytes).await.unwrap_err();
        assert_eq!(error.kind, kind, "{}", error.chain());
        assert!(error.chain().contains(phrase), "{}", error.chain());
        assert_eq!(registry.tags("shop/api").len(), 2);
        assert_eq!(request_counts(&registry)["BatchDeleteImage"], 1, "sent once");
    }
}

#[tokio::test]
async fn restores_say_what_is_missing() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, "shop/api", "v1", &one, 5);
    put(&registry, "shop/api", "v2", &two, 5);
    let (writer, shop) = (writer(&registry.url()), name("shop/api"));
    registry.ecr(|ecr| {
        ecr.options.immutable.insert("shop/api".to_owned());
    });
    let error = put_tag(&writer, &shop, &tag("v1"), &raw_manifest(&two)).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Locked, "{}", error.chain());
    // The image was deleted, and then its layers.
    registry.content(|content| {
        content.delete_manifest("shop/api", &two.digest);
        let _freed = content.collect_garbage();
    });
    let error = put_tag(&writer, &shop, &tag("v2"), &raw_manifest(&two)).await.unwrap_err();
    assert!(error.chain().contains("LayersNotFoundException") && error.chain().contains("push it again"), "{error}");
    let index = image::index(image::Format::Oci, &[two]);
    let error = put_tag(&writer, &shop, &tag("v3"), &raw_manifest(&index)).await.unwrap_err();
    assert!(error.chain().contains("ReferencedImagesNotFoundException"), "{}", error.chain());
}

#[tokio::test]
async fn an_image_is_deleted_unless_an_index_lists_it() {
    let registry = start(options()).await;
    let (child, loose) = (build("amd64", 9), build("loose", 9));
    let index = image::index(image::Format::Oci, std::slice::from_ref(&child));
    put(&registry, "shop/api", "v1", &index, 5);
    registry.content(|content| content.put_image("shop/api", None, &loose));
    let (writer, shop) = (writer(&registry.url()), name("shop/api"));
    let error = delete_manifest(&writer, &shop, &child.bytes).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Locked);
    for image in [&loose, &index, &child] {
        let removed = delete_manifest(&writer, &shop, &image.bytes).await.unwrap();
        assert!(matches!(removed, RemovalResponse::Deleted { .. }), "{removed:?}: the index before what it lists");
        assert_eq!(delete_manifest(&writer, &shop, &image.bytes).await.unwrap(), RemovalResponse::AlreadyMissing);
    }
    assert_eq!(registry.tags("shop/api").len(), 0);
}
