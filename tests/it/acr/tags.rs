//! Removing tags and putting them back.

use tagwarden::demo::registry::{Attributes, Fault, FaultKind, Target};
use tagwarden::registry::{RegistryErrorKind, RegistryReader as _, RemovalResponse};

use super::{image, put, reader, request_counts, writer};
use crate::registry::{name, tag};
use crate::support::acr::{everything_allowed, start};
use crate::support::removal::{put_tag, untag};

#[tokio::test]
async fn a_tag_goes_alone_and_the_answer_tells_what_it_named() {
    let registry = start(everything_allowed()).await;
    let one = image("one");
    put(&registry, "v1", &one, 2);
    put(&registry, "same", &one, 2);
    let writer = writer(&registry.url());
    let Ok(RemovalResponse::Removed { request_id: evidence, digest: named }) =
        untag(&writer, &name("app"), &tag("v1")).await
    else {
        panic!()
    };
    assert!(evidence.starts_with("x-ms-correlation-request-id: "), "{evidence}");
    assert_eq!(named, Some(one.digest.clone()));
    assert_eq!(registry.tags("app").into_keys().collect::<Vec<_>>(), ["same"]);
    assert!(registry.manifest("app", &one.digest).is_some());
    assert_eq!(untag(&writer, &name("app"), &tag("v1")).await, Ok(RemovalResponse::AlreadyMissing));
    assert_eq!(untag(&writer, &name("none"), &tag("v1")).await, Ok(RemovalResponse::AlreadyMissing));
    let deletions: Vec<String> =
        request_counts(&registry).into_keys().filter(|path| path.starts_with("DELETE")).collect();
    assert_eq!(deletions, ["DELETE /acr/v1/app/_tags/v1", "DELETE /acr/v1/none/_tags/v1"]);
}

#[tokio::test]
async fn locks_of_any_kind_hold() {
    let locked =
        [Attributes { delete: false, ..Attributes::default() }, Attributes { write: false, ..Attributes::default() }];
    let one = image("one");
    for attributes in locked {
        for target in [Target::Tag("v1"), Target::Manifest(&one.digest), Target::Repository] {
            let registry = start(everything_allowed()).await;
            put(&registry, "v1", &one, 2);
            let what = format!("{target:?} {attributes:?}");
            registry.content(|content| *content.attributes_mut("app", target).unwrap() = attributes);
            let error = untag(&writer(&registry.url()), &name("app"), &tag("v1")).await;
            match error {
                Err(error) => assert_eq!(error.kind, RegistryErrorKind::Locked, "{what}"),
                // An untag changes no manifest, so a registry may let it pass: the plan keeps such tags anyway.
                Ok(_) => assert!(what.contains("Manifest"), "{what}"),
            }
        }
    }
}

#[tokio::test]
async fn a_tag_comes_back_byte_for_byte() {
    let registry = start(everything_allowed()).await;
    let one = image("one");
    put(&registry, "v1", &one, 2);
    let (reader, writer) = (reader(&registry.url()), writer(&registry.url()));
    let manifest = reader.manifest(&name("app"), &one.digest).await.unwrap().unwrap();
    assert!(matches!(untag(&writer, &name("app"), &tag("v1")).await, Ok(RemovalResponse::Removed { .. })));
    put_tag(&writer, &name("app"), &tag("v1"), &manifest).await.unwrap();
    assert_eq!(registry.tags("app")["v1"], one.digest);
}

#[tokio::test]
async fn throttling_and_failures_are_told_apart_from_locks() {
    let registry = start(everything_allowed()).await;
    put(&registry, "v1", &image("one"), 2);
    let writer = writer(&registry.url());
    let wait = FaultKind::TooManyRequests { retry_after: None };
    for (what, kind) in [
        (wait, RegistryErrorKind::Throttled),
        (FaultKind::status(500), RegistryErrorKind::Status(500)),
        (FaultKind::status(403), RegistryErrorKind::Denied),
        (FaultKind::status(405), RegistryErrorKind::Unsupported),
        (FaultKind::HtmlPage, RegistryErrorKind::Malformed),
    ] {
        registry.inject(Fault::on("_tags/v1", what).times(1));
        assert_eq!(untag(&writer, &name("app"), &tag("v1")).await.unwrap_err().kind, kind);
        registry.clear_faults();
    }
    assert_eq!(registry.tags("app").len(), 1);
}
