//! The two addresses of one registry: GitHub's REST API for packages and their versions, and the registry itself for tags
//! and manifests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex as AsyncMutex;

use super::address::ApiAddress;
use super::version_book::{DeletedBook, VersionBook};
use super::wire::{self, Right};
use crate::domain::RepositoryName;
use crate::http_client::{RateLimits, Request, Response, RetryPolicy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::{Auth, RegistryError, RegistryErrorKind, RegistrySettings, RequestCounts};

/// Most bytes of an answer: a hundred versions, each with hundreds of tags.
const MAX_BYTES: usize = 64 << 20;
/// The type of answers that GitHub recommends to ask for.
const ACCEPT: &str = "application/vnd.github+json";
/// The user name beside a token that has none: the registry goes by the token alone.
const TOKEN_USER: &str = "tagwarden";
/// The limits that GitHub documents: 900 points a minute, of which a read takes one and a change five, and at most 80
/// changes a minute, a second apart
/// (<https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api>).
const DOCUMENTED_LIMITS: RateLimits = RateLimits { read: Some(800), write: Some(60), delete: Some(60) };

/// The addresses of one registry, for its reader or its writer.
#[derive(Debug)]
pub(super) struct GhcrApi {
    /// As written. Each connection has its own address and sign-in instead.
    pub(super) settings: RegistrySettings,
    /// The container registry.
    pub(super) registry: HttpConnection,
    /// The REST API.
    pub(super) rest: HttpConnection,
    /// The path in front of every other of the REST API.
    prefix: String,
    pub(super) shared: Arc<Shared>,
}

/// What reader and writer know of the registry together.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The ids of versions.
    pub(super) versions: VersionBook,
    /// The paths of owners, such as `/orgs/contoso`.
    pub(super) owners: AsyncMutex<BTreeMap<String, String>>,
    /// The deleted versions. Held during a restore, so that none is restored twice.
    pub(super) deleted: AsyncMutex<DeletedBook>,
    /// The scopes that GitHub says the token has.
    scopes: Mutex<Option<Vec<String>>>,
}

impl Shared {
    fn scopes(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if GitHub said which scopes the token has, and this one is missing. It says so of classic tokens only.
    pub(super) fn lacks_scope(&self, scope: &str) -> bool {
        self.scopes().as_ref().is_some_and(|scopes| !scopes.iter().any(|own| own == scope))
    }

    /// Notes the scopes of a response.
    fn note_scopes(&self, response: &Response) {
        if let Some(scopes) = response.header("x-oauth-scopes") {
            let scopes = scopes.split(',').map(|scope| scope.trim().to_owned());
            *self.scopes() = Some(scopes.filter(|scope| !scope.is_empty()).collect());
        }
    }
}

impl GhcrApi {
    /// The registry by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as an address that tells no API.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        let ApiAddress { origin, prefix } = ApiAddress::of(&settings)?;
        let (username, password) = credentials(&settings)?;
        let token = settings.api.as_ref().map_or_else(|| password.clone(), |api| api.token.clone());
        let of_api = RegistrySettings { endpoint: origin, auth: Auth::Token(token), ..settings.clone() };
        let of_registry = RegistrySettings { auth: Auth::Basic { username, password }, ..settings.clone() };
        let rest = HttpConnection::new(of_api, retry_policy)?;
        rest.set_documented_limits(DOCUMENTED_LIMITS);
        let registry = HttpConnection::new(of_registry, retry_policy)?;
        Ok(Self { settings, registry, rest, prefix, shared: Arc::default() })
    }

    /// The same for a writer.
    pub(super) fn for_writer(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            registry: self.registry.for_writer(),
            rest: self.rest.for_writer(),
            prefix: self.prefix.clone(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Returns the number of requests to both addresses.
    pub(super) fn request_counts(&self) -> RequestCounts {
        let (a, b) = (self.rest.request_counts(), self.registry.request_counts());
        RequestCounts {
            total: a.total + b.total,
            retries: a.retries + b.retries,
            throttled: a.throttled + b.throttled,
            statuses: std::array::from_fn(|class| a.statuses[class] + b.statuses[class]),
        }
    }

    /// Returns a read of the REST API.
    pub(super) fn request(&self, path: &str, query: &[(&str, &str)]) -> Request {
        let mut url = self.rest.url(&format!("{}{path}", self.prefix));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Request::get(url, ACCEPT, MAX_BYTES)
    }

    /// Sends a GET, and returns its answer, whatever its status.
    ///
    /// # Errors
    /// When there was no answer.
    pub(super) async fn fetch(&self, path: &str, query: &[(&str, &str)]) -> Result<Response, RegistryError> {
        // The scope only says that nothing is changed.
        let (scope, request) = (TokenScope::Catalogue, self.request(path, query));
        let response = self.rest.read(&scope, request, RedirectPolicy::SameOrigin).await?;
        self.shared.note_scopes(&response);
        Ok(response)
    }

    /// Sends a GET, and returns its answer if it was successful.
    ///
    /// # Errors
    /// When it was not; a 404 does not prove absence.
    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
        right: Right,
    ) -> Result<Response, RegistryError> {
        let response = self.fetch(path, query).await?;
        match response.status {
            StatusCode::OK => Ok(response),
            _ => Err(wire::refusal(&response, right)),
        }
    }

    /// Sends a GET, and parses its answer.
    ///
    /// # Errors
    /// As [`GhcrApi::get`], or when it has another format.
    pub(super) async fn get_json<T: DeserializeOwned>(&self, path: &str, right: Right) -> Result<T, RegistryError> {
        self.get(path, &[], right).await?.parse_json()
    }

    /// Returns the path of a repository's package. Its name is one segment of the path.
    ///
    /// # Errors
    /// When it is not known what its owner is.
    pub(super) async fn package_path(&self, repository: &RepositoryName) -> Result<String, RegistryError> {
        let (owner, package) = owner_and_package(repository)?;
        let owner = self.owner_path(owner).await?;
        Ok(format!("{owner}/packages/container/{}", package.replace('/', "%2F")))
    }
}

/// Returns the two parts of a repository's name. GitHub has no repository outside an owner.
fn owner_and_package(repository: &RepositoryName) -> Result<(&str, &str), RegistryError> {
    repository.as_str().split_once('/').ok_or_else(|| {
        let message = format!("{repository} has no owner, which GitHub's packages have");
        RegistryError::new(RegistryErrorKind::InvalidSettings, message)
    })
}

/// Returns user and token for the registry. Settings without a token never come here.
fn credentials(settings: &RegistrySettings) -> Result<(String, SecretString), RegistryError> {
    match &settings.auth {
        Auth::Token(token) => Ok((TOKEN_USER.to_owned(), token.clone())),
        Auth::Basic { username, password } => Ok((username.clone(), password.clone())),
        _ => {
            let message = format!("registry `{}`: GitHub's packages need a token", settings.name);
            Err(RegistryError::new(RegistryErrorKind::InvalidSettings, message))
        }
    }
}
