//! The interface between a connection and its provider's authentication.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::HeaderValue;

use super::auth::{DistributionAuthenticator, TokenScope};
use crate::domain::RepositoryName;
use crate::http_client::{HttpClient, RequestSigner, Response};
use crate::registry::{RegistryError, RegistrySettings};

/// The authentication with one registry.
#[async_trait]
pub(in crate::registry) trait Authenticate: Send + Sync + Debug {
    /// Describes the identity of requests.
    fn identity(&self) -> String;

    /// Returns the signer of requests to the registry; `None` if their `Authorization` is all that they carry.
    fn signer(&self) -> Option<Arc<dyn RequestSigner>> {
        None
    }

    /// Drops credentials that the registry says have expired, though they should not have. Returns true if there may be
    /// others.
    fn drop_expired(&self) -> bool {
        false
    }

    /// Announces the repositories of the next requests: they share tokens if each must be named in these.
    fn preauthorize(&self, _repositories: &[RepositoryName]) {}

    /// Returns the `Authorization` of a request to the registry, or `None` if none is needed or available.
    ///
    /// # Errors
    /// Returns [`RegistryErrorKind::Denied`](crate::registry::RegistryErrorKind::Denied) if the identity lacks the
    /// permission, as far as its token shows.
    async fn authorization(
        &self,
        client: &HttpClient,
        scope: &TokenScope,
    ) -> Result<Option<HeaderValue>, RegistryError>;

    /// Returns the `Authorization` for a retry after a 401 to a request that carried `used`, or `None` if there is no
    /// better one, as with a fixed token.
    async fn renew_authorization(
        &self,
        _client: &HttpClient,
        _scope: &TokenScope,
        _used: Option<&HeaderValue>,
        _refusal: &Response,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        Ok(None)
    }
}

/// The authenticator of one registry, made by its [`Provider`](crate::registry::Provider).
#[derive(Debug)]
pub struct Authenticator(Box<dyn Authenticate>);

impl Authenticator {
    /// Creates the authenticator of the distribution token specification, which follows the registry's challenge.
    #[must_use]
    pub fn by_challenge(settings: &RegistrySettings) -> Self {
        Self::new(DistributionAuthenticator::new(settings))
    }

    /// Makes the authenticator that sends user name and password with each request, for an API that takes no tokens.
    #[must_use]
    pub fn by_password(settings: &RegistrySettings) -> Self {
        Self::new(DistributionAuthenticator::with_password(settings))
    }

    /// Wraps a provider's own way to sign in.
    pub(in crate::registry) fn new(authenticator: impl Authenticate + 'static) -> Self {
        Self(Box::new(authenticator))
    }

    pub(in crate::registry) fn into_inner(self) -> Box<dyn Authenticate> {
        self.0
    }
}
