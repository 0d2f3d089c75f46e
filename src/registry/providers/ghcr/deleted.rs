//! Deleted versions, which GitHub restores for a while.

use super::api::GhcrApi;
use super::version_book::{DeletedBook, DeletedVersions};
use super::versions::parse;
use super::wire::{Right, WireVersion};
use crate::domain::{Digest, RepositoryName, TagName};
use crate::registry::client::pull;
use crate::registry::{RegistryError, RegistryErrorKind};

impl GhcrApi {
    /// Returns the deleted version of a digest, if GitHub still lists one. A repository is listed once, because each digest
    /// that GitHub no longer has would list all of them again.
    ///
    /// # Errors
    /// Returns an error if GitHub does not answer.
    pub(super) async fn deleted_version<'b>(
        &self,
        book: &'b mut DeletedBook,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<&'b WireVersion>, RegistryError> {
        if !book.contains_key(repository) {
            book.insert(repository.clone(), self.list_deleted(repository).await?);
        }
        Ok(book.get(repository).and_then(|known| known.get(digest)))
    }

    /// Returns true if GitHub can restore the version of a digest under a tag, and with it no tag that names another image by
    /// now.
    ///
    /// # Errors
    /// Returns an error if GitHub does not answer.
    pub(super) async fn is_restorable(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let mut book = self.shared.deleted.lock().await;
        let Some(version) = self.deleted_version(&mut book, repository, digest).await? else { return Ok(false) };
        Ok(self.occupied_tag(repository, Some(tag), version).await?.is_none())
    }

    /// Returns another tag of a deleted version that names something by now. A restore could move it back.
    ///
    /// # Errors
    /// Returns an error if the registry does not answer.
    pub(super) async fn occupied_tag(
        &self,
        repository: &RepositoryName,
        tag: Option<&TagName>,
        version: &WireVersion,
    ) -> Result<Option<String>, RegistryError> {
        for other in version.tags().iter().filter(|other| tag.is_none_or(|tag| tag.as_str() != other.as_str())) {
            let Ok(name) = other.parse::<TagName>() else { return Ok(Some(other.clone())) };
            if pull::resolve(&self.registry, repository, &name).await?.is_some() {
                return Ok(Some(other.clone()));
            }
        }
        Ok(None)
    }

    /// Returns the versions that GitHub still has. Empty where it does not list them: then they can only be pushed.
    async fn list_deleted(&self, repository: &RepositoryName) -> Result<DeletedVersions, RegistryError> {
        let path = format!("{}/versions", self.package_path(repository).await?);
        let rows = match self.list(&path, &[("state", "deleted")], Right::Restore).await {
            Ok(rows) => rows,
            Err(error) if error.kind == RegistryErrorKind::Denied => {
                tracing::warn!(%repository, error = error.chain(), "deleted versions cannot be listed, so they are pushed again");
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let mut deleted = DeletedVersions::new();
        for (digest, version) in rows.into_iter().filter_map(|row| parse(row).ok()) {
            // The last one, where a digest was pushed and deleted several times.
            let known = deleted.entry(digest).or_insert_with(|| version.clone());
            if version.id > known.id {
                *known = version;
            }
        }
        Ok(deleted)
    }
}
