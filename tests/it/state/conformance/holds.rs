//! Holds: what they refuse, and what stays on record of each.

use jiff::ToSpan as _;
use tagwarden::domain::{Action, Digest, Hold, HoldOrigin, Intent};
use tagwarden::registry::RawManifest;
use tagwarden::state::{StateErrorKind, StateStore};

use super::{ENDPOINT, at_endpoint};
use crate::state::{intent, manifest, new_run, noon};
use crate::support::lease::lease;

fn hold(tag: &str, digest: Option<Digest>, hours: i64) -> Hold {
    Hold {
        registry: "contoso".parse().unwrap(),
        endpoint: ENDPOINT.into(),
        repository: "shop/api".parse().unwrap(),
        tag: tag.parse().unwrap(),
        digest,
        reason: "incident 42".into(),
        by: "ada@here".into(),
        since: noon(),
        until: noon() + hours.hours(),
        origin: HoldOrigin::Person,
    }
}

pub(super) async fn holds(store: &StateStore) {
    let (lease, run, image) = (lease(store).await, new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    let by_digest = hold("v1", Some(image.digest.clone()), 5);
    assert!(store.hold(&by_digest).await.unwrap());
    assert!(!store.hold(&hold("v1", Some(image.digest.clone()), 4)).await.unwrap(), "never shortened");
    assert!(store.hold(&hold("other", None, 1)).await.unwrap());
    assert_eq!(store.holds(noon()).await.unwrap(), [hold("other", None, 1), by_digest.clone()]);
    assert_eq!(store.holds(noon() + 1.hour()).await.unwrap(), [by_digest], "the end is exclusive");

    let intend = async |intent: &Intent, image: &RawManifest, now| {
        store.intend(&lease, run.id, intent, image, now).await.map(drop).map_err(|error| error.kind)
    };
    let held = Err(StateErrorKind::Held);
    let free = manifest("2");
    assert_eq!(intend(&at_endpoint("v1", &free), &free, noon()).await, held, "by its tag");
    assert_eq!(intend(&at_endpoint("v2", &image), &image, noon()).await, held, "by its digest");
    assert_eq!(intend(&at_endpoint("other", &free), &free, noon()).await, held);
    assert_eq!(intend(&at_endpoint("other", &free), &free, noon() + 1.hour()).await, Ok(()), "it is over");
    assert_eq!(intend(&at_endpoint("v2", &free), &free, noon()).await, Ok(()));
    let elsewhere = Intent { endpoint: Some("https://elsewhere.example".into()), ..intent("v1", &image) };
    assert_eq!(intend(&elsewhere, &image, noon()).await, Ok(()));
    let restore = Intent { action: Action::Restore, ..at_endpoint("v1", &image) };
    assert_eq!(intend(&restore, &image, noon()).await, Ok(()), "only removals are refused");

    let (repository, tag) = ("shop/api".parse().unwrap(), "v1".parse().unwrap());
    assert_eq!(store.end_holds(ENDPOINT, &repository, &tag, "ada@here", noon()).await.unwrap(), 1);
    assert_eq!(store.end_holds(ENDPOINT, &repository, &tag, "ada@here", noon()).await.unwrap(), 0);
    assert_eq!(intend(&at_endpoint("v1", &image), &image, noon()).await, Ok(()));

    let over = async |at| {
        let ended = store.ended_holds(at).await.unwrap();
        ended.into_iter().map(|one| (one.hold.tag.to_string(), one.ended_at, one.ended_by)).collect::<Vec<_>>()
    };
    let by_person = ("v1".to_owned(), noon(), Some("ada@here".to_owned()));
    assert_eq!(over(noon()).await, std::slice::from_ref(&by_person));
    let by_time = ("other".to_owned(), noon() + 1.hour(), None);
    assert_eq!(over(noon() + 1.hour()).await, [by_time.clone(), by_person.clone()], "the last ended first");

    // The same person prolongs it for the same reason; with another, or by somebody else, it is another hold.
    let first = hold("v9", None, 3);
    let longer = Hold { since: noon() + 1.hour(), ..hold("v9", None, 4) };
    let later = noon() + 2.hours();
    let other = Hold { by: "bob@there".into(), reason: "a test".into(), since: later, ..hold("v9", None, 6) };
    let again = Hold { since: noon() + 7.hours(), until: noon() + 8.hours(), ..other.clone() };
    for set in [&first, &longer] {
        assert!(store.hold(set).await.unwrap());
    }
    assert_eq!(store.holds(later).await.unwrap(), [Hold { until: longer.until, ..first.clone() }]);
    assert!(store.hold(&other).await.unwrap());
    assert_eq!(store.holds(later).await.unwrap(), std::slice::from_ref(&other));
    assert!(store.hold(&again).await.unwrap(), "the one before is over");
    assert_eq!(store.holds(noon() + 7.hours()).await.unwrap(), [again]);
    let replaced = ("v9".to_owned(), later, Some("bob@there".to_owned()));
    let expired = ("v9".to_owned(), noon() + 6.hours(), None);
    assert_eq!(over(noon() + 7.hours()).await, [expired, replaced, by_time, by_person]);
}
