//! The challenge of a 401 (the `WWW-Authenticate` header of RFC 9110, section 11.6.1), and the hosts to which it may be
//! followed.

use http::header::{HeaderMap, WWW_AUTHENTICATE};
use url::Url;

use crate::domain::RegistryName;
use crate::registry::{RegistryError, RegistryErrorKind, RegistrySettings};

/// A supported authentication scheme that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) enum Challenge {
    /// A token from a token service (the distribution token specification).
    Bearer {
        /// The address of the token service.
        realm: String,
        /// The name by which that service knows the registry.
        service: Option<String>,
        /// The scope that the token needs.
        scope: Option<String>,
        /// The fault in the token that was sent (RFC 6750, section 3.1), such as `insufficient_scope`.
        error: Option<String>,
    },
    /// User name and password with each request.
    Basic,
}

/// Returns the best offer among all challenges of a response: a token before a password on every request.
pub(in crate::registry) fn best_challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else { continue };
        for (scheme, parameters) in parse_challenges(text) {
            let parameter = |name: &str| {
                parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = parameter("realm") {
                    return Some(Challenge::Bearer {
                        realm,
                        service: parameter("service"),
                        scope: parameter("scope"),
                        error: parameter("error"),
                    });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

/// The token services that may receive a registry's credentials.
#[derive(Debug)]
pub(in crate::registry) struct TokenHosts {
    registry: RegistryName,
    endpoint: Url,
    configured: Vec<String>,
}

/// Registries whose token service has another host, by their own documentation.
const KNOWN_TOKEN_HOSTS: [(&str, &str); 4] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("index.docker.io", "auth.docker.io"),
    ("docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
];

impl TokenHosts {
    pub(in crate::registry) fn new(settings: &RegistrySettings) -> Self {
        Self {
            registry: settings.name.clone(),
            endpoint: settings.endpoint.clone(),
            configured: settings.token_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }

    /// Returns the address of the token service, if the challenge may be followed there.
    ///
    /// # Errors
    /// Returns an error if it may not. A challenge comes from the registry, and must not be able to redirect somebody
    /// else's credentials, nor make this machine send requests inside its network. With credentials or without, tokens
    /// come from three kinds of hosts. The first is the registry's own (by https on any port, because the certificate
    /// identifies the host; by http on the same port only). The others are the hosts of well-known registries' token
    /// services, and those in the settings.
    pub(in crate::registry) fn check_realm(&self, realm: &str) -> Result<Url, RegistryError> {
        let url: Url = realm
            .parse()
            .map_err(|_| self.denied_error("sends to a token service whose address cannot be understood"))?;
        let host = host_and_port(&url);
        match url.scheme() {
            "https" => {}
            "http" if self.endpoint.scheme() == "http" => {}
            scheme => {
                return Err(self.denied_error(&format!(
                    "is read by {} and sends to a token service at {host} by {scheme}, which anyone on the way could read",
                    self.endpoint.scheme()
                )));
            }
        }
        let (own, theirs) = (self.endpoint.host_str().unwrap_or_default(), url.host_str().unwrap_or_default());
        let same_host = own == theirs
            && (url.scheme() == "https" || url.port_or_known_default() == self.endpoint.port_or_known_default());
        let known = url.scheme() == "https" && KNOWN_TOKEN_HOSTS.contains(&(own, theirs));
        let listed = self.configured.iter().any(|listed| *listed == host || listed == theirs);
        let userless = url.username().is_empty() && url.password().is_none();
        if userless && (same_host || known || listed) {
            return Ok(url);
        }
        Err(self.denied_error(&format!(
            "at {} sends to a token service on another host, {host}, which is not asked; if tokens of this registry come \
             from there, write `token_hosts = [\"{host}\"]` in its settings",
            host_and_port(&self.endpoint)
        )))
    }

    fn denied_error(&self, what: &str) -> RegistryError {
        RegistryError::new(RegistryErrorKind::Denied, format!("registry `{}` {what}", self.registry))
    }
}

/// Returns a URL's host, with its port unless that is the scheme's default.
pub(in crate::registry) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

type Scheme = (String, Vec<(String, String)>);

/// Splits a header into its schemes and their parameters.
///
/// Commas separate challenges as well as parameters, so the meaning of a word depends on what follows: `=` makes it a
/// parameter of the scheme before it, anything else a scheme. A word directly after a scheme is a `token68`, which no
/// supported scheme uses.
fn parse_challenges(text: &str) -> Vec<Scheme> {
    let mut schemes: Vec<Scheme> = Vec::new();
    let mut rest = text;
    let mut behind_scheme = false;
    loop {
        let trimmed = rest.trim_start_matches([' ', '\t', ',']);
        behind_scheme &= !rest[..rest.len() - trimmed.len()].contains(',');
        let end = trimmed.find([' ', '\t', ',', '=', '"']).unwrap_or(trimmed.len());
        let (word, after) = trimmed.split_at(end);
        if word.is_empty() {
            // A stray `=` or quote: step over one character, or stop at the end.
            let mut characters = after.chars();
            if characters.next().is_none() {
                return schemes;
            }
            rest = characters.as_str();
            continue;
        }
        let assigned = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (assigned, schemes.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, after) = parameter_value(value.trim_start_matches([' ', '\t']));
                parameters.push((word.to_owned(), value));
                rest = after;
                behind_scheme = false;
            }
            (None, Some(_)) if behind_scheme => {
                rest = after;
                behind_scheme = false;
            }
            _ => {
                schemes.push((word.to_owned(), Vec::new()));
                rest = after;
                behind_scheme = true;
            }
        }
    }
}

/// Parses a token or a quoted string, with its backslash escapes, and returns the rest.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => value.extend(characters.next()),
            other => value.push(other),
        }
    }
    (value, characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::providers::Distribution;

    fn offer(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        best_challenge(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
            error: None,
        }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let realm = "https://auth.example/token";
        let cases: &[(&[&str], Option<Challenge>)] = &[
            (&["Basic realm=\"Registry\""], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (
                &["Bearer realm=\"https://auth.example/token\",service=\"reg\",scope=\"repository:a/b:pull,push\""],
                Some(bearer(realm, Some("reg"), Some("repository:a/b:pull,push"))),
            ),
            (&["bEaReR Realm = https://auth.example/token , SERVICE=reg"], Some(bearer(realm, Some("reg"), None))),
            (
                &["Bearer realm=\"https://auth.example/token\",service=\"a \\\"b\\\" \\\\ c, d\""],
                Some(bearer(realm, Some("a \"b\" \\ c, d"), None)),
            ),
            (
                &["Negotiate YII=, Basic realm=x, Bearer realm=\"https://auth.example/token\""],
                Some(bearer(realm, None, None)),
            ),
            (
                &["Negotiate abc", "Basic realm=x", "Bearer realm=\"https://auth.example/token\""],
                Some(bearer(realm, None, None)),
            ),
            (&["Basic realm=\"Bearer realm=\\\"https://evil.example\\\"\""], Some(Challenge::Basic)),
            (&["Bearer service=\"no realm\""], None),
            (&["Digest realm=\"x\", nonce=\"y\""], None),
            (&[""], None),
            (&["=,\"\",=="], None),
            (&[], None),
        ];
        for (values, expected) in cases {
            assert_eq!(offer(values), *expected, "{values:?}");
        }
    }

    fn hosts(endpoint: &str, token_hosts: &[&str]) -> TokenHosts {
        TokenHosts::new(&RegistrySettings {
            token_hosts: token_hosts.iter().map(|&host| host.to_owned()).collect(),
            ..RegistrySettings::with_defaults("contoso".parse().unwrap(), &Distribution, endpoint.parse().unwrap())
        })
    }

    #[test]
    fn tokens_come_from_hosts_that_may_give_them() {
        let cases = [
            ("https://r.example", "https://r.example/token", true),
            ("https://r.example", "https://r.example:8443/token", true),
            ("https://r.example:5000", "https://r.example/token", true),
            ("https://r.example", "http://r.example/token", false),
            ("https://r.example", "https://auth.r.example/token", false),
            ("https://r.example", "https://r.example.evil.example/token", false),
            ("https://r.example", "https://r.example@evil.example/token", false),
            ("https://r.example", "file:///token", false),
            ("https://r.example", "http://169.254.169.254/metadata/identity/oauth2/token", false),
            ("http://r.example", "http://169.254.169.254/metadata/identity/oauth2/token", false),
            ("https://r.example", "https://[fe80::1]/token", false),
            ("https://r.example", "https://localhost/token", false),
            ("https://r.example", "https://ada:secret@r.example/token", false),
            ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true),
            ("https://r.example", "/token", false),
            ("http://r.example:5000", "http://r.example:5000/token", true),
            ("http://r.example:5000", "http://r.example:5001/token", false),
            ("http://r.example:5000", "https://r.example:5001/token", true),
            ("https://registry-1.docker.io", "https://auth.docker.io/token", true),
            ("https://registry-1.docker.io", "http://auth.docker.io/token", false),
            ("https://r.example", "https://auth.docker.io/token", false),
            ("https://r.example", "https://listed.example/token", true),
            ("https://r.example", "https://listed.example:8443/token", true),
            ("https://r.example", "https://ported.example:8443/token", true),
            ("https://r.example", "https://ported.example/token", false),
        ];
        for (endpoint, realm, allowed) in cases {
            let hosts = hosts(endpoint, &["Listed.example", "ported.example:8443"]);
            assert_eq!(hosts.check_realm(realm).is_ok(), allowed, "{endpoint} -> {realm}");
        }
        let error = hosts("https://r.example", &[]).check_realm("https://evil.example/token").unwrap_err();
        for part in ["contoso", "r.example", "evil.example", "token_hosts"] {
            assert!(error.chain().contains(part), "{}", error.chain());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_stumble(text in "[ -~]{0,80}") {
            let _ = parse_challenges(&text);
        }
    }
}
