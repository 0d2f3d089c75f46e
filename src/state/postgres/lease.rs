//! Leases: rows with a holder, an epoch, and a time by the database's clock at which they are another's to take.
//!
//! A holder that was stopped for too long finds out when it journals its next intent: the transaction that writes it reads
//! the row, and keeps others from taking the lease until it is committed. Before each removal it also looks at the clock of
//! this machine, which alone never says that a lease is held: it counts from before the database was asked.
//!
//! Who holds the lease to run takes those of registries, by endpoint, with its first intent for each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::unit::Unit;
use super::{PostgresState, storable};
use crate::registry::uptime;
use crate::state::group_commit::Entry;
use crate::state::lease::{HeldLease, TokenLease, lost_lease};
use crate::state::row_reader::RowReader as _;
use crate::state::{
    Lease, LeaseScope, LeaseToken, Leases, RegistryLease, StateError, StateErrorKind, StopRequestId, StopRequests,
    format_time,
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
    validity: Arc<Validity>,
    _keeper: oneshot::Sender<()>,
}

impl HeldLease for RowLease {
    fn is_lost(&self) -> bool {
        self.validity.is_lost()
    }
}

impl TokenLease for RowLease {
    fn is_current(&self) -> bool {
        self.validity.is_current()
    }

    fn confirm(&self, until: Duration) {
        self.validity.extend(until);
    }
}

/// The end of a lease that another process took.
const LOST: u64 = 0;

/// Until when a lease is held for which the database was asked at that time.
fn lease_end(asked: Duration) -> Duration {
    asked + Duration::from_secs_f64(LEASE_SECONDS)
}

/// The time until which a lease is surely held, by the clock of this machine that counts suspension, in milliseconds.
#[derive(Debug)]
struct Validity(AtomicU64);

impl Validity {
    /// That of a lease for which the database was asked after `asked`.
    fn since(asked: Duration) -> Self {
        let validity = Self(AtomicU64::new(1));
        validity.extend(lease_end(asked));
        validity
    }

    fn extend(&self, until: Duration) {
        self.0.fetch_max(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Notes that somebody else took it.
    fn lose(&self) {
        self.0.store(LOST, Ordering::Relaxed);
    }

    fn is_lost(&self) -> bool {
        self.0.load(Ordering::Relaxed) == LOST
    }

    fn is_current(&self) -> bool {
        uptime().as_millis() < u128::from(self.0.load(Ordering::Relaxed))
    }
}

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
        let asked = uptime();
        let mut unit = self.write_lease("take its lease").await?;
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
            unit.commit().await?;
            let (other, seconds) = other.unwrap_or_else(|| ("another process".to_owned(), LEASE_SECONDS));
            let what = format_args!(
                "it is in use by {other}, for {:.0} more seconds unless that process renews its lease",
                seconds.max(0.0).ceil()
            );
            return Err(self.error(StateErrorKind::Leased, what));
        }
        unit.commit().await?;
        let (keeper, dropped) = oneshot::channel();
        let validity = Arc::new(Validity::since(asked));
        tokio::spawn(self.clone().keep_lease(scope, holder_id.clone(), Arc::clone(&validity), dropped));
        let releases = self.0.releases.clone();
        let held = RowLease { scope, holder_id, begun: AtomicBool::new(false), releases, validity, _keeper: keeper };
        Ok(Lease::new(Arc::new(held), holder))
    }

    async fn lease_holder(&self) -> Result<Option<String>, StateError> {
        self.await_releases().await;
        let query = sqlx::query_as("SELECT holder FROM leases WHERE scope = 'run' AND expires_at > clock_timestamp()");
        Ok(self.row("look who has its lease", query).await?.map(|(holder,): (String,)| holder))
    }

    async fn daemon_holder(&self) -> Result<Option<String>, StateError> {
        let query =
            sqlx::query_as("SELECT holder FROM leases WHERE scope = 'daemon' AND expires_at > clock_timestamp()");
        Ok(self.row("look who follows the schedule", query).await?.map(|(holder,): (String,)| holder))
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
            return Err(self.error(StateErrorKind::LeaseLost, format_args!("cannot {doing}: the lease was lost")));
        };
        unit.commit().await?;
        Ok(lease.token(epoch))
    }

    async fn confirm_lease(&self, lease: &LeaseToken) -> Result<(), StateError> {
        let asked = uptime();
        let query = sqlx::query_as(
            "SELECT epoch, holder, expires_at > clock_timestamp(),
                    extract(epoch FROM greatest(expires_at, clock_timestamp()) - clock_timestamp())::float8
             FROM leases WHERE scope = 'run'",
        );
        let row: Option<(i64, String, bool, f64)> = self.row("look who has its lease", query).await?;
        let (row, seconds) = row.map_or((None, 0.0), |(epoch, holder, is_valid, seconds)| {
            (Some(LeaseRow { epoch, holder, is_valid }), seconds.clamp(0.0, LEASE_SECONDS))
        });
        self.check_lease(row.as_ref(), lease)?;
        lease.confirm(asked + Duration::from_secs_f64(seconds));
        Ok(())
    }

    async fn registry_leases(&self) -> Result<Vec<RegistryLease>, StateError> {
        self.await_releases().await;
        let query = sqlx::query_as(
            "SELECT endpoint, epoch, holder FROM registry_leases
             WHERE expires_at > clock_timestamp() ORDER BY endpoint",
        );
        self.rows("look who changes which registry", query).await
    }
}

