//! The traits behind which a database keeps the state, and the handle that callers have of it.
//!
//! Each trait has one purpose. The audit record is in `audit_record`, what is known of registries and sources in
//! `registry_record`, the rest here. Nothing of a database shows in them. A backend implements all of them, which makes
//! it a [`Backend`]; `tests/it/state/conformance.rs` says what each promises.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::transfer::back_up_postgres;
use super::{
    Backup, CachedContent, Catalogues, FreeManifests, Holds, Journal, Lease, LeaseScope, LeaseToken, ManifestCache,
    MissingManifests, NewestTime, Observations, Plans, PolicyRecords, PostgresState, PruneCounts, RefusedTags,
    RegistryAddresses, RegistryExperience, RestoredTags, RetentionCutoffs, RuleMatches, Runs, SourceHistory,
    SqliteState, StateError, StateLocation, StopRequestId, TagLists, UntaggedManifests,
};
use crate::domain::Digest;
use crate::registry::{ContentCache, RawManifest, RegistryHead};

/// Everything that a state keeps.
pub trait Backend:
    Storage
    + Maintenance
    + Leases
    + StopRequests
    + Schedules
    + RecordedTimes
    + Notifications
    + Runs
    + Journal
    + RestoredTags
    + UntaggedManifests
    + MissingManifests
    + Holds
    + PolicyRecords
    + RuleMatches
    + Plans
    + ManifestCache
    + Observations
    + TagLists
    + Catalogues
    + RegistryAddresses
    + RegistryExperience
    + RefusedTags
    + FreeManifests
    + SourceHistory
    + fmt::Debug
{
}

impl<T> Backend for T where
    T: Storage
        + Maintenance
        + Leases
        + StopRequests
        + Schedules
        + RecordedTimes
        + Notifications
        + Runs
        + Journal
        + RestoredTags
        + UntaggedManifests
        + MissingManifests
        + Holds
        + PolicyRecords
        + RuleMatches
        + Plans
        + ManifestCache
        + Observations
        + TagLists
        + Catalogues
        + RegistryAddresses
        + RegistryExperience
        + RefusedTags
        + FreeManifests
        + SourceHistory
        + fmt::Debug
{
}

/// The state of one Tagwarden, open, whichever database it is in. Cheap to clone; all clones share its connections.
///
/// It dereferences to [`Backend`], so that callers have the methods of all its traits without importing them.
#[derive(Debug, Clone)]
pub struct StateStore(Arc<dyn Backend>);

impl StateStore {
    /// The state that a backend keeps.
    #[must_use]
    pub fn new(backend: impl Backend + 'static) -> Self {
        Self(Arc::new(backend))
    }

    /// Opens the state at that place, bringing its tables up to date where needed. A file that does not exist is made,
    /// readable for its owner alone; in a database only the tables are made.
    ///
    /// # Errors
    /// When a file's folder is missing, it cannot be read or written, it is empty, damaged or something else's, the
    /// database cannot be reached or does not let its user in, or a newer Tagwarden wrote the state. It is left as it is
    /// then.
    pub async fn open(location: impl Into<StateLocation>) -> Result<Self, StateError> {
        match location.into() {
            StateLocation::File(path) => SqliteState::open(&path).await.map(Self::new),
            StateLocation::Postgres(database) => PostgresState::open(*database).await.map(Self::new),
        }
    }

    /// Opens a state to read it, also where it cannot be written, as on a read-only file system. What is written to it
    /// there fails.
    ///
    /// # Errors
    /// As [`StateStore::open`]; where it cannot be written also when it is not whole as it stands there, or of another
    /// version.
    pub async fn open_to_read(location: impl Into<StateLocation>) -> Result<Self, StateError> {
        match location.into() {
            StateLocation::File(path) => SqliteState::open_to_read(&path).await.map(Self::new),
            StateLocation::Postgres(database) => PostgresState::open_to_read(*database).await.map(Self::new),
        }
    }

