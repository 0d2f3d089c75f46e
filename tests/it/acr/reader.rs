//! What a plan reads, and what it leaves alone.

use std::collections::BTreeSet;

use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{Attributes, Fault, FaultKind, Target};
use tagwarden::domain::{GapTarget, Lock, ManifestDetail};
use tagwarden::registry::{AcrReader, RegistryReader as _, RegistrySettings};

use super::{image, put, read, read_rest, reader, request_counts, settings};
use crate::registry::{gaps, name, quick, tag};
use crate::support::acr::{everything_allowed, start};
use crate::support::memory::MemoryCache;

#[tokio::test]
async fn tags_come_with_digest_push_time_and_lock() {
    let registry = start(everything_allowed()).await;
    let (one, two) = (image("one"), image("two"));
    put(&registry, "v1", &one, 40);
    put(&registry, "v2", &two, 3);
    let now = registry.content(|content| {
        let lock = content.attributes_mut("app", Target::Tag("v2")).unwrap();
        *lock = Attributes { write: false, ..*lock };
        let lock = content.attributes_mut("app", Target::Manifest(&one.digest)).unwrap();
        *lock = Attributes { delete: false, ..*lock };
        content.now()
    });
    let repository = read(&registry).await;
    assert_eq!(repository.gaps, []);
    let days = |at: usize| {
        let pushed = repository.tags[at].pushed_at.unwrap().timestamp();
        now.duration_since(pushed).as_hours() / 24
    };
    assert_eq!((days(0), days(1)), (40, 3));
    assert_eq!(repository.tags[0].digest, Some(one.digest.clone()));
    assert_eq!((repository.tags[0].lock, repository.tags[1].lock), (None, Some(Lock::Write)));
    assert_eq!(repository.manifests[&one.digest].lock, Some(Lock::Delete));
    assert_eq!(
        repository.manifests[&one.digest].detail,
        ManifestDetail::Listed { image_size: Some(one.total_bytes()) }
    );
    let no_pulls = request_counts(&registry).into_keys().all(|path| !path.contains("/v2/"));
    assert!(no_pulls, "{:?}", request_counts(&registry));
}

#[tokio::test]
async fn requests_grow_with_pages_and_not_with_tags() {
    let registry = start(everything_allowed()).await;
    let images: Vec<_> = (0..7).map(|n| image(&format!("image-{n}"))).collect();
    registry.content(|content| {
        for n in 0..2500 {
            content.put_image("app", Some(&format!("build-{n:05}")), &images[n % 7]);
        }
    });
    let repository = read(&registry).await;
    assert_eq!((repository.tags.len(), repository.manifests.len(), repository.gaps.len()), (2500, 7, 0));
    let asked = request_counts(&registry);
    assert_eq!(asked["GET /acr/v1/app/_tags"], 3);
    assert_eq!(asked["GET /acr/v1/app/_manifests"], 1);
    assert_eq!(asked["GET /acr/v1/app"], 1);
    assert_eq!(asked.len(), 3, "{asked:?}");
}

#[tokio::test]
async fn what_an_index_holds_is_read_once_and_when_it_is_asked_for() {
    let registry = start(everything_allowed()).await;
    let children = [image("amd64"), image("arm64")];
    let index = image::index(Format::Oci, &children);
    put(&registry, "multi", &index, 5);
    put(&registry, "amd64", &children[0], 5);
    let cache = MemoryCache::default();
    let reader = reader(&registry.url());
    let listed = reader.repository(&name("app"), &BTreeSet::new(), &cache).await;
    assert_eq!(listed.gaps, []);
    assert!(listed.manifests[&index.digest].is_unread());
    assert_eq!(listed.listed.iter().map(|row| &row.digest).collect::<Vec<_>>(), [&children[1].digest]);
    let pulled = format!("GET /v2/app/manifests/{}", index.digest);
    assert!(!request_counts(&registry).contains_key(&pulled));
    let wanted = BTreeSet::from([index.digest.clone()]);
    let mut repository = listed.clone();
    reader.read_manifests(&mut repository, &wanted, &cache).await;
    assert_eq!((repository.gaps.len(), repository.listed.len()), (0, 0));
    let digests: Vec<_> = children.iter().map(|child| child.digest.clone()).collect();
    assert_eq!(repository.manifests[&index.digest].children, digests);
    assert_eq!(repository.manifests[&index.digest].detail, ManifestDetail::Full);
    assert!(digests.iter().all(|child| repository.manifests.contains_key(child)));
    assert_eq!(request_counts(&registry)[&pulled], 1);
    registry.clear_requests();
    let mut again = reader.repository(&name("app"), &BTreeSet::new(), &cache).await;
    assert_eq!(again, listed, "what was not asked for is unknown, although it is in the cache");
    reader.read_manifests(&mut again, &wanted, &cache).await;
    assert_eq!(again, repository);
    assert!(!request_counts(&registry).contains_key(&pulled));
}

