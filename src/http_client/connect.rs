//! Why no connection was made, without the layers that its libraries name around the cause.

use std::error::Error;

use url::Url;

use crate::domain::chain;

/// The known reasons for a missing connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Obstacle {
    /// The name server does not know the host, or does not answer.
    #[error("the name {host} cannot be resolved; correct it, or look whether the name server answers")]
    UnknownName {
        /// The host.
        host: String,
    },
    /// The port speaks something else than TLS, mostly plain HTTP.
    #[error("{host} answers, but not with TLS; write `http://` if it has none, or correct the port")]
    NoTls {
        /// The host with its port.
        host: String,
    },
}

impl Obstacle {
    /// Returns the reason for a failed request, if it is a known one. Through a proxy, another host may be meant.
    pub(super) fn of(error: &reqwest::Error, url: &Url) -> Option<Self> {
        Self::of_words(&error.is_connect().then(|| chain(error as &(dyn Error + 'static)))?, url)
    }

    fn of_words(words: &str, url: &Url) -> Option<Self> {
        let host = url.host_str().unwrap_or_default().to_owned();
        if words.contains("proxy") || words.contains("tunnel") {
            None
        } else if words.contains("dns error") {
            Some(Self::UnknownName { host })
        } else if words.contains("InvalidContentType") && url.scheme() == "https" {
            let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
            Some(Self::NoTls { host: format!("{host}{port}") })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_libraries_are_left_out() {
        let dns = "error sending request: client error (Connect): dns error: failed to lookup address information";
        let tls = "error sending request: client error (Connect): received corrupt message of type InvalidContentType";
        for (words, url, expected) in [
            (dns, "https://nope.invalid/v2/", "the name nope.invalid cannot be resolved; correct it"),
            (tls, "https://127.0.0.1:5000/v2/", "127.0.0.1:5000 answers, but not with TLS; write `http://`"),
            (tls, "https://contoso.example/", "contoso.example:443 answers, but not with TLS"),
        ] {
            let found = Obstacle::of_words(words, &url.parse().unwrap()).unwrap().to_string();
            assert!(found.starts_with(expected), "{found}");
        }
        for words in ["error sending request: tcp connect error: Connection refused", &format!("proxy: {dns}")] {
            assert_eq!(Obstacle::of_words(words, &"https://a.example/".parse().unwrap()), None, "{words}");
        }
    }
}
