//! Access tokens: fetched by the identity, renewed before they expire, and sent to nobody but Google.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use jiff::Timestamp;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use url::Url;

use super::identity::{FederatedIdentity, GoogleIdentity};
use crate::domain::decode_text;
use crate::http_client::{ClientConfig, HttpClient, Request, Response, RetryPolicy};
use crate::registry::client::challenge::host_and_port;
use crate::registry::{Auth, RegistryError, RegistryErrorKind, RegistrySettings};

/// The scope of tokens.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Most bytes of an answer with a token.
const MAX_BYTES: usize = 64 * 1024;
/// The metadata service is on the machine's own link, or nowhere.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// Tokens that are valid for less than this are renewed. The metadata service has a new one by then.
const RENEWAL_MARGIN: Duration = Duration::from_secs(225);
/// Tokens that were just renewed are used, however short they are valid.
const RENEWAL_PAUSE: Duration = Duration::from_mins(1);
/// The lifetime of a token where the answer does not say.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(10);

/// A token in use.
#[derive(Debug, Clone)]
pub(super) struct AccessToken {
    pub(super) token: SecretString,
    since: Instant,
    /// `None` for a token of the settings, of which nobody says when it expires.
    expires_at: Option<Instant>,
}

impl AccessToken {
    fn is_fresh(&self, now: Instant) -> bool {
        self.expires_at.is_none_or(|end| end > now + RENEWAL_MARGIN || self.since + RENEWAL_PAUSE > now && end > now)
    }

    fn is_valid(&self, now: Instant) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }

    /// Returns the header that carries it.
    pub(super) fn bearer(&self) -> Result<HeaderValue, RegistryError> {
        secret_header(&format!("Bearer {}", self.token.expose_secret()))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.token.expose_secret() == other.token.expose_secret()
    }
}

/// Tokens of one identity, for both APIs.
#[derive(Debug)]
pub(super) struct TokenSource {
    auth: Auth,
    retry: RetryPolicy,
    /// The hosts besides Google's that may see a token or a key: that of the registry, and those of `token_hosts`.
    trusted: Vec<String>,
    current: Mutex<Option<AccessToken>>,
    /// Held by the one that renews for all.
    renewal: AsyncMutex<()>,
}

impl TokenSource {
    pub(super) fn new(settings: &RegistrySettings, retry: RetryPolicy) -> Self {
        let own = host_and_port(&settings.endpoint);
        Self {
            auth: settings.auth.clone(),
            retry,
            trusted: settings.token_hosts.iter().map(|host| host.to_ascii_lowercase()).chain([own]).collect(),
            current: Mutex::default(),
            renewal: AsyncMutex::default(),
        }
    }

    /// Describes the identity.
    pub(super) fn identity(&self) -> String {
        match &self.auth {
            Auth::Google(identity) => identity.to_string(),
            Auth::Token(_) => "the bearer of a token".to_owned(),
            _ => "anonymous".to_owned(),
        }
    }

    fn current(&self) -> Option<AccessToken> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a token that is valid for a while.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub(super) async fn token(&self, client: &HttpClient) -> Result<AccessToken, RegistryError> {
        if let Some(current) = self.current().filter(|current| current.is_fresh(Instant::now())) {
            return Ok(current);
        }
        let _turn = self.renewal.lock().await;
        let known = self.current();
        if let Some(current) = known.as_ref().filter(|current| current.is_fresh(Instant::now())) {
            return Ok(current.clone());
        }
        match self.fetch(client).await {
            Ok(token) => {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
                Ok(token)
            }
            Err(error) => match known.filter(|current| current.is_valid(Instant::now())) {
                Some(current) => {
                    tracing::warn!(
                        error = error.chain(),
                        "the token of Google could not be renewed, and is still valid"
                    );
                    Ok(current)
                }
                None => Err(error.within("no access token for Artifact Registry")),
            },
        }
    }

    /// Returns another token than one that was refused; `None` if there is no other.
    ///
    /// # Errors
    /// Returns an error if it could not be fetched.
    pub(super) async fn replace(
        &self,
        client: &HttpClient,
        refused: &AccessToken,
    ) -> Result<Option<AccessToken>, RegistryError> {
        if matches!(self.auth, Auth::Token(_)) {
            return Ok(None);
        }
        {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            // Another request may have replaced it in the meantime.
            if current.as_ref().is_some_and(|current| current.is_same(refused)) {
                *current = None;
            }
        }
        let token = self.token(client).await?;
        Ok((!token.is_same(refused)).then_some(token))
    }

