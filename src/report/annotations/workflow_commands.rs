//! Commands in the log of a job that put an annotation beside a line.
//!
//! GitHub: <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>. Azure Pipelines:
//! <https://learn.microsoft.com/azure/devops/pipelines/scripts/logging-commands>.

use std::fmt::Write as _;

use super::{Annotation, AnnotationLevel};
use crate::report::humanize::sanitize;

/// Renders one `::error`, `::warning` or `::notice` command a line.
pub(super) fn render_github(annotations: &[Annotation]) -> String {
    let mut out = String::new();
    for annotation in annotations {
        let command = match annotation.level {
            AnnotationLevel::Error => "error",
            AnnotationLevel::Warning => "warning",
            AnnotationLevel::Note => "notice",
        };
        let mut properties = Vec::new();
        if let Some(place) = &annotation.place {
            properties.push(format!("file={}", github_property(&place.file)));
            if place.line > 0 {
                properties.push(format!("line={}", place.line));
            }
            if place.column > 0 {
                properties.push(format!("col={}", place.column));
            }
        }
        properties.push(format!("title={}", github_property(annotation.rule)));
        let _ = writeln!(out, "::{command} {}::{}", properties.join(","), github_data(&annotation.words()));
    }
    out
}

/// Escapes the text of a command.
fn github_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the value of a property.
fn github_property(text: &str) -> String {
    github_data(&sanitize(text)).replace(':', "%3A").replace(',', "%2C")
}

/// Renders one `task.logissue` command a line. There are errors and warnings only, so notes are lines of the log.
pub(super) fn render_azure(annotations: &[Annotation]) -> String {
    let mut out = String::new();
    for annotation in annotations {
        let kind = match annotation.level {
            AnnotationLevel::Error => "error",
            AnnotationLevel::Warning => "warning",
            AnnotationLevel::Note => {
                let place = annotation.place.as_ref().map_or_else(String::new, |place| match place.line {
                    0 => format!("{}: ", sanitize(&place.file)),
                    line => format!("{}:{line}: ", sanitize(&place.file)),
                });
                let _ = writeln!(out, "note: {place}{}", inert(&annotation.words()));
                continue;
            }
        };
        let mut properties = format!("type={kind};");
        if let Some(place) = &annotation.place {
            let _ = write!(properties, "sourcepath={};", azure_property(&place.file));
            if place.line > 0 {
                let _ = write!(properties, "linenumber={};", place.line);
            }
            if place.column > 0 {
                let _ = write!(properties, "columnnumber={};", place.column);
            }
        }
        let _ = write!(properties, "code={};", azure_property(annotation.rule));
        let _ = writeln!(out, "##vso[task.logissue {properties}]{}", azure_data(&inert(&annotation.words())));
    }
    out
}

/// Escapes the text of a command.
fn azure_data(text: &str) -> String {
    text.replace('%', "%AZP25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the value of a property.
fn azure_property(text: &str) -> String {
    azure_data(&sanitize(text)).replace(';', "%3B").replace(']', "%5D")
}

/// Divides adjoining number signs, which would begin a command of their own.
fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for found in text.chars() {
        if found == '#' && out.ends_with('#') {
            out.push(' ');
        }
        out.push(found);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(file: &str, message: &str) -> Annotation {
        Annotation::new(AnnotationLevel::Error, "invalid-policy", message).at(file, 3, 7)
    }

    #[test]
    fn foreign_texts_cannot_end_a_command_or_begin_another() {
        for (file, message, github, azure) in [
            (
                "a.yaml",
                "unknown key `x`",
                "::error file=a.yaml,line=3,col=7,title=invalid-policy::unknown key `x`",
                "##vso[task.logissue type=error;sourcepath=a.yaml;linenumber=3;columnnumber=7;code=invalid-policy;]unknown key `x`",
            ),
            (
                "a,b:c;d].yaml",
                "100 %\n::error::x\r###vso[task.complete]y",
                "::error file=a%2Cb%3Ac;d].yaml,line=3,col=7,title=invalid-policy::100 %25 ::error::x ###vso[task.complete]y",
                "##vso[task.logissue type=error;sourcepath=a,b:c%3Bd%5D.yaml;linenumber=3;columnnumber=7;code=invalid-policy;]100 %AZP25 ::error::x # # #vso[task.complete]y",
            ),
            (
                "50%.yaml",
                "%0A",
                "::error file=50%25.yaml,line=3,col=7,title=invalid-policy::%250A",
                "##vso[task.logissue type=error;sourcepath=50%AZP25.yaml;linenumber=3;columnnumber=7;code=invalid-policy;]%AZP250A",
            ),
        ] {
            let found = [annotation(file, message)];
            assert_eq!(render_github(&found), format!("{github}\n"));
            assert_eq!(render_azure(&found), format!("{azure}\n"));
        }
    }
}
