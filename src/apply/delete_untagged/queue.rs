//! The manifests to be deleted in one repository, and the progress of each.

use std::collections::HashMap;
use std::sync::Arc;

use super::{DeletionResult, DeletionTask};
use crate::domain::{Deletion, Dependent, DependentRole, Digest, JournaledIntent};

/// One manifest to be deleted.
#[derive(Clone)]
pub(super) struct ManifestTask {
    pub(super) deletion: Arc<Deletion>,
    pub(super) evidence: Box<str>,
    pub(super) digest: Digest,
    pub(super) role: Option<DependentRole>,
}

/// The work in one repository: pending, journaled, and done.
#[derive(Default)]
pub(super) struct DeletionQueue {
    /// The manifests to be deleted.
    pub(super) pending: HashMap<Digest, ManifestTask>,
    /// The manifests that are journaled without an outcome.
    pub(super) journaled: HashMap<Digest, JournaledManifest>,
    pub(super) results: Vec<DeletionResult>,
}

/// A manifest that is journaled without an outcome.
pub(super) struct JournaledManifest {
    pub(super) intent: JournaledIntent,
    /// The manifest that it refers to, by its own content.
    pub(super) subject: Option<Digest>,
}

impl DeletionQueue {
    pub(super) fn new(tasks: Vec<DeletionTask>) -> Self {
        let mut work = Self::default();
        for DeletionTask { deletion, evidence: proof } in tasks {
            let along = deletion.dependents.iter().map(|Dependent { role, digest }| (digest, Some(*role)));
            for (digest, role) in std::iter::once((&deletion.digest, None)).chain(along) {
                let (deletion, proof) = (Arc::clone(&deletion), proof.clone());
                work.pending
                    .insert(digest.clone(), ManifestTask { deletion, evidence: proof, digest: digest.clone(), role });
            }
        }
        work
    }

    /// Returns the dependents of a manifest; empty for a dependent.
    pub(super) fn dependents_of(&self, one: &ManifestTask) -> Vec<ManifestTask> {
        let along = one.deletion.dependents.iter().filter(|_| one.role.is_none());
        along.filter_map(|along| self.pending.get(&along.digest).cloned()).collect()
    }
}
