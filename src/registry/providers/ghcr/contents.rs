//! Versions of a package as tags and manifests of a repository.
//!
//! The list tells neither what a version is nor what it lists or refers to, so each of them may be an index until its bytes
//! were read. It tells when a digest was pushed, and when anything about it changed last; when a tag came to it lies in
//! between.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use super::versions::Row;
use super::wire::WireVersion;
use crate::domain::{
    CompactTime, Digest, Gap, GapTarget, ListedKind, ListedManifest, ManifestDetail, Repository, RepositoryName, Tag,
    TagName, UnlistedManifests, UnreadKind,
};
use crate::registry::client::list_gaps;
use crate::registry::client::listed_manifests::{listed_manifest, store_read};
use crate::registry::client::manifest_graph::read_cached_manifest;
use crate::registry::{ContentCache, RegistryError, RegistryErrorKind, RegistryReader};

/// The time in which a push gives an image all of its tags. A later change may be a tag that came to it.
const PUSH_TIME: SignedDuration = SignedDuration::from_mins(10);

/// Returns the facts of a repository, and the last changes of the manifests that no tag names.
pub(super) fn repository_of(
    name: &RepositoryName,
    rows: Vec<Row>,
    look_for: &BTreeSet<Digest>,
) -> (Repository, BTreeMap<Digest, Timestamp>) {
    let mut repository = Repository { unlisted: UnlistedManifests::None, ..Repository::empty(name.clone()) };
    let mut changes = BTreeMap::new();
    for row in rows {
        match row {
            Ok((digest, version)) => {
                if version.tags().is_empty() {
                    changes.insert(digest.clone(), version.changed_at());
                    repository.listed.push(untagged_row(digest));
                } else {
                    add_tagged(&mut repository, digest, &version);
                }
            }
            Err(why) => repository.gaps.push(invalid_version(name, &why)),
        }
    }
    repository.listed.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
    repository.tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    repository.include_listed(look_for);
    for digest in look_for.iter().filter(|digest| repository.manifests.contains_key(*digest)) {
        repository.untagged.insert(digest.clone(), changes.get(digest).copied());
    }
    repository.gaps.sort();
    (repository, changes)
}

fn untagged_row(digest: Digest) -> ListedManifest {
    ListedManifest { digest, media_type: "".into(), image_size: None, lock: None, kind: ListedKind::Index }
}

fn add_tagged(repository: &mut Repository, digest: Digest, version: &WireVersion) {
    for text in version.tags() {
        match text.parse::<TagName>() {
            Ok(name) => {
                let digest = Some(digest.clone());
                repository.tags.push(Tag { name, digest, pushed_at: None, first_seen: None, lock: None });
            }
            Err(why) => repository.gaps.push(list_gaps::invalid_tag(text, &why)),
        }
    }
    let mut manifest = listed_manifest("", ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index });
    if version.changed_at().duration_since(version.created_at) > PUSH_TIME {
        repository.latest_pushes.insert(digest.clone(), version.changed_at().into());
    } else {
        manifest.created_at = Some(CompactTime::from(version.created_at));
    }
    repository.manifests.insert(digest, manifest);
}

/// Returns the gap of a row that may hold any tag and list any manifest.
fn invalid_version(name: &RepositoryName, why: &str) -> Gap {
    let message = format!("the versions of {name} list one that cannot be understood: {why}");
    RegistryError::new(RegistryErrorKind::Malformed, message).into_gap(GapTarget::TagList)
}

/// Reads manifests that a repository lists, from the cache or the registry. Failures become gaps.
pub(super) async fn read_manifests(
    reader: &dyn RegistryReader,
    repository: &mut Repository,
    digests: &BTreeSet<Digest>,
    cache: &dyn ContentCache,
) {
    repository.include_listed(digests);
    let name = &repository.name.clone();
    let wanted = digests.iter().filter(|digest| repository.manifests.contains_key(*digest)).cloned();
    let wanted: Vec<Digest> = wanted.collect();
    let found: Vec<_> = stream::iter(wanted)
        .map(|digest| async move {
            let parsed = read_cached_manifest(cache, (name, &digest), reader.manifest(name, &digest)).await;
            (digest, parsed)
        })
        .buffer_unordered(reader.settings().concurrency.max(1))
        .collect()
        .await;
    let (mut read, mut missing) = (Vec::new(), BTreeSet::new());
    for (digest, parsed) in found {
        match parsed {
            Ok(Some(parsed)) => read.push((digest, parsed)),
            Ok(None) => drop(missing.insert(digest)),
            Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
        }
    }
    store_read(repository, read);
    list_gaps::drop_missing_manifests(reader, repository, missing).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::versions::parse;
    use super::*;

    #[test]
    fn a_tag_is_dated_only_where_nothing_changed_after_the_push() {
        let name: RepositoryName = "contoso/api".parse().unwrap();
        let digest = |word: &str| Digest::of(word.as_bytes());
        let row = |id: u64, word: &str, tags: &[&str], created: &str, updated: &str| {
            parse(json!({
                "id": id, "name": digest(word).to_string(), "created_at": created, "updated_at": updated,
                "metadata": { "package_type": "container", "container": { "tags": tags } },
            }))
        };
        let rows = vec![
            row(1, "settled", &["v1", "1"], "2026-01-01T00:00:00Z", "2026-01-01T00:09:00Z"),
            row(2, "changed", &["v2"], "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            row(3, "untagged", &[], "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ];
        let look_for = [digest("untagged")].into();
        let (repository, changes) = repository_of(&name, rows, &look_for);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(repository.gaps, []);
        let dated = repository.manifests[&digest("settled")].created_at.map(CompactTime::timestamp);
        assert_eq!(dated, Some(at("2026-01-01T00:00:00Z")));
        assert_eq!(repository.manifests[&digest("changed")].created_at, None);
        let bound = repository.latest_pushes.iter().map(|(digest, at)| (digest.clone(), at.timestamp()));
        assert_eq!(bound.collect::<Vec<_>>(), [(digest("changed"), at("2026-02-01T00:00:00Z"))]);
        assert_eq!(changes, [(digest("untagged"), at("2026-03-01T00:00:00Z"))].into());
        assert_eq!(repository.untagged[&digest("untagged")], Some(at("2026-03-01T00:00:00Z")));
        assert!(repository.manifests[&digest("untagged")].is_unread(), "it may be an index");
    }

    #[test]
    fn a_row_that_is_not_understood_leaves_every_tag_in_doubt() {
        let name: RepositoryName = "contoso/api".parse().unwrap();
        let (repository, _) = repository_of(&name, vec![Err("no tags".to_owned())], &BTreeSet::new());
        assert!(repository.gaps.iter().all(Gap::blocks_repository) && repository.gaps.len() == 1);
    }
}
