//! Sign-in with a token that a product takes as it is.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use super::auth::TokenScope;
use super::authenticator::Authenticate;
use crate::http_client::{HttpClient, RequestSigner};
use crate::registry::{RegistryError, RegistryErrorKind};

/// Sends a token with each request. Nothing renews it.
#[derive(Debug)]
pub(in crate::registry) struct BearerToken {
    token: SecretString,
    /// The name of the token in messages, such as `an access token`.
    name: &'static str,
    signer: Option<Arc<dyn RequestSigner>>,
}

impl BearerToken {
    pub(in crate::registry) fn new(token: SecretString, name: &'static str) -> Self {
        Self { token, name, signer: None }
    }

    /// Adds what requests carry besides the token.
    pub(in crate::registry) fn with_signer(self, signer: impl RequestSigner + 'static) -> Self {
        Self { signer: Some(Arc::new(signer)), ..self }
    }
}

#[async_trait]
impl Authenticate for BearerToken {
    fn identity(&self) -> String {
        format!("the bearer of {}", self.name)
    }

    fn signer(&self) -> Option<Arc<dyn RequestSigner>> {
        self.signer.clone()
    }

    async fn authorization(&self, _: &HttpClient, _: &TokenScope) -> Result<Option<HeaderValue>, RegistryError> {
        let value = HeaderValue::from_str(&format!("Bearer {}", self.token.expose_secret().trim()));
        let mut value = value.map_err(|_| {
            let message = format!("{} cannot be sent: it holds control characters", self.name);
            RegistryError::new(RegistryErrorKind::InvalidSettings, message)
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}
