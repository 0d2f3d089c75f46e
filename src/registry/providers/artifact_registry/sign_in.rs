//! The two ways to show a token: as it is to the API, and as a password to the registry API, as `docker login` does.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::header::HeaderValue;

use super::tokens::{AccessToken, TokenSource};
use crate::http_client::{HttpClient, Response};
use crate::registry::client::auth::{DistributionAuthenticator, TokenScope};
use crate::registry::client::authenticator::Authenticate;
use crate::registry::{Auth, RegistryError, RegistrySettings};

/// The user name that stands for an access token
/// (<https://cloud.google.com/artifact-registry/docs/docker/authentication>).
const USER: &str = "oauth2accesstoken";

/// Signs in to the API.
#[derive(Debug)]
pub(super) struct ApiSignIn(pub(super) Arc<TokenSource>);

#[async_trait]
impl Authenticate for ApiSignIn {
    fn identity(&self) -> String {
        self.0.identity()
    }

    async fn authorization(&self, client: &HttpClient, _: &TokenScope) -> Result<Option<HeaderValue>, RegistryError> {
        self.0.token(client).await?.bearer().map(Some)
    }

    async fn renew_authorization(
        &self,
        client: &HttpClient,
        _: &TokenScope,
        used: Option<&HeaderValue>,
        _: &Response,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let current = self.0.token(client).await?;
        let header = current.bearer()?;
        if used != Some(&header) {
            return Ok(Some(header));
        }
        let renewed = self.0.replace(client, &current).await?;
        renewed.map(|token| token.bearer()).transpose()
    }
}

/// Signs in to the registry API by its challenge, with the current token as password.
#[derive(Debug)]
pub(super) struct RegistrySignIn {
    settings: RegistrySettings,
    tokens: Arc<TokenSource>,
    /// The token that the registry knows, and what it gave for it.
    session: Mutex<Option<(AccessToken, Arc<DistributionAuthenticator>)>>,
}

impl RegistrySignIn {
    pub(super) fn new(settings: &RegistrySettings, tokens: Arc<TokenSource>) -> Self {
        Self { settings: settings.clone(), tokens, session: Mutex::default() }
    }

    fn session(&self, token: AccessToken) -> Arc<DistributionAuthenticator> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        match &*session {
            Some((known, authenticator)) if known.is_same(&token) => Arc::clone(authenticator),
            _ => {
                let auth = Auth::Basic { username: USER.to_owned(), password: token.token.clone() };
                let settings = RegistrySettings { auth, ..self.settings.clone() };
                let authenticator = Arc::new(DistributionAuthenticator::new(&settings));
                *session = Some((token, Arc::clone(&authenticator)));
                authenticator
            }
        }
    }
}

#[async_trait]
impl Authenticate for RegistrySignIn {
    fn identity(&self) -> String {
        self.tokens.identity()
    }

    async fn authorization(
        &self,
        client: &HttpClient,
        scope: &TokenScope,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let token = self.tokens.token(client).await?;
        match self.session(token.clone()).authorization(client, scope).await {
            // The token may be over sooner than it said.
            Err(error) if error.kind == crate::registry::RegistryErrorKind::Denied => {
                match self.tokens.replace(client, &token).await? {
                    Some(renewed) => self.session(renewed).authorization(client, scope).await,
                    None => Err(error),
                }
            }
            other => other,
        }
    }

    async fn renew_authorization(
        &self,
        client: &HttpClient,
        scope: &TokenScope,
        used: Option<&HeaderValue>,
        refusal: &Response,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let token = self.tokens.token(client).await?;
        self.session(token).renew_authorization(client, scope, used, refusal).await
    }
}
