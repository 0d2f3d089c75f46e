//! Metadata documents of Azure Container Registry about one repository, tag or manifest.

use http::StatusCode;

use crate::domain::RepositoryName;
use crate::http_client::{Request, Response};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::{RegistryError, RegistryErrorKind};

/// Most bytes of a document about one thing.
const MAX_BYTES: usize = 1 << 20;

/// Fetches a document. Returns `None` if the registry says that there is no such thing.
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
