//! The daemon: what is due when, what is held back, and how it lives and ends.

mod approved;
mod due;
#[cfg(unix)]
mod edits;
mod holding;
mod interrupting;
mod living;
#[cfg(unix)]
mod real;
mod records;
mod state;

use jiff::Timestamp;

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}
