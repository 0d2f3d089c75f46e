//! Evidence from outside about images in use: one trait, one file for each kind of source, and [`gather()`].

mod acr_pulls;
mod azure;
mod docker;
mod document;
mod encoding;
mod field_path;
mod file_version;
mod forms;
pub mod fuzzing;
mod gather;
mod git_history;
mod glob_files;
mod http_references;
mod image_field;
mod image_references;
mod image_syntax;
mod known_hosts;
mod kubernetes;
mod object_texts;
mod release_records;
mod stable_read;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::{Claim, Failure, RegistryName, SourceName, TextIndex, UnresolvedReference};

pub use acr_pulls::{AcrPulls, LoginServer, PullSettings, WorkspaceId};
pub use azure::{AzureScope, AzureService, AzureWorkloads};
pub use docker::{Docker, DockerSocket};
pub use field_path::{FieldPath, InvalidPath};
pub use gather::{GatherContext, fail_empty_sources, gather, gather_about, mention_note, record_mentions, source};
pub use git_history::{GitHistory, GitHistorySettings, RevisionFiles, read_revision};
pub use http_references::{DocumentFormat, HttpDocument, HttpReferences, SecretHeader};
pub use image_references::ImageReferences;
pub use kubernetes::{Access, CustomResource, Helm, Kubernetes, KubernetesSettings, Preset, kubernetes_rights};
pub use release_records::ReleaseRecords;
pub use text::{MentionEffect, TextException, TextSettings, UnresolvedEffect};

/// The settings of one source.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// Its name in the settings.
    pub name: SourceName,
    /// Its kind and location.
    pub kind: SourceKind,
    /// The registries that it protects; `None` means all.
    pub registries: Option<Vec<RegistryName>>,
    /// The maximum age of its evidence; older evidence is a failure.
    pub max_age: Option<Duration>,
    /// True if an answer without any claim is acceptable.
    pub allow_empty: bool,
    /// The minimum number of claims; fewer are a failure.
    pub min_claims: Option<usize>,
    /// Its deadline.
    pub deadline: Duration,
    /// The options for reading its texts.
    pub texts: TextSettings,
}

/// The kinds of sources.
#[expect(clippy::large_enum_variant, reason = "there are few of them, read once")]
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// Release records in JSON or YAML files.
    ReleaseRecords(FileSet),
    /// Image references in any text files.
    ImageReferences(FileSet),
    /// A Kubernetes cluster.
    Kubernetes(Box<KubernetesSettings>),
    /// Image references in the response of a URL.
    HttpReferences(HttpDocument),
    /// The containers of a host.
    Docker(DockerSocket),
    /// A service of Azure.
    Azure(AzureService, AzureScope),
    /// The pulls of Azure container registries.
    AcrPulls(Box<PullSettings>),
    /// The history of a git repository.
    GitHistory(GitHistorySettings),
}

/// Files by glob, relative to a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSet {
    /// The folder that relative globs start from: that of the settings file.
    pub base: PathBuf,
    /// The globs as written.
    pub globs: Vec<String>,
}

/// A full answer of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceEvidence {
    /// Its claims.
    pub claims: Vec<Claim>,
    /// Its references that name repositories without identifying an image.
    pub unresolved: Vec<UnresolvedReference>,
    /// The words of its texts: tags that they name are protected.
    pub texts: TextIndex,
    /// The words of texts whose mentions are only reported.
    pub report_only_texts: TextIndex,
    /// Time of the evidence, for `max_age`: as it states itself, else by its files' times. Each source documents its
    /// choice among several.
    pub as_of: Option<Timestamp>,
    /// Remarks for people although nothing failed.
    pub notes: Vec<String>,
    /// Why records protect nothing any more: with their places.
    pub ended: Vec<String>,
}

/// Why a source did not answer in full. A partial answer is a failure.
///
/// Its kind is a short label for metrics and scripts, such as `unreadable` or `malformed`. Its place is a file and line, or
/// an address.
pub type SourceError = Failure<&'static str>;

impl SourceError {
    /// Returns the error of a source whose thread panicked.
    fn panicked() -> Self {
        Self::new("panicked", "reading it broke off with a panic, which is a bug").with_help("the log has the place")
    }
}

/// An external source of evidence about images in use.
#[async_trait]
pub trait Source: Send + Sync {
    /// Queries all claims as of `now`.
    ///
    /// # Errors
    /// Returns an error if anything could not be read or understood.
    async fn query(&self, now: Timestamp) -> Result<SourceEvidence, SourceError>;
}

impl SourceKind {
    /// Returns true if it queries the runtime directly, so that the answer is current and has no age.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Docker(_) | Self::Azure(..))
    }

    /// Returns true if it reads texts, in which tags may be mentioned.
    #[must_use]
    pub fn reads_texts(&self) -> bool {
        !matches!(self, Self::ReleaseRecords(_) | Self::Docker(_) | Self::AcrPulls(_))
    }

    /// Returns the label used in settings and reports.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ReleaseRecords(_) => "release-records",
            Self::ImageReferences(_) => "image-references",
            Self::Kubernetes(_) => "kubernetes",
            Self::HttpReferences(_) => "references-http",
            Self::Docker(_) => "docker",
            Self::Azure(service, _) => service.label(),
            Self::AcrPulls(_) => "acr-pulls",
            Self::GitHistory(_) => "git-history",
        }
    }
}

/// The number of problems or notes that are listed in full.
pub const MAX_MESSAGES: usize = 20;

/// Returns as many of the texts as a person would read, and the number of omitted ones.
#[must_use]
pub fn truncate_messages(texts: Vec<String>) -> Vec<String> {
    let count = texts.len() as u64;
    truncate_counted_messages(texts, count)
}

/// Does the same for the first of `count` texts.
#[must_use]
pub fn truncate_counted_messages(mut texts: Vec<String>, count: u64) -> Vec<String> {
    texts.truncate(MAX_MESSAGES);
    let more = count.saturating_sub(texts.len() as u64);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts
}
