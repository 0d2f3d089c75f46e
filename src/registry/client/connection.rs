//! Authenticated requests to one registry: with limited concurrency, a fresh token after a 401, and guarded redirects.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use http::StatusCode;
use http::header::{HeaderValue, LOCATION};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::auth::TokenScope;
use super::authenticator::{Authenticate, Authenticator};
use crate::domain::RepositoryName;
use crate::http_client::{
    ClientConfig, HttpClient, MAX_ERROR_BYTES, Operation, Request, Reservation, Response, RetryMode, RetryPolicy,
};
use crate::registry::{RateLimits, RegistryError, RegistryErrorKind, RegistrySettings, RequestCounts, ServerTime};

/// The permitted targets of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum RedirectPolicy {
    /// To another path of the registry: its responses are trusted.
    SameOrigin,
    /// To any host: the response is verified against the requested digest.
    AnyHost,
}

const MAX_REDIRECTS: usize = 5;

/// Most pages of long lists that are requested, received or parsed at once. A page of a thousand rows takes about a
/// megabyte until it is parsed, and ten at once keep a processor busy even if answers are slow.
const MAX_PAGES_IN_FLIGHT: usize = 10;

/// The completed waits of one deletion or push: its slot in the rate limit, and a token. Acquired before a tag is
/// checked for its removal, because otherwise the check would be outdated when the request is sent.
#[derive(Debug)]
pub struct WritePermit {
    reservation: Option<Reservation>,
    authorization: Option<HeaderValue>,
    condition: Option<SendCondition>,
}

/// A condition under which a request may still be sent.
struct SendCondition(Box<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for SendCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendCondition")
    }
}

impl WritePermit {
    /// Adds the condition under which the request may still be sent. It is evaluated immediately before that, after
    /// every wait; if it does not hold, the request fails with [`RegistryErrorKind::OutdatedCheck`].
    #[must_use]
    pub fn only_while(self, condition: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { condition: Some(SendCondition(Box::new(condition))), ..self }
    }
}

/// The HTTP connection of one registry's reader or writer. Both share tokens, rates, counts, the clock of the registry
/// and the memory of its failures.
#[derive(Debug)]
pub(in crate::registry) struct HttpConnection {
    pub(in crate::registry) settings: RegistrySettings,
    client: HttpClient,
    authenticator: Arc<dyn Authenticate>,
    /// Separate for reader and writer: otherwise a removal would wait behind reads, and the check of its tag would be
    /// outdated.
    slots: Semaphore,
    /// Bounds the pages of long lists that are in memory at once, whatever the number of repositories that are read.
    pub(in crate::registry) page_slots: Semaphore,
    /// True if it may change the registry: only a writer's does.
    is_writer: bool,
}

impl HttpConnection {
    /// Creates the connection of a reader: it sends GET and HEAD, and requests for authentication, and refuses
    /// everything else.
    ///
    /// # Errors
    /// Returns an error if the settings are invalid; nothing is sent yet.
    pub(in crate::registry) fn new(
        settings: RegistrySettings,
        retry_policy: RetryPolicy,
    ) -> Result<Self, RegistryError> {
        let authenticator = settings.provider.authenticator(&settings, retry_policy);
        Self::with_authenticator(settings, retry_policy, authenticator)
    }

