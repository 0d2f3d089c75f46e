//! The lease: one process at a time enforces with a state.

use std::any::Any;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::file::{real_path, sibling_path};
use super::row_reader::RowReader;
use super::{Leases, SqliteState, StateError, StateErrorKind, WriteTransaction, format_time, owner_only};
pub(super) use crate::domain::HeldLease as TokenLease;
use crate::domain::LeaseToken;

/// The things of which one process at a time has the lease of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseScope {
    /// The right to change registries.
    Run,
    /// The right to follow the schedule. It is another one, so that a person can apply and restore beside a daemon that
    /// waits.
    Daemon,
}

/// The right to change registries on behalf of a state, or to go by its schedule. Given back when it and all its tokens
/// are dropped. Where the process is killed, the kernel gives back that of a file, and that of a database expires.
#[derive(Debug)]
pub struct Lease {
    held: Arc<dyn HeldLease>,
    holder: String,
}

/// A lease as its backend holds it, until it is dropped.
pub(super) trait HeldLease: Any + TokenLease {
    /// Returns true once another process took it.
    fn is_lost(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Lock {
    /// Holds the lock while it is open. The file is kept, since deleting it would let two processes lock two files.
    _file: File,
    path: PathBuf,
}

/// The ending of the lock file of the lease to change registries.
const RUN_LOCK: &str = ".lock";

/// The ending of the lock file of the lease of the schedule.
const DAEMON_LOCK: &str = ".daemon.lock";

impl Lease {
    /// Acquires the lease of the state at that path. `holder` describes it to others: command, user, place, start.
    ///
    /// # Errors
    /// Returns an error if another process holds it (the message quotes that holder), the state has several names, or
    /// the lock file cannot be used.
    pub fn take(state_path: &Path, holder: &str) -> Result<Self, StateError> {
        Self::take_file(RUN_LOCK, state_path, holder)
    }

    /// Acquires the lease of the daemon: the right to run the schedule of the state at that path. It is separate, so
    /// that a person can apply and restore beside a waiting daemon.
    ///
    /// # Errors
    /// Fails as [`Lease::take`] does.
    pub fn take_daemon(state_path: &Path, holder: &str) -> Result<Self, StateError> {
        Self::take_file(DAEMON_LOCK, state_path, holder)
    }

    /// Returns the description of the holder of the lease of the state at that path, or `None`.
    ///
    /// # Errors
    /// Returns an error if the lock file cannot be used.
    pub fn holder(state_path: &Path) -> Result<Option<String>, StateError> {
        Self::file_holder(RUN_LOCK, state_path)
    }

    fn file_holder(ending: &str, state_path: &Path) -> Result<Option<String>, StateError> {
        let path = sibling_path(&real_path(state_path)?, ending);
        let unusable = |error: io::Error| unusable_lock(state_path, &path, error);
        let file = match owner_only().read(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(error)),
        };
        // For an instant this blocks others from the lease, see `PROBES`.
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(holder_text(file))),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    fn take_file(ending: &str, state_path: &Path, holder: &str) -> Result<Self, StateError> {
        let path = sibling_path(&real_path(state_path)?, ending);
        let unusable = |error: io::Error| unusable_lock(state_path, &path, error);
        let mut file =
            owner_only().read(true).write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
        let mut probes = PROBES;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if probes > 0 => {
                    probes -= 1;
                    std::thread::sleep(PROBE);
                }
                Err(TryLockError::WouldBlock) => {
                    let what = format_args!("it is in use by {}", holder_text(file));
                    return Err(StateError::about(StateErrorKind::Leased, state_path, what));
                }
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(unusable)?;
        file.write_all(holder.as_bytes()).and_then(|()| file.sync_data()).map_err(unusable)?;
        Ok(Self::new(Arc::new(Lock { _file: file, path }), holder))
    }

    /// Returns true once another process took it: the holder finds out with its next renewal. A file's is never lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.held.is_lost()
    }

    /// A lease that a backend took.
    pub(super) fn new(held: Arc<dyn HeldLease>, holder: &str) -> Self {
        Self { held, holder: holder.to_owned() }
    }

    /// The lease as that backend holds it; `None` where another one took it.
    pub(super) fn held<T: HeldLease>(&self) -> Option<&T> {
        let held: &dyn Any = &*self.held;
        held.downcast_ref()
    }

    /// The proof of this lease and its epoch.
    pub(super) fn token(&self, epoch: i64) -> LeaseToken {
        let held = Arc::clone(&self.held);
        LeaseToken::granted(epoch, held)
    }
}

impl HeldLease for Lock {}

impl TokenLease for Lock {
    fn is_current(&self) -> bool {
        // The kernel gives the lock to nobody else while this process is alive.
        true
    }

    fn confirm(&self, _until: Duration) {}
}

#[async_trait]
impl Leases for SqliteState {
    async fn take_lease(&self, scope: LeaseScope, holder: &str) -> Result<Lease, StateError> {
        match scope {
            LeaseScope::Run => Lease::take(&self.0.path, holder),
            LeaseScope::Daemon => Lease::take_daemon(&self.0.path, holder),
        }
    }

    async fn lease_holder(&self) -> Result<Option<String>, StateError> {
        Lease::holder(&self.0.path)
    }

    async fn daemon_holder(&self) -> Result<Option<String>, StateError> {
        Lease::file_holder(DAEMON_LOCK, &self.0.path)
    }

