//! The `tagwarden` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tagwarden::cli::main()
}
