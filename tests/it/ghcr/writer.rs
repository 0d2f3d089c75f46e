//! Changes, answer by answer.

use std::sync::Arc;

use jiff::SignedDuration;
use tagwarden::demo::image::Image;
use tagwarden::demo::registry::{Content, EmbeddedRegistry, Fault, FaultKind, GithubToken};
use tagwarden::registry::{
    RateLimits, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings, RegistryWriter, RemovalResponse,
    connect,
};

use super::{API, TOKEN, image as build, name, options, put, refusal, secondary_limit, settings, start};
use crate::registry::{quick, tag};
use crate::support::lease::any_lease;
use crate::support::removal::{delete_manifest, raw_manifest, untag_manifest};

fn handles(registry: &EmbeddedRegistry, token: &str) -> (Arc<dyn RegistryReader>, Arc<dyn RegistryWriter>) {
    let connection = connect(settings(&registry.url(), token), quick()).unwrap();
    (connection.reader(), connection.writer(any_lease()).unwrap())
}

/// A package with three versions, of which `v1` is the oldest.
async fn filled() -> (EmbeddedRegistry, Image) {
    let registry = start(options().token(GithubToken::classic("ghp_reader", "bot", &["read:packages"]))).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    put(&registry, API, "v2", &build("two", 9), 4);
    put(&registry, API, "v3", &build("three", 9), 3);
    registry.clear_requests();
    (registry, one)
}

/// Looks at an image and deletes it.
async fn delete(registry: &EmbeddedRegistry, token: &str, image: &Image) -> Result<RemovalResponse, RegistryError> {
    let (reader, writer) = handles(registry, token);
    reader.manifest_state(&name(API), &image.digest).await.unwrap();
    delete_manifest(&writer, &name(API), &image.bytes).await
}

fn deletions(registry: &EmbeddedRegistry) -> Vec<String> {
    let requests = registry.requests();
    requests.iter().filter(|request| request.method == "DELETE").map(|request| request.path.clone()).collect()
}

#[tokio::test]
async fn nothing_is_called_an_untag() {
    let (registry, one) = filled().await;
    let (_, writer) = handles(&registry, TOKEN);
    let error = untag_manifest(&writer, &name(API), &tag("v1"), &one.bytes).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unsupported);
    assert!(error.chain().contains("removal = \"manifest\""), "{}", error.chain());
    assert_eq!(deletions(&registry), Vec::<String>::new());
}

#[tokio::test]
async fn the_version_that_was_looked_at_is_deleted_by_its_id() {
    let (registry, one) = filled().await;
    let (reader, writer) = handles(&registry, TOKEN);
    let error = delete_manifest(&writer, &name(API), &one.bytes).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::OutdatedCheck, "nobody looked");
    assert_eq!(deletions(&registry), Vec::<String>::new());
    reader.manifest_state(&name(API), &one.digest).await.unwrap();
    let done = delete_manifest(&writer, &name(API), &one.bytes).await.unwrap();
    let RemovalResponse::Removed { request_id, .. } = done else { panic!("{done:?}") };
    let path = deletions(&registry).pop().unwrap();
    let id = path.strip_prefix("/api/v3/orgs/contoso/packages/container/api/versions/").unwrap();
    assert!(request_id.starts_with(&format!("version {id}, x-github-request-id: ")), "{request_id}");
    assert!(registry.manifest(API, &one.digest).is_none());
    let error = delete_manifest(&writer, &name(API), &one.bytes).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::OutdatedCheck, "its id is of no use any more");
}

