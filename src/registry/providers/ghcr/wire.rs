//! The shapes of GitHub's REST API, by its published description, and the meaning of its refusals.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::domain::one_line;
use crate::http_client::{Response, parse_json_lossy};
use crate::registry::{RegistryError, RegistryErrorKind};

/// A user or an organization, of which only the kind and the name matter.
#[derive(Debug, Deserialize)]
pub(super) struct WireOwner {
    pub(super) login: String,
    #[serde(rename = "type", default)]
    pub(super) kind: String,
}

/// A package.
#[derive(Debug, Deserialize)]
pub(super) struct WirePackage {
    pub(super) name: String,
    /// The number of its versions.
    #[serde(default)]
    pub(super) version_count: Option<u64>,
}

/// A version of a package: an image by its digest, with all of its tags.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct WireVersion {
    pub(super) id: u64,
    /// The digest.
    pub(super) name: String,
    /// The push of the digest.
    pub(super) created_at: Timestamp,
    /// The last change, of whatever.
    pub(super) updated_at: Timestamp,
    pub(super) metadata: WireMetadata,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct WireMetadata {
    pub(super) container: WireContainer,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct WireContainer {
    pub(super) tags: Vec<String>,
}

impl WireVersion {
    /// Returns the last time at which anything about the version can have changed.
    pub(super) fn changed_at(&self) -> Timestamp {
        self.created_at.max(self.updated_at)
    }

    pub(super) fn tags(&self) -> &[String] {
        &self.metadata.container.tags
    }
}

/// What a request needs a right for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// List the packages of an owner.
    List,
    /// Read versions.
    Read,
    /// Delete versions.
    Delete,
    /// Restore versions.
    Restore,
}

impl Right {
    /// Returns the sentence on how to get it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::List => "the token needs the scope `read:packages`",
            Self::Read => {
                "the token needs the scope `read:packages`, and its user at least the role Read in the package"
            }
            Self::Delete => {
                "the token needs the scopes `read:packages` and `delete:packages`, and its user the role Admin in the package"
            }
            Self::Restore => {
                "the token needs the scopes `read:packages` and `write:packages`, and its user the role Admin in the package"
            }
        }
    }
}

/// Returns the error of a response without success.
///
/// GitHub answers 404 for what is not there and for what the token may not see. So that is an error here, and never an
/// absence.
pub(super) fn refusal(response: &Response, needed: Right) -> RegistryError {
    let advice = needed.advice();
    let (kind, help) = match response.status.as_u16() {
        _ if response.hits_github_limit() => {
            let help = "GitHub's limit is used up: run later, or lower the registry's `concurrency` or `rates`";
            (RegistryErrorKind::Throttled, help.to_owned())
        }
        429 => return response.status_error(),
        // A page of a proxy or of the website says nothing of packages.
        400..=499 if message(response).is_none() => {
            (RegistryErrorKind::Malformed, "these are not the words of GitHub's API: check `endpoint`".to_owned())
        }
        400 if needed == Right::List => {
            let help = "GitHub does not list packages to a workflow's `GITHUB_TOKEN`, and not beyond ten thousand: name them in \
                        `repositories`";
            (RegistryErrorKind::Denied, help.to_owned())
        }
        401 => {
            let kind = if matches!(needed, Right::List | Right::Read) {
                RegistryErrorKind::Denied
            } else {
                RegistryErrorKind::Unauthenticated
            };
            (kind, "the token is wrong, has expired, or was revoked: check `auth`".to_owned())
        }
        403 => (RegistryErrorKind::Denied, advice.to_owned()),
        404 => {
            let help =
                format!("GitHub answers so where it is not there, and also where {advice}: check the name, and those");
            (RegistryErrorKind::Denied, help)
        }
        _ => return response.status_error(),
    };
    RegistryError::new(kind, describe(response)).with_help(help)
}

