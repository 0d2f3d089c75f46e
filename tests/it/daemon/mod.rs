//! The daemon: what is due when, what is held back, and how it lives and ends.

mod approvals_folder;
mod change_freeze;
mod event_loop;
mod interruptions;
#[cfg(target_os = "linux")]
mod many_registries;
#[cfg(unix)]
mod process;
mod records;
#[cfg(unix)]
mod reload;
#[cfg(target_os = "linux")]
mod replica_rules;
#[cfg(target_os = "linux")]
mod replica_schedule;
#[cfg(target_os = "linux")]
mod replicas;
mod schedule;
mod state;

use jiff::Timestamp;

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}
