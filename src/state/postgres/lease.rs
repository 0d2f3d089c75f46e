//! Leases: rows with a holder, an epoch, and a time by the database's clock at which they are another's to take.
//!
//! The clock of this machine decides nothing. A holder that was stopped for too long finds out when it journals its next
//! intent: the transaction that writes it reads the row, and keeps others from taking the lease until it is committed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::unit::Unit;
use super::{PostgresState, storable};
use crate::state::lease::{HeldLease, lost_lease};
use crate::state::row_reader::RowReader as _;
use crate::state::{
    Lease, LeaseScope, LeaseToken, Leases, StateError, StateErrorKind, StopRequestId, StopRequests, format_time,
};

/// Seconds after which a lease that was not renewed is another's to take.
const LEASE_SECONDS: f64 = 15.0;

/// How often a lease is renewed: two renewals may fail.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);

/// How long it is waited for a lease that is about to be given back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// A lease that this process holds. Dropped it is given back, by the task that renews it until then.
#[derive(Debug)]
struct RowLease {
    scope: LeaseScope,
    /// What tells this holder from earlier ones.
    holder_id: String,
    /// Whether its epoch was handed out already.
    begun: AtomicBool,
    releases: watch::Sender<usize>,
    _keeper: oneshot::Sender<()>,
}

impl HeldLease for RowLease {}

impl Drop for RowLease {
    fn drop(&mut self) {
        // Before the task hears of it, so that whoever takes the lease next waits for that.
        self.releases.send_modify(|releases| *releases += 1);
    }
}

fn label(scope: LeaseScope) -> &'static str {
    match scope {
        LeaseScope::Run => "run",
        LeaseScope::Daemon => "daemon",
    }
}

#[async_trait]
impl Leases for PostgresState {
    async fn take_lease(&self, scope: LeaseScope, holder: &str) -> Result<Lease, StateError> {
        self.await_releases().await;
        let holder_id = Uuid::now_v7().to_string();
        let mut unit = self.write("take its lease").await?;
        let taken = unit
            .execute(
                sqlx::query(
                    "INSERT INTO leases (scope, epoch, holder, taken_at, holder_id, expires_at)
                     VALUES ($1, 1, $2, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"000Z\"'),
                             $3, clock_timestamp() + make_interval(secs => $4))
                     ON CONFLICT (scope) DO UPDATE
                     SET epoch = leases.epoch + 1, holder = excluded.holder, taken_at = excluded.taken_at,
                         holder_id = excluded.holder_id, expires_at = excluded.expires_at
                     WHERE leases.expires_at <= clock_timestamp()",
                )
                .bind(label(scope))
                .bind(storable(holder))
                .bind(&holder_id)
                .bind(LEASE_SECONDS),
            )
            .await?;
        if taken == 0 {
            let other: Option<(String, f64)> = unit
                .row(
                    sqlx::query_as(
                        "SELECT holder, extract(epoch FROM greatest(expires_at, clock_timestamp()) - clock_timestamp())::float8 FROM leases
                         WHERE scope = $1",
                    )
                    .bind(label(scope)),
                )
                .await?;
            let (other, seconds) = other.unwrap_or_else(|| ("another process".to_owned(), LEASE_SECONDS));
            let what = format_args!(
                "it is in use by {other}, for {:.0} more seconds unless that process renews its lease",
                seconds.max(0.0).ceil()
            );
            return Err(self.error(StateErrorKind::Leased, what));
        }
        unit.commit().await?;
        let (keeper, dropped) = oneshot::channel();
        tokio::spawn(self.clone().keep_lease(scope, holder_id.clone(), dropped));
        let releases = self.0.releases.clone();
        let held = RowLease { scope, holder_id, begun: AtomicBool::new(false), releases, _keeper: keeper };
        Ok(Lease::new(std::sync::Arc::new(held), holder))
    }

    async fn lease_holder(&self) -> Result<Option<String>, StateError> {
        self.await_releases().await;
        let query = sqlx::query_as("SELECT holder FROM leases WHERE scope = 'run' AND expires_at > clock_timestamp()");
        Ok(self.row("look who has its lease", query).await?.map(|(holder,): (String,)| holder))
    }

    async fn begin_epoch(&self, lease: &Lease, now: Timestamp) -> Result<LeaseToken, StateError> {
        let doing = "begin an epoch of the lease";
        let held = lease.held::<RowLease>().filter(|held| held.scope == LeaseScope::Run);
        let Some(held) = held.filter(|held| held.releases.same_channel(&self.0.releases)) else {
            let what = format_args!("cannot {doing}: that lease is not one to change registries by this state");
            return Err(self.error(StateErrorKind::Constraint, what));
        };
        // The first epoch of a lease is the one with which it was taken.
        let more = i64::from(held.begun.swap(true, Ordering::Relaxed));
        let mut unit = self.write(doing).await?;
        let epoch: Option<(i64,)> = unit
            .row(
                sqlx::query_as(
                    "UPDATE leases SET epoch = epoch + $3, taken_at = $2
                     WHERE scope = 'run' AND holder_id = $1 AND expires_at > clock_timestamp() RETURNING epoch",
                )
                .bind(&held.holder_id)
                .bind(format_time(now))
                .bind(more),
            )
            .await?;
        let Some((epoch,)) = epoch else {
            return Err(self.error(StateErrorKind::Leased, format_args!("cannot {doing}: the lease was lost")));
        };
        unit.commit().await?;
        Ok(lease.token(epoch))
    }
}

