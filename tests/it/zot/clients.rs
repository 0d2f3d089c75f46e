//! Others: a library for GraphQL, and a client for registries, against the embedded zot.

use std::path::Path;

use serde_json::{Value, json};
use tagwarden::demo::image::{self, Format};

use super::{API, USER, api, image as build, options, put, read, reader, start};
use crate::support::clients::run;
use crate::support::skopeo::skopeo;

#[tokio::test(flavor = "multi_thread")]
async fn its_search_is_one_by_the_library_of_others() {
    let registry = start(options()).await;
    let (one, child) = (build("one", 9), build("amd64", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&child));
    put(&registry, API, "v1", &one, 5);
    put(&registry, API, "multi", &index, 4);
    put(&registry, API, "v2", &build("two", 9), 3);
    assert_eq!(read(&registry).await.tags.len(), 3);
    assert!(reader(&registry.url()).missing_rights(&[api()]).await.is_empty());
    let questions: Vec<String> = registry
        .requests()
        .iter()
        .filter_map(|request| request.path.strip_prefix("/v2/_zot/ext/search?"))
        .map(|query| url::form_urlencoded::parse(query.as_bytes()).next().unwrap().1.into_owned())
        .collect();
    let (url, questions) = (registry.url(), json!(questions).to_string());
    let saw = run("zot_search.py", &[url.as_str(), USER.0, USER.1, &questions], Path::new("/dev/null")).await;
    assert_eq!(saw["asked"], json!(["ExpandedRepoInfo", "ImageList"]));
    assert_eq!((&saw["problems"], &saw["page_problems"]), (&json!([]), &json!([])));
    assert_eq!(saw["page"], json!({ "TotalCount": 3, "ItemCount": 2 }));
    let two = registry.tags(API)["v2"].to_string();
    assert_eq!(saw["tags"], json!([["v1", one.digest.to_string(), 1], ["v2", two, 1]]));
    assert_eq!(saw["tagged"], json!(["2026-11-15T12:00:00Z", "2026-11-17T12:00:00Z"]));
    let words = "Cannot query field \"Tags\" on type \"ImageSummary\".";
    assert_eq!(saw["unknown"], json!([422, words]));
    assert!(saw["same_refusal"].as_str().unwrap().starts_with(words), "{}", saw["same_refusal"]);
    assert_eq!((&saw["description"], &saw["stranger"]), (&json!("v2.1.14"), &json!(401)));
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_lists_copies_and_deletes_there() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let login = format!("{}:{}", USER.0, USER.1);
    let at = |tag: &str| format!("docker://{}/{API}{tag}", registry.host());
    let listed = skopeo(&["list-tags", "--tls-verify=false", "--creds", &login, &at("")]).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["Tags"], json!(["v1"]));
    let plain = ["--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds", &login, "--dest-creds", &login];
    let (source, target) = (at(":v1"), at(":v2"));
    skopeo(&[&["copy", "--preserve-digests"][..], &plain, &[&source, &target]].concat()).await.unwrap();
    assert_eq!(registry.tags(API)["v2"], one.digest);
    skopeo(&["delete", "--tls-verify=false", "--creds", &login, &at(":v2")]).await.unwrap();
    assert!(registry.tags(API).is_empty(), "skopeo deletes by digest");
    let stranger = skopeo(&["list-tags", "--tls-verify=false", &at("")]).await.unwrap_err();
    assert!(stranger.contains("authentication required") || stranger.contains("unauthorized"), "{stranger}");
}