/// Describes the request, the status and GitHub's message.
pub(super) fn describe(response: &Response) -> String {
    match message(response) {
        Some(message) => format!("{} answered {} ({})", response.request, response.status, one_line(&message)),
        None => response.description(),
    }
}

/// Returns GitHub's own message about an error.
pub(super) fn message(response: &Response) -> Option<String> {
    let body: Value = parse_json_lossy(&response.body).ok()?;
    body["message"].as_str().map(str::to_owned)
}

/// Returns the reason for which GitHub does not delete a version, if it is about this one alone.
pub(super) fn lock_reason(response: &Response) -> Option<&'static str> {
    let message = message(response).filter(|_| response.status.as_u16() == 400)?;
    if message.contains("last tagged version") || message.contains("last version") {
        return Some(
            "GitHub does not delete the last version of a package, or the last one with a tag: delete the package by hand if \
             none of it is needed",
        );
    }
    message.contains("downloads").then_some(
        "GitHub does not delete versions of public packages that were downloaded over 5,000 times: make the package private \
         first, or ask its support",
    )
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::{HeaderMap, HeaderName};

    use super::*;

    fn response(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let status = StatusCode::from_u16(status).unwrap();
        Response { status, headers, body: body.as_bytes().to_vec(), request: "GET https://api.github.com/x".into() }
    }

    #[test]
    fn refusals_name_the_scope_and_are_never_an_absence() {
        let github = ("x-github-request-id", "1");
        let exhausted = [github, ("x-ratelimit-remaining", "0")];
        for (status, headers, message, needed, kind, phrase) in [
            (404, &[][..], "Package not found.", Right::Read, RegistryErrorKind::Denied, "`read:packages`"),
            (404, &[], "Not Found", Right::Delete, RegistryErrorKind::Denied, "`delete:packages`"),
            (403, &[], "Must have admin rights", Right::Restore, RegistryErrorKind::Denied, "`write:packages`"),
            (403, &exhausted, "API rate limit exceeded", Right::Read, RegistryErrorKind::Throttled, "limit"),
            (
                403,
                &[github],
                "You have exceeded a secondary rate limit",
                Right::Read,
                RegistryErrorKind::Throttled,
                "limit",
            ),
            (400, &[], "Invalid argument.", Right::List, RegistryErrorKind::Denied, "`repositories`"),
            (401, &[], "Bad credentials", Right::Read, RegistryErrorKind::Denied, "expired"),
            (401, &[], "Bad credentials", Right::Delete, RegistryErrorKind::Unauthenticated, "expired"),
            (502, &[], "Server Error", Right::Read, RegistryErrorKind::Status(502), "502"),
        ] {
            let body = format!("{{\"message\":\"{message}\",\"documentation_url\":\"https://docs.github.com/rest\"}}");
            let error = refusal(&response(status, headers, &body), needed);
            assert_eq!(error.kind, kind, "{status} {message}");
            assert!(error.chain().contains(phrase), "{}", error.chain());
        }
        let page = refusal(&response(404, &[], "<html></html>"), Right::Read);
        assert_eq!(page.kind, RegistryErrorKind::Malformed);
    }

    #[test]
    fn versions_that_github_keeps_are_told_from_other_refusals() {
        for (status, message, phrase) in [
            (
                400,
                "You cannot delete the last tagged version of a package. You must delete the package instead.",
                Some("last version of a package"),
            ),
            (400, "You cannot delete the last version of a package.", Some("last version of a package")),
            (
                400,
                "Publicly visible package versions with more than 5000 downloads cannot be deleted. Contact GitHub support for further assistance.",
                Some("5,000"),
            ),
            (400, "Invalid argument.", None),
            (404, "the last version", None),
        ] {
            let found = lock_reason(&response(status, &[], &format!("{{\"message\":\"{message}\"}}")));
            assert_eq!(found.is_some(), phrase.is_some(), "{message}");
            assert!(found.unwrap_or_default().contains(phrase.unwrap_or_default()), "{found:?}");
        }
    }
}
