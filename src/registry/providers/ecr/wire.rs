//! The shapes of the API of Amazon ECR, by the names of its published description (version 2015-09-21).

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::api::Page;
use crate::domain::{Digest, RepositoryName, TagName};
use crate::registry::client::wire::lenient;
use crate::registry::{RegistryError, RegistryErrorKind, RemovalResponse};

/// `DescribeRepositoriesResponse`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireRepositories {
    repositories: Vec<WireRepository>,
    next_token: Option<String>,
}

/// `Repository`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireRepository {
    pub(super) repository_name: String,
}

impl Page for WireRepositories {
    type Row = WireRepository;

    fn into_parts(self) -> (Vec<WireRepository>, Option<String>) {
        (self.repositories, self.next_token)
    }
}

/// `DescribeImagesResponse`. Each row is a [`WireImage`], or in doubt by itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireImages {
    pub(super) image_details: Vec<Value>,
    next_token: Option<String>,
}

impl Page for WireImages {
    type Row = Value;

    fn into_parts(self) -> (Vec<Value>, Option<String>) {
        (self.image_details, self.next_token)
    }
}

/// `ImageDetail`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireImage {
    pub(super) image_digest: String,
    #[serde(default)]
    pub(super) image_tags: Vec<String>,
    /// With its layers; of an index the size of its largest image.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) image_size_in_bytes: Option<u64>,
    /// The push of the image; a tag may have come to it later.
    #[serde(default, deserialize_with = "time")]
    pub(super) image_pushed_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) image_manifest_media_type: Option<String>,
    /// The type of its configuration, or the `artifactType` of its manifest.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) artifact_media_type: Option<String>,
    /// To a day; missing where no pull is on record.
    #[serde(default, deserialize_with = "time")]
    pub(super) last_recorded_pull_time: Option<Timestamp>,
    #[serde(default)]
    pub(super) subject_manifest_digest: Option<String>,
    /// `ACTIVE`, `ARCHIVED` or `ACTIVATING`.
    #[serde(default)]
    image_status: Option<String>,
}

impl WireImage {
    /// Returns true if the image cannot be pulled before somebody has it brought back from the archive.
    pub(super) fn is_archived(&self) -> bool {
        self.image_status.as_deref().is_some_and(|status| status != "ACTIVE")
    }
}

/// `ImageIdentifier`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireImageId {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_tag: Option<String>,
}

impl WireImageId {
    pub(super) fn of_digest(digest: &Digest) -> Self {
        Self { image_digest: Some(digest.to_string()), image_tag: None }
    }

    pub(super) fn of_tag(tag: &TagName) -> Self {
        Self { image_digest: None, image_tag: Some(tag.to_string()) }
    }
}

/// `ImageFailure`: of one image among those of a request, whose answer has status 200 all the same.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireFailure {
    #[serde(default)]
    pub(super) image_id: WireImageId,
    #[serde(default)]
    pub(super) failure_code: String,
    #[serde(default, deserialize_with = "lenient")]
    failure_reason: String,
}

/// `BatchGetImageResponse`.
#[derive(Debug, Deserialize)]
pub(super) struct WireManifests {
    #[serde(default)]
    pub(super) images: Vec<WireManifest>,
    #[serde(default)]
    pub(super) failures: Vec<WireFailure>,
}

/// `Image`.
#[derive(Debug, Deserialize)]
pub(super) struct WireManifest {
    #[serde(rename = "imageId")]
    pub(super) id: WireImageId,
    #[serde(default, rename = "imageManifest")]
    pub(super) manifest: String,
    #[serde(default, rename = "imageManifestMediaType", deserialize_with = "lenient")]
    pub(super) media_type: Option<String>,
}

/// `PutImageResponse`.
#[derive(Debug, Deserialize)]
pub(super) struct WirePutImage {
    pub(super) image: WireManifest,
}

/// `BatchDeleteImageResponse`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireDeletion {
    #[serde(default)]
    image_ids: Vec<WireImageId>,
    #[serde(default)]
    failures: Vec<WireFailure>,
}

