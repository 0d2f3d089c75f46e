use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tagwarden::demo::registry::{Action, AuthMode, EmbeddedRegistry, Options};

use super::{get, header, image, request, start, status_and_code};

fn bearer(anonymous_pull: bool, lifetime: Duration) -> AuthMode {
    AuthMode::Bearer { user: "ci".into(), password: "secret".into(), lifetime, anonymous_pull }
}

const HOUR: Duration = Duration::from_hours(1);

async fn token(registry: &EmbeddedRegistry, signed_in: bool, scope: &str) -> Result<String, u16> {
    let path = format!("/token?service={}&scope={scope}", registry.host());
    let mut asked = request(registry, Method::GET, &path);
    if signed_in {
        asked = asked.basic_auth("ci", Some("secret"));
    }
    let response = asked.send().await.unwrap();
    if response.status() != 200 {
        return Err(response.status().as_u16());
    }
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["token"], body["access_token"]);
    Ok(body["token"].as_str().unwrap().to_owned())
}

async fn status(registry: &EmbeddedRegistry, method: Method, path: &str, token: &str) -> u16 {
    request(registry, method, path).bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn basic_authentication_is_asked_for_and_checked() {
    let auth = AuthMode::Basic { user: "ci".into(), password: "s:e".into() };
    let registry = start(Options { auth, denied: vec![Action::Delete], ..Options::default() }).await;
    registry.put_image("a", "v1", &image("one"));
    let response = get(&registry, "/v2/").await;
    assert!(header(&response, "www-authenticate").starts_with("Basic realm="));
    assert_eq!(status_and_code(response).await, (401, "UNAUTHORIZED".into()));
    for (password, expected) in [("wrong", 401), ("s:e", 200)] {
        let response = request(&registry, Method::GET, "/v2/").basic_auth("ci", Some(password)).send().await.unwrap();
        assert_eq!(response.status(), expected);
    }
    let refused = request(&registry, Method::DELETE, "/v2/a/manifests/v1").basic_auth("ci", Some("s:e")).send().await;
    assert_eq!(status_and_code(refused.unwrap()).await, (403, "DENIED".into()));
}

#[tokio::test]
async fn a_challenge_names_what_is_needed() {
    let registry = start(Options { auth: bearer(true, HOUR), ..Options::default() }).await;
    let realm = format!("Bearer realm=\"{}/token\",service=\"{}\"", registry.url(), registry.host());
    for (method, path, scope) in [
        (Method::GET, "/v2/", ""),
        (Method::GET, "/v2/_catalog", ",scope=\"registry:catalog:*\""),
        (Method::GET, "/v2/a/b/tags/list", ",scope=\"repository:a/b:pull\""),
        (Method::PUT, "/v2/a/b/manifests/x", ",scope=\"repository:a/b:pull,push\""),
        (Method::DELETE, "/v2/a/b/manifests/x", ",scope=\"repository:a/b:delete\""),
        (Method::POST, "/v2/a/blobs/uploads/?from=c", ",scope=\"repository:a:pull,push repository:c:pull\""),
    ] {
        let response = request(&registry, method, path).send().await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(header(&response, "www-authenticate"), format!("{realm}{scope}"), "{path}");
    }
}

#[tokio::test]
async fn a_token_allows_what_it_was_asked_for_and_no_more() {
    let registry = start(Options { auth: bearer(false, HOUR), ..Options::default() }).await;
    registry.put_image("a", "v1", &image("one"));
    registry.put_image("b", "v1", &image("one"));
    let pull = token(&registry, true, "repository:a:pull").await.unwrap();
    assert_eq!(status(&registry, Method::GET, "/v2/", &pull).await, 200);
    assert_eq!(status(&registry, Method::GET, "/v2/a/manifests/v1", &pull).await, 200);
    for (method, path) in [
        (Method::GET, "/v2/b/manifests/v1"),
        (Method::DELETE, "/v2/a/manifests/v1"),
        (Method::POST, "/v2/a/blobs/uploads/"),
        (Method::GET, "/v2/_catalog"),
    ] {
        let response = request(&registry, method, path).bearer_auth(&pull).send().await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
        assert!(header(&response, "www-authenticate").ends_with(",error=\"insufficient_scope\""), "{path}");
    }
    let all =
        token(&registry, true, "repository:a:pull,delete%20repository:b:*&scope=registry:catalog:*").await.unwrap();
    assert_eq!(status(&registry, Method::GET, "/v2/_catalog", &all).await, 200);
    assert_eq!(status(&registry, Method::DELETE, "/v2/a/manifests/v1", &all).await, 202);
    assert_eq!(status(&registry, Method::POST, "/v2/b/blobs/uploads/", &all).await, 202);
    assert_eq!(status(&registry, Method::POST, "/v2/a/blobs/uploads/", &all).await, 401);
}

#[tokio::test]
async fn tokens_are_given_to_those_who_may_have_them() {
    let open = start(Options { auth: bearer(true, HOUR), ..Options::default() }).await;
    open.put_image("a", "v1", &image("one"));
    let anonymous = token(&open, false, "repository:a:pull,push,delete").await.unwrap();
    assert_eq!(status(&open, Method::GET, "/v2/a/manifests/v1", &anonymous).await, 200);
    assert_eq!(status(&open, Method::DELETE, "/v2/a/manifests/v1", &anonymous).await, 401);

    let closed = start(Options { auth: bearer(false, HOUR), ..Options::default() }).await;
    assert_eq!(token(&closed, false, "repository:a:pull").await, Err(401));
    let wrong = request(&closed, Method::GET, "/token?scope=repository:a:pull").basic_auth("ci", Some("x"));
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    let form = [("grant_type", "password"), ("username", "ci"), ("password", "secret"), ("scope", "repository:a:pull")];
    let granted = request(&closed, Method::POST, "/token").form(&form).send().await.unwrap();
    assert_eq!(granted.status(), 200);

    // An identity that may not delete gets a token all the same, only without that action.
    let denied = vec![Action::Delete];
    let limited = start(Options { auth: bearer(false, HOUR), denied, ..Options::default() }).await;
    limited.put_image("a", "v1", &image("one"));
    let token = token(&limited, true, "repository:a:pull,delete").await.unwrap();
    assert_eq!(status(&limited, Method::GET, "/v2/a/manifests/v1", &token).await, 200);
    assert_eq!(status(&limited, Method::DELETE, "/v2/a/manifests/v1", &token).await, 401);
}

#[tokio::test]
async fn tokens_expire() {
    let registry = start(Options { auth: bearer(false, HOUR), ..Options::default() }).await;
    let good = token(&registry, true, "registry:catalog:*").await.unwrap();
    assert_eq!(status(&registry, Method::GET, "/v2/_catalog", &good).await, 200);
    registry.expire_tokens();
    let response = request(&registry, Method::GET, "/v2/_catalog").bearer_auth(&good).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(header(&response, "www-authenticate").ends_with(",error=\"invalid_token\""));

    let short = start(Options { auth: bearer(false, Duration::ZERO), ..Options::default() }).await;
    let spent = token(&short, true, "registry:catalog:*").await.unwrap();
    assert_eq!(status(&short, Method::GET, "/v2/_catalog", &spent).await, 401);
}
