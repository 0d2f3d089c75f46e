//! Artifactory by its own API, against an imitation of it: plans that only read.

mod clients;
mod simulator;
mod story;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use tagwarden::domain::{Digest, PullTime, Repository};
use tagwarden::registry::providers::Artifactory;
use tagwarden::registry::{AcceptedRisks, Auth, RegistryErrorKind, RegistryReader, RegistrySettings, connect};

use crate::registry::{name, quick, tag};
use crate::support::lease::any_lease;
use crate::support::memory::MemoryCache;
use crate::workflow::{image, noon};
use simulator::{Simulator, TOKEN};

const KEY: &str = "docker-local";
const MANIFEST: &str = "manifest.json";
const INDEX: &str = "list.manifest.json";

fn settings(url: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &Artifactory, url.parse().unwrap());
    RegistrySettings { auth: Auth::Token(TOKEN.into()), ..settings }
}

fn reader(settings: RegistrySettings) -> Arc<dyn RegistryReader> {
    connect(settings, quick()).unwrap().reader()
}

/// Reads `docker-local/shop/api` with a fresh reader and cache.
async fn read(settings: RegistrySettings) -> Repository {
    let reader = reader(settings);
    reader.repository(&name("docker-local/shop/api"), &BTreeSet::new(), &MemoryCache::default()).await
}

fn days_ago(days: i64) -> Timestamp {
    noon() - (24 * days).hours()
}

/// Puts an image of its own under a tag of `shop/api`, pushed so many days ago.
fn push(server: &Simulator, tag: &str, days: i64) -> Digest {
    let bytes = image(tag, days).bytes.clone();
    server.change(|content| content.put(KEY, &format!("shop/api/{tag}"), MANIFEST, &bytes, days_ago(days)))
}

#[tokio::test]
async fn tags_come_with_digests_times_and_downloads() {
    let server = Simulator::start(noon()).await;
    let v1 = push(&server, "v1", 10);
    push(&server, "v2", 9);
    // A second push to a tag keeps the creation of its file.
    let v2 = push(&server, "v2", 3);
    server.change(|content| {
        content.file(KEY, "shop/api/v1", MANIFEST).downloads = vec![days_ago(5), days_ago(2)];
        // Another image below this one, and the parts of an index, are not its tags.
        content.put(KEY, "shop/api/tools/v9", MANIFEST, b"{}", days_ago(1));
        content.put(KEY, "shop/api/sha256:12", MANIFEST, b"{}", days_ago(1));
        content.put(KEY, "shop/api/sha256__12", MANIFEST, b"{}", days_ago(1));
        content.put("docker-remote", "shop/api/v1", MANIFEST, b"{}", days_ago(1));
    });
    let accepted = AcceptedRisks { pull_times: true, ..AcceptedRisks::default() };
    let found = read(RegistrySettings { accepted, ..settings(&server.url) }).await;
    assert!(found.gaps.is_empty(), "{:?}", found.gaps);
    let tags: Vec<_> = found.tags.iter().map(|tag| (tag.name.as_str(), tag.digest.clone())).collect();
    assert_eq!(tags, [("v1", Some(v1)), ("v2", Some(v2))]);
    let pushed: Vec<Timestamp> = found.tags.iter().map(|tag| tag.pushed_at.unwrap().timestamp()).collect();
    assert_eq!(pushed, [days_ago(10), days_ago(3)]);
    assert_eq!(found.pull_times[&tag("v1")], PullTime::At(days_ago(2).into()));
    assert_eq!(found.pull_times[&tag("v2")], PullTime::Never);
    // Downloads count only where a person says that all of them are recorded.
    assert!(read(settings(&server.url)).await.pull_times.is_empty());
    let state = reader(settings(&server.url)).resolve(&name("docker-local/shop/api"), &tag("v2")).await.unwrap();
    assert_eq!(state.unwrap().pushed_at, Some(days_ago(3)));
}

