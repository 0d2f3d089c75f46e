//! Removals and restores, answer by answer.

use http::Method;
use tagwarden::demo::image;
use tagwarden::demo::registry::{Fault, FaultKind, HARBOR_READS, HarborAccount, HarborProject, HarborSchedule};
use tagwarden::registry::{RegistryErrorKind, RemovalResponse};

use super::{ROBOT, image as build, make_immutable, name, options, put, reader, robot, start, writer};
use crate::registry::tag;
use crate::support::removal::{delete_manifest, put_tag, raw_manifest, untag_manifest};

#[tokio::test]
async fn a_tag_is_removed_on_condition_of_its_digest_and_comes_back() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/a/b", "v1", &one, 5);
    put(&registry, "shop/a/b", "v2", &one, 5);
    let (writer, shop) = (writer(&registry.url()), name("shop/a/b"));
    let removed = untag_manifest(&writer, &shop, &tag("v1"), &one.bytes).await.unwrap();
    let RemovalResponse::Removed { digest, request_id } = removed else { panic!("{removed:?}") };
    assert_eq!((digest, request_id.starts_with("x-request-id")), (None, true), "the answer names no digest");
    let path = format!("/api/v2.0/projects/shop/repositories/a%252Fb/artifacts/{}/tags/v1", one.digest);
    let sent: Vec<_> = registry.requests().into_iter().map(|request| (request.method, request.path)).collect();
    assert_eq!(sent, [(Method::DELETE, path)], "one request");
    assert_eq!(untag_manifest(&writer, &shop, &tag("v1"), &one.bytes).await.unwrap(), RemovalResponse::AlreadyMissing);
    put_tag(&writer, &shop, &tag("v1"), &raw_manifest(&one)).await.unwrap();
    assert_eq!(registry.tags("shop/a/b")["v1"], one.digest);
    assert!(registry.requests().iter().all(|request| request.method != Method::PUT), "nothing is pushed");
}

#[tokio::test]
async fn a_tag_that_moved_stays_where_it_is() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, "shop/api", "v1", &one, 5);
    put(&registry, "shop/api", "v1", &two, 5);
    let removed = untag_manifest(&writer(&registry.url()), &name("shop/api"), &tag("v1"), &one.bytes).await.unwrap();
    assert_eq!(removed, RemovalResponse::AlreadyMissing, "not there any more");
    assert_eq!(registry.tags("shop/api")["v1"], two.digest);
}

/// The answer, the class of the error, and a phrase of it.
#[tokio::test]
async fn each_refusal_is_what_harbor_means_by_it() {
    use RegistryErrorKind::{Denied, Locked, Malformed, Status, Throttled, Unauthenticated, Unsupported};
    let answer = |status: u16, body: &str| FaultKind::Status { status, headers: Vec::new(), body: body.to_owned() };
    let own = |code: &str, words: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"{words}"}}]}}"#);
    let framework = r#"{"code":404,"message":"path /api/v2.0/x was not found"}"#;
    for (fault, kind, phrase) in [
        (answer(401, &own("UNAUTHORIZED", "unauthorized")), Unauthenticated, "its secret expired"),
        (answer(403, &own("FORBIDDEN", "forbidden")), Denied, "`Delete` of `Tag`"),
        (
            answer(403, &own("DENIED", "The system is in read only mode. Any modification is prohibited.")),
            Locked,
            "read only",
        ),
        (answer(405, &own("METHOD_NOT_ALLOWED", "not supported")), Unsupported, "METHOD_NOT_ALLOWED"),
        (answer(412, &own("PRECONDITION", "the tag v1 configured as immutable")), Locked, "immutable"),
        (answer(404, framework), Malformed, "`endpoint` and `kind`"),
        (answer(404, "404 page not found"), Malformed, "`endpoint` and `kind`"),
        (answer(412, "<html>blocked</html>"), Malformed, "web page"),
        (answer(403, "<html>blocked</html>"), Malformed, "web page"),
        (FaultKind::HtmlPage, Malformed, "answers no deletion so"),
        (answer(500, &own("UNKNOWN", "internal server error")), Status(500), "when the registry is well"),
        (answer(502, "<html><h1>502 Bad Gateway</h1></html>"), Status(502), "when the registry is well"),
        (FaultKind::TooManyRequests { retry_after: None }, Throttled, "less busy"),
    ] {
        let registry = start(options()).await;
        let one = build("one", 9);
        put(&registry, "shop/api", "v1", &one, 5);
        registry.inject(Fault::on("/tags/v1", fault).method(Method::DELETE));
        let error =
            untag_manifest(&writer(&registry.url()), &name("shop/api"), &tag("v1"), &one.bytes).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.chain().contains(phrase), "{}", error.chain());
        assert!(registry.tags("shop/api").contains_key("v1"));
    }
}

