//! Signing in to Azure Container Registry: a token of Entra ID is exchanged for a refresh token of the registry, and that
//! for access tokens, each good for one kind of action (<https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>).
//!
//! What a token is good for stands in it, and is looked at before it is used: the registry gives less than it was asked
//! for without a word.

mod token_service;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::Instant;
use url::Url;

use self::token_service::{DEFAULT_LIFETIME, parse_tokens, usable_lifetime};
use super::token::TokenClaims;
use crate::azure;
use crate::domain::RepositoryName;
use crate::http_client::{HttpClient, MAX_ERROR_BYTES, Request, Response, RetryPolicy, date};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::authenticator::Authenticate;
use crate::registry::client::challenge::{self, Challenge, TokenHosts, host_and_port};
use crate::registry::client::docker_config::{DockerConfig, StoredCredentials};
use crate::registry::{Auth, RegistryError, RegistryErrorKind, RegistrySettings};

/// Signs requests to one registry.
#[derive(Debug)]
pub(super) struct AcrAuthenticator {
    settings: RegistrySettings,
    retry_policy: RetryPolicy,
    token_hosts: TokenHosts,
    credentials: OnceCell<Credentials>,
    token_service: AsyncMutex<Option<TokenService>>,
    /// The refresh token. Whoever holds the lock exchanges for all who wait.
    refresh_token: AsyncMutex<Option<RefreshToken>>,
    facts: Mutex<RegistryFacts>,
    /// Access tokens by their scopes.
    access_tokens: Mutex<HashMap<String, TokenSlot>>,
}

/// The place of an access token. Whoever holds its lock fetches for all who wait.
type TokenSlot = Arc<AsyncMutex<Option<AccessToken>>>;

/// What there is to sign in with, once it was looked up.
#[derive(Debug)]
enum Credentials {
    Anonymous,
    Password {
        username: String,
        password: SecretString,
    },
    /// A refresh token of the registry, as `az acr login` leaves it.
    RefreshToken(SecretString),
    Token(SecretString),
    Entra {
        tokens: Box<azure::TokenCache>,
        scope: &'static str,
    },
}

/// What gives tokens.
#[derive(Debug, Clone)]
enum TokenService {
    /// Nothing, and none are asked for.
    None,
    /// Nothing: name and password come with each request.
    Basic,
    Bearer {
        realm: Url,
        name: String,
    },
}

#[derive(Debug, Clone)]
struct RefreshToken {
    token: SecretString,
    expires_at: Option<Instant>,
    /// Which one it is, counted from one.
    generation: u64,
}

#[derive(Debug, Clone)]
struct AccessToken {
    header: HeaderValue,
    issued_at: Instant,
    expires_at: Instant,
    claims: Option<TokenClaims>,
    /// The refresh token that it was given for; nothing where there is none.
    generation: u64,
}

/// What was found out on the way.
#[derive(Debug, Default)]
struct RegistryFacts {
    /// Whether the registry gives permissions by repository.
    uses_repository_permissions: bool,
    /// The actions for which it gives no token that is good for all repositories.
    wildcard_refused: HashSet<RepositoryAction>,
    /// Repositories that were announced, each with those that share its tokens.
    batches: HashMap<RepositoryName, Arc<[RepositoryName]>>,
    /// As whom, as far as a token says it.
    identity: Option<String>,
}

/// What a request wants to do in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RepositoryAction {
    List,
    Pull,
    Delete,
    Push,
}

/// Repositories that share a token where each must be named; `acr-cli` takes as many.
const BATCH_SIZE: usize = 10;
/// A token that is refused so soon after it was given has not ended: it was never good for what it is needed for.
const FRESH_TOKEN_AGE: Duration = Duration::from_mins(1);
/// The user that comes with a refresh token for its password.
const REFRESH_TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";
const CATALOGUE_SCOPE: &str = "registry:catalog:*";

impl RepositoryAction {
    /// By the names that the registry has for them.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::List => &["metadata_read"],
            Self::Pull => &["pull"],
            Self::Delete => &["delete"],
            Self::Push => &["pull", "push"],
        }
    }

    fn scope(self, repository: &str) -> String {
        format!("repository:{repository}:{}", self.names().join(","))
    }
}

