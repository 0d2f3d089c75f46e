//! The compose file: two replicas, their database and a registry, with the settings beside it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Map, Value, json};
use tagwarden::{config, policy};

use crate::support::manifests::documents;

const COMPOSE: &str = include_str!("../../../deploy/compose/compose.yaml");
const SETTINGS: &str = include_str!("../../../deploy/compose/tagwarden/tagwarden.toml");
const CANDIDATES: &str = include_str!("../../../deploy/compose/tagwarden/policies/candidates.yaml");
const SECRETS: &str = "/run/secrets/";

/// The keys of services in the compose specification, as far as the file needs them. Compose refuses a file with others.
const SERVICE_KEYS: [&str; 17] = [
    "build",
    "cap_drop",
    "depends_on",
    "deploy",
    "environment",
    "healthcheck",
    "image",
    "networks",
    "ports",
    "read_only",
    "restart",
    "secrets",
    "security_opt",
    "shm_size",
    "stop_grace_period",
    "tmpfs",
    "volumes",
];
const HEALTHCHECK_KEYS: [&str; 5] = ["interval", "retries", "start_period", "test", "timeout"];

fn compose() -> Value {
    documents(COMPOSE).remove(0)
}

fn map<'a>(value: &'a Value, key: &str) -> &'a Map<String, Value> {
    value[key].as_object().unwrap_or_else(|| panic!("no map `{key}` in {value}"))
}

/// The texts of a list; empty if there is none.
fn texts(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().map(|text| text.as_str().unwrap()).collect()).unwrap_or_default()
}

fn keys(map: &Map<String, Value>) -> BTreeSet<&str> {
    map.keys().map(String::as_str).collect()
}

#[test]
fn compose_knows_all_keys_and_all_names_are_declared() {
    let file = compose();
    assert_eq!(keys(file.as_object().unwrap()), BTreeSet::from(["name", "networks", "secrets", "services", "volumes"]));
    let services = map(&file, "services");
    let mut used = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (name, service) in services {
        let unknown: Vec<&String> =
            service.as_object().unwrap().keys().filter(|key| !SERVICE_KEYS.contains(&key.as_str())).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
        let (_, tag) = service["image"].as_str().unwrap().rsplit_once(':').expect("an image with a tag");
        assert_ne!(tag, "latest", "{name}");
        assert_eq!(service["restart"], "unless-stopped", "{name}");

        let health = map(service, "healthcheck");
        assert_eq!(keys(health), BTreeSet::from(HEALTHCHECK_KEYS), "{name}");
        assert_eq!(texts(&health["test"])[0], "CMD", "{name}: a shell would be needed otherwise");
        for (needed, how) in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(needed), "{name} depends on {needed}");
            assert_eq!(how, &json!({ "condition": "service_healthy" }), "{name}");
        }
        // Nothing is published beyond this machine.
        assert!(texts(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
        used.0.extend(texts(&service["networks"]));
        used.1.extend(texts(&service["secrets"]));
        let named = texts(&service["volumes"]).into_iter().filter(|volume| !volume.starts_with("./"));
        used.2.extend(named.map(|volume| volume.split(':').next().unwrap()));
    }
    assert_eq!(used.0, keys(map(&file, "networks")));
    assert_eq!(used.1, keys(map(&file, "secrets")));
    assert_eq!(used.2, keys(map(&file, "volumes")));
}

#[test]
fn passwords_come_from_files_that_nobody_commits() {
    let file = compose();
    for (name, secret) in map(&file, "secrets") {
        assert_eq!(secret, &json!({ "file": format!("./secrets/{name}") }));
    }
    assert!(include_str!("../../../deploy/compose/.gitignore").lines().any(|line| line == "secrets/"));
    for (name, service) in map(&file, "services") {
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap();
            let secret = ["PASSWORD", "TOKEN", "SECRET"].iter().any(|word| variable.contains(word));
            assert!(!secret || variable.ends_with("_FILE"), "{name}: {variable}");
            if let Some(file) = value.strip_prefix(SECRETS) {
                assert!(texts(&service["secrets"]).contains(&file), "{name}: {variable}");
            }
        }
    }
}

#[test]
fn both_replicas_read_settings_that_load() {
    let file = compose();
    let (daemon, database) = (&file["services"]["tagwarden"], &file["services"]["database"]);
    assert_eq!(daemon["deploy"]["replicas"], 2);
    assert_eq!((&daemon["read_only"], &daemon["cap_drop"]), (&json!(true), &json!(["ALL"])));
    assert_eq!(daemon["security_opt"], json!(["no-new-privileges:true"]));
    assert_eq!(daemon["tmpfs"], json!(["/tmp"]), "a plan needs its temporary file");
    assert_eq!(daemon["volumes"], json!(["./tagwarden:/etc/tagwarden:ro"]));
    let command = &texts(&daemon["healthcheck"]["test"])[1..];
    assert!(tagwarden::cli::command().try_get_matches_from(command).is_ok(), "{command:?}");

    let folder = tempfile::tempdir().unwrap();
    for (at, _) in SETTINGS.match_indices(SECRETS) {
        let name = SETTINGS[at + SECRETS.len()..].split('"').next().unwrap();
        assert!(texts(&daemon["secrets"]).contains(&name), "{name}");
        fs::write(folder.path().join(name), "0123456789abcdef").unwrap();
    }
    let secrets = format!("{}/", folder.path().display());
    fs::write(folder.path().join("tagwarden.toml"), SETTINGS.replace(SECRETS, &secrets)).unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("policies/candidates.yaml"), CANDIDATES).unwrap();
    let settings = config::load(&folder.path().join("tagwarden.toml"), []).unwrap();
    let policies = policy::load(&settings.policies).unwrap();
    assert!(config::cross_check(&settings, &policies).is_empty());

    let variable = |name: &str| database["environment"][name].as_str().unwrap();
    let state = format!("postgres://{}@database/{}", variable("POSTGRES_USER"), variable("POSTGRES_DB"));
    assert_eq!(settings.state.to_string(), state);
    // Without TLS, so only containers of this file may be in that network.
    assert_eq!(file["networks"]["database"], json!({ "internal": true }));
    assert_eq!(texts(&database["networks"]), ["database"]);
    assert!(SETTINGS.contains("\"http://registry:5000\"") && file["services"]["registry"].is_object());
    assert!(texts(&daemon["networks"]).contains(&"registry"));
    let port = texts(&daemon["ports"])[0].rsplit(':').next().unwrap();
    assert_eq!(port, settings.listen.port().to_string());
}
