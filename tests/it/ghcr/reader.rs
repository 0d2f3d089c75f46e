//! Reading, answer by answer.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::Value;
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{self, Format, artifact, companion_tag, media_type};
use tagwarden::demo::registry::{Fault, FaultKind, GithubToken};
use tagwarden::domain::{Digest, GapTarget, ManifestDetail, RemovalObstacle};
use tagwarden::registry::{RegistryErrorKind, connect};

use super::{
    API, SCOPES, TOKEN, connection, image as build, name, noon, options, put, read, reader, refusal, request_counts,
    secondary_limit, settings, start,
};
use crate::registry::{gaps, quick, tag};
use crate::support::memory::MemoryCache;

#[tokio::test]
async fn one_list_tells_versions_with_all_of_their_tags() {
    let registry = start(options()).await;
    let (one, amd64, loose) = (build("one", 9), build("amd64", 9), build("loose", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&amd64));
    put(&registry, API, "v1", &one, 5);
    assert!(registry.move_tag(API, "stable", &one.digest));
    put(&registry, API, "multi", &index, 4);
    registry.content(|content| content.put_image(API, None, &loose));
    let changed = noon() - SignedDuration::from_hours(24);
    registry.ghcr(|ghcr| ghcr.date_version(API, &index.digest, changed - SignedDuration::from_hours(72), changed));
    let found = read(&registry).await;
    assert_eq!(request_counts(&registry), (3, 0), "the owner, the number of versions, and a page");
    assert_eq!(found.gaps, []);
    let tags: Vec<_> = found.tags.iter().map(|tag| (tag.name.as_str(), tag.digest.as_ref().unwrap())).collect();
    assert_eq!(tags, [("multi", &index.digest), ("stable", &one.digest), ("v1", &one.digest)]);
    assert!(found.tags.iter().all(|tag| tag.pushed_at.is_none()), "the pushes of tags are not known");
    let of = |image: &image::Image| &found.manifests[&image.digest];
    assert_eq!(of(&one).created_at.unwrap().timestamp(), noon() - SignedDuration::from_hours(5 * 24));
    assert_eq!(of(&index).created_at, None, "a tag may have come to it since");
    assert_eq!(found.latest_pushes[&index.digest].timestamp(), changed);
    assert!(matches!(of(&one).detail, ManifestDetail::Unread { .. }), "nothing tells that it is not an index");
    let listed: BTreeSet<_> = found.listed.iter().map(|row| row.digest.clone()).collect();
    assert_eq!(listed, [loose.digest.clone(), amd64.digest.clone()].into());
}

#[tokio::test]
async fn manifests_are_read_on_demand_and_keep_what_the_list_said() {
    let registry = start(options()).await;
    let (amd64, one) = (build("amd64", 9), build("one", 9));
    let index = image::index(Format::Oci, std::slice::from_ref(&amd64));
    put(&registry, API, "multi", &index, 5);
    put(&registry, API, "v1", &one, 4);
    let (reader, cache) = (reader(&registry), MemoryCache::default());
    let mut found = reader.repository(&name(API), &BTreeSet::new(), &cache).await;
    registry.clear_requests();
    let wanted = [index.digest.clone(), one.digest.clone()].into();
    reader.read_manifests(&mut found, &wanted, &cache).await;
    assert_eq!(request_counts(&registry), (0, 2));
    assert_eq!((found.gaps.len(), found.listed.len()), (0, 0));
    let manifest = &found.manifests[&index.digest];
    assert_eq!((manifest.detail, manifest.children.as_slice()), (ManifestDetail::Full, &[amd64.digest.clone()][..]));
    assert!(manifest.created_at.is_some());
    reader.read_manifests(&mut found, &wanted, &cache).await;
    assert_eq!(request_counts(&registry), (0, 2), "they are in the cache");
}

/// Puts versions, the newest last, and returns their digests in the order in which GitHub lists them.
fn fill(registry: &tagwarden::demo::registry::EmbeddedRegistry, count: i64) -> Vec<Digest> {
    let put = |number: i64| put(registry, API, &format!("v{number}"), &build(&format!("v{number}"), 9), 500 - number);
    let mut digests: Vec<Digest> = (0..count).map(put).collect();
    digests.reverse();
    digests
}