/// The repository and the action of a grant; nothing for that of the catalogue.
fn repository_action(grant: &TokenScope) -> Option<(&RepositoryName, RepositoryAction)> {
    match grant {
        TokenScope::Catalogue => None,
        TokenScope::List(name) => Some((name, RepositoryAction::List)),
        TokenScope::Pull(name) => Some((name, RepositoryAction::Pull)),
        TokenScope::Delete(name) => Some((name, RepositoryAction::Delete)),
        TokenScope::Push(name) => Some((name, RepositoryAction::Push)),
    }
}

impl AcrAuthenticator {
    pub(super) fn new(settings: &RegistrySettings, patience: RetryPolicy) -> Self {
        Self {
            settings: settings.clone(),
            retry_policy: patience,
            token_hosts: TokenHosts::new(settings),
            credentials: OnceCell::new(),
            token_service: AsyncMutex::default(),
            refresh_token: AsyncMutex::default(),
            facts: Mutex::default(),
            access_tokens: Mutex::default(),
        }
    }
}

#[async_trait]
impl Authenticate for AcrAuthenticator {
    fn identity(&self) -> String {
        let told = self.facts().identity.clone();
        match (&self.settings.auth, self.credentials.get()) {
            (Auth::Anonymous, _) => "anonymous".into(),
            (Auth::Basic { username, .. }, _) if username == REFRESH_TOKEN_USER => {
                told.unwrap_or_else(|| "the bearer of a refresh token".into())
            }
            (Auth::Basic { username, .. }, _) => format!("user {username}"),
            (Auth::Token(_), _) => "the bearer of a token".into(),
            (Auth::Entra(credential), _) => match told {
                Some(told) => format!("{told} ({})", credential.description()),
                None => credential.description(),
            },
            (Auth::Aws(identity), _) => identity.to_string(),
            (Auth::Google(identity), _) => identity.to_string(),
            (Auth::DockerConfig(_), Some(Credentials::Password { username, .. })) => {
                format!("user {username}, by the docker configuration")
            }
            (Auth::DockerConfig(_), Some(_)) => {
                format!("{}, by the docker configuration", told.unwrap_or_else(|| "the bearer of a token".into()))
            }
            (Auth::DockerConfig(files), None) => {
                format!("by the docker configuration {}", crate::registry::client::docker_config::join_paths(files))
            }
        }
    }

    /// Tells which repositories belong together: they share tokens where the registry wants each to be named.
    fn preauthorize(&self, repositories: &[RepositoryName]) {
        let mut known = self.facts();
        let mut new: Vec<RepositoryName> =
            repositories.iter().filter(|name| !known.batches.contains_key(*name)).cloned().collect();
        new.sort();
        new.dedup();
        for batch in new.chunks(BATCH_SIZE) {
            let shared: Arc<[RepositoryName]> = batch.into();
            known.batches.extend(batch.iter().map(|name| (name.clone(), shared.clone())));
        }
    }

    /// The `Authorization` of a request; nothing where none is needed.
    ///
    /// # Errors
    /// [`RegistryErrorKind::Denied`] where the identity may not do this, as far as its token says.
    async fn authorization(
        &self,
        client: &HttpClient,
        grant: &TokenScope,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let login = self.credentials().await?;
        if let Credentials::Token(token) = login {
            return self.bearer_header(token.expose_secret()).map(Some);
        }
        let (realm, name) = match self.token_service(client, login).await? {
            TokenService::None => return Ok(None),
            TokenService::Basic => return self.basic_header(login),
            TokenService::Bearer { realm, name } => (realm, name),
        };
        loop {
            // Whether wildcards are honoured stands in the refresh token.
            let refresh = self.refresh_token(client, login, (&realm, &name)).await?;
            let (scope, wildcard) = self.token_scopes(grant);
            let slot = self.slot(&scope);
            let mut slot = slot.lock().await;
            let access = match slot.as_ref().filter(|access| access.expires_at > Instant::now()) {
                Some(access) => access.clone(),
                None => match self.fetch_access_token(client, login, (&realm, &name), refresh, &scope).await? {
                    Some(access) => slot.insert(access).clone(),
                    None => return self.basic_header(login),
                },
            };
            match (self.missing_permission_error(&access, grant), repository_action(grant)) {
                (None, _) => return Ok(Some(access.header)),
                (Some(_), Some((_, action))) if wildcard => {
                    self.facts().wildcard_refused.insert(action);
                }
                (Some(error), _) => return Err(error),
            }
        }
    }

