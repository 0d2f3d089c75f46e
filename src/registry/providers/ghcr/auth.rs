//! Sign-in to GitHub's REST API: the token itself, with the version of the API beside it.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

use crate::http_client::{HttpClient, Request, RequestSigner, Response};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::authenticator::Authenticate;
use crate::registry::{RegistryError, RegistryErrorKind};

const VERSION_HEADER: HeaderName = HeaderName::from_static("x-github-api-version");
/// The version whose description the code follows.
const VERSION: HeaderValue = HeaderValue::from_static("2022-11-28");

/// Sends a token as it is.
#[derive(Debug)]
pub(super) struct GithubAuthenticator(pub(super) SecretString);

#[async_trait]
impl Authenticate for GithubAuthenticator {
    fn identity(&self) -> String {
        "the bearer of a token of GitHub".into()
    }

    fn signer(&self) -> Option<Arc<dyn RequestSigner>> {
        Some(Arc::new(ApiVersion))
    }

    async fn authorization(&self, _: &HttpClient, _: &TokenScope) -> Result<Option<HeaderValue>, RegistryError> {
        let value = HeaderValue::from_str(&format!("Bearer {}", self.0.expose_secret().trim()));
        let mut value = value.map_err(|_| {
            let message = "the token of GitHub cannot be sent: it holds control characters".to_owned();
            RegistryError::new(RegistryErrorKind::InvalidSettings, message)
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// GitHub renews no token.
    async fn renew_authorization(
        &self,
        _: &HttpClient,
        _: &TokenScope,
        _: Option<&HeaderValue>,
        _: &Response,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        Ok(None)
    }
}

/// Names the version of the API in each request.
#[derive(Debug)]
struct ApiVersion;

impl RequestSigner for ApiVersion {
    fn headers(&self, _: &Request) -> Result<HeaderMap, RegistryError> {
        Ok([(VERSION_HEADER, VERSION)].into_iter().collect())
    }
}
