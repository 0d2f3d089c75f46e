//! Signatures of AWS, version 4 (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>).

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use url::Url;

/// The keys that a signature is made with.
#[derive(Debug, Clone)]
pub(super) struct AccessKeys {
    /// Names the keys; not a secret.
    pub(super) access_key_id: String,
    pub(super) secret_access_key: SecretString,
    /// Comes with keys that expire.
    pub(super) session_token: Option<SecretString>,
    pub(super) expires_at: Option<Timestamp>,
}

/// The region and the service that a signature is valid for.
#[derive(Debug, Clone, Copy)]
pub(super) struct SigningScope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// A request to sign.
#[derive(Debug)]
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a Url,
    /// The headers besides `host` and `x-amz-date` that the signature is to cover, by their names in lower case.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
}

/// Returns the time as signatures write it, such as `20150830T123600Z`.
pub(super) fn amz_date(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Returns the `Authorization` header of a request that is sent with that `x-amz-date`.
pub(super) fn authorization(
    request: &Unsigned<'_>,
    keys: &AccessKeys,
    scope: SigningScope<'_>,
    amz_date: &str,
) -> String {
    let host = host_header(request.url);
    let mut headers = vec![("host", host.as_str()), ("x-amz-date", amz_date)];
    headers.extend(request.headers);
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let signed_headers = names.join(";");
    let mut canonical = format!("{}\n{}\n{}\n", request.method, request.url.path(), canonical_query(request.url));
    for (name, value) in &headers {
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        let _ = writeln!(canonical, "{name}:{}", words.join(" "));
    }
    let _ = write!(canonical, "\n{signed_headers}\n{}", hex(&Sha256::digest(request.body)));

    let day = &amz_date[..amz_date.len().min(8)];
    let SigningScope { region, service } = scope;
    let place = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{amz_date}\n{place}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let secret = format!("AWS4{}", keys.secret_access_key.expose_secret());
    let key = [day, region, service, "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    let signature = hex(&hmac(&key, text.as_bytes()));
    let id = &keys.access_key_id;
    format!("AWS4-HMAC-SHA256 Credential={id}/{place}, SignedHeaders={signed_headers}, Signature={signature}")
}

/// Returns the host as HTTP sends it: with its port, unless that is the scheme's own.
fn host_header(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns the parameters of a query in the order of their encoded names and values.
fn canonical_query(url: &Url) -> String {
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (encode(&name), encode(&value))).collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> AccessKeys {
        AccessKeys {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
            expires_at: None,
        }
    }

    /// The published examples: of AWS's test suite for signatures, and that of its documentation (`ListUsers` of IAM).
    #[test]
    fn signatures_are_those_of_the_published_examples() {
        const FORM: &str = "application/x-www-form-urlencoded";
        let (suite, iam) = ("https://example.amazonaws.com", "https://iam.amazonaws.com");
        let none: &[(&str, &str)] = &[];
        let form: &[(&str, &str)] = &[("content-type", FORM)];
        let documented: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let spaces: &[(&str, &str)] = &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")];
        for (method, service, url, headers, body, signature) in [
            (
                "GET",
                "service",
                format!("{suite}/"),
                none,
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                "service",
                format!("{suite}/"),
                none,
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "POST",
                "service",
                format!("{suite}/"),
                form,
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "GET",
                "service",
                format!("{suite}/?Param2=value2&Param1=value1"),
                none,
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "GET",
                "service",
                format!("{suite}/"),
                spaces,
                "",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            (
                "GET",
                "iam",
                format!("{iam}/?Action=ListUsers&Version=2010-05-08"),
                documented,
                "",
                "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ] {
            let url: Url = url.parse().unwrap();
            let scope = SigningScope { region: "us-east-1", service };
            let request = Unsigned { method, url: &url, headers, body: body.as_bytes() };
            let found = authorization(&request, &keys(), scope, "20150830T123600Z");
            assert!(found.ends_with(&format!("Signature={signature}")), "{method} {url}: {found}");
            let place = format!("Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request");
            assert!(found.contains(&place), "{found}");
        }
    }

    #[test]
    fn times_and_hosts_are_as_they_are_sent() {
        let at: Timestamp = "2015-08-30T12:36:00.9Z".parse().unwrap();
        assert_eq!(amz_date(at), "20150830T123600Z");
        for (url, host) in [
            ("https://api.ecr.eu-central-1.amazonaws.com/", "api.ecr.eu-central-1.amazonaws.com"),
            ("https://api.example:443/", "api.example"),
            ("http://127.0.0.1:5000/", "127.0.0.1:5000"),
        ] {
            assert_eq!(host_header(&url.parse().unwrap()), host);
        }
    }
}
