//! The wire format of Artifactory's answers.

use jiff::Timestamp;
use serde::Deserialize;

/// The files that a tag's folder has its manifest in: an image, an index.
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const INDEX: &str = "list.manifest.json";

/// The answer to a search.
#[derive(Debug, Deserialize)]
pub(super) struct WireSearch {
    pub(super) results: Vec<WireItem>,
    #[serde(default)]
    pub(super) range: WireRange,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct WireRange {
    /// A remark that Artifactory trimmed the results.
    #[serde(default)]
    pub(super) notification: Option<String>,
}

/// A file that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct WireItem {
    pub(super) repo: String,
    /// The folder that it is in.
    pub(super) path: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) created: Option<Timestamp>,
    #[serde(default)]
    pub(super) modified: Option<Timestamp>,
    /// In hexadecimal digits; missing where it was never calculated.
    #[serde(default)]
    pub(super) sha256: Option<String>,
    /// One entry, or none if it was never downloaded.
    #[serde(default)]
    pub(super) stats: Vec<WireStats>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct WireStats {
    #[serde(default)]
    pub(super) downloads: Option<u64>,
    #[serde(default)]
    pub(super) downloaded: Option<Timestamp>,
}

/// A repository of Artifactory.
#[derive(Debug, Deserialize)]
pub(super) struct WireRepository {
    pub(super) key: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

impl WireItem {
    /// Returns the time of the last push: a push to the tag overwrites the file, and keeps its creation.
    pub(super) fn pushed_at(&self) -> Option<Timestamp> {
        self.modified.max(self.created)
    }

    /// Returns the last download: `Ok(None)` if there was none, `Err` if there was one at an unknown time.
    pub(super) fn last_download(&self) -> Result<Option<Timestamp>, ()> {
        let stats = self.stats.iter().filter(|stats| stats.downloads != Some(0) || stats.downloaded.is_some());
        let mut last = None;
        for stats in stats {
            match (stats.downloaded, stats.downloads) {
                (Some(at), _) => last = last.max(Some(at)),
                (None, Some(_)) => return Err(()),
                (None, None) => {}
            }
        }
        Ok(last)
    }
}
