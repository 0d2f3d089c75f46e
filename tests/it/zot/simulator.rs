//! The embedded zot: what it refuses, so that no request passes that the real one would not take, and what it does by itself.

use jiff::SignedDuration;
use serde_json::{Value, json};
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{EmbeddedRegistry, ZotCollection, ZotOptions};

use super::{API, USER, image as build, options, put, start};

/// The status of an answer with its error code, or with what it contains otherwise.
async fn ask(registry: &EmbeddedRegistry, method: &str, path: &str, signed: bool) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.request(method.parse().unwrap(), format!("{}{path}", registry.url()));
    let request = if signed { request.basic_auth(USER.0, Some(USER.1)) } else { request };
    let response = request.header("accept", "*/*, application/vnd.oci.image.manifest.v1+json").send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

fn search(question: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(question.as_bytes()).collect();
    format!("/v2/_zot/ext/search?query={encoded}")
}

#[tokio::test]
async fn it_takes_what_zot_takes_and_nothing_else() {
    let mut options = options();
    options.users[0].delete = vec!["shop/web".into(), API.into()];
    let registry = start(options).await;
    let child = build("amd64", 9);
    put(&registry, API, "index", &image::index(Format::Oci, std::slice::from_ref(&child)), 5);
    put(&registry, API, "v1", &build("one", 9), 5);
    put(&registry, "shop/other", "v1", &build("one", 9), 5);
    let manifests = format!("/v2/{API}/manifests");
    for (method, path, signed, expected) in [
        ("GET", "/v2/".to_owned(), false, (401, "UNAUTHORIZED")),
        ("GET", "/v2/".to_owned(), true, (200, "")),
        ("GET", format!("/v2/{API}/tags/list?last=none"), true, (404, "")),
        ("GET", format!("/v2/{API}/tags/list?n=many"), true, (400, "")),
        ("GET", "/v2/shop/none/tags/list".to_owned(), true, (404, "NAME_UNKNOWN")),
        ("GET", "/v2/web/api/tags/list".to_owned(), true, (403, "DENIED")),
        ("DELETE", "/v2/shop/other/manifests/v1".to_owned(), true, (403, "DENIED")),
        ("DELETE", "/v2/shop/web/manifests/v1".to_owned(), true, (400, "NAME_UNKNOWN")),
        ("DELETE", format!("{manifests}/v9"), true, (404, "MANIFEST_UNKNOWN")),
        ("DELETE", format!("{manifests}/{}", child.digest), true, (405, "DENIED")),
        ("DELETE", format!("{manifests}/v1"), true, (202, "")),
        ("GET", "/v2/_zot/ext/mgmt".to_owned(), false, (200, "")),
        ("GET", "/v2/_oci/ext/discover".to_owned(), false, (401, "UNAUTHORIZED")),
    ] {
        let (status, body) = ask(&registry, method, &path, signed).await;
        let code = body["errors"][0]["code"].as_str().unwrap_or_default();
        assert_eq!((status, code), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn questions_are_held_against_the_schema() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    put(&registry, API, "v2", &build("two", 9), 5);
    let page = "{ImageList(repo:\"shop/api\",requestedPage:{limit:1,offset:1}){Page{TotalCount ItemCount} Results{Tag IsDeletable}}}";
    let (status, body) = ask(&registry, "GET", &search(page), true).await;
    let expected = json!({ "ImageList": {
        "Page": { "TotalCount": 2, "ItemCount": 1 }, "Results": [{ "Tag": "v2", "IsDeletable": null }] } });
    assert_eq!((status, &body["data"]), (200, &expected));
    let (_, body) =
        ask(&registry, "GET", &search("{ExpandedRepoInfo(repo:\"shop/api\"){Images{IsDeletable}}}"), true).await;
    assert_eq!(body["data"]["ExpandedRepoInfo"]["Images"], json!([{ "IsDeletable": true }, { "IsDeletable": true }]));
    let (status, body) = ask(&registry, "GET", &search("{ImageList(repo:\"web/api\"){Results{Tag}}}"), true).await;
    assert_eq!(
        (status, &body["data"]["ImageList"]["Results"]),
        (200, &json!([])),
        "nothing is told of what may not be read"
    );
    for question in [
        "{ImageList(repo:\"shop/api\"){Results{Tags}}}",
        "{ImageList{Results{Tag}}}",
        "{ImageList(repo:\"shop/api\",page:1){Results{Tag}}}",
        "mutation{DeleteTag}",
        "",
    ] {
        let (status, body) = ask(&registry, "GET", &search(question), true).await;
        assert!(status == 422 && body["errors"][0]["message"].is_string(), "{question}: {status} {body}");
    }
    let (status, _) = ask(&registry, "DELETE", &search(page), true).await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn garbage_collection_deletes_what_has_no_tag_as_soon_as_it_runs() {
    let collection = Some(ZotCollection::default());
    let registry = start(ZotOptions { collection, ..options() }).await;
    let (old, young, held) = (build("old", 9), build("young", 9), build("held", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&held));
    put(&registry, API, "old", &old, 30);
    put(&registry, API, "index", &index, 30);
    put(&registry, API, "held", &held, 30);
    let signature = image::companion_tag(&old.digest, ".sig");
    put(&registry, API, &signature, &image::signature(&old.digest, API), 30);
    put(&registry, API, "young", &young, 0);
    for tag in ["old", "held", "young"] {
        assert_eq!(ask(&registry, "DELETE", &format!("/v2/{API}/manifests/{tag}"), true).await.0, 202);
    }
    let there = |digest| registry.manifest(API, digest).is_some();
    registry.advance_time(SignedDuration::from_mins(59));
    assert!(there(&old.digest) && there(&young.digest));
    registry.advance_time(SignedDuration::from_mins(1));
    assert!(!there(&old.digest) && there(&held.digest), "at the next run, however old it is; not what an index lists");
    assert!(!registry.tags(API).contains_key(&signature), "its signature went with it");
    registry
        .zot(|zot| zot.options.collection = Some(ZotCollection { delete_untagged: false, ..ZotCollection::default() }));
    assert_eq!(ask(&registry, "DELETE", &format!("/v2/{API}/manifests/index"), true).await.0, 202);
    registry.advance_time(SignedDuration::from_hours(24));
    assert!(there(&index.digest) && there(&held.digest));
}

#[tokio::test]
async fn before_2_1_2_the_last_tag_takes_its_manifest_along() {
    let registry = start(ZotOptions { release: "v2.1.1".into(), ..options() }).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    put(&registry, API, "v2", &one, 5);
    for (tag, stays) in [("v1", true), ("v2", false)] {
        assert_eq!(ask(&registry, "DELETE", &format!("/v2/{API}/manifests/{tag}"), true).await.0, 202);
        assert_eq!(registry.manifest(API, &one.digest).is_some(), stays);
    }
}
