//! Removals and restores, answer by answer.

use http::Method;
use serde_json::json;
use tagwarden::demo::image;
use tagwarden::demo::registry::{Attributes, Fault, FaultKind, QuayScope, QuayState, QuayToken, Target};
use tagwarden::registry::{RegistryErrorKind, RemovalRecord, RemovalResponse};

use super::{TOKEN, image as build, name, options, put, reader, start, writer};
use crate::registry::tag;
use crate::support::removal::{delete_manifest, put_tag, raw_manifest, untag};

#[tokio::test]
async fn a_tag_goes_into_the_time_machine_and_comes_back() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    put(&registry, "shop/api", "v2", &one, 5);
    let writer = writer(&registry.url());
    let removed = untag(&writer, &name("shop/api"), &tag("v1")).await.unwrap();
    assert_eq!(removed, RemovalResponse::Removed { request_id: String::new(), digest: None });
    let record = reader(&registry.url()).removal_record(&name("shop/api"), &tag("v1"), &one.digest).await.unwrap();
    let expected = RemovalRecord::Removed { digest: one.digest.clone(), is_certain: true };
    assert_eq!(record, Some(expected), "the history tells what it named in the instant of its removal");
    assert_eq!(registry.tags("shop/api").into_keys().collect::<Vec<_>>(), ["v2"]);
    let deletions = registry.requests().into_iter().filter(|request| request.method == Method::DELETE);
    assert_eq!(deletions.map(|request| request.path).collect::<Vec<_>>(), ["/api/v1/repository/shop/api/tag/v1"]);
    assert_eq!(untag(&writer, &name("shop/api"), &tag("v1")).await.unwrap(), RemovalResponse::AlreadyMissing);
    put_tag(&writer, &name("shop/api"), &tag("v1"), &raw_manifest(&one)).await.unwrap();
    assert_eq!(registry.tags("shop/api")["v1"], one.digest);
    untag(&writer, &name("shop/api"), &tag("v1")).await.unwrap();
    let clearance = writer.acquire_put_permit(&name("shop/api")).await.unwrap();
    writer.revive_tag(&name("shop/api"), &tag("v1"), &one.digest, clearance).await.unwrap();
    assert_eq!(registry.tags("shop/api")["v1"], one.digest, "by the digest alone");
}

#[tokio::test]
async fn the_history_tells_what_became_of_a_tag() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, "shop/api", "v1", &one, 5);
    put(&registry, "shop/api", "v2", &two, 5);
    let (writer, reader, shop) = (writer(&registry.url()), reader(&registry.url()), name("shop/api"));
    let record = async |wanted: &str| reader.removal_record(&shop, &tag(wanted), &one.digest).await;
    assert_eq!(record("v1").await.unwrap(), Some(RemovalRecord::Active(one.digest.clone())), "nothing was removed");
    let other = two.digest.clone();
    let moves = FaultKind::before_request(move |content| assert!(content.move_tag("shop/api", "v1", &other)));
    registry.inject(Fault::on("/tag/v1", moves).method(Method::DELETE));
    untag(&writer, &shop, &tag("v1")).await.unwrap();
    let expected = RemovalRecord::Removed { digest: two.digest, is_certain: true };
    assert_eq!(record("v1").await.unwrap(), Some(expected));
    let error = record("v9").await.unwrap_err();
    assert!(error.chain().contains("history of shop/api:v9 is empty"), "{}", error.chain());
    registry.inject(Fault::on("specificTag=v1", FaultKind::HtmlPage));
    assert!(record("v1").await.is_err(), "a history that cannot be read proves nothing");
}

/// A tag that expires by itself has an end that is to come.
#[tokio::test]
async fn an_end_that_is_to_come_is_not_a_removal() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    let row =
        json!({ "name": "v1", "manifest_digest": one.digest.to_string(), "start_ts": 1, "end_ts": 9_000_000_000_i64 });
    let body = json!({ "tags": [row], "page": 1, "has_additional": false }).to_string();
    registry.inject(Fault::on("specificTag=v1", FaultKind::Status { status: 200, headers: Vec::new(), body }));
    let record = reader(&registry.url()).removal_record(&name("shop/api"), &tag("v1"), &one.digest).await.unwrap();
    assert_eq!(record, Some(RemovalRecord::Active(one.digest)));
}

/// The proof that a tag is gone takes one request for one tag, and only where the repository answers.
#[tokio::test]
async fn a_tag_is_proven_absent_by_one_request() {
    let registry = start(options()).await;
    put(&registry, "shop/api", "v1", &build("one", 9), 5);
    let (reader, shop) = (reader(&registry.url()), name("shop/api"));
    assert!(reader.lists_tag(&shop, &tag("v1")).await.unwrap());
    assert!(!reader.lists_tag(&shop, &tag("v2")).await.unwrap());
    reader.verify_readable(&shop).await.unwrap();
    let paths: Vec<String> = registry.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
    let gone = name("shop/gone");
    let errors =
        [reader.lists_tag(&gone, &tag("v1")).await.unwrap_err(), reader.verify_readable(&gone).await.unwrap_err()];
    assert!(errors.iter().all(|error| error.kind == RegistryErrorKind::NotFound), "{errors:?}");
}

