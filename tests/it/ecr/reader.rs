//! Reading, answer by answer.

use std::collections::BTreeSet;

use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{self, Format, artifact, media_type};
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::domain::{GapTarget, Lock, ManifestDetail, UnreadKind};
use tagwarden::registry::RegistryErrorKind;

use super::{
    image as build, name, options, put, read, reader, refusal, request_counts, settings_of, start, throttling,
};
use crate::registry::{quick, tag};
use crate::support::memory::MemoryCache;

#[tokio::test]
async fn one_list_tells_tags_pushes_types_and_subjects() {
    let registry = start(options()).await;
    let (one, amd64, loose) = (build("one", 9), build("amd64", 9), build("loose", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&amd64));
    let note = artifact("a/note", (media_type::SPDX, Blob::of("note")), Some(&one), &[]);
    let chart = artifact("a/chart", (media_type::SPDX, Blob::of("chart")), None, &[]);
    put(&registry, "shop/api", "v1", &one, 5);
    assert!(registry.move_tag("shop/api", "stable", &one.digest));
    put(&registry, "shop/api", "multi", &index, 4);
    put(&registry, "shop/api", "chart", &chart, 3);
    for image in [&loose, &note] {
        registry.content(|content| content.put_image("shop/api", None, image));
    }
    registry.clear_requests();
    let found = read(&registry).await;
    assert_eq!(request_counts(&registry), [("DescribeImages".to_owned(), 1)].into());
    assert_eq!(found.gaps, []);
    let tags: Vec<_> = found.tags.iter().map(|tag| (tag.name.as_str(), tag.digest.as_ref().unwrap())).collect();
    let expected = [("chart", &chart), ("multi", &index), ("stable", &one), ("v1", &one)];
    assert_eq!(tags, expected.map(|(tag, image)| (tag, &image.digest)));
    assert!(found.tags.iter().all(|tag| tag.pushed_at.is_none()), "the pushes of tags are not known");
    let of = |image: &image::Image| &found.manifests[&image.digest];
    let pushed = of(&one).created_at.unwrap().timestamp();
    assert_eq!(pushed, super::noon() - jiff::SignedDuration::from_hours(5 * 24), "that of the image is");
    assert!(matches!(of(&one).detail, ManifestDetail::Listed { image_size: Some(4000..) }), "{:?}", of(&one));
    assert!(matches!(of(&index).detail, ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index }));
    assert!(matches!(of(&chart).detail, ManifestDetail::Unread { kind: UnreadKind::Artifact, .. }));
    assert_eq!(of(&note).subject.as_deref(), Some(&one.digest), "known without a pull");
    assert!(!of(&note).is_unread());
    let listed: BTreeSet<_> = found.listed.iter().map(|row| row.digest.clone()).collect();
    assert_eq!(listed, [loose.digest.clone(), amd64.digest.clone()].into());
}

#[tokio::test]
async fn indexes_are_read_together_and_only_on_demand() {
    let registry = start(options()).await;
    let indexes: Vec<_> = (0..130)
        .map(|number| {
            let parts = [build(&format!("{number} amd64"), 9), build(&format!("{number} arm64"), 9)];
            let index = image::index(Format::Oci, &parts);
            put(&registry, "shop/api", &format!("v{number}"), &index, 5);
            index
        })
        .collect();
    let reader = reader(&registry.url());
    let cache = MemoryCache::default();
    let mut found = reader.repository(&name("shop/api"), &BTreeSet::new(), &cache).await;
    registry.clear_requests();
    let wanted: BTreeSet<_> = indexes.iter().map(|index| index.digest.clone()).collect();
    reader.read_manifests(&mut found, &wanted, &cache).await;
    assert_eq!(request_counts(&registry), [("BatchGetImage".to_owned(), 2)].into(), "a hundred in each");
    assert_eq!(found.gaps, []);
    for index in &indexes {
        let manifest = &found.manifests[&index.digest];
        assert_eq!((manifest.children.len(), manifest.detail), (2, ManifestDetail::Full));
        assert!(manifest.created_at.is_some(), "the push of the list stays");
        assert!(index.children.iter().all(|child| found.manifests.contains_key(&child.digest)));
    }
    assert_eq!(found.listed, []);
    reader.read_manifests(&mut found, &wanted, &cache).await;
    assert_eq!(request_counts(&registry)["BatchGetImage"], 2, "they are in the cache");
}

#[tokio::test]
async fn pages_are_followed_to_the_end() {
    let registry = start(options()).await;
    for number in 0..1001 {
        let tag = format!("v{number}");
        put(&registry, "shop/api", &tag, &build(&tag, 9), 5);
        registry.content(|content| content.put_image(&format!("shop/r{number}"), None, &build("same", 9)));
    }
    let reader = reader(&registry.url());
    assert_eq!(reader.tags(&name("shop/api")).await.unwrap().len(), 1001);
    assert_eq!(reader.catalogue().await.unwrap().repositories.len(), 1002);
    let expected = [("DescribeImages".to_owned(), 2), ("DescribeRepositories".to_owned(), 2)];
    assert_eq!(request_counts(&registry), expected.into());
}

