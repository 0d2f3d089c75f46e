//! One request, and when it may be sent once more.

use std::sync::Arc;

use http::Method;
use url::Url;

use super::MAX_ERROR_BYTES;

/// One request, without what signs it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: &'static str,
    /// Most bytes that the answer's body may have.
    pub(crate) max_bytes: usize,
    /// Content to send, with its type.
    pub(crate) content: Option<(Arc<str>, Arc<[u8]>)>,
    /// When it may be sent once more.
    pub(crate) retry_mode: RetryMode,
    /// Whether the path itself is a secret, as that of a webhook is: then no message shows it.
    pub(crate) has_secret_path: bool,
    /// Whether it is a POST that only gets a token.
    pub(crate) gets_token: bool,
}

/// When a request that went wrong may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryMode {
    /// Always: doing it twice is doing it once.
    Always,
    /// Once and soon: doing it twice is doing it once, and so little depends on the answer that nothing waits for it.
    Once,
    /// Where it was certainly not processed.
    IfUnprocessed,
    /// Never, because what it rests on may have changed in the pause: whoever asked must look again first. Throttled, it
    /// comes back after the pause that the registry wished for.
    RecheckFirst,
}

impl Request {
    /// A GET of at most `limit` bytes.
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
        }
    }

    /// A GET of at most `limit` bytes of what need not be there.
    pub(crate) fn optional(url: Url, accept: &'static str, limit: usize) -> Self {
        Self { retry_mode: RetryMode::Once, ..Self::get(url, accept, limit) }
    }

    /// A HEAD.
    pub(crate) fn head(url: Url, accept: &'static str) -> Self {
        Self { method: Method::HEAD, ..Self::get(url, accept, 0) }
    }

    /// A DELETE of what cannot exist.
    pub(crate) fn probe(url: Url) -> Self {
        Self { retry_mode: RetryMode::IfUnprocessed, ..Self::delete(url) }
    }

    /// A DELETE.
    pub(crate) fn delete(url: Url) -> Self {
        Self { method: Method::DELETE, retry_mode: RetryMode::RecheckFirst, ..Self::get(url, "*/*", MAX_ERROR_BYTES) }
    }

    /// The request in words, without its query: that of a storage host is a signature.
    pub(crate) fn description(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        if self.has_secret_path {
            return format!("{} {}/…", self.method, url.origin().ascii_serialization());
        }
        format!("{} {url}", self.method)
    }
}