    async fn fetch(&self, client: &HttpClient) -> Result<AccessToken, RegistryError> {
        let identity = match &self.auth {
            Auth::Token(token) => {
                return Ok(AccessToken { token: token.clone(), since: Instant::now(), expires_at: None });
            }
            Auth::Google(identity) => &**identity,
            _ => {
                let message = "the settings have no identity of Google Cloud";
                let error = RegistryError::new(RegistryErrorKind::InvalidSettings, message);
                return Err(error.with_help("write auth = { kind = \"google\" }"));
            }
        };
        match identity {
            GoogleIdentity::ServiceAccount { email, key_id, private_key, token_service } => {
                self.check_host(token_service)?;
                let assertion = assertion((email, key_id), private_key, token_service)?;
                let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
                token_of(&client.send(&form_request(token_service, &form), None).await?)
            }
            GoogleIdentity::User { client_id, client_secret, refresh_token, token_service } => {
                self.check_host(token_service)?;
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", client_id),
                    ("client_secret", client_secret.expose_secret()),
                    ("refresh_token", refresh_token.expose_secret()),
                ];
                token_of(&client.send(&form_request(token_service, &form), None).await?)
            }
            GoogleIdentity::Federated(federated) => self.federated_token(client, federated).await,
            GoogleIdentity::Metadata { metadata_service } => {
                metadata_token(&self.metadata_client()?, metadata_service).await
            }
        }
    }

    fn metadata_client(&self) -> Result<HttpClient, RegistryError> {
        let name = "the metadata service of the machine".to_owned();
        let config = ClientConfig { name, ca_file: None, timeout: METADATA_TIMEOUT };
        HttpClient::without_proxy(&config, self.retry)
    }

    /// Exchanges the token of another issuer, and then impersonates the service account, if there is one.
    async fn federated_token(
        &self,
        client: &HttpClient,
        identity: &FederatedIdentity,
    ) -> Result<AccessToken, RegistryError> {
        self.check_host(&identity.token_service)?;
        let subject = subject_token(identity)?;
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", &*identity.audience),
            ("scope", SCOPE),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", &*identity.token_type),
            ("subject_token", subject.expose_secret()),
        ];
        let token = token_of(&client.send(&form_request(&identity.token_service, &form), None).await?)?;
        let Some(impersonation) = &identity.impersonation else { return Ok(token) };
        self.check_host(impersonation)?;
        let body = json!({ "scope": [SCOPE], "lifetime": "3600s" }).to_string();
        let request = token_request(impersonation, "application/json", body);
        impersonated_token(&client.send(&request, Some(&token.bearer()?)).await?)
    }

    /// Refuses to send a key or a token to a host that is neither Google's nor named by the settings.
    fn check_host(&self, url: &Url) -> Result<(), RegistryError> {
        let host = host_and_port(url);
        let name = url.host_str().unwrap_or_default();
        let google = url.scheme() == "https"
            && url.port().is_none()
            && (name == "googleapis.com" || name.ends_with(".googleapis.com") || name == "accounts.google.com");
        if google || self.trusted.iter().any(|trusted| *trusted == host || *trusted == name) {
            return Ok(());
        }
        let message = format!("the credentials name the token service {host}, which is not Google's");
        let help = format!("if that is intended, add it to the registry: token_hosts = [\"{host}\"]");
        Err(RegistryError::new(RegistryErrorKind::InvalidSettings, message).with_help(help))
    }
}

fn token_request(url: &Url, kind: &str, body: String) -> Request {
    Request {
        method: Method::POST,
        content: Some((kind.into(), body.into_bytes().into())),
        gets_token: true,
        ..Request::get(url.clone(), "application/json", MAX_BYTES)
    }
}

fn form_request(url: &Url, fields: &[(&str, &str)]) -> Request {
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    token_request(url, "application/x-www-form-urlencoded", form)
}

