//! `tagwarden inventory`: the current registries and sources, recorded for `diff --inventory`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::context::{STANDARD, open_app_to_look, require_writable, run_until_stopped, unwritable};
use super::output::{print_as, print_note, print_stderr, write_file};
use super::progress::TerminalProgress;
use super::sanitize::OutputKind;
use crate::domain::SourceOutcome;
use crate::workflow::{RunError, RunOutcome};

#[derive(Debug, Args)]
pub(super) struct InventoryArgs {
    /// Write to this file [default: `-`, standard output]
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
}

/// Records registries and sources, for `diff --inventory`.
pub(super) async fn inventory(config: Option<&Path>, args: &InventoryArgs) -> Result<u8, RunError> {
    let file = args.out.as_ref().filter(|file| file.as_os_str() != STANDARD);
    file.map_or(Ok(()), |file| require_writable(file))?;
    let app = open_app_to_look(config).await?;
    let bar = TerminalProgress::new(app.progress());
    let facts = run_until_stopped(&app, app.read_decision_input(None, &[], &())).await;
    drop(bar);
    app.close().await;
    let facts = facts?;
    let text = facts.to_json()?;
    match file {
        Some(file) => {
            write_file(file, |out| out.write_all(text.as_bytes())).map_err(|error| unwritable(file, error))?;
            print_note(&format!("wrote {}", file.display()));
        }
        None => print_as(OutputKind::Json, |out| out.write_all(text.as_bytes())),
    }
    let failed = facts.claims.sources.iter().any(SourceOutcome::has_failed);
    if failed || facts.inventory.has_gaps() {
        print_stderr("evidence is missing: a source or a registry could not be read; the record says which");
        return Ok(RunOutcome::EvidenceMissing.exit_code());
    }
    Ok(0)
}
