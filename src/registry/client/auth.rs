//! Authentication: which credentials are sent where, and tokens cached for their lifetime.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{DATE, HeaderValue};
use http::{Method, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use url::Url;

use super::authenticator::Authenticate;
use super::challenge::{self, Challenge, TokenHosts, host_and_port};
use super::docker_config::{DockerConfig, StoredCredentials};
use super::jwt;
use super::wire::lenient;
use crate::domain::{RegistryName, RepositoryName};
use crate::http_client::{HttpClient, MAX_ERROR_BYTES, Request, Response, parse_json_lossy};
use crate::registry::{Auth, RegistryError, RegistryErrorKind, RegistrySettings};

/// The permission that a request needs. Each has separate tokens, so that reads never carry more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::registry) enum TokenScope {
    /// List the repositories.
    Catalogue,
    /// List the tags and manifests of a repository, with details. Only Azure Container Registry distinguishes it from
    /// reading.
    List(RepositoryName),
    /// Read a repository.
    Pull(RepositoryName),
    /// Remove from a repository.
    Delete(RepositoryName),
    /// Put into a repository.
    Push(RepositoryName),
}

/// A token request with the scopes that every token service knows.
enum FallbackScope {
    /// Without any scope.
    Unscoped,
    /// With this one.
    Scope(String),
}

impl FallbackScope {
    fn into_scope(self) -> Option<String> {
        match self {
            Self::Unscoped => None,
            Self::Scope(scope) => Some(scope),
        }
    }
}

impl TokenScope {
    /// Returns true if another scope that a registry requires may be requested beside this one. A challenge to a read
    /// must not lead to a token that can change anything.
    fn allows_extra_scope(&self, scope: &str) -> bool {
        let reads = |scope: &str| {
            let (kind, actions) = (scope.split(':').next(), scope.rsplit(':').next().unwrap_or_default());
            kind == Some("registry") || actions.split(',').all(|action| ["pull", "metadata_read"].contains(&action))
        };
        matches!(self, Self::Delete(_) | Self::Push(_)) || scope.split(' ').all(reads)
    }

    /// Returns the repository that it is for; `None` for the catalogue.
    fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Catalogue => None,
            Self::List(name) | Self::Pull(name) | Self::Delete(name) | Self::Push(name) => Some(name),
        }
    }

    /// Returns the scope for a token service that knows only `pull` and `push`, as Quay's does (quay
    /// endpoints/v2/v2auth.py). `None` if the usual scope needs no replacement.
    fn fallback_scope(&self) -> Option<FallbackScope> {
        match self {
            Self::Catalogue => Some(FallbackScope::Unscoped),
            Self::Delete(name) => Some(FallbackScope::Scope(format!("repository:{name}:pull,push"))),
            Self::List(_) | Self::Pull(_) | Self::Push(_) => None,
        }
    }
}

impl fmt::Display for TokenScope {
    /// Formats the scope as in the distribution token specification.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalogue => f.write_str("registry:catalog:*"),
            Self::List(name) | Self::Pull(name) => write!(f, "repository:{name}:pull"),
            Self::Delete(name) => write!(f, "repository:{name}:pull,delete"),
            Self::Push(name) => write!(f, "repository:{name}:pull,push"),
        }
    }
}

/// The credentials, once they were looked up.
#[derive(Debug, Clone)]
enum Credentials {
    Anonymous,
    Password { username: String, password: SecretString },
    IdentityToken(SecretString),
    Token(SecretString),
}

/// Authenticates requests to one registry.
#[derive(Debug)]
pub(in crate::registry) struct DistributionAuthenticator {
    registry: RegistryName,
    endpoint: Url,
    token_hosts: TokenHosts,
    auth: Auth,
    /// The credentials of `docker login`, if the settings use these.
    docker_config: Option<DockerConfig>,
    /// The first credentials that were looked up, for messages.
    first_credentials: OnceLock<Credentials>,
    /// True if the token service refused a scope for deletions, and accepted one of `pull` and `push`.
    deletion_needs_fallback: AtomicBool,
    /// True if it refused the scope for the catalogue, and issued a token without one.
    catalogue_needs_fallback: AtomicBool,
    /// The registry's requirement; `None` until the first request for it.
    requirement: AsyncMutex<Option<AuthRequirement>>,
    tokens: Mutex<HashMap<TokenScope, Arc<AsyncMutex<TokenSlot>>>>,
}

