//! Others: the library for Artifactory of dohq against the imitation.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::support::clients::run;

#[tokio::test(flavor = "multi_thread")]
async fn a_library_of_others_sends_the_same_searches() {
    let server = Simulator::start(noon()).await;
    let (v1, v2) = (push(&server, "v1", 5), push(&server, "v2", 3));
    server.change(|content| content.file(KEY, "shop/api/v1", MANIFEST).downloads = vec![days_ago(2)]);
    read(settings(&server.url)).await;
    let ours = server.change(|content| content.query.clone());
    let address = format!("{}/artifactory", server.url);
    let saw = run("artifactory_dohq.py", &[&address, TOKEN, &ours], Path::new("/dev/null")).await;
    assert_eq!(saw["same_query"], true, "{ours}");
    let row = |tag: &str, digest: &Digest, days| {
        json!([format!("shop/api/{tag}"), MANIFEST, digest.hex(), days_ago(days).to_string()])
    };
    assert_eq!(saw["tags"], json!([row("v1", &v1, 5), row("v2", &v2, 3)]));
    assert_eq!((&saw["second_page"], &saw["one"]), (&json!([row("v2", &v2, 3)]), &json!([row("v2", &v2, 3)])));
    let downloads = json!({ "shop/api/v1": [{ "downloads": 1, "downloaded": days_ago(2).to_string() }] });
    assert_eq!(saw["downloads"], downloads);
    let refused = saw["without_own_fields"].as_str().unwrap();
    assert!(refused.contains("Failed to parse query"), "{refused}");
    assert_eq!(saw["wrong_token"], "Bad credentials");
}
