//! The units, read by systemd itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use secrecy::ExposeSecret as _;
use tagwarden::config;
use tagwarden::registry::Auth;

const DAEMON: &str = include_str!("../../../systemd/tagwarden.service");
const RUN: &str = include_str!("../../../systemd/tagwarden-run.service");
const TIMER: &str = include_str!("../../../systemd/tagwarden-run.timer");
const NOTIFY_RELOAD: &str = include_str!("../../../systemd/notify-reload.conf");
const SYSUSERS: &str = include_str!("../../../systemd/tagwarden.sysusers");
const TMPFILES: &str = include_str!("../../../systemd/tagwarden.tmpfiles");
const SETTINGS: &str = include_str!("../../../systemd/tagwarden.toml");

/// Where the units expect the binary.
const BINARY: &str = "/usr/local/bin/tagwarden";

/// Runs a tool of systemd, which `tests/run` installs.
fn systemd(tool: &str, arguments: &[&str], file: &Path) -> Output {
    let output = Command::new(tool).args(arguments).arg(file).env("SYSTEMD_COLORS", "0").output();
    output.unwrap_or_else(|error| panic!("{tool} did not start ({error}): `tests/run` installs it; run it once"))
}

#[track_caller]
fn fine(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    format!("{out}{err}")
}

/// The units in a folder, with the binary where it is now.
fn units() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let all = [("tagwarden.service", DAEMON), ("tagwarden-run.service", RUN), ("tagwarden-run.timer", TIMER)];
    let paths = all.map(|(name, text)| {
        let path = folder.path().join(name);
        fs::write(&path, text.replace(BINARY, env!("CARGO_BIN_EXE_tagwarden"))).unwrap();
        path
    });
    (folder, paths.to_vec())
}

/// The values of a unit's keys, in their order.
fn keys(unit: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut found = BTreeMap::<&str, Vec<&str>>::new();
    for (key, value) in unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')) {
        found.entry(key).or_default().push(value);
    }
    found
}

#[test]
fn both_services_return_freed_memory() {
    for unit in [DAEMON, RUN] {
        assert!(keys(unit)["Environment"].contains(&"MALLOC_MMAP_THRESHOLD_=131072"), "{unit}");
    }
}

#[test]
fn systemd_understands_every_unit() {
    let (_folder, units) = units();
    for unit in units {
        let told = fine(&systemd("systemd-analyze", &["verify", "--man=no"], &unit));
        assert!(!told.contains("tagwarden"), "{told}");
    }
}

/// The number is tenths of what `systemd-analyze` calls the exposure.
#[test]
fn the_sandbox_lets_little_through() {
    let (_folder, units) = units();
    for unit in &units[..2] {
        let told = fine(&systemd("systemd-analyze", &["security", "--offline=true", "--threshold=15"], unit));
        assert!(told.contains("Overall exposure level"), "{told}");
    }
}

#[test]
fn a_run_is_as_shut_in_as_the_daemon() {
    let sandbox = |unit| {
        let mut keys = keys(unit);
        for own in [
            "Description",
            "Type",
            "NotifyAccess",
            "ExecStart",
            "ExecReload",
            "WatchdogSec",
            "TimeoutStartSec",
            "Restart",
            "RestartSec",
            "RestartPreventExitStatus",
            "StartLimitIntervalSec",
            "StartLimitBurst",
            "WantedBy",
        ] {
            keys.remove(own);
        }
        keys
    };
    assert_eq!(sandbox(DAEMON), sandbox(RUN));
    assert!(sandbox(DAEMON).len() > 35);
}

/// What cannot be loaded fails the reload before the daemon is told; and where systemd sends the signal itself, nothing of
/// that is left over.
#[test]
fn a_reload_is_checked_first_and_waited_for() {
    let keys = keys(DAEMON);
    let steps = &keys["ExecReload"];
    let [check, signal, wait] = steps.as_slice() else { panic!("{steps:?}") };
    assert!(check.starts_with(BINARY) && check.contains(" check "), "{check}");
    assert_eq!((*signal, *wait), ("/bin/kill -HUP $MAINPID", "/bin/sleep 1"));
    assert_eq!(keys["Type"], ["notify"]);
    let newer: Vec<&str> = NOTIFY_RELOAD.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(newer, ["[Service]", "Type=notify-reload", "ExecReload="]);
}

/// The commands of the units are commands of the binary.
#[test]
fn the_units_call_what_there_is() {
    let daemon = keys(DAEMON);
    let run = keys(RUN);
    assert!(daemon["ExecStart"][0].contains(" serve --config "));
    for line in [daemon["ExecStart"][0], daemon["ExecReload"][0], run["ExecStart"][0]] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let parsed = tagwarden::cli::command().try_get_matches_from(&words);
        assert!(parsed.is_ok(), "{line}: {parsed:?}");
        assert!(words[2..].starts_with(&["--config", "/etc/tagwarden/tagwarden.toml"]), "{line}");
    }
    assert_eq!(keys(TIMER)["Persistent"], ["true"]);
}

#[test]
fn user_and_folders_can_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("tagwarden.conf");
    fs::write(&users, SYSUSERS).unwrap();
    let told = fine(&systemd("systemd-sysusers", &["--dry-run"], &users));
    // Where the user is there already nothing is said.
    assert!(!told.to_lowercase().contains("fail"), "{told}");
    let user = SYSUSERS.lines().find(|line| line.starts_with("u ")).unwrap();
    assert!(user.starts_with("u tagwarden ") && keys(DAEMON)["User"] == ["tagwarden"], "{user}");

    // Whoever runs the tests cannot give folders away; the rest is what systemd makes of it.
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    let mine = TMPFILES.replace("root tagwarden", "- -").replace("root root", "- -");
    let file = folder.path().join("tmpfiles.conf");
    fs::write(&file, mine).unwrap();
    let root_option = format!("--root={}", root.display());
    fine(&systemd("systemd-tmpfiles", &["--create", &root_option], &file));
    #[cfg(unix)]
    for (name, expected) in [("", 0o750), ("policies", 0o750), ("credentials", 0o700)] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(root.join("etc/tagwarden").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, expected, "{name}");
    }
}

/// The settings of the example, and a password as `LoadCredential=` hands it over and the commented lines name it.
#[test]
fn the_settings_load_and_credentials_reach_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.toml");
    fs::write(&path, SETTINGS).unwrap();
    let settings = config::load(&path, []).unwrap();
    let state = Path::new("/var/lib").join(keys(DAEMON)["StateDirectory"][0]).join("tagwarden.db");
    assert_eq!(settings.state.path(), Some(&*state));
    assert!(settings.listen.ip().is_loopback());

    let by_password = SETTINGS
        .replace("auth     = { kind = \"managed-identity\" }\n", "")
        .replace("# auth   = { kind = \"basic\"", "auth = { kind = \"basic\"");
    fs::write(&path, by_password).unwrap();
    fs::write(folder.path().join("registry-password"), "hunter2\n").unwrap();
    let line = DAEMON.lines().find_map(|line| line.strip_prefix("#Environment=")).unwrap();
    let (name, value) = line.split_once('=').unwrap();
    let handed = DAEMON.lines().find_map(|line| line.strip_prefix("#LoadCredential=")).unwrap();
    assert_eq!(value.strip_prefix("%d/"), handed.split_once(':').map(|(name, _)| name));
    let value = value.replace("%d", folder.path().to_str().unwrap());
    let settings = config::load(&path, [(name.to_owned(), value)]).unwrap();
    assert!(
        matches!(&settings.registries[0].auth, Auth::Basic { password, .. } if password.expose_secret() == "hunter2")
    );
}
