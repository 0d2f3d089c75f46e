//! Products that hold images in repositories with keys and have an API at another address than the registry: what their
//! readers share.
//!
//! Without the setting `api`, the registry's address is that of the product, and names of images begin with the key. With
//! it, the registry's address is that of one repository, whose key `namespaces` has.

use http::StatusCode;
use serde::Deserialize;
use url::Url;

use crate::domain::{GapTarget, InvalidName, RemovalMethod, RepositoryName};
use crate::http_client::{Request, Response, RetryPolicy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::client::list_gaps;
use crate::registry::client::pagination::{next_page_link, next_page_url};
use crate::registry::providers::settings::check_namespaced_names;
use crate::registry::providers::{SettingProblem, SettingsDraft};
use crate::registry::{CanUntag, Catalogue, RegistryError, RegistryErrorKind, RegistrySettings};

/// Most bytes of an answer.
const MAX_BYTES: usize = 64 << 20;
/// Most pages of images: a longer list is a loop.
const MAX_PAGES: usize = 20_000;

/// The connection to the API of such a product.
#[derive(Debug)]
pub(super) struct KeyedApi {
    pub(super) http: HttpConnection,
    /// The settings, with the registry's own address: the connection may be to another host.
    pub(super) settings: RegistrySettings,
    /// The path of the API, without a slash at its end.
    base: String,
    /// The key of the one repository that the registry's address is for; `None` if names begin with their key.
    only_key: Option<String>,
    product: &'static str,
    /// The remedy for an error of a kind, or an empty text.
    help: fn(RegistryErrorKind) -> &'static str,
}

/// The place of an image in the product.
#[derive(Debug)]
pub(super) struct ImagePlace {
    /// The key of its repository.
    pub(super) key: String,
    /// Its name there.
    pub(super) image: String,
}

/// A page of the images of a repository.
#[derive(Deserialize)]
struct WireCatalogue {
    repositories: Vec<String>,
}

impl KeyedApi {
    /// A connection by these settings; `base` is the path of the API where the settings have no `api`. Nothing is asked yet.
    ///
    /// # Errors
    /// Returns an error if the settings cannot work, such as a CA file that cannot be read.
    pub(super) fn new(
        settings: RegistrySettings,
        retry: RetryPolicy,
        (product, base): (&'static str, &str),
        help: fn(RegistryErrorKind) -> &'static str,
    ) -> Result<Self, RegistryError> {
        let http = HttpConnection::new(settings.clone(), retry)?;
        let Some(api) = settings.api.clone() else {
            return Ok(Self { http, settings, base: base.to_owned(), only_key: None, product, help });
        };
        let base = api.endpoint.path().trim_end_matches('/').to_owned();
        let only_key = settings.namespaces.first().cloned();
        let mut host = api.endpoint;
        host.set_path("/");
        let authenticator = settings.provider.authenticator(&settings, retry);
        Ok(Self { http: http.to_host(host, authenticator), settings, base, only_key, product, help })
    }

    /// Returns the address of a path of the API.
    pub(super) fn url(&self, path: &str) -> Url {
        self.http.url(&format!("{}/{path}", self.base))
    }

    /// Returns the name of the product.
    pub(super) fn product(&self) -> &'static str {
        self.product
    }

    /// Returns the place of an image.
    ///
    /// # Errors
    /// Returns an error if its name does not begin with the key of a repository.
    pub(super) fn place(&self, repository: &RepositoryName) -> Result<ImagePlace, RegistryError> {
        if let Some(key) = &self.only_key {
            return Ok(ImagePlace { key: key.clone(), image: repository.to_string() });
        }
        let place = repository.as_str().split_once('/');
        place.map(|(key, image)| ImagePlace { key: key.to_owned(), image: image.to_owned() }).ok_or_else(|| {
            let message = format!("`{repository}` does not begin with the key of a repository of {}", self.product);
            RegistryError::new(RegistryErrorKind::InvalidSettings, message)
                .with_help("write it as in image references, such as `docker-local/shop/api`")
        })
    }

    /// Sends a request that reads, and returns its successful answer.
    ///
    /// # Errors
    /// Returns an error if it has another status.
    pub(super) async fn read(&self, scope: &TokenScope, request: Request) -> Result<Response, RegistryError> {
        let response = self.http.read(scope, request, RedirectPolicy::SameOrigin).await?;
        if response.status == StatusCode::OK {
            return Ok(response);
        }
        let error = response.status_error();
        let help = (self.help)(error.kind);
        Err(error.with_help(help))
    }

    /// Returns the answer to a GET.
    ///
    /// # Errors
    /// As [`KeyedApi::read`].
    pub(super) async fn get(&self, scope: &TokenScope, url: Url) -> Result<Response, RegistryError> {
        self.read(scope, Request::get(url, "application/json", MAX_BYTES)).await
    }

    /// Returns the images of the repositories with these keys; `path` is that of the registry API of one. A repository that
    /// cannot be read is a gap.
    ///
    /// # Errors
    /// Returns an error if none of them can be read.
    pub(super) async fn images(
        &self,
        keys: &[String],
        path: impl Fn(&str) -> String,
    ) -> Result<Catalogue, RegistryError> {
        let mut catalogue = Catalogue { repositories: Vec::new(), gaps: Vec::new() };
        let mut errors = Vec::new();
        for key in keys {
            if let Err(error) = self.list_images(key, self.url(&path(key)), &mut catalogue).await {
                errors.push(error);
            }
        }
        if let (true, Some(first)) = (catalogue.repositories.is_empty(), errors.first()) {
            return Err(first.clone());
        }
        catalogue.gaps.extend(errors.into_iter().map(|error| error.into_gap(GapTarget::Catalogue)));
        Ok(catalogue)
    }

    /// Adds the images of a repository to the catalogue.
    async fn list_images(&self, key: &str, mut start: Url, catalogue: &mut Catalogue) -> Result<(), RegistryError> {
        start.query_pairs_mut().append_pair("n", "1000");
        let mut url = start.clone();
        for _ in 0..MAX_PAGES {
            let response = self.get(&TokenScope::Catalogue, url.clone()).await?;
            let WireCatalogue { repositories } = response.parse_json()?;
            for image in repositories {
                let name = if self.only_key.is_some() { image } else { format!("{key}/{image}") };
                match name.parse::<RepositoryName>() {
                    Ok(name) => catalogue.repositories.push(name),
                    Err(error) => {
                        let error: InvalidName = error;
                        catalogue.gaps.push(list_gaps::invalid_repository(&name, &error));
                    }
                }
            }
            let link = next_page_link(&response.headers).map_err(|why| response.malformed(why))?;
            let Some(link) = link else { return Ok(()) };
            let next = next_page_url(&start, &link).map_err(|why| response.malformed(why))?;
            if next == url {
                return Err(response.malformed("its `Link` leads in a circle"));
            }
            url = next;
        }
        Err(RegistryError::new(RegistryErrorKind::Malformed, format!("GET {start}: the list of images has no end")))
    }
}

/// Returns the refusals of settings about keys of repositories.
pub(super) fn check_keys(product: &str, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = Vec::new();
    if draft.has_api {
        let is_one = draft.namespaces.is_none_or(|names| names.len() == 1);
        if !is_one || draft.repositories.is_some_and(|names| !names.is_empty()) {
            problems.push(SettingProblem::new(
                "namespaces",
                format!(
                    "with `api`, the registry's address is that of one repository of {product}, and `namespaces` has to name it"
                ),
                "write namespaces = [\"docker-local\"]; without `api`, the names of images begin with the key",
            ));
        }
    } else {
        problems.extend(check_namespaced_names(draft));
    }
    if let Some(name) = draft.namespaces.unwrap_or_default().iter().find(|name| name.contains('/')) {
        problems.push(SettingProblem::new(
            "namespaces",
            format!("`{name}` is not the key of a repository of {product}"),
            "write the key alone, such as `docker-local`",
        ));
    }
    problems
}

/// Returns the refusals of settings about removals, for a product that is only read.
pub(super) fn refuse_removals(product: &str, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let untag = (draft.can_untag != CanUntag::Unknown).then_some("can_untag");
    let removal = (draft.removal == Some(RemovalMethod::DeleteManifest)).then_some("removal");
    let problem = |key: &'static str| {
        SettingProblem::new(
            key,
            format!("Tagwarden only reads {product} so far, so it removes nothing there"),
            format!("leave `{key}` out; plans and reports need none"),
        )
    };
    untag.into_iter().chain(removal).map(problem).collect()
}
