//! File systems on which SQLite's locks are not reliable (<https://www.sqlite.org/howtocorrupt.html>, section 2.1).

use std::path::Path;

use super::file::folder;
use super::{StateError, StateErrorKind};

/// The advice for a state on a share.
const HELP: &str = "put it on a disk of this machine, or keep the state in PostgreSQL (docs/postgres.md)";

/// The magic numbers of such file systems, from `linux/magic.h` and the sources of their drivers, with their names.
const SHARES: [(u32, &str); 10] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "SMB"),
    (0xFE53_4D42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
];

/// Verifies that a state at that path would not be on a network share. Of a system that does not tell its file systems
/// apart, and of a file system that cannot be asked, nothing is assumed: opening the file fails by itself then.
///
/// # Errors
/// Returns an error that names the file system.
pub(super) fn refuse_network_share(path: &Path) -> Result<(), StateError> {
    let Some(name) = magic_number(path).or_else(|| magic_number(folder(path))).and_then(share_name) else {
        return Ok(());
    };
    let message = format!(
        "the state {}: it is on a network share ({name}), where the locks of SQLite do not protect it",
        path.display()
    );
    Err(StateError::new(StateErrorKind::Open, message).with_help(HELP))
}

/// Returns the name of a file system on which SQLite's locks are not reliable, by its magic number.
fn share_name(magic: u32) -> Option<&'static str> {
    SHARES.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

/// Returns the magic number of the file system of a file or folder, symlinks followed. It has 32 bits on every Linux.
#[cfg(target_os = "linux")]
fn magic_number(path: &Path) -> Option<u32> {
    let bytes = rustix::fs::statfs(path).ok()?.f_type.to_le_bytes();
    bytes.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(not(target_os = "linux"))]
fn magic_number(_: &Path) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_from_disks() {
        for (magic, name) in [
            (0x6969, Some("NFS")),
            (0xFF53_4D42, Some("SMB")),
            (0x6573_5546, Some("FUSE")),
            // ext4, XFS, Btrfs, tmpfs and overlayfs.
            (0xEF53, None),
            (0x5846_5342, None),
            (0x9123_683E, None),
            (0x0102_1994, None),
            (0x794C_7630, None),
        ] {
            assert_eq!(share_name(magic), name, "{magic:#x}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_is_asked_for_its_number() {
        // `PROC_SUPER_MAGIC`.
        assert_eq!(magic_number(Path::new("/proc")), Some(0x9FA0));
        assert_eq!(magic_number(Path::new("/proc/self/status")), Some(0x9FA0));
        assert_eq!(magic_number(Path::new("/proc/no-such-file")), None);
    }
}
