//! A client that we did not write pushes to it, copies within it, reads from it and deletes in it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{Image, media_type, multi_arch};
use tagwarden::demo::registry::{AuthMode, EmbeddedRegistry, Options};
use tagwarden::domain::Digest;

use super::{image, now, start};

/// Runs skopeo with an empty home, so that no credentials and no configuration of this machine take part.
async fn skopeo(arguments: &[&str]) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(arguments).env("HOME", home.path()).env("XDG_RUNTIME_DIR", home.path());
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("skopeo is installed");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Writes an image as an OCI image layout, with `v1` as its name.
fn layout(folder: &Path, image: &Image) {
    fn write(folder: &Path, image: &Image) {
        let place = |digest: &Digest| folder.join("blobs/sha256").join(digest.hex());
        fs::write(place(&image.digest), &image.bytes).unwrap();
        for blob in &image.blobs {
            fs::write(place(blob.digest()), blob.pieces().flatten().collect::<Vec<u8>>()).unwrap();
        }
        image.children.iter().for_each(|child| write(folder, child));
    }
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    write(folder, image);
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let entry = json!({
        "mediaType": image.media_type, "digest": image.digest.to_string(), "size": image.bytes.len(),
        "annotations": { "org.opencontainers.image.ref.name": "v1" },
    });
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
}

fn at(registry: &EmbeddedRegistry, image: &str) -> String {
    format!("docker://{}/{image}", registry.host())
}

const PLAIN: [&str; 2] = ["--src-tls-verify=false", "--dest-tls-verify=false"];

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pushes_copies_lists_inspects_and_deletes() {
    let registry = start(Options::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let image = image("one");
    layout(folder.path(), &image);
    let source = format!("oci:{}:v1", folder.path().display());
    let (first, second) = (at(&registry, "shop/api:v1"), at(&registry, "copies/of/api:v2"));
    skopeo(&["copy", "--preserve-digests", PLAIN[1], &source, &first]).await.unwrap();
    assert_eq!(registry.tags("shop/api")["v1"], image.digest);

    skopeo(&["copy", "--preserve-digests", PLAIN[0], PLAIN[1], &first, &second]).await.unwrap();
    assert_eq!(registry.tags("copies/of/api")["v2"], image.digest);

    let listed = skopeo(&["list-tags", "--tls-verify=false", &at(&registry, "shop/api")]).await.unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["Tags"], json!(["v1"]));
    let inspected = skopeo(&["inspect", "--tls-verify=false", &first]).await.unwrap();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Digest"], image.digest.to_string());
    assert_eq!(inspected["Created"], now().to_string());
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 2);

    skopeo(&["delete", "--tls-verify=false", &second]).await.unwrap();
    assert!(registry.tags("copies/of/api").is_empty(), "skopeo deletes by digest");
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_an_index_with_all_its_platforms_and_attestations() {
    let registry = start(Options::default()).await;
    let image =
        multi_arch(now(), |platform| vec![Blob::layer("shared", 70_000), Blob::layer(platform.architecture, 70_000)]);
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path(), &image);
    let source = format!("oci:{}:v1", folder.path().display());
    let copied = skopeo(&["copy", "--all", "--preserve-digests", PLAIN[1], &source, &at(&registry, "web:v1")]).await;
    copied.unwrap();
    assert_eq!(registry.tags("web")["v1"], image.digest);
    for child in &image.children {
        assert_eq!(registry.manifest("web", &child.digest).unwrap().0, child.bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_signs_in_with_tokens_and_with_a_password() {
    let (user, password) = ("ci".to_owned(), "secret".to_owned());
    let lifetime = Duration::from_mins(10);
    let modes = [
        AuthMode::Bearer { user: user.clone(), password: password.clone(), lifetime, anonymous_pull: true },
        AuthMode::Basic { user, password },
    ];
    for auth in modes {
        let anonymous = matches!(auth, AuthMode::Bearer { .. });
        let registry = start(Options { auth, ..Options::default() }).await;
        let folder = tempfile::tempdir().unwrap();
        layout(folder.path(), &image("one"));
        let source = format!("oci:{}:v1", folder.path().display());
        let target = at(&registry, "shop/api:v1");
        let refused = skopeo(&["copy", PLAIN[1], "--dest-no-creds", &source, &target]).await;
        assert!(refused.is_err(), "nobody pushes without signing in");
        assert!(registry.tags("shop/api").is_empty());
        skopeo(&["copy", PLAIN[1], "--dest-creds", "ci:secret", &source, &target]).await.unwrap();
        assert_eq!(registry.tags("shop/api").len(), 1);
        let read = skopeo(&["inspect", "--tls-verify=false", "--no-creds", &target]).await;
        assert_eq!(read.is_ok(), anonymous, "{read:?}");
    }
}
