//! The traits of what is known of registries and sources from earlier runs.

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

/// The cache of content that never changes, gathered in memory and written many at a time.
#[async_trait]
pub trait ManifestCache: ContentCache {
    /// Writes what the cache holds in memory.
    async fn flush_cache(&self);
}

/// The times at which tags were first seen at their digests.
#[async_trait]
pub trait Observations: Send + Sync {
    /// Records the tags of an inventory and fills in when each was first seen at its digest, as a look at everything.
    ///
    /// # Errors
    /// As [`Self::observe_at`].
    async fn observe(&self, inventory: &mut Inventory, now: Timestamp) -> Result<(), StateError>;

    /// Records the tags of an inventory and fills in when each was first seen at its digest, and by which time restored
    /// ones count.
    ///
    /// The tags that are there at the first look at a registry get no time; their repository gets that of the look. A
    /// look that could not list all repositories does not count, and an incomplete list of tags forgets no tag. Tags
    /// with a push time need no record. Each repository is a write of its own, and one without changes is none, so that
    /// others can write in between.
    ///
    /// # Errors
    /// When the record could not be read or written. The inventory may then lack times, and must not be decided on.
    async fn observe_at(&self, inventory: &mut Inventory, look: &ObservationContext) -> Result<(), StateError>;

    /// Begins a look at a registry whose repositories are read one after another. Nothing is asked of the repositories in
    /// `registry`.
    ///
    /// # Errors
    /// As [`Self::observe_at`].
    async fn begin_observation(
        &self,
        registry: &Registry,
        look: &ObservationContext,
    ) -> Result<RegistryObservation, StateError>;

    /// Does what [`Self::observe_at`] does with one repository of a registry that is looked at.
    ///
    /// # Errors
    /// As [`Self::observe_at`].
    async fn observe_repository(
        &self,
        registry: &RegistryObservation,
        repository: &mut Repository,
        look: &ObservationContext,
    ) -> Result<(), StateError>;

    /// Ends a look at a registry, once all its repositories were observed.
    ///
    /// # Errors
    /// When the record could not be written.
    async fn finish_observation(
        &self,
        registry: &RegistryObservation,
        look: &ObservationContext,
    ) -> Result<(), StateError>;
}

/// The tags of each repository at its last complete list, so that one which somebody else removed is missed.
#[async_trait]
pub trait TagLists: Send + Sync {
    /// Notes the tags of an inventory of everything, and which tags are there no more that Tagwarden did not remove.
    /// What could not be read whole is left as it was.
    ///
    /// # Errors
    /// When it could not be read or written.
    async fn record_tag_lists(&self, inventory: &Inventory, now: Timestamp) -> Result<(), StateError>;

    /// Does the same with one repository. Nothing is asked of the repositories in `registry`.
    ///
    /// # Errors
    /// As [`Self::record_tag_lists`].
    async fn record_tag_list(
        &self,
        registry: &Registry,
        repository: &Repository,
        now: Timestamp,
    ) -> Result<(), StateError>;

    /// Notes that a registry has these repositories and no others, where its list of repositories is whole.
    ///
    /// # Errors
    /// As [`Self::record_tag_lists`].
    async fn record_repositories(
        &self,
        registry: &Registry,
        names: &[RepositoryName],
        now: Timestamp,
    ) -> Result<(), StateError>;

    /// The last complete list in which a tag was seen; `None` where none saw it, as far as this state goes back.
    ///
    /// # Errors
    /// When it could not be read.
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
    /// Returns what is known of the repositories of a registry at that address, or `None` if nothing is.
    ///
    /// # Errors
    /// When it could not be read. No list can be judged then.
    async fn catalogue(&self, registry: &RegistryName, endpoint: &str) -> Result<Option<KnownCatalogue>, StateError>;

    /// Records what is known of the repositories of a registry at that address.
    ///
    /// # Errors
    /// When it could not be written.
    async fn record_catalogue(&self, endpoint: &str, known: &KnownCatalogue, now: Timestamp) -> Result<(), StateError>;

    /// Believes the list that was not believed. Returns how many repositories it names, or `None` if there is no such
    /// list.
    ///
    /// # Errors
    /// When it could not be written.
    async fn accept_catalogue(&self, endpoint: &str, by: &str, now: Timestamp) -> Result<Option<u64>, StateError>;
}

