//! `tagwarden test`: the tests beside the policies.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::arguments::DataFormat;
use super::context::{configured_policies_path, pretty_json};
use super::output::print;
use crate::report::{self, PolicyTestFile};
use crate::workflow::{self, RunError};

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Test this file or folder [default: the policies of the settings]
    ///
    /// A fixture, a policy file with one beside it, or a folder. Without settings: ./policies.
    path: Option<PathBuf>,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

/// Runs the tests beside the policies.
pub(super) fn test(config: Option<&Path>, args: &TestArgs) -> Result<u8, RunError> {
    let path = match &args.path {
        Some(path) => path.clone(),
        None => configured_policies_path(config)?,
    };
    let tested = workflow::test_policies(&path)?;
    match args.format {
        DataFormat::Text => print(&report::test_text(&tested)),
        DataFormat::Json => {
            print(&pretty_json(&json!({ "schema": "tagwarden.tests/1", "files": tested })));
        }
    }
    let passed = |file: &PolicyTestFile| file.tests.iter().all(|test| test.passed);
    Ok(u8::from(!tested.iter().all(passed)))
}
