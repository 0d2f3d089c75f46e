//! Requests and answers, with patience: everything about HTTP that needs no credentials of its own, for registries as for
//! the clouds around them.

mod error;

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use jiff::fmt::rfc2822;
use reqwest::redirect;
use url::Url;

use error::first_error;

pub use error::{RequestError, RequestErrorKind};

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
    /// Most waiting for one request, `Retry-After` included.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 5,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(20),
            total: Duration::from_mins(2),
        }
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
}

/// When a request that went wrong may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Always: doing it twice is doing it once.
    Safe,
    /// Where it was certainly not processed.
    Unprocessed,
    /// Never, because what it rests on may have changed in the pause: whoever asked must look again first. Throttled, it
    /// comes back after the pause that the registry wished for.
    LookFirst,
}

impl Ask {
    /// A GET of at most `limit` bytes.
    pub(crate) fn get(url: Url, accept: &'static str, limit: usize) -> Self {
        Self { method: Method::GET, url, accept, limit, content: None, repeat: Repeat::Safe }
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
        format!("{} {url}", self.method)
    }
}

/// Bodies of answers that only carry an error are short.
pub(crate) const ERROR_LIMIT: usize = 1 << 20;

/// An answer, read whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The request in words, for errors.
    pub(crate) asked: String,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first error code that the registry gave, such as `MANIFEST_UNKNOWN`.
    pub(crate) fn code(&self) -> Option<String> {
        first_error(&self.body).map(|error| error.code)
    }

    /// Whether this is a registry's own 404: with an error of the OCI form, or without any words at all. A page of a
    /// proxy or of a web server says nothing about what the registry holds.
    pub(crate) fn is_absence(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && (self.body.is_empty() || first_error(&self.body).is_some())
    }

    /// This answer as the error that it is.
    pub(crate) fn refusal(&self) -> RequestError {
        let kind = match self.status {
            StatusCode::NOT_FOUND => RequestErrorKind::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RequestErrorKind::Denied,
            StatusCode::TOO_MANY_REQUESTS => RequestErrorKind::Throttled,
            StatusCode::SERVICE_UNAVAILABLE if self.headers.contains_key(RETRY_AFTER) => RequestErrorKind::Throttled,
            status => RequestErrorKind::Status(status.as_u16()),
        };
        self.error(kind)
    }

    /// The request, the status and the other side's words.
    pub(crate) fn told(&self) -> String {
        let mut message = format!("{} answered {}", self.asked, self.status);
        match first_error(&self.body) {
            Some(error) => {
                let _ = write!(message, " ({}", error.code);
                if !error.message.is_empty() {
                    let _ = write!(message, ": {}", plain(&error.message));
                }
                message.push(')');
            }
            None if self.looks_like_a_page() => message.push_str(", with a web page, not in a registry's words"),
            None => {}
        }
        message
    }

    /// This answer as an error of that kind: what was told, and what to do next.
    pub(crate) fn error(&self, kind: RequestErrorKind) -> RequestError {
        let mut message = self.told();
        message.push_str(match kind {
            RequestErrorKind::Denied => "; check the registry's `auth` and what that identity may do",
            RequestErrorKind::Throttled => "; lower the registry's `concurrency`, or run when it is less busy",
            RequestErrorKind::Status(500..) => "; run again when the registry is well",
            RequestErrorKind::Status(300..400) => "; set `endpoint` to the address that it redirects to",
            _ => "",
        });
        RequestError { kind, message }
    }

    /// An error about the content of an answer that arrived well.
    pub(crate) fn malformed(&self, why: &str) -> RequestError {
        let page =
            if self.looks_like_a_page() { "; it is a web page: is a proxy or a login page in between?" } else { "" };
        RequestError {
            kind: RequestErrorKind::Malformed,
            message: format!(
                "{} answered {} with what cannot be understood: {}{page}",
                self.asked,
                self.status,
                plain(why)
            ),
        }
    }

    pub(crate) fn looks_like_a_page(&self) -> bool {
        self.header(CONTENT_TYPE.as_str()).is_some_and(|value| value.contains("html"))
            || self.body.trim_ascii_start().starts_with(b"<")
    }
}

