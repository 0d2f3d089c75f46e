//! Tagwarden: retention and cleanup for container image tags.
//!
//! ARCHITECTURE.md lists the modules in the order in which they may import each other.

pub mod apply;
pub mod azure;
pub mod cli;
pub mod config;
pub mod daemon;
#[cfg(feature = "demo")]
pub mod demo;
pub mod domain;
pub mod engine;
pub mod http_client;
pub mod notify;
pub mod policy;
pub mod policy_import;
pub mod registry;
pub mod report;
pub mod sources;
pub mod state;
pub mod telemetry;
pub mod web;
pub mod workflow;
