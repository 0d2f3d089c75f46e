//! Failures of the state.

use std::io;
use std::path::Path;

use super::file::folder;
use super::location::PostgresLocation;
use crate::domain::{Cause, Failure};

/// A failure of the state. Messages name the file.
pub type StateError = Failure<StateErrorKind>;

/// The classes of failures that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateErrorKind {
    /// It could not be opened or created.
    Open,
    /// Another process writes to it and did not finish in time.
    Locked,
    /// Another process holds the lease.
    Leased,
    /// The lease was held, and expired or was taken by another process since.
    LeaseLost,
    /// A hold covers the removal. The message is the hold's alone.
    Held,
    /// A stop was requested. The message names the requester.
    Interrupted,
    /// Its file, or its write-ahead log, was deleted, replaced or shortened while it was open.
    Replaced,
    /// It is damaged, or content does not match its digest.
    Corrupt,
    /// The disk is full.
    Full,
    /// It cannot be written.
    ReadOnly,
    /// This process, or the system, has too many files open.
    TooManyFiles,
    /// Its database does not answer, or ended the connection.
    Unavailable,
    /// A newer Tagwarden wrote it.
    NewerSchema,
    /// There is a file where a backup was to be written.
    Exists,
    /// A backup could not be written or read back.
    Backup,
    /// An abbreviated run id fits more than one run.
    Ambiguous,
    /// An expected item is missing.
    Missing,
    /// The write violates a constraint of its tables, such as an entry of a run that does not exist.
    Constraint,
    /// Reading or writing failed in another way.
    Io,
}

impl StateErrorKind {
    /// Returns the label used in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Locked => "locked",
            Self::Leased => "leased",
            Self::LeaseLost => "lease-lost",
            Self::Held => "held",
            Self::Interrupted => "interrupted",
            Self::Replaced => "replaced",
            Self::Corrupt => "corrupt",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::TooManyFiles => "too-many-files",
            Self::Unavailable => "unavailable",
            Self::NewerSchema => "newer-schema",
            Self::Exists => "exists",
            Self::Backup => "backup",
            Self::Ambiguous => "ambiguous",
            Self::Missing => "missing",
            Self::Constraint => "rule",
            Self::Io => "io",
        }
    }

    /// Returns the remedy.
    fn help(self) -> &'static str {
        match self {
            Self::Open => "check `state` in the settings and the rights on its folder",
            Self::Locked => "another process is writing to it; try again when that has ended",
            Self::Leased | Self::LeaseLost => "wait until it has ended",
            Self::Held => "`tagwarden holds` lists what is held",
            Self::Interrupted => "run again later",
            Self::Replaced => {
                "put the file back, or restart tagwarden to use what is there now; nothing is removed meanwhile"
            }
            Self::Corrupt => "it was left as it is: put back a backup, or move it away to start anew",
            Self::Full => "make room on that disk and try again",
            Self::ReadOnly => "make the file and its folder writable for this user",
            Self::TooManyFiles => {
                "raise the limit of open files: `LimitNOFILE=` in the systemd unit, `ulimit -n` in a shell"
            }
            Self::Unavailable => "check that the database runs and can be reached; nothing is removed meanwhile",
            Self::NewerSchema => "use a Tagwarden at least as new as the one that wrote it",
            Self::Exists => "name a file that does not exist: a backup or a copy overwrites nothing",
            Self::Backup => "check the space and the rights there; nothing was left behind",
            Self::Ambiguous | Self::Missing => "`tagwarden runs` lists what there is",
            Self::Constraint => "this is a fault in tagwarden; please report it",
            Self::Io => "the log of the system may say more",
        }
    }

    /// What a person can do about it where the state is in PostgreSQL.
    fn postgres_help(self) -> &'static str {
        match self {
            Self::Open => "check `state` and `[postgres]` in the settings, and what the server's log says",
            Self::Locked => "another process works with the same rows; try again",
            Self::Corrupt => "it was left as it is: put back a backup, or use another database to start anew",
            Self::Full => "make room on the disk of the database and try again",
            Self::ReadOnly => "connect to the primary as a user who may write: the owner of the tables",
            Self::Exists => "use a database of its own, or empty that one: a copy overwrites nothing",
            Self::Io => "the log of the database may say more",
            other => other.help(),
        }
    }
}

impl StateError {
    /// Returns an error of that class about the state at `path`, with the class's remedy.
    pub(super) fn about(kind: StateErrorKind, path: &Path, what: impl std::fmt::Display) -> Self {
        Self::new(kind, format!("the state {}: {what}", path.display())).with_help(kind.help())
    }

    /// An error of that class about a state in PostgreSQL.
    pub(super) fn about_database(
        kind: StateErrorKind,
        database: &PostgresLocation,
        what: impl std::fmt::Display,
    ) -> Self {
        Self::new(kind, format!("the state {database}: {what}")).with_help(kind.postgres_help())
    }

    /// What PostgreSQL, or the connection to it, said while something was done to a state.
    pub(super) fn from_postgres(database: &PostgresLocation, doing: &str, error: sqlx::Error) -> Self {
        let what = format_args!("cannot {doing}");
        Self::about_database(classify_postgres(&error), database, what).caused_by(error)
    }

