//! Access tokens, each from where an identity has them, against what Google's own documentation says of it.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tagwarden::demo::registry::{ArtifactRegistryOptions, EmbeddedRegistry, Fault, ServiceAccount};
use tagwarden::registry::providers::{ArtifactRegistry, FederatedIdentity, GoogleIdentity};
use tagwarden::registry::{RegistrySettings, connect};
use wiremock::matchers::{body_string_contains, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{API, EMAIL, TOKEN, image, name, options, put, refusal, request_counts, settings_of, start};
use crate::registry::{quick, tag};
use crate::support::encodings::as_windows_saves;
use crate::support::lease::writer_of;
use crate::support::removal::untag_manifest;

/// Reads the catalogue with those settings, and returns what became of it.
async fn read(settings: RegistrySettings) -> String {
    let reader = connect(settings, quick()).unwrap().reader();
    match reader.catalogue().await {
        Ok(found) => format!("{} images", found.repositories.len()),
        Err(error) => error.chain(),
    }
}

/// Settings whose credentials may go to that service.
fn settings(registry: &EmbeddedRegistry, identity: GoogleIdentity, service: &MockServer) -> RegistrySettings {
    let host = service.uri().trim_start_matches("http://").to_owned();
    RegistrySettings { token_hosts: vec![host], ..settings_of(&registry.url(), identity) }
}

fn token_answer(seconds: i64) -> ResponseTemplate {
    let body = json!({ "access_token": TOKEN, "expires_in": seconds, "token_type": "Bearer" });
    ResponseTemplate::new(200).set_body_json(body)
}

async fn with_key() -> (EmbeddedRegistry, GoogleIdentity) {
    let account = ServiceAccount::generate(EMAIL);
    let registry = start(ArtifactRegistryOptions { account: Some(account.clone()), ..options() }).await;
    let identity = GoogleIdentity::from_file(&account.key_file(&registry.url())).unwrap();
    (registry, identity)
}

#[tokio::test]
async fn a_key_gets_one_token_for_both_apis_and_another_when_it_is_over() {
    let (registry, identity) = with_key().await;
    let one = image("one", 9);
    put(&registry, API, "v1", &one, 5);
    let reader = connect(settings_of(&registry.url(), identity), quick()).unwrap().reader();
    assert_eq!(reader.identity(), format!("service account {EMAIL}"));
    assert!(reader.manifest(&name(API), &one.digest).await.unwrap().is_some());
    assert!(reader.resolve(&name(API), &tag("v1")).await.unwrap().is_some());
    assert_eq!(request_counts(&registry)["POST token"], 1);
    registry.expire_tokens();
    assert!(reader.resolve(&name(API), &tag("v1")).await.unwrap().is_some());
    assert_eq!(request_counts(&registry)["POST token"], 2);
    registry.expire_tokens();
    assert!(reader.manifest(&name(API), &one.digest).await.unwrap().is_some());
    assert_eq!(request_counts(&registry)["POST token"], 3);
}

#[tokio::test]
async fn the_key_of_another_account_is_refused_in_the_words_of_google() {
    let (registry, _) = with_key().await;
    let stranger = ServiceAccount::generate(EMAIL).key_file(&registry.url());
    let told = read(settings_of(&registry.url(), GoogleIdentity::from_file(&stranger).unwrap())).await;
    assert!(told.contains("invalid_grant") && told.contains("check the identity"), "{told}");
    let broken = stranger.replace("MII", "AAA");
    let told = read(settings_of(&registry.url(), GoogleIdentity::from_file(&broken).unwrap())).await;
    assert!(told.contains("it is not an RSA key in PKCS #8 format"), "{told}");
}

#[tokio::test]
async fn a_machine_asks_its_metadata_service() {
    let (registry, service) = (start(options()).await, MockServer::start().await);
    let asked = Mock::given(method("GET"))
        .and(path("/computeMetadata/v1/instance/service-accounts/default/token"))
        .and(header("metadata-flavor", "Google"));
    asked.respond_with(token_answer(3599)).expect(1).mount(&service).await;
    let identity = GoogleIdentity::Metadata { metadata_service: service.uri().parse().unwrap() };
    let reader = connect(settings(&registry, identity, &service), quick()).unwrap().reader();
    for _ in 0..3 {
        reader.catalogue().await.unwrap();
    }
}

#[tokio::test]
async fn tokens_are_renewed_before_they_end() {
    // Two minutes are less than what a run may need. Tokens that were just renewed are not renewed again at once.
    for (seconds, expected) in [(120, 1), (0, 2)] {
        let (registry, service) = (start(options()).await, MockServer::start().await);
        Mock::given(method("GET")).respond_with(token_answer(seconds)).expect(expected..).mount(&service).await;
        let identity = GoogleIdentity::Metadata { metadata_service: service.uri().parse().unwrap() };
        let reader = connect(settings(&registry, identity, &service), quick()).unwrap().reader();
        reader.catalogue().await.unwrap();
        reader.catalogue().await.unwrap();
        let asked = service.received_requests().await.unwrap().len();
        assert!(seconds == 0 || asked == 1, "{asked}");
    }
}

fn federated(service: &MockServer, folder: &tempfile::TempDir, impersonates: bool) -> FederatedIdentity {
    let file = folder.path().join("token");
    fs::write(&file, r#"{"id_token":"token+of the cluster"}"#).unwrap();
    let account = format!("{}/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken", service.uri());
    FederatedIdentity {
        audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
            .into(),
        token_type: "urn:ietf:params:oauth:token-type:jwt".into(),
        token_file: file,
        token_field: Some("id_token".into()),
        token_service: format!("{}/v1/token", service.uri()).parse().unwrap(),
        impersonation: impersonates.then(|| account.parse().unwrap()),
    }
}

#[tokio::test]
async fn a_token_of_another_issuer_is_exchanged_and_may_impersonate_an_account() {
    for impersonates in [false, true] {
        let (registry, service) = (start(options()).await, MockServer::start().await);
        let folder = tempfile::tempdir().unwrap();
        // One reading, and one for each other encoding.
        let readings = 4;
        let first = if impersonates { "ya29.of-the-pool" } else { TOKEN };
        let exchange = Mock::given(method("POST"))
            .and(path("/v1/token"))
            .and(body_string_contains("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"))
            .and(body_string_contains("subject_token=token%2Bof+the+cluster"))
            .and(body_string_contains("workloadIdentityPools%2Fpool"));
        let answer = json!({ "access_token": first, "expires_in": 3600, "token_type": "Bearer" });
        exchange.respond_with(ResponseTemplate::new(200).set_body_json(answer)).expect(readings).mount(&service).await;
        #[expect(clippy::disallowed_methods, reason = "tokens expire by the real time")]
        let end = Timestamp::now() + SignedDuration::from_mins(60);
        let impersonation = Mock::given(method("POST"))
            .and(path(format!("/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken")))
            .and(header("authorization", "Bearer ya29.of-the-pool"))
            .and(body_string_contains("cloud-platform"));
        let answer = json!({ "accessToken": TOKEN, "expireTime": end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() });
        let times = if impersonates { readings } else { 0 };
        impersonation
            .respond_with(ResponseTemplate::new(200).set_body_json(answer))
            .expect(times)
            .mount(&service)
            .await;
        let identity = federated(&service, &folder, impersonates);
        let as_identity = || GoogleIdentity::Federated(Box::new(identity.clone()));
        assert_eq!(read(settings(&registry, as_identity(), &service)).await, "0 images");
        for encoded in as_windows_saves(&fs::read_to_string(&identity.token_file).unwrap()) {
            fs::write(&identity.token_file, encoded).unwrap();
            assert_eq!(read(settings(&registry, as_identity(), &service)).await, "0 images");
        }
    }
}

#[tokio::test]
async fn a_person_is_asked_for_by_the_token_that_gcloud_left() {
    let (registry, service) = (start(options()).await, MockServer::start().await);
    let exchange = Mock::given(method("POST")).and(body_string_contains("grant_type=refresh_token"));
    let exchange = exchange.and(body_string_contains("refresh_token=1%2F%2Fof-the-person"));
    exchange.respond_with(token_answer(3599)).expect(1).mount(&service).await;
    let file = json!({
        "type": "authorized_user", "client_id": "gcloud", "client_secret": "s", "refresh_token": "1//of-the-person",
        "token_uri": service.uri(),
    });
    let identity = GoogleIdentity::from_file(&file.to_string()).unwrap();
    assert_eq!(read(settings(&registry, identity, &service)).await, "0 images");
}

#[tokio::test]
async fn nothing_secret_goes_to_a_stranger() {
    let (registry, stranger, folder) =
        (start(options()).await, MockServer::start().await, tempfile::tempdir().unwrap());
    Mock::given(method("POST")).respond_with(token_answer(3599)).expect(0).mount(&stranger).await;
    let account = ServiceAccount::generate(EMAIL);
    let key = GoogleIdentity::from_file(&account.key_file(&stranger.uri())).unwrap();
    let person = json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r", "token_uri": stranger.uri(),
    });
    let person = GoogleIdentity::from_file(&person.to_string()).unwrap();
    let federated = GoogleIdentity::Federated(Box::new(federated(&stranger, &folder, false)));
    for identity in [key, person, federated] {
        let told = read(settings_of(&registry.url(), identity)).await;
        let host = stranger.uri().trim_start_matches("http://").to_owned();
        assert!(told.contains(&format!("the token service {host}, which is not Google's")), "{told}");
        assert!(told.contains("token_hosts"), "{told}");
    }
}

