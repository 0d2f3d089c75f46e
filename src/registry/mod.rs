//! Reading and changing registries.
//!
//! Reading and changing are different traits: whoever only plans holds no [`RegistryWriter`]. Everything that is known of
//! a product stands in its folder below [`providers`]; `client/` holds the OCI client that all products share.
//! [`connect`] opens one [`RegistryConnection`] for each registry: its reader is for everyone, its writer for the
//! holder of a lease. [`collect()`] walks a registry through its reader and turns every failure into a gap.

mod client;
mod collect;
mod connection;
pub mod providers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use crate::azure;
use crate::domain::{
    Digest, Gap, JournaledIntent, ManifestState, Product, RegistryInfo, RegistryName, RemovalMethod, RemovalObstacle,
    Repository, RepositoryName, TagName, TagState,
};

pub use crate::http_client::{
    RateLimits, RequestCounts, RequestError as RegistryError, RequestErrorKind as RegistryErrorKind, RetryPolicy,
    ServerTime, uptime,
};
pub use client::authenticator::Authenticator;
pub use client::connection::WritePermit;
pub(crate) use client::connection::is_loopback;
pub(crate) use client::list_gaps::VANISHED;
pub(crate) use client::pagination::next_link;
pub use client::probe::ProbeResponse;
pub use client::wire::{Child, InvalidContent, ParsedManifest, is_blob_type, parse_manifest};
pub use collect::{
    CollectScope, Progress, RegistryHead, collect, collect_repositories, connect, hosts, read_heads, read_repository,
    read_repository_with_changes, reader,
};
pub use connection::RegistryConnection;
pub use providers::{
    AcrReader, Capabilities, DistributionReader, Provider, ReferrersSupport, Support, UntagSupport, kinds, provider,
};

/// One registry as the settings give it, secrets already read.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Its name in the settings.
    pub name: RegistryName,
    /// Its product.
    pub provider: &'static dyn Provider,
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
    /// A person's word on deleting a tag and leaving its manifest.
    pub can_untag: CanUntag,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// How long one request may take.
    pub timeout: Duration,
    /// Further hosts (with a port or without) whose token services may be handed this registry's credentials. Its own
    /// host and those of well-known registries need not stand here.
    pub token_hosts: Vec<String>,
    /// The repositories to read where the registry does not list them itself; empty means to ask it.
    pub repositories: Vec<RepositoryName>,
    /// The namespaces whose repositories to read, where the registry lists them by namespace only.
    pub namespaces: Vec<String>,
    /// Most requests a minute, by kind of operation; nothing where only the registry itself sets a pace.
    pub rate_limits: RateLimits,
    /// The API of the product around the registry, where it may be asked.
    pub api: Option<providers::ProductApi>,
    /// The registry as a resource of Azure, where it may be asked about itself.
    pub azure_resource: Option<providers::RegistryResource>,
    /// Whether the registry may delete untagged manifests sooner than the undo window ends.
    pub accepts_retention: bool,
    /// Whether tags may be removed although the registry does not tell its time and no other confirms this machine's.
    pub accepts_missing_date: bool,
    /// Whether manifests that a list tells enough of are pulled all the same, for the bytes of their layers. Only where
    /// a dialect has such lists; the others always pull.
    pub exact_bytes: bool,
}

impl RegistrySettings {
    /// Its address as the inventory, the journal and holds have it: the endpoint without a slash at its end.
    #[must_use]
    pub fn address(&self) -> &str {
        self.endpoint.as_str().trim_end_matches('/')
    }

    /// The settings of a registry of which only this much is said.
    #[must_use]
    pub fn with_defaults(name: RegistryName, provider: &'static dyn Provider, endpoint: url::Url) -> Self {
        Self {
            name,
            provider,
            endpoint,
            aliases: Vec::new(),
            auth: Auth::Anonymous,
            ca_file: None,
            removal: RemovalMethod::Untag,
            can_untag: CanUntag::Unknown,
            concurrency: provider.default_concurrency(),
            timeout: Duration::from_secs(30),
            token_hosts: Vec::new(),
            repositories: Vec::new(),
            namespaces: Vec::new(),
            rate_limits: RateLimits::default(),
            api: None,
            azure_resource: None,
            accepts_retention: false,
            accepts_missing_date: false,
            exact_bytes: false,
        }
    }
}

/// The setting `can_untag`: a person's word on deleting a tag and leaving its manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CanUntag {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// The settings do not say: what removals showed and what the registry tells of itself decide.
    #[default]
    Unknown,
}

impl CanUntag {
    /// The word in the settings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
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
    /// What `docker login` or `podman login` left: these files, the first of which that knows the registry, with their
    /// credential helpers.
    DockerConfig(Vec<PathBuf>),
    /// As an identity of Microsoft Entra ID, whose token the registry exchanges for its own. Only where the registry is
    /// Azure's.
    Entra(Box<azure::Credential>),
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

/// Manifests to be read although no tag may lead to them, by repository.
pub type ExtraManifests = BTreeMap<(RegistryName, RepositoryName), BTreeSet<Digest>>;

/// The registry's response to a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalResponse {
    /// It is done.
    Removed {
        /// What the registry gave as evidence, such as a correlation id; often empty.
        request_id: String,
        /// The digest that the tag named in the instant of its removal, where the registry tells.
        digest: Option<Digest>,
    },
    /// There was nothing to remove any more.
    AlreadyMissing,
}