    /// The `Authorization` to try again with after a 401 to a request that carried `used`; nothing if there is none
    /// better.
    async fn renew_authorization(
        &self,
        client: &HttpClient,
        grant: &TokenScope,
        used: Option<&HeaderValue>,
        refusal: &Response,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let login = self.credentials().await?;
        let Some(TokenService::Bearer { realm, name }) = self.token_service.lock().await.clone() else {
            return Ok(None);
        };
        let (scope, wildcard) = self.token_scopes(grant);
        let slot = self.slot(&scope);
        let mut slot = slot.lock().await;
        // Another request may have renewed it while this one was on its way.
        if let Some(refused) = slot.take_if(|access| Some(&access.header) == used) {
            self.expire_refresh_token(refused.generation).await;
            self.refresh_token(client, login, (&realm, &name)).await?;
            let narrow = match challenge::best_challenge(&refusal.headers) {
                Some(Challenge::Bearer { error: Some(error), .. }) => error == "insufficient_scope",
                _ => refused.issued_at.elapsed() < FRESH_TOKEN_AGE,
            };
            if let Some((_, action)) = repository_action(grant)
                && wildcard
                && narrow
            {
                self.facts().wildcard_refused.insert(action);
            }
        }
        drop(slot);
        Ok(self.authorization(client, grant).await?.filter(|header| Some(header) != used))
    }
}

impl AcrAuthenticator {
    /// A registry that changes its permission mode refuses the tokens that it gave before. Whatever was found out with
    /// them may be otherwise now.
    async fn expire_refresh_token(&self, generation: u64) {
        let mut refresh = self.refresh_token.lock().await;
        if let Some(it) = refresh.as_mut().filter(|it| it.generation == generation) {
            it.expires_at = Some(Instant::now());
        }
    }

    /// The scopes of the token for a grant, and whether they are those of all repositories.
    fn token_scopes(&self, grant: &TokenScope) -> (String, bool) {
        let known = self.facts();
        match repository_action(grant) {
            None if known.uses_repository_permissions => (CATALOGUE_SCOPE.to_owned(), false),
            None => (format!("{CATALOGUE_SCOPE} {}", RepositoryAction::List.scope("*")), false),
            Some((name, action)) if known.uses_repository_permissions || known.wildcard_refused.contains(&action) => {
                let alone = [name.clone()];
                let batch = known.batches.get(name).map_or(&alone[..], |batch| batch);
                let scopes: Vec<String> = batch.iter().map(|name| action.scope(name.as_str())).collect();
                (scopes.join(" "), false)
            }
            Some((_, RepositoryAction::List)) => {
                (format!("{CATALOGUE_SCOPE} {}", RepositoryAction::List.scope("*")), true)
            }
            Some((_, action)) => (action.scope("*"), true),
        }
    }

