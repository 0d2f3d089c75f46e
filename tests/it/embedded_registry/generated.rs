//! A generated repository answers as one that is held in memory, before and after it changes.

use std::fs;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tagwarden::demo::image::media_type;
use tagwarden::demo::registry::{AcrOptions, Dialect, EmbeddedRegistry, GeneratedWorld, Options};
use tagwarden::domain::Digest;

use super::{header, now, start};
use crate::support::acr::{ADMIN, everything_allowed};
use crate::workflow::WorkflowFixture;
use crate::workflow::azure::KIND;

/// Indexes with attestations, some of them under two tags, and some tags locked.
fn world() -> GeneratedWorld {
    let newest = "2026-10-01T06:00:00Z".parse().unwrap();
    GeneratedWorld {
        platforms: 2,
        attestations: true,
        shared_every: Some(5),
        locked_every: Some(7),
        ..GeneratedWorld::new(2, 23, newest)
    }
}

fn acr() -> Options {
    let options = AcrOptions { clock: Arc::new(now), ..everything_allowed() };
    Options { dialect: Dialect::acr(options), ..Options::default() }
}

/// A registry, and one client for the many requests to it.
struct Served {
    registry: EmbeddedRegistry,
    client: Client,
}

impl Deref for Served {
    type Target = EmbeddedRegistry;

    fn deref(&self) -> &EmbeddedRegistry {
        &self.registry
    }
}

impl Served {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url())).basic_auth(ADMIN.0, Some(ADMIN.1));
        request.header("accept", [media_type::OCI_MANIFEST, media_type::OCI_INDEX].join(", "))
    }
}

async fn generated(options: Options, world: GeneratedWorld) -> Served {
    let registry = start(options).await;
    registry.content(|content| content.generate(world));
    Served { registry, client: Client::builder().no_proxy().build().unwrap() }
}

/// The same content, held in memory.
async fn in_memory(options: Options) -> Served {
    let registry = generated(options, world()).await;
    registry.content(|content| {
        for number in 0..2 {
            content.materialize(&GeneratedWorld::repository_name(number));
            assert!(content.has_repository(&GeneratedWorld::repository_name(number)));
        }
    });
    registry
}

async fn send(registry: &Served, method: Method, path: &str) -> Response {
    registry.request(method, path).send().await.unwrap()
}

/// A body without the registry's address, and the `Link` to the next page.
async fn page(registry: &Served, path: &str) -> (Value, String) {
    let response = send(registry, Method::GET, path).await;
    assert_eq!(response.status(), 200, "{path}");
    let link = header(&response, "link").to_owned();
    let mut body: Value = response.json().await.unwrap();
    body.as_object_mut().unwrap().remove("registry");
    (body, link)
}

/// A list to its end, by its links.
async fn pages(registry: &Served, path: &str) -> Vec<(Value, String)> {
    let mut next = path.to_owned();
    let mut pages = Vec::new();
    loop {
        let (body, link) = page(registry, &next).await;
        let target = link.strip_prefix('<').and_then(|link| link.split_once('>')).map(|(path, _)| path.to_owned());
        pages.push((body, link));
        match target {
            Some(target) => next = target,
            None => return pages,
        }
    }
}

/// The rows of a list, whichever it is.
fn rows(pages: &[(Value, String)], key: &str) -> Vec<Value> {
    pages.iter().flat_map(|(body, _)| body[key].as_array().cloned().unwrap_or_default()).collect()
}

