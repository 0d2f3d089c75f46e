//! The shapes of Harbor's answers (definitions of `api/v2.0/swagger.yaml`), and its errors.

use http::StatusCode;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::domain::Lock;
use crate::http_client::{Response, first_error};
use crate::registry::client::wire::lenient;
use crate::registry::{RegistryError, RegistryErrorKind};

/// `Project`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct WireProject {
    pub(super) project_id: i64,
    pub(super) name: String,
    /// The registry of which the project is a cache; missing or 0 for any other.
    #[serde(default)]
    registry_id: Option<i64>,
    #[serde(default, deserialize_with = "nullable")]
    metadata: WireProjectMetadata,
}

/// `ProjectMetadata`.
#[derive(Debug, Clone, Default, Deserialize)]
struct WireProjectMetadata {
    /// A text, in which Harbor writes a number.
    #[serde(default)]
    retention_id: Value,
}

/// `Repository`.
#[derive(Debug, Deserialize)]
pub(super) struct WireRepository {
    pub(super) name: String,
}

/// `Artifact`.
#[derive(Debug, Deserialize)]
pub(super) struct WireArtifact {
    pub(super) digest: String,
    /// The type of its configuration; of an index its own.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) media_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) manifest_media_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) artifact_type: Option<String>,
    /// With everything in it: layers and configuration, and the images of an index.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) size: Option<u64>,
    #[serde(default, deserialize_with = "time")]
    pub(super) push_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub(super) pull_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) references: Vec<WireReference>,
    /// Each is a [`WireTag`], or in doubt by itself.
    #[serde(default, deserialize_with = "nullable")]
    pub(super) tags: Vec<Value>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) accessories: Vec<WireAccessory>,
}

/// `Tag`.
#[derive(Debug, Deserialize)]
pub(super) struct WireTag {
    pub(super) name: String,
    #[serde(default, deserialize_with = "time")]
    pub(super) push_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pull_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "switch")]
    immutable: bool,
}

/// `Reference`: a manifest that an index lists.
#[derive(Debug, Deserialize)]
pub(super) struct WireReference {
    pub(super) child_digest: String,
    #[serde(default, deserialize_with = "lenient")]
    platform: Option<WirePlatform>,
}

/// `Platform`.
#[derive(Debug, Default, Deserialize)]
struct WirePlatform {
    #[serde(default, deserialize_with = "lenient")]
    architecture: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    os: Option<String>,
}

/// `Accessory`: what refers to an artifact.
#[derive(Debug, Deserialize)]
pub(super) struct WireAccessory {
    pub(super) digest: String,
    #[serde(default, deserialize_with = "lenient")]
    size: Option<u64>,
    /// Such as `signature.cosign`.
    #[serde(default, rename = "type", deserialize_with = "lenient")]
    kind: Option<String>,
}

/// `GeneralInfo`.
#[derive(Debug, Deserialize)]
pub(super) struct WireSystemInfo {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) read_only: Option<bool>,
}

/// `Permission`.
#[derive(Debug, Deserialize)]
pub(super) struct WirePermission {
    pub(super) resource: String,
    pub(super) action: String,
}

/// `GCHistory`, as which Harbor shows the schedule of garbage collection.
#[derive(Debug, Deserialize)]
pub(super) struct WireGarbageCollection {
    #[serde(default)]
    pub(super) schedule: Option<WireSchedule>,
    /// JSON in a text.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) job_parameters: Option<String>,
}

/// `ScheduleObj`.
#[derive(Debug, Deserialize)]
pub(super) struct WireSchedule {
    #[serde(default, rename = "type", deserialize_with = "lenient")]
    pub(super) kind: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) cron: Option<String>,
}

/// `RetentionPolicy`.
#[derive(Debug, Deserialize)]
pub(super) struct WireRetention {
    /// An answer without them is about something else.
    #[serde(deserialize_with = "nullable")]
    pub(super) rules: Vec<WireRetentionRule>,
    #[serde(default)]
    trigger: Value,
}

