//! Requests and responses with retries: all HTTP that needs no credentials of its own, for registries and the clouds
//! around them.

mod body;
mod connect;
mod echo;
mod error;
mod github_limit;
mod pauses;
mod rate_limit;
mod read_guard;
mod request;
mod response;
mod retry;
mod signer;
mod time;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use jiff::Timestamp;
use reqwest::redirect;
use url::Url;

use rate_limit::{InFlightRequest, RateLimiter};
use retry::retry_hint;
use time::ServerDates;

pub(crate) use crate::domain::one_line;
use crate::domain::{chain, decode_text};
pub(crate) use body::parse_json_lossy;
pub(crate) use error::first_error;
pub use error::{RequestError, RequestErrorKind};
pub(crate) use pauses::RetryHint;
pub use rate_limit::RateLimits;
pub(crate) use rate_limit::{Operation, Reservation};
pub(crate) use read_guard::{METADATA_TOKEN_PATH, PERMISSIONS_PATH_END};
pub(crate) use request::{Request, RetryMode};
pub(crate) use response::Response;
pub(crate) use retry::{Backoff, status_retry_hint};
pub(crate) use signer::RequestSigner;
pub use time::{ServerTime, uptime};

/// The connection settings of a client.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    /// The receiver's name in messages, such as ``registry `contoso` ``.
    pub(crate) name: String,
    /// A PEM file with further certificate authorities to trust.
    pub(crate) ca_file: Option<PathBuf>,
    /// The timeout of one request.
    pub(crate) timeout: Duration,
}

/// The retry policy for failing requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most retries of one failing request. Throttling (429) does not count against it, only against `max_total_delay`.
    pub max_retries: usize,
    /// The first pause; each further one is about twice as long, plus a random part.
    pub initial_delay: Duration,
    /// The longest pause that the registry did not request.
    pub max_delay: Duration,
    /// Longest total wait for one request, `Retry-After` included. A registry with an exhausted minute may require all
    /// of the next one, and of the one after that.
    pub max_total_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 5,
            initial_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(20),
            max_total_delay: Duration::from_mins(10),
        }
    }
}

impl RetryPolicy {
    /// Returns the policy for one more attempt, throttled or not, and soon.
    fn single_retry(self) -> Self {
        const MAX_DELAY: Duration = Duration::from_secs(2);
        let total = self.max_total_delay.min(MAX_DELAY);
        // A second pause of that length would exceed the remaining time.
        Self {
            max_retries: self.max_retries.min(1),
            initial_delay: self.initial_delay.min(total),
            max_delay: total,
            max_total_delay: total,
        }
    }
}

/// Counts of requests so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// All requests, including those for tokens and retries.
    pub total: u64,
    /// Retries of failed requests.
    pub retries: u64,
    /// Throttled responses.
    pub throttled: u64,
    /// Responses by class of status, in the order of [`RequestCounts::STATUSES`].
    pub statuses: [u64; 5],
}

impl RequestCounts {
    /// The classes of statuses; `none` is for requests without a response.
    pub const STATUSES: [&str; 5] = ["none", "2xx", "3xx", "4xx", "5xx"];

    /// Returns true if any request had a response.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        self.statuses.iter().skip(1).any(|count| *count > 0)
    }

    /// Returns the difference to an earlier count.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            retries: self.retries.saturating_sub(earlier.retries),
            throttled: self.throttled.saturating_sub(earlier.throttled),
            statuses: std::array::from_fn(|class| self.statuses[class].saturating_sub(earlier.statuses[class])),
        }
    }
}

/// Consecutive requests that failed despite all retries after which the registry counts as down: until something
/// succeeds, nothing more is retried. Otherwise each of thousands of tags would wait to fail.
const FAILURES_UNTIL_DOWN: u64 = 8;

/// The target of the event about each request, at `debug`.
pub(crate) const REQUEST_LOG: &str = "tagwarden::request";

/// Bodies of error responses are short.
pub(crate) const MAX_ERROR_BYTES: usize = 1 << 20;
/// Most bytes for which there is room before they are received.
const MAX_EXPECTED_BODY: usize = 1 << 20;

