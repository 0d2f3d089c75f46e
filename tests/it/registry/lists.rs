//! The catalogue and tag lists: pages, links, names, and what is no list.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tagwarden::domain::GapTarget;
use tagwarden::registry::{Catalogue, DistributionReader, RegistryErrorKind, RegistryReader};
use wiremock::matchers::{method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{answer, gaps, name, ok_json, quick, read, reader, refusal, seen, settings};

fn page(repositories: &[&str]) -> ResponseTemplate {
    ok_json(&json!({"repositories": repositories}))
}

fn linked(repositories: &[&str], link: &str) -> ResponseTemplate {
    page(repositories).insert_header("link", link)
}

async fn after(server: &MockServer, last: &str, answer: ResponseTemplate) {
    let first = Mock::given(method("GET")).and(path("/v2/_catalog"));
    let mock =
        if last.is_empty() { first.and(query_param_is_missing("last")) } else { first.and(query_param("last", last)) };
    mock.respond_with(answer).mount(server).await;
}

fn names(catalogue: &Catalogue) -> Vec<&str> {
    catalogue.repositories.iter().map(tagwarden::domain::RepositoryName::as_str).collect()
}

#[tokio::test]
async fn pages_are_followed_by_relative_and_absolute_links() {
    let server = MockServer::start().await;
    after(&server, "", linked(&["a", "b"], "</v2/_catalog?n=2&last=b>; rel=\"next\"")).await;
    let absolute = format!("<{}/v2/_catalog?n=2&last=d>; rel=next", server.uri());
    after(&server, "b", linked(&["c", "d"], &absolute)).await;
    after(&server, "d", linked(&["e"], "</v2/_catalog>; rel=\"prev\"")).await;
    let catalogue = reader(&server).catalogue().await.unwrap();
    assert_eq!(names(&catalogue), ["a", "b", "c", "d", "e"]);
    assert!(catalogue.gaps.is_empty());
    assert_eq!(seen(&server).await[1], "GET /v2/_catalog?n=1000");
}

#[tokio::test]
async fn of_a_link_to_another_host_only_the_query_is_taken() {
    let other = MockServer::start().await;
    for link in [
        format!("<{}/v2/_catalog?last=b>; rel=next", other.uri()),
        format!("<{}/elsewhere?last=b>; rel=next", other.uri()),
        "<//evil.example/x?last=b>; rel=next".into(),
        "<https://user:word@evil.example:8443/?last=b#x>; rel=next".into(),
    ] {
        let server = MockServer::start().await;
        after(&server, "", linked(&["a", "b"], &link)).await;
        after(&server, "b", page(&["c"])).await;
        let catalogue = reader(&server).catalogue().await.unwrap();
        assert_eq!((names(&catalogue), gaps(&catalogue.gaps)), (vec!["a", "b", "c"], vec![]), "{link}");
        assert_eq!(seen(&server).await[2], "GET /v2/_catalog?last=b");
    }
    assert!(seen(&other).await.is_empty());
}

#[tokio::test]
async fn links_in_circles_end_as_gaps() {
    for link in ["</v2/_catalog?n=1000>; rel=next", "</v2/_catalog?last=b>; rel=next", "</v2/_catalog?x=1>; rel=next"] {
        let server = MockServer::start().await;
        // Whatever the question, always the same page with the same link.
        answer(&server, "GET", "/v2/_catalog", linked(&["a", "b"], link)).await;
        let catalogue = reader(&server).catalogue().await.unwrap();
        assert_eq!(names(&catalogue), ["a", "b"], "{link}");
        assert_eq!(gaps(&catalogue.gaps), [(GapTarget::Catalogue, "malformed")], "{link}");
        assert!(seen(&server).await.len() <= 3, "{link}");
    }
}

#[tokio::test]
async fn links_without_end_bring_nothing_new_and_end_as_gaps() {
    let server = MockServer::start().await;
    let turn = AtomicUsize::new(0);
    let endless = move |_: &wiremock::Request| {
        let turn = turn.fetch_add(1, Ordering::SeqCst);
        linked(&["a", "b"], &format!("</v2/_catalog?cursor={turn}>; rel=next"))
    };
    Mock::given(path("/v2/_catalog")).respond_with(endless).mount(&server).await;
    let catalogue = reader(&server).catalogue().await.unwrap();
    assert_eq!((names(&catalogue), gaps(&catalogue.gaps)), (vec!["a", "b"], vec![(GapTarget::Catalogue, "malformed")]));
    assert_eq!(seen(&server).await.len(), 5, "empty pages may lie in between, but not for ever");
}

#[tokio::test]
async fn a_later_page_that_fails_leaves_a_gap() {
    let server = MockServer::start().await;
    after(&server, "", linked(&["a"], "</v2/_catalog?last=a>; rel=next")).await;
    after(&server, "a", refusal(500, "UNKNOWN")).await;
    let catalogue = reader(&server).catalogue().await.unwrap();
    assert_eq!((names(&catalogue), gaps(&catalogue.gaps)), (vec!["a"], vec![(GapTarget::Catalogue, "status")]));
}

#[tokio::test]
async fn a_full_page_without_a_link_is_asked_on() {
    let server = MockServer::start().await;
    let many: Vec<String> = (0..1000).map(|n| format!("r{n:04}")).collect();
    after(&server, "", ok_json(&json!({"repositories": many}))).await;
    after(&server, "r0999", page(&["z"])).await;
    let catalogue = reader(&server).catalogue().await.unwrap();
    assert_eq!(catalogue.repositories.len(), 1001);
    assert!(catalogue.gaps.is_empty());
}

#[tokio::test]
async fn a_page_size_that_is_refused_is_made_smaller() {
    let server = MockServer::start().await;
    let sized = |n| Mock::given(method("GET")).and(path("/v2/_catalog")).and(query_param("n", n));
    sized("1000").respond_with(refusal(400, "PAGINATION_NUMBER_INVALID")).mount(&server).await;
    sized("100").respond_with(page(&["a"])).mount(&server).await;
    assert_eq!(names(&reader(&server).catalogue().await.unwrap()), ["a"]);
}

#[tokio::test]
async fn names_that_cannot_be_are_gaps() {
    let server = MockServer::start().await;
    after(&server, "", page(&["a", "Not/Allowed", "b"])).await;
    let catalogue = reader(&server).catalogue().await.unwrap();
    let odd = |name: &str| vec![(GapTarget::InvalidName(name.into()), "invalid-name")];
    assert_eq!((names(&catalogue), gaps(&catalogue.gaps)), (vec!["a", "b"], odd("Not/Allowed")));
    answer(&server, "GET", "/v2/app/tags/list", ok_json(&json!({"tags": ["-x"]}))).await;
    assert_eq!(gaps(&read(&server).await.gaps), odd("-x"));
    let error = reader(&server).tags(&name("app")).await.unwrap_err();
    assert!(error.chain().contains("not a valid tag"), "before a deletion the list must be known whole: {error}");
}

#[tokio::test]
async fn a_catalogue_that_is_refused_says_what_to_do() {
    for status in [401, 403, 404, 405] {
        let server = MockServer::start().await;
        after(&server, "", refusal(status, "UNSUPPORTED")).await;
        let error = reader(&server).catalogue().await.unwrap_err();
        assert!(error.chain().contains("`repositories`"), "{status}: {error}");
    }
    let server = MockServer::start().await;
    let mut listed = settings(&server.uri());
    listed.repositories = vec![name("shop/api")];
    let catalogue = DistributionReader::with_retry_policy(listed, quick()).unwrap().catalogue().await.unwrap();
    assert_eq!(names(&catalogue), ["shop/api"]);
    assert!(seen(&server).await.is_empty(), "the catalogue is not asked");
}

#[tokio::test]
async fn what_is_no_list_is_no_empty_list() {
    let page = "<!doctype html><title>Please sign in</title>";
    for body in ["", "{", "{}", "[]", r#"{"repositories":1}"#, r#"{"repositories":["a""#, r#"{"errors":[]}"#, page] {
        let server = MockServer::start().await;
        let ok = || ResponseTemplate::new(200).set_body_string(body);
        after(&server, "", ok()).await;
        answer(&server, "GET", "/v2/app/tags/list", ok()).await;
        let error = reader(&server).catalogue().await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Malformed, "{body}");
        assert_eq!(error.chain().contains("web page"), body == page, "{error}");
        assert_eq!(gaps(&read(&server).await.gaps), [(GapTarget::TagList, "malformed")], "{body}");
    }
}