#[tokio::test]
async fn single_looks_answer_what_is_there_now() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, "shop/api", "v1", &one, 5);
    assert!(registry.move_tag("shop/api", "v2", &one.digest));
    let note = artifact("a/note", (media_type::SPDX, Blob::of("note")), Some(&one), &[]);
    registry.content(|content| content.put_image("shop/api", None, &note));
    let (reader, shop) = (reader(&registry.url()), name("shop/api"));
    let found = reader.resolve(&shop, &tag("v1")).await.unwrap().unwrap();
    assert_eq!((found.digest, found.pushed_at, found.lock), (one.digest.clone(), None, None));
    assert_eq!(reader.resolve(&shop, &tag("v3")).await.unwrap(), None);
    assert!(reader.has_manifest(&shop, &one.digest).await.unwrap());
    assert!(!reader.has_manifest(&shop, &two.digest).await.unwrap());
    let state = reader.manifest_state(&shop, &one.digest).await.unwrap().unwrap();
    assert_eq!(state.tags, [tag("v1"), tag("v2")]);
    assert_eq!(reader.referrers(&shop, &one.digest).await.unwrap(), std::slice::from_ref(&note.digest));
    let raw = reader.manifest(&shop, &one.digest).await.unwrap().unwrap();
    assert_eq!((raw.bytes.to_vec(), &*raw.media_type), (one.bytes.to_vec(), one.media_type));
    assert_eq!(reader.manifest(&shop, &two.digest).await.unwrap(), None);
    let error = reader.resolve(&name("shop/none"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::NotFound, "a repository that is not there says nothing of its tags");
}

#[tokio::test]
async fn archived_images_are_seen_and_locked() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    registry.ecr(|ecr| ecr.archive("shop/api", &one.digest));
    let found = read(&registry).await;
    assert_eq!(found.manifests[&one.digest].lock, Some(Lock::DeleteAndWrite));
    let reader = reader(&registry.url());
    let state = reader.resolve(&name("shop/api"), &tag("v1")).await.unwrap().unwrap();
    assert_eq!(state.lock, Some(Lock::DeleteAndWrite));
    let error = reader.manifest(&name("shop/api"), &one.digest).await.unwrap_err();
    assert!(error.chain().contains("ImageInaccessible"), "{}", error.chain());
}

#[tokio::test]
async fn what_cannot_be_read_is_a_gap() {
    for (fault, phrase) in [
        (refusal("AccessDeniedException", "not authorized"), "`ecr:DescribeImages`"),
        (refusal("ServerException", "internal"), "ServerException"),
        (FaultKind::InvalidJson, "cannot be understood"),
        (FaultKind::HtmlPage, "cannot be understood"),
        (
            FaultKind::Status { status: 403, headers: Vec::new(), body: "<html>blocked</html>".into() },
            "check `endpoint`",
        ),
    ] {
        let registry = start(options()).await;
        put(&registry, "shop/api", "v1", &build("one", 9), 5);
        registry.inject(Fault::on("/DescribeImages", fault));
        let found = read(&registry).await;
        assert_eq!((found.tags.len(), found.gaps.len()), (0, 1));
        assert_eq!(found.gaps[0].target, GapTarget::TagList);
        assert!(found.gaps[0].message.contains(phrase), "{}", found.gaps[0].message);
    }
}

#[tokio::test]
async fn throttled_reads_wait_and_go_on() {
    let registry = start(options()).await;
    put(&registry, "shop/api", "v1", &build("one", 9), 5);
    registry.inject(Fault::on("/DescribeImages", throttling()).times(3));
    assert_eq!(read(&registry).await.gaps, []);
    assert_eq!(request_counts(&registry)["DescribeImages"], 4);
}

#[tokio::test]
async fn manifests_with_another_digest_are_not_taken() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    let body = serde_json::json!({ "images": [{ "imageId": { "imageDigest": one.digest.to_string() }, "imageManifest": "{}" }], "failures": [] });
    let fault = FaultKind::Status { status: 200, headers: Vec::new(), body: body.to_string() };
    registry.inject(Fault::on("/BatchGetImage", fault));
    let error = reader(&registry.url()).manifest(&name("shop/api"), &one.digest).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::DigestMismatch);
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_key_say_so_and_show_nothing() {
    let registry = start(options()).await;
    for (identity, phrase) in [
        (super::keys("another/secret"), "the secret does not belong to the access key"),
        (
            tagwarden::registry::providers::AwsIdentity::Keys {
                access_key_id: "AKIDOFNOBODY".to_owned(),
                secret_access_key: "another/secret".into(),
                session_token: Some("another/session".into()),
            },
            "does not know the access key",
        ),
    ] {
        let settings = settings_of(&registry.url(), identity);
        let connection = tagwarden::registry::connect(settings, quick()).unwrap();
        let error = connection.reader().catalogue().await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Denied);
        assert!(error.chain().contains(phrase), "{}", error.chain());
        let shown = format!("{} {connection:?} {}", error.chain(), connection.reader().identity());
        assert!(!shown.contains("another/"), "{shown}");
    }
}

/// An image that the registry lists and does not give is unread, and may contain anything; it is not a damaged one.
#[tokio::test]
async fn what_is_listed_and_not_given_is_unread() {
    let registry = start(options()).await;
    let index = image::index(Format::Oci, &[build("amd64", 9)]);
    put(&registry, "shop/api", "multi", &index, 4);
    let withheld = |json: &mut serde_json::Value| {
        for image in json["images"].as_array_mut().map(std::mem::take).unwrap_or_default() {
            let failure = serde_json::json!({ "imageId": image["imageId"], "failureCode": "ImageNotFound" });
            json["failures"].as_array_mut().unwrap().push(failure);
        }
    };
    registry.inject(Fault::on("/BatchGetImage", FaultKind::EditedJson(withheld)));
    let mut found = read(&registry).await;
    let wanted = BTreeSet::from([index.digest.clone()]);
    reader(&registry.url()).read_manifests(&mut found, &wanted, &MemoryCache::default()).await;
    let gaps: Vec<_> = found.gaps.iter().map(|gap| gap.target.clone()).collect();
    assert_eq!(gaps, [GapTarget::Manifest(index.digest.clone())], "{:?}", found.gaps);
    assert_eq!(found.manifests[&index.digest].unread_kind(), Some(UnreadKind::Index));
}