/// Sends requests to one server and to the hosts that it refers to. Follows no redirect by itself, and sends only read
/// requests unless it was created by [`HttpClient::allow_writes`]. Clones share connections, rates, counts and the
/// server's clock.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    client: reqwest::Client,
    timeout: Duration,
    retry_policy: RetryPolicy,
    counters: Arc<Counters>,
    origin: Option<Arc<OriginServer>>,
    /// True if requests other than reads are allowed.
    allows_writes: bool,
    /// Signs each attempt of a request to the server itself, if it wants signatures.
    signer: Option<Arc<dyn RequestSigner>>,
}

/// The requests so far, and the failures since the last success.
#[derive(Debug, Default)]
struct Counters {
    total: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    /// By class, in the order of [`RequestCounts::STATUSES`].
    statuses: [AtomicU64; 5],
    consecutive_failures: AtomicU64,
}

/// The server itself, as opposed to the hosts that it refers to.
#[derive(Debug)]
struct OriginServer {
    endpoint: Url,
    rate_limiter: RateLimiter,
    dates: Mutex<ServerDates>,
}

/// A request without a response.
struct SendError {
    error: RequestError,
    /// True if no connection was made, so that nothing can have been processed.
    unsent: bool,
    /// True if a retry could help.
    transient: bool,
}

impl HttpClient {
    pub(crate) fn new(config: &ClientConfig, patience: RetryPolicy) -> Result<Self, RequestError> {
        Self::build(config, patience, reqwest::Client::builder(), Duration::from_secs(10))
    }

    /// Creates a client without proxies, for servers on this machine or its link, which answer soon or never.
    pub(crate) fn without_proxy(config: &ClientConfig, patience: RetryPolicy) -> Result<Self, RequestError> {
        Self::build(config, patience, reqwest::Client::builder().no_proxy(), Duration::from_secs(2))
    }

    /// Creates a client that sends all requests to a local socket, whatever host they name.
    #[cfg(unix)]
    pub(crate) fn to_socket(config: &ClientConfig, patience: RetryPolicy, socket: &Path) -> Result<Self, RequestError> {
        let builder = reqwest::Client::builder().no_proxy().unix_socket(socket);
        Self::build(config, patience, builder, Duration::from_secs(2))
    }

    /// Fails, because this system has no such sockets.
    ///
    /// # Errors
    /// Returns an error in any case.
    #[cfg(not(unix))]
    pub(crate) fn to_socket(config: &ClientConfig, _: RetryPolicy, _: &Path) -> Result<Self, RequestError> {
        let message = format!("{}: this system has no such sockets", config.name);
        Err(RequestError::new(RequestErrorKind::InvalidSettings, message))
    }

