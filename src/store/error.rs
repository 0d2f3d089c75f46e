//! What goes wrong with the state.

use std::path::Path;

/// What went wrong with the state. Messages name the file and what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// The class of it.
    pub kind: StoreErrorKind,
    /// What happened, where, and what to do next.
    pub message: String,
}

/// The classes of failures that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// It could not be opened or created.
    Open,
    /// Another process writes to it and did not finish in time.
    Locked,
    /// Another process holds the lease.
    Leased,
    /// A hold covers what was to be removed. The message is the hold's alone.
    Held,
    /// Somebody asks for no more removals. The message is who.
    Interrupted,
    /// Its file was deleted or replaced while it was open.
    Replaced,
    /// It is damaged, or something in it is not what its digest says.
    Corrupt,
    /// The disk is full.
    Full,
    /// It cannot be written.
    ReadOnly,
    /// A newer Tagwarden wrote it.
    NewerSchema,
    /// There is a file where a backup was to be written.
    Exists,
    /// A backup could not be written or read back.
    Backup,
    /// An abbreviated run id fits more than one run.
    Ambiguous,
    /// Something that should be in it is not.
    Missing,
    /// What was to be written breaks a rule of its tables, such as an entry of a run that there is not.
    Rule,
    /// Reading or writing failed in another way.
    Io,
}

impl StoreErrorKind {
    /// The label used in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Locked => "locked",
            Self::Leased => "leased",
            Self::Held => "held",
            Self::Interrupted => "interrupted",
            Self::Replaced => "replaced",
            Self::Corrupt => "corrupt",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::NewerSchema => "newer-schema",
            Self::Exists => "exists",
            Self::Backup => "backup",
            Self::Ambiguous => "ambiguous",
            Self::Missing => "missing",
            Self::Rule => "rule",
            Self::Io => "io",
        }
    }

    /// What a person can do about it.
    fn advice(self) -> &'static str {
        match self {
            Self::Open => "check `state` in the settings and the rights on its folder",
            Self::Locked => "another process is writing to it; try again when that has ended",
            Self::Leased => "wait until it has ended",
            Self::Held => "`tagwarden holds` lists what is held",
            Self::Interrupted => "run again later",
            Self::Replaced => {
                "put the file back, or restart tagwarden to use what is there now; nothing is removed meanwhile"
            }
            Self::Corrupt => "it was left as it is: put back a copy, or move it away to start with an empty one",
            Self::Full => "make room on that disk and try again",
            Self::ReadOnly => "make the file and its folder writable for this user",
            Self::NewerSchema => "use a Tagwarden at least as new as the one that wrote it",
            Self::Exists => "name a file that does not exist: a backup overwrites nothing",
            Self::Backup => "check the space and the rights there; nothing was left behind",
            Self::Ambiguous | Self::Missing => "`tagwarden runs` lists what there is",
            Self::Rule => "this is a fault in tagwarden; please report it",
            Self::Io => "the log of the system may say more",
        }
    }
}

impl StoreError {
    /// An error of that class about the state at `path`, with the advice that goes with the class.
    pub(super) fn new(kind: StoreErrorKind, path: &Path, what: impl std::fmt::Display) -> Self {
        Self { kind, message: format!("the state {}: {what}; {}", path.display(), kind.advice()) }
    }

    /// What SQLite said while something was done to the state at `path`.
    pub(super) fn of(path: &Path, doing: &str, error: &sqlx::Error) -> Self {
        Self::new(classify(error), path, format_args!("cannot {doing}: {error}"))
    }
}

/// The class of an error of SQLite, by its primary result code (<https://www.sqlite.org/rescode.html>).
fn classify(error: &sqlx::Error) -> StoreErrorKind {
    match error {
        sqlx::Error::PoolTimedOut => StoreErrorKind::Locked,
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
            match code & 0xff {
                5 | 6 => StoreErrorKind::Locked,
                8 => StoreErrorKind::ReadOnly,
                11 | 26 => StoreErrorKind::Corrupt,
                13 => StoreErrorKind::Full,
                14 => StoreErrorKind::Open,
                19 => StoreErrorKind::Rule,
                _ => StoreErrorKind::Io,
            }
        }
        _ => StoreErrorKind::Io,
    }
}