#[tokio::test]
async fn a_repository_without_tags_is_empty_and_an_unread_one_is_a_gap() {
    let cases = [
        (ok_json(&json!({"name": "app", "tags": null})), None),
        (ok_json(&json!({"name": "app", "tags": []})), None),
        (refusal(404, "NAME_UNKNOWN"), None),
        (ResponseTemplate::new(404).set_body_string("404 page not found"), Some("not-found")),
        (refusal(403, "DENIED"), Some("denied")),
        (refusal(500, "UNKNOWN"), Some("status")),
    ];
    for (list, gap) in cases {
        let server = MockServer::start().await;
        answer(&server, "GET", "/v2/app/tags/list", list).await;
        let repository = read(&server).await;
        assert!(repository.tags.is_empty());
        assert_eq!(gaps(&repository.gaps), gap.map(|kind| (GapTarget::TagList, kind)).into_iter().collect::<Vec<_>>());
    }
    // Whoever named the repository in the settings is told that it is not there.
    let server = MockServer::start().await;
    answer(&server, "GET", "/v2/app/tags/list", refusal(404, "NAME_UNKNOWN")).await;
    let mut listed = settings(&server.uri());
    listed.repositories = vec![name("app")];
    let reader = DistributionReader::with_retry_policy(listed, quick()).unwrap();
    let repository =
        reader.repository(&name("app"), &BTreeSet::new(), &crate::support::memory::MemoryCache::default()).await;
    assert_eq!(gaps(&repository.gaps), [(GapTarget::TagList, "not-found")]);
}
