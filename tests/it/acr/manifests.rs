//! Manifests that no tag need lead to: looked for in the lists, looked at one by one, deleted and put by their digests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{self, Format, Image};
use tagwarden::demo::registry::{AcrOptions, Attributes, Dialect, EmbeddedRegistry, Fault, FaultKind, Options, Target};
use tagwarden::domain::{Digest, GapTarget, Lock, ManifestDetail, ManifestState, RegistryName, Repository};
use tagwarden::registry::{
    AcrReader, Auth, CollectScope, ExtraManifests, RegistryErrorKind, RegistryReader, RegistrySettings,
    RemovalResponse, collect,
};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{image, put, read_rest, reader, request_counts, settings, writer};
use crate::registry::{gaps, name, quick, tag};
use crate::support::acr::{everything_allowed, start};
use crate::support::memory::MemoryCache;
use crate::support::removal::delete_manifest;

fn sbom(subject: &Image) -> Image {
    image::artifact("application/vnd.example.sbom", ("sbom", Blob::of("x")), Some(subject), &[])
}

/// A registry with a tagged image, an image, an index of two, and an artifact that refers to the untagged image.
struct UntaggedFixture {
    registry: EmbeddedRegistry,
    named: Vec<(&'static str, Image)>,
}

async fn world() -> UntaggedFixture {
    let registry = start(everything_allowed()).await;
    let (tagged, loose, one, two) = (image("tagged"), image("loose"), image("one"), image("two"));
    let index = image::index(Format::Oci, &[one.clone(), two.clone()]);
    let refers = sbom(&loose);
    put(&registry, "v1", &tagged, 5);
    registry.content(|content| {
        for image in [&loose, &index, &refers, &image("other")] {
            content.put_image("app", None, image);
        }
    });
    let named = vec![
        ("tagged", tagged),
        ("loose", loose),
        ("one", one),
        ("two", two),
        ("index", index),
        ("refers", refers),
        ("other", image("other")),
        ("gone", image("gone")),
    ];
    UntaggedFixture { registry, named }
}

impl UntaggedFixture {
    fn digest(&self, wanted: &str) -> &Digest {
        &self.named.iter().find(|(name, _)| *name == wanted).unwrap().1.digest
    }

    fn digests(&self, wanted: &[&str]) -> BTreeSet<Digest> {
        wanted.iter().map(|name| self.digest(name).clone()).collect()
    }

    fn names<'d>(&self, digests: impl IntoIterator<Item = &'d Digest>) -> BTreeSet<&'static str> {
        let name = |digest: &Digest| self.named.iter().find(|(_, image)| image.digest == *digest).unwrap().0;
        digests.into_iter().map(name).collect()
    }

    /// The manifests whose own bytes were asked for.
    fn pulled(&self) -> BTreeSet<&'static str> {
        let paths = request_counts(&self.registry).into_keys();
        let digests: Vec<Digest> = paths
            .filter_map(|path| path.strip_prefix("GET /v2/app/manifests/").map(|digest| digest.parse().unwrap()))
            .collect();
        self.names(&digests)
    }
}