/// `ListImageReferrersResponse`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireReferrers {
    #[serde(default)]
    referrers: Vec<WireReferrer>,
    next_token: Option<String>,
}

/// `ImageReferrer`.
#[derive(Debug, Deserialize)]
pub(super) struct WireReferrer {
    pub(super) digest: String,
}

impl Page for WireReferrers {
    type Row = WireReferrer;

    fn into_parts(self) -> (Vec<WireReferrer>, Option<String>) {
        (self.referrers, self.next_token)
    }
}

/// `GetLifecyclePolicyResponse`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireLifecyclePolicy {
    /// JSON in a text.
    pub(super) lifecycle_policy_text: String,
}

/// `DescribePullThroughCacheRulesResponse`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireCacheRules {
    #[serde(default)]
    pull_through_cache_rules: Vec<WireCacheRule>,
    next_token: Option<String>,
}

/// `PullThroughCacheRule`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireCacheRule {
    pub(super) ecr_repository_prefix: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) upstream_registry_url: String,
}

impl Page for WireCacheRules {
    type Row = WireCacheRule;

    fn into_parts(self) -> (Vec<WireCacheRule>, Option<String>) {
        (self.pull_through_cache_rules, self.next_token)
    }
}

/// Reads seconds since 1970, with a fraction. Anything else counts as missing: what is not dated stays.
fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Timestamp>, D::Error> {
    let seconds: Option<f64> = lenient(input)?;
    #[expect(clippy::cast_possible_truncation, reason = "a time beyond the range of integers is out of that of times")]
    let millis = seconds.map(|seconds| (seconds * 1000.0) as i64);
    Ok(millis.and_then(|millis| Timestamp::from_millisecond(millis).ok()))
}

impl WireFailure {
    /// Returns true if the image or the tag is not there, or the tag is at another image.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self.failure_code.as_str(), "ImageNotFound" | "ImageTagDoesNotMatchDigest")
    }

    /// Returns the error that a failure means.
    pub(super) fn error(&self, repository: &RepositoryName) -> RegistryError {
        let Self { failure_code: code, failure_reason: reason, image_id } = self;
        let named = [&image_id.image_tag, &image_id.image_digest].into_iter().flatten().map(String::as_str);
        let named = named.collect::<Vec<_>>().join(" at ");
        let (kind, help) = match code.as_str() {
            "ImageNotFound" | "ImageTagDoesNotMatchDigest" => (RegistryErrorKind::NotFound, ""),
            "ImageReferencedByManifestList" => (RegistryErrorKind::Locked, "an index lists it, and has to go first"),
            "ImageInaccessible" => {
                (RegistryErrorKind::Locked, "it is archived, or cannot be read for another reason; bring it back first")
            }
            "KmsError" => (
                RegistryErrorKind::Denied,
                "the repository is encrypted with a key that cannot be used now: check its policy",
            ),
            "UpstreamTooManyRequests" | "UpstreamUnavailable" | "UpstreamAccessDenied" => {
                (RegistryErrorKind::Status(200), "the repository caches another registry, which did not answer")
            }
            // Named wrongly by this program, or a code of later days: it says that nothing was done.
            _ => (RegistryErrorKind::Status(200), ""),
        };
        let message = format!("{repository}: Amazon ECR answered {code} for {named}: {reason}");
        RegistryError::new(kind, crate::http_client::one_line(&message)).with_help(help)
    }
}

