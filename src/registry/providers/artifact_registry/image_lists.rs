//! The two lists of images: that of a whole repository, which answers for all images that a catalogue named, and that of one
//! image.
//!
//! Artifact Registry lists a repository with all of its images, a thousand rows in an answer. Where a catalogue was asked
//! for, each of its images is about to be read, so one such list serves all of them. What is read again later is read by
//! itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use super::address::{Image, Repository};
use super::api::{ArtifactApi, ListOf};
use super::images::{Images, ListedImage};
use super::wire::Right;
use crate::domain::RepositoryName;
use crate::registry::client::auth::TokenScope;
use crate::registry::{RegistryError, RegistryErrorKind};

/// Most pages of a repository's list that are held in memory. The images of a larger one are read one by one.
const MAX_SHARED_PAGES: usize = 50;
/// Most reads of a list in which tags move meanwhile.
const MAX_READS: usize = 3;

/// The lists of repositories whose images are about to be read.
#[derive(Debug, Default)]
pub(super) struct SharedLists(Mutex<BTreeMap<Repository, Arc<AsyncMutex<SharedList>>>>);

#[derive(Debug)]
struct SharedList {
    /// The packages that nobody read yet.
    awaited: BTreeSet<String>,
    rows: SharedRows,
}

#[derive(Debug)]
enum SharedRows {
    NotRead,
    /// By package.
    Read(HashMap<String, Images>),
    /// It is too long, or could not be read.
    Unusable,
}

impl SharedLists {
    /// Announces the packages that are about to be read, each of them once. What was announced before is forgotten.
    pub(super) fn announce(&self, packages: BTreeMap<Repository, BTreeSet<String>>) {
        let lists = packages.into_iter().map(|(repository, awaited)| {
            let list = SharedList { awaited, rows: SharedRows::NotRead };
            (repository, Arc::new(AsyncMutex::new(list)))
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lists.collect();
    }

    /// Returns the images of a package from the list of its repository; `None` if it was not announced, was taken before,
    /// or could not be read so.
    async fn take(&self, api: &ArtifactApi, image: &Image) -> Option<Images> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&image.repository).cloned()?;
        let mut list = list.lock().await;
        if !list.awaited.remove(&image.package) {
            return None;
        }
        if matches!(list.rows, SharedRows::NotRead) {
            list.rows = match api.list_repository(&image.repository).await {
                Ok(Some(rows)) => SharedRows::Read(rows),
                Ok(None) => SharedRows::Unusable,
                Err(error) => {
                    tracing::info!(error = error.chain(), "the images of a repository are listed one by one");
                    SharedRows::Unusable
                }
            };
        }
        let SharedRows::Read(rows) = &mut list.rows else { return None };
        let mut images = rows.remove(&image.package).unwrap_or_default();
        images.finish().then_some(images)
    }
}

impl ArtifactApi {
    /// Reads the images of a name; `None` if Artifact Registry does not know it.
    ///
    /// # Errors
    /// Returns an error if the list could not be read whole, or tags moved each time that it was read.
    pub(super) async fn list_images(
        &self,
        shared: &SharedLists,
        (name, image): (&RepositoryName, &Image),
    ) -> Result<Option<Images>, RegistryError> {
        if let Some(images) = shared.take(self, image).await {
            return Ok(Some(images));
        }
        for _ in 0..MAX_READS {
            let Some(mut images) = self.list_versions(name, image).await? else { return Ok(None) };
            if images.finish() {
                return Ok(Some(images));
            }
        }
        let message = format!(
            "the list of images of {name} is not complete: tags moved each time that it was read; run again when that is over"
        );
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }

    /// Reads the images of a whole repository, by package; `None` if there are too many.
    async fn list_repository(&self, repository: &Repository) -> Result<Option<HashMap<String, Images>>, RegistryError> {
        let (parent, shown) = (repository.resource(), repository.to_string());
        let list = ListOf { parent: &parent, rows: "dockerImages", query: &[], right: Right::ListImages };
        let (mut found, mut token) = (HashMap::<String, Images>::new(), None);
        for _ in 0..MAX_SHARED_PAGES {
            let page = self.page(&TokenScope::Catalogue, list, token.as_deref()).await?;
            let Some((rows, next)) = page else { return Ok(None) };
            for row in rows {
                match ListedImage::of_docker_image(row) {
                    Ok((package, image)) => found.entry(package).or_default().add_row(&shown, Ok(image)),
                    // It may be of any package.
                    Err(why) => {
                        let message = format!("{shown} lists an image that cannot be understood: {why}");
                        return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
                    }
                }
            }
            if next.is_none() {
                return Ok(Some(found));
            }
            token = next;
        }
        Ok(None)
    }

    /// Reads the images of one package, with the list of its tags where an image may have more than its row names.
    async fn list_versions(&self, name: &RepositoryName, image: &Image) -> Result<Option<Images>, RegistryError> {
        let (parent, scope) = (image.resource(), TokenScope::List(name.clone()));
        let list = ListOf { parent: &parent, rows: "versions", query: &[("view", "FULL")], right: Right::ListVersions };
        let Some(rows) = self.list(&scope, list).await? else { return Ok(None) };
        let (mut images, mut has_more_tags) = (Images::default(), false);
        for row in rows {
            let parsed = ListedImage::of_version(row);
            has_more_tags |= parsed.as_ref().is_ok_and(|(_, more)| *more);
            images.add_row(name.as_str(), parsed.map(|(image, _)| image));
        }
        if has_more_tags {
            images.replace_tags(self.list_tags(name, image, &[]).await?.unwrap_or_default());
        }
        Ok(Some(images))
    }

    /// Reads the tags of a package; `None` if Artifact Registry does not know it.
    ///
    /// # Errors
    /// Returns an error if the list could not be read whole.
    pub(super) async fn list_tags(
        &self,
        name: &RepositoryName,
        image: &Image,
        query: &[(&str, &str)],
    ) -> Result<Option<Vec<serde_json::Value>>, RegistryError> {
        let (parent, scope) = (image.resource(), TokenScope::List(name.clone()));
        self.list(&scope, ListOf { parent: &parent, rows: "tags", query, right: Right::ListTags }).await
    }
}
