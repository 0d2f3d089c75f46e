//! Reading, answer by answer.

use std::collections::BTreeSet;

use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{self, Format, artifact, media_type};
use tagwarden::demo::registry::{ArtifactRepository, Fault, FaultKind};
use tagwarden::domain::{Digest, GapTarget, Lock, ManifestDetail, UnreadKind};
use tagwarden::registry::{RegistryErrorKind, RegistrySettings};

use super::{
    API, image as build, name, noon, options, put, read, reader, refusal, request_counts, settings, start, throttling,
};
use crate::registry::{quick, tag};
use crate::support::memory::MemoryCache;

fn counts(expected: &[(&str, usize)]) -> std::collections::BTreeMap<String, usize> {
    expected.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
}

#[tokio::test]
async fn one_list_tells_tags_uploads_types_and_children() {
    let registry = start(options()).await;
    let (one, amd64, loose) = (build("one", 9), build("amd64", 9), build("loose", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&amd64));
    let note = artifact("a/note", (media_type::SPDX, Blob::of("note")), Some(&one), &[]);
    put(&registry, API, "v1", &one, 5);
    assert!(registry.move_tag(API, "stable", &one.digest));
    put(&registry, API, "multi", &index, 4);
    put(&registry, API, "note", &note, 3);
    put(&registry, "acme/shop/web/front", "v1", &one, 5);
    registry.content(|content| content.put_image(API, None, &loose));
    let (reader, cache) = (reader(&registry.url()), MemoryCache::default());
    let catalogue = reader.catalogue().await.unwrap();
    assert_eq!(catalogue.repositories, [name(API), name("acme/shop/web/front")]);
    let found = reader.repository(&name(API), &BTreeSet::new(), &cache).await;
    let other = reader.repository(&name("acme/shop/web/front"), &BTreeSet::new(), &cache).await;
    assert_eq!((other.tags.len(), other.gaps.len()), (1, 0));
    // One list of images answers for every image of the repository.
    let expected = counts(&[("GET repositories", 1), ("GET packages", 1), ("GET dockerImages", 1)]);
    assert_eq!(request_counts(&registry), expected);
    let tags: Vec<_> = found.tags.iter().map(|tag| (tag.name.as_str(), tag.digest.clone().unwrap())).collect();
    let wanted = [("multi", &index), ("note", &note), ("stable", &one), ("v1", &one)];
    assert_eq!(tags, wanted.map(|(tag, image)| (tag, image.digest.clone())));
    assert!(found.tags.iter().all(|tag| tag.pushed_at.is_none() && tag.lock.is_none()));
    let of = |image: &image::Image| &found.manifests[&image.digest];
    let uploaded = of(&one).created_at.unwrap().timestamp();
    assert_eq!(uploaded, noon() - jiff::SignedDuration::from_hours(5 * 24), "that of the image is known");
    assert!(matches!(of(&one).detail, ManifestDetail::Listed { image_size: Some(4000..) }), "{:?}", of(&one));
    assert_eq!(of(&index).children, std::slice::from_ref(&amd64.digest));
    assert!(!of(&index).is_unread(), "the list tells its images");
    assert_eq!(of(&note).unread_kind(), Some(UnreadKind::Artifact), "it may refer to something");
    assert_eq!(
        found.listed.iter().map(|row| row.digest.clone()).collect::<Vec<_>>(),
        std::slice::from_ref(&loose.digest)
    );
    assert_eq!(found.gaps, []);

    // Read again, it is read by itself.
    registry.clear_requests();
    let (again, changes) = reader.repository_with_changes(&name(API), &BTreeSet::new(), &cache).await;
    assert_eq!(request_counts(&registry), counts(&[("GET versions", 1)]));
    assert_eq!(again.tags, found.tags);
    assert_eq!(again.manifests[&index.digest].unread_kind(), Some(UnreadKind::Index), "before something is deleted");
    let untagged: BTreeSet<Digest> = [loose.digest.clone(), amd64.digest].into();
    assert_eq!(changes.into_keys().collect::<BTreeSet<_>>(), untagged);
}

