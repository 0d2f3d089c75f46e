//! `tagwarden completions`: the completion script of a shell.

use clap::Args;
use clap_complete::Shell;

use super::output::print;

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Choose the shell
    shell: Shell,
}

/// Prints the script, to be sourced or put where the shell looks for it.
pub(super) fn completions(args: &CompletionsArgs) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "tagwarden", &mut script);
    print(&String::from_utf8_lossy(&script));
    0
}
