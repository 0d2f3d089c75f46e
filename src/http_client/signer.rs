//! Signatures of requests, for servers that take no bearer of a token at their word.

use std::fmt::Debug;

use http::header::HeaderMap;

use super::{Request, RequestError};

/// Signs requests to one server.
pub(crate) trait RequestSigner: Send + Sync + Debug {
    /// Returns the headers that the signature covers and the signature itself, as of now.
    ///
    /// # Errors
    /// Returns an error if there are no credentials to sign with.
    fn headers(&self, request: &Request) -> Result<HeaderMap, RequestError>;
}
