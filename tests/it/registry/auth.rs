//! Which credentials go where, and tokens that end.

use serde_json::json;
use tagwarden::registry::providers::Distribution;
use tagwarden::registry::{Auth, DistributionReader, RegistryErrorKind, RegistryReader, RegistrySettings};
use wiremock::matchers::{body_string_contains, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{answer, name, ok_json, quick, raw, refusal, seen, settings, tag};
use crate::support::content::{config, image};
use crate::support::encodings::as_windows_saves;
use crate::support::lease::writer_of;
use crate::support::removal::{delete_manifest, untag};

/// `ada:open:sesame`.
const BASIC: &str = "Basic YWRhOm9wZW46c2VzYW1l";

fn ada() -> Auth {
    Auth::Basic { username: "ada".into(), password: "open:sesame".into() }
}

fn reader(server: &MockServer, auth: Auth) -> DistributionReader {
    reader_by(RegistrySettings { auth, ..settings(&server.uri()) })
}

fn reader_by(settings: RegistrySettings) -> DistributionReader {
    DistributionReader::with_retry_policy(settings, quick()).unwrap()
}

fn challenge(realm: &str) -> ResponseTemplate {
    let value = format!("Bearer realm=\"{realm}\",service=\"the registry\"");
    refusal(401, "UNAUTHORIZED").insert_header("www-authenticate", value.as_str())
}

/// A registry that shows its catalogue to the bearer of `token` and asks everyone else to get one from `realm`.
async fn guarded(server: &MockServer, realm: &str, token: &str) {
    Mock::given(path("/v2/_catalog"))
        .and(header("authorization", format!("Bearer {token}")))
        .respond_with(ok_json(&json!({"repositories": ["app"]})))
        .mount(server)
        .await;
    answer(server, "GET", "/v2/_catalog", challenge(realm)).await;
    answer(server, "GET", "/v2/", challenge(realm)).await;
}

/// Every `Authorization` that a server saw.
async fn signatures(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.unwrap();
    let values = requests.iter().filter_map(|request| request.headers.get("authorization"));
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_token_is_fetched_with_the_password_and_used_again() {
    for key in ["token", "access_token"] {
        let server = MockServer::start().await;
        guarded(&server, &format!("{}/token", server.uri()), "t1").await;
        Mock::given(path("/token"))
            .and(query_param("service", "the registry"))
            .and(query_param("scope", "registry:catalog:*"))
            .and(header("authorization", BASIC))
            .respond_with(ok_json(&json!({key: "t1", "expires_in": 3600})))
            .expect(1)
            .mount(&server)
            .await;
        let reader = reader(&server, ada());
        for _ in 0..3 {
            assert_eq!(reader.catalogue().await.unwrap().repositories, [name("app")]);
        }
        assert_eq!(reader.request_counts().total, 1 + 1 + 3, "ping, token, three catalogues");
        assert_eq!(signatures(&server).await.iter().filter(|value| *value == BASIC).count(), 1);
    }
}

#[tokio::test]
async fn anonymous_reading_gets_a_token_without_credentials() {
    let (server, tokens) = (MockServer::start().await, MockServer::start().await);
    guarded(&server, &format!("{}/token", tokens.uri()), "public").await;
    answer(&tokens, "GET", "/token", ok_json(&json!({"token": "public"}))).await;
    // Nobody's credentials are at stake, but the registry may not choose which addresses are asked from here.
    let error = reader(&server, Auth::Anonymous).catalogue().await.unwrap_err();
    let other = tokens.address().to_string();
    assert!(error.chain().contains(&format!("`token_hosts = [\"{other}\"]`")), "{error}");
    assert!(seen(&tokens).await.is_empty());
    let listed = RegistrySettings { token_hosts: vec![other], ..settings(&server.uri()) };
    assert!(reader_by(listed).catalogue().await.is_ok());
    assert!(signatures(&tokens).await.is_empty());
}

#[tokio::test]
async fn scopes_that_a_token_service_does_not_know_are_asked_in_another_way() {
    let server = MockServer::start().await;
    answer(&server, "GET", "/v2/", challenge(&format!("{}/token", server.uri()))).await;
    let scoped = |scope: &str| Mock::given(path("/token")).and(query_param("scope", scope));
    let token = |token: &str| ok_json(&json!({"token": token, "expires_in": 3600}));
    scoped("repository:app:pull,push").respond_with(token("push")).expect(1).mount(&server).await;
    scoped("repository:other:pull,push").respond_with(token("push")).expect(1).mount(&server).await;
    scoped("repository:app:pull").respond_with(token("pull")).expect(1).mount(&server).await;
    for unknown in ["registry:catalog:*", "repository:app:pull,delete"] {
        scoped(unknown).respond_with(refusal(400, "INVALID_REQUEST")).expect(1).mount(&server).await;
    }
    answer(&server, "GET", "/token", token("bare")).await;
    Mock::given(path("/v2/_catalog"))
        .and(header("authorization", "Bearer bare"))
        .respond_with(ok_json(&json!({"repositories": ["app"]})))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("DELETE"))
        .and(header("authorization", "Bearer push"))
        .respond_with(ResponseTemplate::new(404))
        .expect(3)
        .mount(&server)
        .await;
    let manifest = image(&config("", "x"), &[]);
    Mock::given(method("GET"))
        .and(header("authorization", "Bearer pull"))
        .respond_with(raw(&manifest))
        .expect(1)
        .mount(&server)
        .await;
    let registry = RegistrySettings { auth: ada(), ..settings(&server.uri()) };
    let one = reader_by(registry.clone());
    assert!(one.catalogue().await.is_ok());
    assert!(
        one.manifest(&name("app"), &manifest.digest).await.unwrap().is_some(),
        "reading asks for no more than pull"
    );
    let writer = writer_of(&Distribution, registry, quick());
    untag(&writer, &name("app"), &tag("v1")).await.unwrap();
    untag(&writer, &name("other"), &tag("v1")).await.unwrap();
    // What was found out for one repository holds for all, and its token is used again.
    delete_manifest(&writer, &name("app"), &manifest.bytes).await.unwrap();
}

#[tokio::test]
async fn a_token_that_has_ended_is_fetched_anew() {
    let server = MockServer::start().await;
    guarded(&server, &format!("{}/token", server.uri()), "t1").await;
    let ended = ok_json(&json!({"token": "t1", "expires_in": 60, "issued_at": "2001-01-01T00:00:00Z"}));
    Mock::given(path("/token")).respond_with(ended).expect(2).mount(&server).await;
    let reader = reader(&server, ada());
    reader.catalogue().await.unwrap();
    reader.catalogue().await.unwrap();
}

#[tokio::test]
async fn a_401_in_the_middle_renews_the_token_once() {
    let server = MockServer::start().await;
    answer(&server, "GET", "/v2/", challenge(&format!("{}/token", server.uri()))).await;
    let first = ok_json(&json!({"token": "revoked", "expires_in": 3600}));
    Mock::given(path("/token")).respond_with(first).up_to_n_times(1).mount(&server).await;
    answer(&server, "GET", "/token", ok_json(&json!({"token": "good", "expires_in": 3600}))).await;
    guarded(&server, &format!("{}/token", server.uri()), "good").await;
    let one = reader(&server, ada());
    assert!(one.catalogue().await.is_ok());
    assert_eq!(one.request_counts().total, 1 + 1 + 1 + 1 + 1, "ping, token, 401, token, catalogue");

    // Where a new token does not help either, it is told and not tried for ever.
    let server = MockServer::start().await;
    guarded(&server, &format!("{}/token", server.uri()), "never").await;
    answer(&server, "GET", "/token", ok_json(&json!({"token": "useless", "expires_in": 3600}))).await;
    let one = reader(&server, ada());
    let error = one.catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    assert_eq!(one.request_counts().total, 5);
}

#[tokio::test]
async fn a_scope_that_the_registry_asks_for_is_added() {
    let server = MockServer::start().await;
    let realm = format!("{}/token", server.uri());
    let wants = format!("Bearer realm=\"{realm}\",scope=\"repository:app:metadata_read\"");
    let refusal = || refusal(401, "UNAUTHORIZED").insert_header("www-authenticate", wants.as_str());
    answer(&server, "GET", "/v2/", refusal()).await;
    Mock::given(path("/token"))
        .and(query_param("scope", "repository:app:metadata_read"))
        .respond_with(ok_json(&json!({"token": "broad", "expires_in": 60})))
        .mount(&server)
        .await;
    answer(&server, "GET", "/token", ok_json(&json!({"token": "narrow", "expires_in": 60}))).await;
    let digest = image(&config("", "x"), &[]).digest;
    Mock::given(path("/v2/app/manifests/v1"))
        .and(header("authorization", "Bearer broad"))
        .respond_with(ResponseTemplate::new(200).insert_header("docker-content-digest", digest.to_string()))
        .mount(&server)
        .await;
    answer(&server, "HEAD", "/v2/app/manifests/v1", refusal()).await;
    assert_eq!(
        reader(&server, ada()).resolve(&name("app"), &tag("v1")).await.map(|now| now.map(|now| now.digest)),
        Ok(Some(digest))
    );
}

#[tokio::test]
async fn a_realm_on_another_host_gets_nothing() {
    let (server, thief) = (MockServer::start().await, MockServer::start().await);
    guarded(&server, &format!("{}/token", thief.uri()), "t1").await;
    answer(&thief, "GET", "/token", ok_json(&json!({"token": "t1"}))).await;
    let error = reader(&server, ada()).catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    let (own, other) = (server.address().to_string(), thief.address().to_string());
    for part in [&own, &other, "token_hosts"] {
        assert!(error.chain().contains(part), "{part}: {error}");
    }
    assert!(seen(&thief).await.is_empty(), "it was not even asked");

    let listed = RegistrySettings { auth: ada(), token_hosts: vec![other], ..settings(&server.uri()) };
    assert!(reader_by(listed).catalogue().await.is_ok());
    assert_eq!(signatures(&thief).await, [BASIC]);
}

#[tokio::test]
async fn a_static_token_is_sent_as_it_is_and_to_the_registry_only() {
    let (server, thief) = (MockServer::start().await, MockServer::start().await);
    guarded(&server, &format!("{}/token", thief.uri()), "mine").await;
    assert!(reader(&server, Auth::Token("mine".into())).catalogue().await.is_ok());
    let error = reader(&server, Auth::Token("old".into())).catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    assert!(!error.chain().contains("old"), "{error}");
    assert!(seen(&thief).await.is_empty());

    // It is not exchanged for another one either.
    let server = MockServer::start().await;
    guarded(&server, &format!("{}/token", server.uri()), "public").await;
    answer(&server, "GET", "/token", ok_json(&json!({"token": "public"}))).await;
    assert!(reader(&server, Auth::Token("old".into())).catalogue().await.is_err());
    assert_eq!(signatures(&server).await, ["Bearer old"]);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let server = MockServer::start().await;
    guarded(&server, &format!("{}/token", server.uri()), "t1").await;
    Mock::given(method("POST"))
        .and(path("/token"))
        .and(header("content-type", "application/x-www-form-urlencoded"))
        .and(body_string_contains("grant_type=refresh_token"))
        .and(body_string_contains("refresh_token=a%2Bb"))
        .and(body_string_contains("service=the+registry"))
        .and(body_string_contains("scope=registry%3Acatalog%3A*"))
        .respond_with(ok_json(&json!({"access_token": "t1"})))
        .expect(1)
        .mount(&server)
        .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let host = server.address().to_string();
    let text = json!({"auths": {host: {"identitytoken": "a+b"}}}).to_string();
    std::fs::write(&file, &text).unwrap();
    let reader = reader(&server, Auth::DockerConfig(vec![file]));
    assert!(reader.catalogue().await.is_ok());
    assert!(reader.identity().contains("token"));
}

#[tokio::test]
async fn a_docker_configuration_may_be_saved_as_windows_does() {
    let server = MockServer::start().await;
    answer(&server, "GET", "/v2/", refusal(401, "UNAUTHORIZED").insert_header("www-authenticate", "Basic")).await;
    Mock::given(path("/v2/_catalog"))
        .and(header("authorization", BASIC))
        .respond_with(ok_json(&json!({"repositories": ["app"]})))
        .mount(&server)
        .await;
    let folder = tempfile::tempdir().unwrap();
    let auth = BASIC.strip_prefix("Basic ").unwrap();
    let text = json!({"auths": {server.address().to_string(): {"auth": auth}}}).to_string();
    for (number, encoded) in as_windows_saves(&text).into_iter().enumerate() {
        let file = folder.path().join(format!("{number}.json"));
        std::fs::write(&file, encoded).unwrap();
        let found = reader(&server, Auth::DockerConfig(vec![file])).catalogue().await.unwrap();
        assert_eq!(found.repositories.len(), 1);
    }
}

#[tokio::test]
async fn a_password_is_used_even_where_strangers_see_something() {
    let server = MockServer::start().await;
    answer(&server, "GET", "/v2/", ResponseTemplate::new(200)).await;
    Mock::given(path("/v2/_catalog"))
        .and(header("authorization", BASIC))
        .respond_with(ok_json(&json!({"repositories": ["app", "private"]})))
        .mount(&server)
        .await;
    answer(&server, "GET", "/v2/_catalog", ok_json(&json!({"repositories": ["app"]}))).await;
    assert_eq!(reader(&server, ada()).catalogue().await.unwrap().repositories.len(), 2);
}

#[tokio::test]
async fn a_token_service_that_fails_is_told_without_secrets() {
    let page = ResponseTemplate::new(200).set_body_string("<html>sesame</html>");
    let cases = [
        (refusal(401, "UNAUTHORIZED"), RegistryErrorKind::Denied),
        (refusal(500, "UNKNOWN"), RegistryErrorKind::Status(500)),
        (page, RegistryErrorKind::Malformed),
        (ok_json(&json!({"token": null})), RegistryErrorKind::Malformed),
        (ResponseTemplate::new(302).insert_header("location", "https://evil.example/"), RegistryErrorKind::Status(302)),
    ];
    for (reply, kind) in cases {
        let server = MockServer::start().await;
        guarded(&server, &format!("{}/token", server.uri()), "t1").await;
        answer(&server, "GET", "/token", reply).await;
        let error = reader(&server, ada()).catalogue().await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.chain().contains("/token") && !error.chain().contains("sesame"), "{error}");
    }
}

