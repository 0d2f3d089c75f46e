//! What is behind tags: manifests, indexes, referrers, signatures, times, and how often is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use tagwarden::domain::{Gap, GapTarget, RemovalAbility};
use tagwarden::registry::{CollectScope, ExtraManifests, RegistryReader, collect, hosts};
use wiremock::matchers::{method, path, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{
    answer, gaps, name, ok_json, raw, read, reader, refusal, seen, serve_blobs, serve_manifests, serve_tags, settings,
    tag,
};
use crate::support::content::{self, CONFIG, Content, IMAGE, INDEX, config, image, index, layer, referrer};
use crate::support::memory::MemoryCache;

#[tokio::test]
async fn one_request_per_tag_and_two_per_new_digest() {
    let server = MockServer::start().await;
    let (old_config, new_config) = (config("2024-01-01T00:00:00Z", "a"), config("2024-02-01T00:00:00Z", "b"));
    let (old, new) = (image(&old_config, &[&layer("x")]), image(&new_config, &[&layer("x")]));
    answer(&server, "GET", "/v2/_catalog", ok_json(&json!({"repositories": ["app"]}))).await;
    serve_tags(&server, &[("v1", &old), ("v2", &new), ("stable", &old)]).await;
    serve_manifests(&server, &[&old, &new]).await;
    serve_blobs(&server, &[&old_config, &new_config]).await;
    let cache = MemoryCache::default();
    let one: Arc<dyn RegistryReader> = Arc::new(reader(&server));
    let inventory = collect(std::slice::from_ref(&one), &CollectScope::All, &ExtraManifests::new(), &cache, &()).await;
    assert!(!inventory.has_gaps(), "{inventory:?}");
    // Ping, catalogue, list; 3 tags; 2 digests twice; one question for the referrers API.
    assert_eq!(one.request_counts().total, 3 + 3 + 2 * 2 + 1);
    assert_eq!(
        collect(std::slice::from_ref(&one), &CollectScope::All, &ExtraManifests::new(), &cache, &()).await,
        inventory
    );
    assert_eq!(one.request_counts().total, 11 + 2 + 3, "the second time: catalogue, list, and one per tag");
    assert_eq!((one.request_counts().retries, one.request_counts().throttled), (0, 0));
}

#[tokio::test]
async fn an_inventory_says_whose_it_is() {
    let server = MockServer::start().await;
    answer(&server, "GET", "/v2/_catalog", ok_json(&json!({"repositories": ["b", "a"]}))).await;
    let list = ok_json(&json!({"tags": null}));
    Mock::given(method("GET")).and(path_regex("/tags/list$")).respond_with(list).mount(&server).await;
    let readers: Vec<Arc<dyn RegistryReader>> = vec![Arc::new(reader(&server))];
    let all = collect(&readers, &CollectScope::All, &ExtraManifests::new(), &MemoryCache::default(), &()).await;
    let registry = &all.registries[0];
    assert_eq!((registry.kind, registry.identity.as_str()), ("distribution", "anonymous"));
    assert_eq!((registry.endpoint.as_str(), &registry.ability), (server.uri().as_str(), &RemovalAbility::NotChecked));
    assert_eq!(registry.hosts, [server.address().to_string()]);
    let found: Vec<_> = registry.repositories.iter().map(|repository| repository.name.as_str()).collect();
    assert_eq!(found, ["a", "b"]);

    let only = BTreeMap::from([("test".parse().unwrap(), BTreeSet::from([name("c")]))]);
    let some =
        collect(&readers, &CollectScope::Repositories(only), &ExtraManifests::new(), &MemoryCache::default(), &())
            .await;
    assert_eq!(some.registries[0].repositories[0].name, name("c"));
    assert!(
        collect(
            &readers,
            &CollectScope::Repositories(BTreeMap::new()),
            &ExtraManifests::new(),
            &MemoryCache::default(),
            &()
        )
        .await
        .registries
        .is_empty()
    );

    let mut aliased = settings("https://R.example:443");
    aliased.aliases = vec!["Images.Example:5000".into(), "r.example".into()];
    assert_eq!(hosts(&aliased), ["images.example:5000", "r.example"]);
    let hub = hosts(&settings("https://registry-1.docker.io"));
    assert_eq!(hub, ["docker.io", "index.docker.io", "registry-1.docker.io"]);
}

#[tokio::test]
async fn indexes_are_read_to_any_depth_and_may_be_sparse() {
    let server = MockServer::start().await;
    let config = config("2024-03-01T00:00:00Z", "deep");
    let deep = image(&config, &[&layer("deep")]);
    let absent = image(&content::config("", "absent"), &[]);
    let inner = index(&[&deep, &absent]);
    // A hash cannot contain itself, but an index may list a manifest that another one lists, and so may the child.
    let outer = index(&[&inner, &deep]);
    serve_tags(&server, &[("multi", &outer)]).await;
    serve_manifests(&server, &[&outer, &inner, &deep]).await;
    answer(&server, "GET", &format!("/v2/app/manifests/{}", absent.digest), refusal(404, "MANIFEST_UNKNOWN")).await;
    serve_blobs(&server, &[&config]).await;
    let repository = read(&server).await;
    assert!(repository.gaps.is_empty(), "{:?}", repository.gaps);
    assert_eq!(repository.manifests[&outer.digest].children, [inner.digest.clone(), deep.digest.clone()]);
    assert_eq!(repository.manifests[&inner.digest].children, [deep.digest.clone(), absent.digest.clone()]);
    assert_eq!(repository.manifests[&deep.digest].created_at, "2024-03-01T00:00:00Z".parse().ok());
    assert!(!repository.manifests.contains_key(&absent.digest));
    let asked = seen(&server).await;
    assert_eq!(asked.iter().filter(|request| request.contains(&deep.digest.to_string())).count(), 1);
}

#[tokio::test]
async fn a_child_that_cannot_be_read_is_a_gap() {
    for broken in
        [refusal(500, "UNKNOWN"), refusal(403, "DENIED"), ResponseTemplate::new(404).set_body_string("<html>")]
    {
        let server = MockServer::start().await;
        let child = image(&config("", "child"), &[]);
        let parent = index(&[&child]);
        serve_tags(&server, &[("multi", &parent)]).await;
        serve_manifests(&server, &[&parent]).await;
        answer(&server, "GET", &format!("/v2/app/manifests/{}", child.digest), broken).await;
        let repository = read(&server).await;
        assert_eq!(repository.gaps.len(), 1);
        assert_eq!(repository.gaps[0].target, GapTarget::Manifest(child.digest.clone()));
    }
}

#[tokio::test]
async fn times_are_asked_only_where_they_matter() {
    let server = MockServer::start().await;
    let config = config("2024-03-01T00:00:00Z", "x");
    let plain = image(&config, &[]);
    let attestation = image(&content::config("2030-01-01T00:00:00Z", "attestation"), &[&layer("attestation")]);
    let mut listed = attestation.descriptor();
    listed["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let undated = Content::json(INDEX, &json!({"manifests": [plain.descriptor(), listed]}));
    let other_config = content::config("2025-01-01T00:00:00Z", "other");
    let other = image(&other_config, &[]);
    let dated = Content::json(
        INDEX,
        &json!({"manifests": [other.descriptor()], "annotations": {"org.opencontainers.image.created": "2024-05-01T00:00:00Z"}}),
    );
    serve_tags(&server, &[("undated", &undated), ("dated", &dated)]).await;
    serve_manifests(&server, &[&undated, &dated, &plain, &attestation, &other]).await;
    serve_blobs(&server, &[&config, &other_config]).await;
    let repository = read(&server).await;
    assert!(repository.gaps.is_empty(), "{:?}", repository.gaps);
    assert_eq!(repository.manifests[&plain.digest].created_at, "2024-03-01T00:00:00Z".parse().ok());
    assert_eq!(repository.manifests[&dated.digest].created_at, "2024-05-01T00:00:00Z".parse().ok());
    assert_eq!(repository.manifests[&other.digest].created_at, "2025-01-01T00:00:00Z".parse().ok(), "it may be later");
    assert_eq!(repository.manifests[&attestation.digest].created_at, None);
    assert_eq!(repository.manifests[&attestation.digest].blobs.len(), 2, "its bytes count all the same");
    let blobs = seen(&server).await.into_iter().filter(|request| request.contains("/blobs/")).count();
    assert_eq!(blobs, 2);
}

/// An image of that configuration with the annotation; empty for none.
fn annotated(created: &str, config: &Content) -> Content {
    let annotations = if created.is_empty() { json!({}) } else { json!({"org.opencontainers.image.created": created}) };
    Content::json(
        IMAGE,
        &json!({"schemaVersion": 2, "config": config.descriptor(), "layers": [], "annotations": annotations}),
    )
}

#[tokio::test]
async fn an_image_is_as_new_as_the_latest_word_on_it() {
    let labels = json!({"org.opencontainers.image.created": "2026-03-01T00:00:00Z"});
    let label = Content::json(CONFIG, &json!({"created": "2024-01-01T00:00:00Z", "config": {"Labels": labels}}));
    for (annotation, config, expected) in [
        // A base image passes its label on, and some builders annotate with it.
        ("2021-01-01T00:00:00Z", config("2026-01-01T00:00:00Z", "x"), Some("2026-01-01T00:00:00Z")),
        ("2026-01-01T00:00:00Z", config("2021-01-01T00:00:00Z", "x"), Some("2026-01-01T00:00:00Z")),
        ("2026-01-01T00:00:00Z", config("1970-01-01T00:00:00Z", "x"), Some("2026-01-01T00:00:00Z")),
        ("2026-01-01T00:00:00Z", config("", "x"), Some("2026-01-01T00:00:00Z")),
        ("2026-01-01T00:00:00Z", label.clone(), Some("2026-03-01T00:00:00Z")),
        ("", label, Some("2026-03-01T00:00:00Z")),
        ("", config("", "x"), None),
    ] {
        let server = MockServer::start().await;
        let image = annotated(annotation, &config);
        serve_tags(&server, &[("v1", &image)]).await;
        serve_manifests(&server, &[&image]).await;
        serve_blobs(&server, &[&config]).await;
        let repository = read(&server).await;
        assert!(repository.gaps.is_empty(), "{:?}", repository.gaps);
        let created = repository.manifests[&image.digest].created_at;
        assert_eq!(created, expected.and_then(|text| text.parse().ok()), "{annotation} {expected:?}");
    }
}

#[tokio::test]
async fn an_annotation_does_not_count_beside_a_time_that_cannot_be_read() {
    let server = MockServer::start().await;
    let lost = config("2026-06-01T00:00:00Z", "lost");
    let image = annotated("2021-01-01T00:00:00Z", &lost);
    let annotations = json!({"org.opencontainers.image.created": "2021-01-01T00:00:00Z"});
    let both = Content::json(INDEX, &json!({"manifests": [image.descriptor()], "annotations": annotations}));
    serve_tags(&server, &[("multi", &both)]).await;
    serve_manifests(&server, &[&both, &image]).await;
    let repository = read(&server).await;
    let expected: BTreeSet<_> =
        [&image, &both].map(|of| (GapTarget::CreationTime(of.digest.clone()), "not-found")).into();
    assert_eq!(gaps(&repository.gaps).into_iter().collect::<BTreeSet<_>>(), expected);
    for content in [&image, &both] {
        assert_eq!(repository.manifests[&content.digest].created_at, None);
    }
}

#[tokio::test]
async fn the_layers_of_a_build_cache_are_not_missing_manifests() {
    let server = MockServer::start().await;
    let (first, second) = (layer("first"), layer("second"));
    let steps = Content::new("application/vnd.buildkit.cacheconfig.v0", "{}");
    let mut entries = [first.descriptor(), second.descriptor(), steps.descriptor()];
    entries[0]["annotations"] = json!({"buildkit/createdat": "2026-05-01T00:00:00Z", "containerd.io/x": "y"});
    entries[1]["annotations"] = json!({"buildkit/createdat": "2026-04-01T00:00:00Z"});
    let cache = Content::json(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}));
    serve_tags(&server, &[("buildcache", &cache)]).await;
    serve_manifests(&server, &[&cache]).await;
    // Registries answer so when a layer is asked for as a manifest.
    for blob in [&first, &second, &steps] {
        answer(&server, "GET", &format!("/v2/app/manifests/{}", blob.digest), refusal(500, "UNKNOWN")).await;
    }
    let repository = read(&server).await;
    assert!(repository.gaps.is_empty(), "{:?}", repository.gaps);
    assert_eq!(repository.manifests.len(), 1);
    let found = &repository.manifests[&cache.digest];
    assert_eq!(found.created_at, "2026-05-01T00:00:00Z".parse().ok());
    assert!(found.children.is_empty());
    let blobs: BTreeMap<_, _> = found.blobs.iter().map(|blob| (blob.digest.clone(), blob.size)).collect();
    let expected = [&first, &second, &steps].map(|one| (one.digest.clone(), one.bytes.len() as u64));
    assert_eq!(blobs, BTreeMap::from(expected));
}

