use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{Format, Image, ImageSpec};
use tagwarden::demo::registry::{AcrOptions, DeletionRules, EmbeddedRegistry, Target};

use super::super::{image, now};
use super::{answer, as_admin, problem, read, status};
use crate::support::acr::{everything_allowed, start};

fn docker(name: &str) -> Image {
    ImageSpec { format: Format::Docker, ..ImageSpec::new(now(), &[Blob::layer(name, 1000)]) }.build()
}

async fn untag(registry: &EmbeddedRegistry, tag: &str) {
    assert_eq!(status(registry, Method::DELETE, &format!("/acr/v1/a/_tags/{tag}")).await, 202);
}

async fn with_retention(days: u16) -> EmbeddedRegistry {
    start(AcrOptions { retention_days: Some(days), ..everything_allowed() }).await
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

#[tokio::test]
async fn with_retention_of_zero_days_an_untag_deletes() {
    let registry = with_retention(0).await;
    registry.put_image("a", "v1", &docker("one"));
    registry.put_image("a", "again", &docker("one"));
    untag(&registry, "v1").await;
    assert!(registry.manifest("a", &docker("one").digest).is_some(), "it still has a tag");
    untag(&registry, "again").await;
    assert_eq!(status(&registry, Method::GET, "/acr/v1/a").await, 404, "the repository went with it");
}

#[tokio::test]
async fn retention_takes_what_lost_its_tags_long_enough_ago() {
    let registry = with_retention(7).await;
    let [one, locked, moved, again] = ["one", "locked", "moved", "again"].map(docker);
    let oci = image("oci");
    for (tag, image) in [("one", &one), ("locked", &locked), ("moved", &moved), ("again", &again), ("oci", &oci)] {
        registry.put_image("a", tag, image);
    }
    registry.put_image("a", "stays", &docker("stays"));
    registry.content(|content| {
        content.attributes_mut("a", Target::Manifest(&locked.digest)).unwrap().delete = false;
        content.attributes_mut("a", Target::Tag("locked")).unwrap().delete = true;
        assert!(content.move_tag("a", "moved", &docker("stays").digest));
        for tag in ["one", "locked", "again", "oci"] {
            assert!(content.delete_tag("a", tag));
        }
    });
    registry.advance_time(DAY * 6);
    // Tagged again, and untagged again: its time starts anew.
    registry
        .content(|content| assert!(content.move_tag("a", "again", &again.digest) && content.delete_tag("a", "again")));
    let there = |image: &Image| registry.manifest("a", &image.digest).is_some();
    assert!([&one, &locked, &moved, &again, &oci].into_iter().all(there));
    registry.advance_time(DAY);
    assert_eq!([&one, &locked, &moved, &again, &oci].map(there), [false, true, false, true, true]);
    registry.advance_time(DAY * 6);
    assert_eq!([&locked, &again, &oci].map(there), [true, false, true]);
}

#[tokio::test]
async fn retention_spares_what_lost_its_tags_before_it() {
    let registry = start(everything_allowed()).await;
    registry.put_image("a", "v1", &docker("one"));
    untag(&registry, "v1").await;
    registry.content(|content| content.set_rules(DeletionRules { retention_days: Some(0), ..content.rules() }));
    registry.advance_time(DAY);
    assert!(registry.manifest("a", &docker("one").digest).is_some());
}

async fn restore(registry: &EmbeddedRegistry, digest: &str, query: &str, tag: &str) -> u16 {
    let path = format!("/acr/v1/_deleted/a/_manifests/{digest}{query}");
    as_admin(registry, Method::POST, &path).json(&json!({ "tag": tag })).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn what_is_soft_deleted_can_be_restored_but_not_pushed() {
    let registry = start(AcrOptions { soft_delete_days: Some(7), ..everything_allowed() }).await;
    let (one, two) = (image("one"), image("two"));
    registry.put_image("a", "v1", &one);
    registry.put_image("a", "v2", &two);
    assert_eq!(read(&registry, "/acr/v1/_deleted/_catalog").await["repositories"], json!([]));
    assert_eq!(status(&registry, Method::DELETE, &format!("/v2/a/manifests/{}", one.digest)).await, 202);
    assert_eq!(read(&registry, "/acr/v1/_deleted/_catalog").await["repositories"], json!(["a"]));
    let tags = read(&registry, "/acr/v1/_deleted/a/_tags").await["tags"].clone();
    assert_eq!((&tags[0]["tag"], &tags[0]["digest"]), (&json!("v1"), &json!(one.digest.to_string())));
    assert!(tags[0]["deletedAt"].is_string());
    let manifests = read(&registry, "/acr/v1/_deleted/a/_manifests").await["manifests"].clone();
    assert_eq!(manifests[0]["digest"], one.digest.to_string());

    let push = as_admin(&registry, Method::PUT, "/v2/a/manifests/v1").header("content-type", one.media_type);
    let refused = push.body(one.bytes.clone()).send().await.unwrap();
    assert_eq!(refused.status(), 409);
    let digest = one.digest.to_string();
    assert_eq!(restore(&registry, &digest, "", "v2").await, 409, "the tag names something else");
    assert_eq!(restore(&registry, &digest, "?force=false", "v1").await, 202);
    assert_eq!(registry.tags("a")["v1"], one.digest);
    assert_eq!(status(&registry, Method::GET, "/v2/a/manifests/v1").await, 200);
    assert_eq!(problem(&registry, Method::GET, "/acr/v1/_deleted/a/_tags").await.1, "NAME_UNKNOWN", "the bin is empty");

    untag(&registry, "v1").await;
    assert_eq!(read(&registry, "/acr/v1/_deleted/a/_tags").await["tags"][0]["tag"], "v1");
    assert_eq!(restore(&registry, &digest, "?force=true", "v2").await, 404, "it was not under that tag");
    assert_eq!(restore(&registry, &digest, "", "v1").await, 202);
    untag(&registry, "v1").await;
    registry.advance_time(DAY * 7);
    let empty: Value = answer(&registry, Method::GET, "/acr/v1/_deleted/_catalog").await.json().await.unwrap();
    assert_eq!(empty["repositories"], json!([]), "after its days it is gone");
}