#[tokio::test]
async fn a_blob_elsewhere_is_fetched_without_the_registrys_credentials() {
    let (server, storage) = (MockServer::start().await, MockServer::start().await);
    let image = image(&config("", "x"), &[]);
    let at_storage = format!("{}/blob?signature=secret", storage.uri());
    answer(&server, "GET", "/v2/", ResponseTemplate::new(200)).await;
    let moved = ResponseTemplate::new(307).insert_header("location", at_storage.as_str());
    answer(&server, "GET", &format!("/v2/app/manifests/{}", image.digest), moved).await;
    Mock::given(path("/blob")).respond_with(raw(&image)).up_to_n_times(1).mount(&storage).await;
    let reader = reader(&server, ada());
    assert!(reader.manifest(&name("app"), &image.digest).await.unwrap().is_some());
    assert_eq!(signatures(&server).await, [BASIC], "the registry itself saw them");
    assert_eq!(seen(&storage).await.len(), 1);
    assert!(signatures(&storage).await.is_empty());

    answer(&storage, "GET", "/blob", ResponseTemplate::new(403)).await;
    let error = reader.manifest(&name("app"), &image.digest).await.unwrap_err();
    assert!(!error.chain().contains("secret"), "signed addresses are secrets: {error}");
}

#[tokio::test]
async fn what_has_no_digest_is_not_believed_from_elsewhere() {
    let (server, other) = (MockServer::start().await, MockServer::start().await);
    answer(&other, "GET", "/v2/_catalog", ok_json(&json!({"repositories": []}))).await;
    let away = ResponseTemplate::new(302).insert_header("location", format!("{}/v2/_catalog", other.uri()).as_str());
    answer(&server, "GET", "/v2/_catalog", away).await;
    let error = reader(&server, ada()).catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Status(302));
    assert!(error.chain().contains(&other.uri()), "{error}");
    assert!(seen(&other).await.is_empty());

    // On the registry itself a redirect is fine, as long as it ends.
    let server = MockServer::start().await;
    let moved = ResponseTemplate::new(301).insert_header("location", "/elsewhere");
    answer(&server, "GET", "/v2/_catalog", moved).await;
    answer(&server, "GET", "/elsewhere", ok_json(&json!({"repositories": ["app"]}))).await;
    assert_eq!(reader(&server, ada()).catalogue().await.unwrap().repositories, [name("app")]);
    let server = MockServer::start().await;
    let round = ResponseTemplate::new(302).insert_header("location", "/v2/_catalog");
    answer(&server, "GET", "/v2/_catalog", round).await;
    assert!(reader(&server, ada()).catalogue().await.unwrap_err().chain().contains("redirects"));
}
