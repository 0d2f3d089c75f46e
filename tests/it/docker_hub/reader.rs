//! What is read of tags and manifests.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::json;
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::domain::{CompactTime, GapTarget, Lock, ManifestDetail, PullTime, UnreadKind};
use tagwarden::registry::{AcceptedRisks, RegistryErrorKind, RegistrySettings, UntagSupport, connect};

use super::{API, USER, api, image as build, noon, options, put, read, reader, request_counts, settings, start};
use crate::registry::{gaps, name, quick, tag};
use crate::support::memory::MemoryCache;

const TAGS: &str = "/v2/namespaces/contoso/repositories/api/tags";

#[tokio::test]
async fn the_list_tells_push_times_sizes_platforms_and_immutable_tags() {
    let mut options = options();
    options.immutable.insert(API.into(), vec![r"^v\d+\.\d+\.\d+$".into()]);
    let registry = start(options).await;
    let (one, children) = (build("one", 9), [build("amd64", 9), build("arm64", 9)]);
    let index = image::index(Format::Oci, &children);
    put(&registry, API, "v1", &one, 40);
    put(&registry, API, "v1.0.0", &one, 30);
    put(&registry, API, "v2", &index, 3);
    let note = (image::media_type::SPDX, Blob::of("note"));
    let artifact = image::artifact("a/note", note, Some(&one), &[]);
    put(&registry, API, "note", &artifact, 3);
    let repository = read(&registry).await;
    assert_eq!(repository.gaps, []);
    let found: Vec<_> = repository.tags.iter().map(|tag| (tag.name.as_str(), tag.pushed_at, tag.lock)).collect();
    let days = |days: i64| Some(CompactTime::from(noon() - SignedDuration::from_hours(24 * days)));
    let expected = [
        ("note", days(3), None),
        ("v1", days(40), None),
        ("v1.0.0", days(30), Some(Lock::DeleteAndWrite)),
        ("v2", days(3), None),
    ];
    assert_eq!(found, expected);
    let detail = |digest| repository.manifests[digest].detail;
    assert_eq!(detail(&one.digest), ManifestDetail::Listed { image_size: Some(one.total_bytes()) });
    assert_eq!(detail(&index.digest), ManifestDetail::Listed { image_size: Some(0) });
    assert_eq!(detail(&children[0].digest), ManifestDetail::Listed { image_size: Some(children[0].total_bytes()) });
    let listed: BTreeSet<_> = repository.manifests[&index.digest].children.iter().cloned().collect();
    assert_eq!(listed, children.iter().map(|child| child.digest.clone()).collect());
    assert_eq!(repository.manifests[&artifact.digest].unread_kind(), Some(UnreadKind::Artifact));
    let expected =
        [("POST /v2/auth/token", 1), ("GET /v2/namespaces/contoso/repositories/api", 1), (&*format!("GET {TAGS}"), 1)];
    assert_eq!(request_counts(&registry), expected.map(|(path, count)| (path.to_owned(), count)).into());
}

#[tokio::test]
async fn settings_of_immutable_tags_that_are_not_understood_lock_every_tag() {
    for rule in ["(", "[a--z]"] {
        let mut options = options();
        options.immutable.insert(API.into(), vec![rule.into()]);
        let registry = start(options).await;
        put(&registry, API, "v1", &build("one", 9), 5);
        assert_eq!(read(&registry).await.tags[0].lock, Some(Lock::DeleteAndWrite), "{rule}");
    }
    for (settings, lock) in [
        (json!({ "immutable_tags_settings": { "enabled": false, "rules": [".*"] } }), None),
        (json!({ "immutable_tags_settings": null }), None),
        (json!({}), None),
        (json!({ "immutable_tags_settings": { "enabled": true } }), Some(Lock::DeleteAndWrite)),
        (json!({ "immutable_tags_settings": { "enabled": "yes" } }), Some(Lock::DeleteAndWrite)),
        (json!({ "immutable_tags_settings": "all" }), Some(Lock::DeleteAndWrite)),
    ] {
        let registry = start(options()).await;
        put(&registry, API, "v1", &build("one", 9), 5);
        let answer = FaultKind::Status {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body: settings.to_string(),
        };
        registry.inject(Fault::on("/repositories/api", answer).times(1));
        assert_eq!(read(&registry).await.tags[0].lock, lock, "{settings}");
    }
}

