//! Tokens, scopes and limits, and refusals in GitHub's words.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::demo::registry::auth::parse_basic;
use crate::demo::registry::response::{ErrorResponse, Query, json_response};
use crate::domain::Digest;

/// A token of GitHub.
#[derive(Debug, Clone)]
pub struct GithubToken {
    /// The token itself.
    pub token: String,
    /// The user whose it is.
    pub login: String,
    /// The scopes of a classic token; `None` for that of a workflow, which GitHub tells no scopes of.
    pub scopes: Option<Vec<String>>,
    /// True once it has expired or was revoked.
    pub has_expired: bool,
}

impl GithubToken {
    /// Creates a classic personal access token with scopes, such as `read:packages`.
    #[must_use]
    pub fn classic(token: &str, login: &str, scopes: &[&str]) -> Self {
        let scopes = Some(scopes.iter().map(|scope| (*scope).to_owned()).collect());
        Self { token: token.to_owned(), login: login.to_owned(), scopes, has_expired: false }
    }

    /// Creates the token of a workflow, which may do everything with the packages of its repository and list none.
    #[must_use]
    pub fn of_workflow(token: &str) -> Self {
        Self { token: token.to_owned(), login: "github-actions[bot]".to_owned(), scopes: None, has_expired: false }
    }

    /// Returns true if it has a scope. To write includes to read.
    pub(super) fn has(&self, scope: &str) -> bool {
        let own = |scope: &str| self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|own| own == scope));
        own(scope) || scope == "read:packages" && own("write:packages")
    }
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    message: String,
}

impl Problem {
    pub(super) fn new(status: u16, message: &str) -> Self {
        let status = StatusCode::from_u16(status).expect("an HTTP status");
        Self { status, message: message.to_owned() }
    }

    /// Nothing tells what is not there from what the token may not see.
    pub(super) fn not_found(what: &str) -> Self {
        Self::new(404, what)
    }

    /// A request that the published description does not have. GitHub itself passes over much of it.
    pub(super) fn undescribed(why: &str) -> Self {
        Self::new(422, &format!("not in the published description: {why}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "message": self.message,
            "documentation_url": "https://docs.github.com/rest/packages/packages",
            "status": self.status.as_u16().to_string(),
        });
        json_response(self.status, JSON, &body)
    }
}

pub(super) const JSON: &str = "application/json; charset=utf-8";

/// Returns the token that a request to the REST API carries.
pub(super) fn authenticate<'a>(tokens: &'a [GithubToken], headers: &HeaderMap) -> Result<&'a GithubToken, Problem> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text(header::USER_AGENT).is_empty() {
        return Err(Problem::new(
            403,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
        ));
    }
    let accepted = text(header::ACCEPT);
    if !accepted.contains("json") && !accepted.contains("*/*") {
        return Err(Problem::new(415, "Unsupported 'Accept' header: Must accept 'application/json'."));
    }
    let version = headers.get("x-github-api-version").map(|value| value.to_str().unwrap_or_default());
    if version.is_some_and(|version| version != "2022-11-28") {
        return Err(Problem::new(400, "The API version is not supported."));
    }
    let authorization = text(header::AUTHORIZATION);
    let presented = authorization.strip_prefix("Bearer ").or_else(|| authorization.strip_prefix("token "));
    let Some(presented) = presented else { return Err(Problem::new(401, "Requires authentication")) };
    let known = tokens.iter().find(|token| token.token == presented && !token.has_expired);
    known.ok_or_else(|| Problem::new(401, "Bad credentials"))
}

/// The tokens that the registry gave out, each for one of GitHub's.
#[derive(Debug, Default)]
pub(super) struct RegistryTokens {
    issued: BTreeMap<String, String>,
    count: u64,
}

impl RegistryTokens {
    /// Ends all of them.
    pub(super) fn expire(&mut self) {
        self.issued.clear();
    }

    /// Handles the token service of the registry.
    pub(super) fn respond(
        &mut self,
        method: &Method,
        tokens: &[GithubToken],
        (authorization, query): (Option<&str>, &Query),
    ) -> Response {
        let known = ["service", "scope", "account", "client_id", "offline_token"];
        if *method != Method::GET || query.names().any(|name| !known.contains(&name)) {
            return ErrorResponse::unsupported().into_response();
        }
        let denied = || {
            ErrorResponse::new(StatusCode::FORBIDDEN, "DENIED", "requested access to the resource is denied")
                .into_response()
        };
        let Some((_, password)) = authorization.and_then(parse_basic) else { return denied() };
        let Some(own) = tokens.iter().find(|token| token.token == password && !token.has_expired) else {
            return denied();
        };
        if !own.has("read:packages") {
            return denied();
        }
        self.count += 1;
        let token = Digest::of(format!("{password}\n{}", self.count).as_bytes()).hex();
        self.issued.insert(token.clone(), password);
        json_response(StatusCode::OK, "application/json", &json!({ "token": token }))
    }

    /// Returns the token of GitHub that a request to the registry goes by.
    pub(super) fn owner<'a>(&self, tokens: &'a [GithubToken], authorization: Option<&str>) -> Option<&'a GithubToken> {
        let presented = self.issued.get(authorization?.strip_prefix("Bearer ")?)?;
        tokens.iter().find(|token| token.token == *presented && !token.has_expired)
    }
}

/// Returns the challenge of the registry.
pub(super) fn challenge(url: &str, repository: Option<&str>) -> Response {
    let host = url.split_once("://").map_or(url, |(_, host)| host);
    let scope = format!("repository:{}:pull", repository.unwrap_or("user/image"));
    let challenge = format!("Bearer realm=\"{url}/token\",service=\"{host}\",scope=\"{scope}\"");
    ErrorResponse::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required")
        .challenge(challenge)
        .into_response()
}

/// Returns the rows of a page with `Link` as GitHub has it, by the path that GitHub itself links to.
pub(super) fn paginate<T>(
    rows: &[T],
    body: impl FnMut(&T) -> Value,
    query: &Query,
    (url, path): (&str, &str),
) -> Result<Response, Problem> {
    let number = |name: &str, default: usize, most: usize| match query.get(name) {
        None => Ok(default),
        Some(text) => {
            let number = text.parse::<usize>().ok().filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| Problem::undescribed(&format!("`{name}` is `{text}`")))
        }
    };
    let (size, page) = (number("per_page", 30, 100)?, number("page", 1, usize::MAX)?);
    let last = rows.len().div_ceil(size).max(1);
    let link = |page: usize, relation: &str| {
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        let further = query.names().filter(|name| !["page", "per_page"].contains(name));
        for name in further {
            pairs.append_pair(name, query.get(name).unwrap_or_default());
        }
        pairs.append_pair("per_page", &size.to_string()).append_pair("page", &page.to_string());
        format!("<{url}{path}?{}>; rel=\"{relation}\"", pairs.finish())
    };
    let mut links = Vec::new();
    if page > 1 {
        links.extend([link(page - 1, "prev"), link(1, "first")]);
    }
    if page < last {
        links.extend([link(page + 1, "next"), link(last, "last")]);
    }
    let shown: Vec<Value> = rows.iter().skip((page - 1).saturating_mul(size)).take(size).map(body).collect();
    let mut response = json_response(StatusCode::OK, JSON, &shown);
    if !links.is_empty() {
        let value = HeaderValue::try_from(links.join(", ")).expect("an encoded query is plain text");
        response.headers_mut().insert(header::LINK, value);
    }
    Ok(response)
}