#[tokio::test]
async fn each_refusal_is_understood() {
    let last = "You cannot delete the last version of a package. You must delete the package instead.";
    for (fault, kind, phrase) in [
        (refusal(400, last, &[]), RegistryErrorKind::Locked, "delete the package by hand"),
        (refusal(400, "Invalid argument.", &[]), RegistryErrorKind::Status(400), "400"),
        (refusal(403, "Must have admin rights", &[]), RegistryErrorKind::Denied, "`delete:packages`"),
        (refusal(404, "Not Found", &[]), RegistryErrorKind::Denied, "`delete:packages`"),
        (refusal(401, "Bad credentials", &[]), RegistryErrorKind::Unauthenticated, "expired"),
        (secondary_limit(), RegistryErrorKind::Throttled, "secondary"),
        (FaultKind::TooManyRequests { retry_after: Some(0) }, RegistryErrorKind::Throttled, "429"),
        (FaultKind::HtmlPage, RegistryErrorKind::Malformed, "GitHub answers no deletion so"),
        (FaultKind::status(502), RegistryErrorKind::Status(502), "502"),
        (FaultKind::HangUp { handled: false }, RegistryErrorKind::Connection, "no answer"),
    ] {
        let (registry, one) = filled().await;
        registry.inject(Fault::on("/versions/", fault.clone()).method("DELETE".parse().unwrap()));
        let error = delete(&registry, TOKEN, &one).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}: {}", error.chain());
        assert!(error.chain().contains(phrase), "{fault:?}: {}", error.chain());
        assert_eq!(deletions(&registry).len(), 1, "{fault:?}: sent once");
        assert!(registry.manifest(API, &one.digest).is_some(), "{fault:?}");
    }
}

#[tokio::test]
async fn github_keeps_some_versions() {
    let (registry, one) = filled().await;
    registry.ghcr(|ghcr| {
        ghcr.options.public.insert(API.to_owned());
        ghcr.options.downloads.insert((API.to_owned(), one.digest.clone()), 5001);
    });
    let error = delete(&registry, TOKEN, &one).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Locked);
    assert!(error.chain().contains("make the package private first"), "{}", error.chain());
    registry.ghcr(|ghcr| ghcr.options.public.clear());
    assert!(registry.delete_tag(API, "v2") && registry.delete_tag(API, "v3"));
    let error = delete(&registry, TOKEN, &one).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Locked, "it is the last one with a tag");
    assert!(registry.manifest(API, &one.digest).is_some());
}

#[tokio::test]
async fn a_missing_right_is_told_from_a_missing_version() {
    let (registry, one) = filled().await;
    let error = delete(&registry, "ghp_reader", &one).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    assert!(error.chain().contains("`delete:packages`"), "{}", error.chain());
    let (reader, writer) = handles(&registry, TOKEN);
    reader.manifest_state(&name(API), &one.digest).await.unwrap();
    registry.content(|content| assert!(content.delete_manifest(API, &one.digest)));
    assert_eq!(delete_manifest(&writer, &name(API), &one.bytes).await.unwrap(), RemovalResponse::AlreadyMissing);
}

/// Puts a tag back, as a restore does.
async fn put_back(registry: &EmbeddedRegistry, written: &str, image: &Image) -> Result<(), RegistryError> {
    let (_, writer) = handles(registry, TOKEN);
    let permit = writer.acquire_put_permit(&name(API)).await?;
    writer.put_tag(&name(API), &tag(written), &raw_manifest(image), permit).await
}

fn changes(registry: &EmbeddedRegistry) -> Vec<String> {
    let requests = registry.requests();
    let changes = requests.iter().filter(|request| ["POST", "PUT"].contains(&request.method.as_str()));
    changes.map(|request| format!("{} {}", request.method, request.path.rsplit('/').next().unwrap())).collect()
}

#[tokio::test]
async fn a_deleted_version_is_restored_with_its_tags() {
    for restores_tags in [true, false] {
        let (registry, one) = filled().await;
        registry.ghcr(|ghcr| ghcr.options.restores_tags = restores_tags);
        delete(&registry, TOKEN, &one).await.unwrap();
        registry.clear_requests();
        put_back(&registry, "v1", &one).await.unwrap();
        assert_eq!(registry.tags(API)["v1"], one.digest);
        let expected: &[&str] = if restores_tags { &["POST restore"] } else { &["POST restore", "PUT v1"] };
        assert_eq!(changes(&registry), expected);
    }
}

