//! What people do with policies before they are let loose: check, test, schema.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::DataFormat;
use super::commands::{environment, pretty_json, system_clock};
use super::output::{print, print_stderr};
use crate::config::{self, Settings};
use crate::policy::{self, Diagnostic, Lint, PolicySet, Severity};
use crate::report::{self, PolicyTestFile, sanitize};
use crate::workflow::{self, RunError};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Exit with 2 where there is a warning
    #[arg(long)]
    strict: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

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

/// Checks settings and policies, by themselves and against the last plan in the state.
pub(super) async fn check(config: Option<&Path>, args: &CheckArgs) -> Result<u8, RunError> {
    let file = config::find(config)?;
    let (settings, policies) = workflow::load(&file, environment())?;
    for warning in &settings.warnings {
        print_stderr(&sanitize(&format!("warning: {warning}")));
    }
    let mut remarks = policy::lint(&policies, system_clock()());
    remarks.extend(config::lint(&settings, &policies));
    match workflow::lint_with_last_plan(&settings, &policies).await {
        Ok(recorded) => remarks.extend(recorded),
        Err(error) => print_stderr(&format!("warning: the policies are not held against the last plan: {error}")),
    }
    let lines: Vec<String> =
        remarks.iter().map(|remark| sanitize(&format!("{}: {}", remark.severity.label(), remark.diagnostic))).collect();
    if !lines.is_empty() {
        print_stderr(&lines.join("\n"));
    }
    match args.format {
        DataFormat::Text => print(&check_text(&file, &settings, &policies)),
        DataFormat::Json => {
            let remarks: Vec<Value> = remarks.iter().map(lint_json).collect();
            print(&pretty_json(&json!({ "schema": "tagwarden.check/1", "remarks": remarks })));
        }
    }
    let warned = remarks.iter().any(|remark| remark.severity == Severity::Warning);
    Ok(if args.strict && (warned || !settings.warnings.is_empty()) { 2 } else { 0 })
}

fn lint_json(remark: &Lint) -> Value {
    let Diagnostic { file, line, column, message, help, .. } = &remark.diagnostic;
    json!({
        "severity": remark.severity.label(),
        "kind": remark.kind,
        "policy": remark.policy,
        "file": file,
        "line": line,
        "column": column,
        "message": message,
        "help": help,
    })
}

/// That settings and policies can be used, and what they are.
fn check_text(file: &Path, settings: &Settings, policies: &PolicySet) -> String {
    let counted = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let mut out = format!(
        "{} is sound: mode {}, {}, {}, {}\n",
        file.display(),
        settings.mode.label(),
        counted(settings.registries.len(), "registry", "registries"),
        counted(settings.sources.len(), "source", "sources"),
        counted(policies.policies.len(), "policy", "policies"),
    );
    for policy in &policies.policies {
        let description = policy.description.as_deref().unwrap_or("no description");
        let words = format!("{} ({}, {}): {description}", policy.name, policy.mode.label(), policy.file);
        let _ = writeln!(out, "  {}", sanitize(&words));
    }
    out
}

/// Runs the tests beside the policies.
pub(super) fn test(
    config: Option<&Path>,
    args: &TestArgs,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<u8, RunError> {
    let path = match &args.path {
        Some(path) => path.clone(),
        None => configured_policies_path(config, environment)?,
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

/// Where the settings have their policies. Without settings, where they are by default: tests need nothing else.
pub(super) fn configured_policies_path(
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
    let schema = if args.tests { policy::tests_schema() } else { policy::schema() };
    print(&pretty_json(&schema));
}
