//! The lease: one process at a time enforces with a state.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use super::file::{real_path, sibling_path};
use super::{StateError, StateErrorKind, owner_only};

/// The right to change registries on behalf of a state. Given back when dropped, or by the kernel when the process ends,
/// however it ends.
#[derive(Debug)]
pub struct Lease {
    /// The lock lives as long as this is open. The file stays, since removing it would let two processes lock two files.
    _file: File,
}

impl Lease {
    /// Takes the lease of the state at that path. `holder` tells others who has it: what, who, where, since when.
    ///
    /// # Errors
    /// When another process has it (the message quotes that holder), the state has several names, or the lock file cannot
    /// be used.
    pub fn take(state_path: &Path, holder: &str) -> Result<Self, StateError> {
        Self::take_file(".lock", state_path, holder)
    }

    /// Takes the lease of the daemon: the right to go by the schedule of the state at that path. It is another one, so
    /// that a person can apply and restore beside a daemon that waits.
    ///
    /// # Errors
    /// As [`Lease::take`].
    pub fn take_daemon(state_path: &Path, holder: &str) -> Result<Self, StateError> {
        Self::take_file(".daemon.lock", state_path, holder)
    }

    /// Who has the lease of the state at that path, in words, or `None`.
    ///
    /// # Errors
    /// When the lock file cannot be used.
    pub fn holder(state_path: &Path) -> Result<Option<String>, StateError> {
        let path = sibling_path(&real_path(state_path)?, ".lock");
        let unusable = |error: io::Error| unusable_lock(state_path, &path, &error);
        let file = match owner_only().read(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(error)),
        };
        // For an instant this keeps others from the lease, see `PROBES`.
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(holder_text(file))),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    fn take_file(ending: &str, state_path: &Path, holder: &str) -> Result<Self, StateError> {
        let path = sibling_path(&real_path(state_path)?, ending);
        let unusable = |error: io::Error| unusable_lock(state_path, &path, &error);
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
                    return Err(StateError::new(StateErrorKind::Leased, state_path, what));
                }
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(unusable)?;
        file.write_all(holder.as_bytes()).and_then(|()| file.sync_data()).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

/// So often a lock that is taken is tried again, after so much time each: somebody may only look who has it.
const PROBES: u32 = 3;
const PROBE: Duration = Duration::from_millis(2);

/// Who has a lease, as the holder wrote it.
fn holder_text(file: File) -> String {
    let mut text = String::new();
    let read = file.take(1000).read_to_string(&mut text);
    if read.is_ok() && !text.trim().is_empty() { text.trim().to_owned() } else { "another process".to_owned() }
}

fn unusable_lock(state_path: &Path, lock: &Path, error: &io::Error) -> StateError {
    StateError::from_io(state_path, &format!("use its lock file {}", lock.display()), error)
}