#[tokio::test]
async fn what_is_looked_for_is_listed_and_what_may_refer_to_it_is_read_when_asked_for() {
    let world = world().await;
    // Looked for; there.
    for (sought, there) in [
        (&[][..], &[][..]),
        (&["loose"], &["loose"]),
        (&["index"], &["index"]),
        (&["one"], &["one"]),
        (&["refers"], &["refers"]),
        (&["gone"], &[]),
        (&["tagged"], &["tagged"]),
        (&["loose", "other", "gone"], &["loose", "other"]),
    ] {
        world.registry.clear_requests();
        let (reader, cache) = (reader(&world.registry.url()), MemoryCache::default());
        let digests = world.digests(sought);
        let listed = reader.repository(&name("app"), &digests, &cache).await;
        assert_eq!(listed.gaps, [], "{sought:?}");
        assert_eq!(world.names(listed.untagged.keys()), there.iter().copied().collect(), "{sought:?}");
        let kept: BTreeSet<_> = there.iter().chain(&["tagged"]).copied().collect();
        assert_eq!(world.names(listed.manifests.keys()), kept, "{sought:?}");
        let all = listed.manifests.keys().chain(listed.listed.iter().map(|row| &row.digest));
        assert_eq!(world.names(all).len(), 7, "{sought:?}");
        assert_eq!(world.pulled(), BTreeSet::new(), "{sought:?}");
        let mut repository = listed.clone();
        read_rest(&reader, &mut repository, &cache).await;
        let always = ["tagged", "index", "one", "two", "refers", "loose"];
        let kept: BTreeSet<_> = always.iter().chain(there).copied().collect();
        assert_eq!(world.names(repository.manifests.keys()), kept, "{sought:?}");
        assert_eq!(world.pulled(), ["index", "refers"].into(), "{sought:?}");
        for (digest, manifest) in &repository.manifests {
            let whole = world.names([digest]).iter().all(|name| ["index", "refers"].contains(name));
            assert_eq!(manifest.detail == ManifestDetail::Full, whole, "{sought:?}");
        }
        if let Some(refers) = repository.manifests.get(world.digest("refers")) {
            assert_eq!(refers.subject.as_deref(), Some(world.digest("loose")));
        }
        world.registry.clear_requests();
        let mut again = reader.repository(&name("app"), &digests, &cache).await;
        assert_eq!(again, listed);
        read_rest(&reader, &mut again, &cache).await;
        assert_eq!(again, repository);
        assert_eq!(world.pulled(), BTreeSet::new(), "kept by their digests");
        assert_eq!(request_counts(&world.registry).values().sum::<usize>(), 3, "attributes, tags and manifests");
    }
}

#[tokio::test]
async fn a_lock_and_the_time_of_the_last_change_come_along() {
    let registry = start(everything_allowed()).await;
    let (loose, tagged) = (image("loose"), image("tagged"));
    let changed = registry.content(|content| {
        let changed = content.now() - SignedDuration::from_hours(48);
        content.set_now(changed);
        content.put_image("app", None, &loose);
        content.put_image("app", Some("v1"), &tagged);
        let lock = content.attributes_mut("app", Target::Manifest(&loose.digest)).unwrap();
        *lock = Attributes { delete: false, ..*lock };
        changed
    });
    let reader = reader(&registry.url());
    let sought: BTreeSet<_> = [loose.digest.clone(), tagged.digest.clone()].into();
    let repository = reader.repository(&name("app"), &sought, &MemoryCache::default()).await;
    assert_eq!(repository.manifests[&loose.digest].lock, Some(Lock::Delete));
    let listed = repository.untagged[&loose.digest].unwrap();
    assert!(changed.duration_since(listed).abs() < SignedDuration::from_micros(1), "{listed}");
    assert_eq!(repository.untagged[&tagged.digest], Some(listed));
    let now = reader.manifest_state(&name("app"), &loose.digest).await.unwrap().unwrap();
    assert_eq!(now, ManifestState { tags: vec![], lock: Some(Lock::Delete), changed_at: Some(listed) });
}

#[tokio::test]
async fn what_may_refer_to_it_and_cannot_be_read_is_a_gap() {
    let world = world().await;
    let path = format!("/v2/app/manifests/{}", world.digest("refers"));
    world.registry.inject(Fault::on(&path, FaultKind::status(500)));
    let (reader, cache) = (reader(&world.registry.url()), MemoryCache::default());
    let mut repository = reader.repository(&name("app"), &world.digests(&["loose"]), &cache).await;
    assert_eq!(repository.gaps, []);
    read_rest(&reader, &mut repository, &cache).await;
    let gap = (GapTarget::Manifest(world.digest("refers").clone()), "status");
    assert_eq!(gaps(&repository.gaps), [gap]);
    assert!(repository.manifests[world.digest("refers")].is_unread());
}

