//! Faults on demand, so that tests can show how Tagwarden handles a failing registry.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::Value;

use super::content::Content;
use super::response::ErrorResponse;

/// A fault and the requests that it affects.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Only requests of this method; `None` means any.
    pub method: Option<Method>,
    /// Only requests whose path and query contain this.
    pub path_contains: String,
    /// The number of matching requests that succeed first.
    pub after: usize,
    /// The number of matching requests that it then affects.
    pub times: usize,
    /// The kind of fault.
    pub kind: FaultKind,
}

/// The effect of a fault on a request.
#[derive(Clone)]
pub enum FaultKind {
    /// The request is not processed, and gets this response.
    Status {
        /// The status.
        status: u16,
        /// Further headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// The request is processed, and gets this status without a body: the registry reports a failure after carrying it
    /// out.
    HandledButStatus(u16),
    /// The response declares its full length, but is cut off after half of it.
    CutBody,
    /// The connection is closed without a response.
    HangUp {
        /// True if the request is processed before.
        handled: bool,
    },
    /// The request is not processed, and gets 200 with JSON that has a syntax error.
    InvalidJson,
    /// The response contains the first half of the real body, as if that were all.
    TruncatedJson,
    /// The response has a body that does not match its digest; still valid JSON if it was.
    WrongDigest,
    /// The request is not processed, and gets 200 with the sign-in page of some proxy.
    HtmlPage,
    /// The request is processed after that time.
    Delay(Duration),
    /// A deletion gets its response at once and is processed after that time: meanwhile the registry shows the deleted
    /// content.
    HandledLater {
        /// The delay.
        after: Duration,
        /// True if it gets a successful response; otherwise the connection is closed.
        answered: bool,
    },
    /// The `Link` of the response points at the request itself.
    LinkLoop,
    /// The `Link` of the response points there.
    ForeignLink(String),
    /// A list has that many rows and no `Link`, as if that were all.
    CutShort(usize),
    /// The JSON of the response is changed: a registry that leaves something out, or means something else by it.
    EditedJson(fn(&mut Value)),
    /// The request is not processed: a firewall blocks the client.
    Firewall,
    /// The request is not processed, and gets 429.
    TooManyRequests {
        /// Seconds in `Retry-After`.
        retry_after: Option<u64>,
    },
    /// The registry's content changes, then the request is processed: a tag that moves between two reads.
    BeforeRequest(Arc<dyn Fn(&mut Content) + Send + Sync>),
}

impl Fault {
    /// Creates a fault for every request whose path and query contain `path`.
    #[must_use]
    pub fn on(path: &str, what: FaultKind) -> Self {
        Self { method: None, path_contains: path.to_owned(), after: 0, times: usize::MAX, kind: what }
    }

    /// Limits it to requests of that method.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    /// Lets that many matching requests succeed first.
    #[must_use]
    pub fn after(self, after: usize) -> Self {
        Self { after, ..self }
    }

    /// Limits it to that many requests.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }
}

impl FaultKind {
    /// Creates a change of content before the request is processed.
    pub fn before_request(change: impl Fn(&mut Content) + Send + Sync + 'static) -> Self {
        Self::BeforeRequest(Arc::new(change))
    }

    /// Creates a bare status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), body: String::new() }
    }

