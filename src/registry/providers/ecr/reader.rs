//! Reading: repositories, images and manifests of Amazon ECR.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;

use super::api::{EcrApi, Operation, in_repository};
use super::images::Images;
use super::manifests;
use super::wire::{WireImage, WireImageId, WireImages, WireReferrers, WireRepositories};
use crate::domain::{
    Digest, GapTarget, InvalidDigest, InvalidName, Lock, ManifestState, RegistryInfo, RemovalObstacle, Repository,
    RepositoryName, TagName, TagState,
};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::{list_gaps, listed_manifests};
use crate::registry::{
    Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings,
    RequestCounts, ServerTime,
};

/// Reads Amazon ECR.
#[derive(Debug)]
pub(super) struct EcrReader {
    pub(super) api: EcrApi,
}

impl EcrApi {
    /// Returns an image by its digest or one of its tags; `None` if there is none. The repository has to be there.
    ///
    /// # Errors
    /// When Amazon ECR does not answer that.
    pub(super) async fn describe_image(
        &self,
        repository: &RepositoryName,
        id: WireImageId,
    ) -> Result<Option<WireImage>, RegistryError> {
        let parameters = in_repository(repository, json!({ "imageIds": [id], "filter": { "imageStatus": "ANY" } }));
        let scope = TokenScope::List(repository.clone());
        let answer = match self.read::<WireImages>(Operation::DescribeImages, &scope, parameters).await {
            Ok(answer) => answer,
            Err(error) if error.kind == RegistryErrorKind::NotFound && error.chain().contains("ImageNotFound") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut rows = answer.image_details.into_iter();
        let (Some(row), None) = (rows.next(), rows.next()) else {
            let message = format!("{repository}: one image was asked for, and the answer is not about one");
            return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
        };
        serde_json::from_value(row).map(Some).map_err(|why| {
            let message = format!("{repository}: an image is described in a way that is not understood");
            RegistryError::new(RegistryErrorKind::Malformed, message).caused_by(crate::domain::Cause::foreign(why))
        })
    }
}

impl EcrReader {
    /// The images of a repository; a gap if they could not be listed. `None` if it is not there and the settings do not
    /// name it.
    async fn images(&self, name: &RepositoryName) -> Result<Option<Images>, Box<Repository>> {
        match self.api.list_images(name).await {
            Ok(images) => Ok(Some(images)),
            Err(error) => {
                let unknown = error.kind == RegistryErrorKind::NotFound;
                if unknown && !self.api.settings.repositories.contains(name) {
                    return Ok(None);
                }
                let mut repository = Repository::empty(name.clone());
                repository.gaps.push(error.into_gap(GapTarget::TagList));
                Err(Box::new(repository))
            }
        }
    }
}

#[async_trait]
impl RegistryReader for EcrReader {
    fn settings(&self) -> &RegistrySettings {
        &self.api.settings
    }

    fn identity(&self) -> String {
        self.api.http.identity()
    }

    fn request_counts(&self) -> RequestCounts {
        self.api.http.request_counts()
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        let mut catalogue = Catalogue { repositories: self.api.settings.repositories.clone(), gaps: Vec::new() };
        if !catalogue.repositories.is_empty() {
            return Ok(catalogue);
        }
        let (operation, scope) = (Operation::DescribeRepositories, TokenScope::Catalogue);
        for row in self.api.read_pages::<WireRepositories>(operation, &scope, &json!({}), 1000).await? {
            match row.repository_name.parse() {
                Ok(name) => catalogue.repositories.push(name),
                Err(why) => {
                    let why: InvalidName = why;
                    catalogue.gaps.push(list_gaps::invalid_repository(&row.repository_name, &why));
                }
            }
        }
        Ok(catalogue)
    }

    /// By the list of images alone.
    async fn repository(&self, name: &RepositoryName, look_for: &BTreeSet<Digest>, _: &dyn ContentCache) -> Repository {
        match self.images(name).await {
            Ok(Some(images)) => images.into_repository(name.clone(), look_for),
            Ok(None) => Repository::empty(name.clone()),
            Err(unread) => *unread,
        }
    }

    async fn repository_with_changes(
        &self,
        name: &RepositoryName,
        look_for: &BTreeSet<Digest>,
        _: &dyn ContentCache,
    ) -> (Repository, BTreeMap<Digest, Timestamp>) {
        match self.images(name).await {
            Ok(Some(images)) => {
                let pushes = images.untagged_pushes();
                (images.into_repository(name.clone(), look_for), pushes)
            }
            Ok(None) => (Repository::empty(name.clone()), BTreeMap::new()),
            Err(unread) => (*unread, BTreeMap::new()),
        }
    }

