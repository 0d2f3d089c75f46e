//! What is read of tags and manifests.

use std::collections::BTreeSet;

use http::Method;
use jiff::SignedDuration;
use serde_json::json;
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{Fault, FaultKind, ZotOptions};
use tagwarden::domain::{CompactTime, GapTarget, ManifestDetail, RetentionDays, UnreadKind, UntagEffect};
use tagwarden::registry::{ContentCache as _, RegistryErrorKind, UntagSupport};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{API, api, image as build, noon, options, put, read, reader, request_counts, start};
use crate::registry::{gaps, name, tag};
use crate::support::memory::MemoryCache;

const SEARCH: &str = "/v2/_zot/ext/search";

fn days_ago(days: i64) -> CompactTime {
    (noon() - SignedDuration::from_hours(24 * days)).into()
}

#[tokio::test]
async fn one_question_tells_times_sizes_configurations_children_and_what_refers_to_them() {
    let registry = start(options()).await;
    let (one, children) = (build("one", 9), [build("amd64", 9), build("arm64", 9)]);
    let index = image::index(Format::Oci, &children);
    let sbom =
        image::artifact("application/spdx+json", (image::media_type::SPDX, Blob::layer("sbom", 10)), Some(&one), &[]);
    let note = image::artifact("a/note", (image::media_type::SPDX, Blob::of("note")), Some(&children[1]), &[]);
    put(&registry, API, "v1", &one, 40);
    put(&registry, API, "v2", &index, 3);
    put(&registry, API, "sbom", &sbom, 2);
    registry.content(|content| content.put_image(API, None, &note));
    let repository = read(&registry).await;
    assert_eq!(repository.gaps, []);
    assert_eq!(repository.tags.iter().map(|tag| tag.name.as_str()).collect::<Vec<_>>(), ["sbom", "v1", "v2"]);
    assert!(repository.tags.iter().all(|tag| tag.pushed_at.is_none()), "zot does not tell when a tag moved");

    let listed = &repository.manifests[&one.digest];
    assert_eq!(listed.created_at, Some(days_ago(40)));
    assert_eq!(listed.detail, ManifestDetail::Listed { image_size: Some(one.total_bytes()) });
    let body: serde_json::Value = serde_json::from_slice(&one.bytes).unwrap();
    assert_eq!(listed.config.as_ref().map(ToString::to_string).as_deref(), body["config"]["digest"].as_str());

    let listed = &repository.manifests[&index.digest];
    let expected: BTreeSet<_> = children.iter().map(|child| child.digest.clone()).collect();
    assert_eq!(listed.children.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!((listed.created_at, listed.detail), (Some(days_ago(3)), ManifestDetail::Listed { image_size: Some(0) }));
    let child = &repository.manifests[&children[0].digest];
    assert_eq!(child.detail, ManifestDetail::Listed { image_size: Some(children[0].total_bytes()) });

    let subject = |digest| repository.manifests.get(digest).and_then(|found| found.subject.as_deref().cloned());
    assert_eq!(subject(&sbom.digest), Some(one.digest.clone()));
    assert_eq!(subject(&note.digest), Some(children[1].digest.clone()));
    assert!(!repository.manifests[&sbom.digest].is_unread(), "what it refers to is known");

    let expected = [
        ("GET /v2/", 1),
        ("GET /v2/_oci/ext/discover", 1),
        ("GET /v2/_zot/ext/search", 1),
        ("GET /v2/shop/api/tags/list", 1),
    ];
    assert_eq!(request_counts(&registry), expected.map(|(path, count)| (path.to_owned(), count)).into());
}

#[tokio::test]
async fn what_the_search_leaves_out_is_looked_up_without_a_pull() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let signature = image::signature(&one.digest, API);
    let signed = image::companion_tag(&one.digest, ".sig");
    put(&registry, API, &signed, &signature, 5);
    let empty = image::index(Format::Oci, &[]);
    put(&registry, API, "nothing", &empty, 5);
    let repository = read(&registry).await;
    assert_eq!((repository.tags.len(), repository.gaps.len()), (3, 0), "{:?}", repository.gaps);
    let kind = |digest| repository.manifests[digest].unread_kind();
    assert_eq!(kind(&signature.digest), Some(UnreadKind::Artifact));
    assert_eq!(kind(&empty.digest), Some(UnreadKind::Index));
    let asked = request_counts(&registry);
    assert_eq!(asked["HEAD /v2/shop/api/manifests/"], 2);
    assert!(!asked.keys().any(|path| path.starts_with("GET") && path.ends_with("/manifests/")), "{asked:?}");
}

