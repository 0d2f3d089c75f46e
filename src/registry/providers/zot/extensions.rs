//! The extensions of a zot: they show whether it has the search, and its release.

use http::StatusCode;
use serde::Deserialize;

use crate::domain::{Product, UntagEffect};
use crate::http_client::{MAX_ERROR_BYTES, Request, Response};
use crate::registry::RegistryError;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::client::wire::lenient;
use crate::registry::providers::distribution::product;

/// The path of the search extension.
pub(super) const SEARCH_PATH: &str = "/v2/_zot/ext/search";

/// A zot whose release is not known. It may be one that deletes manifests, so it counts as such.
const UNKNOWN_RELEASE: Product = Product {
    name: "zot",
    version: None,
    recognized_by: "`kind` in the settings",
    untag: UntagEffect::DeletesManifest,
    consequence: "before 2.1.2 a deletion by tag deletes the manifest with its last tag, and this one does not show its \
                  release: if it is newer, write `can_untag = \"yes\"`",
};

/// The extensions of a zot.
#[derive(Debug, Clone)]
pub(super) struct Extensions {
    /// True if the search is on.
    pub(super) has_search: bool,
    /// Its release, and the effect of an untag there.
    pub(super) product: Product,
}

#[derive(Deserialize)]
struct WireExtensions {
    #[serde(default, deserialize_with = "lenient")]
    extensions: Vec<WireExtension>,
}

#[derive(Deserialize)]
struct WireExtension {
    #[serde(default, deserialize_with = "lenient")]
    endpoints: Vec<String>,
}

/// Asks a registry for its extensions.
///
/// # Errors
/// Returns an error if it does not answer. One that knows no extensions has none.
pub(super) async fn discover(http: &HttpConnection) -> Result<Extensions, RegistryError> {
    let request = Request::get(http.url(product::EXTENSIONS_PATH), "application/json", MAX_ERROR_BYTES);
    let response = http.read(&TokenScope::Catalogue, request, RedirectPolicy::SameOrigin).await?;
    match response.status {
        StatusCode::OK if response.is_web_page() => Err(response.malformed("zot lists its extensions otherwise")),
        StatusCode::OK => Extensions::parse(&response),
        StatusCode::NOT_FOUND => Ok(Extensions { has_search: false, product: unknown_release() }),
        _ => Err(response.status_error()),
    }
}

impl Extensions {
    fn parse(response: &Response) -> Result<Self, RegistryError> {
        let listed: WireExtensions = response.parse_json()?;
        let mut endpoints = listed.extensions.iter().flat_map(|extension| &extension.endpoints);
        let has_search = endpoints.any(|endpoint| endpoint == SEARCH_PATH);
        let found = product::detect_by_extensions(response);
        // A build of somebody's own, whose release says nothing.
        let product = found.filter(|found| found.untag != UntagEffect::Unknown).unwrap_or_else(unknown_release);
        Ok(Self { has_search, product })
    }
}

/// Returns the product of a zot that does not show its release.
pub(super) fn unknown_release() -> Product {
    UNKNOWN_RELEASE
}

#[cfg(test)]
mod tests {
    use http::header::HeaderMap;

    use super::*;

    #[test]
    fn only_a_release_that_is_known_to_keep_manifests_untags() {
        use UntagEffect::{DeletesManifest, LeavesManifest};
        let of = |release: &str, endpoint: &str| {
            format!(
                r#"{{"extensions":[{{"name":"_zot","url":"https://github.com/project-zot/zot/blob/{release}/pkg/extensions/_zot.md","endpoints":["{endpoint}"]}}]}}"#
            )
        };
        for (body, has_search, untag) in [
            (of("v2.1.2", SEARCH_PATH), true, LeavesManifest),
            (of("v2.1.1", SEARCH_PATH), true, DeletesManifest),
            (of("v2.1.9-rc1", SEARCH_PATH), true, DeletesManifest),
            (of("", SEARCH_PATH), true, DeletesManifest),
            (of("v2.1.9", "/v2/_zot/ext/cosign"), false, LeavesManifest),
            (r#"{"extensions":[]}"#.to_owned(), false, DeletesManifest),
            (r#"{"extensions":null}"#.to_owned(), false, DeletesManifest),
        ] {
            let response = Response {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: body.clone().into_bytes(),
                request: "GET https://zot.example/v2/_oci/ext/discover".into(),
            };
            let found = Extensions::parse(&response).unwrap();
            assert_eq!((found.has_search, found.product.untag), (has_search, untag), "{body}");
        }
    }
}
