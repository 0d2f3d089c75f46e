//! Others: a library for GitLab's REST API, and a client for registries, against the embedded one.

use std::path::Path;

use serde_json::{Value, json};
use tagwarden::demo::registry::{GitlabRole, GitlabScope, GitlabUser};

use super::{API, TOKEN, USER, image as build, options, put, start};
use crate::support::clients::run;
use crate::support::skopeo::skopeo;

#[tokio::test(flavor = "multi_thread")]
async fn a_library_for_gitlab_takes_it_for_a_real_one() {
    let narrow = GitlabUser::new("bot", "glpat-narrow", &[GitlabScope::ReadRegistry], "shop", GitlabRole::Maintainer);
    let registry = start(options().user(narrow)).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    put(&registry, "shop/backend/worker", "v1", &build("two", 9), 5);
    let saw = run("gitlab_rest.py", &[&registry.url(), TOKEN, "glpat-narrow"], Path::new("/dev/null")).await;
    assert_eq!(saw["user"], USER);
    assert_eq!(saw["group"], json!([[API, 7], ["shop/backend/worker", 7]]));
    assert_eq!((&saw["project"], &saw["policy"]), (&json!([7, "shop/backend"]), &json!(false)));
    assert_eq!((&saw["of_project"], &saw["tags"]), (&json!([API, "shop/backend/worker"]), &json!(["v1"])));
    assert_eq!(saw["no_group"], json!([404, "404 Group Not Found"]));
    assert_eq!((&saw["narrow"][0], &saw["stranger"]), (&json!(403), &json!([401, "401 Unauthorized"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_signs_in_at_the_token_service() {
    let reader = GitlabUser::new("bot", "glpat-reader", &[GitlabScope::ReadRegistry], "shop", GitlabRole::Reporter);
    let registry = start(options().user(reader)).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let login = format!("{USER}:{TOKEN}");
    let at = |tag: &str| format!("docker://{}/{API}{tag}", registry.host());
    let listed = skopeo(&["list-tags", "--tls-verify=false", "--creds", "bot:glpat-reader", &at("")]).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["Tags"], json!(["v1"]));
    let copy = async |login: &str| {
        let plain = ["copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
        let (source, target) = (at(":v1"), at(":v2"));
        let signed = ["--src-creds", login, "--dest-creds", login, &source, &target];
        skopeo(&[&plain[..], &signed].concat()).await
    };
    copy("bot:glpat-reader").await.unwrap_err();
    assert!(!registry.tags(API).contains_key("v2"), "its token does not allow to push");
    copy(&login).await.unwrap();
    assert_eq!(registry.tags(API)["v2"], one.digest);
}