/// A tag is never younger than it says: one that moved to what had been pushed before counts by when it was seen there.
#[tokio::test]
async fn a_moved_tag_has_no_push_time_and_the_youngest_tag_of_an_image_counts() {
    let registry = start(options()).await;
    let (old, new) = (build("old", 90), build("new", 90));
    put(&registry, API, "old", &old, 80);
    put(&registry, API, "new", &new, 10);
    put(&registry, API, "late", &old, 4);
    registry.content(|content| assert!(content.move_tag(API, "new", &old.digest)));
    let repository = read(&registry).await;
    assert_eq!(repository.manifests[&old.digest].created_at, Some(days_ago(4)));
    assert!(repository.tags.iter().all(|tag| tag.digest.as_ref() == Some(&old.digest) && tag.pushed_at.is_none()));
    let state = reader(&registry.url()).resolve(&api(), &tag("new")).await.unwrap().unwrap();
    assert_eq!((state.digest, state.pushed_at), (old.digest, None));
}

#[tokio::test]
async fn a_release_without_times_of_tags_is_asked_for_the_rest() {
    let registry = start(ZotOptions { has_tag_times: false, ..options() }).await;
    let one = build("one", 90);
    put(&registry, API, "v1", &one, 80);
    put(&registry, API, "v2", &one, 4);
    let reader = reader(&registry.url());
    for reads in [2, 3] {
        let repository = reader.repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await;
        assert_eq!(repository.gaps, []);
        assert_eq!(repository.manifests[&one.digest].created_at, Some(days_ago(80)), "the push of the manifest");
        assert_eq!(request_counts(&registry)[&format!("GET {SEARCH}")], reads, "the refusal is remembered");
    }
}

#[tokio::test]
async fn without_the_search_it_is_read_like_any_registry_and_that_is_told() {
    let registry = start(ZotOptions { has_search: false, release: String::new(), ..options() }).await;
    let one = build("one", 90);
    put(&registry, API, "v1", &one, 80);
    let reader = reader(&registry.url());
    let repository = reader.repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!((repository.tags.len(), repository.gaps.len()), (1, 0));
    assert_eq!(repository.manifests[&one.digest].detail, ManifestDetail::Full);
    assert!(!request_counts(&registry).keys().any(|path| path.contains(SEARCH)));
    let info = reader.registry_info().await.unwrap().unwrap();
    assert_eq!(info.untagged_retention, RetentionDays::Unknown);
    assert!(info.cleanup_rules.iter().any(|rule| rule.contains("enable `extensions.search` there")), "{info:?}");
    assert_eq!(reader.capabilities().await.untag, UntagSupport::DeletesLast, "the release is not known");
    assert!(reader.missing_rights(&[api()]).await.is_empty());
}

/// The release, and what an untag does there.
#[tokio::test]
async fn the_release_decides_whether_tags_can_be_removed_alone() {
    for (release, untag) in [
        ("v2.1.14", UntagSupport::Native),
        ("v2.1.2", UntagSupport::Native),
        ("v2.1.1", UntagSupport::DeletesLast),
        ("", UntagSupport::DeletesLast),
    ] {
        let registry = start(ZotOptions { release: release.into(), ..options() }).await;
        let reader = reader(&registry.url());
        assert_eq!(reader.known_capabilities().untag, UntagSupport::Unknown, "nothing was asked yet");
        assert_eq!(reader.capabilities().await.untag, untag, "{release}");
        let product = reader.product().await.unwrap();
        assert_eq!(product.untag == UntagEffect::LeavesManifest, untag == UntagSupport::Native);
    }
    let silent = MockServer::start().await;
    let found = reader(&silent.uri()).capabilities().await;
    assert_eq!(found.untag, UntagSupport::DeletesLast, "of what does not answer nothing is known");
}

