//! The embedded Docker Hub: what it refuses, so that no request passes that is not published.

use jiff::SignedDuration;
use serde_json::{Value, json};
use tagwarden::demo::registry::{DockerHubOptions, EmbeddedRegistry};

use super::{API, USER, image as build, options, put, start};

async fn token(registry: &EmbeddedRegistry) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({ "identifier": USER.0, "secret": USER.1 }).to_string();
    let request = client.post(format!("{}/v2/auth/token", registry.url())).body(body);
    let body: Value = serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

async fn ask(registry: &EmbeddedRegistry, method: &str, path: &str, token: Option<&str>) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.request(method.parse().unwrap(), format!("{}{path}", registry.url()));
    let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

#[tokio::test]
async fn it_takes_what_is_published_and_the_removal_and_nothing_else() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    let token = token(&registry).await;
    let tags = "/v2/namespaces/contoso/repositories/api/tags";
    for (method, path, signed, status) in [
        ("GET", tags.to_owned(), false, 200),
        ("GET", format!("{tags}?page=1&page_size=100"), true, 200),
        ("GET", format!("{tags}?page=2"), true, 404),
        ("GET", format!("{tags}?page=0"), true, 400),
        ("GET", format!("{tags}?ordering=name"), true, 400),
        ("HEAD", tags.to_owned(), true, 200),
        ("GET", format!("{tags}/v1"), true, 200),
        ("HEAD", format!("{tags}/v9"), true, 404),
        ("HEAD", "/v2/namespaces/contoso/repositories/api".into(), true, 200),
        ("GET", "/v2/namespaces/contoso/repositories/none/tags".into(), true, 404),
        ("GET", "/v2/namespaces/contoso/repositories?ordering=name".into(), true, 200),
        ("DELETE", format!("{tags}/v1"), true, 405),
        ("DELETE", "/v2/repositories/contoso/api/tags/v1/".into(), false, 401),
        ("DELETE", "/v2/repositories/contoso/api/tags/v9/".into(), true, 404),
        ("DELETE", "/v2/repositories/contoso/api/tags/v1/".into(), true, 204),
        ("GET", "/v2/".into(), false, 401),
        ("GET", "/v2/auth/token".into(), false, 405),
    ] {
        let found = ask(&registry, method, &path, Some(&*token).filter(|_| signed)).await;
        assert_eq!(found.0, status, "{method} {path}: {}", found.1);
    }
    registry.advance_time(SignedDuration::from_mins(10));
    assert_eq!(ask(&registry, "GET", tags, Some(&token)).await.0, 401, "a token is good for ten minutes");
}

#[tokio::test]
async fn requests_beyond_the_limit_wait_for_the_next_minute() {
    let registry = start(DockerHubOptions { requests_per_minute: 2, ..options() }).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    let path = "/v2/namespaces/contoso/repositories/api";
    for status in [200, 200, 429] {
        assert_eq!(ask(&registry, "GET", path, None).await.0, status);
    }
    registry.advance_time(SignedDuration::from_mins(1));
    assert_eq!(ask(&registry, "GET", path, None).await.0, 200);
}

#[tokio::test]
async fn a_private_repository_is_answered_as_one_that_does_not_exist() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    registry.docker_hub(|hub| hub.options.private = [API.into()].into());
    let token = token(&registry).await;
    let repository = "/v2/namespaces/contoso/repositories/api";
    for path in [repository.to_owned(), format!("{repository}/tags"), format!("{repository}/tags/v1")] {
        assert_eq!(ask(&registry, "GET", &path, Some(&token)).await.0, 200, "{path}");
        assert_eq!(ask(&registry, "GET", &path, None).await.0, 404, "{path}");
    }
    let listed = ask(&registry, "GET", "/v2/namespaces/contoso/repositories", None).await;
    assert_eq!((listed.0, &listed.1["count"]), (200, &json!(0)));
}