impl WireDeletion {
    /// Returns the result that an answer to the removal of one image or tag means.
    ///
    /// # Errors
    /// When it was refused, or the answer does not speak of it.
    pub(super) fn result(
        self,
        repository: &RepositoryName,
        sent: &WireImageId,
    ) -> Result<RemovalResponse, RegistryError> {
        if let Some(failure) = self.failures.first() {
            return if failure.is_absence() {
                Ok(RemovalResponse::AlreadyMissing)
            } else {
                Err(failure.error(repository))
            };
        }
        let named = |done: &WireImageId| match &sent.image_tag {
            Some(tag) => done.image_tag.as_ref() == Some(tag),
            None => done.image_digest == sent.image_digest,
        };
        let mut done = self.image_ids.iter().filter(|done| named(done)).peekable();
        if done.peek().is_some() && sent.image_tag.is_none() {
            // An image has a row for each of its tags.
            let tags = done.filter_map(|done| done.image_tag.as_deref()?.parse().ok());
            return Ok(RemovalResponse::Deleted { tags: tags.collect() });
        }
        if let Some(done) = done.next() {
            // The image that the tag was at in that instant.
            let digest = done.image_digest.as_ref().and_then(|text| text.parse().ok());
            return Ok(RemovalResponse::Removed { request_id: String::new(), digest });
        }
        let message = format!("{repository}: the answer to BatchDeleteImage does not say what became of the image");
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        for (written, expected) in [
            (json!(1_795_176_000), Some(1_795_176_000)),
            (json!(1_795_176_000.123), Some(1_795_176_000)),
            (json!(1e300), None),
            (json!("2026-11-20"), None),
            (json!(null), None),
        ] {
            let image: WireImage =
                serde_json::from_value(json!({ "imageDigest": "x", "imagePushedAt": written })).unwrap();
            assert_eq!(image.image_pushed_at.map(Timestamp::as_second), expected, "{written}");
        }
    }

    #[test]
    fn each_failure_is_what_it_means() {
        let (repository, sent) =
            ("shop/api".parse().unwrap(), WireImageId { image_digest: Some("d".into()), image_tag: Some("v1".into()) });
        let result = |code: &str| {
            let answer = json!({ "failures": [{ "imageId": { "imageTag": "v1" }, "failureCode": code, "failureReason": "so" }], "imageIds": [] });
            serde_json::from_value::<WireDeletion>(answer).unwrap().result(&repository, &sent)
        };
        for code in ["ImageNotFound", "ImageTagDoesNotMatchDigest"] {
            assert_eq!(result(code).unwrap(), RemovalResponse::AlreadyMissing);
        }
        for (code, kind) in [
            ("ImageReferencedByManifestList", RegistryErrorKind::Locked),
            ("ImageInaccessible", RegistryErrorKind::Locked),
            ("KmsError", RegistryErrorKind::Denied),
            ("UpstreamUnavailable", RegistryErrorKind::Status(200)),
            ("MissingDigestAndTag", RegistryErrorKind::Status(200)),
            ("OfLaterDays", RegistryErrorKind::Status(200)),
        ] {
            let error = result(code).unwrap_err();
            assert_eq!(error.kind, kind, "{code}");
            assert!(error.chain().contains(code) && !error.is_ambiguous(), "{}", error.chain());
        }
        let silent: WireDeletion =
            serde_json::from_value(json!({ "imageIds": [{ "imageTag": "v2" }], "failures": [] })).unwrap();
        assert_eq!(silent.result(&repository, &sent).unwrap_err().kind, RegistryErrorKind::Malformed);
        let done: WireDeletion =
            serde_json::from_value(json!({ "imageIds": [{ "imageTag": "v1", "imageDigest": "d" }] })).unwrap();
        assert!(matches!(done.result(&repository, &sent).unwrap(), RemovalResponse::Removed { .. }));
        let row = |tag: Option<&str>, digest: &str| json!({ "imageTag": tag, "imageDigest": digest });
        let rows =
            json!({ "imageIds": [row(Some("v1"), "d"), row(Some("v3"), "e"), row(None, "d"), row(Some("v2"), "d")] });
        let whole: WireDeletion = serde_json::from_value(rows).unwrap();
        let sent = WireImageId { image_digest: Some("d".into()), image_tag: None };
        let tags = ["v1", "v2"].map(|tag| tag.parse().unwrap()).to_vec();
        assert_eq!(whole.result(&repository, &sent).unwrap(), RemovalResponse::Deleted { tags });
    }
}
