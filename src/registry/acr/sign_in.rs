//! Signing in to Azure Container Registry: a token of Entra ID is exchanged for a refresh token of the registry, and that
//! for access tokens, each good for one kind of action (<https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>).
//!
//! What a token is good for stands in it, and is looked at before it is used: the registry gives less than it was asked
//! for without a word.

mod ask;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::Instant;
use url::Url;

use self::ask::{UNTOLD, usable, wire};
use super::token::Claims;
use crate::azure;
use crate::domain::RepositoryName;
use crate::registry::auth::Grant;
use crate::registry::challenge::{self, Challenge, TokenHosts, host_and_port};
use crate::registry::credentials::{DockerConfig, Stored};
use crate::registry::{Auth, RegistryError, RegistryErrorKind, RegistrySettings};
use crate::transport::{Answer, Ask, ERROR_LIMIT, Patience, Transport, date};

/// Signs requests to one registry.
#[derive(Debug)]
pub(in crate::registry) struct AcrSignIn {
    settings: RegistrySettings,
    patience: Patience,
    token_hosts: TokenHosts,
    login: OnceCell<Login>,
    service: AsyncMutex<Option<Service>>,
    /// The refresh token. Whoever holds the lock exchanges for all who wait.
    refresh: AsyncMutex<Option<Refresh>>,
    known: Mutex<Known>,
    /// Access tokens by their scopes.
    tokens: Mutex<HashMap<String, Slot>>,
}

/// The place of an access token. Whoever holds its lock fetches for all who wait.
type Slot = Arc<AsyncMutex<Option<Access>>>;

/// What there is to sign in with, once it was looked up.
#[derive(Debug)]
enum Login {
    Anonymous,
    Password {
        username: String,
        password: SecretString,
    },
    /// A refresh token of the registry, as `az acr login` leaves it.
    Refresh(SecretString),
    Token(SecretString),
    Entra {
        tokens: Box<azure::Tokens>,
        scope: &'static str,
    },
}

/// What gives tokens.
#[derive(Debug, Clone)]
enum Service {
    /// Nothing, and none are asked for.
    None,
    /// Nothing: name and password come with each request.
    Basic,
    Tokens {
        realm: Url,
        name: String,
    },
}

#[derive(Debug, Clone)]
struct Refresh {
    token: SecretString,
    until: Option<Instant>,
    /// Which one it is, counted from one.
    generation: u64,
}

#[derive(Debug, Clone)]
struct Access {
    header: HeaderValue,
    since: Instant,
    until: Instant,
    claims: Option<Claims>,
    /// The refresh token that it was given for; nothing where there is none.
    generation: u64,
}

/// What was found out on the way.
#[derive(Debug, Default)]
struct Known {
    /// Whether the registry gives permissions by repository.
    by_repository: bool,
    /// The actions for which it gives no token that is good for all repositories.
    without_wildcard: HashSet<Action>,
    /// Repositories that were announced, each with those that share its tokens.
    batches: HashMap<RepositoryName, Arc<[RepositoryName]>>,
    /// As whom, as far as a token says it.
    identity: Option<String>,
}

/// What a request wants to do in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    List,
    Pull,
    Delete,
    Push,
}

/// Repositories that share a token where each must be named; `acr-cli` takes as many.
const BATCH: usize = 10;
/// A token that is refused so soon after it was given has not ended: it was never good for what it is needed for.
const FRESH: Duration = Duration::from_mins(1);
/// The user that comes with a refresh token for its password.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
const CATALOGUE: &str = "registry:catalog:*";

