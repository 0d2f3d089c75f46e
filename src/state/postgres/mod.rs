//! The state in a database of PostgreSQL, which several machines can reach.
//!
//! Everything is a transaction of its own, reads too, and nothing is kept in a session: no prepared statement, no lock, no
//! setting. So a pooler that gives each transaction another session, such as pgbouncer, makes no difference. What rows
//! mean is in the modules beside this one, which SQLite shares; here is the SQL.

mod cache;
mod figures;
mod free_manifests;
mod gc;
mod holds;
mod journal;
mod journal_exchange;
mod journal_group;
mod lease;
mod manifests;
mod migrations;
mod observations;
mod plans;
mod records;
mod registries;
mod restored_tags;
mod rule_revisions;
mod rules;
mod runs;
mod storage;
mod tag_lists;
mod unit;

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use tokio::sync::{mpsc, watch};

use super::cache::PendingContent;
use super::connection::LastFailure;
use super::group_commit::{self, QueuedEntry};
use super::location::{Encryption, PostgresLocation, PostgresPassword};
use super::row_reader::RowReader;
use super::{StateError, StateErrorKind, StateLocation};
use crate::azure::TokenCache;
use crate::domain::decode_text;
use crate::http_client::{RequestError, RetryPolicy};

/// Connections of one process, besides the one of its leases. A walk reads and writes several repositories at a time.
const CONNECTIONS: u32 = 7;

/// Connections that only take, renew and give back leases. A lease must not run out because its renewal waits behind the
/// work that it is for.
const LEASE_CONNECTIONS: u32 = 1;

/// How long it is tried to get a connection, also while the database starts anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a password file is read anew at most.
const PASSWORD_INTERVAL: Duration = Duration::from_secs(5);

/// The state in a database of PostgreSQL, open. Cheap to clone; all clones share its connections.
#[derive(Debug, Clone)]
pub struct PostgresState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: PostgresLocation,
    /// The same, as callers know it.
    location: StateLocation,
    pool: PgPool,
    /// Opened with the first lease.
    lease_pool: PgPool,
    failures: LastFailure,
    /// The last thing that was asked of the database was not answered.
    unreachable: AtomicBool,
    /// True once this process warned that it is new.
    warned_as_new: AtomicBool,
    pending_cache: Mutex<PendingContent>,
    /// To the task that writes the journal for all.
    journal: mpsc::Sender<QueuedEntry>,
    /// The number of leases that were dropped and are about to be given back.
    releases: watch::Sender<usize>,
    source: PasswordSource,
    password: Mutex<KnownPassword>,
}

/// The password that new connections use.
struct KnownPassword {
    password: Option<SecretString>,
    read_at: Instant,
}

impl fmt::Debug for KnownPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownPassword").field("read_at", &self.read_at).finish_non_exhaustive()
    }
}

impl PostgresState {
    /// Opens the state in that database, making its tables where there are none, and bringing them up to date where
    /// needed.
    ///
    /// # Errors
    /// When the database cannot be reached, does not let its user in, has other tables, or a newer Tagwarden wrote it.
    pub async fn open(database: PostgresLocation) -> Result<Self, StateError> {
        Self::open_with(database, true).await
    }

    /// Opens a state to read it, also where its user may only read. What is written to it there fails.
    ///
    /// # Errors
    /// As [`PostgresState::open`], and when there is none, or of an older version.
    pub async fn open_to_read(database: PostgresLocation) -> Result<Self, StateError> {
        match Self::open_with(database.clone(), true).await {
            Err(error) if error.kind == StateErrorKind::ReadOnly => Self::open_with(database, false).await,
            opened => opened,
        }
    }

    async fn open_with(database: PostgresLocation, migrate: bool) -> Result<Self, StateError> {
        let source = PasswordSource::new(&database)?;
        let password = source.password().await?;
        let options = options(&database, password.as_ref());
        migrations::prepare(&database, &options, migrate).await?;
        let failures = LastFailure::default();
        let pool = connection_pool(CONNECTIONS, options.clone(), &failures);
        let lease_pool = connection_pool(LEASE_CONNECTIONS, options, &failures);
        Ok(Self(Arc::new_cyclic(|inner| Inner {
            location: database.clone().into(),
            database,
            pool,
            lease_pool,
            failures,
            unreachable: AtomicBool::new(false),
            warned_as_new: AtomicBool::new(false),
            pending_cache: Mutex::default(),
            journal: {
                let inner = inner.clone();
                group_commit::spawn_writer(move || inner.upgrade().map(PostgresState))
            },
            releases: watch::Sender::new(0),
            source,
            password: Mutex::new(KnownPassword { password, read_at: Instant::now() }),
        })))
    }

    /// What PostgreSQL said while something was done. No connection outlives the loss of another.
    fn sqlx_error(&self, doing: &str, error: sqlx::Error) -> StateError {
        let error = StateError::from_postgres(&self.0.database, doing, error);
        if error.kind == StateErrorKind::Unavailable {
            self.0.failures.note();
            self.0.unreachable.store(true, Ordering::Relaxed);
        }
        error
    }

