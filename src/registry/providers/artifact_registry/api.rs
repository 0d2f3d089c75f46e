//! Requests to the API of Artifact Registry, and to the registry API beside it.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::address::{RegistryPlace, locate};
use super::sign_in::{ApiSignIn, RegistrySignIn};
use super::tokens::TokenSource;
use super::wire::{self, Right, WireOperation};
use crate::http_client::{MAX_ERROR_BYTES, PERMISSIONS_PATH_END, Request, Response, RetryMode, RetryPolicy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::authenticator::Authenticator;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy, WritePermit};
use crate::registry::{RegistryError, RegistryErrorKind, RegistrySettings};

/// Most bytes of an answer: a thousand images with their tags and what they list.
const MAX_BYTES: usize = 128 << 20;
/// Most pages of a list: a longer one is a loop.
const MAX_PAGES: usize = 20_000;
/// Most rows on a page.
pub(super) const PAGE_SIZE: usize = 1000;

/// The APIs of one registry, for its reader or its writer.
#[derive(Debug)]
pub(super) struct ArtifactApi {
    /// As written. The connection to the API has another endpoint.
    pub(super) settings: RegistrySettings,
    pub(super) http: HttpConnection,
    /// The registry API, for manifests.
    pub(super) registry: HttpConnection,
    pub(super) place: RegistryPlace,
}

/// The place of a list, and its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListOf<'a> {
    /// The resource that holds them.
    pub(super) parent: &'a str,
    /// The last part of the path, and the name of the rows in the answer.
    pub(super) rows: &'static str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) right: Right,
}