#[tokio::test]
async fn an_image_with_more_tags_than_its_row_names_has_all_of_them() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v000", &one, 5);
    for number in 1..150 {
        assert!(registry.move_tag(API, &format!("v{number:03}"), &one.digest));
    }
    let found = read(&registry).await;
    assert_eq!((found.tags.len(), found.gaps.len()), (150, 0));
    assert_eq!(request_counts(&registry), counts(&[("GET repositories/*", 1), ("GET versions", 1), ("GET tags", 1)]));
    let state = reader(&registry.url()).manifest_state(&name(API), &one.digest).await.unwrap().unwrap();
    assert_eq!(state.tags.len(), 150, "by the list of the tags of that version");
}

#[tokio::test]
async fn pages_are_followed_to_the_end() {
    let registry = start(options()).await;
    for number in 0..1001 {
        let tag = format!("v{number}");
        put(&registry, API, &tag, &build(&tag, 9), 5);
        registry.content(|content| content.put_image(&format!("acme/shop/r{number}"), None, &build("same", 9)));
    }
    let reader = reader(&registry.url());
    assert_eq!(reader.tags(&name(API)).await.unwrap().len(), 1001);
    assert_eq!(reader.catalogue().await.unwrap().repositories.len(), 1002);
    let found = reader.repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!((found.tags.len(), found.gaps.len()), (1001, 0));
    let expected = [("GET tags", 2), ("GET repositories", 1), ("GET packages", 2), ("GET dockerImages", 3)];
    assert_eq!(request_counts(&registry), counts(&expected));
}

#[tokio::test]
async fn single_looks_answer_what_is_there_now() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, API, "v1", &one, 5);
    assert!(registry.move_tag(API, "v2", &one.digest));
    let note = artifact("a/note", (media_type::SPDX, Blob::of("note")), Some(&one), &[]);
    registry.content(|content| content.put_image(API, None, &note));
    let (reader, api) = (reader(&registry.url()), name(API));
    let found = reader.resolve(&api, &tag("v1")).await.unwrap().unwrap();
    assert_eq!((found.digest, found.pushed_at, found.lock), (one.digest.clone(), None, None));
    assert_eq!(reader.resolve(&api, &tag("v3")).await.unwrap(), None);
    assert!(reader.has_manifest(&api, &one.digest).await.unwrap());
    assert!(!reader.has_manifest(&api, &two.digest).await.unwrap());
    let state = reader.manifest_state(&api, &one.digest).await.unwrap().unwrap();
    assert_eq!(state.tags, [tag("v1"), tag("v2")]);
    assert_eq!(reader.referrers(&api, &one.digest).await.unwrap(), std::slice::from_ref(&note.digest));
    let raw = reader.manifest(&api, &one.digest).await.unwrap().unwrap();
    assert_eq!((raw.bytes.to_vec(), &*raw.media_type), (one.bytes.to_vec(), one.media_type));
    assert_eq!(reader.manifest(&api, &two.digest).await.unwrap(), None);
}

#[tokio::test]
async fn immutable_tags_are_locked_and_odd_repositories_are_left_out() {
    let immutable = ArtifactRepository { immutable_tags: true, ..ArtifactRepository::default() };
    let virtual_one = ArtifactRepository { mode: "VIRTUAL_REPOSITORY".to_owned(), ..ArtifactRepository::default() };
    let npm = ArtifactRepository { format: "NPM".to_owned(), ..ArtifactRepository::default() };
    let options = options().repository("acme/shop", immutable);
    let registry = start(options.repository("acme/all", virtual_one).repository("acme/npm", npm)).await;
    let one = build("one", 9);
    for repository in [API, "acme/all/api", "acme/npm/api"] {
        put(&registry, repository, "v1", &one, 5);
    }
    let reader = reader(&registry.url());
    assert_eq!(reader.catalogue().await.unwrap().repositories, [name(API)]);
    let found = reader.repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!(found.tags[0].lock, Some(Lock::DeleteAndWrite));
    let state = reader.resolve(&name(API), &tag("v1")).await.unwrap().unwrap();
    assert_eq!(state.lock, Some(Lock::DeleteAndWrite));

    let named = RegistrySettings { namespaces: vec!["acme/all".to_owned()], ..settings(&registry.url()) };
    let error = tagwarden::registry::connect(named, quick()).unwrap().reader().catalogue().await.unwrap_err();
    assert!(error.chain().contains("is a virtual repository"), "{}", error.chain());
}

