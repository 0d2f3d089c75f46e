//! First sights of tags.

use tagwarden::domain::{CompactTime, Digest, Gap, GapTarget, Inventory, Registry, Repository, Tag};
use tagwarden::state::{ObservationContext, StateStore};

use super::{at, fresh, noon};
use crate::support::old_state::old_state;

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
        repository.gaps.push(Gap {
            target: GapTarget::TagList,
            kind: "http-500",
            has_help: false,
            message: "cut".into(),
        });
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
            .map(|tag| tag.first_seen.map(CompactTime::timestamp))
            .collect();
        assert_eq!(seen, expected.iter().map(|time| time.map(at)).collect::<Vec<_>>(), "at {now}");
    }
}

#[tokio::test]
async fn a_repository_tells_the_look_at_which_its_oldest_tags_were_there() {
    type Look<'a> = (&'a str, bool, &'a [(&'a str, Option<&'a str>, bool)], Option<&'a str>);
    let looks: [Look; 5] = [
        // An incomplete list is no first look.
        ("2026-11-01T00:00:00Z", false, &[("a", Some("1"), false)], None),
        ("2026-11-02T00:00:00Z", true, &[("a", Some("1"), false)], Some("2026-11-02T00:00:00Z")),
        (
            "2026-11-05T00:00:00Z",
            true,
            &[("a", Some("1"), false), ("c", Some("1"), false)],
            Some("2026-11-02T00:00:00Z"),
        ),
        // `a` moved, so it came later; `d` has a push time.
        ("2026-11-06T00:00:00Z", true, &[("a", Some("2"), false), ("d", Some("1"), true)], None),
        ("2026-11-07T00:00:00Z", true, &[("d", Some("1"), true)], None),
    ];
    let (_folder, store) = fresh().await;
    for (now, complete, tags, expected) in looks {
        let mut inventory = inventory(tags, complete);
        store.observe(&mut inventory, at(now)).await.unwrap();
        let found = inventory.registries[0].repositories[0].first_read_at.map(CompactTime::timestamp);
        assert_eq!(found, expected.map(at), "at {now}");
    }
}

/// A registry at that address with those repositories, each with the tag `v1` of the same image.
fn at_endpoint(name: &str, endpoint: &str, repositories: &[&str]) -> Inventory {
    let mut found = inventory(&[("v1", Some("1"), false)], true);
    let registry = &mut found.registries[0];
    let one = registry.repositories.remove(0);
    registry.repositories = repositories
        .iter()
        .map(|name| {
            let mut repository = one.clone();
            repository.name = name.parse().unwrap();
            repository
        })
        .collect();
    registry.name = name.parse().unwrap();
    endpoint.clone_into(&mut registry.endpoint);
    found
}

fn cut(mut inventory: Inventory) -> Inventory {
    let gap = Gap { target: GapTarget::Catalogue, kind: "http-500", has_help: false, message: "cut".into() };
    inventory.registries[0].gaps.push(gap);
    inventory
}

/// The day of November on which each repository's tag was first seen; 0: it was there before.
async fn seen(store: &StateStore, mut inventory: Inventory, look: ObservationContext) -> Vec<i8> {
    store.observe_at(&mut inventory, &look).await.unwrap();
    let tags = inventory.registries.iter().flat_map(|registry| &registry.repositories).map(|found| &found.tags[0]);
    let day = |time: CompactTime| time.timestamp().to_zoned(jiff::tz::TimeZone::UTC).day();
    tags.map(|tag| tag.first_seen.map_or(0, day)).collect()
}

fn on(day: i8) -> ObservationContext {
    ObservationContext::at(at(&format!("2026-11-{day:02}T00:00:00Z")))
}

const HERE: &str = "https://registry.contoso.example";

/// A repository that was copied a minute ago is not as old as its images.
#[tokio::test]
async fn a_repository_that_appears_after_the_registrys_first_look_is_new_whatever_the_registry_is_called() {
    let (_folder, store) = fresh().await;
    let look = async |name, endpoint, repositories: &[&str], day| {
        seen(&store, at_endpoint(name, endpoint, repositories), on(day)).await
    };
    assert_eq!(look("contoso", HERE, &["api"], 1).await, [0]);
    assert_eq!(look("contoso", HERE, &["api", "copy"], 2).await, [0, 2]);
    // Another name, another spelling, and two names at once.
    assert_eq!(look("renamed", "https://REGISTRY.contoso.example:443/", &["api", "copy"], 3).await, [0, 2]);
    let mut both = at_endpoint("a", HERE, &["api", "third"]);
    both.registries.extend(at_endpoint("b", HERE, &["api", "copy", "third"]).registries);
    assert_eq!(seen(&store, both, on(4)).await, [0, 4, 0, 2, 4]);
    // Another registry under the old name.
    assert_eq!(look("contoso", "https://other.example", &["api", "copy"], 5).await, [0, 0]);
    assert_eq!(look("contoso", "http://registry.contoso.example", &["api"], 5).await, [0], "another scheme");
}

