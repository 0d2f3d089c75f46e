//! A client that we did not write: skopeo, and what it reads from disk.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tagwarden::demo::image::{Image, media_type};
use tagwarden::domain::Digest;

/// Runs skopeo with an empty home, so that no credentials and no configuration of this machine take part.
pub(crate) async fn skopeo(arguments: &[&str]) -> Result<String, String> {
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
pub(crate) fn layout(folder: &Path, image: &Image) {
    fn write(folder: &Path, image: &Image) {
        let place = |digest: &Digest| folder.join("blobs/sha256").join(digest.hex());
        fs::write(place(&image.digest), &image.bytes).unwrap();
        for blob in &image.blobs {
            fs::write(place(blob.digest()), blob.chunks().flatten().collect::<Vec<u8>>()).unwrap();
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
