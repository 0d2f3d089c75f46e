//! Sign-in to GitHub's REST API: the token itself, with the version of the API beside it.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;

use crate::http_client::{Request, RequestSigner};
use crate::registry::RegistryError;
use crate::registry::client::bearer::BearerToken;

const VERSION_HEADER: HeaderName = HeaderName::from_static("x-github-api-version");
/// The version whose description the code follows.
const VERSION: HeaderValue = HeaderValue::from_static("2022-11-28");

/// Sends a token as it is.
pub(super) fn bearer(token: SecretString) -> BearerToken {
    BearerToken::new(token, "a token of GitHub").with_signer(ApiVersion)
}

/// Names the version of the API in each request.
#[derive(Debug)]
struct ApiVersion;

impl RequestSigner for ApiVersion {
    fn headers(&self, _: &Request) -> Result<HeaderMap, RegistryError> {
        Ok([(VERSION_HEADER, VERSION)].into_iter().collect())
    }
}
