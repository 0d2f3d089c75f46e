//! Lints of valid but implausible policies: those that never expire anything, rules without an effect, policies made
//! pointless by others, and those with the same tags.

use jiff::Timestamp;

use super::diagnostic::Diagnostic;
use super::inspected_policy::inspect_policies;
use super::lint_result::Lint;
use super::load::PolicySet;
use super::overlap::lint_overlaps;
use super::rule_syntax_lint::lint_rule_syntax;

/// Returns the lints of policies by their text alone, sorted by place. Checks that would take too long are skipped.
#[must_use]
pub fn lint(set: &PolicySet, now: Timestamp) -> Vec<Lint> {
    let (policies, tags, repositories) = inspect_policies(set, now);
    let mut found = Vec::new();
    for policy in &policies {
        policy.lint_alone(&mut found);
    }
    lint_overlaps(&policies, (&tags, &repositories), &mut found);
    lint_rule_syntax(set, &mut found);
    found.sort_by(|a, b| place(a).cmp(&place(b)));
    found
}

fn place(remark: &Lint) -> (&str, usize, usize, &str) {
    let Diagnostic { file, line, column, message, .. } = &remark.diagnostic;
    (file, *line, *column, message)
}
