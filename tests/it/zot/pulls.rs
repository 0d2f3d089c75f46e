//! Pull times, as the search lists them.

use std::collections::BTreeSet;

use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::EmbeddedRegistry;
use tagwarden::domain::{PullTime, Repository};
use tagwarden::registry::{AcceptedRisks, RegistrySettings, connect};

use super::{API, USER, api, image as build, options, put, settings, start};
use crate::registry::quick;
use crate::support::memory::MemoryCache;

/// Reads [`API`] where a person states that zot records every pull, or nobody does.
async fn read(url: &str, pull_times: bool) -> Repository {
    let accepted = AcceptedRisks { pull_times, ..AcceptedRisks::default() };
    let settings = RegistrySettings { accepted, ..settings(url) };
    let reader = connect(settings, quick()).unwrap().reader();
    reader.repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await
}

async fn pull(registry: &EmbeddedRegistry, reference: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v2/{API}/manifests/{reference}", registry.url());
    let accept = format!("{}, {}", image::media_type::OCI_MANIFEST, image::media_type::OCI_INDEX);
    let pull = client.get(url).basic_auth(USER.0, Some(USER.1)).header("accept", accept);
    assert_eq!(pull.send().await.unwrap().status().as_u16(), 200, "{reference}");
}

#[tokio::test]
async fn a_pull_counts_for_every_tag_of_its_image_and_by_way_of_an_index() {
    let registry = start(options()).await;
    let [one, never, amd64, arm64] = ["one", "never", "amd64", "arm64"].map(|word| build(word, 9));
    let index = image::index(Format::Oci, &[amd64.clone(), arm64.clone()]);
    let apart = image::index(Format::Oci, &[build("other amd64", 9), build("other arm64", 9)]);
    let tags = [("one", &one), ("same", &one), ("never", &never), ("index", &index), ("apart", &apart)];
    for (tag, image) in tags {
        put(&registry, API, tag, image, 40);
    }
    pull(&registry, "one").await;
    // As container runtimes do: the index, then the image of the platform.
    pull(&registry, "index").await;
    pull(&registry, &arm64.digest.to_string()).await;
    // An image of an index by its digest alone: zot does not tell when that was.
    pull(&registry, &apart.children[0].digest.to_string()).await;

    let repository = read(&registry.url(), true).await;
    let found: Vec<_> =
        repository.pull_times.iter().map(|(tag, pulled)| (tag.as_str(), matches!(pulled, PullTime::At(_)))).collect();
    assert_eq!(found, [("index", true), ("never", false), ("one", true), ("same", true)], "`apart` is not known");
    let unstated = read(&registry.url(), false).await;
    assert_eq!(unstated.tags.len(), 5);
    assert!(unstated.pull_times.is_empty(), "nothing tells whether the database lost some");
}

#[tokio::test]
async fn reading_is_no_pull() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 40);
    let reader = super::reader(&registry.url());
    reader.manifest(&api(), &one.digest).await.unwrap().unwrap();
    reader.resolve(&api(), &crate::registry::tag("v1")).await.unwrap().unwrap();
    assert!(reader.has_manifest(&api(), &one.digest).await.unwrap());
    let repository = read(&registry.url(), true).await;
    assert_eq!(repository.pull_times.values().collect::<Vec<_>>(), [&PullTime::Never]);
}
