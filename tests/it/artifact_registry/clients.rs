//! Google's own client for Python, by its published description, against the embedded registry; and what that refuses.

use std::path::Path;

use serde_json::json;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::ArtifactRepository;

use super::{API, TOKEN, image as build, options, put, start};
use crate::support::clients::run;

#[tokio::test(flavor = "multi_thread")]
async fn googles_own_client_takes_it_for_a_real_one() {
    let immutable = ArtifactRepository { immutable_tags: true, ..ArtifactRepository::default() };
    let registry = start(options().repository("acme/locked", immutable)).await;
    let (one, amd64) = (build("one", 9), build("amd64", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&amd64));
    put(&registry, API, "v1", &one, 5);
    assert!(registry.move_tag(API, "stable", &one.digest));
    put(&registry, API, "multi", &index, 4);
    put(&registry, "acme/shop/web/front", "v1", &one, 5);
    put(&registry, "acme/locked/api", "v1", &one, 5);
    let (child, first) = (amd64.digest.to_string(), one.digest.to_string());
    let arguments = [registry.url(), TOKEN.to_owned(), child.clone()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let saw = run("artifact_registry.py", &arguments, Path::new("/")).await;
    assert_eq!(saw["repositories"], json!([["locked", true], ["shop", false]]));
    assert_eq!(saw["packages"], json!(["api", "web%2Ffront"]));
    assert_eq!(saw["images"], json!({ "pages": 2, "tags": ["multi", "stable", "v1", "v1"], "children": [child] }));
    assert_eq!(saw["uploaded"], "2026-11-15T12:00:00Z");
    assert_eq!(saw["versions"], json!({ "basic": ["createTime", "name", "updateTime"], "tags": ["stable", "v1"] }));
    assert_eq!(saw["tags_of_version"], json!(["stable", "v1"]));
    assert_eq!(saw["permissions"], json!(["artifactregistry.tags.delete"]));
    assert_eq!(saw["untagged"], json!({}));
    assert_eq!(saw["after_untag"], json!(["stable"]));
    assert_eq!(saw["untagged_twice"], json!([404, "NOT_FOUND"]));
    assert!(saw["put_back"].as_str().unwrap().ends_with(&first));
    assert_eq!(saw["put_twice"], json!([409, "ALREADY_EXISTS"]));
    assert_eq!(saw["immutable"], json!([400, "FAILED_PRECONDITION"]));
    assert_eq!(saw["tagged"], json!([400, "FAILED_PRECONDITION"]));
    assert_eq!(saw["listed"], json!([400, "FAILED_PRECONDITION"]));
    assert_eq!(saw["deleted"], json!([null, true]));
    assert_eq!(saw["no_project"], json!([403, "PERMISSION_DENIED"]));
    assert_eq!(saw["no_repository"], json!([404, "NOT_FOUND"]));
    assert_eq!(saw["wrong_place"], json!([403, "PERMISSION_DENIED"]));
    assert_eq!(saw["wrong_page"], json!([400, "INVALID_ARGUMENT"]));
    assert_eq!(saw["wrong_token"], json!([401, "UNAUTHENTICATED"]));
    assert_eq!(saw["unknown_members"], json!([]), "every member of every answer is in the published description");
}