/// The authentication that a registry requires.
#[derive(Debug, Clone)]
enum AuthRequirement {
    /// No known challenge, or none at all.
    NoChallenge,
    Challenge(Challenge),
}

/// The slot of the token for one scope. The holder of its lock fetches for all waiting requests.
#[derive(Debug, Default)]
struct TokenSlot {
    token: Option<Token>,
    /// An additional scope that the registry required.
    extra_scope: Option<String>,
}

#[derive(Debug, Clone)]
struct Token {
    header: HeaderValue,
    expires_at: Instant,
}

#[derive(Deserialize)]
struct WireToken {
    #[serde(default, deserialize_with = "lenient")]
    token: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    access_token: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    issued_at: Option<String>,
}

/// Deserializes seconds as a number, with a fraction or as a text. `None` for invalid and zero durations: a token that
/// expires at once would be useless, so zero means that the lifetime is not stated.
pub(in crate::registry) fn seconds<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    let seconds = match Value::deserialize(input)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    Ok(seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map(|life| life.as_secs())
        .filter(|life| *life > 0))
}

impl DistributionAuthenticator {
    pub(in crate::registry) fn new(settings: &RegistrySettings) -> Self {
        Self {
            registry: settings.name.clone(),
            endpoint: settings.endpoint.clone(),
            token_hosts: TokenHosts::new(settings),
            auth: settings.auth.clone(),
            docker_config: match &settings.auth {
                Auth::DockerConfig(files) => Some(DockerConfig::new(files.clone(), settings.timeout)),
                _ => None,
            },
            first_credentials: OnceLock::new(),
            deletion_needs_fallback: AtomicBool::new(false),
            catalogue_needs_fallback: AtomicBool::new(false),
            requirement: AsyncMutex::new(None),
            tokens: Mutex::default(),
        }
    }

    /// One that asks for no challenge, and sends user name and password.
    pub(in crate::registry) fn with_password(settings: &RegistrySettings) -> Self {
        let requirement = Some(AuthRequirement::Challenge(Challenge::Basic));
        Self { requirement: AsyncMutex::new(requirement), ..Self::new(settings) }
    }
}

#[async_trait]
impl Authenticate for DistributionAuthenticator {
    fn identity(&self) -> String {
        match (&self.auth, self.first_credentials.get()) {
            (Auth::Anonymous, _) => "anonymous".into(),
            (Auth::Basic { username, .. }, _) => format!("user {username}"),
            (Auth::Token(_), _) => "the bearer of a token".into(),
            (Auth::Entra(_), _) => "an identity of Entra ID".into(),
            (Auth::Aws(identity), _) => identity.to_string(),
            (Auth::Google(identity), _) => identity.to_string(),
            (Auth::DockerConfig(_), Some(Credentials::Password { username, .. })) => {
                format!("user {username}, by the docker configuration")
            }
            (Auth::DockerConfig(_), Some(_)) => "the bearer of a token, by the docker configuration".into(),
            (Auth::DockerConfig(files), None) => {
                format!("by the docker configuration {}", super::docker_config::join_paths(files))
            }
        }
    }

    /// Returns the `Authorization` of a request to the registry itself; `None` if none is needed or available.
    async fn authorization(
        &self,
        client: &HttpClient,
        grant: &TokenScope,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let credentials = &self.credentials(grant).await?;
        if let Credentials::Token(token) = credentials {
            return self.bearer_header(token.expose_secret()).map(Some);
        }
        match self.requirement(client).await? {
            AuthRequirement::Challenge(Challenge::Bearer { realm, service, .. }) => {
                let slot = self.slot(grant);
                let mut slot = slot.lock().await;
                if let Some(token) = slot.token.as_ref().filter(|token| token.expires_at > Instant::now()) {
                    return Ok(Some(token.header.clone()));
                }
                self.fetch_token(client, &mut slot, grant, &realm, service.as_deref()).await.map(Some)
            }
            AuthRequirement::Challenge(Challenge::Basic) | AuthRequirement::NoChallenge => {
                self.basic_header(credentials)
            }
        }
    }