/// The answer, the class of the error, and a phrase of it.
#[tokio::test]
async fn each_refusal_is_what_quay_means_by_it() {
    use RegistryErrorKind::{Denied, Locked, Malformed, Status, Throttled, Unauthenticated};
    let answer = |status: u16, body: &str| FaultKind::Status { status, headers: Vec::new(), body: body.to_owned() };
    let own = |kind: &str, detail: &str| format!(r#"{{"error_type":"{kind}","detail":"{detail}"}}"#);
    for (fault, kind, phrase) in [
        (answer(401, &own("expired_token", "gone")), Unauthenticated, "scope `repo:write`"),
        (answer(403, &own("insufficient_scope", "Unauthorized")), Denied, "scope `repo:write`"),
        (answer(409, &own("tag_immutable", "Cannot delete immutable tag 'v1'")), Locked, "immutable tag 'v1'"),
        (answer(400, &own("invalid_request", "no")), Status(400), "invalid_request: no"),
        (answer(503, r#"{"message":"Repository is in read only or mirror mode: MIRROR"}"#), Locked, "mirror mode"),
        (answer(503, ""), Status(503), "when the registry is well"),
        (answer(404, r#"{"message":"no such route"}"#), Malformed, "check the registry's `endpoint` and `kind`"),
        (FaultKind::HtmlPage, Malformed, "answers no deletion so"),
        (answer(403, "<html>blocked</html>"), Malformed, "web page"),
        (answer(429, "<html><h1>429 Too Many Requests</h1></html>"), Throttled, "less busy"),
        (answer(502, "<html><h1>502 Bad Gateway</h1></html>"), Status(502), "when the registry is well"),
        (FaultKind::TooManyRequests { retry_after: None }, Throttled, "less busy"),
    ] {
        let registry = start(options()).await;
        put(&registry, "shop/api", "v1", &build("one", 9), 5);
        registry.inject(Fault::on("/tag/v1", fault).method(Method::DELETE));
        let error = untag(&writer(&registry.url()), &name("shop/api"), &tag("v1")).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.chain().contains(phrase), "{error}");
        assert!(registry.tags("shop/api").contains_key("v1"));
    }
}

#[tokio::test]
async fn rights_immutability_and_states_are_enforced() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    put(&registry, "shop/web", "v1", &one, 5);
    registry.quay(|quay| quay.set_state("shop/web", QuayState::ReadOnly));
    registry.content(|content| {
        let lock = content.attributes_mut("shop/api", Target::Tag("v1")).unwrap();
        *lock = Attributes { delete: false, write: false, ..*lock };
    });
    let writer = writer(&registry.url());
    for (repository, phrase) in [("shop/api", "Cannot delete immutable tag"), ("shop/web", "READ_ONLY")] {
        let error = untag(&writer, &name(repository), &tag("v1")).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Locked, "{error}");
        assert!(error.chain().contains(phrase), "{error}");
    }
    let error = put_tag(&writer, &name("shop/api"), &tag("v1"), &raw_manifest(&one)).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Locked);
    registry.expire_tokens();
    registry.quay(|quay| quay.add_token(QuayToken::new(TOKEN, &[QuayScope::RepoRead], "shop")));
    let error = untag(&writer, &name("shop/api"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn what_left_the_time_machine_does_not_come_back() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    let writer = writer(&registry.url());
    untag(&writer, &name("shop/api"), &tag("v1")).await.unwrap();
    registry.advance_time(jiff::SignedDuration::from_hours(15 * 24));
    let error = put_tag(&writer, &name("shop/api"), &tag("v1"), &raw_manifest(&one)).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::NotFound);
    assert!(error.chain().contains("left the time machine of its namespace"), "{error}");
}

#[tokio::test]
async fn no_manifest_is_deleted_or_put_by_its_digest() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    let writer = writer(&registry.url());
    let error = delete_manifest(&writer, &name("shop/api"), &one.bytes).await.unwrap_err();
    let other = writer.put_manifest(&name("shop/api"), &raw_manifest(&one)).await.unwrap_err();
    assert_eq!((error.kind, other.kind), (RegistryErrorKind::Unsupported, RegistryErrorKind::Unsupported));
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn signatures_that_quay_removed_with_their_image_come_back_with_it() {
    let registry = start(options()).await;
    let one = build("one", 9);
    let tags = [".sig", ".att", ".sbom"].map(|ending| image::companion_tag(&one.digest, ending));
    put(&registry, "shop/api", "v1", &one, 5);
    for tag in &tags {
        put(&registry, "shop/api", tag, &build(tag, 9), 5);
    }
    let (writer, shop) = (writer(&registry.url()), name("shop/api"));
    // One was removed by itself, long before: that was meant.
    untag(&writer, &shop, &tag(&tags[1])).await.unwrap();
    registry.advance_time(jiff::SignedDuration::from_hours(5));
    untag(&writer, &shop, &tag("v1")).await.unwrap();
    assert_eq!(registry.tags("shop/api").len(), 0, "they went along");
    put_tag(&writer, &shop, &tag("v1"), &raw_manifest(&one)).await.unwrap();
    let back: Vec<String> = registry.tags("shop/api").into_keys().collect();
    assert_eq!(back, [tags[2].as_str(), tags[0].as_str(), "v1"]);
    assert_eq!(registry.tags("shop/api")[&tags[0]], build(&tags[0], 9).digest);
}