#[tokio::test]
async fn long_lists_are_read_to_their_end_between_two_looks() {
    let registry = start(options()).await;
    let digests = fill(&registry, 250);
    let reader = reader(&registry);
    let found = reader.repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!((found.tags.len(), found.gaps.len()), (250, 0));
    // Owner, the number of versions, two looks, three pages.
    assert_eq!(request_counts(&registry).0, 1 + 1 + 2 + 3);
    registry.clear_requests();
    assert_eq!(reader.catalogue().await.unwrap().repositories, [name(API)]);
    let again = reader.repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!(again, found);
    // The list of packages said that there is more than a page.
    assert_eq!(request_counts(&registry).0, 1 + 2 + 3);
    assert_eq!(digests.len(), 250);
}

#[tokio::test]
async fn a_version_that_moves_to_a_page_that_was_read_is_not_missed() {
    let registry = start(options()).await;
    let digests = fill(&registry, 250);
    let gone = digests[7].clone();
    // It is on the first page. Without it, the first of the second page moves there, after that was read.
    let change = FaultKind::before_request(move |content| {
        assert!(content.delete_manifest(API, &gone));
    });
    registry.inject(Fault::on("per_page=100&page=2", change).times(1));
    let found = read(&registry).await;
    assert_eq!((found.tags.len(), found.gaps.len()), (249, 0));
    let missed: Vec<&Digest> = digests.iter().filter(|digest| !found.manifests.contains_key(*digest)).collect();
    assert_eq!(missed, [&digests[7]]);
}

#[tokio::test]
async fn a_list_that_changes_each_time_is_a_gap() {
    let registry = start(options()).await;
    fill(&registry, 150);
    let number = std::sync::atomic::AtomicUsize::new(0);
    let change = FaultKind::before_request(move |content| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        content.put_image(API, Some(&format!("new-{number}")), &build(&format!("new-{number}"), 0));
    });
    registry.inject(Fault::on("per_page=100&page=2", change));
    let found = read(&registry).await;
    assert_eq!(gaps(&found.gaps), [(GapTarget::TagList, "malformed")]);
    assert!(found.gaps[0].message.contains("came and went"), "{}", found.gaps[0].message);
    assert_eq!((found.tags.len(), found.listed.len()), (0, 0));
}

/// Leaves out one version, as if it did not exist.
fn leave_out(json: &mut Value) {
    if let Some(rows) = json.as_array_mut() {
        rows.retain(|row| row["metadata"]["container"]["tags"][0] != "v3");
    }
}

/// Has one version in the place of another.
fn repeat(json: &mut Value) {
    if let Some(rows) = json.as_array_mut() {
        rows[2] = rows[1].clone();
    }
}

