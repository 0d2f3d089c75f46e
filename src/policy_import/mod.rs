//! Rules of other tools, translated to policies.
//!
//! Each tool has a file with its wire shapes and its semantics. All give a [`Translation`]: policies with the original rule
//! and every difference in meaning. The promise is one-sided: **no translated policy removes what the original would have
//! kept.** Where a policy cannot say what the original says, it keeps more; where that would leave nothing of the rule, the
//! policy is left out, and stands in the file as a comment.

mod acr_purge;
mod artifact_registry;
mod ecr;
mod expression;
mod gitlab;
mod globs;
mod harbor;
mod json;
mod path_globs;
mod shell_texts;
mod shell_words;
mod translation;
mod writer;
mod zot;

use crate::domain::Failure;

pub use translation::{ImportedKeep, ImportedPolicy, ImportedRule, Remark, RemarkKind, TagSelection, Translation};

/// A tool whose rules can be translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// `acr purge` in command lines, scripts and ACR tasks.
    AcrPurge,
    /// Lifecycle policies of Amazon ECR.
    Ecr,
    /// Cleanup policies of Google Artifact Registry.
    ArtifactRegistry,
    /// Retention and immutability rules of Harbor.
    Harbor,
    /// Cleanup policies of the GitLab container registry.
    Gitlab,
    /// The retention settings of zot.
    Zot,
}

/// What a file does not say about itself.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// What the file is called in messages.
    pub file: String,
    /// The repository, project or path that the rules are set on, where the file does not name it.
    pub scopes: Vec<String>,
}

/// The class of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportErrorKind {
    /// The text is not of the tool's form.
    Unreadable,
    /// The text has the form, and no rules.
    Empty,
}

/// An error: place, cause and remedy.
pub type ImportError = Failure<ImportErrorKind>;

impl ImportErrorKind {
    /// The label of the class.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Empty => "empty",
        }
    }
}

/// A translation together with the policy file that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The policies and their differences.
    pub translation: Translation,
    /// The policy file.
    pub yaml: String,
}

impl Tool {
    /// All tools.
    pub const ALL: [Self; 6] =
        [Self::AcrPurge, Self::Ecr, Self::ArtifactRegistry, Self::Harbor, Self::Gitlab, Self::Zot];

    /// The word for it on the command line.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::AcrPurge => "acr-purge",
            Self::Ecr => "ecr",
            Self::ArtifactRegistry => "artifact-registry",
            Self::Harbor => "harbor",
            Self::Gitlab => "gitlab",
            Self::Zot => "zot",
        }
    }
}

/// In what `newest` differs from counts of tools that rank images by their own push.
const RANK_OF_LATE_TAGS: &str = "an image that got a tag later ranks by that tag here, so it may take the place of a newer \
    image, which the original keeps: let `newest` count more where old images get new tags";

/// Translates the rules of a file.
///
/// # Errors
/// The text is not the tool's, or has no rules in it.
pub fn import(tool: Tool, text: &str, options: &ImportOptions) -> Result<Import, ImportError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut translation = match tool {
        Tool::AcrPurge => acr_purge::translate(text, options)?,
        Tool::Ecr => ecr::translate(text, options)?,
        Tool::ArtifactRegistry => artifact_registry::translate(text, options)?,
        Tool::Harbor => harbor::translate(text, options)?,
        Tool::Gitlab => gitlab::translate(text, options)?,
        Tool::Zot => zot::translate(text, options)?,
    };
    let heading = format!("Translated from {} by `tagwarden import {}`.", options.file, tool.label());
    let yaml = writer::write(&mut translation, &heading)?;
    Ok(Import { translation, yaml })
}

/// An error about a text that is not the tool's.
fn unreadable(options: &ImportOptions, place: &str, message: &str) -> ImportError {
    let place = if place.is_empty() { options.file.clone() } else { format!("{}: {place}", options.file) };
    Failure::new(ImportErrorKind::Unreadable, format!("{place}: {message}"))
}
