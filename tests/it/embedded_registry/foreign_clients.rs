//! Azure's own client libraries for Python and JavaScript take the embedded registry for a real one: they sign in by its
//! challenges, follow its pages, read, lock, unlock and delete.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{Format, Image, index};
use tagwarden::demo::registry::{Dialect, EmbeddedRegistry, Options, Tls};

use super::{image, now};
use crate::support::acr::{ENTRA_TOKEN, everything_allowed};
use crate::support::certificate::certified;
use crate::support::clients::run;

/// A registry with https, and the file of the authority that vouches for it.
async fn registry() -> (EmbeddedRegistry, tempfile::NamedTempFile) {
    let certified = certified();
    let tls = Some(Tls { certificate: certified.certificate, key: certified.key });
    let options = Options { dialect: Dialect::acr(everything_allowed()), tls, ..Options::default() };
    let registry = EmbeddedRegistry::start(options).await.unwrap();
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), certified.authority).unwrap();
    (registry, authority)
}

/// Tags of `shop/api`, the oldest first.
const TAGS: [&str; 5] = ["v9", "v1", "list", "v3", "v2"];

/// Fills it: five tags of `shop/api` an hour apart, one of them of an index, and two more repositories.
fn fill(registry: &EmbeddedRegistry) -> Vec<Image> {
    registry.content(|content| {
        let images: Vec<Image> = TAGS
            .iter()
            .zip(0_i64..)
            .map(|(tag, hours)| {
                content.set_now(pushed(hours));
                let own = image(tag);
                let pushed = if *tag == "list" { index(Format::Oci, &[own]) } else { own };
                content.put_image("shop/api", Some(tag), &pushed);
                pushed
            })
            .collect();
        for other in ["shop/web", "tools"] {
            content.put_image(other, Some("latest"), &images[0]);
        }
        images
    })
}

fn pushed(hours: i64) -> Timestamp {
    now() + SignedDuration::from_hours(hours) + SignedDuration::from_nanos(123_456_000)
}

/// What both saw alike.
fn check(saw: &Value, images: &[Image]) {
    assert_eq!(saw["repositories"], json!(["shop/api", "shop/web", "tools"]));
    assert_eq!(saw["counts"], json!([6, 5]), "{saw:#}");
    assert_eq!(saw["tags"], json!(["list", "v1", "v2", "v3", "v9"]));
    assert_eq!(saw["newest_first"], json!(["v2", "v3", "list", "v1", "v9"]));
    let manifests = saw["manifests"].as_object().unwrap();
    assert_eq!(manifests.len(), 6);
    for (image, tag) in images.iter().zip(TAGS) {
        assert_eq!(manifests[&image.digest.to_string()], json!([tag]));
    }
    assert_eq!(manifests[&images[2].children[0].digest.to_string()], json!([]), "a child has no tag");
    let size = images[1].bytes.len() as u64 + images[1].blobs.iter().map(Blob::length).sum::<u64>();
    assert_eq!(saw["v1"], json!([images[1].digest.to_string(), "amd64", "linux", size]));
    assert_eq!(saw["locked"], json!([false, false, true, true]), "a lock does not date a tag anew");
    assert_eq!(saw["delete_locked"], "405 REGISTRY_DISALLOWED_OPERATION");
    assert_eq!(saw["unlocked"], json!([true, true]));
    assert_eq!(saw["manifest_after_untag"], images[1].digest.to_string());
    assert_eq!(saw["manifest_after_delete"], "404 MANIFEST_UNKNOWN");
    assert_eq!(saw["repositories_after"], json!(["shop/api", "tools"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_azure_library_for_python_takes_it_for_a_real_one() {
    let (registry, authority) = registry().await;
    let images = fill(&registry);
    let trusted = authority.path().to_str().unwrap();
    let program = "azure_containerregistry.py";
    let saw = run(program, &[&registry.url(), ENTRA_TOKEN, trusted], authority.path()).await;
    check(&saw, &images);
    let pushed = "2026-11-23T06:00:00.123456+00:00";
    assert_eq!(saw["times"], json!([pushed, pushed]));
    assert_eq!(saw["after_untag"], json!(["list", "v2", "v3", "v9"]));
    assert_eq!(saw["unknown_repository"], "404 NAME_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_azure_library_for_javascript_takes_it_for_a_real_one() {
    let (registry, authority) = registry().await;
    let images = fill(&registry);
    let program = "azure_container_registry.cjs";
    let saw = run(program, &[&registry.url(), ENTRA_TOKEN], authority.path()).await;
    check(&saw, &images);
    for pages in ["repository_pages", "manifest_pages", "tag_pages"] {
        assert_eq!(saw[pages], 3, "{pages}");
    }
    assert_eq!(saw["times"], json!(["2026-11-23T06:00:00.123Z", "2026-11-23T06:00:00.123Z"]));
    assert_eq!(saw["tag_after_untag"], "404 TAG_UNKNOWN");
}
