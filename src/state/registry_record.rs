//! The traits of facts about registries and sources from earlier runs.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    DeletionResponse, Experience, FormerTag, FreeManifestChanges, KnownCatalogue, LastSeen, ObservationContext,
    RegistryObservation, RemovalRefusal, SourceBaseline, StateError, UntagExperience,
};
use crate::domain::{
    Digest, Inventory, RefusedTag, Registry, RegistryName, RemovalMethod, Repository, RepositoryName, SourceName,
    TagName,
};
use crate::registry::ContentCache;

/// The cache of immutable content, collected in memory and written in batches.
#[async_trait]
pub trait ManifestCache: ContentCache {
    /// Writes the cached content in memory.
    async fn flush_cache(&self);
}

/// The times at which tags were first seen at their digests.
#[async_trait]
pub trait Observations: Send + Sync {
    /// Records the tags of an inventory and fills in when each was first seen at its digest, for a full read.
    ///
    /// # Errors
    /// Fails as [`Self::observe_at`] does.
    async fn observe(&self, inventory: &mut Inventory, now: Timestamp) -> Result<(), StateError>;

    /// Records the tags of an inventory and fills in when each was first seen at its digest, and the original dates of
    /// restored ones.
    ///
    /// The tags at the first read of a registry get no time; their repository gets that of the read. A read that could
    /// not list all repositories does not count, and an incomplete list of tags drops no tag. Tags with a push time
    /// need no record. Each repository is a separate write, and none without changes, so that other writes can come in
    /// between.
    ///
    /// # Errors
    /// Returns an error if the record cannot be read or written. The inventory may then lack times, and must not be
    /// decided on.
    async fn observe_at(&self, inventory: &mut Inventory, look: &ObservationContext) -> Result<(), StateError>;

    /// Begins a read of a registry whose repositories are read one after another. The repositories in `registry` are
    /// not used.
    ///
    /// # Errors
    /// Fails as [`Self::observe_at`] does.
    async fn begin_observation(
        &self,
        registry: &Registry,
        look: &ObservationContext,
    ) -> Result<RegistryObservation, StateError>;

    /// Does what [`Self::observe_at`] does for one repository of a registry.
    ///
    /// # Errors
    /// Fails as [`Self::observe_at`] does.
    async fn observe_repository(
        &self,
        registry: &RegistryObservation,
        repository: &mut Repository,
        look: &ObservationContext,
    ) -> Result<(), StateError>;

    /// Ends a read of a registry, once all its repositories were observed.
    ///
    /// # Errors
    /// Returns an error if the record cannot be written.
    async fn finish_observation(
        &self,
        registry: &RegistryObservation,
        look: &ObservationContext,
    ) -> Result<(), StateError>;
}

/// The tags of each repository in its last complete list, so that external removals are noticed.
#[async_trait]
pub trait TagLists: Send + Sync {
    /// Records the tags of a full inventory, and the tags that no longer exist although Tagwarden did not remove them.
    /// Incomplete lists leave the record unchanged.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or written.
    async fn record_tag_lists(&self, inventory: &Inventory, now: Timestamp) -> Result<(), StateError>;

    /// Does the same for one repository. The repositories in `registry` are not used.
    ///
    /// # Errors
    /// Fails as [`Self::record_tag_lists`] does.
    async fn record_tag_list(
        &self,
        registry: &Registry,
        repository: &Repository,
        now: Timestamp,
    ) -> Result<(), StateError>;

    /// Records that a registry has these repositories and no others, if its list of repositories is complete.
    ///
    /// # Errors
    /// Fails as [`Self::record_tag_lists`] does.
    async fn record_repositories(
        &self,
        registry: &Registry,
        names: &[RepositoryName],
        now: Timestamp,
    ) -> Result<(), StateError>;

    /// Returns the last complete list with a tag; `None` if there is none, as far back as this state goes.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    async fn last_seen(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<LastSeen>, StateError>;
}

/// The repositories that each registry listed, as far as its list was trusted.
#[async_trait]
pub trait Catalogues: Send + Sync {
    /// Returns the known repositories of a registry at that address, or `None`.
    ///
    /// # Errors
    /// Returns an error if they cannot be read. No list can be verified then.
    async fn catalogue(&self, registry: &RegistryName, endpoint: &str) -> Result<Option<KnownCatalogue>, StateError>;

    /// Records the known repositories of a registry at that address.
    ///
    /// # Errors
    /// Returns an error if they cannot be written.
    async fn record_catalogue(&self, endpoint: &str, known: &KnownCatalogue, now: Timestamp) -> Result<(), StateError>;

    /// Accepts the doubtful list. Returns the number of its repositories, or `None` if there is no such list.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn accept_catalogue(&self, endpoint: &str, by: &str, now: Timestamp) -> Result<Option<u64>, StateError>;
}

/// The addresses of registries, and since when they have them.
#[async_trait]
pub trait RegistryAddresses: Send + Sync {
    /// Returns the time since which a registry with that name has that address; `None` if it never had another, as far
    /// back as this state goes. Records a new address, as of `now`.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or written.
    async fn registry_address_since(
        &self,
        registry: &RegistryName,
        address: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StateError>;
}

/// Experience with removals in registries: facts that no harmless request can determine.
#[async_trait]
pub trait RegistryExperience: Send + Sync {
    /// Returns the experience with untags in the registry at that endpoint (such as `https://registry.example:5000`),
    /// or `None`.
    ///
    /// A destruction takes precedence, whatever was seen later: a registry may keep manifests that have other tags. Of
    /// the rest, the last event counts. See [`Experience::is_valid_at`] for its validity.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read. Callers must not remove anything then.
    async fn untag_experience(&self, endpoint: &str) -> Result<Option<Experience>, StateError>;

