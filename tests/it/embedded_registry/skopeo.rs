//! A client that we did not write pushes to it, copies within it, reads from it and deletes in it.

use std::time::Duration;

use serde_json::{Value, json};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::multi_arch;
use tagwarden::demo::registry::{AuthMode, EmbeddedRegistry, Options};

use super::{image, now, start};
use crate::support::skopeo::{layout, skopeo};

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