#[tokio::test]
async fn a_look_that_could_not_list_all_repositories_is_no_first_look() {
    let (_folder, store) = fresh().await;
    let of = |repositories: &[&str]| at_endpoint("contoso", HERE, repositories);
    assert_eq!(seen(&store, cut(of(&[])), on(1)).await, [0_i8; 0]);
    // As young as its first sight, until it is clear that it was there before.
    assert_eq!(seen(&store, cut(of(&["api"])), on(2)).await, [2]);
    assert_eq!(seen(&store, cut(of(&["api", "web"])), on(3)).await, [2, 3]);
    // One repository alone is no look at the registry.
    let only = ObservationContext { catalogue_read: false, ..on(4) };
    assert_eq!(seen(&store, of(&["job"]), only.clone()).await, [0]);
    assert_eq!(seen(&store, of(&["api", "job", "web"]), on(5)).await, [0, 0, 0]);
    assert_eq!(seen(&store, of(&["api", "job", "late", "web"]), on(6)).await, [0, 0, 6, 0]);
    assert_eq!(seen(&store, of(&["later"]), ObservationContext { catalogue_read: false, ..on(7) }).await, [7]);
    assert_eq!(seen(&store, cut(of(&["latest"])), on(8)).await, [8]);
}

#[tokio::test]
async fn a_repository_whose_tags_could_not_be_listed_at_the_first_look_was_there_all_the_same() {
    let (_folder, store) = fresh().await;
    let unlisted = |mut inventory: Inventory| {
        let gap = Gap { target: GapTarget::TagList, kind: "http-500", has_help: false, message: "cut".into() };
        inventory.registries[0].repositories[1].gaps.push(gap);
        inventory
    };
    let of = |repositories: &[&str]| at_endpoint("contoso", HERE, repositories);
    seen(&store, unlisted(of(&["api", "web"])), on(1)).await;
    assert_eq!(seen(&store, of(&["api", "web"]), on(2)).await, [0, 0]);
    // One that comes later is new even where its list is cut.
    assert_eq!(seen(&store, unlisted(of(&["api", "late"])), on(3)).await, [0, 3]);
    assert_eq!(seen(&store, of(&["api", "late"]), on(4)).await, [0, 3]);
}

#[tokio::test]
async fn a_clock_that_cannot_be_trusted_leaves_no_trace_and_one_that_was_ahead_is_corrected() {
    let (_folder, store) = fresh().await;
    let of = |repositories: &[&str]| at_endpoint("contoso", HERE, repositories);
    let untrusted = |day| ObservationContext { clock_skewed: ["contoso".parse().unwrap()].into(), ..on(day) };
    seen(&store, of(&["api", "web"]), untrusted(1)).await;
    assert_eq!(seen(&store, of(&["api"]), on(5)).await, [0], "that was the first look");
    assert_eq!(seen(&store, of(&["api", "web"]), untrusted(3)).await, [0, 3]);
    assert_eq!(seen(&store, of(&["api", "web"]), on(20)).await, [0, 20]);
    // Not by a clock that nobody confirms: that one may be the wrong one.
    assert_eq!(seen(&store, of(&["api", "web"]), on(10)).await, [0, 20]);
    let confirmed = |day| ObservationContext { clock_confirmed: true, ..on(day) };
    assert_eq!(seen(&store, of(&["api", "web"]), confirmed(11)).await, [0, 11]);
    assert_eq!(seen(&store, of(&["api", "web"]), confirmed(12)).await, [0, 11]);
}

/// What was recorded by the registry's name is found again by its endpoint.
#[tokio::test]
async fn a_state_of_before_keeps_its_first_sights() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.db");
    old_state(&path, 5).await;
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let digest = Digest::of(b"1").to_string();
    for statement in [
        "INSERT INTO addresses (registry, address) VALUES ('contoso', 'https://registry.contoso.example/'),
         ('second', 'https://registry.contoso.example/')",
        "INSERT INTO looks (id, registry, repository, first_look_at) VALUES
         (1, 'contoso', 'api', '2026-11-01T00:00:00.000000000Z'), (2, 'contoso', 'web', '2026-11-01T00:00:00.000000000Z'),
         (3, 'second', 'api', '2026-11-02T00:00:00.000000000Z'), (4, 'unknown', 'api', '2026-11-03T00:00:00.000000000Z')",
        "INSERT INTO observations (look, tag, digest, first_seen, at_first_look)
         SELECT id, 'v1', $1, '2026-11-0' || id || 'T00:00:00.000000000Z', id IN (1, 4) FROM looks",
        "INSERT INTO runs (id, kind, mode, started_at, started_by, version) VALUES
         ('01930000-0000-7000-8000-000000000002', 'plan', 'enforce', '2029-01-01T00:00:00.000000000Z', 'a@b', '0'),
         ('01930000-0000-7000-8000-000000000001', 'plan', 'enforce', '2026-11-20T00:00:00.000000000Z', 'a@b', '0')",
    ] {
        sqlx::query(statement).bind(&digest).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();

    let store = StateStore::open(&path).await.unwrap();
    let last = store.runs(1).await.unwrap().remove(0);
    assert_eq!(last.run.started_at, at("2026-11-20T00:00:00Z"), "the one that was recorded last");
    // `api` was at the first look under one name, and came under the other.
    assert_eq!(seen(&store, at_endpoint("contoso", HERE, &["api", "late", "web"]), on(9)).await, [3, 9, 2]);
    assert_eq!(seen(&store, at_endpoint("renamed", HERE, &["api", "web"]), on(10)).await, [3, 2]);
    let elsewhere = "https://elsewhere.example";
    assert_eq!(seen(&store, at_endpoint("unknown", elsewhere, &["api", "late"]), on(11)).await, [0, 11]);
    assert_eq!(seen(&store, at_endpoint("other", elsewhere, &["api"]), on(12)).await, [0]);
    assert_eq!(seen(&store, at_endpoint("unknown", "https://third.example", &["api"]), on(13)).await, [0]);
}
