//! One binary for all integration tests: linking it once is what takes the time.

mod policy_files;
mod settings;
mod properties;
mod scenarios;
mod embedded_registry;

#[test]
fn x() {}
//! All integration tests, as one binary.

mod docker_registry;
mod registry;
mod support;
//! The one integration-test binary.

mod sources;
mod store;
