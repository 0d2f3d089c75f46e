//! Removals that are journaled before the bytes of their manifests.

use jiff::SignedDuration;
use tagwarden::domain::{Hold, HoldOrigin};

use super::*;

const ENDPOINT: &str = "https://contoso.example";

fn digests(missing: &[tagwarden::state::MissingManifest]) -> Vec<&Digest> {
    missing.iter().map(|missing| &missing.digest).collect()
}

#[tokio::test]
async fn bytes_are_missing_until_they_are_added() {
    let (_folder, store) = fresh().await;
    let lease = lease(&store).await;
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    let (kept, late, lost, left) = (manifest("kept"), manifest("late"), manifest("lost"), manifest("left"));
    store.intend(&lease, run.id, &intent("kept", &kept), &kept, noon()).await.unwrap();
    for image in [&late, &lost, &left] {
        let tag = String::from_utf8(image.bytes.to_vec()).unwrap();
        store.intend_without_manifest(&lease, run.id, &intent(&tag, image), noon()).await.unwrap();
    }
    // One that was not removed needs none; what was never begun has none.
    let entries = store.journal(run.id).await.unwrap();
    store.record_outcome(entries[1].id, &Outcome::Done(String::new()), noon()).await.unwrap();
    store.record_outcome(entries[3].id, &Outcome::Skipped(SkipReason::Missing), noon()).await.unwrap();
    let never = manifest("never");
    let skipped = Outcome::Skipped(SkipReason::Interrupted);
    store.record_not_attempted(&lease, run.id, &intent("never", &never), &skipped, noon()).await.unwrap();

    let mut expected = vec![&late.digest, &lost.digest];
    expected.sort();
    let missing = store.missing_manifests(noon()).await.unwrap();
    assert_eq!(digests(&missing), expected);
    assert_eq!(missing[0].repository.as_str(), "shop/api");
    assert_eq!(store.missing_manifests(noon() + 1.second()).await.unwrap(), [], "only of runs since then");
    assert_eq!(store.count_missing_manifests(run.id).await.unwrap(), 2);
    assert_eq!(store.manifest_of(&entries[1]).await.unwrap_err().kind, StateErrorKind::Missing);

    let wrong = RawManifest { bytes: late.bytes.clone(), ..lost.clone() };
    let refused = store.journal_manifests(&[late.clone(), wrong]).await.unwrap_err();
    assert_eq!(refused.kind, StateErrorKind::Corrupt);
    assert_eq!(store.count_missing_manifests(run.id).await.unwrap(), 2, "all or none");
    store.journal_manifests(std::slice::from_ref(&late)).await.unwrap();
    assert_eq!(store.manifest_of(&entries[1]).await.unwrap(), late);
    assert_eq!(digests(&store.missing_manifests(noon()).await.unwrap()), [&lost.digest]);
    assert_eq!(store.count_missing_manifests(run.id).await.unwrap(), 1);
}

#[tokio::test]
async fn a_hold_covers_what_is_journaled_without_bytes() {
    const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
    const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let (_folder, store) = fresh().await;
    let lease = lease(&store).await;
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    let (held, other) = (manifest("held"), manifest("other"));
    let incident = Hold {
        registry: "contoso".parse().unwrap(),
        endpoint: ENDPOINT.into(),
        repository: "shop/api".parse().unwrap(),
        tag: "held".parse().unwrap(),
        digest: Some(held.digest.clone()),
        reason: "incident".into(),
        by: "alice@here".into(),
        since: noon(),
        until: noon() + SignedDuration::from_hours(1),
        origin: HoldOrigin::Person,
    };
    store.hold(&incident).await.unwrap();
    // The tag, the image, and the type of the manifest. An index may contain the held image.
    for (tag, image, media_type, expected) in [
        ("held", &other, OCI_IMAGE, Some(StateErrorKind::Held)),
        ("moved", &held, OCI_IMAGE, Some(StateErrorKind::Held)),
        ("free", &other, OCI_IMAGE, None),
        ("index", &other, OCI_INDEX, Some(StateErrorKind::Missing)),
        ("index", &other, "application/vnd.example", Some(StateErrorKind::Missing)),
    ] {
        let removal = Intent { endpoint: Some(ENDPOINT.into()), media_type: media_type.into(), ..intent(tag, image) };
        let journaled = store.intend_without_manifest(&lease, run.id, &removal, noon()).await;
        assert_eq!(journaled.err().map(|error| error.kind), expected, "{tag} {media_type}");
    }
    assert_eq!(store.journal(run.id).await.unwrap().len(), 1);
}
