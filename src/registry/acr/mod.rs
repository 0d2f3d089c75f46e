//! The dialect of Azure Container Registry (ACR): tags and manifests listed in bulk with their times and locks, and tags
//! removed alone, manifests by their digests.
//!
//! Wire facts are those of its data plane of api-version 2021-07-01 and of recorded traffic; no api-version is sent, as
//! Azure's own tools send none.

mod auth;
mod lists;
mod manifests;
mod parallel_lists;
mod rate_limits;
mod reader;
mod token;
mod wire;
mod writer;

use crate::domain::{Digest, RepositoryName, TagName};

pub(super) use auth::AcrAuthenticator;
use rate_limits::documented_limits;
pub use reader::AcrReader;
pub use writer::AcrWriter;

/// The path of a repository's attributes.
fn repository_path(repository: &RepositoryName) -> String {
    format!("/acr/v1/{repository}")
}

/// The path of one tag.
fn tag_path(repository: &RepositoryName, tag: &TagName) -> String {
    format!("/acr/v1/{repository}/_tags/{tag}")
}

/// The path of what the registry says of one manifest.
fn manifest_path(repository: &RepositoryName, digest: &Digest) -> String {
    format!("/acr/v1/{repository}/_manifests/{digest}")
}