    /// What a token lacks for a grant.
    fn missing_permission_error(&self, access: &AccessToken, grant: &TokenScope) -> Option<RegistryError> {
        let claims = access.claims.as_ref()?;
        let (kind, name, actions): (_, _, &[&'static str]) = match repository_action(grant) {
            None => ("registry", "catalog", &["*"]),
            Some((name, action)) => ("repository", name.as_str(), action.names()),
        };
        let missing = claims.missing_actions(kind, name, actions);
        if missing.is_empty() {
            return None;
        }
        let mut message = format!("{} may not ", self.identity());
        if repository_action(grant).is_some() {
            let actions: Vec<String> = missing.iter().map(|action| format!("`{action}`")).collect();
            let (actions, given) = (actions.join(", "), claims.describe_actions(kind, name));
            let _ = write!(message, "{actions} in the repository `{name}`: its token is good for {given} there");
        } else {
            let _ = write!(message, "list the repositories (`{CATALOGUE_SCOPE}`)");
        }
        Some(RegistryError::new(RegistryErrorKind::Denied, message).with_help(self.role_advice(grant)))
    }

    /// The least role that allows something
    /// (<https://learn.microsoft.com/azure/container-registry/container-registry-rbac-built-in-roles-overview>).
    fn role_advice(&self, grant: &TokenScope) -> String {
        let (registry, repository, content) = match repository_action(grant).map(|(_, action)| action) {
            None => ("AcrPull", "Container Registry Repository Catalog Lister", "metadata/read"),
            Some(RepositoryAction::List) => ("AcrPull", "Container Registry Repository Reader", "metadata/read"),
            Some(RepositoryAction::Pull) => ("AcrPull", "Container Registry Repository Reader", "content/read"),
            Some(RepositoryAction::Delete) => {
                ("AcrDelete", "Container Registry Repository Contributor", "content/delete")
            }
            Some(RepositoryAction::Push) => ("AcrPush", "Container Registry Repository Contributor", "content/write"),
        };
        match (self.credentials.get(), self.facts().uses_repository_permissions) {
            (Some(Credentials::Password { .. }), _) => format!("add `{content}` to the scope map of that user"),
            (Some(Credentials::Anonymous), _) => "configure an `auth` that may".to_owned(),
            (_, true) => format!("assign it the role {repository}"),
            (_, false) => {
                format!("assign it the role {registry}, or {repository} where the registry has roles by repository")
            }
        }
    }

    async fn credentials(&self) -> Result<&Credentials, RegistryError> {
        self.credentials
            .get_or_try_init(|| async {
                let stored = match &self.settings.auth {
                    Auth::Anonymous => return Ok(Credentials::Anonymous),
                    Auth::Token(token) => return Ok(Credentials::Token(token.clone())),
                    Auth::Entra(credential) => {
                        let tokens = Box::new(credential.connect(self.retry_policy)?);
                        return Ok(Credentials::Entra { tokens, scope: credential.environment.cloud.registry_scope() });
                    }
                    Auth::Aws(_) | Auth::Google(_) => {
                        let message = "an identity of another cloud does not sign in to Azure".to_owned();
                        return Err(RegistryError::new(RegistryErrorKind::InvalidSettings, message));
                    }
                    Auth::Basic { username, password } => {
                        StoredCredentials::Password { username: username.clone(), password: password.clone() }
                    }
                    Auth::DockerConfig(files) => {
                        let config = DockerConfig::new(files.clone(), self.settings.timeout);
                        config.credentials(&host_and_port(&self.settings.endpoint), None).await?
                    }
                };
                let login = match stored {
                    StoredCredentials::Password { username, password } if username == REFRESH_TOKEN_USER => {
                        Credentials::RefreshToken(password)
                    }
                    StoredCredentials::Password { username, password } => Credentials::Password { username, password },
                    StoredCredentials::IdentityToken(token) => Credentials::RefreshToken(token),
                };
                if let Credentials::RefreshToken(token) = &login {
                    self.record_claims(TokenClaims::parse(token.expose_secret()).as_ref(), None);
                }
                Ok(login)
            })
            .await
    }

    /// What gives tokens: what the registry says when it is asked without any, else what all container registries have.
    async fn token_service(&self, client: &HttpClient, login: &Credentials) -> Result<TokenService, RegistryError> {
        let mut service = self.token_service.lock().await;
        if let Some(known) = &*service {
            return Ok(known.clone());
        }
        let endpoint = &self.settings.endpoint;
        let at = |path: &str| {
            let mut url = endpoint.clone();
            url.set_path(path);
            url
        };
        let response = client.send(&Request::get(at("/v2/"), "*/*", MAX_ERROR_BYTES), None).await?;
        if response.status == StatusCode::TOO_MANY_REQUESTS || response.status.is_server_error() {
            return Err(response.status_error());
        }
        let refused = response.status == StatusCode::UNAUTHORIZED;
        let host = host_and_port(endpoint);
        let found = match (refused.then(|| challenge::best_challenge(&response.headers)).flatten(), login) {
            (Some(Challenge::Bearer { realm, service, .. }), _) => {
                let realm = self.token_hosts.check_realm(&realm)?;
                TokenService::Bearer { realm, name: service.unwrap_or(host) }
            }
            (_, Credentials::Entra { .. } | Credentials::RefreshToken(_)) => {
                TokenService::Bearer { realm: at("/oauth2/token"), name: host }
            }
            (_, Credentials::Password { .. }) => TokenService::Basic,
            (_, Credentials::Anonymous | Credentials::Token(_)) => TokenService::None,
        };
        *service = Some(found.clone());
        Ok(found)
    }

    /// The refresh token, where there is one: a good one of Entra ID's, or that which the settings have.
    async fn refresh_token(
        &self,
        client: &HttpClient,
        login: &Credentials,
        service: (&Url, &str),
    ) -> Result<Option<RefreshToken>, RegistryError> {
        let (tokens, scope) = match login {
            Credentials::Entra { tokens, scope } => (tokens, *scope),
            Credentials::RefreshToken(token) => {
                return Ok(Some(RefreshToken { token: token.clone(), expires_at: None, generation: 0 }));
            }
            Credentials::Anonymous | Credentials::Password { .. } | Credentials::Token(_) => return Ok(None),
        };
        let mut refresh = self.refresh_token.lock().await;
        if let Some(known) = refresh.as_ref().filter(|it| it.expires_at.is_none_or(|until| until > Instant::now())) {
            return Ok(Some(known.clone()));
        }
        let mut entra = tokens.token(scope).await?;
        let mut response = self.exchange(client, service, &entra).await?;
        if response.status == StatusCode::UNAUTHORIZED {
            let other = tokens.renew_token(scope, &entra).await?;
            if other.expose_secret() != entra.expose_secret() {
                response = self.exchange(client, service, &other).await?;
                entra = other;
            }
        }
        if response.status != StatusCode::OK {
            let message = format!(
                "registry `{}` gives no token for that of {}: {}",
                self.settings.name,
                tokens.description(),
                response.description()
            );
            let error = RegistryError::new(response.status_error().kind, message);
            if error.kind != RegistryErrorKind::Denied {
                return Err(error);
            }
            return Err(error.with_help(format!(
                "it was offered a token for {} and is not offered a wider one: check that the identity is of the \
                 registry's tenant and has a role on it, and that no firewall rule stands in the way",
                scope.trim_end_matches("/.default")
            )));
        }
        let token = parse_tokens(&response)?.refresh_token.filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| response.malformed("no `refresh_token` in it"))?;
        let claims = TokenClaims::parse(&token);
        self.record_claims(claims.as_ref(), TokenClaims::parse(entra.expose_secret()).as_ref());
        let life = claims.and_then(|claims| claims.lifetime(date(&response.headers))).unwrap_or(DEFAULT_LIFETIME);
        let generation = refresh.as_ref().map_or(1, |before| before.generation + 1);
        let renewed =
            RefreshToken { token: token.into(), expires_at: Some(Instant::now() + usable_lifetime(life)), generation };
        Ok(Some(refresh.insert(renewed).clone()))
    }