    /// Returns the response that replaces processing, if this is such a fault.
    pub(super) fn replacement_response(&self) -> Option<Response> {
        match self {
            Self::Status { status, headers, body } => {
                let mut response = (status_code(*status), body.clone()).into_response();
                for (name, value) in headers {
                    let name = header::HeaderName::try_from(name.as_str()).expect("a header's name");
                    response.headers_mut().insert(name, HeaderValue::try_from(value.as_str()).expect("its value"));
                }
                Some(response)
            }
            Self::HangUp { handled: false } | Self::HandledLater { answered: false, .. } => Some(dropped_response()),
            Self::HandledLater { answered: true, .. } => Some(StatusCode::ACCEPTED.into_response()),
            Self::InvalidJson => {
                Some(([(header::CONTENT_TYPE, "application/json")], r#"{"errors": [}, "tags": }"#).into_response())
            }
            Self::HtmlPage => Some(
                (
                    [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
                    "<!doctype html><html><body><h1>Sign in to continue</h1></body></html>",
                )
                    .into_response(),
            ),
            Self::Firewall => {
                let message = "client with IP '127.0.0.1' is not allowed access";
                Some(ErrorResponse::new(StatusCode::FORBIDDEN, "DENIED", message).into_response())
            }
            Self::TooManyRequests { retry_after } => {
                let mut response =
                    ErrorResponse::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many requests")
                        .into_response();
                if let Some(seconds) = retry_after {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
                }
                Some(response)
            }
            _ => None,
        }
    }

    /// Returns the delay before processing, if this is such a fault.
    pub(super) fn handling_delay(&self) -> Option<Duration> {
        match self {
            Self::HandledLater { after, .. } => Some(*after),
            _ => None,
        }
    }

    /// Applies the fault to the response of a processed request.
    pub(super) async fn change_response(&self, response: Response, path: &str) -> Response {
        match self {
            Self::HandledButStatus(status) => status_code(*status).into_response(),
            Self::HangUp { handled: true } => dropped_response(),
            Self::CutBody => {
                let (mut parts, bytes) = read_response(response).await;
                let declared = if bytes.is_empty() { 64 } else { bytes.len() };
                parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(declared));
                Response::from_parts(parts, failing_body(bytes.slice(..bytes.len() / 2)))
            }
            Self::TruncatedJson => {
                let (parts, bytes) = read_response(response).await;
                Response::from_parts(parts, Body::from(bytes.slice(..bytes.len() / 2)))
            }
            Self::WrongDigest => {
                let (parts, bytes) = read_response(response).await;
                Response::from_parts(parts, Body::from([&bytes[..], b"\n"].concat()))
            }
            Self::LinkLoop => with_link(response, path),
            Self::ForeignLink(url) => with_link(response, url),
            Self::CutShort(rows) => {
                let (mut parts, bytes) = read_response(response).await;
                parts.headers.remove(header::LINK);
                Response::from_parts(parts, Body::from(truncate_lists(&bytes, *rows)))
            }
            Self::EditedJson(edit) => {
                let (parts, bytes) = read_response(response).await;
                let Ok(mut json) = serde_json::from_slice::<Value>(&bytes) else {
                    return Response::from_parts(parts, Body::from(bytes));
                };
                edit(&mut json);
                Response::from_parts(parts, Body::from(json.to_string()))
            }
            _ => response,
        }
    }
}

async fn read_response(response: Response) -> (axum::http::response::Parts, Bytes) {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    (parts, bytes)
}

/// Returns the same JSON object with lists truncated to that many rows.
fn truncate_lists(bytes: &Bytes, rows: usize) -> Bytes {
    let Ok(Value::Object(mut object)) = serde_json::from_slice::<Value>(bytes) else { return bytes.clone() };
    object.values_mut().filter_map(Value::as_array_mut).for_each(|list| list.truncate(rows));
    Bytes::from(Value::Object(object).to_string())
}

fn with_link(mut response: Response, target: &str) -> Response {
    let link = HeaderValue::try_from(format!("<{target}>; rel=\"next\"")).expect("a path or URL fits into a header");
    response.headers_mut().insert(header::LINK, link);
    response
}

/// Creates a body that delivers `bytes`, lets them be sent, and then fails, which makes the server close the
/// connection.
fn failing_body(bytes: Bytes) -> Body {
    Body::from_stream(stream::unfold(Some(bytes), |left| async move {
        if let Some(bytes) = left {
            return Some((Ok(bytes), None));
        }
        // Only a body that is not ready yet makes the server send what it has.
        tokio::task::yield_now().await;
        Some((Err(std::io::Error::other("cut on purpose")), None))
    }))
}

/// Creates a response of which nothing is sent: its body fails while the head is still in the buffer.
fn dropped_response() -> Response {
    let failing = stream::iter([Err::<Bytes, _>(std::io::Error::other("hung up on purpose"))]);
    ([(header::CONTENT_LENGTH, "64")], Body::from_stream(failing)).into_response()
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("an HTTP status")
}

/// The active faults, in the order in which they were injected.
#[derive(Debug, Default)]
pub(super) struct ActiveFaults(Vec<Fault>);

impl ActiveFaults {
    pub(super) fn inject(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the faults for this request, and counts it.
    pub(super) fn matching(&mut self, method: &Method, path: &str) -> Vec<FaultKind> {
        let mut met = Vec::new();
        for fault in &mut self.0 {
            if fault.method.as_ref().is_some_and(|wanted| wanted != method) || !path.contains(&fault.path_contains) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                met.push(fault.kind.clone());
            }
        }
        met
    }
}

impl fmt::Debug for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status { status, .. } | Self::HandledButStatus(status) => return write!(f, "status {status}"),
            Self::CutBody => "cut body",
            Self::HangUp { .. } => "hang-up",
            Self::InvalidJson => "invalid JSON",
            Self::TruncatedJson => "truncated JSON",
            Self::WrongDigest => "wrong digest",
            Self::HtmlPage => "HTML page",
            Self::Delay(_) => "delay",
            Self::HandledLater { .. } => "handled later",
            Self::LinkLoop => "Link loop",
            Self::ForeignLink(_) => "foreign Link",
            Self::CutShort(_) => "list cut short",
            Self::EditedJson(_) => "edited JSON",
            Self::Firewall => "firewall",
            Self::TooManyRequests { .. } => "too many requests",
            Self::BeforeRequest(_) => "change of content",
        })
    }
}
