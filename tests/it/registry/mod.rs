//! The distribution dialect, request by request, against registries that behave and registries that do not.

mod acr_auth;
mod auth;
mod connection;
mod distribution_writer;
mod failures;
mod lists;
mod made_up_provider;
mod malformed_responses;
mod manifest_graph;

use std::collections::BTreeSet;
use std::time::Duration;

use tagwarden::domain::{Gap, GapTarget, Repository, RepositoryName, TagName};
use tagwarden::registry::providers::Distribution;
use tagwarden::registry::{DistributionReader, RegistryReader, RegistrySettings, RetryPolicy};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::content::Content;
use crate::support::memory::MemoryCache;

/// Settings for a registry there, without credentials.
pub(crate) fn settings(endpoint: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("test".parse().unwrap(), &Distribution, endpoint.parse().unwrap());
    RegistrySettings { concurrency: 4, ..settings }
}

/// Patience that does not keep a test waiting.
pub(crate) fn quick() -> RetryPolicy {
    let millis = Duration::from_millis;
    RetryPolicy {
        max_retries: 2,
        initial_delay: millis(1),
        max_delay: millis(2),
        max_total_delay: Duration::from_secs(5),
    }
}

pub(crate) fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

pub(crate) fn tag(text: &str) -> TagName {
    text.parse().unwrap()
}

fn reader(server: &MockServer) -> DistributionReader {
    DistributionReader::with_retry_policy(settings(&server.uri()), quick()).unwrap()
}

/// Reads the repository `app` of a server with a fresh reader and cache.
async fn read(server: &MockServer) -> Repository {
    reader(server).repository(&name("app"), &BTreeSet::new(), &MemoryCache::default()).await
}

/// What the gaps are at, with their kinds.
pub(crate) fn gaps(gaps: &[Gap]) -> Vec<(GapTarget, &'static str)> {
    gaps.iter().map(|gap| (gap.target.clone(), gap.kind)).collect()
}

pub(crate) async fn answer(server: &MockServer, verb: &str, route: &str, answer: ResponseTemplate) {
    Mock::given(method(verb)).and(path(route)).respond_with(answer).mount(server).await;
}

fn ok_json(json: &serde_json::Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json)
}

/// An error in the words of the specification.
fn refusal(status: u16, code: &str) -> ResponseTemplate {
    ResponseTemplate::new(status)
        .set_body_json(serde_json::json!({"errors": [{"code": code, "message": "no", "detail": null}]}))
}

/// Serves `app` with these tags, and the digests that they name.
async fn serve_tags(server: &MockServer, tags: &[(&str, &Content)]) {
    let names: Vec<&str> = tags.iter().map(|(tag, _)| *tag).collect();
    answer(server, "GET", "/v2/app/tags/list", ok_json(&serde_json::json!({"name": "app", "tags": names}))).await;
    for (tag, content) in tags {
        let head = ResponseTemplate::new(200).insert_header("docker-content-digest", content.digest.to_string());
        answer(server, "HEAD", &format!("/v2/app/manifests/{tag}"), head).await;
    }
}

fn raw(content: &Content) -> ResponseTemplate {
    ResponseTemplate::new(200)
        .insert_header("docker-content-digest", content.digest.to_string())
        .set_body_raw(content.bytes.clone(), &content.media_type)
}

/// Serves manifests of `app` by their digests.
async fn serve_manifests(server: &MockServer, manifests: &[&Content]) {
    for content in manifests {
        answer(server, "GET", &format!("/v2/app/manifests/{}", content.digest), raw(content)).await;
    }
}

/// Serves blobs of `app`.
async fn serve_blobs(server: &MockServer, blobs: &[&Content]) {
    for content in blobs {
        answer(server, "GET", &format!("/v2/app/blobs/{}", content.digest), raw(content)).await;
    }
}

/// Requests that a server saw, as `METHOD path?query`.
async fn seen(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.unwrap();
    requests
        .iter()
        .map(|request| {
            let query = request.url.query().map(|query| format!("?{query}")).unwrap_or_default();
            format!("{} {}{query}", request.method, request.url.path())
        })
        .collect()
}
