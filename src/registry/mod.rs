//! Reading and changing registries.
//!
//! Reading and changing are different traits: planning code has no [`RegistryWriter`]. The facts about a product are in
//! its folder below [`providers`]; `client/` contains the OCI client shared by all products. [`connect`] opens one
//! [`RegistryConnection`] for each registry: its reader is for everyone, its writer for the holder of a lease.
//! [`collect()`] walks a registry through its reader and turns every failure into a gap.

mod client;
mod collect;
mod connection;
pub mod providers;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

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
pub(crate) use client::docker_config::names_host as docker_config_names_host;
pub(crate) use client::list_gaps::VANISHED;
pub(crate) use client::pagination::next_link;
pub use client::probe::ProbeResponse;
pub use client::wire::{Child, InvalidContent, ParsedManifest, annotations, is_blob_type, labels, parse_manifest};
pub use collect::{
    CollectScope, Progress, RegistryHead, collect, collect_repositories, connect, hosts, read_heads, read_repository,
    read_repository_with_changes, reader,
};
pub use connection::RegistryConnection;
pub use providers::{
    AcrReader, Capabilities, DistributionReader, Provider, ReferrersSupport, Support, UntagSupport, kinds, provider,
};
pub use settings::{AcceptedRisks, Auth, CanUntag, RegistrySettings};

/// A manifest as transferred, verified against its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// Its type as the registry reports it, else its own.
    pub media_type: Arc<str>,
    /// The exact bytes.
    pub bytes: Arc<[u8]>,
}

/// The names of a registry's repositories, and the gaps in the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The names, in the registry's order.
    pub repositories: Vec<RepositoryName>,
    /// Why the list may be incomplete, or invalid names in it.
    pub gaps: Vec<Gap>,
}

/// Manifests to be read although no tag may lead to them, by repository.
pub type ExtraManifests = BTreeMap<(RegistryName, RepositoryName), BTreeSet<Digest>>;

/// The registry's response to a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalResponse {
    /// It is done.
    Removed {
        /// The registry's evidence, such as a correlation id; often empty.
        request_id: String,
        /// The tag's digest at the instant of its removal, if the response contains it. A digest in the request proves
        /// nothing.
        digest: Option<Digest>,
    },
    /// The manifest is deleted, with these tags: all that it had in that instant.
    Deleted {
        /// Its tags.
        tags: Vec<TagName>,
    },
    /// It did not exist anymore.
    AlreadyMissing,
}

/// A registry's own record of a tag, read after it reported the tag's removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalRecord {
    /// The tag is removed.
    Removed {
        /// The digest that it named last.
        digest: Digest,
        /// False if the record does not show whether it named that digest or another one last.
        is_certain: bool,
    },
    /// The tag still names that digest.
    Active(Digest),
}

/// Immutable content, cached between runs by its digest.
#[async_trait]
pub trait ContentCache: Send + Sync {
    /// Returns the manifest with that digest, if it was ever read.
    async fn manifest(&self, digest: &Digest) -> Option<RawManifest>;
    /// Stores a verified manifest. A failure is only logged.
    async fn store_manifest(&self, manifest: &RawManifest);
    /// Returns the creation time in the image configuration with that digest, if it was ever read (`Some(None)`: it has
    /// none).
    async fn created_at(&self, config: &Digest) -> Option<Option<jiff::Timestamp>>;
    /// Stores the creation time of a verified image configuration.
    async fn store_created_at(&self, config: &Digest, created_at: Option<jiff::Timestamp>);
}

/// Reads a registry. Never changes anything in it.
#[async_trait]
pub trait RegistryReader: Send + Sync {
    /// Returns its settings.
    fn settings(&self) -> &RegistrySettings;

    /// Describes the identity that it reads as.
    fn identity(&self) -> String;

    /// Returns the number of requests of the connection so far, including those of its writer; zero by default.
    fn request_counts(&self) -> RequestCounts {
        RequestCounts::default()
    }

    /// Returns the capabilities as far as they are known without a further request: those of the kind, refined by the
    /// settings and by earlier responses.
    fn known_capabilities(&self) -> Capabilities {
        let settings = self.settings();
        settings.provider.capabilities().with_settings(settings)
    }

    /// Returns the capabilities, refined by the detected product.
    async fn capabilities(&self) -> Capabilities {
        self.known_capabilities().with_product(self.product().await)
    }

    /// Returns the names of all repositories.
    ///
    /// # Errors
    /// Returns an error if not even the first page can be read. Later failures are gaps of the catalogue.
    async fn catalogue(&self) -> Result<Catalogue, RegistryError>;

    /// Returns true if [`RegistryReader::repository`] lists every manifest, tagged or not, and so finds additional
    /// manifests and every index that may contain them.
    fn lists_untagged(&self) -> bool {
        self.known_capabilities().lists_untagged.is_certain()
    }

