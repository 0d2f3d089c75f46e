//! Sign-in with an access token, which Artifactory takes as it is.

use async_trait::async_trait;
use http::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use crate::http_client::{HttpClient, Response};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::authenticator::Authenticate;
use crate::registry::{RegistryError, RegistryErrorKind};

/// Sends a token with each request.
#[derive(Debug)]
pub(super) struct BearerAuthenticator(pub(super) SecretString);

#[async_trait]
impl Authenticate for BearerAuthenticator {
    fn identity(&self) -> String {
        "the bearer of an access token".into()
    }

    async fn authorization(&self, _: &HttpClient, _: &TokenScope) -> Result<Option<HeaderValue>, RegistryError> {
        let value = HeaderValue::from_str(&format!("Bearer {}", self.0.expose_secret().trim()));
        let mut value = value.map_err(|_| {
            let message = "the access token cannot be sent: it holds control characters".to_owned();
            RegistryError::new(RegistryErrorKind::InvalidSettings, message)
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Nothing renews an access token.
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
