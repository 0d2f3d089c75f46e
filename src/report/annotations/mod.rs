//! Annotations: findings with their places, in the formats that code hosts show beside a change.

mod code_quality;
mod junit;
mod policy_diff;
mod rules;
mod sarif;
mod workflow_commands;

pub use junit::{TestCaseProblem, TestCaseView, TestSuiteView, file_suites, junit, policy_test_suites};
pub use policy_diff::diff_annotations;
pub use rules::describe_rule;

use super::PolicyTestFile;
use super::humanize::sanitize;
use crate::domain::Digest;
use crate::policy::{Diagnostic, Lint, Severity};

/// The severity of an annotation, the highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnnotationLevel {
    /// The command fails because of it.
    Error,
    /// Probably a mistake.
    Warning,
    /// Possibly intended.
    Note,
}

impl AnnotationLevel {
    /// Returns `error`, `warning` or `note`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// The place of an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationPlace {
    /// The file, relative to the working folder if it is below that.
    pub file: String,
    /// The line, from 1; 0 for the whole file.
    pub line: usize,
    /// The character in the line, from 1; 0 for the whole line.
    pub column: usize,
}

/// One finding of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Its severity.
    pub level: AnnotationLevel,
    /// Its label for scripts, such as `never-expires`: see [`describe_rule`].
    pub rule: &'static str,
    /// Its place, if it belongs to a file.
    pub place: Option<AnnotationPlace>,
    /// The finding.
    pub message: String,
    /// The remedy.
    pub help: Option<String>,
}

/// The formats of annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationFormat {
    /// SARIF 2.1.0.
    Sarif,
    /// Workflow commands of GitHub Actions.
    GithubCommands,
    /// A Code Quality report of GitLab.
    GitlabCodeQuality,
    /// Logging commands of Azure Pipelines.
    AzureCommands,
}

impl Annotation {
    /// Creates an annotation of a whole command.
    #[must_use]
    pub fn new(level: AnnotationLevel, rule: &'static str, message: impl Into<String>) -> Self {
        Self { level, rule, place: None, message: message.into(), help: None }
    }

    /// Converts a problem.
    #[must_use]
    pub fn of_diagnostic(level: AnnotationLevel, rule: &'static str, diagnostic: &Diagnostic) -> Self {
        let Diagnostic { file, line, column, help, .. } = diagnostic;
        let place = Some(AnnotationPlace { file: file.clone(), line: *line, column: *column });
        Self { level, rule, place, message: diagnostic.full_message(), help: help.clone() }
    }

    /// Converts a lint.
    #[must_use]
    pub fn of_lint(lint: &Lint) -> Self {
        let level = match lint.severity {
            Severity::Warning => AnnotationLevel::Warning,
            Severity::Note => AnnotationLevel::Note,
        };
        Self::of_diagnostic(level, lint.kind, &lint.diagnostic)
    }

    /// Returns the same annotation at a place.
    #[must_use]
    pub fn at(self, file: impl Into<String>, line: usize, column: usize) -> Self {
        Self { place: Some(AnnotationPlace { file: file.into(), line, column }), ..self }
    }

    /// Returns the finding with its remedy, in one line.
    fn words(&self) -> String {
        let message = sanitize(&self.message);
        self.help.as_ref().map_or_else(|| message.clone(), |help| format!("{message} (help: {})", sanitize(help)))
    }
}

/// Returns an annotation for each tag that did not meet the expectation of its test.
#[must_use]
pub fn test_annotations(files: &[PolicyTestFile]) -> Vec<Annotation> {
    let mut found = Vec::new();
    for file in files {
        for test in &file.tests {
            for tag in test.tags.iter().filter(|tag| !tag.passed) {
                let message = format!("test `{}`: {}", test.name, tag.describe_failure());
                let line = usize::try_from(tag.line).unwrap_or_default();
                found.push(Annotation::new(AnnotationLevel::Error, "failed-test", message).at(
                    file.file.as_str(),
                    line,
                    0,
                ));
            }
        }
    }
    found
}

/// Renders annotations. `fallback` is the file that stands for the findings without a place, where a format demands one.
#[must_use]
pub fn render_annotations(format: AnnotationFormat, annotations: &[Annotation], fallback: &str) -> String {
    match format {
        AnnotationFormat::Sarif => sarif::render(annotations),
        AnnotationFormat::GithubCommands => workflow_commands::render_github(annotations),
        AnnotationFormat::GitlabCodeQuality => code_quality::render(annotations, fallback),
        AnnotationFormat::AzureCommands => workflow_commands::render_azure(annotations),
    }
}

/// Returns a hash for each annotation, by which hosts recognise it in the next report: of its rule, file and message, not
/// of its line. Equal ones are numbered.
fn fingerprints(annotations: &[Annotation]) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::new();
    let hash = |annotation: &Annotation| {
        let file = annotation.place.as_ref().map_or("", |place| place.file.as_str());
        let base = format!("{}\0{file}\0{}", annotation.rule, annotation.message);
        let count = counts.entry(base.clone()).or_insert(0_u32);
        *count += 1;
        let digest = Digest::of(format!("{base}\0{count}").as_bytes()).to_string();
        digest.trim_start_matches("sha256:").to_owned()
    };
    annotations.iter().map(hash).collect()
}
