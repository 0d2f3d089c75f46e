//! Signing in to the API: an identifier and its secret are exchanged for a token of ten minutes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::HeaderValue;
use http::{Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::wire;
use crate::http_client::{HttpClient, MAX_ERROR_BYTES, Request, Response};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::authenticator::Authenticate;
use crate::registry::client::jwt;
use crate::registry::{Auth, RegistryError, RegistryErrorKind, RegistrySettings};

/// The lifetime of a token by the description of the API, and the time before its end at which it is renewed.
const LIFETIME: u64 = 600;
const MARGIN: u64 = 60;

/// Signs in to the API of Docker Hub. One for reader and writer.
#[derive(Debug)]
pub(super) struct HubSignIn {
    /// The user or organization with its secret; `None` for anonymous requests, which see public repositories.
    account: Option<(String, SecretString)>,
    url: Url,
    token: Mutex<Option<Token>>,
}

#[derive(Debug, Clone)]
struct Token {
    header: HeaderValue,
    expires_at: Instant,
}

#[derive(Deserialize)]
struct WireToken {
    access_token: String,
}

impl HubSignIn {
    pub(super) fn new(settings: &RegistrySettings, api: &Url) -> Self {
        let account = match &settings.auth {
            Auth::Basic { username, password } => Some((username.clone(), password.clone())),
            _ => None,
        };
        let mut url = api.clone();
        url.set_path("/v2/auth/token");
        Self { account, url, token: Mutex::new(None) }
    }

    async fn fetch(&self, client: &HttpClient) -> Result<Option<Token>, RegistryError> {
        let Some((identifier, secret)) = &self.account else { return Ok(None) };
        let body = json!({ "identifier": identifier, "secret": secret.expose_secret() }).to_string();
        let request = Request {
            method: Method::POST,
            content: Some((Arc::from("application/json"), body.into_bytes().into())),
            gets_token: true,
            ..Request::get(self.url.clone(), "application/json", MAX_ERROR_BYTES)
        };
        let response = client.send(&request, None).await?;
        match response.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                let message =
                    format!("Docker Hub does not accept the secret of {identifier}: {}", wire::words(&response));
                return Err(RegistryError::new(RegistryErrorKind::Unauthenticated, message).with_help(
                    "check the registry's `auth`: a user with a personal access token, or an organization with one of its own",
                ));
            }
            _ => return Err(wire::refusal(&response)),
        }
        let token: WireToken = response.parse_json()?;
        let lifetime = jwt::lifetime(&token.access_token).map_or(LIFETIME, |seconds| seconds.min(LIFETIME));
        let mut header = HeaderValue::try_from(format!("Bearer {}", token.access_token))
            .map_err(|_| response.malformed("its token cannot be sent"))?;
        header.set_sensitive(true);
        let expires_at = Instant::now() + Duration::from_secs(lifetime.saturating_sub(MARGIN).max(1));
        Ok(Some(Token { header, expires_at }))
    }
}

#[async_trait]
impl Authenticate for HubSignIn {
    fn identity(&self) -> String {
        self.account.as_ref().map_or_else(|| "anonymous".to_owned(), |(identifier, _)| format!("user {identifier}"))
    }

    async fn authorization(&self, client: &HttpClient, _: &TokenScope) -> Result<Option<HeaderValue>, RegistryError> {
        let mut slot = self.token.lock().await;
        if let Some(token) = slot.as_ref().filter(|token| token.expires_at > Instant::now()) {
            return Ok(Some(token.header.clone()));
        }
        *slot = self.fetch(client).await?;
        Ok(slot.as_ref().map(|token| token.header.clone()))
    }

    async fn renew_authorization(
        &self,
        client: &HttpClient,
        _: &TokenScope,
        used: Option<&HeaderValue>,
        _: &Response,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let mut slot = self.token.lock().await;
        // Another request may have renewed it in the meantime.
        if slot.as_ref().is_none_or(|token| Some(&token.header) == used) {
            *slot = self.fetch(client).await?;
        }
        Ok(slot.as_ref().map(|token| token.header.clone()).filter(|header| Some(header) != used))
    }
}
