//! Answers in shapes that real services gave, and some that they should not give.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tagwarden::domain::{Digest, GapTarget, ManifestDetail, Repository};
use tagwarden::registry::{AcrReader, Auth, RegistryReader as _, RegistrySettings};
use wiremock::matchers::{method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::registry::{gaps, name, quick};
use crate::support::memory::MemoryCache;

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn digest(n: u8) -> String {
    Digest::of(&[n]).to_string()
}

async fn get(server: &MockServer, route: &str, last: Option<&str>, answer: ResponseTemplate) {
    let mock = Mock::given(method("GET")).and(path(route));
    let mock = match last {
        Some(last) => mock.and(query_param("last", last)),
        None => mock.and(query_param_is_missing("last")),
    };
    mock.respond_with(answer).mount(server).await;
}

fn ok(json: &Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json)
}

fn linked(json: &Value, link: &str) -> ResponseTemplate {
    ok(json).insert_header("link", format!("<{link}>; rel=\"next\"").as_str())
}

/// A registry that asks for nothing and holds `app` with these tags and manifests.
async fn serving(tags: ResponseTemplate, manifests: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    get(&server, "/v2/", None, ResponseTemplate::new(200)).await;
    get(&server, "/acr/v1/app", None, ok(&json!({"imageName": "app"}))).await;
    get(&server, "/acr/v1/app/_tags", None, tags).await;
    get(&server, "/acr/v1/app/_manifests", None, manifests).await;
    server
}

async fn read(server: &MockServer) -> Repository {
    let settings = RegistrySettings { auth: Auth::Anonymous, ..super::settings(&server.uri()) };
    AcrReader::new(settings, quick()).unwrap().repository(&name("app"), &BTreeSet::new(), &MemoryCache::default()).await
}

fn tags(names: &[(&str, u8)]) -> Value {
    let tags: Vec<Value> = names.iter().map(|(name, n)| json!({"name": name, "digest": digest(*n)})).collect();
    json!({"registry": "r", "imageName": "app", "tags": tags})
}

fn manifests(numbers: &[u8]) -> Value {
    let all: Vec<Value> = numbers.iter().map(|n| json!({"digest": digest(*n), "mediaType": DOCKER})).collect();
    json!({"registry": "r", "imageName": "app", "manifests": all})
}

fn named(repository: &Repository) -> Vec<&str> {
    repository.tags.iter().map(|tag| tag.name.as_str()).collect()
}

#[tokio::test]
async fn of_a_link_only_last_is_taken() {
    // The recorded form: it drops what was asked for, keeps an empty `orderby`, and percent-encodes the name.
    let server =
        serving(linked(&tags(&[("a", 1), ("b", 1)]), "/acr/v1/app/_tags?last=b&n=2&orderby="), ok(&manifests(&[1])))
            .await;
    get(&server, "/acr/v1/app/_tags", Some("b"), ok(&tags(&[("c", 1)]))).await;
    let repository = read(&server).await;
    assert_eq!((named(&repository), repository.gaps.len()), (vec!["a", "b", "c"], 0));
    let urls: Vec<String> = server.received_requests().await.unwrap().iter().map(|r| r.url.to_string()).collect();
    assert!(urls.iter().any(|url| url.ends_with("/acr/v1/app/_tags?n=1000&last=b")), "{urls:?}");
}

#[tokio::test]
async fn links_that_mislead_are_gaps() {
    // What a foreign address asks for is asked of the registry itself, which here has no such page.
    for (link, kind) in [
        ("/acr/v1/app/_tags?last=a&n=2", "malformed"),
        ("https://evil.example/acr/v1/app/_tags?last=b", "not-found"),
        ("http://[/", "malformed"),
    ] {
        let server = serving(linked(&tags(&[("a", 1), ("b", 1)]), link), ok(&manifests(&[1]))).await;
        get(&server, "/acr/v1/app/_tags", Some("a"), linked(&tags(&[("b", 1)]), link)).await;
        assert_eq!(gaps(&read(&server).await.gaps), [(GapTarget::TagList, kind)], "{link}");
    }
}

#[tokio::test]
async fn tags_of_a_digest_come_from_the_tag_list_alone() {
    // The list of manifests shows only some of an image's tags.
    let mut short = manifests(&[1]);
    short["manifests"][0]["tags"] = json!(["a"]);
    let server = serving(ok(&tags(&[("a", 1), ("b", 1), ("c", 1)])), ok(&short)).await;
    assert_eq!(named(&read(&server).await), ["a", "b", "c"]);
}

