//! What is read of tags and manifests.

use std::collections::BTreeSet;

use serde_json::json;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{Fault, FaultKind, GitlabOptions, GitlabRole, TagRule};
use tagwarden::domain::{CompactTime, GapTarget, Lock, ManifestDetail, UnreadKind};
use tagwarden::registry::{ContentCache as _, RegistryErrorKind, RegistrySettings};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{
    API, TOKEN, api, image, options, put, read, reader, reader_of, request_counts, seconds_before, settings, start,
};
use crate::registry::{gaps, name, tag};
use crate::support::memory::MemoryCache;

const LIST: &str = "/gitlab/v1/repositories/shop/backend/api/tags/list/";

#[tokio::test]
async fn tags_come_with_push_time_size_configuration_and_locks() {
    let mut options = options();
    let project = options.projects.get_mut("shop/backend").unwrap();
    project.protected = vec![TagRule { pattern: "^v2".into(), push: GitlabRole::Developer, delete: GitlabRole::Owner }];
    project.immutable = vec![r"\d+\.\d+\.\d+".into()];
    let registry = start(options).await;
    let one = image("one", 9);
    put(&registry, API, "v1", &one, 40);
    put(&registry, API, "v2", &image("two", 9), 3);
    put(&registry, API, "v3.0.0", &image("three", 9), 2);
    let repository = read(&registry).await;
    assert_eq!(repository.gaps, []);
    let pushed: Vec<_> = repository.tags.iter().map(|tag| tag.pushed_at.map(CompactTime::timestamp)).collect();
    let pushed: Vec<_> = pushed.iter().map(|at| at.unwrap().as_second()).collect();
    assert_eq!(pushed, [seconds_before(40), seconds_before(3), seconds_before(2)]);
    let locks: Vec<_> = repository.tags.iter().map(|tag| tag.lock).collect();
    assert_eq!(locks, [None, Some(Lock::Delete), Some(Lock::DeleteAndWrite)]);
    let listed = &repository.manifests[&one.digest];
    let expected = ManifestDetail::Unread { image_size: Some(one.total_bytes()), kind: UnreadKind::Artifact };
    assert_eq!(listed.detail, expected, "it may refer to something");
    let body: serde_json::Value = serde_json::from_slice(&one.bytes).unwrap();
    assert_eq!(listed.config.as_ref().map(ToString::to_string).as_deref(), body["config"]["digest"].as_str());
    let expected = [("GET /v2/", 1), ("GET /jwt/auth", 2), (&*format!("GET {LIST}"), 1)];
    let expected = expected.map(|(path, count)| (path.to_owned(), count));
    assert_eq!(request_counts(&registry), expected.into(), "a token to read, and one that tells what is protected");
    let scopes: Vec<_> =
        registry.requests().into_iter().filter_map(|one| Some(one.path.split_once("scope=")?.1.to_owned())).collect();
    assert_eq!(
        scopes,
        ["repository%3Ashop%2Fbackend%2Fapi%3Apull", "repository%3Ashop%2Fbackend%2Fapi%3Apull%2Cdelete"]
    );
}

#[tokio::test]
async fn a_docker_image_is_known_to_refer_to_nothing() {
    let registry = start(options()).await;
    let docker = image::ImageSpec { format: Format::Docker, ..image::ImageSpec::new(super::noon(), &[]) }.build();
    put(&registry, API, "v1", &docker, 5);
    let repository = read(&registry).await;
    assert!(matches!(repository.manifests[&docker.digest].detail, ManifestDetail::Listed { .. }));
}

#[tokio::test]
async fn what_an_index_lists_is_read_where_it_matters_and_only_once() {
    let registry = start(options()).await;
    let children = [image("amd64", 9), image("arm64", 9)];
    let index = image::index(Format::Oci, &children);
    put(&registry, API, "v1", &index, 5);
    let mut repository = read(&registry).await;
    let expected = ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index };
    assert_eq!(repository.manifests[&index.digest].detail, expected);
    let (cache, reader) = (MemoryCache::default(), reader(&registry.url()));
    for _ in 0..2 {
        reader.read_manifests(&mut repository, &[index.digest.clone()].into(), &cache).await;
    }
    let listed: BTreeSet<_> = repository.manifests[&index.digest].children.iter().cloned().collect();
    assert_eq!(listed, children.iter().map(|child| child.digest.clone()).collect());
    assert!(listed.iter().all(|child| repository.manifests.contains_key(child)));
    assert!(cache.manifest(&index.digest).await.is_some(), "kept for the next plan and for an undo");
    assert_eq!(request_counts(&registry)["GET /v2/shop/backend/api/manifests/"], 1);
}

