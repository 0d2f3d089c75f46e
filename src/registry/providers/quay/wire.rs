//! The shapes of Quay's answers, and its errors.

use std::collections::BTreeMap;

use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::domain::{Digest, Lock};
use crate::http_client::{Response, one_line, parse_json_lossy};
use crate::registry::client::tag_rows::TagRow;
use crate::registry::client::wire::lenient;
use crate::registry::{RegistryError, RegistryErrorKind};

/// A page of the repositories of a namespace.
#[derive(Debug, Deserialize)]
pub(super) struct WireRepositories {
    pub(super) repositories: Vec<WireListedRepository>,
    /// Where the list goes on; missing on its last page.
    #[serde(default)]
    pub(super) next_page: Option<String>,
}

/// A repository as its namespace lists it.
#[derive(Debug, Deserialize)]
pub(super) struct WireListedRepository {
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) kind: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) state: Option<String>,
}

/// A repository by itself.
#[derive(Debug, Deserialize)]
pub(super) struct WireRepository {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Whether the token may remove and restore tags.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) can_write: Option<bool>,
    /// `NORMAL`, `READ_ONLY`, `MIRROR`, `ORG_MIRROR`.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) state: Option<String>,
    /// For how many seconds the namespace keeps removed tags.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) tag_expiration_s: Option<u64>,
}

/// A page of tags.
#[derive(Debug, Deserialize)]
pub(super) struct WireTags {
    /// Each is a [`WireTag`], or in doubt by itself.
    pub(super) tags: Vec<Value>,
    /// Whether there are more pages. Never guessed from the length of a page.
    pub(super) has_additional: bool,
}

/// One tag, or what a tag of that name was.
#[derive(Debug, Deserialize)]
pub(super) struct WireTag {
    pub(super) name: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) manifest_digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    start_ts: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    end_ts: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) is_manifest_list: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) size: Option<u64>,
    #[serde(default, deserialize_with = "switch")]
    immutable: bool,
    /// The manifests that an index lists, and whether they are there. Quay 3.16 and older do not tell.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) child_manifests_presence: Option<BTreeMap<String, bool>>,
}

/// A row of a list of tags.
pub(super) type Row = TagRow<WireTag>;

/// A manifest with its exact bytes as a text.
#[derive(Debug, Deserialize)]
pub(super) struct WireManifest {
    pub(super) manifest_data: String,
}

/// The auto-prune policies of a namespace.
#[derive(Debug, Deserialize)]
pub(super) struct WirePolicies {
    pub(super) policies: Vec<WirePolicy>,
}

/// A rule by which Quay itself removes tags.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WirePolicy {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) method: Option<String>,
    #[serde(default)]
    pub(super) value: Value,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) tag_pattern: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) tag_pattern_matches: Option<bool>,
}

/// An error: Quay's own form (RFC 7807), or that of its framework, which has a message alone.
#[derive(Debug, Default, Deserialize)]
struct WireProblem {
    #[serde(default, deserialize_with = "lenient")]
    error_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    detail: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    error_message: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    message: Option<String>,
}

/// Reads whether a tag is immutable. A value that is not understood counts as a lock.
fn switch<'de, D: Deserializer<'de>>(input: D) -> Result<bool, D::Error> {
    Ok(!matches!(Value::deserialize(input)?, Value::Null | Value::Bool(false)))
}

impl WireTag {
    /// Returns its digest, or `None` if Quay gives no valid one.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.manifest_digest.as_deref()?.parse().ok()
    }

    /// Returns the time of its last push or move, or `None` if Quay does not say.
    pub(super) fn pushed_at(&self) -> Option<Timestamp> {
        self.start_ts.filter(|seconds| *seconds > 0).and_then(|seconds| Timestamp::from_second(seconds).ok())
    }

    /// Its beginning in seconds since 1970, or `None` if Quay does not say.
    pub(super) fn started_at(&self) -> Option<i64> {
        self.start_ts
    }

    /// The end of it in seconds since 1970: past in the time machine, to come where it expires by itself.
    pub(super) fn ended_at(&self) -> Option<i64> {
        self.end_ts
    }

    /// An immutable tag can neither be removed nor moved.
    pub(super) fn lock(&self) -> Option<Lock> {
        self.immutable.then_some(Lock::DeleteAndWrite)
    }
}

/// The right that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// To see and read.
    Read,
    /// To remove and restore.
    Write,
    /// To read the rules of an organization.
    Organization,
}

impl Right {
    fn advice(self) -> &'static str {
        match self {
            Self::Read => {
                "the access token needs the scope `repo:read`, and its user Read on the repository: check `auth`"
            }
            Self::Write => {
                "the access token needs the scope `repo:write`, and its user Write on the repository: check `auth`"
            }
            Self::Organization => "the access token needs the scope `org:admin`, and its user must administer it",
        }
    }
}

/// The error type in Quay's own words, such as `not_found`.
pub(super) fn error_type(response: &Response) -> Option<String> {
    problem(response).error_type
}