/// Who has the lease to run, as the transaction of an intent reads it.
pub(super) struct LeaseRow {
    epoch: i64,
    holder: String,
    is_valid: bool,
}

impl PostgresState {
    /// Reads the lease to run, which nobody else can take until the unit ends, and takes those of the registries that
    /// intents of its holder name and that it does not have.
    pub(super) async fn lock_leases(
        &self,
        unit: &mut Unit<'_>,
        group: &[&Entry],
    ) -> Result<Option<LeaseRow>, StateError> {
        let mut named = BTreeMap::new();
        for entry in group {
            if let Entry::Intent { lease, intent, .. } = entry
                && let Some(endpoint) = intent.endpoint.as_deref()
            {
                let epoch = named.entry(endpoint).or_insert(lease.epoch());
                *epoch = lease.epoch().max(*epoch);
            }
        }
        // In one order, as always where several rows are locked.
        let (endpoints, epochs): (Vec<&str>, Vec<i64>) = named.into_iter().unzip();
        let query = sqlx::query_as(
            "SELECT epoch, holder, expires_at > clock_timestamp() AS is_valid,
                    ARRAY(SELECT endpoint FROM registry_leases AS own
                          WHERE own.run_epoch = leases.epoch AND own.expires_at > clock_timestamp()
                            AND own.endpoint = ANY($1)) AS held
             FROM leases WHERE scope = 'run' FOR SHARE",
        );
        let row: Option<(i64, String, bool, Vec<String>)> = unit.row(query.bind(&endpoints)).await?;
        let Some((epoch, holder, is_valid, held)) = row else { return Ok(None) };
        let row = LeaseRow { epoch, holder, is_valid };
        let wanted = endpoints.into_iter().zip(epochs).filter(|(_, of)| *of == epoch).map(|(endpoint, _)| endpoint);
        let wanted: Vec<&str> = wanted.filter(|endpoint| !held.iter().any(|held| held == endpoint)).collect();
        if !wanted.is_empty() && row.is_valid {
            let statement = sqlx::query(
                "INSERT INTO registry_leases (endpoint, epoch, run_epoch, holder, taken_at, expires_at)
                 SELECT endpoint, 1, leases.epoch, leases.holder, leases.taken_at, leases.expires_at
                 FROM leases, unnest($1::text[]) AS new (endpoint) WHERE scope = 'run' ORDER BY endpoint
                 ON CONFLICT (endpoint) DO UPDATE
                 SET epoch = registry_leases.epoch + (registry_leases.run_epoch <> excluded.run_epoch)::int,
                     run_epoch = excluded.run_epoch, holder = excluded.holder, taken_at = excluded.taken_at,
                     expires_at = excluded.expires_at",
            );
            unit.execute(statement.bind(wanted)).await?;
        }
        Ok(Some(row))
    }

