//! Policy files: YAML to [`Policy`], with every problem of every file told at once, at its place.
//!
//! A file is read into a tree of values with places first; what they mean is decided in a second step, which goes on
//! after each problem. Nothing is guessed: what is not exactly one of the things that can be written is a problem.

mod checkout;
mod diagnostic;
mod fixture;
pub mod fixture_shapes;
mod language;
mod literals;
mod load;
mod lower;
mod overlap;
pub(crate) mod read;
mod redact;
mod relation;
mod remarks;
mod rule_places;
mod schema;
mod selection;
pub mod shapes;
mod slips;
mod tree;

use crate::domain::{Digest, Policy};

pub(crate) use diagnostic::Problems;
pub use diagnostic::{Diagnostic, render};
pub use fixture::{Expectation, Fixture, FixtureTest, fixture, fixtures};
pub use load::{Places, PolicyError, PolicySet, load};
use lower::{Origin, Placed};
pub(crate) use read::Fields;
pub use remarks::{Remark, Severity, remarks};
pub use schema::{schema, tests_schema};
pub(crate) use tree::{Entry, Node, Place, Value};

/// The policies of one file. `file` is what it is called in messages and in [`Policy::file`].
///
/// # Errors
/// Every problem of the file, in the order of their places.
pub fn parse(file: &str, text: &str) -> Result<Vec<Policy>, Vec<Diagnostic>> {
    let mut problems = Problems::of_yaml(file, without_mark(text));
    let origin = Origin { file: file.into(), revision: Digest::of(text.as_bytes()).to_string().into() };
    let policies = read(text, &origin, &mut problems);
    if problems.count() == 0 {
        Ok(policies.into_iter().map(|placed| placed.policy).collect())
    } else {
        Err(problems.into_found())
    }
}

/// Reads what can be read of a text; the problems say what could not.
fn read(text: &str, origin: &Origin, problems: &mut Problems) -> Vec<Placed> {
    match tree::yaml(without_mark(text)) {
        Ok(root) => lower::policies(&root, origin, problems),
        Err(error) => {
            let problem = problems.add(&tree::Place::Text(error.span), error.message);
            if let Some(help) = error.help {
                problem.help(help);
            }
            Vec::new()
        }
    }
}

/// The text without the byte order mark that some editors put first.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
