use reqwest::Method;
use serde_json::{Value, json};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{artifact, index, media_type};
use tagwarden::demo::registry::{CollectedGarbage, EmbeddedRegistry, Options, TagDeletion};
use tagwarden::demo::sample::Sample;
use tagwarden::domain::Digest;

use super::{delete, get, header, image, now, request, start, status_and_code};
use tagwarden::demo::image::Format;

#[tokio::test]
async fn it_listens_on_loopback_and_stops() {
    let registry = start(Options::default()).await;
    assert!(registry.host().starts_with("127.0.0.1:"));
    let url = format!("{}/v2/", registry.url());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(&url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    assert_eq!(response.text().await.unwrap(), "{}");
    registry.stop().await;
    assert!(client.get(&url).send().await.is_err(), "connections that were kept alive are closed, too");
}

/// Follows `Link` from page to page and gives what each page listed.
async fn pages(registry: &EmbeddedRegistry, first: &str, key: &str) -> Vec<Vec<String>> {
    let (mut pages, mut path) = (Vec::new(), first.to_owned());
    loop {
        let response = get(registry, &path).await;
        let link = header(&response, "link").to_owned();
        let body: Value = response.json().await.unwrap();
        pages.push(serde_json::from_value(body[key].clone()).unwrap());
        match link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")) {
            Some(next) => path = next.to_owned(),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn lists_come_in_pages_no_longer_than_the_registry_allows() {
    let registry = start(Options { page_size: 2, ..Options::default() }).await;
    for name in ["b", "a", "c/d", "c", "e"] {
        registry.put_image(name, "v1", &image("one"));
    }
    for tag in ["v10", "v2", "a_b.c"] {
        registry.put_image("a", tag, &image("one"));
    }
    let catalogue = pages(&registry, "/v2/_catalog?n=100", "repositories").await;
    assert_eq!(catalogue, [vec!["a", "b"], vec!["c", "c/d"], vec!["e"]]);
    assert_eq!(pages(&registry, "/v2/a/tags/list", "tags").await, [vec!["a_b.c", "v1"], vec!["v10", "v2"]]);
    assert_eq!(pages(&registry, "/v2/a/tags/list?n=3&last=v1", "tags").await, [vec!["v10", "v2"]]);
    assert_eq!(status_and_code(get(&registry, "/v2/x/tags/list").await).await, (404, "NAME_UNKNOWN".into()));
    let nonsense = status_and_code(get(&registry, "/v2/a/tags/list?n=many").await).await;
    assert_eq!(nonsense, (400, "PAGINATION_NUMBER_INVALID".into()));
}

#[tokio::test]
async fn manifests_are_read_by_tag_and_digest_with_their_exact_bytes() {
    let registry = start(Options::default()).await;
    let image = image("one");
    registry.put_image("shop/api", "v1", &image);
    for reference in ["v1", &image.digest.to_string(), &image.digest.to_string().replace(':', "%3A")] {
        let path = format!("/v2/shop%2Fapi/manifests/{reference}");
        let head = request(&registry, Method::HEAD, &path).send().await.unwrap();
        let response = get(&registry, &path).await;
        for response in [&head, &response] {
            assert_eq!(response.status(), 200);
            assert_eq!(header(response, "content-type"), media_type::OCI_MANIFEST);
            assert_eq!(header(response, "docker-content-digest"), image.digest.to_string());
            assert_eq!(header(response, "content-length"), image.bytes.len().to_string());
        }
        assert!(head.bytes().await.unwrap().is_empty());
        assert_eq!(response.bytes().await.unwrap(), image.bytes);
    }
    let layer = &image.blobs[1];
    let response = get(&registry, &format!("/v2/shop/api/blobs/{}", layer.digest())).await;
    assert_eq!(response.content_length(), Some(layer.length()));
    assert!(layer.digest().matches(&response.bytes().await.unwrap()));

    let unknown = format!("/v2/shop/web/blobs/{}", layer.digest());
    assert_eq!(status_and_code(get(&registry, &unknown).await).await, (404, "BLOB_UNKNOWN".into()));
    for (reference, expected) in [
        ("v2".to_owned(), (404, "MANIFEST_UNKNOWN")),
        (Digest::of(b"x").to_string(), (404, "MANIFEST_UNKNOWN")),
        ("sha256:short".to_owned(), (400, "DIGEST_INVALID")),
        ("-v".to_owned(), (400, "TAG_INVALID")),
    ] {
        let (status, code) =
            status_and_code(get(&registry, &format!("/v2/shop/api/manifests/{reference}")).await).await;
        assert_eq!((status, code.as_str()), expected, "{reference}");
    }
}

/// Distribution gives OCI manifests only to those who ask for them by name.
#[tokio::test]
async fn oci_manifests_are_hidden_from_clients_that_accept_anything() {
    let registry = start(Options::default()).await;
    registry.put_image("a", "v1", &image("one"));
    let url = format!("{}/v2/a/manifests/v1", registry.url());
    let response = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
    assert_eq!(status_and_code(response).await, (404, "MANIFEST_UNKNOWN".into()));
}

async fn put_manifest(registry: &EmbeddedRegistry, path: &str, kind: &str, body: String) -> (u16, String) {
    let sent = request(registry, Method::PUT, path).header("content-type", kind).body(body).send().await;
    status_and_code(sent.unwrap()).await
}

#[tokio::test]
async fn a_manifest_is_taken_only_with_all_that_it_names() {
    let registry = start(Options::default()).await;
    let image = image("one");
    let text = String::from_utf8(image.bytes.to_vec()).unwrap();
    let unknown = (400, "MANIFEST_BLOB_UNKNOWN".to_owned());
    let oci = media_type::OCI_MANIFEST;
    assert_eq!(put_manifest(&registry, "/v2/a/manifests/v1", oci, text.clone()).await, unknown);
    registry.content(|content| image.blobs.iter().for_each(|blob| content.put_blob("a", blob)));

    let list = index(Format::Oci, std::slice::from_ref(&image));
    let list_text = String::from_utf8(list.bytes.to_vec()).unwrap();
    let put_list = put_manifest(&registry, "/v2/a/manifests/list", media_type::OCI_INDEX, list_text.clone()).await;
    assert_eq!(put_list, unknown);
    assert_eq!(put_manifest(&registry, "/v2/b/manifests/v1", oci, text.clone()).await, unknown, "not its blobs");
    let wrong = format!("/v2/a/manifests/{}", Digest::of(b"other"));
    assert_eq!(put_manifest(&registry, &wrong, oci, text.clone()).await, (400, "DIGEST_INVALID".into()));
    let invalid = (400, "MANIFEST_INVALID".to_owned());
    assert_eq!(put_manifest(&registry, "/v2/a/manifests/v1", oci, text[1..].to_owned()).await, invalid);
    assert_eq!(put_manifest(&registry, "/v2/a/manifests/v1", media_type::OCI_INDEX, text.clone()).await, invalid);
    assert!(registry.tags("a").is_empty());
    assert!(!registry.content(|content| content.has_repository("b")), "a refused push makes no repository");

    // Whatever white space it has is part of it.
    let spaced = format!("{text}\n\n");
    assert_eq!(put_manifest(&registry, "/v2/a/manifests/v1", oci, spaced.clone()).await.0, 201);
    let digest = registry.tags("a")["v1"].clone();
    assert_eq!(registry.manifest("a", &digest).unwrap(), (spaced.into(), oci.to_owned()));
    assert_eq!(put_manifest(&registry, &format!("/v2/a/manifests/{}", image.digest), oci, text).await.0, 201);
    let put_list = put_manifest(&registry, "/v2/a/manifests/list", media_type::OCI_INDEX, list_text).await;
    assert_eq!(put_list.0, 201);
    assert_eq!(registry.tags("a").len(), 2);
}

#[tokio::test]
async fn blobs_are_pushed_whole_in_pieces_or_mounted() {
    let registry = start(Options::default()).await;
    let (blob, digest) = (b"some content".to_vec(), Digest::of(b"some content"));
    let whole = format!("/v2/a/blobs/uploads/?digest={digest}");
    let response = request(&registry, Method::POST, &whole).body(blob.clone()).send().await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(header(&response, "location"), format!("/v2/a/blobs/{digest}"));

    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    assert_eq!(request(&registry, Method::POST, &mount).send().await.unwrap().status(), 201);
    let refused = format!("/v2/b/blobs/uploads/?mount={}&from=a", Digest::of(b"nowhere"));
    assert_eq!(request(&registry, Method::POST, &refused).send().await.unwrap().status(), 202);

    let open = request(&registry, Method::POST, "/v2/c/blobs/uploads/").send().await.unwrap();
    assert_eq!(open.status(), 202);
    let location = header(&open, "location").to_owned();
    let patch = |range: &'static str, part: &'static [u8]| {
        request(&registry, Method::PATCH, &location).header("content-range", range).body(part).send()
    };
    assert_eq!(header(&patch("0-3", b"some").await.unwrap(), "range"), "0-3");
    assert_eq!(patch("7-9", b"xxx").await.unwrap().status(), 416);
    assert_eq!(patch("4-7", b" con").await.unwrap().status(), 202);
    let elsewhere = location.replace("/c/", "/d/");
    assert_eq!(status_and_code(get(&registry, &elsewhere).await).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
    let end = request(&registry, Method::PUT, &format!("{location}?digest={digest}")).body("tent").send().await;
    assert_eq!(end.unwrap().status(), 201);
    let stored = get(&registry, &format!("/v2/c/blobs/{digest}")).await;
    assert_eq!(stored.bytes().await.unwrap(), blob);

    let other = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"x"));
    let response = request(&registry, Method::POST, &other).body(blob).send().await.unwrap();
    assert_eq!(status_and_code(response).await, (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn referrers_are_listed_filtered_and_paged_or_unknown_where_there_is_no_api() {
    for api in [true, false] {
        let registry = start(Options { referrers_api: api, page_size: 2, ..Options::default() }).await;
        let subject = image("one");
        registry.put_image("a", "v1", &subject);
        registry.content(|content| {
            for (kind, text) in [("a/sbom", "1"), ("a/sbom", "2"), ("a/scan", "3")] {
                let referrer = artifact(kind, ("text/plain", Blob::of(text)), Some(&subject), &[("n", text)]);
                content.put_image("a", None, &referrer);
            }
        });
        let path = format!("/v2/a/referrers/{}", subject.digest);
        let response = get(&registry, &path).await;
        if !api {
            assert_eq!(response.status(), 404);
            continue;
        }
        assert_eq!(header(&response, "content-type"), media_type::OCI_INDEX);
        assert!(header(&response, "link").starts_with(&format!("<{path}?last=")));
        let filtered = get(&registry, &format!("{path}?artifactType=a/scan")).await;
        assert_eq!(header(&filtered, "oci-filters-applied"), "artifactType");
        let body: Value = filtered.json().await.unwrap();
        let entry = &body["manifests"][0];
        assert_eq!((&entry["artifactType"], &entry["annotations"]), (&json!("a/scan"), &json!({ "n": "3" })));
        assert_eq!(body["manifests"].as_array().unwrap().len(), 1);
        let none: Value = get(&registry, &format!("/v2/a/referrers/{}", Digest::of(b"x"))).await.json().await.unwrap();
        assert_eq!(none["manifests"], json!([]));
    }
}

/// The three ways in which registries treat the deletion of a tag.
#[tokio::test]
async fn deleting_a_tag_untags_is_refused_or_destroys() {
    let cases = [
        (TagDeletion::Untags, true, (202, ""), (404, "MANIFEST_UNKNOWN"), vec!["same"], true),
        (TagDeletion::Untags, false, (202, ""), (404, "MANIFEST_UNKNOWN"), vec!["same"], true),
        (TagDeletion::Unsupported, true, (400, "DIGEST_INVALID"), (400, "DIGEST_INVALID"), vec!["same", "v1"], true),
        (TagDeletion::Unsupported, false, (405, "UNSUPPORTED"), (405, "UNSUPPORTED"), vec!["same", "v1"], true),
        (TagDeletion::DeletesManifest, true, (202, ""), (404, "MANIFEST_UNKNOWN"), vec![], false),
    ];
    for (tag_deletion, manifest_deletion, there, absent, left, manifest_left) in cases {
        let registry = start(Options { tag_deletion, manifest_deletion, ..Options::default() }).await;
        let image = image("one");
        registry.put_image("a/b", "v1", &image);
        registry.put_image("a/b", "same", &image);
        let (status, code) = delete(&registry, "/v2/a/b/manifests/absent").await;
        assert_eq!((status, code.as_str()), absent, "{tag_deletion:?}");
        let (status, code) = delete(&registry, "/v2/a/b/manifests/v1").await;
        assert_eq!((status, code.as_str()), there, "{tag_deletion:?}");
        assert_eq!(registry.tags("a/b").into_keys().collect::<Vec<_>>(), left, "{tag_deletion:?}");
        assert_eq!(registry.manifest("a/b", &image.digest).is_some(), manifest_left, "{tag_deletion:?}");
    }
}

#[tokio::test]
async fn deleting_a_manifest_takes_all_its_tags() {
    for manifest_deletion in [true, false] {
        let registry = start(Options { manifest_deletion, ..Options::default() }).await;
        let image = image("one");
        registry.put_image("a", "v1", &image);
        registry.put_image("a", "v2", &image);
        registry.put_image("a", "other", &super::image("two"));
        let path = format!("/v2/a/manifests/{}", image.digest);
        if manifest_deletion {
            assert_eq!(delete(&registry, &path).await.0, 202);
            assert_eq!(registry.tags("a").into_keys().collect::<Vec<_>>(), ["other"]);
            assert_eq!(delete(&registry, &path).await, (404, "MANIFEST_UNKNOWN".into()));
        } else {
            assert_eq!(delete(&registry, &path).await, (405, "UNSUPPORTED".into()));
            assert_eq!(registry.tags("a").len(), 3);
        }
    }
}

#[tokio::test]
async fn a_read_only_registry_changes_nothing() {
    let registry = start(Options { read_only: true, ..Options::default() }).await;
    registry.put_image("a", "v1", &image("one"));
    assert_eq!(delete(&registry, "/v2/a/manifests/v1").await, (405, "UNSUPPORTED".into()));
    let put = put_manifest(&registry, "/v2/a/manifests/v2", media_type::OCI_MANIFEST, "{}".into()).await;
    assert_eq!(put, (405, "UNSUPPORTED".into()));
    assert_eq!(request(&registry, Method::POST, "/v2/a/blobs/uploads/").send().await.unwrap().status(), 405);
    assert_eq!(get(&registry, "/v2/a/manifests/v1").await.status(), 200);
    assert_eq!(registry.tags("a").len(), 1);
}

#[tokio::test]
async fn a_repository_without_tags_is_listed_as_its_version_lists_it() {
    for (tag_deletion, tags) in [(TagDeletion::Unsupported, Value::Null), (TagDeletion::Untags, json!([]))] {
        let registry = start(Options { tag_deletion, ..Options::default() }).await;
        registry.put_image("a", "v1", &image("one"));
        assert!(registry.delete_tag("a", "v1"));
        let body: Value = get(&registry, "/v2/a/tags/list").await.json().await.unwrap();
        assert_eq!(body["tags"], tags);
    }
}

#[tokio::test]
async fn requests_are_recorded_with_their_status() {
    let registry = start(Options::default()).await;
    get(&registry, "/v2/_catalog?n=3").await;
    request(&registry, Method::HEAD, "/v2/a/manifests/x").bearer_auth("t").send().await.unwrap();
    let seen: Vec<_> = registry.requests();
    let seen: Vec<_> =
        seen.iter().map(|r| (r.method.as_str(), r.path.as_str(), r.status, r.authorization_present)).collect();
    assert_eq!(seen, [("GET", "/v2/_catalog?n=3", 200, false), ("HEAD", "/v2/a/manifests/x", 404, true)]);
    registry.clear_requests();
    assert!(registry.requests().is_empty());
}

/// Every digest in the sample is that of what the registry sends, and its files speak of tags that are there.
#[tokio::test]
async fn the_sample_is_served_whole_and_verifies() {
    let registry = start(Options::default()).await;
    let sample = Sample::at(now());
    sample.fill(&registry);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut tags = 0;
    let mut verified = std::collections::BTreeSet::new();
    for name in registry.content(|content| content.repositories().map(str::to_owned).collect::<Vec<_>>()) {
        let digests: Vec<_> = registry.content(|content| {
            tags += content.tags(&name).len();
            content.manifests(&name).map(|(digest, manifest)| (digest.clone(), manifest.media_type.clone())).collect()
        });
        for (digest, kind) in digests {
            let url = format!("{}/v2/{name}/manifests/{digest}", registry.url());
            let bytes = client.get(url).header("accept", kind).send().await.unwrap().bytes().await.unwrap();
            assert!(digest.matches(&bytes), "{name}@{digest}");
            let manifest: Value = serde_json::from_slice(&bytes).unwrap();
            let blobs = manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config"));
            for blob in blobs {
                let digest: Digest = blob["digest"].as_str().unwrap().parse().unwrap();
                let small = blob["size"].as_u64().unwrap() < 100_000;
                if small && verified.insert(digest.clone()) {
                    let url = format!("{}/v2/{name}/blobs/{digest}", registry.url());
                    let bytes = client.get(url).send().await.unwrap().bytes().await.unwrap();
                    assert!(digest.matches(&bytes), "{name}@{digest}");
                    assert_eq!(blob["size"], bytes.len());
                }
            }
        }
    }
    assert_eq!(tags, sample.tag_count());
    assert!(verified.len() > 100);
    assert_eq!(registry.collect_garbage(), CollectedGarbage::default(), "nothing in it is garbage");
}

#[tokio::test]
async fn garbage_collection_says_what_it_freed() {
    let registry = start(Options::default()).await;
    let (kept, gone) = (image("kept"), image("gone"));
    registry.put_image("a", "kept", &kept);
    registry.put_image("a", "gone", &gone);
    assert_eq!(delete(&registry, "/v2/a/manifests/gone").await.0, 202);
    let own = gone.bytes.len() as u64 + gone.blobs[0].length() + gone.blobs[2].length();
    assert_eq!(registry.collect_garbage(), CollectedGarbage { manifests: 1, blobs: 2, bytes: own });
    assert_eq!(get(&registry, &format!("/v2/a/manifests/{}", gone.digest)).await.status(), 404);
    assert_eq!(get(&registry, &format!("/v2/a/blobs/{}", gone.blobs[1].digest())).await.status(), 200);
}