#[tokio::test]
async fn each_repository_is_looked_through_for_its_own() {
    let registry = start(everything_allowed()).await;
    let loose = image("loose");
    registry.content(|content| {
        for repository in ["app", "other"] {
            content.put_image(repository, Some("v1"), &image("tagged"));
            content.put_image(repository, None, &loose);
        }
    });
    let readers: [Arc<dyn RegistryReader>; 1] = [Arc::new(reader(&registry.url()))];
    let contoso: RegistryName = "contoso".parse().unwrap();
    let elsewhere: RegistryName = "elsewhere".parse().unwrap();
    let sought = BTreeSet::from([loose.digest.clone()]);
    let look_for =
        ExtraManifests::from([((contoso, name("app")), sought.clone()), ((elsewhere, name("other")), sought)]);
    let inventory = collect(&readers, &CollectScope::All, &look_for, &MemoryCache::default(), &()).await;
    let found = &inventory.registries[0];
    assert!(found.lists_untagged);
    let untagged = |name| found.repository(name).unwrap().untagged.keys().cloned().collect::<Vec<_>>();
    assert_eq!((untagged("app"), untagged("other")), (vec![loose.digest.clone()], vec![]));
}

#[tokio::test]
async fn a_manifest_says_what_is_so_of_it_now() {
    let registry = start(everything_allowed()).await;
    let one = image("one");
    let reader = reader(&registry.url());
    let tags = async || {
        let now = reader.manifest_state(&name("app"), &one.digest).await.unwrap();
        now.map(|now| now.tags.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(tags().await, None, "there is no such repository");
    put(&registry, "v1", &image("two"), 1);
    assert_eq!(tags().await, None, "there is no such manifest");
    registry.content(|content| content.put_image("app", None, &one));
    assert_eq!(tags().await, Some(vec![]));
    put(&registry, "a", &one, 1);
    put(&registry, "b", &one, 1);
    assert_eq!(tags().await, Some(vec!["a".into(), "b".into()]));
    registry.content(|content| (0..40).for_each(|n| content.put_image("app", Some(&format!("build-{n}")), &one)));
    assert_eq!(tags().await.unwrap().len(), 10, "the service cuts the list, but never to nothing");
    registry.content(|content| content.delete_manifest("app", &one.digest));
    assert_eq!(tags().await, None);
}

/// What a reader makes of such an answer about the manifest of `digest(1)`.
async fn now(answer: ResponseTemplate) -> Result<Option<ManifestState>, RegistryErrorKind> {
    let server = MockServer::start().await;
    Mock::given(method("GET")).and(path("/v2/")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let one = path(format!("/acr/v1/app/_manifests/{}", digest(1)));
    Mock::given(method("GET")).and(one).respond_with(answer).mount(&server).await;
    let settings = RegistrySettings { auth: Auth::Anonymous, ..settings(&server.uri()) };
    let reader = AcrReader::new(settings, quick()).unwrap();
    reader.manifest_state(&name("app"), &digest(1)).await.map_err(|error| error.kind)
}

fn digest(n: u8) -> Digest {
    Digest::of(&[n])
}

fn about(fields: &Value) -> ResponseTemplate {
    let mut manifest = json!({"digest": digest(1).to_string()});
    manifest.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ResponseTemplate::new(200).set_body_json(json!({"registry": "r", "imageName": "app", "manifest": manifest}))
}

#[tokio::test]
async fn what_cannot_be_understood_of_a_manifest_is_never_taken_for_no_tag() {
    let plain = |tags: &[&str]| ManifestState {
        tags: tags.iter().map(|name| tag(name)).collect(),
        lock: None,
        changed_at: None,
    };
    let changed_at: Option<Timestamp> = "2026-01-02T03:04:05.1234567Z".parse().ok();
    let unknown = |code: &str| {
        let errors = json!({"errors": [{"code": code, "message": "no"}]});
        ResponseTemplate::new(404).set_body_json(errors)
    };
    for (case, answer, expected) in [
        ("no key", about(&json!({})), Ok(Some(plain(&[])))),
        ("null", about(&json!({"tags": null})), Ok(Some(plain(&[])))),
        ("empty", about(&json!({"tags": []})), Ok(Some(plain(&[])))),
        ("some", about(&json!({"tags": ["b", "a"]})), Ok(Some(plain(&["b", "a"])))),
        (
            "all there is",
            about(&json!({
                "createdTime": "2025-01-01T00:00:00Z", "lastUpdateTime": "2026-01-02T03:04:05.1234567Z", "new": 1,
                "changeableAttributes": {"deleteEnabled": true, "writeEnabled": false, "listEnabled": true},
            })),
            Ok(Some(ManifestState { lock: Some(Lock::Write), changed_at, ..plain(&[]) })),
        ),
        ("created only", about(&json!({"createdTime": "2025-01-01T00:00:00Z"})), Ok(Some(plain(&[])))),
        ("no time", about(&json!({"lastUpdateTime": "lately"})), Ok(Some(plain(&[])))),
        ("an odd name", about(&json!({"tags": ["a", "-b"]})), Err(RegistryErrorKind::Malformed)),
        ("no name", about(&json!({"tags": [""]})), Err(RegistryErrorKind::Malformed)),
        ("numbers", about(&json!({"tags": [1]})), Err(RegistryErrorKind::Malformed)),
        ("no list", about(&json!({"tags": "a"})), Err(RegistryErrorKind::Malformed)),
        ("another", about(&json!({"digest": digest(2).to_string()})), Err(RegistryErrorKind::Malformed)),
        ("nothing", ResponseTemplate::new(200).set_body_json(json!({})), Err(RegistryErrorKind::Malformed)),
        ("a page", ResponseTemplate::new(200).set_body_string("<html>"), Err(RegistryErrorKind::Malformed)),
        ("unknown", unknown("MANIFEST_UNKNOWN"), Ok(None)),
        ("unknown repository", unknown("NAME_UNKNOWN"), Ok(None)),
        ("lost", ResponseTemplate::new(404).set_body_string("<html>"), Err(RegistryErrorKind::Malformed)),
        ("denied", ResponseTemplate::new(403), Err(RegistryErrorKind::Denied)),
        ("broken", ResponseTemplate::new(500), Err(RegistryErrorKind::Status(500))),
    ] {
        assert_eq!(now(answer).await, expected, "{case}");
    }
}

#[tokio::test]
async fn one_that_only_a_tag_tells_of_is_found_by_its_attributes() {
    let server = MockServer::start().await;
    let ok = |json: Value| ResponseTemplate::new(200).set_body_json(json);
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let one = json!({
        "digest": digest(1).to_string(), "mediaType": docker, "lastUpdateTime": "2026-01-02T03:04:05Z",
        "createdTime": "2026-01-01T00:00:00Z",
    });
    let two = json!({"digest": digest(2).to_string(), "mediaType": docker, "createdTime": "2026-01-01T00:00:00Z"});
    for (route, answer) in [
        ("/v2/", json!({})),
        ("/acr/v1/app", json!({"imageName": "app"})),
        ("/acr/v1/app/_tags", json!({"tags": [{"name": "a", "digest": digest(1).to_string()}]})),
        ("/acr/v1/app/_manifests", json!({"manifests": [two]})),
        (&format!("/acr/v1/app/_manifests/{}", digest(1)), json!({"manifest": one})),
    ] {
        Mock::given(method("GET")).and(path(route)).respond_with(ok(answer)).mount(&server).await;
    }
    let settings = RegistrySettings { auth: Auth::Anonymous, ..settings(&server.uri()) };
    let reader = AcrReader::new(settings, quick()).unwrap();
    let sought = [digest(1), digest(2), digest(3)].into();
    let repository: Repository = reader.repository(&name("app"), &sought, &MemoryCache::default()).await;
    assert_eq!(repository.gaps, [], "one that is not listed is simply not there");
    let expected = [(digest(1), "2026-01-02T03:04:05Z".parse().ok()), (digest(2), None)];
    assert_eq!(repository.untagged, BTreeMap::from(expected), "its creation says nothing of its last change");
}

async fn paged(referrers_api: bool) -> EmbeddedRegistry {
    let dialect = Dialect::acr(everything_allowed());
    EmbeddedRegistry::start(Options { dialect, page_size: 2, referrers_api, ..Options::default() }).await.unwrap()
}

#[tokio::test]
async fn referrers_are_all_of_them_right_now_or_an_error() {
    let registry = paged(true).await;
    let one = image("one");
    put(&registry, "v1", &one, 1);
    let reader = reader(&registry.url());
    let referrers = async || {
        let found = reader.referrers(&name("app"), &one.digest).await;
        found.map(|digests| digests.into_iter().collect::<BTreeSet<_>>()).map_err(|error| error.kind)
    };
    let mut expected = BTreeSet::new();
    assert_eq!(referrers().await, Ok(expected.clone()));
    for n in 0..5 {
        let kind = format!("application/vnd.example.sbom-{n}");
        let refers = image::artifact(&kind, ("sbom", Blob::of("x")), Some(&one), &[]);
        registry.content(|content| content.put_image("app", None, &refers));
        expected.insert(refers.digest);
        assert_eq!(referrers().await, Ok(expected.clone()), "nothing is remembered");
    }
    let odd = json!({"manifests": [{"digest": "latest"}]}).to_string();
    let odd = FaultKind::Status { status: 200, headers: vec![], body: odd };
    for (after, what, kind) in [
        (0, FaultKind::status(500), RegistryErrorKind::Status(500)),
        (1, FaultKind::status(500), RegistryErrorKind::Status(500)),
        (1, FaultKind::status(404), RegistryErrorKind::NotFound),
        (0, FaultKind::HtmlPage, RegistryErrorKind::Malformed),
        (1, FaultKind::HtmlPage, RegistryErrorKind::Malformed),
        (0, FaultKind::LinkLoop, RegistryErrorKind::Malformed),
        (0, FaultKind::ForeignLink("https://evil.example/x".into()), RegistryErrorKind::Malformed),
        (2, odd, RegistryErrorKind::Malformed),
    ] {
        registry.inject(Fault::on("/referrers/", what.clone()).after(after));
        assert_eq!(referrers().await, Err(kind), "{what:?} after {after}");
        registry.clear_faults();
    }
    assert_eq!(referrers().await, Ok(expected));
}

#[tokio::test]
async fn where_referrers_are_not_known_nobody_says_that_there_are_none() {
    let registry = paged(false).await;
    let one = image("one");
    put(&registry, "v1", &one, 1);
    let error = reader(&registry.url()).referrers(&name("app"), &one.digest).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unsupported);
    assert!(error.chain().contains("does not list what refers"), "{error}");
}

#[tokio::test]
async fn a_manifest_goes_by_its_digest_with_its_tags_and_what_refers_to_it() {
    let registry = start(everything_allowed()).await;
    let (one, two) = (image("one"), image("two"));
    let refers = sbom(&one);
    put(&registry, "v1", &one, 2);
    put(&registry, "v2", &two, 2);
    registry.content(|content| content.put_image("app", None, &refers));
    let writer = writer(&registry.url());
    let Ok(RemovalResponse::Removed { request_id: evidence, digest: named }) =
        delete_manifest(&writer, &name("app"), &one.bytes).await
    else {
        panic!()
    };
    assert!(evidence.starts_with("x-ms-correlation-request-id: "), "{evidence}");
    assert_eq!(named, None);
    assert_eq!(registry.tags("app").into_keys().collect::<Vec<_>>(), ["v2"]);
    assert!(registry.manifest("app", &one.digest).is_none());
    assert!(registry.manifest("app", &refers.digest).is_none());
    assert!(registry.manifest("app", &two.digest).is_some());
    assert_eq!(delete_manifest(&writer, &name("app"), &one.bytes).await, Ok(RemovalResponse::AlreadyMissing));
    assert_eq!(delete_manifest(&writer, &name("none"), &one.bytes).await, Ok(RemovalResponse::AlreadyMissing));
    let deletion = |repository| format!("DELETE /v2/{repository}/manifests/{}", one.digest);
    assert_eq!(request_counts(&registry), BTreeMap::from([(deletion("app"), 2), (deletion("none"), 1)]));
}

#[tokio::test]
async fn what_keeps_a_manifest_from_being_deleted_is_told_apart() {
    use RegistryErrorKind::{Denied, Locked, Malformed, Status, Throttled, Unsupported};
    let one = image("one");
    let fresh = async || {
        let registry = start(everything_allowed()).await;
        put(&registry, "v1", &one, 2);
        registry
    };
    let delete = async |registry: &EmbeddedRegistry| {
        let deleted = delete_manifest(&writer(&registry.url()), &name("app"), &one.bytes).await;
        assert!(registry.manifest("app", &one.digest).is_some());
        deleted.map_err(|error| error.kind)
    };
    for attributes in
        [Attributes { delete: false, ..Attributes::default() }, Attributes { write: false, ..Attributes::default() }]
    {
        for target in [Target::Tag("v1"), Target::Manifest(&one.digest), Target::Repository] {
            let registry = fresh().await;
            let what = format!("{target:?} {attributes:?}");
            registry.content(|content| *content.attributes_mut("app", target).unwrap() = attributes);
            assert_eq!(delete(&registry).await, Err(Locked), "{what}");
        }
    }
    let registry = fresh().await;
    for (what, kind) in [
        (FaultKind::TooManyRequests { retry_after: None }, Throttled),
        (FaultKind::status(500), Status(500)),
        (FaultKind::status(403), Denied),
        (FaultKind::status(405), Unsupported),
        (FaultKind::HtmlPage, Malformed),
    ] {
        registry.inject(Fault::on("/v2/app/manifests/", what).times(1));
        assert_eq!(delete(&registry).await, Err(kind), "and it is not tried again");
        registry.clear_faults();
    }
}

#[tokio::test]
async fn a_manifest_comes_back_by_its_digest_byte_for_byte_and_without_a_tag() {
    let registry = start(everything_allowed()).await;
    let index = image::index(Format::Docker, &[image("one"), image("two")]);
    // With its last manifest a repository goes, and with it the blobs that a manifest needs to be put back.
    put(&registry, "stays", &image("four"), 2);
    for image in [image("three"), index] {
        put(&registry, "v1", &image, 2);
        let (reader, writer) = (reader(&registry.url()), writer(&registry.url()));
        let manifest = reader.manifest(&name("app"), &image.digest).await.unwrap().unwrap();
        assert!(matches!(
            delete_manifest(&writer, &name("app"), &image.bytes).await,
            Ok(RemovalResponse::Removed { .. })
        ));
        assert_eq!(reader.manifest(&name("app"), &image.digest).await, Ok(None));
        writer.put_manifest(&name("app"), &manifest).await.unwrap();
        assert_eq!(reader.manifest(&name("app"), &image.digest).await, Ok(Some(manifest)));
        assert_eq!(registry.tags("app").into_keys().collect::<Vec<_>>(), ["stays"]);
        let now = reader.manifest_state(&name("app"), &image.digest).await.unwrap().unwrap();
        assert_eq!(now.tags, []);
    }
}

#[tokio::test]
async fn a_manifest_that_lies_in_the_bin_is_not_put_back() {
    let registry = start(AcrOptions { soft_delete_days: Some(7), ..everything_allowed() }).await;
    let one = image("one");
    put(&registry, "v1", &one, 2);
    let (reader, writer) = (reader(&registry.url()), writer(&registry.url()));
    let manifest = reader.manifest(&name("app"), &one.digest).await.unwrap().unwrap();
    assert!(matches!(delete_manifest(&writer, &name("app"), &one.bytes).await, Ok(RemovalResponse::Removed { .. })));
    assert!(writer.put_manifest(&name("app"), &manifest).await.is_err());
    assert!(registry.manifest("app", &one.digest).is_none());
}
