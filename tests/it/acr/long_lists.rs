//! Lists that are long enough to be read from several places at once, and what makes that be given up.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use tagwarden::demo::registry::{Attributes, EmbeddedRegistry, Fault, FaultKind, Target};
use tagwarden::domain::{GapTarget, Repository};
use tagwarden::registry::RegistryReader as _;

use super::{image, read, reader};
use crate::registry::{gaps, name, tag};
use crate::support::acr::{everything_allowed, start};
use crate::support::memory::MemoryCache;

const TAGS: usize = 4500;

/// A repository with that many tags, each pushed a minute after the one before, over two images.
async fn long() -> EmbeddedRegistry {
    let registry = start(everything_allowed()).await;
    let images = [image("one"), image("two")];
    registry.content(|content| {
        for n in 0..TAGS {
            // By time they stand in another order than by name.
            let name = format!("build-{:04}", n * 7 % TAGS);
            content.put_image("app", Some(&name), &images[0]);
            let then = content.now() - SignedDuration::from_mins(i64::try_from(2 * TAGS - n).unwrap());
            assert!(content.date_tag("app", &name, then, then));
        }
        content.put_image("app", Some("build-0000"), &images[1]);
    });
    registry
}

/// How many pages of tags were asked for by time, and by name.
fn pages(registry: &EmbeddedRegistry) -> (usize, usize) {
    let asked = registry.requests();
    let lists = asked.iter().filter(|request| request.path.contains("/_tags?"));
    let (by_time, by_name): (Vec<_>, Vec<_>) = lists.partition(|request| request.path.contains("orderby=time"));
    (by_time.len(), by_name.len())
}

fn complete(repository: &Repository) -> bool {
    let mut names: Vec<_> = repository.tags.iter().map(|tag| tag.name.to_string()).collect();
    names.dedup();
    names == (0..TAGS).map(|n| format!("build-{n:04}")).collect::<Vec<_>>()
}

#[tokio::test]
async fn two_walks_by_time_meet_and_miss_nothing() {
    let registry = long().await;
    let repository = read(&registry).await;
    assert!(complete(&repository));
    assert_eq!(repository.gaps, []);
    let (by_time, by_name) = pages(&registry);
    assert!((5..=8).contains(&by_time) && by_name == 0, "{by_time} {by_name}");
}

#[tokio::test]
async fn a_tag_that_moves_behind_the_back_of_a_walk_is_found_by_name() {
    for early in [2, 3] {
        let registry = long().await;
        let moved = image("two").digest;
        let at = moved.clone();
        // In the middle by time, where neither walk is yet.
        let name = format!("build-{:04}", (TAGS / 2) * 7 % TAGS);
        let of_tag = name.clone();
        let change = FaultKind::before_request(move |content| assert!(content.move_tag("app", &of_tag, &at)));
        registry.inject(Fault::on("/_tags?", change).after(early).times(1));
        let repository = read(&registry).await;
        assert!(complete(&repository));
        assert_eq!(repository.gaps, []);
        assert_eq!(repository.tag(&name).unwrap().digest, Some(moved));
        assert_eq!(pages(&registry).1, 5, "it was walked through by name");
    }
}

#[tokio::test]
async fn what_the_registry_counts_and_does_not_list_stays_a_gap() {
    let registry = long().await;
    registry.content(|content| {
        let attributes = content.attributes_mut("app", Target::Tag("build-0123")).unwrap();
        *attributes = Attributes { list: false, ..*attributes };
    });
    let repository = read(&registry).await;
    assert_eq!(repository.tags.len(), TAGS - 1);
    assert!(repository.tag(tag("build-0123").as_str()).is_none());
    assert_eq!(gaps(&repository.gaps), [(GapTarget::TagList, "malformed")]);
}

#[tokio::test]
async fn digests_are_read_in_parts_and_in_one_where_a_part_is_short() {
    let registry = start(everything_allowed()).await;
    let images: Vec<_> = (0..4100).map(|n| image(&format!("image-{n}"))).collect();
    registry.content(|content| {
        for (n, image) in images.iter().enumerate() {
            content.put_image("app", (n < 3000).then(|| format!("build-{n}")).as_deref(), image);
        }
    });
    let lists = |registry: &EmbeddedRegistry| {
        let asked = registry.requests();
        asked.iter().filter(|request| request.path.contains("/_manifests?")).count()
    };
    let whole = read(&registry).await;
    assert_eq!((whole.manifests.len(), lists(&registry)), (3000, 8), "those that a tag names, in eight parts");
    assert_eq!(whole.gaps, []);
    registry.clear_requests();
    let sought: BTreeSet<_> = images[2998..3002].iter().map(|image| image.digest.clone()).collect();
    let reader = reader(&registry.url());
    let looked = reader.repository(&name("app"), &sought, &MemoryCache::default()).await;
    assert_eq!((looked.manifests.len(), lists(&registry)), (3002, 8));
    assert_eq!(looked.untagged.keys().cloned().collect::<BTreeSet<_>>(), sought);
    registry.clear_requests();
    registry.inject(Fault::on("/_manifests?", FaultKind::CutShort(5)).after(3).times(1));
    assert_eq!(read(&registry).await, whole);
    assert_eq!(lists(&registry), 8 + 5);
}
