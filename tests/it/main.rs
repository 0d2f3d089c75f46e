//! One binary for all integration tests: linking it once is what takes the time.

mod acr;
mod approvals;
mod azure;
mod cli;
mod commands;
mod daemon;
mod docker_registry;
mod documents;
mod embedded_registry;
mod explain;
mod house;
mod notify;
mod packaging;
mod http;
mod policy_files;
mod policy_work;
mod properties;
mod registry;
mod report;
mod scenarios;
mod settings;
mod sources;
mod store;
mod support;
mod walk;
