//! The embedded GitHub itself: what it refuses.

use serde_json::Value;
use tagwarden::demo::registry::EmbeddedRegistry;

use super::{API, TOKEN, image as build, options, put, start};

/// Sends a request, and returns its status with GitHub's message.
async fn ask(registry: &EmbeddedRegistry, request: &str, token: &str, body: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().user_agent("a test").build().unwrap();
    let (method, path) = request.split_once(' ').unwrap();
    let url = format!("{}/api/v3{path}", registry.url());
    let mut request = client.request(method.parse().unwrap(), url).bearer_auth(token);
    if !body.is_empty() {
        request = request.body(body.to_owned());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    assert!(response.headers().contains_key("x-ratelimit-remaining"));
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    format!("{status} {}", body["message"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn only_what_is_described_is_answered() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    put(&registry, "contoso/shop/web", "v1", &build("web", 9), 5);
    let versions = "GET /orgs/contoso/packages/container/api/versions";
    for (request, token, body, expected) in [
        (versions, TOKEN, "", "200 "),
        ("GET /orgs/contoso/packages/container/shop%2Fweb/versions", TOKEN, "", "200 "),
        ("GET /orgs/contoso/packages/container/shop/web/versions", TOKEN, "", "404 Not Found"),
        ("GET /users/contoso/packages/container/api/versions", TOKEN, "", "404 Not Found"),
        ("GET /orgs/ada/packages/container/api/versions", TOKEN, "", "404 Not Found"),
        ("GET /orgs/contoso/packages", TOKEN, "", "422 not in the published description: `package_type`"),
        ("GET /orgs/contoso/packages?package_type=container&per_page=101", TOKEN, "", "422 "),
        ("GET /orgs/contoso/packages?package_type=container&sort=name", TOKEN, "", "422 "),
        ("GET /orgs/contoso/packages/container/api/versions?state=all", TOKEN, "", "422 "),
        (
            "GET /orgs/contoso/packages/container/api/versions",
            TOKEN,
            "{}",
            "422 not in the published description: a body",
        ),
        ("PUT /orgs/contoso/packages/container/api/versions", TOKEN, "", "404 "),
        ("DELETE /orgs/contoso/packages/container/api", TOKEN, "", "404 "),
        ("DELETE /orgs/contoso/packages/container/api/versions/1", TOKEN, "", "404 Package version not found."),
        (versions, "ghp_nobody", "", "401 Bad credentials"),
    ] {
        let found = ask(&registry, request, token, body).await;
        assert!(found.starts_with(expected), "{request}: {found}");
    }
}

#[tokio::test]
async fn the_registry_itself_deletes_nothing() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/token?service={}&scope=repository:{API}:pull", registry.url(), registry.host());
    let response = client.get(url).basic_auth("anybody", Some(TOKEN)).send().await.unwrap();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let token = body["token"].as_str().unwrap();
    for (path, status) in
        [(format!("manifests/{}", one.digest), 405), ("manifests/v1".to_owned(), 405), ("tags/list".to_owned(), 405)]
    {
        let url = format!("{}/v2/{API}/{path}", registry.url());
        let response = client.delete(url).bearer_auth(token).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
    let url = format!("{}/v2/{API}/referrers/{}", registry.url(), one.digest);
    assert_eq!(client.get(url).bearer_auth(token).send().await.unwrap().status(), 404);
    let url = format!("{}/v2/{API}/tags/list", registry.url());
    assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    assert_eq!(
        client.get(&url).bearer_auth(TOKEN).send().await.unwrap().status(),
        401,
        "GitHub's token is not the registry's"
    );
}
