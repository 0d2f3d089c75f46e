//! Secrets of a request that the response repeats: some servers quote the request in their error messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};

use super::Request;
use crate::policy::redact_message;

/// The replacement of a repeated secret.
const MASK: &str = "***";
/// The shortest password that is masked: a shorter one is a part of many words.
const MIN_PASSWORD_BYTES: usize = 4;
/// The shortest token that is masked.
const MIN_TOKEN_BYTES: usize = 8;
/// The fields of forms that contain secrets.
const SECRET_FIELDS: [&str; 6] =
    ["access_token", "assertion", "client_assertion", "client_secret", "password", "refresh_token"];

/// Returns the body of an error response without the secrets of its request, and without anything that looks like a
/// secret.
pub(super) fn mask_echo(body: Vec<u8>, headers: &HeaderMap, ask: &Request) -> Vec<u8> {
    if body.is_empty() {
        return body;
    }
    let mut text = String::from_utf8_lossy(&body).into_owned();
    for secret in secrets(headers, ask) {
        if text.contains(&secret) {
            text = text.replace(&secret, MASK);
        }
    }
    redact_message(&text).into_bytes()
}

/// Returns the secrets of a request in all of their spellings, the longest first: one may be a part of another.
fn secrets(headers: &HeaderMap, ask: &Request) -> Vec<String> {
    let mut found = Vec::new();
    let sensitive = headers.iter().filter(|(name, value)| value.is_sensitive() || **name == AUTHORIZATION);
    for value in sensitive.filter_map(|(_, value)| value.to_str().ok()) {
        let (scheme, credentials) = value.split_once(' ').unwrap_or(("", value));
        add(&mut found, credentials, MIN_TOKEN_BYTES);
        let decoded = STANDARD.decode(credentials.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(decoded) = decoded.filter(|_| scheme.eq_ignore_ascii_case("basic")) {
            add(&mut found, &decoded, MIN_PASSWORD_BYTES);
            add(&mut found, decoded.split_once(':').map_or("", |(_, password)| password), MIN_PASSWORD_BYTES);
        }
    }
    if let Some((content_type, bytes)) = &ask.content
        && content_type.starts_with("application/x-www-form-urlencoded")
    {
        for (key, value) in url::form_urlencoded::parse(bytes) {
            if SECRET_FIELDS.contains(&&*key) {
                add(&mut found, &value, MIN_PASSWORD_BYTES);
            }
        }
    }
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found
}

/// Adds a secret as it is, as in JSON, in an address, in a form, and in base64.
fn add(found: &mut Vec<String>, secret: &str, min_bytes: usize) {
    if secret.len() < min_bytes {
        return;
    }
    let json = serde_json::Value::from(secret).to_string();
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let address = form.replace('+', "%20");
    let json = json[1..json.len() - 1].to_owned();
    found.extend([secret.to_owned(), json, form, address, STANDARD.encode(secret)]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;

    use super::*;

    fn masked(authorization: &str, form: &str, body: &str) -> String {
        let headers = [(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap())].into_iter().collect();
        let kind: Arc<str> = "application/x-www-form-urlencoded".into();
        let content = Some((kind, form.as_bytes().into()));
        let ask = Request { content, ..Request::get("https://x.example/".parse().unwrap(), "*/*", 0) };
        String::from_utf8(mask_echo(body.into(), &headers, &ask)).unwrap()
    }

    #[test]
    fn secrets_of_a_request_are_masked_in_every_spelling() {
        // `u:Geheim123`, and `u:a"b/c d` with signs that JSON and addresses write in another way.
        let (plain, odd) = ("Basic dTpHZWhlaW0xMjM=", "Basic dTphImIvYyBk");
        for (authorization, body, shown) in [
            (plain, r#"{"message":"bad creds Basic dTpHZWhlaW0xMjM="}"#, r#"{"message":"bad creds Basic ***"}"#),
            (plain, r#"{"message":"bad creds dTpHZWhlaW0xMjM="}"#, r#"{"message":"bad creds ***"}"#),
            (plain, r#"{"message":"password Geheim123 is wrong"}"#, r#"{"message":"password *** is wrong"}"#),
            (plain, "R2VoZWltMTIz and u%3AGeheim123", "*** and ***"),
            (plain, "dsn u:Geheim123@db refused", "dsn ***@db refused"),
            (odd, r#"{"message":"no a\"b/c d"}"#, r#"{"message":"no ***"}"#),
            (odd, "a%22b%2Fc%20d a%22b%2Fc+d", "*** ***"),
            ("Bearer abcdefgh", "token=abcdefgh, or abcdefg", "token=***, or abcdefg"),
            ("Basic dTphYmM=", "abc abcd", "abc abcd"),
        ] {
            assert_eq!(masked(authorization, "", body), shown);
        }
        let form = "grant_type=password&client_secret=S%2Bcret&service=contoso.example";
        assert_eq!(
            masked("x", form, "password S+cret, S%2Bcret, contoso.example"),
            "password ***, ***, contoso.example"
        );
    }

    #[test]
    fn secrets_of_others_are_masked_by_their_looks() {
        for (body, secret) in [
            ("dsn app:Winter2026@db.example refused", "Winter2026"),
            ("dsn postgres://app:Winter2026@db.example/x refused", "Winter2026"),
            ("upstream sent Bearer abcdefgh1234", "abcdefgh1234"),
        ] {
            assert!(!masked("Basic dTpHZWhlaW0xMjM=", "", body).contains(secret), "{body}");
        }
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","detail":"shop/api:v1@sha256:00"}]}"#;
        assert_eq!(masked("Basic dTpHZWhlaW0xMjM=", "", body), body);
    }
}
