//! A claim on an image or an index that only an index contains keeps the tag of that index, on every registry: also where
//! its lists show neither what an index contains nor manifests without a tag.

use std::collections::BTreeSet;
use std::fs;

use jiff::SignedDuration;
use serde_json::Value;
use tagwarden::demo::image::{self, Format, Image};
use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, HarborOptions, QuayOptions};
use tagwarden::domain::Digest;

use crate::workflow::{WorkflowFixture, image as build};
use crate::{artifact_registry, docker_hub, ecr, ghcr, gitlab, harbor, quay, zot};

const POLICIES: &str = "policies:\n  - name: candidates\n    select: { tags: [\"candidate-*\"] }\n    keep: [{ newest: 2 }]\n    mode: enforce\n";
const RECORDS: &str = "[sources.releases]\nkind = \"release-records\"\npaths = [\"releases/*.json\"]\n";

type Put = fn(&EmbeddedRegistry, &str, &str, &Image, i64) -> Digest;

/// An index with two images of its own.
fn multi_arch(name: &str, days: i64) -> Image {
    image::index(Format::Oci, &["amd64", "arm64"].map(|platform| build(&format!("{name} {platform}"), days)))
}

/// Fills a repository with six indexes, of which the newest two stay by rule, and returns a digest in each of the first
/// three: an image, an index, and an image in an index in an index.
fn fill(registry: &EmbeddedRegistry, repository: &str, put: Put) -> [Digest; 3] {
    let (flat, inner, deep) = (multi_arch("flat", 300), multi_arch("inner", 300), multi_arch("deep", 300));
    let around = |inner: &Image, name: &str| image::index(Format::Oci, &[inner.clone(), build(name, 300)]);
    put(registry, repository, "candidate-image", &flat, 300);
    put(registry, repository, "candidate-index", &around(&inner, "beside"), 299);
    put(registry, repository, "candidate-deep", &around(&deep, "beside deep"), 298);
    put(registry, repository, "candidate-free", &multi_arch("free", 297), 297);
    for (tag, days) in [("candidate-new", 2), ("candidate-newest", 1)] {
        put(registry, repository, tag, &multi_arch(tag, days), days);
    }
    [flat.children[0].digest.clone(), inner.digest, deep.children[1].digest.clone()]
}

fn put_dated(registry: &EmbeddedRegistry, repository: &str, tag: &str, image: &Image, days: i64) -> Digest {
    registry.content(|content| {
        content.put_image(repository, Some(tag), image);
        let then = content.now() - SignedDuration::from_hours(24 * days);
        assert!(content.date_tag(repository, tag, then, then));
    });
    image.digest.clone()
}

async fn example(kind: &str) -> (WorkflowFixture, &'static str, Put) {
    match kind {
        "gitlab" => (gitlab::fixture(|options| options, POLICIES).await, gitlab::API, gitlab::put),
        "quay" => (quay::fixture(|options| options, POLICIES).await, "shop/api", quay::put),
        "quay before 3.17" => {
            let older = |options| QuayOptions { lists_children: false, ..options };
            (quay::fixture(older, POLICIES).await, "shop/api", quay::put)
        }
        "docker-hub" => (docker_hub::fixture(|options| options, POLICIES).await, docker_hub::API, docker_hub::put),
        "zot" => (zot::fixture(|options| options, POLICIES).await, zot::API, zot::put),
        "harbor" => (harbor::fixture(|options| options, POLICIES).await, "shop/api", harbor::put),
        "harbor without references" => {
            let lost = |options| HarborOptions { lost_references: true, ..options };
            (harbor::fixture(lost, POLICIES).await, "shop/api", harbor::put)
        }
        "ghcr" => {
            let whole = "removal = \"manifest\"";
            (ghcr::fixture(|options| options, whole, POLICIES).await, ghcr::API, ghcr::put)
        }
        "ecr" => {
            let whole = "removal = \"manifest\"";
            (ecr::fixture(|options| options, whole, POLICIES).await, "shop/api", ecr::put)
        }
        "artifact-registry" => {
            let walk = artifact_registry::fixture(|options| options, "", POLICIES).await;
            (walk, artifact_registry::API, artifact_registry::put)
        }
        "acr" => (WorkflowFixture::azure(|options| options).await, "shop/indexes", put_dated),
        "distribution" => (WorkflowFixture::new().await, "shop/indexes", put_dated),
        other => panic!("{other} has no example"),
    }
}

/// Plans with records of those digests, and returns the tags that would go.
async fn goes(walk: &WorkflowFixture, repository: &str, digests: &[Digest]) -> BTreeSet<String> {
    for (number, digest) in digests.iter().enumerate() {
        let text = format!("{{\"image\": \"{}/{repository}@{digest}\"}}", walk.registry.host());
        fs::write(walk.path(&format!("releases/{number}.json")), text).unwrap();
    }
    let plan = walk.plan().await;
    let here = plan.removals.iter().filter(|view| view.repository == repository);
    here.map(|view| view.tag.clone()).collect()
}

