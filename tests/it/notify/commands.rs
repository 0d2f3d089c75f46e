//! The commands that tell: `run`, `apply`, `notify test`; and `health`, which is asked.

use std::fs;
use std::path::Path;
use std::process::Output;

use jiff::Timestamp;
use serde_json::Value;
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::ImageSpec;
use tagwarden::demo::registry::{EmbeddedRegistry, Options};
use tempfile::TempDir;
use tokio::process::Command;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{hook, json, received};

const POLICIES: &str =
    "policies:\n  - { name: old, select: { tags: ['candidate-*'] }, keep: [{ newest: 1 }], mode: enforce }\n";

/// A registry with two candidates, of which one goes, and a folder with settings that tell `ops` at that address.
pub(super) async fn desk(url: &str) -> (EmbeddedRegistry, TempDir) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    for day in 1..=2 {
        let created: Timestamp = format!("2024-01-0{day}T12:00:00Z").parse().unwrap();
        let tag = format!("candidate-{day}");
        registry.put_image("shop/api", &tag, &ImageSpec::new(created, &[Blob::layer(&tag, 100)]).build());
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hook"), url).unwrap();
    fs::write(folder.path().join("key"), "hunter2").unwrap();
    fs::write(folder.path().join("policies.yaml"), POLICIES).unwrap();
    let settings = format!(
        "mode = \"enforce\"\npolicies = \"policies.yaml\"\n[registries.main]\nkind = \"distribution\"\nendpoint = \"{}\"\n\
         [notify.ops]\nkind = \"webhook\"\nurl_file = \"hook\"\nsecret_file = \"key\"\ntimeout = \"1s\"\n",
        registry.url()
    );
    fs::write(folder.path().join("tagwarden.toml"), settings).unwrap();
    (registry, folder)
}

pub(super) async fn tagwarden(folder: &Path, words: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
    command.args(words.split_whitespace()).current_dir(folder).env_clear().env("USER", "anna");
    let Output { status, stdout, stderr } = command.env("TAGWARDEN_LOG", "debug").output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

async fn told(server: &MockServer) -> Vec<Value> {
    received(server).await.iter().map(json).collect()
}

#[tokio::test]
async fn a_run_tells_what_it_removed_and_what_it_could_not_begin() {
    let (server, url) = hook(ResponseTemplate::new(200)).await;
    let (registry, folder) = desk(&url).await;
    let (code, _, err) = tagwarden(folder.path(), "run").await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(registry.tags("shop/api").len(), 1);
    let messages = told(&server).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["title"], "Tagwarden: 1 tag removed");
    assert_eq!(messages[0]["run"]["mode"], "enforce");
    assert!(messages[0]["run"]["by"].as_str().unwrap().starts_with("anna@"));
    let (_, runs, _) = tagwarden(folder.path(), "runs --format json").await;
    assert!(runs.contains(messages[0]["run"]["id"].as_str().unwrap()), "{runs}");

    // A policy that cannot be read is told, too, by what the settings say.
    fs::write(folder.path().join("policies.yaml"), "policies:\n  - name: x\n").unwrap();
    let (code, _, _) = tagwarden(folder.path(), "run").await;
    assert_eq!(code, 2);
    let last = told(&server).await.pop().unwrap();
    assert_eq!((last["title"].as_str(), last["run"]["exit_code"].as_i64()), (Some("Tagwarden: a run failed"), Some(2)));
    assert!(last["problems"][0].as_str().unwrap().contains("policies.yaml:"), "{last}");
    assert_eq!(last["counts"], Value::Null);
}

#[tokio::test]
async fn an_applied_plan_is_told_and_a_refused_one_too() {
    let (server, url) = hook(ResponseTemplate::new(200)).await;
    let (_registry, folder) = desk(&url).await;
    let (code, _, err) = tagwarden(folder.path(), "plan --out plan.json").await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(told(&server).await.len(), 0, "whoever makes a plan looks at it");
    let (code, _, err) = tagwarden(folder.path(), "apply plan.json").await;
    assert_eq!(code, 0, "{err}");
    let plan = fs::read_to_string(folder.path().join("plan.json")).unwrap();
    fs::write(folder.path().join("plan.json"), plan.replacen("candidate-1", "candidate-2", 1)).unwrap();
    let (code, _, _) = tagwarden(folder.path(), "apply plan.json").await;
    assert_eq!(code, 3);
    let titles: Vec<Value> = told(&server).await.into_iter().map(|message| message["title"].clone()).collect();
    assert_eq!(titles, ["Tagwarden: 1 tag removed", "Tagwarden: applying a plan was refused"]);
}

