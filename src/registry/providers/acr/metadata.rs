//! What Azure Container Registry says about one thing: a repository, a tag or a manifest.

use http::StatusCode;

use crate::domain::RepositoryName;
use crate::http_client::{Request, Response, parse_json_lossy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::{RegistryError, RegistryErrorKind};

/// Most bytes of a document about one thing.
const MAX_BYTES: usize = 1 << 20;

/// Fetches a document; nothing where the registry says that there is no such thing.
///
/// # Errors
/// When it cannot be fetched, or the answer does not say that the thing is missing.
pub(super) async fn fetch(
    http: &HttpConnection,
    repository: &RepositoryName,
    path: &str,
) -> Result<Option<Response>, RegistryError> {
    let request = Request::get(http.url(path), "application/json", MAX_BYTES);
    let response = http.read(&TokenScope::List(repository.clone()), request, RedirectPolicy::SameOrigin).await?;
    match response.status {
        StatusCode::OK => Ok(Some(response)),
        _ if response.is_absence() => Ok(None),
        StatusCode::NOT_FOUND => Err(response.error(RegistryErrorKind::Malformed)),
        _ => Err(response.status_error()),
    }
}

/// Parses a document.
///
/// # Errors
/// When it is not what it should be.
pub(super) fn parse<T: serde::de::DeserializeOwned>(response: &Response) -> Result<T, RegistryError> {
    parse_json_lossy(&response.body).map_err(|error| response.unparsable(error))
}
