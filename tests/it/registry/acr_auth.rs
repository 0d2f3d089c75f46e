//! Signing in to Azure Container Registry, seen from the requests that it is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future;
use serde_json::{Value, json};
use tagwarden::registry::providers::{Acr, Distribution};
use tagwarden::registry::{
    Auth, DistributionReader, RegistryErrorKind, RegistryReader, RegistrySettings, RegistryWriter,
};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{answer, name, ok_json, quick, refusal, seen, settings, tag};
use crate::support::lease::writer_of;
use crate::support::removal::untag;

fn jwt(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// As who came with a refresh token, as `az acr login --expose-token` gives it.
fn acr(server: &MockServer) -> RegistrySettings {
    let auth = Auth::Basic { username: "00000000-0000-0000-0000-000000000000".into(), password: "refresh".into() };
    RegistrySettings { auth, provider: &Acr, ..settings(&server.uri()) }
}

fn reader(server: &MockServer) -> DistributionReader {
    DistributionReader::with_retry_policy(acr(server), quick()).unwrap()
}

fn writer(server: &MockServer) -> Arc<dyn RegistryWriter> {
    writer_of(&Distribution, acr(server), quick())
}

async fn challenged(server: &MockServer) {
    let challenge = format!("Bearer realm=\"{}/oauth2/token\",service=\"contoso.azurecr.io\"", server.uri());
    let refusal = refusal(401, "UNAUTHORIZED").insert_header("www-authenticate", challenge.as_str());
    Mock::given(path("/v2/")).respond_with(refusal.clone()).mount(server).await;
    Mock::given(path("/v2/_catalog")).respond_with(refusal).with_priority(9).mount(server).await;
}

/// Gives tokens of all that is asked for but what is withheld, numbered in `jti`.
async fn token_service(server: &MockServer, withheld: &'static str) {
    let number = AtomicUsize::new(1);
    let service = move |request: &Request| {
        let fields: Vec<(String, String)> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        let scopes = &fields.iter().find(|(key, _)| key == "scope").unwrap().1;
        let access: Vec<Value> = scopes
            .split(' ')
            .map(|scope| {
                let (rest, actions) = scope.rsplit_once(':').unwrap();
                let (kind, name) = rest.split_once(':').unwrap();
                let actions: Vec<&str> = actions.split(',').filter(|action| *action != withheld).collect();
                json!({ "Type": kind, "Name": name, "Actions": actions })
            })
            .collect();
        let number = number.fetch_add(1, Ordering::Relaxed);
        let claims = json!({ "jti": number, "exp": 4_102_444_800_u64, "access": access });
        ResponseTemplate::new(200).set_body_json(json!({ "access_token": jwt(&claims) }))
    };
    Mock::given(method("POST")).and(path("/oauth2/token")).respond_with(service).mount(server).await;
}

/// Answers the catalogue to whoever brings the token of that number.
async fn catalogue_for(server: &MockServer, wanted: u64) {
    let bearer = move |request: &Request| {
        let sent = request.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let claims = sent.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        claims.and_then(|claims| serde_json::from_slice::<Value>(&claims).ok()).is_some_and(|it| it["jti"] == wanted)
    };
    let catalogue = ok_json(&json!({ "repositories": ["app"] }));
    Mock::given(path("/v2/_catalog")).and(bearer).respond_with(catalogue).with_priority(1).mount(server).await;
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_is_renewed_once_for_all_who_used_it() {
    let server = MockServer::start().await;
    challenged(&server).await;
    token_service(&server, "").await;
    catalogue_for(&server, 2).await;
    let one = reader(&server);
    let answers = future::join_all((0..4).map(|_| one.catalogue())).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let tokens = seen(&server).await.iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(tokens, 2, "the first was refused, the second was good for everyone");

    // One that is never good is not renewed for ever.
    let server = MockServer::start().await;
    challenged(&server).await;
    token_service(&server, "").await;
    let error = reader(&server).catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    assert_eq!(seen(&server).await.len(), 1 + 2 * 2, "ping, and twice a token and the catalogue");
    assert!(!error.chain().contains("refresh\"") && !error.chain().contains("e30."), "{error}");
}

#[tokio::test]
async fn what_the_token_does_not_allow_is_not_even_tried() {
    let server = MockServer::start().await;
    challenged(&server).await;
    token_service(&server, "delete").await;
    let error = untag(&writer(&server), &name("app"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    for part in ["`delete`", "`app`", "AcrDelete"] {
        assert!(error.chain().contains(part), "{part}: {error}");
    }
    assert!(seen(&server).await.iter().all(|line| !line.starts_with("DELETE")));
}

#[tokio::test]
async fn a_throttled_deletion_comes_back_after_the_pause_and_is_counted() {
    let server = MockServer::start().await;
    challenged(&server).await;
    token_service(&server, "").await;
    let busy = refusal(429, "TOOMANYREQUESTS").insert_header("retry-after", "0");
    answer(&server, "DELETE", "/v2/app/manifests/v1", busy).await;
    let error = untag(&writer(&server), &name("app"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Throttled, "what it rests on is looked at again first");
    assert_eq!(seen(&server).await.iter().filter(|line| line.starts_with("DELETE")).count(), 1);
}

#[tokio::test]
async fn a_password_is_sent_to_the_token_service_and_not_with_each_request() {
    let server = MockServer::start().await;
    challenged(&server).await;
    let claims = json!({ "jti": 1, "exp": 4_102_444_800_u64, "access": [
        { "type": "registry", "name": "catalog", "actions": ["*"] },
        { "type": "repository", "name": "*", "actions": ["metadata_read"] },
    ] });
    Mock::given(method("GET"))
        .and(path("/oauth2/token"))
        .and(header("authorization", "Basic YWRhOnNlc2FtZQ=="))
        .respond_with(ok_json(&json!({ "access_token": jwt(&claims) })))
        .expect(1)
        .mount(&server)
        .await;
    catalogue_for(&server, 1).await;
    let auth = Auth::Basic { username: "ada".into(), password: "sesame".into() };
    let settings = RegistrySettings { auth, ..acr(&server) };
    let reader = DistributionReader::with_retry_policy(settings, quick()).unwrap();
    assert_eq!(reader.catalogue().await.unwrap().repositories, [name("app")]);
    assert_eq!(reader.identity(), "user ada");
}
