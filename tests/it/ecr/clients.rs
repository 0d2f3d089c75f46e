//! Others: Amazon's own client against the embedded registry, and `moto`, an imitation of AWS by others, with the built
//! binary.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use serde_json::{Value, json};
use tagwarden::demo::image::{self, Format};

use super::{HOST, KEYS, image as build, options, put, start};
use crate::support::clients::run;

#[tokio::test(flavor = "multi_thread")]
async fn amazons_own_client_takes_it_for_a_real_one() {
    let registry = start(options()).await;
    let (one, amd64) = (build("one", 9), build("amd64", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&amd64));
    put(&registry, "shop/api", "v1", &one, 5);
    assert!(registry.move_tag("shop/api", "stable", &one.digest));
    put(&registry, "shop/api", "multi", &index, 4);
    let (child, first) = (amd64.digest.to_string(), one.digest.to_string());
    let arguments = [registry.url(), KEYS.0.to_owned(), KEYS.1.to_owned(), child.clone()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let saw = run("ecr_boto3.py", &arguments, Path::new("/")).await;
    assert_eq!(saw["repositories"], json!(["shop/api"]));
    assert_eq!(saw["images"], json!({ "pages": 2, "tags": ["multi", "stable", "v1"], "untagged": [child] }));
    assert_eq!(saw["pushed"], "2026-11-15T12:00:00+00:00");
    assert_eq!(saw["moved"], json!(["ImageTagDoesNotMatchDigest"]));
    assert_eq!(saw["listed"], json!(["ImageReferencedByManifestList"]));
    assert_eq!(saw["nothing"], json!(["MissingDigestAndTag"]));
    assert_eq!(saw["untagged"], json!([{ "imageTag": "v1", "imageDigest": first }]));
    assert_eq!(saw["after_untag"], json!(["stable"]));
    assert_eq!(saw["put_back"], json!(["stable", "v1"]));
    assert_eq!(saw["put_twice"], "ImageAlreadyExistsException");
    assert_eq!(saw["after_last"], "ImageNotFoundException");
    assert_eq!(saw["too_many"], "InvalidParameterException");
    assert_eq!(saw["no_policy"], "LifecyclePolicyNotFoundException");
    assert_eq!(saw["no_repository"], "RepositoryNotFoundException");
    assert_eq!(saw["wrong_secret"], "InvalidSignatureException");
    assert_eq!(saw["unknown_members"], json!([]), "every member of every answer is in the published description");
}

/// A running imitation of AWS, stopped when dropped.
struct Moto {
    process: Child,
    url: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Moto {
    fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/clients/python/bin/python");
        let program = root.join("tests/clients/moto_ecr.py");
        let mut process =
            Command::new(python).arg(program).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next().expect("it says its port: run `tests/run` once").unwrap();
        Self { process, url: format!("http://127.0.0.1:{}", port.trim()) }
    }
}

fn tagwarden(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(cargo_bin("tagwarden"))
        .args(arguments)
        .current_dir(folder)
        .env("AWS_ACCESS_KEY_ID", "AKIDOFMOTO")
        .env("AWS_SECRET_ACCESS_KEY", "secret-of-moto")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The tags of each repository in moto, by a client of others.
async fn tags(moto: &Moto, step: &str) -> Value {
    run("moto_ecr_content.py", &[&moto.url, step], Path::new("/")).await
}

fn settings(folder: &Path, moto: &Moto, more: &str) -> PathBuf {
    let file = folder.join("tagwarden.toml");
    let text = format!(
        "mode = \"approved\"\npolicies = \"policies.yaml\"\nstate = \"sqlite:tagwarden.db\"\n[limits]\npercent = 100\n\
         [registries.main]\nkind = \"ecr\"\nendpoint = \"{}\"\naliases = [\"{HOST}\"]\nauth = {{ kind = \"aws\" }}\n{more}\n",
        moto.url
    );
    std::fs::write(&file, text).unwrap();
    std::fs::write(
        folder.join("policies.yaml"),
        "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 1 }]\n    mode: enforce\n",
    )
    .unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_loses_a_tag_by_default_and_images_by_opt_in() {
    let (moto, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    let before = tags(&moto, "fill").await;
    assert_eq!(before["shop/api"].as_object().unwrap().len(), 5);
    settings(folder.path(), &moto, "");
    // The images of moto were pushed a moment ago, one after the other.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (code, plan, told) = tagwarden(folder.path(), &["plan", "--format", "json", "--out", "plan.json"]);
    assert_eq!(code, Some(0), "{plan}{told}");
    let document: Value = serde_json::from_slice(&std::fs::read(folder.path().join("plan.json")).unwrap()).unwrap();
    let planned: Vec<&str> =
        document["removals"].as_array().unwrap().iter().map(|row| row["tag"].as_str().unwrap()).collect();
    assert_eq!(planned, ["build-2"], "build-1 is the last tag of its image: {told}");
    let (code, out, told) = tagwarden(folder.path(), &["apply", "plan.json"]);
    assert_eq!(code, Some(0), "{out}{told}");
    let after = tags(&moto, "show").await;
    let left: Vec<&String> = after["shop/api"].as_object().unwrap().keys().collect();
    assert_eq!(left, ["build-1", "build-3", "release-2", "release-9"]);
    assert_eq!(after["shop/api"]["release-2"], before["shop/api"]["release-2"], "its image is there");
    let (code, out, told) = tagwarden(folder.path(), &["restore", "main/shop/api:build-2"]);
    assert_eq!(code, Some(0), "{out}{told}");
    assert_eq!(tags(&moto, "show").await, before);

    settings(folder.path(), &moto, "removal = \"manifest\"");
    let (code, plan, told) = tagwarden(folder.path(), &["plan", "--format", "json", "--out", "plan.json"]);
    assert_eq!(code, Some(0), "{plan}{told}");
    let (code, out, told) = tagwarden(folder.path(), &["apply", "plan.json"]);
    assert_eq!(code, Some(0), "{out}{told}");
    let after = tags(&moto, "show").await;
    let left: Vec<&String> = after["shop/api"].as_object().unwrap().keys().collect();
    assert_eq!(left, ["build-2", "build-3", "release-2", "release-9"], "what was restored is held");
    // moto does not look for layers, so what was deleted comes back as well.
    let (code, out, told) = tagwarden(folder.path(), &["restore", "main/shop/api:build-1"]);
    assert_eq!(code, Some(0), "{out}{told}");
    assert_eq!(tags(&moto, "show").await, before);
}
