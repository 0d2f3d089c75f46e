//! Documents of registries found in practice.

use super::*;

fn raw(json: &serde_json::Value) -> RawManifest {
    let bytes: Arc<[u8]> = json.to_string().into_bytes().into();
    RawManifest { digest: Digest::of(&bytes), media_type: "x/y".into(), bytes }
}

fn digest(n: u8) -> Digest {
    Digest::of(&[n])
}

#[test]
fn an_image_has_config_layers_and_a_date_to_be_looked_up() {
    let (config, layer, foreign) = (digest(1), digest(2), digest(3));
    let parsed = parse_manifest(&raw(&serde_json::json!({
        "schemaVersion": 2, "futureField": {"x": 1},
        "config": {"mediaType": IMAGE_CONFIGS[0], "digest": config.to_string(), "size": 10},
        "layers": [
            {"mediaType": "l", "digest": layer.to_string(), "size": 20},
            {"mediaType": "l", "digest": layer.to_string(), "size": 20, "urls": null, "annotations": null},
            {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": foreign.to_string(), "size": 9},
            {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": foreign.to_string(), "size": 9},
            {"mediaType": "l", "digest": foreign.to_string(), "size": 9, "urls": ["https://elsewhere.example/l"]},
        ],
    })))
    .unwrap();
    assert_eq!(parsed.image_config, Some(config.clone()));
    assert_eq!(parsed.manifest.config.as_deref(), Some(&config));
    assert_eq!(*parsed.manifest.blobs, [Blob { digest: config, size: 10 }, Blob { digest: layer, size: 20 }]);
}

#[test]
fn an_annotation_dates_an_image_and_its_config_may_tell_a_later_time() {
    for (created, expected) in [
        ("2024-05-01T10:00:00Z", Some("2024-05-01T10:00:00Z")),
        ("2024-05-01T12:00:00.1234567+02:00", Some("2024-05-01T10:00:00.1234567Z")),
        ("2024-05-01T10:00:00.123456789123Z", Some("2024-05-01T10:00:00.123456789Z")),
        ("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z")),
        ("yesterday", None),
        ("2024-05-01", None),
        ("", None),
    ] {
        let parsed = parse_manifest(&raw(&serde_json::json!({
            "config": {"mediaType": IMAGE_CONFIGS[1], "digest": digest(1).to_string(), "size": 1},
            "annotations": {"org.opencontainers.image.created": created, "other": "x"},
        })))
        .unwrap();
        assert_eq!(parsed.manifest.created_at, expected.map(|text| text.parse().unwrap()), "{created}");
        assert_eq!(parsed.image_config, Some(digest(1)), "{created}");
    }
}

#[test]
fn an_index_tells_images_from_attestations() {
    let parsed = parse_manifest(&raw(&serde_json::json!({
        "manifests": [
            {"digest": digest(1).to_string(), "size": 1, "platform": {"os": "linux", "architecture": "amd64"}},
            {"digest": digest(2).to_string(), "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}},
            {"digest": digest(3).to_string(), "size": 1, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
            {"digest": digest(4).to_string(), "size": 1},
        ],
    })))
    .unwrap();
    let images: Vec<_> = parsed.children.iter().map(|child| child.is_image).collect();
    assert_eq!(images, [true, false, false, true]);
    assert_eq!(parsed.manifest.children, (1..=4).map(digest).collect::<Vec<_>>());
    assert!(parsed.manifest.blobs.is_empty() && parsed.image_config.is_none());
}

#[test]
fn a_configuration_tells_the_later_of_its_time_and_its_label() {
    for (created, label, expected) in [
        (Some("2026-11-01T00:00:00Z"), Some("2023-05-01T00:00:00Z"), Some("2026-11-01T00:00:00Z")),
        (Some("2023-05-01T00:00:00Z"), Some("2026-11-01T00:00:00Z"), Some("2026-11-01T00:00:00Z")),
        (Some("2023-05-01T00:00:00Z"), Some("yesterday"), Some("2023-05-01T00:00:00Z")),
        (Some("2023-05-01T00:00:00Z"), None, Some("2023-05-01T00:00:00Z")),
        // A reproducible build inherits the label of its base image.
        (Some("1970-01-01T00:00:00Z"), Some("2023-05-01T00:00:00Z"), Some("1970-01-01T00:00:00Z")),
        (None, Some("2023-05-01T00:00:00Z"), None),
    ] {
        let labels = serde_json::json!({"org.opencontainers.image.created": label, "other": "x"});
        let body = serde_json::json!({"created": created, "config": {"Labels": labels, "Env": ["A=1"]}});
        let found = config_created_at(body.to_string().as_bytes());
        assert_eq!(found.unwrap(), expected.map(|text| text.parse().unwrap()), "{created:?} {label:?}");
    }
    for odd in [r#"{"config":null}"#, r#"{"config":{"Labels":null}}"#, r#"{"config":{"Labels":["a"]}}"#, "{}"] {
        assert_eq!(config_created_at(odd.as_bytes()).unwrap(), None, "{odd}");
    }
}

/// As `BuildKit`'s `type=registry` exporter writes it, which lists layers in place of manifests.
#[test]
fn the_index_of_a_build_cache_holds_blobs() {
    let [first, second, config] = [1, 2, 3].map(|n| digest(n).to_string());
    for (index, layer) in [
        ("application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.layer.v1.tar+zstd"),
        (
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    ] {
        let parsed = parse_manifest(&raw(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": index,
            "manifests": [
                {"mediaType": layer, "digest": first, "size": 2_427_917, "annotations": {
                    "buildkit/createdat": "2026-07-02T17:08:09.095229615Z", "containerd.io/uncompressed": digest(9).to_string(),
                }},
                {"mediaType": layer, "digest": second, "size": 153, "annotations": {"buildkit/createdat": "2026-06-01T00:00:00Z"}},
                {"mediaType": layer, "digest": first, "size": 2_427_917},
                {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": config, "size": 1654},
            ],
        })))
        .unwrap();
        assert!(parsed.children.is_empty() && parsed.manifest.children.is_empty(), "{layer}");
        let blobs: Vec<(&Digest, u64)> = parsed.manifest.blobs.iter().map(|blob| (&blob.digest, blob.size)).collect();
        assert_eq!(blobs, [(&digest(1), 2_427_917), (&digest(2), 153), (&digest(3), 1654)], "{layer}");
        assert_eq!(parsed.manifest.created_at, "2026-07-02T17:08:09.095229615Z".parse().ok(), "{layer}");
        assert_eq!((parsed.manifest.config, parsed.image_config), (None, None), "{layer}");
    }
}

#[test]
fn a_build_cache_as_an_image_manifest_is_dated_by_its_layers() {
    let manifest = |config: &str| {
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let created = |time: &str| serde_json::json!({"buildkit/createdat": time});
        parse_manifest(&raw(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": config, "digest": digest(3).to_string(), "size": 1654},
            "layers": [
                {"mediaType": layer, "digest": digest(1).to_string(), "size": 20, "annotations": created("2026-06-01T00:00:00Z")},
                {"mediaType": layer, "digest": digest(2).to_string(), "size": 30, "annotations": created("2026-07-02T17:08:09Z")},
            ],
        })))
        .unwrap()
    };
    let cache = manifest("application/vnd.buildkit.cacheconfig.v0");
    assert_eq!((cache.manifest.created_at, cache.image_config), ("2026-07-02T17:08:09Z".parse().ok(), None));
    assert_eq!(cache.manifest.blobs.len(), 3);
    // The layers of an image are often those of its base image.
    let image = manifest(IMAGE_CONFIGS[0]);
    assert_eq!((image.manifest.created_at, image.image_config), (None, Some(digest(3))));
}

#[test]
fn an_index_of_manifests_and_layers_keeps_what_may_be_a_manifest() {
    let entry =
        |n: u8, kind: Option<&str>| serde_json::json!({"mediaType": kind, "digest": digest(n).to_string(), "size": 1});
    let parsed = parse_manifest(&raw(&serde_json::json!({"manifests": [
        entry(1, Some("application/vnd.oci.image.manifest.v1+json")),
        entry(2, Some("application/vnd.oci.image.layer.v1.tar")),
        entry(3, Some("application/vnd.example.unheard-of+json")),
        entry(4, None),
        entry(5, Some("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")),
    ]})))
    .unwrap();
    assert_eq!(parsed.manifest.children, [1, 3, 4].map(digest));
    assert_eq!(*parsed.manifest.blobs, [Blob { digest: digest(2), size: 1 }]);
    assert_eq!(parsed.manifest.created_at, None);
}

#[test]
fn schema_one_is_understood() {
    let parsed = parse_manifest(&raw(&serde_json::json!({
        "schemaVersion": 1, "name": "a", "tag": "b",
        "fsLayers": [{"blobSum": digest(1).to_string()}, {"blobSum": digest(2).to_string()}, {"blobSum": digest(1).to_string()}],
        "history": [{"v1Compatibility": "{\"created\":\"2015-01-02T03:04:05.6Z\"}"}, {"v1Compatibility": "{}"}],
    })))
    .unwrap();
    assert_eq!(parsed.manifest.created_at, "2015-01-02T03:04:05.6Z".parse().ok());
    assert_eq!(parsed.manifest.blobs.len(), 2);
}

#[test]
fn what_is_no_manifest_is_an_error_not_an_empty_image() {
    for json in [
        serde_json::json!({}),
        serde_json::json!([]),
        serde_json::json!({"errors": []}),
        serde_json::json!({"config": {"digest": "sha256:short", "size": 1}}),
        serde_json::json!({"manifests": [{"size": 1}]}),
        serde_json::json!({"layers": [{"digest": 7, "size": 1}]}),
        serde_json::json!({"manifests": {"digest": digest(1).to_string()}}),
        serde_json::json!({"manifests": [digest(1).to_string()]}),
        serde_json::json!({"mediaType": 7, "config": {"digest": digest(1).to_string()}}),
        serde_json::json!({"subject": {"digest": "latest"}}),
        serde_json::json!({"subject": digest(1).to_string()}),
        serde_json::json!({"fsLayers": [{"blobSum": "x"}]}),
    ] {
        assert!(parse_manifest(&raw(&json)).is_err(), "{json}");
    }
}

#[test]
fn a_page_is_a_list_of_names_or_an_error() {
    let (path, linked) = ("/v2/shop/a/tags/list", |path| PageContext { path, is_unlinked: false });
    let some = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    for (body, expected) in [
        (r#"{"name":"shop/a","tags":null}"#, some(&[])),
        (r#"{"name":"shop/a","tags":["x"]}"#, some(&["x"])),
        ("\u{feff}{\"tags\":[\"x\"]}", some(&["x"])),
        (r#"{"name":"shop/a"}"#, some(&[])),
        (r#"{"name":"mirror/shop/a","child":[]}"#, some(&[])),
        (r#"{"name":7,"tags":["x"]}"#, some(&["x"])),
        (r#"{"tags":["x",7,null]}"#, some(&["x", "(not a text: 7)", "(not a text: null)"])),
        (r#"{"name":"other"}"#, None),
        (r#"{"name":"another-shop/a"}"#, None),
        (r#"{"tags":"x"}"#, None),
        (r#"{"tags":["x"],"tags":["y"]}"#, None),
        (r#"{"tags":["x""#, None),
        ("{}", None),
        ("<html>", None),
        ("", None),
    ] {
        assert_eq!(tags_page(body.as_bytes(), linked(path)).ok(), expected, "{body}");
    }
    let guessed = PageContext { path, is_unlinked: true };
    assert_eq!(tags_page(b"{}", guessed).unwrap(), [""; 0]);
    assert_eq!(catalogue_page(b"{}", guessed).unwrap(), [""; 0]);
    assert!(tags_page(br#"{"errors":[]}"#, guessed).is_err());
    let page = linked("/v2/_catalog");
    assert_eq!(catalogue_page(br#"{"repositories":null}"#, page).unwrap(), [""; 0]);
    assert_eq!(catalogue_page(br#"{"repositories":["a",1]}"#, page).ok(), some(&["a", "(not a text: 1)"]));
    assert!(catalogue_page(b"{}", page).is_err());
    assert!(referrers_page(br#"{"schemaVersion":2}"#, page).is_err());
    assert_eq!(
        referrers_page(br#"{"manifests":[{"digest":"x","size":-1,"platform":"all"}]}"#, page).ok(),
        some(&["x"])
    );
}

#[test]
fn what_is_not_needed_never_fails_a_manifest() {
    let (config, layer) = (digest(1).to_string(), digest(2).to_string());
    let odd = [
        serde_json::json!({"size": -1}),
        serde_json::json!({"size": 1.5}),
        serde_json::json!({"size": "many"}),
        serde_json::json!({"size": null}),
        serde_json::json!({"size": [1]}),
        serde_json::json!({"size": 1e300}),
        serde_json::json!({"urls": "none"}),
        serde_json::json!({"urls": {}}),
        serde_json::json!({"annotations": {"a": 1, "org.opencontainers.image.created": 7, "vnd.docker.reference.type": true}}),
        serde_json::json!({"annotations": ["a"]}),
        serde_json::json!({"annotations": "a=b"}),
        serde_json::json!({"platform": "linux/amd64"}),
        serde_json::json!({"platform": {"os": 1, "architecture": null, "variant": []}}),
        serde_json::json!({"data": 7, "future": {"x": [null]}}),
    ];
    let with = |odd: &serde_json::Value, digest: &str| {
        let mut descriptor = serde_json::json!({"mediaType": "x/y", "digest": digest});
        descriptor.as_object_mut().unwrap().extend(odd.as_object().unwrap().clone());
        descriptor
    };
    for odd in odd {
        let image = serde_json::json!({
            "schemaVersion": "2", "annotations": odd.get("annotations"), "history": "none", "artifactType": 7,
            "config": with(&odd, &config), "layers": [with(&odd, &layer)], "subject": with(&odd, &layer),
        });
        let parsed = parse_manifest(&raw(&image)).unwrap_or_else(|why| panic!("{odd}: {why}"));
        assert_eq!(parsed.manifest.subject.as_deref(), Some(&digest(2)), "{odd}");
        assert!(parsed.manifest.blobs.iter().all(|blob| blob.size == 0), "{odd}");
        let index = serde_json::json!({"manifests": [with(&odd, &config)], "annotations": odd.get("annotations")});
        let parsed = parse_manifest(&raw(&index)).unwrap_or_else(|why| panic!("{odd}: {why}"));
        assert_eq!(parsed.manifest.children, [digest(1)], "{odd}");
    }
    for (size, bytes) in [("20", 20), ("20.0", 20), (r#""20""#, 20), ("-0.0", 0), ("18446744073709551615", u64::MAX)] {
        let text = format!("\u{feff}{{\"layers\": [{{\"digest\": \"{layer}\", \"size\": {size}}}]}}");
        let bytes_of: Arc<[u8]> = text.into_bytes().into();
        let raw = RawManifest { digest: Digest::of(&bytes_of), media_type: "x/y".into(), bytes: bytes_of };
        assert_eq!(parse_manifest(&raw).unwrap().manifest.blobs[0].size, bytes, "{size}");
    }
    let latin = format!("{{\"layers\": [{{\"digest\": \"{layer}\"}}], \"annotations\": {{\"by\": \"M\u{1}nchen\"}}}}");
    let bytes: Arc<[u8]> = latin.into_bytes().iter().map(|byte| if *byte == 1 { 0xfc } else { *byte }).collect();
    assert!(parse_manifest(&RawManifest { digest: Digest::of(&bytes), media_type: "x/y".into(), bytes }).is_ok());
    assert_eq!(config_created_at(br#"{"created": 1700000000, "config": {"Env": 7}}"#).unwrap(), None);
}

#[test]
fn a_media_type_comes_from_the_header_the_manifest_or_its_fields() {
    let index = br#"{"manifests":[]}"#;
    let own = br#"{"mediaType":"application/vnd.example+json","config":{"digest":"x"}}"#;
    assert_eq!(&*media_type(Some("a/b+json; charset=utf-8"), own), "a/b+json");
    assert_eq!(&*media_type(Some("application/json"), own), "application/vnd.example+json");
    assert_eq!(&*media_type(None, index), "application/vnd.oci.image.index.v1+json");
}

#[test]
fn signed_schema_one_is_named_by_what_was_signed() {
    let payload = b"{\n   \"schemaVersion\": 1\n}";
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let body = &payload[..payload.len() - 2];
    let protected = format!("{{\"formatLength\":{},\"formatTail\":\"{}\"}}", body.len(), engine.encode("\n}"));
    let signed = format!(
        "{},\n   \"signatures\": [{{\"protected\":\"{}\"}}]\n}}",
        std::str::from_utf8(body).unwrap(),
        engine.encode(protected)
    );
    assert!(is_manifest_of(&Digest::of(payload), signed.as_bytes()));
    assert!(is_manifest_of(&Digest::of(signed.as_bytes()), signed.as_bytes()));
    assert!(!is_manifest_of(&Digest::of(b"other"), signed.as_bytes()));
}

#[test]
fn annotations_and_labels_are_texts_or_nothing_that_anybody_understands() {
    let manifest = serde_json::json!({
        "config": {}, "annotations": { "team": "checkout", "build": 7, "empty": "" },
        "layers": [{ "annotations": { "team": "layer" } }],
    });
    let text = |value: &str| Some(value.to_owned());
    let found = annotations(manifest.to_string().as_bytes()).unwrap();
    let expected = [("build", None), ("empty", text("")), ("team", text("checkout"))];
    assert_eq!(found, BTreeMap::from(expected.map(|(key, value)| (key.to_owned(), value))));
    let config = serde_json::json!({ "config": { "Labels": { "team": "checkout", "build": null } }, "Labels": { "other": "x" } });
    let found = labels(config.to_string().as_bytes()).unwrap();
    let expected = [("build", None), ("team", text("checkout"))];
    assert_eq!(found, BTreeMap::from(expected.map(|(key, value)| (key.to_owned(), value))));
    for none in ["{}", r#"{"annotations": null, "config": null}"#, r#"{"config": {"Labels": null}}"#] {
        assert_eq!(labels(none.as_bytes()).unwrap(), BTreeMap::new());
        assert_eq!(annotations(none.as_bytes()).unwrap(), BTreeMap::new());
    }
    assert!(annotations(br#"{"annotations": ["team"]}"#).is_err());
    assert!(labels(br#"{"config": {"Labels": "team"}}"#).is_err());
}
