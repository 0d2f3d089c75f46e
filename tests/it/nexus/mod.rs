//! Nexus by its own API, against an imitation of it: plans that only read.

mod clients;
mod simulator;
mod story;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use tagwarden::domain::{Digest, PullTime, Repository};
use tagwarden::registry::providers::Nexus;
use tagwarden::registry::{AcceptedRisks, Auth, RegistryErrorKind, RegistryReader, RegistrySettings, connect};

use crate::registry::{name, quick, tag};
use crate::support::lease::any_lease;
use crate::support::memory::MemoryCache;
use crate::workflow::{image, noon};
use simulator::{Simulator, USER};

const KEY: &str = "docker-hosted";
const IMAGE: &str = "docker-hosted/shop/api";

fn settings(url: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &Nexus, url.parse().unwrap());
    RegistrySettings { auth: Auth::Basic { username: USER.0.into(), password: USER.1.into() }, ..settings }
}

fn reader(settings: RegistrySettings) -> Arc<dyn RegistryReader> {
    connect(settings, quick()).unwrap().reader()
}

/// Reads `shop/api` with a fresh reader and cache.
async fn read(settings: RegistrySettings) -> Repository {
    reader(settings).repository(&name(IMAGE), &BTreeSet::new(), &MemoryCache::default()).await
}

fn days_ago(days: i64) -> Timestamp {
    noon() - (24 * days).hours()
}

/// Puts an image of its own under a tag of `shop/api`, pushed so many days ago.
fn push(server: &Simulator, tag: &str, days: i64) -> Digest {
    let bytes = image(tag, days).bytes.clone();
    server.change(|content| content.put(KEY, "shop/api", tag, &bytes, days_ago(days)))
}

#[tokio::test]
async fn tags_come_with_digests_times_and_downloads() {
    let server = Simulator::start(noon()).await;
    let (v1, v2, v3) = (push(&server, "v1", 10), push(&server, "v2", 3), push(&server, "v3", 3));
    server.change(|content| {
        content.component("shop/api", "v1").downloaded = Some(days_ago(2));
        // A pull by digest stands at the component of the digest.
        content.component("shop/api", &v2.to_string()).downloaded = Some(days_ago(1));
        content.put(KEY, "shop/apis", "v9", b"{}", days_ago(1));
    });
    let accepted = AcceptedRisks { pull_times: true, ..AcceptedRisks::default() };
    let found = read(RegistrySettings { accepted, ..settings(&server.url) }).await;
    assert!(found.gaps.is_empty(), "{:?}", found.gaps);
    let tags: Vec<_> = found.tags.iter().map(|tag| (tag.name.as_str(), tag.digest.clone())).collect();
    assert_eq!(tags, [("v1", Some(v1)), ("v2", Some(v2)), ("v3", Some(v3))]);
    assert_eq!(found.tags[0].pushed_at, Some(days_ago(10).into()));
    let pulled = |name: &str| found.pull_times[&tag(name)];
    assert_eq!(pulled("v1"), PullTime::At(days_ago(2).into()));
    assert_eq!((pulled("v2"), pulled("v3")), (PullTime::At(days_ago(1).into()), PullTime::Never));
    // Downloads count only where a person says that all of them are recorded.
    assert!(read(settings(&server.url)).await.pull_times.is_empty());
    let state = reader(settings(&server.url)).resolve(&name(IMAGE), &tag("v2")).await.unwrap();
    assert_eq!(state.unwrap().pushed_at, Some(days_ago(3)));
    assert_eq!(reader(settings(&server.url)).resolve(&name(IMAGE), &tag("v4")).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_in_doubt_is_a_gap() {
    let server = Simulator::start(noon()).await;
    for tag in ["odd", "plain"] {
        push(&server, tag, 10);
    }
    server.change(|content| {
        content.component("shop/api", "odd").has_checksum = false;
        content.put(KEY, "shop/api", "-x", b"{}", days_ago(1));
    });
    let found = read(settings(&server.url)).await;
    let known: Vec<_> = found.tags.iter().map(|tag| (tag.name.as_str(), tag.digest.is_some())).collect();
    assert_eq!(known, [("odd", false), ("plain", true)]);
    let told = format!("{:?}", found.gaps);
    assert!(found.gaps.len() == 2 && told.contains("docker-hosted/shop/api:odd is listed without a digest"), "{told}");
}

#[tokio::test]
async fn an_incomplete_list_is_a_gap_of_the_whole() {
    type Row = (&'static str, fn(&Simulator), &'static str);
    let rows: [Row; 5] = [
        ("endless", |server| server.change(|content| content.is_endless = true), "leads in a circle"),
        (
            "throttled",
            |server| {
                server.change(|content| content.retry_after = "3600");
                fail(server, 429, 1);
            },
            "when Nexus is less busy",
        ),
        ("broken", |server| fail(server, 500, 4), "500"),
        ("denied", |server| fail(server, 403, 1), "`browse` and `read`"),
        ("expired", |server| server.change(|content| content.accepts_password = false), "401"),
    ];
    for (what, happens, words) in rows {
        let server = Simulator::start(noon()).await;
        for number in 0..60 {
            push(&server, &format!("v{number}"), 10);
        }
        happens(&server);
        let found = read(settings(&server.url)).await;
        let told = format!("{:?}", found.gaps);
        assert!(found.tags.is_empty() && found.gaps.len() == 1 && told.contains(words), "{what}: {told}");
    }
    let server = Simulator::start(noon()).await;
    push(&server, "v1", 10);
    fail(&server, 429, 1);
    assert_eq!(read(settings(&server.url)).await.tags.len(), 1, "one refusal is waited for");
}

/// Answers so many requests with that status.
fn fail(server: &Simulator, status: u16, count: usize) {
    server.change(|content| content.instead.extend(vec![status; count]));
}

#[tokio::test]
async fn what_goes_meanwhile_hides_nothing() {
    let server = Simulator::start(noon()).await;
    for number in 0..120 {
        push(&server, &format!("v{number:03}"), 10);
    }
    server.change(|content| content.deleted_meanwhile.push_back((KEY.into(), "shop/api".into(), "v000".into())));
    let found = read(settings(&server.url)).await;
    assert_eq!((found.tags.len(), found.gaps.len()), (120, 0), "the one that went was listed before");
}

#[tokio::test]
async fn images_are_listed_by_repository() {
    let server = Simulator::start(noon()).await;
    push(&server, "v1", 1);
    server.change(|content| {
        content.put(KEY, "web", "v1", b"{}", days_ago(1));
        content.put("docker-proxy", "library/alpine", "3", b"{}", days_ago(1));
    });
    let catalogue = reader(settings(&server.url)).catalogue().await.unwrap();
    let names: Vec<&str> = catalogue.repositories.iter().map(tagwarden::domain::RepositoryName::as_str).collect();
    assert_eq!(names, [IMAGE, "docker-hosted/web"], "no proxies and no groups");
    server.change(|content| content.hidden.insert(KEY.into()));
    let error = reader(settings(&server.url)).catalogue().await.unwrap_err();
    assert!(error.kind == RegistryErrorKind::Denied && error.chain().contains("`browse`"), "{}", error.chain());
}

#[tokio::test]
async fn there_is_no_writer() {
    let connection = connect(settings("http://127.0.0.1:1"), quick()).unwrap();
    assert!(connection.writer(any_lease()).is_none());
}