#[tokio::test]
async fn what_gives_no_token_is_named_without_a_secret() {
    let registry = start(options()).await;
    let quoted = r#"{"access_token": 7, "refresh_token": "hidden"}"#;
    for (status, body, phrase) in [
        (400, r#"{"error":"invalid_grant","error_description":"Token has been revoked."}"#, "Token has been revoked."),
        (403, r#"{"error":{"code":403,"message":"IAM denied","status":"PERMISSION_DENIED"}}"#, "IAM denied"),
        (200, "<html></html>", "its answer has no token"),
        (200, quoted, "its answer has no token"),
        (404, "no account", "its answer has no token"),
    ] {
        let service = MockServer::start().await;
        let answer = ResponseTemplate::new(status).set_body_string(body);
        Mock::given(method("GET")).respond_with(answer).mount(&service).await;
        let identity = GoogleIdentity::Metadata { metadata_service: service.uri().parse().unwrap() };
        let told = read(settings(&registry, identity, &service)).await;
        assert!(told.contains(phrase) && told.contains("no access token"), "{told}");
        assert!(!told.contains("hidden"), "{told}");
    }
    let (service, folder) = (MockServer::start().await, tempfile::tempdir().unwrap());
    let missing = FederatedIdentity { token_file: "/nowhere/token".into(), ..federated(&service, &folder, false) };
    let told = read(settings(&registry, GoogleIdentity::Federated(Box::new(missing)), &service)).await;
    assert!(told.contains("the token file /nowhere/token cannot be read"), "{told}");
}

/// A removal is not repeated with a new token; after that the tag is looked at again.
#[tokio::test]
async fn a_removal_with_an_expired_token_asks_for_another_look() {
    let (registry, identity) = with_key().await;
    let one = image("one", 9);
    put(&registry, API, "v1", &one, 5);
    let writer = writer_of(&ArtifactRegistry, settings_of(&registry.url(), identity), quick());
    let expired = refusal(401, "UNAUTHENTICATED", "expired");
    registry.inject(Fault::on("/tags/v1", expired).times(1));
    let (api, v1) = (name(API), tag("v1"));
    let remove = || untag_manifest(&writer, &api, &v1, &one.bytes);
    let error = remove().await.unwrap_err();
    assert!(error.requires_recheck(), "{}", error.chain());
    remove().await.unwrap();
    assert_eq!(registry.tags(API).len(), 0);
}