    /// Copies the state at `state` into the new file `target`, as of one instant. Processes that have the state open go on
    /// meanwhile. The file appears under its name only once all of it is on the disk and was read back, readable for its
    /// owner alone. Does not bring old tables up to date.
    ///
    /// # Errors
    /// [`Exists`](super::StateErrorKind::Exists) when there is something at `target`; otherwise when the state is missing,
    /// damaged or something else's, or the copy could not be written or is not sound. Nothing is left at `target` then.
    pub async fn back_up(state: impl Into<StateLocation>, target: &Path) -> Result<Backup, StateError> {
        match state.into() {
            StateLocation::File(state) => SqliteState::back_up(&state, target).await,
            StateLocation::Postgres(database) => back_up_postgres(*database, target).await,
        }
    }

    /// Does what [`Storage::close`] does, and lets go of the state.
    pub async fn close(self) {
        self.0.close().await;
    }
}

impl Deref for StateStore {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

/// For callers that need a cache and nothing else of the state.
#[async_trait]
impl ContentCache for StateStore {
    async fn manifest(&self, digest: &Digest) -> Option<RawManifest> {
        self.0.manifest(digest).await
    }

    async fn store_manifest(&self, manifest: &RawManifest) {
        self.0.store_manifest(manifest).await;
    }

    async fn created_at(&self, config: &Digest) -> Option<Option<Timestamp>> {
        self.0.created_at(config).await
    }

    async fn store_created_at(&self, config: &Digest, created_at: Option<Timestamp>) {
        self.0.store_created_at(config, created_at).await;
    }
}

/// The place of a state, and whether it can be written.
#[async_trait]
pub trait Storage: Send + Sync {
    /// The place of the state.
    #[must_use]
    fn location(&self) -> &StateLocation;

    /// Says, once and only where removals may follow, that the state was made by opening it. It may have been deleted
    /// by accident, with everything that held removals back.
    fn warn_if_new(&self, removes: bool);

    /// Makes sure that what was opened is still what stands in the place of the state, as far as that can be said without
    /// asking a database.
    ///
    /// # Errors
    /// [`Replaced`](super::StateErrorKind::Replaced) when a file was deleted or replaced: what would be written then would
    /// be lost. [`Unavailable`](super::StateErrorKind::Unavailable) when the last thing that was asked of a database was
    /// not answered. Nothing may be removed then.
    fn verify_file(&self) -> Result<(), StateError>;

    /// Makes sure that half a mebibyte can be written and stays written. A tiny write says little of that. What is
    /// written is taken back.
    ///
    /// # Errors
    /// When it could not be written. No run must begin then.
    async fn verify_disk_space(&self) -> Result<(), StateError>;

    /// Writes what the cache still holds in memory and ends all connections. Dropping the state instead loses at most a
    /// part of the cache. Everything that is asked of it afterwards fails.
    async fn close(&self);
}

/// Forgetting of what is no longer needed, so that a state does not grow for ever.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Forgets old plans, and old runs with their journal and the manifests to undo them. A run with an entry that is
    /// not settled yet, or was settled since, stays whole. Only for a time that can be trusted: what is forgotten
    /// cannot be restored any more.
    ///
    /// # Errors
    /// When it could not be done; nothing is forgotten then.
    async fn prune(&self, since: RetentionCutoffs) -> Result<PruneCounts, StateError>;

    /// The digests of all cached content.
    ///
    /// # Errors
    /// When they could not be read.
    async fn cached_content(&self) -> Result<CachedContent, StateError>;

    /// Forgets cached content, and when tags were first seen in repositories that are none of these and have not been
    /// listed since `gone_since`. Only where everything could be read: what is missing may be what was not read.
    ///
    /// # Errors
    /// When it could not be done.
    async fn collect_garbage(
        &self,
        unused: &CachedContent,
        listed: &[RegistryHead],
        now: Timestamp,
        gone_since: Timestamp,
    ) -> Result<(), StateError>;
}