/// Tags, and requests for their list.
#[tokio::test]
async fn a_list_is_read_page_by_page() {
    for (tags, requests) in [(1, 1), (100, 1), (101, 2), (250, 3)] {
        let registry = start(options()).await;
        registry.content(|content| {
            for number in 0..tags {
                content.put_image(API, Some(&format!("build-{number:05}")), &build("one", 9));
            }
        });
        let repository = read(&registry).await;
        assert_eq!((repository.tags.len(), repository.gaps.len()), (tags, 0));
        assert_eq!(request_counts(&registry)[&format!("GET {TAGS}")], requests);
    }
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_read_is_read_again_and_then_given_up() {
    let registry = start(options()).await;
    let one = build("one", 9);
    registry.content(|content| {
        for number in 0..150 {
            content.put_image(API, Some(&format!("build-{number:05}")), &one);
        }
    });
    let removes = FaultKind::before_request(|content| assert!(content.delete_tag(API, "build-00000")));
    registry.inject(Fault::on("page=2", removes).times(1));
    let repository = read(&registry).await;
    assert_eq!((repository.tags.len(), repository.gaps.len()), (149, 0));
    let moves = FaultKind::before_request(|content| {
        let next = content.tags(API).len();
        content.put_image(API, Some(&format!("more-{next:05}")), &build("one", 9));
    });
    registry.inject(Fault::on("page=2", moves));
    let repository = read(&registry).await;
    assert_eq!((repository.tags.len(), gaps(&repository.gaps)), (0, vec![(GapTarget::TagList, "malformed")]));
    assert!(repository.gaps[0].message.contains("changed each time that it was read"), "{:?}", repository.gaps);
}

#[tokio::test]
async fn repositories_come_from_their_namespace() {
    let registry = start(options()).await;
    for number in 0..120 {
        put(&registry, &format!("contoso/app-{number}"), "v1", &build("one", 9), 5);
    }
    put(&registry, "other/api", "v1", &build("one", 9), 5);
    let reader = reader(&registry.url());
    let catalogue = reader.catalogue().await.unwrap();
    assert_eq!((catalogue.repositories.len(), catalogue.gaps.len()), (120, 0));
    assert_eq!(request_counts(&registry)["GET /v2/namespaces/contoso/repositories"], 2);
    let unnamed = reader.repository(&name("contoso/none"), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!((unnamed.tags.len(), unnamed.gaps.len()), (0, 0), "it is gone since the list");
    assert_eq!(reader.tags(&name("contoso/none")).await.unwrap_err().kind, RegistryErrorKind::NotFound);
    let named = RegistrySettings { repositories: vec![name("contoso/none")], ..settings(&registry.url()) };
    let reader = connect(named, quick()).unwrap().reader();
    let repository = reader.repository(&name("contoso/none"), &BTreeSet::new(), &MemoryCache::default()).await;
    assert!(repository.gaps[0].message.contains("is it spelled"), "{:?}", repository.gaps);
}

#[tokio::test]
async fn a_token_is_got_once_and_renewed_when_it_ended() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    let reader = reader(&registry.url());
    for _ in 0..2 {
        reader.tags(&api()).await.unwrap();
    }
    assert_eq!(request_counts(&registry)["POST /v2/auth/token"], 1);
    registry.expire_tokens();
    reader.tags(&api()).await.unwrap();
    assert_eq!(request_counts(&registry)["POST /v2/auth/token"], 2);
    registry.docker_hub(|hub| hub.options.accounts[0].secret = "another".into());
    registry.expire_tokens();
    let error = reader.tags(&api()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unauthenticated, "{}", error.chain());
    assert!(error.chain().contains("does not accept the secret of cleaner"), "{}", error.chain());
    assert!(!error.chain().contains(USER.1), "no secret is shown");
}

#[tokio::test]
async fn pulls_are_those_of_the_tag_and_of_its_platforms_where_they_may_be_relied_on() {
    let registry = start(options()).await;
    let (one, child) = (build("one", 9), build("amd64", 9));
    put(&registry, API, "pulled", &one, 40);
    put(&registry, API, "index", &image::index(Format::Oci, std::slice::from_ref(&child)), 40);
    put(&registry, API, "never", &build("never", 9), 40);
    let reader = reader(&registry.url());
    reader.resolve(&api(), &tag("never")).await.unwrap().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/token?service=x&scope=repository:{API}:pull", registry.url());
    let token: serde_json::Value =
        serde_json::from_slice(&client.get(url).send().await.unwrap().bytes().await.unwrap()).unwrap();
    for reference in ["pulled".to_owned(), child.digest.to_string()] {
        let url = format!("{}/v2/{API}/manifests/{reference}", registry.url());
        let pull = client
            .get(url)
            .bearer_auth(token["token"].as_str().unwrap())
            .header("accept", image::media_type::OCI_MANIFEST);
        assert_eq!(pull.send().await.unwrap().status().as_u16(), 200);
    }
    let accepted = AcceptedRisks { pull_times: true, ..AcceptedRisks::default() };
    let stated = connect(RegistrySettings { accepted, ..settings(&registry.url()) }, quick()).unwrap().reader();
    let repository = stated.repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await;
    let found: Vec<_> =
        repository.pull_times.iter().map(|(tag, pulled)| (tag.as_str(), matches!(pulled, PullTime::At(_)))).collect();
    assert_eq!(found, [("index", true), ("never", false), ("pulled", true)], "a look at a tag does not count");
    assert!(read(&registry).await.pull_times.is_empty(), "nobody said that every pull is recorded");
}

#[tokio::test]
async fn what_the_account_may_do_is_told_before_anything_is_sent() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    put(&registry, "other/api", "v1", &build("one", 9), 5);
    let reader = reader(&registry.url());
    let found = reader.missing_rights(&[api(), name("other/api")]).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), [&name("other/api")]);
    assert!(format!("{found:?}").contains("`Read & Write`"), "{found:?}");
    assert_eq!(reader.capabilities().await.untag, UntagSupport::Unknown, "the first removal finds out");
}

