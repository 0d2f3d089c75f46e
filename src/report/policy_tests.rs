//! The results of policy tests.

use serde::Serialize;

use super::ReasonView;
use super::humanize::{counted, sanitize};
use super::table::TextTable;
use super::text::line;

/// The tests of one file, with their results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyTestFile {
    /// The file.
    pub file: String,
    /// Its tests, in order.
    pub tests: Vec<PolicyTestResult>,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyTestResult {
    /// Its name.
    pub name: String,
    /// Its line, from 1.
    pub line: u64,
    /// True if every expectation was met.
    pub passed: bool,
    /// The tags with expectations.
    pub tags: Vec<PolicyTestTag>,
}

/// One tag: the expected and the actual decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyTestTag {
    /// The tag.
    pub tag: String,
    /// Its line, from 1.
    pub line: u64,
    /// The expected verdict.
    pub expected: String,
    /// The policy that was expected to decide.
    pub by: Option<String>,
    /// The expected labels of reasons.
    pub because: Vec<String>,
    /// The verdict.
    pub verdict: String,
    /// All reasons for and against removal.
    pub reasons: Vec<ReasonView>,
    /// True if it meets the expectation.
    pub passed: bool,
}

impl PolicyTestTag {
    /// Describes the expected and the actual decision, with the reasons for the latter.
    pub(super) fn describe_failure(&self) -> String {
        let reasons: Vec<String> = self.reasons.iter().map(ReasonView::sentence).collect();
        let why = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
        format!("`{}` is {}, expected {}{why}", self.tag, self.verdict, self.describe_expectation())
    }

    /// Describes the expected verdict, policy and reasons.
    fn describe_expectation(&self) -> String {
        let mut expected = self.expected.clone();
        if let Some(by) = &self.by {
            expected.extend([" by ", by]);
        }
        if !self.because.is_empty() {
            expected.extend([" (", &self.because.join(", "), ")"]);
        }
        expected
    }
}

/// Renders one line for each test, and for a failed one a table of all its tags: expected, decided, and why.
#[must_use]
pub fn test_text(files: &[PolicyTestFile]) -> String {
    let mut out = String::new();
    let (mut passed, mut failed) = (0_u64, 0_u64);
    for file in files {
        line(&mut out, 0, &file.file);
        for test in &file.tests {
            *(if test.passed { &mut passed } else { &mut failed }) += 1;
            line(&mut out, 1, &format!("{} {}", if test.passed { "ok    " } else { "FAILED" }, test.name));
            if !test.passed {
                failure(&mut out, &file.file, test);
            }
        }
    }
    let summary = match (passed, failed) {
        (_, 0) => format!("{} passed", counted(passed, "test")),
        (0, _) => format!("{} failed", counted(failed, "test")),
        (_, _) => format!("{} failed, {passed} passed", counted(failed, "test")),
    };
    line(&mut out, 0, &summary);
    out
}

fn failure(out: &mut String, file: &str, test: &PolicyTestResult) {
    let mut table = TextTable::new(["", "TAG", "EXPECTED", "DECIDED", "WHY"]);
    for tag in &test.tags {
        let expected = tag.describe_expectation();
        let reasons = tag.reasons.iter().filter(|_| !tag.passed);
        let why: Vec<String> = reasons.map(|reason| sanitize(&reason.sentence())).collect();
        let sign = if tag.passed { "" } else { "✗" };
        table.add_row([sign, &sanitize(&tag.tag), &sanitize(&expected), &tag.verdict, &why.join("\n")]);
    }
    out.push_str(&table.text(8));
    if let Some(first) = test.tags.iter().find(|tag| !tag.passed) {
        line(out, 4, &format!("first at {file}:{}", first.line));
    }
}