impl Action {
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
fn in_repository(grant: &Grant) -> Option<(&RepositoryName, Action)> {
    match grant {
        Grant::Catalogue => None,
        Grant::List(name) => Some((name, Action::List)),
        Grant::Pull(name) => Some((name, Action::Pull)),
        Grant::Delete(name) => Some((name, Action::Delete)),
        Grant::Push(name) => Some((name, Action::Push)),
    }
}

impl AcrSignIn {
    pub(in crate::registry) fn new(settings: &RegistrySettings, patience: Patience) -> Self {
        Self {
            settings: settings.clone(),
            patience,
            token_hosts: TokenHosts::of(settings),
            login: OnceCell::new(),
            service: AsyncMutex::default(),
            refresh: AsyncMutex::default(),
            known: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// As whom requests are made, in words.
    pub(in crate::registry) fn identity(&self) -> String {
        let told = self.known().identity.clone();
        match (&self.settings.auth, self.login.get()) {
            (Auth::Anonymous, _) => "anonymous".into(),
            (Auth::Basic { username, .. }, _) if username == NOBODY => {
                told.unwrap_or_else(|| "the bearer of a refresh token".into())
            }
            (Auth::Basic { username, .. }, _) => format!("user {username}"),
            (Auth::Token(_), _) => "the bearer of a token".into(),
            (Auth::Entra(credential), _) => match told {
                Some(told) => format!("{told} ({})", credential.words()),
                None => credential.words(),
            },
            (Auth::DockerConfig(_), Some(Login::Password { username, .. })) => {
                format!("user {username}, by the docker configuration")
            }
            (Auth::DockerConfig(_), Some(_)) => {
                format!("{}, by the docker configuration", told.unwrap_or_else(|| "the bearer of a token".into()))
            }
            (Auth::DockerConfig(files), None) => {
                format!("by the docker configuration {}", crate::registry::credentials::listed(files))
            }
        }
    }

    /// Tells which repositories belong together: they share tokens where the registry wants each to be named.
    pub(in crate::registry) fn announce(&self, repositories: &[RepositoryName]) {
        let mut known = self.known();
        let mut new: Vec<RepositoryName> =
            repositories.iter().filter(|name| !known.batches.contains_key(*name)).cloned().collect();
        new.sort();
        new.dedup();
        for batch in new.chunks(BATCH) {
            let shared: Arc<[RepositoryName]> = batch.into();
            known.batches.extend(batch.iter().map(|name| (name.clone(), shared.clone())));
        }
    }

    /// The `Authorization` of a request; nothing where none is needed.
    ///
    /// # Errors
    /// [`RegistryErrorKind::Denied`] where the identity may not do this, as far as its token says.
    pub(in crate::registry) async fn header(
        &self,
        transport: &Transport,
        grant: &Grant,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let login = self.login().await?;
        if let Login::Token(token) = login {
            return self.bearer(token.expose_secret()).map(Some);
        }
        let (realm, name) = match self.service(transport, login).await? {
            Service::None => return Ok(None),
            Service::Basic => return self.basic(login),
            Service::Tokens { realm, name } => (realm, name),
        };
        loop {
            // Whether wildcards are honoured stands in the refresh token.
            let refresh = self.refresh(transport, login, (&realm, &name)).await?;
            let (scope, wildcard) = self.scope(grant);
            let slot = self.slot(&scope);
            let mut slot = slot.lock().await;
            let access = match slot.as_ref().filter(|access| access.until > Instant::now()) {
                Some(access) => access.clone(),
                None => match self.fetch(transport, login, (&realm, &name), refresh, &scope).await? {
                    Some(access) => slot.insert(access).clone(),
                    None => return self.basic(login),
                },
            };
            match (self.lacks(&access, grant), in_repository(grant)) {
                (None, _) => return Ok(Some(access.header)),
                (Some(_), Some((_, action))) if wildcard => {
                    self.known().without_wildcard.insert(action);
                }
                (Some(error), _) => return Err(error),
            }
        }
    }

    /// The `Authorization` to try again with after a 401 to a request that carried `used`; nothing if there is none
    /// better.
    pub(in crate::registry) async fn renewed(
        &self,
        transport: &Transport,
        grant: &Grant,
        used: Option<&HeaderValue>,
        refusal: &Answer,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let login = self.login().await?;
        let Some(Service::Tokens { realm, name }) = self.service.lock().await.clone() else { return Ok(None) };
        let (scope, wildcard) = self.scope(grant);
        let slot = self.slot(&scope);
        let mut slot = slot.lock().await;
        // Another request may have renewed it while this one was on its way.
        if let Some(refused) = slot.take_if(|access| Some(&access.header) == used) {
            self.forget_refresh(refused.generation).await;
            self.refresh(transport, login, (&realm, &name)).await?;
            let narrow = match challenge::offered(&refusal.headers) {
                Some(Challenge::Bearer { error: Some(error), .. }) => error == "insufficient_scope",
                _ => refused.since.elapsed() < FRESH,
            };
            if let Some((_, action)) = in_repository(grant)
                && wildcard
                && narrow
            {
                self.known().without_wildcard.insert(action);
            }
        }
        drop(slot);
        Ok(self.header(transport, grant).await?.filter(|header| Some(header) != used))
    }

    /// A registry that changes its permission mode refuses the tokens that it gave before. Whatever was found out with
    /// them may be otherwise now.
    async fn forget_refresh(&self, generation: u64) {
        let mut refresh = self.refresh.lock().await;
        if let Some(it) = refresh.as_mut().filter(|it| it.generation == generation) {
            it.until = Some(Instant::now());
        }
    }

    /// The scopes of the token for a grant, and whether they are those of all repositories.
    fn scope(&self, grant: &Grant) -> (String, bool) {
        let known = self.known();
        match in_repository(grant) {
            None if known.by_repository => (CATALOGUE.to_owned(), false),
            None => (format!("{CATALOGUE} {}", Action::List.scope("*")), false),
            Some((name, action)) if known.by_repository || known.without_wildcard.contains(&action) => {
                let alone = [name.clone()];
                let batch = known.batches.get(name).map_or(&alone[..], |batch| batch);
                let scopes: Vec<String> = batch.iter().map(|name| action.scope(name.as_str())).collect();
                (scopes.join(" "), false)
            }
            Some((_, Action::List)) => (format!("{CATALOGUE} {}", Action::List.scope("*")), true),
            Some((_, action)) => (action.scope("*"), true),
        }
    }

    /// What a token lacks for a grant.
    fn lacks(&self, access: &Access, grant: &Grant) -> Option<RegistryError> {
        let claims = access.claims.as_ref()?;
        let (kind, name, actions): (_, _, &[&'static str]) = match in_repository(grant) {
            None => ("registry", "catalog", &["*"]),
            Some((name, action)) => ("repository", name.as_str(), action.names()),
        };
        let missing = claims.missing(kind, name, actions);
        if missing.is_empty() {
            return None;
        }
        let mut message = format!("{} may not ", self.identity());
        if in_repository(grant).is_some() {
            let actions: Vec<String> = missing.iter().map(|action| format!("`{action}`")).collect();
            let (actions, given) = (actions.join(", "), claims.given(kind, name));
            let _ = write!(message, "{actions} in the repository `{name}`: its token is good for {given} there");
        } else {
            let _ = write!(message, "list the repositories (`{CATALOGUE}`)");
        }
        let _ = write!(message, "; {}", self.advice(grant));
        Some(RegistryError { kind: RegistryErrorKind::Denied, message })
    }

    /// The least role that allows something
    /// (<https://learn.microsoft.com/azure/container-registry/container-registry-rbac-built-in-roles-overview>).
    fn advice(&self, grant: &Grant) -> String {
        let (registry, repository, content) = match in_repository(grant).map(|(_, action)| action) {
            None => ("AcrPull", "Container Registry Repository Catalog Lister", "metadata/read"),
            Some(Action::List) => ("AcrPull", "Container Registry Repository Reader", "metadata/read"),
            Some(Action::Pull) => ("AcrPull", "Container Registry Repository Reader", "content/read"),
            Some(Action::Delete) => ("AcrDelete", "Container Registry Repository Contributor", "content/delete"),
            Some(Action::Push) => ("AcrPush", "Container Registry Repository Contributor", "content/write"),
        };
        match (self.login.get(), self.known().by_repository) {
            (Some(Login::Password { .. }), _) => format!("add `{content}` to the scope map of that user"),
            (Some(Login::Anonymous), _) => "configure an `auth` that may".to_owned(),
            (_, true) => format!("assign it the role {repository}"),
            (_, false) => {
                format!("assign it the role {registry}, or {repository} where the registry has roles by repository")
            }
        }
    }

    async fn login(&self) -> Result<&Login, RegistryError> {
        self.login
            .get_or_try_init(|| async {
                let stored = match &self.settings.auth {
                    Auth::Anonymous => return Ok(Login::Anonymous),
                    Auth::Token(token) => return Ok(Login::Token(token.clone())),
                    Auth::Entra(credential) => {
                        let tokens = Box::new(credential.connect(self.patience)?);
                        return Ok(Login::Entra { tokens, scope: credential.surroundings.cloud.registry_scope() });
                    }
                    Auth::Basic { username, password } => {
                        Stored::Password { username: username.clone(), password: password.clone() }
                    }
                    Auth::DockerConfig(files) => {
                        let config = DockerConfig::new(files.clone(), self.settings.timeout);
                        config.credentials(&host_and_port(&self.settings.endpoint), None).await?
                    }
                };
                let login = match stored {
                    Stored::Password { username, password } if username == NOBODY => Login::Refresh(password),
                    Stored::Password { username, password } => Login::Password { username, password },
                    Stored::Identity(token) => Login::Refresh(token),
                };
                if let Login::Refresh(token) = &login {
                    self.learn(Claims::of(token.expose_secret()).as_ref(), None);
                }
                Ok(login)
            })
            .await
    }

    /// What gives tokens: what the registry says when it is asked without any, else what all container registries have.
    async fn service(&self, transport: &Transport, login: &Login) -> Result<Service, RegistryError> {
        let mut service = self.service.lock().await;
        if let Some(known) = &*service {
            return Ok(known.clone());
        }
        let endpoint = &self.settings.endpoint;
        let at = |path: &str| {
            let mut url = endpoint.clone();
            url.set_path(path);
            url
        };
        let answer = transport.send(&Ask::get(at("/v2/"), "*/*", ERROR_LIMIT), None).await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS || answer.status.is_server_error() {
            return Err(answer.refusal());
        }
        let refused = answer.status == StatusCode::UNAUTHORIZED;
        let host = host_and_port(endpoint);
        let found = match (refused.then(|| challenge::offered(&answer.headers)).flatten(), login) {
            (Some(Challenge::Bearer { realm, service, .. }), _) => {
                let realm = self.token_hosts.admit(&realm)?;
                Service::Tokens { realm, name: service.unwrap_or(host) }
            }
            (_, Login::Entra { .. } | Login::Refresh(_)) => Service::Tokens { realm: at("/oauth2/token"), name: host },
            (_, Login::Password { .. }) => Service::Basic,
            (_, Login::Anonymous | Login::Token(_)) => Service::None,
        };
        *service = Some(found.clone());
        Ok(found)
    }

    /// The refresh token, where there is one: a good one of Entra ID's, or that which the settings have.
    async fn refresh(
        &self,
        transport: &Transport,
        login: &Login,
        service: (&Url, &str),
    ) -> Result<Option<Refresh>, RegistryError> {
        let (tokens, scope) = match login {
            Login::Entra { tokens, scope } => (tokens, *scope),
            Login::Refresh(token) => return Ok(Some(Refresh { token: token.clone(), until: None, generation: 0 })),
            Login::Anonymous | Login::Password { .. } | Login::Token(_) => return Ok(None),
        };
        let mut refresh = self.refresh.lock().await;
        if let Some(known) = refresh.as_ref().filter(|it| it.until.is_none_or(|until| until > Instant::now())) {
            return Ok(Some(known.clone()));
        }
        let mut entra = tokens.token(scope).await?;
        let mut answer = self.exchange(transport, service, &entra).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            let other = tokens.token_instead_of(scope, &entra).await?;
            if other.expose_secret() != entra.expose_secret() {
                answer = self.exchange(transport, service, &other).await?;
                entra = other;
            }
        }
        if answer.status != StatusCode::OK {
            let mut error = answer.refusal();
            error.message = format!(
                "registry `{}` gives no token for that of {}: {}",
                self.settings.name,
                tokens.words(),
                answer.told()
            );
            if error.kind == RegistryErrorKind::Denied {
                let _ = write!(
                    error.message,
                    "; it was offered a token for {} and is not offered a wider one: check that the identity is of the \
                     registry's tenant and has a role on it, and that no firewall rule stands in the way",
                    scope.trim_end_matches("/.default")
                );
            }
            return Err(error);
        }
        let token = wire(&answer)?.refresh_token.filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| answer.malformed("no `refresh_token` in it"))?;
        let claims = Claims::of(&token);
        self.learn(claims.as_ref(), Claims::of(entra.expose_secret()).as_ref());
        let life = claims.and_then(|claims| claims.life(date(&answer.headers))).unwrap_or(UNTOLD);
        let generation = refresh.as_ref().map_or(1, |before| before.generation + 1);
        let renewed = Refresh { token: token.into(), until: Some(Instant::now() + usable(life)), generation };
        Ok(Some(refresh.insert(renewed).clone()))
    }

    /// Keeps what a new refresh token says of the registry and, together with that of Entra ID, of the identity.
    fn learn(&self, registry: Option<&Claims>, entra: Option<&Claims>) {
        let of = |claim: fn(&Claims) -> &Option<String>| {
            [entra, registry].into_iter().flatten().find_map(|it| claim(it).clone())
        };
        let user = of(|claims| &claims.user).map(|user| format!("user {user}"));
        let words = user.or_else(|| of(|claims| &claims.application).map(|id| format!("application {id}")));
        let identity = match (words, of(|claims| &claims.tenant)) {
            (Some(words), Some(tenant)) => Some(format!("{words} of tenant {tenant}")),
            (words, _) => words,
        };
        let mut known = self.known();
        let by_repository = registry.is_some_and(|claims| claims.by_repository);
        if known.by_repository != by_repository {
            known.by_repository = by_repository;
            known.without_wildcard.clear();
        }
        known.identity = identity;
    }

    fn slot(&self, scope: &str) -> Slot {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        match tokens.get(scope) {
            Some(slot) => slot.clone(),
            None => tokens.entry(scope.to_owned()).or_default().clone(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn basic(&self, login: &Login) -> Result<Option<HeaderValue>, RegistryError> {
        let Login::Password { username, password } = login else { return Ok(None) };
        let pair = format!("{username}:{}", password.expose_secret());
        self.secret_header(&format!("Basic {}", STANDARD.encode(pair))).map(Some)
    }

    fn bearer(&self, token: &str) -> Result<HeaderValue, RegistryError> {
        self.secret_header(&format!("Bearer {}", token.trim()))
    }

    fn secret_header(&self, text: &str) -> Result<HeaderValue, RegistryError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| RegistryError {
            kind: RegistryErrorKind::Denied,
            message: format!(
                "registry `{}` has a token or password that cannot be sent: it holds control characters",
                self.settings.name
            ),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
