//! Google's own client for Python, by its published description, and the built binary, both against the embedded registry.

use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use serde_json::json;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{ArtifactRegistryOptions, ArtifactRepository, ServiceAccount};

use super::{API, EMAIL, HOST, TOKEN, image as build, options, put, start};
use crate::support::clients::run;

#[tokio::test(flavor = "multi_thread")]
async fn googles_own_client_takes_it_for_a_real_one() {
    let immutable = ArtifactRepository { immutable_tags: true, ..ArtifactRepository::default() };
    let registry = start(options().repository("acme/locked", immutable)).await;
    let (one, amd64) = (build("one", 9), build("amd64", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&amd64));
    put(&registry, API, "v1", &one, 5);
    assert!(registry.move_tag(API, "stable", &one.digest));
    put(&registry, API, "multi", &index, 4);
    put(&registry, "acme/shop/web/front", "v1", &one, 5);
    put(&registry, "acme/locked/api", "v1", &one, 5);
    let (child, first) = (amd64.digest.to_string(), one.digest.to_string());
    let arguments = [registry.url(), TOKEN.to_owned(), child.clone()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let saw = run("artifact_registry.py", &arguments, Path::new("/")).await;
    assert_eq!(saw["repositories"], json!([["locked", true], ["shop", false]]));
    assert_eq!(saw["packages"], json!(["api", "web%2Ffront"]));
    assert_eq!(saw["images"], json!({ "pages": 2, "tags": ["multi", "stable", "v1", "v1"], "children": [child] }));
    assert_eq!(saw["uploaded"], "2026-11-15T12:00:00Z");
    assert_eq!(saw["versions"], json!({ "basic": ["createTime", "name", "updateTime"], "tags": ["stable", "v1"] }));
    assert_eq!(saw["tags_of_version"], json!(["stable", "v1"]));
    assert_eq!(saw["permissions"], json!(["artifactregistry.tags.delete"]));
    assert_eq!(saw["untagged"], json!({}));
    assert_eq!(saw["after_untag"], json!(["stable"]));
    assert_eq!(saw["untagged_twice"], json!([404, "NOT_FOUND"]));
    assert!(saw["put_back"].as_str().unwrap().ends_with(&first));
    assert_eq!(saw["put_twice"], json!([409, "ALREADY_EXISTS"]));
    assert_eq!(saw["immutable"], json!([400, "FAILED_PRECONDITION"]));
    assert_eq!(saw["tagged"], json!([400, "FAILED_PRECONDITION"]));
    assert_eq!(saw["listed"], json!([400, "FAILED_PRECONDITION"]));
    assert_eq!(saw["deleted"], json!([null, true]));
    assert_eq!(saw["no_project"], json!([403, "PERMISSION_DENIED"]));
    assert_eq!(saw["no_repository"], json!([404, "NOT_FOUND"]));
    assert_eq!(saw["wrong_place"], json!([403, "PERMISSION_DENIED"]));
    assert_eq!(saw["wrong_page"], json!([400, "INVALID_ARGUMENT"]));
    assert_eq!(saw["wrong_token"], json!([401, "UNAUTHENTICATED"]));
    assert_eq!(saw["unknown_members"], json!([]), "every member of every answer is in the published description");
}

/// Runs the built binary in a folder, with an environment of its own.
fn tagwarden(folder: &Path, variable: (&str, &str), arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(cargo_bin("tagwarden"));
    for name in ["GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "GCE_METADATA_HOST"] {
        command.env_remove(name);
    }
    let output = command.args(arguments).current_dir(folder).env("HOME", folder).env(variable.0, variable.1).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_binary_signs_in_by_the_environment() {
    for by_file in [true, false] {
        let account = ServiceAccount::generate(EMAIL);
        let registry = start(ArtifactRegistryOptions { account: Some(account.clone()), ..options() }).await;
        for number in 1..=3 {
            let tag = format!("build-{number}");
            put(&registry, API, &tag, &build(&tag, 50), 50 - number);
        }
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "mode = \"approved\"\npolicies = \"policies.yaml\"\nstate = \"sqlite:tagwarden.db\"\n[limits]\npercent = 100\n\
             [registries.main]\nkind = \"artifact-registry\"\nendpoint = \"{}\"\naliases = [\"{HOST}\"]\n\
             auth = {{ kind = \"google\" }}\nnamespaces = [\"acme/shop\"]\n",
            registry.url()
        );
        let policies = "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 1 }]\n    mode: enforce\n";
        for (name, text) in [
            ("tagwarden.toml", &*settings),
            ("policies.yaml", policies),
            ("key.json", &*account.key_file(&registry.url())),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let variable = if by_file {
            ("GOOGLE_APPLICATION_CREDENTIALS", "key.json")
        } else {
            ("GCE_METADATA_HOST", registry.host())
        };
        let (code, said) = tagwarden(folder.path(), variable, &["plan", "--out", "plan.json"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(registry.tags(API).len(), 3, "a plan only reads");
        let (code, said) = tagwarden(folder.path(), variable, &["apply", "plan.json"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(registry.tags(API).into_keys().collect::<Vec<_>>(), ["build-3"], "{said}");
        let identity = if by_file { EMAIL } else { "the service account of the machine or the pod" };
        let (code, said) = tagwarden(folder.path(), variable, &["plan", "--format", "json"]);
        assert!(code == Some(0) && said.contains(identity), "{said}");
    }
}
