//! What is read of repositories, tags and manifests.

use std::collections::BTreeSet;

use http::Method;
use serde_json::json;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{Attributes, Fault, FaultKind, QuayOptions, Target};
use tagwarden::domain::{CompactTime, GapTarget, Lock, ManifestDetail, UnreadKind};
use tagwarden::registry::{ContentCache as _, RegistryErrorKind};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{image, name, options, put, read, reader, request_counts, seconds_before, start};
use crate::registry::{gaps, tag};
use crate::support::memory::MemoryCache;

fn immutable() -> Attributes {
    Attributes { delete: false, write: false, ..Attributes::default() }
}

#[tokio::test]
async fn tags_come_with_digest_push_time_size_and_immutability() {
    let registry = start(options()).await;
    let (one, two) = (image("one", 9), image("two", 9));
    put(&registry, "shop/api", "v1", &one, 40);
    put(&registry, "shop/api", "v2", &two, 3);
    registry.content(|content| *content.attributes_mut("shop/api", Target::Tag("v2")).unwrap() = immutable());
    let repository = read(&registry).await;
    assert_eq!(repository.gaps, []);
    let pushed: Vec<_> = repository.tags.iter().map(|tag| tag.pushed_at.map(CompactTime::timestamp)).collect();
    assert_eq!(
        pushed.iter().map(|at| at.unwrap().as_second()).collect::<Vec<_>>(),
        [seconds_before(40), seconds_before(3)]
    );
    assert_eq!((repository.tags[0].lock, repository.tags[1].lock), (None, Some(Lock::DeleteAndWrite)));
    assert_eq!(repository.tags[0].digest, Some(one.digest.clone()));
    let expected = ManifestDetail::Unread { image_size: Some(one.total_bytes()), kind: UnreadKind::Artifact };
    assert_eq!(repository.manifests[&one.digest].detail, expected);
    assert_eq!(request_counts(&registry), [("GET /api/v1/repository/shop/api/tag/".to_owned(), 1)].into());
}

#[tokio::test]
async fn versions_without_immutability_have_no_locks() {
    let registry = start(QuayOptions { immutable_tags: false, ..options() }).await;
    put(&registry, "shop/api", "v1", &image("one", 9), 40);
    registry.content(|content| *content.attributes_mut("shop/api", Target::Tag("v1")).unwrap() = immutable());
    assert_eq!(read(&registry).await.tags[0].lock, None);
}

#[tokio::test]
async fn the_list_tells_what_is_in_an_index_where_the_version_does() {
    for lists_children in [true, false] {
        let registry = start(QuayOptions { lists_children, ..options() }).await;
        let children = [image("amd64", 9), image("arm64", 9)];
        let index = image::index(Format::Oci, &children);
        put(&registry, "shop/api", "v1", &index, 5);
        let mut repository = read(&registry).await;
        let digests: BTreeSet<_> = children.iter().map(|child| child.digest.clone()).collect();
        let listed = |repository: &tagwarden::domain::Repository| {
            repository.manifests[&index.digest].children.iter().cloned().collect::<BTreeSet<_>>()
        };
        if lists_children {
            assert_eq!(listed(&repository), digests);
        } else {
            let expected = ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index };
            assert_eq!(repository.manifests[&index.digest].detail, expected);
            let cache = MemoryCache::default();
            reader(&registry.url()).read_manifests(&mut repository, &[index.digest.clone()].into(), &cache).await;
            assert_eq!(listed(&repository), digests);
            assert!(cache.manifest(&index.digest).await.is_some(), "kept for the next plan and for an undo");
        }
        assert!(digests.iter().all(|child| repository.manifests.contains_key(child)), "{lists_children}");
    }
}

#[tokio::test]
async fn pages_overlap_and_the_first_is_read_twice() {
    let registry = start(options()).await;
    let images: Vec<_> = (0..7).map(|n| image(&format!("image-{n}"), 9)).collect();
    registry.content(|content| {
        for n in 0..250 {
            content.put_image("shop/api", Some(&format!("build-{n:05}")), &images[n % 7]);
        }
    });
    let repository = read(&registry).await;
    assert_eq!((repository.tags.len(), repository.manifests.len(), repository.gaps.len()), (250, 7, 0));
    assert_eq!(request_counts(&registry)["GET /api/v1/repository/shop/api/tag/"], 3 + 1);
}

