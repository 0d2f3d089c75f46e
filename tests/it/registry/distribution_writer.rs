//! Untagging, deleting, putting back, and finding out beforehand whether that will work.

use std::sync::Arc;

use serde_json::json;
use tagwarden::domain::{Action, RemovalMethod};
use tagwarden::registry::providers::Distribution;
use tagwarden::registry::{
    Auth, DistributionReader, ProbeResponse, RawManifest, RegistryErrorKind, RegistryReader, RegistrySettings,
    RegistryWriter, RemovalResponse,
};
use wiremock::matchers::{header, method, path, path_regex, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{answer, name, ok_json, quick, refusal, seen, settings, tag};
use crate::support::content::{IMAGE, config, image};
use crate::support::lease::writer_of;
use crate::support::removal::{delete_manifest, journaled, put_tag, untag};

const BY_TAG: &str = "^/v2/app/manifests/tagwarden-probe-[0-9a-f]{32}$";
const BY_DIGEST: &str = "^/v2/app/manifests/sha256:[0-9a-f]{64}$";

fn writer(server: &MockServer) -> Arc<dyn RegistryWriter> {
    writer_of(&Distribution, settings(&server.uri()), quick())
}

/// What came of a probe, and what was asked for it.
async fn probed(by: RemovalMethod, answer: ResponseTemplate) -> ProbeResponse {
    let server = MockServer::start().await;
    let place = if by == RemovalMethod::Untag { BY_TAG } else { BY_DIGEST };
    Mock::given(method("DELETE")).and(path_regex(place)).respond_with(answer).mount(&server).await;
    let probed = writer(&server).probe(&name("app"), by).await.unwrap();
    let asked = seen(&server).await;
    let deletions = asked.iter().filter(|request| request.starts_with("DELETE ")).count();
    assert!(deletions == 1 && asked.iter().all(|request| !request.starts_with("PUT")), "{asked:?}");
    probed
}

#[tokio::test]
async fn a_probe_reads_what_the_registry_itself_says() {
    let page = ResponseTemplate::new(404).set_body_raw("<html>Not Found</html>", "text/html");
    for by in [RemovalMethod::Untag, RemovalMethod::DeleteManifest] {
        assert_eq!(probed(by, refusal(404, "MANIFEST_UNKNOWN")).await, ProbeResponse::Accepted);
        assert_eq!(probed(by, refusal(405, "UNSUPPORTED")).await, ProbeResponse::Unsupported);
        assert_eq!(probed(by, refusal(400, "DIGEST_INVALID")).await, ProbeResponse::Unsupported);
        for denied in [refusal(401, "UNAUTHORIZED"), refusal(403, "DENIED")] {
            assert!(matches!(probed(by, denied).await, ProbeResponse::Denied { .. }));
        }
        for unclear in [
            page.clone(),
            ResponseTemplate::new(404).set_body_string("404 page not found"),
            ResponseTemplate::new(404),
            ResponseTemplate::new(202),
            ResponseTemplate::new(403).set_body_raw("<html>blocked</html>", "text/html"),
            refusal(500, "UNKNOWN"),
        ] {
            assert!(matches!(probed(by, unclear).await, ProbeResponse::Unclear { .. }));
        }
    }
}

#[tokio::test]
async fn no_two_probes_name_the_same() {
    let server = MockServer::start().await;
    let writer = writer(&server);
    for _ in 0..20 {
        writer.probe(&name("app"), RemovalMethod::Untag).await;
    }
    let mut probes: Vec<_> = seen(&server).await.into_iter().filter(|request| request.starts_with("DELETE")).collect();
    assert_eq!(probes.len(), 20);
    probes.sort();
    probes.dedup();
    assert_eq!(probes.len(), 20);
}

/// Products say what they are to a GET without credentials, and to nothing else.
#[tokio::test]
async fn products_are_recognised_without_asking_for_harm() {
    let challenge = |value: &str| ResponseTemplate::new(401).insert_header("www-authenticate", value);
    let extensions = |release: &str| {
        let url = format!("https://github.com/project-zot/zot/blob/{release}/pkg/extensions/_zot.md");
        ok_json(&json!({ "extensions": [{ "name": "_zot", "url": url, "endpoints": [] }] }))
    };
    let plain = || ok_json(&json!({})).insert_header("docker-distribution-api-version", "registry/2.0");
    let harbor = "Bearer realm=\"https://harbor.example/service/token\",service=\"harbor-registry\"";
    for (base, discovered, expected) in [
        (
            plain().insert_header("gitlab-container-registry-version", "v4.5.0-gitlab"),
            None,
            Some("GitLab container registry"),
        ),
        (challenge(harbor), None, Some("Harbor")),
        (plain().insert_header("x-jfrog-version", "Artifactory/7.90.1 79001900"), None, Some("JFrog Artifactory")),
        (plain().insert_header("server", "Nexus/3.70.1-02 (OSS)"), None, Some("Sonatype Nexus")),
        (plain(), Some(extensions("v2.1.5")), Some("zot")),
        (plain(), Some(ResponseTemplate::new(200).set_body_raw("<html>", "text/html")), None),
        (plain(), None, None),
        (ResponseTemplate::new(503), None, None),
    ] {
        let server = MockServer::start().await;
        Mock::given(path("/v2/")).respond_with(base).mount(&server).await;
        if let Some(discovered) = discovered {
            Mock::given(path("/v2/_oci/ext/discover")).respond_with(discovered).mount(&server).await;
        }
        let reader = DistributionReader::with_retry_policy(settings(&server.uri()), quick()).unwrap();
        let found = reader.product().await;
        assert_eq!(found.map(|product| product.name), expected);
        let asked = seen(&server).await;
        assert!(asked.iter().all(|request| request.starts_with("GET ")), "{asked:?}");
    }
}

#[tokio::test]
async fn what_comes_of_a_removal() {
    use RegistryErrorKind::{
        Denied, Locked, Malformed, NotFound, RetriesExhausted, Status, Unauthenticated, Unsupported,
    };
    let done = || Ok(RemovalResponse::Removed { request_id: String::new(), digest: None });
    let page = ResponseTemplate::new(404).set_body_string("404 page not found");
    let firewall = |status| ResponseTemplate::new(status).set_body_raw("<html>Request blocked</html>", "text/html");
    let cases = [
        (ResponseTemplate::new(202), done()),
        (ResponseTemplate::new(200), done()),
        (ResponseTemplate::new(204), done()),
        (refusal(404, "MANIFEST_UNKNOWN"), Ok(RemovalResponse::AlreadyMissing)),
        (ResponseTemplate::new(404), Ok(RemovalResponse::AlreadyMissing)),
        (page, Err(NotFound)),
        (refusal(400, "DIGEST_INVALID"), Err(Unsupported)),
        (refusal(405, "UNSUPPORTED"), Err(Unsupported)),
        (refusal(405, "REGISTRY_DISALLOWED_OPERATION"), Err(Locked)),
        (refusal(405, "DENIED"), Err(Locked)),
        (refusal(400, "TAG_IMMUTABLE"), Err(Locked)),
        (refusal(403, "DENIED"), Err(Denied)),
        (refusal(401, "UNAUTHORIZED"), Err(Unauthenticated)),
        (firewall(403), Err(Malformed)),
        (firewall(405), Err(Malformed)),
        (refusal(409, "CONFLICT"), Err(Locked)),
        (refusal(412, "PRECONDITION"), Err(Locked)),
        (refusal(429, "TOOMANYREQUESTS").insert_header("retry-after", "3600"), Err(RetriesExhausted)),
        (refusal(500, "UNKNOWN"), Err(Status(500))),
        (ResponseTemplate::new(302).insert_header("location", "/elsewhere"), Err(Status(302))),
    ];
    let manifest = image(&config("", "x"), &[]);
    let digest = &manifest.digest;
    for (reply, expected) in cases {
        let server = MockServer::start().await;
        answer(&server, "DELETE", "/v2/app/manifests/v1", reply.clone()).await;
        answer(&server, "DELETE", &format!("/v2/app/manifests/{digest}"), reply).await;
        let untagged = untag(&writer(&server), &name("app"), &tag("v1")).await;
        assert_eq!(untagged.map_err(|error| error.kind), expected);
        let deleted = delete_manifest(&writer(&server), &name("app"), &manifest.bytes).await;
        assert_eq!(deleted.map_err(|error| error.kind), expected);
        let deletions = seen(&server).await.into_iter().filter(|request| request.starts_with("DELETE")).count();
        assert_eq!(deletions, 2, "none is repeated");
    }
}

#[tokio::test]
async fn nothing_is_removed_that_was_journaled_as_something_else() {
    for (action, untags, deletes) in [
        (Action::Remove(RemovalMethod::Untag), true, false),
        (Action::Remove(RemovalMethod::DeleteManifest), false, true),
        (Action::DeleteUntagged, false, true),
        (Action::Restore, false, false),
        (Action::RestoreManifest, false, false),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("DELETE")).respond_with(ResponseTemplate::new(202)).mount(&server).await;
        let writer = writer(&server);
        let intent = journaled(action, &name("app"), &tag("v1"), b"{}").await;
        let permit = writer.acquire_removal_permit(&name("app")).await.unwrap();
        let untagged = writer.untag(&intent, permit).await;
        let permit = writer.acquire_removal_permit(&name("app")).await.unwrap();
        let deleted = writer.delete_manifest(&intent, permit).await;
        for (outcome, allowed) in [(untagged, untags), (deleted, deletes)] {
            let refused = outcome.is_err_and(|error| error.chain().contains("is not for this kind of removal"));
            assert_eq!(refused, !allowed, "{action:?}");
        }
        let deletions = seen(&server).await.into_iter().filter(|request| request.starts_with("DELETE")).count();
        assert_eq!(deletions, usize::from(untags || deletes), "{action:?}");
    }
}

