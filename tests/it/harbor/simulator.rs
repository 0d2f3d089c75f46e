//! The embedded Harbor: what it refuses, so that no request passes that the real one would not take.

use serde_json::{Value, json};
use tagwarden::demo::image;
use tagwarden::demo::registry::{EmbeddedRegistry, HarborProject, HarborSchedule};

use super::{ROBOT, image as build, make_immutable, options, put, robot, start};

const SHOP: &str = "/api/v2.0/projects/shop/repositories";

/// The status of an answer with its code, or with the message of the framework.
async fn ask(registry: &EmbeddedRegistry, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request =
        client.request(method.parse().unwrap(), format!("{}{path}", registry.url())).basic_auth(ROBOT.0, Some(ROBOT.1));
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    let words = body["errors"][0]["code"].as_str().or(body["message"].as_str());
    (status, words.unwrap_or_default().to_owned())
}

#[tokio::test]
async fn it_takes_what_is_published_and_nothing_else() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, "shop/a/b", "v1", &one, 5);
    put(&registry, "shop/a/b", "fixed", &two, 5);
    make_immutable(&registry, "fixed");
    let artifacts = format!("{SHOP}/a%252Fb/artifacts");
    let (at_one, at_two) = (format!("{artifacts}/{}", one.digest), format!("{artifacts}/{}", two.digest));
    for (method, path, body, expected) in [
        ("GET", format!("{SHOP}/a%252Fb"), None, (200, "")),
        ("GET", format!("{SHOP}/a/b"), None, (404, "path /api/v2.0/projects/shop/repositories/a/b was not found")),
        ("GET", format!("{artifacts}?page_size=101"), None, (422, "UNPROCESSABLE_ENTITY")),
        ("GET", format!("{artifacts}?limit=7"), None, (400, "BAD_REQUEST")),
        ("GET", format!("{artifacts}?q=color=red"), None, (400, "BAD_REQUEST")),
        ("GET", format!("{artifacts}?q=id=[x~]"), None, (400, "BAD_REQUEST")),
        ("GET", format!("{artifacts}?sort=color"), None, (400, "BAD_REQUEST")),
        ("GET", format!("{artifacts}?with_tag=yes"), None, (422, "UNPROCESSABLE_ENTITY")),
        ("GET", format!("{SHOP}/none/artifacts"), None, (200, "")),
        ("GET", format!("{artifacts}/v9"), None, (404, "NOT_FOUND")),
        ("PUT", artifacts.clone(), None, (405, "method PUT is not allowed, but [GET] are")),
        ("DELETE", format!("{at_two}/tags/v1"), None, (404, "NOT_FOUND")),
        ("DELETE", format!("{at_two}/tags/fixed"), None, (412, "PRECONDITION")),
        (
            "POST",
            format!("{at_one}/tags"),
            None,
            (415, "unsupported media type \"\", only [application/json] are allowed"),
        ),
        ("POST", format!("{at_one}/tags"), Some(json!({})), (422, "UNPROCESSABLE_ENTITY")),
        ("POST", format!("{at_one}/tags"), Some(json!({ "name": "a b" })), (400, "BAD_REQUEST")),
        ("POST", format!("{at_one}/tags"), Some(json!({ "name": "fixed" })), (409, "CONFLICT")),
        ("DELETE", format!("{at_one}/tags/v1"), None, (200, "")),
        ("DELETE", at_one, None, (403, "FORBIDDEN")),
        ("GET", "/api/v2.0/projects/other/repositories".to_owned(), None, (403, "FORBIDDEN")),
        ("GET", "/api/v2.0/retentions/101".to_owned(), None, (404, "NOT_FOUND")),
        ("GET", "/api/v2.0/nothing".to_owned(), None, (404, "path /api/v2.0/nothing was not found")),
        ("GET", "/v2/".to_owned(), None, (200, "")),
        ("DELETE", format!("/v2/shop/a/b/manifests/{}", two.digest), None, (401, "UNAUTHORIZED")),
    ] {
        let found = ask(&registry, method, &path, body).await;
        assert_eq!((found.0, &*found.1), expected, "{method} {path}");
    }
    assert!(registry.manifest("shop/a/b", &one.digest).is_some(), "an untag leaves the artifact");
}

#[tokio::test]
async fn strangers_and_expired_accounts_get_in_nowhere() {
    let registry = start(options()).await;
    put(&registry, "shop/api", "v1", &build("one", 9), 5);
    let url = format!("{}{SHOP}/api/artifacts", registry.url());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().status().as_u16(), 401);
    let wrong = client.get(&url).basic_auth(ROBOT.0, Some("another")).send().await.unwrap();
    assert_eq!(wrong.status().as_u16(), 401);
    let challenge = client.get(format!("{}/v2/", registry.url())).send().await.unwrap();
    let words = challenge.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert!(words.contains("service=\"harbor-registry\""), "{words}");
    registry.expire_tokens();
    assert_eq!(ask(&registry, "GET", &format!("{SHOP}/api/artifacts"), None).await.0, 401);
    registry.harbor(|harbor, _| harbor.options.projects.get_mut("shop").unwrap().public = true);
    assert_eq!(ask(&registry, "GET", &format!("{SHOP}/api/artifacts"), None).await.0, 200, "it is public now");
}