    /// Reads everything about one repository: tags, manifests, children, referrers. Failures become its gaps.
    ///
    /// If untagged manifests are listed, the additional ones are among the manifests. One that is not listed does not
    /// exist, which is not a failure. Manifests with children or subjects may be left unread there, see
    /// [`RegistryReader::read_manifests`].
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

    /// Returns the names of all current tags of a repository, sorted.
    ///
    /// # Errors
    /// Returns an error if the list cannot be read in full; [`RegistryErrorKind::NotFound`] if the registry reports
    /// that the repository does not exist, which may be transient.
    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError>;

    /// Returns true if a repository lists a tag now. It answers `false` only if the repository itself answers, so it proves that
    /// the tag is absent. By default it reads the whole list.
    ///
    /// # Errors
    /// Fails as [`RegistryReader::tags`] does.
    async fn lists_tag(&self, repository: &RepositoryName, tag: &TagName) -> Result<bool, RegistryError> {
        Ok(self.tags(repository).await?.binary_search(tag).is_ok())
    }

    /// Verifies that a repository answers, so that what it does not find is absent. By default it reads the whole list of tags.
    ///
    /// # Errors
    /// Fails as [`RegistryReader::tags`] does.
    async fn verify_readable(&self, repository: &RepositoryName) -> Result<(), RegistryError> {
        self.tags(repository).await.map(drop)
    }

    /// Returns the tag's current state, or `None` if the tag does not exist. Never answered from a cache.
    ///
    /// # Errors
    /// Returns an error if the registry does not answer that.
    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError>;

    /// Returns true if the manifest currently exists. Never answered from a cache.
    ///
    /// # Errors
    /// Returns an error if the registry does not answer that.
    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError>;

    /// Returns true if the registry still has a manifest that it listed and did not give when it was read: its content is
    /// unknown then. By default if it says so of the digest.
    ///
    /// # Errors
    /// Returns an error if the registry does not answer that.
    async fn lists_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        self.has_manifest(repository, digest).await
    }

    /// Returns true if the manifest of a removed tag can still be restored under it; by default if it can be read.
    ///
    /// # Errors
    /// Returns an error if the registry does not answer that.
    async fn keeps_removed(
        &self,
        repository: &RepositoryName,
        _tag: &TagName,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        self.has_manifest(repository, digest).await
    }

    /// Returns the registry's own record of a tag that it reported as removed, or `None` if it keeps no such record, as by
    /// default. If the record leaves open which digest the tag named last, it names another one than `planned`.
    ///
    /// # Errors
    /// Returns an error if the record cannot be read, or does not show what became of the tag.
    async fn removal_record(
        &self,
        _repository: &RepositoryName,
        _tag: &TagName,
        _planned: &Digest,
    ) -> Result<Option<RemovalRecord>, RegistryError> {
        Ok(None)
    }

    /// Returns true if manifests without tags cannot be read, although the registry restores them whole with their tag
    /// for a while. Then only [`RegistryReader::keeps_removed`] shows whether one exists, and
    /// [`RegistryWriter::revive_tag`] puts a tag back.
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

    /// Returns true if the removal of a manifest's last tag deletes the manifest, and that of any other tag leaves it. Then
    /// no tag is removed whose manifest would have none left.
    fn deletes_with_last_tag(&self) -> bool {
        false
    }

    /// Returns true if the registry deletes what an index lists together with it. Then no index is deleted: no outcome would
    /// be recorded for its images, and a restore could not bring them back.
    fn deletes_index_contents(&self) -> bool {
        false
    }

    /// Returns true if an untagged manifest is deleted within seconds where the registry keeps such manifests for 0 days,
    /// instead of by a later run of its cleanup.
    fn deletes_untagged_at_once(&self) -> bool {
        false
    }

    /// Returns true if [`RegistryReader::manifest_state`] names every tag of a manifest. Then one look at the manifest is
    /// enough before it is deleted with its tags, instead of one at each tag of the repository.
    fn names_all_tags(&self) -> bool {
        false
    }

    /// Returns true if the answer to the deletion of a manifest names every tag that went with it
    /// ([`RemovalResponse::Deleted`]), and [`RegistryReader::manifest_state`] every tag of a manifest. Then no list of the
    /// repository's tags is read for each deletion.
    fn names_deleted_tags(&self) -> bool {
        false
    }

    /// Returns the manifest's current state with the tags that name it, or `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the registry does not answer, or [`RegistryErrorKind::Unsupported`] if it cannot: the
    /// distribution API has no request for the tags of a manifest.
    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError>;

    /// Returns every manifest that currently refers to this one. Never answered from a cache.
    ///
    /// # Errors
    /// Returns an error if the list cannot be read in full, or [`RegistryErrorKind::Unsupported`] if the registry does
    /// not support the request: an absence of referrers cannot be proven then.
    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError>;

    /// Returns a manifest's exact bytes, verified; `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if it cannot be read in full, or does not match its digest.
    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError>;

    /// Returns an image configuration's exact bytes, verified. Unsupported by default.
    ///
    /// # Errors
    /// Returns an error if it cannot be read in full, or does not match its digest, and [`RegistryErrorKind::Unsupported`] if
    /// nobody knows how to read one.
    async fn configuration(&self, repository: &RepositoryName, _digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let message = format!("configurations in {repository} cannot be read from this kind of registry");
        Err(RegistryError::new(RegistryErrorKind::Unsupported, message))
    }

    /// Returns the registry's product by its own answers to GET, or `None` if it cannot be recognized or follows from
    /// its kind.
    async fn product(&self) -> Option<Product> {
        None
    }

    /// Returns the repositories from which the identity may not remove, with the missing permission, as far as the
    /// registry shows it without a removal request.
    ///
    /// Azure Container Registry's tokens contain their permissions, repository by repository. Other registries do not
    /// show them, so no missing right is known there.
    async fn missing_rights(&self, _repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        BTreeMap::new()
    }

    /// Returns the registry's own settings as the cloud reports them; `None` if they cannot be queried.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    async fn registry_info(&self) -> Result<Option<RegistryInfo>, RegistryError> {
        Ok(None)
    }

    /// Returns the current time by the registry's own clock; `None` if no response contained it.
    fn server_time(&self) -> Option<ServerTime> {
        None
    }

    /// Returns the header whose invalid values keep [`Self::server_time`] unknown.
    fn invalid_date_header(&self) -> Option<&'static str> {
        None
    }
}

