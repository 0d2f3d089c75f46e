//! Registries that misbehave: what is tried again, and what stays unknown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tagwarden::domain::GapTarget;
use tagwarden::registry::{
    CollectScope, DistributionReader, ExtraManifests, RegistryErrorKind, RegistryReader, RetryPolicy, collect,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{
    answer, gaps, name, quick, raw, read, reader, refusal, seen, serve_blobs, serve_manifests, serve_tags, settings,
    tag,
};
use crate::support::content::{Content, IMAGE, config, image};
use crate::support::memory::MemoryCache;

const CATALOGUE: &str = r#"{"repositories":["app"]}"#;

async fn once(server: &MockServer, verb: &str, route: &str, answer: ResponseTemplate) {
    Mock::given(method(verb)).and(path(route)).respond_with(answer).up_to_n_times(1).mount(server).await;
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    for (status, after) in [
        (408, None),
        (429, None),
        (429, Some("0")),
        (500, None),
        (502, None),
        (503, None),
        (503, Some("0")),
        (504, None),
    ] {
        let server = MockServer::start().await;
        let mut busy = refusal(status, "TOOMANYREQUESTS");
        if let Some(after) = after {
            busy = busy.insert_header("retry-after", after);
        }
        once(&server, "GET", "/v2/_catalog", busy).await;
        answer(&server, "GET", "/v2/_catalog", ResponseTemplate::new(200).set_body_string(CATALOGUE)).await;
        let reader = reader(&server);
        assert_eq!(reader.catalogue().await.unwrap().repositories, [name("app")], "{status}");
        let requests = reader.request_counts();
        assert_eq!((requests.total, requests.retries), (3, 1), "{status}");
        let throttled = status == 429 || after.is_some();
        assert_eq!(requests.throttled, u64::from(throttled), "{status}");
    }
}

#[tokio::test]
async fn what_does_not_pass_is_not_tried_for_ever() {
    let server = MockServer::start().await;
    answer(&server, "GET", "/v2/_catalog", refusal(500, "UNKNOWN")).await;
    let failing = reader(&server);
    let error = failing.catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Status(500));
    assert!(error.chain().contains("/v2/_catalog answered 500"), "{error}");
    assert_eq!(failing.request_counts().total, 1 + 3);

    let server = MockServer::start().await;
    let hour = refusal(429, "TOOMANYREQUESTS").insert_header("retry-after", "3600");
    answer(&server, "GET", "/v2/_catalog", hour).await;
    let throttled = reader(&server);
    assert_eq!(throttled.catalogue().await.unwrap_err().kind, RegistryErrorKind::Throttled);
    assert_eq!(throttled.request_counts().total, 2, "an hour is more than there is patience for");

    for status in [400, 403, 404, 501] {
        let server = MockServer::start().await;
        answer(&server, "GET", "/v2/_catalog", refusal(status, "X")).await;
        let refused = reader(&server);
        refused.catalogue().await.unwrap_err();
        assert_eq!(refused.request_counts().retries, 0, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_is_down_is_not_waited_for_by_every_tag() {
    let server = MockServer::start().await;
    answer(&server, "HEAD", "/v2/app/manifests/v1", ResponseTemplate::new(503)).await;
    let reader = reader(&server);
    for _ in 0..20 {
        reader.resolve(&name("app"), &tag("v1")).await.unwrap_err();
    }
    assert_eq!(reader.request_counts().total, 1 + 8 * 3 + 12, "after eight failures in a row each is asked once");
    answer(&server, "HEAD", "/v2/app/manifests/v2", ResponseTemplate::new(404)).await;
    assert_eq!(reader.resolve(&name("app"), &tag("v2")).await, Ok(None));
    let before = reader.request_counts().total;
    reader.resolve(&name("app"), &tag("v1")).await.unwrap_err();
    assert_eq!(reader.request_counts().total, before + 3, "an answer brings patience back");
}

/// Whoever asks several things of a registry waits for one that does not answer at all only once.
#[tokio::test]
async fn a_registry_that_never_answered_is_waited_for_once() {
    // Nobody listens there any more.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let reader = DistributionReader::with_retry_policy(settings(&format!("http://{address}")), quick()).unwrap();
    let mut before = 0;
    let mut requests = Vec::new();
    for _ in 0..3 {
        let error = reader.resolve(&name("app"), &tag("v1")).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Connection, "{error}");
        requests.push(reader.request_counts().total - before);
        before = reader.request_counts().total;
    }
    assert_eq!(requests, [3, 1, 1]);
}

#[tokio::test]
async fn a_failing_tag_or_manifest_is_a_gap_and_others_are_read() {
    let server = MockServer::start().await;
    let config = config("2024-01-01T00:00:00Z", "x");
    let (good, bad) = (image(&config, &[]), image(&config, &[&crate::support::content::layer("bad")]));
    answer(&server, "HEAD", "/v2/app/manifests/broken", ResponseTemplate::new(500)).await;
    serve_tags(&server, &[("v1", &good), ("v2", &bad), ("broken", &good)]).await;
    answer(&server, "GET", &format!("/v2/app/manifests/{}", bad.digest), refusal(502, "X")).await;
    serve_manifests(&server, &[&good]).await;
    serve_blobs(&server, &[&config]).await;
    let repository = read(&server).await;
    let expected = [(GapTarget::Tag(tag("broken")), "status"), (GapTarget::Manifest(bad.digest.clone()), "status")];
    assert_eq!(gaps(&repository.gaps), expected);
    assert_eq!(repository.tag("broken").unwrap().digest, None);
    assert_eq!(repository.tag("v2").unwrap().digest, Some(bad.digest));
    assert!(repository.manifests.contains_key(&good.digest));
}

#[tokio::test]
async fn a_manifest_that_is_not_its_digest_is_a_gap() {
    let server = MockServer::start().await;
    let (wanted, other) = (image(&config("", "wanted"), &[]), image(&config("", "other"), &[]));
    serve_tags(&server, &[("v1", &wanted)]).await;
    answer(&server, "GET", &format!("/v2/app/manifests/{}", wanted.digest), raw(&other)).await;
    assert_eq!(gaps(&read(&server).await.gaps), [(GapTarget::Manifest(wanted.digest.clone()), "digest-mismatch")]);
    let error = reader(&server).manifest(&name("app"), &wanted.digest).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::DigestMismatch);
}

#[tokio::test]
async fn a_tag_whose_header_and_body_disagree_is_a_gap() {
    let server = MockServer::start().await;
    let (one, other) = (image(&config("", "one"), &[]), image(&config("", "other"), &[]));
    let list = ResponseTemplate::new(200).set_body_string(r#"{"tags":["v1","v2"]}"#);
    answer(&server, "GET", "/v2/app/tags/list", list).await;
    answer(&server, "HEAD", "/v2/app/manifests/v1", ResponseTemplate::new(405)).await;
    let lying = ResponseTemplate::new(200)
        .insert_header("docker-content-digest", one.digest.to_string())
        .set_body_raw(other.bytes, IMAGE);
    answer(&server, "GET", "/v2/app/manifests/v1", lying).await;
    let nonsense = ResponseTemplate::new(200).insert_header("docker-content-digest", "sha256:nonsense");
    answer(&server, "HEAD", "/v2/app/manifests/v2", nonsense).await;
    let expected = [(GapTarget::Tag(tag("v1")), "digest-mismatch"), (GapTarget::Tag(tag("v2")), "malformed")];
    assert_eq!(gaps(&read(&server).await.gaps), expected);
}

#[tokio::test]
async fn a_page_of_a_proxy_is_no_manifest() {
    let server = MockServer::start().await;
    let html = || ResponseTemplate::new(200).set_body_raw("<html>sign in</html>", "text/html");
    answer(&server, "HEAD", "/v2/app/manifests/v1", html()).await;
    answer(&server, "GET", "/v2/app/manifests/v1", html()).await;
    let error = reader(&server).resolve(&name("app"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Malformed, "its hash must not become the tag's digest");
    assert!(error.chain().contains("web page"), "{error}");
}

#[tokio::test]
async fn a_manifest_that_nobody_understands_is_a_gap() {
    for text in ["{\"schemaVersion\": 2", "[]", "{}", "\"text\"", "{\"layers\": 7}", ""] {
        let server = MockServer::start().await;
        let strange = Content::new(IMAGE, text);
        serve_tags(&server, &[("v1", &strange)]).await;
        serve_manifests(&server, &[&strange]).await;
        assert_eq!(gaps(&read(&server).await.gaps), [(GapTarget::Manifest(strange.digest), "malformed")], "{text}");
    }
}

#[tokio::test]
async fn too_much_is_not_read() {
    let server = MockServer::start().await;
    let huge = Content::new(IMAGE, vec![b' '; (8 << 20) + 1]);
    serve_manifests(&server, &[&huge]).await;
    let reader = reader(&server);
    let error = reader.manifest(&name("app"), &huge.digest).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Malformed);
    assert_eq!(reader.request_counts().retries, 0);
}

/// A server that answers its first connections with these bytes and closes each, the last answer again and again.
async fn canned(answers: Vec<Vec<u8>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let turn = count.fetch_add(1, Ordering::SeqCst);
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let _ = stream.write_all(&answers[turn.min(answers.len() - 1)]).await;
            let _ = stream.shutdown().await;
        }
    });
    (endpoint, connections)
}

