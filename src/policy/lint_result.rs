//! Results of the linter.

use super::diagnostic::Diagnostic;

/// A remark about a valid policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// Its severity.
    pub severity: Severity,
    /// A label for scripts, such as `never-expires`.
    pub kind: &'static str,
    /// The policy.
    pub policy: String,
    /// The remark, its place, and the remedy.
    pub diagnostic: Diagnostic,
}

/// The severity of a lint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Probably a mistake.
    Warning,
    /// Possibly intended.
    Note,
}

impl Severity {
    /// Returns `warning` or `note`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}