/// Nobody answers: the run is what it is all the same, and no log shows where it was to go.
#[tokio::test]
async fn a_run_does_not_depend_on_being_told() {
    let (server, url) = hook(ResponseTemplate::new(404).set_body_string("Cannot POST /hook")).await;
    let (registry, folder) = desk(&format!("{url}?token=hunter2")).await;
    let (code, out, err) = tagwarden(folder.path(), "run").await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(registry.tags("shop/api").len(), 1);
    assert!(out.contains("candidate-1"), "{out}");
    assert!(err.contains("notify.ops: POST http://127.0.0.1") && err.contains("answered 404"), "{err}");
    assert_eq!(received(&server).await.len(), 1, "what is refused for good is not tried again");
    let (code, _, test) = tagwarden(folder.path(), "notify test ops").await;
    assert_eq!(code, 1);
    for shown in [err, test] {
        assert!(!shown.contains("/hook") && !shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_test_message_says_that_it_is_one() {
    let (server, url) = hook(ResponseTemplate::new(200)).await;
    let (_registry, folder) = desk(&url).await;
    let (code, out, err) = tagwarden(folder.path(), "notify test ops").await;
    assert_eq!((code, &*out), (0, "sent a test message to ops (webhook)\n"), "{err}");
    let message = told(&server).await.remove(0);
    assert_eq!((message["test"].as_bool(), message["title"].as_str()), (Some(true), Some("Tagwarden: a test of ops")));
    let (code, _, err) = tagwarden(folder.path(), "notify test opps").await;
    assert!(code == 2 && err.contains("did you mean `ops`?"), "{code} {err}");
}

#[tokio::test]
async fn health_is_asked_where_the_settings_say() {
    let server = MockServer::start().await;
    Mock::given(path("/healthz")).respond_with(ResponseTemplate::new(200).set_body_string("ok\n")).mount(&server).await;
    let unready = ResponseTemplate::new(503).set_body_string("not ready: no policies\n");
    Mock::given(path("/readyz")).respond_with(unready).mount(&server).await;
    let folder = tempfile::tempdir().unwrap();
    // Much is wrong with these; where the daemon listens is not.
    let settings = format!("listen = \"{}\"\nmode = \"whatever\"\n", server.address());
    fs::write(folder.path().join("tagwarden.toml"), settings).unwrap();
    let (code, out, _) = tagwarden(folder.path(), "health").await;
    assert_eq!((code, &*out), (0, "ok\n"));
    let (code, _, err) = tagwarden(folder.path(), "health --ready").await;
    assert!(code == 1 && err.contains("503") && err.contains("no policies"), "{err}");
    let (code, ..) = tagwarden(folder.path(), &format!("health --url {}/healthz", server.uri())).await;
    assert_eq!(code, 0);
    fs::write(folder.path().join("tagwarden.toml"), "listen = \"127.0.0.1:1\"\n").unwrap();
    let (code, _, err) = tagwarden(folder.path(), "health").await;
    assert!(code == 1 && err.contains("no daemon answers at 127.0.0.1:1: "), "{err}");
    // A daemon that hangs takes connections and answers none of them; a second one would be refused.
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = \"{}\"\n", frozen.local_addr().unwrap());
    fs::write(folder.path().join("tagwarden.toml"), listen).unwrap();
    let (code, _, err) = tagwarden(folder.path(), "health --timeout 1s").await;
    assert!(code == 1 && err.contains("the daemon there hangs") && !err.contains("tagwarden serve"), "{err}");
    fs::write(folder.path().join("tagwarden.toml"), "listen = \"here\"\n").unwrap();
    assert_eq!(tagwarden(folder.path(), "health").await.0, 2);
}