    /// Lets new connections use the password of now, if that changed.
    async fn refresh_password(&self) -> Result<(), StateError> {
        let is_recent = || self.known_password().read_at.elapsed() < PASSWORD_INTERVAL;
        if !self.0.source.is_changing() || is_recent() {
            return Ok(());
        }
        let password = self.0.source.password().await?;
        let text = |password: &Option<SecretString>| password.as_ref().map(|text| text.expose_secret().to_owned());
        let mut known = self.known_password();
        if text(&password) != text(&known.password) {
            let options = options(&self.0.database, password.as_ref());
            self.0.lease_pool.set_connect_options(options.clone());
            self.0.pool.set_connect_options(options);
        }
        *known = KnownPassword { password, read_at: Instant::now() };
        Ok(())
    }

    fn known_password(&self) -> MutexGuard<'_, KnownPassword> {
        self.0.password.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RowReader for PostgresState {
    fn error(&self, kind: StateErrorKind, what: impl fmt::Display) -> StateError {
        StateError::about_database(kind, &self.0.database, what)
    }
}

/// Where the password of a database's user comes from.
#[derive(Debug)]
struct PasswordSource {
    database: PostgresLocation,
    /// The tokens of an identity that is one's password.
    tokens: Option<(TokenCache, &'static str)>,
}

impl PasswordSource {
    fn new(database: &PostgresLocation) -> Result<Self, StateError> {
        let tokens = match &database.password {
            PostgresPassword::Entra(credential) => {
                let tokens = credential.connect(RetryPolicy::default());
                let tokens = tokens.map_err(|error| token_error(database, error))?;
                Some((tokens, credential.environment.cloud.database_scope()))
            }
            PostgresPassword::None | PostgresPassword::Secret(_) | PostgresPassword::File(_) => None,
        };
        Ok(Self { database: database.clone(), tokens })
    }

    /// Returns true if the password may be another one later.
    fn is_changing(&self) -> bool {
        matches!(self.database.password, PostgresPassword::File(_) | PostgresPassword::Entra(_))
    }

    async fn password(&self) -> Result<Option<SecretString>, StateError> {
        let database = &self.database;
        if let Some((tokens, scope)) = &self.tokens {
            return tokens.token(scope).await.map(Some).map_err(|error| token_error(database, error));
        }
        match &database.password {
            PostgresPassword::None | PostgresPassword::Entra(_) => Ok(None),
            PostgresPassword::Secret(password) => Ok(Some(password.clone())),
            PostgresPassword::File(path) => match std::fs::read(path).and_then(|bytes| Ok(decode_text(bytes)?)) {
                Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).into())),
                Err(error) => {
                    let what = format_args!("cannot read the password file {}", path.display());
                    Err(StateError::about_database(StateErrorKind::Open, database, what).caused_by(error))
                }
            },
        }
    }

    /// What it takes to connect now.
    async fn options(&self) -> Result<PgConnectOptions, StateError> {
        Ok(options(&self.database, self.password().await?.as_ref()))
    }
}

fn token_error(database: &PostgresLocation, error: RequestError) -> StateError {
    StateError::about_database(StateErrorKind::Unavailable, database, "cannot get a token of Entra ID for it")
        .caused_by(error)
}

/// What it takes to connect to a database now.
pub(super) async fn connect_options(database: &PostgresLocation) -> Result<PgConnectOptions, StateError> {
    PasswordSource::new(database)?.options().await
}

/// What it takes to connect, as far as libpq's variables in the environment must not decide.
fn options(database: &PostgresLocation, password: Option<&SecretString>) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .port(database.port)
        .username(&database.user)
        .database(&database.database)
        .password(password.map_or("", |password| password.expose_secret()))
        .application_name("tagwarden")
        .ssl_mode(match database.encryption {
            Encryption::Disable => PgSslMode::Disable,
            Encryption::Prefer => PgSslMode::Prefer,
            Encryption::Require => PgSslMode::Require,
            Encryption::VerifyAuthority => PgSslMode::VerifyCa,
            Encryption::VerifyFull => PgSslMode::VerifyFull,
        })
        // A pooler knows neither prepared statements nor this setting.
        .statement_cache_capacity(0)
        .extra_float_digits(None)
        .disable_statement_logging();
    if let Some(ca_file) = &database.ca_file {
        options = options.ssl_root_cert(ca_file);
    }
    if database.host.starts_with('/') { options.socket(&database.host) } else { options.host(&database.host) }
}

/// Creates a pool of at most `size` connections, which are opened on first use.
fn connection_pool(size: u32, options: PgConnectOptions, failures: &LastFailure) -> PgPool {
    let failures = failures.clone();
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(CONNECT_TIMEOUT)
        .idle_timeout(Duration::from_mins(5))
        // A connection that is no longer good is found out by the first statement of a transaction, which is repeated.
        .test_before_acquire(false)
        .before_acquire(move |_, meta| {
            let sound = failures.is_opened_since(meta.age);
            Box::pin(async move { Ok(sound) })
        })
        .connect_lazy_with(options)
}

/// A text without the one character that PostgreSQL cannot store.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}
