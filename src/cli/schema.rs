//! `tagwarden schema`: the JSON schemas of policy files and of their tests.

use clap::Args;

use super::context::pretty_json;
use super::output::print;
use crate::policy;

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Print the schema of policy tests instead
    #[arg(long)]
    tests: bool,
}

/// Prints a JSON schema.
pub(super) fn schema(args: &SchemaArgs) {
    let schema = if args.tests { policy::tests_schema() } else { policy::schema() };
    print(&pretty_json(&schema));
}