    /// Records the experience with an untag in the registry at that endpoint. Durable when it returns.
    ///
    /// A survival and a refusal replace each other; neither replaces a destruction.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written.
    async fn record_untag_experience(
        &self,
        endpoint: &str,
        what: UntagExperience,
        at: Timestamp,
    ) -> Result<(), StateError>;

    /// Returns the last response of the registry at that endpoint to a deletion by tag or by digest, with its time.
    /// `None` if unknown, or if it is a refusal older than [`REFUSAL_TTL`](super::experience::REFUSAL_TTL).
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    async fn deletion_response(
        &self,
        endpoint: &str,
        method: RemovalMethod,
        now: Timestamp,
    ) -> Result<Option<(DeletionResponse, Timestamp)>, StateError>;

    /// Records the response of the registry at that endpoint to a deletion. Durable when it returns.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written.
    async fn record_deletion_response(
        &self,
        endpoint: &str,
        method: RemovalMethod,
        answer: DeletionResponse,
        at: Timestamp,
    ) -> Result<(), StateError>;

    /// Deletes the experience with the registry at that endpoint, and a mark under its name. Returns true if there was
    /// any.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written.
    async fn forget_experience(&self, registry: &RegistryName, endpoint: &str) -> Result<bool, StateError>;

    /// Records that an untag in that registry destroyed a manifest. The first time counts. Durable when it returns.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn mark_untag_destructive(&self, registry: &RegistryName, now: Timestamp) -> Result<(), StateError>;

    /// Returns the time since which a registry is known to destroy manifests on an untag; `None` if it is not.
    ///
    /// # Errors
    /// Returns an error if it cannot be read. Callers must not remove anything then.
    async fn untag_destructive_since(&self, registry: &RegistryName) -> Result<Option<Timestamp>, StateError>;

    /// Clears that mark, because a person confirms that the registry was fixed.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn clear_untag_destructive(&self, registry: &RegistryName) -> Result<(), StateError>;
}

/// Tags that a registry refused to remove. A lost record costs one more refused request.
#[async_trait]
pub trait RefusedTags: Send + Sync {
    /// Returns the tags that the registry at that endpoint refused to remove, sorted by repository and tag.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn refused_tags(&self, endpoint: &str) -> Result<Vec<RefusedTag>, StateError>;

    /// Records refusals of a run at that endpoint, and prunes those that were not repeated for long.
    ///
    /// # Errors
    /// Returns an error if they cannot be written; none is then.
    async fn record_refused_tags(
        &self,
        endpoint: &str,
        met: &[RemovalRefusal],
        now: Timestamp,
    ) -> Result<(), StateError>;

    /// Deletes the refusal of a tag that was removed after all.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn forget_refused_tag(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<(), StateError>;
}

/// Since when manifests that no tag references are found free, for policies with `untagged`.
#[async_trait]
pub trait FreeManifests: Send + Sync {
    /// Returns since when every run found a manifest of a repository free; one that the last run did not find free is not
    /// among them.
    ///
    /// # Errors
    /// When it could not be read. Nothing may be deleted then.
    async fn free_since(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
    ) -> Result<BTreeMap<Digest, Timestamp>, StateError>;

    /// Returns the tags of a repository that are gone and that Tagwarden did not remove, by name.
    ///
    /// # Errors
    /// As [`Self::free_since`].
    async fn former_tags(&self, endpoint: &str, repository: &RepositoryName) -> Result<Vec<FormerTag>, StateError>;

    /// Returns the repositories in which manifests are found free, by name.
    ///
    /// # Errors
    /// When they could not be read.
    async fn repositories_with_free_manifests(&self, endpoint: &str) -> Result<Vec<RepositoryName>, StateError>;

    /// Records what a run found, all of it or nothing. A series that goes on keeps its beginning. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written. Nothing may be deleted then.
    async fn record_free_manifests(
        &self,
        endpoint: &str,
        changes: &[FreeManifestChanges],
        now: Timestamp,
    ) -> Result<(), StateError>;
}

/// The number of claims that each source made when it last answered.
#[async_trait]
pub trait SourceHistory: Send + Sync {
    /// Returns the last answers of all sources that ever answered.
    ///
    /// # Errors
    /// Returns an error if they cannot be read. No answer can be verified then.
    async fn source_baselines(&self) -> Result<BTreeMap<SourceName, SourceBaseline>, StateError>;

    /// Records a trusted answer.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn record_source_baseline(&self, source: &SourceName, claims: u64, now: Timestamp) -> Result<(), StateError>;

    /// Records a doubtful answer, so that a person can accept it.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn record_suspect_claims(&self, source: &SourceName, claims: u64, now: Timestamp) -> Result<(), StateError>;

    /// Accepts the doubtful answer of a source. Returns the number of its claims; `None` if there is no such answer.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn accept_source(&self, source: &SourceName, by: &str, now: Timestamp) -> Result<Option<u64>, StateError>;
}