#[tokio::test]
async fn a_list_with_fewer_versions_than_github_counts_is_a_gap() {
    for count in [5, 150] {
        for (edit, phrase) in [
            (leave_out as fn(&mut Value), format!("it has {} of the {count} versions that GitHub counts", count - 1)),
            (repeat, "versions came and went".to_owned()),
        ] {
            let registry = start(options()).await;
            fill(&registry, count);
            let reader = reader(&registry);
            reader.catalogue().await.unwrap();
            registry.inject(Fault::on("per_page=100", FaultKind::EditedJson(edit)));
            for reader in [reader, self::reader(&registry)] {
                let found = reader.repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await;
                assert_eq!(gaps(&found.gaps), [(GapTarget::TagList, "malformed")], "{count}: {phrase}");
                assert!(found.gaps[0].message.contains(&phrase), "{}", found.gaps[0].message);
                assert!(found.gaps[0].blocks_repository() && found.tags.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn a_number_of_versions_that_changed_since_is_counted_again() {
    for count in [5, 150] {
        let registry = start(options()).await;
        let digests = fill(&registry, count);
        let reader = reader(&registry);
        reader.catalogue().await.unwrap();
        registry.content(|content| assert!(content.delete_manifest(API, &digests[1])));
        let found = reader.repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await;
        assert_eq!((found.tags.len(), found.gaps.len()), (usize::try_from(count).unwrap() - 1, 0));
        for number in 0..2 {
            put(&registry, API, &format!("new-{number}"), &build(&format!("new {number}"), 1), 1);
        }
        let found = reader.repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await;
        assert_eq!((found.tags.len(), found.gaps.len()), (usize::try_from(count).unwrap() + 1, 0));
    }
}

/// A proxy that drops the links to the other pages.
#[tokio::test]
async fn pages_without_links_are_read_to_their_end() {
    let uncounted = |json: &mut Value| drop(json.as_object_mut().map(|package| package.remove("version_count")));
    for counted in [true, false] {
        for count in [99, 100, 150, 200] {
            let registry = start(options()).await;
            fill(&registry, count);
            registry.inject(Fault::on("/versions", FaultKind::CutShort(usize::MAX)));
            if !counted {
                registry.inject(Fault::on("/container/api", FaultKind::EditedJson(uncounted)));
            }
            let found = read(&registry).await;
            assert_eq!(found.tags.len(), usize::try_from(count).unwrap(), "{counted}: {:?}", found.gaps);
            assert_eq!(found.gaps, []);
        }
    }
}

#[tokio::test]
async fn a_404_is_never_an_absence() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    put(&registry, API, "v2", &build("two", 9), 4);
    let reader = reader(&registry);
    reader.repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await;
    registry.ghcr(|ghcr| {
        ghcr.options.hidden.insert(API.to_owned());
    });
    let found = read(&registry).await;
    assert_eq!(gaps(&found.gaps), [(GapTarget::TagList, "denied")]);
    assert!(found.gaps[0].message.contains("`read:packages`"), "{}", found.gaps[0].message);
    for error in [
        reader.tags(&name(API)).await.unwrap_err(),
        reader.resolve(&name(API), &tag("v1")).await.unwrap_err(),
        reader.manifest_state(&name(API), &one.digest).await.unwrap_err(),
        reader.has_manifest(&name(API), &one.digest).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, RegistryErrorKind::Denied, "{}", error.chain());
    }
    // The API alone forgets the version: the registry has it.
    registry.ghcr(|ghcr| ghcr.options.hidden.clear());
    let not_found = refusal(404, "Package not found.", &[]);
    registry.inject(Fault::on("/versions", not_found));
    let error = reader.manifest_state(&name(API), &one.digest).await.unwrap_err();
    assert!(error.chain().contains("`read:packages`"), "{}", error.chain());
}

#[tokio::test]
async fn single_looks_answer_what_is_there_now() {
    let registry = start(options()).await;
    let (one, two) = (build("one", 9), build("two", 9));
    put(&registry, API, "v1", &one, 5);
    put(&registry, API, "v2", &build("other", 9), 4);
    let (reader, repository) = (reader(&registry), name(API));
    let state = reader.manifest_state(&repository, &one.digest).await.unwrap().unwrap();
    assert_eq!(state.tags, [tag("v1")], "found by the list, the first time");
    registry.clear_requests();
    assert!(registry.move_tag(API, "stable", &one.digest));
    let state = reader.manifest_state(&repository, &one.digest).await.unwrap().unwrap();
    assert_eq!(state.tags, [tag("stable"), tag("v1")]);
    assert_eq!(request_counts(&registry), (1, 0), "and then by its id");
    assert_eq!(reader.manifest_state(&repository, &two.digest).await.unwrap(), None);
    assert_eq!(reader.resolve(&repository, &tag("v1")).await.unwrap().unwrap().digest, one.digest);
    assert_eq!(reader.resolve(&repository, &tag("v3")).await.unwrap(), None);
    assert_eq!(reader.tags(&repository).await.unwrap(), [tag("stable"), tag("v1"), tag("v2")]);
    let raw = reader.manifest(&repository, &one.digest).await.unwrap().unwrap();
    assert_eq!((raw.bytes.to_vec(), &*raw.media_type), (one.bytes.to_vec(), one.media_type));
    // Pushed anew after a deletion, it is another version.
    registry.content(|content| {
        assert!(content.delete_manifest(API, &one.digest));
        content.put_image(API, Some("v1"), &one);
    });
    let state = reader.manifest_state(&repository, &one.digest).await.unwrap().unwrap();
    assert_eq!(state.tags, [tag("v1")]);
}

#[tokio::test]
async fn referrers_are_found_under_their_fallback_tag() {
    let registry = start(options()).await;
    let one = build("one", 9);
    put(&registry, API, "v1", &one, 5);
    let note = artifact("a/note", (media_type::SPDX, Blob::of("note")), Some(&one), &[]);
    let (reader, repository) = (reader(&registry), name(API));
    assert_eq!(reader.referrers(&repository, &one.digest).await.unwrap(), []);
    let index = image::index(Format::Oci, std::slice::from_ref(&note));
    put(&registry, API, &companion_tag(&one.digest, ""), &index, 5);
    assert_eq!(reader.referrers(&repository, &one.digest).await.unwrap(), std::slice::from_ref(&note.digest));
}

#[tokio::test]
async fn each_token_reads_what_it_may() {
    let registry = start(
        options()
            .token(GithubToken::classic("ghp_reader", "bot", &["read:packages"]))
            .token(GithubToken::classic("ghp_none", "bot", &["repo"]))
            .token(GithubToken::classic("ghp_grace", "grace", &SCOPES))
            .token(GithubToken::of_workflow("ghs_workflow")),
    )
    .await;
    for owner in ["contoso/api", "grace/own", "ada/tools"] {
        put(&registry, owner, "v1", &build(owner, 9), 5);
    }
    let connection = |token: &str, names: &[&str], owners: &[&str]| {
        let settings = settings(&registry.url(), token);
        let repositories = names.iter().map(|text| name(text)).collect();
        let namespaces = owners.iter().map(|owner| (*owner).to_owned()).collect();
        connect(tagwarden::registry::RegistrySettings { repositories, namespaces, ..settings }, quick()).unwrap()
    };
    let read = async |token: &str, owner: &str| {
        let found = connection(token, &[], &[owner]).reader().catalogue().await;
        found.map(|found| found.repositories).map_err(|error| error.chain())
    };
    assert_eq!(read(TOKEN, "contoso").await, Ok(vec![name("contoso/api")]));
    assert_eq!(read(TOKEN, "ada").await, Ok(vec![name("ada/tools")]));
    assert_eq!(read("ghp_grace", "grace").await, Ok(vec![name("grace/own")]));
    let asked = registry.requests().iter().any(|request| request.path.starts_with("/api/v3/user/packages"));
    assert!(asked, "a user sees more of their own packages");
    assert!(read("ghp_none", "contoso").await.unwrap_err().contains("`read:packages`"));
    assert!(read("ghp_wrong", "contoso").await.unwrap_err().contains("expired"));
    assert!(read("ghs_workflow", "contoso").await.unwrap_err().contains("`repositories`"));
    let named = connection("ghs_workflow", &["contoso/api"], &[]).reader();
    assert_eq!(named.catalogue().await.unwrap().repositories, [name("contoso/api")]);
    let found = named.repository(&name("contoso/api"), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!((found.tags.len(), found.gaps.len()), (1, 0));

    // What a token may not delete is known where GitHub tells its scopes.
    for (token, denied) in [(TOKEN, false), ("ghp_reader", true), ("ghs_workflow", false)] {
        let reader = connection(token, &["contoso/api"], &[]).reader();
        reader.repository(&name("contoso/api"), &BTreeSet::new(), &MemoryCache::default()).await;
        let missing = reader.missing_rights(&[name("contoso/api")]).await;
        let told = missing.values().any(
            |obstacle| matches!(obstacle, RemovalObstacle::Denied { message } if message.contains("`delete:packages`")),
        );
        assert_eq!(told, denied, "{token}: {missing:?}");
    }
}

#[tokio::test]
async fn limits_are_waited_for_or_named() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &build("one", 9), 5);
    registry.inject(Fault::on("/versions", secondary_limit()).times(5));
    let connection = connection(&registry);
    let reader = connection.reader();
    let found = reader.repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await;
    assert_eq!((found.tags.len(), found.gaps.len()), (1, 0));
    assert_eq!(reader.request_counts().throttled, 5);
    // The hour is used up, and is over in an hour.
    registry.clear_faults();
    registry.ghcr(|ghcr| ghcr.options.hourly_limit = 3);
    let found = read(&registry).await;
    assert_eq!(gaps(&found.gaps), [(GapTarget::TagList, "throttled")]);
    assert!(found.gaps[0].message.contains("API rate limit exceeded"), "{}", found.gaps[0].message);
    registry.advance_time(SignedDuration::from_hours(1));
    assert_eq!(read(&registry).await.gaps, []);
}

#[tokio::test]
async fn what_cannot_be_read_is_a_gap() {
    for (fault, phrase) in [
        (FaultKind::status(502), "502"),
        (FaultKind::InvalidJson, "cannot be understood"),
        (FaultKind::HtmlPage, "cannot be understood"),
        (FaultKind::CutBody, "cut in the answer"),
        (refusal(403, "Must have admin rights to Repository.", &[]), "`read:packages`"),
    ] {
        let registry = start(options()).await;
        put(&registry, API, "v1", &build("one", 9), 5);
        registry.inject(Fault::on("/versions", fault.clone()));
        let found = read(&registry).await;
        assert_eq!((found.gaps.len(), found.tags.len()), (1, 0), "{fault:?}");
        assert_eq!(found.gaps[0].target, GapTarget::TagList, "{fault:?}");
        assert!(found.gaps[0].message.contains(phrase), "{fault:?}: {}", found.gaps[0].message);
    }
}
