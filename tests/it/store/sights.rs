//! First sights of tags.

use tagwarden::domain::{Digest, Gap, GapAt, Inventory, Moment, Registry, Repository, Tag};

use super::{at, fresh, noon};

/// An inventory of one repository: tag, digest (by name) and whether it has a push time.
fn inventory(tags: &[(&str, Option<&str>, bool)], complete: bool) -> Inventory {
    let mut repository = Repository::empty("shop/api".parse().unwrap());
    repository.tags = tags
        .iter()
        .map(|(name, digest, pushed)| Tag {
            name: name.parse().unwrap(),
            digest: digest.map(|text| Digest::of(text.as_bytes())),
            pushed_at: pushed.then(|| noon().into()),
            first_seen: None,
            lock: None,
        })
        .collect();
    if !complete {
        repository.gaps.push(Gap { at: GapAt::TagList, kind: "http-500", message: "cut".into() });
    }
    Inventory {
        registries: vec![Registry {
            repositories: vec![repository],
            ..Registry::empty("contoso".parse().unwrap(), "distribution")
        }],
    }
}

#[tokio::test]
async fn tags_are_first_seen_when_they_appear_or_move() {
    type Look<'a> = (&'a str, bool, &'a [(&'a str, Option<&'a str>, bool)], &'a [Option<&'a str>]);
    let looks: [Look; 9] = [
        // An incomplete list is no first look.
        ("2026-11-01T00:00:00Z", false, &[("a", Some("1"), false)], &[None]),
        ("2026-11-02T00:00:00Z", true, &[("a", Some("1"), false), ("b", Some("1"), false)], &[None, None]),
        // `b` moved, `c` is new, `d` has a push time.
        (
            "2026-11-03T00:00:00Z",
            true,
            &[("a", Some("1"), false), ("b", Some("2"), false), ("c", Some("1"), false), ("d", Some("1"), true)],
            &[None, Some("2026-11-03T00:00:00Z"), Some("2026-11-03T00:00:00Z"), None],
        ),
        // An incomplete list forgets no tag; an unread digest neither.
        (
            "2026-11-04T00:00:00Z",
            false,
            &[("b", None, false), ("e", Some("1"), false)],
            &[None, Some("2026-11-04T00:00:00Z")],
        ),
        // The clock was set back: what is recorded stays.
        (
            "2026-01-01T00:00:00Z",
            true,
            &[("a", Some("1"), false), ("b", Some("2"), false), ("c", Some("1"), false), ("e", Some("1"), false)],
            &[None, Some("2026-11-03T00:00:00Z"), Some("2026-11-03T00:00:00Z"), Some("2026-11-04T00:00:00Z")],
        ),
        // All but `a` are gone, and forgotten.
        ("2026-11-06T00:00:00Z", true, &[("a", Some("1"), false)], &[None]),
        (
            "2026-11-07T00:00:00.000000001Z",
            true,
            &[("a", Some("3"), false), ("b", Some("2"), false)],
            &[Some("2026-11-07T00:00:00.000000001Z"), Some("2026-11-07T00:00:00.000000001Z")],
        ),
        // A tag that moves back was not there since it was last at that digest.
        (
            "2026-11-08T00:00:00Z",
            true,
            &[("a", Some("1"), false), ("b", Some("2"), false)],
            &[Some("2026-11-08T00:00:00Z"), Some("2026-11-07T00:00:00.000000001Z")],
        ),
        ("2026-11-09T00:00:00Z", true, &[], &[]),
    ];
    let (_folder, store) = fresh().await;
    for (now, complete, tags, expected) in looks {
        let mut inventory = inventory(tags, complete);
        store.observe(&mut inventory, at(now)).await.unwrap();
        let seen: Vec<_> = inventory.registries[0].repositories[0]
            .tags
            .iter()
            .map(|tag| tag.first_seen.map(Moment::timestamp))
            .collect();
        assert_eq!(seen, expected.iter().map(|time| time.map(at)).collect::<Vec<_>>(), "at {now}");
    }
}
