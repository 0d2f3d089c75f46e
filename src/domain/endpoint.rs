//! The address of a registry, independent of its name in the settings.

use std::fmt;

use url::Url;

/// The address of a registry in normal form: scheme, lower-case host, and the port unless it is the scheme's default.
/// Registries with equal endpoints are the same registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(Box<str>);

impl Endpoint {
    /// Returns the endpoint of a URL, whatever its path.
    #[must_use]
    pub fn of(url: &Url) -> Self {
        // The `url` crate lowers the host, encodes it by IDNA, and drops a default port.
        Self(url.origin().ascii_serialization().into())
    }

    /// Returns the endpoint that a text names, or `None` if it is not a valid server address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url: Url = text.parse().ok()?;
        url.has_host().then(|| Self::of(&url))
    }

    /// Returns the address as text, such as `https://contoso.azurecr.io`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_are_one_endpoint() {
        let cases = [
            ("https://Contoso.azurecr.io/", "https://contoso.azurecr.io"),
            ("https://contoso.azurecr.io:443", "https://contoso.azurecr.io"),
            ("HTTPS://contoso.azurecr.io/v2/", "https://contoso.azurecr.io"),
            ("http://registry:80/", "http://registry"),
            ("http://registry:443/", "http://registry:443"),
            ("https://registry:5000", "https://registry:5000"),
            ("http://[0:0::1]:5000/", "http://[::1]:5000"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
        ];
        for (written, endpoint) in cases {
            assert_eq!(Endpoint::parse(written).unwrap().as_str(), endpoint);
        }
        for other in ["", "contoso", "/v2/", "mailto:a@b"] {
            assert_eq!(Endpoint::parse(other), None, "{other}");
        }
    }
}
