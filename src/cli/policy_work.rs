//! What people do with policies before they are let loose: check, test, schema.

use std::path::{Path, PathBuf};

use clap::Args;

use super::DataFormat;
use super::output::print;
use crate::policy_file;
use crate::report;
use crate::run::{self, RunError};
use crate::{config, report::TestedFile};

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// A fixture, a policy file with one beside it, or a folder [default: the policies of the settings, else ./policies]
    path: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// The schema of the fixtures that `tagwarden test` runs, instead
    #[arg(long)]
    tests: bool,
}

/// Runs the tests beside the policies.
pub(super) fn test(
    config: Option<&Path>,
    args: &TestArgs,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<u8, RunError> {
    let path = match &args.path {
        Some(path) => path.clone(),
        None => policies_of_the_settings(config, environment)?,
    };
    let tested = run::test_policies(&path)?;
    match args.format {
        DataFormat::Text => print(&report::tested_text(&tested)),
        DataFormat::Json => {
            let json = serde_json::json!({ "schema": "tagwarden.tests/1", "files": tested });
            print(&format!("{json:#}\n"));
        }
    }
    let passed = |file: &TestedFile| file.tests.iter().all(|test| test.passed);
    Ok(u8::from(!tested.iter().all(passed)))
}

/// Where the settings have their policies. Without settings, where they are by default: tests need nothing else.
fn policies_of_the_settings(
    config: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<PathBuf, RunError> {
    let fallback = || PathBuf::from("policies");
    match config::find(config) {
        Ok(file) => {
            let environment: Vec<_> = environment.collect();
            config::policies_path(&file, &environment).ok_or_else(|| {
                RunError::Usage(format!(
                    "{} does not say where its policies are; name them: `tagwarden test PATH`",
                    file.display()
                ))
            })
        }
        Err(_) if config.is_none() => Ok(fallback()),
        Err(error) => Err(error.into()),
    }
}

/// Prints a JSON schema.
pub(super) fn schema(args: &SchemaArgs) {
    let schema = if args.tests { policy_file::tests_schema() } else { policy_file::schema() };
    print(&format!("{schema:#}\n"));
}