    /// Returns the `Authorization` for a retry after a 401 to a request that carried `used`; `None` if there is no
    /// better one.
    async fn renew_authorization(
        &self,
        client: &HttpClient,
        grant: &TokenScope,
        used: Option<&HeaderValue>,
        refusal: &Response,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let credentials = &self.credentials(grant).await?;
        let Some(challenge) = challenge::best_challenge(&refusal.headers) else { return Ok(None) };
        if let Credentials::Token(_) = credentials {
            return Ok(None);
        }
        *self.requirement.lock().await = Some(AuthRequirement::Challenge(challenge.clone()));
        let Challenge::Bearer { realm, service, scope, .. } = challenge else {
            return Ok(self.basic_header(credentials)?.filter(|basic| Some(basic) != used));
        };
        let slot = self.slot(grant);
        let mut slot = slot.lock().await;
        // Another request may have renewed it in the meantime.
        if let Some(token) = slot.token.as_ref().filter(|token| Some(&token.header) != used) {
            return Ok(Some(token.header.clone()));
        }
        slot.extra_scope = scope.filter(|scope| *scope != grant.to_string() && grant.allows_extra_scope(scope));
        self.fetch_token(client, &mut slot, grant, &realm, service.as_deref()).await.map(Some)
    }
}

impl DistributionAuthenticator {
    /// Returns the available credentials. Podman stores credentials by repository, so they may differ from one to
    /// another.
    async fn credentials(&self, grant: &TokenScope) -> Result<Credentials, RegistryError> {
        let credentials = match (&self.auth, &self.docker_config) {
            (Auth::Basic { username, password }, _) => {
                Credentials::Password { username: username.clone(), password: password.clone() }
            }
            (Auth::Token(token), _) => Credentials::Token(token.clone()),
            (Auth::Entra(_), _) => {
                return Err(self.denied_error("is to be signed in to with Entra ID, which its kind does not take"));
            }
            (Auth::Aws(_), _) => {
                return Err(
                    self.denied_error("is to be signed in to with an identity of AWS, which its kind does not take")
                );
            }
            (Auth::Google(_), _) => {
                return Err(self.denied_error(
                    "is to be signed in to with an identity of Google Cloud, which its kind does not take",
                ));
            }
            (_, Some(docker)) => match docker.credentials(&host_and_port(&self.endpoint), grant.repository()).await? {
                StoredCredentials::Password { username, password } => Credentials::Password { username, password },
                StoredCredentials::IdentityToken(token) => Credentials::IdentityToken(token),
            },
            (Auth::Anonymous | Auth::DockerConfig(_), None) => Credentials::Anonymous,
        };
        // Later calls use the same settings.
        let _ = self.first_credentials.set(credentials.clone());
        Ok(credentials)
    }

    /// Returns the registry's requirement, determined once by the request that the distribution specification defines
    /// for it.
    ///
    /// Waiting for a 401 to a real request would not be enough: some registries show anonymous clients a part of their
    /// content as if it were everything.
    async fn requirement(&self, client: &HttpClient) -> Result<AuthRequirement, RegistryError> {
        let mut asked = self.requirement.lock().await;
        if let Some(known) = &*asked {
            return Ok(known.clone());
        }
        let mut url = self.endpoint.clone();
        url.set_path("/v2/");
        let response = client.send(&Request::get(url, "*/*", MAX_ERROR_BYTES), None).await?;
        if response.status == StatusCode::TOO_MANY_REQUESTS || response.status.is_server_error() {
            return Err(response.status_error());
        }
        let challenge = (response.status == StatusCode::UNAUTHORIZED)
            .then(|| challenge::best_challenge(&response.headers))
            .flatten();
        let asks = challenge.map_or(AuthRequirement::NoChallenge, AuthRequirement::Challenge);
        *asked = Some(asks.clone());
        Ok(asks)
    }