    /// Fails if the lease was taken again since the token was made, or expired.
    pub(super) fn check_lease(&self, row: Option<&LeaseRow>, token: &LeaseToken) -> Result<(), StateError> {
        match row {
            Some(row) if row.epoch == token.epoch() && row.is_valid => Ok(()),
            Some(row) if row.epoch == token.epoch() => {
                let what = format_args!("the lease of epoch {} was not renewed in time", token.epoch());
                Err(self.error(StateErrorKind::LeaseLost, what))
            }
            Some(row) => Err(lost_lease(self, token, row.epoch, &row.holder)),
            None => Err(self.error(StateErrorKind::LeaseLost, "its lease was never taken")),
        }
    }

    /// Fails unless that lease of the schedule is held. Nobody else can take it until the unit ends.
    pub(super) async fn check_daemon_lease(&self, unit: &mut Unit<'_>, lease: &Lease) -> Result<(), StateError> {
        let held = lease.held::<RowLease>().filter(|held| held.scope == LeaseScope::Daemon);
        let query = sqlx::query_as(
            "SELECT epoch FROM leases WHERE scope = 'daemon' AND holder_id = $1 AND expires_at > clock_timestamp()
             FOR SHARE",
        );
        let row: Option<(i64,)> = unit.row(query.bind(held.map_or("-", |held| held.holder_id.as_str()))).await?;
        row.map(drop).ok_or_else(|| self.error(StateErrorKind::LeaseLost, "its lease of the schedule is over"))
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
    async fn keep_lease(
        self,
        scope: LeaseScope,
        holder_id: String,
        validity: Arc<Validity>,
        mut dropped: oneshot::Receiver<()>,
    ) {
        loop {
            tokio::select! {
                _ = &mut dropped => break,
                () = tokio::time::sleep(RENEWAL_INTERVAL) => {}
            }
            let asked = uptime();
            tokio::select! {
                _ = &mut dropped => break,
                renewed = self.renew_lease(scope, &holder_id) => match renewed {
                    Ok(true) => validity.extend(lease_end(asked)),
                    Ok(false) => {
                        validity.lose();
                        tracing::error!(lease = label(scope), "the lease was lost to another process: nothing more is begun under it");
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
        let released = self.release_lease(scope, &holder_id).await;
        if let Err(error) = released {
            tracing::warn!(error = %error.chain(), lease = label(scope), "the lease is not given back and expires by itself");
        }
        self.0.releases.send_modify(|releases| *releases -= 1);
    }

    async fn release_lease(&self, scope: LeaseScope, holder_id: &str) -> Result<(), StateError> {
        let mut unit = self.write_lease("give back its lease").await?;
        let released = sqlx::query_as(
            "UPDATE leases SET holder_id = '', expires_at = '-infinity' WHERE scope = $1 AND holder_id = $2
             RETURNING epoch",
        );
        let released: Option<(i64,)> = unit.row(released.bind(label(scope)).bind(holder_id)).await?;
        if let Some((epoch,)) = released.filter(|_| scope == LeaseScope::Run) {
            let registries = sqlx::query("UPDATE registry_leases SET expires_at = '-infinity' WHERE run_epoch <= $1");
            unit.execute(registries.bind(epoch)).await?;
        }
        unit.commit().await
    }

    /// Renews a lease, also one that expired and that nobody took, and with that to run those of registries. Returns false
    /// if somebody took it.
    async fn renew_lease(&self, scope: LeaseScope, holder_id: &str) -> Result<bool, StateError> {
        let mut unit = self.write_lease("renew its lease").await?;
        let statement = sqlx::query(
            "UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $3)
             WHERE scope = $1 AND holder_id = $2",
        );
        let renewed = unit.execute(statement.bind(label(scope)).bind(holder_id).bind(LEASE_SECONDS)).await?;
        if renewed > 0 && scope == LeaseScope::Run {
            let registries = sqlx::query(
                "UPDATE registry_leases SET expires_at = leases.expires_at FROM leases
                 WHERE scope = 'run' AND holder_id = $1 AND run_epoch = leases.epoch",
            );
            unit.execute(registries.bind(holder_id)).await?;
        }
        unit.commit().await?;
        Ok(renewed > 0)
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