impl ArtifactApi {
    /// The APIs by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// Returns an error if the settings cannot work, such as an address that tells no location.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        let (place, endpoint) = locate(&settings)?;
        let tokens = Arc::new(TokenSource::new(&settings, retry_policy));
        let registry_sign_in = Authenticator::new(RegistrySignIn::new(&settings, Arc::clone(&tokens)));
        let of_api = RegistrySettings { endpoint, ..settings.clone() };
        let http = HttpConnection::with_authenticator(of_api, retry_policy, Authenticator::new(ApiSignIn(tokens)))?;
        let registry = http.to_host(settings.endpoint.clone(), registry_sign_in);
        Ok(Self { settings, http, registry, place })
    }

    /// The same for a writer.
    pub(super) fn for_writer(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            http: self.http.for_writer(),
            registry: self.registry.for_writer(),
            place: self.place.clone(),
        }
    }

    /// Returns a request for a resource.
    fn request(&self, resource: &str) -> Request {
        Request::get(self.http.url(&format!("/v1/{resource}")), "application/json", MAX_BYTES)
    }

    /// Reads a resource; `None` if Artifact Registry says that it does not exist.
    ///
    /// # Errors
    /// Returns an error if it was refused or failed.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        scope: &TokenScope,
        (resource, query): (&str, &[(&str, &str)]),
        right: Right,
    ) -> Result<Option<T>, RegistryError> {
        let mut request = self.request(resource);
        if !query.is_empty() {
            request.url.query_pairs_mut().extend_pairs(query);
        }
        let response = self.http.read(scope, request, RedirectPolicy::SameOrigin).await?;
        match response.status {
            StatusCode::OK => response.parse_json().map(Some),
            _ if wire::is_absence(&response) => Ok(None),
            _ => Err(wire::refusal(&response, right)),
        }
    }

    /// Reads a page of a list; `None` if what holds it does not exist. Returns the rows and the token of the next page.
    ///
    /// # Errors
    /// Returns an error if it was refused or failed, or is not a list.
    pub(super) async fn page(
        &self,
        scope: &TokenScope,
        list: ListOf<'_>,
        token: Option<&str>,
    ) -> Result<Option<(Vec<Value>, Option<String>)>, RegistryError> {
        let mut request = self.request(&format!("{}/{}", list.parent, list.rows));
        {
            let mut query = request.url.query_pairs_mut();
            query.append_pair("pageSize", &PAGE_SIZE.to_string()).extend_pairs(list.query);
            if let Some(token) = token {
                query.append_pair("pageToken", token);
            }
        }
        let response = self.http.read(scope, request, RedirectPolicy::SameOrigin).await?;
        match response.status {
            StatusCode::OK => parse_page(&response, list.rows).map(Some),
            _ if wire::is_absence(&response) => Ok(None),
            _ => Err(wire::refusal(&response, list.right)),
        }
    }

    /// Reads all pages of a list; `None` if what holds it does not exist.
    ///
    /// # Errors
    /// Returns an error if one of them could not be read, or the list does not end.
    pub(super) async fn list(&self, scope: &TokenScope, list: ListOf<'_>) -> Result<Option<Vec<Value>>, RegistryError> {
        let (mut rows, mut token) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let Some((found, next)) = self.page(scope, list, token.as_deref()).await? else { return Ok(None) };
            rows.extend(found);
            match next {
                None => return Ok(Some(rows)),
                Some(next) if token.as_ref() == Some(&next) => break,
                next => token = next,
            }
        }
        let message = format!("the list of {} of {} does not end", list.rows, list.parent);
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }

    /// Returns those of the permissions that the identity has on a resource. Changes nothing.
    ///
    /// # Errors
    /// Returns an error if it was refused or failed.
    pub(super) async fn permissions(&self, resource: &str, asked: &[Right]) -> Result<Vec<String>, RegistryError> {
        let names: Vec<&str> = asked.iter().map(|right| right.name()).collect();
        let request = Request {
            method: Method::POST,
            content: Some(json_content(&json!({ "permissions": names }))),
            operation: Some("testIamPermissions"),
            ..self.request(&format!("{resource}{PERMISSIONS_PATH_END}"))
        };
        let response = self.http.send(&TokenScope::Catalogue, &request).await?;
        match response.status {
            StatusCode::OK => Ok(response.parse_json::<wire::WirePermissions>()?.permissions),
            _ => Err(wire::refusal(&response, Right::GetRepository)),
        }
    }

    /// Deletes a resource, without waiting before.
    ///
    /// # Errors
    /// Returns an error if the request failed.
    pub(super) async fn delete(
        &self,
        scope: &TokenScope,
        resource: &str,
        clearance: WritePermit,
    ) -> Result<Response, RegistryError> {
        let request = Request::delete(self.http.url(&format!("/v1/{resource}")));
        self.http.send_with_permit(scope, &request, clearance).await
    }

    /// Returns the request that creates a resource.
    pub(super) fn creation(&self, parent: &str, query: (&str, &str), body: &Value) -> Request {
        let mut url = self.http.url(&format!("/v1/{parent}"));
        url.query_pairs_mut().append_pair(query.0, query.1);
        Request {
            method: Method::POST,
            content: Some(json_content(body)),
            retry_mode: RetryMode::RecheckFirst,
            ..Request::get(url, "application/json", MAX_ERROR_BYTES)
        }
    }

    /// Reads how far an operation got.
    ///
    /// # Errors
    /// Returns an error if that is not known.
    pub(super) async fn operation(&self, scope: &TokenScope, name: &str) -> Result<WireOperation, RegistryError> {
        let gone = || {
            let message = format!("the operation {name} is not known any more, and neither is its result");
            RegistryError::new(RegistryErrorKind::Malformed, message)
        };
        self.get(scope, (name, &[]), Right::DeleteVersion).await?.ok_or_else(gone)
    }
}

fn json_content(body: &Value) -> (Arc<str>, Arc<[u8]>) {
    (Arc::from("application/json"), body.to_string().into_bytes().into())
}

/// Returns the rows of a page and the token of the next one. An empty list is an empty object.
fn parse_page(response: &Response, rows: &str) -> Result<(Vec<Value>, Option<String>), RegistryError> {
    let mut page: serde_json::Map<String, Value> = response.parse_json()?;
    let next = match page.remove("nextPageToken") {
        None => None,
        Some(Value::String(next)) => Some(next).filter(|next| !next.is_empty()),
        Some(_) => return Err(response.malformed("its `nextPageToken` is not a text")),
    };
    match page.remove(rows) {
        Some(Value::Array(found)) => Ok((found, next)),
        None if page.is_empty() => Ok((Vec::new(), next)),
        _ => Err(response.malformed(&format!("it has no list `{rows}`"))),
    }
}
