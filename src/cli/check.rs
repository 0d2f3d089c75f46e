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
use crate::workflow::{self, KindFinding, KindState, RunError, RunOutcome};

#[derive(Debug, Default, Args)]
pub(super) struct CheckArgs {
    /// Exit with 2 if there is a warning
    #[arg(long)]
    strict: bool,
    /// Also ask each registry what it is, and check its `kind`
    ///
    /// Sends GET requests without credentials. A wrong kind is an error that names the right one (exit code 2); a registry
    /// that does not answer is exit code 5.
    #[arg(long)]
    online: bool,
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
    let kinds = if args.online { workflow::check_kinds(&settings).await } else { Vec::new() };
    report_kinds(&kinds, &settings);
    match args.format {
        DataFormat::Text => {
            print(&check_text(&file, &settings, &policies));
            let fitting = kinds.iter().filter(|one| one.state == KindState::Fits);
            let rows = fitting.map(|one| format!("  registry {}: {}\n", one.registry, sanitize(&one.message)));
            print(&rows.collect::<String>());
        }
        DataFormat::Json => {
            let lints: Vec<Value> = lints.iter().map(lint_json).collect();
            let mut value = json!({ "schema": "tagwarden.check/1", "lints": lints });
            if args.online {
                value["registries"] = kinds.iter().map(kind_json).collect();
            }
            print(&pretty_json(&value));
        }
    }
    let has = |state| kinds.iter().any(|one| one.state == state);
    let warned = lints.iter().any(|lint| lint.severity == Severity::Warning)
        || !settings.warnings.is_empty()
        || has(KindState::Weaker);
    if has(KindState::Wrong) || args.strict && warned {
        return Ok(2);
    }
    Ok(if has(KindState::Unreachable) { RunOutcome::EvidenceMissing.exit_code() } else { 0 })
}

/// Says on stderr which kinds do not fit, and which one to write.
fn report_kinds(kinds: &[KindFinding], settings: &Settings) {
    for one in kinds {
        let configured = settings.registries.iter().find(|known| known.name.as_str() == one.registry);
        let configured = configured.map_or("", |known| known.provider.name());
        let message = sanitize(&one.message);
        let words = match (one.state, one.kind) {
            (KindState::Wrong, Some(kind)) => format!(
                "error: registry `{}`: kind = \"{configured}\" is wrong: {message}\n  help: write kind = \"{kind}\"",
                one.registry
            ),
            (KindState::Weaker, Some(kind)) => format!(
                "warning: registry `{}`: kind = \"{configured}\" reads it by the OCI API alone: {message}\n  help: write \
                 kind = \"{kind}\"",
                one.registry
            ),
            (KindState::Unreachable, _) => format!(
                "error: registry `{}`: {message}\n  help: correct `endpoint` in {}, or look whether it can be reached from here",
                one.registry,
                settings.file.display()
            ),
            _ => continue,
        };
        print_stderr(&words);
    }
}

fn kind_json(found: &KindFinding) -> Value {
    let KindFinding { registry, state, message, kind } = found;
    json!({ "registry": registry, "state": state.label(), "message": message, "kind": kind })
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

/// Returns a summary of valid settings and policies.
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
