//! Client of Azure Resource Manager.

use std::collections::BTreeSet;

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::Credential;
use super::bearer::BearerClient;
use crate::http_client::{ClientConfig, HttpClient, Request, RequestError, RequestErrorKind, Response, RetryPolicy};

/// Azure Resource Manager, used with one identity. Only ever reads.
#[derive(Debug)]
pub struct Arm {
    client: BearerClient,
    endpoint: Url,
}

/// One page of a list. The last one has no link, or an empty one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePage<T> {
    value: Vec<T>,
    next_link: Option<String>,
}

const NAME: &str = "Azure Resource Manager";
/// Most bytes of one response.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// Most pages of one list: more than any real list has, and an end for a cyclic one.
const MAX_PAGES: usize = 10_000;
/// The error codes for a type of which no resource can exist.
const UNKNOWN_TYPE_CODES: [&str; 2] = ["MissingSubscriptionRegistration", "InvalidResourceType"];

impl Arm {
    /// Creates a client for the resource manager of an identity's cloud, without sending a request.
    ///
    /// # Errors
    /// Returns an error if the settings are invalid: a malformed id, an unreadable CA file, an unencrypted address that
    /// is not on this machine.
    pub fn new(credential: &Credential, retry_policy: RetryPolicy) -> Result<Self, RequestError> {
        let surroundings = &credential.environment;
        let endpoint = surroundings.resource_manager()?;
        let config =
            ClientConfig { name: NAME.into(), ca_file: surroundings.ca_file.clone(), timeout: surroundings.timeout() };
        let client = BearerClient {
            client: HttpClient::new(&config, retry_policy)?,
            tokens: credential.connect(retry_policy)?,
            scope: surroundings.cloud.resource_manager_scope(),
            service: NAME,
        };
        Ok(Self { client, endpoint })
    }

    /// Describes the identity.
    #[must_use]
    pub fn identity(&self) -> String {
        self.client.tokens.description()
    }

    /// Returns one resource, by its path, such as `/subscriptions/…/resourceGroups/…`.
    ///
    /// # Errors
    /// Returns an error if it does not exist or is not visible, or the response cannot be parsed.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, api_version: &str) -> Result<T, RequestError> {
        let response = self.fetch(self.url(path, api_version)).await?;
        serde_json::from_slice(&response.body).map_err(|error| response.unparsable(error))
    }

    /// Returns a whole list, page by page. A list that cannot be read to its end is an error, never a partial result.
    ///
    /// # Errors
    /// Fails as [`Self::get`] does; also if a page leads to another server, which would receive the token, or to a page
    /// already read.
    pub async fn list<T: DeserializeOwned>(&self, path: &str, api_version: &str) -> Result<Vec<T>, RequestError> {
        let url = self.url(path, api_version);
        let first = self.fetch(url.clone()).await?;
        self.read_pages(url, first).await
    }

    /// Returns the part of a list that a filter (`$filter`) selects.
    ///
    /// # Errors
    /// Fails as [`Self::list`] does.
    pub async fn list_filtered<T: DeserializeOwned>(
        &self,
        path: &str,
        api_version: &str,
        filter: &str,
    ) -> Result<Vec<T>, RequestError> {
        let mut url = self.url(path, api_version);
        url.query_pairs_mut().append_pair("$filter", filter);
        let first = self.fetch(url.clone()).await?;
        self.read_pages(url, first).await
    }

    /// Returns a whole list, or `None` if such resources are unknown there: the subscription has not registered their
    /// provider, or this cloud does not offer their type
    /// (<https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors>).
    ///
    /// # Errors
    /// Fails as [`Self::list`] does.
    pub async fn list_if_known<T: DeserializeOwned>(
        &self,
        path: &str,
        api_version: &str,
    ) -> Result<Option<Vec<T>>, RequestError> {
        let url = self.url(path, api_version);
        let first = self.send(url.clone()).await?;
        if first.status.is_client_error() && first.error_code().is_some_and(|code| UNKNOWN_TYPE_CODES.contains(&&*code))
        {
            return Ok(None);
        }
        let first = self.expect_ok(first)?;
        self.read_pages(url, first).await.map(Some)
    }

    /// Returns the items of a list's first page and of all following pages.
    async fn read_pages<T: DeserializeOwned>(
        &self,
        mut url: Url,
        mut response: Response,
    ) -> Result<Vec<T>, RequestError> {
        let mut read = BTreeSet::new();
        let mut all = Vec::new();
        loop {
            let page: WirePage<T> =
                serde_json::from_slice(&response.body).map_err(|error| response.unparsable(error))?;
            all.extend(page.value);
            read.insert(url);
            let Some(link) = page.next_link.filter(|link| !link.is_empty()) else { return Ok(all) };
            url = self.next_page_url(&link, &response)?;
            if read.contains(&url) || read.len() >= MAX_PAGES {
                return Err(response.malformed("its `nextLink` leads in a circle"));
            }
            response = self.fetch(url.clone()).await?;
        }
    }

    fn url(&self, path: &str, api_version: &str) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(path);
        url.query_pairs_mut().append_pair("api-version", api_version);
        url
    }

    /// Returns the address of the next page, if it is on the same server.
    fn next_page_url(&self, link: &str, response: &Response) -> Result<Url, RequestError> {
        let url = self.endpoint.join(link).map_err(|_| response.malformed("its `nextLink` is not a valid URL"))?;
        if url.origin() != self.endpoint.origin() || !url.username().is_empty() || url.password().is_some() {
            let host = url.host_str().unwrap_or_default();
            return Err(response.malformed(&format!("its `nextLink` leads to another server, {host}")));
        }
        Ok(url)
    }

    async fn fetch(&self, url: Url) -> Result<Response, RequestError> {
        let response = self.send(url).await?;
        self.expect_ok(response)
    }

    /// Sends a request and returns the response, whatever its status.
    async fn send(&self, url: Url) -> Result<Response, RequestError> {
        self.client.send(&Request::get(url, "application/json", MAX_RESPONSE_BYTES), |_| false).await
    }

    /// Returns the response, if it was successful.
    fn expect_ok(&self, response: Response) -> Result<Response, RequestError> {
        if response.status == StatusCode::OK { Ok(response) } else { Err(self.status_error(&response)) }
    }

    fn status_error(&self, response: &Response) -> RequestError {
        let kind = response.status_error().kind;
        let whom = self.identity();
        let advice = match kind {
            RequestErrorKind::Denied if response.status == StatusCode::UNAUTHORIZED => {
                format!("the token of {whom} is not accepted: check its tenant, and the cloud")
            }
            RequestErrorKind::Denied => format!("give {whom} the role `Reader` there, and wait some minutes"),
            RequestErrorKind::NotFound => {
                format!("check subscription and resource group, and that {whom} has the role `Reader` there")
            }
            RequestErrorKind::Throttled => "run when the subscription is less busy".into(),
            RequestErrorKind::Status(500..) => "run again when Azure Resource Manager is well".into(),
            _ => String::new(),
        };
        RequestError::new(kind, response.description()).with_help(advice)
    }
}