    /// Does the same with an authenticator that shares something with another one.
    ///
    /// # Errors
    /// Fails as [`Self::new`] does.
    pub(in crate::registry) fn with_authenticator(
        settings: RegistrySettings,
        retry_policy: RetryPolicy,
        authenticator: Authenticator,
    ) -> Result<Self, RegistryError> {
        let endpoint = &settings.endpoint;
        let bare = matches!(endpoint.scheme(), "http" | "https")
            && endpoint.host_str().is_some()
            && endpoint.path() == "/"
            && endpoint.query().is_none()
            && endpoint.fragment().is_none();
        let secret = !endpoint.username().is_empty() || endpoint.password().is_some();
        if secret || !bare {
            let why = if secret { "holds credentials; they belong into `auth`" } else { "is not just scheme and host" };
            return Err(RegistryError::new(
                RegistryErrorKind::InvalidSettings,
                format!(
                    "registry `{}`: its endpoint {why}; write it like `https://registry.example:5000`",
                    settings.name
                ),
            ));
        }
        let config = ClientConfig {
            name: format!("registry `{}`", settings.name),
            ca_file: settings.ca_file.clone(),
            timeout: settings.timeout,
        };
        let authenticator: Arc<dyn Authenticate> = authenticator.into_inner().into();
        let client = HttpClient::new(&config, retry_policy)?
            .with_rate_limits(&settings.endpoint, settings.rate_limits)
            .with_signer(authenticator.signer());
        Ok(Self {
            client,
            authenticator,
            slots: Semaphore::new(settings.concurrency.max(1)),
            page_slots: Semaphore::new(MAX_PAGES_IN_FLIGHT),
            is_writer: false,
            settings,
        })
    }

