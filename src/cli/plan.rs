//! `tagwarden plan`: the decision about every tag, as a report.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::arguments::{ReportFormat, listed, parse_acceptance, parse_reason, parse_time};
use super::context::{RefusalEffect, file_formats, open_app, print_report, reject_unknown, report_outcome};
use super::narrow::NarrowArgs;
use super::progress::TerminalProgress;
use crate::config::Settings;
use crate::domain::{ACCEPTABLE, Acceptance, AcceptanceScope};
use crate::policy::PolicySet;
use crate::workflow::{PlanOptions, RunError};

#[derive(Debug, Default, Args)]
pub(super) struct PlanArgs {
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// Also write the report to a file; repeatable
    ///
    /// The extension chooses the format: json, md, html, csv, txt, jira or servicenow.
    #[arg(long, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// Decide as of this time, such as +14d; such a plan cannot be applied
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true, long_help = AT_HELP)]
    at: Option<Timestamp>,
    #[command(flatten)]
    narrow: NarrowArgs,
    /// Accept a refusal for this plan: KIND or KIND@SCOPE; repeatable
    ///
    /// KIND is `untag-limit`, `percent-limit`, `leave-limit`, `delete-limit` or `protects-nothing`. SCOPE is `run`,
    /// `policy:NAME`, a registry, or REGISTRY/REPOSITORY; without it, all refusals of the kind are accepted. What is accepted
    /// is part of the plan and its id. The clock, missing rights, a registry's retention and missing evidence cannot be
    /// accepted.
    #[arg(
        long,
        value_name = "KIND[@SCOPE]",
        requires = "reason",
        value_parser = listed(ACCEPTABLE, parse_acceptance),
        hide_possible_values = true
    )]
    accept: Vec<(&'static str, AcceptanceScope)>,
    /// Say why the refusals are accepted; the plan shows it
    #[arg(long, value_name = "TEXT", requires = "accept", value_parser = parse_reason)]
    reason: Option<String>,
}

/// The long help of `--at`.
pub(super) const AT_HELP: &str = "Decide as of this time, such as +14d; such a plan cannot be applied\n\n\
    A time is `2026-12-24T03:00:00Z`, a day such as `2026-12-24` (its beginning in UTC), `+14d` from now, or `1h` ago.";

/// Decides about every tag and prints the report.
pub(super) async fn plan(config: Option<&Path>, args: &PlanArgs) -> Result<u8, RunError> {
    let formats = file_formats(&args.out)?;
    let app = open_app(config).await?;
    let bar = TerminalProgress::new(app.progress());
    let result = match args.narrow.narrowing(&app.settings, &app.policies) {
        Ok(narrowing) => {
            let options =
                PlanOptions { at: args.at, narrowing, acceptances: args.acceptances(), ..PlanOptions::default() };
            match verify_scopes(args, &app.settings, &app.policies) {
                Ok(()) => app.plan_with(options, &()).await,
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    drop(bar);
    app.close().await;
    let result = result?;
    print_report(&result.document, args.format.into(), &formats)?;
    Ok(report_outcome(&result, RefusalEffect::DryRun))
}

impl PlanArgs {
    fn acceptances(&self) -> Vec<Acceptance> {
        let reason = self.reason.clone().unwrap_or_default();
        let of = |(kind, scope): &(&'static str, AcceptanceScope)| Acceptance {
            kind,
            scope: scope.clone(),
            reason: reason.clone(),
            bound: None,
        };
        self.accept.iter().map(of).collect()
    }
}

/// Makes sure that what is accepted names registries and policies that exist.
fn verify_scopes(args: &PlanArgs, settings: &Settings, policies: &PolicySet) -> Result<(), RunError> {
    let registries: Vec<&str> = settings.registries.iter().map(|one| one.name.as_str()).collect();
    let names: Vec<&str> = policies.policies.iter().map(|one| one.name.as_str()).collect();
    for (_, scope) in &args.accept {
        match scope {
            AcceptanceScope::Registry(registry) | AcceptanceScope::Repository(registry, _) => {
                reject_unknown("registry", registry.as_str(), &registries)?;
            }
            AcceptanceScope::Policy(policy) => reject_unknown("policy", policy.as_str(), &names)?,
            AcceptanceScope::Any | AcceptanceScope::Run | AcceptanceScope::Exact(_) => {}
        }
    }
    Ok(())
}
