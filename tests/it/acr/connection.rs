//! One connection for the reader and the writer of a registry.

use tagwarden::registry::{RemovalResponse, Support, UntagSupport, connect};

use super::{image, put, settings};
use crate::registry::{name, quick, tag};
use crate::support::acr::{everything_allowed, start};
use crate::support::lease::any_lease;
use crate::support::removal::untag;

#[tokio::test]
async fn reader_and_writer_share_tokens_and_counts() {
    let registry = start(everything_allowed()).await;
    put(&registry, "v1", &image("one"), 2);
    let connection = connect(settings(&registry.url()), quick()).unwrap();
    let (reader, writer) = (connection.reader(), connection.writer(any_lease()).unwrap());
    let signing_in = || {
        let served = registry.requests();
        served.iter().filter(|request| request.path.starts_with("/oauth2/") || request.path == "/v2/").count()
    };

    // The reader fetches a token for removals, to see what it is good for.
    assert!(reader.missing_rights(&[name("app")]).await.is_empty());
    let (before, counted) = (signing_in(), reader.request_counts().total);
    assert!(before > 0, "{:?}", registry.requests());
    let removed = untag(&writer, &name("app"), &tag("v1")).await;
    assert!(matches!(removed, Ok(RemovalResponse::Removed { .. })), "{removed:?}");
    assert_eq!(signing_in(), before, "the token for removals is fetched once for both");
    assert_eq!(reader.request_counts().total, counted + 1, "the removal counts for the connection");
}

#[tokio::test]
async fn its_kind_says_all_of_its_capabilities() {
    let registry = start(everything_allowed()).await;
    let found = connect(settings(&registry.url()), quick()).unwrap().capabilities().await;
    assert_eq!((found.untag, found.lists_untagged, found.product), (UntagSupport::Native, Support::Yes, None));
    assert_eq!(registry.requests().len(), 0, "so nothing is asked");
}
