//! What is asked of the token service, and what it answers.

use std::time::Duration;

use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::{AccessToken, AcrAuthenticator, Credentials, RefreshToken, TokenService};
use crate::http_client::{HttpClient, MAX_ERROR_BYTES, Request, Response, date, parse_json_lossy};
use crate::registry::client::auth::seconds;
use crate::registry::client::authenticator::Authenticate as _;
use crate::registry::client::wire::lenient;
use crate::registry::providers::acr::token::TokenClaims;
use crate::registry::{RegistryError, RegistryErrorKind};

#[derive(Deserialize)]
pub(super) struct WireTokens {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) refresh_token: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    access_token: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    token: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

/// Tokens are renewed so long before they end.
const RENEWAL_MARGIN: Duration = Duration::from_mins(5);
/// The life of a token that does not tell.
pub(super) const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);

impl AcrAuthenticator {
    /// Offers a token of Entra ID for a refresh token.
    pub(super) async fn exchange(
        &self,
        client: &HttpClient,
        (realm, name): (&Url, &str),
        entra: &SecretString,
    ) -> Result<Response, RegistryError> {
        let mut url = realm.clone();
        url.set_path("/oauth2/exchange");
        url.set_query(None);
        let form = [("grant_type", "access_token"), ("service", name), ("access_token", entra.expose_secret())];
        Ok(redact_secret(client.send(&form_request(url, &form), None).await?, entra))
    }

    /// An access token of these scopes; nothing where name and password come with each request instead.
    pub(super) async fn fetch_access_token(
        &self,
        client: &HttpClient,
        credentials: &Credentials,
        service: (&Url, &str),
        refresh: Option<RefreshToken>,
        scope: &str,
    ) -> Result<Option<AccessToken>, RegistryError> {
        let mut refresh = refresh;
        let mut response = self.request_access_token(client, credentials, service, refresh.as_ref(), scope).await?;
        if let (StatusCode::UNAUTHORIZED, Credentials::Entra { .. }, Some(refused)) =
            (response.status, credentials, &refresh)
        {
            self.expire_refresh_token(refused.generation).await;
            refresh = self.refresh_token(client, credentials, service).await?;
            response = self.request_access_token(client, credentials, service, refresh.as_ref(), scope).await?;
        }
        if response.status == StatusCode::NOT_FOUND && matches!(credentials, Credentials::Password { .. }) {
            *self.token_service.lock().await = Some(TokenService::Basic);
            return Ok(None);
        }
        if response.status != StatusCode::OK {
            let error = response.status_error();
            let help = match credentials {
                _ if error.kind != RegistryErrorKind::Denied => "",
                Credentials::RefreshToken(_) => "a refresh token is good for three hours: run `az acr login` again",
                Credentials::Password { .. } => "is the password still good, and the admin user or the token enabled?",
                _ => "",
            };
            let message = format!(
                "registry `{}` gives {} no token for `{}`",
                self.settings.name,
                self.identity(),
                summarize_scopes(scope)
            );
            return Err(error.within(message).with_help(help));
        }
        let wire = parse_tokens(&response)?;
        let token = [wire.access_token, wire.token].into_iter().flatten().find(|token| !token.is_empty());
        let token = token.ok_or_else(|| response.malformed("no `access_token` in it"))?;
        let claims = TokenClaims::parse(&token);
        let told = claims.as_ref().and_then(|claims| claims.lifetime(date(&response.headers)));
        let life = told.or(wire.expires_in.map(Duration::from_secs)).unwrap_or(DEFAULT_LIFETIME);
        let now = Instant::now();
        Ok(Some(AccessToken {
            header: self.bearer_header(&token)?,
            issued_at: now,
            expires_at: now + usable_lifetime(life),
            claims,
            generation: refresh.map_or(0, |refresh| refresh.generation),
        }))
    }

    async fn request_access_token(
        &self,
        client: &HttpClient,
        credentials: &Credentials,
        (realm, name): (&Url, &str),
        refresh: Option<&RefreshToken>,
        scope: &str,
    ) -> Result<Response, RegistryError> {
        let common = [("service", name), ("scope", scope)];
        match (refresh, credentials) {
            (Some(refresh), _) => {
                let own = [("grant_type", "refresh_token"), ("refresh_token", refresh.token.expose_secret())];
                let response = client.send(&form_request(realm.clone(), &[common, own].concat()), None).await?;
                Ok(redact_secret(response, &refresh.token))
            }
            (None, Credentials::Password { password, .. }) => {
                let mut url = realm.clone();
                url.query_pairs_mut().extend_pairs(common);
                let request = Request::get(url, "application/json", MAX_ERROR_BYTES);
                Ok(redact_secret(client.send(&request, self.basic_header(credentials)?.as_ref()).await?, password))
            }
            (None, _) => {
                let form = [&common[..], &[("grant_type", "password")]].concat();
                client.send(&form_request(realm.clone(), &form), None).await
            }
        }
    }
}

/// A refusal without its words where they repeat a secret that was sent.
fn redact_secret(mut response: Response, secret: &SecretString) -> Response {
    let secret = secret.expose_secret().as_bytes();
    if response.status != StatusCode::OK && response.body.windows(secret.len().max(1)).any(|part| part == secret) {
        response.body.clear();
    }
    response
}

/// The tokens in an answer. What is not understood is not quoted: it could hold one.
pub(super) fn parse_tokens(response: &Response) -> Result<WireTokens, RegistryError> {
    parse_json_lossy(&response.body).map_err(|_| response.malformed("no token as JSON"))
}

/// A form, sent again where that could help: asking twice for a token is no more than asking once.
fn form_request(url: Url, form: &[(&str, &str)]) -> Request {
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let content = ("application/x-www-form-urlencoded".into(), form.into_bytes().into());
    let request = Request::get(url, "application/json", MAX_ERROR_BYTES);
    Request { method: Method::POST, content: Some(content), gets_token: true, ..request }
}

/// For how long a token is used.
pub(super) fn usable_lifetime(life: Duration) -> Duration {
    life.min(Duration::from_hours(24)).saturating_sub(RENEWAL_MARGIN.min(life / 4))
}

/// The first of several scopes, and how many follow.
fn summarize_scopes(scope: &str) -> String {
    let mut scopes = scope.split(' ');
    let first = scopes.next().unwrap_or_default();
    match scopes.count() {
        0 => first.to_owned(),
        more => format!("{first} and {more} more"),
    }
}
