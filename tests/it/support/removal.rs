//! Changes without a look before them, as only tests make them.

use std::sync::Arc;

use jiff::Timestamp;
use tagwarden::demo::image::Image;
use tagwarden::domain::{Action, Digest, Intent, JournaledIntent, RemovalMethod, RepositoryName, TagName};
use tagwarden::registry::{RawManifest, RegistryError, RegistryWriter, RemovalResponse};
use tagwarden::state::{NewRun, RunKind, StateStore};
use uuid::Uuid;

use super::lease::lease;

/// The manifest of an image, as a registry transfers it.
pub(crate) fn raw_manifest(image: &Image) -> RawManifest {
    RawManifest {
        digest: image.digest.clone(),
        media_type: image.media_type.into(),
        bytes: image.bytes.to_vec().into(),
    }
}

/// Waits for what the removal of a tag has to wait for, and removes it.
pub(crate) async fn untag(
    writer: &Arc<dyn RegistryWriter>,
    repository: &RepositoryName,
    tag: &TagName,
) -> Result<RemovalResponse, RegistryError> {
    untag_manifest(writer, repository, tag, b"{}").await
}

/// The same of a tag that is to name the manifest with those bytes.
pub(crate) async fn untag_manifest(
    writer: &Arc<dyn RegistryWriter>,
    repository: &RepositoryName,
    tag: &TagName,
    manifest: &[u8],
) -> Result<RemovalResponse, RegistryError> {
    let intent = journaled(Action::Remove(RemovalMethod::Untag), repository, tag, manifest).await;
    let clearance = writer.acquire_removal_permit(repository).await?;
    writer.untag(&intent, clearance).await
}

/// Waits for what the deletion of a manifest with those bytes has to wait for, and deletes it.
pub(crate) async fn delete_manifest(
    writer: &Arc<dyn RegistryWriter>,
    repository: &RepositoryName,
    manifest: &[u8],
) -> Result<RemovalResponse, RegistryError> {
    let intent = journaled(Action::DeleteUntagged, repository, &"v1".parse().unwrap(), manifest).await;
    let clearance = writer.acquire_removal_permit(repository).await?;
    writer.delete_manifest(&intent, clearance).await
}

/// Journals something in a state of its own.
pub(crate) async fn journaled(
    action: Action,
    repository: &RepositoryName,
    tag: &TagName,
    manifest: &[u8],
) -> JournaledIntent {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap();
    let run = NewRun {
        id: Uuid::from_u128(1),
        kind: RunKind::Run,
        mode: "enforce".into(),
        started_at: Timestamp::UNIX_EPOCH,
        started_by: "a test".into(),
        version: String::new(),
        approved_by: None,
        ticket: None,
    };
    store.begin_run(&run).await.unwrap();
    let bytes: Arc<[u8]> = manifest.into();
    let manifest = RawManifest { digest: Digest::of(&bytes), media_type: "application/json".into(), bytes };
    let intent = Intent {
        action,
        registry: "contoso".parse().unwrap(),
        endpoint: None,
        repository: repository.clone(),
        tag: tag.clone(),
        digest: manifest.digest.clone(),
        media_type: Arc::clone(&manifest.media_type),
        policy: None,
        evidence: "[]".into(),
        date: None,
    };
    let journaled = store.intend(&lease(&store).await, run.id, &intent, &manifest, run.started_at).await.unwrap();
    store.close().await;
    journaled
}

/// Waits for what a push has to wait for, and puts a manifest under a tag.
pub(crate) async fn put_tag(
    writer: &Arc<dyn RegistryWriter>,
    repository: &RepositoryName,
    tag: &TagName,
    manifest: &RawManifest,
) -> Result<(), RegistryError> {
    let clearance = writer.acquire_put_permit(repository).await?;
    writer.put_tag(repository, tag, manifest, clearance).await
}
