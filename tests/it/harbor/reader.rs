//! Repositories, artifacts and manifests as they are read.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{self, Format, media_type};
use tagwarden::demo::registry::{Fault, FaultKind, HARBOR_READS, HarborProject};
use tagwarden::domain::{CompactTime, Digest, GapTarget, Lock, ManifestDetail, Repository, UnreadKind};
use tagwarden::registry::RegistryErrorKind;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{
    add_project, image as build, make_immutable, name, options, put, read, reader, request_counts, settings, start,
};
use crate::registry::{gaps, quick, tag};
use crate::support::memory::MemoryCache;
use crate::workflow::noon;

const LIST: &str = "GET /api/v2.0/projects/shop/repositories/api/artifacts";

fn detail<'a>(repository: &'a Repository, digest: &Digest) -> &'a ManifestDetail {
    &repository.manifests.get(digest).unwrap_or_else(|| panic!("{digest} is not there")).detail
}

#[tokio::test]
async fn tags_come_with_digest_push_time_size_and_immutability() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, "shop/api", "v1", &one, 40);
    put(&registry, "shop/api", "release-2", &two, 3);
    make_immutable(&registry, "release-*");
    let repository = read(&registry).await;
    assert_eq!(repository.gaps, []);
    let found: Vec<_> = repository.tags.iter().map(|tag| (tag.name.as_str(), tag.digest.as_ref(), tag.lock)).collect();
    let expected = [("release-2", Some(&two.digest), Some(Lock::DeleteAndWrite)), ("v1", Some(&one.digest), None)];
    assert_eq!(found, expected);
    let pushed = repository.tags[1].pushed_at.map(CompactTime::timestamp).unwrap();
    assert_eq!(pushed, noon() - jiff::SignedDuration::from_hours(24 * 40));
    assert_eq!(*detail(&repository, &one.digest), ManifestDetail::Listed { image_size: Some(one.total_bytes()) });
    assert_eq!(request_counts(&registry), [(LIST.to_owned(), 1)].into(), "one request, and nothing is pulled");
}

#[tokio::test]
async fn the_list_tells_what_is_in_an_index_and_counts_it_once() {
    let registry = start(options()).await;
    let children = [build("amd64", 9), build("arm64", 9)];
    let attestation = image::attestation(&children[0]);
    let index = image::index(Format::Oci, &[children[0].clone(), children[1].clone(), attestation.clone()]);
    put(&registry, "shop/api", "v1", &index, 5);
    put(&registry, "shop/api", "arm", &children[1], 5);
    let repository = read(&registry).await;
    let listed: BTreeSet<_> = repository.manifests[&index.digest].children.iter().cloned().collect();
    assert_eq!(listed, [children[0].digest.clone(), children[1].digest.clone(), attestation.digest.clone()].into());
    assert!(repository.attached.contains(&attestation.digest), "no container runs an attestation");
    let sizes: u64 = [&index.digest, &children[0].digest, &children[1].digest, &attestation.digest]
        .map(|digest| match detail(&repository, digest) {
            ManifestDetail::Listed { image_size } => image_size.expect("each has a size"),
            other => panic!("{digest}: {other:?}"),
        })
        .iter()
        .sum();
    assert_eq!(sizes, index.total_bytes(), "together they are what Harbor says of the index");
    assert!(repository.listed.is_empty());
}

#[tokio::test]
async fn an_image_in_two_indexes_leaves_their_sizes_open() {
    let registry = start(options()).await;
    let shared = build("shared", 9);
    let indexes = ["a", "b"].map(|other| image::index(Format::Oci, &[shared.clone(), build(other, 9)]));
    for (index, name) in indexes.iter().zip(["v1", "v2"]) {
        put(&registry, "shop/api", name, index, 5);
    }
    let repository = read(&registry).await;
    for index in &indexes {
        assert_eq!(*detail(&repository, &index.digest), ManifestDetail::Listed { image_size: None });
    }
}

#[tokio::test]
async fn an_index_in_an_index_is_read_by_the_api_alone() {
    let registry = start(options()).await;
    let inner = image::index(Format::Oci, &[build("amd64", 9)]);
    let outer = image::index(Format::Oci, &[inner.clone(), build("arm64", 9)]);
    put(&registry, "shop/api", "v1", &outer, 5);
    let mut repository = read(&registry).await;
    assert!(matches!(detail(&repository, &inner.digest), ManifestDetail::Unread { kind: UnreadKind::Index, .. }));
    let cache = MemoryCache::default();
    reader(&registry.url()).read_manifests(&mut repository, &[inner.digest.clone()].into(), &cache).await;
    assert_eq!(repository.manifests[&inner.digest].children, [build("amd64", 9).digest]);
    assert!(!repository.manifests[&inner.digest].is_unread());
    assert!(registry.requests().iter().all(|request| !request.path.starts_with("/v2/")), "nothing is pulled");
}

