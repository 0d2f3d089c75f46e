//! The embedded Quay: what it refuses, so that no request passes that the real one would not take.

use serde_json::{Value, json};
use tagwarden::demo::image;
use tagwarden::demo::registry::{EmbeddedRegistry, QuayOptions};

use super::{TOKEN, image as build, options, put, start};

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// The status of an answer with its error type, or with the message of the framework.
async fn ask(registry: &EmbeddedRegistry, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
    let request = client().request(method.parse().unwrap(), format!("{}{path}", registry.url())).bearer_auth(TOKEN);
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    let words = ["error_type", "message"].iter().find_map(|key| body[key].as_str()).unwrap_or_default().to_owned();
    (status, words)
}

#[tokio::test]
async fn it_takes_what_is_published_and_nothing_else() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    let digest = json!({ "manifest_digest": one.digest.to_string() });
    let stale = json!({ "manifest_digest": build("never", 1).digest.to_string() });
    for (method, path, body, expected) in [
        ("GET", "/api/v1/repository", None, (400, "invalid_request")),
        ("GET", "/api/v1/repository?namespace=shop", None, (200, "")),
        ("GET", "/api/v1/repository?namespace=shop&page=2", None, (400, "invalid_request")),
        ("GET", "/api/v1/repository?namespace=shop&next_page=x", None, (400, "invalid_request")),
        ("GET", "/api/v1/repository/shop/api/tag", None, (308, "")),
        ("GET", "/api/v1/repository/shop/api/tag/?limit=many", None, (400, "invalid literal for int()")),
        ("GET", "/api/v1/repository/shop/api/tag/?onlyActive=true", None, (400, "invalid_request")),
        ("GET", "/api/v1/repository/shop/none/tag/", None, (404, "not_found")),
        ("GET", "/api/v1/repository/shop/api/manifest/v1", None, (404, "not_found")),
        ("PUT", "/api/v1/repository/shop/api/tag/v1", None, (405, "The method is not allowed for the requested URL.")),
        ("DELETE", "/api/v1/repository/shop/api/tag/v9", None, (404, "not_found")),
        ("POST", "/api/v1/repository/shop/api/tag/v1/restore", None, (400, "invalid_request")),
        ("POST", "/api/v1/repository/shop/api/tag/v1/restore", Some(json!({})), (400, "invalid_request")),
        ("POST", "/api/v1/repository/shop/api/tag/v2/restore", Some(stale), (404, "not_found")),
        ("POST", "/api/v1/repository/shop/api/tag/v2/restore", Some(digest), (200, "")),
        ("GET", "/api/v1/organization/shop/autoprunepolicy/", None, (403, "insufficient_scope")),
        ("GET", "/api/v2/", None, (404, "")),
        ("GET", "/v2/", None, (401, "")),
    ] {
        let found = ask(&registry, method, path, body).await;
        assert_eq!((found.0, &*found.1), expected, "{method} {path}");
    }
    let url = format!("{}/api/v1/repository?namespace=shop", registry.url());
    let without = client().get(url).send().await.unwrap();
    assert_eq!(without.status().as_u16(), 401);
}

#[tokio::test]
async fn a_page_never_has_more_than_a_hundred_tags() {
    let registry = start(options()).await;
    for number in 0..120 {
        put(&registry, "shop/api", &format!("v{number}"), &build("one", 9), number);
    }
    let client = client();
    for (query, rows, more) in [("", 50, true), ("?limit=1000", 100, true), ("?limit=100&page=2", 20, false)] {
        let url = format!("{}/api/v1/repository/shop/api/tag/{query}", registry.url());
        let body = client.get(url).bearer_auth(TOKEN).send().await.unwrap().bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((body["tags"].as_array().unwrap().len(), &body["has_additional"]), (rows, &json!(more)), "{query}");
    }
}

#[tokio::test]
async fn the_last_tag_of_an_image_takes_its_signatures_along() {
    for expires_companions in [true, false] {
        let registry = start(QuayOptions { expires_companions, ..options() }).await;
        let one = build("one", 9);
        put(&registry, "shop/api", "v1", &one, 5);
        put(&registry, "shop/api", "v2", &one, 5);
        let signature = image::companion_tag(&one.digest, ".sig");
        put(&registry, "shop/api", &signature, &image::signature(&one.digest, "shop/api"), 5);
        ask(&registry, "DELETE", "/api/v1/repository/shop/api/tag/v1", None).await;
        assert!(registry.tags("shop/api").contains_key(&signature), "another tag names the image");
        ask(&registry, "DELETE", "/api/v1/repository/shop/api/tag/v2", None).await;
        assert_eq!(registry.tags("shop/api").contains_key(&signature), !expires_companions);
    }
}

#[tokio::test]
async fn what_leaves_the_time_machine_goes_with_what_is_in_it() {
    let registry = start(options()).await;
    let shared = build("shared", 9);
    let index = image::index(image::Format::Oci, &[build("amd64", 9), shared.clone()]);
    put(&registry, "shop/api", "v1", &index, 5);
    put(&registry, "shop/api", "shared", &shared, 5);
    ask(&registry, "DELETE", "/api/v1/repository/shop/api/tag/v1", None).await;
    let path = format!("/api/v1/repository/shop/api/manifest/{}", index.digest);
    assert_eq!(ask(&registry, "GET", &path, None).await.0, 404, "it is hidden at once");
    assert!(registry.manifest("shop/api", &index.digest).is_some(), "and there");
    registry.advance_time(jiff::SignedDuration::from_hours(13 * 24));
    assert!(registry.manifest("shop/api", &index.digest).is_some());
    registry.advance_time(jiff::SignedDuration::from_hours(2 * 24));
    let there = |digest| registry.manifest("shop/api", digest).is_some();
    assert_eq!((there(&index.digest), there(&index.children[0].digest), there(&shared.digest)), (false, false, true));
}
