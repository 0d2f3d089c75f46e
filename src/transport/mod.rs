//! Requests and answers, with patience: everything about HTTP that needs no credentials of its own, for registries as for
//! the clouds around them.

mod answer;
mod body;
mod error;
mod pace;
mod reading;
mod retry;
mod time;

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use jiff::Timestamp;
use reqwest::redirect;
use url::Url;

use pace::{Pace, Pass};
use retry::wish;
use time::Dates;

pub(crate) use answer::{Answer, plain};
pub(crate) use body::json;
pub use error::{RequestError, RequestErrorKind};
pub use pace::Rates;
pub(crate) use pace::{Operation, Reservation};
pub(crate) use retry::{Pauses, Wish, wish_of};
pub use time::{ServerTime, steady};

/// Whom requests go to.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// What it is called in messages, such as ``registry `contoso` ``.
    pub(crate) name: String,
    /// A PEM file with further certificate authorities to trust.
    pub(crate) ca_file: Option<PathBuf>,
    /// How long one request may take.
    pub(crate) timeout: Duration,
}

/// How long a failing request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Most retries of one request that fails. Throttling (429) does not count against it, only against `total`.
    pub retries: usize,
    /// The first pause; each further one is about twice as long, plus a random part.
    pub first: Duration,
    /// The longest pause that the registry did not ask for.
    pub longest: Duration,
    /// Most waiting for one request, `Retry-After` included. A registry whose minute is used up may ask for all of the
    /// next one, and of the one after that.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 5,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(20),
            total: Duration::from_mins(10),
        }
    }
}

impl Patience {
    /// The patience for one more try, throttled or not, and that soon.
    fn once(self) -> Self {
        const SOON: Duration = Duration::from_secs(2);
        let total = self.total.min(SOON);
        // A second pause of that length would be more than what is left.
        Self { retries: self.retries.min(1), first: self.first.min(total), longest: total, total }
    }
}

/// How many requests were made so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// All requests, those for tokens and repeated ones included.
    pub total: u64,
    /// Those that repeated one that had failed.
    pub retries: u64,
    /// Answers that asked to slow down.
    pub throttled: u64,
    /// Those that were answered with each class of status, in the order of [`Requests::STATUSES`].
    pub statuses: [u64; 5],
}

impl Requests {
    /// The classes of statuses; `none` is for requests that got no answer.
    pub const STATUSES: [&str; 5] = ["none", "2xx", "3xx", "4xx", "5xx"];

    /// Each number with what `change` makes of it and of that of others.
    fn with(self, other: Self, change: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            total: change(self.total, other.total),
            retries: change(self.retries, other.retries),
            throttled: change(self.throttled, other.throttled),
            statuses: std::array::from_fn(|class| change(self.statuses[class], other.statuses[class])),
        }
    }

    /// Those since an earlier count.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }
}

/// So many requests in a row that failed in spite of all patience mean that the registry is down: until something
/// succeeds again, nothing more is retried. Thousands of tags would otherwise each wait their turn to fail.
const DOWN_AFTER: u64 = 8;

/// One request, without what signs it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: &'static str,
    /// Most bytes that the answer's body may have.
    pub(crate) limit: usize,
    /// Content to send, with its type.
    pub(crate) content: Option<(Arc<str>, Arc<[u8]>)>,
    /// When it may be sent once more.
    pub(crate) repeat: Repeat,
    /// Whether the path itself is a secret, as that of a webhook is: then no message shows it.
    pub(crate) secret_path: bool,
    /// Whether it is a POST that only gets a token.
    pub(crate) signs_in: bool,
}

/// When a request that went wrong may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Always: doing it twice is doing it once.
    Safe,
    /// Once and soon: doing it twice is doing it once, and so little depends on the answer that nothing waits for it.
    Once,
    /// Where it was certainly not processed.
    Unprocessed,
    /// Never, because what it rests on may have changed in the pause: whoever asked must look again first. Throttled, it
    /// comes back after the pause that the registry wished for.
    LookFirst,
}

