//! Policy files: YAML to [`Policy`], with every problem of every file reported at once, at its place.
//!
//! A file is first parsed into a tree of values with places; their meaning is determined in a second step, which
//! continues after each problem. Nothing is guessed: anything invalid is a problem.

mod affixes;
mod compile;
mod diagnostic;
pub(crate) mod fields;
mod git_commit;
mod git_objects;
mod inspected_policy;
mod keep_rules;
mod lint;
mod lint_result;
mod load;
mod name_sets;
mod overlap;
mod pattern_coverage;
pub mod policy_test_schema_types;
mod policy_tests;
mod redact;
mod relation;
mod rule_places;
mod rule_syntax_lint;
mod schema;
pub mod schema_types;
mod selection;
mod unread_files;
mod yaml;

use crate::domain::{Digest, Policy};

use compile::{LocatedPolicy, Origin};
pub(crate) use diagnostic::Problems;
pub use diagnostic::{Diagnostic, render};
pub(crate) use fields::Fields;
pub use git_commit::{commit_time, compare_commits, find_commit};
pub use git_objects::CommitOrder;
pub use lint::lint;
pub use lint_result::{Lint, Severity};
pub(crate) use load::read_help;
pub use load::{
    PolicyError, PolicyPlaces, PolicySet, is_policy_path, is_policy_test_path, load, load_contents, load_files,
};
pub(crate) use name_sets::{NameRelation, NameSet, matched_share};
pub(crate) use pattern_coverage::{Extent, NameKind};
pub use policy_tests::{
    Expectation, PolicyTest, PolicyTests, load_any_policy_tests, load_policy_tests, parse_policy_tests,
};
pub(crate) use redact::redact_message;
pub use schema::{schema, tests_schema};
pub use unread_files::lint_unread_files;
pub(crate) use yaml::{Entry, MERGE_CONFLICT, MERGE_CONFLICT_HELP, Node, Place, Value, merge_conflict};

/// Parses the policies of one file. `file` is its name in messages and in [`Policy::file`].
///
/// # Errors
/// Returns every problem of the file, in the order of their places.
pub fn parse(file: &str, text: &str) -> Result<Vec<Policy>, Vec<Diagnostic>> {
    let mut problems = Problems::of_yaml(file, without_bom(text));
    let origin = Origin { file: file.into(), revision: Digest::of(text.as_bytes()).to_string().into() };
    let policies = read(text, &origin, &mut problems);
    if problems.count() == 0 {
        Ok(policies.into_iter().map(|placed| placed.policy).collect())
    } else {
        Err(problems.into_diagnostics())
    }
}

/// Parses the valid parts of a text; the problems describe the rest.
fn read(text: &str, origin: &Origin, problems: &mut Problems) -> Vec<LocatedPolicy> {
    match yaml::parse_yaml(without_bom(text)) {
        Ok(root) => compile::compile_policies(&root, origin, problems),
        Err(error) => {
            let problem = problems.add(&yaml::Place::Text(error.span), error.message);
            if let Some(help) = error.help {
                problem.help(help);
            }
            Vec::new()
        }
    }
}

/// Returns the text without the byte order mark that some editors write.
fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
