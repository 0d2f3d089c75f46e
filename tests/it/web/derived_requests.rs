//! Requests that Schemathesis derives from the description of the API, valid and invalid ones: each answer must be one
//! that the description allows.

use std::path::Path;

use tokio::process::Command;

use super::api::world;

#[tokio::test(flavor = "multi_thread")]
async fn requests_derived_from_the_description_get_answers_that_it_allows() {
    let world = world().await;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/python/bin/schemathesis");
    let folder = tempfile::tempdir().unwrap();
    let api = format!("http://{}/api/v1", world.address);
    let mut command = Command::new(program);
    command.args(["run", &format!("{api}/openapi.json"), "--url", &api, "--checks", "all"]);
    command.args(["--max-examples", "12", "--seed", "1", "--no-color", "--generation-database", "none"]);
    let output = command.current_dir(folder.path()).output().await.expect("run `tests/run` once, which installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("12 selected / 12 total"), "{said}");
}
