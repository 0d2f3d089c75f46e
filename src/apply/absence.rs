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