impl Ask {
    /// A GET of at most `limit` bytes.
    pub(crate) fn get(url: Url, accept: &'static str, limit: usize) -> Self {
        let (content, repeat) = (None, Repeat::Safe);
        Self { method: Method::GET, url, accept, limit, content, repeat, secret_path: false, signs_in: false }
    }

    /// A GET of at most `limit` bytes of what need not be there.
    pub(crate) fn optional(url: Url, accept: &'static str, limit: usize) -> Self {
        Self { repeat: Repeat::Once, ..Self::get(url, accept, limit) }
    }

    /// A HEAD.
    pub(crate) fn head(url: Url, accept: &'static str) -> Self {
        Self { method: Method::HEAD, ..Self::get(url, accept, 0) }
    }

    /// A DELETE of what cannot exist.
    pub(crate) fn probe(url: Url) -> Self {
        Self { repeat: Repeat::Unprocessed, ..Self::delete(url) }
    }

    /// A DELETE.
    pub(crate) fn delete(url: Url) -> Self {
        Self { method: Method::DELETE, repeat: Repeat::LookFirst, ..Self::get(url, "*/*", ERROR_LIMIT) }
    }

    /// The request in words, without its query: that of a storage host is a signature.
    pub(crate) fn words(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        if self.secret_path {
            return format!("{} {}/…", self.method, url.origin().ascii_serialization());
        }
        format!("{} {url}", self.method)
    }
}

/// Bodies of answers that only carry an error are short.
pub(crate) const ERROR_LIMIT: usize = 1 << 20;

/// Sends requests to one server and to the hosts that it refers to. Follows no redirect by itself, and sends only what
/// reads unless it was made by [`Transport::changing`].
#[derive(Debug)]
pub(crate) struct Transport {
    client: reqwest::Client,
    timeout: Duration,
    patience: Patience,
    total: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    /// By class, in the order of [`Requests::STATUSES`].
    statuses: [AtomicU64; 5],
    failed_in_a_row: AtomicU64,
    home: Option<Home>,
    /// Whether more may be sent than what only reads.
    changes: bool,
}

/// The server itself, apart from the hosts that it refers to.
#[derive(Debug)]
struct Home {
    endpoint: Url,
    pace: Pace,
    dates: Mutex<Dates>,
}

/// A request that got no answer.
struct Cut {
    error: RequestError,
    /// No connection came about, so nothing can have been processed.
    unsent: bool,
    /// Whether trying again could help.
    passing: bool,
}

impl Transport {
    pub(crate) fn new(peer: &Peer, patience: Patience) -> Result<Self, RequestError> {
        Self::built(peer, patience, reqwest::Client::builder(), Duration::from_secs(10))
    }

    /// One that no proxy stands in the way of, for what answers on this machine or on its link only: soon, or never.
    pub(crate) fn direct(peer: &Peer, patience: Patience) -> Result<Self, RequestError> {
        Self::built(peer, patience, reqwest::Client::builder().no_proxy(), Duration::from_secs(2))
    }

    /// One whose requests all go to a socket of this machine, whatever host they name.
    #[cfg(unix)]
    pub(crate) fn to_socket(peer: &Peer, patience: Patience, socket: &Path) -> Result<Self, RequestError> {
        let builder = reqwest::Client::builder().no_proxy().unix_socket(socket);
        Self::built(peer, patience, builder, Duration::from_secs(2))
    }

    /// There are no such sockets on this system.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(unix))]
    pub(crate) fn to_socket(peer: &Peer, _: Patience, _: &Path) -> Result<Self, RequestError> {
        let message = format!("{}: this system has no such sockets", peer.name);
        Err(RequestError { kind: RequestErrorKind::Settings, message })
    }

