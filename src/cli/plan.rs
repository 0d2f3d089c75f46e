//! `tagwarden plan`: the decision about every tag, as a report.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::arguments::{ReportFormat, listed, parse_acceptance, parse_reason, parse_time};
use super::context::{RefusalEffect, file_formats, open_app, print_report, reject_unknown, report_outcome};
use super::narrow::NarrowArgs;
use super::progress::TerminalProgress;
use crate::config::Settings;
use crate::domain::{ACCEPTABLE, Acceptance, AcceptanceScope, Failure, RegistryName, RepositoryName};
use crate::policy::PolicySet;
use crate::policy::fields::nearest;
use crate::report::{self, AcceptedView, PlanDocument};
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
    /// `policy:NAME`, a registry, or REGISTRY/REPOSITORY (the registry may be left out where there is only one); without it,
    /// all refusals of the kind are accepted. What is accepted is part of the plan and its id. The clock, missing rights, a registry's retention and missing evidence cannot be
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
    let acceptances = args.acceptances(&app.settings, &app.policies);
    let bar = TerminalProgress::new(app.progress());
    let result = match acceptances.and_then(|found| Ok((found, args.narrow.narrowing(&app.settings, &app.policies)?))) {
        Ok((acceptances, narrowing)) => {
            let options =
                PlanOptions { at: args.at, narrowing, acceptances: acceptances.clone(), ..PlanOptions::default() };
            let planned = app.plan_with(options, &()).await;
            planned.and_then(|result| verify_accepted(&acceptances, &result.document).map(|()| result))
        }
        Err(error) => Err(error),
    };
    drop(bar);
    app.close().await;
    let mut result = result?;
    print_report(&mut result.document, args.format.into(), &formats)?;
    Ok(report_outcome(&result, RefusalEffect::DryRun))
}

impl PlanArgs {
    /// Returns what is accepted, in registries and of policies that exist.
    fn acceptances(&self, settings: &Settings, policies: &PolicySet) -> Result<Vec<Acceptance>, RunError> {
        let reason = self.reason.clone().unwrap_or_default();
        let names: Vec<&str> = policies.policies.iter().map(|one| one.name.as_str()).collect();
        let of = |(kind, scope): &(&'static str, AcceptanceScope)| {
            let scope = match scope {
                AcceptanceScope::Registry(registry) => place(settings, registry, None)?,
                AcceptanceScope::Repository(registry, repository) => place(settings, registry, Some(repository))?,
                AcceptanceScope::Policy(policy) => {
                    reject_unknown("policy", policy.as_str(), &names)?;
                    scope.clone()
                }
                AcceptanceScope::Any | AcceptanceScope::Run | AcceptanceScope::Exact(_) => scope.clone(),
            };
            Ok(Acceptance { kind, scope, reason: reason.clone(), bound: None })
        };
        self.accept.iter().map(of).collect()
    }
}

/// Returns the registry or repository of a scope. Where there is only one registry, its name may be left out.
fn place(
    settings: &Settings,
    registry: &RegistryName,
    repository: Option<&RepositoryName>,
) -> Result<AcceptanceScope, RunError> {
    let known: Vec<&str> = settings.registries.iter().map(|one| one.name.as_str()).collect();
    if let ([only], Err(error)) = (&*settings.registries, reject_unknown("registry", registry.as_str(), &known)) {
        let bare = repository.map_or_else(|| registry.to_string(), |repository| format!("{registry}/{repository}"));
        return match bare.parse() {
            // A registry's name with a typing error is not the beginning of a repository's.
            Ok(bare) if nearest(registry.as_str(), &known).is_none() => {
                Ok(AcceptanceScope::Repository(only.name.clone(), bare))
            }
            _ => Err(error),
        };
    }
    reject_unknown("registry", registry.as_str(), &known)?;
    Ok(match repository {
        Some(repository) => AcceptanceScope::Repository(registry.clone(), repository.clone()),
        None => AcceptanceScope::Registry(registry.clone()),
    })
}

/// Makes sure that the plan had a refusal for each scope that is accepted: a misspelt one accepts nothing.
///
/// # Errors
/// [`RunError::Usage`], with the refusal that was probably meant.
fn verify_accepted(acceptances: &[Acceptance], document: &PlanDocument) -> Result<(), RunError> {
    let accepted: Vec<Acceptance> = document.accepted.iter().filter_map(AcceptedView::acceptance).collect();
    for one in acceptances.iter().filter(|one| one.scope != AcceptanceScope::Any) {
        if accepted.iter().any(|found| found.kind == one.kind && one.scope.includes(&found.scope)) {
            continue;
        }
        let flag = format!("{}@{}", one.kind, one.scope);
        let known: Vec<String> = report::acceptable_refusals(document, false).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let meant = nearest(&flag, &known).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
        let help = if known.is_empty() {
            "nothing is left to accept in it; leave the flag out".to_owned()
        } else {
            format!("its refusals: {}", known.iter().map(|flag| format!("`{flag}`")).collect::<Vec<_>>().join(", "))
        };
        let failure = Failure::new((), format!("--accept {flag}: the plan has no such refusal{meant}"));
        return Err(RunError::Usage(failure.with_help(help)));
    }
    Ok(())
}
