//! Proof of absence: a 404 may be transient, so it counts only if the repository itself answers as well.

use crate::domain::{Digest, RepositoryName, SkipReason, TagName};
use crate::registry::{RegistryError, RegistryErrorKind, RegistryReader};

/// Returns true if a tag that was not found is really absent. That is so if the repository lists its tags without it,
/// if its manifest exists without it, or if the registry lists repositories and this one is not among them.
///
/// # Errors
/// Returns an error if the registry does not answer that.
pub(super) async fn is_tag_absent(
    reader: &dyn RegistryReader,
    repository: &RepositoryName,
    tag: &TagName,
    digest: &Digest,
) -> Result<bool, RegistryError> {
    if let Some(listed) = if_known(reader.lists_tag(repository, tag).await)? {
        return Ok(!listed);
    }
    if reader.has_manifest(repository, digest).await? {
        return Ok(true);
    }
    Ok(list_repositories(reader).await?.is_some_and(|known| !known.contains(repository)))
}

/// Returns why a tag that is not found does not count as removed: the registry does not know its repository, which was renamed
/// or deleted, or is hidden from the identity by now. Returns `None` if the repository answers.
///
/// # Errors
/// Returns an error if the registry does not answer that.
pub(super) async fn unknown_repository(
    reader: &dyn RegistryReader,
    repository: &RepositoryName,
    tag: &TagName,
    digest: &Digest,
) -> Result<Option<String>, RegistryError> {
    match reader.lists_tag(repository, tag).await {
        Ok(_) => Ok(None),
        // A repository whose last tag is gone may be reported as unknown, and still answers for its manifests.
        Err(error) if error.kind == RegistryErrorKind::NotFound => {
            let answers = reader.has_manifest(repository, digest).await?;
            Ok((!answers).then(|| {
                format!(
                    "the registry does not know the repository {repository} any more, so its tags do not count as gone: {}; \
                     help: look whether it was renamed or deleted, and whether the identity may still read it",
                    error.chain()
                )
            }))
        }
        Err(error) => Err(error),
    }
}

/// Returns the reason to skip a tag that a removal on condition of its digest did not find: it moved, or it is gone.
pub(super) async fn skip_reason(
    reader: &dyn RegistryReader,
    repository: &RepositoryName,
    tag: &TagName,
    digest: &Digest,
) -> SkipReason {
    match reader.resolve(repository, tag).await {
        Ok(Some(now)) if now.digest != *digest => SkipReason::Moved { to: now.digest },
        _ => SkipReason::Missing,
    }
}

/// Returns whether a manifest that was not found is really gone: its repository lists its tags, or the registry lists
/// repositories and the manifest is not found once more.
///
/// # Errors
/// Returns an error if the registry does not answer that.
pub(super) async fn is_manifest_absent(
    reader: &dyn RegistryReader,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<bool, RegistryError> {
    let answers = if_known(reader.verify_readable(repository).await)?.is_some();
    let answers = answers || list_repositories(reader).await?.is_some();
    Ok(answers && !reader.has_manifest(repository, digest).await?)
}

/// Returns the answer about a repository, or `None` if the registry does not know it. It may have been deleted with its last
/// manifest, and Azure Container Registry may report one without tags as unknown.
fn if_known<T>(answer: Result<T, RegistryError>) -> Result<Option<T>, RegistryError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind == RegistryErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns all repositories, or `None` if the list may be incomplete. An empty one is more likely wrong than true.
async fn list_repositories(reader: &dyn RegistryReader) -> Result<Option<Vec<RepositoryName>>, RegistryError> {
    let catalogue = reader.catalogue().await?;
    let whole = catalogue.gaps.is_empty() && !catalogue.repositories.is_empty();
    Ok(whole.then_some(catalogue.repositories))
}