/// Somebody else's words, fit for one line: at most 300 characters, no control characters.
pub(crate) fn plain(text: &str) -> String {
    text.chars().take(300).map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// Sends requests to one server and to the hosts that it refers to. Follows no redirect by itself.
#[derive(Debug)]
pub(crate) struct Transport {
    client: reqwest::Client,
    timeout: Duration,
    patience: Patience,
    total: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    failed_in_a_row: AtomicU64,
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
        Self::built(peer, patience, reqwest::Client::builder())
    }

    /// One that no proxy stands in the way of, for what answers on this machine or on its link only.
    pub(crate) fn direct(peer: &Peer, patience: Patience) -> Result<Self, RequestError> {
        Self::built(peer, patience, reqwest::Client::builder().no_proxy())
    }

    fn built(peer: &Peer, patience: Patience, builder: reqwest::ClientBuilder) -> Result<Self, RequestError> {
        let mut builder = builder
            .user_agent(concat!("tagwarden/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(peer.timeout.min(Duration::from_secs(10)));
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
            failed_in_a_row: AtomicU64::new(0),
        })
    }

    /// How many requests were made so far.
    pub(crate) fn requests(&self) -> Requests {
        Requests {
            total: self.total.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
        }
    }

    /// Sends a request, again where that is safe and could help, and gives the last answer, whatever its status.
    pub(crate) async fn send(&self, ask: &Ask, authorization: Option<&HeaderValue>) -> Result<Answer, RequestError> {
        let headers = authorization.map(|value| (AUTHORIZATION, value.clone()));
        self.send_with(ask, &headers.into_iter().collect()).await
    }

    /// Sends a request with headers of its own, otherwise like [`Self::send`].
    pub(crate) async fn send_with(&self, ask: &Ask, headers: &HeaderMap) -> Result<Answer, RequestError> {
        let mut pauses = Pauses::new(self.patience);
        loop {
            self.total.fetch_add(1, Ordering::Relaxed);
            let outcome = self.once(ask, headers).await;
            let Some(wish) = wish(ask, &outcome) else {
                if outcome.is_ok() {
                    self.failed_in_a_row.store(0, Ordering::Relaxed);
                }
                return outcome.map_err(|cut| cut.error);
            };
            if wish.throttled {
                self.throttled.fetch_add(1, Ordering::Relaxed);
            }
            let down = self.failed_in_a_row.load(Ordering::Relaxed) >= DOWN_AFTER;
            let Some(pause) = (if down { None } else { pauses.next(wish) }) else {
                self.failed_in_a_row.fetch_add(1, Ordering::Relaxed);
                return outcome.map_err(|cut| cut.error);
            };
            if ask.repeat == Repeat::LookFirst {
                tokio::time::sleep(pause).await;
                return outcome.map_err(|cut| cut.error);
            }
            tracing::debug!(request = ask.words(), pause_ms = pause.as_millis(), "trying again");
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, ask: &Ask, headers: &HeaderMap) -> Result<Answer, Cut> {
        let mut request = self
            .client
            .request(ask.method.clone(), ask.url.clone())
            .timeout(self.timeout)
            .header(ACCEPT, HeaderValue::from_static(ask.accept))
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
        Ok(Answer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body,
            asked: ask.words(),
        })
    }
}

/// That a request be tried again, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    /// How long the other side asked to wait.
    after: Option<Duration>,
    throttled: bool,
}

/// Whether a request should be tried again. What may have been processed already is only repeated where that is safe.
fn wish(ask: &Ask, outcome: &Result<Answer, Cut>) -> Option<Wish> {
    match outcome {
        Err(cut) => {
            let safe = ask.repeat == Repeat::Safe || ask.repeat == Repeat::Unprocessed && cut.unsent;
            (cut.passing && safe).then_some(Wish { after: None, throttled: false })
        }
        Ok(answer) => {
            let after = retry_after(&answer.headers);
            match answer.status.as_u16() {
                429 => Some(Wish { after, throttled: true }),
                503 if after.is_some() => Some(Wish { after, throttled: true }),
                408 | 500 | 502 | 503 | 504 if ask.repeat == Repeat::Safe => Some(Wish { after, throttled: false }),
                _ => None,
            }
        }
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3). A date counts from the answer's own `Date`, so that two
/// clocks need not agree; without one it says nothing.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let wanted = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = wanted.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = rfc2822::parse(wanted).ok()?.timestamp();
    let now = rfc2822::parse(text(DATE)?.trim()).ok()?.timestamp();
    Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
}

