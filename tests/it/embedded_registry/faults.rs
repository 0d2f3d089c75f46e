use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};
use tagwarden::domain::Digest;

use super::{delete, get, header, image, request, start, status_and_code};

async fn with_image() -> (EmbeddedRegistry, Digest) {
    let registry = start(Options::default()).await;
    let image = image("one");
    registry.put_image("a", "v1", &image);
    (registry, image.digest)
}

#[tokio::test]
async fn a_fault_meets_only_the_requests_that_it_is_meant_for() {
    let (registry, _) = with_image().await;
    let fault = Fault::on("/a/manifests/", FaultKind::status(500)).method(Method::GET).after(1).times(2);
    registry.inject(fault);
    let mut seen = Vec::new();
    for _ in 0..4 {
        assert_eq!(get(&registry, "/v2/").await.status(), 200);
        assert_eq!(request(&registry, Method::HEAD, "/v2/a/manifests/v1").send().await.unwrap().status(), 200);
        seen.push(get(&registry, "/v2/a/manifests/v1").await.status().as_u16());
    }
    assert_eq!(seen, [200, 500, 500, 200]);

    registry.inject(Fault::on("/v2/", FaultKind::status(503)));
    assert_eq!(get(&registry, "/v2/").await.status(), 503);
    assert_eq!(registry.requests().last().unwrap().status, 503);
    registry.clear_faults();
    assert_eq!(get(&registry, "/v2/").await.status(), 200);
}

#[tokio::test]
async fn a_failed_request_did_nothing_and_a_handled_one_did_it() {
    let (registry, digest) = with_image().await;
    registry.inject(Fault::on("/manifests/v1", FaultKind::status(500)).times(1));
    assert_eq!(delete(&registry, "/v2/a/manifests/v1").await.0, 500);
    assert_eq!(registry.tags("a").len(), 1);
    registry.inject(Fault::on("/manifests/v1", FaultKind::HandledButStatus(502)).times(1));
    assert_eq!(delete(&registry, "/v2/a/manifests/v1").await.0, 502);
    assert!(registry.tags("a").is_empty());
    assert!(registry.manifest("a", &digest).is_some());
}

#[tokio::test]
async fn a_dropped_connection_brings_no_answer() {
    for handled in [false, true] {
        let (registry, _) = with_image().await;
        registry.inject(Fault::on("/manifests/v1", FaultKind::HangUp { handled }).method(Method::DELETE));
        let error = request(&registry, Method::DELETE, "/v2/a/manifests/v1").send().await.unwrap_err();
        assert!(error.is_request(), "{error:?}");
        assert_eq!(registry.tags("a").is_empty(), handled);
        assert_eq!(get(&registry, "/v2/").await.status(), 200, "it goes on with others");
    }
}

#[tokio::test]
async fn a_cut_body_declares_its_length_and_brings_half() {
    let (registry, digest) = with_image().await;
    let whole = registry.manifest("a", &digest).unwrap().0;
    registry.inject(Fault::on("/manifests/", FaultKind::CutBody));
    let mut response = get(&registry, "/v2/a/manifests/v1").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.content_length(), Some(whole.len() as u64));
    let mut received = Vec::new();
    let end = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => received.extend_from_slice(&chunk),
            other => break other,
        }
    };
    assert!(end.is_err(), "the cut is an error, not an end");
    assert_eq!(received, whole[..whole.len() / 2]);
}

#[tokio::test]
async fn bodies_can_be_invalid_truncated_foreign_or_not_what_their_digest_says() {
    let (registry, digest) = with_image().await;
    let path = "/v2/a/manifests/v1";
    let whole = registry.manifest("a", &digest).unwrap().0;
    let body = async |what: FaultKind| {
        registry.inject(Fault::on(path, what).times(1));
        let response = get(&registry, path).await;
        assert_eq!(response.status(), 200);
        (header(&response, "content-type").to_owned(), response.bytes().await.unwrap())
    };
    let (_, invalid) = body(FaultKind::InvalidJson).await;
    assert!(serde_json::from_slice::<Value>(&invalid).unwrap_err().is_syntax());
    let (_, truncated) = body(FaultKind::TruncatedJson).await;
    assert!(serde_json::from_slice::<Value>(&truncated).unwrap_err().is_eof());
    assert_eq!(truncated, whole.slice(..whole.len() / 2));
    let (_, wrong) = body(FaultKind::WrongDigest).await;
    assert!(serde_json::from_slice::<Value>(&wrong).is_ok());
    assert!(!digest.matches(&wrong));
    let (kind, page) = body(FaultKind::HtmlPage).await;
    assert!(kind.starts_with("text/html") && page.starts_with(b"<!doctype html>"));
    assert!(digest.matches(&body(FaultKind::Delay(Duration::from_millis(1))).await.1));
}

#[tokio::test]
async fn links_can_loop_or_lead_away() {
    let (registry, _) = with_image().await;
    let path = "/v2/a/tags/list?n=5";
    registry.inject(Fault::on("/tags/list", FaultKind::LinkLoop).times(1));
    assert_eq!(header(&get(&registry, path).await, "link"), format!("<{path}>; rel=\"next\""));
    registry.inject(Fault::on("/tags/list", FaultKind::ForeignLink("http://elsewhere.example/x".into())).times(1));
    assert_eq!(header(&get(&registry, path).await, "link"), "<http://elsewhere.example/x>; rel=\"next\"");
    assert_eq!(header(&get(&registry, path).await, "link"), "");
}

#[tokio::test]
async fn too_many_requests_says_when_to_come_back_or_does_not() {
    let (registry, _) = with_image().await;
    for (retry_after, written) in [(Some(7), "7"), (None, "")] {
        registry.inject(Fault::on("/v2/", FaultKind::TooManyRequests { retry_after }).times(1));
        let response = get(&registry, "/v2/").await;
        assert_eq!(header(&response, "retry-after"), written);
        assert_eq!(status_and_code(response).await, (429, "TOOMANYREQUESTS".into()));
    }
}

/// The gap between the last look at a tag and its deletion.
#[tokio::test]
async fn a_tag_can_move_or_vanish_just_before_a_request() {
    let (registry, old) = with_image().await;
    let new = image("two");
    registry.put_image("a", "other", &new);
    let moved = new.digest.clone();
    let change = FaultKind::before_request(move |content| assert!(content.move_tag("a", "v1", &moved)));
    registry.inject(Fault::on("/manifests/v1", change).method(Method::DELETE).times(1));
    let seen = get(&registry, "/v2/a/manifests/v1").await;
    assert_eq!(header(&seen, "docker-content-digest"), old.to_string());
    assert_eq!(delete(&registry, "/v2/a/manifests/v1").await.0, 202);
    assert!(!registry.tags("a").contains_key("v1"), "the registry has no way to know better");

    let vanish = FaultKind::before_request(|content| assert!(content.delete_tag("a", "other")));
    registry.inject(Fault::on("/manifests/other", vanish).times(1));
    assert_eq!(delete(&registry, "/v2/a/manifests/other").await, (404, "MANIFEST_UNKNOWN".into()));
}
