//! `tagwarden test`: the tests beside the policies.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::context::{STANDARD, configured_policies_path, pretty_json};
use super::findings::{FindingFormat, print_annotations, print_error, print_junit};
use super::output::print;
use crate::domain::Failure;
use crate::report::{self, PolicyTestFile};
use crate::workflow::{self, RunError};

/// The schema of the JSON.
const SCHEMA: &str = "tagwarden.tests/1";

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Test this file or folder [default: the policies of the settings]
    ///
    /// A file of tests, a policy file with tests beside it, or a folder. Without settings: ./policies.
    path: Option<PathBuf>,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = FindingFormat::Text)]
    format: FindingFormat,
}

/// Runs the tests beside the policies.
pub(super) fn test(config: Option<&Path>, args: &TestArgs) -> Result<u8, RunError> {
    let tested = find_tests(config, args)
        .and_then(|path| workflow::test_policies(&path))
        .inspect_err(|error| print_error(args.format, ("tagwarden test", SCHEMA), error))?;
    match (args.format, args.format.annotations()) {
        (FindingFormat::Json, _) => {
            print(&pretty_json(&json!({ "schema": SCHEMA, "files": tested, "errors": [] })));
        }
        (FindingFormat::Junit, _) => print_junit("tagwarden test", &report::policy_test_suites(&tested)),
        (_, Some(format)) => print_annotations(format, report::test_annotations(&tested), "policies"),
        (_, None) => print(&report::test_text(&tested)),
    }
    let passed = |file: &PolicyTestFile| file.tests.iter().all(|test| test.passed);
    Ok(u8::from(!tested.iter().all(passed)))
}

fn find_tests(config: Option<&Path>, args: &TestArgs) -> Result<PathBuf, RunError> {
    if args.path.as_deref() == Some(Path::new(STANDARD)) {
        let failure = Failure::new((), "tests of policies are not read from standard input");
        return Err(RunError::Usage(failure.with_help("name a file, such as `shop.test.yaml`")));
    }
    args.path.clone().map_or_else(|| configured_policies_path(config), Ok)
}