    /// Keeps what a new refresh token says of the registry and, together with that of Entra ID, of the identity.
    fn record_claims(&self, registry: Option<&TokenClaims>, entra: Option<&TokenClaims>) {
        let of = |claim: fn(&TokenClaims) -> &Option<String>| {
            [entra, registry].into_iter().flatten().find_map(|it| claim(it).clone())
        };
        let user = of(|claims| &claims.user).map(|user| format!("user {user}"));
        let words = user.or_else(|| of(|claims| &claims.application).map(|id| format!("application {id}")));
        let identity = match (words, of(|claims| &claims.tenant)) {
            (Some(words), Some(tenant)) => Some(format!("{words} of tenant {tenant}")),
            (words, _) => words,
        };
        let mut known = self.facts();
        let by_repository = registry.is_some_and(|claims| claims.uses_repository_permissions);
        if known.uses_repository_permissions != by_repository {
            known.uses_repository_permissions = by_repository;
            known.wildcard_refused.clear();
        }
        known.identity = identity;
    }

    fn slot(&self, scope: &str) -> TokenSlot {
        let mut tokens = self.access_tokens.lock().unwrap_or_else(PoisonError::into_inner);
        match tokens.get(scope) {
            Some(slot) => slot.clone(),
            None => tokens.entry(scope.to_owned()).or_default().clone(),
        }
    }

    fn facts(&self) -> MutexGuard<'_, RegistryFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn basic_header(&self, login: &Credentials) -> Result<Option<HeaderValue>, RegistryError> {
        let Credentials::Password { username, password } = login else { return Ok(None) };
        let pair = format!("{username}:{}", password.expose_secret());
        self.secret_header(&format!("Basic {}", STANDARD.encode(pair))).map(Some)
    }

    fn bearer_header(&self, token: &str) -> Result<HeaderValue, RegistryError> {
        self.secret_header(&format!("Bearer {}", token.trim()))
    }

    fn secret_header(&self, text: &str) -> Result<HeaderValue, RegistryError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| {
            RegistryError::new(
                RegistryErrorKind::Denied,
                format!(
                    "registry `{}` has a token or password that cannot be sent: it holds control characters",
                    self.settings.name
                ),
            )
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