#[tokio::test]
async fn what_is_in_doubt_is_a_gap() {
    let server = Simulator::start(noon()).await;
    for tag in ["both", "odd", "plain"] {
        push(&server, tag, 10);
    }
    server.change(|content| {
        content.put(KEY, "shop/api/both", INDEX, b"{}", days_ago(9));
        content.file(KEY, "shop/api/odd", MANIFEST).has_sha256 = false;
        content.put(KEY, "shop/api/-x", MANIFEST, b"{}", days_ago(1));
    });
    let found = read(settings(&server.url)).await;
    let known: Vec<_> = found.tags.iter().map(|tag| (tag.name.as_str(), tag.digest.is_some())).collect();
    assert_eq!(known, [("both", false), ("odd", false), ("plain", true)]);
    let told = format!("{:?}", found.gaps);
    assert_eq!(found.gaps.len(), 3, "{told}");
    for words in
        ["holds an image and an index", "docker-local/shop/api:odd is listed without a digest", "not a valid tag"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[tokio::test]
async fn an_incomplete_list_is_a_gap_of_the_whole() {
    type Row = (&'static str, fn(&Simulator), &'static str);
    let rows: [Row; 5] = [
        ("trimmed", |server| server.change(|content| content.search_limit = 2), "results are trimmed"),
        ("throttled", |server| fail(server, 429, "3600"), "lower `concurrency`"),
        ("too slow", |server| (0..4).for_each(|_| fail(server, 408, "0")), "the search took too long"),
        ("denied", |server| fail(server, 403, "0"), "permission Read"),
        ("expired", |server| server.change(|content| content.accepts_token = false), "401"),
    ];
    for (what, happens, words) in rows {
        let server = Simulator::start(noon()).await;
        for number in 0..3 {
            push(&server, &format!("v{number}"), 10);
        }
        happens(&server);
        let found = read(settings(&server.url)).await;
        let told = format!("{:?}", found.gaps);
        assert!(found.tags.is_empty() && found.gaps.len() == 1 && told.contains(words), "{what}: {told}");
    }
    let server = Simulator::start(noon()).await;
    push(&server, "v1", 10);
    fail(&server, 429, "0");
    assert_eq!(read(settings(&server.url)).await.tags.len(), 1, "one refusal is waited for");
}

/// Answers the next request with that status, and how many seconds to wait.
fn fail(server: &Simulator, status: u16, wait: &str) {
    let wait = vec![("retry-after", wait.to_owned())];
    server.change(|content| content.instead.push_back((status, wait)));
}

#[tokio::test]
async fn a_list_that_shifts_is_read_anew() {
    let server = Simulator::start(noon()).await;
    server.change(|content| {
        for number in 0..5_200 {
            content.put(KEY, &format!("shop/api/v{number:05}"), MANIFEST, b"{}", days_ago(1));
        }
        // A tag of the first page is deleted between the pages: the second would begin with a tag too late.
        content.deleted_meanwhile.push_back((KEY.into(), "shop/api/v00000".into(), MANIFEST.into()));
    });
    let found = read(settings(&server.url)).await;
    assert!(found.gaps.is_empty() && found.tags.len() == 5_199, "{} {:?}", found.tags.len(), found.gaps);
    assert_eq!(server.requests()["POST /artifactory/api/search/aql"], 4, "two pages, twice");
    server.change(|content| {
        for number in [1, 2, 3] {
            content.deleted_meanwhile.push_back((KEY.into(), format!("shop/api/v{number:05}"), MANIFEST.into()));
            // Nothing is deleted after the second page of each read.
            content.deleted_meanwhile.push_back((KEY.into(), "none".into(), MANIFEST.into()));
        }
    });
    let found = read(settings(&server.url)).await;
    assert!(format!("{:?}", found.gaps).contains("pushed or removed each time"), "{:?}", found.gaps);
}

#[tokio::test]
async fn images_are_listed_by_repository() {
    let server = Simulator::start(noon()).await;
    push(&server, "v1", 1);
    server.change(|content| {
        content.put(KEY, "web/v1", MANIFEST, b"{}", days_ago(1));
        content.put("docker-remote", "library/alpine/3", MANIFEST, b"{}", days_ago(1));
    });
    let catalogue = reader(settings(&server.url)).catalogue().await.unwrap();
    let names: Vec<&str> = catalogue.repositories.iter().map(tagwarden::domain::RepositoryName::as_str).collect();
    assert_eq!(names, ["docker-local/shop/api", "docker-local/web"], "no proxies and no views of others");
    let namespaces = vec!["docker-local".to_owned(), "docker-gone".to_owned()];
    let catalogue = reader(RegistrySettings { namespaces, ..settings(&server.url) }).catalogue().await.unwrap();
    assert!(catalogue.repositories.len() == 2 && catalogue.gaps.len() == 1, "{catalogue:?}");
    server.change(|content| content.hidden.insert(KEY.into()));
    let error = reader(settings(&server.url)).catalogue().await.unwrap_err();
    assert!(error.kind == RegistryErrorKind::Denied && error.chain().contains("permission Read"), "{}", error.chain());
}

#[tokio::test]
async fn there_is_no_writer() {
    let connection = connect(settings("http://127.0.0.1:1"), quick()).unwrap();
    assert!(connection.writer(any_lease()).is_none());
}