/// The addresses of registries, and since when they have them.
#[async_trait]
pub trait RegistryAddresses: Send + Sync {
    /// The time since which a registry of that name is at that address; `None` where it never was at another, as far as
    /// this state goes back. Remembers a new address, from `now` on.
    ///
    /// # Errors
    /// When it could not be read or written.
    async fn registry_address_since(
        &self,
        registry: &RegistryName,
        address: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StateError>;
}

/// Experience with removals in registries: facts that no harmless question can settle.
#[async_trait]
pub trait RegistryExperience: Send + Sync {
    /// Returns what untags showed of the registry at that endpoint (such as `https://registry.example:5000`), or `None`
    /// if nothing is known.
    ///
    /// A destruction comes before everything else, whatever was seen later: a registry may keep the manifests that have
    /// other tags. Of the rest, what happened last counts. See [`Experience::is_valid_at`] for how long.
    ///
    /// # Errors
    /// When the state could not be read. Callers must not remove anything then.
    async fn untag_experience(&self, endpoint: &str) -> Result<Option<Experience>, StateError>;

    /// Remembers what an untag showed of the registry at that endpoint. Durable when it returns.
    ///
    /// A survival and a refusal replace each other, the later one counts; neither touches a destruction.
    ///
    /// # Errors
    /// When the state could not be written.
    async fn record_untag_experience(
        &self,
        endpoint: &str,
        what: UntagExperience,
        at: Timestamp,
    ) -> Result<(), StateError>;

    /// Returns how the registry at that endpoint last answered a deletion by tag or by digest, and when; `None` if
    /// nothing is known, or the last answer is a refusal of more than [`REFUSAL_TTL`](super::experience::REFUSAL_TTL) ago.
    ///
    /// # Errors
    /// When the state could not be read.
    async fn deletion_response(
        &self,
        endpoint: &str,
        method: RemovalMethod,
        now: Timestamp,
    ) -> Result<Option<(DeletionResponse, Timestamp)>, StateError>;

    /// Remembers how the registry at that endpoint answered a deletion. Durable when it returns.
    ///
    /// # Errors
    /// When the state could not be written.
    async fn record_deletion_response(
        &self,
        endpoint: &str,
        method: RemovalMethod,
        answer: DeletionResponse,
        at: Timestamp,
    ) -> Result<(), StateError>;

    /// Forgets what removals showed of the registry at that endpoint, and a mark that was made under its name. Returns
    /// whether there was anything to forget.
    ///
    /// # Errors
    /// When the state could not be written.
    async fn forget_experience(&self, registry: &RegistryName, endpoint: &str) -> Result<bool, StateError>;

    /// Remembers that an untag in that registry destroyed a manifest. The first time counts. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written.
    async fn mark_untag_destructive(&self, registry: &RegistryName, now: Timestamp) -> Result<(), StateError>;

    /// The time since which a registry is known to destroy manifests on an untag; `None` where it is not.
    ///
    /// # Errors
    /// When it could not be read. Whoever asks must not remove anything then.
    async fn untag_destructive_since(&self, registry: &RegistryName) -> Result<Option<Timestamp>, StateError>;

    /// Takes that mark back, because a person says that the registry was mended.
    ///
    /// # Errors
    /// When it could not be written.
    async fn clear_untag_destructive(&self, registry: &RegistryName) -> Result<(), StateError>;
}

/// Tags that a registry refused to remove. A record that is lost costs a request that is refused once more.
#[async_trait]
pub trait RefusedTags: Send + Sync {
    /// Returns the tags that the registry at that endpoint refused to remove, sorted by repository and tag.
    ///
    /// # Errors
    /// When they could not be read.
    async fn refused_tags(&self, endpoint: &str) -> Result<Vec<RefusedTag>, StateError>;

    /// Remembers refusals that a run met at that endpoint, and forgets those that were not met again for long.
    ///
    /// # Errors
    /// When they could not be written; none is then.
    async fn record_refused_tags(
        &self,
        endpoint: &str,
        met: &[RemovalRefusal],
        now: Timestamp,
    ) -> Result<(), StateError>;

    /// Forgets the refusal of a tag that was removed after all.
    ///
    /// # Errors
    /// When that could not be written.
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
    /// The last answers of all sources that ever answered.
    ///
    /// # Errors
    /// When they could not be read. No answer can be judged then.
    async fn source_baselines(&self) -> Result<BTreeMap<SourceName, SourceBaseline>, StateError>;

    /// Records an answer that is believed.
    ///
    /// # Errors
    /// When it could not be written.
    async fn record_source_baseline(&self, source: &SourceName, claims: u64, now: Timestamp) -> Result<(), StateError>;

    /// Records an answer that is not believed, so that a person can say that it is right.
    ///
    /// # Errors
    /// When it could not be written.
    async fn record_suspect_claims(&self, source: &SourceName, claims: u64, now: Timestamp) -> Result<(), StateError>;

    /// Believes the answer of a source that was not believed. Gives how many claims that was; nothing where there is no
    /// such answer.
    ///
    /// # Errors
    /// When it could not be written.
    async fn accept_source(&self, source: &SourceName, by: &str, now: Timestamp) -> Result<Option<u64>, StateError>;
}
