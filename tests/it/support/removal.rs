//! Changes without a look before them, as only tests make them.

use tagwarden::domain::{Digest, RepositoryName, TagName};
use tagwarden::registry::{RawManifest, RegistryError, RegistryWriter, RemovalResponse};

/// Waits for what the removal of a tag has to wait for, and removes it.
pub(crate) async fn untag(
    writer: &impl RegistryWriter,
    repository: &RepositoryName,
    tag: &TagName,
) -> Result<RemovalResponse, RegistryError> {
    let clearance = writer.acquire_removal_permit(repository).await?;
    writer.untag(repository, tag, clearance).await
}

/// Waits for what the deletion of a manifest has to wait for, and deletes it.
pub(crate) async fn delete_manifest(
    writer: &impl RegistryWriter,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<RemovalResponse, RegistryError> {
    let clearance = writer.acquire_removal_permit(repository).await?;
    writer.delete_manifest(repository, digest, clearance).await
}

/// Waits for what a push has to wait for, and puts a manifest under a tag.
pub(crate) async fn put_tag(
    writer: &impl RegistryWriter,
    repository: &RepositoryName,
    tag: &TagName,
    manifest: &RawManifest,
) -> Result<(), RegistryError> {
    let clearance = writer.acquire_put_permit(repository).await?;
    writer.put_tag(repository, tag, manifest, clearance).await
}
