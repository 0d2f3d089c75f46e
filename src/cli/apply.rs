//! `tagwarden apply`: the removals of an approved plan.

use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::{DataFormat, parse_approver, parse_reason, parse_ticket};
use super::context::{
    RefusalEffect, describe_input, json_document, load, open_loaded_app, read_input, read_input_bytes, report_outcome,
};
use super::outcome_text;
use super::output::print;
use super::progress::TerminalProgress;
use super::run_notifier::RunNotifier;
use crate::state::RunKind;
use crate::workflow::{self, Approval, RunError};

#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// Read the plan from this file; `-` is standard input
    ///
    /// The file is one that `tagwarden plan --out plan.json` wrote.
    #[arg(value_name = "PLAN.json")]
    plan: PathBuf,
    /// Record who approved the plan
    #[arg(long, value_name = "WHO", value_parser = parse_approver)]
    approved_by: Option<String>,
    /// Record the change ticket
    #[arg(long, value_name = "REF", value_parser = parse_ticket)]
    ticket: Option<String>,
    /// Apply in spite of a window or freeze, for this reason
    ///
    /// The reason goes into the audit record.
    #[arg(long, value_name = "REASON", alias = "despite-freeze", value_parser = parse_reason)]
    override_freeze: Option<String>,
    /// Read the signature here [default: PLAN.json.minisig, PLAN.json.sig]
    ///
    /// A signature by minisign or SSH. Needed where the settings have `approvals.signers`.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

/// Applies an approved plan and prints its outcomes.
pub(super) async fn apply(config: Option<&Path>, args: &ApplyArgs) -> Result<u8, RunError> {
    let plan = read_input_bytes(&args.plan)?;
    let loaded = load(config)?;
    // A signature beside the plan counts if signers are configured.
    let wanted = !loaded.0.0.approvals.signers.is_empty();
    let file = args.signature.clone().or_else(|| workflow::find_signature_file(&args.plan).filter(|_| wanted));
    let signature = file.map(|file| read_input(&file));
    let approval = Approval {
        approved_by: args.approved_by.clone(),
        ticket: args.ticket.clone(),
        override_reason: args.override_freeze.clone(),
        signature: signature.transpose()?,
    };
    let notifier = RunNotifier::start(&loaded.0.0);
    let result = async {
        let app = open_loaded_app(loaded).await?;
        let bar = TerminalProgress::new(app.progress());
        let ended = app.apply(&plan, &approval, &()).await;
        drop(bar);
        app.close().await;
        ended
    };
    let result = result.await.map_err(|error| match error {
        RunError::Usage(failure) => {
            RunError::Usage(failure.within(format!("cannot apply {}", describe_input(&args.plan))))
        }
        error => error,
    });
    notifier.notify_run(RunKind::Apply, result.as_ref());
    let shown = result.map(|ended| {
        match args.format {
            DataFormat::Text => print(&outcome_text::applied_text(&ended, false, 0)),
            DataFormat::Json => print(&json_document("tagwarden.apply/1", outcome_text::applied_json(&ended))),
        }
        report_outcome(&ended, RefusalEffect::Enforced)
    });
    notifier.finish().await;
    shown
}