/// `RetentionRule`: what it selects, Harbor retains.
#[derive(Debug, Deserialize)]
pub(super) struct WireRetentionRule {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) disabled: bool,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) template: Option<String>,
    #[serde(default)]
    pub(super) params: Value,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) tag_selectors: Vec<WireSelector>,
    #[serde(default)]
    pub(super) scope_selectors: Option<std::collections::BTreeMap<String, Vec<WireSelector>>>,
}

/// `RetentionSelector`.
#[derive(Debug, Deserialize)]
pub(super) struct WireSelector {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) decoration: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) pattern: Option<String>,
    /// JSON in a text.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) extras: Option<String>,
}

/// `Quota`.
#[derive(Debug, Deserialize)]
pub(super) struct WireQuota {
    #[serde(default, rename = "ref")]
    reference: Value,
    #[serde(default)]
    used: Value,
}

/// Harbor writes `null` where a list is empty. Anything else than what is expected is an error: an index whose images are
/// not understood is not one without images.
fn nullable<'de, D: Deserializer<'de>, T: Default + DeserializeOwned>(input: D) -> Result<T, D::Error> {
    Option::deserialize(input).map(Option::unwrap_or_default)
}

/// Reads whether a tag is immutable. A value that is not understood counts as a lock.
fn switch<'de, D: Deserializer<'de>>(input: D) -> Result<bool, D::Error> {
    Ok(!matches!(Value::deserialize(input)?, Value::Null | Value::Bool(false)))
}

/// Reads a time. Harbor writes the zero of its language, which is in the year 1, where it has none.
fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Timestamp>, D::Error> {
    const FIRST_SECOND_OF_YEAR_2: i64 = -62_104_060_800;
    let text: Option<String> = lenient(input)?;
    let found: Option<Timestamp> = text.and_then(|text| text.trim().parse().ok());
    Ok(found.filter(|time| time.as_second() >= FIRST_SECOND_OF_YEAR_2))
}

impl WireProject {
    /// Returns true for the cache of another registry.
    pub(super) fn is_proxy_cache(&self) -> bool {
        self.registry_id.is_some_and(|id| id != 0)
    }

    /// The id of its tag retention policy; `None` if it has none.
    ///
    /// # Errors
    /// Returns what stands there, if that is not an id.
    pub(super) fn retention_id(&self) -> Result<Option<u64>, String> {
        let shown = match &self.metadata.retention_id {
            Value::Null => return Ok(None),
            Value::String(text) if text.is_empty() => return Ok(None),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        shown.parse().map(Some).map_err(|_| shown)
    }
}

impl WireTag {
    /// An immutable tag can neither be removed nor moved.
    pub(super) fn lock(&self) -> Option<Lock> {
        self.immutable.then_some(Lock::DeleteAndWrite)
    }

    /// The last pull by this tag, or by the digest of its artifact: a runtime that resolves the tag first pulls by digest.
    pub(super) fn pulled_at(&self, artifact: Option<Timestamp>) -> Option<Timestamp> {
        self.pull_time.max(artifact)
    }
}

impl WireReference {
    /// The platform as an index gives it: none, one that a container may run on, or the `unknown` of attestations.
    pub(super) fn platform(&self) -> ListedPlatform {
        let known = |part: &Option<String>| part.clone().filter(|part| !part.is_empty());
        match self.platform.as_ref().map(|platform| (known(&platform.os), known(&platform.architecture))) {
            Some((Some(os), _)) if os == "unknown" => ListedPlatform::Unknown,
            Some((Some(_), Some(_))) => ListedPlatform::Known,
            _ => ListedPlatform::Missing,
        }
    }
}

/// The platform that an index gives for a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListedPlatform {
    /// One that a container may run on.
    Known,
    /// `unknown`, as builders write it for attestations.
    Unknown,
    /// None: it may be another index.
    Missing,
}

impl WireAccessory {
    /// Bytes of it.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Returns true for signatures and SBOMs, which list no manifests. Others may be indexes.
    pub(super) fn lists_nothing(&self) -> bool {
        matches!(self.kind.as_deref(), Some("signature.cosign" | "signature.notation" | "sbom.harbor"))
    }
}

