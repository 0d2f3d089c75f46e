//! The shapes of the answers of zot's search extension: GraphQL, with names in capitals.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::http_client::one_line;
use crate::registry::client::wire::lenient;

/// An answer in GraphQL.
#[derive(Debug, Deserialize)]
pub(super) struct WireAnswer {
    #[serde(default)]
    pub(super) data: Value,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) errors: Vec<WireError>,
}

/// An error in GraphQL.
#[derive(Debug, Deserialize)]
pub(super) struct WireError {
    #[serde(default, deserialize_with = "lenient")]
    message: String,
}

impl WireError {
    pub(super) fn message(&self) -> String {
        one_line(&self.message)
    }

    /// Returns the field that this release does not have, if the error is about one.
    pub(super) fn unknown_field(&self) -> Option<&str> {
        self.message.split_once("Cannot query field \"")?.1.split('"').next()
    }
}

/// A page of images (`PaginatedImagesResult`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WirePage {
    pub(super) page: WirePageInfo,
    pub(super) results: Vec<WireImage>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WirePageInfo {
    pub(super) total_count: usize,
}

/// A tag with what it names (`ImageSummary`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireImage {
    pub(super) repo_name: String,
    pub(super) tag: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) media_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) artifact_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    size: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    download_count: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    last_pull_timestamp: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    push_timestamp: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    tagged_timestamp: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) referrers: Vec<WireReferrer>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) manifests: Vec<WireManifest>,
}

/// An image of one platform (`ManifestSummary`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireManifest {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) config_digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    size: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    download_count: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    platform: Option<WirePlatform>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) referrers: Vec<WireReferrer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WirePlatform {
    #[serde(default, deserialize_with = "lenient")]
    os: Option<String>,
}

/// Something that refers to a manifest (`Referrer`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireReferrer {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) media_type: Option<String>,
}

/// The pulls of a manifest, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulls {
    /// None is on record.
    None,
    /// The last one was at that time.
    Last(Timestamp),
    /// There may be one of which the time is not on record.
    Unknown,
}

impl WireImage {
    /// Returns the bytes of the image, layers included.
    pub(super) fn size(&self) -> Option<u64> {
        self.size.as_deref()?.parse().ok()
    }

    /// Returns the later of two times: that of the push of its manifest, and that at which the tag was made. `None` if the
    /// push is not known. A tag that moved to a manifest that had been pushed before has moved later than both.
    pub(super) fn pushed_at(&self) -> Option<Timestamp> {
        let pushed = time(self.push_timestamp.as_deref()).ok()??;
        let tagged = time(self.tagged_timestamp.as_deref()).ok()?;
        Some(tagged.map_or(pushed, |tagged| tagged.max(pushed)))
    }

    /// Returns what is known of its pulls. zot dates those of the manifest that a tag names, and only counts those of the
    /// images in an index: more of these than of the index did not come by way of it.
    pub(super) fn pulls(&self) -> Pulls {
        let (Some(own), Ok(last)) = (self.download_count, time(self.last_pull_timestamp.as_deref())) else {
            return Pulls::Unknown;
        };
        let children = self.manifests.iter().filter(|child| child.digest != self.digest);
        let inside: Option<u64> = children.map(|child| child.download_count).sum();
        match (inside, last) {
            (Some(inside), _) if inside > own => Pulls::Unknown,
            (Some(_), Some(last)) => Pulls::Last(last),
            (Some(_), None) if own == 0 => Pulls::None,
            (None, _) | (_, None) => Pulls::Unknown,
        }
    }
}

impl WireManifest {
    /// Returns the bytes of the image, layers included.
    pub(super) fn size(&self) -> Option<u64> {
        self.size.as_deref()?.parse().ok()
    }

    /// Returns true for what no container runs: build tools put attestations beside images, for an unknown platform.
    pub(super) fn is_attestation(&self) -> bool {
        self.platform.as_ref().is_some_and(|platform| platform.os.as_deref() == Some("unknown"))
    }
}

/// Reads a time. zot writes the year 1 or 1970 where it has none.
fn time(text: Option<&str>) -> Result<Option<Timestamp>, jiff::Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse::<Timestamp>().map(|time| Some(time).filter(|time| time.as_second() > 0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image(fields: &Value) -> WireImage {
        let mut row = json!({ "RepoName": "shop/api", "Tag": "v1", "Digest": "sha256:a" });
        row.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn a_tag_is_as_old_as_its_manifest_or_as_itself() {
        let (early, late) = ("2026-05-01T10:00:00.5Z", "2026-09-01T10:00:00Z");
        for (pushed, tagged, expected) in [
            (json!(early), json!(late), Some(late)),
            (json!(late), json!(early), Some(late)),
            (json!(early), Value::Null, Some(early)),
            // Without the push of the manifest, the tag may have moved there at any time.
            (json!("1970-01-01T00:00:00Z"), json!(late), None),
            (Value::Null, json!(late), None),
            (json!("0001-01-01T00:00:00Z"), json!("0001-01-01T00:00:00Z"), None),
            (json!(early), json!("lately"), None),
            (json!("lately"), Value::Null, None),
        ] {
            let found = image(&json!({ "PushTimestamp": pushed, "TaggedTimestamp": tagged })).pushed_at();
            assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{pushed} {tagged}");
        }
    }

    #[test]
    fn pulls_are_known_only_where_each_has_its_time() {
        let at = "2026-09-01T10:00:00Z";
        let last = Pulls::Last(at.parse().unwrap());
        let child = |downloads: Value| json!({ "Digest": "sha256:b", "DownloadCount": downloads });
        for (own, pulled, children, expected) in [
            (json!(0), json!("0001-01-01T00:00:00Z"), vec![], Pulls::None),
            (json!(0), json!("1970-01-01T00:00:00Z"), vec![], Pulls::None),
            (json!(3), json!(at), vec![], last),
            // Counted before zot kept times, or not counted at all.
            (json!(3), json!("1970-01-01T00:00:00Z"), vec![], Pulls::Unknown),
            (Value::Null, json!(at), vec![], Pulls::Unknown),
            (json!(3), json!("lately"), vec![], Pulls::Unknown),
            (json!(3), json!(at), vec![child(json!(2)), child(json!(1))], last),
            (json!(3), json!(at), vec![child(json!(2)), child(json!(2))], Pulls::Unknown),
            (json!(0), Value::Null, vec![child(json!(1))], Pulls::Unknown),
            (json!(0), Value::Null, vec![child(json!(0))], Pulls::None),
            (json!(3), json!(at), vec![child(Value::Null)], Pulls::Unknown),
            // The one manifest of an image is the image itself.
            (json!(3), json!(at), vec![json!({ "Digest": "sha256:a", "DownloadCount": 9 })], last),
        ] {
            let row = json!({ "DownloadCount": own, "LastPullTimestamp": pulled, "Manifests": children });
            assert_eq!(image(&row).pulls(), expected, "{row}");
        }
    }

    #[test]
    fn a_field_that_a_release_does_not_have_is_named_in_its_error() {
        let error = |message: &str| WireError { message: message.to_owned() };
        let missing =
            error("Cannot query field \"TaggedTimestamp\" on type \"ImageSummary\". Did you mean \"PushTimestamp\"?");
        assert_eq!(missing.unknown_field(), Some("TaggedTimestamp"));
        assert_eq!(error("image not found").unknown_field(), None);
    }
}