async fn assert_same_lists(one: &Served, other: &Served) {
    for path in ["/acr/v1/_catalog", "/acr/v1/_catalog?n=1", "/v2/_catalog?n=1"] {
        assert_eq!(pages(one, path).await, pages(other, path).await, "{path}");
    }
    for number in 0..2 {
        let name = GeneratedWorld::repository_name(number);
        let whole = format!("/acr/v1/{name}");
        assert_eq!(page(one, &whole).await, page(other, &whole).await, "{whole}");
        for list in [format!("/acr/v1/{name}/_tags"), format!("/v2/{name}/tags/list")] {
            for order in ["", "timeasc", "timedesc"] {
                for rest in
                    ["n=4", "n=1000", "", "n=3&last=build-0000009", "last=build-00000075", "last=a", "last=extra"]
                {
                    let path = format!("{list}?orderby={order}&{rest}");
                    assert_eq!(pages(one, &path).await, pages(other, &path).await, "{path}");
                }
            }
        }
        for order in ["", "timeasc", "timedesc"] {
            let list = format!("/acr/v1/{name}/_manifests?orderby={order}");
            let all = pages(one, &format!("{list}&n=10")).await;
            assert_eq!(all, pages(other, &format!("{list}&n=10")).await, "{list}");
            let middle = rows(&all, "manifests")[40]["digest"].as_str().unwrap().to_owned();
            let border = format!("sha256:7{}", "f".repeat(63));
            for last in [middle, border] {
                let path = format!("{list}&n=7&last={last}");
                assert_eq!(pages(one, &path).await, pages(other, &path).await, "{path}");
            }
        }
        let manifests = rows(&pages(one, &format!("/acr/v1/{name}/_manifests")).await, "manifests");
        for manifest in &manifests[..10] {
            let digest = manifest["digest"].as_str().unwrap();
            let path = format!("/acr/v1/{name}/_manifests/{digest}");
            assert_eq!(page(one, &path).await, page(other, &path).await, "{path}");
            let path = format!("/acr/v1/{name}/_tags?digest={digest}");
            assert_eq!(pages(one, &path).await, pages(other, &path).await, "{path}");
        }
    }
}

#[tokio::test]
async fn lists_are_those_of_the_same_content_in_memory() {
    let (generated, memory) = (generated(acr(), world()).await, in_memory(acr()).await);
    assert_same_lists(&generated, &memory).await;
    let name = GeneratedWorld::repository_name(1);
    let whole = page(&generated, &format!("/acr/v1/{name}")).await.0;
    assert_eq!((&whole["tagCount"], &whole["manifestCount"]), (&json!(23), &json!(19 * 5)));
    let tags = rows(&pages(&generated, &format!("/acr/v1/{name}/_tags?n=4")).await, "tags");
    assert_eq!(tags.len(), 23);
    assert_eq!(tags[22]["name"], "build-0000022");
    assert_eq!(tags[22]["lastUpdateTime"], "2026-10-01T06:00:00Z");
    assert_eq!(tags[6]["changeableAttributes"]["deleteEnabled"], false);
    assert_eq!(tags[3]["digest"], tags[4]["digest"], "two tags of one image");
    assert_ne!(tags[2]["digest"], tags[3]["digest"]);
    let held = generated.content(|content| content.repositories().count());
    assert_eq!(held, 0, "reading holds nothing in memory");
}

