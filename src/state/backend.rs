//! The traits behind which a database stores the state, and the handle for callers.
//!
//! Each trait has one purpose. The audit record is in `audit_record`, facts about registries and sources are in
//! `registry_record`, the rest is here. They expose no database. A backend implements all of them, which makes it a
//! [`Backend`]; `tests/it/state/conformance.rs` tests the promises of each.

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
    Backup, CachedContent, Catalogues, Figures, FreeManifests, Holds, Journal, Lease, LeaseScope, LeaseToken,
    ManifestCache, MissingManifests, NewestTime, Observations, Plans, PolicyRecords, PostgresState, PruneCounts,
    RefusedTags, RegistryAddresses, RegistryExperience, RegistryLease, RestoredTags, RetentionCutoffs, RuleMatches,
    RuleRevisions, Runs, SourceHistory, SqliteState, StateError, StateLocation, StopRequestId, TagLists,
    UntaggedManifests,
};
use crate::domain::Digest;
use crate::registry::{ContentCache, RawManifest, RegistryHead};

/// All parts of a state.
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
    + RuleRevisions
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
    + Figures
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
        + RuleRevisions
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
        + Figures
        + fmt::Debug
{
}

/// The open state of one Tagwarden, independent of its database. Cheap to clone; all clones share its connections.
///
/// It dereferences to [`Backend`], so that callers have the methods of all its traits without importing them.
#[derive(Debug, Clone)]
pub struct StateStore(Arc<dyn Backend>);

impl StateStore {
    /// Creates the handle for a backend.
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

    /// Opens the state at that place or, where there is no file yet, an empty one in a temporary folder, which is deleted
    /// with the handle: nothing appears at the place.
    ///
    /// # Errors
    /// Fails as [`StateStore::open`] does.
    pub async fn open_or_temporary(location: &StateLocation) -> Result<Self, StateError> {
        if location.is_to_be_created() {
            SqliteState::open_temporary().await.map(Self::new)
        } else {
            Self::open(location).await
        }
    }

    /// Opens a state for reading, possibly on a read-only file system. Writes to it fail there. Creates no file.
    ///
    /// # Errors
    /// Fails as [`StateStore::open`] does, and where there is no file; if it cannot be written, also if it is incomplete
    /// on its own, or of another version.
    pub async fn open_to_read(location: impl Into<StateLocation>) -> Result<Self, StateError> {
        match location.into() {
            StateLocation::File(path) => SqliteState::open_to_read(&path).await.map(Self::new),
            StateLocation::Postgres(database) => PostgresState::open_to_read(*database).await.map(Self::new),
        }
    }

    /// Copies the state at `state` into the new file `target`, as of one instant. Other processes can use the state
    /// meanwhile. The file appears under its name only once it is completely on the disk and was read back, readable
    /// for its owner alone. Does not migrate old tables.
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

    /// Does what [`Storage::close`] does, and drops the state.
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

/// For callers that need only a cache.
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

    /// Warns, once and only if removals may follow, that no run that may remove was recorded here yet. The state of
    /// before may have been deleted or left behind by accident, with everything that blocked removals.
    ///
    /// # Errors
    /// Returns an error if the runs cannot be read.
    async fn warn_if_new(&self, removes: bool) -> Result<(), StateError>;

    /// Makes sure that what was opened is still what stands in the place of the state, as far as that can be said without
    /// asking a database.
    ///
    /// # Errors
    /// [`Replaced`](super::StateErrorKind::Replaced) when a file was deleted or replaced: what would be written then would
    /// be lost. [`Unavailable`](super::StateErrorKind::Unavailable) when the last thing that was asked of a database was
    /// not answered. Nothing may be removed then.
    fn verify_file(&self) -> Result<(), StateError>;

    /// Verifies that half a mebibyte can be written durably. A tiny write does not prove that. The written data is
    /// removed again.
    ///
    /// # Errors
    /// Returns an error if it cannot be written. No run must begin then.
    async fn verify_disk_space(&self) -> Result<(), StateError>;

    /// Writes the cached content in memory and closes all connections. Dropping the state instead loses at most a part
    /// of the cache. All later calls fail.
    async fn close(&self);
}

