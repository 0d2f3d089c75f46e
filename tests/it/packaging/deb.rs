//! The Debian package, built twice, and installed, upgraded and purged on a copy of this system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a command to its end and returns its standard output.
#[track_caller]
pub(super) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?} did not start ({error}): `tests/run` installs what it needs; run it once")
    });
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out.into_owned()
}

/// Builds the package of the binary under test, without symbols and uncompressed because a debug build is large.
fn build(folder: &Path) -> PathBuf {
    let binary = folder.join("tagwarden");
    run(Command::new("strip").arg("-o").arg(&binary).arg(env!("CARGO_BIN_EXE_tagwarden")));
    let built = run(Command::new(Path::new(ROOT).join("packaging/deb"))
        .arg(&binary)
        .arg(folder)
        .env("COMPRESSION", "none")
        .env("SOURCE_DATE_EPOCH", "1796000000"));
    PathBuf::from(built.trim_end())
}

/// What a release ships under one name must be the same for whoever builds it.
#[test]
fn two_builds_of_the_package_are_the_same_bytes() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let packages = [build(one.path()), build(other.path())];
    assert_eq!(packages[0].file_name(), packages[1].file_name());
    run(Command::new("cmp").args(&packages));
    let fields = run(Command::new("dpkg-deb").arg("--field").arg(&packages[0]));
    assert!(fields.contains(concat!("Version: ", env!("CARGO_PKG_VERSION"), "\n")), "{fields}");
    assert!(fields.contains("libc6 (>="), "the binary's own libraries are missing:\n{fields}");
}

/// Nothing starts by itself, the units find the binary, and what cannot be made again outlives the package.
#[test]
fn the_package_can_be_installed_upgraded_and_purged() {
    let (folder, system) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let package = build(folder.path());
    let namespace = ["unshare", "--mount", "--propagation", "private"];
    let is_root = run(Command::new("id").arg("-u")).trim() == "0";
    let line: Vec<&str> = if is_root { namespace.to_vec() } else { [&["sudo", "-n"], &namespace[..]].concat() };
    let seen = run(Command::new(line[0])
        .args(&line[1..])
        .arg(Path::new(ROOT).join("tests/it/packaging/install_deb.sh"))
        .arg(&package)
        .arg(system.path()));
    let expected = concat!(
        "version: tagwarden ",
        env!("CARGO_PKG_VERSION"),
        "\n\
        user: tagwarden, home /var/lib/tagwarden\n\
        mode: 750 root:tagwarden /etc/tagwarden\n\
        mode: 750 root:tagwarden /etc/tagwarden/policies\n\
        mode: 700 root:root /etc/tagwarden/credentials\n\
        units: fine\n\
        started: 0 units enabled\n\
        manual: TAGWARDEN\n\
        manual: TAGWARDEN-PLAN\n\
        completion: -F _tagwarden\n\
        settings: \"sqlite:/var/lib/tagwarden/tagwarden.db\"\n\
        state made by root: 0\n\
        after the purge: /etc/tagwarden/tagwarden.toml stays\n\
        after the purge: /var/lib/tagwarden/tagwarden.db stays\n\
        after the purge: /usr/bin/tagwarden is gone\n"
    );
    assert_eq!(seen, expected);
    assert_eq!(fs::read_dir(system.path()).unwrap().count(), 0, "the copy ended with its namespace");
}