#[tokio::test]
async fn a_time_that_cannot_be_read_is_missing_from_the_index_too() {
    let server = MockServer::start().await;
    let (good, lost) = (config("2024-01-01T00:00:00Z", "good"), config("2024-06-01T00:00:00Z", "lost"));
    let (amd, arm) = (image(&good, &[]), image(&lost, &[]));
    let inner = index(&[&arm]);
    let both = index(&[&amd, &inner]);
    serve_tags(&server, &[("multi", &both)]).await;
    serve_manifests(&server, &[&both, &inner, &amd, &arm]).await;
    serve_blobs(&server, &[&good]).await;
    let repository = read(&server).await;
    let expected: BTreeSet<_> = [&arm, &inner, &both]
        .map(|content| (GapTarget::CreationTime(content.digest.clone()), "not-found"))
        .into_iter()
        .collect();
    assert_eq!(gaps(&repository.gaps).into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(repository.gaps.iter().all(|gap| !gap.blocks_repository()));
}

#[tokio::test]
async fn a_configuration_that_is_not_its_digest_dates_nothing() {
    let server = MockServer::start().await;
    let (wanted, forged) = (config("2024-06-01T00:00:00Z", "x"), config("2014-01-01T00:00:00Z", "x"));
    let image = image(&wanted, &[]);
    serve_tags(&server, &[("v1", &image)]).await;
    serve_manifests(&server, &[&image]).await;
    answer(&server, "GET", &format!("/v2/app/blobs/{}", wanted.digest), raw(&forged)).await;
    let repository = read(&server).await;
    assert_eq!(gaps(&repository.gaps), [(GapTarget::CreationTime(image.digest.clone()), "digest-mismatch")]);
    assert_eq!(repository.manifests[&image.digest].created_at, None);
}

#[tokio::test]
async fn referrers_and_theirs_are_found_through_the_api() {
    let server = MockServer::start().await;
    let config = config("2024-01-01T00:00:00Z", "x");
    let subject = image(&config, &[]);
    let sbom = referrer(&subject, "application/spdx+json");
    let signature = referrer(&sbom, "application/vnd.dev.sigstore.bundle.v0.3+json");
    serve_tags(&server, &[("v1", &subject), ("v2", &subject)]).await;
    serve_manifests(&server, &[&subject, &sbom, &signature]).await;
    serve_blobs(&server, &[&config]).await;
    let referrers = |list: &[&Content]| raw(&index(list));
    let route = |of: &Content| format!("/v2/app/referrers/{}", of.digest);
    answer(&server, "GET", &route(&subject), referrers(&[&sbom])).await;
    answer(&server, "GET", &route(&sbom), referrers(&[&signature])).await;
    answer(&server, "GET", &route(&signature), referrers(&[])).await;
    let repository = read(&server).await;
    assert!(repository.gaps.is_empty(), "{:?}", repository.gaps);
    assert_eq!(repository.manifests[&sbom.digest].subject.as_deref(), Some(&subject.digest));
    assert_eq!(repository.manifests[&signature.digest].subject.as_deref(), Some(&sbom.digest));
    let questions = seen(&server).await.into_iter().filter(|request| request.contains("/referrers/")).count();
    assert_eq!(questions, 3, "each digest once, without paging parameters");
}

#[tokio::test]
async fn without_the_api_fallback_tags_tell_and_nobody_asks_twice() {
    for status in [400, 404, 405] {
        let server = MockServer::start().await;
        let (a, b) = (config("2024-01-01T00:00:00Z", "a"), config("2024-01-01T00:00:00Z", "b"));
        let (subject, other) = (image(&a, &[]), image(&b, &[]));
        let signature = referrer(&subject, "application/vnd.cncf.notary.signature");
        let fallback = index(&[&signature]);
        let fallback_tag = format!("sha256-{}", subject.digest.hex());
        serve_tags(&server, &[("v1", &subject), ("v2", &other), (&fallback_tag, &fallback)]).await;
        serve_manifests(&server, &[&subject, &other, &fallback, &signature]).await;
        serve_blobs(&server, &[&a, &b]).await;
        let unknown = ResponseTemplate::new(status).set_body_string("404 page not found");
        Mock::given(method("GET")).and(path_regex("/referrers/")).respond_with(unknown).mount(&server).await;
        let repository = read(&server).await;
        assert!(repository.gaps.is_empty(), "{:?}", repository.gaps);
        assert_eq!(repository.manifests[&signature.digest].subject.as_deref(), Some(&subject.digest));
        let questions = seen(&server).await.into_iter().filter(|request| request.contains("/referrers/")).count();
        assert_eq!(questions, 1, "{status}");
    }
}

#[tokio::test]
async fn referrers_that_cannot_be_listed_are_a_gap() {
    let html = ResponseTemplate::new(200).set_body_string("<html>");
    let invalid = ok_json(&json!({"manifests": [{"digest": "sha256:x"}]}));
    for broken in [refusal(500, "UNKNOWN"), refusal(403, "DENIED"), refusal(404, "NAME_UNKNOWN"), html, invalid] {
        let server = MockServer::start().await;
        let config = config("2024-01-01T00:00:00Z", "x");
        let subject = image(&config, &[]);
        serve_tags(&server, &[("v1", &subject)]).await;
        serve_manifests(&server, &[&subject]).await;
        serve_blobs(&server, &[&config]).await;
        answer(&server, "GET", &format!("/v2/app/referrers/{}", subject.digest), broken).await;
        let repository = read(&server).await;
        assert_eq!(repository.gaps.len(), 1, "{:?}", repository.gaps);
        assert_eq!(repository.gaps[0].target, GapTarget::Referrers(subject.digest.clone()));
    }
}

#[tokio::test]
async fn an_api_that_disappears_in_the_middle_is_a_gap() {
    let server = MockServer::start().await;
    let (a, b) = (config("2024-01-01T00:00:00Z", "a"), config("2024-01-01T00:00:00Z", "b"));
    let (one, two) = (image(&a, &[]), image(&b, &[]));
    serve_tags(&server, &[("one", &one), ("two", &two)]).await;
    serve_manifests(&server, &[&one, &two]).await;
    serve_blobs(&server, &[&a, &b]).await;
    let empty = raw(&index(&[]));
    Mock::given(method("GET")).and(path_regex("/referrers/")).respond_with(empty).up_to_n_times(1).mount(&server).await;
    let repository = read(&server).await;
    assert_eq!(repository.gaps.len(), 1, "{:?}", repository.gaps);
    assert!(matches!(repository.gaps[0].target, GapTarget::Referrers(_)));
}

#[tokio::test]
async fn signature_tags_and_schema_one_are_read_like_any_other() {
    let server = MockServer::start().await;
    let config = config("2024-01-01T00:00:00Z", "x");
    let subject = image(&config, &[]);
    let signed = Content::json(
        IMAGE,
        &json!({"config": {"mediaType": CONFIG, "digest": config.digest.to_string(), "size": 1}, "layers": [layer("sig").descriptor()]}),
    );
    let old = Content::json(
        "application/vnd.docker.distribution.manifest.v1+json",
        &json!({"schemaVersion": 1, "fsLayers": [{"blobSum": layer("l").digest.to_string()}],
                "history": [{"v1Compatibility": "{\"created\":\"2015-06-01T00:00:00Z\"}"}]}),
    );
    let signature = format!("sha256-{}.sig", subject.digest.hex());
    serve_tags(&server, &[("v1", &subject), (&signature, &signed), ("ancient", &old)]).await;
    serve_manifests(&server, &[&subject, &signed, &old]).await;
    serve_blobs(&server, &[&config]).await;
    let repository = read(&server).await;
    assert!(repository.gaps.is_empty(), "{:?}", repository.gaps);
    assert_eq!(repository.tag(&signature).unwrap().digest, Some(signed.digest));
    assert_eq!(repository.manifests[&old.digest].created_at, "2015-06-01T00:00:00Z".parse().ok());
}

#[tokio::test]
async fn a_tag_that_vanished_is_a_gap_of_its_own_and_others_are_read() {
    let server = MockServer::start().await;
    let config = config("2024-01-01T00:00:00Z", "x");
    let image = image(&config, &[]);
    let listed = |tags: &[&str]| ok_json(&json!({"tags": tags}));
    let first = Mock::given(path("/v2/app/tags/list")).respond_with(listed(&["gone", "still", "v1"]));
    first.up_to_n_times(1).mount(&server).await;
    answer(&server, "GET", "/v2/app/tags/list", listed(&["still", "v1"])).await;
    let head = ResponseTemplate::new(200).insert_header("docker-content-digest", image.digest.to_string());
    answer(&server, "HEAD", "/v2/app/manifests/v1", head).await;
    serve_manifests(&server, &[&image]).await;
    serve_blobs(&server, &[&config]).await;
    let repository = read(&server).await;
    let expected =
        [(GapTarget::VanishedTag(tag("gone")), "vanished"), (GapTarget::VanishedTag(tag("still")), "no-manifest")];
    assert_eq!(gaps(&repository.gaps), expected);
    assert!(repository.gaps.iter().all(|gap| gap.is_note() && !gap.blocks_repository()));
    assert_eq!(repository.tag("gone").unwrap().digest, None);
    assert_eq!(repository.tag("v1").unwrap().digest, Some(image.digest));
}

/// A proxy that gives a wrong digest for every tag, or for some of them.
#[tokio::test]
async fn manifests_that_are_mostly_missing_are_a_failure_of_the_repository() {
    let config = config("2024-01-01T00:00:00Z", "x");
    let (image, never) = (image(&config, &[]), layer("served by nobody"));
    for (names, served, words) in [
        ("a b c", "", Some("none of the 3 tags of app has a manifest at the digest")),
        ("a b", "", Some("none of the 2 tags of app has")),
        ("a b c", "c", Some("2 of the 3 tags of app do not have a manifest")),
        ("a b c d", "c d", None),
        ("a b", "b", None),
        ("a", "", None),
    ] {
        let [names, served] = [names, served].map(|text| text.split_whitespace().collect::<Vec<_>>());
        let registry = MockServer::start().await;
        answer(&registry, "GET", "/v2/app/tags/list", ok_json(&json!({"tags": names}))).await;
        for name in &names {
            let digest = if served.contains(name) { &image.digest } else { &never.digest };
            let head = ResponseTemplate::new(200).insert_header("docker-content-digest", digest.to_string());
            answer(&registry, "HEAD", &format!("/v2/app/manifests/{name}"), head).await;
        }
        serve_manifests(&registry, &[&image]).await;
        serve_blobs(&registry, &[&config]).await;
        let repository = read(&registry).await;
        if let Some(words) = words {
            assert_eq!(gaps(&repository.gaps), [(GapTarget::ManifestList, "no-manifest")], "{names:?}");
            assert!(repository.gaps[0].message.starts_with(words), "{}", repository.gaps[0].message);
            assert!(repository.gaps[0].blocks_repository() && !repository.gaps[0].is_note());
        } else {
            assert_eq!(repository.gaps.len(), names.len() - served.len(), "{names:?}: {:?}", repository.gaps);
            let single = |gap: &Gap| gap.is_note() && gap.message.contains("pull it to make sure, then push it again");
            assert!(repository.gaps.iter().all(single), "{:?}", repository.gaps);
        }
    }
}

#[tokio::test]
async fn a_digest_is_computed_where_the_registry_gives_none() {
    let server = MockServer::start().await;
    let config = config("2024-01-01T00:00:00Z", "x");
    let image = image(&config, &[]);
    answer(&server, "GET", "/v2/app/tags/list", ok_json(&json!({"tags": ["v1"]}))).await;
    answer(&server, "HEAD", "/v2/app/manifests/v1", ResponseTemplate::new(200)).await;
    let body = ResponseTemplate::new(200).set_body_raw(image.bytes.clone(), IMAGE);
    answer(&server, "GET", "/v2/app/manifests/v1", body).await;
    serve_manifests(&server, &[&image]).await;
    serve_blobs(&server, &[&config]).await;
    let repository = read(&server).await;
    assert!(repository.gaps.is_empty(), "{:?}", repository.gaps);
    assert_eq!(repository.tag("v1").unwrap().digest, Some(image.digest));
}
