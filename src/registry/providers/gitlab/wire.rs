//! The shapes of the registry's answers, and its errors.

use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;

use crate::http_client::Response;
use crate::registry::client::tag_rows::TagRow;
use crate::registry::client::wire::lenient;
use crate::registry::{RegistryError, RegistryErrorKind};

/// The header by which GitLab's registry names its version in every answer of its own.
const VERSION_HEADER: &str = "gitlab-container-registry-version";

/// A repository below a path.
#[derive(Debug, Deserialize)]
pub(super) struct WireRepository {
    pub(super) path: String,
}

/// A tag with what it names.
#[derive(Debug, Deserialize)]
pub(super) struct WireTag {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) config_digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) media_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    size_bytes: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    created_at: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    updated_at: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    published_at: Option<String>,
    /// What refers to its manifest; versions before 3.88 do not tell.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) referrers: Vec<WireReferrer>,
}

/// Something that refers to a manifest.
#[derive(Debug, Deserialize)]
pub(super) struct WireReferrer {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) digest: Option<String>,
}

impl WireTag {
    /// Returns the time of its last push or move, or `None` if the registry does not say. The latest of its times counts: a
    /// tag that seems younger is kept longer.
    pub(super) fn pushed_at(&self) -> Option<Timestamp> {
        let times = [&self.created_at, &self.updated_at, &self.published_at];
        let mut read = Vec::with_capacity(times.len());
        for text in times.into_iter().flatten() {
            read.push(text.parse::<Timestamp>().ok()?);
        }
        read.into_iter().max()
    }

    /// Returns the bytes of its image, layers included. Of an index, the registry says 0.
    pub(super) fn image_size(&self) -> Option<u64> {
        self.size_bytes.filter(|size| *size > 0)
    }
}

/// The answer to the question for one tag.
pub(super) enum TagAnswer {
    Found(Box<WireTag>),
    Missing,
    /// The registry does not know the repository.
    UnknownRepository,
    /// Versions before 4.7 pass over the question and list tags.
    NotAsked,
}

/// A row of a list of tags.
pub(super) type Row = TagRow<WireTag>;

/// The right that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// To see and read.
    Read,
    /// To list what is below a path.
    List,
    /// To remove tags.
    Delete,
}

impl Right {
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Read => {
                "in a private project the identity needs the role Reporter, and its token the scope `read_registry`: check \
                 `auth`"
            }
            Self::List => {
                "GitLab's token service lets nobody list what is below a path: add `api` to the registry's settings, or name \
                 the `repositories`"
            }
            Self::Delete => "the identity needs the role Maintainer in the project, and its token the scope `api`",
        }
    }
}

/// Returns true where the registry says in its own words that it does not know a repository. An empty 404 says nothing: it
/// is also that of a registry without a metadata database.
pub(super) fn is_unknown_repository(response: &Response) -> bool {
    response.status == StatusCode::NOT_FOUND && response.error_code().as_deref() == Some("NAME_UNKNOWN")
}

/// The answer as the error that it is, with what to do.
pub(super) fn refusal(response: &Response, needed: Right) -> RegistryError {
    match response.status {
        StatusCode::NOT_FOUND if is_unknown_repository(response) => response.status_error(),
        StatusCode::NOT_FOUND if response.header(VERSION_HEADER).is_some() => {
            let help = "write kind = \"distribution\", which knows neither push times nor protected tags, or have the \
                        metadata database of the registry enabled";
            let what = "this GitLab registry has no metadata database, and so not the API that its tags are read by";
            RegistryError::new(RegistryErrorKind::Unsupported, format!("{}: {what}", response.description()))
                .with_help(help)
        }
        StatusCode::NOT_FOUND => {
            let help = "these are not the words of GitLab's registry: check the registry's `endpoint` and `kind`";
            RegistryError::new(RegistryErrorKind::Malformed, response.description()).with_help(help)
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            RegistryError::new(response.status_error().kind, response.description()).with_help(needed.advice())
        }
        _ => response.status_error(),
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderMap;

    use super::*;

    fn response(status: u16, body: &str, is_gitlab: bool) -> Response {
        let mut headers = HeaderMap::new();
        if is_gitlab {
            headers.insert(VERSION_HEADER, "4.32.0-gitlab".parse().unwrap());
        }
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.as_bytes().to_vec(),
            request: "GET https://registry.example/gitlab/v1/x".into(),
        }
    }

    #[test]
    fn a_registry_without_a_database_is_recognised() {
        let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
        for (response, kind, help) in [
            (response(404, unknown, true), RegistryErrorKind::NotFound, ""),
            (response(404, "", true), RegistryErrorKind::Unsupported, "write kind = \"distribution\""),
            (response(404, "", false), RegistryErrorKind::Malformed, "check the registry's `endpoint` and `kind`"),
            (
                response(404, "<html>", false),
                RegistryErrorKind::Malformed,
                "check the registry's `endpoint` and `kind`",
            ),
            (response(401, "", true), RegistryErrorKind::Denied, "`read_registry`"),
            (response(500, "", true), RegistryErrorKind::Status(500), "when the registry is well"),
        ] {
            let error = refusal(&response, Right::Read);
            assert_eq!(error.kind, kind, "{}", error.chain());
            assert!(error.chain().contains(help), "{}", error.chain());
        }
    }

    #[test]
    fn tags_are_read_as_the_specification_shows_them() {
        // The example of docs/spec/gitlab/api.md, without and with `published_at`.
        for (json, pushed_at, size) in [
            (
                r#"{"name":"a","created_at":"2022-06-07T12:10:12.412Z","size_bytes":286734237}"#,
                Some(1_654_603_812),
                286_734_237,
            ),
            (
                r#"{"name":"a","created_at":"2022-06-07T12:11:13.633Z","updated_at":"2022-06-07T14:37:49.251Z"}"#,
                Some(1_654_612_669),
                0,
            ),
            (
                r#"{"name":"a","created_at":"2022-06-07T12:11:13.633Z","published_at":"2022-06-07T14:37:49.251+00:00"}"#,
                Some(1_654_612_669),
                0,
            ),
            (r#"{"name":"a","created_at":"2022-06-07T12:11:13.633Z","updated_at":"lately"}"#, None, 0),
            (r#"{"name":"a","published_at":null,"size_bytes":-1,"referrers":7}"#, None, 0),
        ] {
            let tag: WireTag = serde_json::from_str(json).unwrap();
            assert_eq!(tag.pushed_at().map(Timestamp::as_second), pushed_at, "{json}");
            assert_eq!(tag.image_size().unwrap_or(0), size, "{json}");
            assert!(tag.referrers.is_empty());
        }
    }
}
