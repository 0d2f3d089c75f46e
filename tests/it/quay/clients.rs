//! Others: the client that was generated from Quay's published description, against the embedded Quay.

use std::path::Path;

use serde_json::json;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{Attributes, QuayScope, QuayToken, Target};

use super::{TOKEN, image as build, options, put, seconds_before, start};
use crate::support::clients::run;

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_quays_description_takes_it_for_a_real_one() {
    let registry = start(options().token(QuayToken::new("reader", &[QuayScope::RepoRead], "shop"))).await;
    let (one, child) = (build("one", 9), build("amd64", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&child));
    put(&registry, "shop/api", "v1", &one, 5);
    put(&registry, "shop/api", "multi", &index, 4);
    put(&registry, "shop/api", "locked", &one, 3);
    registry.content(|content| {
        let immutable = Attributes { delete: false, write: false, ..Attributes::default() };
        *content.attributes_mut("shop/api", Target::Tag("locked")).unwrap() = immutable;
    });
    for number in 0..100 {
        put(&registry, &format!("shop/more/app-{number:03}"), "v1", &one, 3);
    }
    let (first, multi) = (one.digest.to_string(), index.digest.to_string());
    let saw = run("quay_sdk.py", &[&registry.url(), TOKEN, "reader", &first], Path::new("/dev/null")).await;
    let repositories = saw["repositories"].as_array().unwrap();
    assert_eq!((repositories.len(), &repositories[0]), (101, &json!("shop/api")), "of two pages");
    assert_eq!(saw["about"], json!(["NORMAL", 14 * 86_400, true]));
    assert_eq!(saw["pages"], 2);
    let expected = json!({
        "v1": [&first, false, seconds_before(5)],
        "multi": [&multi, true, seconds_before(4)],
        "locked": [&first, false, seconds_before(3)],
    });
    assert_eq!((&saw["tags"], &saw["one"]), (&expected, &json!([&first])));
    let keys =
        ["immutable", "is_manifest_list", "last_modified", "manifest_digest", "name", "reversion", "size", "start_ts"];
    assert_eq!(saw["keys"], json!(keys), "as Quay's source writes a tag");
    assert_eq!(saw["manifest"], json!([&first, false, true]));
    assert_eq!(saw["removed_as_reader"], json!([403, "insufficient_scope"]));
    assert_eq!(saw["stranger"], json!([401, "invalid_token"]));
    assert_eq!(saw["immutable"], json!([409, "tag_immutable"]));
    assert_eq!((&saw["removed"], &saw["removed_twice"]), (&json!(204), &json!([404, "not_found"])));
    assert_eq!((&saw["left"], &saw["history"]), (&json!(["locked", "multi"]), &json!([[&first, true]])));
    assert_eq!(saw["nothing_to_restore"], json!([404, "not_found"]));
    assert_eq!((&saw["restored"], &saw["back"]), (&json!(200), &json!([&first])));
    assert_eq!(saw["no_repository"], json!([404, "not_found"]));
    assert_eq!(registry.tags("shop/api")["v1"], one.digest);
}
