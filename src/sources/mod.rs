//! What the world outside says about images: one trait, one file for each kind of source, and [`gather`].

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::{Claim, RegistryName, SourceName};

/// One source as the settings give it.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// Its name in the settings.
    pub name: SourceName,
    /// What it is and where it reads.
    pub kind: SourceKind,
    /// The registries that it protects; nothing means all.
    pub registries: Option<Vec<RegistryName>>,
    /// Evidence older than this counts as failed.
    pub max_age: Option<Duration>,
    /// Whether an answer without any claim is an answer.
    pub allow_empty: bool,
    /// Fewer claims than this count as failed.
    pub min_claims: Option<usize>,
    /// How long it may take.
    pub deadline: Duration,
}

/// The kinds of sources.
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// Release records in JSON or YAML files.
    ReleaseRecords(FileSet),
    /// Image references in any text files.
    ImageReferences(FileSet),
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
pub struct Answer {
    /// What it claims.
    pub claims: Vec<Claim>,
    /// The time of the oldest evidence in it: its own `generated_at`, else the file's time.
    pub as_of: Option<Timestamp>,
    /// What a person should know although nothing failed.
    pub notes: Vec<String>,
}

/// Why a source did not answer in full. Part of an answer is no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// A short label for metrics and scripts, such as `unreadable` or `malformed`.
    pub kind: &'static str,
    /// What happened, where (file and line, or address), and what to do next.
    pub message: String,
}

/// Something outside that says which images matter.
#[async_trait]
pub trait Source: Send + Sync {
    /// Asks it for everything that it claims at `now`.
    ///
    /// # Errors
    /// When it could not be read whole or understood whole.
    async fn ask(&self, now: Timestamp) -> Result<Answer, SourceError>;
}

impl SourceKind {
    /// The label used in settings and reports.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ReleaseRecords(_) => "release-records",
            Self::ImageReferences(_) => "image-references",
        }
    }
}