#[tokio::test]
async fn exact_bytes_take_one_pull_for_each_manifest_once() {
    let registry = start(everything_allowed()).await;
    let untagged = image("untagged");
    put(&registry, "v1", &image("one"), 5);
    put(&registry, "v2", &image("one"), 5);
    put(&registry, "v3", &image("two"), 5);
    registry.content(|content| content.put_image("app", None, &untagged));
    let settings = RegistrySettings { exact_bytes: true, ..settings(&registry.url()) };
    let reader = AcrReader::new(settings, quick()).unwrap();
    let cache = MemoryCache::default();
    let repository = reader.repository(&name("app"), &BTreeSet::new(), &cache).await;
    assert_eq!((repository.gaps.len(), repository.manifests.len()), (0, 3));
    assert!(
        repository
            .manifests
            .values()
            .all(|manifest| manifest.detail == ManifestDetail::Full && manifest.config.is_some())
    );
    assert!(repository.manifests.contains_key(&untagged.digest), "its layers are in the registry, too");
    let pulls = |path: &String| path.starts_with("GET /v2/app/");
    assert_eq!(request_counts(&registry).into_keys().filter(pulls).count(), 3);
    assert!(
        request_counts(&registry).iter().all(|(path, times)| !pulls(path) || *times == 1),
        "{:?}",
        request_counts(&registry)
    );
    registry.clear_requests();
    assert_eq!(reader.repository(&name("app"), &BTreeSet::new(), &cache).await, repository);
    assert_eq!(request_counts(&registry).into_keys().filter(pulls).count(), 0, "kept by their digests");
}

#[tokio::test]
async fn an_index_without_a_tag_stays_listed_and_a_signature_is_told_from_an_image() {
    let registry = start(everything_allowed()).await;
    let child = image("child");
    let index = image::index(Format::Oci, std::slice::from_ref(&child));
    let signature = image::artifact("application/vnd.example.sbom", ("sbom", Blob::of("x")), Some(&child), &[]);
    registry.content(|content| content.put_image("app", None, &index));
    put(&registry, "child", &child, 5);
    put(&registry, "sbom", &signature, 5);
    let mut repository = read(&registry).await;
    assert!(repository.listed_manifest(&index.digest).is_some());
    assert_eq!(repository.manifests.len(), 2);
    read_rest(&reader(&registry.url()), &mut repository, &MemoryCache::default()).await;
    assert_eq!(repository.manifests[&index.digest].children, std::slice::from_ref(&child.digest));
    assert_eq!(repository.manifests[&signature.digest].subject.as_deref(), Some(&child.digest));
}

#[tokio::test]
async fn counts_that_disagree_with_the_lists_are_gaps() {
    let hidden = Attributes { list: false, ..Attributes::default() };
    for (target, at) in [("tag", GapTarget::TagList), ("manifest", GapTarget::ManifestList)] {
        let registry = start(everything_allowed()).await;
        let (one, two) = (image("one"), image("two"));
        put(&registry, "v1", &one, 1);
        put(&registry, "v2", &two, 1);
        registry.content(|content| {
            let target = if target == "tag" { Target::Tag("v2") } else { Target::Manifest(&two.digest) };
            *content.attributes_mut("app", target).unwrap() = hidden;
        });
        let repository = read(&registry).await;
        let found = gaps(&repository.gaps);
        assert!(found.iter().any(|(found, _)| *found == at), "{target}: {found:?}");
        assert!(repository.gaps[0].message.contains("counts 2"), "{}", repository.gaps[0].message);
    }
}

#[tokio::test]
async fn a_push_between_lists_and_counts_is_no_gap() {
    let registry = start(everything_allowed()).await;
    put(&registry, "v1", &image("one"), 1);
    let late = image("late");
    let pushed = FaultKind::before_request(move |content| content.put_image("app", Some("v2"), &late));
    registry.inject(Fault::on("/app/_tags", pushed).times(1));
    let repository = read(&registry).await;
    assert_eq!(repository.gaps, []);
    assert_eq!(repository.tags.len(), 2);
}