/// Signatures and the like are no rows of their own: they stand with what they refer to.
#[tokio::test]
async fn accessories_refer_to_their_artifact() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    let kinds = ["application/vnd.cncf.notary.signature", "application/vnd.example.report"];
    let [notation, report] =
        kinds.map(|kind| image::artifact(kind, (media_type::SPDX, Blob::of(kind)), Some(&one), &[]));
    let cosign = image::signature(&one.digest, "shop/api");
    registry.content(|content| {
        content.put_image("shop/api", None, &notation);
        content.put_image("shop/api", Some("report"), &report);
        content.put_image("shop/api", Some(&image::companion_tag(&one.digest, ".sig")), &cosign);
    });
    let mut repository = read(&registry).await;
    let names: Vec<&str> = repository.tags.iter().map(|tag| tag.name.as_str()).collect();
    assert_eq!(names, ["v1"], "Harbor lists no tag of an accessory");
    for accessory in [&notation, &report, &cosign] {
        assert_eq!(repository.manifests[&accessory.digest].subject.as_deref(), Some(&one.digest));
    }
    assert!(matches!(detail(&repository, &notation.digest), ManifestDetail::Listed { .. }));
    assert!(repository.attached.contains(&cosign.digest));
    // What is of no known type may be an index.
    assert!(matches!(detail(&repository, &report.digest), ManifestDetail::Unread { kind: UnreadKind::Index, .. }));
    let reader = reader(&registry.url());
    reader.read_manifests(&mut repository, &[report.digest.clone()].into(), &MemoryCache::default()).await;
    assert!(!repository.manifests[&report.digest].is_unread(), "its bytes were read");
    assert_eq!(repository.manifests[&report.digest].subject.as_deref(), Some(&one.digest));
    let referrers = reader.referrers(&name("shop/api"), &one.digest).await.unwrap();
    assert_eq!(BTreeSet::from_iter(referrers), [notation.digest, report.digest, cosign.digest].into());
}

#[tokio::test]
async fn artifacts_without_tags_are_listed() {
    let registry = start(options()).await;
    let (loose, wanted, tagged) = (build("loose", 9), build("wanted", 9), build("tagged", 9));
    put(&registry, "shop/api", "v1", &tagged, 5);
    registry.put_image("shop/api", "gone", &loose);
    registry.put_image("shop/api", "gone", &wanted);
    assert!(registry.delete_tag("shop/api", "gone"));
    let (reader, shop) = (reader(&registry.url()), name("shop/api"));
    let never = build("never", 9).digest;
    let sought = [wanted.digest.clone(), never.clone()].into();
    let repository = reader.repository(&shop, &sought, &MemoryCache::default()).await;
    assert_eq!(repository.listed.iter().map(|row| &row.digest).collect::<Vec<_>>(), [&loose.digest]);
    assert_eq!(repository.untagged.keys().collect::<Vec<_>>(), [&wanted.digest], "what is not there is no failure");
    assert_eq!(repository.untagged[&wanted.digest], Some(noon()));
    assert_eq!(repository.gaps, []);
    let state = reader.manifest_state(&shop, &wanted.digest).await.unwrap().unwrap();
    assert_eq!((state.tags.len(), state.changed_at), (0, Some(noon())));
    let state = reader.manifest_state(&shop, &tagged.digest).await.unwrap().unwrap();
    assert_eq!(state.tags, [tag("v1")]);
    assert_eq!(reader.manifest_state(&shop, &never).await.unwrap(), None);
    assert!(!reader.has_manifest(&shop, &never).await.unwrap());
    assert!(reader.keeps_removed(&shop, &tag("gone"), &wanted.digest).await.unwrap());
}

#[tokio::test]
async fn a_list_goes_on_after_the_last_id_whatever_is_removed_meanwhile() {
    for (removed, before) in [("build-00010", 1), ("build-00150", 1), ("build-00150", 2), ("build-00240", 1)] {
        let registry = start(options()).await;
        let fill = |number: usize| (format!("build-{number:05}"), build(&format!("image-{number}"), 9));
        for (tag, image) in (0..250).map(fill) {
            registry.put_image("shop/api", &tag, &image);
        }
        let deletes = FaultKind::before_request(move |content| {
            if let Some(digest) = content.tag("shop/api", removed).map(|tag| tag.digest.clone()) {
                content.delete_manifest("shop/api", &digest);
            }
        });
        registry.inject(Fault::on("/artifacts", deletes).after(before).times(1));
        let repository = read(&registry).await;
        assert_eq!(repository.gaps, [], "{removed} {before}");
        assert_eq!(request_counts(&registry)[LIST], 3, "none is read twice");
        let listed: BTreeSet<_> = repository.tags.iter().map(|tag| tag.name.to_string()).collect();
        let there: BTreeSet<_> = registry.tags("shop/api").into_keys().collect();
        assert!(there.is_subset(&listed), "{removed} before {before}: {:?}", there.difference(&listed));
    }
}