    fn slot(&self, grant: &TokenScope) -> Arc<AsyncMutex<TokenSlot>> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry(grant.clone()).or_default().clone()
    }

    /// Returns user name and password for the registry itself. They are sent even without a challenge: see
    /// [`Self::requirement`].
    fn basic_header(&self, credentials: &Credentials) -> Result<Option<HeaderValue>, RegistryError> {
        match credentials {
            Credentials::Password { username, password } => {
                let pair = format!("{username}:{}", password.expose_secret());
                self.secret_header(&format!("Basic {}", STANDARD.encode(pair))).map(Some)
            }
            Credentials::IdentityToken(_) => Err(self.denied_error(
                "has only an identity token in the docker configuration, and asks for a user name and a password",
            )),
            Credentials::Anonymous | Credentials::Token(_) => Ok(None),
        }
    }

    fn bearer_header(&self, token: &str) -> Result<HeaderValue, RegistryError> {
        self.secret_header(&format!("Bearer {}", token.trim()))
    }

    fn secret_header(&self, text: &str) -> Result<HeaderValue, RegistryError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| {
            self.denied_error("has a token or password that cannot be sent: it holds control characters")
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Requests a token, after checking that the token service may be used.
    async fn fetch_token(
        &self,
        client: &HttpClient,
        slot: &mut TokenSlot,
        grant: &TokenScope,
        realm: &str,
        service: Option<&str>,
    ) -> Result<HeaderValue, RegistryError> {
        let credentials = self.credentials(grant).await?;
        let realm = self.token_hosts.check_realm(realm)?;
        let further = slot.extra_scope.as_deref();
        let is_plain = self.fallback_flag(grant);
        let usual = Some(grant.to_string());
        let own = match (is_plain.is_some_and(|plain| plain.load(Ordering::Relaxed)), grant.fallback_scope()) {
            (true, Some(plain)) => plain.into_scope(),
            _ => usual.clone(),
        };
        let mut response = self.request_token(client, &credentials, &realm, service, [own.as_deref(), further]).await?;
        // A service that does not know a scope refuses the whole request. Others need `delete`, so that comes first.
        if let (StatusCode::BAD_REQUEST, Some(plain), Some(is_plain)) =
            (response.status, grant.fallback_scope(), is_plain)
            && own == usual
        {
            let again = self
                .request_token(client, &credentials, &realm, service, [plain.into_scope().as_deref(), None])
                .await?;
            if again.status == StatusCode::OK {
                is_plain.store(true, Ordering::Relaxed);
                response = again;
            }
        }
        if response.status != StatusCode::OK {
            let message = format!("registry `{}`: no token for `{grant}`", self.registry);
            return Err(response.status_error().within(message));
        }
        // Its own words could hold the token.
        let mut reply: WireToken =
            parse_json_lossy(&response.body).map_err(|_| response.malformed("no token as JSON"))?;
        let mut tokens = [&reply.token, &reply.access_token].into_iter().flatten().map(|token| token.trim());
        let text = tokens.find(|token| !token.is_empty());
        let text = text.ok_or_else(|| response.malformed("no `token` in it"))?;
        let (header, lifetime) = (self.bearer_header(text)?, jwt::lifetime(text));
        // GitLab's service says it in the token alone. A wrong word costs one refused request.
        reply.expires_in = reply.expires_in.or(lifetime);
        slot.token =
            Some(Token { header: header.clone(), expires_at: Instant::now() + usable_lifetime(&reply, &response) });
        Ok(header)
    }

    /// Returns the flag that the usual scope of such a request was refused before.
    fn fallback_flag(&self, grant: &TokenScope) -> Option<&AtomicBool> {
        match grant {
            TokenScope::Catalogue => Some(&self.catalogue_needs_fallback),
            TokenScope::Delete(_) => Some(&self.deletion_needs_fallback),
            TokenScope::List(_) | TokenScope::Pull(_) | TokenScope::Push(_) => None,
        }
    }

    /// Requests a token with these scopes.
    async fn request_token(
        &self,
        client: &HttpClient,
        credentials: &Credentials,
        realm: &Url,
        service: Option<&str>,
        [own, further]: [Option<&str>; 2],
    ) -> Result<Response, RegistryError> {
        let scopes: Vec<&str> = own.into_iter().chain(further.filter(|further| Some(*further) != own)).collect();
        let mut parameters: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
        let (ask, authorization) = if let Credentials::IdentityToken(token) = credentials {
            let scope = scopes.join(" ");
            parameters.extend((!scope.is_empty()).then_some(("scope", &*scope)));
            parameters.push(("grant_type", "refresh_token"));
            parameters.push(("client_id", "tagwarden"));
            parameters.push(("refresh_token", token.expose_secret()));
            let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
            let content = ("application/x-www-form-urlencoded".into(), form.into_bytes().into());
            let ask = Request {
                method: Method::POST,
                content: Some(content),
                gets_token: true,
                ..Request::get(realm.clone(), "application/json", MAX_ERROR_BYTES)
            };
            (ask, None)
        } else {
            parameters.extend(scopes.into_iter().map(|scope| ("scope", scope)));
            let mut url = realm.clone();
            url.query_pairs_mut().extend_pairs(parameters);
            (Request::get(url, "application/json", MAX_ERROR_BYTES), self.basic_header(credentials)?)
        };
        client.send(&ask, authorization.as_ref()).await
    }

    fn denied_error(&self, what: &str) -> RegistryError {
        RegistryError::new(RegistryErrorKind::Denied, format!("registry `{}` {what}", self.registry))
    }
}

