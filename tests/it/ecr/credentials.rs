//! Keys from the services that give a workload its identity, each against what its own documentation says of it.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tagwarden::demo::registry::{EcrKeys, EmbeddedRegistry, Fault};
use tagwarden::registry::connect;
use tagwarden::registry::providers::{AwsIdentity, ContainerToken, Ecr};
use wiremock::matchers::{body_string_contains, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{image, name, options, put, refusal, settings_of, start};
use crate::registry::{quick, tag};
use crate::support::encodings::as_windows_saves;
use crate::support::lease::writer_of;
use crate::support::removal::untag_manifest;

const SESSION: (&str, &str, &str) = ("ASIAOFTHETESTS", "secret/of+the+role", "session/of+the+role");
const ROLE: &str = "arn:aws:iam::123456789012:role/tagwarden";

async fn registry() -> EmbeddedRegistry {
    start(options().keys(EcrKeys::new(SESSION.0, SESSION.1).session(SESSION.2))).await
}

fn expiration(minutes: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "credentials expire by the real time")]
    let now = Timestamp::now();
    (now + SignedDuration::from_mins(minutes)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn keys_json(minutes: i64) -> Value {
    json!({
        "Code": "Success",
        "AccessKeyId": SESSION.0,
        "SecretAccessKey": SESSION.1,
        "Token": SESSION.2,
        "Expiration": expiration(minutes),
    })
}

fn keys_xml(minutes: i64) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>",
        SESSION.0,
        SESSION.1,
        SESSION.2,
        expiration(minutes)
    )
}

/// Reads the catalogue so many times, and returns what became of the last one.
async fn read(registry: &EmbeddedRegistry, identity: AwsIdentity, times: usize) -> String {
    let reader = connect(settings_of(&registry.url(), identity), quick()).unwrap().reader();
    let mut last = String::new();
    for _ in 0..times {
        last = match reader.catalogue().await {
            Ok(found) => format!("{} repositories", found.repositories.len()),
            Err(error) => error.chain(),
        };
    }
    last
}

fn token_file(folder: &tempfile::TempDir, text: impl AsRef<[u8]>) -> std::path::PathBuf {
    let file = folder.path().join("token");
    fs::write(&file, text).unwrap();
    file
}

fn web_identity(service: &MockServer, token_file: std::path::PathBuf) -> AwsIdentity {
    AwsIdentity::WebIdentity {
        role_arn: ROLE.to_owned(),
        token_file,
        session_name: "tagwarden".to_owned(),
        token_service: Some(service.uri().parse().unwrap()),
    }
}

#[tokio::test]
async fn a_token_of_the_cluster_is_exchanged_for_keys_once() {
    let (registry, service, folder) = (registry().await, MockServer::start().await, tempfile::tempdir().unwrap());
    let exchange = Mock::given(method("POST"))
        .and(body_string_contains("Action=AssumeRoleWithWebIdentity&Version=2011-06-15"))
        .and(body_string_contains("RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Ftagwarden"))
        .and(body_string_contains("WebIdentityToken=token%2Bof+the+cluster"));
    exchange.respond_with(ResponseTemplate::new(200).set_body_string(keys_xml(60))).expect(4).mount(&service).await;
    let identity = web_identity(&service, token_file(&folder, "token+of the cluster\n"));
    assert_eq!(read(&registry, identity, 3).await, "0 repositories");
    for encoded in as_windows_saves("token+of the cluster\r\n") {
        let identity = web_identity(&service, token_file(&folder, encoded));
        assert_eq!(read(&registry, identity, 1).await, "0 repositories");
    }
}

#[tokio::test]
async fn keys_are_renewed_before_they_end() {
    let (registry, service, folder) = (registry().await, MockServer::start().await, tempfile::tempdir().unwrap());
    // Two minutes are less than what a run may need. Keys that were just renewed are not renewed again at once.
    let exchange = Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_string(keys_xml(2)));
    exchange.expect(1).mount(&service).await;
    assert_eq!(read(&registry, web_identity(&service, token_file(&folder, "t")), 2).await, "0 repositories");
    let (registry, service) = (self::registry().await, MockServer::start().await);
    let exchange = Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_string(keys_xml(-1)));
    exchange.expect(2).mount(&service).await;
    read(&registry, web_identity(&service, token_file(&folder, "t")), 2).await;
}

#[tokio::test]
async fn keys_that_the_registry_calls_expired_are_replaced() {
    let (registry, service, folder) = (registry().await, MockServer::start().await, tempfile::tempdir().unwrap());
    let exchange = Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_string(keys_xml(60)));
    exchange.expect(2).mount(&service).await;
    let expired = refusal("ExpiredTokenException", "The security token included in the request is expired");
    registry.inject(Fault::on("/DescribeRepositories", expired).times(1));
    assert_eq!(read(&registry, web_identity(&service, token_file(&folder, "t")), 1).await, "0 repositories");
}