#[tokio::test]
async fn manifests_are_read_as_blobs_which_is_no_pull() {
    let registry = start(options()).await;
    let note = (image::media_type::SPDX, Blob::of("note"));
    let artifact = image::artifact("a/note", note, None, &[]);
    put(&registry, API, "note", &artifact, 5);
    let mut repository = read(&registry).await;
    assert_eq!(
        repository.manifests[&artifact.digest].unread_kind(),
        Some(UnreadKind::Artifact),
        "no image by its type"
    );
    let (cache, reader) = (MemoryCache::default(), reader(&registry.url()));
    for _ in 0..2 {
        reader.read_manifests(&mut repository, &[artifact.digest.clone()].into(), &cache).await;
    }
    assert!(!repository.manifests[&artifact.digest].is_unread());
    assert_eq!(repository.manifests[&artifact.digest].created_at, Some(days_ago(5)), "the push stays its time");
    assert!(cache.manifest(&artifact.digest).await.is_some());
    let asked = request_counts(&registry);
    assert_eq!(asked["GET /v2/shop/api/blobs/"], 1);
    assert!(!asked.contains_key("GET /v2/shop/api/manifests/"), "{asked:?}");

    // Where there is no such blob, the manifest itself is asked for.
    registry.inject(Fault::on("/blobs/", FaultKind::Status { status: 404, headers: Vec::new(), body: String::new() }));
    let found = reader.manifest(&api(), &artifact.digest).await.unwrap().unwrap();
    assert_eq!((&*found.bytes, &*found.media_type), (&*artifact.bytes, artifact.media_type));
    let missing = build("other", 9).digest;
    assert_eq!(reader.manifest(&api(), &missing).await.unwrap(), None);
}

/// The search before the list of tags: what is removed in between is not there, and what is added is looked up.
#[tokio::test]
async fn tags_that_come_and_go_meanwhile_are_as_the_list_of_tags_has_them() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, API, "gone", &one, 5);
    put(&registry, API, "stays", &one, 5);
    let changes = FaultKind::before_request(move |content| {
        assert!(content.delete_tag(API, "gone"));
        content.put_image(API, Some("new"), &two);
    });
    registry.inject(Fault::on("/tags/list", changes).times(1));
    let repository = read(&registry).await;
    assert_eq!(repository.gaps, []);
    assert_eq!(repository.tags.iter().map(|tag| tag.name.as_str()).collect::<Vec<_>>(), ["new", "stays"]);
}

/// The pages move under their reader: the list is read again, and no tag is lost.
#[tokio::test]
async fn a_list_that_changes_between_two_pages_loses_no_tag() {
    let registry = start(options()).await;
    let one = build("one", 9);
    registry.content(|content| {
        for number in 0..5_010 {
            content.put_image(API, Some(&format!("build-{number:05}")), &one);
        }
    });
    let removes = FaultKind::before_request(|content| assert!(content.delete_tag(API, "build-00000")));
    registry.inject(Fault::on("offset%3A5000", removes).method(Method::GET).times(1));
    let repository = read(&registry).await;
    assert_eq!((repository.tags.len(), repository.gaps.len()), (5_009, 0));
    let asked = request_counts(&registry);
    assert_eq!(asked[&format!("GET {SEARCH}")], 4, "two pages, twice");
    assert!(!asked.contains_key("HEAD /v2/shop/api/manifests/"), "{asked:?}");
}

