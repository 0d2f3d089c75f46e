//! Changing: a tag is removed alone, and only where its image keeps another one.

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use super::api::{EcrApi, Operation, in_repository};
use super::wire::{WireDeletion, WireImageId, WirePutImage};
use crate::domain::{Digest, JournaledIntent, RemovalMethod, RepositoryName, TagName};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::WritePermit;
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RegistryWriter, RemovalResponse, verify_method};

/// Removals of tags of the same image wait for each other. Images share these turns by their digests.
const TURNS: usize = 64;

/// Changes Amazon ECR.
#[derive(Debug)]
pub(super) struct EcrWriter {
    api: EcrApi,
    turns: [Mutex<()>; TURNS],
}

impl EcrWriter {
    pub(super) fn new(api: EcrApi) -> Self {
        Self { api, turns: std::array::from_fn(|_| Mutex::default()) }
    }

    async fn turn(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        let turn = digest.hex().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        self.turns[turn % TURNS].lock().await
    }

    async fn delete(
        &self,
        repository: &RepositoryName,
        id: &WireImageId,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        let scope = TokenScope::Delete(repository.clone());
        let parameters = in_repository(repository, json!({ "imageIds": [id] }));
        let operation = Operation::BatchDeleteImage;
        let answer: WireDeletion = self.api.change(operation, (&scope, parameters), clearance).await?;
        answer.result(repository, id)
    }

    async fn put(
        &self,
        (repository, tag): (&RepositoryName, Option<&TagName>),
        manifest: &RawManifest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError> {
        let Ok(text) = std::str::from_utf8(&manifest.bytes) else {
            let message = format!("{repository}: {} is not text, which Amazon ECR takes manifests as", manifest.digest);
            return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
        };
        let mut parameters = json!({ "imageManifest": text, "imageDigest": manifest.digest.to_string() });
        if !manifest.media_type.is_empty() {
            parameters["imageManifestMediaType"] = json!(&*manifest.media_type);
        }
        if let Some(tag) = tag {
            parameters["imageTag"] = json!(tag.as_str());
        }
        let scope = TokenScope::Push(repository.clone());
        let parameters = in_repository(repository, parameters);
        let put = self.api.change::<WirePutImage>(Operation::PutImage, (&scope, parameters), clearance).await;
        match put {
            Ok(put) if put.image.id.image_digest.as_deref() == Some(manifest.digest.to_string().as_str()) => Ok(()),
            Ok(_) => {
                let message =
                    format!("{repository}: the image was stored under another digest than {}", manifest.digest);
                Err(RegistryError::new(RegistryErrorKind::DigestMismatch, message))
            }
            // The tag is at that image already.
            Err(error) if error.chain().contains("ImageAlreadyExistsException") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl RegistryWriter for EcrWriter {
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.api.http.acquire_deletion_permit(repository).await
    }

    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.api.http.acquire_push_permit(repository).await
    }

    /// Looks at the image once more: Amazon ECR deletes it with its last tag. Names the tag alone: it is not certain that a
    /// request with the digest beside it leaves the image.
    async fn untag(&self, intent: &JournaledIntent, clearance: WritePermit) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::Untag)?;
        let (repository, tag, digest) = (intent.repository(), intent.tag(), intent.digest());
        let _turn = self.turn(digest).await;
        let Some(image) = self.api.describe_image(repository, WireImageId::of_digest(digest)).await? else {
            return Ok(RemovalResponse::AlreadyMissing);
        };
        if !image.image_tags.iter().any(|other| other == tag.as_str()) {
            return Ok(RemovalResponse::AlreadyMissing);
        }
        if image.image_tags.len() < 2 {
            let message =
                format!("{repository}: {tag} is the last tag of {digest}, with which Amazon ECR deletes the image");
            return Err(RegistryError::new(RegistryErrorKind::Locked, message));
        }
        self.delete(repository, &WireImageId::of_tag(tag), clearance).await
    }

    /// Deletes the image with all of its tags. Amazon ECR refuses where an index lists it.
    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::DeleteManifest)?;
        let id = WireImageId::of_digest(intent.digest());
        self.delete(intent.repository(), &id, clearance).await
    }

    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError> {
        self.put((repository, Some(tag)), manifest, clearance).await
    }

    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError> {
        let clearance = self.acquire_put_permit(repository).await?;
        self.put((repository, None), manifest, clearance).await
    }
}
