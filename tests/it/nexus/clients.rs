//! Others: Sonatype's own client against the imitation of Nexus.

use std::path::Path;

use serde_json::json;

use super::simulator::PARAMETERS;
use super::*;
use crate::support::clients::run;

#[tokio::test(flavor = "multi_thread")]
async fn sonatypes_own_client_takes_it_for_a_real_one() {
    let server = Simulator::start(noon()).await;
    let (v1, bytes) = (image("v1", 9), image("v2", 9).bytes);
    server.change(|content| content.put(KEY, "shop/api", "v1", &v1.bytes, days_ago(5)));
    server.change(|content| content.put(KEY, "shop/api", "v2", &bytes, days_ago(3)));
    for number in 0..30 {
        let tag = format!("build-{number}");
        server.change(|content| content.put(KEY, "shop/web", &tag, tag.as_bytes(), days_ago(1)));
    }
    server.change(|content| content.component("shop/api", "v1").downloaded = Some(days_ago(2)));
    let parameters = PARAMETERS.join(",");
    let saw = run("nexus_components.py", &[server.url.as_str(), &parameters], Path::new("/dev/null")).await;
    let repositories = json!([
        ["docker-group", "docker", "group"],
        ["docker-hosted", "docker", "hosted"],
        ["docker-proxy", "docker", "proxy"],
        ["maven", "maven2", "hosted"],
    ]);
    assert_eq!(saw["repositories"], repositories);
    assert_eq!((&saw["unknown_parameters"], &saw["unknown_members"]), (&json!([]), &json!([])));
    assert_eq!((&saw["pages"], &saw["components"]), (&json!(2), &json!(64)));
    let kind = "application/vnd.oci.image.manifest.v1+json";
    assert_eq!(saw["tags"]["v1"], json!([v1.digest.hex(), "2026-11-15T12:00:00+00:00", kind]));
    assert_eq!(saw["tags"]["v2"][1], "2026-11-17T12:00:00+00:00");
    assert_eq!(saw["downloaded"], json!({ "v1": "2026-11-18T12:00:00+00:00" }));
    assert_eq!((&saw["one"], &saw["wrong_password"]), (&json!(["v1"]), &json!(401)));
}
