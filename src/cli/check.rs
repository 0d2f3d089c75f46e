//! `tagwarden check`: settings and policies, without any network.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::arguments::DataFormat;
use super::context::{environment, pretty_json, system_clock};
use super::output::{print, print_stderr};
use crate::config::{self, Settings};
use crate::domain::chain;
use crate::policy::{self, Diagnostic, Lint, PolicySet, Severity};
use crate::report::sanitize;
use crate::workflow::{self, RunError};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Exit with 2 if there is a warning
    #[arg(long)]
    strict: bool,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

/// Checks settings and policies, by themselves and against the last plan in the state.
pub(super) async fn check(config: Option<&Path>, args: &CheckArgs) -> Result<u8, RunError> {
    let file = config::find(config)?;
    let (settings, policies) = workflow::load(&file, environment())?;
    for warning in &settings.warnings {
        print_stderr(&sanitize(&format!("warning: {warning}")));
    }
    let mut lints = policy::lint(&policies, system_clock()());
    lints.extend(config::lint(&settings, &policies));
    match workflow::lint_with_last_plan(&settings, &policies).await {
        Ok(recorded) => lints.extend(recorded),
        Err(error) => {
            print_stderr(&format!("warning: the policies are not held against the last plan: {}", chain(&error)));
        }
    }
    let texts: Vec<String> =
        lints.iter().map(|lint| sanitize(&format!("{}: {}", lint.severity.label(), chain(&lint.diagnostic)))).collect();
    if !texts.is_empty() {
        print_stderr(&texts.join("\n"));
    }
    match args.format {
        DataFormat::Text => print(&check_text(&file, &settings, &policies)),
        DataFormat::Json => {
            let lints: Vec<Value> = lints.iter().map(lint_json).collect();
            print(&pretty_json(&json!({ "schema": "tagwarden.check/1", "lints": lints })));
        }
    }
    let warned = lints.iter().any(|lint| lint.severity == Severity::Warning);
    Ok(if args.strict && (warned || !settings.warnings.is_empty()) { 2 } else { 0 })
}

fn lint_json(lint: &Lint) -> Value {
    let Diagnostic { file, line, column, message, help, .. } = &lint.diagnostic;
    json!({
        "severity": lint.severity.label(),
        "kind": lint.kind,
        "policy": lint.policy,
        "file": file,
        "line": line,
        "column": column,
        "message": message,
        "help": help,
    })
}

/// A summary of valid settings and policies.
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
