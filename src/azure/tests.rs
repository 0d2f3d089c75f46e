//! Tests that need a replacement for the HTTP client: the address of a virtual machine's endpoint cannot be configured.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::{AsyncRawResponse, HttpClient as AzureHttpClient, Request};
use secrecy::ExposeSecret as _;
use serde_json::json;
use wiremock::matchers::{header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::authority::Authority;
use super::{AzureEnvironment, Cloud, Credential, Identity, TokenCache};
use crate::http_client::{ClientConfig, HttpClient, RequestErrorKind, RetryPolicy};

const SCOPE: &str = "https://containerregistry.azure.net/.default";
const PATIENCE: RetryPolicy = RetryPolicy {
    max_retries: 3,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(2),
    max_total_delay: Duration::from_secs(10),
};

/// Redirects requests for the metadata service of virtual machines to another server.
#[derive(Debug)]
struct Elsewhere {
    authority: Authority,
    server: url::Url,
}

#[async_trait]
impl AzureHttpClient for Elsewhere {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        assert_eq!(request.url().origin().ascii_serialization(), "http://169.254.169.254");
        let mut request = request.clone();
        request.url_mut().set_host(self.server.host_str()).unwrap();
        request.url_mut().set_port(self.server.port()).unwrap();
        self.authority.execute_request(&request).await
    }
}

fn on_a_machine(server: &MockServer, client_id: Option<&str>) -> TokenCache {
    let identity = Identity::Managed { client_id: client_id.map(str::to_owned) };
    let credential = Credential { identity, environment: AzureEnvironment::default() };
    let config = ClientConfig { name: "test".into(), ca_file: None, timeout: Duration::from_secs(5) };
    let transport = HttpClient::without_proxy(&config, PATIENCE).unwrap();
    let authority = Authority { client: transport, retry_policy: PATIENCE, identity: credential.description() };
    let client = Elsewhere { authority, server: server.uri().parse().unwrap() };
    credential.connect_with(Arc::new(client)).unwrap()
}

fn token(token: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({
        "access_token": token, "expires_on": "4102444800", "resource": "r", "token_type": "Bearer",
    }))
}

#[tokio::test]
async fn a_virtual_machine_is_asked_as_it_wants_to_be() {
    let server = MockServer::start().await;
    let asked =
        || Mock::given(method("GET")).and(path("/metadata/identity/oauth2/token")).and(header("metadata", "true"));
    let throttled = ResponseTemplate::new(429).insert_header("retry-after", "0");
    asked().respond_with(ResponseTemplate::new(410)).up_to_n_times(1).mount(&server).await;
    asked().respond_with(ResponseTemplate::new(404)).up_to_n_times(1).mount(&server).await;
    asked().respond_with(throttled).up_to_n_times(2).mount(&server).await;
    asked()
        .and(query_param("resource", "https://containerregistry.azure.net"))
        .and(query_param("api-version", "2019-08-01"))
        .and(query_param("client_id", "1234"))
        .respond_with(token("good"))
        .mount(&server)
        .await;
    let tokens = on_a_machine(&server, Some("1234"));
    assert_eq!(tokens.token(SCOPE).await.unwrap().expose_secret(), "good");
    assert_eq!(tokens.token(SCOPE).await.unwrap().expose_secret(), "good");
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 5, "one each for 410, 404, twice 429, and one token for both callers");
    let agent = requests[0].headers.get("user-agent").unwrap().to_str().unwrap();
    assert!(agent.starts_with("tagwarden/"), "{agent}");
}

#[tokio::test]
async fn a_machine_without_that_identity_says_so() {
    for (status, body, words) in [
        (400, r#"{"error":"invalid_request","error_description":"Identity not found"}"#, "(Identity not found)"),
        (404, "", "answered 404 Not Found; "),
        (200, "<html>login</html>", "is a proxy or a login page in between"),
        (200, "{}", "no access token in it"),
        (200, r#"{"access_token":""}"#, "no access token in it"),
    ] {
        let server = MockServer::start().await;
        let response = ResponseTemplate::new(status).set_body_string(body);
        Mock::given(method("GET")).respond_with(response).mount(&server).await;
        let error = on_a_machine(&server, None).token(SCOPE).await.unwrap_err();
        let kind = if status == 200 { RequestErrorKind::Malformed } else { RequestErrorKind::Denied };
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.chain().starts_with("signing in as the managed identity of this machine failed: "), "{error}");
        assert!(error.chain().contains(words), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_understood_shows_nothing_of_it() {
    let server = MockServer::start().await;
    let body = json!({ "access_token": "hunter2", "expires_on": "hunter2", "token_type": "Bearer", "resource": "r" });
    let response = ResponseTemplate::new(200).set_body_json(body);
    Mock::given(method("GET")).respond_with(response).mount(&server).await;
    let error = on_a_machine(&server, None).token(SCOPE).await.unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::Malformed);
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn each_cloud_has_its_addresses() {
    for cloud in [Cloud::Public, Cloud::China, Cloud::UsGov] {
        for address in [cloud.authority(), cloud.resource_manager()] {
            let url: url::Url = address.parse().unwrap();
            assert_eq!((url.scheme(), url.path()), ("https", "/"));
        }
        assert!(cloud.registry_scope().ends_with("/.default"));
    }
    assert_eq!(Cloud::Public.registry_scope(), SCOPE);
    assert_ne!(Cloud::Public.resource_manager_scope(), SCOPE, "ARM and registries are different audiences");
}
