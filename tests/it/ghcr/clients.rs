//! Others: GitHub's own client for JavaScript against the embedded registry.

use std::path::Path;

use serde_json::json;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::GithubToken;

use super::{API, TOKEN, image as build, options, put, start};
use crate::support::clients::run;

#[tokio::test(flavor = "multi_thread")]
async fn githubs_own_client_takes_it_for_a_real_one() {
    let registry = start(options().token(GithubToken::classic("ghp_reader", "bot", &["read:packages"]))).await;
    let (one, amd64) = (build("one", 9), build("amd64", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&amd64));
    put(&registry, API, "v1", &one, 5);
    assert!(registry.move_tag(API, "stable", &one.digest));
    put(&registry, API, "multi", &index, 4);
    put(&registry, "contoso/shop/web", "v1", &build("web", 9), 3);
    let endpoint = format!("{}/api/v3", registry.url());
    let saw = run("github_octokit.cjs", &[&endpoint, TOKEN, "ghp_reader"], Path::new("/dev/null")).await;
    assert_eq!(saw["packages"], json!([["api", "private", 3], ["shop/web", "private", 1]]));
    assert_eq!(
        (&saw["pages"], &saw["slashed"], &saw["owner"]),
        (&json!(2), &json!("shop/web"), &json!("Organization"))
    );
    let tags: Vec<_> = saw["versions"].as_array().unwrap().iter().map(|version| version[1].clone()).collect();
    assert_eq!(tags.len(), 3);
    assert_eq!(
        (&tags[2], tags.contains(&json!(["multi"])), tags.contains(&json!([]))),
        (&json!(["stable", "v1"]), true, true)
    );
    assert_eq!(saw["pushed"], "2026-11-16T12:00:00Z");
    assert_eq!(saw["one"], json!(["stable", "v1"]));
    assert_eq!(saw["scopes"], "read:packages, write:packages, delete:packages");
    assert_eq!(saw["limit"], "5000");
    assert_eq!(saw["delete_as_reader"], "404 Package not found.");
    assert_eq!(saw["deleted"], 204);
    assert_eq!(saw["delete_again"], "404 Package version not found.");
    assert_eq!(saw["gone"], "404 Package not found.");
    assert_eq!(saw["deleted_versions"], json!([[one.digest.to_string(), ["stable", "v1"]]]));
    assert_eq!((&saw["restored"], &saw["back"]), (&json!(204), &json!([true, ["stable", "v1"]])));
    assert_eq!(
        saw["last"],
        "400 You cannot delete the last version of a package. You must delete the package instead."
    );
    assert_eq!(saw["no_token"], "401 Bad credentials");
    assert_eq!(registry.tags(API)["stable"], one.digest);
}
