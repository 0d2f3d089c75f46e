//! What several tests need: registries to talk to and content to put there.

pub(crate) mod acr;
pub(crate) mod azure;
pub(crate) mod browser;
pub(crate) mod certificate;
pub(crate) mod clients;
pub(crate) mod content;
pub(crate) mod docker_registry;
pub(crate) mod encodings;
pub(crate) mod garbage;
pub(crate) mod git;
pub(crate) mod kubernetes;
pub(crate) mod lease;
pub(crate) mod log_analytics;
pub(crate) mod manifests;
pub(crate) mod memory;
pub(crate) mod old_state;
#[cfg(target_os = "linux")]
pub(crate) mod pgbouncer;
#[cfg(target_os = "linux")]
pub(crate) mod postgres;
#[cfg(target_os = "linux")]
pub(crate) mod proxy;
pub(crate) mod removal;
pub(crate) mod skopeo;