/// Content that never changes, kept between runs by its digest.
#[async_trait]
pub trait ContentCache: Send + Sync {
    /// The manifest of that digest, if it was ever read.
    async fn manifest(&self, digest: &Digest) -> Option<RawManifest>;
    /// Keeps a verified manifest. Failing to is no failure of the reader's work: it is logged.
    async fn store_manifest(&self, manifest: &RawManifest);
    /// What the image configuration of that digest says of its creation, if it was ever read (`Some(None)`: nothing).
    async fn created_at(&self, config: &Digest) -> Option<Option<jiff::Timestamp>>;
    /// Keeps what a verified image configuration says of its creation.
    async fn store_created_at(&self, config: &Digest, created_at: Option<jiff::Timestamp>);
}

/// Reads a registry. Never changes anything in it.
#[async_trait]
pub trait RegistryReader: Send + Sync {
    /// The settings that it works by.
    fn settings(&self) -> &RegistrySettings;

    /// As whom it reads, in words.
    fn identity(&self) -> String;

    /// Returns the number of requests of the connection so far, those of its writer included; zero by default.
    fn request_counts(&self) -> RequestCounts {
        RequestCounts::default()
    }

    /// Returns the capabilities as far as they are known without a further request: those of the kind, refined by the
    /// settings and by earlier answers.
    fn known_capabilities(&self) -> Capabilities {
        let settings = self.settings();
        settings.provider.capabilities().with_settings(settings)
    }

    /// Returns the capabilities, refined by the product that the registry shows itself to be.
    async fn capabilities(&self) -> Capabilities {
        self.known_capabilities().with_product(self.product().await)
    }

    /// The names of all repositories.
    ///
    /// # Errors
    /// When not even the first page could be read. Later failures are gaps of the catalogue.
    async fn catalogue(&self) -> Result<Catalogue, RegistryError>;

    /// Whether [`RegistryReader::repository`] lists every manifest, tagged or not, and so finds those that are looked
    /// for and every index that may hold them.
    fn lists_untagged(&self) -> bool {
        self.known_capabilities().lists_untagged.is_certain()
    }

    /// Everything about one repository: tags, manifests, children, referrers. Failures become its gaps.
    ///
    /// Where untagged manifests are listed, those to look for are among the manifests. One that is not listed is not there,
    /// which is no failure. What lists or refers to others may be left unread there, see [`RegistryReader::read_manifests`].
    async fn repository(
        &self,
        name: &RepositoryName,
        look_for: &BTreeSet<Digest>,
        cache: &dyn ContentCache,
    ) -> Repository;

    /// Reads a repository as [`RegistryReader::repository`] does, and tells of the manifests that no tag references when they
    /// changed last. Where the lists have no such times, as by default, nobody knows of a push by digest alone.
    async fn repository_with_changes(
        &self,
        name: &RepositoryName,
        look_for: &BTreeSet<Digest>,
        cache: &dyn ContentCache,
    ) -> (Repository, BTreeMap<Digest, Timestamp>) {
        (self.repository(name, look_for, cache).await, BTreeMap::new())
    }

    /// Reads manifests that a repository of this registry lists and that were left unread. What they list and refer to
    /// is among its manifests then. Failures become its gaps. Nothing by default: where everything is read at once, there
    /// is nothing left.
    async fn read_manifests(
        &self,
        _repository: &mut Repository,
        _digests: &BTreeSet<Digest>,
        _cache: &dyn ContentCache,
    ) {
    }

    /// The names of all tags that a repository has right now, sorted.
    ///
    /// # Errors
    /// When the list could not be read whole; [`RegistryErrorKind::NotFound`] where the registry says that there is no such
    /// repository, which may pass.
    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError>;

    /// Returns the tag's present state, or `None` if the tag does not exist. Never answered from a cache.
    ///
    /// # Errors
    /// When the registry did not say.
    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError>;

    /// Returns true if the manifest exists at present. Never answered from a cache.
    ///
    /// # Errors
    /// When the registry did not say.
    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError>;

    /// Returns true if the manifest of a removed tag is still there to be put back under it; by default if it can be read.
    ///
    /// # Errors
    /// When the registry did not say.
    async fn keeps_removed(
        &self,
        repository: &RepositoryName,
        _tag: &TagName,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        self.has_manifest(repository, digest).await
    }

    /// Returns true if no manifest can be read that no tag leads to, although the registry puts it back whole with its tag
    /// for a while. Then only [`RegistryReader::keeps_removed`] tells whether it is there.
    fn hides_untagged(&self) -> bool {
        false
    }

