//! Reading and changing registries.
//!
//! Reading and changing are different traits: whoever only plans holds no [`RegistryWriter`]. One file for each dialect;
//! [`collect()`] walks a registry through its reader and turns every failure into a gap.

mod auth;
mod challenge;
mod collect;
mod contents;
mod credentials;
mod distribution;
mod http;
mod paging;
mod pull;
mod removal;
mod transport;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::domain::{Digest, Gap, RegistryName, RemovalAbility, RemovalMethod, Repository, RepositoryName, TagName};

pub use collect::{Progress, Scope, collect, hosts, reader, writer};
pub use distribution::DistributionReader;
pub use removal::DistributionWriter;
pub use transport::Patience;
pub use wire::{Child, ParsedManifest, parse};

/// One registry as the settings give it, secrets already read.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Its name in the settings.
    pub name: RegistryName,
    /// Which dialect it speaks.
    pub kind: RegistryKind,
    /// Its address: scheme, host, port; no path.
    pub endpoint: url::Url,
    /// Other hosts that name the same registry in image references, lower case.
    pub aliases: Vec<String>,
    /// How to sign in.
    pub auth: Auth,
    /// A PEM file with further certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// How a tag is removed.
    pub removal: RemovalMethod,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// How long one request may take.
    pub timeout: Duration,
    /// Further hosts (with a port or without) whose token services may be handed this registry's credentials. Its own
    /// host and those of well-known registries need not stand here.
    pub token_hosts: Vec<String>,
    /// The repositories to read where the registry does not list them itself; empty means to ask it.
    pub repositories: Vec<RepositoryName>,
}

impl RegistryKind {
    /// The label used in settings and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Distribution => "distribution",
        }
    }
}

/// How many requests a reader has made since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// All requests, those for tokens and repeated ones included.
    pub total: u64,
    /// Those that repeated one that had failed.
    pub retries: u64,
    /// Answers that asked to slow down.
    pub throttled: u64,
}

/// The dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryKind {
    /// The OCI distribution API: distribution, zot, Harbor's registry, and most others.
    Distribution,
}

/// How to sign in to a registry.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Not at all.
    Anonymous,
    /// User name and password, sent to the registry and to the token service of its challenge.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A bearer token, sent as it is.
    Token(SecretString),
    /// What `docker login` left: `$DOCKER_CONFIG/config.json` or the file given, with its credential helpers.
    DockerConfig(PathBuf),
}

/// What went wrong with a registry. Messages name the registry and the request, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RegistryError {
    /// The class of it.
    pub kind: RegistryErrorKind,
    /// What happened, where, and what to do next.
    pub message: String,
}

/// The classes of failures that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryErrorKind {
    /// The thing asked for is not there (404).
    NotFound,
    /// Signing in failed, or what was signed in may not do this (401, 403).
    Denied,
    /// The registry does not do this (400 or 405 on a deletion).
    Unsupported,
    /// It is locked or immutable.
    Locked,
    /// Too many requests (429, or 503 with `Retry-After`). A removal or a put was not processed then; the wait that the
    /// registry wished for is over, and what it rests on should be looked at before the next try.
    Throttled,
    /// The registry failed (5xx), or answered with another status than expected.
    Status(u16),
    /// The connection failed, was cut, or took too long.
    Connection,
    /// The answer could not be understood, or was cut.
    Malformed,
    /// Content does not have the digest that it was asked for by.
    DigestMismatch,
    /// The settings of this registry cannot work (a CA file that cannot be read, say).
    Settings,
}

/// A manifest as it is on the wire, verified against its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The registry's word on its type, else its own.
    pub media_type: Arc<str>,
    /// The exact bytes.
    pub bytes: Arc<[u8]>,
}

/// The names of a registry's repositories, with what is missing from the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The names, in the registry's order.
    pub repositories: Vec<RepositoryName>,
    /// Why the list may be incomplete, or names in it that could not be understood.
    pub gaps: Vec<Gap>,
}