/// Returns the cases that came out differently, each with what went instead.
async fn differences(kind: &str) -> Vec<String> {
    let (walk, repository, put) = example(kind).await;
    walk.policies(POLICIES);
    let [image, index, deep] = fill(&walk.registry, repository, put);
    walk.snapshot_tags();
    fs::create_dir(walk.path("releases")).unwrap();
    let settings = fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
    fs::write(walk.path("tagwarden.toml"), format!("{settings}{RECORDS}")).unwrap();
    let all = ["image", "index", "deep", "free"].map(|tag| format!("candidate-{tag}"));
    let elsewhere = walk.digest(repository, "candidate-newest");
    let cases: [(&[Digest], &[&str]); 5] = [
        (&[elsewhere], &[]),
        (std::slice::from_ref(&image), &["candidate-image"]),
        (std::slice::from_ref(&index), &["candidate-index"]),
        (std::slice::from_ref(&deep), &["candidate-deep"]),
        (&[image.clone(), index.clone(), deep.clone()], &["candidate-image", "candidate-index", "candidate-deep"]),
    ];
    let mut found = Vec::new();
    for (claimed, kept) in cases {
        let going = goes(&walk, repository, claimed).await;
        if !all.iter().all(|tag| going.contains(tag) != kept.contains(&&**tag)) {
            found.push(format!("{kind}, kept {kept:?}: {going:?}"));
        }
    }
    found
}

#[tokio::test]
async fn what_an_index_contains_keeps_its_tag() {
    let kinds = [
        "acr",
        "distribution",
        "gitlab",
        "quay",
        "quay before 3.17",
        "docker-hub",
        "zot",
        "harbor",
        "harbor without references",
        "ghcr",
        "ecr",
        "artifact-registry",
    ];
    let found = futures::future::join_all(kinds.map(differences)).await;
    assert_eq!(found.concat(), Vec::<String>::new());
}

/// What the lists of registries call the content of an index.
const CONTENTS: [&str; 5] = ["child_manifests_presence", "imageManifests", "images", "Manifests", "references"];

/// Changes the content of each index in a list.
fn edit_contents(json: &mut Value, edit: &dyn Fn(&mut Value)) {
    match json {
        Value::Array(rows) => rows.iter_mut().for_each(|row| edit_contents(row, edit)),
        Value::Object(fields) => {
            for (name, field) in fields {
                if CONTENTS.contains(&&**name) { edit(field) } else { edit_contents(field, edit) }
            }
        }
        _ => {}
    }
}

/// Leaves out one of the images of each index.
fn leave_out(json: &mut Value) {
    edit_contents(json, &|content| match content {
        Value::Array(rows) if rows.len() > 1 => drop(rows.remove(0)),
        Value::Object(rows) if rows.len() > 1 => {
            let first = rows.keys().next().unwrap().clone();
            rows.remove(&first);
        }
        _ => {}
    });
}

/// Gives one of the images of each index a digest that is not valid.
fn garble(json: &mut Value) {
    edit_contents(json, &|content| match content {
        Value::Array(rows) if rows.len() > 1 => {
            for name in ["child_digest", "digest", "Digest"]
                .into_iter()
                .filter(|name| rows[0].get(name).is_some())
                .collect::<Vec<_>>()
            {
                rows[0][name] = Value::Null;
            }
        }
        Value::Object(rows) if rows.len() > 1 => {
            let first = rows.keys().next().unwrap().clone();
            let value = rows.remove(&first).unwrap();
            rows.insert("sha256:?".to_owned(), value);
        }
        _ => {}
    });
}

#[tokio::test]
async fn what_a_list_leaves_out_of_an_index_keeps_its_tag() {
    let mut found = Vec::new();
    for kind in ["quay", "docker-hub", "zot", "harbor", "artifact-registry"] {
        for (how, edit) in [("left out", leave_out as fn(&mut Value)), ("garbled", garble)] {
            let (walk, repository, put) = example(kind).await;
            walk.policies(POLICIES);
            let index = multi_arch("partial", 300);
            put(&walk.registry, repository, "candidate-partial", &index, 300);
            for (tag, days) in [("candidate-new", 2), ("candidate-newest", 1)] {
                put(&walk.registry, repository, tag, &build(tag, days), days);
            }
            walk.snapshot_tags();
            fs::create_dir(walk.path("releases")).unwrap();
            let settings = fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
            fs::write(walk.path("tagwarden.toml"), format!("{settings}{RECORDS}")).unwrap();
            walk.registry.inject(Fault::on("", FaultKind::EditedJson(edit)));
            for child in &index.children {
                let going = goes(&walk, repository, std::slice::from_ref(&child.digest)).await;
                if !going.is_empty() {
                    found.push(format!("{kind}, {how}: {going:?}"));
                }
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}