/// Changes a registry. A [`RegistryConnection`] provides it to the holder of a lease only, and each removal takes the
/// proof that it is journaled.
#[async_trait]
pub trait RegistryWriter: Send + Sync {
    /// Waits for everything that a removal from a repository may have to wait for: the rate limit, then a token. Called
    /// before a tag is checked for its removal, because otherwise the check would be outdated when the request is sent.
    ///
    /// # Errors
    /// Returns an error if there is no token that allows it, or the token service failed. No removal was sent.
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError>;

    /// Waits for everything that a push to a repository may have to wait for, for the same reason.
    ///
    /// # Errors
    /// Fails as [`RegistryWriter::acquire_removal_permit`] does.
    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError>;

    /// Removes the tag of a journaled untag and leaves its manifest. Sent immediately and only once.
    ///
    /// # Errors
    /// Returns an error if another action was journaled (nothing is sent then), or the registry refused or failed. The
    /// caller must then look up whether the tag still exists. If the error [requires another
    /// check](RegistryError::requires_recheck), nothing was removed, and the next attempt needs a new permit.
    async fn untag(&self, intent: &JournaledIntent, clearance: WritePermit) -> Result<RemovalResponse, RegistryError>;

    /// Deletes the manifest of a journaled deletion by its digest, and with it every tag that names it. Sent
    /// immediately and only once.
    ///
    /// # Errors
    /// Fails as [`RegistryWriter::untag`] does.
    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError>;

    /// Puts a manifest under a tag, byte for byte and with its own media type.
    ///
    /// # Errors
    /// Returns an error if the registry refused it, for example because required blobs are missing, or stored it under
    /// another digest.
    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError>;

    /// Puts a tag back at a digest that the registry [hides](RegistryReader::hides_untagged), without the manifest's content.
    /// Unsupported by default.
    ///
    /// # Errors
    /// Returns an error if the registry refused it, or does not have the manifest any more.
    async fn revive_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        digest: &Digest,
        _clearance: WritePermit,
    ) -> Result<(), RegistryError> {
        let message = format!("{repository}:{tag} cannot be put back at {digest} without the content of that manifest");
        Err(RegistryError::new(RegistryErrorKind::Unsupported, message))
    }

    /// Asks the registry to delete a tag or a manifest that cannot exist, and interprets its response; `None` if its
    /// kind is known to support deletions.
    ///
    /// Only on explicit request: a dry run never does.
    async fn probe(&self, _repository: &RepositoryName, _method: RemovalMethod) -> Option<ProbeResponse> {
        None
    }

    /// Puts a manifest by its digest, without a tag, byte for byte and with its own media type.
    ///
    /// # Errors
    /// Fails as [`RegistryWriter::put_tag`] does.
    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError>;
}

/// Verifies that a removal uses the journaled method: a restore allows none, and an untag no deletion.
///
/// # Errors
/// Returns [`RegistryErrorKind::InvalidSettings`] if another one was journaled.
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