/// The pauses of one request.
struct Pauses {
    backoff: ExponentialBackoff,
    longest: Duration,
    left: Duration,
}

impl Pauses {
    fn new(patience: Patience) -> Self {
        let backoff = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(patience.first)
            .with_max_delay(patience.longest)
            .with_max_times(patience.retries)
            .build();
        Self { backoff, longest: patience.longest, left: patience.total }
    }

    /// How long to wait before the next try; nothing when patience is at its end. What was asked for is never cut short,
    /// and the drawn pause on top of it keeps many waiting requests from coming back in the same instant.
    fn next(&mut self, wish: Wish) -> Option<Duration> {
        let drawn = match self.backoff.next() {
            Some(drawn) => drawn,
            None if wish.throttled => self.longest,
            None => return None,
        };
        let pause = wish.after.unwrap_or_default().checked_add(drawn)?;
        self.left = self.left.checked_sub(pause)?;
        Some(pause)
    }
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
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_own_clock() {
        let seconds = |n| Some(Duration::from_secs(n));
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let cases = [
            (vec![], None),
            (vec![("retry-after", "7")], seconds(7)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"), date], seconds(30)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT"), date], seconds(0)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], None),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-1")], None),
        ];
        for (pairs, expected) in cases {
            assert_eq!(retry_after(&headers(&pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        let url: Url = "https://registry.example/v2/".parse().unwrap();
        let answer = |status, after: Option<&str>| {
            Ok(Answer {
                status: StatusCode::from_u16(status).unwrap(),
                headers: after.map(|after| headers(&[("retry-after", after)])).unwrap_or_default(),
                body: Vec::new(),
                asked: String::new(),
            })
        };
        let cut = |unsent| {
            let error = RequestError { kind: RequestErrorKind::Connection, message: String::new() };
            Err(Cut { error, unsent, passing: true })
        };
        let (get, delete) = (Ask::get(url.clone(), "*/*", 0), Ask::probe(url));
        for (outcome, of_get, of_delete) in [
            (answer(200, None), false, false),
            (answer(401, None), false, false),
            (answer(404, None), false, false),
            (answer(408, None), true, false),
            (answer(429, None), true, true),
            (answer(500, None), true, false),
            (answer(502, Some("1")), true, false),
            (answer(503, None), true, false),
            (answer(503, Some("1")), true, true),
            (answer(504, None), true, false),
            (cut(true), true, true),
            (cut(false), true, false),
        ] {
            assert_eq!(wish(&get, &outcome).is_some(), of_get, "GET {:?}", outcome.as_ref().ok());
            assert_eq!(wish(&delete, &outcome).is_some(), of_delete, "DELETE {:?}", outcome.as_ref().ok());
        }
    }

    #[test]
    fn patience_ends() {
        let patience = Patience {
            retries: 3,
            first: Duration::from_millis(10),
            longest: Duration::from_millis(40),
            total: Duration::from_mins(1),
        };
        let failing = Wish { after: None, throttled: false };
        let mut pauses = Pauses::new(patience);
        assert_eq!(std::iter::from_fn(|| pauses.next(failing)).count(), 3);

        let asked = Wish { after: Some(Duration::from_secs(25)), throttled: true };
        let mut pauses = Pauses::new(patience);
        assert!(pauses.next(asked).is_some_and(|pause| pause >= Duration::from_secs(25)));
        assert!(pauses.next(asked).is_some());
        assert_eq!(pauses.next(asked), None);

        let throttled = Wish { after: None, throttled: true };
        let mut pauses = Pauses::new(patience);
        let tries = std::iter::from_fn(|| pauses.next(throttled)).count();
        assert!((1000..2000).contains(&tries), "only the total bounds throttling: {tries}");
        let forever = Wish { after: Some(Duration::MAX), throttled: true };
        assert_eq!(Pauses::new(patience).next(forever), None);
    }
}