    /// Returns true if the registry may refuse to give a manifest that is there, by a rule of its own. Then no tag is removed
    /// before the manifest that undoes it was read.
    fn may_withhold_manifests(&self) -> bool {
        false
    }

    /// Returns true if the registry may remove the tags of cosign's signatures along with the last tag of their image.
    fn expires_companions(&self) -> bool {
        false
    }

    /// Returns the manifest's present state with the tags that name it, or `None` if it does not exist.
    ///
    /// # Errors
    /// When the registry did not say, or [`RegistryErrorKind::Unsupported`] where it cannot: the distribution API has no
    /// question for the tags of a manifest.
    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError>;

    /// Returns every manifest that refers to this one at present. Never answered from a cache.
    ///
    /// # Errors
    /// When the list could not be read whole, or [`RegistryErrorKind::Unsupported`] where the registry does not know the
    /// question: nobody can say then that nothing refers to it.
    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError>;

    /// A manifest's exact bytes, verified; nothing if there is no such manifest.
    ///
    /// # Errors
    /// When it could not be read whole, or is not what its digest says.
    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError>;

    /// Returns the registry's product by what it says of itself in answers to GET, or `None` where it cannot be
    /// recognised or its kind says it already.
    async fn product(&self) -> Option<Product> {
        None
    }

    /// Returns those of the repositories from which the identity may not remove, with what is missing, as far as the
    /// registry says without being asked for a removal.
    ///
    /// Azure Container Registry says in its tokens what they are good for, repository by repository. Other registries
    /// say nothing, so nothing is missing there as far as is known.
    async fn missing_rights(&self, _repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        BTreeMap::new()
    }

    /// What the cloud around the registry says of it; nothing where nobody can be asked.
    ///
    /// # Errors
    /// When it should have been told and was not.
    async fn registry_info(&self) -> Result<Option<RegistryInfo>, RegistryError> {
        Ok(None)
    }

    /// The present time by the registry's own clock; `None` where no answer told it.
    fn server_time(&self) -> Option<ServerTime> {
        None
    }

    /// The header that keeps [`Self::server_time`] from knowing the time although answers have it: it is invalid.
    fn invalid_date_header(&self) -> Option<&'static str> {
        None
    }
}

/// Changes a registry. A [`RegistryConnection`] hands it to the holder of a lease only, and each removal takes the proof
/// that it is journaled.
#[async_trait]
pub trait RegistryWriter: Send + Sync {
    /// Waits for everything that a removal from a repository may have to wait for: the registry's pace, then a token.
    /// Whoever looks at a tag before removing it does this first, or the look would be old when the request is sent.
    ///
    /// # Errors
    /// When there is no token that allows it, or the token service failed. Nothing was sent that removes.
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError>;

    /// Waits for everything that a push to a repository may have to wait for, for the same reason.
    ///
    /// # Errors
    /// As [`RegistryWriter::acquire_removal_permit`].
    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError>;

    /// Removes the tag of a journaled untag and leaves its manifest. Sent at once and only once.
    ///
    /// # Errors
    /// When something else was journaled (nothing is sent then), or the registry refused or failed. Whether the tag is
    /// still there must then be looked up. Where the error [wants another look](RegistryError::requires_recheck), nothing
    /// was removed, and the next try needs a new clearance.
    async fn untag(&self, intent: &JournaledIntent, clearance: WritePermit) -> Result<RemovalResponse, RegistryError>;

    /// Deletes the manifest of a journaled deletion by its digest, and with it every tag that names it. Sent at once and
    /// only once.
    ///
    /// # Errors
    /// As [`RegistryWriter::untag`].
    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError>;

    /// Puts a manifest under a tag, byte for byte and by its own media type.
    ///
    /// # Errors
    /// When the registry refused it, for one because blobs that it needs are gone, or stored it under another digest.
    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError>;

    /// Asks the registry to delete a tag or a manifest that cannot exist, and reads its answer; `None` where there is
    /// nothing to find out, because the registry's kind is known to delete.
    ///
    /// For whoever asks for it on purpose: a dry run never does.
    async fn probe(&self, _repository: &RepositoryName, _method: RemovalMethod) -> Option<ProbeResponse> {
        None
    }

    /// Puts a manifest by its digest, without a tag, byte for byte and by its own media type.
    ///
    /// # Errors
    /// As [`RegistryWriter::put_tag`].
    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError>;
}

/// Makes sure that a removal is made by the method that was journaled: a restore allows none, and an untag no deletion.
///
/// # Errors
/// [`RegistryErrorKind::InvalidSettings`] if another one was journaled.
fn verify_method(intent: &JournaledIntent, method: RemovalMethod) -> Result<(), RegistryError> {
    if intent.method() == Some(method) {
        return Ok(());
    }
    let (id, repository, tag) = (intent.id(), intent.repository(), intent.tag());
    let message = format!(
        "cannot remove {repository}:{tag}: journal entry {id} is not for this kind of removal; this is a fault in \
         tagwarden, please report it"
    );
    Err(RegistryError::new(RegistryErrorKind::InvalidSettings, message))
}