/// The registry's `Link` leaves `referrers` out, so whoever follows it loses them from the second page on.
#[tokio::test]
async fn what_refers_to_tags_is_told_on_every_page() {
    for has_referrers in [true, false] {
        let registry = start(GitlabOptions { has_referrers, ..options() }).await;
        let one = image("one", 9);
        registry.content(|content| {
            for number in 0..1100 {
                content.put_image(API, Some(&format!("build-{number:05}")), &one);
            }
        });
        let (first, last) = (image("first", 9), image("last", 9));
        put(&registry, API, "build-00000", &first, 5);
        put(&registry, API, "build-01099", &last, 5);
        let blob = || ("application/spdx+json", tagwarden::demo::blob::Blob::layer("sbom", 10));
        let sboms = [&first, &last].map(|of| image::artifact("application/spdx+json", blob(), Some(of), &[]));
        registry.content(|content| sboms.iter().for_each(|sbom| content.put_image(API, None, sbom)));
        put(&registry, API, "sbom", &sboms[0], 5);
        let repository = read(&registry).await;
        assert_eq!((repository.tags.len(), repository.gaps.len()), (1101, 0));
        let subjects = sboms
            .each_ref()
            .map(|sbom| repository.manifests.get(&sbom.digest).and_then(|found| found.subject.as_deref().cloned()));
        let expected = [Some(first.digest.clone()), Some(last.digest.clone())];
        assert_eq!(subjects, if has_referrers { expected } else { [None, None] });
        assert_eq!(request_counts(&registry)[&format!("GET {LIST}")], 2);
    }
}

/// How many tags, and how many requests for their list: a page that is full and has no link may have lost it on the way.
#[tokio::test]
async fn a_list_that_fills_its_last_page_is_read_to_its_end() {
    for (tags, requests) in [(999, 1), (1000, 2), (1001, 2), (2000, 2)] {
        let registry = start(options()).await;
        registry.content(|content| {
            for number in 0..tags {
                content.put_image(API, Some(&format!("build-{number:05}")), &image("one", 9));
            }
        });
        let repository = read(&registry).await;
        assert_eq!((repository.tags.len(), repository.gaps.len()), (tags, 0), "{tags}");
        assert_eq!(request_counts(&registry)[&format!("GET {LIST}")], requests, "{tags}");
    }
}

#[tokio::test]
async fn tags_that_come_and_go_meanwhile_hide_no_other() {
    let registry = start(options()).await;
    registry.content(|content| {
        for number in 0..2500 {
            content.put_image(API, Some(&format!("build-{number:05}")), &image("one", 9));
        }
    });
    let changes = FaultKind::before_request(move |content| {
        content.delete_tag(API, "build-00010");
        content.delete_tag(API, "build-00999");
        content.put_image(API, Some("build-00000-new"), &image("one", 9));
    });
    registry.inject(Fault::on("last=", changes).times(1));
    let repository = read(&registry).await;
    assert_eq!(repository.gaps, []);
    let listed: BTreeSet<_> = repository.tags.iter().map(|tag| tag.name.to_string()).collect();
    let there: BTreeSet<_> = registry.tags(API).into_keys().collect();
    let missed: Vec<_> = there.difference(&listed).collect();
    assert_eq!(missed, ["build-00000-new"], "it came after its page was read, as if after the whole list");
}

#[tokio::test]
async fn a_tag_is_looked_at_by_itself() {
    for has_exact_filter in [true, false] {
        let mut options = GitlabOptions { has_exact_filter, ..options() };
        options.projects.get_mut("shop/backend").unwrap().immutable = vec!["^v10$".into()];
        let registry = start(options).await;
        let one = image("one", 9);
        put(&registry, API, "v1", &one, 5);
        put(&registry, API, "v10", &image("ten", 9), 5);
        let reader = reader(&registry.url());
        let found = reader.resolve(&api(), &tag("v1")).await.unwrap().unwrap();
        assert_eq!((found.digest, found.lock), (one.digest, None));
        let pushed_at = found.pushed_at.map(jiff::Timestamp::as_second);
        assert_eq!(pushed_at, has_exact_filter.then(|| seconds_before(5)), "older versions tell the digest alone");
        let found = reader.resolve(&api(), &tag("v10")).await.unwrap().unwrap();
        assert_eq!(found.lock, Some(Lock::DeleteAndWrite));
        assert_eq!(reader.resolve(&api(), &tag("v2")).await.unwrap(), None);
        assert_eq!(reader.resolve(&name("shop/backend"), &tag("v2")).await.unwrap(), None, "no such repository");
    }
}

#[tokio::test]
async fn a_registry_without_a_metadata_database_is_not_taken_for_an_empty_one() {
    let registry = start(GitlabOptions { has_database: false, ..options() }).await;
    put(&registry, API, "v1", &image("one", 9), 5);
    let repository = read(&registry).await;
    assert_eq!(gaps(&repository.gaps), [(GapTarget::TagList, "unsupported")]);
    let words = &repository.gaps[0].message;
    assert!(words.contains("no metadata database") && words.contains("write kind = \"distribution\""), "{words}");
    let error = reader(&registry.url()).resolve(&api(), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unsupported);
}