/// A tag that is removed or pushed while the list is read, right before the request of that number.
#[tokio::test]
async fn a_list_that_changes_meanwhile_is_read_again() {
    for (removed, before) in [("build-00010", 1), ("build-00150", 1), ("build-00150", 2), ("build-00240", 1)] {
        let registry = start(options()).await;
        registry.content(|content| {
            for n in 0..250 {
                content.put_image("shop/api", Some(&format!("build-{n:05}")), &image("one", 9));
            }
        });
        let removes = FaultKind::before_request(move |content| {
            content.delete_tag("shop/api", removed);
        });
        registry.inject(Fault::on("/tag/", removes).after(before).times(1));
        let repository = read(&registry).await;
        assert_eq!(repository.gaps, [], "{removed} {before}");
        let listed: BTreeSet<_> = repository.tags.iter().map(|tag| tag.name.to_string()).collect();
        let there: BTreeSet<_> = registry.tags("shop/api").into_keys().collect();
        let missed: Vec<_> = there.difference(&listed).collect();
        assert!(missed.is_empty(), "{removed} before {before}: {missed:?}");
    }
    let registry = start(options()).await;
    registry.content(|content| {
        for n in 0..250 {
            content.put_image("shop/api", Some(&format!("build-{n:05}")), &image("one", 9));
        }
    });
    let pushes = FaultKind::before_request(move |content| {
        let count = content.tags("shop/api").len();
        let next = format!("new-{count}");
        content.put_image("shop/api", Some(&next), &image("one", 9));
        let now = content.now() + jiff::SignedDuration::from_secs(count.try_into().unwrap());
        content.date_tag("shop/api", &next, now, now);
    });
    registry.inject(Fault::on("page=3", pushes));
    let repository = read(&registry).await;
    assert_eq!(gaps(&repository.gaps), [(GapTarget::TagList, "malformed")]);
    assert!(repository.gaps[0].message.contains("each time that it was read"), "{:?}", repository.gaps);
}

#[tokio::test]
async fn a_manifest_is_read_by_the_api_and_checked() {
    let registry = start(options()).await;
    let one = image("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    let reader = reader(&registry.url());
    let raw = reader.manifest(&name("shop/api"), &one.digest).await.unwrap().unwrap();
    assert_eq!((&raw.digest, &*raw.bytes, &*raw.media_type), (&one.digest, &one.bytes[..], one.media_type));
    assert!(registry.requests().iter().all(|request| !request.path.starts_with("/v2")), "nothing is pulled");
    let other = image("other", 9).digest;
    assert_eq!(reader.manifest(&name("shop/api"), &other).await.unwrap(), None);
    let lie = json!({ "manifest_data": "{}" }).to_string();
    registry.inject(Fault::on("/manifest/", FaultKind::Status { status: 200, headers: Vec::new(), body: lie }));
    let error = reader.manifest(&name("shop/api"), &one.digest).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::DigestMismatch);
}

