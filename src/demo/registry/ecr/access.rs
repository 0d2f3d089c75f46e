//! Signatures of requests, and refusals in Amazon's words.

use axum::http::StatusCode;
use axum::response::Response;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::EcrOptions;
use crate::demo::registry::api_request::ApiRequest;
use crate::demo::registry::response::json_response;

/// Access keys.
#[derive(Debug, Clone)]
pub struct EcrKeys {
    /// The id.
    pub id: String,
    /// The secret.
    pub secret: String,
    /// The token of their session, if they have one.
    pub session_token: Option<String>,
    /// True if the session is over.
    pub has_expired: bool,
}

impl EcrKeys {
    /// Creates keys without a session.
    #[must_use]
    pub fn new(id: &str, secret: &str) -> Self {
        Self { id: id.to_owned(), secret: secret.to_owned(), session_token: None, has_expired: false }
    }

    /// Adds the token of a session.
    #[must_use]
    pub fn session(mut self, token: &str) -> Self {
        self.session_token = Some(token.to_owned());
        self
    }
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Problem {
    kind: &'static str,
    message: String,
}

impl Problem {
    pub(super) fn new(kind: &'static str, message: &str) -> Self {
        Self { kind, message: message.to_owned() }
    }

    pub(super) fn into_response(self) -> Response {
        let body = json!({ "__type": self.kind, "message": self.message });
        json_response(StatusCode::BAD_REQUEST, "application/x-amz-json-1.1", &body)
    }
}

/// Checks that a request is signed by known keys, for this region, with everything that matters.
pub(super) fn check_signature(call: &ApiRequest<'_>, host: &str, options: &EcrOptions) -> Result<(), Problem> {
    let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(authorization) = header("authorization") else {
        return Err(Problem::new("MissingAuthenticationTokenException", "Missing Authentication Token"));
    };
    let incomplete = || Problem::new("IncompleteSignatureException", "Authorization header is not complete");
    let parts = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(incomplete)?;
    let part = |name: &str| {
        let mut parts = parts.split(',').map(str::trim);
        parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).ok_or_else(incomplete)
    };
    let (credential, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let (id, place) = credential.split_once('/').ok_or_else(incomplete)?;
    let keys = options.keys.iter().find(|keys| keys.id == id).ok_or_else(|| {
        Problem::new("UnrecognizedClientException", "The security token included in the request is invalid.")
    })?;
    if header("x-amz-security-token") != keys.session_token.as_deref() {
        let message = "The security token included in the request is invalid.";
        return Err(Problem::new("UnrecognizedClientException", message));
    }
    let date = header("x-amz-date").ok_or_else(incomplete)?;
    let day = date.split('T').next().unwrap_or_default();
    if place != format!("{day}/{}/ecr/aws4_request", options.region) {
        return Err(Problem::new(
            "InvalidSignatureException",
            "Credential should be scoped to a valid region and service.",
        ));
    }
    let names: Vec<&str> = signed.split(';').collect();
    let present = call.headers.keys().map(http::HeaderName::as_str);
    let must = present.filter(|name| *name == "content-type" || name.starts_with("x-amz-")).chain(["host"]);
    if let Some(missing) = must.into_iter().find(|name| !names.contains(name)) {
        return Err(Problem::new("InvalidSignatureException", &format!("'{missing}' must be a 'SignedHeader'")));
    }
    let mut canonical = format!("{}\n{}\n\n", call.method, call.path);
    for name in &names {
        let value = if *name == "host" { host } else { header(name).unwrap_or_default() };
        canonical.extend([name, ":", value.trim(), "\n"]);
    }
    canonical.extend(["\n", signed, "\n", &hex(&Sha256::digest(&call.body))]);
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{place}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for part in place.split('/') {
        key = hmac(&key, part);
    }
    if hex(&hmac(&key, &text)) != signature {
        let message = "The request signature we calculated does not match the signature you provided.";
        return Err(Problem::new("InvalidSignatureException", message));
    }
    if keys.has_expired {
        let message = "The security token included in the request is expired";
        return Err(Problem::new("ExpiredTokenException", message));
    }
    Ok(())
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
