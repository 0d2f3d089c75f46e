//! What is sound and yet hardly meant: policies that never let anything go, rules without an effect, policies that
//! others make pointless, and those that speak of the same tags.

use jiff::Timestamp;

use super::diagnostic::Diagnostic;
use super::inspected_policy::inspect_policies;
use super::lint_result::Lint;
use super::load::PolicySet;
use super::overlap::lint_overlaps;
use super::rule_syntax_lint::lint_rule_syntax;

/// What is to be said of policies by what stands in them alone, by place. What would take too long to find out is not
/// said.
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