#[tokio::test]
async fn a_container_asks_the_service_beside_it() {
    for in_file in [true, false] {
        let (registry, service, folder) = (registry().await, MockServer::start().await, tempfile::tempdir().unwrap());
        let asked = Mock::given(method("GET")).and(path("/v1/credentials")).and(header("authorization", "of the pod"));
        asked.respond_with(ResponseTemplate::new(200).set_body_json(keys_json(60))).expect(1).mount(&service).await;
        let token = if in_file {
            ContainerToken::File(token_file(&folder, "of the pod\n"))
        } else {
            ContainerToken::Text("of the pod".into())
        };
        let address = format!("{}/v1/credentials", service.uri()).parse().unwrap();
        let identity = AwsIdentity::Container { address, token: Some(token) };
        assert_eq!(read(&registry, identity, 2).await, "0 repositories");
    }
}

#[tokio::test]
async fn a_machine_asks_its_metadata_service_within_a_session() {
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let (registry, service) = (registry().await, MockServer::start().await);
    let session = Mock::given(method("PUT"))
        .and(path("/latest/api/token"))
        .and(header("x-aws-ec2-metadata-token-ttl-seconds", "300"))
        .respond_with(ResponseTemplate::new(200).set_body_string("session-of-the-machine"));
    session.expect(1).mount(&service).await;
    for (at, body) in
        [(ROLES.to_owned(), "tagwarden".to_owned()), (format!("{ROLES}tagwarden"), keys_json(60).to_string())]
    {
        let asked =
            Mock::given(method("GET")).and(path(at)).and(header("x-aws-ec2-metadata-token", "session-of-the-machine"));
        asked.respond_with(ResponseTemplate::new(200).set_body_string(body)).expect(1).mount(&service).await;
    }
    let identity = AwsIdentity::Instance { metadata_service: service.uri().parse().unwrap() };
    assert_eq!(read(&registry, identity, 2).await, "0 repositories");
}

#[tokio::test]
async fn what_gives_no_keys_is_named_without_a_secret() {
    let registry = registry().await;
    let refused =
        "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>no</Message></Error></ErrorResponse>";
    let quoted = format!("{{\"AccessKeyId\": 7, \"SecretAccessKey\": \"{}\"}}", SESSION.1);
    for (status, body, phrases) in [
        (400, refused.to_owned(), ["InvalidIdentityToken", "tagwarden"]),
        (200, "<html></html>".to_owned(), ["has no keys", "no keys to sign"]),
        (200, quoted.clone(), ["has no keys", "no keys to sign"]),
    ] {
        let (service, folder) = (MockServer::start().await, tempfile::tempdir().unwrap());
        let response = ResponseTemplate::new(status).set_body_string(body);
        Mock::given(method("POST")).respond_with(response).mount(&service).await;
        let told = read(&registry, web_identity(&service, token_file(&folder, "t0ken")), 1).await;
        assert!(phrases.iter().all(|phrase| told.contains(phrase)), "{told}");
        assert!(!told.contains("t0ken") && !told.contains(SESSION.1), "{told}");
    }
    let service = MockServer::start().await;
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(200).set_body_string(quoted)).mount(&service).await;
    let identity = AwsIdentity::Container { address: service.uri().parse().unwrap(), token: None };
    let told = read(&registry, identity, 1).await;
    assert!(told.contains("is not understood") && !told.contains(SESSION.1), "{told}");
    let missing = AwsIdentity::WebIdentity {
        role_arn: ROLE.to_owned(),
        token_file: "/nowhere/token".into(),
        session_name: "tagwarden".to_owned(),
        token_service: None,
    };
    let told = read(&registry, missing, 1).await;
    assert!(told.contains("the token file /nowhere/token cannot be read"), "{told}");
}

/// A removal is not sent with keys that are over; after the new ones the tag is looked at again.
#[tokio::test]
async fn a_removal_with_expired_keys_asks_for_another_look() {
    let (registry, service, folder) = (registry().await, MockServer::start().await, tempfile::tempdir().unwrap());
    let exchange = Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_string(keys_xml(60)));
    exchange.expect(2).mount(&service).await;
    let one = image("one", 9);
    put(&registry, "shop/api", "v1", &one, 5);
    assert!(registry.move_tag("shop/api", "stable", &one.digest));
    let identity = web_identity(&service, token_file(&folder, "t"));
    let settings = settings_of(&registry.url(), identity);
    let writer = writer_of(&Ecr, settings, quick());
    let expired = refusal("ExpiredTokenException", "expired");
    registry.inject(Fault::on("/BatchDeleteImage", expired).times(1));
    let (shop, v1) = (name("shop/api"), tag("v1"));
    let remove = || untag_manifest(&writer, &shop, &v1, &one.bytes);
    let error = remove().await.unwrap_err();
    assert!(error.requires_recheck(), "{}", error.chain());
    remove().await.unwrap();
    assert_eq!(registry.tags("shop/api").len(), 1);
}