#[tokio::test]
async fn failures_in_the_middle_of_a_list_are_gaps() {
    let registry = start(everything_allowed()).await;
    let image = image("one");
    registry.content(|content| {
        for n in 0..1500 {
            content.put_image("app", Some(&format!("t{n:04}")), &image);
        }
    });
    for what in [FaultKind::status(500), FaultKind::HtmlPage, FaultKind::TruncatedJson, FaultKind::LinkLoop] {
        registry.inject(Fault::on("/app/_tags", what.clone()).after(1));
        let repository = read(&registry).await;
        registry.clear_faults();
        let found = gaps(&repository.gaps);
        assert!(found.iter().any(|(at, _)| *at == GapTarget::TagList), "{what:?}: {found:?}");
    }
    registry.inject(Fault::on("/app/_manifests", FaultKind::HtmlPage));
    let repository = read(&registry).await;
    assert!(repository.gaps.iter().any(|gap| gap.target == GapTarget::ManifestList && gap.message.contains("proxy")));
    registry.clear_faults();
    registry.inject(Fault::on("/acr/v1/app?", FaultKind::status(500)));
    registry.inject(Fault::on("/acr/v1/app", FaultKind::status(500)).times(usize::MAX));
    assert!(read(&registry).await.gaps.iter().any(tagwarden::domain::Gap::blocks_repository));
}

#[tokio::test]
async fn a_catalogue_is_read_to_its_true_end() {
    let registry = start(everything_allowed()).await;
    let image = image("one");
    registry.content(|content| {
        for n in 0..1205 {
            content.put_image(&format!("team/{n:04}/app"), Some("v1"), &image);
        }
    });
    let reader = reader(&registry.url());
    let catalogue = reader.catalogue().await.unwrap();
    assert_eq!((catalogue.repositories.len(), catalogue.gaps.len()), (1205, 0));
    let names: Vec<String> = (0..3).map(|n| format!("team/{n:04}/app")).collect();
    let cut = FaultKind::Status {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: serde_json::json!({"repositories": names}).to_string(),
    };
    registry.inject(Fault::on("/acr/v1/_catalog", cut).times(1));
    let catalogue = reader.catalogue().await.unwrap();
    assert_eq!((catalogue.repositories.len(), catalogue.gaps.len()), (1205, 0), "{:?}", catalogue.gaps);
    registry.clear_faults();
    registry.inject(Fault::on("/acr/v1/_catalog", FaultKind::status(500)).after(1));
    let catalogue = reader.catalogue().await.unwrap();
    assert_eq!(catalogue.gaps[0].target, GapTarget::Catalogue);
}

#[tokio::test]
async fn a_repository_that_vanished_is_empty_and_one_that_was_named_is_a_gap() {
    let registry = start(everything_allowed()).await;
    let repository = read(&registry).await;
    assert_eq!((repository.tags.len(), repository.gaps.len()), (0, 0));
    let settings = super::settings(&registry.url());
    let named = tagwarden::registry::RegistrySettings { repositories: vec![name("app")], ..settings };
    let reader = tagwarden::registry::AcrReader::new(named, crate::registry::quick()).unwrap();
    assert_eq!(reader.catalogue().await.unwrap().repositories, [name("app")]);
    let gap = &reader.repository(&name("app"), &BTreeSet::new(), &MemoryCache::default()).await.gaps[0];
    assert!(gap.message.contains("spelled"), "{}", gap.message);
}

#[tokio::test]
async fn a_tag_is_looked_at_by_its_metadata() {
    let registry = start(everything_allowed()).await;
    let one = image("one");
    put(&registry, "v1", &one, 2);
    let reader = reader(&registry.url());
    let now = reader.resolve(&name("app"), &tag("v1")).await.unwrap().unwrap();
    assert_eq!((now.digest, now.lock), (one.digest.clone(), None));
    assert!(now.pushed_at.is_some());
    assert_eq!(reader.resolve(&name("app"), &tag("v2")).await, Ok(None));
    assert_eq!(reader.resolve(&name("none"), &tag("v2")).await, Ok(None));
    assert_eq!(reader.tags(&name("app")).await.unwrap(), [tag("v1")]);
    assert!(reader.has_manifest(&name("app"), &one.digest).await.unwrap());
    assert!(!reader.has_manifest(&name("app"), &image("two").digest).await.unwrap());
    registry.inject(Fault::on("_tags/v1", FaultKind::HtmlPage));
    assert!(reader.resolve(&name("app"), &tag("v1")).await.is_err());
}
