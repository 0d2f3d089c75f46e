//! The daemon: what is due when, what is held back, and how it lives and ends.

mod due;
mod holding;
mod records;

use jiff::Timestamp;

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}
