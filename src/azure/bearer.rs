//! Requests with tokens of Entra ID.

use http::StatusCode;
use http::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use super::TokenCache;
use crate::http_client::{HttpClient, Request, RequestError, RequestErrorKind, Response};

/// A client of one of Azure's services that sends each request with a token.
#[derive(Debug)]
pub(super) struct BearerClient {
    pub(super) client: HttpClient,
    pub(super) tokens: TokenCache,
    /// The scope of the tokens.
    pub(super) scope: &'static str,
    /// The name of the service in messages.
    pub(super) service: &'static str,
}

impl BearerClient {
    /// Sends a request and returns the response, whatever its status; once more with a new token if that is refused
    /// (401, or what `refuses_token` finds).
    pub(super) async fn send(
        &self,
        request: &Request,
        refuses_token: impl Fn(&Response) -> bool,
    ) -> Result<Response, RequestError> {
        let token = self.tokens.token(self.scope).await?;
        let response = self.client.send(request, Some(&self.header(&token)?)).await?;
        if response.status != StatusCode::UNAUTHORIZED && !refuses_token(&response) {
            return Ok(response);
        }
        let token = self.tokens.renew_token(self.scope, &token).await?;
        self.client.send(request, Some(&self.header(&token)?)).await
    }

    fn header(&self, token: &SecretString) -> Result<HeaderValue, RequestError> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(|_| {
            let message = format!("the token for {} does not fit into a header", self.service);
            RequestError::new(RequestErrorKind::Malformed, message)
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}