/// The fault, where it is, and a phrase of the gap.
#[tokio::test]
async fn answers_that_are_not_docker_hubs_are_gaps() {
    let status = |status: u16, body: &str| FaultKind::Status { status, headers: Vec::new(), body: body.into() };
    for (path, fault, phrase) in [
        (TAGS, status(404, "gone"), "these are not Docker Hub's words"),
        (TAGS, status(403, r#"{"detail":"access is forbidden"}"#), "access is forbidden"),
        (TAGS, status(500, ""), "when the registry is well"),
        (TAGS, FaultKind::HtmlPage, ""),
        ("/repositories/api", status(500, ""), "when the registry is well"),
        (TAGS, status(200, r#"{"results":[]}"#), ""),
    ] {
        let registry = start(options()).await;
        put(&registry, API, "v1", &build("one", 9), 5);
        registry.inject(Fault::on(path, fault));
        let repository = read(&registry).await;
        assert_eq!(repository.tags.len(), 0, "{path}");
        assert!(repository.gaps.len() == 1 && repository.gaps[0].target == GapTarget::TagList, "{:?}", repository.gaps);
        assert!(repository.gaps[0].message.contains(phrase), "{}", repository.gaps[0].message);
    }
}

/// The fault, where it is, and the answer: whether the tag is listed, or a phrase of the error.
#[tokio::test]
async fn a_tag_is_absent_only_if_the_list_of_tags_answers() {
    let status = |status: u16, body: &str| FaultKind::Status { status, headers: Vec::new(), body: body.into() };
    let not_found = r#"{"message":"object not found","errinfo":{}}"#;
    for (tag_name, path, fault, expected, requests) in [
        ("v1", "none", FaultKind::HtmlPage, Ok(true), 1),
        ("v9", "none", FaultKind::HtmlPage, Ok(false), 2),
        (
            "v9",
            "page_size=1",
            status(404, not_found),
            Err("knows no repository contoso/api that the account may see"),
            2,
        ),
        ("v9", "page_size=1", status(403, r#"{"detail":"access is forbidden"}"#), Err("access is forbidden"), 2),
        ("v9", "page_size=1", FaultKind::HtmlPage, Err(""), 2),
        ("v9", "page_size=1", status(200, "{}"), Err(""), 2),
        ("v1", "/tags/v1", status(404, "gone"), Err("these are not Docker Hub's words"), 1),
        ("v1", "/tags/v1", status(200, r#"{"name":"v2"}"#), Err("another tag"), 1),
        ("v1", "/tags/v1", status(200, "{}"), Err(""), 1),
        ("v1", "/tags/v1", FaultKind::HtmlPage, Err(""), 1),
    ] {
        let registry = start(options()).await;
        put(&registry, API, "v1", &build("one", 9), 5);
        registry.inject(Fault::on(path, fault));
        let found = reader(&registry.url()).lists_tag(&api(), &tag(tag_name)).await;
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{tag_name} {path}"),
            (Err(error), Err(phrase)) => assert!(error.chain().contains(phrase), "{}", error.chain()),
            _ => panic!("{tag_name} {path}: {found:?} instead of {expected:?}"),
        }
        let asked = registry.requests().into_iter().filter(|request| request.path.contains("/repositories/api/tags"));
        assert_eq!(asked.count(), requests, "{tag_name} {path}");
    }
}

#[tokio::test]
async fn what_the_account_may_not_see_any_more_is_not_absent() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    let reader = reader(&registry.url());
    reader.verify_readable(&api()).await.unwrap();
    registry.docker_hub(|hub| {
        hub.options.private.insert(API.into());
        hub.options.accounts[0].writable.clear();
    });
    for tag_name in ["v1", "v9"] {
        let error = reader.lists_tag(&api(), &tag(tag_name)).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::NotFound, "{}", error.chain());
    }
    assert_eq!(reader.verify_readable(&api()).await.unwrap_err().kind, RegistryErrorKind::NotFound);
}