#[tokio::test]
async fn a_removal_that_was_only_throttled_comes_back_to_be_looked_at_again() {
    let server = MockServer::start().await;
    let busy = |status| refusal(status, "TOOMANYREQUESTS").insert_header("retry-after", "0");
    for status in [429, 503] {
        let once = Mock::given(method("DELETE")).and(path("/v2/app/manifests/v1"));
        once.respond_with(busy(status)).up_to_n_times(1).mount(&server).await;
    }
    let done = ResponseTemplate::new(202).insert_header("x-ms-correlation-request-id", "c-1");
    answer(&server, "DELETE", "/v2/app/manifests/v1", done).await;
    let writer = writer(&server);
    for _ in [429, 503] {
        let error = untag(&writer, &name("app"), &tag("v1")).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Throttled, "the tag may have moved in the pause");
    }
    let removed = untag(&writer, &name("app"), &tag("v1")).await.unwrap();
    assert_eq!(
        removed,
        RemovalResponse::Removed { request_id: "x-ms-correlation-request-id: c-1".into(), digest: None }
    );
}

/// A deletion is never sent again after a 401 without another look: getting the new token may have taken long.
#[tokio::test]
async fn a_removal_whose_token_was_refused_comes_back_to_be_looked_at_again() {
    let server = MockServer::start().await;
    let realm = format!("Bearer realm=\"{}/token\"", server.uri());
    let challenge = || refusal(401, "UNAUTHORIZED").insert_header("www-authenticate", realm.as_str());
    answer(&server, "GET", "/v2/", challenge()).await;
    for token in ["old", "new"] {
        let granted = ok_json(&json!({"token": token, "expires_in": 600}));
        Mock::given(path("/token")).respond_with(granted).up_to_n_times(1).mount(&server).await;
    }
    for (token, reply) in [("old", challenge()), ("new", ResponseTemplate::new(202))] {
        let bearer = format!("Bearer {token}");
        let with_it = Mock::given(method("DELETE")).and(header("authorization", bearer.as_str()));
        with_it.respond_with(reply).mount(&server).await;
    }
    let writer = writer(&server);
    let error = untag(&writer, &name("app"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::TokenRenewed, "{error}");
    assert!(error.requires_recheck());
    let deletions = || async { seen(&server).await.iter().filter(|line| line.starts_with("DELETE")).count() };
    assert_eq!(deletions().await, 1, "nothing is sent again by itself");
    assert!(untag(&writer, &name("app"), &tag("v1")).await.is_ok());
    assert_eq!(deletions().await, 2);
}

#[tokio::test]
async fn a_manifest_is_put_back_byte_for_byte() {
    let content = image(&config("", "x"), &[]);
    let manifest =
        RawManifest { digest: content.digest.clone(), media_type: IMAGE.into(), bytes: content.bytes.clone().into() };
    let other = image(&config("", "y"), &[]).digest;
    let created = |digest: &str| ResponseTemplate::new(201).insert_header("docker-content-digest", digest);
    let cases = [
        (created(&content.digest.to_string()), None),
        (created(&other.to_string()), Some(RegistryErrorKind::DigestMismatch)),
        (ResponseTemplate::new(200), Some(RegistryErrorKind::Status(200))),
        (refusal(400, "MANIFEST_BLOB_UNKNOWN"), Some(RegistryErrorKind::Status(400))),
        (refusal(400, "TAG_IMMUTABLE"), Some(RegistryErrorKind::Locked)),
        (refusal(403, "DENIED"), Some(RegistryErrorKind::Denied)),
        (refusal(409, "X"), Some(RegistryErrorKind::Locked)),
    ];
    for (reply, expected) in cases {
        let server = MockServer::start().await;
        answer(&server, "PUT", "/v2/app/manifests/v1", reply).await;
        let put = put_tag(&writer(&server), &name("app"), &tag("v1"), &manifest).await;
        assert_eq!(put.err().map(|error| error.kind), expected);
        let requests = server.received_requests().await.unwrap();
        let sent = requests.iter().find(|request| request.method.as_str() == "PUT").unwrap();
        assert_eq!((sent.body.as_slice(), sent.headers["content-type"].to_str().unwrap()), (&*content.bytes, IMAGE));
    }
    // A registry that does not say under which digest is asked.
    for (names, expected) in [(&content.digest, None), (&other, Some(RegistryErrorKind::DigestMismatch))] {
        let server = MockServer::start().await;
        answer(&server, "PUT", "/v2/app/manifests/v1", ResponseTemplate::new(201)).await;
        let head = ResponseTemplate::new(200).insert_header("docker-content-digest", names.to_string());
        answer(&server, "HEAD", "/v2/app/manifests/v1", head).await;
        let put = put_tag(&writer(&server), &name("app"), &tag("v1"), &manifest).await;
        assert_eq!(put.err().map(|error| error.kind), expected);
    }
}

#[tokio::test]
async fn a_manifest_is_put_by_its_digest_and_seen_to_be_there() {
    let content = image(&config("", "x"), &[]);
    let manifest =
        RawManifest { digest: content.digest.clone(), media_type: IMAGE.into(), bytes: content.bytes.clone().into() };
    let other = image(&config("", "y"), &[]).digest;
    let created = |digest: &str| ResponseTemplate::new(201).insert_header("docker-content-digest", digest);
    let there = || ResponseTemplate::new(200);
    let gone = || refusal(404, "MANIFEST_UNKNOWN");
    for (reply, look, expected) in [
        (created(&content.digest.to_string()), gone(), None),
        (created(&other.to_string()), there(), Some(RegistryErrorKind::DigestMismatch)),
        // A registry that does not say under which digest is asked.
        (ResponseTemplate::new(201), there(), None),
        (ResponseTemplate::new(201), gone(), Some(RegistryErrorKind::DigestMismatch)),
        (ResponseTemplate::new(202), there(), Some(RegistryErrorKind::Status(202))),
        (refusal(400, "MANIFEST_BLOB_UNKNOWN"), there(), Some(RegistryErrorKind::Status(400))),
        (refusal(403, "DENIED"), there(), Some(RegistryErrorKind::Denied)),
        (refusal(409, "CONFLICT"), there(), Some(RegistryErrorKind::Locked)),
    ] {
        let server = MockServer::start().await;
        let route = format!("/v2/app/manifests/{}", content.digest);
        answer(&server, "PUT", &route, reply).await;
        answer(&server, "HEAD", &route, look.clone()).await;
        answer(&server, "GET", &route, look).await;
        let put = writer(&server).put_manifest(&name("app"), &manifest).await;
        assert_eq!(put.err().map(|error| error.kind), expected);
        let requests = server.received_requests().await.unwrap();
        let sent: Vec<_> = requests.iter().filter(|request| request.method.as_str() == "PUT").collect();
        assert_eq!(sent.len(), 1);
        let kind = sent[0].headers["content-type"].to_str().unwrap();
        assert_eq!((sent[0].body.as_slice(), kind), (&*content.bytes, IMAGE));
    }
}

#[tokio::test]
async fn the_tags_of_a_manifest_are_not_told_by_this_api() {
    let server = MockServer::start().await;
    let reader = DistributionReader::with_retry_policy(settings(&server.uri()), quick()).unwrap();
    let digest = image(&config("", "x"), &[]).digest;
    let error = reader.manifest_state(&name("app"), &digest).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unsupported);
    assert!(error.chain().contains("not known whether a tag names"), "{error}");
    assert!(!reader.lists_untagged());
    assert_eq!(seen(&server).await, Vec::<String>::new());
}

