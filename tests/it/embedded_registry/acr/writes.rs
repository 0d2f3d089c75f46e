use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{Image, artifact, media_type};
use tagwarden::demo::registry::{Attributes, EmbeddedRegistry, Target};

use super::super::{header, image, now, status_and_code};
use super::{answer, as_admin, problem, read, registry, status};

async fn push(registry: &EmbeddedRegistry, reference: &str, image: &Image) -> u16 {
    let request = as_admin(registry, Method::PUT, &format!("/v2/a/manifests/{reference}"));
    let request = request.header("content-type", image.media_type).body(image.bytes.clone());
    request.send().await.unwrap().status().as_u16()
}

async fn patch(registry: &EmbeddedRegistry, path: &str, body: &Value) -> (u16, Value) {
    let response = as_admin(registry, Method::PATCH, path).json(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn untagging_leaves_the_manifest_and_says_what_the_tag_named() {
    let registry = registry().await;
    let image = image("one");
    registry.put_image("shop/api", "v1", &image);
    registry.put_image("shop/api", "v2", &image);
    let mut correlation = Vec::new();
    for path in ["/acr/v1/shop/api/_tags/v1", "/acr/v1/shop%2Fapi/_tags/v2"] {
        let response = answer(&registry, Method::DELETE, path).await;
        assert_eq!(response.status(), 202);
        assert_eq!(header(&response, "x-ms-int-docker-content-digest"), image.digest.to_string());
        assert!(header(&response, "x-ms-ratelimit-remaining-calls-per-second").parse::<f64>().unwrap() > 0.0);
        assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
        correlation.push(header(&response, "x-ms-correlation-request-id").to_owned());
        assert_eq!(response.text().await.unwrap(), "");
    }
    assert!(correlation.iter().all(|id| id.len() == 36) && correlation[0] != correlation[1], "{correlation:?}");
    assert_eq!(read(&registry, "/acr/v1/shop/api").await["manifestCount"], 1);
    assert_eq!(read(&registry, "/acr/v1/shop/api/_tags").await["tags"], json!([]));
}

#[tokio::test]
async fn deleting_a_manifest_takes_its_tags_and_referrers_and_at_last_the_repository() {
    let registry = registry().await;
    let (one, two) = (image("one"), image("two"));
    let note = artifact("a/note", (media_type::SPDX, Blob::of("note")), Some(&one), &[]);
    for tag in ["v1", "stable"] {
        registry.put_image("a", tag, &one);
    }
    registry.put_image("a", "v2", &two);
    registry.content(|content| content.put_image("a", None, &note));
    let refused = problem(&registry, Method::DELETE, "/v2/a/manifests/v1").await;
    let message = "A manifest can only be deleted by digest.".to_owned();
    assert_eq!(refused, (405, "UNSUPPORTED".to_owned(), message));

    assert_eq!(status(&registry, Method::DELETE, &format!("/v2/a/manifests/{}", one.digest)).await, 202);
    assert_eq!(registry.tags("a").into_keys().collect::<Vec<_>>(), ["v2"]);
    assert!(registry.manifest("a", &note.digest).is_none());
    assert_eq!(status(&registry, Method::DELETE, &format!("/v2/a/manifests/{}", two.digest)).await, 202);
    assert_eq!(read(&registry, "/acr/v1/_catalog").await["repositories"], json!(null));
    assert_eq!(status(&registry, Method::GET, "/acr/v1/a").await, 404);
}

#[tokio::test]
async fn deleting_a_repository_says_what_went() {
    let registry = registry().await;
    let image = image("one");
    registry.put_image("a", "v1", &image);
    registry.put_image("a", "v2", &image);
    let response = answer(&registry, Method::DELETE, "/acr/v1/a").await;
    assert_eq!(response.status(), 202);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body, json!({ "manifestsDeleted": [image.digest.to_string()], "tagsDeleted": ["v1", "v2"] }));
    assert_eq!(status(&registry, Method::GET, "/acr/v1/a").await, 404);
}

#[tokio::test]
async fn a_lock_changes_what_it_names_and_no_time() {
    let registry = registry().await;
    let image = image("one");
    registry.content(|content| {
        content.set_now(now());
        content.put_image("a", Some("v1"), &image);
    });
    let manifest = format!("/acr/v1/a/_manifests/{}", image.digest);
    for (path, key) in [("/acr/v1/a", ""), ("/acr/v1/a/_tags/v1", "tag"), (manifest.as_str(), "manifest")] {
        let before = read(&registry, path).await;
        let (status, body) = patch(&registry, path, &json!({ "deleteEnabled": false, "listEnabled": false })).await;
        let mut expected = before.clone();
        let object = if key.is_empty() { &mut expected } else { &mut expected[key] };
        object["changeableAttributes"]["deleteEnabled"] = json!(false);
        object["changeableAttributes"]["listEnabled"] = json!(false);
        assert_eq!((status, &body), (200, &expected), "{path}");
        patch(&registry, path, &json!({ "deleteEnabled": true, "listEnabled": true })).await;
        assert_eq!(patch(&registry, path, &json!({ "deleteEnabled": "no" })).await.0, 400, "{path}");
    }
    assert_eq!(patch(&registry, "/acr/v1/a/_tags/v2", &json!({})).await.0, 404);
    assert_eq!(patch(&registry, "/acr/v1/b", &json!({})).await.0, 404);
}

/// What a lock of a tag, its manifest or its repository refuses.
#[tokio::test]
async fn locks_hold() {
    let open = Attributes::default();
    let delete = Attributes { delete: false, ..open };
    let write = Attributes { write: false, ..open };
    let list = Attributes { list: false, ..open };
    let read = Attributes { read: false, ..open };
    let (tag, manifest, repository) = (0, 1, 2);
    // What is locked, how, and what then happens: untag, delete by digest, delete the repository, move the tag, pull it.
    for (what, attributes, expected) in [
        (tag, open, [202, 202, 202, 201, 200]),
        (tag, list, [202, 202, 202, 201, 200]),
        (tag, delete, [405, 405, 405, 201, 200]),
        (tag, write, [405, 405, 405, 405, 200]),
        (tag, read, [202, 202, 202, 201, 405]),
        (manifest, delete, [405, 405, 405, 201, 200]),
        (manifest, write, [405, 405, 405, 201, 200]),
        (manifest, read, [202, 202, 202, 201, 405]),
        (repository, delete, [405, 405, 405, 201, 200]),
        (repository, write, [405, 405, 405, 405, 200]),
        (repository, read, [202, 202, 202, 201, 405]),
    ] {
        let mut happened = Vec::new();
        for (deed, _) in expected.iter().enumerate() {
            let registry = registry().await;
            let (one, two) = (image("one"), image("two"));
            registry.put_image("a", "v1", &one);
            registry.put_image("a", "other", &two);
            registry.content(|content| {
                let target = [Target::Tag("v1"), Target::Manifest(&one.digest), Target::Repository][what];
                *content.attributes_mut("a", target).unwrap() = attributes;
            });
            happened.push(match deed {
                0 => status(&registry, Method::DELETE, "/acr/v1/a/_tags/v1").await,
                1 => status(&registry, Method::DELETE, &format!("/v2/a/manifests/{}", one.digest)).await,
                2 => status(&registry, Method::DELETE, "/acr/v1/a").await,
                3 => push(&registry, "v1", &two).await,
                _ => status(&registry, Method::GET, "/v2/a/manifests/v1").await,
            });
            if deed == 0 && happened[0] == 405 {
                let refused = answer(&registry, Method::DELETE, "/acr/v1/a/_tags/v1").await;
                assert_eq!(status_and_code(refused).await.1, "REGISTRY_DISALLOWED_OPERATION");
                assert_eq!(registry.tags("a").len(), 2);
            }
        }
        assert_eq!(happened, expected, "{what} {attributes:?}");
    }
}

#[tokio::test]
async fn a_push_dates_a_tag_and_a_new_one_after_an_untag_is_new() {
    let registry = registry().await;
    let (one, two) = (image("one"), image("two"));
    let day = |days: i64| now() - SignedDuration::from_hours(24 * days);
    registry.content(|content| {
        content.set_now(day(9));
        content.put_image("a", Some("v1"), &one);
        content.put_image("a", Some("other"), &two);
        content.attributes_mut("a", Target::Tag("v1")).unwrap().delete = false;
    });
    assert_eq!(push(&registry, "v1", &two).await, 201);
    let tag = read(&registry, "/acr/v1/a/_tags/v1").await["tag"].clone();
    assert_eq!(tag["digest"], two.digest.to_string());
    assert_eq!(tag["createdTime"], day(9).to_string());
    assert!(tag["lastUpdateTime"].as_str().unwrap() > day(8).to_string().as_str());
    assert_eq!(tag["changeableAttributes"]["deleteEnabled"], false, "a lock outlives a move");

    assert_eq!(status(&registry, Method::DELETE, "/acr/v1/a/_tags/other").await, 202);
    assert_eq!(push(&registry, "other", &two).await, 201);
    let tag = read(&registry, "/acr/v1/a/_tags/other").await["tag"].clone();
    assert_eq!(tag["createdTime"], tag["lastUpdateTime"]);
    registry.content(|content| assert!(content.date_tag("a", "other", day(3), day(2))));
    let tag = read(&registry, "/acr/v1/a/_tags/other").await["tag"].clone();
    assert_eq!((&tag["createdTime"], &tag["lastUpdateTime"]), (&json!(day(3).to_string()), &json!(day(2).to_string())));
}
