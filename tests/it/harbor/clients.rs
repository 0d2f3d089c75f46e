//! Others: Harbor's own client for Python against the embedded Harbor.

use std::path::Path;

use serde_json::json;
use tagwarden::demo::image::{self, Format};

use super::{ROBOT, image as build, make_immutable, options, put, start};
use crate::support::clients::run;

#[tokio::test(flavor = "multi_thread")]
async fn harbors_own_client_takes_it_for_a_real_one() {
    let registry = start(options()).await;
    let (one, child) = (build("one", 9), build("amd64", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&child));
    put(&registry, "shop/api", "v1", &one, 5);
    assert!(registry.move_tag("shop/api", "locked", &one.digest));
    put(&registry, "shop/api", "multi", &index, 4);
    put(&registry, "shop/web/front", "v1", &build("front", 9), 3);
    make_immutable(&registry, "locked");
    let saw = run("harbor_api.py", &[&registry.url(), ROBOT.0, ROBOT.1], Path::new("/dev/null")).await;
    let (first, multi) = (one.digest.to_string(), index.digest.to_string());
    assert_eq!(saw["projects"], json!(["shop"]));
    assert_eq!(saw["repositories"], json!(["shop/api", "shop/web/front"]));
    assert_eq!(saw["artifacts"], json!({ &first: ["IMAGE", 0], &multi: ["IMAGE", 1] }));
    assert_eq!(saw["pushed"], json!(["2026-11-20T12:00:00+00:00", "2026-11-20T12:00:00+00:00"]));
    assert_eq!(saw["page"], json!([1, "2", true]));
    assert_eq!(saw["tags"], json!({ &first: ["locked", "v1"], &multi: ["multi"] }));
    assert_eq!((&saw["immutable"], &saw["nested"]), (&json!(["locked"]), &json!([["v1"]])));
    assert_eq!((&saw["moved"], &saw["locked"]), (&json!([404, "NOT_FOUND"]), &json!([412, "PRECONDITION"])));
    assert_eq!((&saw["untagged"], &saw["tagged"]), (&json!(["locked"]), &json!(["locked", "v1"])));
    assert_eq!((&saw["again"], &saw["twice"]), (&json!([404, "NOT_FOUND"]), &json!([409, "CONFLICT"])));
    assert_eq!((&saw["no_project"][0], &saw["wrong_secret"]), (&json!(403), &json!([401, "UNAUTHORIZED"])));
    assert_eq!(registry.tags("shop/api")["v1"], one.digest);
}
