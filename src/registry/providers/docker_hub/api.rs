//! The two connections to Docker Hub, and the questions to its API.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use serde_json::Value;

use super::sign_in::HubSignIn;
use super::wire::{self, WireName, WirePage, WireRepository};
use super::{addresses, namespace_and_name};
use crate::domain::{RepositoryName, TagName};
use crate::http_client::{Request, Response, RetryPolicy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::authenticator::Authenticator;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::{RegistryError, RegistryErrorKind, RegistrySettings};

/// Rows on a page, the most that the API gives.
const PAGE: usize = 100;
/// Most reads of a list that changes meanwhile.
const MAX_READS: usize = 3;
/// Most bytes of an answer: a page of a hundred tags with ten platforms each.
const MAX_BYTES: usize = 32 << 20;

/// The connections to the API and to the registry.
#[derive(Debug)]
pub(super) struct HubApi {
    pub(super) settings: RegistrySettings,
    /// The API at `hub.docker.com`.
    pub(super) http: HttpConnection,
    /// The registry, for manifests.
    pub(super) registry: HttpConnection,
}

impl HubApi {
    /// Makes the connections; nothing is sent yet.
    ///
    /// # Errors
    /// Returns an error if the settings cannot work, such as a CA file that cannot be read.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        let (api, registry) = addresses(&settings.endpoint);
        let sign_in = Authenticator::new(HubSignIn::new(&settings, &api));
        let of_api = RegistrySettings { endpoint: api, ..settings.clone() };
        let of_registry = RegistrySettings { endpoint: registry.clone(), ..settings.clone() };
        let http = HttpConnection::with_authenticator(of_api, retry_policy, sign_in)?;
        let registry = http.to_host(registry, Authenticator::by_challenge(&of_registry));
        Ok(Self { settings, http, registry })
    }

    /// Returns the same for a writer.
    pub(super) fn for_writer(&self) -> Self {
        let (http, registry) = (self.http.for_writer(), self.registry.for_writer());
        Self { settings: self.settings.clone(), http, registry }
    }

    /// Returns what the API says of a repository, or `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the API does not answer.
    pub(super) async fn repository(&self, name: &RepositoryName) -> Result<Option<WireRepository>, RegistryError> {
        let response = self.get(&path(name)?, &[], name).await?;
        match response.status {
            StatusCode::OK => response.parse_json().map(Some),
            _ if wire::is_absence(&response) => Ok(None),
            _ => Err(wire::refusal(&response)),
        }
    }

    /// Returns the rows of all tags of a repository, or `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the list could not be read whole, or changed each time that it was read.
    pub(super) async fn tags(&self, name: &RepositoryName) -> Result<Option<Vec<Value>>, RegistryError> {
        let path = format!("{}/tags", path(name)?);
        self.list(&path, &[], &TokenScope::List(name.clone()), &format!("the list of tags of {name}")).await
    }

    /// Returns true if a repository has a tag, or `None` if the repository does not exist.
    ///
    /// What an account may not see is answered as what does not exist, so a tag is absent only if the list of tags answers.
    ///
    /// # Errors
    /// Returns an error if the API does not answer.
    pub(super) async fn has_tag(&self, name: &RepositoryName, tag: &TagName) -> Result<Option<bool>, RegistryError> {
        let response = self.get(&format!("{}/tags/{tag}", path(name)?), &[], name).await?;
        match response.status {
            StatusCode::OK => {
                let found: WireName = response.parse_json()?;
                if found.name != tag.as_str() {
                    return Err(response.malformed("Docker Hub answers with another tag"));
                }
                Ok(Some(true))
            }
            _ if wire::is_absence(&response) => Ok(self.lists_tags(name).await?.then_some(false)),
            _ => Err(wire::refusal(&response)),
        }
    }

    /// Returns true if the tags of a repository can be listed, by the shortest page.
    ///
    /// # Errors
    /// Returns an error if the API does not answer.
    pub(super) async fn lists_tags(&self, name: &RepositoryName) -> Result<bool, RegistryError> {
        let path = format!("{}/tags", path(name)?);
        Ok(self.page(&path, &[], &TokenScope::List(name.clone()), 1, 1).await?.is_some())
    }

    /// Returns the rows of all repositories of a namespace, or `None` if it does not exist.
    ///
    /// # Errors
    /// Fails as [`HubApi::tags`] does.
    pub(super) async fn repositories(&self, namespace: &str) -> Result<Option<Vec<Value>>, RegistryError> {
        let path = format!("/v2/namespaces/{namespace}/repositories");
        let what = format!("the list of repositories of {namespace}");
        self.list(&path, &[("ordering", "name")], &TokenScope::Catalogue, &what).await
    }

    /// Reads a list page by page. Its pages go by number, so they move when rows come and go: then it is read again.
    async fn list(
        &self,
        path: &str,
        query: &[(&str, &str)],
        scope: &TokenScope,
        what: &str,
    ) -> Result<Option<Vec<Value>>, RegistryError> {
        for _ in 0..MAX_READS {
            let Some(first) = self.page(path, query, scope, 1, PAGE).await? else { return Ok(None) };
            let count = first.count;
            let pages: Vec<Option<WirePage>> = stream::iter(2..=count.div_ceil(PAGE))
                .map(|number| self.page(path, query, scope, number, PAGE))
                .buffered(self.settings.concurrency.max(1))
                .try_collect()
                .await?;
            let mut rows = first.results;
            // A page that is not there any more belongs to a list that became shorter.
            let mut is_whole = true;
            for page in pages {
                is_whole &= page.as_ref().is_some_and(|page| page.count == count);
                rows.extend(page.into_iter().flat_map(|page| page.results));
            }
            let mut names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
            names.sort_unstable();
            if is_whole && rows.len() == count && names.windows(2).all(|pair| pair[0] != pair[1]) {
                return Ok(Some(rows));
            }
        }
        let message =
            format!("{what} is not complete: it changed each time that it was read; run again when that is over");
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }

    async fn page(
        &self,
        path: &str,
        query: &[(&str, &str)],
        scope: &TokenScope,
        number: usize,
        size: usize,
    ) -> Result<Option<WirePage>, RegistryError> {
        let mut url = self.http.url(path);
        let (number, size) = (number.to_string(), size.to_string());
        url.query_pairs_mut().extend_pairs(query).append_pair("page", &number).append_pair("page_size", &size);
        let request = Request::get(url, "application/json", MAX_BYTES);
        let response = self.http.read(scope, request, RedirectPolicy::SameOrigin).await?;
        match response.status {
            StatusCode::OK => response.parse_json().map(Some),
            _ if wire::is_absence(&response) => Ok(None),
            _ => Err(wire::refusal(&response)),
        }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)], name: &RepositoryName) -> Result<Response, RegistryError> {
        let mut url = self.http.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let scope = TokenScope::List(name.clone());
        self.http.read(&scope, Request::get(url, "application/json", MAX_BYTES), RedirectPolicy::SameOrigin).await
    }
}

/// The path of a repository.
fn path(name: &RepositoryName) -> Result<String, RegistryError> {
    let (namespace, own) = parts(name)?;
    Ok(format!("/v2/namespaces/{namespace}/repositories/{own}"))
}

/// The namespace of a repository, and its name in it.
///
/// # Errors
/// Returns an error for a name that Docker Hub cannot have.
pub(super) fn parts(name: &RepositoryName) -> Result<(&str, &str), RegistryError> {
    namespace_and_name(name).ok_or_else(|| {
        let message = format!("{name} is not a repository of Docker Hub: it has a namespace and one name in it");
        RegistryError::new(RegistryErrorKind::InvalidSettings, message)
    })
}
