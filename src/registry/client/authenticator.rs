//! The seam between a connection and its provider's way to sign in.

use std::fmt::Debug;

use async_trait::async_trait;
use http::header::HeaderValue;

use super::auth::{DistributionAuthenticator, TokenScope};
use crate::domain::RepositoryName;
use crate::http_client::{HttpClient, Response};
use crate::registry::{RegistryError, RegistrySettings};

/// A way to sign in to one registry.
#[async_trait]
pub(in crate::registry) trait Authenticate: Send + Sync + Debug {
    /// Describes the identity that requests are made as.
    fn identity(&self) -> String;

    /// Announces the repositories of the next requests: they share tokens where each must be named in them.
    fn preauthorize(&self, _repositories: &[RepositoryName]) {}

    /// Returns the `Authorization` of a request to the registry, or `None` where none is needed or there is none.
    ///
    /// # Errors
    /// [`RegistryErrorKind::Denied`](crate::registry::RegistryErrorKind::Denied) where the identity lacks the permission, as far
    /// as its token says.
    async fn authorization(
        &self,
        client: &HttpClient,
        scope: &TokenScope,
    ) -> Result<Option<HeaderValue>, RegistryError>;

    /// Returns the `Authorization` to retry with after a 401 to a request that carried `used`, or `None` if there is
    /// none better.
    async fn renew_authorization(
        &self,
        client: &HttpClient,
        scope: &TokenScope,
        used: Option<&HeaderValue>,
        refusal: &Response,
    ) -> Result<Option<HeaderValue>, RegistryError>;
}

/// The authenticator of one registry, made by its [`Provider`](crate::registry::Provider).
#[derive(Debug)]
pub struct Authenticator(Box<dyn Authenticate>);

impl Authenticator {
    /// Makes the authenticator of the distribution token specification: the registry's challenge says what it wants.
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
