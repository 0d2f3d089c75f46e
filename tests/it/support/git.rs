//! Repositories made by the `git` command.

use std::path::Path;
use std::process::Command;

/// Runs `git` with an identity, and none of this machine's settings; returns its output.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "Ada"),
        ("GIT_AUTHOR_EMAIL", "ada@contoso.example"),
        ("GIT_COMMITTER_NAME", "Ada"),
        ("GIT_COMMITTER_EMAIL", "ada@contoso.example"),
    ] {
        command.env(name, value);
    }
    let output = command.current_dir(folder).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("git did not start ({error}): `tests/run` installs it"));
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
