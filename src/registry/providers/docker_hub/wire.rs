//! The shapes of the answers of Docker Hub's API, and its errors.

use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::http_client::{Response, one_line, parse_json_lossy};
use crate::registry::client::tag_pattern::{TagPattern, patterns};
use crate::registry::client::wire::lenient;
use crate::registry::{RegistryError, RegistryErrorKind};

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct WirePage {
    pub(super) count: usize,
    pub(super) results: Vec<Value>,
}

/// A tag by itself, as far as a look at it needs it.
#[derive(Debug, Deserialize)]
pub(super) struct WireName {
    pub(super) name: String,
}

/// A repository by itself.
#[derive(Debug, Deserialize)]
pub(super) struct WireRepository {
    #[serde(default)]
    immutable_tags_settings: Value,
    #[serde(default)]
    permissions: Value,
}

impl WireRepository {
    /// Returns the patterns of immutable tags. Settings that are not understood may make every tag immutable.
    pub(super) fn immutable_tags(&self) -> Vec<TagPattern> {
        match &self.immutable_tags_settings {
            Value::Null => Vec::new(),
            Value::Object(settings) => match settings.get("enabled") {
                Some(Value::Bool(false)) | None => Vec::new(),
                Some(Value::Bool(true)) => patterns(settings.get("rules").unwrap_or(&Value::Bool(true))),
                Some(other) => vec![TagPattern::unknown(other)],
            },
            other => vec![TagPattern::unknown(other)],
        }
    }

    /// Returns whether the account may write to the repository, or `None` if the API does not say.
    pub(super) fn may_write(&self) -> Option<bool> {
        let (write, admin) = (self.permissions["write"].as_bool()?, self.permissions["admin"].as_bool());
        Some(write || admin == Some(true))
    }
}

/// A tag with what it names.
#[derive(Debug, Deserialize)]
pub(super) struct WireTag {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) media_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) content_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) full_size: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    last_updated: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    tag_last_pushed: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    tag_last_pulled: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) images: Vec<WireImage>,
}

/// An image of one platform.
#[derive(Debug, Deserialize)]
pub(super) struct WireImage {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    os: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) size: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    last_pulled: Option<String>,
}

impl WireTag {
    /// Returns the time of its last push, or `None` if Docker Hub does not say. The later of its times counts: a tag that
    /// seems younger is kept longer.
    pub(super) fn pushed_at(&self) -> Option<Timestamp> {
        latest([&self.tag_last_pushed, &self.last_updated].into_iter()).ok()?
    }

    /// Returns the last pull of the tag, or of an image in it; an error if a time is not understood.
    pub(super) fn pulled_at(&self) -> Result<Option<Timestamp>, jiff::Error> {
        latest(self.images.iter().map(|image| &image.last_pulled).chain([&self.tag_last_pulled]))
    }
}

impl WireImage {
    /// Returns true for what no container runs: build tools put attestations beside images, for an unknown platform.
    pub(super) fn is_attestation(&self) -> bool {
        self.os.as_deref() == Some("unknown")
    }
}

/// Returns the latest of several times, of which some may be missing. The year 1 stands for none.
fn latest<'a>(texts: impl Iterator<Item = &'a Option<String>>) -> Result<Option<Timestamp>, jiff::Error> {
    let mut latest = None;
    for text in texts.flatten().filter(|text| !text.is_empty()) {
        let time: Timestamp = text.parse()?;
        latest = latest.max(Some(time).filter(|time| time.as_second() > 0));
    }
    Ok(latest)
}

/// An error of the API, in one of its forms.
#[derive(Debug, Default, Deserialize)]
struct WireProblem {
    #[serde(default, deserialize_with = "lenient")]
    message: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    detail: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    text: Option<String>,
}

/// Returns the API's own words of an error.
pub(super) fn words(response: &Response) -> String {
    let found: WireProblem = if response.is_web_page() {
        WireProblem::default()
    } else {
        parse_json_lossy(&response.body).unwrap_or_default()
    };
    let words = [found.message, found.detail, found.text].into_iter().flatten().find(|words| !words.is_empty());
    words.map_or_else(|| response.description(), |words| one_line(&words))
}

/// Returns true where Docker Hub says in its own words that something does not exist.
pub(super) fn is_absence(response: &Response) -> bool {
    response.status == StatusCode::NOT_FOUND && words(response) != response.description()
}

/// Returns true where a refusal is about an immutable tag. Its status is not documented.
pub(super) fn is_lock(response: &Response) -> bool {
    matches!(response.status.as_u16(), 400 | 403 | 405 | 409 | 412 | 422)
        && words(response) != response.description()
        && words(response).to_ascii_lowercase().contains("immutab")
}

/// Returns the error that an answer is, in Docker Hub's words and with what to do.
pub(super) fn refusal(response: &Response) -> RegistryError {
    let kind = match response.status {
        StatusCode::NOT_FOUND => RegistryErrorKind::Malformed,
        _ => response.status_error().kind,
    };
    let told = words(response);
    let message = if told == response.description() { told } else { format!("{} ({told})", response.description()) };
    let help = match kind {
        RegistryErrorKind::Malformed => {
            "these are not Docker Hub's words: check the registry's `endpoint`, and proxies"
        }
        RegistryErrorKind::Denied | RegistryErrorKind::Unauthenticated => {
            "check the registry's `auth`: the token needs the scope to read, and to remove tags `Read, Write, Delete`"
        }
        RegistryErrorKind::Throttled => "lower the registry's `concurrency`, or set `rates`",
        _ => return response.status_error(),
    };
    RegistryError::new(kind, message).with_help(help)
}