/// Answers of the search that are not to be believed, with a phrase of what is told.
#[tokio::test]
async fn a_search_that_fails_is_a_gap() {
    let answer = |status: u16, body: serde_json::Value| FaultKind::Status {
        status,
        headers: vec![("content-type".into(), "application/json".into())],
        body: body.to_string(),
    };
    let row = json!({ "RepoName": "shop/web", "Tag": "v1" });
    let of =
        |rows: serde_json::Value| json!({ "data": { "ImageList": { "Page": { "TotalCount": 1 }, "Results": rows } } });
    for (fault, phrase) in [
        (
            answer(200, json!({ "errors": [{ "message": "image meta not found" }], "data": null })),
            "image meta not found",
        ),
        (
            answer(
                422,
                json!({ "errors": [{ "message": "Cannot query field \"Digest\" on type \"ImageSummary\"." }] }),
            ),
            "Digest",
        ),
        (answer(200, json!({ "data": { "ImageList": null } })), "is not understood"),
        (answer(200, of(json!([{ "Tag": "v1" }]))), "is not understood"),
        (answer(200, of(json!([row]))), "answers with images of shop/web"),
        (
            answer(
                200,
                json!({ "errors": [{ "message": "a" }], "data": { "ImageList": { "Page": { "TotalCount": 0 }, "Results": [] } } }),
            ),
            "did not answer",
        ),
        (FaultKind::HtmlPage, "answers in JSON"),
        (answer(500, json!({})), "when the registry is well"),
        (answer(404, json!({})), "404"),
    ] {
        let registry = start(options()).await;
        put(&registry, API, "v1", &build("one", 9), 5);
        registry.inject(Fault::on(SEARCH, fault));
        let repository = read(&registry).await;
        assert_eq!(repository.tags.len(), 0);
        assert_eq!(
            gaps(&repository.gaps).iter().map(|(at, _)| at.clone()).collect::<Vec<_>>(),
            [GapTarget::TagList],
            "{phrase}"
        );
        assert!(repository.gaps[0].message.contains(phrase), "{phrase}: {}", repository.gaps[0].message);
    }
}

#[tokio::test]
async fn rows_that_are_odd_are_in_doubt_by_themselves() {
    let server = MockServer::start().await;
    let good = build("one", 9).digest.to_string();
    let rows = json!([
        { "RepoName": API, "Tag": "v1", "Digest": good, "MediaType": image::media_type::DOCKER_MANIFEST, "Size": "x",
          "PushTimestamp": "lately", "DownloadCount": -1, "Referrers": 7, "Manifests": [{ "Digest": 9 }] },
        { "RepoName": API, "Tag": "v2", "Digest": "sha256:short" },
    ]);
    let list = json!({ "data": { "ImageList": { "Page": { "TotalCount": 2 }, "Results": rows } } });
    let extensions = json!({ "extensions": [{ "name": "_zot", "url": "", "endpoints": [SEARCH] }] });
    for (route, body) in [
        ("/v2/".to_owned(), json!({})),
        ("/v2/_oci/ext/discover".to_owned(), extensions),
        (SEARCH.to_owned(), list),
        (format!("/v2/{API}/tags/list"), json!({ "name": API, "tags": ["v1", "v2"] })),
    ] {
        let answer = ResponseTemplate::new(200).set_body_json(body);
        Mock::given(method("GET")).and(path(route)).respond_with(answer).mount(&server).await;
    }
    let repository = reader(&server.uri()).repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!(gaps(&repository.gaps), [(GapTarget::Tag(tag("v2")), "malformed")]);
    let listed = &repository.manifests[&good.parse().unwrap()];
    assert_eq!((listed.created_at, listed.detail), (None, ManifestDetail::Listed { image_size: None }));
}

#[tokio::test]
async fn whoever_may_not_read_a_repository_sees_an_error_and_not_an_empty_list() {
    let registry = start(options()).await;
    put(&registry, "other/api", "v1", &build("one", 9), 5);
    let reader = reader(&registry.url());
    let repository = reader.repository(&name("other/api"), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!(gaps(&repository.gaps), [(GapTarget::TagList, "denied")]);
    assert_eq!(reader.tags(&name("other/api")).await.unwrap_err().kind, RegistryErrorKind::Denied);
    assert_eq!(reader.catalogue().await.unwrap().repositories, []);
}

#[tokio::test]
async fn the_search_shows_who_may_delete() {
    let mut options = options();
    options.users[0].read = vec!["shop/".into(), "web/".into(), "empty/".into()];
    let registry = start(options).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    put(&registry, "web/api", "v1", &build("one", 9), 5);
    let reader = reader(&registry.url());
    let found = reader.missing_rights(&[api(), name("web/api")]).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), [&name("web/api")]);
    assert!(format!("{found:?}").contains("the action `delete` is missing in `accessControl`"), "{found:?}");
    let found = reader.missing_rights(&[name("empty/api")]).await;
    assert!(format!("{found:?}").contains("CheckFailed"), "{found:?}");
}
