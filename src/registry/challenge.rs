//! What a 401 asks for: the `WWW-Authenticate` header of RFC 9110, section 11.6.1.

use http::header::{HeaderMap, WWW_AUTHENTICATE};

/// A way to sign in that a registry offers and that is understood here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from a token service (the distribution token specification).
    Bearer {
        /// The address of the token service.
        realm: String,
        /// The name by which that service knows the registry.
        service: Option<String>,
        /// What the token must be good for.
        scope: Option<String>,
    },
    /// User name and password with each request.
    Basic,
}

/// The best offer among all challenges of an answer: a token before a password on every request.
pub(super) fn offered(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else { continue };
        for (scheme, parameters) in parse(text) {
            let parameter = |name: &str| {
                parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = parameter("realm") {
                    return Some(Challenge::Bearer { realm, service: parameter("service"), scope: parameter("scope") });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

type Scheme = (String, Vec<(String, String)>);

/// Splits a header into its schemes and their parameters.
///
/// Commas separate challenges as well as parameters, so only what follows a word tells what the word was: `=` makes it
/// a parameter of the scheme before it, anything else a scheme. A word directly behind a scheme is a `token68`, which
/// no scheme understood here uses.
fn parse(text: &str) -> Vec<Scheme> {
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

/// Reads a token or a quoted string, with its backslash escapes, and what follows it.
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

    fn offer(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        offered(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) }
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

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_stumble(text in "[ -~]{0,80}") {
            let _ = parse(&text);
        }
    }
}
