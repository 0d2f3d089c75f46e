//! Results of the linter.

use super::diagnostic::Diagnostic;

/// A remark about a valid policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// How much it matters.
    pub severity: Severity,
    /// A label for scripts, such as `never-expires`.
    pub kind: &'static str,
    /// The policy.
    pub policy: String,
    /// What it is, where, and what to do about it.
    pub diagnostic: Diagnostic,
}

/// How much a remark matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is hardly what was meant.
    Warning,
    /// It may well be meant.
    Note,
}

impl Severity {
    /// `warning` or `note`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}
