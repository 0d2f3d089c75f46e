//! Pull times, as Harbor lists them.

use std::collections::BTreeSet;

use tagwarden::demo::image::{self, Format};
use tagwarden::domain::{PullTime, Repository};
use tagwarden::registry::{AcceptedRisks, RegistrySettings, connect};

use super::{ROBOT, image as build, name, options, put, settings, start};
use crate::registry::quick;
use crate::support::memory::MemoryCache;

/// Reads `shop/api` where a person states that Harbor records every pull, or nobody does.
async fn read(url: &str, pull_times: bool) -> Repository {
    let accepted = AcceptedRisks { pull_times, ..AcceptedRisks::default() };
    let settings = RegistrySettings { accepted, ..settings(url) };
    let reader = connect(settings, quick()).unwrap().reader();
    reader.repository(&name("shop/api"), &BTreeSet::new(), &MemoryCache::default()).await
}

#[tokio::test]
async fn each_tag_has_the_last_pull_of_whatever_it_leads_to() {
    let registry = start(options()).await;
    let [by_tag, by_digest, never, amd64, arm64] =
        ["by-tag", "by-digest", "never", "amd64", "arm64"].map(|word| build(word, 9));
    let index = image::index(Format::Oci, &[amd64.clone(), arm64.clone()]);
    for (tag, image) in [
        ("by-tag", &by_tag),
        ("same-image", &by_tag),
        ("by-digest", &by_digest),
        ("never", &never),
        ("index", &index),
        ("platform", &arm64),
    ] {
        put(&registry, "shop/api", tag, image, 40);
    }
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for reference in ["by-tag".to_owned(), by_digest.digest.to_string(), arm64.digest.to_string()] {
        let url = format!("{}/v2/shop/api/manifests/{reference}", registry.url());
        let pull = client.get(url).basic_auth(ROBOT.0, Some(ROBOT.1)).header("accept", image::media_type::OCI_MANIFEST);
        assert_eq!(pull.send().await.unwrap().status().as_u16(), 200, "{reference}");
    }
    let repository = read(&registry.url(), true).await;
    let found: Vec<_> =
        repository.pull_times.iter().map(|(tag, pulled)| (tag.as_str(), matches!(pulled, PullTime::At(_)))).collect();
    let expected = [
        ("by-digest", true),
        ("by-tag", true),
        ("index", true),
        ("never", false),
        ("platform", true),
        ("same-image", true),
    ];
    assert_eq!(found, expected);
    let unstated = read(&registry.url(), false).await;
    assert_eq!(unstated.tags.len(), 6);
    assert!(unstated.pull_times.is_empty(), "an administrator may have switched the recording off");
}