impl WireSchedule {
    /// Returns true if it starts something by itself, and `None` if it does not say.
    pub(super) fn is_active(&self) -> Option<bool> {
        let kind = self.kind.as_deref().filter(|kind| !kind.is_empty())?;
        Some(!matches!(kind, "None" | "Manual"))
    }
}

impl WireRetention {
    /// Returns what starts it.
    pub(super) fn trigger(&self) -> RetentionTrigger<'_> {
        match (self.trigger["kind"].as_str(), &self.trigger["settings"]["cron"]) {
            (Some("Schedule"), Value::Null) => RetentionTrigger::Person,
            (Some("Schedule"), Value::String(cron)) if cron.is_empty() => RetentionTrigger::Person,
            (Some("Schedule"), Value::String(cron)) => RetentionTrigger::Cron(cron),
            _ => RetentionTrigger::Unknown,
        }
    }
}

/// What starts a tag retention policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetentionTrigger<'a> {
    /// A person alone.
    Person,
    /// A schedule, in cron's words.
    Cron(&'a str),
    /// Something that is not understood.
    Unknown,
}

impl WireQuota {
    /// The project that it is of.
    pub(super) fn project(&self) -> Option<&str> {
        self.reference["name"].as_str()
    }

    /// Bytes that the project stores.
    pub(super) fn used_bytes(&self) -> Option<u64> {
        self.used["storage"].as_u64()
    }
}

/// The right that a request needs, in the words of Harbor's robot accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// To list and read.
    Read,
    /// To remove tags.
    Remove,
    /// To put tags back.
    Restore,
    /// To delete artifacts.
    Delete,
    /// To read the tag retention policy of a project.
    Retention,
    /// To read the schedule of garbage collection.
    GarbageCollection,
    /// To read what projects store.
    Quota,
}

impl Right {
    fn advice(self) -> &'static str {
        match self {
            Self::Read => {
                "the account needs `List` and `Read` of `Repository` and `Artifact`, and `List` of `Tag` and `Accessory`: check `auth`"
            }
            Self::Remove => "the account needs `Delete` of `Tag` in the project: check `auth`",
            Self::Restore => "the account needs `Create` of `Tag` in the project: check `auth`",
            Self::Delete => "the account needs `Delete` of `Artifact` in the project: check `auth`",
            Self::Retention => "the account needs `Read` of `Tag Retention` in the project",
            Self::GarbageCollection => "the account needs the system permission `Read` of `Garbage Collection`",
            Self::Quota => "the account needs the system permission `List` of `Quota`",
        }
    }
}

/// The code in Harbor's own words, such as `NOT_FOUND`.
pub(super) fn code(response: &Response) -> Option<String> {
    if response.is_web_page() {
        return None;
    }
    response.error_code().filter(|code| !code.is_empty())
}

/// Returns true for Harbor's own word that something is not there. The 404 of a proxy says nothing of a tag.
pub(super) fn is_absence(response: &Response) -> bool {
    response.status == StatusCode::NOT_FOUND && code(response).as_deref() == Some("NOT_FOUND")
}

/// Returns true where Harbor says that the whole system is read-only.
pub(super) fn is_read_only(response: &Response) -> bool {
    let words = first_error(&response.body).map(|error| error.message).unwrap_or_default();
    code(response).as_deref() == Some("DENIED") && words.contains("read only mode")
}

/// The answer as the error that it is, in Harbor's words and with what to do.
pub(super) fn refusal(response: &Response, needed: Right) -> RegistryError {
    let kind = match response.status {
        StatusCode::NOT_FOUND if !is_absence(response) => RegistryErrorKind::Malformed,
        _ => response.status_error().kind,
    };
    error(response, kind, needed)
}

/// The answer as an error of that kind.
pub(super) fn error(response: &Response, kind: RegistryErrorKind, needed: Right) -> RegistryError {
    let help = match kind {
        RegistryErrorKind::Denied | RegistryErrorKind::Unauthenticated
            if response.status == StatusCode::UNAUTHORIZED =>
        {
            "Harbor does not know the account, or its secret expired or is another one: check `auth`"
        }
        RegistryErrorKind::Denied | RegistryErrorKind::Unauthenticated => needed.advice(),
        RegistryErrorKind::Malformed if response.status == StatusCode::NOT_FOUND => {
            "these are not Harbor's words: check the registry's `endpoint` and `kind`"
        }
        _ => return response.error(kind),
    };
    RegistryError::new(kind, response.description()).with_help(help)
}