    async fn begin_epoch(&self, lease: &Lease, now: Timestamp) -> Result<LeaseToken, StateError> {
        let doing = "begin an epoch of the lease";
        let path = lease.held::<Lock>().map(|lock| lock.path.as_path());
        if path != Some(&*sibling_path(&real_path(&self.0.path)?, RUN_LOCK)) {
            let name = path.map_or_else(|| "a row of a database".to_owned(), |path| path.display().to_string());
            let what = format_args!("cannot {doing}: {name} is not its lock file");
            return Err(self.error(StateErrorKind::Constraint, what));
        }
        let mut write = self.write_durably().await?;
        let epoch: i64 = sqlx::query_scalar(
            "INSERT INTO leases (name, epoch, holder, taken_at) VALUES ('run', 1, ?1, ?2)
             ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1, holder = excluded.holder, taken_at = excluded.taken_at
             RETURNING epoch",
        )
        .bind(&lease.holder)
        .bind(format_time(now))
        .fetch_one(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await?;
        Ok(lease.token(epoch))
    }

    async fn confirm_lease(&self, lease: &LeaseToken) -> Result<(), StateError> {
        let last = sqlx::query_as(LAST_LEASE).fetch_optional(&self.0.readers).await;
        self.verify_epoch(lease, last.map_err(|error| self.sqlx_error("look who has the lease", error))?)
    }

    async fn registry_leases(&self) -> Result<Vec<RegistryLease>, StateError> {
        // A row says who took the lease last. It is held as long as the lease to run is.
        if self.lease_holder().await?.is_none() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query_as(
            "SELECT endpoint, registry_leases.epoch, registry_leases.holder FROM registry_leases
             JOIN leases ON leases.name = 'run' AND leases.epoch = run_epoch ORDER BY endpoint",
        );
        rows.fetch_all(&self.0.readers).await.map_err(|error| self.sqlx_error("look who changes which registry", error))
    }
}

const LAST_LEASE: &str = "SELECT epoch, holder FROM leases WHERE name = 'run'";

/// A held lease to change one registry.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct RegistryLease {
    /// The endpoint of the registry, whatever its names in settings are.
    pub endpoint: String,
    /// The number of times that it was taken.
    pub epoch: i64,
    /// Who holds it, in words.
    pub holder: String,
}

impl SqliteState {
    /// Reads the last epoch of the lease and its holder, as a part of the write that journals intents: a holder who lost
    /// the lease unknowingly journals nothing more. See [`SqliteState::verify_epoch`].
    pub(super) async fn last_lease(
        &self,
        write: &mut WriteTransaction<'_>,
    ) -> Result<Option<(i64, String)>, StateError> {
        let last = sqlx::query_as(LAST_LEASE).fetch_optional(&mut *write.transaction).await;
        last.map_err(|error| self.sqlx_error("look who has the lease", error))
    }

    /// Takes the lease of the registry at that endpoint for the holder of a token, unless it has it. As a part of a write
    /// that has checked the token's epoch: everybody else who had that lease lost the right to run, too.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub(super) async fn take_registry_lease(
        &self,
        write: &mut WriteTransaction<'_>,
        lease: &LeaseToken,
        endpoint: &str,
        now: Timestamp,
    ) -> Result<(), StateError> {
        sqlx::query(
            "INSERT INTO registry_leases (endpoint, epoch, run_epoch, holder, taken_at)
             SELECT ?1, 1, epoch, holder, ?3 FROM leases WHERE name = 'run' AND epoch = ?2
             ON CONFLICT (endpoint) DO UPDATE SET epoch = epoch + 1, run_epoch = excluded.run_epoch,
                 holder = excluded.holder, taken_at = excluded.taken_at WHERE run_epoch <> excluded.run_epoch",
        )
        .bind(endpoint)
        .bind(lease.epoch())
        .bind(format_time(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error("take the lease of a registry", error))?;
        Ok(())
    }

    /// Fails if the lease was taken again since the token was made.
    ///
    /// # Errors
    /// Returns [`StateErrorKind::LeaseLost`] if it was, naming the later holder.
    pub(super) fn verify_epoch(&self, lease: &LeaseToken, last: Option<(i64, String)>) -> Result<(), StateError> {
        match last {
            Some((epoch, _)) if epoch == lease.epoch() => Ok(()),
            Some((epoch, holder)) => Err(lost_lease(self, lease, epoch, &holder)),
            None => Err(self.error(StateErrorKind::LeaseLost, "its lease was never taken")),
        }
    }
}

/// The error of a token whose lease was taken again since.
pub(super) fn lost_lease(reader: &impl RowReader, lease: &LeaseToken, epoch: i64, holder: &str) -> StateError {
    let what = format_args!("the lease of epoch {} was lost: {holder} has epoch {epoch}", lease.epoch());
    reader.error(StateErrorKind::LeaseLost, what)
}

/// So often a lock that is taken is tried again, after so much time each: somebody may only look who has it.
const PROBES: u32 = 3;
const PROBE: Duration = Duration::from_millis(2);

/// Returns the holder of a lease, as written into the lock file.
fn holder_text(file: File) -> String {
    let mut text = String::new();
    let read = file.take(1000).read_to_string(&mut text);
    if read.is_ok() && !text.trim().is_empty() { text.trim().to_owned() } else { "another process".to_owned() }
}

fn unusable_lock(state_path: &Path, lock: &Path, error: io::Error) -> StateError {
    StateError::from_io(state_path, &format!("use its lock file {}", lock.display()), error)
}