#[tokio::test]
async fn what_github_no_longer_has_is_pushed_while_its_layers_are_there() {
    let (registry, one) = filled().await;
    // It may end in the instant after it was listed.
    registry.inject(Fault::on("/restore", refusal(404, "Package version not found.", &[])).times(1));
    for expected in [&["POST restore", "PUT v1"][..], &["PUT v1"]] {
        delete(&registry, TOKEN, &one).await.unwrap();
        if expected.len() == 1 {
            registry.advance_time(SignedDuration::from_hours(31 * 24));
        }
        registry.clear_requests();
        put_back(&registry, "v1", &one).await.unwrap();
        assert_eq!(changes(&registry), expected);
        assert_eq!(registry.tags(API)["v1"], one.digest);
    }
    delete(&registry, TOKEN, &one).await.unwrap();
    registry.advance_time(SignedDuration::from_hours(31 * 24));
    registry.content(Content::collect_garbage);
    let error = put_back(&registry, "v1", &one).await.unwrap_err();
    assert!(error.chain().contains("MANIFEST_BLOB_UNKNOWN"), "{}", error.chain());
}

/// A restore that fails on GitHub's side does not end the undo; one that was carried out is not repeated by a push.
#[tokio::test]
async fn a_restore_that_fails_at_github_is_followed_by_a_push() {
    let faults = [
        (refusal(500, "Something went wrong.", &[]), &["POST restore", "PUT v1"][..]),
        (FaultKind::HangUp { handled: false }, &["POST restore", "PUT v1"]),
        (FaultKind::HangUp { handled: true }, &["POST restore"]),
        (FaultKind::HandledButStatus(502), &["POST restore"]),
    ];
    for (fault, expected) in faults {
        let (registry, one) = filled().await;
        delete(&registry, TOKEN, &one).await.unwrap();
        registry.clear_requests();
        registry.inject(Fault::on("/restore", fault.clone()));
        put_back(&registry, "v1", &one).await.unwrap();
        assert_eq!(changes(&registry), expected, "{fault:?}");
        assert_eq!(registry.tags(API)["v1"], one.digest);
    }
}

#[tokio::test]
async fn no_restore_takes_a_tag_from_another_image() {
    let (registry, one) = filled().await;
    assert!(registry.move_tag(API, "latest", &one.digest));
    delete(&registry, TOKEN, &one).await.unwrap();
    let newer = build("newer", 1);
    put(&registry, API, "latest", &newer, 1);
    registry.clear_requests();
    put_back(&registry, "v1", &one).await.unwrap();
    assert_eq!(changes(&registry), ["PUT v1"], "it is pushed instead");
    let tags = registry.tags(API);
    assert_eq!((&tags["v1"], &tags["latest"]), (&one.digest, &newer.digest));
}

#[tokio::test]
async fn a_manifest_without_a_tag_comes_back_by_its_digest() {
    let (registry, one) = filled().await;
    assert!(registry.delete_tag(API, "v1"));
    delete(&registry, TOKEN, &one).await.unwrap();
    registry.clear_requests();
    let (_, writer) = handles(&registry, TOKEN);
    writer.put_manifest(&name(API), &raw_manifest(&one)).await.unwrap();
    assert!(registry.manifest(API, &one.digest).is_some());
    assert_eq!(changes(&registry), ["POST restore"]);
}

/// GitHub asks for a second between changes.
#[tokio::test]
async fn deletions_are_a_second_apart_unless_the_settings_say_otherwise() {
    let (registry, one) = filled().await;
    let two = build("two", 9);
    let settings = RegistrySettings { rate_limits: RateLimits::default(), ..settings(&registry.url(), TOKEN) };
    let connection = connect(settings, quick()).unwrap();
    let (reader, writer) = (connection.reader(), connection.writer(any_lease()).unwrap());
    for image in [&one, &two] {
        reader.manifest_state(&name(API), &image.digest).await.unwrap();
    }
    delete_manifest(&writer, &name(API), &one.bytes).await.unwrap();
    let began = std::time::Instant::now();
    delete_manifest(&writer, &name(API), &two.bytes).await.unwrap();
    let took = began.elapsed();
    assert!(took > std::time::Duration::from_millis(600), "a small delay may be caught up: {took:?}");
}
