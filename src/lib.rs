//! Tagwarden: retention and cleanup for container image tags.
//!
//! The rooms, from facts to ways in; imports point strictly downward in this list reversed. ARCHITECTURE.md walks
//! through them.

pub mod apply;
pub mod azure;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod domain;
pub mod engine;
pub mod http;
pub mod notify;
pub mod policy_file;
pub mod registry;
pub mod report;
pub mod run;
pub mod sources;
pub mod store;
pub mod transport;
