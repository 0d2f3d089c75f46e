//! Responses shared by all dialects: errors in the format of the distribution specification, and pages of names.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use serde_json::{Value, json};

use crate::demo::blob::Blob;
use crate::domain::Digest;

pub(super) const CONTENT_DIGEST: header::HeaderName = header::HeaderName::from_static("docker-content-digest");

/// An error response: `{"errors":[{"code","message","detail"}]}`.
#[derive(Debug, Clone)]
pub(super) struct ErrorResponse {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: Value,
    challenge: Option<String>,
}

impl ErrorResponse {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: Value::Null, challenge: None }
    }

    pub(super) fn detail(self, detail: Value) -> Self {
        Self { detail, ..self }
    }

    /// Adds a `WWW-Authenticate` header.
    pub(super) fn challenge(self, challenge: String) -> Self {
        Self { challenge: Some(challenge), ..self }
    }

    pub(super) fn unsupported() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "The operation is unsupported.")
    }

    pub(super) fn manifest_unknown(reference: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown").detail(json!({ "Tag": reference }))
    }

    pub(super) fn name_unknown(repository: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry")
            .detail(json!({ "name": repository }))
    }

    pub(super) fn digest_invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "provided digest did not match uploaded content")
            .detail(Value::String(detail.into()))
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let body = json!({ "errors": [{ "code": self.code, "message": self.message, "detail": self.detail }] });
        let mut response = json_response(self.status, "application/json", &body);
        if let Some(challenge) = self.challenge {
            let value = HeaderValue::try_from(challenge).expect("a challenge is plain text");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}

pub(super) fn json_response(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("what is answered has only texts for keys");
    (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// The parameters of a request, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// One page of named rows, and its `Link` header.
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    pub(super) link: Option<HeaderValue>,
}

/// Returns the page that `n` and `last` request, never longer than `most`: `rows` returns those that come after a name
/// in order.
///
/// A registry may return less than requested; only the absence of `Link` shows the end.
pub(super) fn paginate<'a, T, I: Iterator<Item = T>>(
    rows: impl FnOnce(&'a str) -> I,
    name: impl Fn(&T) -> String,
    (path, query): (&str, &'a Query),
    most: usize,
) -> Result<Page<T>, ErrorResponse> {
    let wanted = match query.get("n").map(str::parse::<usize>) {
        None => most,
        Some(Ok(n)) => n.min(most),
        Some(Err(_)) => {
            let invalid = "invalid number of results requested";
            return Err(ErrorResponse::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", invalid));
        }
    };
    let mut rest = rows(query.get("last").unwrap_or_default());
    let rows: Vec<T> = rest.by_ref().take(wanted).collect();
    let link = match rows.last() {
        Some(row) if rest.next().is_some() => Some(link_header(path, &name(row), wanted, query)),
        _ => None,
    };
    Ok(Page { rows, link })
}

fn link_header(path: &str, last: &str, n: usize, query: &Query) -> HeaderValue {
    let mut next = url::form_urlencoded::Serializer::new(String::new());
    next.append_pair("last", last).append_pair("n", &n.to_string());
    for (key, value) in query.0.iter().filter(|(key, _)| !matches!(key.as_str(), "last" | "n")) {
        next.append_pair(key, value);
    }
    HeaderValue::try_from(format!("<{path}?{}>; rel=\"next\"", next.finish())).expect("an encoded query is plain text")
}

/// Adds that `Link` header, if there is one.
pub(super) fn with_link(mut response: Response, link: Option<HeaderValue>) -> Response {
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// Returns a manifest's bytes.
pub(super) fn manifest_response(media_type: &str, digest: &Digest, bytes: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type.to_owned()),
        (header::ETAG, format!("\"{digest}\"")),
        (CONTENT_DIGEST, digest.to_string()),
    ];
    (headers, bytes).into_response()
}

pub(super) fn blob_unknown(written: &str) -> ErrorResponse {
    ErrorResponse::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry").detail(json!(written))
}

/// Returns a blob's bytes.
pub(super) fn blob_response(blob: &Blob) -> Response {
    let body = Body::from_stream(stream::iter(blob.chunks().map(Ok::<_, std::convert::Infallible>)));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, blob.length().to_string()),
        (CONTENT_DIGEST, blob.digest().to_string()),
    ];
    (headers, body).into_response()
}

/// Returns `201 Created` for content with that digest.
pub(super) fn created_response(location: &str, digest: &Digest) -> Response {
    let headers = [(header::LOCATION, header_value(location)), (CONTENT_DIGEST, header_value(&digest.to_string()))];
    (StatusCode::CREATED, headers).into_response()
}

pub(super) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).expect("names and digests are plain text")
}