#[tokio::test]
async fn removing_and_putting_back_get_tokens_of_their_own() {
    let server = MockServer::start().await;
    let realm = format!("Bearer realm=\"{}/token\"", server.uri());
    answer(&server, "GET", "/v2/", refusal(401, "UNAUTHORIZED").insert_header("www-authenticate", realm.as_str()))
        .await;
    for (scope, token) in [("repository:app:pull,delete", "deleter"), ("repository:app:pull,push", "pusher")] {
        let granted = ok_json(&json!({"token": token, "expires_in": 600}));
        Mock::given(path("/token")).and(query_param("scope", scope)).respond_with(granted).mount(&server).await;
    }
    Mock::given(method("DELETE"))
        .and(header("authorization", "Bearer deleter"))
        .respond_with(ResponseTemplate::new(202))
        .mount(&server)
        .await;
    let content = image(&config("", "x"), &[]);
    let created = ResponseTemplate::new(201).insert_header("docker-content-digest", content.digest.to_string());
    Mock::given(method("PUT")).and(header("authorization", "Bearer pusher")).respond_with(created).mount(&server).await;
    let auth = Auth::Basic { username: "ada".into(), password: "x".into() };
    let settings = RegistrySettings { auth, ..settings(&server.uri()) };
    let writer = writer_of(&Distribution, settings, quick());
    assert!(untag(&writer, &name("app"), &tag("v1")).await.is_ok());
    let manifest = RawManifest { digest: content.digest, media_type: IMAGE.into(), bytes: content.bytes.into() };
    put_tag(&writer, &name("app"), &tag("v1"), &manifest).await.unwrap();
}
