//! `tagwarden demo`: the whole job on an embedded sample registry.

use std::path::PathBuf;

use clap::Args;

use super::context::{current_user, system_clock};
use super::output::print;
use super::signals::listen_for_stop;
use crate::demo::{self, DemoOptions};
use crate::workflow::RunError;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Write the sample into this folder [default: ./tagwarden-demo]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Keep the sample registry running, to try commands on
    #[arg(long)]
    serve: bool,
}

/// Runs the demo.
pub(super) async fn demo(args: &DemoArgs) -> Result<u8, RunError> {
    let narrate = |words: &str| print(&format!("{words}\n"));
    let folder = args.folder.as_deref();
    let (clock, by, stop) = (system_clock(), current_user(), listen_for_stop());
    demo::run_demo(DemoOptions { folder, serve: args.serve, clock, by, stop, narrate: &narrate }).await?;
    Ok(0)
}
