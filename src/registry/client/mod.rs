//! The OCI client shared by all products: authenticated requests, tokens, pages, manifests and their references.

pub(super) mod auth;
pub(super) mod authenticator;
pub(super) mod bearer;
pub(super) mod challenge;
pub(super) mod connection;
pub(super) mod docker_config;
pub(super) mod jwt;
pub(super) mod list_gaps;
pub(super) mod listed_manifests;
pub(super) mod manifest_graph;
pub(super) mod pagination;
pub(super) mod probe;
pub(super) mod pull;
pub(super) mod push;
pub(super) mod tag_pattern;
pub(super) mod tag_rows;
pub(super) mod wire;