    async fn read_manifests(&self, repository: &mut Repository, digests: &BTreeSet<Digest>, cache: &dyn ContentCache) {
        repository.include_listed(digests);
        let name = repository.name.clone();
        let wanted = digests.iter().filter(|digest| repository.manifests.contains_key(*digest)).cloned();
        let wanted: Vec<Digest> = wanted.collect();
        let mut read = Vec::new();
        let mut missing = BTreeSet::new();
        for (digest, parsed) in manifests::parse(&self.api, &name, wanted.into_iter(), cache).await {
            match parsed {
                Ok(Some(parsed)) => read.push((digest, parsed)),
                // What the list has, BatchGetImage may not have yet, or no longer.
                Ok(None) => match self.has_manifest(&name, &digest).await {
                    Ok(false) => drop(missing.insert(digest)),
                    Ok(true) => {
                        let message = format!("{name}: Amazon ECR lists {digest} and does not return its manifest");
                        let error = RegistryError::new(RegistryErrorKind::Malformed, message);
                        repository.gaps.push(error.into_gap(GapTarget::Manifest(digest)));
                    }
                    Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
                },
                Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
            }
        }
        listed_manifests::store_read(repository, read);
        list_gaps::drop_missing_manifests(self, repository, missing).await;
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let images = self.api.list_images(repository).await?;
        if let Some(gap) = images.gaps.iter().find(|gap| gap.may_hide_tag()) {
            return Err(RegistryError::new(RegistryErrorKind::Malformed, gap.message.to_string()));
        }
        Ok(images.tags.into_iter().map(|tag| tag.name).collect())
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        let Some(image) = self.api.describe_image(repository, WireImageId::of_tag(tag)).await? else { return Ok(None) };
        let digest = image.image_digest.parse().map_err(|_| list_gaps::missing_digest(repository, tag))?;
        Ok(Some(TagState { digest, pushed_at: None, lock: lock(&image) }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        let found = self.api.describe_image(repository, WireImageId::of_digest(digest)).await?;
        Ok(found.is_some())
    }

    /// Nothing is read from the archive, and a key of the repository may be out of reach.
    fn may_withhold_manifests(&self) -> bool {
        true
    }

    fn deletes_with_last_tag(&self) -> bool {
        true
    }

    fn names_deleted_tags(&self) -> bool {
        true
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        let Some(image) = self.api.describe_image(repository, WireImageId::of_digest(digest)).await? else {
            return Ok(None);
        };
        let tags = image.image_tags.iter().map(|tag| tag.parse()).collect::<Result<_, InvalidName>>();
        let tags = tags.map_err(|why| {
            let message = format!("{repository}: {digest} has a tag that cannot be understood");
            RegistryError::new(RegistryErrorKind::Malformed, message).caused_by(why)
        })?;
        Ok(Some(ManifestState { tags, lock: lock(&image), changed_at: image.image_pushed_at }))
    }

    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        let subject =
            json!({ "subjectId": { "imageDigest": digest.to_string() }, "filter": { "artifactStatus": "ANY" } });
        let (operation, scope) = (Operation::ListImageReferrers, TokenScope::List(repository.clone()));
        let rows =
            self.api.read_pages::<WireReferrers>(operation, &scope, &in_repository(repository, subject), 50).await?;
        let digests = rows.iter().map(|row| row.digest.parse()).collect::<Result<_, InvalidDigest>>();
        digests.map_err(|error| {
            let message = format!("{repository}: the referrers of {digest} list one that cannot be understood");
            RegistryError::new(RegistryErrorKind::Malformed, message).caused_by(error)
        })
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError> {
        self.api.manifests(repository, std::slice::from_ref(digest)).await.remove(digest).unwrap_or(Ok(None))
    }

    /// No tag is removed that would leave an image without one, so nothing that deletes untagged images matters to an undo.
    async fn registry_info(&self) -> Result<Option<RegistryInfo>, RegistryError> {
        Ok(Some(RegistryInfo::that_keeps_untagged()))
    }

    async fn missing_rights(&self, repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        self.api.find_obstacles(repositories).await
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.api.http.server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.api.http.invalid_date_header()
    }
}

fn lock(image: &WireImage) -> Option<Lock> {
    image.is_archived().then_some(Lock::DeleteAndWrite)
}
