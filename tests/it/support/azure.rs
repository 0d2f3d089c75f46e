//! Imitations of Entra ID and of Azure Resource Manager on loopback. They refuse what the real ones refuse, in their words.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::Listener;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tagwarden::azure::{AzureEnvironment, Credential, Identity};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use url::Url;

use super::certificate::certified;

pub(crate) const TENANT: &str = "11111111-1111-1111-1111-111111111111";
pub(crate) const CLIENT: &str = "22222222-2222-2222-2222-222222222222";
pub(crate) const SECRET: &str = "hunter2";
/// What tokens for the query API of Log Analytics are for.
pub(crate) const LOG_AUDIENCE: &str = "https://api.loganalytics.io";
const AUDIENCES: [&str; 3] = ["https://containerregistry.azure.net", "https://management.azure.com", LOG_AUDIENCE];

/// Answers to give before the true ones: status, headers, body.
pub(crate) type ScriptedResponses = VecDeque<(u16, Vec<(&'static str, String)>, String)>;

/// A token that the authority gave.
struct Issued {
    audience: String,
    until: Instant,
}

/// What the authority knows and was asked.
#[derive(Default)]
pub(crate) struct Directory {
    /// The assertion that is good right now.
    pub(crate) assertion: String,
    /// How long tokens are good for.
    pub(crate) lifetime: Duration,
    pub(crate) instead: ScriptedResponses,
    /// The forms that arrived.
    pub(crate) asked: Vec<BTreeMap<String, String>>,
    issued: BTreeMap<String, Issued>,
}

impl Directory {
    /// Makes a token for an audience.
    pub(crate) fn issue(&mut self, audience: &str) -> String {
        let token = format!("token-{}", self.issued.len() + 1);
        let until = Instant::now() + self.lifetime;
        self.issued.insert(token.clone(), Issued { audience: audience.to_owned(), until });
        token
    }

    /// Ends all tokens given so far, whatever was said of their time.
    pub(crate) fn revoke_all(&mut self) {
        self.issued.values_mut().for_each(|token| token.audience.clear());
    }

    pub(crate) fn is_good(&self, token: &str, audience: &str) -> bool {
        self.issued.get(token).is_some_and(|it| it.audience == audience && it.until > Instant::now())
    }
}

/// Entra ID, over TLS with a certificate that only `ca_file` vouches for.
pub(crate) struct Entra {
    pub(crate) url: Url,
    pub(crate) ca_file: PathBuf,
    pub(crate) directory: Arc<Mutex<Directory>>,
    pub(crate) folder: tempfile::TempDir,
}

impl Entra {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certified = certified();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, &certified.authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certified.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let directory = Directory { lifetime: Duration::from_hours(1), ..Directory::default() };
        let directory = Arc::new(Mutex::new(directory));
        let router = Router::new().fallback(authority).with_state(directory.clone());
        let listener = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, ca_file, directory, folder }
    }

    pub(crate) fn surroundings(&self) -> AzureEnvironment {
        AzureEnvironment {
            authority: Some(self.url.clone()),
            ca_file: Some(self.ca_file.clone()),
            timeout: Some(Duration::from_secs(10)),
            ..AzureEnvironment::default()
        }
    }

    /// An application that the directory knows.
    pub(crate) fn application(&self) -> Credential {
        let identity = Identity::ClientSecret {
            tenant_id: TENANT.into(),
            client_id: CLIENT.into(),
            secret: SECRET.to_owned().into(),
        };
        Credential { identity, environment: self.surroundings() }
    }

    pub(crate) fn request_count(&self) -> usize {
        self.directory.lock().unwrap().asked.len()
    }

    pub(crate) fn script_response(&self, status: u16, headers: &[(&'static str, &str)], body: &str) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.directory.lock().unwrap().instead.push_back((status, headers, body.to_owned()));
    }
}

/// Connections over TLS. One that fails its handshake is dropped, as servers do.
pub(crate) struct Tls {
    pub(crate) listener: TcpListener,
    pub(crate) acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

pub(crate) fn response(status: u16, headers: &[(&str, String)], body: String) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
    for (name, value) in headers {
        response.headers_mut().insert(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    response
}

/// A refusal of Entra ID (<https://learn.microsoft.com/entra/identity-platform/reference-error-codes>).
fn refusal(status: u16, error: &str, code: u32, words: &str) -> Response {
    let words = format!("AADSTS{code}: {words} Trace ID: 0000 Correlation ID: 0001 Timestamp: 2026-11-23 03:00:00Z");
    let body = json!({ "error": error, "error_description": words, "error_codes": [code] });
    response(status, &[], body.to_string())
}

async fn authority(State(directory): State<Arc<Mutex<Directory>>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut directory = directory.lock().unwrap();
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    directory.asked.push(form.clone());
    if let Some((status, headers, body)) = directory.instead.pop_front() {
        return response(status, &headers, body);
    }
    let form = |key: &str| form.get(key).map_or("", String::as_str);
    assert_eq!(head.method, "POST");
    assert_eq!(head.headers[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
    assert!(head.headers[header::USER_AGENT].to_str().unwrap().starts_with("tagwarden/"));
    if head.uri.path() != format!("/{TENANT}/oauth2/v2.0/token") {
        return refusal(400, "invalid_request", 90_002, "Tenant 'x' not found.");
    }
    if form("grant_type") != "client_credentials" {
        return refusal(400, "unsupported_grant_type", 70_003, "The app requested an unsupported grant type.");
    }
    let Some(audience) = AUDIENCES.iter().find(|it| form("scope") == format!("{it}/.default")) else {
        return refusal(
            400,
            "invalid_resource",
            500_011,
            "The resource principal named x was not found in the tenant.",
        );
    };
    if form("client_id") != CLIENT {
        return refusal(400, "unauthorized_client", 700_016, "Application with identifier 'x' was not found.");
    }
    let assertion = form("client_assertion");
    if assertion.is_empty() && form("client_secret") != SECRET {
        return refusal(
            401,
            "invalid_client",
            7_000_215,
            "Invalid client secret provided.\r\nEnsure the value is sent.",
        );
    }
    let of_bearer = form("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    if !assertion.is_empty() && (assertion != directory.assertion || !of_bearer) {
        return refusal(401, "invalid_client", 700_024, "Client assertion is not within its valid time range.");
    }
    let token = directory.issue(audience);
    let seconds = directory.lifetime.as_secs();
    response(200, &[], json!({ "token_type": "Bearer", "expires_in": seconds, "access_token": token }).to_string())
}

/// What the resource manager holds.
#[derive(Default)]
pub(crate) struct Resources {
    /// Lists, by path.
    pub(crate) lists: BTreeMap<String, Vec<Value>>,
    /// Single resources, by path.
    pub(crate) single: BTreeMap<String, Value>,
    /// Paths that the identity may not read.
    pub(crate) denied: BTreeSet<String>,
    /// Paths that are answered with an error: status and code.
    pub(crate) errors: BTreeMap<String, (u16, &'static str)>,
    /// Versions that are refused.
    pub(crate) refused_versions: BTreeSet<String>,
    /// How many entries a page of a list has.
    pub(crate) page: usize,
    pub(crate) instead: ScriptedResponses,
    /// Paths with their queries, in the order of arrival.
    pub(crate) asked: Vec<String>,
}

/// Azure Resource Manager.
pub(crate) struct ResourceManager {
    pub(crate) url: Url,
    pub(crate) resources: Arc<Mutex<Resources>>,
}

#[derive(Clone)]
struct Manager {
    url: Url,
    resources: Arc<Mutex<Resources>>,
    directory: Arc<Mutex<Directory>>,
}

impl ResourceManager {
    pub(crate) async fn start(entra: &Entra) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let resources = Arc::new(Mutex::new(Resources { page: 100, ..Resources::default() }));
        let state = Manager { url: url.clone(), resources: resources.clone(), directory: entra.directory.clone() };
        let router = Router::new().fallback(manager).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, resources }
    }

    /// The application of the directory, with this resource manager.
    pub(crate) fn credential(&self, entra: &Entra) -> Credential {
        let mut credential = entra.application();
        credential.environment.resource_manager = Some(self.url.clone());
        credential
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.resources.lock().unwrap().asked.clone()
    }
}

fn arm_error(status: u16, code: &str, message: &str) -> Response {
    response(status, &[], json!({ "error": { "code": code, "message": message } }).to_string())
}

async fn manager(State(state): State<Manager>, request: Request<Body>) -> Response {
    let (head, _) = request.into_parts();
    let mut resources = state.resources.lock().unwrap();
    resources.asked.push(head.uri.to_string());
    assert_eq!(head.method, "GET", "nothing but reading");
    if let Some((status, headers, body)) = resources.instead.pop_front() {
        return response(status, &headers, body);
    }
    let token = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if !token.is_some_and(|token| state.directory.lock().unwrap().is_good(token, "https://management.azure.com")) {
        return arm_error(401, "InvalidAuthenticationToken", "The access token is invalid.");
    }
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let version = query.get("api-version").cloned().unwrap_or_default();
    if version.is_empty() {
        return arm_error(400, "MissingApiVersionParameter", "The api-version query parameter is required.");
    }
    if resources.refused_versions.contains(&version) {
        return arm_error(400, "NoRegisteredProviderFound", "No registered resource provider found for that version.");
    }
    let path = head.uri.path().to_owned();
    if resources.denied.contains(&path) {
        let message = format!("The client 'x' does not have authorization to perform an action over scope '{path}'.");
        return arm_error(403, "AuthorizationFailed", &message);
    }
    if let Some((status, code)) = resources.errors.get(&path) {
        return arm_error(*status, code, "It is not to be had.");
    }
    if let Some(found) = resources.single.get(&path) {
        return response(200, &[], visible_fields(found, &version).to_string());
    }
    let Some(list) = resources.lists.get(&path) else {
        return arm_error(404, "ResourceGroupNotFound", "Resource group 'x' could not be found.");
    };
    let start = query.get("$skiptoken").map_or(0, |token| token.parse().unwrap());
    let end = list.len().min(start + resources.page);
    let value: Vec<Value> = list[start..end].iter().map(|entry| visible_fields(entry, &version)).collect();
    let next =
        (end < list.len()).then(|| format!("{}{}?api-version={version}&$skiptoken={end}", state.url, &path[1..]));
    response(200, &[], json!({ "value": value, "nextLink": next }).to_string())
}

/// A resource as that version shows it: only previews tell of soft delete.
fn visible_fields(resource: &Value, version: &str) -> Value {
    let mut resource = resource.clone();
    if let Some(policies) = resource.pointer_mut("/properties/policies").and_then(Value::as_object_mut)
        && !version.ends_with("-preview")
    {
        policies.remove("softDeletePolicy");
    }
    resource
}

/// App Service and Container Apps give tokens at an address of their own to whoever knows the header's value.
pub(crate) async fn identity_endpoint(header_value: &'static str) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/msi/token", listener.local_addr().unwrap()).parse().unwrap();
    let give = move |request: Request<Body>| async move {
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
        let is = |key: &str, value: &str| query.get(key).is_some_and(|it| it == value);
        if request.headers().get("x-identity-header").is_none_or(|value| value != header_value) {
            return response(401, &[], json!({ "statusCode": 401, "message": "Unauthorized" }).to_string());
        }
        if !is("api-version", "2019-08-01") || !is("resource", AUDIENCES[0]) || !is("client_id", CLIENT) {
            return response(400, &[], json!({ "statusCode": 400, "message": "No such identity" }).to_string());
        }
        let body = json!({
            "access_token": "token-of-app-service", "expires_on": "4102444800", "resource": AUDIENCES[0],
            "token_type": "Bearer", "client_id": CLIENT,
        });
        response(200, &[], body.to_string())
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(give)).await });
    url
}