fn http(body: &str, claimed: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {claimed}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn an_answer_that_is_cut_is_asked_for_again() {
    let ping = || http("", 0);
    let whole = || http(CATALOGUE, CATALOGUE.len());
    let cut = || http(&CATALOGUE[..10], CATALOGUE.len());
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"rep".to_vec();
    for broken in [cut(), chunked, Vec::new(), b"HTTP/1.1 200 O".to_vec()] {
        let (endpoint, connections) = canned(vec![ping(), broken, whole()]).await;
        let reader = DistributionReader::with_retry_policy(settings(&endpoint), quick()).unwrap();
        assert_eq!(reader.catalogue().await.unwrap().repositories, [name("app")]);
        assert_eq!(connections.load(Ordering::SeqCst), 3);
    }
    let (endpoint, _) = canned(vec![ping(), cut()]).await;
    let reader = DistributionReader::with_retry_policy(settings(&endpoint), quick()).unwrap();
    let error = reader.catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Connection);
    assert!(error.chain().contains("was cut"), "{error}");
}

/// Nothing depends on which product a registry is, so no plan waits for the question of which extensions it has.
#[tokio::test]
async fn the_question_for_extensions_is_repeated_once() {
    const EXTENSIONS: &str = "/v2/_oci/ext/discover";
    for (status, after, sent) in [
        (404, None, 1),
        (500, None, 2),
        (503, None, 2),
        (429, None, 2),
        (429, Some("0"), 2),
        (503, Some("3"), 1),
        (429, Some("60"), 1),
    ] {
        let server = MockServer::start().await;
        answer(&server, "GET", "/v2/", ResponseTemplate::new(200)).await;
        let mut refused = refusal(status, "UNKNOWN");
        if let Some(after) = after {
            refused = refused.insert_header("retry-after", after);
        }
        answer(&server, "GET", EXTENSIONS, refused).await;
        assert_eq!(reader(&server).product().await, None);
        let asked = seen(&server).await.iter().filter(|request| request.ends_with(EXTENSIONS)).count();
        assert_eq!(asked, sent, "{status} {after:?}");
    }
    let (endpoint, connections) = canned(vec![http("", 0), http("", 0), Vec::new()]).await;
    let reader = DistributionReader::with_retry_policy(settings(&endpoint), quick()).unwrap();
    assert_eq!(reader.product().await, None);
    assert_eq!(connections.load(Ordering::SeqCst), 2 + 2, "cut off twice");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up() {
    let server = MockServer::start().await;
    let late = ResponseTemplate::new(200).set_body_string(CATALOGUE).set_delay(Duration::from_mins(1));
    answer(&server, "GET", "/v2/_catalog", late).await;
    let mut hasty = settings(&server.uri());
    hasty.timeout = Duration::from_millis(200);
    let reader = DistributionReader::with_retry_policy(hasty, RetryPolicy { max_retries: 0, ..quick() }).unwrap();
    let error = reader.catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Connection);
    assert!(error.chain().contains("took too long"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_an_error_that_says_so() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let reader = DistributionReader::with_retry_policy(settings(&format!("http://{free}")), quick()).unwrap();
    let error = reader.catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Connection);
    assert!(error.chain().contains("could not connect") && error.chain().contains(&free.to_string()), "{error}");
    assert_eq!(reader.request_counts().total, 3, "connections are tried again");
}

#[tokio::test]
async fn an_endpoint_is_scheme_and_host_only() {
    for endpoint in
        ["https://r.example/v2/", "https://user:secret@r.example", "ftp://r.example", "https://r.example/?x"]
    {
        let error = DistributionReader::new(settings(endpoint)).unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::InvalidSettings, "{endpoint}");
        assert!(!error.chain().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_allowed() {
    let (now, most, all) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (now.clone(), most.clone(), all.clone());
    let registry = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (now, most, all) = counts.clone();
        async move {
            all.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            assert!(request.headers()["user-agent"].to_str().unwrap().starts_with("tagwarden/"));
            let tags: Vec<String> = (0..50).map(|n| format!("t{n}")).collect();
            serde_json::json!({"repositories": ["a", "b", "c"], "tags": tags}).to_string()
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, registry).await });
    let one: Arc<dyn RegistryReader> =
        Arc::new(DistributionReader::with_retry_policy(settings(&endpoint), quick()).unwrap());
    let inventory =
        collect(std::slice::from_ref(&one), &CollectScope::All, &ExtraManifests::new(), &MemoryCache::default(), &())
            .await;
    assert_eq!(inventory.tag_count(), 150);
    assert_eq!(usize::try_from(one.request_counts().total).unwrap(), all.load(Ordering::SeqCst));
    let most = most.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most}");
}