/// Who has the lease to change registries, as the transaction of an intent reads it.
pub(super) struct LeaseRow {
    epoch: i64,
    holder: String,
    is_valid: bool,
}

impl PostgresState {
    /// Reads the lease to change registries. Nobody else can take it until the unit ends.
    pub(super) async fn lock_lease(&self, unit: &mut Unit<'_>) -> Result<Option<LeaseRow>, StateError> {
        let query = sqlx::query_as(
            "SELECT epoch, holder, expires_at > clock_timestamp() FROM leases WHERE scope = 'run' FOR SHARE",
        );
        let row: Option<(i64, String, bool)> = unit.row(query).await?;
        Ok(row.map(|(epoch, holder, is_valid)| LeaseRow { epoch, holder, is_valid }))
    }

    /// Fails if the lease was taken again since the token was made, or expired.
    pub(super) fn check_lease(&self, row: Option<&LeaseRow>, token: &LeaseToken) -> Result<(), StateError> {
        match row {
            Some(row) if row.epoch == token.epoch() && row.is_valid => Ok(()),
            Some(row) if row.epoch == token.epoch() => {
                let what = format_args!("the lease of epoch {} was not renewed in time", token.epoch());
                Err(self.error(StateErrorKind::Leased, what))
            }
            Some(row) => Err(lost_lease(self, token, row.epoch, &row.holder)),
            None => Err(self.error(StateErrorKind::Leased, "its lease was never taken")),
        }
    }

    /// Waits until intents that looked for holds before now are committed: what is set in this unit is seen by all others.
    pub(super) async fn await_intents(&self, unit: &mut Unit<'_>) -> Result<(), StateError> {
        let query = sqlx::query_as("SELECT epoch FROM leases WHERE scope = 'run' FOR UPDATE");
        unit.row::<(i64,)>(query).await.map(drop)
    }

    /// Waits until leases that were dropped are given back, for a while.
    pub(super) async fn await_releases(&self) {
        let mut releases = self.0.releases.subscribe();
        // Where it takes longer, the lease is found taken until it expires.
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, releases.wait_for(|releases| *releases == 0)).await;
    }

    /// Renews a lease until it is dropped, and gives it back then.
    async fn keep_lease(self, scope: LeaseScope, holder_id: String, mut dropped: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                _ = &mut dropped => break,
                () = tokio::time::sleep(RENEWAL_INTERVAL) => {}
            }
            tokio::select! {
                _ = &mut dropped => break,
                renewed = self.renew_lease(scope, &holder_id) => match renewed {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::error!(lease = label(scope), "the lease was lost to another process: nothing more is begun under it");
                        if scope == LeaseScope::Daemon {
                            self.0.superseded.store(true, Ordering::Relaxed);
                        }
                        let _ = dropped.await;
                        break;
                    }
                    // Whoever journals finds out once it expired.
                    Err(error) => {
                        tracing::warn!(error = %error.chain(), lease = label(scope), "the lease could not be renewed");
                    }
                },
            }
        }
        let released = self
            .execute(
                "give back its lease",
                sqlx::query(
                    "UPDATE leases SET holder_id = '', expires_at = '-infinity' WHERE scope = $1 AND holder_id = $2",
                )
                .bind(label(scope))
                .bind(&holder_id),
            )
            .await;
        if let Err(error) = released {
            tracing::warn!(error = %error.chain(), lease = label(scope), "the lease is not given back and expires by itself");
        }
        self.0.releases.send_modify(|releases| *releases -= 1);
    }

    /// Renews a lease, also one that expired and that nobody took. Returns false if somebody did.
    async fn renew_lease(&self, scope: LeaseScope, holder_id: &str) -> Result<bool, StateError> {
        let statement = sqlx::query(
            "UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $3)
             WHERE scope = $1 AND holder_id = $2",
        );
        let statement = statement.bind(label(scope)).bind(holder_id).bind(LEASE_SECONDS);
        Ok(self.execute("renew its lease", statement).await? > 0)
    }
}

#[async_trait]
impl StopRequests for PostgresState {
    async fn request_stop(&self, requested_by: &str, until: Timestamp) -> Result<StopRequestId, StateError> {
        let mut unit = self.write("ask a run to stop").await?;
        self.await_intents(&mut unit).await?;
        let query = sqlx::query_as("INSERT INTO stop_requests (requested_by, until) VALUES ($1, $2) RETURNING id");
        let ids: Vec<(i64,)> = unit.rows(query.bind(storable(requested_by)).bind(format_time(until))).await?;
        unit.commit().await?;
        Ok(StopRequestId(ids.first().map(|(id,)| *id).unwrap_or_default()))
    }

    async fn withdraw_stop_request(&self, id: StopRequestId, now: Timestamp) -> Result<(), StateError> {
        let statement = sqlx::query("DELETE FROM stop_requests WHERE id = $1 OR until <= $2");
        self.execute("take back the request to stop", statement.bind(id.0).bind(format_time(now))).await.map(drop)
    }

    async fn stop_request(&self, now: Timestamp) -> Result<Option<String>, StateError> {
        let query = sqlx::query_as("SELECT requested_by FROM stop_requests WHERE until > $1 ORDER BY id LIMIT 1");
        let row: Option<(String,)> = self.row("read who asks to stop", query.bind(format_time(now))).await?;
        Ok(row.map(|(by,)| by))
    }
}
