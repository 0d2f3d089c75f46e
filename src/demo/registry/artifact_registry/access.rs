//! Access tokens and who gets them, and refusals in Google's words.

use std::collections::BTreeMap;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::demo::registry::response::{Query, json_response};

/// The seconds for which a token is valid, as far as its answer says.
const LIFETIME: u64 = 3599;

/// A service account with a key.
#[derive(Debug, Clone)]
pub struct ServiceAccount {
    /// Its address.
    pub email: String,
    key_id: String,
    private_key: Vec<u8>,
    public_key: Vec<u8>,
}

impl ServiceAccount {
    /// Creates an account with a new key.
    ///
    /// # Panics
    /// If no key can be generated.
    #[must_use]
    pub fn generate(email: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be generated");
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().expect("a new key can be written");
        Self {
            email: email.to_owned(),
            key_id: Uuid::now_v7().simple().to_string(),
            private_key: der.as_ref().to_vec(),
            public_key: pair.public_key().as_ref().to_vec(),
        }
    }

    /// Returns the key file that Google would give out, for the token service of a registry at that address.
    #[must_use]
    pub fn key_file(&self, url: &str) -> String {
        let encoded = STANDARD.encode(&self.private_key);
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let label = ["PRIVATE", "KEY"].join(" ");
        let file = json!({
            "type": "service_account",
            "project_id": "acme",
            "private_key_id": self.key_id,
            "private_key": format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")),
            "client_email": self.email,
            "client_id": "100000000000000000000",
            "token_uri": format!("{url}/token"),
            "universe_domain": "googleapis.com",
        });
        format!("{file:#}\n")
    }

    /// Returns the problem of a statement by which somebody asks for a token of the account.
    fn check(&self, assertion: &str, audience: &str) -> Result<(), &'static str> {
        let (signed, signature) = assertion.rsplit_once('.').ok_or("Invalid JWT: it has not three parts")?;
        let (head, claims) = signed.split_once('.').ok_or("Invalid JWT: it has not three parts")?;
        let part = |text: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok() };
        let (head, claims) = part(head).zip(part(claims)).ok_or("Invalid JWT: it is not JSON")?;
        if head["alg"] != "RS256" || head["kid"] != self.key_id.as_str() || claims["iss"] != self.email.as_str() {
            return Err("Invalid grant: account not found");
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "Invalid JWT Signature.")?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| "Invalid JWT Signature.")?;
        if claims["aud"] != audience {
            return Err("Invalid JWT: Failed audience check.");
        }
        let lifetime = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(end, start)| end - start);
        if !lifetime.is_some_and(|lifetime| (1..=3600).contains(&lifetime)) {
            return Err("Invalid JWT: Token must be a short-lived token (60 minutes)");
        }
        if claims["scope"].as_str().is_none_or(str::is_empty) {
            return Err("Invalid OAuth scope or ID token audience provided.");
        }
        Ok(())
    }
}

/// The actions that a token of the registry API allows.
#[derive(Debug, Clone)]
struct RegistryGrant {
    repository: String,
    actions: Vec<String>,
}

/// The tokens that are valid now.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    access: Vec<String>,
    registry: BTreeMap<String, RegistryGrant>,
}

impl Tokens {
    pub(super) fn new(access: &[String]) -> Self {
        Self { access: access.to_vec(), registry: BTreeMap::new() }
    }

    pub(super) fn expire(&mut self) {
        self.access.clear();
        self.registry.clear();
    }

    /// Answers a request for an access token by a service account's key.
    pub(super) fn exchange(&mut self, form: &Query, account: Option<&ServiceAccount>, url: &str) -> Response {
        let refuse = |error: &str, why: &str| {
            let body = json!({ "error": error, "error_description": why });
            json_response(StatusCode::BAD_REQUEST, "application/json", &body)
        };
        if form.get("grant_type") != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
            return refuse("unsupported_grant_type", "Invalid grant_type");
        }
        let Some(account) = account else { return refuse("invalid_grant", "Invalid grant: account not found") };
        match account.check(form.get("assertion").unwrap_or_default(), &format!("{url}/token")) {
            Ok(()) => self.issue(),
            Err(why) => refuse("invalid_grant", why),
        }
    }

    /// Issues an access token, as the metadata service does to the machine that it belongs to.
    pub(super) fn issue(&mut self) -> Response {
        let token = format!("ya29.{}", Uuid::now_v7().simple());
        self.access.push(token.clone());
        let body = json!({ "access_token": token, "expires_in": LIFETIME, "token_type": "Bearer" });
        json_response(StatusCode::OK, "application/json", &body)
    }

    /// Checks the token of a request to the API.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let token = authorization(headers).and_then(|value| value.strip_prefix("Bearer "));
        if token.is_some_and(|token| self.access.iter().any(|known| known == token)) {
            return Ok(());
        }
        Err(Problem::new(
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid \
             authentication credential.",
        ))
    }

    /// Answers a request for a token of the registry API, by an access token as password.
    pub(super) fn registry_token(&mut self, headers: &HeaderMap, query: &Query) -> Result<Response, Problem> {
        let pair = authorization(headers).and_then(|value| value.strip_prefix("Basic "));
        let pair = pair.and_then(|pair| String::from_utf8(STANDARD.decode(pair).ok()?).ok());
        let token = pair.as_deref().and_then(|pair| pair.strip_prefix("oauth2accesstoken:"));
        if !token.is_some_and(|token| self.access.iter().any(|known| known == token)) {
            return Err(Problem::new(401, "UNAUTHENTICATED", "unauthorized"));
        }
        let scope = query.get("scope").unwrap_or_default();
        let mut parts = scope.splitn(3, ':');
        let (Some("repository"), Some(repository), Some(actions)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Problem::new(400, "INVALID_ARGUMENT", "invalid scope"));
        };
        let token = Uuid::now_v7().simple().to_string();
        let actions = actions.split(',').map(str::to_owned).collect();
        self.registry.insert(token.clone(), RegistryGrant { repository: repository.to_owned(), actions });
        Ok(json_response(StatusCode::OK, "application/json", &json!({ "token": token, "expires_in": LIFETIME })))
    }

    /// Returns true if the token of a request to the registry API allows an action on a repository.
    pub(super) fn allows(&self, headers: &HeaderMap, repository: &str, action: &str) -> bool {
        let token = authorization(headers).and_then(|value| value.strip_prefix("Bearer "));
        let grant = token.and_then(|token| self.registry.get(token));
        grant.is_some_and(|grant| grant.repository == repository && grant.actions.iter().any(|own| own == action))
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Problem {
    code: u16,
    status: &'static str,
    message: String,
}

impl Problem {
    pub(super) fn new(code: u16, status: &'static str, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_ARGUMENT", message)
    }

    pub(super) fn not_found() -> Self {
        Self::new(404, "NOT_FOUND", "Requested entity was not found.")
    }

    pub(super) fn failed_precondition(message: impl Into<String>) -> Self {
        Self::new(400, "FAILED_PRECONDITION", message)
    }

    pub(super) fn denied(permission: &str, resource: &str) -> Self {
        let message = format!(
            "Permission '{permission}' denied on resource '//artifactregistry.googleapis.com/{resource}' (or it may not exist)."
        );
        Self::new(403, "PERMISSION_DENIED", message)
    }

    pub(super) fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message, "status": self.status } });
        json_response(
            StatusCode::from_u16(self.code).expect("an HTTP status"),
            "application/json; charset=UTF-8",
            &body,
        )
    }
}
