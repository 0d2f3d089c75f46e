//! Findings of `check`, `test` and `diff` in the formats of code hosts.

use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::context::{STANDARD, describe_input};
use super::output::print_as;
use super::sanitize::OutputKind;
use crate::domain::chain;
use crate::report::{
    self, Annotation, AnnotationFormat, AnnotationLevel, AnnotationPlace, TestCaseProblem, TestCaseView, TestSuiteView,
};
use crate::workflow::RunError;

/// The formats of commands that find something in files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum FindingFormat {
    /// Text for the terminal
    #[default]
    Text,
    /// One JSON document, errors included
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML, for test reports
    Junit,
    /// Annotations of GitHub Actions
    Github,
    /// A Code Quality report of GitLab
    Gitlab,
    /// Issues in the log of Azure Pipelines
    Azure,
}

impl FindingFormat {
    /// Returns the format of annotations; `None` for those that show a whole result.
    pub(super) fn annotations(self) -> Option<AnnotationFormat> {
        match self {
            Self::Text | Self::Json | Self::Junit => None,
            Self::Sarif => Some(AnnotationFormat::Sarif),
            Self::Github => Some(AnnotationFormat::GithubCommands),
            Self::Gitlab => Some(AnnotationFormat::GitlabCodeQuality),
            Self::Azure => Some(AnnotationFormat::AzureCommands),
        }
    }

    /// Returns true if stdout shows the findings beside the lines of the log, which need not repeat them.
    pub(super) fn is_log(self) -> bool {
        matches!(self, Self::Github | Self::Azure)
    }
}

/// Prints annotations, with files relative to the working folder. `fallback` stands for findings without a file.
pub(super) fn print_annotations(format: AnnotationFormat, annotations: Vec<Annotation>, fallback: &str) {
    let annotations = relative(annotations);
    let text = report::render_annotations(format, &annotations, &relative_path(Path::new(fallback)));
    let output = match format {
        AnnotationFormat::Sarif | AnnotationFormat::GitlabCodeQuality => OutputKind::Json,
        AnnotationFormat::GithubCommands | AnnotationFormat::AzureCommands => OutputKind::Commands,
    };
    print_as(output, |out| out.write_all(text.as_bytes()));
}

/// Prints suites as JUnit XML.
pub(super) fn print_junit(name: &str, suites: &[TestSuiteView]) {
    let text = report::junit(name, suites);
    print_as(OutputKind::Html, |out| out.write_all(text.as_bytes()));
}

/// Returns the annotations of a command that ended with an error.
pub(super) fn error_annotations(error: &RunError) -> Vec<Annotation> {
    let diagnostics = error.diagnostics();
    if diagnostics.is_empty() {
        return vec![Annotation::new(AnnotationLevel::Error, "command-failed", chain(error))];
    }
    let annotation = |diagnostic| {
        let mut found = Annotation::of_diagnostic(AnnotationLevel::Error, "invalid-policy", diagnostic);
        found.rule = error_rule(&diagnostic.file);
        found
    };
    diagnostics.iter().map(annotation).collect()
}

/// Returns the label of an error in a file: the settings and the variables that override them are no YAML.
fn error_rule(file: &str) -> &'static str {
    let name = file.to_ascii_lowercase();
    if [".test.yaml", ".test.yml"].iter().any(|ending| name.ends_with(ending)) {
        "invalid-test"
    } else if Path::new(file).extension().is_some_and(|extension| extension == "toml") || file.starts_with("TAGWARDEN_")
    {
        "invalid-settings"
    } else if [".yaml", ".yml"].iter().any(|ending| name.ends_with(ending))
        || file == describe_input(Path::new(STANDARD))
        || Path::new(file).is_file()
    {
        "invalid-policy"
    } else {
        // A folder with nothing in it, or a place that does not exist.
        "command-failed"
    }
}

/// Returns a line or a column, or `None` for 0, which stands for an unknown one.
pub(super) fn known(number: usize) -> Option<usize> {
    (number > 0).then_some(number)
}

/// Returns annotations as JSON.
pub(super) fn annotations_json(annotations: &[Annotation]) -> Vec<Value> {
    let value = |annotation: &Annotation| {
        let place = annotation.place.as_ref();
        json!({
            "severity": annotation.level.label(),
            "kind": annotation.rule,
            "file": place.map(|place| &place.file),
            "line": place.and_then(|place| known(place.line)),
            "column": place.and_then(|place| known(place.column)),
            "message": annotation.message,
            "help": annotation.help,
        })
    };
    annotations.iter().map(value).collect()
}

/// Prints the error of a command in its format. It is reported on stderr as well.
pub(super) fn print_error(format: FindingFormat, (name, schema): (&str, &str), error: &RunError) {
    let found = error_annotations(error);
    match format {
        FindingFormat::Text => {}
        FindingFormat::Json => {
            let value = json!({ "schema": schema, "errors": annotations_json(&found) });
            super::output::print(&super::context::pretty_json(&value));
        }
        FindingFormat::Junit => print_junit(name, &error_suites(name, &relative(found))),
        FindingFormat::Sarif | FindingFormat::Github | FindingFormat::Gitlab | FindingFormat::Azure => {
            if let Some(format) = format.annotations() {
                print_annotations(format, found, "tagwarden.toml");
            }
        }
    }
}

/// Returns a suite with a case for each file that has errors.
fn error_suites(name: &str, annotations: &[Annotation]) -> Vec<TestSuiteView> {
    let mut suites = report::file_suites(name, &[], annotations, AnnotationLevel::Note);
    let cases = suites.iter_mut().flat_map(|suite| &mut suite.cases);
    for TestCaseView { problem, .. } in cases {
        if let Some(TestCaseProblem { is_error, .. }) = problem {
            *is_error = true;
        }
    }
    suites
}

/// Returns the same annotations with files relative to the working folder. What is not a file has no place: its name
/// begins the message.
pub(super) fn relative(annotations: Vec<Annotation>) -> Vec<Annotation> {
    annotations.into_iter().map(relative_annotation).collect()
}

fn relative_annotation(annotation: Annotation) -> Annotation {
    let Some(place) = &annotation.place else { return annotation };
    if !Path::new(&place.file).is_file() {
        let message = format!("{}: {}", place.file, annotation.message);
        return Annotation { place: None, message, ..annotation };
    }
    let file = relative_path(Path::new(&place.file));
    Annotation { place: Some(AnnotationPlace { file, ..*place }), ..annotation }
}

/// Returns a path relative to the working folder, if it is below that, without `.` and with `/`.
pub(super) fn relative_path(path: &Path) -> String {
    let folder = std::env::current_dir().unwrap_or_default();
    let within = path.strip_prefix(&folder).map(Path::to_owned);
    let real = || Some(path.canonicalize().ok()?.strip_prefix(folder.canonicalize().ok()?).ok()?.to_owned());
    let path = match within {
        Ok(path) => path,
        Err(_) if path.is_absolute() => real().unwrap_or_else(|| path.to_owned()),
        Err(_) => path.to_owned(),
    };
    let plain: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
    plain.to_string_lossy().replace('\\', "/")
}
