//! Tags that stay and went with a manifest: somebody moved them onto it in the instant of its deletion.
//!
//! Where the registry names the tags that went with a manifest, they are put back at it. A list of tags only shows that one is
//! missing, which somebody else may have removed in the meantime: then nobody knows what it named, and it is reported.

use std::collections::BTreeSet;

use super::super::{ApplyContext, RemovalResult, RepositoryContext};
use crate::domain::{Action, Digest, Intent, Outcome, RemovalMethod, TagName};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind};
use crate::state::StateError;

/// The tags that a deletion concerns, as they were seen.
#[derive(Debug, Default)]
pub(super) struct SeenTags {
    /// Those right before it, as the registry listed or named them.
    pub(super) before: Vec<TagName>,
    /// Planned tags that were removed externally after they were journaled.
    pub(super) gone: Vec<TagName>,
    /// Those that went with the manifest, if the registry named them.
    pub(super) deleted: Option<Vec<TagName>>,
    /// Those of the repository right after it, if a list had to show whether it was done.
    pub(super) after: Option<Result<Vec<TagName>, RegistryError>>,
}

/// Restores tags that were removed without a task, because they were moved onto the manifest at the moment of its
/// deletion, and that the registry named. They are journaled as removed, so that `restore` can bring them back if this fails.
/// Returns the remaining damage.
pub(super) async fn restore_lost_tags(
    site: &RepositoryContext<'_>,
    manifest: &RawManifest,
    seen: &SeenTags,
    applied: &[RemovalResult],
) -> Result<Option<String>, StateError> {
    let digest = &manifest.digest;
    let ordered: BTreeSet<&TagName> = applied.iter().map(|applied| &applied.removal.tag).collect();
    if !site.registry.reader.names_deleted_tags() {
        let harm = missing_tags(site, digest, seen, &ordered).await;
        if let Some(why) = &harm {
            site.breaker.trip(why.clone());
        }
        return Ok(harm);
    }
    let deleted = seen.deleted.iter().flatten();
    let taken: Vec<TagName> = deleted.filter(|tag| !ordered.contains(tag)).cloned().collect();
    for tag in &taken {
        let intent = Intent {
            action: Action::Remove(RemovalMethod::DeleteManifest),
            registry: site.registry_name().clone(),
            endpoint: site.context.address(site.registry_name()),
            repository: site.repository.name.clone(),
            tag: tag.clone(),
            digest: digest.clone(),
            media_type: manifest.media_type.clone(),
            policy: None,
            evidence: "[]".to_owned(),
            date: None,
        };
        let outcome = Outcome::Done("it was moved onto a manifest in the instant of its deletion".to_owned());
        let ApplyContext { store, lease, run, .. } = site.context;
        store.record_not_attempted(lease, *run, &intent, &outcome, site.now()).await?;
    }
    let lost = site.restore_tags(&manifest.digest, Some(manifest), &taken).await?;
    if lost.is_empty() {
        return Ok(None);
    }
    let lost: Vec<&str> = lost.iter().map(TagName::as_str).collect();
    let (lost, repository) = (lost.join(", "), &site.repository.name);
    let why = format!(
        "{repository}: tags that stay went with {digest} and could not be put back: {lost}; help: grant the right to push, \
         then `tagwarden restore --run {}`",
        site.context.run
    );
    site.breaker.trip(why.clone());
    Ok(Some(why))
}

/// Looks by the list of the repository's tags whether one that stays is missing after a deletion. Returns an error message if
/// it may have gone with the manifest, or if that cannot be seen.
///
/// A tag whose own image is gone as well was removed by somebody else, together with it.
async fn missing_tags(
    site: &RepositoryContext<'_>,
    digest: &Digest,
    seen: &SeenTags,
    ordered: &BTreeSet<&TagName>,
) -> Option<String> {
    let (reader, repository) = (&site.registry.reader, &site.repository.name);
    let after = match &seen.after {
        Some(after) => after.clone(),
        None => reader.tags(repository).await,
    };
    let after = match after {
        Ok(after) => after,
        // A repository may be deleted with its last manifest. If it had other tags, that proves nothing about them.
        Err(error)
            if error.kind == RegistryErrorKind::NotFound && seen.before.iter().all(|tag| ordered.contains(tag)) =>
        {
            return None;
        }
        Err(error) => {
            return Some(format!("it could not be seen whether other tags went with {digest}: {}", error.chain()));
        }
    };
    let missing = seen.before.iter().filter(|tag| !ordered.contains(tag) && after.binary_search(tag).is_err());
    let mut doubtful = Vec::new();
    for tag in missing {
        // A list may be older than the tag's own answer.
        if matches!(reader.resolve(repository, tag).await, Ok(Some(_))) {
            continue;
        }
        let known = site.repository.tag(tag.as_str()).and_then(|tag| tag.digest.as_ref());
        if let Some(known) = known.filter(|known| *known != digest)
            && matches!(reader.has_manifest(repository, known).await, Ok(false))
        {
            tracing::warn!(
                registry = %site.registry_name(), %repository, %tag, digest = %known,
                "a tag that stays is missing: somebody else removed it with its image during the run"
            );
            continue;
        }
        let known = known.map_or_else(|| "it is not known at what".to_owned(), |known| format!("at {known}"));
        doubtful.push(format!("{tag} ({known} when it was read)"));
    }
    if doubtful.is_empty() {
        return None;
    }
    Some(format!(
        "{repository}: tags that stay are missing after {digest} was deleted: somebody removed them, or moved them onto it in that \
         instant, and they are not put back because nobody knows which image they named: {}; help: unless somebody removed \
         them on purpose, push them again",
        doubtful.join(", ")
    ))
}

/// Looks once, after all deletions in a repository whose registry names the tags that go with a manifest, whether a tag that
/// stays is missing. It may have gone with one of the manifests in `unnamed`, of which the registry did not name all tags:
/// then their removals have failed. Otherwise somebody else removed it, or the registry named too little.
pub(super) async fn report_missing_tags(
    site: &RepositoryContext<'_>,
    applied: &mut [RemovalResult],
    unnamed: &BTreeSet<Digest>,
) {
    let is_done = |applied: &RemovalResult| matches!(applied.outcome, Outcome::Done(_));
    if !applied.iter().any(is_done) {
        return;
    }
    let (registry, repository) = (site.registry_name(), &site.repository.name);
    let found = match site.registry.reader.tags(repository).await {
        Ok(after) => {
            let planned: BTreeSet<&TagName> = applied.iter().map(|applied| &applied.removal.tag).collect();
            let tags = site.repository.tags.iter().map(|tag| &tag.name);
            let missing: Vec<&str> = tags
                .filter(|tag| !planned.contains(tag) && after.binary_search(tag).is_err())
                .map(TagName::as_str)
                .collect();
            if missing.is_empty() {
                return;
            }
            format!(
                "{repository}: tags that stay are missing, and may have gone with a deleted image if somebody moved them onto \
                 it in that instant: {}; help: unless somebody else removed them, push them again",
                missing.join(", ")
            )
        }
        Err(error) => format!("it could not be seen whether other tags went along: {}", error.chain()),
    };
    tracing::warn!(%registry, %repository, found, "tags may have been lost");
    let may_have_taken = |applied: &&mut RemovalResult| is_done(applied) && unnamed.contains(&applied.removal.digest);
    for applied in applied.iter_mut().filter(may_have_taken) {
        site.breaker.trip(found.clone());
        applied.outcome = Outcome::Failed(found.clone());
    }
}