#[tokio::test]
async fn rights_immutability_and_read_only_systems_are_enforced() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    make_immutable(&registry, "v*");
    let (writer, shop) = (writer(&registry.url()), name("shop/api"));
    let error = untag_manifest(&writer, &shop, &tag("v1"), &one.bytes).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Locked, "{error}");
    registry.harbor(|harbor, _| harbor.options.read_only = true);
    let error = untag_manifest(&writer, &shop, &tag("v1"), &one.bytes).await.unwrap_err();
    assert!(error.kind == RegistryErrorKind::Locked && error.chain().contains("read only mode"), "{error}");
    registry.harbor(|harbor, _| {
        harbor.options.read_only = false;
        harbor.options.accounts = vec![HarborAccount::new(ROBOT.0, ROBOT.1).project("shop", HARBOR_READS)];
    });
    let error = untag_manifest(&writer, &shop, &tag("v1"), &one.bytes).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied, "{error}");
    let error = put_tag(&writer, &shop, &tag("v3"), &raw_manifest(&one)).await.unwrap_err();
    assert!(error.kind == RegistryErrorKind::Denied && error.chain().contains("`Create` of `Tag`"), "{error}");
    assert_eq!(registry.tags("shop/api").len(), 1);
}

#[tokio::test]
async fn a_proxy_cache_takes_no_tag_back() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    registry.harbor(|harbor, _| {
        harbor.options.projects.insert("shop".into(), HarborProject { registry_id: 7, ..HarborProject::new(1) });
    });
    let error =
        put_tag(&writer(&registry.url()), &name("shop/api"), &tag("v2"), &raw_manifest(&one)).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unsupported, "{error}");
    assert!(error.chain().contains("proxy cache project"), "{error}");
}

#[tokio::test]
async fn what_garbage_collection_deleted_is_pushed_again_where_its_layers_are_there() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    let (writer, shop) = (writer(&registry.url()), name("shop/api"));
    untag_manifest(&writer, &shop, &tag("v1"), &one.bytes).await.unwrap();
    registry.harbor(|harbor, content| {
        let schedule = HarborSchedule { kind: "Daily".into(), cron: "0 0 0 * * *".into(), delete_untagged: true };
        harbor.options.garbage_collection = Some(schedule);
        assert_eq!(harbor.run_garbage_collection(content), 1);
    });
    let error = put_tag(&writer, &shop, &tag("v1"), &raw_manifest(&one)).await.unwrap_err();
    assert!(error.chain().contains("garbage collection or a tag retention"), "it may not push: {}", error.chain());
    registry.harbor(|harbor, _| {
        harbor.options.accounts = vec![robot().project("shop", &[("repository", "push")])];
    });
    put_tag(&writer, &shop, &tag("v1"), &raw_manifest(&one)).await.unwrap();
    assert_eq!(registry.tags("shop/api")["v1"], one.digest);
}

#[tokio::test]
async fn a_manifest_is_deleted_unless_an_index_lists_it() {
    let registry = start(options()).await;
    let (child, loose) = (build("amd64", 9), build("loose", 9));
    let index = image::index(image::Format::Oci, std::slice::from_ref(&child));
    put(&registry, "shop/api", "v1", &index, 5);
    registry.content(|content| content.put_image("shop/api", None, &loose));
    registry.harbor(|harbor, _| {
        harbor.options.accounts = vec![robot().project("shop", &[("artifact", "delete")])];
    });
    let (writer, shop) = (writer(&registry.url()), name("shop/api"));
    let error = delete_manifest(&writer, &shop, &child.bytes).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Locked);
    assert!(error.chain().contains("referenced by others"), "{error}");
    let removed = delete_manifest(&writer, &shop, &loose.bytes).await.unwrap();
    assert!(matches!(removed, RemovalResponse::Removed { .. }));
    assert!(!reader(&registry.url()).has_manifest(&shop, &loose.digest).await.unwrap());
    assert_eq!(delete_manifest(&writer, &shop, &loose.bytes).await.unwrap(), RemovalResponse::AlreadyMissing);
    // An index is one by its type, too, and what has no type may be one.
    let path = format!("/artifacts/{}", index.digest);
    for kind in ["\"application/vnd.oci.image.index.v1+json\"", "null", "\"application/vnd.example\""] {
        let body = format!(r#"{{"digest":"{}","references":null,"manifest_media_type":{kind}}}"#, index.digest);
        registry.inject(Fault::on(&path, FaultKind::Status { status: 200, headers: Vec::new(), body }).times(1));
        let error = delete_manifest(&writer, &shop, &index.bytes).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Locked, "{kind}");
        assert!(error.chain().contains("is an index"), "{}", error.chain());
    }
    assert!(registry.manifest("shop/api", &index.digest).is_some());
}