#[tokio::test]
async fn what_cannot_be_read_is_a_gap() {
    for (fault, phrase) in [
        (refusal(403, "PERMISSION_DENIED", "denied"), "`artifactregistry.versions.list`"),
        (refusal(500, "INTERNAL", "internal"), "internal"),
        (FaultKind::InvalidJson, "cannot be understood"),
        (FaultKind::HtmlPage, "cannot be understood"),
        (FaultKind::Status { status: 200, headers: Vec::new(), body: r#"{"unknown":[]}"#.into() }, "has no list"),
        (
            FaultKind::Status { status: 200, headers: Vec::new(), body: r#"{"versions":[{"name":"x"}]}"#.into() },
            "cannot be understood",
        ),
        (
            FaultKind::Status { status: 403, headers: Vec::new(), body: "<html>blocked</html>".into() },
            "check `endpoint`",
        ),
        (
            FaultKind::Status { status: 404, headers: Vec::new(), body: "<html>nothing</html>".into() },
            "check `endpoint`",
        ),
    ] {
        let registry = start(options()).await;
        put(&registry, API, "v1", &build("one", 9), 5);
        registry.inject(Fault::on("/versions", fault));
        let found = read(&registry).await;
        assert_eq!((found.tags.len(), found.gaps.len()), (0, 1));
        assert!(matches!(found.gaps[0].target, GapTarget::TagList | GapTarget::ManifestList));
        assert!(found.gaps[0].message.contains(phrase), "{}", found.gaps[0].message);
    }
}

#[tokio::test]
async fn a_list_of_images_that_fails_is_made_up_for_one_by_one() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    put(&registry, "acme/shop/web", "v1", &build("one", 9), 5);
    registry.inject(Fault::on("/dockerImages", refusal(403, "PERMISSION_DENIED", "denied")));
    registry.inject(Fault::on("/versions", throttling()).times(2));
    let (reader, cache) = (reader(&registry.url()), MemoryCache::default());
    for repository in reader.catalogue().await.unwrap().repositories {
        let found = reader.repository(&repository, &BTreeSet::new(), &cache).await;
        assert_eq!((found.tags.len(), found.gaps.len()), (1, 0));
    }
    let asked = request_counts(&registry);
    assert_eq!((asked["GET dockerImages"], asked["GET versions"]), (1, 4), "with a pause");
}

#[tokio::test]
async fn names_that_are_not_there_are_gaps_only_where_settings_name_them() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    let gone = name("acme/shop/gone");
    let cache = MemoryCache::default();
    let found = reader(&registry.url()).repository(&gone, &BTreeSet::new(), &cache).await;
    assert_eq!((found.tags.len(), found.gaps.len()), (0, 0));
    let settings = settings(&registry.url());
    let named = RegistrySettings { namespaces: Vec::new(), repositories: vec![name(API), gone.clone()], ..settings };
    let reader = tagwarden::registry::connect(named, quick()).unwrap().reader();
    assert_eq!(reader.catalogue().await.unwrap().repositories.len(), 2);
    let found = reader.repository(&gone, &BTreeSet::new(), &cache).await;
    assert_eq!(found.gaps[0].target, GapTarget::TagList);
    assert!(found.gaps[0].message.contains("knows no image acme/shop/gone"), "{}", found.gaps[0].message);
    assert_eq!(reader.repository(&name(API), &BTreeSet::new(), &cache).await.gaps, []);
}

#[tokio::test]
async fn a_token_that_is_not_known_says_so_and_is_not_shown() {
    let registry = start(options()).await;
    let settings = RegistrySettings {
        auth: tagwarden::registry::Auth::Token("ya29.of-nobody".into()),
        ..settings(&registry.url())
    };
    let connection = tagwarden::registry::connect(settings, quick()).unwrap();
    let error = connection.reader().catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    assert!(error.chain().contains("does not accept the token"), "{}", error.chain());
    let shown = format!("{} {connection:?} {}", error.chain(), connection.reader().identity());
    assert!(!shown.contains("of-nobody"), "{shown}");
}
