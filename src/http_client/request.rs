//! One request, and its retry mode.

use std::sync::Arc;

use http::Method;
use url::Url;

use super::MAX_ERROR_BYTES;

/// One request, without its credentials.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: &'static str,
    /// Most bytes of the response's body.
    pub(crate) max_bytes: usize,
    /// Content to send, with its type.
    pub(crate) content: Option<(Arc<str>, Arc<[u8]>)>,
    /// The condition for retries.
    pub(crate) retry_mode: RetryMode,
    /// True if the path itself is a secret, as that of a webhook: then no message contains it.
    pub(crate) has_secret_path: bool,
    /// True for a POST, or the PUT of a metadata service, that only requests a token.
    pub(crate) gets_token: bool,
    /// The operation of a POST whose path names none, such as `DescribeImages`.
    pub(crate) operation: Option<&'static str>,
}

/// The condition for retries of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryMode {
    /// Always: the operation is idempotent.
    Always,
    /// Once and soon: the operation is idempotent, and so little depends on the response that nothing waits for it.
    Once,
    /// If it was certainly not processed.
    IfUnprocessed,
    /// Never, because its preconditions may have changed during the pause: the caller must check them first. If
    /// throttled, it returns after the requested pause.
    RecheckFirst,
}

impl Request {
    /// Creates a GET of at most `limit` bytes.
    pub(crate) fn get(url: Url, accept: &'static str, limit: usize) -> Self {
        let (content, repeat) = (None, RetryMode::Always);
        Self {
            method: Method::GET,
            url,
            accept,
            max_bytes: limit,
            content,
            retry_mode: repeat,
            has_secret_path: false,
            gets_token: false,
            operation: None,
        }
    }

    /// Creates a GET of at most `limit` bytes for an object that need not exist.
    pub(crate) fn optional(url: Url, accept: &'static str, limit: usize) -> Self {
        Self { retry_mode: RetryMode::Once, ..Self::get(url, accept, limit) }
    }

    /// Creates a HEAD.
    pub(crate) fn head(url: Url, accept: &'static str) -> Self {
        Self { method: Method::HEAD, ..Self::get(url, accept, 0) }
    }

    /// Creates a DELETE of an object that cannot exist.
    pub(crate) fn probe(url: Url) -> Self {
        Self { retry_mode: RetryMode::IfUnprocessed, ..Self::delete(url) }
    }

    /// Creates a DELETE.
    pub(crate) fn delete(url: Url) -> Self {
        Self { method: Method::DELETE, retry_mode: RetryMode::RecheckFirst, ..Self::get(url, "*/*", MAX_ERROR_BYTES) }
    }

    /// Describes the request without its query: that of a storage host is a signature.
    pub(crate) fn description(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        if self.has_secret_path {
            return format!("{} {}/…", self.method, url.origin().ascii_serialization());
        }
        match self.operation {
            Some(operation) => format!("{operation} ({} {url})", self.method),
            None => format!("{} {url}", self.method),
        }
    }
}
