//! Changes: tags, artifacts, and what Harbor deletes by itself.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::access::Problem;
use super::artifacts::referenced;
use super::{HarborService, project_of};
use crate::demo::registry::content::Content;
use crate::domain::{Digest, TagName};

impl HarborService {
    /// Removes a tag from the artifact that a reference names, if it is there.
    pub(super) fn delete_tag(
        &mut self,
        name: &str,
        reference: &str,
        tag: &str,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let digest = Self::find(name, reference, content)?;
        let there = content.tag(name, tag).is_some_and(|found| found.digest == digest);
        if !there {
            let id = self.table(name, content).id(&digest);
            return Err(Problem::not_found(&format!("tag {tag} attached to artifact {id}")));
        }
        if self.is_immutable(name, tag) {
            return Err(Problem::immutable(tag));
        }
        // What it knows of accessories by their tags outlives these.
        self.table(name, content);
        content.delete_tag(name, tag);
        Ok(StatusCode::OK.into_response())
    }

    pub(super) fn create_tag(
        &mut self,
        name: &str,
        reference: &str,
        tag: &str,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let project = self.options.projects.get(project_of(name));
        if project.is_some_and(|project| project.registry_id != 0) {
            let message = "the operation isn't supported for a proxy cache project";
            return Err(Problem::new(405, "METHOD_NOT_ALLOWED", message));
        }
        let digest = Self::find(name, reference, content)?;
        if tag.parse::<TagName>().is_err() {
            return Err(Problem::bad_request(&format!("invalid tag name: {tag}")));
        }
        if content.tag(name, tag).is_some() {
            return Err(Problem::new(409, "CONFLICT", &format!("tag {tag} already exists")));
        }
        content.move_tag(name, tag, &digest);
        Ok(StatusCode::CREATED.into_response())
    }

    /// Deletes an artifact with its tags and accessories, and what only it lists (Harbor's `deleteDeeply`).
    pub(super) fn delete_artifact(
        &mut self,
        name: &str,
        digest: &Digest,
        is_root: bool,
        content: &mut Content,
    ) -> Result<(), Problem> {
        let Some(manifest) = content.manifest(name, digest).cloned() else {
            return if is_root { Err(Problem::not_found(&format!("artifact {name}@{digest}"))) } else { Ok(()) };
        };
        if !is_root && !manifest.tags.is_empty() {
            return Ok(());
        }
        if referenced(name, content).contains(digest) {
            let message = "the deleting artifact is referenced by others";
            return if is_root { Err(Problem::new(412, "VIOLATE_FOREIGN_KEY_CONSTRAINT", message)) } else { Ok(()) };
        }
        if let Some(tag) = manifest.tags.iter().find(|tag| self.is_immutable(name, tag)) {
            return Err(Problem::immutable(tag));
        }
        let accessories: Vec<Digest> =
            self.table(name, content).accessories_of(digest).map(|(accessory, _)| accessory.clone()).collect();
        for accessory in accessories {
            self.delete_artifact(name, &accessory, true, content)?;
        }
        content.delete_manifest(name, digest);
        for child in &manifest.children {
            self.delete_artifact(name, &child.digest, false, content)?;
        }
        Ok(())
    }

    /// Runs garbage collection as it is scheduled: every artifact without a tag goes that nothing lists and that refers to
    /// nothing, with what depends on it. Returns how many went.
    pub fn run_garbage_collection(&mut self, content: &mut Content) -> usize {
        if !self.options.garbage_collection.as_ref().is_some_and(|schedule| schedule.delete_untagged) {
            return 0;
        }
        let repositories: Vec<String> = content.repositories().map(str::to_owned).collect();
        let mut gone = 0;
        for name in repositories {
            self.table(&name, content);
            let (held, table) = (referenced(&name, content), &self.tables[&name]);
            let untagged = content.manifests(&name).filter(|(digest, manifest)| {
                manifest.tags.is_empty() && !held.contains(*digest) && !table.is_accessory(digest)
            });
            for digest in untagged.map(|(digest, _)| digest.clone()).collect::<Vec<_>>() {
                gone += usize::from(self.delete_artifact(&name, &digest, true, content).is_ok());
            }
        }
        gone
    }
}
