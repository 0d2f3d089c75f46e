//! Changing: a tag is removed by its name alone, and put back at its version.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::api::ArtifactApi;
use super::wire::{self, Right, WireOperation, WireStatus};
use crate::domain::{JournaledIntent, RemovalMethod, RepositoryName, TagName};
use crate::http_client::Response;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::WritePermit;
use crate::registry::client::push;
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RegistryWriter, RemovalResponse, verify_method};

/// The pauses between looks at a deletion that is under way. It takes seconds.
const PAUSES: [u64; 7] = [100, 250, 500, 1000, 2000, 5000, 10_000];
/// The codes of gRPC in the result of an operation.
const NOT_FOUND: i64 = 5;
const PERMISSION_DENIED: i64 = 7;
const FAILED_PRECONDITION: i64 = 9;

/// Changes Artifact Registry.
#[derive(Debug)]
pub(super) struct ArtifactWriter {
    pub(super) api: ArtifactApi,
}

impl ArtifactWriter {
    /// Waits for the result of a deletion.
    async fn deletion_result(
        &self,
        repository: &RepositoryName,
        mut operation: WireOperation,
    ) -> Result<RemovalResponse, RegistryError> {
        let (name, scope) = (operation.name.clone(), TokenScope::List(repository.clone()));
        for pause in PAUSES {
            if operation.done {
                break;
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
            operation = self.api.operation(&scope, &name).await?;
        }
        match operation.error {
            Some(error) => operation_error(&error, repository, &name),
            None if operation.done => {
                Ok(RemovalResponse::Removed { request_id: format!("operation: {name}"), digest: None })
            }
            None => {
                let message =
                    format!("{repository}: the operation {name} was not done in time, its result is not known");
                Err(RegistryError::new(RegistryErrorKind::Connection, message))
            }
        }
    }

    /// Returns true if a tag is at a manifest already.
    async fn is_at(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
    ) -> Result<bool, RegistryError> {
        let found = self.api.tag_digest(repository, tag).await?;
        Ok(found.as_ref() == Some(&manifest.digest))
    }
}

#[async_trait]
impl RegistryWriter for ArtifactWriter {
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.api.http.acquire_deletion_permit(repository).await
    }

    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.api.http.acquire_push_permit(repository).await
    }

    async fn untag(&self, intent: &JournaledIntent, clearance: WritePermit) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::Untag)?;
        let (repository, tag) = (intent.repository(), intent.tag());
        let (resource, scope) = (self.api.image(repository)?.tag(tag), TokenScope::Delete(repository.clone()));
        let response = self.api.delete(&scope, &resource, clearance).await?;
        if removes(&response, Right::DeleteTag)? {
            Ok(RemovalResponse::Removed { request_id: String::new(), digest: None })
        } else {
            Ok(RemovalResponse::AlreadyMissing)
        }
    }

    /// Artifact Registry refuses if the manifest has a tag again, or if an index lists it.
    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::DeleteManifest)?;
        let (repository, digest) = (intent.repository(), intent.digest());
        let (resource, scope) = (self.api.image(repository)?.version(digest), TokenScope::Delete(repository.clone()));
        let response = self.api.delete(&scope, &resource, clearance).await?;
        if !removes(&response, Right::DeleteVersion)? {
            return Ok(RemovalResponse::AlreadyMissing);
        }
        self.deletion_result(repository, response.parse_json()?).await
    }

    /// Creates the tag at its version, which pushes nothing. Where the version was deleted, its manifest is pushed first:
    /// its layers may still be there.
    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError> {
        let image = self.api.image(repository)?;
        let body = json!({ "name": image.tag(tag), "version": image.version(&manifest.digest) });
        let request = self.api.creation(&format!("{}/tags", image.resource()), ("tagId", tag.as_str()), &body);
        let scope = TokenScope::Push(repository.clone());
        let mut response = self.api.http.send_with_permit(&scope, &request, clearance).await?;
        if wire::is_absence(&response) {
            push::put_manifest(&self.api.registry, repository, manifest).await.map_err(|error| {
                error.within(format!(
                    "{repository}: {} was deleted (a cleanup policy may have done that), and it could not be pushed",
                    manifest.digest
                ))
            })?;
            response = self.api.http.send(&scope, &request).await?;
        }
        match response.status.as_u16() {
            200 if response.is_web_page() => Err(response.malformed("Artifact Registry answers no new tag so")),
            200 => Ok(()),
            409 if self.is_at(repository, tag, manifest).await? => Ok(()),
            _ => Err(wire::refusal(&response, Right::CreateTag)),
        }
    }

    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError> {
        push::put_manifest(&self.api.registry, repository, manifest).await
    }
}

/// Returns true if a deletion was accepted, and false if there was nothing to delete.
fn removes(response: &Response, right: Right) -> Result<bool, RegistryError> {
    match response.status.as_u16() {
        200 if response.is_web_page() => Err(response.malformed("Artifact Registry answers no deletion so")),
        200 => Ok(true),
        _ if wire::is_absence(response) => Ok(false),
        _ => Err(wire::refusal(response, right)),
    }
}

/// Returns the result of an operation that failed.
fn operation_error(
    error: &WireStatus,
    repository: &RepositoryName,
    name: &str,
) -> Result<RemovalResponse, RegistryError> {
    let (kind, help) = match error.code {
        NOT_FOUND => return Ok(RemovalResponse::AlreadyMissing),
        PERMISSION_DENIED => (RegistryErrorKind::Denied, Right::DeleteVersion.help()),
        FAILED_PRECONDITION => (RegistryErrorKind::Locked, "it has a tag, or an index lists it".to_owned()),
        // It is done, and did not succeed.
        _ => (RegistryErrorKind::Status(200), String::new()),
    };
    let message = format!("{repository}: the operation {name} failed with code {}: {}", error.code, error.message);
    Err(RegistryError::new(kind, crate::http_client::one_line(&message)).with_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_operations_are_what_their_codes_mean() {
        use RegistryErrorKind::{Denied, Locked, Status};
        let repository: RepositoryName = "acme/shop/api".parse().unwrap();
        for (code, kind) in [(9, Some(Locked)), (7, Some(Denied)), (13, Some(Status(200))), (5, None)] {
            let error = WireStatus { code, message: "so".to_owned() };
            let result = operation_error(&error, &repository, "projects/acme/operations/1");
            assert_eq!(result.err().map(|error| error.kind), kind, "{code}");
        }
    }
}