/// Pruning of old data, so that a state does not grow forever.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Prunes old plans, and old runs with their journal and the manifests to undo them. A run with an entry that is
    /// unresolved, or was resolved since, is kept whole. Only for a trusted time: pruned removals cannot be restored
    /// anymore.
    ///
    /// # Errors
    /// Returns an error if it fails; nothing is pruned then.
    async fn prune(&self, since: RetentionCutoffs) -> Result<PruneCounts, StateError>;

    /// Returns the digests of all cached content.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn cached_content(&self) -> Result<CachedContent, StateError>;

    /// Prunes cached content, and first sights of tags in repositories that are not among these and have not been
    /// listed since `gone_since`. Only if everything could be read: a missing repository may be an unread one.
    ///
    /// # Errors
    /// Returns an error if it fails.
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

    /// Returns the description of the holder of the schedule's lease, or `None`.
    ///
    /// # Errors
    /// When it could not be found out.
    async fn daemon_holder(&self) -> Result<Option<String>, StateError>;

    /// Begins a new epoch for the holder of the lease, which makes all earlier tokens worthless. Durable when it
    /// returns.
    ///
    /// # Errors
    /// Returns an error if it is the lease of another state or of the daemon, or the epoch cannot be written.
    async fn begin_epoch(&self, lease: &Lease, now: Timestamp) -> Result<LeaseToken, StateError>;

    /// Asks the database for the lease of a token: after a pause that may have been longer than it.
    ///
    /// # Errors
    /// [`LeaseLost`](super::StateErrorKind::LeaseLost) when it expired or is another process's; otherwise when that could not be
    /// found out. Nothing may be removed by it then.
    async fn confirm_lease(&self, lease: &LeaseToken) -> Result<(), StateError>;

    /// The held leases to change registries, ordered by endpoint. Such a lease belongs to the holder of the lease to run:
    /// the transaction that journals its first intent for a registry takes it, and every other intent proves it.
    ///
    /// # Errors
    /// When they could not be read.
    async fn registry_leases(&self) -> Result<Vec<RegistryLease>, StateError>;
}

/// Requests to a running enforcement to stop before its next removal.
#[async_trait]
pub trait StopRequests: Send + Sync {
    /// Requests the running enforcement with this state to stop before its next removal. The request is valid until
    /// `until`, so that a killed requester does not stop anything forever.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn request_stop(&self, requested_by: &str, until: Timestamp) -> Result<StopRequestId, StateError>;

    /// Withdraws a request, and all expired ones.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn withdraw_stop_request(&self, id: StopRequestId, now: Timestamp) -> Result<(), StateError>;

    /// Returns the requester of a stop that is valid at that time, or `None`.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    async fn stop_request(&self, now: Timestamp) -> Result<Option<String>, StateError>;
}

/// The time up to which each schedule was processed.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Returns the time up to which each schedule was handled, by its cron expression and time zone.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    async fn schedule_progress(&self) -> Result<BTreeMap<String, Timestamp>, StateError>;

    /// Records the time up to which each schedule was handled, and drops other schedules. Durable when it returns.
    ///
    /// # Errors
    /// Returns an error if it cannot be written. Nothing may be removed by a schedule then.
    async fn record_schedule_progress(&self, handled: &BTreeMap<String, Timestamp>) -> Result<(), StateError>;

    /// Does what [`Self::record_schedule_progress`] does for the holder of the schedule's lease, which the same
    /// write proves. So of several daemons one begins each due run, also if one of them was suspended for long.
    ///
    /// # Errors
    /// [`LeaseLost`](super::StateErrorKind::LeaseLost) when the lease is over or another process's; otherwise when it cannot be
    /// written. Nothing may be run by a schedule then.
    async fn record_leased_progress(
        &self,
        lease: &Lease,
        handled: &BTreeMap<String, Timestamp>,
    ) -> Result<(), StateError>;
}

/// The recorded times of a state, and which of them are confirmed.
#[async_trait]
pub trait RecordedTimes: Send + Sync {
    /// Returns the newest times that this state has recorded.
    ///
    /// # Errors
    /// Returns an error if they cannot be read. No time can be trusted then.
    async fn newest_time(&self) -> Result<NewestTime, StateError>;

    /// Records that a registry's `Date` agreed with the time by which a run decides. Only such times advance the newest
    /// confirmed one.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn confirm_time(&self, run: Uuid, at: Timestamp) -> Result<(), StateError>;

    /// Accepts the current time as correct although a later one was recorded, because a person confirms it.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn accept_time(&self, now: Timestamp, by: &str, reason: &str) -> Result<(), StateError>;
}

/// Problems that were reported to receivers of notifications, so that an hourly problem is reported once a day.
#[async_trait]
pub trait Notifications: Send + Sync {
    /// Returns the problems that were reported to a receiver, with the time of the last message about each; empty if
    /// none were.
    ///
    /// # Errors
    /// Returns an error if it cannot be read. Problems count as never reported then.
    async fn sent_notifications(&self, receiver: &str) -> Result<BTreeMap<String, Timestamp>, StateError>;

    /// Records all reported problems of a receiver that are not over, replacing the previous record. A power cut may
    /// undo it.
    ///
    /// # Errors
    /// Returns an error if it cannot be written; the previous record is kept.
    async fn record_sent_notifications(
        &self,
        receiver: &str,
        sent: &BTreeMap<String, Timestamp>,
    ) -> Result<(), StateError>;
}