    /// What SQLite said while something was done to the state at `path`.
    pub(super) fn from_sqlx(path: &Path, doing: &str, error: sqlx::Error) -> Self {
        let kind = classify(&error);
        // SQLite only reports that the file could not be opened.
        if kind == StateErrorKind::Open
            && let Err(cause) = create_beside(path)
        {
            return Self::from_io(path, doing, cause);
        }
        let failure = Self::about(kind, path, format_args!("cannot {doing}"));
        match error {
            // The remedy says who has the lock.
            sqlx::Error::Database(_) if kind == StateErrorKind::Locked => failure,
            // Only what SQLite itself said.
            sqlx::Error::Database(error) => failure.caused_by(Cause::boxed(error.into_error())),
            error => failure.caused_by(error),
        }
    }

    /// Converts an error of the system during an operation on the state at `path`.
    pub(super) fn from_io(path: &Path, doing: &str, error: io::Error) -> Self {
        let kind = classify_io(&error);
        let what = |why: &str| Self::about(kind, path, format_args!("cannot {doing}{why}"));
        // The class says everything that the system's message does, in better words.
        match kind {
            StateErrorKind::ReadOnly => what(": its folder is on a read-only file system"),
            StateErrorKind::TooManyFiles => what(": too many open files"),
            _ => what("").caused_by(error),
        }
    }
}

/// Files that a connection opens: the state, its log, the log's index, a journal.
const FILES: usize = 4;

/// Creates as many unnamed files as a connection opens, in the folder of the state, to learn why one cannot be opened.
///
/// The state itself must not be opened for that: closing it would release the locks that SQLite holds on it in this
/// process (<https://www.sqlite.org/howtocorrupt.html>, section 2.2).
pub(super) fn create_beside(path: &Path) -> io::Result<()> {
    let first = tempfile::tempfile_in(folder(path))?;
    (1..FILES).map(|_| first.try_clone()).collect::<io::Result<Vec<_>>>().map(drop)
}

/// Returns the class of an error of SQLite, by its primary result code (<https://www.sqlite.org/rescode.html>).
fn classify(error: &sqlx::Error) -> StateErrorKind {
    match error {
        sqlx::Error::PoolTimedOut => StateErrorKind::Locked,
        // Data written by Tagwarden can be decoded: text is valid UTF-8, numbers are numbers.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StateErrorKind::Corrupt,
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
            match code & 0xff {
                // SQLITE_IOERR_SHMSIZE: no room for the file beside the database that its users share.
                _ if code == 4874 => StateErrorKind::Full,
                5 | 6 => StateErrorKind::Locked,
                8 => StateErrorKind::ReadOnly,
                11 | 26 => StateErrorKind::Corrupt,
                13 => StateErrorKind::Full,
                14 => StateErrorKind::Open,
                19 => StateErrorKind::Constraint,
                _ => StateErrorKind::Io,
            }
        }
        _ => StateErrorKind::Io,
    }
}

/// The class of an error of PostgreSQL (<https://www.postgresql.org/docs/15/errcodes-appendix.html>), or of the connection.
fn classify_postgres(error: &sqlx::Error) -> StateErrorKind {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StateErrorKind::Corrupt,
        // The certificate is not the right one, or the server cannot encrypt: waiting does not help.
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => StateErrorKind::Open,
        // `rustls` says so of certificates.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => StateErrorKind::Open,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            match (&*code, code.get(..2).unwrap_or_default()) {
                ("25006" | "42501", _) => StateErrorKind::ReadOnly,
                ("53100", _) => StateErrorKind::Full,
                ("40001" | "40P01" | "55P03", _) => StateErrorKind::Locked,
                (_, "23") => StateErrorKind::Constraint,
                (_, "28" | "3D") => StateErrorKind::Open,
                (_, "08" | "53" | "57") => StateErrorKind::Unavailable,
                (_, "XX") => StateErrorKind::Corrupt,
                _ => StateErrorKind::Io,
            }
        }
        _ => StateErrorKind::Unavailable,
    }
}

/// `EMFILE` and `ENFILE`, which the standard library has no name for; on Windows `ERROR_TOO_MANY_OPEN_FILES`.
const TOO_MANY_FILES: &[i32] = if cfg!(unix) { &[24, 23] } else { &[4] };

/// Returns the class of an error of the system.
fn classify_io(error: &io::Error) -> StateErrorKind {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => StateErrorKind::ReadOnly,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StateErrorKind::Full,
        _ if error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code)) => StateErrorKind::TooManyFiles,
        _ => StateErrorKind::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_the_system_says_has_a_cause_and_a_remedy() {
        let cases = [
            (30, StateErrorKind::ReadOnly, "cannot read it: its folder is on a read-only file system; make"),
            (24, StateErrorKind::TooManyFiles, "too many open files; raise the limit of open files: `LimitNOFILE=`"),
            (23, StateErrorKind::TooManyFiles, "too many open files"),
            (28, StateErrorKind::Full, "make room"),
            (13, StateErrorKind::Open, "check `state` in the settings and the rights"),
        ];
        for (code, kind, words) in cases {
            let error = StateError::from_io(Path::new("t.db"), "read it", io::Error::from_raw_os_error(code));
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.chain().contains(words), "{error}");
        }
    }

    /// The cause is determined from the folder, whatever SQLite reports.
    #[tokio::test]
    async fn a_file_that_cannot_be_opened_names_the_cause() {
        use sqlx::ConnectOptions as _;
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("gone/t.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&state);
        let error = StateError::from_sqlx(&state, "read it", options.connect().await.unwrap_err());
        assert_eq!(error.kind, StateErrorKind::Open, "{error}");
        assert!(!error.chain().contains("code: 14") && error.chain().contains("No such file"), "{error}");
        create_beside(&folder.path().join("t.db")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
