//! The embedded GitLab: what it refuses, so that no request passes that the real one would not take, and the examples that
//! its specification publishes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tagwarden::demo::image;
use tagwarden::demo::registry::{EmbeddedRegistry, GitlabOptions, GitlabRole, GitlabScope, GitlabUser};

use super::{API, TOKEN, USER, image as build, options, put, start};

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

async fn token(registry: &EmbeddedRegistry, scope: &str) -> (u16, Value) {
    let url = format!("{}/jwt/auth?service=container_registry&scope={scope}", registry.url());
    let response = client().get(url).basic_auth(USER, Some(TOKEN)).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

/// The status of an answer with its error code, or with its `Location`.
async fn ask(registry: &EmbeddedRegistry, method: &str, path: &str, scope: &str) -> (u16, String) {
    let request = client().request(method.parse().unwrap(), format!("{}{path}", registry.url()));
    let request = if scope.is_empty() {
        request
    } else {
        request.bearer_auth(token(registry, scope).await.1["token"].as_str().unwrap())
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    if let Some(location) = response.headers().get("location") {
        return (status, location.to_str().unwrap().to_owned());
    }
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    (status, body["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn it_takes_what_is_published_and_nothing_else() {
    let registry = start(options()).await;
    let digest = put(&registry, API, "v1", &build("one", 9), 5);
    let (pull, delete) = (format!("repository:{API}:pull"), format!("repository:{API}:pull,delete"));
    let list = format!("/gitlab/v1/repositories/{API}/tags/list/");
    let unslashed = list.trim_end_matches('/');
    for (method, path, scope, expected) in [
        ("GET", "/v2/", "", (401, "UNAUTHORIZED")),
        ("GET", "/gitlab/v1/", &*pull, (200, "")),
        ("GET", &*list, "", (401, "UNAUTHORIZED")),
        ("GET", &*list, "repository:shop/backend:pull", (401, "UNAUTHORIZED")),
        ("GET", unslashed, &*pull, (301, &*list)),
        ("GET", &*format!("{list}?n=1000"), &*pull, (200, "")),
        ("GET", &*format!("{list}?n=1001"), &*pull, (400, "INVALID_QUERY_PARAMETER_VALUE")),
        ("GET", &*format!("{list}?n=0"), &*pull, (400, "INVALID_QUERY_PARAMETER_VALUE")),
        ("GET", &*format!("{list}?n=many"), &*pull, (400, "INVALID_QUERY_PARAMETER_TYPE")),
        ("GET", &*format!("{list}?last=-x"), &*pull, (400, "INVALID_QUERY_PARAMETER_VALUE")),
        ("GET", &*format!("{list}?page=2"), &*pull, (400, "INVALID_QUERY_PARAMETER_VALUE")),
        ("POST", &*list, &*pull, (405, "UNSUPPORTED")),
        (
            "GET",
            "/gitlab/v1/repositories/shop/backend/none/tags/list/",
            "repository:shop/backend/none:pull",
            (404, "NAME_UNKNOWN"),
        ),
        ("GET", "/gitlab/v1/repository-paths/shop/repositories/list/", "repository:shop/*:pull", (401, "UNAUTHORIZED")),
        ("GET", &*format!("/v2/{API}/referrers/{digest}"), &*pull, (404, "")),
        ("DELETE", &*format!("/v2/{API}/manifests/v1"), &*pull, (401, "UNAUTHORIZED")),
        ("DELETE", &*format!("/v2/{API}/manifests/v9"), &*delete, (404, "MANIFEST_UNKNOWN")),
        ("DELETE", &*format!("/v2/{API}/manifests/v1"), &*delete, (202, "")),
        ("GET", "/v2/_catalog", "registry:catalog:*", (401, "UNAUTHORIZED")),
    ] {
        let found = ask(&registry, method, path, scope).await;
        assert_eq!((found.0, &*found.1), expected, "{method} {path} {scope}");
    }
}

/// The scope, and the entry of the token for it: the cases of `container_registry_authentication_service_spec.rb`.
#[tokio::test]
async fn tokens_hold_what_is_granted_and_nothing_else() {
    for (role, scopes, scope, expected) in [
        (GitlabRole::Maintainer, &[GitlabScope::Api][..], "pull,delete", Some(json!(["pull", "delete"]))),
        (GitlabRole::Maintainer, &[GitlabScope::Api], "*", Some(json!(["*"]))),
        (GitlabRole::Developer, &[GitlabScope::Api], "pull,push,delete", Some(json!(["pull", "push"]))),
        (GitlabRole::Developer, &[GitlabScope::Api], "delete", None),
        (GitlabRole::Reporter, &[GitlabScope::Api], "pull,push", Some(json!(["pull"]))),
        (GitlabRole::Owner, &[GitlabScope::ReadRegistry], "pull,delete", Some(json!(["pull"]))),
        (GitlabRole::Owner, &[GitlabScope::WriteRegistry], "pull,push", Some(json!(["push"]))),
    ] {
        let user = GitlabUser::new(USER, TOKEN, scopes, "shop", role);
        let registry = start(GitlabOptions { users: vec![user], ..options() }).await;
        let (status, body) = token(&registry, &format!("repository:{API}:{scope}")).await;
        assert_eq!(status, 200);
        let payload = body["token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let entry = &claims["access"][0];
        assert_eq!(entry.get("actions").cloned(), expected, "{role:?} {scopes:?} {scope}");
        if expected.is_some() {
            assert_eq!(
                (&entry["meta"]["project_path"], &entry["meta"]["project_id"]),
                (&json!("shop/backend"), &json!(7))
            );
        }
    }
    let registry = start(options()).await;
    let url = format!("{}/jwt/auth?service=container_registry&scope=repository:{API}:pull", registry.url());
    let wrong = client().get(&url).basic_auth(USER, Some("wrong")).send().await.unwrap();
    let anonymous = client().get(&url).send().await.unwrap();
    assert_eq!((wrong.status().as_u16(), anonymous.status().as_u16()), (401, 403));
}

/// The example of the specification, with its pages and links.
#[tokio::test]
async fn pages_are_those_of_the_specification() {
    let registry = start(options()).await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        put(&registry, API, name, &build("one", 9), 5);
    }
    let bearer = token(&registry, &format!("repository:{API}:pull")).await.1["token"].as_str().unwrap().to_owned();
    let list = format!("/gitlab/v1/repositories/{API}/tags/list/");
    let previous = |before: &str| format!("<{list}?before={before}&n=2>; rel=\"previous\"");
    let next = |last: &str| format!("<{list}?last={last}&n=2>; rel=\"next\"");
    for (query, names, link) in [
        ("n=2&referrers=true", &["a", "b"][..], Some(next("b"))),
        ("n=2&last=b", &["c", "d"], Some(format!("{}, {}", previous("c"), next("d")))),
        ("n=2&last=d", &["e", "f"], Some(previous("e"))),
        ("name_exact=c&n=2", &["c"], None),
        ("name_exact=x", &[], None),
    ] {
        let url = format!("{}{list}?{query}", registry.url());
        let response = client().get(url).bearer_auth(&bearer).send().await.unwrap();
        let found = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        assert_eq!(found, link, "{query}");
        let rows: Vec<Value> = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(rows.iter().map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), names, "{query}");
    }
}

#[tokio::test]
async fn a_manifest_without_references_is_collected_after_a_day_and_its_parts_a_day_later() {
    let registry = start(options()).await;
    let shared = build("shared", 9);
    let index = image::index(image::Format::Oci, &[build("amd64", 9), shared.clone()]);
    put(&registry, API, "v1", &index, 5);
    put(&registry, API, "v2", &index, 5);
    put(&registry, API, "shared", &shared, 5);
    let delete = format!("repository:{API}:delete");
    let there = |digest| registry.manifest(API, digest).is_some();
    ask(&registry, "DELETE", &format!("/v2/{API}/manifests/v1"), &delete).await;
    registry.advance_time(jiff::SignedDuration::from_hours(30));
    assert!(there(&index.digest), "another tag names it");
    ask(&registry, "DELETE", &format!("/v2/{API}/manifests/v2"), &delete).await;
    registry.advance_time(jiff::SignedDuration::from_hours(25));
    assert_eq!((there(&index.digest), there(&index.children[0].digest)), (false, true));
    registry.advance_time(jiff::SignedDuration::from_hours(24));
    assert_eq!((there(&index.children[0].digest), there(&shared.digest)), (false, true));
}