    fn built(
        peer: &Peer,
        patience: Patience,
        builder: reqwest::ClientBuilder,
        connect: Duration,
    ) -> Result<Self, RequestError> {
        let mut builder = builder
            .user_agent(concat!("tagwarden/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            // Folded header lines are obsolete, not wrong (RFC 9112, 5.2).
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .connect_timeout(peer.timeout.min(connect));
        if let Some(path) = &peer.ca_file {
            let wrong = |why: String| RequestError {
                kind: RequestErrorKind::Settings,
                message: format!(
                    "{}: ca_file {} {why}; give a PEM file with one or more certificates",
                    peer.name,
                    path.display()
                ),
            };
            let pem = fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| wrong(format!("is not understood: {}", chain(&error))))?;
            if certificates.is_empty() {
                return Err(wrong("holds no certificate".into()));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|error| RequestError {
            kind: RequestErrorKind::Settings,
            message: format!("{}: no HTTP client can be made: {}", peer.name, chain(&error)),
        })?;
        Ok(Self {
            client,
            timeout: peer.timeout,
            patience,
            total: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            statuses: std::array::from_fn(|_| AtomicU64::new(0)),
            failed_in_a_row: AtomicU64::new(0),
            home: None,
            changes: false,
        })
    }

    /// The same for requests to one server, at a pace: at most so many a minute, and as it wishes itself. What goes to
    /// other hosts is not counted.
    pub(crate) fn paced(self, endpoint: &Url, chosen: Rates) -> Self {
        let home = Home { endpoint: endpoint.clone(), pace: Pace::new(chosen), dates: Mutex::default() };
        Self { home: Some(home), ..self }
    }

    /// Sets the rates that the server documents. Those that somebody chose stand above them.
    pub(crate) fn document(&self, rates: Rates) {
        if let Some(home) = &self.home {
            home.pace.document(rates);
        }
    }

    /// Waits until a request of that kind may go to the server, and reserves its place. `None` where no pace is kept.
    pub(crate) async fn reserve(&self, operation: Operation) -> Option<Reservation> {
        match &self.home {
            Some(home) => Some(home.pace.of(operation).reserve().await),
            None => None,
        }
    }

    /// The present time by the server's own clock; `None` where no answer told it.
    pub(crate) fn clock(&self) -> Option<ServerTime> {
        self.home.as_ref()?.dates.lock().unwrap_or_else(PoisonError::into_inner).at(steady())
    }

    /// The header that keeps [`Self::clock`] from knowing the time although answers have it: it is invalid.
    pub(crate) fn invalid_date_header(&self) -> Option<&'static str> {
        self.home.as_ref()?.dates.lock().unwrap_or_else(PoisonError::into_inner).invalid()
    }

    /// How many requests were made so far.
    pub(crate) fn requests(&self) -> Requests {
        Requests {
            total: self.total.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            statuses: std::array::from_fn(|class| self.statuses[class].load(Ordering::Relaxed)),
        }
    }

    /// Sends a request, again where that is safe and could help, and gives the last answer, whatever its status.
    ///
    /// A server that throttles one request is asked nothing of that kind until the pause is over that it wished for.
    pub(crate) async fn send(&self, ask: &Ask, authorization: Option<&HeaderValue>) -> Result<Answer, RequestError> {
        let headers = authorization.map(|value| (AUTHORIZATION, value.clone()));
        self.send_with(ask, &headers.into_iter().collect()).await
    }

    /// Sends a request with headers of its own, otherwise like [`Self::send`].
    pub(crate) async fn send_with(&self, ask: &Ask, headers: &HeaderMap) -> Result<Answer, RequestError> {
        if !self.changes && !ask.only_reads() {
            return Err(ask.not_a_read());
        }
        let mut pauses = Pauses::new(self.patience_for(ask));
        loop {
            let pass = match self.home_of(ask) {
                Some(home) => Some(home.pace.lane(ask).enter().await),
                None => None,
            };
            let (outcome, wish) = self.attempt(ask, headers, pass).await;
            let Some(wish) = wish else { return outcome.map_err(|cut| cut.error) };
            let Some(pause) = self.pause(&mut pauses, wish) else { return self.given_up(ask, outcome, wish) };
            if ask.repeat == Repeat::LookFirst {
                tokio::time::sleep(pause).await;
                return outcome.map_err(|cut| cut.error);
            }
            tracing::debug!(request = ask.words(), pause_ms = pause.as_millis(), "trying again");
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request once, in the place that was reserved for it, and waits for nothing before. A pause that the
    /// server wishes for is over when this returns.
    ///
    /// # Errors
    /// As [`Self::send`]; [`RequestErrorKind::Throttled`], with nothing sent, where the server has asked for a pause
    /// since the place was reserved.
    pub(crate) async fn send_reserved(
        &self,
        ask: &Ask,
        authorization: Option<&HeaderValue>,
        place: Option<Reservation>,
    ) -> Result<Answer, RequestError> {
        let pass = match place.map(Reservation::enter) {
            Some(None) => {
                let message = format!("{} was not sent: the server asked for a pause meanwhile", ask.words());
                return Err(RequestError { kind: RequestErrorKind::Throttled, message });
            }
            Some(pass) => pass,
            None => None,
        };
        let headers = authorization.map(|value| (AUTHORIZATION, value.clone())).into_iter().collect();
        let (outcome, wish) = self.attempt(ask, &headers, pass).await;
        let Some(wish) = wish else { return outcome.map_err(|cut| cut.error) };
        let Some(pause) = self.pause(&mut Pauses::new(self.patience), wish) else {
            return self.given_up(ask, outcome, wish);
        };
        tokio::time::sleep(pause).await;
        outcome.map_err(|cut| cut.error)
    }

    /// The patience with which a request is tried again.
    fn patience_for(&self, ask: &Ask) -> Patience {
        match ask.repeat {
            Repeat::Once => self.patience.once(),
            Repeat::Safe | Repeat::Unprocessed | Repeat::LookFirst => self.patience,
        }
    }

    /// The server itself, where a request goes to it.
    fn home_of(&self, ask: &Ask) -> Option<&Home> {
        self.home.as_ref().filter(|home| home.endpoint.origin() == ask.url.origin())
    }

    /// Sends a request once and counts it. The wish is that it be tried again; without one it has come to its end.
    async fn attempt(&self, ask: &Ask, headers: &HeaderMap, pass: Option<Pass>) -> (Result<Answer, Cut>, Option<Wish>) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let outcome = self.once(ask, headers, self.home_of(ask)).await;
        let class = outcome.as_ref().map_or(0, |answer| usize::from(answer.status.as_u16() / 100).clamp(2, 5) - 1);
        self.statuses[class].fetch_add(1, Ordering::Relaxed);
        let wish = wish(ask, &outcome);
        if let (Some(pass), Ok(answer)) = (pass, &outcome) {
            match wish.filter(|wish| wish.throttled) {
                Some(wish) => pass.throttled(self.common_pause(wish)),
                None => pass.answered(remaining_calls(&answer.headers)),
            }
        }
        match wish {
            Some(wish) if wish.throttled => {
                self.throttled.fetch_add(1, Ordering::Relaxed);
            }
            None if outcome.is_ok() => self.failed_in_a_row.store(0, Ordering::Relaxed),
            _ => {}
        }
        (outcome, wish)
    }

    /// How long to wait before a request is tried again; `None` where it has failed in spite of all patience.
    fn pause(&self, pauses: &mut Pauses, wish: Wish) -> Option<Duration> {
        let down = self.failed_in_a_row.load(Ordering::Relaxed) >= DOWN_AFTER;
        let pause = if down { None } else { pauses.next(wish) };
        if pause.is_none() {
            self.failed_in_a_row.fetch_add(1, Ordering::Relaxed);
        }
        pause
    }

    /// The end of a request that patience ends for. Whoever must look first before the next try would otherwise take a
    /// refusal that nobody waited for as one whose pause is over, and ask again at once.
    fn given_up(&self, ask: &Ask, outcome: Result<Answer, Cut>, wish: Wish) -> Result<Answer, RequestError> {
        match outcome {
            Ok(answer) if wish.throttled && ask.repeat == Repeat::LookFirst => {
                let wanted = wish.after.map_or_else(
                    || "it throttles request after request".to_owned(),
                    |after| {
                        let (after, most) = (whole_seconds(after), whole_seconds(self.patience.total));
                        format!("it asks for a pause of {after}, and a run waits {most} at most")
                    },
                );
                let message = format!("{}: {wanted}; run again when it is less busy", answer.told());
                Err(RequestError { kind: RequestErrorKind::Exhausted, message })
            }
            outcome => outcome.map_err(|cut| cut.error),
        }
    }

    /// For how long all requests of a kind pause when one is throttled. Nobody waits for what is past all patience: each
    /// is then refused by itself.
    fn common_pause(&self, wish: Wish) -> Option<Duration> {
        let after = wish.after.filter(|after| *after <= self.patience.total)?;
        Some(after + retry::jitter(self.patience.first))
    }

    async fn once(&self, ask: &Ask, headers: &HeaderMap, home: Option<&Home>) -> Result<Answer, Cut> {
        let mut request = self
            .client
            .request(ask.method.clone(), ask.url.clone())
            .timeout(self.timeout)
            .header(ACCEPT, HeaderValue::from_static(ask.accept))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .headers(headers.clone());
        if let Some((content_type, bytes)) = &ask.content {
            request = request.header(CONTENT_TYPE, &**content_type).body(bytes.to_vec());
        }
        let cut = |what: &str, error: reqwest::Error| {
            let what = if error.is_timeout() { "took too long" } else { what };
            Cut {
                unsent: error.is_connect(),
                passing: !error.is_builder(),
                error: RequestError {
                    kind: RequestErrorKind::Connection,
                    message: format!("{} {what}: {}", ask.words(), chain(&error.without_url())),
                },
            }
        };
        let mut response = request.send().await.map_err(|error| {
            let what = if error.is_connect() { "could not connect" } else { "got no answer" };
            cut(what, error)
        })?;
        // Now, because the body may take long.
        if let Some(home) = home {
            home.dates.lock().unwrap_or_else(PoisonError::into_inner).note(response.headers(), steady());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| cut("was cut in the answer", error))? {
            if body.len() + chunk.len() > ask.limit.max(ERROR_LIMIT) {
                let error = RequestError {
                    kind: RequestErrorKind::Malformed,
                    message: format!("{} answered with more than {} bytes", ask.words(), ask.limit.max(ERROR_LIMIT)),
                };
                return Err(Cut { error, unsent: false, passing: false });
            }
            body.extend_from_slice(&chunk);
        }
        let body = body::decoded(response.headers(), body, ask.limit.max(ERROR_LIMIT)).map_err(|why| Cut {
            error: RequestError {
                kind: RequestErrorKind::Malformed,
                message: format!("{} answered {} with what cannot be unpacked: {why}", ask.words(), response.status()),
            },
            unsent: false,
            passing: false,
        })?;
        Ok(Answer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body,
            asked: ask.words(),
        })
    }
}

/// A time in words, such as `15m`; parts of a second are nothing that a person waits for.
fn whole_seconds(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// The `Date` of an answer; `None` where it has none, or an invalid one.
pub(crate) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    retry::moment(headers.get(DATE)?.to_str().ok()?.trim())
}

/// What Azure Container Registry says of the calls that remain, in most answers of its token service and to deletions.
fn remaining_calls(headers: &HeaderMap) -> Option<f64> {
    headers.get("x-ms-ratelimit-remaining-calls-per-second")?.to_str().ok()?.trim().parse().ok()
}

/// An error with its causes, which reqwest leaves out of its own words.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