#[tokio::test]
async fn tags_that_move_while_they_are_listed_are_read_again() {
    let fill = async || {
        let registry = start(options()).await;
        for number in 0..150 {
            registry.put_image("shop/api", &format!("build-{number:05}"), &build(&format!("image-{number}"), 9));
        }
        registry
    };
    let registry = fill().await;
    let last = registry.tags("shop/api").into_values().max().unwrap();
    let moves = FaultKind::before_request(move |content| {
        for number in 0..150 {
            content.move_tag("shop/api", &format!("build-{number:05}"), &last);
        }
    });
    registry.inject(Fault::on("/artifacts", moves).after(1).times(1));
    let repository = read(&registry).await;
    assert_eq!((repository.gaps.len(), repository.tags.len()), (0, 150));
    // Where they move each time, the list is a gap.
    let registry = fill().await;
    let digests: Vec<Digest> = registry.tags("shop/api").into_values().collect();
    let last = digests.iter().max().unwrap().clone();
    let turns = std::sync::atomic::AtomicUsize::new(0);
    let moves = FaultKind::before_request(move |content| {
        let turn = turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let rows: Vec<_> = content.manifests("shop/api").map(|(digest, _)| digest.clone()).collect();
        assert_eq!(rows.len(), digests.len());
        // Forth before the second request of a reading, and back before the first of the next one.
        for (number, own) in digests.iter().enumerate() {
            let to = if turn % 2 == 1 { &last } else { own };
            content.move_tag("shop/api", &format!("build-{number:05}"), to);
        }
    });
    registry.inject(Fault::on("/artifacts", moves));
    let repository = read(&registry).await;
    assert_eq!(gaps(&repository.gaps), [(GapTarget::TagList, "malformed")]);
    assert!(repository.gaps[0].message.contains("tags moved each time"), "{:?}", repository.gaps);
}

#[tokio::test]
async fn a_tag_is_looked_at_by_itself() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/a/b", "v1", &one, 5);
    put(&registry, "shop/a/b", "v10", &one, 3);
    make_immutable(&registry, "v10");
    let (reader, shop) = (reader(&registry.url()), name("shop/a/b"));
    let found = reader.resolve(&shop, &tag("v1")).await.unwrap().unwrap();
    assert_eq!((found.digest, found.lock), (one.digest.clone(), None));
    assert_eq!(found.pushed_at, Some(noon() - jiff::SignedDuration::from_hours(24 * 5)));
    assert_eq!(reader.resolve(&shop, &tag("v10")).await.unwrap().unwrap().lock, Some(Lock::DeleteAndWrite));
    assert_eq!(reader.resolve(&shop, &tag("v2")).await.unwrap(), None);
    assert_eq!(reader.resolve(&name("shop/none"), &tag("v2")).await.unwrap(), None);
    assert_eq!(reader.tags(&shop).await.unwrap(), [tag("v1"), tag("v10")]);
    assert_eq!(reader.tags(&name("shop/none")).await.unwrap_err().kind, RegistryErrorKind::NotFound);
    let raw = reader.manifest(&shop, &one.digest).await.unwrap().unwrap();
    assert_eq!(raw.bytes[..], one.bytes[..]);
}