#[tokio::test]
async fn what_is_served_has_the_digest_by_which_it_is_asked_for() {
    let registry = generated(acr(), world()).await;
    let name = GeneratedWorld::repository_name(0);
    let listed = rows(&pages(&registry, &format!("/acr/v1/{name}/_manifests?n=50")).await, "manifests");
    let digests: Vec<Digest> = listed.iter().map(|row| row["digest"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(digests.len(), 95);
    let mut blobs = 0;
    for (digest, row) in digests.iter().zip(&listed) {
        let response = send(&registry, Method::GET, &format!("/v2/{name}/manifests/{digest}")).await;
        assert_eq!(header(&response, "content-type"), row["mediaType"]);
        let bytes = response.bytes().await.unwrap();
        assert!(digest.matches(&bytes), "{digest}");
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let children = manifest["manifests"].as_array().cloned().unwrap_or_default();
        for child in &children {
            assert!(digests.contains(&child["digest"].as_str().unwrap().parse().unwrap()));
        }
        let named = manifest["layers"].as_array().cloned().unwrap_or_default();
        for blob in named.iter().chain(manifest.get("config")) {
            let digest: Digest = blob["digest"].as_str().unwrap().parse().unwrap();
            let response = send(&registry, Method::GET, &format!("/v2/{name}/blobs/{digest}")).await;
            let bytes = response.bytes().await.unwrap();
            assert!(digest.matches(&bytes), "{digest}");
            assert_eq!(bytes.len() as u64, blob["size"].as_u64().unwrap());
            blobs += 1;
        }
    }
    assert_eq!(blobs, 19 * 4 * 2);
    let unknown = Digest::of(b"nothing");
    for path in [format!("/v2/{name}/manifests/{unknown}"), format!("/v2/{name}/blobs/{unknown}")] {
        assert_eq!(send(&registry, Method::GET, &path).await.status(), 404, "{path}");
    }
    let referrers = page(&registry, &format!("/v2/{name}/referrers/{}", digests[0])).await.0;
    assert_eq!(referrers["manifests"], json!([]));
}

/// The bytes and media type of a tag's manifest.
async fn manifest_of(registry: &Served, name: &str, tag: &str) -> (Vec<u8>, String) {
    let response = send(registry, Method::GET, &format!("/v2/{name}/manifests/{tag}")).await;
    let kind = header(&response, "content-type").to_owned();
    (response.bytes().await.unwrap().to_vec(), kind)
}

async fn put(registry: &Served, name: &str, reference: &str, (bytes, kind): (Vec<u8>, String)) -> u16 {
    let request = registry.request(Method::PUT, &format!("/v2/{name}/manifests/{reference}"));
    let request = request.header("content-type", kind).body(bytes);
    request.send().await.unwrap().status().as_u16()
}

/// Removes tags, puts some back, moves one, and adds one; gives all statuses.
async fn change(registry: &Served, deletion: &str) -> Vec<u16> {
    let name = GeneratedWorld::repository_name(0);
    let mut statuses = Vec::new();
    let (second, third) =
        (manifest_of(registry, &name, "build-0000002").await, manifest_of(registry, &name, "build-0000003").await);
    let child: Value = serde_json::from_slice(&second.0).unwrap();
    let child = child["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let child_manifest = manifest_of(registry, &name, &child).await;
    let path = |tag: &str| format!("{}{tag}", deletion.replace("NAME", &name));
    for tag in ["build-0000001", "build-0000002", "build-0000002", "build-0000003", "build-0000022", "build-9", "none"]
    {
        statuses.push(send(registry, Method::DELETE, &path(tag)).await.status().as_u16());
    }
    for (reference, manifest) in [
        ("build-0000002", &second),
        (child.as_str(), &child_manifest),
        ("extra", &third),
        ("extra", &second),
        ("other", &third),
        ("build-0000010", &second),
    ] {
        statuses.push(put(registry, &name, reference, manifest.clone()).await);
    }
    for tag in ["other", "other", "build-0000010"] {
        statuses.push(send(registry, Method::DELETE, &path(tag)).await.status().as_u16());
    }
    statuses
}

const ACR_DELETION: &str = "/acr/v1/NAME/_tags/";

#[tokio::test]
async fn removed_tags_and_what_is_pushed_again_show_up() {
    let (generated, memory) = (generated(acr(), world()).await, in_memory(acr()).await);
    let statuses = change(&generated, ACR_DELETION).await;
    assert_eq!(statuses, change(&memory, ACR_DELETION).await);
    let removed: [u16; 7] = [202, 202, 404, 202, 202, 404, 404];
    assert_eq!(statuses, [&removed[..], &[201; 6], &[202, 404, 202]].concat());
    let name = GeneratedWorld::repository_name(0);
    assert!(!generated.content(|content| content.has_repository(&name)), "it is still computed");
    assert_same_lists(&generated, &memory).await;
    let whole = page(&generated, &format!("/acr/v1/{name}")).await.0;
    assert_eq!(
        whole["tagCount"],
        json!(23 - 4 + 2 - 1),
        "four removed, one of them back, one more, one moved and removed"
    );

    generated.content(|content| content.materialize(&name));
    assert!(generated.content(|content| content.has_repository(&name)));
    assert_same_lists(&generated, &memory).await;
}

#[tokio::test]
async fn locked_tags_stay_and_other_changes_make_it_a_repository_in_memory() {
    let registry = generated(acr(), world()).await;
    let name = GeneratedWorld::repository_name(1);
    let path = format!("/acr/v1/{name}/_tags/build-0000006");
    assert_eq!(send(&registry, Method::DELETE, &path).await.status(), 405);
    let before = page(&registry, &format!("/acr/v1/{name}")).await;
    assert!(!registry.content(|content| content.has_repository(&name)));
    let unlock = registry.request(Method::PATCH, &path).json(&json!({ "deleteEnabled": true }));
    let unlock = unlock.send().await.unwrap();
    assert_eq!(unlock.status(), 200);
    assert!(registry.content(|content| content.has_repository(&name)));
    assert_eq!(page(&registry, &format!("/acr/v1/{name}")).await, before);
    assert_eq!(send(&registry, Method::DELETE, &path).await.status(), 202);
    let digest = page(&registry, &format!("/acr/v1/{name}/_tags/build-0000001")).await.0["tag"]["digest"].clone();
    let digest = digest.as_str().unwrap();
    assert_eq!(send(&registry, Method::DELETE, &format!("/v2/{name}/manifests/{digest}")).await.status(), 202);
    assert_eq!(page(&registry, &format!("/acr/v1/{name}")).await.0["manifestCount"], json!(94));
    let names = rows(&pages(&registry, "/acr/v1/_catalog?n=1").await, "repositories");
    assert_eq!(names, [GeneratedWorld::repository_name(0), name].map(Value::from));
}

#[tokio::test]
async fn distribution_serves_the_same() {
    let (generated, memory) = (generated(Options::default(), world()).await, in_memory(Options::default()).await);
    let deletion = "/v2/NAME/manifests/";
    let name = GeneratedWorld::repository_name(0);
    for changed in [false, true] {
        if changed {
            assert_eq!(change(&generated, deletion).await, change(&memory, deletion).await);
            assert!(!generated.content(|content| content.has_repository(&name)), "it is still computed");
        }
        for path in
            ["/v2/_catalog?n=1".to_owned(), format!("/v2/{name}/tags/list"), format!("/v2/{name}/tags/list?n=5")]
        {
            assert_eq!(pages(&generated, &path).await, pages(&memory, &path).await, "{path}");
        }
        for tag in ["build-0000002", "build-0000012"] {
            let found = manifest_of(&generated, &name, tag).await;
            assert_eq!(found.1, media_type::OCI_INDEX);
            assert_eq!(found, manifest_of(&memory, &name, tag).await);
        }
    }
}

#[tokio::test]
async fn a_million_tags_are_there_at_once() {
    let newest = "2026-10-01T06:00:00Z".parse().unwrap();
    let registry = generated(acr(), GeneratedWorld::new(1000, 1000, newest)).await;
    let names = rows(&pages(&registry, "/acr/v1/_catalog?n=300").await, "repositories");
    assert_eq!(names.len(), 1000);
    assert!(names.is_sorted_by(|one, other| one.as_str() < other.as_str()));
    let name = names[999].as_str().unwrap();
    let last = page(&registry, &format!("/acr/v1/{name}/_tags?n=2&last=build-0000997")).await;
    let last: Vec<_> = last.0["tags"].as_array().unwrap().iter().map(|tag| tag["name"].clone()).collect();
    assert_eq!(last, ["build-0000998", "build-0000999"]);
}

#[tokio::test]
async fn a_plan_over_indexes_keeps_the_newest_of_each_repository() {
    let time = Arc::new(Mutex::new(now()));
    let theirs = Arc::clone(&time);
    let options = AcrOptions::new(Arc::new(move || *theirs.lock().unwrap())).admin(ADMIN.0, ADMIN.1);
    let registry = start(Options { dialect: Dialect::acr(options), ..Options::default() }).await;
    let newest = "2026-10-01T06:00:00Z".parse().unwrap();
    let world = GeneratedWorld { platforms: 2, ..GeneratedWorld::new(3, 50, newest) };
    registry.content(|content| content.generate(world));
    let fixture = WorkflowFixture::at(registry, KIND, time);
    fs::write(fixture.path("password"), ADMIN.1).unwrap();
    fixture.settings("approved", "", "");
    fixture.policies(
        "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 40 }]\n    mode: enforce\n",
    );
    let plan = fixture.plan().await;
    let mut removed: Vec<String> =
        plan.removals.iter().map(|removal| format!("{}:{}", removal.repository, removal.tag)).collect();
    removed.sort();
    let mut expected: Vec<String> = (0..3)
        .flat_map(|repository| {
            let name = GeneratedWorld::repository_name(repository);
            (0..10).map(move |tag| format!("{name}:{}", GeneratedWorld::tag_name(tag)))
        })
        .collect();
    expected.sort();
    assert_eq!(removed, expected);
}
