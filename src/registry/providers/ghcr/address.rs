//! The address of GitHub's REST API that belongs to a container registry.

use url::Url;

use crate::registry::{RegistryError, RegistryErrorKind, RegistrySettings};

/// The help for an address that tells no API.
pub(super) const ENDPOINT_HELP: &str = "write `https://ghcr.io`, or `https://containers.HOST` of a GitHub Enterprise; for another address, name its API: \
     api = { endpoint = \"https://HOST/api/v3\", token_file = \"…\" }";

/// The address of a REST API: scheme, host and port, and the path in front of every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiAddress {
    pub(super) origin: Url,
    pub(super) prefix: String,
}

impl ApiAddress {
    /// Returns the API of the settings, or else the one of the registry's host.
    ///
    /// # Errors
    /// When neither tells it.
    pub(super) fn of(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let found = match &settings.api {
            Some(api) => Some(Self::split(&api.endpoint)),
            None => Self::of_registry(&settings.endpoint),
        };
        found.ok_or_else(|| {
            let message = format!("registry `{}`: its address tells no API of GitHub", settings.name);
            RegistryError::new(RegistryErrorKind::InvalidSettings, message).with_help(ENDPOINT_HELP)
        })
    }

    /// Returns the API by the host of a registry; `None` if that is not one of GitHub's. GitHub.com has `ghcr.io`, an
    /// enterprise with data residency `containers.NAME.ghe.com`, and an Enterprise Server `containers.HOST`
    /// (<https://docs.github.com/enterprise-server/packages/working-with-a-github-packages-registry/working-with-the-container-registry>).
    pub(super) fn of_registry(endpoint: &Url) -> Option<Self> {
        let host = endpoint.host_str()?.to_ascii_lowercase();
        if host == "ghcr.io" {
            return Some(Self { origin: "https://api.github.com".parse().ok()?, prefix: String::new() });
        }
        let server = host.strip_prefix("containers.").filter(|server| server.contains('.'))?;
        let (server, prefix) =
            if server.ends_with(".ghe.com") { (format!("api.{server}"), "") } else { (server.to_owned(), "/api/v3") };
        let origin = format!("{}://{server}", endpoint.scheme()).parse().ok()?;
        Some(Self { origin, prefix: prefix.to_owned() })
    }

    fn split(address: &Url) -> Self {
        let mut origin = address.clone();
        origin.set_path("/");
        Self { origin, prefix: address.path().trim_end_matches('/').to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_follows_from_the_registry() {
        for (endpoint, expected) in [
            ("https://ghcr.io", Some(("https://api.github.com/", ""))),
            ("https://containers.octo.ghe.com", Some(("https://api.octo.ghe.com/", ""))),
            ("https://containers.github.contoso.example", Some(("https://github.contoso.example/", "/api/v3"))),
            ("https://registry.contoso.example", None),
            ("https://containers.example", None),
            ("https://ghcr.io.example", None),
        ] {
            let found = ApiAddress::of_registry(&endpoint.parse().unwrap());
            let found = found.as_ref().map(|found| (found.origin.as_str(), found.prefix.as_str()));
            assert_eq!(found, expected, "{endpoint}");
        }
        let written = ApiAddress::split(&"http://127.0.0.1:5000/api/v3/".parse().unwrap());
        assert_eq!((written.origin.as_str(), written.prefix.as_str()), ("http://127.0.0.1:5000/", "/api/v3"));
    }
}