    /// Returns the connection of a writer, which may change the registry.
    #[must_use]
    pub(in crate::registry) fn for_writer(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            client: self.client.clone().allow_writes(),
            authenticator: Arc::clone(&self.authenticator),
            slots: Semaphore::new(self.settings.concurrency.max(1)),
            page_slots: Semaphore::new(MAX_PAGES_IN_FLIGHT),
            is_writer: true,
        }
    }

    /// Returns the connection to another host of the same registry, with its own authenticator. Both share counts and the
    /// memory of failures; rates and the clock are those of the first host.
    #[must_use]
    pub(in crate::registry) fn to_host(&self, endpoint: Url, authenticator: Authenticator) -> Self {
        Self {
            settings: RegistrySettings { endpoint, ..self.settings.clone() },
            client: self.client.clone(),
            authenticator: authenticator.into_inner().into(),
            slots: Semaphore::new(self.settings.concurrency.max(1)),
            page_slots: Semaphore::new(MAX_PAGES_IN_FLIGHT),
            is_writer: self.is_writer,
        }
    }

    /// Returns the address of a path of the registry, such as `/v2/shop/api/tags/list`.
    pub(in crate::registry) fn url(&self, path: &str) -> Url {
        let mut url = self.settings.endpoint.clone();
        url.set_path(path);
        url
    }

    pub(in crate::registry) fn identity(&self) -> String {
        self.authenticator.identity()
    }

    /// Drops credentials that the registry says have expired. Returns true if there may be others.
    pub(in crate::registry) fn drop_expired(&self) -> bool {
        self.authenticator.drop_expired()
    }

    /// Announces the repositories of the next requests: they share tokens if each must be named in these.
    pub(in crate::registry) fn preauthorize(&self, repositories: &[RepositoryName]) {
        self.authenticator.preauthorize(repositories);
    }

    /// Returns, for each repository, true if the identity has a permission there, such as `TokenScope::Delete`, as far
    /// as its tokens show. Only requests tokens. If a registry's tokens do not show permissions, everything is allowed.
    pub(in crate::registry) async fn check_authorization(
        &self,
        scope: fn(RepositoryName) -> TokenScope,
        repositories: &[RepositoryName],
    ) -> BTreeMap<RepositoryName, Result<(), RegistryError>> {
        self.preauthorize(repositories);
        let asked = repositories.iter().cloned().map(|name| async move {
            let granted = async {
                let _place = self.acquire_slot().await?;
                self.authorization(&scope(name.clone())).await.map(drop)
            };
            let granted = granted.await;
            (name, granted)
        });
        stream::iter(asked).buffer_unordered(self.settings.concurrency.max(1)).collect().await
    }

    /// Returns the bearer token that requests of that scope carry, or `None` where they carry none. Nothing but a token is
    /// asked for.
    ///
    /// # Errors
    /// When there is no such token.
    pub(in crate::registry) async fn bearer_token(
        &self,
        scope: &TokenScope,
    ) -> Result<Option<SecretString>, RegistryError> {
        let _place = self.acquire_slot().await?;
        let header = self.authorization(scope).await?;
        Ok(header.and_then(|value| Some(value.to_str().ok()?.strip_prefix("Bearer ")?.into())))
    }

    /// Sets the rates that the registry documents. Those in the settings stand above them.
    pub(in crate::registry) fn set_documented_limits(&self, rates: RateLimits) {
        self.client.set_documented_limits(rates);
    }

    /// Waits for a slot for a deletion in the rate limit, and then for a token that allows it: in that order, so that
    /// the token is fresh when it is used.
    ///
    /// # Errors
    /// Returns an error if there is no such token.
    pub(in crate::registry) async fn acquire_deletion_permit(
        &self,
        repository: &RepositoryName,
    ) -> Result<WritePermit, RegistryError> {
        self.acquire_permit(Operation::Delete, &TokenScope::Delete(repository.clone())).await
    }

    /// Does the same for a push.
    ///
    /// # Errors
    /// Fails as [`Self::acquire_deletion_permit`] does.
    pub(in crate::registry) async fn acquire_push_permit(
        &self,
        repository: &RepositoryName,
    ) -> Result<WritePermit, RegistryError> {
        self.acquire_permit(Operation::Write, &TokenScope::Push(repository.clone())).await
    }

    async fn acquire_permit(&self, operation: Operation, scope: &TokenScope) -> Result<WritePermit, RegistryError> {
        let place = self.client.reserve(operation).await;
        let signature = self.authorization(scope).await?;
        Ok(WritePermit { reservation: place, authorization: signature, condition: None })
    }

    /// Sends a deletion or a push without waiting before: neither for its slot nor for a token. The limit of requests
    /// in flight equals that of concurrent removals.
    ///
    /// # Errors
    /// Returns [`RegistryErrorKind::Throttled`], [`RegistryErrorKind::TokenRenewed`] and
    /// [`RegistryErrorKind::OutdatedCheck`] if the preconditions must be checked before the next attempt.
    pub(in crate::registry) async fn send_with_permit(
        &self,
        scope: &TokenScope,
        request: &Request,
        clearance: WritePermit,
    ) -> Result<Response, RegistryError> {
        let _place = self.acquire_slot().await?;
        let WritePermit { reservation: place, authorization: signature, condition } = clearance;
        if condition.is_some_and(|SendCondition(holds)| !holds()) {
            let message = format!("{} was not sent: its last check is outdated", request.description());
            return Err(RegistryError::new(RegistryErrorKind::OutdatedCheck, message));
        }
        let response = self.client.send_reserved(request, signature.as_ref(), place).await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        match self.renew_authorization(scope, signature.as_ref(), &response).await? {
            Some(_) => Err(token_renewed_error(&response)),
            None => Ok(response),
        }
    }

    /// Returns the current time by the registry's own clock; `None` if no response contained it.
    pub(in crate::registry) fn server_time(&self) -> Option<ServerTime> {
        self.client.server_time()
    }

    /// Returns the header whose invalid values keep the clock unknown.
    pub(in crate::registry) fn invalid_date_header(&self) -> Option<&'static str> {
        self.client.invalid_date_header()
    }

    pub(in crate::registry) fn request_counts(&self) -> RequestCounts {
        self.client.request_counts()
    }

    /// Sends a GET without credentials, and returns its response whatever the status: the challenge for anonymous
    /// clients identifies the product.
    pub(in crate::registry) async fn get_anonymously(&self, path: &str) -> Result<Response, RegistryError> {
        let _place = self.acquire_slot().await?;
        self.client.send(&Request::get(self.url(path), "*/*", MAX_ERROR_BYTES), None).await
    }

    /// Sends a request to the registry and returns its response, whatever the status; a redirect is a response, too.
    ///
    /// A request keeps its slot among those in flight while it waits for a retry, so a throttling registry gets fewer
    /// requests.
    pub(in crate::registry) async fn send(
        &self,
        scope: &TokenScope,
        request: &Request,
    ) -> Result<Response, RegistryError> {
        let _place = self.acquire_slot().await?;
        self.send_authorized(scope, request).await
    }

    /// Sends a read, following redirects. Credentials are sent to the registry's own origin only.
    pub(in crate::registry) async fn read(
        &self,
        scope: &TokenScope,
        mut request: Request,
        redirects: RedirectPolicy,
    ) -> Result<Response, RegistryError> {
        let _place = self.acquire_slot().await?;
        for _ in 0..=MAX_REDIRECTS {
            let response = if self.is_same_origin(&request.url) {
                self.send_authorized(scope, &request).await?
            } else {
                self.client.send(&request, None).await?
            };
            if !is_redirect(response.status) {
                return Ok(response);
            }
            let target = response.header(LOCATION.as_str()).and_then(|text| request.url.join(text).ok());
            let Some(target) = target else { return Err(response.status_error()) };
            if !self.may_follow(&request.url, &target, redirects) {
                let target = target.origin().ascii_serialization();
                let help = format!("set `endpoint` to the address that it redirects to (to {target})");
                let kind = RegistryErrorKind::Status(response.status.as_u16());
                return Err(RegistryError::new(kind, response.description()).with_help(help));
            }
            request.url = target;
        }
        Err(RegistryError::new(
            RegistryErrorKind::Malformed,
            format!("{}: more than {MAX_REDIRECTS} redirects one after the other", request.description()),
        ))
    }

    /// Returns true if a redirect may be followed. Never from https to http. To another host only if the response can
    /// be verified, and not to servers on this machine or its link alone, such as a cloud's metadata service.
    fn may_follow(&self, from: &Url, to: &Url, redirects: RedirectPolicy) -> bool {
        let secure = match to.scheme() {
            "https" => true,
            "http" => from.scheme() == "http",
            _ => false,
        };
        let outside = !is_local_or_metadata(to) || is_local_or_metadata(&self.settings.endpoint);
        secure && (redirects == RedirectPolicy::AnyHost && outside || self.is_same_origin(to))
    }

    /// Returns true if a URL belongs to the registry itself: same scheme, host and port.
    pub(in crate::registry) fn is_same_origin(&self, url: &Url) -> bool {
        url.origin() == self.settings.endpoint.origin()
    }

    async fn acquire_slot(&self) -> Result<tokio::sync::SemaphorePermit<'_>, RegistryError> {
        // The semaphore is never closed; if it were, that would be a failure like any other.
        self.slots.acquire().await.map_err(|_| {
            RegistryError::new(
                RegistryErrorKind::Connection,
                format!("registry `{}` is not asked any more", self.settings.name),
            )
        })
    }

    async fn authorization(&self, scope: &TokenScope) -> Result<Option<HeaderValue>, RegistryError> {
        self.authenticator.authorization(&self.client, scope).await
    }

    async fn send_authorized(&self, scope: &TokenScope, request: &Request) -> Result<Response, RegistryError> {
        if !self.is_writer && matches!(scope, TokenScope::Delete(_) | TokenScope::Push(_)) {
            return Err(request.read_only_error());
        }
        let signature = self.authorization(scope).await?;
        let response = self.client.send(request, signature.as_ref()).await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        match self.renew_authorization(scope, signature.as_ref(), &response).await? {
            // Renewing it may have taken long.
            Some(_) if request.retry_mode == RetryMode::RecheckFirst => Err(token_renewed_error(&response)),
            Some(signature) => self.client.send(request, Some(&signature)).await,
            None => Ok(response),
        }
    }

    /// Returns the `Authorization` for a retry after a 401; `None` if there is no better one.
    async fn renew_authorization(
        &self,
        scope: &TokenScope,
        used: Option<&HeaderValue>,
        refusal: &Response,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        self.authenticator.renew_authorization(&self.client, scope, used, refusal).await
    }
}