    fn build(
        config: &ClientConfig,
        patience: RetryPolicy,
        builder: reqwest::ClientBuilder,
        connect: Duration,
    ) -> Result<Self, RequestError> {
        let mut builder = builder
            .user_agent(concat!("tagwarden/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            // Folded header lines are obsolete, not wrong (RFC 9112, 5.2).
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .connect_timeout(config.timeout.min(connect));
        if let Some(path) = &config.ca_file {
            let wrong = |why: &str| {
                let message = format!("{}: ca_file {} {why}", config.name, path.display());
                RequestError::new(RequestErrorKind::InvalidSettings, message)
                    .with_help("give a PEM file with one or more certificates")
            };
            let read = fs::read(path).and_then(|bytes| Ok(decode_text(bytes)?));
            let pem = read.map_err(|error| wrong("cannot be read").caused_by(error))?;
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|error| wrong("is not understood").caused_by(error))?;
            if certificates.is_empty() {
                return Err(wrong("holds no certificate"));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|error| {
            let message = format!("{}: no HTTP client can be made", config.name);
            RequestError::new(RequestErrorKind::InvalidSettings, message).caused_by(error)
        })?;
        Ok(Self {
            client,
            timeout: config.timeout,
            retry_policy: patience,
            counters: Arc::default(),
            origin: None,
            allows_writes: false,
            signer: None,
        })
    }

    /// Signs each attempt of a request to the server itself: a signature is valid for minutes, and a retry may come later.
    pub(crate) fn with_signer(self, signer: Option<Arc<dyn RequestSigner>>) -> Self {
        Self { signer, ..self }
    }

    /// Limits the rate of requests to one server: at most that many a minute, and as the server itself requests.
    /// Requests to other hosts are not counted.
    pub(crate) fn with_rate_limits(self, endpoint: &Url, chosen: RateLimits) -> Self {
        let home = OriginServer {
            endpoint: endpoint.clone(),
            rate_limiter: RateLimiter::new(chosen),
            dates: Mutex::default(),
        };
        Self { origin: Some(Arc::new(home)), ..self }
    }

    /// Sets the rates that the server documents. Configured rates take precedence.
    pub(crate) fn set_documented_limits(&self, rates: RateLimits) {
        if let Some(home) = &self.origin {
            home.rate_limiter.set_documented_limits(rates);
        }
    }

    /// Waits until a request of that kind may be sent to the server, and reserves its slot. `None` without rate limits.
    pub(crate) async fn reserve(&self, operation: Operation) -> Option<Reservation> {
        match &self.origin {
            Some(home) => Some(home.rate_limiter.lane(operation).reserve().await),
            None => None,
        }
    }

    /// Returns the current time by the server's own clock; `None` if no response contained it.
    pub(crate) fn server_time(&self) -> Option<ServerTime> {
        self.origin.as_ref()?.dates.lock().unwrap_or_else(PoisonError::into_inner).time_at(uptime())
    }

    /// Returns the header whose invalid values keep [`Self::server_time`] unknown.
    pub(crate) fn invalid_date_header(&self) -> Option<&'static str> {
        self.origin.as_ref()?.dates.lock().unwrap_or_else(PoisonError::into_inner).invalid_header()
    }

    /// Returns the counts of requests so far.
    pub(crate) fn request_counts(&self) -> RequestCounts {
        RequestCounts {
            total: self.counters.total.load(Ordering::Relaxed),
            retries: self.counters.retries.load(Ordering::Relaxed),
            throttled: self.counters.throttled.load(Ordering::Relaxed),
            statuses: std::array::from_fn(|class| self.counters.statuses[class].load(Ordering::Relaxed)),
        }
    }

    /// Sends a request, with retries if these are safe and could help, and returns the last response, whatever its
    /// status.
    ///
    /// After a throttled request, none of that kind is sent to the server until the requested pause is over.
    pub(crate) async fn send(
        &self,
        ask: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RequestError> {
        let headers = authorization.map(|value| (AUTHORIZATION, value.clone()));
        self.send_with_headers(ask, &headers.into_iter().collect()).await
    }

    /// Sends a request with additional headers, otherwise like [`Self::send`].
    pub(crate) async fn send_with_headers(&self, ask: &Request, headers: &HeaderMap) -> Result<Response, RequestError> {
        if !self.allows_writes && !ask.is_read_only() {
            return Err(ask.read_only_error());
        }
        let mut pauses = Backoff::new(self.retry_policy_for(ask));
        loop {
            let pass = match self.origin_of(ask) {
                Some(home) => Some(home.rate_limiter.lane_for_request(ask).admit().await),
                None => None,
            };
            let (outcome, hint) = self.attempt(ask, headers, pass).await;
            let Some(hint) = hint else { return outcome.map_err(|cut| cut.error) };
            let Some(pause) = self.backoff_delay(&mut pauses, hint) else { return self.give_up(ask, outcome, hint) };
            if ask.retry_mode == RetryMode::RecheckFirst {
                tokio::time::sleep(pause).await;
                return outcome.map_err(|cut| cut.error);
            }
            tracing::debug!(request = ask.description(), pause_ms = pause.as_millis(), "trying again");
            let retries = self.counters.retries.fetch_add(1, Ordering::Relaxed);
            if let (Err(cut), 1) = (&outcome, retries)
                && !self.request_counts().has_answers()
            {
                // Somebody may be waiting, and wonder what for.
                tracing::warn!("{}; trying again", chain(&cut.error));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request once, in its reserved slot, without waiting before. A pause that the server requests is over
    /// when this returns.
    ///
    /// # Errors
    /// Fails as [`Self::send`] does; returns [`RequestErrorKind::Throttled`], without sending anything, if the server
    /// has requested a pause since the reservation.
    pub(crate) async fn send_reserved(
        &self,
        ask: &Request,
        authorization: Option<&HeaderValue>,
        place: Option<Reservation>,
    ) -> Result<Response, RequestError> {
        let pass = match place.map(Reservation::redeem) {
            Some(None) => {
                let message = format!("{} was not sent: the server asked for a pause meanwhile", ask.description());
                return Err(RequestError::new(RequestErrorKind::Throttled, message));
            }
            Some(pass) => pass,
            None => None,
        };
        let headers = authorization.map(|value| (AUTHORIZATION, value.clone())).into_iter().collect();
        let (outcome, hint) = self.attempt(ask, &headers, pass).await;
        let Some(hint) = hint else { return outcome.map_err(|cut| cut.error) };
        let Some(pause) = self.backoff_delay(&mut Backoff::new(self.retry_policy), hint) else {
            return self.give_up(ask, outcome, hint);
        };
        tokio::time::sleep(pause).await;
        outcome.map_err(|cut| cut.error)
    }

    /// Returns the retry policy for a request.
    fn retry_policy_for(&self, ask: &Request) -> RetryPolicy {
        match ask.retry_mode {
            RetryMode::Once => self.retry_policy.single_retry(),
            RetryMode::Always | RetryMode::IfUnprocessed | RetryMode::RecheckFirst => self.retry_policy,
        }
    }

    /// Returns the server itself, if a request is for it.
    fn origin_of(&self, ask: &Request) -> Option<&OriginServer> {
        self.origin.as_deref().filter(|home| home.endpoint.origin() == ask.url.origin())
    }

    /// Sends a request once and counts it. A returned hint requests a retry; without one the request is complete.
    async fn attempt(
        &self,
        ask: &Request,
        headers: &HeaderMap,
        pass: Option<InFlightRequest>,
    ) -> (Result<Response, SendError>, Option<RetryHint>) {
        self.counters.total.fetch_add(1, Ordering::Relaxed);
        let started = uptime();
        let outcome = self.send_once(ask, headers, self.origin_of(ask)).await;
        let millis = uptime().saturating_sub(started).as_millis();
        match &outcome {
            Ok(answer) => tracing::debug!(
                target: REQUEST_LOG, request = ask.description(), status = answer.status.as_u16(), millis, "request"
            ),
            Err(cut) => tracing::debug!(
                target: REQUEST_LOG, request = ask.description(), error = cut.error.kind.label(), millis, "request"
            ),
        }
        let class = outcome.as_ref().map_or(0, |answer| usize::from(answer.status.as_u16() / 100).clamp(2, 5) - 1);
        self.counters.statuses[class].fetch_add(1, Ordering::Relaxed);
        let hint = retry_hint(ask, &outcome);
        if let (Some(home), Ok(answer)) = (self.origin_of(ask), &outcome)
            && let Some(budget) = github_limit::hourly_budget(&answer.headers)
        {
            home.rate_limiter.record_budget(budget);
        }
        if let (Some(pass), Ok(answer)) = (pass, &outcome) {
            match hint.filter(|hint| hint.throttled) {
                Some(hint) => pass.record_throttling(self.lane_pause(hint)),
                None => pass.record_response(remaining_calls(&answer.headers)),
            }
        }
        match hint {
            Some(hint) if hint.throttled => {
                self.counters.throttled.fetch_add(1, Ordering::Relaxed);
            }
            None if outcome.is_ok() => self.counters.consecutive_failures.store(0, Ordering::Relaxed),
            _ => {}
        }
        (outcome, hint)
    }

    /// Returns the delay before a retry; `None` if the request has failed for good.
    fn backoff_delay(&self, pauses: &mut Backoff, hint: RetryHint) -> Option<Duration> {
        let failures = self.counters.consecutive_failures.load(Ordering::Relaxed);
        // A server that never answered was waited for once, and a person may be waiting for each further time.
        let down = failures >= FAILURES_UNTIL_DOWN || failures > 0 && !self.request_counts().has_answers();
        let pause = if down { None } else { pauses.next_delay(hint) };
        if pause.is_none() {
            self.counters.consecutive_failures.fetch_add(1, Ordering::Relaxed);
        }
        pause
    }

    /// Ends a request that must not be retried. A caller that has to check preconditions first would otherwise take a
    /// refusal without a wait for one whose pause is over, and retry at once.
    fn give_up(
        &self,
        ask: &Request,
        outcome: Result<Response, SendError>,
        hint: RetryHint,
    ) -> Result<Response, RequestError> {
        match outcome {
            Ok(answer) if hint.throttled && ask.retry_mode == RetryMode::RecheckFirst => {
                let wanted = hint.after.map_or_else(
                    || "it throttles request after request".to_owned(),
                    |after| {
                        let (after, most) = (format_seconds(after), format_seconds(self.retry_policy.max_total_delay));
                        format!("it asks for a pause of {after}, and a run waits {most} at most")
                    },
                );
                let message = format!("{}: {wanted}", answer.description());
                Err(RequestError::new(RequestErrorKind::RetriesExhausted, message)
                    .with_help("run again when it is less busy"))
            }
            outcome => outcome.map_err(|cut| cut.error),
        }
    }

    /// Returns the pause for all requests of a kind after one was throttled. Pauses beyond the retry policy are not
    /// waited for: each request is then refused by itself.
    fn lane_pause(&self, hint: RetryHint) -> Option<Duration> {
        let after = hint.after.filter(|after| *after <= self.retry_policy.max_total_delay)?;
        Some(after + retry::jitter(self.retry_policy.initial_delay))
    }

    async fn send_once(
        &self,
        ask: &Request,
        headers: &HeaderMap,
        home: Option<&OriginServer>,
    ) -> Result<Response, SendError> {
        let mut request = self
            .client
            .request(ask.method.clone(), ask.url.clone())
            .timeout(self.timeout)
            .header(ACCEPT, HeaderValue::from_static(ask.accept))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .headers(headers.clone());
        if let Some(signer) = self.signer.as_ref().filter(|_| home.is_some()) {
            let signed = signer.headers(ask);
            request = request.headers(signed.map_err(|error| SendError { error, unsent: true, transient: false })?);
        }
        if let Some((content_type, bytes)) = &ask.content {
            request = request.header(CONTENT_TYPE, &**content_type).body(bytes.to_vec());
        }
        let cut = |what: &str, error: reqwest::Error| {
            let what = if error.is_timeout() { "took too long" } else { what };
            let failure = RequestError::new(RequestErrorKind::Connection, format!("{} {what}", ask.description()));
            SendError {
                unsent: error.is_connect(),
                transient: !error.is_builder(),
                error: match connect::Obstacle::of(&error, &ask.url) {
                    Some(obstacle) => failure.caused_by(obstacle),
                    None => failure.caused_by(error.without_url()),
                },
            }
        };
        let mut response = request.send().await.map_err(|error| {
            let what = if error.is_connect() { "could not connect" } else { "got no answer" };
            cut(what, error)
        })?;
        // Before the body, which may take long.
        if let Some(home) = home {
            home.dates.lock().unwrap_or_else(PoisonError::into_inner).record(response.headers(), uptime());
        }
        // One that grows step by step is copied each time, and leaves holes in the memory.
        let length = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        let mut body = Vec::with_capacity(length.min(ask.max_bytes).min(MAX_EXPECTED_BODY));
        while let Some(chunk) = response.chunk().await.map_err(|error| cut("was cut in the answer", error))? {
            if body.len() + chunk.len() > ask.max_bytes.max(MAX_ERROR_BYTES) {
                let error = RequestError::new(
                    RequestErrorKind::Malformed,
                    format!(
                        "{} answered with more than {} bytes",
                        ask.description(),
                        ask.max_bytes.max(MAX_ERROR_BYTES)
                    ),
                );
                return Err(SendError { error, unsent: false, transient: false });
            }
            body.extend_from_slice(&chunk);
        }
        let body =
            body::decode(response.headers(), body, ask.max_bytes.max(MAX_ERROR_BYTES)).map_err(|why| SendError {
                error: RequestError::new(
                    RequestErrorKind::Malformed,
                    format!("{} answered {} with what cannot be unpacked: {why}", ask.description(), response.status()),
                ),
                unsent: false,
                transient: false,
            })?;
        let body = if response.status().is_success() { body } else { echo::mask_echo(body, headers, ask) };
        Ok(Response {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body,
            request: ask.description(),
        })
    }
}

/// Formats a time, such as `15m`, without fractions of a second.
fn format_seconds(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// Returns the `Date` of a response; `None` if it has none, or an invalid one.
pub(crate) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    pauses::parse_time(headers.get(DATE)?.to_str().ok()?.trim())
}

/// Returns the remaining calls that Azure Container Registry reports, in most responses of its token service and to
/// deletions.
fn remaining_calls(headers: &HeaderMap) -> Option<f64> {
    headers.get("x-ms-ratelimit-remaining-calls-per-second")?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