/// Returns true for Quay's own word that something is not there. The 404 of a proxy says nothing of a tag.
pub(super) fn is_absence(response: &Response) -> bool {
    response.status == StatusCode::NOT_FOUND && error_type(response).as_deref() == Some("not_found")
}

/// Returns true where Quay says that the repository is read-only or a mirror.
pub(super) fn describes_state(response: &Response) -> bool {
    problem(response).message.is_some_and(|words| words.contains("read only or mirror mode"))
}

/// The answer as the error that it is, in Quay's words and with what to do.
pub(super) fn refusal(response: &Response, needed: Right) -> RegistryError {
    // A 404 without Quay's own words is of something in between, or of an address that is not Quay's.
    let kind = match response.status {
        StatusCode::NOT_FOUND if !is_absence(response) => RegistryErrorKind::Malformed,
        _ => response.status_error().kind,
    };
    error(response, kind, needed)
}

/// The answer as an error of that kind.
pub(super) fn error(response: &Response, kind: RegistryErrorKind, needed: Right) -> RegistryError {
    let mut message = format!("{} answered {}", response.request, response.status);
    let WireProblem { error_type, detail, error_message, message: words } = problem(response);
    let words = detail.or(error_message).or(words).filter(|words| !words.is_empty());
    let told: Vec<String> = [error_type, words].into_iter().flatten().map(|text| one_line(&text)).collect();
    if !told.is_empty() {
        message.extend([" (", &told.join(": "), ")"]);
    } else if response.is_web_page() {
        message.push_str(", with a web page, not in Quay's words");
    }
    match kind {
        RegistryErrorKind::Denied | RegistryErrorKind::Unauthenticated => message.extend(["; ", needed.advice()]),
        RegistryErrorKind::Throttled => {
            message.push_str("; lower the registry's `concurrency`, or run when it is less busy");
        }
        RegistryErrorKind::Status(500..) => message.push_str("; run again when the registry is well"),
        RegistryErrorKind::Malformed if response.status == StatusCode::NOT_FOUND => {
            message.push_str("; these are not Quay's words: check the registry's `endpoint` and `kind`");
        }
        _ => {}
    }
    RegistryError::new(kind, message)
}

fn problem(response: &Response) -> WireProblem {
    if response.is_web_page() {
        return WireProblem::default();
    }
    parse_json_lossy(&response.body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::header::HeaderMap;

    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
            request: "GET https://quay.example/api/v1/x".into(),
        }
    }

    #[test]
    fn only_quays_own_word_makes_something_absent() {
        let own = r#"{"detail":"Not Found","error_type":"not_found","title":"not_found","status":404}"#;
        for (status, body, absent) in [
            (404, own, true),
            (404, "", false),
            (404, r#"{"message":"The requested URL was not found on the server."}"#, false),
            (404, "<html>404</html>", false),
            (404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, false),
            (410, own, false),
        ] {
            assert_eq!(is_absence(&response(status, body)), absent, "{status} {body}");
        }
    }

    #[test]
    fn refusals_name_the_right_that_is_missing() {
        let body = r#"{"detail":"Unauthorized","error_type":"insufficient_scope","status":403}"#;
        let found = refusal(&response(403, body), Right::Write);
        assert_eq!(found.kind, RegistryErrorKind::Denied);
        assert_eq!(
            found.chain(),
            "GET https://quay.example/api/v1/x answered 403 Forbidden (insufficient_scope: Unauthorized); the access \
             token needs the scope `repo:write`, and its user Write on the repository: check `auth`"
        );
        let found = refusal(&response(503, r#"{"message":"Repository is in read only or mirror mode"}"#), Right::Write);
        assert!(found.chain().contains("(Repository is in read only or mirror mode)"), "{}", found.chain());
    }

    #[test]
    fn a_tag_is_read_with_whatever_fields_there_are() {
        for (json, pushed_at, lock) in [
            (r#"{"name":"a","start_ts":1790000000}"#, Some(1_790_000_000), None),
            (r#"{"name":"a","start_ts":0}"#, None, None),
            (r#"{"name":"a","start_ts":"soon"}"#, None, None),
            (r#"{"name":"a","immutable":false}"#, None, None),
            (r#"{"name":"a","immutable":null}"#, None, None),
            (r#"{"name":"a","immutable":true}"#, None, Some(Lock::DeleteAndWrite)),
            (r#"{"name":"a","immutable":"by policy"}"#, None, Some(Lock::DeleteAndWrite)),
        ] {
            let tag: WireTag = serde_json::from_str(json).unwrap();
            assert_eq!(tag.pushed_at().map(Timestamp::as_second), pushed_at, "{json}");
            assert_eq!(tag.lock(), lock, "{json}");
        }
        assert!(serde_json::from_str::<WireTags>(r#"{"tags":[]}"#).is_err(), "nobody knows whether that is all");
    }
}
