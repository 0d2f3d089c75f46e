//! Requests to Harbor's API.

use crate::http_client::{Request, Response, RetryPolicy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::{RegistryError, RegistrySettings};

/// Most bytes of an answer: a hundred artifacts, each with its configuration and perhaps thousands of tags.
const MAX_BYTES: usize = 128 << 20;

/// Reads Harbor.
#[derive(Debug)]
pub(super) struct HarborReader {
    pub(super) http: HttpConnection,
}

impl HarborReader {
    /// A reader by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        Ok(Self { http: HttpConnection::new(settings, retry_policy)? })
    }

    /// The answer to a GET, whatever its status.
    pub(super) async fn get(
        &self,
        scope: &TokenScope,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, RegistryError> {
        let mut url = self.http.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.read(scope, Request::get(url, "application/json", MAX_BYTES), RedirectPolicy::SameOrigin).await
    }
}