/// Returns the signed statement by which a service account asks for a token (RFC 7523).
fn assertion((email, key_id): (&str, &str), key: &SecretString, audience: &Url) -> Result<String, RegistryError> {
    let unusable = || {
        let message = format!("the private key of {email} cannot be used: it is not an RSA key in PKCS #8 format");
        RegistryError::new(RegistryErrorKind::InvalidSettings, message).with_help("create a new key for the account")
    };
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.expose_secret().as_bytes()).map_err(|_| unusable())?;
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| unusable())?;
    let issued = now().as_second();
    let claims = json!({
        "iss": email, "sub": email, "scope": SCOPE, "aud": audience.as_str(), "iat": issued, "exp": issued + 3600,
    });
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": key_id });
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).map_err(|_| unusable())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Returns the time of a statement: Google refuses those of another one.
#[expect(clippy::disallowed_methods, reason = "a statement has the time at which it is made, not that of the run")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Reads the token of another issuer, which something else renews.
fn subject_token(identity: &FederatedIdentity) -> Result<SecretString, RegistryError> {
    let file = &identity.token_file;
    let read = fs::read(file).and_then(|bytes| Ok(decode_text(bytes)?));
    let text = read.map_err(|error| {
        let message = format!("the token file {} cannot be read", file.display());
        RegistryError::new(RegistryErrorKind::Denied, message).caused_by(error)
    })?;
    let Some(field) = &identity.token_field else { return Ok(text.trim().into()) };
    let token = serde_json::from_str::<Value>(&text).ok().and_then(|json| Some(json[field].as_str()?.into()));
    token.ok_or_else(|| {
        let message = format!("the token file {} is not JSON with a text in `{field}`", file.display());
        RegistryError::new(RegistryErrorKind::Denied, message)
    })
}

/// Asks the metadata service of a machine or of a pod
/// (<https://cloud.google.com/compute/docs/access/authenticate-workloads>).
async fn metadata_token(client: &HttpClient, service: &Url) -> Result<AccessToken, RegistryError> {
    const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
    let mut url = service.clone();
    url.set_path("/computeMetadata/v1/instance/service-accounts/default/token");
    let headers: HeaderMap = [(FLAVOR, HeaderValue::from_static("Google"))].into_iter().collect();
    token_of(&client.send_with_headers(&Request::get(url, "application/json", MAX_BYTES), &headers).await?)
}

/// A token of OAuth 2.0.
#[derive(Deserialize)]
struct WireToken {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<SecretString>,
    expires_in: Option<u64>,
}

/// A token of an impersonated service account.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireImpersonation {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<SecretString>,
    expire_time: Option<Timestamp>,
}

/// The refusal of a token service.
#[derive(Deserialize)]
struct WireRefusal {
    #[serde(default)]
    error: Value,
    #[serde(default)]
    error_description: String,
}

fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(input)?.filter(|text| !text.is_empty()).map(Into::into))
}

fn token_of(response: &Response) -> Result<AccessToken, RegistryError> {
    let wire: Option<WireToken> = serde_json::from_slice(&response.body).ok();
    let lifetime = wire.as_ref().and_then(|wire| wire.expires_in).map(Duration::from_secs);
    issued(response, wire.and_then(|wire| wire.access_token), lifetime)
}

fn impersonated_token(response: &Response) -> Result<AccessToken, RegistryError> {
    let wire: Option<WireImpersonation> = serde_json::from_slice(&response.body).ok();
    let end = wire.as_ref().and_then(|wire| wire.expire_time);
    let lifetime = end.map(|end| Duration::try_from(end.duration_since(now())).unwrap_or_default());
    issued(response, wire.and_then(|wire| wire.access_token), lifetime)
}

fn issued(
    response: &Response,
    token: Option<SecretString>,
    lifetime: Option<Duration>,
) -> Result<AccessToken, RegistryError> {
    if response.status == StatusCode::OK
        && let Some(token) = token
    {
        let since = Instant::now();
        return Ok(AccessToken { token, since, expires_at: Some(since + lifetime.unwrap_or(DEFAULT_LIFETIME)) });
    }
    // Its own error could quote a secret.
    let refusal: Option<WireRefusal> = serde_json::from_slice(&response.body).ok();
    let words = match (response.status, refusal) {
        (StatusCode::OK, _) | (_, None) => "its answer has no token".to_owned(),
        (_, Some(WireRefusal { error: Value::String(code), error_description })) => {
            format!("{code} {error_description}")
        }
        (_, Some(WireRefusal { error, .. })) => error["message"].as_str().unwrap_or("it gives no token").to_owned(),
    };
    let words = crate::http_client::one_line(words.trim());
    let message = format!("{} answered {}: {words}", response.request, response.status);
    let kind = match response.status.as_u16() {
        429 => RegistryErrorKind::Throttled,
        status @ 500.. => RegistryErrorKind::Status(status),
        _ => RegistryErrorKind::Denied,
    };
    Err(RegistryError::new(kind, message).with_help("check the identity that `auth` names"))
}

fn secret_header(text: &str) -> Result<HeaderValue, RegistryError> {
    let mut header = HeaderValue::from_str(text).map_err(|_| {
        let message = "a token of Google has characters that HTTP does not allow";
        RegistryError::new(RegistryErrorKind::InvalidSettings, message)
    })?;
    header.set_sensitive(true);
    Ok(header)
}
