//! Programs with client libraries that we did not write. `tests/run` installs those, in a place of the tests' own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a program in `tests/clients` printed. Its ending says what runs it: Python for `.py`, Node.js for `.cjs`.
pub(crate) async fn run(program: &str, arguments: &[&str], authority: &Path) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let clients = root.join("target/clients");
    let mut command = if Path::new(program).extension().is_some_and(|ending| ending == "py") {
        Command::new(installed(clients.join("python/bin/python")))
    } else {
        let modules = installed(clients.join("node/node_modules"));
        let mut node = Command::new("node");
        node.env("NODE_PATH", modules).env("NODE_EXTRA_CA_CERTS", authority);
        node
    };
    command.arg(root.join("tests/clients").join(program)).args(arguments);
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.unwrap_or_else(|error| panic!("{program} did not start ({error}): {HELP}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const HELP: &str = "`tests/run` installs what this test needs; run it once";

fn installed(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: {HELP}", path.display());
    path
}