#[cfg(test)]
mod tests {
    use http::header::HeaderMap;
    use serde_json::json;

    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
            request: "GET https://harbor.example/api/v2.0/x".into(),
        }
    }

    #[test]
    fn only_harbors_own_word_makes_something_absent() {
        let own = r#"{"errors":[{"code":"NOT_FOUND","message":"artifact shop/api:v1 not found"}]}"#;
        for (status, body, absent) in [
            (404, own, true),
            (404, "", false),
            (404, "404 page not found", false),
            (404, "<html>404</html>", false),
            (404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, false),
            (404, r#"{"code":404,"message":"path /api/v2.0/x was not found"}"#, false),
            (410, own, false),
        ] {
            assert_eq!(is_absence(&response(status, body)), absent, "{status} {body}");
        }
    }

    #[test]
    fn refusals_name_the_right_that_is_missing() {
        let body = r#"{"errors":[{"code":"FORBIDDEN","message":"forbidden"}]}"#;
        let found = refusal(&response(403, body), Right::Remove);
        assert_eq!(found.kind, RegistryErrorKind::Denied);
        assert!(found.chain().contains("(FORBIDDEN: forbidden)"), "{found}");
        assert!(found.chain().contains("`Delete` of `Tag`"), "{found}");
        let found = refusal(&response(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#), Right::Remove);
        assert!(found.chain().contains("its secret expired"), "{found}");
        let found = refusal(&response(404, "404 page not found"), Right::Read);
        assert_eq!(found.kind, RegistryErrorKind::Malformed);
        assert!(found.chain().contains("`endpoint` and `kind`"), "{found}");
    }

    #[test]
    fn times_of_the_year_1_are_none() {
        for (text, expected) in [
            (json!("0001-01-01T00:00:00.000Z"), None),
            (json!("0001-12-31T23:59:59Z"), None),
            (json!("2026-11-20T12:00:00.123Z"), Some(1_795_176_000)),
            (json!("soon"), None),
            (json!(7), None),
            (json!(null), None),
        ] {
            let tag: WireTag = serde_json::from_value(json!({ "name": "a", "push_time": text })).unwrap();
            assert_eq!(tag.push_time.map(Timestamp::as_second), expected, "{text}");
        }
    }

    #[test]
    fn a_tag_counts_as_pulled_by_its_name_or_by_its_digest() {
        let tag = |pull_time: &str| -> WireTag {
            serde_json::from_value(json!({ "name": "a", "pull_time": pull_time })).unwrap()
        };
        let second = |text: &str| text.parse::<Timestamp>().unwrap();
        let (none, early, late) = ("0001-01-01T00:00:00.000Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
        assert_eq!(tag(none).pulled_at(None), None);
        assert_eq!(tag(early).pulled_at(None), Some(second(early)));
        assert_eq!(tag(none).pulled_at(Some(second(late))), Some(second(late)));
        assert_eq!(tag(late).pulled_at(Some(second(early))), Some(second(late)));
    }

    #[test]
    fn what_is_not_understood_of_an_index_or_a_lock_is_not_left_out() {
        for artifact in [
            json!({ "digest": "x", "references": "none" }),
            json!({ "digest": "x", "references": [{ "platform": null }] }),
            json!({ "digest": "x", "accessories": { "digest": "y" } }),
            json!({ "digest": "x", "tags": 1 }),
            json!({ "tags": [] }),
        ] {
            assert!(serde_json::from_value::<WireArtifact>(artifact.clone()).is_err(), "{artifact}");
        }
        for (value, lock) in [
            (json!(false), None),
            (json!(null), None),
            (json!(true), Some(Lock::DeleteAndWrite)),
            (json!("by rule 7"), Some(Lock::DeleteAndWrite)),
        ] {
            let tag: WireTag = serde_json::from_value(json!({ "name": "a", "immutable": value })).unwrap();
            assert_eq!(tag.lock(), lock, "{value}");
        }
    }
}
