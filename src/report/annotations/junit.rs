//! JUnit XML, as the test reports of GitLab, Azure Pipelines and Jenkins read it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Annotation, AnnotationLevel};
use crate::report::PolicyTestFile;

/// A group of test cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestSuiteView {
    /// Its name: a file, for tests of policies.
    pub name: String,
    /// Its cases, in order.
    pub cases: Vec<TestCaseView>,
}

/// One test case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCaseView {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Its line, from 1; 0 if it is the whole file.
    pub line: u64,
    /// Its problem, or `None` if it passed.
    pub problem: Option<TestCaseProblem>,
    /// Its output besides.
    pub output: String,
}

/// Why a test case did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCaseProblem {
    /// True if it could not be run, false if it was run and failed.
    pub is_error: bool,
    /// The label of the problem.
    pub kind: String,
    /// The first line.
    pub message: String,
    /// All of it.
    pub text: String,
}

/// Returns the tests of policies: a suite for each file, a case for each test.
#[must_use]
pub fn policy_test_suites(files: &[PolicyTestFile]) -> Vec<TestSuiteView> {
    let suite = |file: &PolicyTestFile| {
        let cases = file.tests.iter().map(|test| {
            let failures: Vec<String> = test
                .tags
                .iter()
                .filter(|tag| !tag.passed)
                .map(|tag| format!("{}:{}: {}", file.file, tag.line, tag.describe_failure()))
                .collect();
            TestCaseView {
                name: test.name.clone(),
                file: file.file.clone(),
                line: test.line,
                problem: failures.first().map(|first| TestCaseProblem {
                    is_error: false,
                    kind: "failed-test".to_owned(),
                    message: first.clone(),
                    text: failures.join("\n"),
                }),
                output: String::new(),
            }
        });
        TestSuiteView { name: file.file.clone(), cases: cases.collect() }
    };
    files.iter().map(suite).collect()
}

/// Returns a suite with a case for each file, and for each annotation without one. Annotations of `failing` or a higher
/// level fail their case; the others are its output.
#[must_use]
pub fn file_suites(
    name: &str,
    files: &[String],
    annotations: &[Annotation],
    failing: AnnotationLevel,
) -> Vec<TestSuiteView> {
    let mut by_file: BTreeMap<&str, Vec<&Annotation>> = files.iter().map(|file| (file.as_str(), Vec::new())).collect();
    for annotation in annotations {
        let file = annotation.place.as_ref().map_or(name, |place| place.file.as_str());
        by_file.entry(file).or_default().push(annotation);
    }
    let case = |(file, found): (&str, Vec<&Annotation>)| {
        let (failed, others): (Vec<&Annotation>, Vec<&Annotation>) =
            found.into_iter().partition(|annotation| annotation.level <= failing);
        let text = |list: &[&Annotation]| list.iter().map(|one| describe(one)).collect::<Vec<_>>().join("\n");
        TestCaseView {
            name: file.to_owned(),
            file: file.to_owned(),
            line: 0,
            problem: failed.first().map(|first| TestCaseProblem {
                is_error: false,
                kind: first.rule.to_owned(),
                message: describe(first),
                text: text(&failed),
            }),
            output: text(&others),
        }
    };
    vec![TestSuiteView { name: name.to_owned(), cases: by_file.into_iter().map(case).collect() }]
}

fn describe(annotation: &Annotation) -> String {
    let place = annotation.place.as_ref().map_or_else(String::new, |place| match (place.line, place.column) {
        (0, _) => format!("{}: ", place.file),
        (line, 0) => format!("{}:{line}: ", place.file),
        (line, column) => format!("{}:{line}:{column}: ", place.file),
    });
    format!("{place}{}: {} ({})", annotation.level.label(), annotation.words(), annotation.rule)
}

/// Renders the suites as one document.
#[must_use]
pub fn junit(name: &str, suites: &[TestSuiteView]) -> String {
    let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let all: Vec<&TestCaseView> = suites.iter().flat_map(|suite| &suite.cases).collect();
    let _ = writeln!(out, "<testsuites name=\"{}\" {}>", escape(name), counts(all.iter().copied()));
    for suite in suites {
        let _ = writeln!(out, "  <testsuite name=\"{}\" {}>", escape(&suite.name), counts(suite.cases.iter()));
        for case in &suite.cases {
            write_case(&mut out, case);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn counts<'a>(cases: impl Iterator<Item = &'a TestCaseView> + Clone) -> String {
    let count = |is_error: bool| {
        cases.clone().filter(|case| case.problem.as_ref().is_some_and(|problem| problem.is_error == is_error)).count()
    };
    let (failures, errors) = (count(false), count(true));
    format!("tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\"", cases.count())
}

fn write_case(out: &mut String, case: &TestCaseView) {
    let (name, file) = (escape(&case.name), escape(&case.file));
    let _ = write!(out, "    <testcase name=\"{name}\" classname=\"{file}\" file=\"{file}\"");
    if case.line > 0 {
        let _ = write!(out, " line=\"{}\"", case.line);
    }
    if case.problem.is_none() && case.output.is_empty() {
        out.push_str("/>\n");
        return;
    }
    out.push_str(">\n");
    if let Some(problem) = &case.problem {
        let element = if problem.is_error { "error" } else { "failure" };
        let (message, kind) = (escape(&problem.message), escape(&problem.kind));
        let text = escape(&problem.text);
        let _ = writeln!(out, "      <{element} message=\"{message}\" type=\"{kind}\">\n{text}\n      </{element}>");
    }
    if !case.output.is_empty() {
        let _ = writeln!(out, "      <system-out>\n{}\n      </system-out>", escape(&case.output));
    }
    out.push_str("    </testcase>\n");
}

/// Escapes text for an element or an attribute. Characters that XML does not allow become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for found in text.chars() {
        match found {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(found),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            found if found.is_control() => out.push('\u{fffd}'),
            found => out.push(found),
        }
    }
    out
}
