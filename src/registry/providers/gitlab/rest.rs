//! GitLab's REST API: repositories by group or project, and the projects' own settings. Only ever reads.

use http::StatusCode;
use http::header::HeaderValue;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::expiration_policy::WirePolicy;
use super::token::ProjectName;
use crate::http_client::{ClientConfig, HttpClient, RateLimits, Request, Response, RetryPolicy};
use crate::registry::client::pagination::{next_page_link, next_page_url};
use crate::registry::client::wire::lenient;
use crate::registry::{RegistryError, RegistryErrorKind, RegistrySettings};

/// Most bytes of an answer.
const MAX_BYTES: usize = 16 << 20;
/// Most pages of a list: a longer one is a loop.
const MAX_PAGES: usize = 20_000;

/// A repository as its group or project lists it.
#[derive(Debug, Deserialize)]
pub(super) struct WireListedRepository {
    pub(super) path: String,
    /// `delete_scheduled`, `delete_ongoing` or `delete_failed`.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) status: Option<String>,
}

/// A project, of which only its cleanup policy matters.
#[derive(Debug, Deserialize)]
struct WireProject {
    /// Missing or null where there is no policy, or none that the token's user may see.
    #[serde(default)]
    container_expiration_policy: Value,
}

/// The REST API of one GitLab.
#[derive(Debug)]
pub(super) struct GitlabRest {
    client: HttpClient,
    endpoint: Url,
    authorization: HeaderValue,
}

impl GitlabRest {
    /// The API that the settings name, or `None` if they name none. Nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a token with control characters.
    pub(super) fn new(settings: &RegistrySettings, retry_policy: RetryPolicy) -> Result<Option<Self>, RegistryError> {
        let Some(api) = &settings.api else { return Ok(None) };
        let name = format!("GitLab's API of registry `{}`", settings.name);
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", api.token.expose_secret().trim()))
            .map_err(|_| {
                let message = format!("{name}: the token cannot be sent: it holds control characters");
                RegistryError::new(RegistryErrorKind::InvalidSettings, message)
            })?;
        authorization.set_sensitive(true);
        let config = ClientConfig { name, ca_file: settings.ca_file.clone(), timeout: settings.timeout };
        let client = HttpClient::new(&config, retry_policy)?.with_rate_limits(&api.endpoint, RateLimits::default());
        Ok(Some(Self { client, endpoint: api.endpoint.clone(), authorization }))
    }

    /// The repositories of a group with all groups and projects below it, or else of a project.
    ///
    /// # Errors
    /// When there is neither, or a page could not be read.
    pub(super) async fn repositories(&self, path: &str) -> Result<Vec<WireListedRepository>, RegistryError> {
        let of_group = self.list(&["groups", path, "registry", "repositories"]).await;
        match of_group {
            Err(error) if error.kind == RegistryErrorKind::NotFound => {
                self.list(&["projects", path, "registry", "repositories"]).await
            }
            other => other,
        }
    }

    /// The cleanup policy of a project; `None` if GitLab shows none.
    ///
    /// # Errors
    /// When the project could not be read.
    pub(super) async fn cleanup_policy(&self, project: &ProjectName) -> Result<Option<WirePolicy>, RegistryError> {
        let id = project.id.map_or_else(|| project.path.clone(), |id| id.to_string());
        let response = self.fetch(self.url(&["projects", &id])).await?;
        let WireProject { container_expiration_policy: policy } = response.parse_json()?;
        if policy.is_null() {
            return Ok(None);
        }
        serde_json::from_value(policy).map(Some).map_err(|error| response.unparsable(error))
    }

    async fn list(&self, path: &[&str]) -> Result<Vec<WireListedRepository>, RegistryError> {
        let mut start = self.url(path);
        start.query_pairs_mut().append_pair("per_page", "100");
        let (mut url, mut all) = (start.clone(), Vec::new());
        for _ in 0..MAX_PAGES {
            let response = self.fetch(url.clone()).await?;
            let page: Vec<WireListedRepository> = response.parse_json()?;
            all.extend(page);
            let link = next_page_link(&response.headers).map_err(|why| response.malformed(why))?;
            let Some(link) = link else { return Ok(all) };
            let next = next_page_url(&start, &link).map_err(|why| response.malformed(why))?;
            if next == url {
                return Err(response.malformed("its `Link` leads in a circle"));
            }
            url = next;
        }
        let message = format!("GET {start}: the list of repositories has no end");
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }

    /// The address below `/api/v4`; each part is one segment, so the slashes of a path are encoded.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v4"]).extend(path);
        }
        url
    }

    async fn fetch(&self, url: Url) -> Result<Response, RegistryError> {
        let request = Request::get(url, "application/json", MAX_BYTES);
        let response = self.client.send(&request, Some(&self.authorization)).await?;
        if response.status == StatusCode::OK {
            return Ok(response);
        }
        let kind = response.status_error().kind;
        let help = match kind {
            RegistryErrorKind::Denied if response.status == StatusCode::UNAUTHORIZED => {
                "the token of `api` is wrong, has expired, or was revoked"
            }
            RegistryErrorKind::Denied => {
                "the token of `api` needs the scope `read_api`, and its user the role Reporter in the project or group"
            }
            RegistryErrorKind::NotFound => {
                "check the path, the `endpoint` of `api`, and that its token's user may see the project or group"
            }
            RegistryErrorKind::Throttled => "run when GitLab is less busy",
            RegistryErrorKind::Status(500..) => "run again when GitLab is well",
            _ => "",
        };
        Err(RegistryError::new(kind, response.description()).with_help(help))
    }
}