#[tokio::test]
async fn a_page_never_has_more_than_a_hundred_rows() {
    let registry = start(options()).await;
    for number in 0..120 {
        put(&registry, "shop/api", &format!("v{number}"), &build(&format!("image-{number}"), 9), number);
    }
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (query, rows, total, more) in [
        ("", 10, "120", true),
        ("?page_size=100", 100, "120", true),
        ("?page_size=100&page=2", 20, "120", false),
        ("?page_size=100&sort=id&q=id%3D%5B101~%5D", 20, "20", false),
    ] {
        let request = client.get(format!("{}{SHOP}/api/artifacts{query}", registry.url()));
        let response = request.basic_auth(ROBOT.0, Some(ROBOT.1)).send().await.unwrap();
        let headers = response.headers().clone();
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(
            (body.as_array().unwrap().len(), headers["x-total-count"].to_str().unwrap()),
            (rows, total),
            "{query}"
        );
        assert_eq!(headers.contains_key("link"), more, "{query}");
    }
}

#[tokio::test]
async fn garbage_collection_takes_what_has_no_tag_with_what_hangs_on_it() {
    let registry = start(options()).await;
    let shared = build("shared", 9);
    let index = image::index(image::Format::Oci, &[build("amd64", 9), shared.clone()]);
    let (signature, kept) = (image::signature(&index.digest, "x"), build("kept", 9));
    put(&registry, "shop/api", "v1", &index, 5);
    put(&registry, "shop/api", &image::companion_tag(&index.digest, ".sig"), &signature, 5);
    put(&registry, "shop/api", "shared", &shared, 5);
    put(&registry, "shop/api", "kept", &kept, 5);
    let there = |digest| registry.manifest("shop/api", digest).is_some();
    let collect = |delete_untagged: bool| {
        let mut gone = 0;
        registry.harbor(|harbor, content| {
            let schedule = HarborSchedule { kind: "Daily".into(), cron: String::new(), delete_untagged };
            harbor.options.garbage_collection = Some(schedule);
            gone = harbor.run_garbage_collection(content);
        });
        gone
    };
    assert_eq!(collect(true), 0, "everything has a tag, or is part of something, or refers to it");
    ask(&registry, "DELETE", &format!("{SHOP}/api/artifacts/{}/tags/v1", index.digest), None).await;
    assert_eq!(collect(false), 0);
    assert!(there(&index.digest) && there(&signature.digest));
    assert_eq!(collect(true), 1);
    let found = [&index.digest, &index.children[0].digest, &signature.digest, &shared.digest, &kept.digest].map(there);
    assert_eq!(found, [false, false, false, true, true]);
}

#[tokio::test]
async fn pulls_are_on_record_and_vulnerable_images_are_given_to_nobody() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    put(&registry, "shop/api", "v2", &one, 5);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let pulled = async || {
        let request = client.get(format!("{}{SHOP}/api/artifacts/v1", registry.url()));
        let response = request.basic_auth(ROBOT.0, Some(ROBOT.1)).send().await.unwrap();
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        let tag = |index: usize| body["tags"][index]["pull_time"].as_str().unwrap().starts_with("2026");
        (body["pull_time"].as_str().unwrap().starts_with("2026"), tag(0), tag(1))
    };
    assert_eq!(pulled().await, (false, false, false));
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let manifest = |reference: &str, method: &str| {
        let url = format!("{}/v2/shop/api/manifests/{reference}", registry.url());
        client.request(method.parse().unwrap(), url).basic_auth(ROBOT.0, Some(ROBOT.1)).header("accept", accept).send()
    };
    assert_eq!(manifest("v2", "HEAD").await.unwrap().status().as_u16(), 200);
    assert_eq!(pulled().await, (false, false, false), "to look is no pull");
    assert_eq!(manifest(&one.digest.to_string(), "GET").await.unwrap().status().as_u16(), 200);
    assert_eq!(pulled().await, (true, false, false));
    assert_eq!(manifest("v2", "GET").await.unwrap().status().as_u16(), 200);
    assert_eq!(pulled().await, (true, false, true));
    registry.harbor(|harbor, _| harbor.withhold(&one.digest));
    assert_eq!(manifest("v2", "GET").await.unwrap().status().as_u16(), 412);
    // Without its rights, the registry API asks for a login.
    registry.harbor(|harbor, _| {
        harbor.options.projects.insert("shop".into(), HarborProject::new(1));
        harbor.options.accounts = vec![robot()];
        harbor.options.accounts[0].projects.clear();
    });
    assert_eq!(manifest("v2", "GET").await.unwrap().status().as_u16(), 401);
}