#[tokio::test]
async fn repositories_are_listed_for_all_projects_or_by_project() {
    let registry = start(options()).await;
    let one = build("one", 9);
    registry.content(|content| {
        for n in 0..230 {
            content.put_image(&format!("shop/service-{n:03}"), Some("v1"), &one);
        }
        content.put_image("ops/tools", Some("v1"), &one);
        content.put_image("secret/tools", Some("v1"), &one);
    });
    add_project(&registry, "ops", HarborProject::new(2), HARBOR_READS);
    let catalogue = reader(&registry.url()).catalogue().await.unwrap();
    assert_eq!((catalogue.repositories.len(), catalogue.gaps.len()), (231, 0));
    let expected = [("GET /api/v2.0/repositories", 3), ("GET /api/v2.0/users/current/permissions", 1)];
    assert_eq!(request_counts(&registry), expected.map(|(path, count)| (path.to_owned(), count)).into());
    let connected = |change: fn(&mut tagwarden::registry::RegistrySettings)| {
        let mut settings = settings(&registry.url());
        change(&mut settings);
        tagwarden::registry::connect(settings, quick()).unwrap().reader()
    };
    let ops = connected(|settings| settings.namespaces = vec!["ops".into()]);
    assert_eq!(ops.catalogue().await.unwrap().repositories, [name("ops/tools")]);
    let none = connected(|settings| settings.namespaces = vec!["ops".into(), "secret".into()]);
    let catalogue = none.catalogue().await.unwrap();
    assert_eq!(gaps(&catalogue.gaps), [(GapTarget::Catalogue, "denied")]);
    let named = connected(|settings| settings.repositories = vec!["shop/none".parse().unwrap()]);
    let found = named.repository(&name("shop/none"), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!(gaps(&found.gaps), [(GapTarget::TagList, "not-found")], "Harbor lists it as empty");
    registry.inject(Fault::on("/repositories", FaultKind::CutBody).after(1));
    assert!(reader(&registry.url()).catalogue().await.is_err(), "a list is whole or none");
}

/// A page of artifacts, and what comes of it.
#[tokio::test]
async fn odd_answers_keep_what_they_leave_in_doubt() {
    let digest = build("one", 9).digest.to_string();
    let row = |id: i64, more: Value| {
        let mut row = json!({ "id": id, "digest": digest, "tags": [{ "name": "v1" }] });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let list = (GapTarget::TagList, "malformed");
    let manifests = (GapTarget::ManifestList, "malformed");
    for (body, total, expected) in [
        (json!([row(1, json!({}))]), "1", vec![]),
        (json!([row(1, json!({}))]), "2", vec![list.clone()]),
        (json!({ "artifacts": [] }), "0", vec![list.clone()]),
        (json!([row(2, json!({})), row(1, json!({ "tags": [] }))]), "2", vec![list.clone()]),
        (json!([row(0, json!({}))]), "1", vec![list.clone()]),
        (json!([7]), "1", vec![list]),
        (json!([row(1, json!({ "digest": "sha256:short" }))]), "1", vec![manifests.clone()]),
        (json!([row(1, json!({ "references": [{ "child_digest": "?" }] }))]), "1", vec![manifests.clone()]),
        (json!([row(1, json!({ "references": 1 }))]), "1", vec![manifests.clone()]),
        (json!([row(1, json!({ "accessories": [{}] }))]), "1", vec![manifests]),
        (
            json!([row(1, json!({ "tags": [{ "name": "v 2" }] }))]),
            "1",
            vec![(GapTarget::InvalidName("v 2".into()), "invalid-name")],
        ),
        (json!([row(1, json!({ "tags": [7] }))]), "1", vec![(GapTarget::InvalidName("7".into()), "invalid-name")]),
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).insert_header("x-total-count", total).set_body_json(&body);
        let artifacts = || path("/api/v2.0/projects/shop/repositories/api/artifacts");
        let first = Mock::given(method("GET")).and(artifacts()).respond_with(answer).up_to_n_times(1);
        first.mount(&server).await;
        let rest = ResponseTemplate::new(200).insert_header("x-total-count", "1").set_body_json(json!([]));
        Mock::given(method("GET")).and(artifacts()).respond_with(rest).mount(&server).await;
        let reader = reader(&server.uri());
        let found = reader.repository(&name("shop/api"), &BTreeSet::new(), &MemoryCache::default()).await;
        assert_eq!(gaps(&found.gaps), expected, "{body} of {total}");
    }
}

#[tokio::test]
async fn what_is_not_harbors_own_word_is_a_gap() {
    let registry = start(options()).await;
    put(&registry, "shop/api", "v1", &build("one", 9), 5);
    let foreign = FaultKind::Status { status: 404, headers: Vec::new(), body: "404 page not found\n".into() };
    for kind in [foreign, FaultKind::HtmlPage, FaultKind::status(403), FaultKind::InvalidJson, FaultKind::CutBody] {
        registry.clear_faults();
        registry.inject(Fault::on("/artifacts", kind.clone()).method(Method::GET));
        let found = read(&registry).await;
        assert_eq!(found.gaps.len(), 1, "{kind:?}");
        assert_eq!(found.gaps[0].target, GapTarget::TagList, "{kind:?}");
        assert!(reader(&registry.url()).resolve(&name("shop/api"), &tag("v1")).await.is_err(), "{kind:?}");
    }
}