#[tokio::test]
async fn what_is_not_gitlabs_registry_is_not_taken_for_an_empty_one() {
    for answer in [ResponseTemplate::new(404), ResponseTemplate::new(404).set_body_raw("<html>", "text/html")] {
        let server = MockServer::start().await;
        Mock::given(method("GET")).and(path(LIST)).respond_with(answer).mount(&server).await;
        let repository = reader(&server.uri()).repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await;
        assert_eq!(gaps(&repository.gaps), [(GapTarget::TagList, "malformed")]);
        let words = &repository.gaps[0].message;
        assert!(words.contains("check the registry's `endpoint` and `kind`"), "{words}");
    }
}

#[tokio::test]
async fn tokens_may_come_from_another_host_that_the_settings_name() {
    let shared = options();
    let tokens = start(shared.clone()).await;
    let realm = format!("{}/jwt/auth", tokens.url());
    let registry = start(GitlabOptions { realm: Some(realm), ..shared }).await;
    put(&registry, API, "v1", &image("one", 9), 5);
    let read = async |settings: RegistrySettings| {
        reader_of(settings).repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await
    };
    let refused = read(settings(&registry.url())).await;
    assert_eq!(gaps(&refused.gaps), [(GapTarget::TagList, "denied")]);
    assert!(refused.gaps[0].message.contains("token_hosts"), "{:?}", refused.gaps);
    let host = tokens.host().to_owned();
    let named = read(RegistrySettings { token_hosts: vec![host], ..settings(&registry.url()) }).await;
    assert_eq!((named.tags.len(), named.gaps.len()), (1, 0));
    let mut with_api = super::settings_with_api(&registry.url());
    with_api.api.as_mut().unwrap().endpoint = tokens.url().parse().unwrap();
    let by_api = read(with_api).await;
    assert_eq!((by_api.tags.len(), by_api.gaps.len()), (1, 0), "GitLab's own address is enough");
}

/// The body of a list of tags, and what comes of it.
#[tokio::test]
async fn odd_answers_keep_what_they_leave_in_doubt() {
    let digest = image("one", 9).digest.to_string();
    let good = json!({ "name": "v1", "digest": digest, "media_type": "x", "published_at": "2026-01-01T00:00:00.000Z" });
    for (body, expected) in [
        (json!({ "tags": [good] }), vec![(GapTarget::TagList, "malformed")]),
        (json!(null), vec![(GapTarget::TagList, "malformed")]),
        (json!([good, 7]), vec![(GapTarget::InvalidName("7".into()), "invalid-name")]),
        (
            json!([good, { "name": "v 2", "digest": digest }]),
            vec![(GapTarget::InvalidName("v 2".into()), "invalid-name")],
        ),
        (json!([{ "name": "v1", "digest": "sha256:short" }]), vec![(GapTarget::Tag(tag("v1")), "malformed")]),
        (json!([{ "name": "v1" }]), vec![(GapTarget::Tag(tag("v1")), "malformed")]),
        (json!([good, good]), vec![]),
        (json!([]), vec![]),
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_json(&body);
        Mock::given(method("GET")).and(path(LIST)).respond_with(answer).mount(&server).await;
        let settings =
            RegistrySettings { auth: tagwarden::registry::Auth::Token(TOKEN.into()), ..settings(&server.uri()) };
        let repository = reader_of(settings).repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await;
        assert_eq!(gaps(&repository.gaps), expected, "{body}");
    }
}

/// A link that says that there is more, and a page after which there can be nothing.
#[tokio::test]
async fn a_list_in_a_circle_is_a_gap() {
    let digest = image("one", 9).digest.to_string();
    for body in [json!([]), json!([{ "name": "v1", "digest": digest }])] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_json(&body);
        let answer = answer.insert_header("link", format!("<{LIST}?last=v1&n=1000>; rel=\"next\"").as_str());
        Mock::given(method("GET")).and(path(LIST)).respond_with(answer).mount(&server).await;
        let settings =
            RegistrySettings { auth: tagwarden::registry::Auth::Token(TOKEN.into()), ..settings(&server.uri()) };
        let repository = reader_of(settings).repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await;
        assert_eq!(gaps(&repository.gaps), [(GapTarget::TagList, "malformed")], "{body}");
    }
}

#[tokio::test]
async fn where_no_token_tells_what_is_protected_nothing_is_decided() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &image("one", 9), 5);
    registry.inject(Fault::on("pull%2Cdelete", FaultKind::status(500)));
    let repository = read(&registry).await;
    assert_eq!(gaps(&repository.gaps), [(GapTarget::TagList, "status")]);
}