/// What came of asking a registry to remove something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// It is done. The text is what the registry gave as evidence, such as a correlation id; often empty.
    Done(String),
    /// There was nothing to remove any more.
    AlreadyGone,
}

/// Content that never changes, kept between runs by its digest.
#[async_trait]
pub trait ContentCache: Send + Sync {
    /// The manifest of that digest, if it was ever read.
    async fn manifest(&self, digest: &Digest) -> Option<RawManifest>;
    /// Keeps a verified manifest. Failing to is no failure of the reader's work: it is logged.
    async fn keep_manifest(&self, manifest: &RawManifest);
    /// What the image configuration of that digest says of its creation, if it was ever read (`Some(None)`: nothing).
    async fn created_at(&self, config: &Digest) -> Option<Option<jiff::Timestamp>>;
    /// Keeps what a verified image configuration says of its creation.
    async fn keep_created_at(&self, config: &Digest, created_at: Option<jiff::Timestamp>);
}

/// Reads a registry. Never changes anything in it.
#[async_trait]
pub trait RegistryReader: Send + Sync {
    /// The settings that it works by.
    fn settings(&self) -> &RegistrySettings;

    /// As whom it reads, in words.
    fn identity(&self) -> String;

    /// How many requests it has made so far; nothing counted by default.
    fn requests(&self) -> Requests {
        Requests::default()
    }

    /// The names of all repositories.
    ///
    /// # Errors
    /// When not even the first page could be read. Later failures are gaps of the catalogue.
    async fn catalogue(&self) -> Result<Catalogue, RegistryError>;

    /// Everything about one repository: tags, manifests, children, referrers. Failures become its gaps.
    async fn repository(&self, name: &RepositoryName, cache: &dyn ContentCache) -> Repository;

    /// The names of all tags that a repository has right now, sorted.
    ///
    /// # Errors
    /// When the list could not be read whole.
    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError>;

    /// The digest that a tag names right now; nothing if there is no such tag.
    ///
    /// # Errors
    /// When the registry did not say.
    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<Digest>, RegistryError>;

    /// Whether a manifest is there right now (asked of the registry, never of a cache).
    ///
    /// # Errors
    /// When the registry did not say.
    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError>;

    /// A manifest's exact bytes, verified; nothing if there is no such manifest.
    ///
    /// # Errors
    /// When it could not be read whole, or is not what its digest says.
    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError>;

    /// Whether tags can be removed here in the way the settings choose, found out without removing anything.
    ///
    /// The distribution dialect asks to delete a tag (or a manifest) that cannot exist, a fresh random name, and reads
    /// the refusal: 404 says that deleting works, 400 and 405 that it does not.
    async fn removal_ability(&self, repository: &RepositoryName) -> RemovalAbility;
}

/// Changes a registry. Only the walks that a person told to enforce hold one.
#[async_trait]
pub trait RegistryWriter: Send + Sync {
    /// Removes one tag and leaves its manifest.
    ///
    /// # Errors
    /// When the registry refused or failed. Whether the tag is still there must then be looked up.
    async fn untag(&self, repository: &RepositoryName, tag: &TagName) -> Result<Removed, RegistryError>;

    /// Deletes one manifest by digest, and with it every tag that names it.
    ///
    /// # Errors
    /// When the registry refused or failed. Whether the manifest is still there must then be looked up.
    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<Removed, RegistryError>;

    /// Puts a manifest under a tag, byte for byte and by its own media type.
    ///
    /// # Errors
    /// When the registry refused it, for one because blobs that it needs are gone, or stored it under another digest.
    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
    ) -> Result<(), RegistryError>;
}

impl RegistryErrorKind {
    /// The label used in gaps, the audit record and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Locked => "locked",
            Self::Throttled => "throttled",
            Self::Status(_) => "status",
            Self::Connection => "connection",
            Self::Malformed => "malformed",
            Self::DigestMismatch => "digest-mismatch",
            Self::Settings => "settings",
        }
    }
}
