//! What is asked of the token service, and what it answers.

use std::time::Duration;

use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::{Access, AcrSignIn, Login, Refresh, Service};
use crate::registry::acr::token::Claims;
use crate::registry::auth::seconds;
use crate::registry::wire::lenient;
use crate::registry::{RegistryError, RegistryErrorKind};
use crate::transport::{Answer, Ask, ERROR_LIMIT, Transport, date, json};

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
const EARLY: Duration = Duration::from_mins(5);
/// The life of a token that does not tell.
pub(super) const UNTOLD: Duration = Duration::from_mins(1);

impl AcrSignIn {
    /// Offers a token of Entra ID for a refresh token.
    pub(super) async fn exchange(
        &self,
        transport: &Transport,
        (realm, name): (&Url, &str),
        entra: &SecretString,
    ) -> Result<Answer, RegistryError> {
        let mut url = realm.clone();
        url.set_path("/oauth2/exchange");
        url.set_query(None);
        let form = [("grant_type", "access_token"), ("service", name), ("access_token", entra.expose_secret())];
        Ok(hushed(transport.send(&post(url, &form), None).await?, entra))
    }

    /// An access token of these scopes; nothing where name and password come with each request instead.
    pub(super) async fn fetch(
        &self,
        transport: &Transport,
        login: &Login,
        service: (&Url, &str),
        refresh: Option<Refresh>,
        scope: &str,
    ) -> Result<Option<Access>, RegistryError> {
        let mut refresh = refresh;
        let mut answer = self.ask(transport, login, service, refresh.as_ref(), scope).await?;
        if let (StatusCode::UNAUTHORIZED, Login::Entra { .. }, Some(refused)) = (answer.status, login, &refresh) {
            self.forget_refresh(refused.generation).await;
            refresh = self.refresh(transport, login, service).await?;
            answer = self.ask(transport, login, service, refresh.as_ref(), scope).await?;
        }
        if answer.status == StatusCode::NOT_FOUND && matches!(login, Login::Password { .. }) {
            *self.service.lock().await = Some(Service::Basic);
            return Ok(None);
        }
        if answer.status != StatusCode::OK {
            let mut error = answer.refusal();
            error.message = format!(
                "registry `{}` gives {} no token for `{}`: {}",
                self.settings.name,
                self.identity(),
                first(scope),
                error.message
            );
            if error.kind == RegistryErrorKind::Denied {
                error.message.push_str(match login {
                    Login::Refresh(_) => "; a refresh token is good for three hours: run `az acr login` again",
                    Login::Password { .. } => "; is the password still good, and the admin user or the token enabled?",
                    _ => "",
                });
            }
            return Err(error);
        }
        let wire = wire(&answer)?;
        let token = [wire.access_token, wire.token].into_iter().flatten().find(|token| !token.is_empty());
        let token = token.ok_or_else(|| answer.malformed("no `access_token` in it"))?;
        let claims = Claims::of(&token);
        let told = claims.as_ref().and_then(|claims| claims.life(date(&answer.headers)));
        let life = told.or(wire.expires_in.map(Duration::from_secs)).unwrap_or(UNTOLD);
        let now = Instant::now();
        Ok(Some(Access {
            header: self.bearer(&token)?,
            since: now,
            until: now + usable(life),
            claims,
            generation: refresh.map_or(0, |refresh| refresh.generation),
        }))
    }

    async fn ask(
        &self,
        transport: &Transport,
        login: &Login,
        (realm, name): (&Url, &str),
        refresh: Option<&Refresh>,
        scope: &str,
    ) -> Result<Answer, RegistryError> {
        let common = [("service", name), ("scope", scope)];
        match (refresh, login) {
            (Some(refresh), _) => {
                let own = [("grant_type", "refresh_token"), ("refresh_token", refresh.token.expose_secret())];
                let answer = transport.send(&post(realm.clone(), &[common, own].concat()), None).await?;
                Ok(hushed(answer, &refresh.token))
            }
            (None, Login::Password { password, .. }) => {
                let mut url = realm.clone();
                url.query_pairs_mut().extend_pairs(common);
                let ask = Ask::get(url, "application/json", ERROR_LIMIT);
                Ok(hushed(transport.send(&ask, self.basic(login)?.as_ref()).await?, password))
            }
            (None, _) => {
                let form = [&common[..], &[("grant_type", "password")]].concat();
                transport.send(&post(realm.clone(), &form), None).await
            }
        }
    }
}

/// A refusal without its words where they repeat a secret that was sent.
fn hushed(mut answer: Answer, secret: &SecretString) -> Answer {
    let secret = secret.expose_secret().as_bytes();
    if answer.status != StatusCode::OK && answer.body.windows(secret.len().max(1)).any(|part| part == secret) {
        answer.body.clear();
    }
    answer
}

/// The tokens in an answer. What is not understood is not quoted: it could hold one.
pub(super) fn wire(answer: &Answer) -> Result<WireTokens, RegistryError> {
    json(&answer.body).map_err(|_| answer.malformed("no token as JSON"))
}

/// A form, sent again where that could help: asking twice for a token is no more than asking once.
fn post(url: Url, form: &[(&str, &str)]) -> Ask {
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let content = ("application/x-www-form-urlencoded".into(), form.into_bytes().into());
    let ask = Ask::get(url, "application/json", ERROR_LIMIT);
    Ask { method: Method::POST, content: Some(content), signs_in: true, ..ask }
}

/// For how long a token is used.
pub(super) fn usable(life: Duration) -> Duration {
    life.min(Duration::from_hours(24)).saturating_sub(EARLY.min(life / 4))
}

/// The first of several scopes, and how many follow.
fn first(scope: &str) -> String {
    let mut scopes = scope.split(' ');
    let first = scopes.next().unwrap_or_default();
    match scopes.count() {
        0 => first.to_owned(),
        more => format!("{first} and {more} more"),
    }
}