#[tokio::test]
async fn every_field_may_be_missing() {
    let bare = json!({"tags": [{"name": "a", "digest": digest(1)}, {"name": "b"}, {"name": "c", "digest": "latest"}]});
    let server = serving(ok(&bare), ok(&manifests(&[1]))).await;
    let repository = read(&server).await;
    assert_eq!(named(&repository), ["a", "b", "c"]);
    assert_eq!(repository.tags[0].pushed_at, None);
    let b = GapTarget::Tag("b".parse().unwrap());
    let c = GapTarget::Tag("c".parse().unwrap());
    assert_eq!(gaps(&repository.gaps), [(b, "malformed"), (c, "malformed")]);
    let depth = repository.manifests.values().next().unwrap().detail;
    assert_eq!(depth, ManifestDetail::Listed { image_size: None });
}

#[tokio::test]
async fn a_manifest_of_no_known_type_is_pulled_before_anything_is_said_of_it() {
    for kind in [Value::Null, json!("application/vnd.example.new+json")] {
        let unknown = json!({"manifests": [{"digest": digest(1), "mediaType": kind}]});
        let server = serving(ok(&tags(&[("a", 1)])), ok(&unknown)).await;
        // The registry has it and does not give it: a gap at the manifest, which may be an index that holds anything.
        get(
            &server,
            &format!("/acr/v1/app/_manifests/{}", digest(1)),
            None,
            ok(&json!({"manifest": {"digest": digest(1)}})),
        )
        .await;
        let repository = read(&server).await;
        assert!(matches!(repository.gaps[0].target, GapTarget::Manifest(_)), "{:?}", repository.gaps);
        assert!(repository.gaps[0].blocks_repository());
    }
}

#[tokio::test]
async fn a_manifest_that_a_tag_names_and_no_list_has_is_asked_for() {
    let server = serving(ok(&tags(&[("a", 1), ("b", 2)])), ok(&manifests(&[1]))).await;
    let one = json!({"manifest": {"digest": digest(2), "mediaType": DOCKER, "imageSize": 7}});
    get(&server, &format!("/acr/v1/app/_manifests/{}", digest(2)), None, ok(&one)).await;
    let repository = read(&server).await;
    assert_eq!((repository.manifests.len(), repository.gaps.len()), (2, 0));
    let server = serving(ok(&tags(&[("a", 1), ("b", 2)])), ok(&manifests(&[1]))).await;
    // One that the registry does not have at all leaves only its tag in doubt.
    let named = json!({"tag": {"name": "b", "digest": digest(2)}});
    get(&server, "/acr/v1/app/_tags/b", None, ok(&named)).await;
    let b = || GapTarget::VanishedTag("b".parse().unwrap());
    let found = read(&server).await;
    assert_eq!(gaps(&found.gaps), [(b(), "no-manifest")]);
    assert!(found.gaps[0].is_note());
}

#[tokio::test]
async fn odd_entries_are_in_doubt_by_themselves() {
    let odd = json!({"tags": [
        {"name": "a", "digest": digest(1)}, {"name": "-x", "digest": digest(1)}, {"digest": digest(1)}, "text", null,
        {"name": digest(1), "digest": digest(1)},
        {"name": "b", "digest": digest(1), "lastUpdateTime": 7, "changeableAttributes": "locked"},
        {"name": "c", "digest": digest(1), "changeableAttributes": {"deleteEnabled": "false"}},
    ]});
    let listed = json!({"manifests": [
        {"digest": digest(1), "mediaType": DOCKER, "imageSize": -1, "architecture": 7, "lastUpdateTime": []},
    ]});
    let server = serving(ok(&odd), ok(&listed)).await;
    let found = read(&server).await;
    assert_eq!(named(&found), ["a", "b", "c"]);
    assert!(found.gaps.iter().all(tagwarden::domain::Gap::is_note), "{:?}", found.gaps);
    assert_eq!(found.gaps.len(), 5);
    let locks: Vec<bool> = found.tags.iter().map(|tag| tag.lock.is_some()).collect();
    assert_eq!(locks, [false, true, true], "attributes that are not understood may be a lock");
}

#[tokio::test]
async fn a_list_that_is_left_out_is_empty() {
    let server = serving(ok(&json!({"imageName": "app"})), ok(&manifests(&[1]))).await;
    let found = read(&server).await;
    assert_eq!((found.tags.len(), found.gaps.len()), (0, 0));
}

#[tokio::test]
async fn what_is_no_list_is_a_gap() {
    for answer in [
        ok(&json!({"registry": "r"})),
        ok(&json!({"imageName": "other"})),
        ok(&json!([])),
        ResponseTemplate::new(200).set_body_string("<html>"),
    ] {
        let server = serving(answer, ok(&manifests(&[]))).await;
        assert_eq!(gaps(&read(&server).await.gaps), [(GapTarget::TagList, "malformed")]);
    }
}