/// Returns the time for which a token is used: its remaining lifetime by the server's own clock (a minute if not
/// stated, as in the token specification), less a quarter, at most half a minute, for requests in flight.
fn usable_lifetime(reply: &WireToken, response: &Response) -> Duration {
    let life = Duration::from_secs(reply.expires_in.unwrap_or(60).min(24 * 3600));
    let issued: Option<Timestamp> = reply.issued_at.as_deref().and_then(|text| text.parse().ok());
    let date = response.header(DATE.as_str()).and_then(|text| rfc2822::parse(text).ok());
    let age = match (issued, date) {
        (Some(issued), Some(date)) => Duration::try_from(date.timestamp().duration_since(issued)).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    let left = life.saturating_sub(age);
    left.saturating_sub((left / 4).min(Duration::from_secs(30)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_never_gets_a_token_that_can_change_something() {
        let app: RepositoryName = "app".parse().unwrap();
        for (scope, reading) in [
            ("repository:app:pull", true),
            ("repository:app:metadata_read", true),
            ("registry:catalog:*", true),
            ("repository:app:pull repository:other/app:pull", true),
            ("repository:app:pull,push", false),
            ("repository:app:delete", false),
            ("repository:app:*", false),
            ("repository:app:pull repository:app:delete", false),
        ] {
            assert_eq!(TokenScope::Pull(app.clone()).allows_extra_scope(scope), reading, "{scope}");
            assert_eq!(TokenScope::Catalogue.allows_extra_scope(scope), reading, "{scope}");
            assert!(TokenScope::Delete(app.clone()).allows_extra_scope(scope), "{scope}");
        }
    }

    #[test]
    fn tokens_are_read_as_services_write_them() {
        for (written, expected) in [
            ("60", Some(60)),
            ("60.9", Some(60)),
            ("\"300\"", Some(300)),
            ("\" 300 \"", Some(300)),
            ("1e3", Some(1000)),
            ("0", None),
            ("\"0\"", None),
            ("-5", None),
            ("null", None),
            ("true", None),
            ("[60]", None),
            ("\"an hour\"", None),
            ("1e300", None),
            ("18446744073709551615", None),
        ] {
            let reply: WireToken = parse_json_lossy(
                format!("{{\"token\":7,\"access_token\":\"t\",\"issued_at\":0,\"expires_in\":{written}}}").as_bytes(),
            )
            .unwrap();
            assert_eq!(reply.expires_in, expected, "{written}");
            assert_eq!((reply.token, reply.access_token.as_deref()), (None, Some("t")), "{written}");
        }
        assert_eq!(parse_json_lossy::<WireToken>(b"\xef\xbb\xbf{\"token\":\"t\"}").unwrap().expires_in, None);
    }

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        let reply = |expires_in, issued_at: Option<&str>| WireToken {
            token: None,
            access_token: None,
            expires_in,
            issued_at: issued_at.map(Into::into),
        };
        let response = Response {
            status: StatusCode::OK,
            headers: [(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"))].into_iter().collect(),
            body: Vec::new(),
            request: String::new(),
        };
        for (expires_in, issued_at, seconds) in [
            (None, None, 45),
            (Some(300), None, 270),
            (Some(u64::MAX), None, 24 * 3600 - 30),
            (Some(60), Some("1994-11-06T08:49:17Z"), 30),
            (Some(60), Some("1994-11-06T07:00:00Z"), 0),
            (Some(60), Some("1994-11-06T09:00:00Z"), 45),
            (Some(60), Some("nonsense"), 45),
        ] {
            let life = usable_lifetime(&reply(expires_in, issued_at), &response);
            assert_eq!(life, Duration::from_secs(seconds), "{expires_in:?} {issued_at:?}");
        }
    }
}
