//! The `tagwarden` command.

fn main() {}