#[tokio::test]
async fn what_left_its_last_tag_is_found_in_the_history_of_the_tag() {
    let registry = start(options()).await;
    let one = image("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    let (reader, shop) = (reader(&registry.url()), name("shop/api"));
    assert!(reader.keeps_removed(&shop, &tag("v1"), &one.digest).await.unwrap());
    crate::support::removal::untag(&super::writer(&registry.url()), &shop, &tag("v1")).await.unwrap();
    assert_eq!(reader.resolve(&shop, &tag("v1")).await.unwrap(), None);
    assert!(!reader.has_manifest(&shop, &one.digest).await.unwrap(), "Quay shows it to nobody");
    assert!(reader.keeps_removed(&shop, &tag("v1"), &one.digest).await.unwrap());
    assert!(!reader.keeps_removed(&shop, &tag("v1"), &image("two", 1).digest).await.unwrap());
    registry.advance_time(jiff::SignedDuration::from_hours(15 * 24));
    assert!(!reader.keeps_removed(&shop, &tag("v1"), &one.digest).await.unwrap(), "its time machine is over");
}

#[tokio::test]
async fn a_tag_is_looked_at_by_itself() {
    let registry = start(options()).await;
    let one = image("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    put(&registry, "shop/api", "v10", &image("ten", 9), 5);
    let found = reader(&registry.url()).resolve(&name("shop/api"), &tag("v1")).await.unwrap().unwrap();
    assert_eq!((found.digest, found.lock), (one.digest, None));
    assert_eq!(found.pushed_at.unwrap().as_second(), seconds_before(5));
    let reader = reader(&registry.url());
    assert_eq!(reader.resolve(&name("shop/api"), &tag("v2")).await.unwrap(), None);
    assert_eq!(reader.resolve(&name("shop/none"), &tag("v2")).await.unwrap(), None);
}

#[tokio::test]
async fn repositories_are_listed_by_namespace_page_by_page() {
    let registry = start(options()).await;
    let one = image("one", 9);
    registry.content(|content| {
        for n in 0..230 {
            content.put_image(&format!("shop/service-{n:03}"), Some("v1"), &one);
        }
        content.put_image("other/api", Some("v1"), &one);
    });
    let catalogue = reader(&registry.url()).catalogue().await.unwrap();
    assert_eq!((catalogue.repositories.len(), catalogue.gaps.len()), (230, 0));
    assert_eq!(request_counts(&registry)["GET /api/v1/repository"], 3);
    registry.inject(Fault::on("next_page=", FaultKind::status(500)));
    let catalogue = reader(&registry.url()).catalogue().await.unwrap();
    assert_eq!((catalogue.repositories.len(), gaps(&catalogue.gaps)), (100, vec![(GapTarget::Catalogue, "status")]));
}

/// The body of a list of tags, and what comes of it.
#[tokio::test]
async fn odd_answers_keep_what_they_leave_in_doubt() {
    let digest = image("one", 9).digest.to_string();
    let good = json!({ "name": "v1", "manifest_digest": digest, "start_ts": 1_790_000_000, "is_manifest_list": false });
    for (body, expected) in [
        (json!({ "tags": [good] }), vec![(GapTarget::TagList, "malformed")]),
        (json!({ "tags": null, "has_additional": false }), vec![(GapTarget::TagList, "malformed")]),
        (json!({ "tags": [], "has_additional": true }), vec![(GapTarget::TagList, "malformed")]),
        (
            json!({ "tags": [good, 7], "has_additional": false }),
            vec![(GapTarget::InvalidName("7".into()), "invalid-name")],
        ),
        (
            json!({ "tags": [good, { "name": "v 2", "manifest_digest": digest }], "has_additional": false }),
            vec![(GapTarget::InvalidName("v 2".into()), "invalid-name")],
        ),
        (
            json!({ "tags": [{ "name": "v1", "manifest_digest": "sha256:short" }], "has_additional": false }),
            vec![(GapTarget::Tag(tag("v1")), "malformed")],
        ),
        (json!({ "tags": [good, good], "has_additional": false, "page": "x" }), vec![]),
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_json(&body);
        Mock::given(method("GET"))
            .and(path("/api/v1/repository/shop/api/tag/"))
            .respond_with(answer)
            .mount(&server)
            .await;
        let found =
            reader(&server.uri()).repository(&name("shop/api"), &BTreeSet::new(), &MemoryCache::default()).await;
        assert_eq!(gaps(&found.gaps), expected, "{body}");
    }
}

#[tokio::test]
async fn a_tag_without_a_push_time_is_undated() {
    let server = MockServer::start().await;
    let digest = image("one", 9).digest.to_string();
    let body = json!({ "tags": [{ "name": "v1", "manifest_digest": digest }], "has_additional": false });
    let answer = ResponseTemplate::new(200).set_body_json(&body);
    Mock::given(method("GET")).and(path("/api/v1/repository/shop/api/tag/")).respond_with(answer).mount(&server).await;
    let found = reader(&server.uri()).repository(&name("shop/api"), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!(found.tags[0].pushed_at, None);
    let expected = ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index };
    assert_eq!(found.manifests.values().next().unwrap().detail, expected, "it may be an index");
}

#[tokio::test]
async fn a_404_that_is_not_quays_own_is_a_gap() {
    let registry = start(options()).await;
    put(&registry, "shop/api", "v1", &image("one", 9), 5);
    for kind in [FaultKind::status(404), FaultKind::HtmlPage, FaultKind::status(403), FaultKind::InvalidJson] {
        registry.clear_faults();
        registry.inject(Fault::on("/tag/", kind.clone()).method(Method::GET));
        let found = read(&registry).await;
        assert_eq!(found.gaps.len(), 1, "{kind:?}");
        assert_eq!(found.gaps[0].target, GapTarget::TagList, "{kind:?}");
    }
}
