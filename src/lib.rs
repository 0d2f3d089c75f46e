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
pub mod http_client;
pub mod notify;
pub mod policy;
pub mod registry;
pub mod report;
pub mod sources;
pub mod state;
pub mod web;
pub mod workflow;