/// Returns the error for a refused token that was replaced.
fn token_renewed_error(refusal: &Response) -> RegistryError {
    RegistryError::new(RegistryErrorKind::TokenRenewed, refusal.description()).with_help("there is a new token")
}

/// Returns true if a host is this machine, its link, or a service that a cloud offers only to its machines.
fn is_local_or_metadata(url: &Url) -> bool {
    const METADATA: [IpAddr; 3] = [
        IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
        IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    ];
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => address.to_canonical(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            return name == "localhost" || name.ends_with(".localhost") || name == "metadata.google.internal";
        }
        None => return true,
    };
    let near = match address {
        IpAddr::V4(address) => address.is_link_local() || address.octets()[0] == 0,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    near || address.is_loopback() || address.is_unspecified() || METADATA.contains(&address)
}

/// Returns true if a URL leads to this machine by its host, as `localhost` or a loopback address.
#[must_use]
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::providers::Distribution;

    #[tokio::test]
    async fn a_reader_refuses_a_deletion_although_its_connection_has_a_writer() {
        let endpoint = "https://r.example".parse().unwrap();
        let settings = RegistrySettings::with_defaults("test".parse().unwrap(), &Distribution, endpoint);
        let reader = HttpConnection::new(settings, RetryPolicy::default()).unwrap();
        let writer = reader.for_writer();
        assert_eq!((reader.is_writer, writer.is_writer), (false, true));
        assert!(Arc::ptr_eq(&reader.authenticator, &writer.authenticator), "tokens are shared");
        let deletion = Request::delete(reader.url("/v2/app/manifests/v1"));
        let error = reader.send(&TokenScope::Delete("app".parse().unwrap()), &deletion).await.unwrap_err();
        assert!(error.chain().contains("only what reads may be sent here"), "{error}");
        assert_eq!(reader.request_counts().total, 0);
    }

    #[test]
    fn redirects_lead_where_nothing_is_lost() {
        let cases = [
            ("https://r.example", "https://r.example/other", true, true),
            ("https://r.example", "https://r.example:443/other", true, true),
            ("https://r.example", "https://storage.example/blob", false, true),
            ("https://r.example", "https://r.example:8443/blob", false, true),
            ("https://r.example", "http://r.example/other", false, false),
            ("https://r.example", "file:///etc/passwd", false, false),
            ("http://r.example", "http://storage.example/blob", false, true),
            ("http://r.example", "https://r.example/blob", false, true),
            ("http://r.example", "http://10.0.0.7:9000/blob", false, true),
            ("http://r.example", "http://169.254.169.254/latest", false, false),
            ("http://r.example", "http://[::ffff:169.254.169.254]/latest", false, false),
            ("http://r.example", "http://168.63.129.16/machine", false, false),
            ("http://r.example", "http://[fd00:ec2::254]/latest", false, false),
            ("http://r.example", "http://metadata.google.internal/computeMetadata", false, false),
            ("http://r.example", "http://localhost:9000/blob", false, false),
            ("http://r.example", "http://[::1]/blob", false, false),
            ("http://127.0.0.1:5000", "http://127.0.0.1:9000/blob", false, true),
        ];
        for (endpoint, to, within, anywhere) in cases {
            let endpoint: Url = endpoint.parse().unwrap();
            let name = "test".parse().unwrap();
            let settings = RegistrySettings::with_defaults(name, &Distribution, endpoint.clone());
            let http = HttpConnection::new(settings, RetryPolicy::default()).unwrap();
            let to: Url = to.parse().unwrap();
            assert_eq!(http.may_follow(&endpoint, &to, RedirectPolicy::SameOrigin), within, "{endpoint} -> {to}");
            assert_eq!(http.may_follow(&endpoint, &to, RedirectPolicy::AnyHost), anywhere, "{endpoint} -> {to}");
        }
    }
}
