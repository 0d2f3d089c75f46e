//! Capabilities of the registry behind a connection.

use std::collections::BTreeSet;

use tagwarden::registry::{ReferrersSupport, UntagSupport, connect};
use wiremock::MockServer;

use super::{answer, name, quick, refusal, serve_blobs, serve_manifests, serve_tags, settings};
use crate::support::content::{config, image};
use crate::support::memory::MemoryCache;

#[tokio::test]
async fn a_product_shows_the_effect_of_an_untag() {
    let server = MockServer::start().await;
    let challenge = "Bearer realm=\"https://harbor.example/service/token\",service=\"harbor-registry\"";
    answer(&server, "GET", "/v2/", refusal(401, "UNAUTHORIZED").insert_header("www-authenticate", challenge)).await;
    let connection = connect(settings(&server.uri()), quick()).unwrap();
    assert_eq!(connection.reader().known_capabilities().untag, UntagSupport::Unknown, "nothing was asked yet");
    let found = connection.capabilities().await;
    assert_eq!(found.untag, UntagSupport::Unsupported);
    assert_eq!(found.product.map(|product| product.name), Some("Harbor"));
}

#[tokio::test]
async fn the_first_question_shows_the_referrers_api() {
    let server = MockServer::start().await;
    let config = config("", "x");
    let one = image(&config, &[]);
    serve_tags(&server, &[("v1", &one)]).await;
    serve_manifests(&server, &[&one]).await;
    serve_blobs(&server, &[&config]).await;
    let reader = connect(settings(&server.uri()), quick()).unwrap().reader();
    assert_eq!(reader.known_capabilities().referrers, ReferrersSupport::Unknown);
    let read = reader.repository(&name("app"), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!(read.tags.len(), 1);
    assert_eq!(reader.known_capabilities().referrers, ReferrersSupport::FallbackTag);
}
