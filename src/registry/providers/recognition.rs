//! Recognition of registry products by their address and their first answer.
//!
//! Nothing is sent but GET, without credentials. A sign counts only where it is the product's own (see
//! [`super::distribution::product`]).

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::distribution::product;
use crate::domain::Product;
use crate::http_client::{ClientConfig, HttpClient, Request, Response, RetryPolicy};
use crate::registry::RegistryError;
use crate::registry::client::challenge::{self, Challenge};

/// Largest answer that is read.
const MAX_BYTES: usize = 64 * 1024;

/// The kinds of settings by product, whether or not this version has a provider for them.
const KINDS: [(&str, &str); 11] = [
    ("Azure Container Registry", "acr"),
    ("Quay", "quay"),
    ("Harbor", "harbor"),
    ("GitLab container registry", "gitlab"),
    ("Amazon ECR", "ecr"),
    ("GitHub Container Registry", "ghcr"),
    ("Google Artifact Registry", "artifact-registry"),
    ("Docker Hub", "docker-hub"),
    ("JFrog Artifactory", "artifactory"),
    ("Sonatype Nexus", "nexus"),
    ("zot", "zot"),
];

/// Whether a registry is one of a product's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProductMatch {
    /// A sign says that it is another one.
    NotMine,
    /// Nothing speaks against it.
    Maybe,
    /// A sign of its own says so.
    Mine,
}

/// What is known of a registry before anybody signs in: its address, and its first answers where it was asked.
#[derive(Debug)]
pub struct FirstAnswer {
    endpoint: Url,
    /// The answer to `GET /v2/`.
    ping: Option<Response>,
    /// The answer to the question for extensions, where the first one told too little.
    extensions: Option<Response>,
    /// The answer to the question for zot's description, where those told too little.
    description: Option<Response>,
}

impl FirstAnswer {
    /// The address alone.
    #[must_use]
    pub fn of_address(endpoint: Url) -> Self {
        Self { endpoint, ping: None, extensions: None, description: None }
    }

    /// Asks a registry for `/v2/`, and for its extensions and its description where that does not tell the product.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn ask(
        endpoint: Url,
        ca_file: Option<PathBuf>,
        timeout: Duration,
        retry: RetryPolicy,
    ) -> Result<Self, RegistryError> {
        let config = ClientConfig { name: endpoint.to_string(), ca_file, timeout };
        let client = HttpClient::new(&config, retry)?;
        let get = async |path: &str| {
            let mut url = endpoint.clone();
            url.set_path(path);
            client.send(&Request::optional(url, "*/*", MAX_BYTES), None).await
        };
        let mut found = Self { ping: Some(get("/v2/").await?), ..Self::of_address(endpoint.clone()) };
        if found.product().is_none() {
            found.extensions = get(product::EXTENSIONS_PATH).await.ok();
        }
        // A zot with users lists no extensions to anybody who is not signed in.
        if found.product().is_none() && found.is_registry() {
            found.description = get(product::ZOT_DESCRIPTION_PATH).await.ok();
        }
        Ok(found)
    }

    /// Returns the address.
    #[must_use]
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Returns the product, if some sign tells it.
    #[must_use]
    pub fn product(&self) -> Option<Product> {
        product::detect_by_host(&self.endpoint)
            .or_else(|| product::detect_by_response(self.ping.as_ref()?))
            .or_else(|| product::detect_by_extensions(self.extensions.as_ref()?))
            .or_else(|| product::detect_by_description(self.description.as_ref()?))
    }

    /// Returns the `kind` of that product's own provider, whether or not this version has it.
    #[must_use]
    pub fn product_kind(&self) -> Option<&'static str> {
        let product = self.product()?;
        KINDS.iter().find(|(name, _)| *name == product.name).map(|(_, kind)| *kind)
    }

    /// Returns the address of the token service that its challenge names.
    #[must_use]
    pub fn token_service(&self) -> Option<Url> {
        match challenge::best_challenge(&self.ping.as_ref()?.headers)? {
            Challenge::Bearer { realm, .. } => realm.parse().ok(),
            Challenge::Basic => None,
        }
    }

    /// Returns true if something answered that may be a registry: by the specification it says 200, or asks for
    /// credentials.
    #[must_use]
    pub fn is_registry(&self) -> bool {
        let Some(ping) = &self.ping else { return false };
        let challenged = challenge::best_challenge(&ping.headers).is_some();
        let named = ping.header("docker-distribution-api-version").is_some();
        match ping.status.as_u16() {
            200 => named || !ping.is_web_page(),
            401 => challenged || named,
            _ => named,
        }
    }

    /// Returns the first answer in words, such as `GET https://registry.example/v2/ answered 404 Not Found`.
    #[must_use]
    pub fn describe(&self) -> String {
        self.ping.as_ref().map_or_else(|| format!("{} was not asked", self.endpoint), Response::description)
    }
}