/// The right to change registries on behalf of a state: one process at a time has it.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes a lease. `holder` tells others who has it: what, who, where, since when.
    ///
    /// # Errors
    /// [`Leased`](super::StateErrorKind::Leased) when another process has it (the message quotes that holder); otherwise
    /// when it cannot be taken.
    async fn take_lease(&self, scope: LeaseScope, holder: &str) -> Result<Lease, StateError>;

    /// Who has the lease to change registries, in words, or `None`.
    ///
    /// # Errors
    /// When it could not be found out.
    async fn lease_holder(&self) -> Result<Option<String>, StateError>;

    /// Begins a new epoch for the holder of the lease, which makes all earlier tokens worthless. Durable when it
    /// returns.
    ///
    /// # Errors
    /// When it is the lease of another state or of the daemon, or the epoch could not be written.
    async fn begin_epoch(&self, lease: &Lease, now: Timestamp) -> Result<LeaseToken, StateError>;
}

/// Requests to a running enforcement to stop before its next removal.
#[async_trait]
pub trait StopRequests: Send + Sync {
    /// Asks whoever removes with this state to stop before the next removal. The request holds until `until`, so that
    /// one whose author was killed stops nothing for good.
    ///
    /// # Errors
    /// When it could not be written.
    async fn request_stop(&self, requested_by: &str, until: Timestamp) -> Result<StopRequestId, StateError>;

    /// Takes a request back, and with it those that hold no more.
    ///
    /// # Errors
    /// When it could not be written.
    async fn withdraw_stop_request(&self, id: StopRequestId, now: Timestamp) -> Result<(), StateError>;

    /// The one who asks for no more removals at that time, or `None`.
    ///
    /// # Errors
    /// When it could not be read.
    async fn stop_request(&self, now: Timestamp) -> Result<Option<String>, StateError>;
}

/// The time up to which each schedule was processed.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// The time up to which each schedule was looked after, by its cron expression and time zone.
    ///
    /// # Errors
    /// When it could not be read.
    async fn schedule_progress(&self) -> Result<BTreeMap<String, Timestamp>, StateError>;

    /// Remembers up to which time each schedule was looked after, and forgets schedules that are not among them.
    /// Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written. Nothing must be removed by a schedule then.
    async fn record_schedule_progress(&self, handled: &BTreeMap<String, Timestamp>) -> Result<(), StateError>;
}

/// The times that a state has seen, and which of them can be believed.
#[async_trait]
pub trait RecordedTimes: Send + Sync {
    /// Returns the newest times that this state has recorded.
    ///
    /// # Errors
    /// When they could not be read. No time can be trusted then.
    async fn newest_time(&self) -> Result<NewestTime, StateError>;

    /// Records that a registry's `Date` agreed with the time by which a run decides. Only such times move the newest
    /// one on.
    ///
    /// # Errors
    /// When it could not be written.
    async fn confirm_time(&self, run: Uuid, at: Timestamp) -> Result<(), StateError>;

    /// Takes the present time for right although a later one was recorded, because a person says so.
    ///
    /// # Errors
    /// When it could not be written.
    async fn accept_time(&self, now: Timestamp, by: &str, reason: &str) -> Result<(), StateError>;
}

/// Problems that receivers of notifications were told, so that a problem of every hour is told once a day.
#[async_trait]
pub trait Notifications: Send + Sync {
    /// The problems that a receiver was told, with the time of the last message about it; empty for one who was told
    /// nothing.
    ///
    /// # Errors
    /// When it could not be read. It counts as never told then.
    async fn sent_notifications(&self, receiver: &str) -> Result<BTreeMap<String, Timestamp>, StateError>;

    /// Records all that a receiver was told and that is not over, in place of what was recorded of that receiver. A
    /// power cut may undo it.
    ///
    /// # Errors
    /// When it could not be written; what was recorded before stays.
    async fn record_sent_notifications(
        &self,
        receiver: &str,
        sent: &BTreeMap<String, Timestamp>,
    ) -> Result<(), StateError>;
}
